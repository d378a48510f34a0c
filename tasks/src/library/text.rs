//! `spell_backward`, `letter_counting`, `caesar_cipher`, `word_sorting` and
//! `word_sequence_reversal`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::{Ask, Puzzle, Random, Task, fact, read, words};
use crate::{Item, Ppm};

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const WORDS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789, ";

pub(super) const SPELL_BACKWARD: Task = Task {
    name: "spell_backward",
    summary: "a word from last letter to first",
    levels: [
        ("three or four letters", 6_000),
        ("five to seven letters", 50_000),
        ("eight to ten letters", 90_000),
    ],
    alphabet: LETTERS,
    answer_chars: 16,
    make: spell_backward,
    accepts: |item, answer| {
        let right = &item.reference;
        if answer.is_ascii() {
            // Every word of ours is.
            answer.eq_ignore_ascii_case(right)
        } else {
            answer.to_lowercase() == right.to_lowercase()
        }
    },
    upstream: upstream_spelling,
};

pub(super) const LETTER_COUNTING: Task = Task {
    name: "letter_counting",
    summary: "how often a letter occurs in a text",
    levels: [
        ("three to five words", 50_000),
        ("five to nine words", 100_000),
        ("ten to twenty words", 200_000),
    ],
    alphabet: "0123456789",
    answer_chars: 8,
    make: letter_counting,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const CAESAR_CIPHER: Task = Task {
    name: "caesar_cipher",
    summary: "a text whose letters are shifted, as it was",
    levels: [
        ("three to eight words, shifted by up to 3", 426),
        ("three to ten words, shifted by up to 13", 2_366),
        ("five to twenty words, shifted by up to 25", 6_825),
    ],
    alphabet: "ABCDEFGHIJKLMNOPQRSTUVWXYZ ",
    answer_chars: 256,
    make: caesar_cipher,
    accepts: |item, answer| {
        if answer.bytes().any(|b| !matches!(b, b' ' | b'A'..=b'Z')) {
            read::words(item, &answer.to_uppercase())
        } else {
            read::words(item, answer)
        }
    },
    upstream: read::upstream_text,
};

pub(super) const WORD_SORTING: Task = Task {
    name: "word_sorting",
    summary: "words in alphabetical order",
    levels: [
        ("three or four words", 1_000_000_000),
        ("four to seven words", 1_000_000_000_000),
        ("eight to twelve words", 1_000_000_000_000_000),
    ],
    alphabet: WORDS,
    answer_chars: 256,
    make: word_sorting,
    accepts: read::comma_words,
    upstream: upstream_sorting,
};

pub(super) const WORD_SEQUENCE_REVERSAL: Task = Task {
    name: "word_sequence_reversal",
    summary: "words from last to first",
    levels: [
        ("three or four words", 1_000_000_000),
        ("five to eight words", 1_000_000_000_000),
        ("nine to fourteen words", 1_000_000_000_000_000),
    ],
    alphabet: WORDS,
    answer_chars: 320,
    make: word_sequence_reversal,
    accepts: read::comma_words,
    upstream: read::upstream_text,
};

/// The letters from last to first, with something between them.
fn backward(word: &str, between: &str) -> String {
    let mut text = String::with_capacity(word.len() * (1 + between.len()));
    for letter in word.chars().rev() {
        if !text.is_empty() {
            text.push_str(between);
        }
        text.push(letter);
    }
    text
}

/// The words of these lengths, where the list is asked for more than once.
fn words_of(step: usize, (low, high): (usize, usize)) -> &'static [&'static str] {
    static LISTS: [OnceLock<Vec<&'static str>>; 4] = [const { OnceLock::new() }; 4];
    LISTS[step.min(3)].get_or_init(|| {
        let fits = |word: &&String| (low..=high).contains(&word.len());
        words::words()
            .iter()
            .filter(fits)
            .map(String::as_str)
            .collect()
    })
}

fn spell_backward(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let lengths = *ask.pick(&[(3, 10), (3, 4), (5, 7), (8, 10)]);
    let word = *random.choice(words_of(ask.step, lengths));
    let answer = backward(word, "");
    if !ask.upstream && answer.eq_ignore_ascii_case(word) {
        // A copy of the word would be right.
        return None;
    }
    let question = ask.say(
        || format!("Spell this word backward (example: sun -> nus): {word}"),
        || format!("Spell this word backward: {word}"),
    );
    Some(
        Puzzle::new(question, answer)
            .fact("word", word)
            .working(backward(word, " "))
            .slips(|item| {
                let mut swapped: Vec<char> = item.reference.chars().collect();
                swapped.swap(0, 1);
                vec![swapped.into_iter().collect(), fact(item, "word").to_owned()]
            }),
    )
}

/// Upstream pays for each letter in its place, by adding floats.
fn upstream_spelling(item: &Item, answer: &str) -> Ppm {
    let (right, answer) = (item.reference.to_lowercase(), answer.to_lowercase());
    if right == answer {
        return Ppm::ONE;
    }
    let share = 1.0 / right.chars().count() as f64;
    let same = right
        .chars()
        .zip(answer.chars())
        .filter(|(a, b)| a == b)
        .count();
    let reward = (0..same).fold(0.0, |sum, _| sum + share);
    read::ppm(if reward == 1.0 { reward - 0.2 } else { reward })
}

fn letter_counting(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let words = words::plain_story_words();
    let length = random.size(*ask.pick(&[(5, 15), (3, 5), (5, 9), (10, 20)]));
    let start = random.size((0, words.len() - length));
    let span = &words[start..start + length];
    let mut letters = Letters::default();
    span.iter().for_each(|word| letters.count(word));
    let (letter, count) = letters.choose(random);
    if !ask.upstream && count == 1 && random.index(3) != 0 {
        // Most letters of a short text come once: no answer of one kind.
        return None;
    }
    let text = span.join(" ");
    let question = ask.say(
        || format!("How many times does the letter \"{letter}\" appear in the text: \"{text}\"?"),
        || format!("How often does the letter \"{letter}\" occur in \"{text}\", small or capital?"),
    );
    Some(
        Puzzle::new(question, count)
            .fact("target_letter", letter)
            .slips(read::miscounts),
    )
}

/// How often each letter occurs, small or capital.
struct Letters {
    ascii: [u16; 128],
    others: BTreeMap<char, u16>,
}

impl Default for Letters {
    fn default() -> Letters {
        Letters {
            ascii: [0; 128],
            others: BTreeMap::new(),
        }
    }
}

impl Letters {
    fn count(&mut self, word: &str) {
        if word.is_ascii() {
            for byte in word.bytes() {
                self.ascii[usize::from(byte.to_ascii_lowercase())] += 1;
            }
            return;
        }
        for letter in word.to_lowercase().chars() {
            match self.ascii.get_mut(letter as usize) {
                Some(count) => *count += 1,
                None => *self.others.entry(letter).or_default() += 1,
            }
        }
    }

    /// One of the letters, each with equal chance, and how often it occurs.
    fn choose(&self, random: &mut Random) -> (char, usize) {
        let ascii = (0u8..).map(char::from).zip(self.ascii.iter().copied());
        let others = self.others.iter().map(|(letter, count)| (*letter, *count));
        let mut known = ascii.filter(|(_, count)| *count > 0).chain(others);
        let chosen = random.index(known.clone().count());
        let (letter, count) = known.nth(chosen).unwrap_or((' ', 0));
        (letter, count.into())
    }
}

/// The sentences of so many words, in capitals.
fn sentences(step: usize, (low, high): (usize, usize)) -> &'static [String] {
    static LISTS: [OnceLock<Vec<String>>; 4] = [const { OnceLock::new() }; 4];
    LISTS[step.min(3)].get_or_init(|| {
        words::story_sentences()
            .filter_map(|sentence| {
                let words: Vec<String> = sentence
                    .split_whitespace()
                    .filter(|word| word.chars().all(char::is_alphabetic))
                    .map(str::to_uppercase)
                    .collect();
                (low..=high).contains(&words.len()).then(|| words.join(" "))
            })
            .collect()
    })
}

fn caesar_cipher(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let lengths = *ask.pick(&[(3, 20), (3, 8), (3, 10), (5, 20)]);
    let sentence = random.choice(sentences(ask.step, lengths));
    let rotation = random.size((1, *ask.pick(&[25, 3, 13, 25])));
    if !ask.upstream && !sentence.is_ascii() {
        // A letter with an accent comes back as another one.
        return None;
    }
    let cipher = turned(sentence, rotation);
    let question = ask.say(
        || format!("Decrypt this Caesar cipher text: {cipher}. Provide only the decrypted text as your final answer."),
        || format!("Every letter of a text was shifted by the same number of places. What was the text? {cipher}"),
    );
    Some(
        Puzzle::new(question, sentence)
            .fact("rotation", rotation)
            // The text as it stands is shifted by less than a whole turn.
            .slips(|item| {
                let rotation = fact(item, "rotation").parse().unwrap_or(0);
                [1, 25, rotation]
                    .map(|by| turned(&item.reference, by))
                    .to_vec()
            }),
    )
}

/// A text of capitals whose letters are shifted.
fn turned(text: &str, by: usize) -> String {
    let mut turned = String::with_capacity(text.len());
    turned.extend(text.chars().map(|c| match c {
        ' ' => ' ',
        c => {
            let letter = (u32::from(c) + 26 * 64 - 65 + by as u32) % 26;
            char::from(b'A' + letter as u8)
        }
    }));
    turned
}

/// Whether a word has letters and digits of the alphabet only.
fn is_plain(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn word_sorting(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    static LIST: OnceLock<Vec<&'static str>> = OnceLock::new();
    let list = LIST.get_or_init(|| {
        let fits = |word: &&&str| (3..=12).contains(&word.chars().count());
        let unique: BTreeSet<&str> = words::story_words().iter().filter(fits).copied().collect();
        unique.into_iter().collect()
    });
    let count = random.size(*ask.pick(&[(3, 10), (3, 4), (4, 7), (8, 12)]));
    let chosen: Vec<&str> = random
        .sample(list.len(), count)
        .into_iter()
        .map(|at| list[at])
        .collect();
    let ascending = *random.choice(&[true, false]);
    let mut sorted = chosen.clone();
    sorted.sort_unstable();
    if !ascending {
        sorted.reverse();
    }
    let direction = if ascending { "ascending" } else { "descending" };
    if !ask.upstream && (chosen == sorted || !chosen.iter().all(|word| is_plain(word))) {
        // A copy of the words would be right, or a letter has an accent.
        return None;
    }
    let shown = chosen.join(", ");
    let question = ask.say(
        || {
            format!(
                "Your task is to sort words in ascending or descending order using ASCII/Unicode ordering.\n\nYour output should be a comma-separated list of words, e.g. word_1, word_2, word_3\n\nNow, sort these words in {direction} order (using ASCII/Unicode ordering) and return them as a comma-separated list: {shown}\n"
            )
        },
        || {
            format!(
                "Sort these words in {direction} order, all capitals before all small letters, with commas between: {shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, sorted.join(", "))
            .fact("direction", direction)
            .slips(|item| {
                let mut reversed: Vec<&str> = item.reference.split(", ").collect();
                reversed.reverse();
                vec![reversed.join(", "), shown_words(item).to_owned()]
            }),
    )
}

/// The words at the end of a question.
fn shown_words(item: &Item) -> &str {
    let shown = item.question.rsplit_once(": ");
    shown.map_or("", |(_, words)| words.trim_end_matches('\n'))
}

/// Upstream pays for each word in its place, and a fifth for the same words.
fn upstream_sorting(item: &Item, answer: &str) -> Ppm {
    if answer.is_empty() {
        return Ppm::ZERO;
    }
    let mut right: Vec<&str> = item.reference.split(", ").collect();
    let mut words: Vec<&str> = answer.split(',').map(str::trim).collect();
    if words == right {
        return Ppm::ONE;
    }
    let placed = words.iter().zip(&right).filter(|(a, b)| a == b).count();
    let share = read::nearest(placed as u64, right.len() as u64);
    words.sort_unstable();
    right.sort_unstable();
    if words == right {
        share.max(Ppm(200_000))
    } else {
        share
    }
}

fn word_sequence_reversal(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let words = words::plain_story_words();
    let count = random.size(*ask.pick(&[(3, 8), (3, 4), (5, 8), (9, 14)]));
    let chosen: Vec<&str> = random
        .sample(words.len(), count)
        .into_iter()
        .map(|at| words[at])
        .collect();
    let reversed: Vec<&str> = chosen.iter().rev().copied().collect();
    if !ask.upstream && (chosen == reversed || !chosen.iter().all(|word| is_plain(word))) {
        return None;
    }
    let shown = chosen.join(", ");
    let question = ask.say(
        || {
            format!(
                "Solve the following problem.\n\nProvide you answer as a comma-separated list of words with a space after the comma.\n\nReverse this list of words: {shown}\n"
            )
        },
        || format!("Write these words from last to first, with commas between: {shown}"),
    );
    Some(
        Puzzle::new(question, reversed.join(", "))
            .fact("num_words", count)
            .slips(|item| {
                let mut shifted: Vec<&str> = item.reference.split(", ").collect();
                shifted.rotate_left(1);
                vec![shifted.join(", "), shown_words(item).to_owned()]
            }),
    )
}

//! Sequences: the largest, sorting, reversing, counting, repeats, bits.

use super::{Builtin, Draft, Recipe};
use crate::{Draw, Reading};

const LETTERS: &str = "ABCDEFGH";

pub(super) fn all() -> Vec<Builtin> {
    let recipes = [
        Recipe {
            name: "max",
            summary: "the largest of a list of numbers",
            levels: [
                ("three numbers of two digits", 729_000),
                ("five numbers of two digits", 5_904_900_000),
                ("five numbers of three digits", 590_490_000_000_000),
            ],
            alphabet: "0123456789",
            reading: Reading::Forward,
            draft: max,
        },
        Recipe {
            name: "sort",
            summary: "digits in rising order",
            levels: [
                ("four digits", 10_000),
                ("five digits", 100_000),
                ("seven digits", 10_000_000),
            ],
            alphabet: "0123456789",
            reading: Reading::Forward,
            draft: sort,
        },
        Recipe {
            name: "reverse",
            summary: "letters from last to first",
            levels: [
                ("four letters", 4_096),
                ("six letters", 262_144),
                ("eight letters", 16_777_216),
            ],
            alphabet: LETTERS,
            reading: Reading::Forward,
            draft: reverse,
        },
        Recipe {
            name: "count",
            summary: "how often a letter occurs",
            levels: [
                ("five letters of four", 4_096),
                ("eight letters of four", 262_144),
                ("twelve letters of four", 67_108_864),
            ],
            alphabet: "0123456789",
            reading: Reading::Forward,
            draft: count,
        },
        Recipe {
            name: "dedup",
            summary: "each letter once, in order of its first occurrence",
            levels: [
                ("five letters of four", 1_024),
                ("seven letters of six", 279_936),
                ("ten letters of eight", 1_073_741_824),
            ],
            alphabet: LETTERS,
            reading: Reading::Forward,
            draft: dedup,
        },
        Recipe {
            name: "bits",
            summary: "and, or, xor of binary words, from left to right",
            levels: [
                ("two words of four bits", 768),
                ("two words of six bits", 12_288),
                ("three words of four bits", 36_864),
            ],
            alphabet: "01",
            reading: Reading::Forward,
            draft: bits,
        },
    ];
    recipes.into_iter().map(Builtin::from).collect()
}

/// The number that belongs to a level.
fn by_level(level: u8, values: [usize; 3]) -> usize {
    values[usize::from(level.clamp(1, 3)) - 1]
}

/// `length` of the first `kinds` letters.
fn letters(length: usize, kinds: u32, draw: &mut Draw) -> Vec<char> {
    let known: Vec<char> = LETTERS.chars().take(kinds as usize).collect();
    (0..length)
        .map(|_| known[draw.index(known.len())])
        .collect()
}

/// `47 85 62`, by `47<85 85>62`: the largest so far against the next.
fn max(level: u8, draw: &mut Draw) -> Draft {
    let (low, high) = if level < 3 { (10, 99) } else { (100, 999) };
    let numbers: Vec<u32> = (0..by_level(level, [3, 5, 5]))
        .map(|_| draw.between(low, high))
        .collect();
    let mut largest = numbers[0];
    let mut steps = Vec::new();
    for &number in &numbers[1..] {
        let sign = match largest.cmp(&number) {
            std::cmp::Ordering::Less => '<',
            std::cmp::Ordering::Equal => '=',
            std::cmp::Ordering::Greater => '>',
        };
        steps.push(format!("{largest}{sign}{number}"));
        largest = largest.max(number);
    }
    let shown: Vec<String> = numbers.iter().map(u32::to_string).collect();
    Draft {
        question: shown.join(" "),
        answer: largest.to_string(),
        working: steps.join(" "),
        decoys: shown,
    }
}

/// `4192`, by `4 14 149 1249`: each digit put in its place.
fn sort(level: u8, draw: &mut Draw) -> Draft {
    let digits: Vec<char> = (0..by_level(level, [4, 5, 7]))
        .filter_map(|_| char::from_digit(draw.between(0, 9), 10))
        .collect();
    let mut steps = Vec::new();
    for taken in 1..=digits.len() {
        let mut placed = digits[..taken].to_vec();
        placed.sort_unstable();
        steps.push(placed.into_iter().collect::<String>());
    }
    let answer = steps.last().cloned().unwrap_or_default();
    Draft {
        question: digits.iter().collect(),
        answer: answer.clone(),
        working: steps.join(" "),
        decoys: vec![digits.iter().collect(), answer.chars().rev().collect()],
    }
}

/// `FACE`, by `1F 2A 3C 4E`: each letter with its place, to be read backward.
fn reverse(level: u8, draw: &mut Draw) -> Draft {
    let word = letters(by_level(level, [4, 6, 8]), 8, draw);
    let steps: Vec<String> = word
        .iter()
        .enumerate()
        .map(|(index, letter)| format!("{}{letter}", index + 1))
        .collect();
    Draft {
        question: word.iter().collect(),
        answer: word.iter().rev().collect(),
        working: steps.join(" "),
        decoys: vec![word.iter().collect()],
    }
}

/// `B ABBCA`, by `A0B1B2C2A2`: each letter and how many so far.
fn count(level: u8, draw: &mut Draw) -> Draft {
    let word = letters(by_level(level, [5, 8, 12]), 4, draw);
    let wanted = letters(1, 4, draw)[0];
    let (mut seen, mut working) = (0, String::new());
    for &letter in &word {
        seen += u32::from(letter == wanted);
        working.push_str(&format!("{letter}{seen}"));
    }
    Draft {
        question: format!("{wanted} {}", word.iter().collect::<String>()),
        answer: seen.to_string(),
        working,
        decoys: vec![(seen + 1).to_string(), seen.saturating_sub(1).to_string()],
    }
}

/// `ABBCA`, by `A+B+B-C+A-`: new letters kept, known ones not.
fn dedup(level: u8, draw: &mut Draw) -> Draft {
    let kinds = [4, 6, 8][usize::from(level.clamp(1, 3)) - 1];
    let word = letters(by_level(level, [5, 7, 10]), kinds, draw);
    let (mut kept, mut working) = (String::new(), String::new());
    for &letter in &word {
        let new = !kept.contains(letter);
        working.push(letter);
        working.push(if new { '+' } else { '-' });
        if new {
            kept.push(letter);
        }
    }
    let last = word[word.len() - 1];
    let mut decoys = vec![format!("{kept}{last}"), word.iter().collect()];
    if kept.len() > 1 {
        decoys.push(kept[1..].to_owned());
        decoys.push(kept[..kept.len() - 1].to_owned());
    }
    Draft {
        question: word.iter().collect(),
        answer: kept,
        working,
        decoys,
    }
}

/// `1011 xor 0110`, by `10=1 01=1 11=0 10=1`: two bits and what they give; a
/// third word goes on from there, `10=11=0`.
fn bits(level: u8, draw: &mut Draw) -> Draft {
    let width = by_level(level, [4, 6, 4]);
    let count = by_level(level, [2, 2, 3]);
    let words: Vec<Vec<u64>> = (0..count)
        .map(|_| (0..width).map(|_| draw.below(2)).collect())
        .collect();
    let signs: Vec<&str> = (1..count)
        .map(|_| ["and", "or", "xor"][draw.index(3)])
        .collect();
    let (mut answer, mut steps) = (String::new(), Vec::new());
    for column in 0..width {
        let mut value = words[0][column];
        let mut step = value.to_string();
        for (word, sign) in words[1..].iter().zip(&signs) {
            let bit = word[column];
            value = match *sign {
                "and" => value & bit,
                "or" => value | bit,
                _ => value ^ bit,
            };
            step.push_str(&format!("{bit}={value}"));
        }
        answer.push_str(&value.to_string());
        steps.push(step);
    }
    let text = |word: &[u64]| word.iter().map(u64::to_string).collect::<String>();
    let mut question = text(&words[0]);
    for (word, sign) in words[1..].iter().zip(&signs) {
        question.push_str(&format!(" {sign} {}", text(word)));
    }
    Draft {
        question,
        answer,
        working: steps.join(" "),
        decoys: Vec::new(),
    }
}

//! The word lists and the text that upstream's tasks draw from, as it cuts
//! them. `parity/export.py --data` writes the files; `data/NOTICE` says whose they are.

use std::sync::OnceLock;

/// The text that several tasks take words and sentences from.
const STORY: &str = include_str!("data/in_the_year_2889.txt");
/// Words of five letters, one a line.
const WORDLE: &str = include_str!("data/wordle_words.txt");
/// Words of three to ten letters: each as the number of letters that it has in
/// common with the start of the one before, and the rest.
const WORDS: &str = include_str!("data/words3to10.txt");

/// The words of five letters.
pub(crate) fn wordle() -> &'static [&'static str] {
    static LIST: OnceLock<Vec<&str>> = OnceLock::new();
    LIST.get_or_init(|| WORDLE.lines().collect())
}

/// `[w for w in re.findall(r"\b\w+\b", text)]` of the story.
pub(crate) fn story_words() -> &'static [&'static str] {
    static LIST: OnceLock<Vec<&str>> = OnceLock::new();
    LIST.get_or_init(|| {
        STORY
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .collect()
    })
}

/// The words of the story that are all letters and digits.
pub(crate) fn plain_story_words() -> &'static [&'static str] {
    static LIST: OnceLock<Vec<&str>> = OnceLock::new();
    LIST.get_or_init(|| {
        let plain = |word: &&&str| word.chars().all(char::is_alphanumeric);
        story_words().iter().filter(plain).copied().collect()
    })
}

/// The sentences of the story: what stands between full stops.
pub(crate) fn story_sentences() -> impl Iterator<Item = &'static str> {
    STORY
        .split('.')
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
}

/// The words of three to ten letters.
pub(crate) fn words() -> &'static [String] {
    static LIST: OnceLock<Vec<String>> = OnceLock::new();
    LIST.get_or_init(|| {
        let mut list: Vec<String> = Vec::new();
        let mut starts = WORDS
            .match_indices(|c: char| c.is_ascii_digit())
            .map(|(at, _)| at)
            .peekable();
        while let Some(at) = starts.next() {
            let end = starts.peek().copied().unwrap_or(WORDS.len());
            let shared = usize::from(WORDS.as_bytes()[at] - b'0');
            let mut word = list.last().map_or("", |last| &last[..shared]).to_owned();
            word.push_str(WORDS[at + 1..end].trim_end());
            list.push(word);
        }
        list
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_as_long_as_upstreams() {
        assert_eq!(wordle().len(), 2_315);
        assert_eq!(words().len(), 151_367);
        assert!(words().iter().all(|word| (3..=10).contains(&word.len())));
        assert!(plain_story_words().len() > 8_000);
        assert!(story_sentences().count() > 300);
    }
}

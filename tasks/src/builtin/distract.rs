//! Wrong answers that look right.

use crate::{Draw, Item};

/// Flaws tried before an answer is said to have none.
const ATTEMPTS: usize = 1_000;

/// A wrong answer of the same kind as the right one: half the time one that a
/// careless solver would give, else the right one with a small flaw.
pub(crate) fn distract(item: &Item, draw: &mut Draw) -> String {
    let right: Vec<char> = item.reference.chars().collect();
    // Of a single digit most others are absurd (a remainder of 6 by 4), so
    // there only the careless ones will do.
    let mut decoys = item.decoys();
    if !decoys.is_empty() && (right.len() == 1 || draw.coin()) {
        return decoys.swap_remove(draw.index(decoys.len()));
    }
    if right.is_empty() {
        // Nothing to spoil: anything is wrong, and a blank is no answer at all.
        return crate::dialogue::BLANK.to_string();
    }
    let is_number = right.iter().all(char::is_ascii_digit)
        && item.alphabet.chars().eq('0'..='9')
        && !leads_with_zero(&right);
    for _ in 0..ATTEMPTS {
        let wrong = if is_number && draw.coin() {
            near(&item.reference, draw)
        } else {
            flawed(&right, &item.alphabet, draw)
        };
        let spoilt = is_number && leads_with_zero(&wrong.chars().collect::<Vec<_>>());
        if wrong != item.reference && !spoilt {
            return wrong;
        }
    }
    // An alphabet with nothing else to say.
    crate::dialogue::BLANK.to_string()
}

fn leads_with_zero(digits: &[char]) -> bool {
    digits.len() > 1 && digits[0] == '0'
}

/// A number one or ten away.
fn near(right: &str, draw: &mut Draw) -> String {
    // Longer than any built-in answer would overflow; then only flaws are made.
    let Ok(value) = right.parse::<u32>() else {
        return right.to_owned();
    };
    let step = if value >= 10 && draw.coin() { 10 } else { 1 };
    let moved = if draw.coin() {
        value.saturating_add(step)
    } else {
        value.saturating_sub(step)
    };
    moved.to_string()
}

/// The text with two neighbours swapped or one element replaced.
fn flawed(right: &[char], alphabet: &str, draw: &mut Draw) -> String {
    let mut wrong = right.to_vec();
    let at = draw.index(wrong.len());
    if at + 1 < wrong.len() && wrong[at] != wrong[at + 1] && draw.coin() {
        wrong.swap(at, at + 1);
    } else {
        let letters: Vec<char> = alphabet.chars().collect();
        if let Some(letter) = letters.get(draw.index(letters.len())) {
            wrong[at] = *letter;
        }
    }
    wrong.into_iter().collect()
}

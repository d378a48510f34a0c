//! `gsm_symbolic`: 85 word problems whose names and numbers are drawn.
//!
//! The templates are data: `parity/export.py --data` writes upstream's functions
//! as expressions in brackets, [`compile`] reads them, and [`machine`] runs them as
//! Python would.

mod compile;
mod functions;
mod machine;
mod number;
mod program;
mod value;

use std::{cell::RefCell, sync::OnceLock};

use super::{Ask, Puzzle, Random, Task, read};
use crate::{Item, Ppm};
use program::Template;
use value::Value;

pub(super) const GSM_SYMBOLIC: Task = Task {
    name: "gsm_symbolic",
    summary: "word problems of a few steps",
    levels: [
        ("solved in one or two lines", 100_000),
        ("solved in three lines", 100_000),
        ("solved in four lines or more", 100_000),
    ],
    alphabet: "-.0123456789",
    answer_chars: 24,
    make: gsm_symbolic,
    accepts: read::number,
    upstream: upstream_score,
};

const TEMPLATES: &str = include_str!("../data/gsm_symbolic.txt");

fn templates() -> &'static [Template] {
    static LIST: OnceLock<Vec<Template>> = OnceLock::new();
    LIST.get_or_init(|| TEMPLATES.lines().filter_map(Template::read).collect())
}

fn gsm_symbolic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let templates = templates();
    let chosen = if ask.upstream {
        let (seed, index) = ask.place;
        (in_order(seed, index) * templates.len() as f64) as usize
    } else {
        let lines = ask.pick(&[0..=99, 0..=2, 3..=3, 4..=99]);
        let chosen = random.index(templates.len());
        if !lines.contains(&templates[chosen].lines) {
            return None;
        }
        chosen
    };
    let parts = templates.get(chosen)?.run(random)?.elements()?;
    let Ok([Value::Text(question), answer, Value::Text(steps)]) = <[Value; 3]>::try_from(parts)
    else {
        return None;
    };
    let answer = match answer {
        Value::Text(answer) => answer.into(),
        answer => answer.shown()?,
    };
    if !ask.upstream && (has_unrounded(&question) || answer.starts_with('-')) {
        return None;
    }
    let (mut question, mut steps) = (String::from(question), String::from(steps));
    question.push_str(if ask.upstream {
        " Give the result as your final answer. Do not include units."
    } else {
        " Answer with a number, without units."
    });
    // The last line says the answer once more.
    if let Some(end) = steps
        .rfind('\n')
        .filter(|at| steps[*at..].starts_with("\n####"))
    {
        steps.truncate(end);
    }
    Some(Puzzle::new(question, answer).working(steps).near())
}

/// The draw that chooses an item's template: upstream makes those of a whole
/// data set when it begins, so those of the last one are kept.
fn in_order(seed: u64, index: u64) -> f64 {
    thread_local! {
        static DRAWN: RefCell<Option<(u64, Random, Vec<f64>)>> = const { RefCell::new(None) };
    }
    DRAWN.with_borrow_mut(|drawn| {
        if drawn.as_ref().is_some_and(|(of, ..)| *of != seed) {
            *drawn = None;
        }
        let (_, random, units) = drawn.get_or_insert_with(|| (seed, Random::new(seed), Vec::new()));
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        while units.len() <= index {
            units.push(random.unit());
        }
        units[index]
    })
}

/// Whether a text has a number of more than two decimals, as some templates
/// write what they divided.
fn has_unrounded(text: &str) -> bool {
    // Most have no fraction at all, which is seen at a glance.
    let pairs = text.as_bytes().windows(2);
    let fractions = pairs.filter(|pair| pair[0] == b'.' && pair[1].is_ascii_digit());
    if fractions.count() == 0 {
        return false;
    }
    text.split('.').skip(1).any(|after| {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        digits > 2
    })
}

/// Upstream takes the first number of the answer, and pays a hundredth for any.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let Some(found) = first_number(answer).and_then(|number| number.parse::<f64>().ok()) else {
        return Ppm::ZERO;
    };
    match item.reference.parse::<f64>() {
        Ok(right) if right == found => Ppm::ONE,
        Ok(_) => Ppm(10_000),
        Err(_) => Ppm::ZERO,
    }
}

/// `re.search(r"\b-?\d+(?:\.\d+)?\b", text)`, for digits of our own script.
fn first_number(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let word = |at: Option<usize>| {
        at.and_then(|at| chars.get(at))
            .is_some_and(|c| c.is_alphanumeric() || *c == '_')
    };
    let boundary = |at: usize| word(at.checked_sub(1)) != word(Some(at));
    let digits = |from: usize| {
        let run = chars[from.min(chars.len())..].iter();
        from + run.take_while(|c| c.is_ascii_digit()).count()
    };
    let mut at = 0;
    while at < chars.len() {
        let start = at + usize::from(chars[at] == '-');
        let whole = digits(start);
        at += 1;
        if whole == start || !boundary(at - 1) {
            continue;
        }
        let fraction = match chars.get(whole) {
            Some('.') => digits(whole + 1),
            _ => whole,
        };
        let longest = if fraction > whole + 1 {
            fraction
        } else {
            whole
        };
        for end in [longest, whole] {
            if boundary(end) {
                return Some(chars[at - 1..end].iter().collect());
            }
        }
        // No number ends inside a run of digits.
        at = whole;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_read_and_makes_problems() {
        let unread: Vec<&str> = TEMPLATES
            .lines()
            .filter(|line| Template::read(line).is_none())
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert!(unread.is_empty(), "{unread:?}");
        assert_eq!(templates().len(), 85);
        for (number, template) in templates().iter().enumerate() {
            let made = (0..20)
                .filter(|seed| template.run(&mut Random::new(*seed)).is_some())
                .count();
            assert!(made >= 15, "template {number}: {made} of 20");
        }
    }

    #[test]
    fn the_first_number_is_found_as_upstream_finds_it() {
        let first = |text: &str| first_number(text);
        assert_eq!(first("about 12.5 or 13").as_deref(), Some("12.5"));
        assert_eq!(first(" -5").as_deref(), Some("5"));
        assert_eq!(first("x-5").as_deref(), Some("-5"));
        assert_eq!(first("12abc 7").as_deref(), Some("7"));
        assert_eq!(first("1.5x").as_deref(), Some("1"));
        assert_eq!(first("none"), None);
    }
}

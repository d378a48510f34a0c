//! `number_sorting` and `number_filtering`.

use super::{Ask, Puzzle, Random, Task, fact, read};
use crate::{Item, Ppm};

const NUMBERS: &str = "-.0123456789, ";

pub(super) const NUMBER_SORTING: Task = Task {
    name: "number_sorting",
    summary: "numbers in order",
    levels: [
        ("three to five whole numbers", 1_000_000),
        ("four to eight of up to one decimal", 1_000_000_000_000),
        (
            "eight to fourteen of up to two decimals",
            1_000_000_000_000_000,
        ),
    ],
    alphabet: NUMBERS,
    answer_chars: 256,
    make: number_sorting,
    accepts: read::numbers,
    upstream: upstream_sorting,
};

pub(super) const NUMBER_FILTERING: Task = Task {
    name: "number_filtering",
    summary: "the numbers of a list above or below a limit",
    levels: [
        ("three to five whole numbers", 1_000_000),
        ("four to eight of up to two decimals", 1_000_000_000_000),
        (
            "eight to fourteen of up to four decimals",
            1_000_000_000_000_000,
        ),
    ],
    alphabet: NUMBERS,
    answer_chars: 256,
    make: number_filtering,
    accepts: read::numbers,
    upstream: read::upstream_text,
};

/// How many numbers, and how many decimals.
type Configuration = ((usize, usize), (usize, usize));

/// As Python writes a float that is not too large or small.
fn float(number: f64) -> String {
    format!("{number:?}")
}

/// As Python writes a list of texts.
fn quoted(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("'{text}'")).collect();
    format!("[{}]", quoted.join(", "))
}

fn number_sorting(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((3, 10), (0, 2)),
        ((3, 5), (0, 0)),
        ((4, 8), (0, 1)),
        ((8, 14), (0, 2)),
    ];
    let (count, decimals) = *ask.pick(&CONFIGURATIONS);
    let numbers: Vec<f64> = (0..random.size(count))
        .map(|_| {
            let number = random.uniform(-100.0, 100.0);
            // As NumPy rounds.
            match random.size(decimals) {
                0 => number.round_ties_even(),
                places => {
                    let scale = [1.0, 10.0, 100.0][places.min(2)];
                    (number * scale).round_ties_even() / scale
                }
            }
        })
        .collect();
    let ascending = *random.choice(&[true, false]);
    let mut sorted = numbers.clone();
    sorted.sort_by(|a, b| {
        let (a, b) = if ascending { (a, b) } else { (b, a) };
        a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
    });
    let write = |numbers: &[f64]| numbers.iter().copied().map(float).collect::<Vec<_>>();
    let (shown, sorted) = (write(&numbers).join(", "), write(&sorted));
    let direction = if ascending { "ascending" } else { "descending" };
    let (question, answer) = if ask.upstream {
        let question = format!(
            "Sort these numbers in {direction} order: {shown}\nPlease follow the instruction below:\n## 1. Let all your answers be a list of numbers. Instead of reporting your answer as -69, -13, 1, 7, 11, 43, 59, 61, use ['-69', '-13', '1', '7', '11', '43', '59', '61'] instead\n## 2. Convert all numbers in the square brackets as strings. For example, ['-69', '-13', '1', '7', '11', '43', '59', '61']\n"
        );
        (question, quoted(&sorted))
    } else {
        let question =
            format!("Sort these numbers in {direction} order, with commas between: {shown}");
        (question, sorted.join(", "))
    };
    let reversed: Vec<String> = sorted.iter().rev().cloned().collect();
    Some(
        Puzzle::new(question, answer)
            .fact("direction", direction)
            .decoys(vec![reversed.join(", "), sorted[1..].join(", ")])
            .copy(shown),
    )
}

/// Upstream accepts every list in order whose numbers are within one of the
/// right ones.
fn upstream_sorting(item: &Item, answer: &str) -> Ppm {
    let numbers = |text: &str| -> Option<Vec<f64>> {
        read::Literal::read(&text.replace('\'', "\""))?
            .list()?
            .iter()
            .map(|literal| match literal {
                read::Literal::Number(number) => Some(*number),
                read::Literal::Text(text) => text.trim().parse().ok(),
                read::Literal::List(_) => None,
            })
            .collect()
    };
    let Some((answer, right)) = numbers(answer).zip(numbers(&item.reference)) else {
        return Ppm::ZERO;
    };
    let ascending = fact(item, "direction") == "ascending";
    let in_order = |pair: &[f64]| {
        if ascending {
            pair[0] <= pair[1]
        } else {
            pair[0] >= pair[1]
        }
    };
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1.0;
    Ppm::from(
        answer.len() == right.len()
            && answer.windows(2).all(in_order)
            && answer.iter().zip(&right).all(near),
    )
}

fn number_filtering(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((3, 10), (0, 4)),
        ((3, 5), (0, 0)),
        ((4, 8), (0, 2)),
        ((8, 14), (0, 4)),
    ];
    let (count, decimals) = *ask.pick(&CONFIGURATIONS);
    let write = |random: &mut Random, low: f64, high: f64| {
        let number = random.uniform(low, high);
        let shown = format!("{number:.width$}", width = random.size(decimals));
        let number: f64 = shown.parse().unwrap_or(number);
        (number, shown)
    };
    let numbers: Vec<(f64, String)> = (0..random.size(count))
        .map(|_| write(random, -100.0, 100.0))
        .collect();
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (number, _) in &numbers {
        (low, high) = (low.min(*number), high.max(*number));
    }
    let (limit, shown_limit) = write(random, low, high);
    let larger = *random.choice(&[true, false]);
    let keep = *random.choice(&[true, false]);
    let kept: Vec<String> = numbers
        .iter()
        .filter(|(number, _)| match (keep, larger) {
            (true, true) => *number > limit,
            (true, false) => *number < limit,
            (false, true) => *number <= limit,
            (false, false) => *number >= limit,
        })
        // Equal numbers are written as the first of them.
        .filter_map(|(number, _)| numbers.iter().find(|(other, _)| other == number))
        .map(|(_, shown)| shown.clone())
        .collect();
    if !ask.upstream && kept.is_empty() {
        return None;
    }
    let shown: Vec<String> = numbers.iter().map(|(_, shown)| shown.clone()).collect();
    let verb = if keep { "Keep" } else { "Remove" };
    let side = if larger { "larger" } else { "smaller" };
    let (question, answer) = if ask.upstream {
        let question = format!(
            "{verb} all numbers {side} than {shown_limit} in this list: {}\nReturn the new list in the same format.",
            quoted(&shown)
        );
        (question, quoted(&kept))
    } else {
        let question = format!(
            "{verb} all numbers {side} than {shown_limit} in this list, and write what is left with commas between: {}",
            shown.join(", ")
        );
        (question, kept.join(", "))
    };
    let others: Vec<String> = shown
        .iter()
        .filter(|one| !kept.contains(one))
        .cloned()
        .collect();
    Some(
        Puzzle::new(question, answer)
            .fact("filter_value", shown_limit)
            .decoys(vec![others.join(", ")])
            .copy(shown.join(", ")),
    )
}

//! `number_sorting` and `number_filtering`.

use std::fmt::Write as _;
use std::ops::Range;

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
fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.map(|text| format!("'{text}'")).collect();
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
        (question, quoted(sorted.iter().map(String::as_str)))
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
    let count = random.size(count);
    // All as they are shown, a comma between, and where each of them stands.
    let mut shown = String::with_capacity(count * 10);
    let mut numbers: Vec<(f64, Range<usize>)> = Vec::with_capacity(count);
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for at in 0..count {
        if at > 0 {
            shown.push_str(", ");
        }
        let start = shown.len();
        let drawn = random.uniform(-100.0, 100.0);
        let number = write_rounded(&mut shown, drawn, random.size(decimals));
        numbers.push((number, start..shown.len()));
        (low, high) = (low.min(number), high.max(number));
    }
    let mut shown_limit = String::new();
    let drawn = random.uniform(low, high);
    let limit = write_rounded(&mut shown_limit, drawn, random.size(decimals));
    let larger = *random.choice(&[true, false]);
    let keep = *random.choice(&[true, false]);
    let stays = |number: f64| match (keep, larger) {
        (true, true) => number > limit,
        (true, false) => number < limit,
        (false, true) => number <= limit,
        (false, false) => number >= limit,
    };
    let count_kept = numbers.iter().filter(|(number, _)| stays(*number)).count();
    if !ask.upstream && (count_kept == 0 || count_kept == count) {
        // Nothing is left, or a copy of the list would be right.
        return None;
    }
    let kept = numbers
        .iter()
        .filter(|(number, _)| stays(*number))
        // Equal numbers are written as the first of them.
        .filter_map(|(number, _)| numbers.iter().find(|(other, _)| other == number))
        .map(|(_, place)| &shown[place.clone()]);
    let verb = if keep { "Keep" } else { "Remove" };
    let side = if larger { "larger" } else { "smaller" };
    let (question, answer) = if ask.upstream {
        let question = format!(
            "{verb} all numbers {side} than {shown_limit} in this list: {}\nReturn the new list in the same format.",
            quoted(shown.split(", "))
        );
        (question, quoted(kept))
    } else {
        let question = format!(
            "{verb} all numbers {side} than {shown_limit} in this list, and write what is left with commas between: {shown}"
        );
        let mut answer = String::with_capacity(shown.len());
        for one in kept {
            if !answer.is_empty() {
                answer.push_str(", ");
            }
            answer.push_str(one);
        }
        (question, answer)
    };
    Some(
        Puzzle::new(question, answer)
            .fact("filter_value", shown_limit)
            .slips(|item| {
                let (shown, kept) = (listed(&item.question), listed(&item.reference));
                let others: Vec<&str> = shown
                    .iter()
                    .filter(|one| !kept.contains(one))
                    .copied()
                    .collect();
                vec![others.join(", "), shown.join(", ")]
            }),
    )
}

/// Writes a number that is smaller than a million with up to four decimals, as
/// Python's `f"{number:.{places}f}"` does, and returns what was written.
fn write_rounded(text: &mut String, number: f64, places: usize) -> f64 {
    const SCALES: [u32; 5] = [1, 10, 100, 1_000, 10_000];
    let scale = SCALES[places.min(4)];
    // A float is `mantissa / 2^shift`: of that, the rounding is exact.
    let bits = number.abs().to_bits();
    let exponent = (bits >> 52) as u32;
    let mantissa = if exponent == 0 {
        bits
    } else {
        (bits & ((1 << 52) - 1)) | 1 << 52
    };
    let shift = 1_075 - exponent.max(1);
    let scaled = u128::from(mantissa) * u128::from(scale);
    let digits = match shift {
        0..=127 => {
            let (down, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
            let half = 1u128 << shift >> 1;
            let up = rest > half || (rest == half && shift > 0 && down & 1 == 1);
            down + u128::from(up)
        }
        // Less than half of the last decimal.
        _ => 0,
    };
    let digits = u64::try_from(digits).unwrap_or(u64::MAX);
    if number.is_sign_negative() {
        text.push('-');
    }
    let scale = u64::from(scale);
    let (whole, fraction) = (digits / scale, digits % scale);
    // Writing to a text cannot fail.
    let _ = match places {
        0 => write!(text, "{whole}"),
        places => write!(text, "{whole}.{fraction:0places$}"),
    };
    // Both are exact, so that the quotient is the float nearest to the text.
    (digits as f64 / scale as f64).copysign(number)
}

/// The numbers of the list at the end of a text, in quotes or not.
fn listed(text: &str) -> Vec<&str> {
    let list = text.rsplit_once(": ").map_or(text, |(_, list)| list);
    let list = list.lines().next().unwrap_or("");
    let list = list.trim_start_matches('[').trim_end_matches(']');
    list.split(", ").map(|one| one.trim_matches('\'')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_rounded_as_it_is_printed() {
        let mut draw = crate::Seed::derive(&[b"rounded"]).draw();
        let drawn = (0..20_000).map(|_| {
            let unit = draw.next_u64() as f64 / u64::MAX as f64;
            (unit * 200.0 - 100.0) / [1.0, 1e3, 1e9][draw.index(3)]
        });
        let ties = [
            0.5, 1.5, 2.5, -0.5, 0.25, 0.125, 0.0625, 99.99995, 0.0, -0.0, 1e-40,
        ];
        for number in drawn.chain(ties) {
            for places in 0..=4 {
                let mut text = String::new();
                let value = write_rounded(&mut text, number, places);
                assert_eq!(text, format!("{number:.places$}"));
                assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
            }
        }
    }

    #[test]
    fn a_list_is_found_in_both_ways_of_asking() {
        assert_eq!(listed("Keep this list: ['1', '-2.5']\nDo."), ["1", "-2.5"]);
        assert_eq!(listed("with commas between: 1, -2.5"), ["1", "-2.5"]);
        assert_eq!(listed("1"), ["1"]);
    }
}

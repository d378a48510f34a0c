//! Reading answers: what our scorers accept, and the two scorers that most of
//! upstream's tasks share. Nothing here evaluates text; every reader is linear
//! in the size of what it reads, and bounded in depth.

use crate::{Item, Ppm};

/// `part / whole` rounded to the nearest part per million, as a score that
/// upstream keeps as a float is compared with ours.
pub(crate) fn nearest(part: u64, whole: u64) -> Ppm {
    if whole == 0 {
        return Ppm::ZERO;
    }
    let value = (u128::from(part) * 2_000_000 + u128::from(whole)) / (u128::from(whole) * 2);
    Ppm(u32::try_from(value).unwrap_or(u32::MAX).min(Ppm::ONE.0))
}

/// A float score as parts per million.
pub(crate) fn ppm(score: f64) -> Ppm {
    Ppm((score.clamp(0.0, 1.0) * 1e6 + 0.5) as u32)
}

/// Upstream's scorer where a task has none of its own: an answer that holds
/// the right one somewhere is worth the share of it that is right.
pub(crate) fn upstream_text(item: &Item, answer: &str) -> Ppm {
    contained(&item.reference, answer)
}

fn contained(right: &str, answer: &str) -> Ppm {
    if answer.is_empty() {
        Ppm::ZERO
    } else if answer == right {
        Ppm::ONE
    } else if answer.contains(right) {
        nearest(chars(right), chars(answer))
    } else {
        Ppm::ZERO
    }
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Upstream's scorer of numbers: equal as decimals, commas aside, else by the
/// share of the answer that the right one makes up.
pub(crate) fn upstream_number(item: &Item, answer: &str) -> Ppm {
    let (answer, right) = (answer.replace(',', ""), item.reference.replace(',', ""));
    if answer.is_empty() {
        return Ppm::ZERO;
    }
    match (Decimal::python(&answer), Decimal::python(&right)) {
        (Some(answer), Some(right)) if answer == right => Ppm::ONE,
        _ => contained(&right, &answer),
    }
}

/// Right when the texts are the same.
pub(crate) fn text(item: &Item, answer: &str) -> bool {
    answer == item.reference
}

/// Right when the words are the same, however the white space between them is.
pub(crate) fn words(item: &Item, answer: &str) -> bool {
    answer
        .split_whitespace()
        .eq(item.reference.split_whitespace())
}

/// Right when the numbers are the same: a sign of plus, zeros in front or
/// after the point, and commas between thousands are forgiven.
pub(crate) fn number(item: &Item, answer: &str) -> bool {
    let right = Decimal::plain(&item.reference);
    right.is_some() && right == Decimal::plain(answer)
}

/// Right when the lists of numbers are the same, whatever of white space,
/// commas, quotes and brackets stands around each.
pub(crate) fn numbers(item: &Item, answer: &str) -> bool {
    let mut right = elements(&item.reference).map(Decimal::plain);
    let mut answer = elements(answer).map(Decimal::plain);
    loop {
        match (right.next(), answer.next()) {
            (None, None) => return true,
            (Some(Some(right)), Some(Some(answer))) if right == answer => {}
            _ => return false,
        }
    }
}

/// What stands between white space, commas, quotes and brackets.
pub(crate) fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '\'' | '"'))
        .filter(|part| !part.is_empty())
}

/// Right when the lists of words are the same, commas between them.
pub(crate) fn comma_words(item: &Item, answer: &str) -> bool {
    answer
        .split(',')
        .map(str::trim)
        .eq(item.reference.split(',').map(str::trim))
}

/// A decimal number in its shortest form, for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: String,
    /// The power of ten that the digits are multiplied by.
    exponent: i64,
}

impl Decimal {
    /// As people write numbers: a sign, digits, a point. Commas only where
    /// they divide thousands, so that a list of digits is no number.
    pub(crate) fn plain(text: &str) -> Option<Decimal> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let grouped = whole.contains(',');
        if grouped {
            let mut groups = whole.split(',');
            let first = groups.next().unwrap_or("").len();
            if !(1..=3).contains(&first) || !groups.all(|group| group.len() == 3) {
                return None;
            }
        }
        let whole = if grouped {
            whole.replace(',', "")
        } else {
            whole.to_owned()
        };
        if whole.is_empty() || !all_digits(&whole) || !all_digits(fraction) {
            return None;
        }
        Decimal::of(text.starts_with('-'), &whole, fraction, 0)
    }

    /// As Python's `decimal.Decimal` reads a text, except for what is no
    /// finite number, digits of other scripts and exponents past 18 digits.
    pub(crate) fn python(text: &str) -> Option<Decimal> {
        let text = text.trim().replace('_', "");
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(&text);
        let (digits, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((digits, exponent)) => {
                let bare = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                let digits_only =
                    (1..=18).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_digit());
                (digits, digits_only.then(|| exponent.parse::<i64>().ok())??)
            }
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        Decimal::of(text.starts_with('-'), whole, fraction, exponent)
    }

    fn of(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Option<Decimal> {
        let all = format!("{whole}{fraction}");
        let short = all.trim_start_matches('0').trim_end_matches('0');
        if short.is_empty() {
            return Some(Decimal {
                negative: false,
                digits: String::new(),
                exponent: 0,
            });
        }
        let dropped = all.len() - all.trim_end_matches('0').len();
        let exponent = exponent.checked_add(dropped as i64 - fraction.len() as i64)?;
        Some(Decimal {
            negative,
            digits: short.to_owned(),
            exponent,
        })
    }

    /// Sign, digits and exponent, where the digits fit.
    pub(crate) fn parts(&self) -> Option<(bool, u128, i64)> {
        let digits = if self.digits.is_empty() {
            0
        } else {
            self.digits.parse().ok()?
        };
        Some((self.negative, digits, self.exponent))
    }
}

/// Python's `int(text)`, where it fits.
pub(crate) fn python_int(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let broken =
        digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__");
    if broken {
        return None;
    }
    text.replace('_', "").parse().ok()
}

/// What upstream reads with `eval` or `json.loads`: a literal, never a program.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    /// An integer, a float, `True` or `False`.
    Number(f64),
    /// A text in quotes.
    Text(String),
    /// A list or a tuple.
    List(Vec<Literal>),
}

/// How lists may nest.
const LITERAL_DEPTH: usize = 8;

impl Literal {
    /// Reads one literal and nothing after it.
    pub(crate) fn read(text: &str) -> Option<Literal> {
        let mut rest = text.trim();
        let literal = Literal::element(&mut rest, LITERAL_DEPTH)?;
        rest.trim().is_empty().then_some(literal)
    }

    /// As Python's `eval` reads it: elements without brackets are a tuple.
    pub(crate) fn python(text: &str) -> Option<Literal> {
        Literal::read(text).or_else(|| {
            let bare = text.contains(',').then(|| format!("({text})"))?;
            Literal::read(&bare)
        })
    }

    fn element(rest: &mut &str, depth: usize) -> Option<Literal> {
        *rest = rest.trim_start();
        let first = rest.chars().next()?;
        match first {
            '[' | '(' if depth > 0 => {
                let close = if first == '[' { ']' } else { ')' };
                *rest = rest[1..].trim_start();
                let mut list = Vec::new();
                loop {
                    if let Some(after) = rest.strip_prefix(close) {
                        *rest = after;
                        return Some(Literal::List(list));
                    }
                    list.push(Literal::element(rest, depth - 1)?);
                    *rest = rest.trim_start();
                    if let Some(after) = rest.strip_prefix(',') {
                        *rest = after.trim_start();
                    } else if !rest.starts_with(close) {
                        return None;
                    }
                }
            }
            '"' | '\'' => {
                let (text, after) = rest[1..].split_once(first)?;
                if text.contains(['\\', '\n']) {
                    return None;
                }
                *rest = after;
                Some(Literal::Text(text.to_owned()))
            }
            _ => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')))
                    .unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                *rest = after;
                match word {
                    "True" | "true" => Some(Literal::Number(1.0)),
                    "False" | "false" => Some(Literal::Number(0.0)),
                    _ if word.contains(|c: char| c.is_ascii_alphabetic() && c != 'e') => None,
                    _ => word.parse().ok().map(Literal::Number),
                }
            }
        }
    }

    /// The elements, where it is a list.
    pub(crate) fn list(&self) -> Option<&[Literal]> {
        match self {
            Literal::List(list) => Some(list),
            _ => None,
        }
    }

    /// As Python's `str` writes an element that was read from a text of ours.
    pub(crate) fn shown(&self) -> Option<String> {
        match self {
            Literal::Number(number) => Some(format!("{number}")),
            Literal::Text(text) => Some(text.clone()),
            Literal::List(_) => None,
        }
    }
}

/// Rows of elements, a space between elements and a line each.
pub(crate) fn grid<T: std::fmt::Display>(rows: &[Vec<T>]) -> String {
    let rows: Vec<String> = rows.iter().map(|row| list(row, " ")).collect();
    rows.join("\n")
}

/// The elements with a separator between them.
pub(crate) fn list<T: std::fmt::Display>(elements: &[T], separator: &str) -> String {
    let shown: Vec<String> = elements.iter().map(T::to_string).collect();
    shown.join(separator)
}

/// Wrong integers that a careless solver would give.
pub(crate) fn near(value: i128) -> Vec<String> {
    [
        value + 1,
        value - 1,
        value + 10,
        value - 10,
        -value,
        value * 2,
    ]
    .map(|wrong| wrong.to_string())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value_and_lists_are_no_numbers() {
        let plain = |text: &str| Decimal::plain(text);
        for same in ["1200", "+1200", "01,200.00", "1200.", "1,200"] {
            assert_eq!(plain(same), plain("1200"), "{same}");
            assert!(plain(same).is_some());
        }
        for none in [
            "", "+", "1,2", "12,00", ",120", "1 200", "1e3", "--1", "1.2.3", "½",
        ] {
            assert_eq!(plain(none), None, "{none}");
        }
        assert_eq!(plain("-0.0"), plain("0"));
        assert_ne!(plain("-5"), plain("5"));
        assert_ne!(plain("0.05"), plain("0.5"));
    }

    #[test]
    fn python_reads_more_numbers_than_people_write() {
        let python = |text: &str| Decimal::python(text);
        for same in [" 1.2e3\n", "1_200", ".12E4", "1200.0", "120e+1"] {
            assert_eq!(python(same), python("1200"), "{same}");
        }
        for none in ["", ".", "e3", "1e", "1e9999999999999999999", "nan", "1,2"] {
            assert_eq!(python(none), None, "{none}");
        }
    }

    #[test]
    fn literals_are_read_and_programs_are_not() {
        let list = Literal::read(" [1, [2.5, 'a'], (True,), ] ").unwrap();
        let inner = list.list().unwrap();
        assert_eq!(inner[0], Literal::Number(1.0));
        assert_eq!(inner[2], Literal::List(vec![Literal::Number(1.0)]));
        for none in [
            "[1",
            "1]",
            "[1 2]",
            "__import__('os')",
            "[x]",
            "1+1",
            "'a",
            "inf",
            "[1,,2]",
        ] {
            assert_eq!(Literal::read(none), None, "{none}");
        }
        assert_eq!(Literal::read(&"[".repeat(100_000)), None);
    }

    #[test]
    fn a_share_is_rounded_to_the_nearest() {
        assert_eq!(nearest(2, 3), Ppm(666_667));
        assert_eq!(nearest(1, 3), Ppm(333_333));
        assert_eq!(ppm(0.1), Ppm(100_000));
    }
}

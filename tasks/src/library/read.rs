//! Reading answers: what our scorers accept, and the two scorers that most of
//! upstream's tasks share. Nothing here evaluates text; every reader is linear
//! in the size of what it reads, and bounded in depth.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

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
    let (answer, right) = (without(',', answer), without(',', &item.reference));
    if answer.is_empty() {
        return Ppm::ZERO;
    }
    match (Decimal::python(&answer), Decimal::python(&right)) {
        (Some(answer), Some(right)) if answer == right => Ppm::ONE,
        _ => contained(&right, &answer),
    }
}

fn without(mark: char, text: &str) -> Cow<'_, str> {
    if text.contains(mark) {
        text.replace(mark, "").into()
    } else {
        text.into()
    }
}

/// Right when the texts are the same.
pub(crate) fn text(item: &Item, answer: &str) -> bool {
    answer == item.reference
}

/// Right when the words are the same, however the white space between them is.
pub(crate) fn words(item: &Item, answer: &str) -> bool {
    answer == item.reference
        || answer
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
    let mut right = elements(&item.reference);
    let mut answer = elements(answer);
    loop {
        match (right.next(), answer.next()) {
            (None, None) => return true,
            (Some(right), Some(answer)) if same_number(right, answer) => {}
            _ => return false,
        }
    }
}

/// Whether an element of a right answer, which is a number, is this one.
fn same_number(right: &str, answer: &str) -> bool {
    right == answer || Decimal::plain(answer).is_some_and(|n| Some(n) == Decimal::plain(right))
}

/// Answers that miscount by one or two.
pub(crate) fn miscounts(item: &Item) -> Vec<String> {
    let Ok(count) = item.reference.parse::<u64>() else {
        return Vec::new();
    };
    [count + 1, count + 2, count.saturating_sub(1)]
        .map(|wrong| wrong.to_string())
        .to_vec()
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
    digits: Digits,
    /// The power of ten that the digits are multiplied by.
    exponent: i64,
}

/// Digits without zeros in front, which fit a number more often than not.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Digits {
    Short(u128),
    Long(String),
}

/// Digits that every number of so many has room for.
const SHORT: usize = 38;

impl Decimal {
    /// As people write numbers: a sign, digits, a point. Commas only where
    /// they divide thousands, so that a list of digits is no number.
    pub(crate) fn plain(text: &str) -> Option<Decimal> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let grouped = whole.contains(',');
        if grouped {
            let mut groups = whole.split(',');
            let first = groups.next().unwrap_or("").len();
            if !(1..=3).contains(&first) || !groups.all(|group| group.len() == 3) {
                return None;
            }
        }
        let whole = without(',', whole);
        if whole.is_empty() {
            return None;
        }
        Decimal::of(text.starts_with('-'), &whole, fraction, 0)
    }

    /// As Python's `decimal.Decimal` reads a text, except for what is no
    /// finite number, digits of other scripts and exponents past 18 digits.
    pub(crate) fn python(text: &str) -> Option<Decimal> {
        let text = without('_', text.trim());
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
        if whole.len() + fraction.len() == 0 {
            return None;
        }
        Decimal::of(text.starts_with('-'), whole, fraction, exponent)
    }

    /// The number of these digits; none where they are something else.
    fn of(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Option<Decimal> {
        let all = || whole.bytes().chain(fraction.bytes());
        if !all().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length = whole.len() + fraction.len();
        let ahead = all().take_while(|byte| *byte == b'0').count();
        if ahead == length {
            return Some(Decimal {
                negative: false,
                digits: Digits::Short(0),
                exponent: 0,
            });
        }
        let behind = all().rev().take_while(|byte| *byte == b'0').count();
        let short = all().skip(ahead).take(length - ahead - behind);
        let digits = if length - ahead - behind <= SHORT {
            Digits::Short(short.fold(0, |sum, byte| sum * 10 + u128::from(byte - b'0')))
        } else {
            Digits::Long(short.map(char::from).collect())
        };
        let exponent = exponent.checked_add(behind as i64 - fraction.len() as i64)?;
        Some(Decimal {
            negative,
            digits,
            exponent,
        })
    }

    /// Sign, digits and exponent, where the digits fit.
    pub(crate) fn parts(&self) -> Option<(bool, u128, i64)> {
        match self.digits {
            Digits::Short(digits) => Some((self.negative, digits, self.exponent)),
            Digits::Long(_) => None,
        }
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
    without('_', text).parse().ok()
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
        let mut rest = text;
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
        *rest = past_space(rest);
        if let Some((number, after)) = small_number(rest) {
            *rest = after;
            return Some(Literal::Number(number));
        }
        let first = rest.chars().next()?;
        match first {
            '[' | '(' if depth > 0 => {
                let close = if first == '[' { ']' } else { ')' };
                *rest = past_space(&rest[1..]);
                let mut list = Vec::new();
                loop {
                    if let Some(after) = rest.strip_prefix(close) {
                        *rest = after;
                        return Some(Literal::List(list));
                    }
                    list.push(Literal::element(rest, depth - 1)?);
                    *rest = past_space(rest);
                    if let Some(after) = rest.strip_prefix(',') {
                        *rest = past_space(after);
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

/// The text from where no white space stands; most often there is none.
fn past_space(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b'!'..=b'~') => text,
        _ => text.trim_start(),
    }
}

/// A few digits with nothing after them that could belong to a number, as most
/// elements of lists are.
fn small_number(text: &str) -> Option<(f64, &str)> {
    const DIGITS: usize = 9;
    let bytes = text.as_bytes();
    let length = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    let ends = matches!(bytes.get(length), None | Some(b',' | b']' | b')'));
    if !(1..=DIGITS).contains(&length) || !ends {
        return None;
    }
    let digits = bytes[..length].iter();
    let number = digits.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some((number.into(), &text[length..]))
}

/// Rows of elements, a space between elements and a line each.
pub(crate) fn grid<T: Display>(rows: &[Vec<T>]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        write_list(&mut text, row, " ");
    }
    text
}

/// The elements with a separator between them.
pub(crate) fn list<T: Display>(elements: &[T], separator: &str) -> String {
    let mut text = String::with_capacity(elements.len() * (separator.len() + 4));
    write_list(&mut text, elements, separator);
    text
}

/// As [`list`], at the end of a text.
pub(crate) fn write_list<T: Display>(text: &mut String, elements: &[T], separator: &str) {
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            text.push_str(separator);
        }
        // Writing to a text cannot fail.
        let _ = write!(text, "{element}");
    }
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

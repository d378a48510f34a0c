//! `base_conversion`, `count_bits` and `bitwise_arithmetic`.

use super::{Ask, Puzzle, Random, Task, fact, read};
use crate::Ppm;

pub(super) const BASE_CONVERSION: Task = Task {
    name: "base_conversion",
    summary: "a number in another base",
    levels: [
        ("bases 2 to 10, up to 100", 7_000),
        ("bases 2 to 16, up to 1,000", 200_000),
        ("bases 2 to 36, up to 100,000", 100_000_000),
    ],
    alphabet: "0123456789abcdefghijklmnopqrstuvwxyz",
    answer_chars: 24,
    make: base_conversion,
    accepts: |item, answer| answer.eq_ignore_ascii_case(&item.reference),
    upstream: read::upstream_text,
};

pub(super) const COUNT_BITS: Task = Task {
    name: "count_bits",
    summary: "how many ones the binary form of a number has",
    levels: [
        ("up to 1,000", 1_000),
        ("up to 100,000", 100_000),
        ("up to 2^31 - 1", 2_147_483_647),
    ],
    alphabet: "0123456789",
    answer_chars: 8,
    make: count_bits,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const BITWISE_ARITHMETIC: Task = Task {
    name: "bitwise_arithmetic",
    summary: "sums, products and shifts of hexadecimal numbers",
    levels: [
        ("one operation", 1_000_000),
        ("up to three operations, nested", 1_000_000_000_000),
        ("up to seven operations, nested", 1_000_000_000_000_000),
    ],
    alphabet: "-x0123456789abcdef",
    answer_chars: 48,
    make: bitwise_arithmetic,
    accepts: |item, answer| {
        let value = python_integer(answer);
        value.is_some() && value == python_integer(&item.reference)
    },
    upstream: |item, answer| {
        let right = evaluate(fact(item, "problem"));
        Ppm::from(right.is_some() && right == python_integer(answer))
    },
};

fn in_base(mut value: u64, base: u64) -> String {
    let mut digits = Vec::new();
    while value > 0 {
        let digit = u32::try_from(value % base).unwrap_or(0);
        digits.extend(char::from_digit(digit, 36));
        value /= base;
    }
    digits.iter().rev().collect()
}

fn base_name(base: u64) -> String {
    match base {
        2 => "binary".to_owned(),
        16 => "hexadecimal".to_owned(),
        _ => format!("base-{base}"),
    }
}

fn base_conversion(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    // bases, values
    const CONFIGURATIONS: [((i64, i64), (i64, i64)); 4] = [
        ((2, 16), (0, 1_000)),
        ((2, 10), (1, 100)),
        ((2, 16), (1, 1_000)),
        ((2, 36), (1, 100_000)),
    ];
    let (bases, values) = *ask.pick(&CONFIGURATIONS);
    let value = random.int(values.0, values.1).unsigned_abs();
    let source = random.int(bases.0, bases.1).unsigned_abs();
    let target = loop {
        let target = random.int(bases.0, bases.1).unsigned_abs();
        if target != source {
            break target;
        }
    };
    // Upstream writes zero as nothing, except in the bases it asks Python for.
    let write = |base| match (value, base) {
        (0, 2 | 16) => "0".to_owned(),
        _ => in_base(value, base),
    };
    let (shown, answer) = (write(source), write(target));
    let (from, to) = (base_name(source), base_name(target));
    let question = ask.say(
        || {
            format!(
                "Your task is to convert a number between two different bases.\n\nIf the target base is > 10, use lowercase letters a-z for digits above 9.\n\nNow, convert the {from} number {shown} to {to}\n"
            )
        },
        || format!("Convert the {from} number {shown} to {to}. Digits above 9 are the letters a to z."),
    );
    Some(
        Puzzle::new(question, answer)
            .fact("decimal_value", value)
            .fact("source_base", source)
            .fact("target_base", target)
            .decoys(vec![
                in_base(value + 1, target),
                in_base(value.max(2) - 1, target),
            ])
            .copy(shown),
    )
}

fn count_bits(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let number = random.int(
        1,
        *ask.pick(&[2_147_483_647, 1_000, 100_000, 2_147_483_647]),
    );
    let count = number.count_ones();
    let question = ask.say(
        || {
            format!(
                "How many 1 bits are there in the binary representation of the number {number}?"
            )
        },
        || format!("How many ones does {number} have when written in binary?"),
    );
    Some(
        Puzzle::new(question, count)
            .fact("number", number)
            .working(format!("{number} is {number:b} in binary"))
            .slips(read::miscounts),
    )
}

/// An expression in brackets, and its value; none where it is too large.
fn expression(random: &mut Random, depth: usize) -> (String, Option<i128>) {
    let number = |random: &mut Random| {
        let value = random.int(0x100, 0xffff);
        (format!("{value:#x}"), Some(i128::from(value)))
    };
    if depth == 0 || random.unit() < 0.01 {
        return number(random);
    }
    let sign = *random.choice(&["+", "-", "*", "<<", ">>"]);
    let (left, a) = expression(random, depth - 1);
    let (mut right, mut b) = expression(random, depth - 1);
    if matches!(sign, "<<" | ">>") {
        let shift = random.int(0, 3);
        (right, b) = (format!("{shift:#x}"), Some(shift.into()));
    }
    let value = a.zip(b).and_then(|(a, b)| operate(sign, a, b));
    (format!("({left} {sign} {right})"), value)
}

fn operate(sign: &str, a: i128, b: i128) -> Option<i128> {
    match sign {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        "<<" => a.checked_mul(1 << b),
        _ => Some(a >> b),
    }
}

/// The value of an expression that [`expression`] wrote.
fn evaluate(text: &str) -> Option<i128> {
    fn term<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<i128> {
        let word = words.next()?;
        if word != "(" {
            return python_integer(word);
        }
        let a = term(words)?;
        let sign = words.next()?;
        let b = term(words)?;
        words.next().filter(|word| *word == ")")?;
        operate(sign, a, b)
    }
    let spaced = text.replace('(', "( ").replace(')', " )");
    term(&mut spaced.split_whitespace())
}

fn bitwise_arithmetic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let (problem, value) = expression(random, *ask.pick(&[2, 1, 2, 3]));
    let value = value?;
    let hex = |value: i128| {
        let sign = if value < 0 { "-" } else { "" };
        format!("{sign}{:#x}", value.unsigned_abs())
    };
    let question = ask.say(
        || {
            format!(
                "Please solve this problem. Assume there is arbitrary bit depth and that there are signed integers. If the answer is negative, reply as a negative value (ex., -0x3), not the two's-compliment form. Reply only with the final hexidecimal value.\n{problem}"
            )
        },
        || format!("Calculate {problem}. Write the result in hexadecimal, as 0x1f or -0x3."),
    );
    Some(
        Puzzle::new(question, hex(value))
            .fact("problem", &problem)
            .decoys(vec![hex(value + 1), hex(value - 16), hex(-value)])
            .copy(problem),
    )
}

/// `int(text, 0)`: decimal, or with 0x, 0o, 0b in front; `_` between digits.
fn python_integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (digits, base) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0o") => (&lower[2..], 8),
        Some("0b") => (&lower[2..], 2),
        _ => (lower.as_str(), 10),
    };
    let led = if base == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    let broken = led.starts_with(['_', '+', '-']) || led.ends_with('_') || led.contains("__");
    if broken
        || (base == 10
            && led.len() > 1
            && led.starts_with('0')
            && !led.trim_matches('0').is_empty())
    {
        return None;
    }
    let value = i128::from_str_radix(&led.replace('_', ""), base).ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

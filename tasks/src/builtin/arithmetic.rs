//! Numbers: sums, differences, products, remainders, chains, progressions.

use super::{Builtin, Draft, Recipe};
use crate::{Draw, Reading};

const DIGITS: &str = "0123456789";

pub(super) fn all() -> Vec<Builtin> {
    let recipes = [
        Recipe {
            name: "add",
            summary: "the sum of two numbers",
            levels: [
                ("two digits and one", 810),
                ("two digits and two", 8_100),
                ("three digits and three", 810_000),
            ],
            alphabet: DIGITS,
            reading: Reading::Backward,
            draft: add,
        },
        Recipe {
            name: "sub",
            summary: "the difference of two numbers, never negative",
            levels: [
                ("two digits less one", 810),
                ("two digits less two", 4_095),
                ("three digits less three", 405_450),
            ],
            alphabet: DIGITS,
            reading: Reading::Backward,
            draft: sub,
        },
        Recipe {
            name: "mul",
            summary: "the product of a number and a digit",
            levels: [
                ("two digits by 2 to 5", 360),
                ("two digits by 2 to 9", 720),
                ("three digits by 2 to 9", 7_200),
            ],
            alphabet: DIGITS,
            reading: Reading::Backward,
            draft: mul,
        },
        Recipe {
            name: "mod",
            summary: "the remainder of a division",
            levels: [
                ("two digits by 2 to 5", 360),
                ("three digits by 3 to 7", 4_500),
                ("four digits by 3 to 9", 63_000),
            ],
            alphabet: DIGITS,
            reading: Reading::Forward,
            draft: modulo,
        },
        Recipe {
            name: "chain",
            summary: "a chain of additions and subtractions",
            levels: [
                ("three digits", 1_899),
                ("four digits", 30_036),
                ("a number and four digits", 9_289_167),
            ],
            alphabet: DIGITS,
            reading: Reading::Forward,
            draft: chain,
        },
        Recipe {
            name: "next",
            summary: "the next number of a progression",
            levels: [
                ("equal steps up", 450),
                ("equal steps up or down", 1_800),
                ("steps that grow", 1_620),
            ],
            alphabet: DIGITS,
            reading: Reading::Forward,
            draft: next,
        },
    ];
    recipes.into_iter().map(Builtin::from).collect()
}

/// The digits of a number, lowest first, at least `width` of them.
fn columns(mut value: u32, width: usize) -> Vec<u32> {
    let mut digits = Vec::new();
    while value > 0 || digits.len() < width {
        digits.push(value % 10);
        value /= 10;
    }
    digits
}

/// A number from its digits, lowest first.
fn number(columns: &[u32]) -> u32 {
    columns
        .iter()
        .rev()
        .fold(0, |value, digit| value * 10 + digit)
}

fn two(level: u8, draw: &mut Draw) -> (u32, u32) {
    match level {
        1 => (draw.between(10, 99), draw.between(1, 9)),
        2 => (draw.between(10, 99), draw.between(10, 99)),
        _ => (draw.between(100, 999), draw.between(100, 999)),
    }
}

/// `47+85`, by `7+5+0=12 4+8+1=13`: digit, digit, carry = carry and digit.
fn add(level: u8, draw: &mut Draw) -> Draft {
    let (left, right) = two(level, draw);
    let tops = columns(left, 1);
    let bottoms = columns(right, tops.len());
    let (mut carry, mut steps, mut careless) = (0, Vec::new(), Vec::new());
    for (top, bottom) in tops.iter().zip(&bottoms) {
        let sum = top + bottom + carry;
        steps.push(format!("{top}+{bottom}+{carry}={}{}", sum / 10, sum % 10));
        careless.push((top + bottom) % 10);
        carry = sum / 10;
    }
    careless.push(carry);
    let sum = left + right;
    Draft {
        question: format!("{left}+{right}"),
        answer: sum.to_string(),
        working: steps.join(" "),
        decoys: [number(&careless), sum + 10, sum.saturating_sub(10), sum + 1]
            .map(|wrong| wrong.to_string())
            .to_vec(),
    }
}

/// `52-27`, by `2-7-0=15 5-2-1=02`: digit, digit, borrow = borrow and digit.
fn sub(level: u8, draw: &mut Draw) -> Draft {
    let (one, other) = two(level, draw);
    let (left, right) = (one.max(other), one.min(other));
    let tops = columns(left, 1);
    let bottoms = columns(right, tops.len());
    let (mut borrow, mut steps, mut careless) = (0, Vec::new(), Vec::new());
    for (top, bottom) in tops.iter().zip(&bottoms) {
        let short = u32::from(*top < bottom + borrow);
        let digit = top + 10 * short - bottom - borrow;
        steps.push(format!("{top}-{bottom}-{borrow}={short}{digit}"));
        careless.push(top.abs_diff(*bottom));
        borrow = short;
    }
    let difference = left - right;
    Draft {
        question: format!("{left}-{right}"),
        answer: difference.to_string(),
        working: steps.join(" "),
        decoys: [number(&careless), difference + 10, difference + 1]
            .map(|wrong| wrong.to_string())
            .to_vec(),
    }
}

/// `47*8`, by `7*8+0=56 4*8+5=37`: digit, factor, carry = carry and digit.
fn mul(level: u8, draw: &mut Draw) -> Draft {
    let (left, factor) = match level {
        1 => (draw.between(10, 99), draw.between(2, 5)),
        2 => (draw.between(10, 99), draw.between(2, 9)),
        _ => (draw.between(100, 999), draw.between(2, 9)),
    };
    let (mut carry, mut steps) = (0, Vec::new());
    for digit in columns(left, 1) {
        let product = digit * factor + carry;
        steps.push(format!(
            "{digit}*{factor}+{carry}={}{}",
            product / 10,
            product % 10
        ));
        carry = product / 10;
    }
    let product = left * factor;
    Draft {
        question: format!("{left}*{factor}"),
        answer: product.to_string(),
        working: steps.join(" "),
        decoys: [
            product + factor,
            product - factor,
            product + 10,
            product - 10,
        ]
        .map(|wrong| wrong.to_string())
        .to_vec(),
    }
}

/// `47 5`, by `04=4 47=2`: what was left and the next digit = what is left.
fn modulo(level: u8, draw: &mut Draw) -> Draft {
    let (value, modulus) = match level {
        1 => (draw.between(10, 99), draw.between(2, 5)),
        2 => (draw.between(100, 999), draw.between(3, 7)),
        _ => (draw.between(1_000, 9_999), draw.between(3, 9)),
    };
    let (mut rest, mut steps) = (0, Vec::new());
    for digit in columns(value, 1).into_iter().rev() {
        let next = (rest * 10 + digit) % modulus;
        steps.push(format!("{rest}{digit}={next}"));
        rest = next;
    }
    Draft {
        question: format!("{value} {modulus}"),
        answer: rest.to_string(),
        working: steps.join(" "),
        decoys: (0..modulus).map(|wrong| wrong.to_string()).collect(),
    }
}

/// `7+5-3`, by `7+5=12 12-3=9`; never below zero on the way.
fn chain(level: u8, draw: &mut Draw) -> Draft {
    let (mut total, count) = match level {
        1 => (draw.between(1, 9), 2),
        2 => (draw.between(1, 9), 3),
        _ => (draw.between(10, 99), 4),
    };
    let mut question = total.to_string();
    let (mut steps, mut decoys) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let digit = draw.between(1, 9);
        let minus = draw.coin() && digit <= total;
        let (sign, next) = if minus {
            ('-', total - digit)
        } else {
            ('+', total + digit)
        };
        question.push_str(&format!("{sign}{digit}"));
        steps.push(format!("{total}{sign}{digit}={next}"));
        decoys = vec![total.to_string(), (next + 1).to_string()];
        total = next;
    }
    Draft {
        question,
        answer: total.to_string(),
        working: steps.join(" "),
        decoys,
    }
}

/// `3 7 11 15`, by `7-3=4 15+4=19`; where the steps grow, `3 5 8 12`, by the
/// last two and the one that follows, `8-5=3 12-8=4 4+1=5 12+5=17`.
fn next(level: u8, draw: &mut Draw) -> Draft {
    let (start, step, growth, down) = match level {
        1 => (draw.between(0, 49), draw.between(1, 9), 0, false),
        2 => (draw.between(0, 99), draw.between(1, 9), 0, draw.coin()),
        _ => (
            draw.between(0, 59),
            draw.between(1, 9),
            draw.between(1, 3),
            false,
        ),
    };
    let mut terms = vec![start];
    for index in 0..4 {
        terms.push(terms[index as usize] + step + growth * index);
    }
    if down {
        terms.reverse();
    }
    let (last, answer) = (terms[3], terms[4]);
    let apart = |from: usize| {
        let (low, high) = (terms[from], terms[from + 1]);
        format!("{}-{}={}", low.max(high), low.min(high), low.abs_diff(high))
    };
    let (sign, width) = (if down { '-' } else { '+' }, last.abs_diff(answer));
    let working = if growth == 0 {
        format!("{} {last}{sign}{width}={answer}", apart(0))
    } else {
        let (before, now) = (width - growth, width);
        format!(
            "{} {} {before}+{growth}={now} {last}+{now}={answer}",
            apart(1),
            apart(2)
        )
    };
    let shown: Vec<String> = terms[..4].iter().map(u32::to_string).collect();
    Draft {
        question: shown.join(" "),
        answer: answer.to_string(),
        working,
        decoys: vec![
            (last + step).to_string(),
            last.to_string(),
            (answer + 1).to_string(),
            (answer + width).to_string(),
        ],
    }
}

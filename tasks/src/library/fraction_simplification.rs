//! `fraction_simplification`.

use std::fmt::Display;

use super::{Ask, Puzzle, Random, Task, divisors::gcd, fact, read};
use crate::{Item, Ppm};

pub(super) const FRACTION_SIMPLIFICATION: Task = Task {
    name: "fraction_simplification",
    summary: "a fraction in lowest terms",
    levels: [
        ("terms to 20, factors 2 to 10", 500),
        ("terms to 100, factors 2 to 20", 30_000),
        ("terms to 1,000, factors 2 to 100", 10_000_000),
    ],
    alphabet: "0123456789/",
    answer_chars: 48,
    make: fraction_simplification,
    accepts: |item, answer| {
        let wanted = read_fraction(&item.reference);
        wanted.is_some() && wanted == read_fraction(answer)
    },
    upstream: upstream_score,
};

struct Configuration {
    value: (i64, i64),
    factor: (i64, i64),
}

fn fraction_simplification(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(value: (i64, i64), factor: (i64, i64)) -> Configuration {
        Configuration { value, factor }
    }
    const CONFIGURATIONS: [Configuration; 4] = [
        of((1, 1_000), (1, 100)),
        of((1, 20), (2, 10)),
        of((1, 100), (2, 20)),
        of((1, 1_000), (2, 100)),
    ];
    let Configuration { value, factor } = *ask.pick(&CONFIGURATIONS);
    // Divided by their common divisor they stay in range, as every range begins at 1.
    let (mut top, mut bottom) = (random.int(value.0, value.1), random.int(value.0, value.1));
    let common = i64::try_from(gcd(top.into(), bottom.into())).ok()?;
    (top, bottom) = (top / common, bottom / common);
    if top > bottom {
        (top, bottom) = (bottom, top);
    }
    let factor = random.int(factor.0, factor.1);
    let style = if ask.upstream { random.index(4) } else { 0 };
    let shown = write(style, top * factor, bottom * factor);
    let question = ask.say(
        || {
            format!(
                "Simplify the fraction {shown} to its lowest terms. Give only the simplified fraction as your final answer."
            )
        },
        || format!("Write the fraction {shown} in lowest terms, as 2/3."),
    );
    Some(
        Puzzle::new(question, write(style, top, bottom))
            .fact("numerator", top * factor)
            .fact("denominator", bottom * factor)
            .working(format!(
                "{} = {top} * {factor}, {} = {bottom} * {factor}",
                top * factor,
                bottom * factor
            ))
            .slips(slips),
    )
}

/// A fraction in one of four styles.
fn write(style: usize, top: impl Display, bottom: impl Display) -> String {
    match style {
        0 => format!("{top}/{bottom}"),
        1 => format!("${top}/{bottom}$"),
        2 => format!("$\\frac{{{top}}}{{{bottom}}}$"),
        _ => format!("$\\dfrac{{{top}}}{{{bottom}}}$"),
    }
}

/// Another fraction, the opposite one, and the one that was to be simplified:
/// no factor of ours is one, so that it is never right.
fn slips(item: &Item) -> Vec<String> {
    let Some((top, bottom)) = read_fraction(&item.reference) else {
        return Vec::new();
    };
    let style = match item.reference.as_bytes() {
        [b'$', b'\\', b'd', ..] => 3,
        [b'$', b'\\', ..] => 2,
        [b'$', ..] => 1,
        _ => 0,
    };
    vec![
        write(style, top, bottom + 1),
        write(style, bottom, top),
        write(style, fact(item, "numerator"), fact(item, "denominator")),
    ]
}

/// `a/b`, or in LaTeX, between dollars or not.
fn read_fraction(text: &str) -> Option<(i128, i128)> {
    let text = text.trim().trim_matches('$').trim();
    let integer = |digits: &str| {
        let digits = digits.trim();
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    if let Some(after) = text.strip_prefix('\\') {
        let lower = after.to_ascii_lowercase();
        let braces = ["dfrac", "frac"]
            .iter()
            .find_map(|name| lower.strip_prefix(name))?;
        let (top, rest) = braces.trim_start().strip_prefix('{')?.split_once('}')?;
        let (bottom, _) = rest.trim_start().strip_prefix('{')?.split_once('}')?;
        return integer(top).zip(integer(bottom));
    }
    let (top, bottom) = text.split_once('/')?;
    read::python_int(top).zip(read::python_int(bottom))
}

/// Upstream pays for half of the fraction left as it was, and a little for any
/// fraction and for anything at all.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let Some((top, bottom)) = read_fraction(answer) else {
        return Ppm(10_000);
    };
    let known = |name| fact(item, name).parse().ok();
    if Some((top, bottom)) == read_fraction(&item.reference) {
        Ppm::ONE
    } else if Some(top) == known("numerator") || Some(bottom) == known("denominator") {
        Ppm(100_000)
    } else {
        Ppm(50_000)
    }
}

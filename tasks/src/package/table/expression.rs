//! Whether two expressions are the same whatever their variables are.
//!
//! Both are computed at a few points of a prime field that their own text
//! draws. Two polynomials or fractions that differ agree at such a point once
//! in more than 10^15, and nothing is rounded.

use crate::{Draw, Seed};

/// 2^61 - 1.
const PRIME: u64 = (1 << 61) - 1;
/// Points at which both are computed.
const POINTS: usize = 3;
/// The longest expression that is read, in bytes.
const MAX_LENGTH: usize = 1_024;
/// Brackets within brackets.
const MAX_DEPTH: usize = 48;
/// The largest power.
const MAX_POWER: u64 = 1_000;

/// Whether both are expressions of one value; `None` if one is none.
pub(super) fn same(one: &str, other: &str) -> Option<bool> {
    let (one, other) = (plain(one)?, plain(other)?);
    let mut draw = Seed::derive(&[b"expression", one.as_bytes(), other.as_bytes()]).draw();
    for _ in 0..POINTS {
        let letters = point(&mut draw);
        if value(&one, &letters)? != value(&other, &letters)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether this is an expression at all.
pub(super) fn is_expression(text: &str) -> bool {
    same(text, text).is_some()
}

fn point(draw: &mut Draw) -> [u64; 26] {
    std::array::from_fn(|_| 1 + draw.below(PRIME - 1))
}

/// Without the marks of LaTeX that carry no meaning here, and without spaces.
fn plain(text: &str) -> Option<String> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let mut text = text.trim().trim_matches('$').to_owned();
    for (from, to) in [
        ("\\left", ""),
        ("\\right", ""),
        ("\\cdot", "*"),
        ("\\times", "*"),
        ("\\div", "/"),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\,", ""),
        ("**", "^"),
        ("\u{d7}", "*"),
        ("\u{f7}", "/"),
        ("\u{2212}", "-"),
    ] {
        text = text.replace(from, to);
    }
    // `\frac{a}{b}` is `((a)/(b))`.
    while let Some(at) = text.find("\\frac{") {
        let (above, rest) = braced(&text[at + 5..])?;
        let (below, rest) = braced(rest)?;
        text = format!("{}(({above})/({below})){rest}", &text[..at]);
        if text.len() > 2 * MAX_LENGTH {
            return None;
        }
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    Some(text.replace('{', "(").replace('}', ")"))
}

/// The inside of the braces a text begins with, and what follows them.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[1..at], &text[at + 1..]));
        }
    }
    None
}

fn value(text: &str, letters: &[u64; 26]) -> Option<u64> {
    let mut reader = Reader {
        rest: text.as_bytes(),
        letters,
        depth: 0,
    };
    let value = reader.sum()?;
    reader.rest.is_empty().then_some(value)
}

struct Reader<'a> {
    rest: &'a [u8],
    letters: &'a [u64; 26],
    depth: usize,
}

impl Reader<'_> {
    fn next(&mut self, wanted: u8) -> bool {
        let found = self.rest.first() == Some(&wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn sum(&mut self) -> Option<u64> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let mut total = self.product()?;
        loop {
            if self.next(b'+') {
                total = add(total, self.product()?);
            } else if self.next(b'-') {
                total = add(total, negate(self.product()?));
            } else {
                self.depth -= 1;
                return Some(total);
            }
        }
    }

    fn product(&mut self) -> Option<u64> {
        let mut total = self.signed()?;
        loop {
            if self.next(b'*') {
                total = multiply(total, self.signed()?);
            } else if self.next(b'/') {
                total = multiply(total, inverse(self.signed()?)?);
            } else if self
                .rest
                .first()
                .is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'(')
            {
                // `2x` and `2(x+1)`.
                total = multiply(total, self.power()?);
            } else {
                return Some(total);
            }
        }
    }

    fn signed(&mut self) -> Option<u64> {
        let mut negative = false;
        loop {
            if self.next(b'-') {
                negative = !negative;
            } else if !self.next(b'+') {
                break;
            }
        }
        let value = self.power()?;
        Some(if negative { negate(value) } else { value })
    }

    fn power(&mut self) -> Option<u64> {
        let base = self.atom()?;
        if !self.next(b'^') {
            return Some(base);
        }
        let bracketed = self.next(b'(');
        let negative = self.next(b'-');
        let exponent = self.integer()?;
        if (bracketed && !self.next(b')')) || exponent > MAX_POWER {
            return None;
        }
        let base = if negative { inverse(base)? } else { base };
        Some(raise(base, exponent))
    }

    fn integer(&mut self) -> Option<u64> {
        let count = self.rest.iter().take_while(|c| c.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    fn atom(&mut self) -> Option<u64> {
        if self.next(b'(') {
            let value = self.sum()?;
            return self.next(b')').then_some(value);
        }
        let first = *self.rest.first()?;
        if first.is_ascii_alphabetic() {
            self.rest = &self.rest[1..];
            // Capital and small letters are other variables.
            let index = usize::from(first.to_ascii_lowercase() - b'a');
            let small = self.letters[index];
            return Some(if first.is_ascii_uppercase() {
                multiply(small, add(small, 1))
            } else {
                small
            });
        }
        let mut value = 0;
        let mut digits = 0;
        let mut places = None;
        while let Some(&c) = self.rest.first() {
            match c {
                b'0'..=b'9' => {
                    value = add(multiply(value, 10), u64::from(c - b'0'));
                    digits += 1;
                    places = places.map(|places: u64| places + 1);
                }
                b'.' if places.is_none() => places = Some(0),
                b',' if places.is_none() && digits > 0 => {}
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        if digits == 0 {
            return None;
        }
        Some(multiply(value, inverse(raise(10, places.unwrap_or(0)))?))
    }
}

fn add(one: u64, other: u64) -> u64 {
    (one + other) % PRIME
}

fn negate(value: u64) -> u64 {
    (PRIME - value) % PRIME
}

fn multiply(one: u64, other: u64) -> u64 {
    // The remainder fits: it is less than the prime.
    (u128::from(one) * u128::from(other) % u128::from(PRIME)) as u64
}

fn raise(mut base: u64, mut exponent: u64) -> u64 {
    let mut value = 1;
    while exponent > 0 {
        if exponent % 2 == 1 {
            value = multiply(value, base);
        }
        base = multiply(base, base);
        exponent /= 2;
    }
    value
}

/// `None` of zero.
fn inverse(value: u64) -> Option<u64> {
    (value != 0).then(|| raise(value, PRIME - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_expressions_are_the_same() {
        for (one, other) in [
            ("(x+1)^2", "x^2 + 2x + 1"),
            ("2(x+1)", "2*x+2"),
            ("\\frac{1}{2}", "0.5"),
            ("\\frac{x}{\\frac{1}{y}}", "x*y"),
            ("$-3$", "3-6"),
            ("1,000", "10^3"),
            ("x^{-1}", "1/x"),
            ("a-b", "-(b-a)"),
        ] {
            assert_eq!(same(one, other), Some(true), "{one} {other}");
        }
    }

    #[test]
    fn others_are_not_and_text_is_none() {
        for (one, other) in [
            ("x", "y"),
            ("x", "X"),
            ("x^2", "x^3"),
            ("0.3333", "1/3"),
            ("2", "3"),
        ] {
            assert_eq!(same(one, other), Some(false), "{one} {other}");
        }
        let deep = "(".repeat(500) + "1" + &")".repeat(500);
        for text in [
            "",
            "x+",
            "1/0",
            "sqrt{",
            "2^x",
            "x^99999",
            "\\frac{1}",
            "}{",
            &deep,
        ] {
            assert!(!is_expression(text), "{text}");
        }
    }
}

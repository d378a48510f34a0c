//! `decimal_arithmetic`: sums, products and quotients of decimal fractions.
//!
//! Upstream calculates with Python's `decimal` to twelve significant digits,
//! half to even, says "rounding up from the half", and accepts what is within a
//! thousandth, so `0` passes for every small result. Ours calculates exactly,
//! asks for a stated number of decimals, and accepts only that.

use super::{Ask, Puzzle, Random, Task, divisors::gcd, read};
use crate::{Item, Ppm};

pub(super) const DECIMAL_ARITHMETIC: Task = Task {
    name: "decimal_arithmetic",
    summary: "an expression of decimal fractions",
    levels: [
        ("two terms of one decimal", 30_000),
        ("two or three terms of two decimals", 3_000_000),
        ("three to five terms of three decimals", 1_000_000_000),
    ],
    alphabet: "-.0123456789",
    answer_chars: 48,
    make: decimal_arithmetic,
    accepts: read::number,
    upstream: upstream_score,
};

/// Significant digits of upstream's arithmetic.
const PRECISION: u32 = 12;

struct Configuration {
    decimals: u32,
    terms: (usize, usize),
}

/// Upstream raises what this refuses: a division by zero.
fn decimal_arithmetic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(decimals: u32, terms: (usize, usize)) -> Configuration {
        Configuration { decimals, terms }
    }
    const CONFIGURATIONS: [Configuration; 4] =
        [of(3, (2, 6)), of(1, (2, 2)), of(2, (2, 3)), of(3, (3, 5))];
    let Configuration { decimals, terms } = *ask.pick(&CONFIGURATIONS);
    let count = random.size(terms);
    let scale = 10i64.pow(decimals);
    let (mut operands, mut signs) = (Vec::new(), Vec::new());
    for index in 0..count {
        // Upstream draws the number of decimals from a range of one.
        random.int(decimals.into(), decimals.into());
        operands.push(random.int(1, 10 * scale));
        if index + 1 < count {
            signs.push(*random.choice(&['+', '-', '*', '/']));
        }
    }
    let width = decimals as usize;
    let shown: Vec<String> = operands
        .iter()
        .map(|raw| format!("{}.{:0width$}", raw / scale, raw % scale))
        .collect();
    let expression = grouped(&shown, &signs, random);
    let (question, answer) = if ask.upstream {
        let value = evaluate(&expression, &Python)?;
        let question = format!(
            "Please solve this problem to a maximum of {PRECISION} significant digits, rounding up from the half. Only reply with the final value.\n{expression} = ?"
        );
        (question, value.to_string())
    } else {
        let value = evaluate(&expression, &Exact)?;
        let question = format!(
            "Calculate {expression}. Round the result to {decimals} decimals, halves away from zero."
        );
        (question, value.rounded(decimals)?)
    };
    let decoys = [1, -1, 10]
        .iter()
        .filter_map(|step| off_by(&answer, *step))
        .collect();
    Some(Puzzle::new(question, answer).decoys(decoys))
}

/// The number with its last digits changed.
fn off_by(number: &str, step: i128) -> Option<String> {
    let (whole, fraction) = number.split_once('.')?;
    let raw: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let moved = raw + step;
    let sign = if moved < 0 { "-" } else { "" };
    let (whole, rest) = (moved.abs() / scale, moved.abs() % scale);
    Some(format!(
        "{sign}{whole}.{rest:0width$}",
        width = fraction.len()
    ))
}

/// The operands with brackets around groups drawn at random.
fn grouped(operands: &[String], signs: &[char], random: &mut Random) -> String {
    if operands.len() == 1 {
        return operands[0].clone();
    }
    let split = random.size((1, operands.len() - 1));
    let left = grouped(&operands[..split], &signs[..split - 1], random);
    let right = grouped(&operands[split..], &signs[split..], random);
    let joined = format!("{left}{}{right}", signs[split - 1]);
    if *random.choice(&[true, false]) {
        format!("({joined})")
    } else {
        joined
    }
}

/// What numbers are, for [`evaluate`].
trait Field {
    type Number;
    fn literal(&self, raw: i128, decimals: u32) -> Option<Self::Number>;
    fn operate(&self, sign: char, a: Self::Number, b: Self::Number) -> Option<Self::Number>;
}

/// The value of an expression that [`grouped`] wrote.
fn evaluate<F: Field>(text: &str, field: &F) -> Option<F::Number> {
    let mut rest = text;
    let value = sum(&mut rest, field)?;
    rest.is_empty().then_some(value)
}

fn next(rest: &mut &str, wanted: &[char]) -> Option<char> {
    let sign = rest.chars().next().filter(|c| wanted.contains(c))?;
    *rest = &rest[1..];
    Some(sign)
}

fn sum<F: Field>(rest: &mut &str, field: &F) -> Option<F::Number> {
    let mut value = product(rest, field)?;
    while let Some(sign) = next(rest, &['+', '-']) {
        value = field.operate(sign, value, product(rest, field)?)?;
    }
    Some(value)
}

fn product<F: Field>(rest: &mut &str, field: &F) -> Option<F::Number> {
    let mut value = operand(rest, field)?;
    while let Some(sign) = next(rest, &['*', '/']) {
        value = field.operate(sign, value, operand(rest, field)?)?;
    }
    Some(value)
}

fn operand<F: Field>(rest: &mut &str, field: &F) -> Option<F::Number> {
    if next(rest, &['(']).is_some() {
        let value = sum(rest, field)?;
        return next(rest, &[')']).map(|_| value);
    }
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(rest.len());
    let (number, after) = rest.split_at(end);
    *rest = after;
    let (whole, fraction) = number.split_once('.')?;
    let raw = format!("{whole}{fraction}").parse().ok()?;
    field.literal(raw, u32::try_from(fraction.len()).ok()?)
}

/// Exact fractions.
struct Exact;

/// A fraction in lowest terms, the bottom positive.
struct Fraction {
    top: i128,
    bottom: i128,
}

impl Field for Exact {
    type Number = Fraction;

    fn literal(&self, raw: i128, decimals: u32) -> Option<Fraction> {
        Fraction::new(raw, 10i128.checked_pow(decimals)?)
    }

    fn operate(&self, sign: char, a: Fraction, b: Fraction) -> Option<Fraction> {
        let cross = a.top.checked_mul(b.bottom)?;
        let other = b.top.checked_mul(a.bottom)?;
        let bottom = a.bottom.checked_mul(b.bottom);
        match sign {
            '+' => Fraction::new(cross.checked_add(other)?, bottom?),
            '-' => Fraction::new(cross.checked_sub(other)?, bottom?),
            '*' => Fraction::new(a.top.checked_mul(b.top)?, bottom?),
            _ => Fraction::new(cross, other),
        }
    }
}

impl Fraction {
    fn new(top: i128, bottom: i128) -> Option<Fraction> {
        if bottom == 0 {
            return None;
        }
        let common = gcd(top, bottom).max(1) * bottom.signum();
        Some(Fraction {
            top: top / common,
            bottom: bottom / common,
        })
    }

    /// With this many decimals, halves away from zero.
    fn rounded(&self, decimals: u32) -> Option<String> {
        let scale = 10i128.checked_pow(decimals)?;
        let double = self
            .top
            .unsigned_abs()
            .checked_mul(2 * scale.unsigned_abs())?;
        let bottom = self.bottom.unsigned_abs();
        let raw = double.checked_add(bottom)? / bottom.checked_mul(2)?;
        let sign = if self.top < 0 && raw > 0 { "-" } else { "" };
        let (whole, rest) = (raw / scale.unsigned_abs(), raw % scale.unsigned_abs());
        Some(format!(
            "{sign}{whole}.{rest:0width$}",
            width = decimals as usize
        ))
    }
}

/// Python's `decimal` with twelve digits, half to even.
struct Python;

/// `(-1)^negative * digits * 10^exponent`.
#[derive(Clone, Copy)]
struct Rounded {
    negative: bool,
    digits: i128,
    exponent: i64,
}

fn length(digits: i128) -> i64 {
    digits.checked_ilog10().map_or(1, |log| i64::from(log) + 1)
}

impl Rounded {
    /// Rounded to the precision, half to even.
    fn fixed(negative: bool, mut digits: i128, mut exponent: i64) -> Rounded {
        let over = length(digits) - i64::from(PRECISION);
        if over > 0 {
            let unit = 10i128.pow(u32::try_from(over).unwrap_or(0));
            let (down, rest) = (digits / unit, digits % unit);
            let up = rest * 2 > unit || (rest * 2 == unit && down % 2 == 1);
            digits = down + i128::from(up);
            exponent += over;
            if length(digits) > i64::from(PRECISION) {
                digits /= 10;
                exponent += 1;
            }
        }
        Rounded {
            negative,
            digits,
            exponent,
        }
    }

    fn add(self, other: Rounded) -> Option<Rounded> {
        let exponent = self.exponent.min(other.exponent);
        match (self.digits, other.digits) {
            (0, 0) => {
                let negative = self.negative && other.negative;
                return Some(Rounded::fixed(negative, 0, exponent));
            }
            (0, _) => return Some(other.lowered(exponent)),
            (_, 0) => return Some(self.lowered(exponent)),
            _ => {}
        }
        // What is too small to matter is as good as one far below the last digit.
        let (high, mut low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let precision = i64::from(PRECISION);
        let least = high.exponent + (-1).min(length(high.digits) - precision - 2);
        if length(low.digits) + low.exponent - 1 < least {
            low.digits = 1;
            low.exponent = least;
        }
        let shift = u32::try_from(high.exponent - low.exponent).ok()?;
        let signed = |number: Rounded, digits: i128| if number.negative { -digits } else { digits };
        let raised = high.digits.checked_mul(10i128.checked_pow(shift)?)?;
        let sum = signed(high, raised).checked_add(signed(low, low.digits))?;
        Some(Rounded::fixed(sum < 0, sum.abs(), low.exponent))
    }

    /// The same number with an exponent as low as this, digits allowing.
    fn lowered(self, exponent: i64) -> Rounded {
        let exponent = exponent.max(self.exponent - i64::from(PRECISION) - 1);
        let shift = u32::try_from(self.exponent - exponent).unwrap_or(0);
        match self.digits.checked_mul(10i128.pow(shift.min(38))) {
            Some(digits) => Rounded::fixed(self.negative, digits, exponent),
            None => self,
        }
    }

    fn divide(self, other: Rounded) -> Option<Rounded> {
        if other.digits == 0 {
            return None;
        }
        let negative = self.negative != other.negative;
        let ideal = self.exponent - other.exponent;
        if self.digits == 0 {
            return Some(Rounded::fixed(negative, 0, ideal));
        }
        let shift = length(other.digits) - length(self.digits) + i64::from(PRECISION) + 1;
        let mut exponent = ideal - shift;
        let power = 10i128.checked_pow(u32::try_from(shift.abs()).ok()?)?;
        let (top, bottom) = if shift >= 0 {
            (self.digits.checked_mul(power)?, other.digits)
        } else {
            (self.digits, other.digits.checked_mul(power)?)
        };
        let (mut digits, rest) = (top / bottom, top % bottom);
        if rest != 0 {
            // A last digit that no rounding takes for a half.
            digits += i128::from(digits % 5 == 0);
        } else {
            while exponent < ideal && digits % 10 == 0 {
                digits /= 10;
                exponent += 1;
            }
        }
        Some(Rounded::fixed(negative, digits, exponent))
    }
}

impl std::fmt::Display for Rounded {
    /// Python's `to-scientific-string`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.digits.to_string();
        let sign = if self.negative { "-" } else { "" };
        let left = self.exponent + digits.len() as i64;
        let point = if self.exponent <= 0 && left > -6 {
            left
        } else {
            1
        };
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
        let at = usize::try_from(point).unwrap_or(0);
        let plain = if point <= 0 {
            format!("0.{}{digits}", zeros(-point))
        } else if at >= digits.len() {
            format!("{digits}{}", zeros(point - digits.len() as i64))
        } else {
            format!("{}.{}", &digits[..at], &digits[at..])
        };
        if left == point {
            write!(f, "{sign}{plain}")
        } else {
            write!(f, "{sign}{plain}E{:+}", left - point)
        }
    }
}

impl Field for Python {
    type Number = Rounded;

    /// Read as a float first, so that zeros at the end are lost.
    fn literal(&self, mut raw: i128, mut decimals: u32) -> Option<Rounded> {
        while decimals > 1 && raw % 10 == 0 {
            (raw, decimals) = (raw / 10, decimals - 1);
        }
        Some(Rounded {
            negative: false,
            digits: raw,
            exponent: -i64::from(decimals),
        })
    }

    fn operate(&self, sign: char, a: Rounded, b: Rounded) -> Option<Rounded> {
        match sign {
            '+' => a.add(b),
            '-' => a.add(Rounded {
                negative: !b.negative,
                ..b
            }),
            '*' => Some(Rounded::fixed(
                a.negative != b.negative,
                a.digits.checked_mul(b.digits)?,
                a.exponent + b.exponent,
            )),
            _ => a.divide(b),
        }
    }
}

/// Within a thousandth, as decimals of twelve digits. Answers of more than
/// twenty digits are not read; upstream reads any.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let read = |text: &str| {
        let (negative, digits, exponent) = read::Decimal::python(text)?.parts()?;
        let digits = i128::try_from(digits).ok().filter(|d| length(*d) <= 20)?;
        Some(Rounded {
            negative,
            digits,
            exponent,
        })
    };
    let near = read(answer)
        .zip(read(&item.reference))
        .and_then(|(answer, right)| {
            let away = answer.add(Rounded {
                negative: !right.negative,
                ..right
            })?;
            let size = i64::from(away.digits != 0) * (length(away.digits) + away.exponent);
            // Below a thousandth by its size, or a thousandth itself.
            let thousandth = away.digits.to_string().trim_end_matches('0') == "1" && size == -2;
            Some(away.digits == 0 || size < -2 || thousandth)
        });
    Ppm::from(near == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_result_is_rounded_away_from_zero() {
        let rounded = |text, decimals| evaluate(text, &Exact).unwrap().rounded(decimals).unwrap();
        assert_eq!(rounded("1.0/8.0", 2), "0.13");
        assert_eq!(rounded("1.0-2.0/16.0*9.0", 2), "-0.13");
        assert_eq!(rounded("(1.5+2.5)*2.0", 1), "8.0");
        assert_eq!(rounded("1.000-1.001", 2), "0.00");
        assert!(evaluate("1.0/(2.0-2.0)", &Exact).is_none());
    }

    /// `str(evaluate_expression(text))` of upstream, with `getcontext().prec = 12`.
    #[test]
    fn upstreams_result_is_that_of_pythons_decimal() {
        let shown = |text| evaluate(text, &Python).unwrap().to_string();
        assert_eq!(shown("1.000/3.000"), "0.333333333333");
        assert_eq!(shown("1.000*3.000"), "3.00");
        assert_eq!(shown("2.000/4.000"), "0.5");
        assert_eq!(shown("0.001*0.001*0.001"), "1E-9");
        assert_eq!(shown("1.000-1.000"), "0.0");
        assert_eq!(shown("(1.000-1.000)/0.001"), "0E+2");
    }
}

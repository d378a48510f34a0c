//! Python's values, as far as the templates use them.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

use crate::library::divisors::gcd;

/// A text of a template, which is there for as long as the program runs, or one
/// that was made of them.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Fixed(&'static str),
    Made(Arc<String>),
}

impl Deref for Piece {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Piece::Fixed(text) => text,
            Piece::Made(text) => text,
        }
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        **self == **other
    }
}

impl From<Piece> for String {
    fn from(piece: Piece) -> String {
        match piece {
            Piece::Fixed(text) => text.to_owned(),
            Piece::Made(text) => Arc::unwrap_or_clone(text),
        }
    }
}

/// A value. Numbers that do not fit make a program fail, as an error of
/// Python's does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// In lowest terms, the bottom positive. Few templates have any.
    Fraction(Box<Ratio>),
    Text(Piece),
    List(Arc<Vec<Value>>),
    Dict(Arc<Vec<(Value, Value)>>),
}

/// Top and bottom of a fraction.
pub(super) type Ratio = (i128, i128);

use Value::{Bool, Dict, Float, Fraction, Int, List, None as Nothing, Text};

impl Value {
    pub(super) fn text(text: String) -> Value {
        Text(Piece::Made(Arc::new(text)))
    }

    /// A text of a template: templates are read once, and kept.
    pub(super) fn fixed(text: String) -> Value {
        Text(Piece::Fixed(text.leak()))
    }

    /// Adds to the end of a text.
    pub(super) fn extend(&mut self, more: &str) -> Option<()> {
        let Text(piece) = self else {
            return None;
        };
        match piece {
            Piece::Fixed(text) => *piece = Piece::Made(Arc::new([*text, more].concat())),
            Piece::Made(text) => Arc::make_mut(text).push_str(more),
        }
        Some(())
    }

    pub(super) fn list(list: Vec<Value>) -> Value {
        List(Arc::new(list))
    }

    pub(super) fn fraction(top: i128, bottom: i128) -> Option<Value> {
        if bottom == 0 {
            return None;
        }
        let common = gcd(top, bottom) * bottom.signum();
        Some(Fraction(Box::new((top / common, bottom / common))))
    }

    /// `a/b`, as `Fraction` and `eval` read it.
    pub(super) fn ratio(text: &str) -> Option<Ratio> {
        let (top, bottom) = text.split_once('/').unwrap_or((text, "1"));
        Some((top.trim().parse().ok()?, bottom.trim().parse().ok()?))
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Nothing => false,
            Bool(value) => *value,
            Int(value) => *value != 0,
            Float(value) => *value != 0.0,
            Fraction(ratio) => ratio.0 != 0,
            Text(text) => !text.is_empty(),
            List(list) => !list.is_empty(),
            Dict(pairs) => !pairs.is_empty(),
        }
    }

    pub(super) fn float(&self) -> Option<f64> {
        match self {
            Bool(value) => Some(f64::from(u8::from(*value))),
            Int(value) => Some(*value as f64),
            Float(value) => Some(*value),
            Fraction(ratio) => Some(ratio.0 as f64 / ratio.1 as f64),
            _ => None,
        }
    }

    /// Top and bottom, where it is a whole number or a fraction.
    pub(super) fn exact(&self) -> Option<Ratio> {
        match self {
            Bool(value) => Some((i128::from(*value), 1)),
            Int(value) => Some((i128::from(*value), 1)),
            Fraction(ratio) => Some(**ratio),
            _ => None,
        }
    }

    /// As `int` makes it whole: toward zero.
    pub(super) fn int(&self) -> Option<i64> {
        match self {
            Int(value) => Some(*value),
            Float(value) => whole(value.trunc()),
            Text(text) => text.trim().parse().ok(),
            _ => self.exact().and_then(|(top, bottom)| short(top / bottom)),
        }
    }

    /// A whole number, whatever it is kept as.
    pub(super) fn index(&self) -> Option<i64> {
        match self {
            Float(value) if value.fract() == 0.0 => whole(*value),
            Bool(_) | Int(_) => self.int(),
            _ => None,
        }
    }

    pub(super) fn is_integer(&self) -> Option<bool> {
        match self {
            Float(value) => Some(value.is_finite() && value.fract() == 0.0),
            _ => self.exact().map(|(_, bottom)| bottom == 1),
        }
    }

    /// Writes it as `str` does.
    pub(super) fn write(&self, text: &mut String) -> Option<()> {
        match self {
            Nothing => text.push_str("None"),
            Bool(value) => text.push_str(if *value { "True" } else { "False" }),
            Text(piece) => text.push_str(piece),
            Int(value) => write_int(*value, text),
            Float(value) => match whole(*value) {
                // Not a zero below zero.
                Some(whole) if (whole as f64).to_bits() == value.to_bits() && whole < 1_000_000 => {
                    write_int(whole, text);
                    text.push_str(".0");
                }
                _ => {
                    let _ = write!(text, "{value:?}");
                }
            },
            Fraction(ratio) => {
                let (top, bottom) = **ratio;
                let _ = match bottom {
                    1 => write!(text, "{top}"),
                    _ => write!(text, "{top}/{bottom}"),
                };
            }
            List(_) | Dict(_) => return None,
        }
        Some(())
    }

    /// As `str` writes it.
    pub(super) fn shown(&self) -> Option<String> {
        let mut text = String::new();
        self.write(&mut text)?;
        Some(text)
    }

    /// As `format(value, spec)` writes it.
    pub(super) fn formatted(&self, spec: &str) -> Option<String> {
        match spec {
            "," => {
                let shown = self.shown()?;
                let (whole, fraction) = match shown.split_once('.') {
                    Some((whole, fraction)) => (whole, format!(".{fraction}")),
                    None => (shown.as_str(), String::new()),
                };
                let digits = whole.trim_start_matches('-');
                let mut grouped = String::new();
                for (at, digit) in digits.chars().enumerate() {
                    if at > 0 && (digits.len() - at).is_multiple_of(3) {
                        grouped.push(',');
                    }
                    grouped.push(digit);
                }
                let sign = if whole.starts_with('-') { "-" } else { "" };
                Some(format!("{sign}{grouped}{fraction}"))
            }
            ".0%" => Some(format!("{:.0}%", self.float()? * 100.0)),
            ".0f" => Some(format!("{:.0}", self.float()?)),
            ".1f" => Some(format!("{:.1}", self.float()?)),
            ".2f" => Some(format!("{:.2}", self.float()?)),
            _ => None,
        }
    }

    /// Upstream's `format_number`, which fails on more than two decimals.
    pub(super) fn number(&self) -> Option<String> {
        let value = match self {
            Float(value) if value.fract() != 0.0 => *value,
            Float(_) | Int(_) | Bool(_) => return Some(self.int()?.to_string()),
            _ => return None,
        };
        let shown = self.shown()?;
        let decimals = shown
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len());
        if shown.contains('e') || decimals > 2 {
            return None;
        }
        let text = format!("{value:.2}");
        Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
    }

    pub(super) fn add(&self, other: &Value) -> Option<Value> {
        match (self, other) {
            (Int(a), Int(b)) => a.checked_add(*b).map(Int),
            (Text(a), Text(b)) => Some(Value::text([&**a, &**b].concat())),
            (List(a), List(b)) => Some(Value::list([a.as_slice(), b.as_slice()].concat())),
            _ => self.arithmetic(
                other,
                |a, b| a + b,
                |a, b| {
                    let sum = a.0.checked_mul(b.1)?.checked_add(b.0.checked_mul(a.1)?)?;
                    Some((sum, a.1.checked_mul(b.1)?))
                },
            ),
        }
    }

    pub(super) fn subtract(&self, other: &Value) -> Option<Value> {
        if let (Int(a), Int(b)) = (self, other) {
            return a.checked_sub(*b).map(Int);
        }
        self.arithmetic(
            other,
            |a, b| a - b,
            |a, b| {
                let difference = a.0.checked_mul(b.1)?.checked_sub(b.0.checked_mul(a.1)?)?;
                Some((difference, a.1.checked_mul(b.1)?))
            },
        )
    }

    pub(super) fn multiply(&self, other: &Value) -> Option<Value> {
        if let (Int(a), Int(b)) = (self, other) {
            return a.checked_mul(*b).map(Int);
        }
        self.arithmetic(
            other,
            |a, b| a * b,
            |a, b| Some((a.0.checked_mul(b.0)?, a.1.checked_mul(b.1)?)),
        )
    }

    pub(super) fn divide(&self, other: &Value) -> Option<Value> {
        match (self, other) {
            (Int(_) | Bool(_) | Float(_), Int(_) | Bool(_) | Float(_)) => {
                let (a, b) = (self.float()?, other.float()?);
                (b != 0.0).then_some(Float(a / b))
            }
            _ => self.arithmetic(
                other,
                |a, b| a / b,
                |a, b| Some((a.0.checked_mul(b.1)?, a.1.checked_mul(b.0)?)),
            ),
        }
    }

    /// `//` and `%`: rounded down, and what is left.
    pub(super) fn divide_down(&self, other: &Value) -> Option<(Value, Value)> {
        if let (Int(a), Int(b)) = (self, other) {
            let (down, rest) = divide_down(*a, *b)?;
            return Some((Int(down), Int(rest)));
        }
        if let (Some(a), Some(b)) = (self.exact(), other.exact()) {
            let (top, bottom) = (a.0.checked_mul(b.1)?, a.1.checked_mul(b.0)?);
            let rest = top.checked_rem(bottom)?;
            let down = top / bottom - i128::from(rest != 0 && (rest < 0) != (bottom < 0));
            let quotient = Int(short(down)?);
            let rest = self.subtract(&quotient.multiply(other)?)?;
            return Some((quotient, rest));
        }
        let (a, b) = (self.float()?, other.float()?);
        if b == 0.0 {
            return None;
        }
        let mut rest = a % b;
        let mut quotient = (a - rest) / b;
        if rest != 0.0 && (b < 0.0) != (rest < 0.0) {
            rest += b;
            quotient -= 1.0;
        }
        let floor = quotient.floor();
        let floor = if quotient - floor > 0.5 {
            floor + 1.0
        } else {
            floor
        };
        Some((Float(floor), Float(rest)))
    }

    /// `**`, of which the templates have the third root only. Of a cube it is
    /// what a C library gives, whose last digit no other is bound to.
    pub(super) fn power(&self, other: &Value) -> Option<Value> {
        let (base, exponent) = (self.float()?, other.float()?);
        if exponent != 1.0 / 3.0 || base < 0.0 {
            return None;
        }
        let root = base.powf(exponent);
        let near = root.round();
        Some(Float(if near * near * near != base {
            root
        } else if near < 4.0 {
            near
        } else {
            near.next_down()
        }))
    }

    fn arithmetic(
        &self,
        other: &Value,
        floats: fn(f64, f64) -> f64,
        exactly: fn(Ratio, Ratio) -> Option<Ratio>,
    ) -> Option<Value> {
        if let (Some(a), Some(b)) = (self.exact(), other.exact()) {
            let (top, bottom) = exactly(a, b)?;
            let fractions = matches!(self, Fraction(_)) || matches!(other, Fraction(_));
            return if fractions {
                Value::fraction(top, bottom)
            } else {
                short(top).map(Int)
            };
        }
        Some(Float(floats(self.float()?, other.float()?)))
    }

    /// The order of two numbers; texts and the rest are only equal or not.
    pub(super) fn order(&self, other: &Value) -> Option<std::cmp::Ordering> {
        if let (Int(a), Int(b)) = (self, other) {
            return Some(a.cmp(b));
        }
        if let (Some(a), Some(b)) = (self.exact(), other.exact()) {
            return Some(a.0.checked_mul(b.1)?.cmp(&b.0.checked_mul(a.1)?));
        }
        match (self.float(), other.float()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => (self == other).then_some(std::cmp::Ordering::Equal),
        }
    }

    pub(super) fn equals(&self, other: &Value) -> bool {
        if let (Text(one), Text(other)) = (self, other) {
            return one == other;
        }
        self.order(other) == Some(std::cmp::Ordering::Equal)
    }

    /// An element by its place or its key.
    pub(super) fn at(&self, key: &Value) -> Option<Value> {
        match self {
            List(list) => {
                let at = key.index()?;
                let at = if at < 0 { at + list.len() as i64 } else { at };
                list.get(usize::try_from(at).ok()?).cloned()
            }
            Text(text) => {
                let letter = text.chars().nth(usize::try_from(key.index()?).ok()?)?;
                Some(Value::text(letter.to_string()))
            }
            Dict(pairs) => pairs
                .iter()
                .find(|(known, _)| known.equals(key))
                .map(|(_, value)| value.clone()),
            _ => None,
        }
    }

    /// What a loop goes over.
    pub(super) fn elements(self) -> Option<Vec<Value>> {
        match self {
            List(list) => Some(Arc::unwrap_or_clone(list)),
            Dict(pairs) => Some(pairs.iter().map(|(key, _)| key.clone()).collect()),
            _ => None,
        }
    }
}

/// A float as a whole number, where it is of a size that the templates have.
fn whole(value: f64) -> Option<i64> {
    (value.abs() < 1e18).then_some(value as i64)
}

fn short(value: i128) -> Option<i64> {
    i64::try_from(value).ok()
}

/// `//` and `%` of whole numbers.
pub(super) fn divide_down(a: i64, b: i64) -> Option<(i64, i64)> {
    let rest = a.checked_rem(b)?;
    let off = i64::from(rest != 0 && (rest < 0) != (b < 0));
    Some((a / b - off, rest + off * b))
}

/// Writes a whole number, as a formatter does and without one.
fn write_int(value: i64, text: &mut String) {
    if let Ok(digit @ 0..10) = u8::try_from(value) {
        text.push(char::from(b'0' + digit));
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        text.push('-');
    }
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

//! What the functions of a template give that draw nothing.

use std::cmp::Ordering;
use std::sync::Arc;

use super::program::{Comparison, Function};
use super::value::Value;

/// The longest list that is made.
const LONGEST: i64 = 100_000;

impl Function {
    pub(super) fn is_arithmetic(self) -> bool {
        use Function::{Add, Divide, DivideDown, Multiply, Remainder, Subtract};
        matches!(
            self,
            Add | Subtract | Multiply | Divide | DivideDown | Remainder
        )
    }

    pub(super) fn is_drawn(self) -> bool {
        use Function::{Choice, RandInt, RandRange, Random, Sample, Uniform};
        matches!(
            self,
            RandInt | RandRange | Choice | Sample | Uniform | Random
        )
    }
}

/// A function of one argument that draws nothing.
pub(super) fn apply_one(function: Function, a: &Value) -> Option<Value> {
    match function {
        Function::Negate => Value::Int(0).subtract(a),
        Function::Not => Some(Value::Bool(!a.is_true())),
        Function::Int => Some(Value::Int(a.int()?)),
        Function::Float => match a {
            Value::Text(text) => Some(Value::Float(text.trim().parse().ok()?)),
            a => Some(Value::Float(a.float()?)),
        },
        Function::Round => match a {
            Value::Float(a) => Value::Float(a.round_ties_even()).int().map(Value::Int),
            a @ Value::Int(_) => Some(a.clone()),
            _ => None,
        },
        Function::Min | Function::Max => match a {
            Value::List(list) => extreme(function, list),
            a => Some(a.clone()),
        },
        // A list of one list is not written in any template.
        Function::List => Some(Value::list(match a {
            Value::List(_) | Value::Dict(_) => a.clone().elements()?,
            one => vec![one.clone()],
        })),
        Function::Range => Some(Value::list(range(&[a])?.map(Value::Int).collect())),
        Function::Fraction => {
            let (top, bottom) = match a {
                Value::Text(text) => Value::ratio(text)?,
                a => a.exact()?,
            };
            Value::fraction(top, bottom)
        }
        Function::IsInteger | Function::FloatIsInteger => Some(Value::Bool(a.is_integer()?)),
        Function::FormatNumber => Some(Value::text(a.number()?)),
        Function::Str | Function::Text => {
            let mut text = String::new();
            a.write(&mut text)?;
            Some(Value::text(text))
        }
        Function::Eval => match a {
            Value::Text(text) => {
                let (top, bottom) = Value::ratio(text)?;
                (bottom != 0).then(|| Value::Float(top as f64 / bottom as f64))
            }
            _ => None,
        },
        Function::Len => match a {
            Value::List(list) => Some(Value::Int(list.len() as i64)),
            _ => None,
        },
        Function::Copy => Some(a.clone()),
        Function::Denominator => Some(Value::Int(i64::try_from(a.exact()?.1).ok()?)),
        Function::Lower => match a {
            Value::Text(text) => Some(Value::text(text.to_lowercase())),
            _ => None,
        },
        Function::Values => match a {
            Value::Dict(pairs) => Some(Value::list(
                pairs.iter().map(|(_, value)| value.clone()).collect(),
            )),
            _ => None,
        },
        _ => None,
    }
}

/// A function of two arguments that draws nothing.
pub(super) fn apply_two(function: Function, a: &Value, b: &Value) -> Option<Value> {
    match function {
        Function::Add => a.add(b),
        Function::Subtract => a.subtract(b),
        Function::Multiply => a.multiply(b),
        Function::Divide => a.divide(b),
        Function::DivideDown => Some(a.divide_down(b)?.0),
        Function::Remainder => Some(a.divide_down(b)?.1),
        Function::Power => a.power(b),
        Function::At => a.at(b),
        Function::Format => match b {
            Value::Text(spec) => Some(Value::text(a.formatted(spec)?)),
            _ => None,
        },
        Function::Round => match b {
            Value::Int(2) => Some(Value::Float(format!("{:.2}", a.float()?).parse().ok()?)),
            _ => None,
        },
        Function::Min | Function::Max => {
            let second = match b.order(a)? {
                Ordering::Less => function == Function::Min,
                Ordering::Greater => function == Function::Max,
                Ordering::Equal => false,
            };
            Some(if second { b } else { a }.clone())
        }
        Function::Fraction => {
            let ((a, c), (b, d)) = (a.exact()?, b.exact()?);
            Value::fraction(a.checked_mul(d)?, b.checked_mul(c)?)
        }
        Function::Range => Some(Value::list(range(&[a, b])?.map(Value::Int).collect())),
        Function::Gcd => match (a, b) {
            (Value::Int(a), Value::Int(b)) => {
                let common = crate::library::divisors::gcd((*a).into(), (*b).into());
                Some(Value::Int(i64::try_from(common).ok()?))
            }
            _ => None,
        },
        Function::Split => match (a, b) {
            (Value::Text(text), Value::Text(by)) => {
                let parts = text.split(&**by);
                Some(Value::list(
                    parts.map(|part| Value::text(part.to_owned())).collect(),
                ))
            }
            _ => None,
        },
        Function::List => Some(Value::list(vec![a.clone(), b.clone()])),
        Function::Dict => Some(dictionary(&[a.clone(), b.clone()])),
        _ => None,
    }
}

/// A function that draws nothing, of any number of arguments.
pub(super) fn apply(function: Function, values: &[Value]) -> Option<Value> {
    match (function, values) {
        (Function::Text, parts) => {
            let mut text = String::new();
            parts.iter().try_for_each(|part| part.write(&mut text))?;
            Some(Value::text(text))
        }
        (function, [a]) => apply_one(function, a),
        (function, [a, b]) => apply_two(function, a, b),
        (Function::List, _) => Some(Value::list(values.to_vec())),
        (Function::Dict, pairs) => Some(dictionary(pairs)),
        (Function::Min | Function::Max, list) => extreme(function, list),
        (Function::Range, bounds) => {
            let range = range(&bounds.iter().collect::<Vec<_>>())?;
            Some(Value::list(range.map(Value::Int).collect()))
        }
        (Function::Get, [a, key, other]) => Some(a.at(key).unwrap_or_else(|| other.clone())),
        _ => None,
    }
}

impl Comparison {
    /// Whether it holds of two values in this order; nothing where it asks for
    /// something else.
    pub(super) fn orders(self, order: Ordering) -> Option<bool> {
        match self {
            Comparison::Equal => Some(order.is_eq()),
            Comparison::NotEqual => Some(order.is_ne()),
            Comparison::Less => Some(order.is_lt()),
            Comparison::LessOrEqual => Some(order.is_le()),
            Comparison::Greater => Some(order.is_gt()),
            Comparison::GreaterOrEqual => Some(order.is_ge()),
            Comparison::In | Comparison::NotIn => None,
        }
    }
}

pub(super) fn compare(sign: Comparison, left: &Value, right: &Value) -> Option<bool> {
    Some(match sign {
        Comparison::Equal => left.equals(right),
        Comparison::NotEqual => !left.equals(right),
        Comparison::In | Comparison::NotIn => {
            let found = match right {
                Value::List(list) => list.iter().any(|one| one.equals(left)),
                Value::Dict(pairs) => pairs.iter().any(|(key, _)| key.equals(left)),
                _ => return None,
            };
            found == (sign == Comparison::In)
        }
        sign => sign.orders(left.order(right)?)?,
    })
}

/// The first of the smallest or largest.
pub(super) fn extreme(which: Function, list: &[Value]) -> Option<Value> {
    let mut best = list.first()?;
    for one in &list[1..] {
        let order = one.order(best)?;
        if (which == Function::Min && order.is_lt()) || (which == Function::Max && order.is_gt()) {
            best = one;
        }
    }
    Some(best.clone())
}

pub(super) struct Range {
    at: i64,
    high: i64,
    step: i64,
}

impl Iterator for Range {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        let at = self.at;
        self.at = at.saturating_add(self.step);
        (at < self.high).then_some(at)
    }
}

pub(super) fn range(bounds: &[&Value]) -> Option<Range> {
    let bounds: Option<Vec<i64>> = bounds.iter().map(|bound| bound.index()).collect();
    let (at, high, step) = match bounds?[..] {
        [high] => (0, high, 1),
        [low, high] => (low, high, 1),
        [low, high, step] if step > 0 => (low, high, step),
        _ => return None,
    };
    (high.saturating_sub(at) / step <= LONGEST).then_some(Range { at, high, step })
}

fn dictionary(values: &[Value]) -> Value {
    let pairs = values.chunks_exact(2);
    Value::Dict(Arc::new(
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect(),
    ))
}

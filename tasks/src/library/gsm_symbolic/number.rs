//! Numbers apart from what else a value may be: most of what a template works
//! out is numbers, and these need no care for the rest.

use std::cmp::Ordering;

use super::machine::Frame;
use super::program::{Expression, Function};
use super::value::{Value, divide_down};

/// A number, without what else a value may be.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(i64),
    Float(f64),
}

use Number::{Float, Whole};

/// A number as two words of one kind, which are handed over in registers: an
/// enum of both kinds goes through memory, and that takes longer than the sum.
#[derive(Clone, Copy)]
pub(super) struct Packed {
    is_float: bool,
    bits: u64,
}

impl Packed {
    #[inline]
    fn number(self) -> Number {
        if self.is_float {
            Float(f64::from_bits(self.bits))
        } else {
            Whole(self.bits as i64)
        }
    }

    #[inline]
    fn of(value: &Value) -> Option<Packed> {
        match value {
            Value::Int(value) => Some(Whole(*value).packed()),
            Value::Float(value) => Some(Float(*value).packed()),
            _ => None,
        }
    }

    /// A number that is worked out from numbers, with no values on the way. Such
    /// an expression draws nothing, so where this gives nothing it can be tried
    /// the long way, which it goes the way of to the last bit.
    pub(super) fn made(expression: &Expression, frame: &Frame) -> Option<Packed> {
        match expression {
            Expression::Constant(value) => Packed::of(value),
            Expression::Name(place) => Packed::of(frame[*place].as_ref()?),
            Expression::ApplyOne(Function::Int, part) => {
                let part = Packed::made(part, frame)?;
                match part.number() {
                    Float(value) => Some(Whole(Value::Float(value).int()?).packed()),
                    Whole(_) => Some(part),
                }
            }
            Expression::ApplyTwo(function, parts) if function.is_arithmetic() => {
                let [left, right] = parts.as_ref();
                let left = Packed::made(left, frame)?.number();
                let right = Packed::made(right, frame)?.number();
                Some(left.with(*function, right)?.packed())
            }
            _ => None,
        }
    }
}

impl Number {
    pub(super) fn made(expression: &Expression, frame: &Frame) -> Option<Number> {
        Packed::made(expression, frame).map(Packed::number)
    }

    #[inline]
    pub(super) fn packed(self) -> Packed {
        match self {
            Whole(value) => Packed {
                is_float: false,
                bits: value as u64,
            },
            Float(value) => Packed {
                is_float: true,
                bits: value.to_bits(),
            },
        }
    }

    #[inline]
    pub(super) fn value(self) -> Value {
        match self {
            Whole(value) => Value::Int(value),
            Float(value) => Value::Float(value),
        }
    }

    /// Takes the place of a value; of one of its own kind without more ado.
    #[inline]
    pub(super) fn put(self, place: &mut Option<Value>) {
        match (self, place) {
            (Whole(new), Some(Value::Int(old))) => *old = new,
            (Float(new), Some(Value::Float(old))) => *old = new,
            (new, place) => *place = Some(new.value()),
        }
    }

    #[inline]
    pub(super) fn with(self, function: Function, other: Number) -> Option<Number> {
        if let (Whole(a), Whole(b)) = (self, other)
            && function != Function::Divide
        {
            let whole = match function {
                Function::Add => a.checked_add(b),
                Function::Subtract => a.checked_sub(b),
                Function::Multiply => a.checked_mul(b),
                Function::DivideDown => divide_down(a, b).map(|(down, _)| down),
                Function::Remainder => divide_down(a, b).map(|(_, rest)| rest),
                _ => None,
            };
            return whole.map(Whole);
        }
        let (a, b) = (self.float(), other.float());
        match function {
            Function::Add => Some(Float(a + b)),
            Function::Subtract => Some(Float(a - b)),
            Function::Multiply => Some(Float(a * b)),
            Function::Divide if b != 0.0 => Some(Float(a / b)),
            _ => None,
        }
    }

    fn float(self) -> f64 {
        match self {
            Whole(value) => value as f64,
            Float(value) => value,
        }
    }

    pub(super) fn order(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Whole(a), Whole(b)) => Some(a.cmp(&b)),
            (Whole(a), Float(b)) => (a as f64).partial_cmp(&b),
            (Float(a), Whole(b)) => a.partial_cmp(&(b as f64)),
            (Float(a), Float(b)) => a.partial_cmp(&b),
        }
    }
}

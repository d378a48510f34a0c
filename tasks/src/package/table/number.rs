//! Numbers as people write them, exactly: `1,234.50`, `-3/4`, `$7`, `12%`, `2e3`.

/// A fraction in lowest terms with a positive denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    above: i128,
    below: i128,
}

/// More digits than this are no answer, and would overflow.
const MAX_DIGITS: usize = 18;

impl Number {
    fn new(above: i128, below: i128) -> Option<Number> {
        if below == 0 {
            return None;
        }
        let divisor = gcd(above.unsigned_abs(), below.unsigned_abs());
        let divisor = i128::try_from(divisor.max(1)).ok()?;
        let sign = below.signum();
        Some(Number {
            above: above.checked_div(divisor)?.checked_mul(sign)?,
            below: below.checked_div(divisor)?.checked_mul(sign)?,
        })
    }

    /// Reads a number; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Number> {
        let text = text.trim();
        let (text, percent) = match text.strip_suffix('%') {
            Some(rest) => (rest.trim_end(), 100),
            None => (text, 1),
        };
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let text = text.strip_prefix('$').unwrap_or(text);
        let number = match text.split_once('/') {
            Some((above, below)) => decimal(above.trim())?.over(decimal(below.trim())?)?,
            None => decimal(text)?,
        };
        let above = if negative {
            -number.above
        } else {
            number.above
        };
        Number::new(above, number.below.checked_mul(percent)?)
    }

    fn over(self, other: Number) -> Option<Number> {
        Number::new(
            self.above.checked_mul(other.below)?,
            self.below.checked_mul(other.above)?,
        )
    }

    /// Whether two numbers are at most so far apart. `None` where that is
    /// beyond what can be computed exactly.
    pub(super) fn is_near(
        self,
        right: Number,
        tolerance: Number,
        relative_ppm: u32,
    ) -> Option<bool> {
        // |a/b - c/d| <= t + |c/d| * r, over the common denominator.
        let across = self.above.checked_mul(right.below)?;
        let other = right.above.checked_mul(self.below)?;
        let apart = Number::new(
            across.checked_sub(other)?.checked_abs()?,
            self.below.checked_mul(right.below)?,
        )?;
        let relative = Number::new(
            right
                .above
                .checked_abs()?
                .checked_mul(relative_ppm.into())?,
            right.below.checked_mul(1_000_000)?,
        )?;
        let allowed = Number::new(
            tolerance
                .above
                .checked_mul(relative.below)?
                .checked_add(relative.above.checked_mul(tolerance.below)?)?,
            tolerance.below.checked_mul(relative.below)?,
        )?;
        let left = apart.above.checked_mul(allowed.below)?;
        Some(left <= allowed.above.checked_mul(apart.below)?)
    }
}

/// `1,234.5` or `2e3`, no sign in front.
fn decimal(text: &str) -> Option<Number> {
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = whole.replace([',', '_'], "") + part;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !plain || digits.len() > MAX_DIGITS || exponent.abs() > 9 {
        return None;
    }
    let shift = exponent - i32::try_from(part.len()).ok()?;
    let scale = 10i128.checked_pow(shift.unsigned_abs())?;
    let value: i128 = digits.parse().ok()?;
    if shift < 0 {
        Number::new(value, scale)
    } else {
        Number::new(value.checked_mul(scale)?, 1)
    }
}

fn gcd(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_write_them() {
        let read = |text: &str| Number::parse(text).unwrap_or_else(|| panic!("{text}"));
        for (one, other) in [
            ("1,234.50", "1234.5"),
            ("-3/4", "-0.75"),
            ("$7", "7.0"),
            ("50%", "1/2"),
            ("2e3", "2000"),
            ("+0.10", "1e-1"),
            ("6/4", "1.5"),
        ] {
            assert_eq!(read(one), read(other), "{one} {other}");
        }
        for text in [
            "",
            "x",
            "1/0",
            "1.2.3",
            "--1",
            "1e99",
            "9999999999999999999",
            "NaN",
            "inf",
        ] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn near_is_within_the_tolerance_and_not_past_it() {
        let number = |text: &str| Number::parse(text).unwrap();
        let near = |one: &str, tolerance: &str, ppm| {
            number(one)
                .is_near(number("10"), number(tolerance), ppm)
                .unwrap()
        };
        assert!(near("10", "0", 0) && !near("10.001", "0", 0));
        assert!(near("10.01", "0.01", 0) && !near("10.0101", "0.01", 0));
        assert!(near("9.9", "0", 10_000) && !near("9.89", "0", 10_000));
    }
}

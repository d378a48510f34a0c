//! Integer fractions, rounded half up.

use tasks::Ppm;

/// One whole, in parts per million.
pub(crate) const ONE: u64 = 1_000_000;

/// `part / whole` in ppm, rounded half up and capped at one; zero of a zero whole.
pub(crate) fn ratio(part: u128, whole: u128) -> Ppm {
    if whole == 0 {
        return Ppm::ZERO;
    }
    if part >= whole {
        return Ppm::ONE;
    }
    ppm(divide(part.saturating_mul(u128::from(ONE)), whole))
}

/// `part / whole`, rounded half up; zero of a zero whole.
pub(crate) fn divide(part: u128, whole: u128) -> u128 {
    if whole == 0 {
        return 0;
    }
    part.saturating_add(whole / 2) / whole
}

/// The integer mean of a sum over a count, in ppm.
pub(crate) fn mean(sum: u128, count: u64) -> Ppm {
    ppm(divide(sum, u128::from(count)))
}

/// A value as ppm, capped at one.
pub(crate) fn ppm(value: u128) -> Ppm {
    Ppm(u32::try_from(value).unwrap_or(u32::MAX).min(Ppm::ONE.0))
}

/// A ppm that may come from elsewhere, capped at one.
pub(crate) fn capped(value: Ppm) -> Ppm {
    value.min(Ppm::ONE)
}

/// The product of two fractions, rounded half up.
pub(crate) fn product(a: Ppm, b: Ppm) -> Ppm {
    ppm(divide(u128::from(a.0) * u128::from(b.0), u128::from(ONE)))
}

/// `12.3%`, for reasons that people read; rounded half up to a tenth.
pub(crate) fn percent(value: Ppm) -> String {
    let tenths = (u64::from(value.0) + 500) / 1_000;
    format!("{}.{}%", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_half_up_and_stay_within_one() {
        assert_eq!(ratio(1, 3), Ppm(333_333));
        assert_eq!(ratio(2, 3), Ppm(666_667));
        assert_eq!(ratio(5, 3), Ppm::ONE);
        assert_eq!(ratio(5, 0), Ppm::ZERO);
        assert_eq!(ratio(u128::MAX - 1, u128::MAX), Ppm(1));
        assert_eq!(divide(3, 2), 2);
        assert_eq!(divide(5, 4), 1);
        assert_eq!(product(Ppm(500_000), Ppm(3)), Ppm(2));
    }

    #[test]
    fn percents_are_read_by_people() {
        assert_eq!(percent(Ppm(123_456)), "12.3%");
        assert_eq!(percent(Ppm::ONE), "100.0%");
        assert_eq!(percent(Ppm(499)), "0.0%");
    }
}

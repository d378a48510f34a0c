//! Parts per million: the unit of everything two machines must agree on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A fraction in parts per million, as an integer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ppm(pub u32);

impl Ppm {
    /// The whole.
    pub const ONE: Ppm = Ppm(1_000_000);
    /// Nothing.
    pub const ZERO: Ppm = Ppm(0);

    /// `part / whole`, rounded down and capped at [`Ppm::ONE`]; zero of a zero whole.
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Ppm {
        if whole == 0 {
            return Ppm::ZERO;
        }
        let value = u128::from(part) * u128::from(Ppm::ONE.0) / u128::from(whole);
        Ppm(u32::try_from(value).unwrap_or(u32::MAX).min(Ppm::ONE.0))
    }

    /// This fraction of another, rounded down.
    #[must_use]
    pub fn of(self, other: Ppm) -> Ppm {
        let value = u64::from(self.0) * u64::from(other.0) / u64::from(Ppm::ONE.0);
        Ppm(u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// What is missing to the whole.
    #[must_use]
    pub fn complement(self) -> Ppm {
        Ppm(Ppm::ONE.0.saturating_sub(self.0))
    }

    /// Sum that stops at the largest value instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, other: Ppm) -> Ppm {
        Ppm(self.0.saturating_add(other.0))
    }

    /// Difference that stops at zero.
    #[must_use]
    pub fn saturating_sub(self, other: Ppm) -> Ppm {
        Ppm(self.0.saturating_sub(other.0))
    }

    /// As a float, for display and for tensors, never for agreement.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Ppm::ONE.0)
    }
}

impl From<bool> for Ppm {
    fn from(value: bool) -> Ppm {
        if value { Ppm::ONE } else { Ppm::ZERO }
    }
}

impl fmt::Display for Ppm {
    /// Three decimals, rounded down: `0.987`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03}",
            self.0 / 1_000_000,
            self.0 % 1_000_000 / 1_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_rounded_down_and_capped() {
        assert_eq!(Ppm::ratio(1, 3), Ppm(333_333));
        assert_eq!(Ppm::ratio(5, 3), Ppm::ONE);
        assert_eq!(Ppm::ratio(5, 0), Ppm::ZERO);
        assert_eq!(Ppm::ratio(u64::MAX, u64::MAX), Ppm::ONE);
    }

    #[test]
    fn a_fraction_of_a_fraction() {
        assert_eq!(Ppm(500_000).of(Ppm(300_000)), Ppm(150_000));
        assert_eq!(Ppm(900_000).complement(), Ppm(100_000));
        assert_eq!(Ppm(987_654).to_string(), "0.987");
    }
}

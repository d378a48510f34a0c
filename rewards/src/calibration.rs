//! How well a critic knows what it says.
//!
//! A critic's samples of a critique of one answer are read as a probability
//! that the answer is right. Where the truth is known, the squared distance to
//! it (Brier score) is an observation. Observations of right and of wrong
//! answers are averaged apart and weigh the same: a critic that always says
//! "wrong" gains nothing where most answers are wrong. Each side begins with a
//! few observations at chance (0.25), so that few observations mean little.
//!
//! `weight = 1 - 4 x brier`, and zero at chance or below: a coin, a constant
//! and a liar all weigh nothing.
//!
//! A round shows a critic few answers of known truth. What earlier rounds
//! showed is carried over, [faded](Calibration::faded), and decides with it
//! what a word weighs; what a critic is paid for is this round's alone.

use serde::{Deserialize, Serialize};
use tasks::Ppm;

use crate::{
    JudgeSettings,
    arithmetic::{ONE, divide, mean, ppm, ratio},
};

/// The Brier score of someone who always says "perhaps".
pub(crate) const CHANCE: u64 = 250_000;

/// An observation, in the thousandths that fading leaves of it.
const WHOLE: u64 = 1_000;

/// What is known of one critic. Sums only, so that observations can be added
/// and taken away in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calibration {
    right: Tally,
    wrong: Tally,
}

/// Observations of answers with one truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    /// In thousandths of an observation.
    count: u64,
    /// Sum of Brier scores in ppm.
    brier: u64,
}

impl Tally {
    fn mean(self) -> Option<Ppm> {
        let sum = u128::from(self.brier) * u128::from(WHOLE);
        (self.count > 0).then(|| mean(sum, self.count))
    }

    fn shrunk(self, prior: u64) -> u64 {
        let all = self.count.saturating_add(prior.saturating_mul(WHOLE));
        if all == 0 {
            return CHANCE;
        }
        let sum = u128::from(self.brier) + u128::from(prior) * u128::from(CHANCE);
        u64::from(mean(sum * u128::from(WHOLE), all).0)
    }

    fn with(self, other: Tally) -> Tally {
        Tally {
            count: self.count.saturating_add(other.count),
            brier: self.brier.saturating_add(other.brier),
        }
    }

    fn faded(self, keep: Ppm) -> Tally {
        let part = |value: u64| {
            let kept = u128::from(value) * u128::from(keep.min(Ppm::ONE).0) / u128::from(ONE);
            u64::try_from(kept).unwrap_or(u64::MAX)
        };
        Tally {
            count: part(self.count),
            brier: part(self.brier),
        }
    }

    fn without(self, other: Tally) -> Tally {
        Tally {
            count: self.count.saturating_sub(other.count),
            brier: self.brier.saturating_sub(other.brier),
        }
    }
}

impl Calibration {
    /// Adds what a critic said of an answer whose truth is known: `right` of
    /// its `verdicts` said "right". No verdicts are no observation.
    pub fn observe(&mut self, truth: bool, right: u32, verdicts: u32, settings: &JudgeSettings) {
        if verdicts == 0 {
            return;
        }
        let said = probability(right, verdicts, settings.prior_verdicts);
        let miss = if truth { said.complement() } else { said };
        let miss = u128::from(miss.0);
        let brier = divide(miss * miss, u128::from(ONE));
        let side = if truth {
            &mut self.right
        } else {
            &mut self.wrong
        };
        side.count = side.count.saturating_add(WHOLE);
        side.brier = side.brier.saturating_add(u64::from(ppm(brier).0));
    }

    /// The calibration without observations that are part of it.
    #[must_use]
    pub fn without(self, part: Calibration) -> Calibration {
        Calibration {
            right: self.right.without(part.right),
            wrong: self.wrong.without(part.wrong),
        }
    }

    /// The calibration with the observations of another.
    #[must_use]
    pub fn with(self, other: Calibration) -> Calibration {
        Calibration {
            right: self.right.with(other.right),
            wrong: self.wrong.with(other.wrong),
        }
    }

    /// As it counts a round later: this part of every observation, rounded
    /// down to a thousandth.
    #[must_use]
    pub fn faded(self, keep: Ppm) -> Calibration {
        Calibration {
            right: self.right.faded(keep),
            wrong: self.wrong.faded(keep),
        }
    }

    /// How many answers of known truth were judged; of a faded calibration,
    /// how many whole ones it still counts for.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.right.count.saturating_add(self.wrong.count) / WHOLE
    }

    /// The Brier score as measured: the mean over right and wrong answers, of
    /// those that were seen.
    #[must_use]
    pub fn brier(&self) -> Option<Ppm> {
        match (self.right.mean(), self.wrong.mean()) {
            (Some(right), Some(wrong)) => Some(mean(u128::from(right.0) + u128::from(wrong.0), 2)),
            (one, other) => one.or(other),
        }
    }

    /// What the critic's word weighs, before the cap: one for a prophet, zero
    /// at chance or below, and shrunk where there are few observations.
    #[must_use]
    pub fn weight(&self, settings: &JudgeSettings) -> Ppm {
        let prior = u64::from(settings.prior_observations);
        let both = self.right.shrunk(prior) + self.wrong.shrunk(prior);
        ratio(
            u128::from((2 * CHANCE).saturating_sub(both)),
            u128::from(2 * CHANCE),
        )
    }
}

/// The probability that `right` of `verdicts` samples stand for.
fn probability(right: u32, verdicts: u32, prior: u32) -> Ppm {
    let prior = u128::from(prior);
    ratio(
        u128::from(right.min(verdicts)) + prior,
        u128::from(verdicts) + 2 * prior,
    )
}

/// The most any weight may be: `times` the median of the weights above zero.
/// Of an even number, the mean of the two in the middle.
pub(crate) fn weight_limit(weights: impl IntoIterator<Item = Ppm>, times: u32) -> Ppm {
    let mut positive: Vec<Ppm> = weights.into_iter().filter(|w| *w > Ppm::ZERO).collect();
    positive.sort_unstable();
    let at = |index: usize| positive.get(index).map_or(0, |weight| u128::from(weight.0));
    let (upper, lower) = (positive.len() / 2, positive.len().saturating_sub(1) / 2);
    ppm((at(upper) + at(lower)) * u128::from(times) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn critic(says: impl Fn(bool) -> u32, right: u32, wrong: u32) -> Calibration {
        let settings = JudgeSettings::default();
        let mut calibration = Calibration::default();
        for _ in 0..right {
            calibration.observe(true, says(true), 4, &settings);
        }
        for _ in 0..wrong {
            calibration.observe(false, says(false), 4, &settings);
        }
        calibration
    }

    #[test]
    fn coins_constants_and_liars_weigh_nothing() {
        let settings = JudgeSettings::default();
        let weight = |says: &dyn Fn(bool) -> u32| critic(says, 10, 40).weight(&settings);
        assert_eq!(weight(&|_| 2), Ppm::ZERO);
        assert_eq!(weight(&|_| 0), Ppm::ZERO);
        assert_eq!(weight(&|_| 4), Ppm::ZERO);
        assert_eq!(weight(&|truth| if truth { 0 } else { 4 }), Ppm::ZERO);
        let honest = |truth: bool| if truth { 3 } else { 1 };
        let prophet = |truth: bool| if truth { 4 } else { 0 };
        assert!(weight(&honest) > Ppm(150_000));
        assert!(weight(&prophet) > weight(&honest));
    }

    #[test]
    fn few_observations_weigh_little() {
        let settings = JudgeSettings::default();
        let prophet = |truth: bool| if truth { 4 } else { 0 };
        let weights: Vec<Ppm> = [0, 1, 4, 100]
            .map(|n| critic(prophet, n, n).weight(&settings))
            .to_vec();
        assert_eq!(weights[0], Ppm::ZERO);
        assert!(weights.is_sorted_by(|a, b| a < b), "{weights:?}");
        // One side unseen: at most half.
        assert!(critic(prophet, 0, 1_000).weight(&settings) <= Ppm(500_000));
    }

    #[test]
    fn observations_can_be_taken_away() {
        let whole = critic(|_| 3, 5, 7);
        let part = critic(|_| 3, 2, 3);
        assert_eq!(whole.without(part), critic(|_| 3, 3, 4));
        assert_eq!(whole.without(whole), Calibration::default());
        assert_eq!(Calibration::default().brier(), None);
        assert_eq!(whole.observations(), 12);
    }

    #[test]
    fn what_was_seen_long_ago_fades_and_its_verdict_with_it() {
        let settings = JudgeSettings::default();
        let prophet = |truth: bool| if truth { 4 } else { 0 };
        let fresh = critic(prophet, 10, 10);
        let keep = Ppm(875_000);
        let mut old = fresh;
        for _ in 0..4 {
            let before = old.weight(&settings);
            old = old.faded(keep);
            assert!(old.weight(&settings) < before);
        }
        assert_eq!(old.observations(), 11);
        assert!(old.brier().unwrap().0.abs_diff(fresh.brier().unwrap().0) < 100);
        for _ in 0..80 {
            old = old.faded(keep);
        }
        assert_eq!(old.weight(&settings), Ppm::ZERO);
        assert_eq!(fresh.with(fresh).without(fresh), fresh);
    }

    #[test]
    fn the_limit_is_a_multiple_of_the_median_of_those_who_weigh() {
        let weights = [0, 0, 0, 10, 20, 900_000].map(Ppm);
        assert_eq!(weight_limit(weights, 3), Ppm(60));
        assert_eq!(weight_limit([Ppm(10), Ppm(20)], 3), Ppm(45));
        assert_eq!(weight_limit([Ppm(5)], 3), Ppm(15));
        assert_eq!(weight_limit([], 3), Ppm::ZERO);
        assert_eq!(weight_limit([Ppm::ONE], u32::MAX), Ppm::ONE);
    }

    #[test]
    fn no_priors_are_no_division_by_zero() {
        let settings = JudgeSettings {
            prior_verdicts: 0,
            prior_observations: 0,
            ..JudgeSettings::default()
        };
        assert_eq!(Calibration::default().weight(&settings), Ppm::ZERO);
        let mut prophet = Calibration::default();
        prophet.observe(true, 9, 1, &settings);
        prophet.observe(false, 0, 1, &settings);
        assert_eq!(prophet.weight(&settings), Ppm::ONE);
        assert_eq!(prophet.brier(), Some(Ppm::ZERO));
    }
}

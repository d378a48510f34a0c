//! The one attested number of a peer.
//!
//! ```text
//! contribution = 50% answers + 30% critiques + 20% resolutions
//!
//! answers     = (right + half of the wrong ones in useful groups) / answers
//!               x volume(answers, 16)^2
//! critiques   = (1 - 4 x brier), shrunk, not below zero   (Calibration::weight)
//!               x volume(judged answers, 8)
//! resolutions = (share right - share right before) / (1 - share right before),
//!               not below zero, x volume(resolutions, 8)^2
//! volume(n, full) = min(1, n / full)
//! ```
//!
//! A *useful* group has right answers among wrong ones: it is what others can
//! learn from, so its wrong answers count half. Another right answer always
//! counts for more than a wrong one, so nothing is gained by answering badly
//! on purpose. *Before* is the share of the votes that the prompt of the
//! resolution showed for right answers, or, where that was nothing, the first
//! answers to the same item. The full measures
//! ([`JudgeSettings::full_answers`] and its like) are what a swarm gives each
//! peer to do.
//!
//! - **Volume** past the full measure changes nothing: these are shares.
//! - **Splitting** one machine's work among `k` identities earns all of them
//!   together a `k`-th of what one would: each share is weighed by the square
//!   of its volume. A calibration of fewer observations is shrunk besides, so
//!   for critiques the plain volume does.
//! - **Copying** an item that everyone answers earns nothing: what several
//!   owners answered says nothing of who worked it out, and only answers to
//!   items of one's own count ([`JudgeSettings::shared_answers`]).
//! - **Nothing included** is zero, and nothing is below zero: being away is
//!   not held against anybody.
//! - What only critics know (judged environments) counts by its reward, which
//!   is already pulled down by a weak quorum.

use serde::{Deserialize, Serialize};
use tasks::Ppm;

use crate::{
    JudgeSettings,
    arithmetic::{ONE, divide, percent, ppm, product, ratio},
};

/// What a peer did in a round, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// First answers that could be scored.
    pub answers: u64,
    /// Those that are right.
    pub right: u64,
    /// Sum over answers of what each counts, in ppm.
    pub credit: u64,
    /// Groups of first answers.
    pub groups: u64,
    /// Groups with right answers among wrong ones.
    pub useful: u64,
    /// Answers of known truth that it judged.
    pub judged: u64,
    /// Its Brier score on them.
    pub brier: Option<Ppm>,
    /// Its calibration's weight before the cap.
    pub calibration: Ppm,
    /// Second answers for which it is known what was known before.
    pub resolutions: u64,
    /// Those that are right.
    pub resolved: u64,
    /// Sum over second answers of the share right before, in ppm.
    pub before: u64,
}

/// The parts of a contribution, each a share of its own full measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Right answers, and wrong ones beside them.
    pub answers: Ppm,
    /// Calibrated critiques.
    pub critiques: Ppm,
    /// Resolutions that improve.
    pub resolutions: Ppm,
}

impl Work {
    /// The parts of the contribution.
    #[must_use]
    pub fn shared(&self, settings: &JudgeSettings) -> Shared {
        let answers = u128::from(self.answers) * u128::from(ONE);
        let answered = volume(self.answers, settings.full_answers);
        let resolved = volume(self.resolutions, settings.full_resolutions);
        Shared {
            answers: product(
                ratio(u128::from(self.credit), answers),
                product(answered, answered),
            ),
            critiques: product(
                self.calibration.min(Ppm::ONE),
                volume(self.judged, settings.full_critiques),
            ),
            resolutions: product(self.improvement(), product(resolved, resolved)),
        }
    }

    /// The share of what could be improved that was.
    fn improvement(&self) -> Ppm {
        let whole = u128::from(self.resolutions) * u128::from(ONE);
        let after = u128::from(self.resolved) * u128::from(ONE);
        let before = u128::from(self.before);
        if before < whole {
            ratio(after.saturating_sub(before), whole - before)
        } else {
            // Nothing was left to improve: to keep it right is all there is.
            ratio(after, whole)
        }
    }

    /// How much more often second answers are right than what was known before.
    #[must_use]
    pub fn resolve_gain(&self) -> i64 {
        let after = ratio(u128::from(self.resolved), u128::from(self.resolutions));
        i64::from(after.0) - i64::from(self.share_before().0)
    }

    fn share_before(&self) -> Ppm {
        ppm(divide(
            u128::from(self.before),
            u128::from(self.resolutions),
        ))
    }

    /// Where the contribution comes from, in one line.
    #[must_use]
    pub fn why(&self, settings: &JudgeSettings) -> String {
        let shared = self.shared(settings);
        let mut lines = Vec::new();
        if self.answers > 0 {
            lines.push(format!(
                "answers {} of {} ({}/{} right, {}/{} groups useful)",
                percent(shared.answers),
                percent(settings.shares.answers),
                self.right,
                self.answers,
                self.useful,
                self.groups,
            ));
        }
        if let Some(brier) = self.brier {
            lines.push(format!(
                "critiques {} of {} (brier {brier} over {})",
                percent(shared.critiques),
                percent(settings.shares.critiques),
                self.judged,
            ));
        }
        if self.resolutions > 0 {
            let after = ratio(u128::from(self.resolved), u128::from(self.resolutions));
            lines.push(format!(
                "resolutions {} of {} ({} right after {})",
                percent(shared.resolutions),
                percent(settings.shares.resolutions),
                percent(after),
                percent(self.share_before()),
            ));
        }
        if lines.is_empty() {
            return "nothing that counts was included".to_owned();
        }
        lines.join(" + ")
    }
}

/// How much of the full measure was done, at most all of it.
fn volume(done: u64, full: u32) -> Ppm {
    let full = done.max(u64::from(full));
    ratio(u128::from(done), u128::from(full))
}

impl Shared {
    /// The contribution.
    #[must_use]
    pub fn contribution(&self, settings: &JudgeSettings) -> Ppm {
        let shares = settings.shares;
        [
            (self.answers, shares.answers),
            (self.critiques, shares.critiques),
            (self.resolutions, shares.resolutions),
        ]
        .into_iter()
        .fold(Ppm::ZERO, |sum, (part, share)| {
            sum.saturating_add(product(part, share))
        })
        .min(Ppm::ONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> JudgeSettings {
        JudgeSettings::default()
    }

    fn contribution(work: Work) -> Ppm {
        work.shared(&settings()).contribution(&settings())
    }

    #[test]
    fn nothing_is_zero_and_everything_is_one() {
        assert_eq!(contribution(Work::default()), Ppm::ZERO);
        let why = Work::default().why(&settings());
        assert_eq!(why, "nothing that counts was included");
        let all = Work {
            answers: 16,
            right: 16,
            credit: 16 * ONE,
            judged: 8,
            calibration: Ppm::ONE,
            resolutions: 8,
            resolved: 8,
            before: 2 * ONE,
            ..Work::default()
        };
        assert_eq!(contribution(all), Ppm::ONE);
    }

    #[test]
    fn volume_counts_up_to_the_full_measure() {
        let answers = |count: u64| {
            contribution(Work {
                answers: count,
                credit: count * ONE / 2,
                ..Work::default()
            })
        };
        assert_eq!(answers(8), Ppm(62_500));
        assert_eq!(answers(16), Ppm(250_000));
        assert_eq!(answers(16_000), Ppm(250_000));
    }

    #[test]
    fn what_is_split_among_k_earns_a_kth() {
        let work = |share: u64| {
            contribution(Work {
                answers: 16 / share,
                credit: 8 * ONE / share,
                resolutions: 8 / share,
                resolved: 8 / share,
                ..Work::default()
            })
        };
        let whole = u64::from(work(1).0);
        for pieces in [2, 4, 8] {
            let together = pieces * u64::from(work(pieces).0);
            assert!(together.abs_diff(whole / pieces) <= pieces, "{pieces}");
        }
    }

    #[test]
    fn resolutions_count_by_what_they_improve() {
        let resolved = |resolved: u64, before: u64| {
            let work = Work {
                resolutions: 10,
                resolved,
                before: before * ONE,
                ..Work::default()
            };
            (work.shared(&settings()).resolutions, work.resolve_gain())
        };
        assert_eq!(resolved(7, 4), (Ppm(500_000), 300_000));
        assert_eq!(resolved(4, 4), (Ppm::ZERO, 0));
        assert_eq!(resolved(2, 4), (Ppm::ZERO, -200_000));
        assert_eq!(resolved(10, 10), (Ppm::ONE, 0));
        assert_eq!(resolved(9, 10), (Ppm(900_000), -100_000));
    }

    #[test]
    fn the_reason_names_each_part() {
        let work = Work {
            answers: 64,
            right: 20,
            credit: 40 * ONE,
            groups: 8,
            useful: 6,
            judged: 24,
            brier: Some(Ppm(213_000)),
            calibration: Ppm(120_000),
            resolutions: 8,
            resolved: 4,
            before: 2 * ONE,
        };
        assert_eq!(
            work.why(&settings()),
            "answers 62.5% of 50.0% (20/64 right, 6/8 groups useful) + \
             critiques 12.0% of 30.0% (brier 0.213 over 24) + \
             resolutions 33.3% of 20.0% (50.0% right after 25.0%)"
        );
    }
}

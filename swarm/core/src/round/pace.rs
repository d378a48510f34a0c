//! When rounds begin and phases end.

use crate::manifest::{Manifest, Pace};
use crate::message::Phase;

/// The phases a round is divided into, in order.
const DIVIDED: [Phase; 6] = [
    Phase::Answer,
    Phase::Commit,
    Phase::Reveal,
    Phase::Resolve,
    Phase::Judge,
    Phase::Train,
];

/// How long a phase lasts at most, where the pace is eager.
fn window(manifest: &Manifest, phase: Phase) -> u64 {
    let stages = &manifest.stages;
    match phase {
        Phase::Join => stages.join_ms,
        Phase::Open => stages.open_ms,
        Phase::Answer => stages.answer_ms,
        Phase::Commit => stages.critique_ms,
        Phase::Reveal => stages.reveal_ms,
        Phase::Resolve => stages.resolve_ms,
        Phase::Judge => stages.judge_ms,
        Phase::Train => stages.train_ms,
        Phase::Rest => 0,
    }
}

/// How long a whole round lasts at most.
pub(super) fn longest(manifest: &Manifest) -> u64 {
    match manifest.pace {
        Pace::Clock { length_ms, .. } => length_ms,
        Pace::Eager => DIVIDED
            .iter()
            .map(|phase| window(manifest, *phase))
            .sum::<u64>()
            .saturating_add(manifest.stages.open_ms),
    }
}

/// When a phase that begins now ends at the latest.
pub(super) fn deadline(manifest: &Manifest, round: u64, phase: Phase, now: u64) -> u64 {
    let Pace::Clock { length_ms, .. } = manifest.pace else {
        return now.saturating_add(window(manifest, phase));
    };
    let end = |last: Phase| {
        let total: u64 = DIVIDED.iter().map(|phase| window(manifest, *phase)).sum();
        let passed: u64 = DIVIDED
            .iter()
            .filter(|phase| **phase <= last)
            .map(|phase| window(manifest, *phase))
            .sum();
        let share = u128::from(length_ms) * u128::from(passed) / u128::from(total);
        start_of(manifest, round)
            .unwrap_or(now)
            .saturating_add(u64::try_from(share).unwrap_or(length_ms))
    };
    match phase {
        Phase::Join | Phase::Rest => now.saturating_add(window(manifest, phase)),
        // Opening eats into the time for answers.
        Phase::Open => end(Phase::Answer).min(now.saturating_add(manifest.stages.open_ms)),
        phase => end(phase),
    }
}

/// When a round begins, where a clock decides.
pub(super) fn start_of(manifest: &Manifest, round: u64) -> Option<u64> {
    match manifest.pace {
        Pace::Eager => None,
        Pace::Clock {
            genesis_ms,
            length_ms,
        } => Some(genesis_ms.saturating_add(round.saturating_mul(length_ms))),
    }
}

/// The round to begin with, given the least it may be: under a clock, the one
/// whose answers are still open, or the next.
pub(super) fn round_at(manifest: &Manifest, least: u64, now: u64) -> u64 {
    let Pace::Clock {
        genesis_ms,
        length_ms,
    } = manifest.pace
    else {
        return least;
    };
    let current = now.saturating_sub(genesis_ms) / length_ms;
    let open = now < deadline(manifest, current, Phase::Answer, now);
    least.max(if open {
        current
    } else {
        current.saturating_add(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;

    fn clocked() -> Manifest {
        let mut manifest = sim::manifest();
        manifest.pace = Pace::Clock {
            genesis_ms: 1_000,
            length_ms: 10_000,
        };
        manifest
    }

    #[test]
    fn an_eager_stage_is_as_long_as_the_manifest_says() {
        let manifest = sim::manifest();
        assert_eq!(deadline(&manifest, 7, Phase::Answer, 500), 5_500);
        assert_eq!(round_at(&manifest, 7, 500), 7);
        assert_eq!(start_of(&manifest, 7), None);
    }

    #[test]
    fn under_a_clock_the_stages_share_the_round() {
        let manifest = clocked();
        let ends = DIVIDED.map(|phase| deadline(&manifest, 2, phase, 0));
        assert!(ends.is_sorted_by(|a, b| a < b), "{ends:?}");
        // The last stage ends where the next round begins.
        assert_eq!(ends[5], 31_000);
        assert_eq!(start_of(&manifest, 3), Some(31_000));
    }

    #[test]
    fn a_round_whose_answers_are_over_is_not_begun() {
        let manifest = clocked();
        assert_eq!(round_at(&manifest, 0, 21_001), 2);
        assert_eq!(round_at(&manifest, 0, 30_000), 3);
        assert_eq!(round_at(&manifest, 5, 21_001), 5);
    }
}

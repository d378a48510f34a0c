//! Simulated peers, for teaching the critique and resolve formats before there
//! is a swarm: proposals half of which are right, and tallies of verdicts that
//! are right more often than not.

use crate::{Environment, Item, Seed, dialogue::PeerAnswer};

/// Percentage of simulated verdicts that are true: a little below what a
/// trained critic reaches, so that tallies are evidence and not proof.
const TRUE_VERDICTS: u64 = 70;

/// An answer to be judged, and whether it is right; both with equal chance.
#[must_use]
pub fn proposal(environment: &dyn Environment, item: &Item, seed: &Seed) -> (String, bool) {
    let mut draw = Seed::derive(&[b"practice proposal", &seed.0]).draw();
    if draw.coin() {
        (item.reference.clone(), true)
    } else {
        (environment.distractor(item, seed), false)
    }
}

/// The answers of two to six peers, each with up to four verdicts. The share
/// of right answers differs from item to item, so that a resolver learns to
/// weigh them rather than to follow.
#[must_use]
pub fn peers(environment: &dyn Environment, item: &Item, seed: &Seed) -> Vec<PeerAnswer> {
    let mut draw = Seed::derive(&[b"practice peers", &seed.0]).draw();
    let right_answers = [20, 40, 60, 80][draw.index(4)];
    let count = draw.between(2, 6);
    (0..count)
        .map(|index| {
            let truth = draw.percent(right_answers);
            let answer = if truth {
                item.reference.clone()
            } else {
                let own = Seed::derive(&[b"practice peer", &seed.0, &index.to_le_bytes()]);
                environment.distractor(item, &own)
            };
            let (mut right, mut wrong) = (0, 0);
            for _ in 0..draw.below(5) {
                if draw.percent(TRUE_VERDICTS) == truth {
                    right += 1;
                } else {
                    wrong += 1;
                }
            }
            PeerAnswer {
                answer,
                right,
                wrong,
            }
        })
        .collect()
}

//! Policies as they were seen in settled rounds, to be tried beside cheats.

use std::collections::BTreeMap;

use rewards::Scoreboard;
use serde::{Deserialize, Serialize};
use tasks::{Draw, Ppm};

use crate::ids::PeerId;

/// Observations of one kind that are kept of a policy, the first.
const MAX_OBSERVATIONS: usize = 1_024;

/// What a policy did in settled rounds. A trial draws from it: an item's group
/// is as right as one of the groups that were seen, a critique as sure as one
/// of the critiques. So easy items and hard ones, and critics that hold a
/// wrong view with all their samples, are as frequent as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// A name for people.
    #[serde(default)]
    pub name: String,
    /// Of each group of answers, how many per cent are right.
    pub answers: Vec<u8>,
    /// Of each critique of a right answer, how many per cent of its verdicts say "right".
    pub on_right: Vec<u8>,
    /// Of each critique of a wrong answer, the same.
    pub on_wrong: Vec<u8>,
}

impl Recorded {
    /// What scoreboards tell of each peer.
    pub fn of<'a>(
        boards: impl IntoIterator<Item = &'a Scoreboard<PeerId>>,
    ) -> BTreeMap<PeerId, Self> {
        let mut peers: BTreeMap<PeerId, Self> = BTreeMap::new();
        for board in boards {
            for group in &board.answers {
                let known = group.completions.iter().filter(|one| one.truth.is_some());
                let right = group.completions.iter().filter(|one| one.correct).count();
                if known.count() > 0 {
                    let share = right * 100 / group.completions.len().max(1);
                    push(&mut peers.entry(group.owner).or_default().answers, share);
                }
            }
            for critique in &board.critiques {
                let (Some(truth), Some(Ppm(right))) = (critique.truth, critique.right_ppm) else {
                    continue;
                };
                let policy = peers.entry(critique.critic).or_default();
                let seen = if truth {
                    &mut policy.on_right
                } else {
                    &mut policy.on_wrong
                };
                push(seen, (right / 10_000) as usize);
            }
        }
        for (peer, policy) in &mut peers {
            policy.name = peer.nickname();
        }
        peers
    }

    /// What is missing to try it; nothing if it can be.
    pub(super) fn lacks(&self) -> Option<&'static str> {
        [
            ("answers", &self.answers),
            ("on_right", &self.on_right),
            ("on_wrong", &self.on_wrong),
        ]
        .into_iter()
        .find(|(_, seen)| seen.is_empty() || seen.iter().any(|percent| *percent > 100))
        .map(|(name, _)| name)
    }

    /// How many per cent of a group of answers are right.
    pub(super) fn skill(&self, dice: &mut Draw) -> u8 {
        drawn(&self.answers, dice)
    }

    /// How many per cent of a critique's verdicts say "right".
    pub(super) fn view(&self, truth: bool, dice: &mut Draw) -> u8 {
        drawn(
            if truth {
                &self.on_right
            } else {
                &self.on_wrong
            },
            dice,
        )
    }
}

fn push(seen: &mut Vec<u8>, percent: usize) {
    if seen.len() < MAX_OBSERVATIONS {
        seen.push(u8::try_from(percent.min(100)).unwrap_or(100));
    }
}

fn drawn(seen: &[u8], dice: &mut Draw) -> u8 {
    let index = dice.index(seen.len().max(1));
    seen.get(index).copied().unwrap_or(0)
}

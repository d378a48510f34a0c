//! What critique and resolve are worth: on the items that everyone answered,
//! how often each way of arriving at an answer arrives at the right one.
//!
//! All ways are over the same items, which no policy was trained on before:
//! the beacon drew them for this round.

use std::collections::BTreeMap;

use rewards::{CompletionScore, GroupScore, Scoreboard};
use serde::{Deserialize, Serialize};
use tasks::Ppm;

use crate::body::Slot;
use crate::draw;
use crate::ids::{Beacon, PeerId};
use crate::manifest::Manifest;
use crate::round::slot_number;

/// The share of common items, or of answers to them, that is right. Where
/// several answers have an equal claim, each counts for its part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gains {
    /// Items that several peers answered and somebody answered again, and
    /// whose truth is known.
    pub items: u32,
    /// First answers, each for itself.
    pub alone: Ppm,
    /// What most peers say, with one answer each: those that were read.
    pub majority: Ppm,
    /// What most of all first answers say: self-consistency (arXiv 2203.11171)
    /// over peers.
    pub samples: Ppm,
    /// What the critic of the most weight holds right of what was read.
    pub best_critic: Ppm,
    /// What the critics hold right together, each by its weight.
    pub critics: Ppm,
    /// Second answers, each for itself.
    pub resolved: Ppm,
    /// What most of all second answers say.
    pub resolved_majority: Ppm,
}

/// Compares the ways on one round's scoreboard.
pub(crate) fn compare(manifest: &Manifest, beacon: Beacon, board: &Scoreboard<PeerId>) -> Gains {
    let mut sums = Sums::default();
    for k in 0..manifest.answer.common {
        let slot = Slot::Common(k);
        let of = |group: &&GroupScore<PeerId>| group.slot == slot_number(slot);
        let first: Vec<_> = board.answers.iter().filter(of).collect();
        let second: Vec<_> = board.resolutions.iter().filter(of).collect();
        let read: Vec<&CompletionScore<PeerId>> = first
            .iter()
            .filter_map(|group| {
                let shown = draw::exhibit(manifest, beacon, group.owner, slot)?;
                let shown = group.completions.get(usize::from(shown))?;
                shown.answer.as_ref().and(Some(shown))
            })
            .collect();
        let known = read.iter().all(|shown| shown.truth.is_some());
        if read.len() >= 2 && known && !second.is_empty() {
            sums.add(&all(&first), &read, &all(&second));
        }
    }
    sums.means()
}

fn all<'a>(groups: &[&'a GroupScore<PeerId>]) -> Vec<&'a CompletionScore<PeerId>> {
    groups.iter().flat_map(|group| &group.completions).collect()
}

/// Sums over items, in ppm.
#[derive(Default)]
struct Sums {
    items: u32,
    of: [u64; 7],
}

impl Sums {
    fn add(
        &mut self,
        first: &[&CompletionScore<PeerId>],
        read: &[&CompletionScore<PeerId>],
        second: &[&CompletionScore<PeerId>],
    ) {
        let one = |_: &CompletionScore<PeerId>| 1;
        let shares = [
            right(first),
            choice(read, one),
            choice(first, one),
            best_critic(read),
            choice(read, backing),
            right(second),
            choice(second, one),
        ];
        self.items += 1;
        for (sum, share) in self.of.iter_mut().zip(shares) {
            *sum += share;
        }
    }

    fn means(&self) -> Gains {
        let items = u64::from(self.items.max(1));
        let [
            alone,
            majority,
            samples,
            best_critic,
            critics,
            resolved,
            resolved_majority,
        ] = self
            .of
            .map(|sum| Ppm(u32::try_from(sum / items).unwrap_or(u32::MAX)));
        Gains {
            items: self.items,
            alone,
            majority,
            samples,
            best_critic,
            critics,
            resolved,
            resolved_majority,
        }
    }
}

/// The share that is right.
fn right(completions: &[&CompletionScore<PeerId>]) -> u64 {
    let count = completions.iter().filter(|one| one.correct).count() as u64;
    count * 1_000_000 / (completions.len() as u64).max(1)
}

/// How much of the answers that have the most claims is right.
fn choice(
    completions: &[&CompletionScore<PeerId>],
    claim: impl Fn(&CompletionScore<PeerId>) -> i64,
) -> u64 {
    let mut claims: BTreeMap<&str, (i64, bool)> = BTreeMap::new();
    for completion in completions {
        if let (Some(answer), Some(truth)) = (&completion.answer, completion.truth) {
            let (sum, is_right) = claims.entry(answer).or_insert((0, truth));
            *sum = sum.saturating_add(claim(completion));
            *is_right = truth;
        }
    }
    let most = claims.values().map(|(sum, _)| *sum).max();
    let chosen = || claims.values().filter(|(sum, _)| Some(*sum) == most);
    let right = chosen().filter(|(_, is_right)| *is_right).count() as u64;
    right * 1_000_000 / (chosen().count() as u64).max(1)
}

/// What critics say for an answer, less what they say against it.
fn backing(completion: &CompletionScore<PeerId>) -> i64 {
    let views = completion.critiques.iter();
    let said = views.map(|view| {
        // A word of no known weight is still a word.
        let weight = i64::from(view.weight_ppm.0.max(1));
        (2 * i64::from(view.right_ppm.0) - 1_000_000) * weight
    });
    said.sum()
}

/// What the critic of the most weight here holds right of what it read.
fn best_critic(read: &[&CompletionScore<PeerId>]) -> u64 {
    let views = || read.iter().flat_map(|shown| &shown.critiques);
    let best = views().map(|view| (view.weight_ppm, view.critic)).max();
    let Some((_, best)) = best else {
        return choice(read, |_| 1);
    };
    let judged: Vec<_> = read
        .iter()
        .filter(|shown| shown.critiques.iter().any(|view| view.critic == best))
        .copied()
        .collect();
    choice(&judged, |shown| {
        let mut views = shown.critiques.iter();
        let own = views.find(|view| view.critic == best);
        own.map_or(0, |view| i64::from(view.right_ppm.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rewards::CritiqueView;

    fn said(answer: &str, critics: &[(u8, u32, u32)]) -> CompletionScore<PeerId> {
        let view = |&(critic, right, weight): &(u8, u32, u32)| CritiqueView {
            critic: PeerId([critic; 32]),
            right_ppm: Ppm(right),
            weight_ppm: Ppm(weight),
            sample_index: 0,
        };
        CompletionScore {
            reward: Ppm::ZERO,
            correct: answer == "right",
            well_formed: true,
            answer: Some(answer.to_owned()),
            truth: Some(answer == "right"),
            parts: Vec::new(),
            why: String::new(),
            critiques: critics.iter().map(view).collect(),
        }
    }

    #[test]
    fn each_way_chooses_by_its_own_claims() {
        let answers = [
            said("right", &[(1, 900_000, 500_000), (2, 200_000, 100_000)]),
            said("wrong", &[(1, 100_000, 500_000), (2, 800_000, 100_000)]),
            said("wrong", &[(2, 800_000, 100_000)]),
            said("other", &[]),
        ];
        let read: Vec<_> = answers.iter().collect();
        let second = [said("right", &[]), said("wrong", &[])];
        let second: Vec<_> = second.iter().collect();
        let mut sums = Sums::default();
        sums.add(&read, &read, &second);
        assert_eq!(
            sums.means(),
            Gains {
                items: 1,
                alone: Ppm(250_000),
                majority: Ppm(0),
                samples: Ppm(0),
                best_critic: Ppm(1_000_000),
                critics: Ppm(1_000_000),
                resolved: Ppm(500_000),
                resolved_majority: Ppm(500_000),
            }
        );
    }
}

//! Cards, medians and reputation, as the contract has them.

use std::collections::{BTreeMap, BTreeSet};

use crate::draw;
use crate::ids::{Beacon, PeerId};

/// Witnesses of a round, at the most.
const COMMITTEE: usize = 16;
/// A reputation moves a sixteenth of the way to each new score.
const SMOOTHING: u64 = 16;
/// A sixty-fourth is lost with each settled round away.
const DECAY: u64 = 64;

/// What the chain holds of each peer, in parts per million.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    reputation: BTreeMap<PeerId, u64>,
}

impl Ledger {
    pub(super) fn reputation(&self, peer: &PeerId) -> u64 {
        self.reputation.get(peer).copied().unwrap_or(0)
    }

    /// Settles a round: for each peer that was included the lower median of
    /// what the witnesses but itself say. `card` gives what a witness says of
    /// a peer. Returns the settled scores.
    pub(super) fn settle(
        &mut self,
        beacon: Beacon,
        members: &BTreeSet<PeerId>,
        included: &BTreeMap<PeerId, u64>,
        card: impl Fn(PeerId, PeerId, u64) -> u64,
    ) -> BTreeMap<PeerId, u64> {
        let committee: Vec<PeerId> =
            draw::ranked(b"trial committee", beacon, None, members.iter().copied())
                .into_iter()
                .take(COMMITTEE)
                .collect();
        let mut settled = BTreeMap::new();
        for (peer, score) in included {
            let others = committee.iter().filter(|witness| *witness != peer);
            let mut said: Vec<u64> = others
                .map(|witness| card(*witness, *peer, *score))
                .collect();
            said.sort_unstable();
            let median = said.get(said.len().saturating_sub(1) / 2).copied();
            settled.insert(*peer, median.unwrap_or(0));
        }
        for (peer, reputation) in &mut self.reputation {
            if !settled.contains_key(peer) {
                *reputation = *reputation * (DECAY - 1) / DECAY;
            }
        }
        for (peer, score) in &settled {
            let reputation = self.reputation.entry(*peer).or_default();
            *reputation = (*reputation * (SMOOTHING - 1) + score) / SMOOTHING;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(count: u8) -> BTreeSet<PeerId> {
        (1..=count).map(|index| PeerId([index; 32])).collect()
    }

    #[test]
    fn a_minority_of_false_cards_moves_no_score() {
        let mut ledger = Ledger::default();
        let members = peers(9);
        let included = members.iter().map(|peer| (*peer, 400_000)).collect();
        let settled = ledger.settle(Beacon([1; 32]), &members, &included, |witness, _, score| {
            if witness.0[0] <= 4 { 1_000_000 } else { score }
        });
        assert!(settled.values().all(|score| *score == 400_000));
        assert_eq!(ledger.reputation(&PeerId([1; 32])), 25_000);
    }

    #[test]
    fn whoever_is_away_fades_and_is_not_scored() {
        let mut ledger = Ledger::default();
        let members = peers(3);
        let all = members.iter().map(|peer| (*peer, 1_000_000)).collect();
        ledger.settle(Beacon([1; 32]), &members, &all, |_, _, score| score);
        let none = BTreeMap::new();
        let settled = ledger.settle(Beacon([2; 32]), &members, &none, |_, _, score| score);
        assert!(settled.is_empty());
        assert_eq!(ledger.reputation(&PeerId([1; 32])), 62_500 * 63 / 64);
    }
}

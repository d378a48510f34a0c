//! The ledger's arithmetic, as the contracts have it (`Scores.sol`,
//! `ReputationLedger.sol`): weighted medians, what a witness's word weighs,
//! reputation, uncertainty, and how they fade.
//!
//! One place for all who do it again: the audit of a chain's events, the
//! simulated chain and the trials of cheats. Everything is an integer in parts
//! per million, rounded as the contracts round.

use std::collections::BTreeMap;

use crate::score::UNSCORED;

/// A whole: 1.0.
pub const PPM: u32 = 1_000_000;
/// Witnesses of a round, at the most.
pub const COMMITTEE: usize = 16;
/// Rounds in a row that a witness may miss before it is not drawn.
pub const MISSES: u8 = 2;
/// How far a settled round moves a reputation to its score, its uncertainty to
/// how far off it was, and a witness's weight to a whole: a sixteenth of the way.
pub const SMOOTHING: u32 = 16;
/// What a settled round without the peer costs its reputation: one part in 64.
pub const DECAY: u32 = 64;
/// How far from the medians a witness may be on average, over the peers of whom
/// witnesses differ, and still be right.
pub const TOLERANCE: u32 = 100_000;
/// Judges of a peer that have earned weight, from which on weights count.
const ESTABLISHED: usize = 3;
/// A weight counts for at most so many times the median of those present.
const CLIP: u64 = 3;

/// What a witness says of each peer.
pub type Card<K> = (K, BTreeMap<K, u32>);

/// What the ledger holds of every member of a swarm. `K` names a peer.
#[derive(Clone, Debug)]
pub struct Standings<K> {
    settled: u32,
    held: BTreeMap<K, Held>,
}

/// What is known of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Contribution over the settled rounds.
    pub reputation: u32,
    /// How far the next score may well be from it.
    pub uncertainty: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    standing: Standing,
    weight: u32,
    /// How many rounds had settled when the standing was last brought up to date.
    as_of: u32,
}

/// What the cards of a round say of a peer, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The lower weighted median of what others say; `None` if nobody does.
    pub score: Option<u32>,
    /// How many others scored it.
    pub judges: u32,
    /// Whether all of them said the same.
    pub unanimous: bool,
}

/// A settled round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<K> {
    /// What is said of each peer that was scored.
    pub verdicts: BTreeMap<K, Verdict>,
    /// How far each witness that was compared was from the medians, on average,
    /// and what its word weighs from now on.
    pub weighed: BTreeMap<K, (u32, u32)>,
}

impl<K> Default for Standings<K> {
    fn default() -> Self {
        Self {
            settled: 0,
            held: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Copy> Standings<K> {
    /// How many rounds have settled.
    pub fn settled(&self) -> u32 {
        self.settled
    }

    /// A newcomer: nothing is known of it. A member stays as it is.
    pub fn join(&mut self, peer: K) {
        self.held.entry(peer).or_insert(Held {
            standing: Standing {
                reputation: 0,
                uncertainty: PPM,
            },
            ..Held::default()
        });
    }

    /// A witness did not sign: its word weighs less.
    pub fn miss(&mut self, witness: K) {
        let held = self.held.entry(witness).or_default();
        held.weight -= held.weight / SMOOTHING;
    }

    /// A witness was proved to have signed two cards for one round.
    pub fn fault(&mut self, witness: K) {
        let mut standing = self.standing(witness);
        standing.reputation /= 2;
        let held = Held {
            standing,
            weight: 0,
            as_of: self.settled,
        };
        self.held.insert(witness, held);
    }

    /// A peer's standing as of the time when `settled` rounds had settled, as
    /// somebody else says it is.
    pub fn set(&mut self, peer: K, standing: Standing, settled: u32) {
        let held = self.held.entry(peer).or_default();
        (held.standing, held.as_of) = (standing, settled);
    }

    /// What a witness's word weighs, as somebody else says it is.
    pub fn set_weight(&mut self, witness: K, weight: u32) {
        self.held.entry(witness).or_default().weight = weight;
    }

    /// One more round has settled.
    pub fn count(&mut self) {
        self.settled += 1;
    }

    /// A peer's standing now, with what its absence has cost.
    pub fn standing(&self, peer: K) -> Standing {
        let held = self.held.get(&peer).copied().unwrap_or_default();
        faded(held.standing, self.settled.saturating_sub(held.as_of))
    }

    /// What a peer's word weighs as a witness.
    pub fn weight(&self, peer: K) -> u32 {
        self.held.get(&peer).map_or(0, |held| held.weight)
    }

    /// What a round's score makes of a standing.
    pub fn moved(&self, peer: K, score: Option<u32>) -> Standing {
        let Standing {
            reputation,
            uncertainty,
        } = self.standing(peer);
        let Some(score) = score else {
            return self.standing(peer);
        };
        Standing {
            reputation: toward(reputation, score),
            uncertainty: toward(uncertainty, score.abs_diff(reputation)),
        }
    }

    /// Takes the cards of a round together. Nothing is recorded.
    pub fn score(&self, peers: impl IntoIterator<Item = K>, cards: &[Card<K>]) -> Outcome<K> {
        let weights = self.clipped(cards);
        let mut verdicts = BTreeMap::new();
        let mut off: BTreeMap<K, (u64, u64)> = BTreeMap::new();
        let mut judged = false;
        for peer in peers {
            let verdict = median(peer, cards, &weights);
            if let (Some(score), false) = (verdict.score, verdict.unanimous) {
                for (witness, given) in given(peer, cards) {
                    let (distance, compared) = off.entry(witness).or_default();
                    *distance += u64::from(given.abs_diff(score));
                    *compared += 1;
                }
            } else {
                judged |= verdict.judges > 1;
            }
            verdicts.insert(peer, verdict);
        }
        let mut weighed = BTreeMap::new();
        for (witness, card) in cards {
            // Whoever was of one mind with all others was right, unless it hardly
            // said anything.
            let said = card.values().filter(|score| **score != UNSCORED).count();
            let deviation = match off.get(witness) {
                Some((distance, compared)) => distance / compared,
                None if judged && said > 1 => 0,
                None => continue,
            };
            let deviation = u32::try_from(deviation).unwrap_or(u32::MAX);
            let weight = reweighed(self.weight(*witness), deviation);
            weighed.insert(*witness, (deviation, weight));
        }
        Outcome { verdicts, weighed }
    }

    /// Settles a round: takes its cards together and records what follows.
    pub fn settle(&mut self, peers: impl IntoIterator<Item = K>, cards: &[Card<K>]) -> Outcome<K> {
        let outcome = self.score(peers, cards);
        for (peer, verdict) in &outcome.verdicts {
            let standing = self.moved(*peer, verdict.score);
            self.set(*peer, standing, self.settled + 1);
        }
        for (witness, (_, weight)) in &outcome.weighed {
            self.set_weight(*witness, *weight);
        }
        self.count();
        outcome
    }

    /// What each card's word weighs: earned before this round, and at most
    /// three times the median of those above zero.
    fn clipped(&self, cards: &[Card<K>]) -> BTreeMap<K, u64> {
        let weights = cards
            .iter()
            .map(|(witness, _)| (*witness, u64::from(self.weight(*witness))));
        let mut earned: Vec<u64> = weights
            .clone()
            .map(|(_, weight)| weight)
            .filter(|weight| *weight > 0)
            .collect();
        earned.sort_unstable();
        let middle = earned.len().saturating_sub(1) / 2;
        let limit = earned.get(middle).map_or(0, |median| CLIP * median);
        weights
            .map(|(witness, weight)| (witness, weight.min(limit)))
            .collect()
    }
}

/// What each other witness says of a peer.
fn given<K: Ord + Copy>(peer: K, cards: &[Card<K>]) -> impl Iterator<Item = (K, u32)> {
    let others = cards.iter().filter(move |(witness, _)| *witness != peer);
    others.filter_map(move |(witness, card)| {
        let score = *card.get(&peer)?;
        (score <= PPM).then_some((*witness, score))
    })
}

/// The lower weighted median of what the others say of a peer. With fewer than
/// three whose word has earned weight, all count alike.
fn median<K: Ord + Copy>(peer: K, cards: &[Card<K>], weights: &BTreeMap<K, u64>) -> Verdict {
    let weight = |witness| weights.get(&witness).copied().unwrap_or(0);
    let mut sorted: Vec<(u32, u64)> = given(peer, cards)
        .map(|(witness, score)| (score, weight(witness)))
        .collect();
    sorted.sort_unstable();
    let established = sorted.iter().filter(|(_, weight)| *weight > 0).count();
    let score = if established < ESTABLISHED {
        sorted.get(sorted.len().saturating_sub(1) / 2)
    } else {
        let total: u64 = sorted.iter().map(|(_, weight)| weight).sum();
        let mut below = 0;
        sorted.iter().find(|(_, weight)| {
            below += weight;
            2 * below >= total
        })
    };
    Verdict {
        score: score.map(|(score, _)| *score),
        judges: u32::try_from(sorted.len()).unwrap_or(u32::MAX),
        unanimous: sorted.first().map(|(score, _)| score) == sorted.last().map(|(score, _)| score),
    }
}

/// A sixteenth of the way from one to the other.
fn toward(from: u32, to: u32) -> u32 {
    let sum = u64::from(from) * u64::from(SMOOTHING - 1) + u64::from(to);
    u32::try_from(sum / u64::from(SMOOTHING)).unwrap_or(u32::MAX)
}

/// What a witness's word weighs after a round in which it was so far off on
/// average: a sixteenth of what it lacks is gained, or half of what it has lost.
fn reweighed(weight: u32, deviation: u32) -> u32 {
    match deviation <= TOLERANCE {
        true => weight + PPM.saturating_sub(weight) / SMOOTHING,
        false => weight / 2,
    }
}

/// A standing after so many settled rounds without the peer: what is known of
/// it fades, toward nothing known. Powers of 63/64 by repeated squaring, at
/// eighteen digits, as the contract has them.
fn faded(standing: Standing, absent: u32) -> Standing {
    const ONE: u128 = 1_000_000_000_000_000_000;
    if absent == 0 {
        return standing;
    }
    let (mut factor, mut base) = (ONE, ONE * u128::from(DECAY - 1) / u128::from(DECAY));
    let mut left = absent;
    while left != 0 {
        if left & 1 != 0 {
            factor = factor * base / ONE;
        }
        base = base * base / ONE;
        left >>= 1;
    }
    let faded = |value: u32| u32::try_from(u128::from(value) * factor / ONE).unwrap_or(u32::MAX);
    let known = PPM.saturating_sub(standing.uncertainty);
    Standing {
        reputation: faded(standing.reputation),
        uncertainty: PPM - faded(known),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(witness: u8, scores: &[u32]) -> Card<u8> {
        let said = (1..).zip(scores.iter().copied());
        let said = said.map(|(peer, score)| (peer, if peer == witness { UNSCORED } else { score }));
        (witness, said.collect())
    }

    fn cards(witnesses: u8, scores: &[u32]) -> Vec<Card<u8>> {
        (1..=witnesses)
            .map(|witness| card(witness, scores))
            .collect()
    }

    fn swarm(peers: u8) -> Standings<u8> {
        let mut standings = Standings::default();
        (1..=peers).for_each(|peer| standings.join(peer));
        standings
    }

    #[test]
    fn a_score_moves_reputation_and_uncertainty_a_sixteenth_of_the_way() {
        let mut standings = swarm(3);
        let outcome = standings.settle(1..=3, &cards(3, &[800_000, 400_000, 0]));
        assert_eq!(outcome.verdicts[&1].score, Some(800_000));
        assert_eq!(outcome.verdicts[&1].judges, 2);
        let first = standings.standing(1);
        assert_eq!(first.reputation, 50_000);
        assert_eq!(first.uncertainty, (15 * 1_000_000 + 800_000) / 16);
    }

    #[test]
    fn whoever_is_away_fades_toward_nothing_known() {
        let mut standings = swarm(3);
        standings.settle(1..=3, &cards(3, &[PPM; 3]));
        standings.settle([], &[]);
        assert_eq!(standings.standing(1).reputation, 62_500 * 63 / 64);
        (0..10_000).for_each(|_| standings.count());
        let nothing = Standing {
            reputation: 0,
            uncertainty: PPM,
        };
        assert_eq!(standings.standing(1), nothing);
    }

    #[test]
    fn a_witness_that_is_far_off_loses_its_say_to_those_that_were_right() {
        let mut standings = swarm(7);
        let honest = [500_000; 7];
        for _ in 0..8 {
            let mut said = cards(7, &honest);
            said[6] = card(7, &[0; 7]);
            standings.settle(1..=7, &said);
        }
        assert_eq!(standings.weight(7), 0);
        assert!(standings.weight(1) > 300_000);
        // Three with weight against four newcomers: the three are heard.
        let mut said = cards(3, &honest);
        for newcomer in 8..12 {
            said.push(card(newcomer, &[PPM; 7]));
        }
        assert_eq!(
            standings.score([7], &said).verdicts[&7].score,
            Some(500_000)
        );
    }

    #[test]
    fn only_where_witnesses_differ_is_anybody_compared() {
        let standings = swarm(4);
        let mut said = cards(4, &[500_000; 4]);
        // One is off by far about one peer of four: that is what counts.
        said[0].1.insert(2, 900_000);
        let outcome = standings.score(1..=4, &said);
        assert_eq!(outcome.weighed[&1], (400_000, 0));
        assert_eq!(outcome.weighed[&3], (0, PPM / SMOOTHING));
        // The second is not compared with what others say of itself.
        assert_eq!(outcome.weighed[&2], (0, PPM / SMOOTHING));
    }

    #[test]
    fn a_missed_round_and_a_fault_cost_what_the_contract_says() {
        let mut standings = swarm(3);
        standings.settle(1..=3, &cards(3, &[PPM; 3]));
        assert_eq!(standings.weight(1), 62_500);
        standings.miss(1);
        assert_eq!(standings.weight(1), 62_500 - 3_906);
        standings.fault(1);
        assert_eq!(
            (standings.weight(1), standings.standing(1).reputation),
            (0, 31_250)
        );
    }
}

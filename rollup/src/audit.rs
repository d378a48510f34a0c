//! The ledger's own arithmetic, done again: from a round's signed cards and what was
//! settled before it, to the scores, reputations and root that its events claim.
//!
//! Pure: no network. A chain that answers for itself (a devnet, a lying RPC) can claim
//! anything; what it cannot do is sign for the witnesses or change how a median is taken.

use std::collections::BTreeMap;

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue;

use crate::chronicle::{Round, Step};
use crate::contracts::abi::ledger::IReputationLedger::Score;
use crate::history::{ScoredPeer, SettledRound};
use crate::merkle;
use crate::scorecard::{Domain, PPM, SignedScorecard, UNSCORED};

/// How far a settled round moves a reputation to its score, its uncertainty to how far
/// off it was, and a witness's weight to a whole: a sixteenth of the way.
pub const SMOOTHING: u32 = 16;
/// What a settled round without the peer costs its reputation: one part in 64.
pub const DECAY: u32 = 64;
/// How far from the medians a witness may be on average and still gain weight, in ppm.
pub const TOLERANCE: u32 = 100_000;
/// Judges of a peer that have earned weight, from which on weights count.
const ESTABLISHED: usize = 3;
/// A weight counts for at most so many times the median of those present.
const CLIP: u64 = 3;

/// What of a round differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// The hash of the included set.
    Included,
    /// The randomness that its draws come from.
    Beacon,
    /// The witnesses that are said to have signed.
    Witnesses,
    /// A signature.
    Signature {
        /// Whose it is said to be.
        witness: [u8; 20],
    },
    /// Whether enough witnesses signed.
    Quorum,
    /// What a witness says of a peer.
    Score {
        /// Who says it.
        witness: [u8; 20],
        /// Of whom.
        peer: [u8; 20],
    },
    /// Which peers are scored.
    Peers,
    /// The median of what others say of a peer.
    Median {
        /// Of whom.
        peer: [u8; 20],
    },
    /// How many others scored a peer.
    Judges {
        /// Whom.
        peer: [u8; 20],
    },
    /// A peer's reputation after the round.
    Reputation {
        /// Whose.
        peer: [u8; 20],
    },
    /// How unsure its reputation is after the round.
    Uncertainty {
        /// Whose.
        peer: [u8; 20],
    },
    /// What a witness's word weighs after the round.
    Weight {
        /// Whose.
        witness: [u8; 20],
    },
    /// The Merkle root over what the round says of every peer.
    Scores,
    /// The hash over everything settled so far.
    Root,
}

/// A line on which the chain and the recomputation disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which line.
    pub line: Line,
    /// What is claimed.
    pub claimed: String,
    /// What follows from the evidence.
    pub recomputed: String,
}

impl Difference {
    /// A difference, unless the two are equal.
    pub fn between<T: PartialEq + std::fmt::Display>(
        line: Line,
        claimed: T,
        recomputed: T,
    ) -> Option<Self> {
        (claimed != recomputed).then(|| Self {
            line,
            claimed: claimed.to_string(),
            recomputed: recomputed.to_string(),
        })
    }
}

/// What a swarm's events did to its standings, followed in order.
#[derive(Clone, Debug)]
pub struct Replay {
    swarm: [u8; 32],
    root: B256,
    settled: u32,
    /// When each settled round did, counted from one.
    places: BTreeMap<u64, u32>,
    standings: BTreeMap<[u8; 20], Held>,
}

/// What the ledger holds of a peer.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    reputation: u32,
    uncertainty: u32,
    weight: u32,
    /// How many rounds had settled when the first two were last brought up to date.
    as_of: u32,
}

impl Replay {
    /// The beginning: nothing has settled.
    pub fn new(swarm: [u8; 32]) -> Self {
        Self {
            swarm,
            root: B256::ZERO,
            settled: 0,
            places: BTreeMap::new(),
            standings: BTreeMap::new(),
        }
    }

    /// Checks the next settled round against the cards that settled it, and goes on from
    /// what the chain claims: so one false line is told once, not in every later round.
    pub fn check(
        &mut self,
        round: &Round,
        settled: &SettledRound,
        cards: &[SignedScorecard],
        domain: &Domain,
    ) -> Vec<Difference> {
        let mut found = self.signatures(round, settled, cards, domain);
        let listed: Vec<[u8; 20]> = cards
            .first()
            .map(|signed| signed.card.scores.iter().map(|(peer, _)| *peer).collect())
            .unwrap_or_default();
        let scored: Vec<[u8; 20]> = settled.scores.iter().map(|scored| scored.peer).collect();
        found.extend(Difference::between(
            Line::Peers,
            names(&scored),
            names(&listed),
        ));
        let weights = self.weights(cards);
        let mut leaves = Vec::with_capacity(scored.len());
        let mut off: BTreeMap<[u8; 20], (u64, u64)> = BTreeMap::new();
        for scored in &settled.scores {
            let peer = scored.peer;
            let (median, judges) = median(peer, cards, &weights);
            let expected = self.recorded(peer, scored.score);
            let lines = [
                Difference::between(Line::Median { peer }, say(scored.score), say(median)),
                between(Line::Judges { peer }, scored.judges, judges),
                between(
                    Line::Reputation { peer },
                    scored.reputation,
                    expected.reputation,
                ),
                between(
                    Line::Uncertainty { peer },
                    scored.uncertainty,
                    expected.uncertainty,
                ),
            ];
            found.extend(lines.into_iter().flatten());
            leaves.push(leaf(scored));
            for (witness, given) in given(peer, cards) {
                if let (Some(median), true) = (median, judges >= 2) {
                    let (distance, compared) = off.entry(witness).or_default();
                    *distance += u64::from(given.abs_diff(median));
                    *compared += 1;
                }
            }
        }
        for (witness, _, weight) in &round.weighed {
            let (distance, compared) = off.get(witness).copied().unwrap_or_default();
            let held = self.standings.get(witness).map_or(0, |held| held.weight);
            let expected = weighed(held, distance.checked_div(compared).unwrap_or(0));
            let line = Line::Weight { witness: *witness };
            found.extend(between(line, *weight, expected));
        }
        let scores = merkle::Tree::new(leaves).root();
        let claimed = B256::from(settled.scores_root);
        found.extend(Difference::between(Line::Scores, claimed, scores));
        let root = (
            self.root,
            settled.round,
            B256::from(settled.included),
            claimed,
        );
        let root = keccak256(root.abi_encode_params());
        found.extend(Difference::between(
            Line::Root,
            B256::from(settled.root),
            root,
        ));
        self.settle(round, settled);
        found
    }

    /// Takes what an event did to a standing, as the chain claims it.
    pub fn follow(&mut self, step: &Step, rounds: &BTreeMap<u64, Round>) {
        match *step {
            Step::Joined { peer } => {
                self.standings.entry(peer).or_default().uncertainty = PPM;
            }
            Step::Missed { witness } => {
                let held = self.standings.entry(witness).or_default();
                held.weight -= held.weight / SMOOTHING;
            }
            Step::Faulted { witness } => {
                let (reputation, uncertainty) = self.standing(witness);
                let held = Held {
                    reputation: reputation / 2,
                    uncertainty,
                    weight: 0,
                    as_of: self.settled,
                };
                self.standings.insert(witness, held);
            }
            Step::Applied {
                peer,
                round,
                reputation,
                uncertainty,
            } => {
                let place = self.places.get(&round).copied().unwrap_or(self.settled);
                let held = self.standings.entry(peer).or_default();
                (held.reputation, held.uncertainty) = (reputation, uncertainty);
                held.as_of = place;
            }
            Step::Settled { round } => {
                if let Some(round) = rounds.get(&round)
                    && let Some(settled) = &round.settled
                {
                    self.settle(round, settled);
                }
            }
        }
    }

    /// Takes a settled round as the chain claims it.
    fn settle(&mut self, round: &Round, settled: &SettledRound) {
        self.settled += 1;
        self.root = settled.root.into();
        self.places.insert(settled.round, self.settled);
        for scored in &settled.scores {
            let held = self.standings.entry(scored.peer).or_default();
            (held.reputation, held.uncertainty) = (scored.reputation, scored.uncertainty);
            held.as_of = self.settled;
        }
        for (witness, _, weight) in &round.weighed {
            self.standings.entry(*witness).or_default().weight = *weight;
        }
    }

    /// A peer's reputation and uncertainty now, with what its absence has cost.
    pub fn standing(&self, peer: [u8; 20]) -> (u32, u32) {
        let held = self.standings.get(&peer).copied().unwrap_or_default();
        decayed(held, self.settled.saturating_sub(held.as_of))
    }

    /// What a round's score makes of a standing.
    fn recorded(&self, peer: [u8; 20], score: Option<u32>) -> Held {
        let (mut reputation, mut uncertainty) = self.standing(peer);
        if let Some(score) = score {
            let surprise = score.abs_diff(reputation);
            uncertainty = toward(uncertainty, surprise);
            reputation = toward(reputation, score);
        }
        Held {
            reputation,
            uncertainty,
            ..Held::default()
        }
    }

    /// What each card's word weighs: earned before this round, clipped at three times
    /// the median of those above zero.
    fn weights(&self, cards: &[SignedScorecard]) -> BTreeMap<[u8; 20], u64> {
        let weight = |witness: &[u8; 20]| {
            let held = self.standings.get(witness);
            held.map_or(0, |held| held.weight)
        };
        let mut earned: Vec<u64> = cards
            .iter()
            .map(|signed| u64::from(weight(&signed.witness)))
            .filter(|weight| *weight > 0)
            .collect();
        earned.sort_unstable();
        let middle = earned.len().saturating_sub(1) / 2;
        let limit = earned.get(middle).map_or(0, |median| CLIP * median);
        let clipped = |signed: &SignedScorecard| {
            let weight = u64::from(weight(&signed.witness));
            (signed.witness, weight.min(limit))
        };
        cards.iter().map(clipped).collect()
    }

    fn signatures(
        &self,
        round: &Round,
        settled: &SettledRound,
        cards: &[SignedScorecard],
        domain: &Domain,
    ) -> Vec<Difference> {
        let mut found = Vec::new();
        let signed: Vec<[u8; 20]> = cards.iter().map(|card| card.witness).collect();
        found.extend(Difference::between(
            Line::Witnesses,
            names(&settled.witnesses),
            names(&signed),
        ));
        let mut valid = Vec::new();
        for signed in cards {
            let (witness, card) = (signed.witness, &signed.card);
            found.extend(Difference::between(
                Line::Included,
                hex::encode(settled.included),
                hex::encode(card.included),
            ));
            let problem = if (card.swarm, card.round) != (self.swarm, settled.round) {
                Some("of another swarm or round")
            } else if !round.committee.contains(&witness) {
                Some("of no witness of this round")
            } else if valid.contains(&witness) {
                Some("counted twice")
            } else if !signed.is_valid(domain) {
                Some("not made by that key over this card")
            } else {
                valid.push(witness);
                None
            };
            found.extend(problem.map(|problem| Difference {
                line: Line::Signature { witness },
                claimed: "signed".to_owned(),
                recomputed: problem.to_owned(),
            }));
        }
        if 3 * valid.len() <= 2 * round.committee.len() {
            found.push(Difference {
                line: Line::Quorum,
                claimed: "settled".to_owned(),
                recomputed: format!(
                    "{} of {} witnesses signed, more than two thirds are needed",
                    valid.len(),
                    round.committee.len()
                ),
            });
        }
        found.dedup();
        found
    }
}

/// What each other witness says of a peer.
fn given(
    peer: [u8; 20],
    cards: &[SignedScorecard],
) -> impl Iterator<Item = ([u8; 20], u32)> + Clone {
    let others = cards.iter().filter(move |signed| signed.witness != peer);
    others.filter_map(move |signed| {
        let (_, score) = signed.card.scores.iter().find(|(of, _)| *of == peer)?;
        (*score != UNSCORED && *score <= PPM).then_some((signed.witness, *score))
    })
}

/// The lower weighted median of what the others say of a peer, and how many do. With
/// fewer than three whose word has earned weight, all count alike.
fn median(
    peer: [u8; 20],
    cards: &[SignedScorecard],
    weights: &BTreeMap<[u8; 20], u64>,
) -> (Option<u32>, u32) {
    let weight = |witness| weights.get(&witness).copied().unwrap_or(0);
    let mut sorted: Vec<(u32, u64)> = given(peer, cards)
        .map(|(witness, score)| (score, weight(witness)))
        .collect();
    sorted.sort_unstable();
    let judges = u32::try_from(sorted.len()).unwrap_or(u32::MAX);
    let established = sorted.iter().filter(|(_, weight)| *weight > 0).count();
    if established < ESTABLISHED {
        let middle = sorted.len().saturating_sub(1) / 2;
        return (sorted.get(middle).map(|(score, _)| *score), judges);
    }
    let total: u64 = sorted.iter().map(|(_, weight)| weight).sum();
    let mut below = 0;
    let found = sorted.iter().find(|(_, weight)| {
        below += weight;
        2 * below >= total
    });
    (found.map(|(score, _)| *score), judges)
}

/// A sixteenth of the way from one to the other.
fn toward(from: u32, to: u32) -> u32 {
    let sum = u64::from(from) * u64::from(SMOOTHING - 1) + u64::from(to);
    u32::try_from(sum / u64::from(SMOOTHING)).unwrap_or(u32::MAX)
}

/// What a witness's word weighs after a round in which it was so far off on average.
fn weighed(weight: u32, deviation: u64) -> u32 {
    match deviation <= u64::from(TOLERANCE) {
        true => weight + PPM.saturating_sub(weight) / SMOOTHING,
        false => weight / 2,
    }
}

/// Reputation and uncertainty after so many settled rounds without the peer, as the
/// contract has it: powers of 63/64 by repeated squaring, at eighteen digits.
fn decayed(held: Held, absent: u32) -> (u32, u32) {
    const ONE: u128 = 1_000_000_000_000_000_000;
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
    let known = PPM.saturating_sub(held.uncertainty);
    match absent {
        0 => (held.reputation, held.uncertainty),
        _ => (faded(held.reputation), PPM - faded(known)),
    }
}

/// What a round says of a peer, as a leaf of its tree.
fn leaf(scored: &ScoredPeer) -> B256 {
    merkle::leaf(&Score {
        peer: scored.peer.into(),
        score: scored.score.unwrap_or(0),
        reputation: scored.reputation,
        uncertainty: scored.uncertainty,
    })
}

fn between(line: Line, claimed: u32, recomputed: u32) -> Option<Difference> {
    Difference::between(line, claimed, recomputed)
}

fn say(score: Option<u32>) -> String {
    score.map_or_else(|| "unscored".to_owned(), |score| score.to_string())
}

fn names(addresses: &[[u8; 20]]) -> String {
    let names: Vec<String> = addresses.iter().map(hex::encode).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;

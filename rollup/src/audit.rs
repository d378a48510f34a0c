//! The ledger's own arithmetic, done again: from a round's signed cards and what was
//! settled before it, to the scores, reputations and root that its events claim.
//!
//! Pure: no network. A chain that answers for itself (a devnet, a lying RPC) can claim
//! anything; what it cannot do is sign for the witnesses or change how a median is taken.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, keccak256};
use alloy::sol_types::SolValue;

use crate::chronicle::Round;
use crate::history::SettledRound;
use crate::scorecard::{Domain, PPM, SignedScorecard, UNSCORED};

/// How far a settled round moves a reputation to its score: a sixteenth of the way.
pub const SMOOTHING: u32 = 16;
/// What a settled round without the peer costs it: one part in 64.
pub const DECAY: u32 = 64;

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

/// Settled rounds, followed in the order in which they settled.
#[derive(Clone, Debug)]
pub struct Replay {
    swarm: [u8; 32],
    root: B256,
    settled: u32,
    /// Reputation, and how many rounds had settled when it was last brought up to date.
    standings: BTreeMap<[u8; 20], (u32, u32)>,
}

impl Replay {
    /// The beginning: nothing has settled.
    pub fn new(swarm: [u8; 32]) -> Self {
        Self {
            swarm,
            root: swarm.into(),
            settled: 0,
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
        let mut medians = Vec::with_capacity(listed.len());
        for scored in &settled.scores {
            let peer = scored.peer;
            let (median, judges) = median(peer, cards);
            medians.push(median.unwrap_or(0));
            found.extend(Difference::between(
                Line::Median { peer },
                say(scored.score),
                say(median),
            ));
            found.extend(Difference::between(
                Line::Judges { peer },
                scored.judges,
                judges,
            ));
            let reputation = self.reputation(peer, scored.score);
            found.extend(Difference::between(
                Line::Reputation { peer },
                scored.reputation,
                reputation,
            ));
        }
        let peers: Vec<Address> = scored.iter().map(Address::from).collect();
        let scores = keccak256((peers, medians).abi_encode_params());
        let root = (
            self.root,
            settled.round,
            B256::from(settled.included),
            scores,
        );
        let root = keccak256(root.abi_encode_params());
        found.extend(Difference::between(
            Line::Root,
            B256::from(settled.root),
            root,
        ));
        self.follow(settled);
        found
    }

    /// Takes a settled round as the chain claims it, unchecked.
    pub fn follow(&mut self, settled: &SettledRound) {
        self.settled += 1;
        self.root = settled.root.into();
        for scored in &settled.scores {
            let standing = (scored.reputation, self.settled);
            self.standings.insert(scored.peer, standing);
        }
    }

    /// A peer's reputation now, with what its absence has cost.
    pub fn standing(&self, peer: [u8; 20]) -> u32 {
        let (reputation, as_of) = self.standings.get(&peer).copied().unwrap_or_default();
        decayed(reputation, self.settled.saturating_sub(as_of))
    }

    fn reputation(&self, peer: [u8; 20], score: Option<u32>) -> u32 {
        let before = self.standing(peer);
        let Some(score) = score else { return before };
        let sum = u64::from(before) * u64::from(SMOOTHING - 1) + u64::from(score);
        u32::try_from(sum / u64::from(SMOOTHING)).unwrap_or(u32::MAX)
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

/// The lower median of what the others say of a peer, and how many do.
pub fn median(peer: [u8; 20], cards: &[SignedScorecard]) -> (Option<u32>, u32) {
    let mut given: Vec<u32> = cards
        .iter()
        .filter(|signed| signed.witness != peer)
        .filter_map(|signed| {
            let row = signed.card.scores.iter().find(|(of, _)| *of == peer)?;
            (row.1 != UNSCORED && row.1 <= PPM).then_some(row.1)
        })
        .collect();
    given.sort_unstable();
    let middle = given.len().saturating_sub(1) / 2;
    let judges = u32::try_from(given.len()).unwrap_or(u32::MAX);
    (given.get(middle).copied(), judges)
}

/// A reputation after so many settled rounds without its owner, as the contract has it:
/// powers of 63/64 by repeated squaring, at eighteen digits.
fn decayed(reputation: u32, absent: u32) -> u32 {
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
    u32::try_from(u128::from(reputation) * factor / ONE).unwrap_or(u32::MAX)
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

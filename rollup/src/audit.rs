//! The ledger's own arithmetic, done again: from a round's signed cards and what was
//! settled before it, to the scores, reputations and root that its events claim.
//!
//! Pure: no network. A chain that answers for itself (a devnet, a lying RPC) can claim
//! anything; what it cannot do is sign for the witnesses or change how a median is taken.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256, keccak256};
use alloy::sol_types::SolValue;
use swarm_core::ledger::{Card, Standing, Standings};

use crate::chronicle::{Round, Step};
use crate::contracts::abi::ledger::IReputationLedger::Score;
use crate::history::{ScoredPeer, SettledRound};
use crate::merkle;
use crate::scorecard::{Domain, SignedScorecard};

/// What of a round differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    /// The hash of the included set.
    Included,
    /// The randomness that its draws come from.
    Beacon,
    /// The plan of what was asked.
    Plan,
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
    /// When each settled round did, counted from one.
    places: BTreeMap<u64, u32>,
    standings: Standings<[u8; 20]>,
}

impl Replay {
    /// The beginning: nothing has settled.
    pub fn new(swarm: [u8; 32]) -> Self {
        Self {
            swarm,
            root: B256::ZERO,
            places: BTreeMap::new(),
            standings: Standings::default(),
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
        let said: Vec<Card<[u8; 20]>> = cards
            .iter()
            .map(|signed| (signed.witness, signed.card.scores.iter().copied().collect()))
            .collect();
        let outcome = self.standings.score(scored, &said);
        let mut leaves = Vec::with_capacity(settled.scores.len());
        for scored in &settled.scores {
            let peer = scored.peer;
            let verdict = outcome.verdicts[&peer];
            // From the score that is claimed, so that a false one is told of once.
            let expected = self.standings.moved(peer, scored.score);
            let lines = [
                Difference::between(Line::Median { peer }, say(scored.score), say(verdict.score)),
                between(Line::Judges { peer }, scored.judges, verdict.judges),
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
        }
        let claimed: BTreeMap<_, _> = round
            .weighed
            .iter()
            .map(|(witness, _, weight)| (*witness, *weight))
            .collect();
        let weighed = outcome.weighed.iter();
        let weighed: BTreeMap<_, _> = weighed
            .map(|(witness, (_, weight))| (*witness, *weight))
            .collect();
        let witnesses: BTreeSet<_> = claimed.keys().chain(weighed.keys()).collect();
        for witness in witnesses {
            let line = Line::Weight { witness: *witness };
            let (claimed, expected) = (claimed.get(witness), weighed.get(witness));
            found.extend(Difference::between(
                line,
                say(claimed.copied()),
                say(expected.copied()),
            ));
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
            Step::Joined { peer } => self.standings.join(peer),
            Step::Missed { witness } => self.standings.miss(witness),
            Step::Faulted { witness } => self.standings.fault(witness),
            Step::Applied {
                peer,
                round,
                reputation,
                uncertainty,
            } => {
                let now = self.standings.settled();
                let place = self.places.get(&round).copied().unwrap_or(now);
                let standing = Standing {
                    reputation,
                    uncertainty,
                };
                self.standings.set(peer, standing, place);
            }
            Step::Opened { .. } => {}
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
        self.standings.count();
        let place = self.standings.settled();
        self.root = settled.root.into();
        self.places.insert(settled.round, place);
        for scored in &settled.scores {
            let standing = Standing {
                reputation: scored.reputation,
                uncertainty: scored.uncertainty,
            };
            self.standings.set(scored.peer, standing, place);
        }
        for (witness, _, weight) in &round.weighed {
            self.standings.set_weight(*witness, *weight);
        }
    }

    /// A peer's reputation and uncertainty now, with what its absence has cost.
    pub fn standing(&self, peer: [u8; 20]) -> Standing {
        self.standings.standing(peer)
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

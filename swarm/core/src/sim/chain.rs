//! The ledger as the contract has it: rounds are opened in order, witnesses
//! are drawn from members that are not away, and a settlement needs more than
//! two thirds of them on the same terms.

use std::collections::{BTreeMap, BTreeSet};

use tasks::Seed;

use crate::draw;
use crate::ids::{Address, Beacon, Hash, PeerId, TxHash};
use crate::ledger::{COMMITTEE, Card, MISSES, Standings};
use crate::message::{EvmSignature, Seal};
use crate::plan::{SettledSet, Step, settled_before};
use crate::round::Settlement;

/// A settled round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The transaction.
    pub tx: TxHash,
    /// The hash of the included set.
    pub included: Hash,
    /// The witnesses whose cards were used.
    pub witnesses: Vec<Address>,
    /// The median of what others say of each.
    pub scores: BTreeMap<Address, u32>,
}

#[derive(Debug, Clone)]
pub(super) struct OpenedRound {
    pub(super) round: u64,
    pub(super) beacon: Beacon,
    pub(super) committee: Vec<(PeerId, Address)>,
    pub(super) settled: Vec<SettledSet>,
}

pub(super) struct Ledger {
    seed: u64,
    members: BTreeMap<PeerId, (Address, u8)>,
    rounds: BTreeMap<u64, OpenedRound>,
    standings: Standings<Address>,
    pub(super) settled: BTreeMap<u64, Settled>,
    /// Whose cards of a round are sealed.
    sealed: BTreeMap<u64, BTreeSet<Address>>,
    steps: Vec<Step>,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            members: BTreeMap::new(),
            rounds: BTreeMap::new(),
            standings: Standings::default(),
            settled: BTreeMap::new(),
            sealed: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// Joins, or says that it is back.
    pub(super) fn check_in(&mut self, peer: PeerId, address: Address) {
        self.members.insert(peer, (address, 0));
        self.standings.join(address);
    }

    /// The first round that is not open.
    pub(super) fn next_round(&self) -> u64 {
        self.rounds.keys().next_back().map_or(1, |last| last + 1)
    }

    /// Opens a round, or tells of it if it is open, or of the last one if it
    /// was passed over.
    pub(super) fn open(&mut self, round: u64) -> OpenedRound {
        if round >= self.next_round() {
            let beacon = Beacon(
                Seed::derive(&[
                    b"simulated beacon",
                    &self.seed.to_le_bytes(),
                    &round.to_le_bytes(),
                ])
                .0,
            );
            let seated = self
                .members
                .iter()
                .filter(|(_, (_, missed))| *missed < MISSES);
            let seated: Vec<PeerId> = seated.map(|(peer, _)| *peer).collect();
            let pool = if seated.is_empty() {
                self.members.keys().copied().collect()
            } else {
                seated
            };
            let committee = draw::ranked(b"simulated committee", beacon, None, pool)
                .into_iter()
                .take(COMMITTEE)
                .map(|peer| (peer, self.members[&peer].0))
                .collect();
            self.steps.push(Step::Opened(round));
            self.rounds.insert(
                round,
                OpenedRound {
                    round,
                    beacon,
                    committee,
                    settled: settled_before(&self.steps, round),
                },
            );
        }
        let known = self.rounds.get(&round);
        let last = self.rounds.values().next_back();
        known.or(last).expect("a round was just opened").clone()
    }

    /// Seals a round's cards, unless they are; whose they are.
    pub(super) fn seal(&mut self, round: u64, seals: &[(Address, Seal)]) -> BTreeSet<Address> {
        let witnesses = seals.iter().map(|(witness, _)| *witness).collect();
        self.sealed.entry(round).or_insert(witnesses).clone()
    }

    /// Checks and records a settlement; a settled round stays as it is.
    pub(super) fn settle(&mut self, settlement: &Settlement) -> Result<(), &'static str> {
        let Settlement {
            round,
            included,
            cards,
            seals,
        } = settlement;
        if self.settled.contains_key(round) {
            return Ok(());
        }
        let opened = self.rounds.get(round).ok_or("not opened")?;
        let committee: Vec<Address> = opened
            .committee
            .iter()
            .map(|(_, address)| *address)
            .collect();
        if 3 * cards.len() <= 2 * committee.len() {
            return Err("no quorum");
        }
        let mut witnesses = Vec::new();
        let named = |index: usize| -> Vec<Address> {
            cards[index]
                .1
                .scores
                .iter()
                .map(|(address, _)| *address)
                .collect()
        };
        let sealed = self.sealed.get(round);
        if !seals.is_empty() && sealed.is_none() {
            return Err("not sealed");
        }
        for (index, (witness, card)) in cards.iter().enumerate() {
            if sealed.is_some_and(|sealed| !sealed.contains(witness)) {
                return Err("another card than the sealed one");
            }
            if !committee.contains(witness) || witnesses.contains(witness) {
                return Err("not a witness, or twice");
            }
            if card.signature != sign(*witness, *included, &card.scores)
                || card.included != *included
            {
                return Err("bad signature");
            }
            if named(index) != named(0) {
                return Err("other addresses");
            }
            witnesses.push(*witness);
        }
        for (peer, address) in &opened.committee {
            if let Some((_, missed)) = self.members.get_mut(peer) {
                if witnesses.contains(address) {
                    *missed = 0;
                } else {
                    *missed += 1;
                    self.standings.miss(*address);
                }
            }
        }
        let peers = named(0);
        let said: Vec<Card<Address>> = cards
            .iter()
            .map(|(witness, card)| (*witness, card.scores.iter().copied().collect()))
            .collect();
        let outcome = self.standings.settle(peers, &said);
        let tx = Seed::derive(&[b"tx", &round.to_le_bytes(), &included.0]);
        self.steps.push(Step::Settled((*round, *included)));
        self.settled.insert(
            *round,
            Settled {
                tx: TxHash(tx.0),
                included: *included,
                witnesses,
                scores: outcome
                    .verdicts
                    .into_iter()
                    .map(|(address, verdict)| (address, verdict.score.unwrap_or(0)))
                    .collect(),
            },
        );
        Ok(())
    }
}

/// A signature that only the simulated owner makes.
pub(super) fn sign(owner: Address, included: Hash, scores: &[(Address, u32)]) -> EvmSignature {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&owner.0);
    hasher.update(&included.0);
    for (address, score) in scores {
        hasher.update(&address.0);
        hasher.update(&score.to_le_bytes());
    }
    let mut signature = [0; 65];
    hasher.finalize_xof().fill(&mut signature);
    EvmSignature(signature)
}

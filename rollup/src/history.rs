//! What was settled, read back from the ledger's events.
//!
//! A round's events say everything about it, so this needs no other source. Logs are
//! asked for in short ranges, since public nodes refuse long ones.

use std::collections::BTreeMap;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::B256;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;

use crate::contracts::abi::ledger::ReputationLedger as L;
use crate::error::LedgerError;
use crate::ledger::Ledger;
use crate::swarm::Swarm;

/// Blocks asked for at once, to begin with.
const RANGE: u64 = 2_000;

/// A settled round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRound {
    /// Its number.
    pub round: u64,
    /// What it included.
    pub included: [u8; 32],
    /// Who sent the transaction.
    pub relayer: [u8; 20],
    /// Whose signatures settled it.
    pub witnesses: Vec<[u8; 20]>,
    /// The Merkle root over what it says of every peer.
    pub scores_root: [u8; 32],
    /// The hash over everything settled up to it.
    pub root: [u8; 32],
    /// The transaction that settled it.
    pub tx: [u8; 32],
    /// The block that is in.
    pub block: u64,
    /// The peers it included, by address.
    pub scores: Vec<ScoredPeer>,
}

/// What a round said of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoredPeer {
    /// Its address.
    pub peer: [u8; 20],
    /// The median of what others say of it, in parts per million; `None` if no other
    /// witness scored it.
    pub score: Option<u32>,
    /// How many others scored it.
    pub judges: u32,
    /// Its reputation after the round.
    pub reputation: u32,
    /// How far its next score may well be from that, in parts per million.
    pub uncertainty: u32,
}

/// A round's opening or settlement, and the block it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// The round.
    pub round: u64,
    /// What it included, if it settled; else it was opened.
    pub settled: Option<[u8; 32]>,
    /// The block.
    pub block: u64,
}

/// How sure it is that a block stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finality {
    /// The chain's sequencer has taken it; it could still be undone.
    Sequenced,
    /// Its data is on the layer below; it could be undone with that.
    Safe,
    /// It stays.
    Finalized,
}

impl Ledger {
    /// How sure it is that a block stays, or `None` if there is no such block (any more).
    pub async fn finality(&self, block: u64) -> Result<Option<Finality>, LedgerError> {
        if block > self.height().await? {
            return Ok(None);
        }
        for (tag, finality) in [
            (BlockNumberOrTag::Finalized, Finality::Finalized),
            (BlockNumberOrTag::Safe, Finality::Safe),
        ] {
            match self.reader().header(tag).await {
                Ok(Some((number, _))) if number >= block => return Ok(Some(finality)),
                // A chain that has nothing final yet says so, or that it knows no such tag.
                Ok(_) | Err(LedgerError::Declined { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Finality::Sequenced))
    }

    /// Logs from a block on, in order.
    pub(crate) async fn logs_since(
        &self,
        filter: Filter,
        mut from: u64,
    ) -> Result<Vec<Log>, LedgerError> {
        let height = self.height().await?;
        let (mut range, mut grows) = (RANGE, true);
        let mut found = Vec::new();
        while from <= height {
            let to = height.min(from.saturating_add(range - 1));
            let part = filter.clone().from_block(from).to_block(to);
            match self.reader().logs(&part).await {
                Ok(logs) => {
                    found.extend(logs);
                    from = to + 1;
                    if grows {
                        range = range.saturating_mul(2);
                    }
                }
                // Too much for this node: ask for less, from now on.
                Err(LedgerError::Declined { .. }) if range > 1 => {
                    (range, grows) = (range / 2, false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl Swarm {
    /// Settled rounds from `from_round` on, in order of settlement.
    pub async fn history(&self, from_round: u64) -> Result<Vec<SettledRound>, LedgerError> {
        let since = match self.round_opened(from_round).await? {
            Some(opened) => opened.time,
            None => self.info().await?.created_at,
        };
        let height = self.ledger.height().await?;
        let from = self.first_block_at(since, height).await?;
        let filter = Filter::new()
            .address(self.ledger.addresses().ledger)
            .event_signature(vec![
                L::RoundSettled::SIGNATURE_HASH,
                L::PeerScored::SIGNATURE_HASH,
            ])
            .topic1(self.id);
        let mut folded = Folded::default();
        for log in self.ledger.logs_since(filter, from).await? {
            folded
                .take(&log)
                .map_err(|error| self.ledger.reader().unreadable(error))?;
        }
        folded.rounds.retain(|settled| settled.round >= from_round);
        Ok(folded.rounds)
    }

    /// The openings and settlements of rounds from a block on, in the ledger's order;
    /// with no block, from the swarm's beginning.
    pub async fn milestones(&self, from: Option<u64>) -> Result<Vec<Milestone>, LedgerError> {
        let from = match from {
            Some(block) => block,
            None => {
                let created = self.info().await?.created_at;
                let height = self.ledger.height().await?;
                self.first_block_at(created, height).await?
            }
        };
        let filter = Filter::new()
            .address(self.ledger.addresses().ledger)
            .event_signature(vec![
                L::RoundOpened::SIGNATURE_HASH,
                L::RoundSettled::SIGNATURE_HASH,
            ])
            .topic1(self.id);
        let logs = self.ledger.logs_since(filter, from).await?;
        let milestone = |log: &Log| -> Result<Milestone, alloy::sol_types::Error> {
            let (round, settled) = match log.topics().first() {
                Some(&L::RoundOpened::SIGNATURE_HASH) => {
                    (L::RoundOpened::decode_log(&log.inner)?.data.round, None)
                }
                _ => {
                    let event = L::RoundSettled::decode_log(&log.inner)?.data;
                    (event.round, Some(event.included.0))
                }
            };
            Ok(Milestone {
                round,
                settled,
                block: log.block_number.unwrap_or_default(),
            })
        };
        logs.iter()
            .map(|log| milestone(log).map_err(|error| self.ledger.reader().unreadable(error)))
            .collect()
    }

    /// The first block made at `time` or later. Found by the headers' clocks: what a
    /// contract calls the block's number is not that on every rollup.
    pub(crate) async fn first_block_at(&self, time: u64, height: u64) -> Result<u64, LedgerError> {
        // Nothing of the ledger's is older than itself.
        let first = self.ledger.profile().deploy_block.min(height);
        let (mut low, mut high) = (first, height);
        while low < high {
            let middle = low + (high - low) / 2;
            let header = self
                .ledger
                .reader()
                .header(BlockNumberOrTag::Number(middle))
                .await?;
            match header {
                Some((_, made)) if made >= time => high = middle,
                // Nodes may have dropped their oldest blocks.
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }
}

/// Events put together as they come: a round's scores precede it.
#[derive(Default)]
pub(crate) struct Folded {
    pub(crate) rounds: Vec<SettledRound>,
    scores: BTreeMap<u64, Vec<ScoredPeer>>,
}

impl Folded {
    pub(crate) fn take(&mut self, log: &Log) -> Result<(), alloy::sol_types::Error> {
        match log.topics().first() {
            Some(&L::PeerScored::SIGNATURE_HASH) => {
                let event = L::PeerScored::decode_log(&log.inner)?.data;
                self.scores
                    .entry(event.round)
                    .or_default()
                    .push(ScoredPeer {
                        peer: event.peer.into_array(),
                        score: (event.judges > 0).then_some(event.score),
                        judges: event.judges,
                        reputation: event.reputation,
                        uncertainty: event.uncertainty,
                    });
            }
            Some(&L::RoundSettled::SIGNATURE_HASH) => {
                let event = L::RoundSettled::decode_log(&log.inner)?.data;
                self.rounds.push(SettledRound {
                    round: event.round,
                    included: event.included.0,
                    relayer: event.relayer.into_array(),
                    witnesses: event.witnesses.iter().map(|w| w.into_array()).collect(),
                    scores_root: event.scores.0,
                    root: event.root.0,
                    tx: log.transaction_hash.unwrap_or(B256::ZERO).0,
                    block: log.block_number.unwrap_or_default(),
                    scores: self.scores.remove(&event.round).unwrap_or_default(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

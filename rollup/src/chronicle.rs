//! Everything a swarm's events say, put in order: who its peers are, which rounds were
//! opened, settled or voided, and which cards settled them. An explorer needs no other
//! source; [`crate::audit`] checks it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use alloy::rpc::types::{Filter, Log};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolEvent};

use crate::connection::{ChainProfile, Connection};
use crate::contracts::abi::ledger::ReputationLedger as L;
use crate::error::LedgerError;
use crate::history::{Folded, SettledRound};
use crate::ledger::Ledger;
use crate::scorecard::{Scorecard, SignedScorecard};
use crate::swarm::Swarm;

/// What a swarm's events say.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    /// Rounds that were opened, by number.
    pub rounds: BTreeMap<u64, Round>,
    /// Numbers of settled rounds, in the order in which they settled.
    pub settled: Vec<u64>,
    /// The block that each member joined in.
    pub joined: BTreeMap<[u8; 20], u64>,
    /// The newest block that was read.
    pub height: u64,
}

/// One round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Its randomness.
    pub beacon: [u8; 32],
    /// Its witnesses, as the ledger drew them.
    pub committee: Vec<[u8; 20]>,
    /// The transaction that opened it.
    pub opened_tx: [u8; 32],
    /// The block that is in.
    pub opened_block: u64,
    /// What settled it, if anything has.
    pub settled: Option<SettledRound>,
    /// Who gave up on it, if anybody did.
    pub voided_by: Option<[u8; 20]>,
    /// Witnesses that did not sign, and how many in a row each has missed.
    pub missed: Vec<([u8; 20], u8)>,
}

/// A swarm that a ledger knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSwarm {
    /// Its id on chain.
    pub id: [u8; 32],
    /// Its manifest's hash.
    pub manifest: [u8; 32],
    /// The block it was created in.
    pub block: u64,
}

impl Ledger {
    /// A ledger to read, by its address alone: it says itself which registry it belongs
    /// to. Reading needs an account and no funds, so one is made up.
    pub async fn observe(mut profile: ChainProfile) -> Result<Self, LedgerError> {
        if let Some(ledger) = profile.ledger {
            let connection = Connection::open(&profile, PrivateKeySigner::random()).await?;
            let reader = connection.reader();
            if reader.code(ledger).await?.is_empty() {
                return Err(LedgerError::NoContract {
                    contract: "ReputationLedger",
                    address: ledger,
                    chain_id: profile.chain_id,
                });
            }
            profile.registry = Some(reader.call(ledger, &L::registryCall {}).await?);
        }
        Self::connect(&profile, PrivateKeySigner::random()).await
    }

    /// Asks the chain something in its own words, and gives its answer as it is.
    pub async fn ask(
        &self,
        method: &str,
        params: serde_json::Value,
    ) -> Result<serde_json::Value, LedgerError> {
        self.reader().ask(method, params).await
    }

    /// The swarms that this ledger has seen created since a block.
    pub async fn swarms(&self, from_block: u64) -> Result<Vec<KnownSwarm>, LedgerError> {
        let filter = Filter::new()
            .address(self.addresses().ledger)
            .event_signature(L::SwarmCreated::SIGNATURE_HASH);
        let logs = self.logs_since(filter, from_block).await?;
        logs.iter()
            .map(|log| {
                let event = L::SwarmCreated::decode_log(&log.inner)
                    .map_err(|error| self.reader().unreadable(error))?;
                Ok(KnownSwarm {
                    id: event.swarm.0,
                    manifest: event.manifest.0,
                    block: log.block_number.unwrap_or_default(),
                })
            })
            .collect()
    }
}

impl Swarm {
    /// Everything the swarm's events say.
    pub async fn chronicle(&self) -> Result<Chronicle, LedgerError> {
        let created = self.info().await?.created_at;
        let height = self.ledger.height().await?;
        let from = self.first_block_at(created, height).await?;
        let filter = Filter::new()
            .address(self.ledger.addresses().ledger)
            .topic1(self.id);
        let mut chronicle = Chronicle {
            height,
            ..Chronicle::default()
        };
        let mut folded = Folded::default();
        for log in self.ledger.logs_since(filter, from).await? {
            chronicle
                .take(&log, &mut folded)
                .map_err(|error| self.ledger.reader().unreadable(error))?;
        }
        for settled in folded.rounds {
            chronicle.settled.push(settled.round);
            let round = chronicle.rounds.entry(settled.round).or_default();
            round.settled = Some(settled);
        }
        Ok(chronicle)
    }

    /// The cards that settled a round, from the transaction's own bytes; `None` where
    /// that is no plain call of the ledger (a contract in between, say), so that the
    /// cards have to be found elsewhere.
    pub async fn cards(
        &self,
        settled: &SettledRound,
    ) -> Result<Option<Vec<SignedScorecard>>, LedgerError> {
        let reader = self.ledger.reader();
        let Some((to, input)) = reader.transaction(settled.tx.into()).await? else {
            return Err(reader.unreadable(format!(
                "the chain has no transaction {}, which settled round {}",
                B256::from(settled.tx),
                settled.round
            )));
        };
        let call = L::settleCall::abi_decode(&input);
        let (Ok(call), true) = (call, to == Some(self.ledger.addresses().ledger)) else {
            return Ok(None);
        };
        let cards = call.cards.into_iter().map(|card| {
            let scores = call.peers.iter().zip(card.scores);
            SignedScorecard {
                card: Scorecard {
                    swarm: call.swarm.0,
                    round: call.round,
                    included: call.included.0,
                    scores: scores
                        .map(|(peer, score)| (peer.into_array(), score))
                        .collect(),
                },
                witness: card.witness.into_array(),
                // One that is no signature is found to be nobody's.
                signature: card.signature.as_ref().try_into().unwrap_or([0; 65]),
            }
        });
        Ok(Some(cards.collect()))
    }
}

impl Chronicle {
    fn take(&mut self, log: &Log, folded: &mut Folded) -> Result<(), alloy::sol_types::Error> {
        let block = log.block_number.unwrap_or_default();
        match log.topics().first() {
            Some(&L::RoundOpened::SIGNATURE_HASH) => {
                let event = L::RoundOpened::decode_log(&log.inner)?.data;
                let round = self.rounds.entry(event.round).or_default();
                round.beacon = event.beacon.0;
                round.committee = event.committee.iter().map(|one| one.into_array()).collect();
                round.opened_block = block;
                round.opened_tx = log.transaction_hash.unwrap_or_default().0;
            }
            Some(&L::RoundVoided::SIGNATURE_HASH) => {
                let event = L::RoundVoided::decode_log(&log.inner)?.data;
                let round = self.rounds.entry(event.round).or_default();
                round.voided_by = Some(event.relayer.into_array());
            }
            Some(&L::WitnessMissed::SIGNATURE_HASH) => {
                let event = L::WitnessMissed::decode_log(&log.inner)?.data;
                let round = self.rounds.entry(event.round).or_default();
                round
                    .missed
                    .push((event.witness.into_array(), event.missed));
            }
            Some(&L::PeerJoined::SIGNATURE_HASH) => {
                let event = L::PeerJoined::decode_log(&log.inner)?.data;
                self.joined.insert(event.peer.into_array(), block);
            }
            _ => folded.take(log)?,
        }
        Ok(())
    }

    /// The newest round that settled.
    pub fn newest(&self) -> Option<u64> {
        self.settled.iter().max().copied()
    }

    /// The settled rounds, in the order in which they settled.
    pub fn settlements(&self) -> impl Iterator<Item = (&Round, &SettledRound)> {
        self.settled.iter().filter_map(|number| {
            let round = self.rounds.get(number)?;
            Some((round, round.settled.as_ref()?))
        })
    }
}

/// The contracts' events and functions as a page without a library reads them: names,
/// types, and the hashes that logs and calls are told apart by.
pub fn interface() -> serde_json::Value {
    use serde_json::json;
    let artifacts = [&*crate::contracts::REGISTRY, &*crate::contracts::LEDGER];
    let inputs = |event: &alloy::json_abi::Event| -> Vec<_> {
        let field = |input: &alloy::json_abi::EventParam| {
            json!({
                "name": input.name,
                "type": input.ty,
                "indexed": input.indexed,
                "components": input.components,
            })
        };
        event.inputs.iter().map(field).collect()
    };
    let events = artifacts.iter().flat_map(|artifact| artifact.abi.events());
    let functions = artifacts
        .iter()
        .flat_map(|artifact| artifact.abi.functions());
    json!({
        "events": events
            .map(|event| json!({
                "name": event.name,
                "topic": event.selector(),
                "inputs": inputs(event),
            }))
            .collect::<Vec<_>>(),
        "functions": functions
            .map(|function| json!({
                "name": function.name,
                "selector": function.selector(),
                "inputs": function.inputs,
                "outputs": function.outputs,
            }))
            .collect::<Vec<_>>(),
    })
}

/// An account, as the chain writes it.
pub fn checksummed(address: [u8; 20]) -> String {
    Address::from(address).to_checksum(None)
}

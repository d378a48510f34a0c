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
use crate::contracts::abi::swarms::SwarmRegistry as S;
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
    /// What moved somebody's standing and what began a round, in order.
    pub steps: Vec<Step>,
    /// The newest block that was read.
    pub height: u64,
}

/// What moved somebody's standing, or began a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A peer joined: nothing is known of it.
    Joined {
        /// Who.
        peer: [u8; 20],
    },
    /// A witness did not sign: its word weighs less.
    Missed {
        /// Who.
        witness: [u8; 20],
    },
    /// A witness was proved to have signed two cards for one round.
    Faulted {
        /// Who.
        witness: [u8; 20],
    },
    /// A peer's line of a round that settled by its root alone was brought on chain.
    Applied {
        /// Whose.
        peer: [u8; 20],
        /// Of which round.
        round: u64,
        /// Its reputation after it.
        reputation: u32,
        /// How unsure that is.
        uncertainty: u32,
    },
    /// A round was opened.
    Opened {
        /// Which.
        round: u64,
    },
    /// A round settled.
    Settled {
        /// Which.
        round: u64,
    },
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
    /// How far from the medians each witness was, and what its word weighs afterwards.
    pub weighed: Vec<([u8; 20], u32, u32)>,
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
    /// A ledger to read, by its address alone: it says itself which registries it belongs
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
            profile.swarms = Some(reader.call(ledger, &L::swarmsCall {}).await?);
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

    /// The swarms that this ledger's registry has seen created since a block.
    pub async fn swarms(&self, from_block: u64) -> Result<Vec<KnownSwarm>, LedgerError> {
        self.created(Filter::new(), from_block).await
    }

    /// Those of them that were created with this manifest, on whatever terms.
    pub async fn swarms_of(
        &self,
        manifest: [u8; 32],
        from_block: u64,
    ) -> Result<Vec<KnownSwarm>, LedgerError> {
        let filter = Filter::new().topic2(alloy::primitives::B256::from(manifest));
        self.created(filter, from_block).await
    }

    async fn created(
        &self,
        filter: Filter,
        from_block: u64,
    ) -> Result<Vec<KnownSwarm>, LedgerError> {
        let filter = filter
            .address(self.addresses().swarms)
            .event_signature(S::SwarmCreated::SIGNATURE_HASH);
        let logs = self.logs_since(filter, from_block).await?;
        logs.iter()
            .map(|log| {
                let event = S::SwarmCreated::decode_log(&log.inner)
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
    /// The hash of the manifest that it was created with, whatever its governance has put
    /// in the place of that since.
    pub async fn first_manifest(&self) -> Result<[u8; 32], LedgerError> {
        let info = self.info().await?;
        let height = self.ledger.height().await?;
        let from = self.first_block_at(info.created_at, height).await?;
        let created = self
            .ledger
            .created(Filter::new().topic1(self.id), from)
            .await?;
        let first = created.first();
        let missing = || {
            self.ledger
                .reader()
                .unreadable("the chain tells of no swarm's making")
        };
        first.map(|swarm| swarm.manifest).ok_or_else(missing)
    }

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
            // Four bytes a score.
            let scores = card.scores.chunks_exact(4);
            let scores =
                scores.map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
            let scores = call.peers.iter().zip(scores);
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
                self.steps.push(Step::Opened { round: event.round });
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
                let witness = event.witness.into_array();
                let round = self.rounds.entry(event.round).or_default();
                round.missed.push((witness, event.missed));
                self.steps.push(Step::Missed { witness });
            }
            Some(&L::WitnessWeighed::SIGNATURE_HASH) => {
                let event = L::WitnessWeighed::decode_log(&log.inner)?.data;
                let round = self.rounds.entry(event.round).or_default();
                let witness = event.witness.into_array();
                round.weighed.push((witness, event.deviation, event.weight));
            }
            Some(&L::WitnessFaulted::SIGNATURE_HASH) => {
                let event = L::WitnessFaulted::decode_log(&log.inner)?.data;
                let witness = event.witness.into_array();
                self.steps.push(Step::Faulted { witness });
            }
            Some(&L::ScoreApplied::SIGNATURE_HASH) => {
                let event = L::ScoreApplied::decode_log(&log.inner)?.data;
                self.steps.push(Step::Applied {
                    peer: event.peer.into_array(),
                    round: event.round,
                    reputation: event.reputation,
                    uncertainty: event.uncertainty,
                });
            }
            Some(&L::PeerJoined::SIGNATURE_HASH) => {
                let event = L::PeerJoined::decode_log(&log.inner)?.data;
                let peer = event.peer.into_array();
                self.steps.push(Step::Joined { peer });
            }
            Some(&L::RoundSettled::SIGNATURE_HASH) => {
                let event = L::RoundSettled::decode_log(&log.inner)?.data;
                self.steps.push(Step::Settled { round: event.round });
                folded.take(log)?;
            }
            _ => folded.take(log)?,
        }
        Ok(())
    }

    /// The newest round that settled.
    pub fn newest(&self) -> Option<u64> {
        self.settlements().map(|(_, settled)| settled.round).max()
    }

    /// The settled rounds, in the order in which they settled.
    pub fn settlements(&self) -> impl Iterator<Item = (&Round, &SettledRound)> {
        self.steps.iter().filter_map(|step| {
            let Step::Settled { round } = step else {
                return None;
            };
            let round = self.rounds.get(round)?;
            Some((round, round.settled.as_ref()?))
        })
    }
}

/// The contracts' events and functions as a page without a library reads them: names,
/// types, and the hashes that logs and calls are told apart by.
pub fn interface() -> serde_json::Value {
    use serde_json::json;
    let artifacts = [
        &*crate::contracts::REGISTRY,
        &*crate::contracts::SWARMS,
        &*crate::contracts::LEDGER,
    ];
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

//! The contracts' behaviour, on the bare chain: no network, no client that would refuse
//! first, and a clock that the tests turn.

mod gas;
mod liveness;
mod mirror;
mod rounds;
mod settlement;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolEvent, SolStruct};

use crate::contracts::abi::ledger::{IReputationLedger as I, ReputationLedger as L};
use crate::contracts::abi::registry::PeerRegistry as R;
use crate::contracts::abi::swarms::{ISwarmRegistry as IS, SwarmRegistry as S};
use crate::contracts::{Addresses, CREATE2_FACTORY, Refusal, deployment};
use crate::devnet::{Call, CallOutcome, Chain, Genesis};
use crate::registration::{authorize_registration, registration_message};
use crate::scorecard::{CheckIn, Domain, Join, Scorecard, SignedScorecard, UNSCORED, sign_digest};

const CHAIN: u64 = 7700;
const START: u64 = 1_000_000;
const INCLUDED: [u8; 32] = [7; 32];
const LOCAL: IS::Terms = IS::Terms {
    genesis: 0,
    roundLength: 0,
    minInterval: 0,
    settleTimeout: 0,
    admission: 0,
    sealCards: false,
    author: Address::ZERO,
    bond: 0,
};

/// A chain with the contracts and a swarm of peers, and a hand on its clock.
struct World {
    chain: Chain,
    at: Addresses,
    now: u64,
    peers: Vec<PrivateKeySigner>,
    swarm: B256,
}

struct Done {
    gas: u64,
    logs: Vec<alloy::primitives::Log>,
}

impl Done {
    fn events<E: SolEvent>(&self) -> Vec<E> {
        self.logs
            .iter()
            .filter_map(|log| E::decode_log(log).ok())
            .map(|log| log.data)
            .collect()
    }
}

fn key(number: u64) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::from(U256::from(number + 1))).unwrap()
}

impl World {
    /// `peers` members of a swarm under `terms`, sorted by address.
    fn new(peers: u64, terms: IS::Terms) -> Self {
        let mut signers: Vec<_> = (0..peers + 2).map(key).collect();
        signers[..peers as usize].sort_by_key(PrivateKeySigner::address);
        let balances = signers
            .iter()
            .map(|signer| (signer.address(), U256::from(10).pow(U256::from(20))))
            .collect();
        let genesis = Genesis {
            chain_id: CHAIN,
            timestamp: START,
            seed: None,
            balances,
        };
        let at = Addresses::deterministic();
        let mut world = Self {
            chain: Chain::new(&genesis),
            at,
            now: START,
            peers: signers,
            swarm: B256::ZERO,
        };
        for (_, code) in at.init_codes() {
            world.raw(0, CREATE2_FACTORY, deployment(&code)).unwrap();
        }
        let manifest = B256::repeat_byte(1);
        world.swarm = world
            .create(manifest, terms)
            .unwrap()
            .events::<S::SwarmCreated>()[0]
            .swarm;
        for peer in 0..peers as usize {
            world.register(peer).unwrap();
            let swarm = world.swarm;
            world.send(peer, &L::joinSwarmCall { swarm }).unwrap();
        }
        world
    }

    fn address(&self, peer: usize) -> Address {
        self.peers[peer].address()
    }

    fn domain(&self) -> Domain {
        Domain {
            chain_id: CHAIN,
            ledger: self.at.ledger.into_array(),
        }
    }

    /// Mines a transaction, or says what it would revert with.
    fn raw(&mut self, from: usize, to: Address, input: Bytes) -> Result<Done, Refusal> {
        let signer = self.peers[from].clone();
        let call = Call {
            from: signer.address(),
            to: Some(to),
            input: input.clone(),
            ..Call::default()
        };
        match self.chain.call(&call, self.now).unwrap() {
            CallOutcome::Returned { .. } => {}
            CallOutcome::Reverted { output } => return Err(Refusal::decode(&output)),
            CallOutcome::Halted { reason } => panic!("halted: {reason}"),
        }
        let transaction = TxEip1559 {
            chain_id: CHAIN,
            nonce: self.chain.account(signer.address()).nonce,
            gas_limit: 20_000_000,
            max_fee_per_gas: 1_000_000,
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input,
        };
        let signature = signer
            .sign_hash_sync(&transaction.signature_hash())
            .unwrap();
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        let randomness = B256::from(U256::from(self.chain.height()));
        let candidate = self
            .chain
            .execute(&envelope.encoded_2718(), self.now, randomness)
            .unwrap();
        self.chain.commit(&candidate.record, 0);
        let mined = candidate.block.mined.unwrap();
        assert!(mined.success);
        Ok(Done {
            gas: mined.gas_used,
            logs: mined.logs,
        })
    }

    fn send(&mut self, from: usize, call: &impl SolCall) -> Result<Done, Refusal> {
        let ledger = self.at.ledger;
        self.raw(from, ledger, call.abi_encode().into())
    }

    fn create(&mut self, manifest: B256, terms_: IS::Terms) -> Result<Done, Refusal> {
        let (swarms, call) = (self.at.swarms, S::createSwarmCall { manifest, terms_ });
        self.raw(0, swarms, call.abi_encode().into())
    }

    fn ask_at<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let call = Call {
            to: Some(to),
            input: call.abi_encode().into(),
            ..Call::default()
        };
        match self.chain.call(&call, self.now).unwrap() {
            CallOutcome::Returned { output, .. } => C::abi_decode_returns(&output).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn ask<C: SolCall>(&self, call: &C) -> C::Return {
        self.ask_at(self.at.ledger, call)
    }

    fn register(&mut self, peer: usize) -> Result<Done, Refusal> {
        let call = R::registerCall {
            node: B256::repeat_byte(peer as u8 + 1),
            nodeSignature: vec![5; 64].into(),
            name: format!("peer {peer}"),
        };
        let registry = self.at.registry;
        self.raw(peer, registry, call.abi_encode().into())
    }

    fn open(&mut self, round: u64) -> Result<Vec<Address>, Refusal> {
        let done = self.send(
            0,
            &L::openRoundCall {
                swarm: self.swarm,
                round,
            },
        )?;
        Ok(done.events::<L::RoundOpened>().remove(0).committee)
    }

    /// A peer's card: `scores` for the first peers, in order.
    fn card(&self, witness: usize, round: u64, scores: &[u32]) -> SignedScorecard {
        let scores = (0..)
            .map(|peer| self.address(peer).into_array())
            .zip(scores.iter().copied());
        let card = Scorecard {
            swarm: self.swarm.0,
            round,
            included: INCLUDED,
            scores: scores.collect(),
        };
        SignedScorecard::sign(&self.peers[witness], &self.domain(), card)
    }

    fn settle(&mut self, round: u64, cards: &[SignedScorecard]) -> Result<Done, Refusal> {
        let peers = cards[0].card.columns().0;
        let cards = cards.iter().map(row).collect();
        let (swarm, included) = (self.swarm, INCLUDED.into());
        self.send(
            0,
            &L::settleCall {
                swarm,
                round,
                included,
                peers,
                cards,
                seals: vec![],
            },
        )
    }

    /// Every one of `witnesses` gives every one of `peers` the same score.
    fn settle_flat(
        &mut self,
        round: u64,
        witnesses: std::ops::Range<usize>,
        peers: usize,
        score: u32,
    ) -> Result<Done, Refusal> {
        let cards: Vec<_> = witnesses
            .map(|witness| self.card(witness, round, &vec![score; peers]))
            .collect();
        self.settle(round, &cards)
    }

    fn void(&mut self, round: u64, cards: &[SignedScorecard]) -> Result<Done, Refusal> {
        let ballots = cards
            .iter()
            .map(|signed| {
                let (peers_hash, scores_hash) = signed.card.column_hashes();
                I::Ballot {
                    witness: signed.witness.into(),
                    included: signed.card.included.into(),
                    peersHash: peers_hash,
                    scoresHash: scores_hash,
                    signature: signed.signature.to_vec().into(),
                }
            })
            .collect();
        self.send(
            0,
            &L::voidRoundCall {
                swarm: self.swarm,
                round,
                ballots,
            },
        )
    }

    fn standing(&self, peer: usize) -> I::Standing {
        self.ask(&L::standingCall {
            swarm: self.swarm,
            peer: self.address(peer),
        })
    }

    fn reputation(&self, peer: usize) -> u32 {
        self.standing(peer).reputation
    }
}

fn row(signed: &SignedScorecard) -> I::Scorecard {
    I::Scorecard {
        witness: signed.witness.into(),
        scores: signed.card.packed_scores(),
        signature: signed.signature.to_vec().into(),
    }
}

fn refused<T>(result: Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "nothing".to_owned(),
        Err(refusal) => refusal.name,
    }
}

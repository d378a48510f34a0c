//! The contracts' behaviour, on the bare chain: no network, no client that would refuse
//! first, and a clock that the tests turn.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolEvent, SolStruct};

use crate::contracts::abi::ledger::{IReputationLedger as I, ReputationLedger as L};
use crate::contracts::abi::registry::PeerRegistry as R;
use crate::contracts::{
    Addresses, CREATE2_FACTORY, Refusal, deployment, ledger_init_code, registry_init_code,
};
use crate::devnet::{Call, CallOutcome, Chain, Genesis};
use crate::registration::{authorize_registration, registration_message};
use crate::scorecard::{CheckIn, Domain, Join, Scorecard, SignedScorecard, UNSCORED, sign_digest};

const CHAIN: u64 = 7700;
const START: u64 = 1_000_000;
const INCLUDED: [u8; 32] = [7; 32];
const LOCAL: I::Terms = I::Terms {
    genesis: 0,
    roundLength: 0,
    minInterval: 0,
    settleTimeout: 0,
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
    fn new(peers: u64, terms: I::Terms) -> Self {
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
        for code in [registry_init_code(), ledger_init_code(at.registry)] {
            world.raw(0, CREATE2_FACTORY, deployment(&code)).unwrap();
        }
        let manifest = B256::repeat_byte(1);
        world.swarm = world.ask(&L::swarmIdCall {
            manifest,
            terms: terms.clone(),
        });
        world
            .send(0, &L::createSwarmCall { manifest, terms })
            .unwrap();
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
        scores: signed.card.columns().1,
        signature: signed.signature.to_vec().into(),
    }
}

fn refused<T>(result: Result<T, Refusal>) -> String {
    match result {
        Ok(_) => "nothing".to_owned(),
        Err(refusal) => refusal.name,
    }
}

// ------------------------------------------------------------------- the quorum

#[test]
fn strictly_more_than_two_thirds_of_the_committee_settle() {
    for (size, needed) in [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 3),
        (5, 4),
        (6, 5),
        (7, 5),
        (16, 11),
    ] {
        let mut world = World::new(size, LOCAL);
        assert_eq!(world.open(1).unwrap().len(), size as usize);
        // No signature at all is no quorum either; that has a test of its own.
        if needed > 1 {
            let short = world.settle_flat(1, 0..needed - 1, size as usize, 500_000);
            assert_eq!(refused(short), "NoQuorum", "{} of {size}", needed - 1);
        }
        world
            .settle_flat(1, 0..needed, size as usize, 500_000)
            .unwrap();
    }
}

#[test]
fn no_signatures_are_no_quorum() {
    let mut world = World::new(1, LOCAL);
    world.open(1).unwrap();
    let swarm = world.swarm;
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers: vec![world.address(0)],
        cards: vec![],
    };
    assert_eq!(refused(world.send(0, &call)), "NoQuorum");
}

#[test]
fn an_outsiders_signature_is_refused() {
    let mut world = World::new(4, LOCAL);
    world.open(1).unwrap();
    let outsider = 4;
    let cards: Vec<_> = [0, 1, outsider]
        .map(|who| world.card(who, 1, &[1, 2, 3, 4]))
        .into();
    assert_eq!(refused(world.settle(1, &cards)), "NotInCommittee");
    // Nor does it help to be registered, or to join after the draw.
    world.register(outsider).unwrap();
    let swarm = world.swarm;
    world.send(outsider, &L::joinSwarmCall { swarm }).unwrap();
    assert_eq!(refused(world.settle(1, &cards)), "NotInCommittee");
}

#[test]
fn one_witness_counts_once() {
    let mut world = World::new(4, LOCAL);
    world.open(1).unwrap();
    let cards: Vec<_> = [0, 1, 1]
        .map(|who| world.card(who, 1, &[1, 2, 3, 4]))
        .into();
    assert_eq!(refused(world.settle(1, &cards)), "DuplicateWitness");
    // Not with two different cards either.
    let cards = [
        world.card(0, 1, &[1, 2, 3, 4]),
        world.card(1, 1, &[1, 2, 3, 4]),
        world.card(1, 1, &[4, 3, 2, 1]),
    ];
    assert_eq!(refused(world.settle(1, &cards)), "DuplicateWitness");
}

#[test]
fn a_signature_is_good_for_its_own_words_only() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    world.open(2).unwrap();
    let good: Vec<_> = (0..3)
        .map(|who| world.card(who, 1, &[10, 20, 30]))
        .collect();

    // Another round, another set, another score, another witness's name, another chain.
    assert_eq!(refused(world.settle(2, &good)), "BadSignature");
    let swarm = world.swarm;
    let peers = good[0].card.columns().0;
    let cards: Vec<_> = good.iter().map(row).collect();
    let call = L::settleCall {
        swarm,
        round: 1,
        included: B256::ZERO,
        peers: peers.clone(),
        cards,
    };
    assert_eq!(refused(world.send(0, &call)), "BadSignature");
    let mut forged = good.clone();
    forged[2].card.scores[0].1 = 1_000_000;
    assert_eq!(refused(world.settle(1, &forged)), "BadSignature");
    let mut forged = good.clone();
    forged[2].witness = good[1].witness;
    assert_eq!(refused(world.settle(1, &forged)), "BadSignature");
    let mut forged = good.clone();
    let elsewhere = Domain {
        chain_id: 1,
        ..world.domain()
    };
    forged[2] = SignedScorecard::sign(&world.peers[2], &elsewhere, good[2].card.clone());
    assert_eq!(refused(world.settle(1, &forged)), "BadSignature");
    let mut cards: Vec<_> = good.iter().map(row).collect();
    cards[0].signature = vec![1; 10].into();
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers,
        cards,
    };
    assert_eq!(refused(world.send(0, &call)), "BadSignature");

    world.settle(1, &good).unwrap();
}

#[test]
fn cards_have_the_shape_of_the_round() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    let cards: Vec<_> = (0..3)
        .map(|who| world.card(who, 1, &[1_000_001, 0, 0]))
        .collect();
    assert_eq!(refused(world.settle(1, &cards)), "ScoreOutOfRange");
    let good: Vec<_> = (0..3).map(|who| world.card(who, 1, &[1, 2, 3])).collect();
    let swarm = world.swarm;
    let peers = good[0].card.columns().0;
    let mut cards: Vec<_> = good.iter().map(row).collect();
    cards[1].scores.pop();
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers,
        cards,
    };
    assert_eq!(refused(world.send(0, &call)), "ScoreCount");
    let cards: Vec<_> = good.iter().map(row).collect();
    let peers = vec![world.address(0), world.address(2), world.address(1)];
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers,
        cards,
    };
    assert_eq!(refused(world.send(0, &call)), "PeersNotSorted");
    let cards: Vec<_> = good.iter().map(row).collect();
    let peers = vec![world.address(0), world.address(1), world.address(1)];
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers,
        cards,
    };
    assert_eq!(refused(world.send(0, &call)), "PeersNotSorted");
}

// ------------------------------------------------------------------- the scores

#[test]
fn what_a_witness_says_of_itself_is_ignored() {
    let mut world = World::new(4, LOCAL);
    world.open(1).unwrap();
    // Each gives itself everything and the others a tenth.
    let cards: Vec<_> = (0..4)
        .map(|who| {
            let mut scores = [100_000; 4];
            scores[who] = 1_000_000;
            world.card(who, 1, &scores)
        })
        .collect();
    let done = world.settle(1, &cards).unwrap();
    for scored in done.events::<L::PeerScored>() {
        assert_eq!((scored.score, scored.judges), (100_000, 3));
    }
}

#[test]
fn one_liar_does_not_move_the_median() {
    let honest = |world: &World, who| world.card(who, 1, &[800_000, 600_000, 400_000, 200_000]);
    let lies = [
        [0, 0, 0, 1_000_000],
        [1_000_000, 1_000_000, 1_000_000, 1_000_000],
    ];
    for lie in lies {
        let mut world = World::new(4, LOCAL);
        world.open(1).unwrap();
        let mut cards: Vec<_> = (0..3).map(|who| honest(&world, who)).collect();
        cards.push(world.card(3, 1, &lie));
        let done = world.settle(1, &cards).unwrap();
        let scores: Vec<_> = done
            .events::<L::PeerScored>()
            .iter()
            .map(|s| s.score)
            .collect();
        assert_eq!(scores, [800_000, 600_000, 400_000, 200_000]);
    }
}

#[test]
fn of_an_even_number_the_lower_median_counts_and_unscored_entries_do_not() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    let cards = [
        world.card(0, 1, &[UNSCORED, 300_000, UNSCORED]),
        world.card(1, 1, &[900_000, UNSCORED, UNSCORED]),
        world.card(2, 1, &[100_000, 700_000, UNSCORED]),
    ];
    let done = world.settle(1, &cards).unwrap();
    let scored: Vec<_> = done
        .events::<L::PeerScored>()
        .iter()
        .map(|s| (s.score, s.judges))
        .collect();
    assert_eq!(scored, [(100_000, 2), (300_000, 2), (0, 0)]);
}

#[test]
fn a_swarm_of_one_settles_without_scoring_itself() {
    let mut world = World::new(1, LOCAL);
    world.open(1).unwrap();
    let done = world.settle_flat(1, 0..1, 1, 1_000_000).unwrap();
    let scored = &done.events::<L::PeerScored>()[0];
    assert_eq!((scored.score, scored.judges, scored.reputation), (0, 0, 0));
    assert_eq!(world.standing(0).rounds, 1);
}

#[test]
fn reputation_moves_a_sixteenth_of_the_way_and_fades_by_a_64th_when_absent() {
    let mut world = World::new(3, LOCAL);
    let mut expected = 0u64;
    for round in 1..=5 {
        world.open(round).unwrap();
        world.settle_flat(round, 0..3, 3, 800_000).unwrap();
        expected = (expected * 15 + 800_000) / 16;
        assert_eq!(u64::from(world.reputation(0)), expected, "round {round}");
    }
    assert_eq!(expected, 220_641);
    // Peer 2 signs on, but is in none of the next three rounds.
    for round in 6..=8 {
        world.open(round).unwrap();
        world.settle_flat(round, 0..3, 2, 800_000).unwrap();
        let faded = expected as f64 * (63.0f64 / 64.0).powi(round as i32 - 5);
        assert_eq!(world.reputation(2), faded as u32, "round {round}");
    }
    assert_eq!(world.reputation(2), 210_459);
    // Coming back, it goes on from there.
    world.open(9).unwrap();
    world.settle_flat(9, 0..3, 3, 0).unwrap();
    assert_eq!(world.reputation(2), 210_459 * 15 / 16);
    let standing = world.standing(2);
    assert_eq!(
        (standing.rounds, standing.missed, standing.active),
        (6, 0, true)
    );
}

// ------------------------------------------------------------------- the rounds

#[test]
fn a_round_settles_once() {
    let mut world = World::new(3, LOCAL);
    assert_eq!(refused(world.settle_flat(1, 0..3, 3, 1)), "RoundNotOpened");
    world.open(1).unwrap();
    world.settle_flat(1, 0..3, 3, 500_000).unwrap();
    let before = world.reputation(0);
    assert_eq!(
        refused(world.settle_flat(1, 0..3, 3, 500_000)),
        "AlreadySettled"
    );
    assert_eq!(refused(world.void(1, &[])), "AlreadySettled");
    assert_eq!(world.reputation(0), before);
}

#[test]
fn a_round_opens_once_and_never_after_a_later_one() {
    let mut world = World::new(2, LOCAL);
    world.open(0).unwrap();
    world.open(5).unwrap();
    assert_eq!(refused(world.open(5)), "RoundAlreadyOpened");
    assert_eq!(refused(world.open(4)), "RoundPassed");
    assert_eq!(refused(world.open(6 + 4097)), "RoundTooFar");
    assert_eq!(refused(world.open(u64::MAX)), "RoundTooFar");
    world.open(6 + 4096).unwrap();
}

#[test]
fn a_clocked_swarm_opens_no_round_before_its_time_nor_two_at_once() {
    let terms = I::Terms {
        genesis: START,
        roundLength: 60,
        minInterval: 20,
        settleTimeout: 300,
    };
    let mut world = World::new(2, terms);
    assert_eq!(refused(world.open(1)), "RoundNotStarted");
    world.open(0).unwrap();
    world.now = START + 59;
    assert_eq!(refused(world.open(1)), "RoundNotStarted");
    world.now = START + 100;
    world.open(1).unwrap();
    // Round 2's time comes soon after round 1 was opened late.
    world.now = START + 119;
    assert_eq!(refused(world.open(2)), "RoundNotStarted");
    world.now = START + 120;
    world.open(2).unwrap();
    // Catching up is paced.
    world.now = START + 600;
    world.open(8).unwrap();
    assert_eq!(refused(world.open(9)), "OpenedTooSoon");
    world.now += 20;
    world.open(9).unwrap();
    assert_eq!(refused(world.open(u64::MAX)), "RoundNotStarted");
}

#[test]
fn a_swarm_cannot_be_created_with_other_terms_in_its_name() {
    let mut world = World::new(1, LOCAL);
    let manifest = B256::repeat_byte(1);
    let theirs = I::Terms {
        minInterval: u32::MAX,
        ..LOCAL
    };
    let done = world
        .send(
            2,
            &L::createSwarmCall {
                manifest,
                terms: theirs.clone(),
            },
        )
        .unwrap();
    let created = done.events::<L::SwarmCreated>().remove(0).swarm;
    assert_ne!(created, world.swarm);
    // The same again changes nothing and says nothing.
    let done = world
        .send(
            2,
            &L::createSwarmCall {
                manifest,
                terms: LOCAL,
            },
        )
        .unwrap();
    assert!(done.logs.is_empty());
    world.open(1).unwrap();
    let call = L::createSwarmCall {
        manifest: B256::ZERO,
        terms: LOCAL,
    };
    assert_eq!(refused(world.send(0, &call)), "EmptyManifest");
    let call = L::openRoundCall {
        swarm: B256::ZERO,
        round: 1,
    };
    assert_eq!(refused(world.send(0, &call)), "UnknownSwarm");
}

#[test]
fn the_beacon_follows_from_chain_and_swarm_and_never_repeats() {
    let mut world = World::new(1, LOCAL);
    let mut beacons = std::collections::BTreeSet::new();
    for round in 0..20 {
        world.open(round).unwrap();
        let call = L::getRoundCall {
            swarm: world.swarm,
            round,
        };
        let opened = world.ask(&call);
        assert_eq!(opened.openedBlock, world.chain.height());
        assert!(beacons.insert(opened.beacon));
    }
}

// ------------------------------------------------------------------ the committee

#[test]
fn a_committee_is_sixteen_different_members_drawn_fairly() {
    let members = 40;
    let mut world = World::new(members, LOCAL);
    let mut drawn = std::collections::BTreeMap::<Address, u32>::new();
    let rounds = 200;
    for round in 0..rounds {
        let committee = world.open(round).unwrap();
        let distinct: std::collections::BTreeSet<_> = committee.iter().collect();
        assert_eq!((committee.len(), distinct.len()), (16, 16), "round {round}");
        for member in committee {
            *drawn.entry(member).or_default() += 1;
        }
    }
    // 80 expected, with a standard deviation of 7; the draw is fixed, so this never flickers.
    assert_eq!(drawn.len(), members as usize);
    assert!(
        drawn.values().all(|times| (52..=108).contains(times)),
        "{drawn:?}"
    );
}

#[test]
fn an_unregistered_account_cannot_join_and_joining_twice_changes_nothing() {
    let mut world = World::new(2, LOCAL);
    let swarm = world.swarm;
    assert_eq!(
        refused(world.send(2, &L::joinSwarmCall { swarm })),
        "NotRegistered"
    );
    world.send(1, &L::joinSwarmCall { swarm }).unwrap();
    assert_eq!(world.ask(&L::memberCountCall { swarm }), U256::from(2));
    assert_eq!(world.open(1).unwrap().len(), 2);
    let empty = World::new(0, LOCAL);
    let mut empty = empty;
    assert_eq!(refused(empty.open(1)), "NoMembers");
}

// --------------------------------------------------------------------- liveness

#[test]
fn a_swarm_of_three_with_one_killed_settles_again_after_two_voided_rounds() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    world.settle_flat(1, 0..3, 3, 500_000).unwrap();
    // Peer 2 is killed. Two of three are not more than two thirds.
    for round in [2, 3] {
        assert_eq!(world.open(round).unwrap().len(), 3);
        let cards: Vec<_> = (0..2).map(|who| world.card(who, round, &[1, 2])).collect();
        assert_eq!(refused(world.settle(round, &cards)), "NoQuorum");
        let done = world.void(round, &cards).unwrap();
        let missed = done.events::<L::WitnessMissed>();
        assert_eq!(missed.len(), 1);
        assert_eq!(
            (missed[0].witness, missed[0].missed),
            (world.address(2), round as u8 - 1)
        );
        assert_eq!(done.events::<L::RoundVoided>().len(), 1);
    }
    assert!(!world.standing(2).active);
    assert_eq!(world.open(4).unwrap().len(), 2);
    world.settle_flat(4, 0..2, 2, 500_000).unwrap();
    // It comes back and checks in.
    let swarm = world.swarm;
    world.send(2, &L::checkInCall { swarm }).unwrap();
    assert_eq!(world.open(5).unwrap().len(), 3);
    world.settle_flat(5, 0..3, 3, 500_000).unwrap();
}

#[test]
fn who_misses_settled_rounds_is_not_drawn_either() {
    let mut world = World::new(4, LOCAL);
    for round in 1..=2 {
        assert_eq!(world.open(round).unwrap().len(), 4);
        world.settle_flat(round, 0..3, 3, 500_000).unwrap();
    }
    let committee = world.open(3).unwrap();
    assert!(committee.len() == 3 && !committee.contains(&world.address(3)));
}

#[test]
fn if_nobody_is_eligible_everybody_is() {
    let mut world = World::new(3, LOCAL);
    for round in 1..=2 {
        world.open(round).unwrap();
        world.void(round, &[]).unwrap();
    }
    assert!((0..3).all(|peer| !world.standing(peer).active));
    assert_eq!(world.open(3).unwrap().len(), 3);
    // Whoever signs is eligible again; the others are not.
    world.void(3, &[world.card(0, 3, &[1])]).unwrap();
    assert_eq!(world.open(4).unwrap(), [world.address(0)]);
}

#[test]
fn a_round_cannot_be_voided_before_its_time() {
    let mut world = World::new(
        3,
        I::Terms {
            settleTimeout: 60,
            ..LOCAL
        },
    );
    world.open(1).unwrap();
    world.open(2).unwrap();
    world.now += 59;
    assert_eq!(refused(world.void(1, &[])), "VoidedTooSoon");
    world.now += 1;
    world.void(1, &[]).unwrap();
    assert_eq!(refused(world.void(1, &[])), "AlreadyVoided");
    assert_eq!(refused(world.void(3, &[])), "RoundNotOpened");
}

#[test]
fn a_ballot_left_out_of_a_voiding_can_be_brought_later_but_counts_once() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    // A hostile relayer voids with no ballots at all.
    world.void(1, &[]).unwrap();
    assert_eq!(world.standing(0).missed, 1);
    let card = world.card(0, 1, &[1, 2, 3]);
    world.void(1, std::slice::from_ref(&card)).unwrap();
    assert_eq!((world.standing(0).missed, world.standing(1).missed), (0, 1));
    // An old ballot is no sign of life for ever.
    world.open(2).unwrap();
    world.void(2, &[]).unwrap();
    assert_eq!(world.standing(0).missed, 1);
    assert_eq!(refused(world.void(1, &[card])), "AlreadyVoided");
    assert_eq!(world.standing(0).missed, 1);
}

#[test]
fn ballots_need_not_agree_but_must_be_signed_by_the_committee() {
    let mut world = World::new(3, LOCAL);
    world.open(1).unwrap();
    let cards = [world.card(0, 1, &[1, 2, 3]), world.card(1, 1, &[9, 9])];
    assert_eq!(
        refused(world.void(1, &[world.card(4, 1, &[1])])),
        "NotInCommittee"
    );
    let twice = [cards[0].clone(), cards[0].clone()];
    assert_eq!(refused(world.void(1, &twice)), "DuplicateWitness");
    let mut forged = cards.clone();
    forged[0].card.scores[0].1 += 1;
    assert_eq!(refused(world.void(1, &forged)), "BadSignature");
    world.void(1, &cards).unwrap();
    let missed: Vec<_> = (0..3).map(|peer| world.standing(peer).missed).collect();
    assert_eq!(missed, [0, 0, 1]);
}

#[test]
fn a_quorum_that_comes_after_the_voiding_still_settles() {
    let mut world = World::new(3, LOCAL);
    for round in 1..=2 {
        world.open(round).unwrap();
        world.void(round, &[]).unwrap();
    }
    world.settle_flat(2, 0..3, 3, 500_000).unwrap();
    assert!((0..3).all(|peer| world.standing(peer).active && world.standing(peer).missed == 0));
    assert_eq!(refused(world.void(2, &[])), "AlreadySettled");
    assert_eq!(world.reputation(0), 31_250);
}

// --------------------------------------------------------------- words by signature

#[test]
fn a_peer_without_funds_registers_joins_and_checks_in_through_a_relayer() {
    let mut world = World::new(2, LOCAL);
    let poor = key(1000);
    let registry = world.at.registry;
    let request = authorize_registration(
        &poor,
        CHAIN,
        registry,
        U256::ZERO,
        ([3; 32], [4; 64], "poor"),
        world.now + 60,
    );
    let call = R::registerForCall {
        owner: poor.address(),
        node: request.iroh_key.into(),
        nodeSignature: request.iroh_signature.to_vec().into(),
        name: request.name.clone(),
        deadline: U256::from(request.deadline),
        signature: request.signature.to_vec().into(),
    };
    // In nobody else's name, under no other name, and not too late.
    let mut other = R::registerForCall {
        owner: world.address(0),
        ..call.clone()
    };
    assert_eq!(
        refused(world.raw(0, registry, other.abi_encode().into())),
        "NotSignedByOwner"
    );
    other = R::registerForCall {
        name: "rich".to_owned(),
        ..call.clone()
    };
    assert_eq!(
        refused(world.raw(0, registry, other.abi_encode().into())),
        "NotSignedByOwner"
    );
    world.now += 61;
    assert_eq!(
        refused(world.raw(0, registry, call.abi_encode().into())),
        "SignatureExpired"
    );
    world.now -= 61;
    world.raw(0, registry, call.abi_encode().into()).unwrap();
    // Once: a relayer must not bring back an older record later.
    assert_eq!(
        refused(world.raw(0, registry, call.abi_encode().into())),
        "NotSignedByOwner"
    );
    let record = world.ask_at(
        registry,
        &R::peerCall {
            owner: poor.address(),
        },
    );
    assert_eq!(
        (record.node, record.name.as_str()),
        (B256::repeat_byte(3), "poor")
    );

    let (swarm, peer) = (world.swarm, poor.address());
    let domain = world.domain().eip712();
    let word = |digest| Bytes::from(sign_digest(&poor, digest).to_vec());
    let signature = word(Join { swarm, peer }.eip712_signing_hash(&domain));
    world
        .send(
            0,
            &L::joinSwarmForCall {
                swarm,
                peer,
                signature: signature.clone(),
            },
        )
        .unwrap();
    let call = L::joinSwarmForCall {
        swarm,
        peer: world.address(0),
        signature,
    };
    assert_eq!(refused(world.send(0, &call)), "BadSignature");

    // It misses two rounds, and checks in for the second.
    for round in 1..=2 {
        assert_eq!(world.open(round).unwrap().len(), 3);
        world
            .void(
                round,
                &[world.card(0, round, &[1]), world.card(1, round, &[1])],
            )
            .unwrap();
    }
    let signed = |round| word(CheckIn { swarm, peer, round }.eip712_signing_hash(&domain));
    let call = |round| L::checkInForCall {
        swarm,
        peer,
        round,
        signature: signed(round),
    };
    assert_eq!(refused(world.send(0, &call(3))), "StaleCheckIn");
    world.send(0, &call(2)).unwrap();
    assert_eq!(world.open(3).unwrap().len(), 3);
    for round in 4..=5 {
        world.open(round).unwrap();
    }
    assert_eq!(refused(world.send(0, &call(2))), "StaleCheckIn");
}

#[test]
fn a_record_is_bounded_and_belongs_to_its_owner_alone() {
    let mut world = World::new(2, LOCAL);
    let registry = world.at.registry;
    let call = |node: u8, signature: usize, name: usize| R::registerCall {
        node: B256::repeat_byte(node),
        nodeSignature: vec![1; signature].into(),
        name: "x".repeat(name),
    };
    for (call, refusal) in [
        (call(0, 64, 1), "EmptyNodeKey"),
        (call(1, 63, 1), "NodeSignatureLength"),
        (call(1, 65, 1), "NodeSignatureLength"),
        (call(1, 64, 49), "NameTooLong"),
    ] {
        assert_eq!(
            refused(world.raw(0, registry, call.abi_encode().into())),
            refusal
        );
    }
    // Peer 1's node key, claimed by another: both records stand, neither is disturbed.
    let squat = call(2, 64, 48);
    world.raw(3, registry, squat.abi_encode().into()).unwrap();
    for (peer, name) in [(1, "peer 1".to_owned()), (3, "x".repeat(48))] {
        let record = world.ask_at(
            registry,
            &R::peerCall {
                owner: world.address(peer),
            },
        );
        assert_eq!((record.node, record.name), (B256::repeat_byte(2), name));
    }
}

#[test]
fn the_message_a_node_signs_is_the_contracts() {
    let world = World::new(1, LOCAL);
    let owner = world.address(0);
    let theirs = world.ask_at(world.at.registry, &R::registrationMessageCall { owner });
    let ours = registration_message(CHAIN, world.at.registry.into_array(), owner.into_array());
    assert_eq!(theirs, Bytes::from(ours));
}

// -------------------------------------------------------------------------- cost

/// Not a benchmark: keeps a change of the contracts from making every round dearer
/// unnoticed. Gas is exact, so this never flickers.
#[test]
fn what_a_round_costs() {
    for (peers, open_limit, settle_limit) in [(4, 300_000, 250_000), (16, 700_000, 900_000)] {
        let mut world = World::new(peers, LOCAL);
        let mut costs = Vec::new();
        for round in 1..=2 {
            let swarm = world.swarm;
            let open = world
                .send(0, &L::openRoundCall { swarm, round })
                .unwrap()
                .gas;
            let settle = world
                .settle_flat(round, 0..peers as usize, peers as usize, 5)
                .unwrap()
                .gas;
            costs.push((open, settle));
        }
        println!("{peers} peers, {peers} witnesses: (open, settle) gas {costs:?}");
        assert!(
            costs[1].0 < open_limit && costs[1].1 < settle_limit,
            "{peers}: {costs:?}"
        );
    }
}

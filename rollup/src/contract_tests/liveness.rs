//! Rounds nobody settles, and words that others relay.

use super::*;

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
    // Whoever becomes eligible waits for one draw.
    assert_eq!(world.open(5).unwrap().len(), 2);
    assert_eq!(world.open(6).unwrap().len(), 3);
    world.settle_flat(6, 0..3, 3, 500_000).unwrap();
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
        IS::Terms {
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
    assert_eq!(world.open(3).unwrap().len(), 2);
    assert_eq!(world.open(4).unwrap().len(), 3);
    world.open(5).unwrap();
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

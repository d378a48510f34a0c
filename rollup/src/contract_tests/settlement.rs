//! The quorum and the scores.

use super::*;

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
        seals: vec![],
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
        seals: vec![],
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
        seals: vec![],
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
    cards[1].scores = cards[1].scores.slice(1..);
    let call = L::settleCall {
        swarm,
        round: 1,
        included: INCLUDED.into(),
        peers,
        cards,
        seals: vec![],
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
        seals: vec![],
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
        seals: vec![],
    };
    assert_eq!(refused(world.send(0, &call)), "PeersNotSorted");
}

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

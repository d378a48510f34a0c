//! When a round opens, and who its committee is.

use super::*;

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
    let terms = IS::Terms {
        genesis: START,
        roundLength: 60,
        minInterval: 20,
        settleTimeout: 300,
        ..LOCAL
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
    let theirs = IS::Terms {
        minInterval: u32::MAX,
        ..LOCAL
    };
    let done = world.create(manifest, theirs).unwrap();
    let created = done.events::<S::SwarmCreated>().remove(0).swarm;
    assert_ne!(created, world.swarm);
    // The same again changes nothing and says nothing.
    assert!(world.create(manifest, LOCAL).unwrap().logs.is_empty());
    world.open(1).unwrap();
    assert_eq!(refused(world.create(B256::ZERO, LOCAL)), "EmptyManifest");
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

//! What a machine makes of what peers say.

use super::*;

#[test]
fn a_reveal_may_overtake_its_commitment_but_not_differ_from_it() {
    let mut driver = Driver::critiquing();
    driver.say(2, 1, Phase::Reveal, have(&critiques(2)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    driver.say(2, 1, Phase::Reveal, commit(&critiques(2)));
    assert!(driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    driver.say(3, 1, Phase::Reveal, have(&critiques(4)));
    assert_eq!(driver.refusal(), Some("not as announced"));
}

#[test]
fn two_different_statements_where_one_is_due_are_refused() {
    let mut driver = Driver::answering();
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    assert_eq!(driver.refusal(), None, "a repetition");
    driver.say(2, 1, Phase::Answer, have(&answers(3)));
    assert_eq!(driver.refusal(), Some("equivocation"));
    let mut driver = Driver::judging();
    let entries = driver.own_list();
    driver.say(2, 1, Phase::Judge, Payload::Inclusion { entries });
    let entries = Vec::new();
    driver.say(2, 1, Phase::Judge, Payload::Inclusion { entries });
    assert_eq!(driver.refusal(), Some("equivocation"));
}

#[test]
fn a_body_that_is_not_what_was_announced_is_refused() {
    let mut driver = Driver::answering();
    let (_, bytes) = answers(2).encode();
    let mut announced = reference(&answers(2));
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    let hash = announced.hash;
    driver.feed(Input::Body {
        hash,
        bytes: bytes[1..].to_vec(),
    });
    assert_eq!(driver.refusal(), Some("not as announced"), "another hash");
    announced.bytes += 1;
    let body = announced;
    driver.say(3, 1, Phase::Answer, have(&answers(2)));
    assert_eq!(driver.refusal(), None);
    let mut driver = Driver::answering();
    driver.say(
        2,
        1,
        Phase::Answer,
        Payload::Have {
            kind: BodyKind::Answer,
            body,
        },
    );
    driver.feed(Input::Body {
        hash,
        bytes: bytes.clone(),
    });
    assert_eq!(driver.refusal(), Some("not as announced"), "another size");
    let mut driver = Driver::answering();
    driver.say(3, 1, Phase::Answer, have(&answers(2)));
    driver.feed(Input::Body { hash, bytes });
    assert_eq!(driver.refusal(), Some("not as announced"), "another author");
    assert!(
        driver
            .machine
            .round()
            .unwrap()
            .is_in(peer(3), BodyKind::Answer),
        "not waited for"
    );
}

#[test]
fn an_oversize_body_is_refused_before_it_is_fetched() {
    let mut driver = Driver::answering();
    let body = BodyRef {
        hash: Hash([9; 32]),
        bytes: 64 * 1024 + 1,
    };
    driver.say(
        2,
        1,
        Phase::Answer,
        Payload::Have {
            kind: BodyKind::Answer,
            body,
        },
    );
    assert_eq!(driver.refusal(), Some("oversize"));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
}

#[test]
fn a_body_of_another_beacon_is_set_aside_not_refused() {
    let mut driver = Driver::answering();
    let Body::Answer(mut batch) = answers(2) else {
        unreachable!("answers are answers");
    };
    batch.header.beacon = Beacon([7; 32]);
    driver.give(2, Phase::Answer, &Body::Answer(batch));
    assert_eq!(driver.refusal(), None);
    let round = driver.machine.round().unwrap();
    assert!(round.is_in(peer(2), BodyKind::Answer), "not waited for");
    assert!(round.witnessed().is_empty());
}

#[test]
fn a_fetch_that_fails_is_tried_again_and_then_with_others() {
    let mut driver = Driver::answering();
    driver.say(2, 1, Phase::Answer, have(&answers(2)));
    let hash = reference(&answers(2)).hash;
    let from = |driver: &Driver| {
        driver.effects.iter().find_map(|effect| match effect {
            Effect::Fetch { from, .. } => Some(from.clone()),
            _ => None,
        })
    };
    assert_eq!(from(&driver), Some(vec![peer(2)]));
    driver.feed(Input::FetchFailed { hash });
    assert_eq!(from(&driver), None);
    driver.wait(250);
    let providers = from(&driver).unwrap();
    assert_eq!(providers[0], peer(2));
    assert_eq!(providers.len(), 3, "{providers:?}");
}

#[test]
fn a_flood_is_refused_and_shown_a_few_times() {
    let mut driver = Driver::answering();
    let mut shown = 0;
    for _ in 0..3_000 {
        driver.say(2, 1, Phase::Answer, have(&answers(2)));
        shown += usize::from(driver.refusal() == Some("over budget"));
    }
    assert_eq!(shown, 8);
    let refused = &driver.machine.roster().get(&peer(2)).unwrap().refused;
    assert!(refused["over budget"] > 900, "{refused:?}");
}

#[test]
fn a_peer_that_is_behind_is_told_again_what_it_lacks() {
    let mut driver = Driver::resolving();
    driver.now += 300;
    driver.say(2, 1, Phase::Commit, hello(2));
    assert!(driver.said(|payload| matches!(payload, Payload::Commit { .. })));
    assert!(driver.said(|payload| matches!(
        payload,
        Payload::Have {
            kind: BodyKind::Critique,
            ..
        }
    )));
    assert!(!driver.said(|payload| matches!(
        payload,
        Payload::Have {
            kind: BodyKind::Answer,
            ..
        }
    )));
    // Not again at once.
    driver.say(2, 1, Phase::Commit, hello(2));
    assert!(!driver.said(|payload| matches!(payload, Payload::Commit { .. })));
}

#[test]
fn a_peer_that_cannot_register_itself_is_sponsored_once_a_round() {
    let mut driver = Driver::answering();
    let plea = || Payload::Hello {
        address: address(2),
        name: "poor".into(),
        plea: Some(Box::new(Plea {
            by_peer: [1; 64],
            deadline_s: 5,
            registration: EvmSignature([2; 65]),
            joining: EvmSignature([3; 65]),
        })),
        curriculum: 0,
    };
    let sponsors = |driver: &Driver| {
        driver.took(|effect| {
            matches!(effect, Effect::Sponsor { peer: p, name, .. } if *p == peer(2) && name == "poor")
        })
    };
    driver.say(2, 1, Phase::Answer, plea());
    assert!(sponsors(&driver));
    driver.say(2, 1, Phase::Answer, plea());
    assert!(!sponsors(&driver));
}

#[test]
fn a_lost_peer_is_not_waited_for_until_it_speaks() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.feed(Input::Lost { peer: peer(4) });
    assert_eq!(driver.machine.position().phase, Phase::Commit);
    assert!(driver.took(
        |effect| matches!(effect, Effect::Emit(Event::PeerAbsent { who, .. }) if *who == peer(4))
    ));
    driver.feed(Input::Lost { peer: peer(4) });
    assert!(driver.effects.is_empty(), "once: {:?}", driver.effects);
    driver.say(4, 1, Phase::Answer, hello(4));
    assert!(driver.machine.roster().get(&peer(4)).unwrap().present);
}

#[test]
fn the_only_other_peer_cannot_send_a_machine_where_the_chain_is_not() {
    let mut driver = Driver::joining();
    driver.say(2, 1 << 40, Phase::Answer, hello(2));
    driver.wait(2_000);
    assert_eq!(driver.machine.position().round, 1);
    driver.open(1);
    driver.say(2, 1 << 40, Phase::Answer, hello(2));
    assert_eq!(driver.machine.position().round, 1);
    // What the chain has opened is believed.
    driver.open(1 << 20);
    driver.say(2, 1 << 20, Phase::Answer, hello(2));
    assert_eq!(driver.machine.position().round, 1 << 20);
}

#[test]
fn rounds_that_were_only_heard_of_are_forgotten() {
    let mut driver = Driver::answering();
    driver.say(2, 2, Phase::Answer, have(&answers(2)));
    for round in 3..30 {
        driver.open(round);
        for index in 2..=4 {
            driver.say(index, round, Phase::Answer, hello(index));
        }
        driver.wait(60_000);
    }
    assert!(
        driver.machine.rounds.len() <= 6,
        "{:?}",
        driver.machine.rounds.keys()
    );
}

#[test]
fn leaving_is_said_and_then_nothing_more() {
    let mut driver = Driver::answering();
    driver.feed(Input::Stop);
    assert!(driver.said(|payload| *payload == Payload::Leave));
    driver.wait(60_000);
    assert!(driver.effects.is_empty());
    // A peer that left is not waited for.
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.say(4, 1, Phase::Answer, Payload::Leave);
    assert_eq!(driver.machine.position().phase, Phase::Commit);
}

//! How a machine goes through a round.

use super::*;

#[test]
fn a_round_begins_when_the_expected_peers_are_heard_or_the_wait_is_over() {
    let mut heard = Driver::joining();
    heard.say(2, 1, Phase::Join, hello(2));
    heard.say(3, 1, Phase::Join, hello(3));
    assert_eq!(heard.machine.position().phase, Phase::Join);
    heard.say(4, 1, Phase::Join, hello(4));
    assert_eq!(heard.machine.position().phase, Phase::Open);
    let mut alone = Driver::joining();
    alone.wait(1_999);
    assert_eq!(alone.machine.position().phase, Phase::Join);
    alone.wait(1);
    assert_eq!(alone.machine.position().phase, Phase::Open);
}

#[test]
fn the_answer_stage_asks_for_every_slot_the_common_ones_first() {
    let driver = Driver::joining();
    assert!(driver.said(|payload| matches!(payload, Payload::Hello { .. })));
    let driver = Driver::answering();
    let requests = driver.effects.iter().find_map(|effect| match effect {
        Effect::Sample { requests, .. } => Some(requests),
        _ => None,
    });
    let labels: Vec<&str> = requests.unwrap().iter().map(|r| r.label.as_str()).collect();
    assert_eq!(labels, ["common 0", "own 0", "own 1"]);
    let seeds: BTreeSet<u64> = requests.unwrap().iter().map(|r| r.seed).collect();
    assert_eq!(seeds.len(), 3);
}

#[test]
fn a_stage_ends_at_its_deadline_and_who_missed_it_is_absent_until_heard() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.wait(4_999);
    assert_eq!(driver.machine.position().phase, Phase::Answer);
    driver.wait(1);
    assert_eq!(driver.machine.position().phase, Phase::Commit);
    let absent = |who| move |effect: &Effect| matches!(effect, Effect::Emit(Event::PeerAbsent { who: w, stage: Stage::Answer, .. }) if *w == who);
    assert!(driver.took(absent(peer(4))));
    assert!(!driver.took(absent(peer(2))));
    assert!(!driver.machine.roster().get(&peer(4)).unwrap().present);
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    assert!(driver.machine.roster().get(&peer(4)).unwrap().present);
}

#[test]
fn late_answers_are_not_listed_but_their_author_takes_part_again() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    driver.give(2, Phase::Answer, &answers(2));
    driver.give(3, Phase::Answer, &answers(3));
    driver.wait(5_000);
    driver.say(4, 1, Phase::Answer, have(&answers(4)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
    assert_eq!(driver.refusal(), None);
    driver.sample(BodyKind::Critique);
    for index in 2..=4 {
        driver.say(index, 1, Phase::Commit, commit(&critiques(index)));
    }
    assert_eq!(driver.machine.position().phase, Phase::Reveal);
    for index in 2..=4 {
        driver.give(index, Phase::Reveal, &critiques(index));
    }
    let witnessed = driver.machine.round().unwrap().witnessed();
    assert!(!witnessed.contains(&reference(&answers(4)).hash));
    assert!(witnessed.contains(&reference(&critiques(4)).hash));
}

#[test]
fn samples_that_come_after_the_stage_are_not_announced() {
    let mut driver = Driver::answering();
    driver.wait(5_000);
    driver.feed(Input::Sampled {
        round: 1,
        kind: BodyKind::Answer,
        groups: vec![completions(4, "x"); 3],
    });
    assert!(!driver.said(|payload| matches!(payload, Payload::Have { .. })));
}

#[test]
fn too_few_samples_are_fewer_groups_not_shorter_ones() {
    let mut driver = Driver::answering();
    let groups = vec![completions(4, "x"), completions(3, "x")];
    driver.feed(Input::Sampled {
        round: 1,
        kind: BodyKind::Answer,
        groups,
    });
    let round = driver.machine.round().unwrap();
    let body = round.body(peer(1), BodyKind::Answer).unwrap();
    assert_eq!(body.completions(), 4);
    assert_eq!(body.check(&sim::manifest()), Ok(()));
}

#[test]
fn critiques_are_shown_only_when_all_have_committed() {
    let mut driver = Driver::critiquing();
    driver.sample(BodyKind::Critique);
    assert!(driver.said(|payload| matches!(payload, Payload::Commit { .. })));
    let shown = |driver: &Driver| {
        driver.took(|effect| matches!(effect, Effect::Serve { .. }))
            || driver.said(|payload| matches!(payload, Payload::Have { .. }))
    };
    assert!(!shown(&driver));
    driver.say(2, 1, Phase::Commit, commit(&critiques(2)));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    assert!(!shown(&driver));
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    assert!(shown(&driver));
}

#[test]
fn critiques_that_were_not_committed_in_time_do_not_count() {
    let mut driver = Driver::critiquing();
    driver.sample(BodyKind::Critique);
    driver.say(2, 1, Phase::Commit, commit(&critiques(2)));
    driver.say(3, 1, Phase::Commit, commit(&critiques(3)));
    driver.wait(5_000);
    assert_eq!(driver.machine.position().phase, Phase::Reveal);
    driver.say(4, 1, Phase::Commit, commit(&critiques(4)));
    driver.say(4, 1, Phase::Reveal, have(&critiques(4)));
    assert!(!driver.took(|effect| matches!(effect, Effect::Fetch { .. })));
}

#[test]
fn an_unanswered_announcement_is_repeated_ever_more_rarely() {
    let mut driver = Driver::answering();
    driver.sample(BodyKind::Answer);
    let mut repeated = Vec::new();
    for ms in (50..4_000).step_by(50) {
        driver.wait(50);
        if driver.said(|payload| matches!(payload, Payload::Have { .. })) {
            repeated.push(ms);
        }
    }
    assert_eq!(repeated, [250, 750, 1_750, 2_750, 3_750]);
}

#[test]
fn a_sequence_never_goes_back_even_if_the_clock_does() {
    let mut driver = Driver::answering();
    let mut last = 0;
    for step in 0..50u64 {
        driver.now = 10_000 - step * 100;
        driver.feed(Input::Tick);
        for effect in &driver.effects {
            if let Effect::Publish(announcement) = effect {
                assert!(announcement.sequence > last);
                last = announcement.sequence;
            }
        }
    }
    assert!(last > 0);
}

#[test]
fn an_early_tick_does_no_harm_and_asks_for_the_timer_again() {
    let mut driver = Driver::answering();
    let at = |driver: &Driver| {
        driver.effects.iter().find_map(|effect| match effect {
            Effect::SetTimer { at_ms } => Some(*at_ms),
            _ => None,
        })
    };
    let due = at(&driver).unwrap();
    driver.feed(Input::Tick);
    assert_eq!(driver.effects, [Effect::SetTimer { at_ms: due }]);
}

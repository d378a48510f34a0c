//! What is asked, and by whose word.

use ed25519_dalek::SigningKey;

use super::*;
use crate::curriculum::{Amendment, Climb};

fn author() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn authored() -> Manifest {
    Manifest {
        author: Some(PeerId(author().verifying_key().to_bytes())),
        ..sim::manifest()
    }
}

fn amendment(number: u32, courses: usize) -> Amendment {
    let manifest = authored();
    let courses = manifest.curriculum[..courses].to_vec();
    Amendment::sign(&author(), manifest.id(), number, 9, courses)
}

fn told(amendment: &Amendment) -> Payload {
    Payload::Amendment(Box::new(amendment.clone()))
}

#[test]
fn a_forged_replayed_or_second_amendment_is_refused_and_counted() {
    let mut driver = Driver::joining_to(authored());
    let mut say = |amendment: &Amendment| {
        driver.say(2, 1, Phase::Answer, told(amendment));
        let kept = driver.took(|effect| matches!(effect, Effect::Keep { .. }));
        (kept, driver.refusal().map(str::to_owned))
    };
    let refused = |reason: &str| (false, Some(reason.to_owned()));
    let mut forged = amendment(1, 2);
    forged.from += 1;
    assert_eq!(say(&forged), refused("bad curriculum"));
    let other = Manifest {
        name: "another".into(),
        ..authored()
    };
    let courses = other.curriculum.clone();
    let replayed = Amendment::sign(&author(), other.id(), 1, 9, courses);
    assert_eq!(say(&replayed), refused("bad curriculum"));
    // Of two with one number all keep the same, whichever comes first.
    let mut pair = [amendment(1, 2), amendment(1, 3)];
    pair.sort_by_key(Amendment::hash);
    assert_eq!(say(&pair[1]), (true, None));
    assert_eq!(say(&pair[0]), (true, None));
    assert_eq!(say(&pair[0]), (false, None));
    assert_eq!(say(&pair[1]), refused("equivocation"));
    // What was replaced long ago is not taken up again.
    for number in 2..=20 {
        assert_eq!(say(&amendment(number, 1)), (true, None));
    }
    assert_eq!(say(&pair[0]), refused("bad curriculum"));
}

#[test]
fn nobody_changes_a_curriculum_that_has_no_author() {
    let mut driver = Driver::joining();
    driver.say(2, 1, Phase::Answer, told(&amendment(1, 2)));
    assert_eq!(driver.refusal(), Some("bad curriculum"));
}

#[test]
fn who_lacks_an_amendment_is_given_it_and_who_knows_a_newer_one_is_asked() {
    let mut driver = Driver::joining_to(authored());
    driver.feed(Input::Amendment(Box::new(amendment(2, 2))));
    assert!(driver.said(|said| matches!(said, Payload::Amendment(_))));
    driver.now += 1_000;
    driver.say(2, 1, Phase::Join, hello(2));
    assert!(driver.said(|said| matches!(said, Payload::Amendment(told) if told.number == 2)));
    driver.now += 1_000;
    let knows = |number| match hello(3) {
        Payload::Hello { address, name, .. } => Payload::Hello {
            address,
            name,
            plea: None,
            curriculum: number,
        },
        other => other,
    };
    driver.say(3, 1, Phase::Join, knows(2));
    assert!(!driver.said(|said| matches!(said, Payload::Amendment(_))));
    driver.now += 1_000;
    driver.say(3, 1, Phase::Join, knows(3));
    assert!(driver.said(|said| matches!(said, Payload::Hello { curriculum: 2, .. })));
}

#[test]
fn who_cannot_work_out_what_is_asked_takes_it_from_most_witnesses() {
    let mut manifest = authored();
    for course in &mut manifest.curriculum {
        course.climb = Some(Climb {
            lowest: 1,
            highest: 3,
            down: 30,
            up: 80,
        });
    }
    let mut driver = Driver::joining_to(manifest.clone());
    for index in 2..=4 {
        driver.say(index, 2, Phase::Join, hello(index));
    }
    // Round 1 settled, and this peer was not there.
    driver.feed(Input::RoundOpened {
        round: 2,
        beacon: BEACON,
        committee: (1..=4).map(|index| (peer(index), address(index))).collect(),
        settled: vec![(1, Hash([1; 32]))],
    });
    assert_eq!(driver.machine.position().phase, Phase::Open);
    let mut plan = Plan::first(&manifest);
    plan.standings[0].level = 2;
    let (hash, bytes) = plan.encode();
    let said = |hash| Payload::Plan {
        plan: BodyRef {
            hash,
            bytes: u32::try_from(bytes.len()).unwrap(),
        },
    };
    driver.say(2, 2, Phase::Open, said(Hash([7; 32])));
    driver.say(2, 2, Phase::Open, said(hash));
    assert_eq!(driver.refusal(), Some("equivocation"));
    driver.say(3, 2, Phase::Open, said(hash));
    assert!(
        !driver.took(|effect| matches!(effect, Effect::Fetch { .. })),
        "one of three"
    );
    driver.say(4, 2, Phase::Open, said(hash));
    assert!(driver.took(|effect| matches!(effect, Effect::Fetch { hash: of, .. } if *of == hash)));
    driver.feed(Input::Body {
        hash,
        bytes: bytes.clone(),
    });
    assert_eq!(driver.machine.position().phase, Phase::Answer);
    assert_eq!(driver.machine.rules(2).curriculum[0].level, 2);
}

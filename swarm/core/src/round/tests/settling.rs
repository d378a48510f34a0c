//! From lists to a settled round.

use super::*;

#[test]
fn only_witnesses_list_and_attest() {
    let mut driver = Driver::judging();
    driver.say(
        9,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: Vec::new(),
        },
    );
    assert_eq!(driver.refusal(), Some("not entitled"));
    let card = Card {
        included: Hash([1; 32]),
        scores: Vec::new(),
        signature: EvmSignature([0; 65]),
    };
    driver.say(9, 1, Phase::Judge, Payload::Attestation(card));
    assert_eq!(driver.refusal(), Some("not entitled"));
}

#[test]
fn a_body_counts_when_more_than_two_thirds_of_the_witnesses_list_it() {
    let mut driver = Driver::judging();
    let mut entries = driver.own_list();
    let everything = entries.len();
    driver.say(
        2,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: entries.clone(),
        },
    );
    let dropped = entries.pop().unwrap();
    driver.say(
        3,
        1,
        Phase::Judge,
        Payload::Inclusion {
            entries: entries.clone(),
        },
    );
    driver.say(4, 1, Phase::Judge, Payload::Inclusion { entries });
    let judged = driver.machine.round().unwrap().judged.as_ref().unwrap();
    assert_eq!(judged.entries.len(), everything - 1);
    assert!(!judged.entries.contains(&dropped));
}

#[test]
fn a_listed_body_that_never_came_is_fetched_from_those_who_list_it() {
    let mut driver = Driver::judging();
    let mut entries = driver.own_list();
    entries.push(Hash([0xff; 32]));
    for index in 2..=4 {
        let entries = entries.clone();
        driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
    }
    let asked = driver.effects.iter().find_map(|effect| match effect {
        Effect::Fetch { hash, from, .. } if *hash == Hash([0xff; 32]) => Some(from.clone()),
        _ => None,
    });
    assert_eq!(asked, Some(vec![peer(2), peer(3), peer(4)]));
    assert_eq!(driver.machine.position().phase, Phase::Judge);
    driver.wait(4_000);
    // It did not come: the round is judged for training, and nothing signed.
    assert_eq!(driver.machine.position().phase, Phase::Train);
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
    assert!(driver.took(|effect| matches!(effect, Effect::Train { .. })));
}

#[test]
fn a_witness_leaves_itself_out_and_is_refused_if_it_does_not() {
    let mut driver = Driver::training();
    let own = driver.machine.round().unwrap().cards[&peer(1)].clone();
    let score = |card: &Card, index| {
        let row = card.scores.iter().find(|(a, _)| *a == address(index));
        row.unwrap().1
    };
    assert_eq!(score(&own, 1), UNSCORED);
    assert!(score(&own, 2) <= 1_000_000);
    let mut vain = driver.card(2);
    vain.scores = own.scores;
    driver.say(2, 1, Phase::Train, Payload::Attestation(vain));
    assert_eq!(driver.refusal(), Some("not entitled"));
}

#[test]
fn a_quorum_of_equal_cards_is_relayed_once_and_the_round_ends_when_it_is_settled() {
    let mut driver = Driver::training();
    for index in 2..=4 {
        let card = driver.card(index);
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
        let agrees = driver
            .took(|effect| matches!(effect, Effect::Emit(Event::Attested { agrees: true, .. })));
        assert!(agrees, "peer {index}");
    }
    let mut sent = 0;
    for _ in 0..20 {
        sent += usize::from(driver.took(|effect| match effect {
            Effect::Settle(settlement) => {
                assert_eq!(settlement.cards.len(), 4);
                assert!(settlement.cards.is_sorted_by_key(|(witness, _)| *witness));
                true
            }
            _ => false,
        }));
        driver.wait(300);
    }
    assert_eq!(sent, 1);
    let tx = TxHash([8; 32]);
    driver.feed(Input::Trained {
        round: 1,
        checkpoint: None,
    });
    driver.feed(Input::Settled { round: 1, tx });
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::RoundEnded(summary)) if summary.settled && summary.tx == Some(tx)
    )));
    assert!(driver.machine.is_done() || driver.machine.position().round == 2);
}

#[test]
fn a_transcript_is_enough_to_recompute_what_was_signed() {
    let driver = Driver::training();
    let manifest = &driver.machine.config.manifest;
    let limit = Transcript::limit(manifest);
    let transcript = driver.recorded.clone();
    let bytes = transcript.expect("a quorum's set is recorded").encode();
    let mut read = Transcript::decode(&bytes, limit).unwrap();
    let registry = &driver.machine.config.registry;
    let recomputed = read.recompute(manifest, registry).unwrap();
    for witness in 1..=4 {
        let card = driver.card(witness);
        assert_eq!(card.included, recomputed.included);
        let scores = crate::score::card(&recomputed.rows, address(witness));
        assert_eq!(card.scores, scores);
    }
    // One body less is another set; a changed one is no body of this round.
    let left_out = read.bodies.pop().unwrap();
    let fewer = read.recompute(manifest, registry).unwrap();
    assert_ne!(fewer.included, recomputed.included);
    read.bodies.push(left_out);
    read.round = 2;
    assert!(read.recompute(manifest, registry).is_err());
}

#[test]
fn who_hears_of_a_settlement_does_not_relay_it() {
    let mut driver = Driver::training();
    driver.feed(Input::Settled {
        round: 1,
        tx: TxHash([8; 32]),
    });
    for index in 2..=4 {
        let card = driver.card(index);
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
    }
    for _ in 0..20 {
        assert!(!driver.took(|effect| matches!(effect, Effect::Settle(_))));
        driver.wait(300);
    }
}

#[test]
fn a_quorum_for_another_set_is_judged_too_and_false_scores_are_told() {
    let mut driver = Driver::judging();
    let entries = driver.own_list();
    let fewer = entries[1..].to_vec();
    for (index, entries) in [(2, entries.clone()), (3, fewer.clone())] {
        driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
    }
    driver.wait(4_000);
    let judged = |driver: &Driver| driver.machine.round().unwrap().judged.clone().unwrap();
    assert_eq!(judged(&driver).entries.len(), fewer.len());
    // The last list comes late: now three of four list everything.
    let whole = driver
        .machine
        .judge_set(1, entries.iter().copied().collect(), true);
    let whole = whole.unwrap();
    driver.say(4, 1, Phase::Train, Payload::Inclusion { entries });
    assert_eq!(
        judged(&driver).entries.len(),
        fewer.len(),
        "one list moves nobody"
    );
    for index in 2..=4 {
        let mut card = Card {
            included: whole.included.unwrap(),
            scores: crate::score::card(&whole.rows, address(index)),
            signature: EvmSignature([index; 65]),
        };
        if index == 4 {
            let row = card.scores.iter_mut().find(|(a, _)| *a != address(4));
            row.unwrap().1 = 999_999;
        }
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
    }
    assert_eq!(judged(&driver).entries, whole.entries);
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::Log { level: LogLevel::Error, message, .. })
            if message.contains("1 of 3 scorecards do not follow")
    )));
    // Signed once a round: not again for their set.
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
}

#[test]
fn without_a_quorum_the_round_trains_says_why_and_ends() {
    let mut driver = Driver::judging();
    driver.wait(4_000);
    assert!(driver.took(|effect| matches!(effect, Effect::Train { .. })));
    assert!(!driver.took(|effect| matches!(effect, Effect::SignScorecard(_))));
    driver.feed(Input::Trained {
        round: 1,
        checkpoint: None,
    });
    assert_eq!(driver.machine.position().round, 2);
    driver.wait(12_000);
    assert!(driver.took(|effect| matches!(
        effect,
        Effect::Emit(Event::Unsettled { round: 1, why }) if why.contains("1 of 4 witnesses")
    )));
    let ended = |effect: &Effect| matches!(effect, Effect::Emit(Event::RoundEnded(s)) if s.round == 1 && !s.settled);
    assert!(driver.took(ended));
}

#[test]
fn nobody_is_judged_by_their_own_verdicts_or_trained_on_what_all_earned_alike() {
    let driver = Driver::training();
    let judged = driver.machine.round().unwrap().judged.as_ref().unwrap();
    for score in &judged.board.critiques {
        assert_ne!(score.critic, score.target_owner);
    }
    // Everyone said the same everywhere: there is nothing to learn.
    assert!(judged.board.answers.iter().all(|group| !group.trainable));
}

#[test]
fn a_sealed_card_is_shown_when_the_chain_holds_its_seal_and_counts_only_then() {
    let mut driver = Driver::judging();
    let chain = driver.machine.config.manifest.chain.as_mut();
    chain.unwrap().sealed = true;
    let entries = driver.own_list();
    for index in 2..=4 {
        let entries = entries.clone();
        driver.say(index, 1, Phase::Judge, Payload::Inclusion { entries });
    }
    let seal = |index: u8| Seal {
        seal: Hash([index; 32]),
        signature: EvmSignature([index; 65]),
    };
    let included = driver.card(1).included;
    driver.feed(Input::CardSigned {
        round: 1,
        included,
        signature: EvmSignature([1; 65]),
        seal: Some(seal(1)),
    });
    let shown = |payload: &Payload| matches!(payload, Payload::Attestation(_));
    assert!(driver.said(|payload| *payload == Payload::Sealed(seal(1))));
    assert!(!driver.said(shown));

    // Two seals of four are too few, three are enough: once, by whose turn it is.
    let mut committed = Vec::new();
    let watch = |driver: &Driver, committed: &mut Vec<Vec<Address>>| {
        assert!(!driver.took(|effect| matches!(effect, Effect::Settle(_))));
        assert!(!driver.said(shown));
        for effect in &driver.effects {
            if let Effect::CommitSeals { seals, .. } = effect {
                committed.push(seals.iter().map(|(witness, _)| *witness).collect());
            }
        }
    };
    driver.say(2, 1, Phase::Train, Payload::Sealed(seal(2)));
    driver.say(9, 1, Phase::Train, Payload::Sealed(seal(9)));
    assert_eq!(driver.refusal(), Some("not entitled"));
    driver.wait(1_000);
    watch(&driver, &mut committed);
    assert!(committed.is_empty());
    driver.say(3, 1, Phase::Train, Payload::Sealed(seal(3)));
    driver.say(3, 1, Phase::Train, Payload::Sealed(seal(4)));
    assert_eq!(driver.refusal(), Some("equivocation"));
    // Whoever shows a card before it is sealed changes nothing.
    for index in 2..=4 {
        let card = driver.card(index);
        driver.say(index, 1, Phase::Train, Payload::Attestation(card));
        watch(&driver, &mut committed);
    }
    for _ in 0..10 {
        driver.wait(300);
        watch(&driver, &mut committed);
    }
    let three: Vec<Address> = (1..=3).map(address).collect();
    assert_eq!(committed, vec![three.clone()]);

    driver.feed(Input::CardsSealed {
        round: 1,
        witnesses: three.iter().copied().collect(),
    });
    assert!(driver.said(shown));
    let mut settled = Vec::new();
    for _ in 0..10 {
        for effect in &driver.effects {
            if let Effect::Settle(settlement) = effect {
                let cards = settlement.cards.iter();
                settled.push(cards.map(|(witness, _)| *witness).collect::<Vec<_>>());
                assert_eq!(settlement.seals.len(), 3);
            }
        }
        driver.wait(300);
    }
    // The fourth's card was never sealed.
    assert_eq!(settled, vec![three]);
}

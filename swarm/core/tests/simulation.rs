//! Whole swarms, simulated: bad links, crashes, late joiners and liars.

use std::collections::{BTreeMap, BTreeSet};

use swarm_core::event::{BeaconSource, EndedBy, Event, Stage};
use swarm_core::manifest::Pace;
use swarm_core::message::BodyKind;
use swarm_core::sim::{Fault, Lie, Link, Report, Scenario, run};
use tasks::Seed;

const LIES: [Lie; 8] = [
    Lie::EasierItems,
    Lie::Garbage,
    Lie::TwoFaced,
    Lie::Withhold,
    Lie::OnlyMine,
    Lie::FalseScores,
    Lie::FarAhead,
    Lie::Contrary,
];

#[test]
fn sealed_cards_settle_as_open_ones_do_and_none_is_shown_before_its_seal() {
    let open = Scenario::new(5, 5, 3);
    let mut sealed = open.clone();
    sealed.manifest.chain.as_mut().unwrap().sealed = true;
    let (open, sealed) = (run(&open), run(&sealed));
    assert_eq!(sealed.settled.len(), 3);
    let scores = |report: &Report| -> Vec<usize> {
        let settled = report.settled.values();
        settled.map(|settled| settled.scores.len()).collect()
    };
    assert_eq!(scores(&open), scores(&sealed));
}

/// A scenario in which anything may go wrong, all of it from the seed.
fn mixed(seed: u64) -> Scenario {
    let mut dice = Seed::derive(&[b"mixed", &seed.to_le_bytes()]).draw();
    let peers = 3 + dice.index(5);
    let rounds = 3 + dice.below(2);
    let mut scenario = Scenario::new(seed, peers, rounds);
    scenario.link = Link {
        latency_ms: (1, 20 + dice.below(300)),
        loss: dice.below(16),
        twice: dice.below(20),
    };
    scenario.notice_ms = dice.coin().then(|| 200 + dice.below(2_000));
    if dice.percent(60) {
        let at_ms = 500 + dice.below(6_000);
        scenario.faults.push(Fault::Crash { peer: 0, at_ms });
        if dice.coin() {
            let at_ms = at_ms + 200 + dice.below(8_000);
            scenario.faults.push(Fault::Start { peer: 0, at_ms });
        }
    }
    if dice.percent(50) {
        let at_ms = 2_000 + dice.below(6_000);
        scenario.faults.push(Fault::Start { peer: 1, at_ms });
    }
    if peers >= 5 && dice.percent(50) {
        let lie = LIES[dice.index(LIES.len())];
        scenario.faults.push(Fault::Liar { peer: 2, lie });
    }
    if dice.percent(20) {
        let from_ms = dice.below(6_000);
        scenario.faults.push(Fault::ChainDown {
            from_ms,
            until_ms: from_ms + dice.below(10_000),
            peers: BTreeSet::new(),
        });
    }
    scenario
}

/// What holds whatever goes wrong.
fn check(what: &str, scenario: &Scenario, report: &Report) {
    let crashes = scenario.faults.iter().filter_map(|fault| match fault {
        Fault::Crash { peer, .. } => Some(*peer),
        _ => None,
    });
    let crashed: BTreeSet<usize> = crashes.collect();
    assert!(report.finished, "{what}: not finished");
    // Who included the same set reached the same scoreboard.
    for ((round, included), boards) in report.scoreboards() {
        for board in &boards {
            assert_eq!(board, &boards[0], "{what}: round {round}, set {included}");
        }
    }
    for (peer, events) in report.events.iter().enumerate() {
        let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, event) in events {
            if let Event::RoundEnded(summary) = event {
                *ended.entry(summary.round).or_default() += 1;
                // The ledger is the judge of what is settled.
                let on_chain = report.settled.get(&summary.round).map(|s| s.tx);
                assert!(
                    !summary.settled || on_chain == summary.tx,
                    "{what}: peer {peer}, round {}",
                    summary.round
                );
            }
        }
        for (round, times) in &ended {
            assert_eq!(*times, 1, "{what}: peer {peer} ended round {round} again");
        }
        // What was begun was ended, unless the process died in between.
        if !crashed.contains(&peer) {
            let opened = events.iter().filter_map(|(_, event)| match event {
                Event::RoundOpened { round, .. } => Some(*round),
                _ => None,
            });
            let opened: BTreeSet<u64> = opened.collect();
            let ended: BTreeSet<u64> = ended.into_keys().collect();
            assert_eq!(opened, ended, "{what}: peer {peer}");
        }
    }
}

fn all_settled(what: &str, scenario: &Scenario, report: &Report) {
    check(what, scenario, report);
    let settled: Vec<u64> = report.settled.keys().copied().collect();
    assert_eq!(settled, (1..=scenario.rounds).collect::<Vec<_>>(), "{what}");
}

#[test]
fn a_hundred_swarms_come_through_whatever_goes_wrong() {
    let (mut settled, mut rounds) = (0, 0);
    for seed in 0..100 {
        let scenario = mixed(seed);
        let report = run(&scenario);
        check(&format!("seed {seed}"), &scenario, &report);
        settled += report.settled.len() as u64;
        rounds += scenario.rounds;
    }
    // Most of these swarms cannot have a quorum all the time; most have it
    // nearly always.
    assert!(settled * 10 >= rounds * 8, "{settled} of {rounds} settled");
}

#[test]
fn equal_scenarios_run_equally() {
    for seed in 0..5 {
        let (one, other) = (run(&mixed(seed)), run(&mixed(seed)));
        assert_eq!(one.events, other.events, "seed {seed}");
        assert_eq!(one.settled, other.settled, "seed {seed}");
    }
}

#[test]
fn an_honest_swarm_settles_every_round_and_waits_for_no_deadline() {
    for seed in 0..10 {
        let what = format!("seed {seed}");
        let scenario = Scenario::new(seed, 4, 3);
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        for (_, event) in report.events.iter().flatten() {
            match event {
                Event::StageEnded { ended_by, .. } => assert_eq!(*ended_by, EndedBy::AllIn),
                Event::PeerAbsent { .. } | Event::Unsettled { .. } | Event::Rejected { .. } => {
                    panic!("{what}: {event:?}")
                }
                Event::Judged { batches, .. } => assert_eq!(*batches, 12, "{what}"),
                _ => {}
            }
        }
    }
}

#[test]
fn one_peer_alone_is_a_swarm() {
    let scenario = Scenario::new(3, 1, 3);
    let report = run(&scenario);
    all_settled("alone", &scenario, &report);
    assert!(report.ended(0).iter().all(|round| round.answers == 12));
}

#[test]
fn the_order_in_which_messages_arrive_does_not_matter() {
    for seed in 0..10 {
        let mut slow = Scenario::new(seed, 5, 2);
        slow.link.latency_ms = (1, 900);
        slow.link.twice = 30;
        let scenario = slow;
        let (fast, slow) = (run(&Scenario::new(seed, 5, 2)), run(&scenario));
        all_settled(&format!("seed {seed}"), &scenario, &slow);
        assert_eq!(fast.scoreboards().keys().count(), 2, "seed {seed}");
        assert_eq!(
            fast.scoreboards()
                .into_iter()
                .map(|(k, v)| (k, v[0]))
                .collect::<Vec<_>>(),
            slow.scoreboards()
                .into_iter()
                .map(|(k, v)| (k, v[0]))
                .collect::<Vec<_>>(),
            "seed {seed}"
        );
        assert_eq!(fast.settled, slow.settled, "seed {seed}");
    }
}

#[test]
fn with_one_of_four_gone_rounds_still_settle() {
    for seed in 0..20 {
        let mut scenario = Scenario::new(seed, 4, 5);
        // Anywhere in the first three rounds.
        let at_ms = 300 + seed * 200;
        scenario.faults = vec![Fault::Crash { peer: 3, at_ms }];
        all_settled(&format!("seed {seed}"), &scenario, &run(&scenario));
    }
}

#[test]
fn a_crashed_peer_is_waited_for_once_and_seen_again_when_it_is_back() {
    let mut scenario = Scenario::new(5, 4, 8);
    scenario.faults = vec![
        Fault::Crash {
            peer: 3,
            at_ms: 1_500,
        },
        Fault::Start {
            peer: 3,
            at_ms: 12_000,
        },
    ];
    let report = run(&scenario);
    all_settled("back", &scenario, &report);
    let gone = report.ids[3];
    for peer in 0..3 {
        let of = |wanted: fn(&Event) -> Option<swarm_core::ids::PeerId>| {
            let events = report.events[peer].iter();
            events
                .filter(|(_, event)| wanted(event) == Some(gone))
                .count()
        };
        let absent = of(|event| match event {
            Event::PeerAbsent { who, .. } => Some(*who),
            _ => None,
        });
        let seen = of(|event| match event {
            Event::PeerSeen { who, .. } => Some(*who),
            _ => None,
        });
        assert_eq!((absent, seen), (1, 2), "peer {peer}");
        let last = report.ended(peer).pop().cloned().unwrap();
        assert_eq!((last.round, last.peers), (8, 4), "peer {peer}");
    }
}

#[test]
fn a_peer_that_the_transport_gives_up_is_not_waited_for() {
    for seed in 0..20 {
        let what = format!("seed {seed}");
        let mut scenario = Scenario::new(seed, 4, 5);
        let at_ms = 300 + seed * 200;
        scenario.faults = vec![Fault::Crash { peer: 3, at_ms }];
        scenario.notice_ms = Some(400);
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        for (_, event) in report.events[..3].iter().flatten() {
            if let Event::StageEnded { ended_by, .. } = event {
                assert_eq!(*ended_by, EndedBy::AllIn, "{what}: {event:?}");
            }
        }
    }
}

#[test]
fn a_node_trains_on_others_groups_of_this_round_and_the_last_each_once() {
    let scenario = Scenario::new(11, 5, 6);
    let report = run(&scenario);
    let (mut old, mut new) = (0, 0);
    for (peer, trainings) in report.trained.iter().enumerate() {
        let mut seen = BTreeSet::new();
        for (round, group) in trainings
            .iter()
            .flat_map(|(round, groups)| groups.iter().map(move |group| (*round, group)))
        {
            // Two peers may show a critic the same answer to a common item.
            if group.kind != BodyKind::Critique {
                let place = (group.round, group.kind, group.owner, group.slot);
                assert!(seen.insert(place), "peer {peer}, round {round}: {group:?}");
            }
            if group.owner == report.ids[peer] {
                assert_eq!(group.round, round, "its own are of this round");
            } else if group.round == round {
                new += 1;
            } else {
                assert_eq!(group.round + 1, round, "peer {peer}");
                old += 1;
            }
        }
    }
    assert!(
        old > 10 && new > 10,
        "{old} of the last round, {new} of this one"
    );
}

#[test]
fn a_late_joiner_begins_with_an_answer_stage_and_is_counted() {
    for seed in 0..10 {
        let mut scenario = Scenario::new(seed, 4, 6);
        let at_ms = 2_500 + seed * 250;
        scenario.faults = vec![Fault::Start { peer: 3, at_ms }];
        let report = run(&scenario);
        all_settled(&format!("seed {seed}"), &scenario, &report);
        let stages: Vec<(u64, Stage)> = report.events[3]
            .iter()
            .filter_map(|(_, event)| match event {
                Event::StageStarted { round, stage, .. } => Some((*round, *stage)),
                _ => None,
            })
            .collect();
        assert_eq!(stages[0].1, Stage::Answer, "seed {seed}");
        assert!(
            stages[0].0 > 1,
            "seed {seed}: it joined round {}",
            stages[0].0
        );
        let last = report.ended(0).pop().cloned().unwrap();
        assert_eq!((last.round, last.peers), (6, 4), "seed {seed}");
    }
}

#[test]
fn everyone_killed_and_started_again_goes_on() {
    for seed in 0..10 {
        let mut scenario = Scenario::new(seed, 4, 6);
        let down = 1_200 + seed * 100;
        for peer in 0..4 {
            scenario.faults.push(Fault::Crash { peer, at_ms: down });
            let at_ms = down + 500 + 100 * peer as u64;
            scenario.faults.push(Fault::Start { peer, at_ms });
        }
        let report = run(&scenario);
        check(&format!("seed {seed}"), &scenario, &report);
        // The round under way is lost, nothing else.
        assert!(
            report.settled.len() >= 5,
            "seed {seed}: {:?}",
            report.settled.keys()
        );
    }
}

#[test]
fn without_the_chain_rounds_go_on_unsettled_and_settle_again_later() {
    for seed in 0..10 {
        let mut scenario = Scenario::new(seed, 4, 8);
        scenario.faults = vec![Fault::ChainDown {
            from_ms: 1_000,
            until_ms: 12_000,
            peers: BTreeSet::new(),
        }];
        let report = run(&scenario);
        check(&format!("seed {seed}"), &scenario, &report);
        let mut sources: BTreeMap<u64, BTreeSet<bool>> = BTreeMap::new();
        for (_, event) in report.events.iter().flatten() {
            if let Event::RoundOpened { round, source, .. } = event {
                let offline = *source == BeaconSource::Offline;
                sources.entry(*round).or_default().insert(offline);
            }
        }
        let offline = |wanted: bool| {
            sources
                .iter()
                .filter(move |(_, s)| **s == BTreeSet::from([wanted]))
        };
        assert!(offline(true).count() >= 2, "seed {seed}: {sources:?}");
        for (round, _) in offline(true) {
            assert!(!report.settled.contains_key(round), "seed {seed}");
        }
        for (round, _) in offline(false) {
            assert!(report.settled.contains_key(round), "seed {seed}: {round}");
        }
    }
}

#[test]
fn a_peer_without_the_chain_is_not_called_a_liar() {
    let mut scenario = Scenario::new(9, 4, 4);
    scenario.faults = vec![Fault::ChainDown {
        from_ms: 1_000,
        until_ms: 600_000,
        peers: BTreeSet::from([2]),
    }];
    let report = run(&scenario);
    all_settled("one without chain", &scenario, &report);
    for peer in 0..4 {
        assert!(
            report.refusals(peer).is_empty(),
            "{:?}",
            report.refusals(peer)
        );
    }
}

#[test]
fn a_network_split_in_two_comes_together_again() {
    for seed in 0..10 {
        let mut scenario = Scenario::new(seed, 6, 16);
        scenario.faults = vec![Fault::Partition {
            from_ms: 900 + seed * 100,
            until_ms: 9_000,
            group: BTreeSet::from([0, 1]),
        }];
        let report = run(&scenario);
        check(&format!("seed {seed}"), &scenario, &report);
        let last = report.settled.keys().next_back().copied();
        assert_eq!(last, Some(16), "seed {seed}: {:?}", report.settled.keys());
        let summary = report.ended(0).pop().cloned().unwrap();
        assert_eq!(summary.peers, 6, "seed {seed}");
    }
}

#[test]
fn a_liar_neither_stops_the_swarm_nor_gains() {
    for (seed, lie) in (0..).zip(LIES) {
        let what = format!("{lie:?}");
        let mut scenario = Scenario::new(seed, 6, 4);
        scenario.faults = vec![Fault::Liar { peer: 5, lie }];
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        let (liar, address) = (report.ids[5], report.addresses[5]);
        let scored = report.scoreboards();
        for ((round, included), boards) in &scored {
            let settled = &report.settled[round];
            if settled.included != *included {
                continue;
            }
            for row in boards[0] {
                let peer = report.ids.iter().position(|id| *id == row.peer).unwrap();
                let score = settled.scores[&report.addresses[peer]];
                assert_eq!(score, row.score_ppm, "{what}: round {round}, peer {peer}");
            }
        }
        let refused: usize = (0..5)
            .flat_map(|peer| report.refusals(peer).into_values())
            .sum();
        match lie {
            Lie::EasierItems => {
                assert!(refused > 0, "{what}");
                for boards in scored.values() {
                    let row = boards[0].iter().find(|row| row.peer == liar);
                    assert!(row.is_none_or(|row| row.accuracy_ppm == 0), "{what}");
                }
            }
            Lie::Garbage | Lie::TwoFaced => {
                assert!(refused > 0, "{what}");
                for settled in report.settled.values() {
                    assert!(!settled.scores.contains_key(&address), "{what}");
                }
            }
            // Against the rules of play, not of speech.
            _ => assert_eq!(refused, 0, "{what}: {:?}", report.refusals(0)),
        }
    }
}

#[test]
fn under_a_clock_rounds_begin_on_time() {
    let mut scenario = Scenario::new(4, 4, 5);
    let (genesis_ms, length_ms) = (1_000_000, 10_000);
    scenario.manifest.pace = Pace::Clock {
        genesis_ms,
        length_ms,
    };
    scenario.link.loss = 5;
    scenario.faults = vec![
        Fault::Crash {
            peer: 0,
            at_ms: 13_000,
        },
        Fault::Start {
            peer: 0,
            at_ms: 22_000,
        },
    ];
    let report = run(&scenario);
    check("clock", &scenario, &report);
    assert!(report.settled.len() >= 4, "{:?}", report.settled.keys());
    for (at, event) in report.events.iter().flatten() {
        if let Event::RoundOpened { round, .. } = event {
            let begins = genesis_ms + round * length_ms;
            assert!(
                (begins..begins + length_ms / 4).contains(at),
                "{round} at {at}"
            );
        }
    }
}

#[test]
fn a_swarm_of_forty_settles_with_sixteen_witnesses() {
    let scenario = Scenario::new(2, 40, 2);
    let report = run(&scenario);
    all_settled("forty", &scenario, &report);
    for settled in report.settled.values() {
        assert!((11..=16).contains(&settled.witnesses.len()));
        assert_eq!(settled.scores.len(), 40);
    }
}

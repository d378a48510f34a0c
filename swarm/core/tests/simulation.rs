//! Whole swarms, simulated: bad links, crashes, late joiners and liars.

use std::collections::{BTreeMap, BTreeSet};

use swarm_core::event::Event;
use swarm_core::sim::{Fault, Lie, Link, Report, Scenario, run};
use tasks::Seed;

/// A scenario in which anything may go wrong, all of it from the seed.
pub fn mixed(seed: u64) -> Scenario {
    let mut dice = Seed::derive(&[b"mixed", &seed.to_le_bytes()]).draw();
    let peers = 3 + dice.index(5);
    let rounds = 3 + dice.below(2);
    let mut scenario = Scenario::new(seed, peers, rounds);
    scenario.link = Link {
        latency_ms: (1, 20 + dice.below(300)),
        loss: dice.below(16),
        twice: dice.below(20),
    };
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

/// What holds whatever goes wrong.
fn check(what: &str, report: &Report) {
    assert!(report.finished, "{what}: not finished");
    for ((round, included), boards) in report.scoreboards() {
        for board in &boards {
            assert_eq!(board, &boards[0], "{what}: round {round}, set {included}");
        }
    }
    for (peer, events) in report.events.iter().enumerate() {
        let mut opened: BTreeSet<u64> = BTreeSet::new();
        let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
        for (_, event) in events {
            match event {
                Event::RoundOpened { round, .. } => drop(opened.insert(*round)),
                Event::RoundEnded(summary) => *ended.entry(summary.round).or_default() += 1,
                _ => {}
            }
        }
        for (round, times) in ended {
            assert_eq!(times, 1, "{what}: peer {peer} ended round {round} again");
            // The ledger is the judge of what is settled.
            let on_chain = report.settled.contains_key(&round);
            let summary = report.ended(peer);
            let claimed = summary.iter().any(|s| s.round == round && s.settled);
            assert!(on_chain || !claimed, "{what}: peer {peer}, round {round}");
        }
    }
}

#[test]
fn a_hundred_swarms_come_through_whatever_goes_wrong() {
    let mut settled = 0;
    let mut rounds = 0;
    for seed in 0..100 {
        let scenario = mixed(seed);
        let report = run(&scenario);
        check(&format!("seed {seed}"), &report);
        settled += report.settled.len();
        rounds += scenario.rounds;
        println!(
            "{seed}: {} peers {:?} loss {} settled {} of {} in {} ms, {} messages",
            scenario.peers,
            scenario.faults,
            scenario.link.loss,
            report.settled.len(),
            scenario.rounds,
            report.ended_ms,
            report.messages
        );
    }
    println!("{settled} of {rounds}");
}

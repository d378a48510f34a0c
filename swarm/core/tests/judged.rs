//! Whole swarms, simulated, in which critics decide the rewards of answers:
//! what is known of critics is carried from plan to plan, and all agree on it.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::sync::Arc;

use rewards::{Calibration, JudgeSettings};
use swarm_core::critics::LEAST_TWINS;
use swarm_core::manifest::Manifest;
use swarm_core::sim::{Fault, Lie, Link, Scenario, manifest, run};
use tasks::{
    Budget, Environment, Form, Item, Judge, Kind, Package, Ppm, Registry, Score, Scorer, Seed,
};

/// Sums, as an author would publish them whose answers critics decide.
struct JudgedSums {
    manifest: tasks::Manifest,
    sums: Arc<dyn Environment>,
}

impl JudgedSums {
    fn new() -> Self {
        let builtin = Registry::builtin();
        let id = builtin.by_name("add").unwrap().manifest().id();
        let sums = builtin.shared(&id).unwrap();
        let mut manifest = sums.manifest().clone();
        manifest.name = "judgedadd".to_owned();
        manifest.package = Some(Package {
            authors: vec!["a test".to_owned()],
            licence: "MIT".to_owned(),
            judge: Judge::Critics,
            kind: Kind::Table(Scorer::Exact { ignore_case: false }),
            form: Form::Tagged,
            turns: 1,
            chance: Ppm(0),
            budget: Budget::default(),
            engine: String::new(),
            files: Vec::new(),
        });
        Self { manifest, sums }
    }
}

impl Environment for JudgedSums {
    fn manifest(&self) -> &tasks::Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, level: u8) -> Item {
        let mut item = self.sums.draw(seed, level);
        item.env = self.manifest.id();
        item
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        self.sums.score(item, completion)
    }
}

fn judged(seed: u64, peers: usize, rounds: u64) -> Scenario {
    let environment = JudgedSums::new();
    let mut manifest: Manifest = manifest();
    manifest.curriculum.truncate(1);
    manifest.curriculum[0].env = environment.manifest().id();
    manifest.answer.common = 4;
    manifest.critique.groups = 12;
    Scenario {
        skill: vec![70],
        manifest,
        registry: Registry::new(vec![Arc::new(environment)]).unwrap(),
        ..Scenario::new(seed, peers, rounds)
    }
}

#[test]
fn critics_become_known_over_rounds_and_all_agree_on_what_they_decide() {
    for (seed, liars) in [(1, 0), (2, 2)] {
        let mut scenario = judged(seed, 6, 12);
        scenario.link = Link {
            latency_ms: (1, 120),
            loss: 5,
            twice: 5,
        };
        let lie = |peer| Fault::Liar {
            peer,
            lie: Lie::Contrary,
        };
        scenario.faults = (0..liars).map(lie).collect();
        let report = run(&scenario);
        assert!(report.finished);
        let settled: Vec<u64> = report.settled.keys().copied().collect();
        assert_eq!(settled, (1..=12).collect::<Vec<u64>>(), "seed {seed}");
        for ((round, _), boards) in report.scoreboards() {
            assert!(
                boards.iter().all(|board| board == &boards[0]),
                "seed {seed}, round {round}"
            );
        }
        let last = 5;
        let judged: u64 = report
            .ended(last)
            .iter()
            .map(|summary| summary.twins.answers)
            .sum();
        assert!(judged > 60, "twins are drawn and judged: {judged}");
        // What critics earn answers tells right from wrong once they are known.
        assert!(report.ended(last)[11].reward > 0.0);
        let transcripts = &report.transcripts;
        let (first, late) = (&transcripts[&1], &transcripts[&12]);
        assert!(first.plan.critics.history().is_empty());
        let settings = JudgeSettings::default();
        let known = late.plan.critics.history();
        assert_eq!(known.len(), 6);
        let weight = |(_, one): (_, &Calibration)| one.weight(&settings);
        let able = known
            .iter()
            .map(weight)
            .filter(|weight| *weight > Ppm::ZERO);
        assert!(able.count() <= 6 - liars, "seed {seed}");
        assert!(late.plan.critics.twins >= LEAST_TWINS);
        // From bytes alone, whoever has them finds the same.
        for transcript in transcripts.values() {
            let again = transcript.recompute(&scenario.manifest, &scenario.registry);
            let again = again.unwrap();
            let settled = &report.settled[&transcript.round];
            assert_eq!(again.included, settled.included);
        }
    }
}

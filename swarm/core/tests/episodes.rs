//! A whole swarm, simulated, that plays a game of several turns: all score its
//! episodes alike, and train on each other's.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::sync::Arc;

use swarm_core::message::BodyKind;
use swarm_core::sim::{Fault, Lie, Scenario, manifest, run};
use tasks::package::{Bundle, Packaged, template};
use tasks::{Environment, Episode, Registry, TURN_BREAK};

fn game() -> Packaged {
    let files: BTreeMap<String, Vec<u8>> = template("game")
        .unwrap()
        .iter()
        .map(|(path, text)| {
            let text = text.replace("NAME", "find");
            ((*path).to_owned(), text.into_bytes())
        })
        .collect();
    Packaged::open(&Bundle::from_folder(files).unwrap()).unwrap()
}

#[test]
fn nodes_play_a_game_score_it_alike_and_train_on_each_others_episodes() {
    let game = game();
    let mut manifest = manifest();
    // A game beside items of one turn: only these are judged and resolved.
    manifest.curriculum.truncate(2);
    manifest.curriculum[0].env = game.id();
    manifest.curriculum[0].level = 3;
    let env = game.id();
    let mut registry = Registry::builtin();
    registry.add(Arc::new(game));
    let scenario = Scenario {
        skill: vec![30, 30, 30],
        manifest,
        registry,
        faults: vec![Fault::Liar {
            peer: 3,
            lie: Lie::Garbage,
        }],
        ..Scenario::new(7, 5, 8)
    };
    let report = run(&scenario);
    assert!(report.finished);
    assert_eq!(report.settled.len(), 8);
    for ((round, _), boards) in report.scoreboards() {
        assert!(boards.iter().all(|board| board == &boards[0]), "{round}");
    }
    // From bytes alone, whoever has them finds the same.
    for transcript in report.transcripts.values() {
        let again = transcript.recompute(&scenario.manifest, &scenario.registry);
        let settled = &report.settled[&transcript.round];
        assert_eq!(again.unwrap().included, settled.included);
    }
    let (mut own, mut external, mut several, mut rewards) = (0, 0, 0, 0);
    for (peer, trained) in report.trained.iter().enumerate() {
        for group in trained.iter().flat_map(|(_, groups)| groups) {
            let Some(game) = &group.game else {
                let said = group.completions.iter();
                assert!(said.clone().all(|one| !one.text.contains(TURN_BREAK)));
                continue;
            };
            assert_eq!((group.kind, game.item.env), (BodyKind::Answer, env));
            if group.owner == report.ids[peer] {
                own += 1;
            } else {
                external += 1;
            }
            for (completion, reward) in group.completions.iter().zip(&group.rewards) {
                let environment = game.environment.as_ref();
                let episode = Episode::replay(environment, &game.item, &completion.text);
                several += usize::from(episode.turns().len() > 1);
                rewards += u64::from(*reward);
                assert_eq!(episode.score().reward.0, *reward, "{}", completion.text);
            }
        }
    }
    assert!(own > 10 && external > 10, "{own} own, {external} of others");
    assert!(several > 50 && rewards > 0, "{several}");
}

#[test]
fn where_all_is_a_game_nothing_is_judged_or_resolved_and_rounds_settle() {
    let game = game();
    let mut manifest = manifest();
    manifest.curriculum.truncate(1);
    manifest.curriculum[0].env = game.id();
    manifest.curriculum[0].level = 2;
    assert!(game.turns() > 1);
    let scenario = Scenario {
        skill: vec![50],
        manifest,
        registry: Registry::new(vec![Arc::new(game)]).unwrap(),
        ..Scenario::new(3, 4, 3)
    };
    let report = run(&scenario);
    assert!(report.finished);
    assert_eq!(report.settled.len(), 3);
    for summary in report.ended(0) {
        assert_eq!((summary.critiques, summary.resolutions), (0, 0));
        assert!(summary.answers > 0 && summary.reward > 0.0);
    }
}

//! Whole swarms, simulated, whose levels move and whose curriculum changes
//! while they run: under loss, crashes, late joiners and liars.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use swarm_core::curriculum::{Amendment, Climb, Course};
use swarm_core::event::{CourseView, Event};
use swarm_core::ids::PeerId;
use swarm_core::manifest::Manifest;
use swarm_core::sim::{Fault, Lie, Link, Report, Scenario, manifest, run};
use tasks::Registry;

fn author() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

/// Two environments that climb, asked of everyone.
fn climbing() -> Manifest {
    let mut manifest = manifest();
    manifest.author = Some(PeerId(author().verifying_key().to_bytes()));
    manifest.curriculum.truncate(2);
    for course in &mut manifest.curriculum {
        course.climb = Some(Climb {
            lowest: 1,
            highest: 3,
            down: 30,
            up: 80,
        });
    }
    manifest.answer.common = 2;
    manifest.answer.own = 2;
    manifest
}

fn scenario(seed: u64, peers: usize, rounds: u64) -> Scenario {
    Scenario {
        // Two levels are easy, the third is not.
        skill: vec![97, 97, 45],
        manifest: climbing(),
        ..Scenario::new(seed, peers, rounds)
    }
}

/// The courses of the manifest's third and fourth environment, at fixed levels.
fn others() -> Vec<Course> {
    let courses = manifest().curriculum;
    courses[2..4].to_vec()
}

fn amendment(manifest: &Manifest, number: u32, from: u64, courses: Vec<Course>) -> Amendment {
    Amendment::sign(&author(), manifest.id(), number, from, courses)
}

/// What each round asked, of which all who said so say the same.
fn asked(what: &str, report: &Report, peers: &[usize]) -> BTreeMap<u64, (u32, Vec<(String, u8)>)> {
    let mut asked: BTreeMap<u64, (u32, Vec<(String, u8)>)> = BTreeMap::new();
    for peer in peers {
        // A peer says what changed: it holds until it says so again.
        for (round, (amendment, courses)) in report.curricula(*peer) {
            let levels = |course: &CourseView| (course.env.clone(), course.level);
            let said = (amendment, courses.iter().map(levels).collect());
            let known = asked.entry(round).or_insert_with(|| said.clone());
            assert_eq!(*known, said, "{what}: peer {peer}, round {round}");
        }
    }
    asked
}

fn all_settled(what: &str, scenario: &Scenario, report: &Report) {
    assert!(report.finished, "{what}");
    let settled: Vec<u64> = report.settled.keys().copied().collect();
    let all: Vec<u64> = (1..=scenario.rounds).collect();
    assert_eq!(settled, all, "{what}");
    for ((round, included), boards) in report.scoreboards() {
        // Who could not score all of it tells no scores.
        let boards: Vec<_> = boards.iter().filter(|rows| !rows.is_empty()).collect();
        for board in &boards {
            assert_eq!(board, &boards[0], "{what}: round {round}, set {included}");
        }
    }
}

fn last_levels(report: &Report, peer: usize) -> Vec<u8> {
    let curricula = report.curricula(peer);
    let (_, courses) = curricula
        .values()
        .next_back()
        .expect("a first round says it");
    courses.iter().map(|course| course.level).collect()
}

#[test]
fn levels_climb_to_where_they_are_hard_and_all_agree_under_loss() {
    for seed in 0..6 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 5, 16);
        scenario.link = Link {
            latency_ms: (1, 150),
            loss: 8,
            twice: 8,
        };
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        let asked = asked(&what, &report, &[0, 1, 2, 3, 4]);
        assert_eq!(asked[&1].1.iter().map(|(_, level)| *level).max(), Some(1));
        let highest = asked.values().flat_map(|(_, levels)| levels);
        assert_eq!(highest.map(|(_, level)| *level).max(), Some(3), "{what}");
    }
}

#[test]
fn fixed_levels_stay_where_they_are() {
    let mut scenario = scenario(3, 4, 6);
    for course in &mut scenario.manifest.curriculum {
        course.climb = None;
    }
    let report = run(&scenario);
    all_settled("fixed", &scenario, &report);
    assert_eq!(report.curricula(0).len(), 1, "said once");
}

#[test]
fn one_who_answers_wrong_on_purpose_holds_no_level_down() {
    for seed in 0..4 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 5, 14);
        scenario.faults.push(Fault::Liar {
            peer: 2,
            lie: Lie::Sandbag,
        });
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        asked(&what, &report, &[0, 1, 2, 3, 4]);
        assert!(
            last_levels(&report, 0).iter().any(|level| *level > 1),
            "{what}"
        );
    }
}

#[test]
fn who_joins_late_or_lost_everything_asks_what_the_others_ask_despite_a_liar() {
    for seed in 0..6 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 6, 16);
        scenario.link.loss = 4;
        scenario.faults = vec![
            Fault::Start {
                peer: 5,
                at_ms: 14_000,
            },
            Fault::Crash {
                peer: 0,
                at_ms: 9_000,
            },
            Fault::Start {
                peer: 0,
                at_ms: 16_000,
            },
            Fault::Liar {
                peer: 2,
                lie: Lie::FalsePlan,
            },
        ];
        let report = run(&scenario);
        assert!(report.finished, "{what}");
        // With one away and one that lies, some round may want for a quorum.
        assert!(report.settled.len() as u64 >= scenario.rounds - 2, "{what}");
        asked(&what, &report, &[0, 1, 2, 3, 4, 5]);
        for late in [0, 5] {
            let last = report.ended(late).pop().cloned().unwrap();
            assert!(last.settled && last.peers >= 5, "{what}: {last:?}");
        }
    }
}

/// Most witnesses of the round that they come with are new, and can't say what is asked
/// in it: those who can are not to be outvoted by silence.
#[test]
fn a_crowd_that_comes_together_is_told_what_is_asked_and_nobody_waits_for_it() {
    for seed in 0..6 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 12, 8);
        let stages = &mut scenario.manifest.stages;
        (stages.open_ms, stages.answer_ms) = (60_000, 120_000);
        for peer in 3..12 {
            let at_ms = 8_000 + 50 * peer as u64;
            scenario.faults.push(Fault::Start { peer, at_ms });
        }
        let report = run(&scenario);
        assert!(report.finished, "{what}");
        for (_, event) in report.events.iter().flatten() {
            if let Event::StageEnded { round, took_ms, .. } = event {
                assert!(*took_ms < 30_000, "{what}: round {round} stood still");
            }
        }
        let last = report.ended(11).pop().cloned().unwrap();
        assert_eq!(last.peers, 12, "{what}: {last:?}");
    }
}

#[test]
fn the_author_changes_the_curriculum_while_the_swarm_runs_under_loss_and_liars() {
    for seed in 0..6 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 6, 12);
        scenario.link = Link {
            latency_ms: (1, 150),
            loss: 6,
            twice: 6,
        };
        scenario.faults = vec![
            Fault::Liar {
                peer: 1,
                lie: Lie::FalsePlan,
            },
            // It was not there when the change was announced.
            Fault::Start {
                peer: 5,
                at_ms: 15_000,
            },
        ];
        let change = amendment(&scenario.manifest, 1, 6, others());
        scenario.amendments.push((1_500, 3, change));
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        let asked = asked(&what, &report, &[0, 1, 2, 3, 4, 5]);
        let names = |round: u64| -> BTreeSet<String> {
            let (_, (_, courses)) = asked.range(..=round).next_back().unwrap();
            courses.iter().map(|(env, _)| env.clone()).collect()
        };
        assert!(names(5).is_disjoint(&names(6)), "{what}");
        // And it was trained on.
        for peer in 0..5 {
            let judged = report.events[peer]
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::GroupJudged(view) => Some((view.round, view.env.clone())),
                    _ => None,
                });
            for (round, env) in judged {
                assert!(
                    names(round).contains(&env),
                    "{what}: {env} in round {round}"
                );
            }
            let trained = report.trained[peer].iter();
            let mut later = trained.filter(|(round, groups)| *round > 6 && !groups.is_empty());
            assert!(later.next().is_some(), "{what}: peer {peer}");
        }
    }
}

#[test]
fn who_lacks_an_environment_sits_out_its_items_alone() {
    for seed in 0..4 {
        let what = format!("seed {seed}");
        let mut scenario = scenario(seed, 6, 12);
        let lacked = others()[0].env;
        scenario.faults.push(Fault::Lacks {
            peer: 4,
            env: lacked,
            until_ms: 20_000,
        });
        let change = amendment(&scenario.manifest, 1, 4, others());
        scenario.amendments.push((1_500, 0, change));
        let report = run(&scenario);
        all_settled(&what, &scenario, &report);
        asked(&what, &report, &[0, 1, 2, 3]);
        let name = Registry::builtin()
            .get(&lacked)
            .unwrap()
            .manifest()
            .name
            .clone();
        let own = |from: u64, to: u64| {
            let events = report.events[4].iter();
            let judged = events.filter_map(|(_, event)| match event {
                Event::GroupJudged(view) if view.owner == report.ids[4] => Some(view),
                _ => None,
            });
            judged
                .filter(|view| (from..=to).contains(&view.round))
                .map(|view| view.env.clone())
                .collect::<BTreeSet<String>>()
        };
        let first_with = (4..=12).find(|round| own(*round, *round).contains(&name));
        let got_it = first_with.unwrap_or(13);
        assert!(got_it > 4, "{what}");
        assert!(
            !own(4, got_it - 1).is_empty(),
            "{what}: it answers the rest"
        );
        for peer in 0..6 {
            assert_eq!(
                report.refusals(peer),
                BTreeMap::new(),
                "{what}: peer {peer}"
            );
        }
        // Nobody says that anybody signed what does not follow.
        for (_, event) in report.events.iter().flatten() {
            if let Event::Attested { agrees, .. } = event {
                assert!(agrees, "{what}: {event:?}");
            }
        }
    }
}

#[test]
fn forged_replayed_and_conflicting_amendments_are_counted_and_change_nothing() {
    let mut scenario = scenario(5, 4, 8);
    let manifest = scenario.manifest.clone();
    let forger = SigningKey::from_bytes(&[8; 32]);
    let forged = Amendment::sign(&forger, manifest.id(), 9, 2, others());
    let mut another = manifest.clone();
    another.name = "another".into();
    let replayed = amendment(&another, 3, 2, others());
    // The author signed two of one number: all keep the same one.
    let one = amendment(&manifest, 1, 4, others()[..1].to_vec());
    let other = amendment(&manifest, 1, 4, others()[1..].to_vec());
    scenario.amendments = vec![
        (1_000, 0, forged),
        (1_000, 0, replayed),
        (1_200, 1, one.clone()),
        (1_200, 2, other.clone()),
    ];
    let report = run(&scenario);
    all_settled("forged", &scenario, &report);
    let asked = asked("forged", &report, &[0, 1, 2, 3]);
    let (_, (number, courses)) = asked.range(..=8).next_back().unwrap();
    let kept = if one.hash() < other.hash() {
        one
    } else {
        other
    };
    let name = |env| {
        Registry::builtin()
            .get(&env)
            .unwrap()
            .manifest()
            .name
            .clone()
    };
    assert_eq!(*number, 1);
    assert_eq!(courses.len(), 1);
    assert_eq!(courses[0].0, name(kept.courses[0].env));
    let left_out = report.events[0].iter().filter(|(_, event)| {
        matches!(event, Event::Log { target, message, .. }
            if target == "curriculum" && message.contains("is left out"))
    });
    assert_eq!(left_out.count(), 2);
    let conflicts = (0..4).map(|peer| report.refusals(peer).get("equivocation").copied());
    assert!(conflicts.flatten().sum::<usize>() > 0);
}

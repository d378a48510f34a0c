//! Cheating does not pay: every bar of the judge, on a small swarm. The whole
//! tables are in `rewards/EXPERIMENTS.md`; `murmur sim --all` makes them.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use swarm_core::trial::{Behaviour, Recorded, Report, Scenario, run};

/// A cheat's dice differ from an honest machine's, so equal work earns a
/// little more or less: three standard errors of these trials.
const NOISE: f64 = 0.06;

fn tried(behaviour: Behaviour, cheats: u8, judged: bool) -> Report {
    let scenario = Scenario {
        rounds: 24,
        machines: 12,
        judged,
        ..Scenario::of(behaviour, cheats)
    };
    run(&scenario).unwrap()
}

#[test]
fn no_cheat_earns_more_than_honest_work() {
    for judged in [false, true] {
        for behaviour in Behaviour::CHEATS {
            let report = tried(behaviour, 33, judged);
            assert!(
                report.ratio <= 1.0 + NOISE,
                "{behaviour}, judged {judged}: {:.3} of an honest machine's score",
                report.ratio
            );
        }
    }
}

#[test]
fn what_adds_nothing_earns_nothing_much() {
    for (behaviour, most) in [
        (Behaviour::Lazy, 0.2),
        (Behaviour::Stale, 0.0),
        (Behaviour::JudgeHacker, 0.35),
        (Behaviour::Splitter, 0.4),
    ] {
        let report = tried(behaviour, 33, false);
        assert!(report.ratio <= most, "{behaviour}: {:.3}", report.ratio);
        assert_eq!(report.contained, Some(1), "{behaviour}");
    }
}

#[test]
fn a_third_colluding_moves_no_verified_reward() {
    for behaviour in [Behaviour::Ring, Behaviour::Liar, Behaviour::GoldSpotter] {
        let report = tried(behaviour, 33, false);
        assert!(report.rounds.iter().all(|row| row.pairwise == 1.0));
    }
}

#[test]
fn a_third_colluding_leaves_judged_rewards_nearly_as_true_as_without() {
    let alone = tried(Behaviour::Honest, 0, true).pairwise;
    assert!(
        alone > 0.65,
        "critics of an honest swarm say something: {alone:.3}"
    );
    for behaviour in [Behaviour::Ring, Behaviour::Liar, Behaviour::GoldSpotter] {
        let pairwise = tried(behaviour, 33, true).pairwise;
        assert!(
            pairwise >= 0.95 * alone,
            "{behaviour}: {pairwise:.3} of {alone:.3}"
        );
    }
}

#[test]
fn a_ring_stands_out_by_how_its_members_judge_each_other_and_nobody_else_does() {
    for judged in [false, true] {
        let ring = tried(Behaviour::Ring, 33, judged);
        let (found, honest) = ring.together;
        assert!(found > 0.9 && honest == 0.0, "{found:.2} {honest:.2}");
        for behaviour in [Behaviour::Honest, Behaviour::Liar, Behaviour::Copier] {
            let cheats = if behaviour == Behaviour::Honest {
                0
            } else {
                33
            };
            assert_eq!(tried(behaviour, cheats, judged).together, (0.0, 0.0));
        }
    }
}

#[test]
fn recorded_policies_are_as_right_and_as_sure_as_they_were_seen_to_be() {
    let policy = |name: &str, answers: &[u8], on_right: &[u8], on_wrong: &[u8]| Recorded {
        name: name.to_owned(),
        answers: answers.to_vec(),
        on_right: on_right.to_vec(),
        on_wrong: on_wrong.to_vec(),
    };
    // One answers half of the items always and half of them never.
    let recorded = vec![
        policy("torn", &[0, 100], &[75, 100], &[0, 25]),
        policy("even", &[50], &[100], &[0]),
    ];
    let scenario = Scenario {
        rounds: 12,
        machines: 8,
        recorded,
        ..Scenario::default()
    };
    let report = run(&scenario).unwrap();
    let mean = report
        .rounds
        .iter()
        .map(|row| row.honest_reward)
        .sum::<f64>()
        / 12.0;
    assert!((0.4..0.6).contains(&mean), "{mean:.3}");
    assert!(report.rounds.iter().all(|row| row.vote_accuracy > 0.95));
    let text = toml::to_string(&scenario).unwrap();
    assert_eq!(Scenario::from_toml(&text).unwrap(), scenario);
}

#[test]
fn a_slow_honest_machine_earns_what_it_did_and_loses_nothing_else() {
    let scenario = Scenario {
        rounds: 40,
        machines: 12,
        slow: 4,
        ..Scenario::default()
    };
    let report = run(&scenario).unwrap();
    let sum =
        |value: fn(&swarm_core::trial::Row) -> f64| report.rounds.iter().map(value).sum::<f64>();
    let share = sum(|row| row.slow_score) / sum(|row| row.honest_score);
    // It is there for half of the rounds, and as good as any when it is.
    assert!((0.4..0.6).contains(&share), "{share:.3}");
}

#[test]
fn a_trial_follows_from_its_seed() {
    let report = |seed| {
        let scenario = Scenario {
            seed,
            rounds: 3,
            machines: 6,
            ..Scenario::of(Behaviour::Ring, 33)
        };
        run(&scenario).unwrap().rounds
    };
    assert_eq!(report(1), report(1));
    assert_ne!(report(1), report(2));
}

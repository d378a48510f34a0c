//! One round, pinned to the last digit.
//!
//! Two machines must reach the same scoreboard. If a number here changes, so
//! does what a swarm settles: raise the version of the rules with it.

#![allow(clippy::unwrap_used, reason = "a helper of tests may fail loudly")]

mod common;

use common::{AnswerPlan, CritiquePlan, Plan};
use rewards::{JudgeSettings, Scoreboard, judge};
use tasks::{Ppm, Registry};

/// Four peers. Each answers two items of its own and one that all share,
/// critiques two answers of each other peer, and resolves the shared item.
/// Peers 0 and 1 judge truly, 2 always says "right", 3 always lies.
fn four_peers() -> Plan {
    let mut plan = Plan {
        answers: Vec::new(),
        critiques: Vec::new(),
        resolutions: Vec::new(),
        arrival: vec![0; 4],
    };
    for owner in 0..4u8 {
        // Right in the first place of some groups; kind 6 and 7 are wrong.
        let kinds = |slot: u8| match (owner + slot) % 3 {
            0 => vec![0, 6, 1, 7],
            1 => vec![0, 0, 1, 0],
            _ => vec![7, 3, 6, 2],
        };
        for slot in 0..3u8 {
            plan.answers.push(AnswerPlan {
                owner,
                slot: u32::from(slot),
                env: if slot == 2 { 0 } else { usize::from(slot) },
                number: if slot == 2 { 200 } else { 10 * owner + slot },
                kinds: kinds(slot),
            });
            for critic in (0..4u8).filter(|critic| *critic != owner) {
                for completion in [0u8, 2] {
                    let kind = kinds(slot)[usize::from(completion)];
                    let says = |right: bool| if right { 0u8 } else { 2 };
                    let verdict = match critic {
                        0 | 1 => says(kind < 2),
                        2 => says(true),
                        _ => says(kind >= 2),
                    };
                    plan.critiques.push(CritiquePlan {
                        critic,
                        owner,
                        slot: u32::from(slot),
                        completion: u16::from(completion),
                        // Peer 1 wavers once.
                        kinds: vec![
                            verdict,
                            verdict,
                            verdict,
                            if critic == 1 { 4 } else { verdict },
                        ],
                    });
                }
            }
        }
        plan.resolutions.push(AnswerPlan {
            owner,
            slot: 2,
            env: 0,
            number: 200,
            kinds: vec![0, owner % 2 * 7, 1, 6],
        });
    }
    plan
}

fn board() -> Scoreboard<u8> {
    let registry = Registry::builtin();
    let included = four_peers().included(&registry);
    judge(&registry, &included, &JudgeSettings::default())
}

#[test]
fn the_same_round_gives_the_same_board() {
    let board = board();
    let rows: Vec<(u32, u32, i64)> = board
        .peers
        .values()
        .map(|score| {
            let (contribution, weight) = (score.contribution, score.critique_weight);
            (contribution.0, weight.0, score.resolve_gain)
        })
        .collect();
    // Peer 0 by hand. Answers: of its own items (everyone answered the third),
    // 6 right and 2 wrong, both beside right ones, (6 + 2 / 2) / 8 = .875, of
    // half the measure: x .5 x .5 = .21875. Critiques: each of 18 is read as
    // (4 + 2) / (4 + 4), so a Brier score of .0625; 12 were of right answers
    // and 6 of wrong ones, so with four more at chance (.75 + 1) / 16 and
    // (.375 + 1) / 10, whose mean is .1234375, and 1 - 4 x .1234375 = .50625.
    // Resolutions: .75 after .25 is two thirds of what was missing, and 4 of 8
    // is half the measure: x .25 = .1667.
    // .5 x .21875 + .3 x .50625 + .2 x .1667 = .2946.
    let expected = [
        (294_583, 506_250, 500_000),
        (198_878, 454_594, 0),
        (80_208, 0, 500_000),
        (109_375, 0, 0),
    ];
    assert_eq!(rows, expected);
    assert_eq!(
        board.peers[&0].why,
        "answers 21.9% of 50.0% (6/8 right, 1/2 groups useful) + \
         critiques 50.6% of 30.0% (brier 0.062 over 18) + \
         resolutions 16.7% of 20.0% (75.0% right after 25.0%)"
    );
    let rates = [
        board.judge_accuracy,
        board.plain_judge_accuracy,
        board.weighted_judge_accuracy,
        board.answer_accuracy,
        board.format_rate,
        board.reward,
    ];
    // Sampled verdicts: of 15 samples by four critics 11 are true of each right
    // answer and 7 of each wrong one. Weighed, the two honest ones decide.
    let expected = [600_000, 750_000, 1_000_000, 500_000, 833_333, 500_000];
    assert_eq!(rates, expected.map(Ppm));
    assert!(board.ignored.is_empty());
}

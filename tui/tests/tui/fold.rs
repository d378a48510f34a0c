//! The fold: any order, bounded memory, and what it makes of repeats.

use swarm_core::event::{CourseView, Event, GroupView, LogLevel, Record, ScoreRow, Stage};
use swarm_core::ids::{Address, Hash, PeerId, SwarmId, TxHash};
use tui::state::State;
use tui::state::groups::{GROUPS_BYTES, GROUPS_KEPT};
use tui::state::logs::LOG_LINES_KEPT;
use tui::state::peers::{OTHER_REASON, PEERS_KEPT, REASONS_KEPT};
use tui::state::rounds::SETTLEMENTS_KEPT;
use tui::state::series::SERIES_POINTS;

use crate::fixture;
use crate::support::{Dice, all_screens, fold};

fn record(at_ms: u64, event: Event) -> Record {
    Record {
        at_ms,
        peer: None,
        event,
    }
}

fn peer(number: u64) -> PeerId {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    PeerId(key)
}

fn seen(number: u64, name: &str) -> Event {
    Event::PeerSeen {
        who: peer(number),
        name: name.to_owned(),
        address: Address([1; 20]),
        local: false,
    }
}

#[test]
fn any_order_of_records_folds_and_draws() {
    for seed in 1..=8 {
        let mut records = fixture::run();
        Dice(seed).shuffle(&mut records);
        // Some are missing, some come twice.
        let half = records.len() / 2;
        records.extend_from_within(half..);
        records.drain(..half / 4);
        let state = fold(&records);
        assert!(all_screens(&state).contains("murmuration"), "seed {seed}");
    }
}

#[test]
fn any_numbers_fold_and_draw() {
    for seed in 1..=8 {
        let mut dice = Dice(seed);
        let extremes = [0, 1, u64::MAX / 2, u64::MAX];
        let mut records = fixture::run();
        for record in &mut records {
            record.at_ms = extremes[dice.below(4)];
            let number = extremes[dice.below(4)];
            let float = [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300][dice.below(5)];
            match &mut record.event {
                Event::RoundOpened { round, .. } | Event::Settled { round, .. } => *round = number,
                Event::StageStarted {
                    round, deadline_ms, ..
                } => (*round, *deadline_ms) = (number, extremes[dice.below(4)]),
                Event::StageEnded { took_ms, .. } => *took_ms = number,
                Event::Trained {
                    step,
                    loss,
                    grad_norm,
                    external_groups,
                    ..
                } => {
                    (*step, *loss, *grad_norm) = (number, float, float);
                    external_groups.insert(peer(1), u32::MAX);
                }
                Event::RoundEnded(summary) => {
                    (summary.round, summary.accuracy, summary.wall_s) = (number, float, float);
                }
                Event::PeerLink {
                    sent_bytes, rtt_us, ..
                } => (*sent_bytes, *rtt_us) = (number, Some(number)),
                Event::Evaluated { round, report } => {
                    (*round, report.greedy) = (number, float);
                }
                _ => {}
            }
        }
        let state = fold(&records);
        assert!(all_screens(&state).contains("murmuration"), "seed {seed}");
    }
}

#[test]
fn memory_stays_bounded_after_a_hundred_thousand_records() {
    let mut state = State::default();
    let template = fixture::run();
    let template = template
        .iter()
        .find_map(|record| match &record.event {
            Event::GroupJudged(view) => Some(view.clone()),
            _ => None,
        })
        .unwrap();
    for number in 0..100_000_u64 {
        let event = match number % 8 {
            0 => seen(number, &"n".repeat(1_000)),
            1 => Event::Rejected {
                from: Some(peer(7)),
                reason: format!("reason {number}"),
                detail: "d".repeat(5_000),
            },
            2 => {
                let mut view: GroupView = template.clone();
                view.round = number;
                view.prompt = "p".repeat(20_000);
                view.completions[0].text = "c".repeat(20_000);
                Event::GroupJudged(view)
            }
            3 => Event::Log {
                level: LogLevel::Info,
                target: "test".to_owned(),
                message: format!("{number}{}", "m".repeat(3_000)),
            },
            4 => Event::Settled {
                round: number,
                tx: TxHash([2; 32]),
                block: number,
                gas: 1,
                relayer: Address([3; 20]),
            },
            5 => Event::Judged {
                round: number,
                included: Hash([4; 32]),
                batches: 1,
                rows: vec![ScoreRow {
                    peer: peer(7),
                    score_ppm: 1,
                    reward_ppm: 1,
                    accuracy_ppm: 1,
                    why: "w".repeat(10_000),
                }],
                judge_accuracy_ppm: 1,
            },
            6 => Event::Trained {
                round: number,
                step: number,
                local_groups: 1,
                external_groups: [(peer(number), 1)].into(),
                dropped_groups: 0,
                tokens: 1,
                loss: 0.0,
                kl: None,
                clip_fraction: 0.0,
                entropy: 0.0,
                grad_norm: 0.0,
                reward: 0.0,
                took_ms: 0,
            },
            _ => Event::StageStarted {
                round: number,
                stage: Stage::Answer,
                deadline_ms: 0,
            },
        };
        let peer = (number % 3 == 0).then(|| peer(number));
        state.fold(&Record {
            at_ms: number,
            peer,
            event,
        });
    }
    assert_eq!(state.records, 100_000);
    assert!(state.peers.rows.len() <= PEERS_KEPT);
    assert!(state.groups.len() <= GROUPS_KEPT);
    assert!(state.groups.bytes() <= GROUPS_BYTES);
    assert!(state.logs.len() <= LOG_LINES_KEPT);
    assert!(state.settlements.rows.len() <= SETTLEMENTS_KEPT);
    assert!(state.learning.accuracy.len() <= SERIES_POINTS);
    assert!(state.training.peers.len() <= 64);
    assert!(state.locals.peers.len() <= 64);
    for trainer in state.training.peers.values() {
        assert!(trainer.taught_by.len() <= 256);
        assert!(trainer.loss.len() <= SERIES_POINTS);
    }
    for row in state.peers.rows.values() {
        assert!(row.rejects.by_reason.len() <= REASONS_KEPT + 1);
        assert!(row.name.as_ref().is_none_or(|name| name.len() <= 120));
    }
    // Even so, nothing was forgotten that is counted.
    let flooded = &state.peers.rows[&peer(7)];
    assert_eq!(flooded.rejects.total, 12_500);
    assert_eq!(flooded.rejects.by_reason.values().sum::<u64>(), 12_500);
    assert_eq!(
        flooded.rejects.by_reason[OTHER_REASON],
        12_500 - REASONS_KEPT as u64
    );
    assert_eq!(state.settlements.settled, 12_500);
    assert!(all_screens(&state).contains("murmuration"));
}

#[test]
fn a_local_peer_outlives_a_flood_of_invented_ones() {
    let mut state = State::default();
    state.fold(&record(
        0,
        Event::PeerSeen {
            who: peer(u64::MAX),
            name: "mine".to_owned(),
            address: Address([1; 20]),
            local: true,
        },
    ));
    for number in 0..10_000 {
        state.fold(&record(number + 1, seen(number, "flood")));
    }
    assert_eq!(state.peers.rows.len(), PEERS_KEPT);
    assert_eq!(state.name(peer(u64::MAX)), "mine");
}

#[test]
fn what_every_local_peer_reports_counts_once() {
    let state = fold(&fixture::run());
    // Round 5 gathered no quorum, round 12 is under way.
    assert_eq!(state.settlements.settled, 10);
    assert_eq!(state.settlements.ended, 11);
    assert_eq!(state.learning.format_rate.len(), 11);
    assert_eq!(state.groups.total, 240);
    let (round, before) = state.evaluations.before().unwrap();
    let (newest, now) = state.evaluations.now().unwrap();
    assert_eq!((round, newest), (0, 11));
    assert!(now.sampled > before.sampled);
    assert_eq!(now.items, 200);
}

#[test]
fn names_that_collide_are_told_apart_by_their_keys() {
    let state = fold(&[
        record(0, seen(0x0102_0304 << 32, "robin")),
        record(0, seen(0x0506_0708 << 32, "robin")),
        record(0, seen(3, "wren")),
    ]);
    assert_eq!(state.name(peer(0x0102_0304 << 32)), "robin·0102");
    assert_eq!(state.name(peer(0x0506_0708 << 32)), "robin·0506");
    assert_eq!(state.name(peer(3)), "wren");
    assert_eq!(state.name(peer(4)), peer(4).to_string());
}

#[test]
fn a_restart_goes_on_and_another_swarm_starts_afresh() {
    let mut records = fixture::run();
    let mut start = records[0].clone();
    assert!(matches!(start.event, Event::SwarmStarted { .. }));
    records.push(record(u64::MAX / 2, Event::Stopped));
    let mut state = fold(&records);
    assert!(state.stopped);
    state.fold(&start);
    assert!(!state.stopped);
    assert_eq!(state.settlements.settled, 10);
    let Event::SwarmStarted { swarm, .. } = &mut start.event else {
        unreachable!("asserted above");
    };
    *swarm = SwarmId([9; 32]);
    state.fold(&start);
    assert_eq!(state.settlements.settled, 0);
    assert!(state.round.is_none());
}

#[test]
fn a_flood_of_one_log_line_stays_one_line() {
    let line = |at_ms| {
        record(
            at_ms,
            Event::Log {
                level: LogLevel::Warn,
                target: "net".to_owned(),
                message: "again".to_owned(),
            },
        )
    };
    let state = fold(&(0..500).map(line).collect::<Vec<_>>());
    assert_eq!(state.logs.len(), 1);
    assert_eq!(state.logs.lines().next().unwrap().repeated, 500);
    assert_eq!(state.logs.warnings, 500);
}

#[test]
fn levels_that_move_are_shown_and_logged_and_fixed_ones_are_not() {
    let asked = |round, from, rate_ppm, amendment| Event::Curriculum {
        round,
        amendment,
        amended: amendment > 0,
        courses: vec![
            CourseView {
                env: "\u{1b}[2Jadd".into(),
                here: true,
                level: 2,
                from,
                weight: 1,
                rate_ppm,
            },
            CourseView {
                env: "dice".into(),
                here: false,
                level: 1,
                from: None,
                weight: 1,
                rate_ppm: None,
            },
        ],
    };
    let with = |event: Event| {
        let mut records = fixture::run();
        records.push(record(u64::MAX / 2, event));
        all_screens(&fold(&records))
    };
    assert!(!with(asked(90, None, None, 0)).contains("asked  "));
    let climbing = with(asked(90, Some(1), Some(553_000), 0));
    assert!(climbing.contains("add 2↑ 55.3%"), "{climbing}");
    assert!(climbing.contains("dice 1 (not here)"), "{climbing}");
    assert!(climbing.contains("add from level 1 to 2"), "{climbing}");
    let amended = with(asked(90, None, None, 3));
    assert!(amended.contains("asked  amendment 3"), "{amended}");
    assert!(amended.contains("from round 90 on amendment 3 holds: 2 courses"));
}

//! A synthetic run for tests and the demo: four peers, twelve rounds, made up
//! from a counter. Nothing of it was measured.

#[path = "rollouts.rs"]
mod rollouts;

use std::collections::BTreeMap;

use swarm_core::event::{
    BeaconSource, ChainInfo, EVENT_VERSION, EndedBy, EvalReport, Event, LogLevel, Record,
    RoundSummary, ScoreRow, Stage, TaskEval,
};
use swarm_core::ids::{Address, Beacon, Hash, PeerId, SwarmId, TxHash};

use rollouts::{GROUP, groups};

/// 22 November 2025, 14:00 UTC.
pub(crate) const GENESIS_MS: u64 = 1_763_820_000_000;
/// A round, in milliseconds.
pub(crate) const ROUND_MS: u64 = 40_000;
/// Rounds in [`run`].
pub(crate) const ROUNDS: u64 = 12;
const ENVIRONMENTS: [&str; 12] = [
    "add", "sub", "mul", "mod", "chain", "next", "max", "sort", "reverse", "count", "dedup", "bits",
];

/// The peers.
pub(crate) fn peers() -> [PeerId; 4] {
    [0x1f, 0x42, 0x8c, 0xe7].map(|byte: u8| {
        let mut key = [byte; 32];
        key[1] = byte.wrapping_mul(7);
        key[31] = byte.wrapping_mul(3);
        PeerId(key)
    })
}

/// Small, seeded, and good enough to look alive.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn unit(&mut self) -> f64 {
        self.roll() as f64 / u64::MAX as f64
    }

    /// Between -1 and 1, mostly small.
    fn noise(&mut self) -> f64 {
        (self.unit() + self.unit() + self.unit()) / 1.5 - 1.0
    }
}

struct Builder {
    records: Vec<Record>,
    dice: Dice,
}

impl Builder {
    fn tell(&mut self, at_ms: u64, peer: Option<PeerId>, event: Event) {
        let at_ms = GENESIS_MS + at_ms;
        self.records.push(Record { at_ms, peer, event });
    }
}

/// A run of twelve rounds, in order of time.
pub(crate) fn run() -> Vec<Record> {
    rounds(ROUNDS)
}

/// A run of any length.
pub(crate) fn rounds(rounds: u64) -> Vec<Record> {
    let mut builder = Builder {
        records: Vec::new(),
        dice: Dice(7),
    };
    opening(&mut builder);
    for round in 1..=rounds {
        play(&mut builder, round, rounds);
    }
    let mut records = builder.records;
    records.sort_by_key(|record| record.at_ms);
    records
}

fn opening(builder: &mut Builder) {
    let chain = ChainInfo {
        chain_id: 31_337,
        rpc: "http://127.0.0.1:8545".to_owned(),
        devnet: true,
        ledger: Address([0x5f; 20]),
    };
    builder.tell(
        0,
        None,
        Event::SwarmStarted {
            version: EVENT_VERSION,
            swarm: SwarmId([0xa3; 32]),
            name: "local".to_owned(),
            chain: Some(chain),
            group_size: GROUP as u32,
            ticket: "murmur1qpzry9x8gf2tvdw0s3jn54khce6mua7lqpzry9x8gf2tvdw0s3jn54khce6mua7lqpzry9x8gf2tvdw0s3jn54khce6mua7l".to_owned(),
            resumed: false,
        },
    );
    for who in peers() {
        builder.tell(
            200,
            None,
            Event::PeerSeen {
                who,
                name: who.nickname(),
                address: Address([who.0[1]; 20]),
                local: true,
            },
        );
        let report = evaluation(builder, 0.0);
        builder.tell(900, Some(who), Event::Evaluated { round: 0, report });
    }
    builder.tell(
        950,
        None,
        Event::Log {
            level: LogLevel::Info,
            target: "chain".to_owned(),
            message: "ledger deployed on the devnet, JSON-RPC at http://127.0.0.1:8545".to_owned(),
        },
    );
}

/// How much has been learned, 0 to 1.
fn skill(round: u64) -> f64 {
    1.0 - (-(round as f64) / 7.0).exp()
}

fn evaluation(builder: &mut Builder, skill: f64) -> EvalReport {
    let mut tasks = BTreeMap::new();
    for (index, name) in ENVIRONMENTS.into_iter().enumerate() {
        let base = 0.22 + 0.03 * (index * 5 % 12) as f64;
        let reach = 0.40 - 0.016 * (index * 5 % 12) as f64;
        let sampled = base + reach * skill + 0.015 * builder.dice.noise();
        tasks.insert(
            name.to_owned(),
            TaskEval {
                greedy: (sampled + 0.06).min(1.0),
                sampled,
                format_rate: 0.83 + 0.15 * skill,
                items: 40,
            },
        );
    }
    let mean = |of: fn(&TaskEval) -> f64| tasks.values().map(of).sum::<f64>() / tasks.len() as f64;
    EvalReport {
        greedy: mean(|task| task.greedy),
        sampled: mean(|task| task.sampled),
        format_rate: mean(|task| task.format_rate),
        verdicts: Some(0.55 + 0.2 * skill),
        resolved: Some(0.45 + 0.35 * skill),
        items: 200,
        too_long: 0,
        tasks,
    }
}

fn play(builder: &mut Builder, round: u64, rounds: u64) {
    let start = round.saturating_sub(1) * ROUND_MS + 1_000;
    let everyone = peers();
    let skill = skill(round);
    for who in everyone {
        let event = Event::RoundOpened {
            round,
            beacon: Beacon([(round as u8).wrapping_mul(37).wrapping_add(11); 32]),
            source: BeaconSource::Chain,
            committee: committee(round),
        };
        builder.tell(start, Some(who), event);
    }
    stages(builder, round, rounds, start);
    gossip(builder, round, start);
    let rows = scores(builder, skill);
    let judged = start + 31_000;
    groups(builder, round, judged, skill);
    let verdicts = 0.61 + 0.22 * skill + 0.02 * builder.dice.noise();
    for who in everyone {
        let event = Event::Judged {
            round,
            included: Hash([round as u8; 32]),
            batches: 12,
            rows: rows.clone(),
            judge_accuracy_ppm: (verdicts * 1e6) as u32,
        };
        builder.tell(judged, Some(who), event);
    }
    for (index, witness) in committee(round).into_iter().enumerate() {
        let event = Event::Attested {
            round,
            witness,
            agrees: true,
            signatures: index as u32 + 1,
            needed: 3,
        };
        builder.tell(judged + 300 + 100 * index as u64, Some(everyone[0]), event);
    }
    if round == rounds {
        return;
    }
    settle(builder, round, judged);
    train(builder, round, start + 34_000, skill);
    end(builder, round, start + ROUND_MS, (skill, verdicts), &rows);
}

fn committee(round: u64) -> Vec<PeerId> {
    let left_out = (round % 4) as usize;
    let mut committee = peers().to_vec();
    committee.remove(left_out);
    committee
}

fn stages(builder: &mut Builder, round: u64, rounds: u64, start: u64) {
    let windows = [
        (Stage::Answer, 0, 14_000),
        (Stage::Critique, 14_000, 9_000),
        (Stage::Resolve, 23_000, 6_000),
        (Stage::Judge, 29_000, 4_000),
        (Stage::Train, 33_000, 9_000),
    ];
    for (index, who) in peers().into_iter().enumerate() {
        for (stage, from, window) in windows {
            let at = start + from;
            let deadline_ms = GENESIS_MS + at + window;
            let begin = Event::StageStarted {
                round,
                stage,
                deadline_ms,
            };
            builder.tell(at, Some(who), begin);
            // The last round is caught in the middle of its training.
            if round == rounds && stage == Stage::Train && index > 0 {
                continue;
            }
            let late = round % 5 == 3 && stage == Stage::Critique;
            let took_ms = if late {
                window
            } else {
                window * 7 / 10 + 90 * index as u64 + builder.dice.below(900)
            };
            let end = Event::StageEnded {
                round,
                stage,
                seen: if late { 3 } else { 4 },
                expected: 4,
                ended_by: if late {
                    EndedBy::Deadline
                } else {
                    EndedBy::AllIn
                },
                took_ms,
            };
            builder.tell(at + took_ms, Some(who), end);
        }
    }
}

fn gossip(builder: &mut Builder, round: u64, start: u64) {
    let everyone = peers();
    for (stage, at) in [
        (Stage::Answer, 11_000),
        (Stage::Critique, 20_000),
        (Stage::Resolve, 27_500),
    ] {
        for from in everyone {
            if round % 5 == 3 && stage == Stage::Critique && from == everyone[2] {
                let who = from;
                let event = Event::PeerAbsent { who, round, stage };
                builder.tell(start + 23_000, Some(everyone[0]), event);
                continue;
            }
            let event = Event::BatchReceived {
                round,
                stage,
                from,
                hash: Hash([from.0[0] ^ round as u8; 32]),
                bytes: 3_200,
            };
            builder.tell(start + at, Some(everyone[0]), event);
        }
    }
    for (index, who) in everyone.into_iter().enumerate() {
        for observer in everyone.into_iter().filter(|observer| *observer != who) {
            let event = Event::PeerLink {
                who,
                path: "loopback".to_owned(),
                rtt_us: Some(180 + 40 * index as u64 + builder.dice.below(60)),
                sent_bytes: round * 96_000,
                received_bytes: round * (91_000 + 3_000 * index as u64),
            };
            builder.tell(start + 28_000, Some(observer), event);
        }
    }
    if round % 4 == 2 {
        let event = Event::Rejected {
            from: Some(everyone[3]),
            reason: "stale round".to_owned(),
            detail: format!("answer batch of round {} after its deadline", round - 1),
        };
        builder.tell(start + 16_000, Some(everyone[0]), event);
    }
    if round == 7 {
        for _ in 0..3 {
            let event = Event::Rejected {
                from: None,
                reason: "bad signature".to_owned(),
                detail: "announcement of 212 bytes".to_owned(),
            };
            builder.tell(start + 5_000, Some(everyone[1]), event);
        }
    }
}

fn scores(builder: &mut Builder, skill: f64) -> Vec<ScoreRow> {
    peers()
        .into_iter()
        .enumerate()
        .map(|(index, peer)| {
            let accuracy = 0.41 + 0.3 * skill - 0.015 * index as f64 + 0.03 * builder.dice.noise();
            let score =
                0.22 + 0.35 * skill + 0.03 * (3 - index) as f64 + 0.05 * builder.dice.noise();
            let useful = 6 + builder.dice.below(6);
            ScoreRow {
                peer,
                score_ppm: (score * 1e6) as u32,
                reward_ppm: (accuracy * 0.94e6) as u32,
                accuracy_ppm: (accuracy * 1e6) as u32,
                why: format!(
                    "answers {:.1}% of 50.0% ({}/96 right, {useful}/12 groups useful); critiques 14.2% of 30.0% (brier 0.181 over 96); resolutions 9.6% of 20.0% ({:.1}% right after {:.1}%)",
                    50.0 * score,
                    (96.0 * accuracy) as u64,
                    100.0 * accuracy + 7.0,
                    100.0 * accuracy,
                ),
            }
        })
        .collect()
}

fn settle(builder: &mut Builder, round: u64, judged: u64) {
    if round == 5 {
        let event = Event::Unsettled {
            round,
            why: "2 of 3 signatures at the deadline".to_owned(),
        };
        builder.tell(judged + 6_000, None, event);
        return;
    }
    let event = Event::Settled {
        round,
        tx: TxHash([(round as u8).wrapping_mul(53).wrapping_add(7); 32]),
        block: 20 + 3 * round,
        gas: 208_000 + builder.dice.below(9_000),
        relayer: Address([peers()[0].0[1]; 20]),
    };
    builder.tell(judged + 1_500, None, event);
    for (index, who) in peers().into_iter().enumerate() {
        let score = 0.1 + 0.5 * skill(round) - 0.04 * index as f64;
        let event = Event::Reputation {
            who,
            score_ppm: (score * 1e6) as u32,
            rounds: round - u64::from(round > 5),
            round,
        };
        builder.tell(judged + 1_600, None, event);
    }
}

fn train(builder: &mut Builder, round: u64, at: u64, skill: f64) {
    let everyone = peers();
    for (index, who) in everyone.into_iter().enumerate() {
        for step in 0..2 {
            let mut external_groups = BTreeMap::new();
            for teacher in everyone {
                let groups = builder.dice.below(4) as u32;
                if teacher != who && groups > 0 {
                    external_groups.insert(teacher, groups);
                }
            }
            let event = Event::Trained {
                round,
                step: 2 * (round - 1) + step + 1,
                local_groups: 5 + builder.dice.below(3) as u32,
                external_groups,
                dropped_groups: 4 + builder.dice.below(4) as u32,
                tokens: 9_000 + builder.dice.below(2_000) as u32,
                loss: 0.032 - 0.02 * skill + 0.006 * builder.dice.noise(),
                kl: None,
                clip_fraction: 0.012 + 0.006 * builder.dice.noise(),
                entropy: 1.1 - 0.5 * skill + 0.04 * builder.dice.noise(),
                grad_norm: 0.9 - 0.3 * skill + 0.1 * builder.dice.noise(),
                reward: 0.3 + 0.33 * skill + 0.03 * builder.dice.noise(),
                took_ms: 3_100 + 60 * index as u64 + builder.dice.below(300),
            };
            builder.tell(at + 3_000 * step, Some(who), event);
        }
        let checkpoint = Event::CheckpointSaved {
            round,
            step: 2 * round,
            hash: Hash([who.0[0] ^ (round as u8).rotate_left(3); 32]),
        };
        builder.tell(at + 5_800, Some(who), checkpoint);
        if round.is_multiple_of(3) || round + 1 == ROUNDS {
            let report = evaluation(builder, skill);
            builder.tell(at + 5_900, Some(who), Event::Evaluated { round, report });
        }
    }
}

fn end(
    builder: &mut Builder,
    round: u64,
    at: u64,
    (skill, verdicts): (f64, f64),
    rows: &[ScoreRow],
) {
    let mean = |of: fn(&ScoreRow) -> u32| {
        rows.iter().map(|row| f64::from(of(row)) / 1e6).sum::<f64>() / rows.len() as f64
    };
    let settled = round != 5;
    let summary = RoundSummary {
        round,
        settled,
        tx: settled.then_some(TxHash([(round as u8).wrapping_mul(53).wrapping_add(7); 32])),
        peers: 4,
        included: 12,
        answers: 384,
        critiques: 384,
        resolutions: 128,
        reward: mean(|row| row.reward_ppm),
        accuracy: mean(|row| row.accuracy_ppm),
        format_rate: 0.8 + 0.18 * skill,
        judge_accuracy: verdicts,
        resolve_accuracy: mean(|row| row.accuracy_ppm) + 0.07,
        wall_s: ROUND_MS as f64 / 1000.0 + builder.dice.noise(),
        ..RoundSummary::default()
    };
    for who in peers() {
        builder.tell(at, Some(who), Event::RoundEnded(summary.clone()));
    }
}

//! What a run came to.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::keeper::{Keeper, Life, Phase, Round, Sample};
use crate::node::TIMES;
use crate::told::Heard;

/// The middle and the ends of what was measured many times.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Spread {
    p50: f64,
    p99: f64,
    most: f64,
    count: usize,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (values.len() as f64 * share) as usize;
            values.get(place.min(values.len().saturating_sub(1)))
        };
        Self {
            p50: at(0.5).copied().unwrap_or_default(),
            p99: at(0.99).copied().unwrap_or_default(),
            most: values.last().copied().unwrap_or_default(),
            count: values.len(),
        }
    }
}

/// The figures of a phase.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    nodes: usize,
    /// Who attacked; quiet without.
    flood: Option<&'static str>,
    churn: bool,
    /// Seconds a round lasts by the clock; as long as it takes without.
    length_s: Option<u64>,
    /// Whether it came to its end in time.
    complete: bool,
    rounds: usize,
    settled: usize,
    /// Rounds that gathered no quorum though two thirds of their witnesses were up all
    /// the time: each with why.
    lost: BTreeMap<u64, String>,
    /// Rounds that gathered none because too few witnesses were up.
    witnesses_gone: usize,
    /// Batches that a quorum listed, of those that all nodes could have given.
    included: f64,
    round_s: Spread,
    /// Stages that ran to their deadline, of all that the first node saw.
    deadlines: f64,
    /// Seconds from a node's start until it heard another.
    join_s: Spread,
    /// Seconds from a node's start until it took part in a round.
    part_s: Spread,
    latency_ms: Spread,
    /// Of those that were up, how many heard an announcement.
    delivered: f64,
    kib_a_round: f64,
    cpu_s_a_round: f64,
    /// Cores, over all nodes.
    cpu_cores: f64,
    left: u32,
    refused: BTreeMap<String, u64>,
    warned: BTreeMap<String, u64>,
    samples: Vec<Sample>,
}

/// The figures of each phase of a run.
pub(crate) fn of(run: &Keeper) -> Result<Vec<Figures>> {
    let mut heard = Heard::default();
    for index in 0..run.plan.nodes {
        let path = run.homes.join(index.to_string()).join(TIMES);
        let read = heard.read(&path);
        read.with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(run
        .phases
        .iter()
        .map(|phase| figures(run, phase, &heard))
        .collect())
}

fn figures(run: &Keeper, phase: &Phase, heard: &Heard) -> Figures {
    let nodes = run.plan.nodes;
    let lives = || run.lives.iter().skip(1).flatten();
    let rounds: Vec<(&u64, &Round)> = run.rounds.range(phase.first..=phase.last).collect();
    let (mut lost, mut witnesses_gone) = (BTreeMap::new(), 0);
    for (number, round) in &rounds {
        if round.settled == Some(true) {
            continue;
        }
        if quorum_was_up(run, round) {
            let why = round.why.clone();
            let why = why.unwrap_or_else(|| "it had not ended when the crowd did".to_owned());
            lost.insert(**number, why);
        } else {
            witnesses_gone += 1;
        }
    }
    let count = rounds.len().max(1) as f64;
    let deadlines: u32 = rounds.iter().map(|(_, round)| round.deadlines).sum();
    let settled: Vec<&Round> = rounds
        .iter()
        .filter(|(_, round)| round.settled == Some(true))
        .map(|(_, round)| *round)
        .collect();
    let included: u32 = settled.iter().map(|round| round.included).sum();
    let (latencies, said) = heard.latencies(phase.from_ms, phase.until_ms);
    let seconds = (phase.until_ms - phase.from_ms) as f64 / 1000.0;
    let up: f64 = run
        .lives
        .iter()
        .flatten()
        .map(|life| overlap(life, phase.from_ms, phase.until_ms))
        .sum::<f64>()
        / seconds.max(0.001);
    let since = |life: &Life, at: Option<u64>| {
        at.map(|at| at.saturating_sub(life.spawned_ms) as f64 / 1000.0)
    };
    Figures {
        nodes,
        flood: phase.flood.map(|kind| kind.name()),
        churn: run.plan.churn,
        length_s: run.plan.length_s,
        complete: run.complete,
        rounds: rounds.len(),
        settled: settled.len(),
        lost,
        witnesses_gone,
        included: f64::from(included) / (settled.len() * nodes * 3).max(1) as f64,
        round_s: Spread::of(rounds.iter().map(|(_, round)| round.wall_s).collect()),
        // Answer, reveal, resolve, judge, train.
        deadlines: f64::from(deadlines) / (count * 5.0),
        join_s: Spread::of(
            lives()
                .filter_map(|life| since(life, life.met_ms))
                .collect(),
        ),
        part_s: Spread::of(
            lives()
                .filter_map(|life| since(life, life.opened_ms))
                .collect(),
        ),
        delivered: latencies.len() as f64 / (said as f64 * (up - 1.0)).max(1.0),
        latency_ms: Spread::of(latencies.into_iter().map(|us| us as f64 / 1000.0).collect()),
        kib_a_round: phase.bytes as f64 / 1024.0 / phase.byte_rounds.max(1) as f64,
        cpu_s_a_round: phase.cpu / (count * up.max(1.0)),
        cpu_cores: phase.cpu / seconds.max(0.001),
        left: phase.left,
        refused: phase.refused.clone(),
        warned: phase.warned.clone(),
        samples: phase.samples.iter().map(Sample::clone).collect(),
    }
}

/// Seconds that a node was up between two moments.
fn overlap(life: &Life, from_ms: u64, until_ms: u64) -> f64 {
    let begin = life.spawned_ms.max(from_ms);
    let end = life.ended_ms.unwrap_or(u64::MAX).min(until_ms);
    end.saturating_sub(begin) as f64 / 1000.0
}

/// Whether more than two thirds of a round's witnesses were up from its opening until
/// they had been heard.
fn quorum_was_up(run: &Keeper, round: &Round) -> bool {
    let until = round.judged_ms.unwrap_or(round.opened_ms);
    let was_up = |life: &Life| {
        let began = life
            .opened_ms
            .is_some_and(|at| at <= round.opened_ms + 1000);
        began && life.ended_ms.is_none_or(|at| at > until)
    };
    let up = round.committee.iter().filter(|witness| {
        let mut lives = run.lives.iter().flatten();
        lives.any(|life| life.peer.as_ref() == Some(witness) && was_up(life))
    });
    up.count() * 3 > round.committee.len() * 2
}

/// The figures as a table, a column each.
pub(crate) fn table(all: &[Figures]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &dyn Fn(&Figures) -> String| {
        let values: Vec<String> = all.iter().map(value).collect();
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    };
    row("nodes", &|f| f.nodes.to_string());
    row("---", &|_| "---".to_owned());
    row("who attacks", &|f| f.flood.unwrap_or("nobody").to_owned());
    row("left and came back", &|f| f.left.to_string());
    row("rounds by the clock, s", &|f| {
        f.length_s
            .map_or("-".to_owned(), |length| length.to_string())
    });
    row("rounds", &|f| f.rounds.to_string());
    row("settled", &|f| f.settled.to_string());
    row("lost to quorum, 2/3 of the witnesses up", &|f| {
        f.lost.len().to_string()
    });
    row("lost, fewer up", &|f| f.witnesses_gone.to_string());
    row("batches included", &|f| {
        format!("{:.1}%", f.included * 100.0)
    });
    row("stages that ran to their deadline", &|f| {
        format!("{:.1}%", f.deadlines * 100.0)
    });
    row("a round, s, p50 / most", &|f| {
        format!("{:.1} / {:.1}", f.round_s.p50, f.round_s.most)
    });
    row("start to first peer heard, s, p50 / most", &|f| {
        format!("{:.1} / {:.1}", f.join_s.p50, f.join_s.most)
    });
    row("start to first round, s, p50 / most", &|f| {
        format!("{:.1} / {:.1}", f.part_s.p50, f.part_s.most)
    });
    row("announcement, ms, p50 / p99 / most", &|f| {
        let spread = &f.latency_ms;
        format!("{:.1} / {:.0} / {:.0}", spread.p50, spread.p99, spread.most)
    });
    row("announcements heard", &|f| {
        format!("{:.2}%", f.delivered * 100.0)
    });
    row("UDP a node and round, KiB, both ways", &|f| {
        format!("{:.0}", f.kib_a_round)
    });
    row("CPU a node and round, s", &|f| {
        format!("{:.3}", f.cpu_s_a_round)
    });
    row("CPU of all nodes, cores", &|f| {
        format!("{:.2}", f.cpu_cores)
    });
    row("own memory a node, MiB, start / end", &|f| {
        let of = |sample: Option<&Sample>| sample.map_or(0.0, |s| s.own_mean as f64 / 1024.0);
        format!("{:.1} / {:.1}", of(f.samples.first()), of(f.samples.last()))
    });
    row("the same, the first node", &|f| {
        let of = |sample: Option<&Sample>| sample.map_or(0.0, |s| s.first.own as f64 / 1024.0);
        format!("{:.1} / {:.1}", of(f.samples.first()), of(f.samples.last()))
    });
    row("disk a node, MiB, start / end", &|f| {
        let of = |sample: Option<&Sample>| {
            sample.map_or(0.0, |s| s.disk.values().sum::<u64>() as f64 / 1048576.0)
        };
        format!("{:.1} / {:.1}", of(f.samples.first()), of(f.samples.last()))
    });
    row("refused", &|f| {
        let all = f
            .refused
            .iter()
            .map(|(why, count)| format!("{why} {count}"));
        all.collect::<Vec<_>>().join(", ")
    });
    text
}

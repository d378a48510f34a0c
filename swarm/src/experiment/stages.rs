//! What critique and resolve are worth, on real swarms: every round's common
//! items, which no policy has seen before, answered in each way there is.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;
use swarm_core::event::{EvalReport, RoundSummary};
use swarm_core::gains::Gains;
use tasks::Ppm;

use super::{Estimate, LOCAL_PROFILE, Run};
use crate::home::write_atomic;

/// `murmur experiment stages`.
#[derive(Debug, Args)]
pub struct StagesArgs {
    /// Where runs, tables and the report go; a folder with runs is gone on with
    #[arg(long, value_name = "DIR", default_value = "experiment-stages")]
    pub out: PathBuf,
    /// Nodes of each swarm
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    pub nodes: u16,
    /// Rounds of each run
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u64).range(3..))]
    pub rounds: u64,
    /// Runs, with seeds 1, 2, …
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub seeds: u64,
    /// Another profile than the local one
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
}

/// How often a way to arrive at an answer arrives at the right one.
type Way = fn(&Gains) -> Ppm;

const WAYS: [(&str, Way); 7] = [
    ("an answer alone", |gains| gains.alone),
    ("majority, one answer a peer", |gains| gains.majority),
    ("majority of all first answers", |gains| gains.samples),
    ("best critic's choice", |gains| gains.best_critic),
    ("all critics' choice", |gains| gains.critics),
    ("a second answer", |gains| gains.resolved),
    ("majority of all second answers", |gains| {
        gains.resolved_majority
    }),
];

/// How well a model does what a stage asks.
type Skill = fn(&EvalReport) -> f64;

const SKILLS: [(&str, Skill); 3] = [
    ("answers", |report| report.sampled),
    ("verdicts", |report| report.verdicts.unwrap_or_default()),
    ("second answers", |report| {
        report.resolved.unwrap_or_default()
    }),
];

pub(super) fn run(args: &StagesArgs) -> Result<String> {
    let runs = args.out.join("runs");
    std::fs::create_dir_all(&runs).with_context(|| format!("making {}", runs.display()))?;
    let manifest = match &args.manifest {
        None => LOCAL_PROFILE.to_owned(),
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?
        }
    };
    let mut swarms = Vec::new();
    for seed in 1..=args.seeds {
        let run = Run {
            name: "stages".to_owned(),
            manifest: manifest.clone(),
            nodes: args.nodes,
            rounds: args.rounds,
            seed,
            eval_items: 4,
            starts: Vec::new(),
        };
        swarms.push(Swarm::read(run.report(&runs, (seed, args.seeds))?)?);
    }
    let text = written(args, &swarms);
    let path = args.out.join("report.md");
    write_atomic(&path, text.as_bytes()).with_context(|| format!("writing {}", path.display()))?;
    Ok(text)
}

/// What a run came to.
struct Swarm {
    rounds: Vec<RoundSummary>,
    before: EvalReport,
    after: EvalReport,
}

impl Swarm {
    fn read(mut report: Value) -> Result<Self> {
        let mut take = |path: &str| {
            report
                .pointer_mut(path)
                .map(Value::take)
                .unwrap_or_default()
        };
        let other = "a report of another version; remove it to run it again";
        Ok(Self {
            rounds: serde_json::from_value(take("/rounds")).context(other)?,
            before: serde_json::from_value(take("/eval/before")).context(other)?,
            after: serde_json::from_value(take("/eval/after")).context(other)?,
        })
    }
}

/// The mean over a span of rounds, each item alike; `None` without any.
fn mean(rounds: &[RoundSummary], of: Way) -> Option<f64> {
    let items = rounds.iter().map(|round| u64::from(round.gains.items));
    let items: u64 = items.sum();
    let sum = rounds
        .iter()
        .map(|round| f64::from(round.gains.items) * f64::from(of(&round.gains).0))
        .sum::<f64>();
    (items > 0).then(|| sum / items as f64 / 1e6)
}

/// The three parts of the rounds: early, middle, late.
fn third(rounds: &[RoundSummary], part: usize) -> &[RoundSummary] {
    &rounds[part * rounds.len() / 3..(part + 1) * rounds.len() / 3]
}

fn written(args: &StagesArgs, swarms: &[Swarm]) -> String {
    let over = |value: &dyn Fn(&[RoundSummary]) -> Option<f64>| {
        let values = swarms.iter().filter_map(|swarm| value(&swarm.rounds));
        Estimate::of(&values.collect::<Vec<f64>>())
    };
    let told = |estimate: Estimate| {
        format!(
            "{:.1} ± {:.1}",
            100.0 * estimate.mean,
            100.0 * estimate.half
        )
    };
    let rounds = swarms.iter().flat_map(|swarm| &swarm.rounds);
    let items: u32 = rounds.map(|round| round.gains.items).sum();
    let mut text = format!(
        "# Critique and resolve beside their alternatives\n\n\
         `murmur experiment stages --nodes {} --rounds {} --seeds {}`: right, in %, of the items that\n\
         all nodes of a round answered; mean and 95% interval over {} swarms, {items} items. The last\n\
         column is paired by swarm, over all rounds, against the majority with one answer a peer: what\n\
         a second answer reads.\n\n\
         | way | early | middle | late | all rounds | against the majority |\n\
         | --- | --- | --- | --- | --- | --- |\n",
        args.nodes, args.rounds, args.seeds, args.seeds
    );
    for (name, way) in WAYS {
        let part = |part| told(over(&|rounds| mean(third(rounds, part), way)));
        let against =
            over(&|rounds| Some(mean(rounds, way)? - mean(rounds, |gains| gains.majority)?));
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} |",
            part(0),
            part(1),
            part(2),
            told(over(&|rounds| mean(rounds, way))),
            super::signed(against),
        );
    }
    text.push_str(
        "\nOn held-out items that never change, before and after all rounds, sampled: verdicts on answers\n\
         of which one in two is right (a coin: 50), and second answers after simulated peers:\n\n\
         | skill | before | after | change |\n| --- | --- | --- | --- |\n",
    );
    for (name, skill) in SKILLS {
        let all = |value: &dyn Fn(&Swarm) -> f64| {
            Estimate::of(&swarms.iter().map(value).collect::<Vec<f64>>())
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            told(all(&|swarm| skill(&swarm.before))),
            told(all(&|swarm| skill(&swarm.after))),
            super::signed(all(&|swarm| skill(&swarm.after) - skill(&swarm.before))),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(items: u32, alone: u32) -> RoundSummary {
        RoundSummary {
            critiques: 4,
            judge_accuracy: 0.5,
            gains: Gains {
                items,
                alone: Ppm(alone),
                ..Gains::default()
            },
            ..RoundSummary::default()
        }
    }

    #[test]
    fn every_item_counts_alike_and_a_span_without_any_says_nothing() {
        let rounds = [round(3, 1_000_000), round(1, 0), round(0, 700_000)];
        assert_eq!(mean(&rounds, |gains| gains.alone), Some(0.75));
        assert_eq!(mean(&rounds[2..], |gains| gains.alone), None);
        assert_eq!(third(&rounds, 2).len(), 1);
        let args = StagesArgs {
            out: PathBuf::new(),
            nodes: 4,
            rounds: 3,
            seeds: 2,
            manifest: None,
        };
        let swarm = || Swarm {
            rounds: rounds.to_vec(),
            before: EvalReport::default(),
            after: EvalReport::default(),
        };
        let text = written(&args, &[swarm(), swarm()]);
        assert!(
            text.contains("| an answer alone | 100.0 ± 0.0 | 0.0 ± 0.0 |"),
            "{text}"
        );
    }
}

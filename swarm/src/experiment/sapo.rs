//! Whether training on peers' rollouts helps, after SAPO (arXiv 2509.08721): arms
//! that generate alike and train on more or less of their peers', on equal nodes
//! or on specialists.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use toml::Table;

use super::curves::{self, Curve};
use super::{Estimate, LOCAL_PROFILE, Run, signed};
use crate::home::write_atomic;

/// `murmur experiment sapo`.
#[derive(Debug, Args)]
pub struct SapoArgs {
    /// Where runs, tables and the report go; a folder with runs is gone on with
    #[arg(long, value_name = "DIR", default_value = "experiment-sapo")]
    pub out: PathBuf,
    /// Nodes of each swarm
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=16))]
    pub nodes: u16,
    /// Rounds of each run
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Runs of each arm, with seeds 1, 2, …
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=100))]
    pub seeds: u64,
    /// Nodes begin as specialists: each has trained alone on its own part of the environments
    #[arg(long)]
    pub unequal: bool,
    /// Held-out items per environment and level
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub eval_items: u32,
}

/// One way to train: of eight groups of answers so many are a node's own, the
/// rest its peers'; critiques and resolutions in the same proportion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arm {
    name: &'static str,
    local: i64,
    external: i64,
    /// How peers' groups are chosen.
    choice: &'static str,
    /// The arm that it is held against, beside 8/0.
    control: Option<&'static str>,
    /// What is said of it.
    about: &'static str,
}

const ARMS: [Arm; 8] = [
    Arm {
        name: "8/0",
        local: 8,
        external: 0,
        choice: "uniform",
        control: None,
        about: "alone; zero-advantage groups dropped, as in every arm",
    },
    Arm {
        name: "6/2",
        local: 6,
        external: 2,
        choice: "uniform",
        control: None,
        about: "a quarter of peers'",
    },
    Arm {
        name: "4/4",
        local: 4,
        external: 4,
        choice: "uniform",
        control: Some("4/0"),
        about: "half of peers'",
    },
    Arm {
        name: "2/6",
        local: 2,
        external: 6,
        choice: "uniform",
        control: None,
        about: "three quarters of peers'",
    },
    Arm {
        name: "4/0",
        local: 4,
        external: 0,
        choice: "uniform",
        control: None,
        about: "control: what 4/4 trains on without its peers'",
    },
    Arm {
        name: "8/8",
        local: 8,
        external: 8,
        choice: "uniform",
        control: None,
        about: "control: peers' on top of all of one's own",
    },
    Arm {
        name: "4/4 expected",
        local: 4,
        external: 4,
        choice: "expected",
        control: Some("4/4"),
        about: "peers' chosen by what the node may expect to learn from them",
    },
    Arm {
        name: "4/4 any",
        local: 4,
        external: 4,
        choice: "any",
        control: Some("4/4"),
        about: "control: peers' groups also where all earned the same",
    },
];

/// Rounds that a specialist trains by itself before it meets the others.
const ALONE: u64 = 16;

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    /// The mean reward of answers in each round.
    rewards: Vec<f64>,
    /// Their sum.
    cumulative: f64,
    /// Held-out accuracy afterwards, sampled and greedy.
    sampled: f64,
    greedy: f64,
    /// Held-out accuracy before, sampled.
    before: f64,
    settled: usize,
}

pub(super) fn run(args: &SapoArgs) -> Result<String> {
    let runs = args.out.join("runs");
    std::fs::create_dir_all(&runs).with_context(|| format!("making {}", runs.display()))?;
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); ARMS.len()];
    let mut csv = String::from("arm,seed,round,reward,accuracy,held_out,settled\n");
    let total = args.seeds * ARMS.len() as u64;
    let mut done = 0;
    // Seed by seed, so that what was cut off can already be compared.
    for seed in 1..=args.seeds {
        let starts = match args.unequal {
            true => specialists(args, &runs, seed)?,
            false => Vec::new(),
        };
        for (arm, outcomes) in ARMS.iter().zip(&mut outcomes) {
            done += 1;
            let run = Run {
                name: arm.name.replace(['/', ' '], "-"),
                manifest: arm.manifest()?,
                nodes: args.nodes,
                rounds: args.rounds,
                seed,
                eval_items: args.eval_items,
                starts: starts.clone(),
            };
            let report = run.report(&runs, (done, total))?;
            let (outcome, rows) = read(&report, arm, seed, args.rounds)?;
            outcomes.push(outcome);
            csv.push_str(&rows);
        }
    }
    let curves: Vec<Curve<'_>> = ARMS
        .iter()
        .zip(&outcomes)
        .map(|(arm, runs)| Curve {
            arm: arm.name,
            seeds: runs.iter().map(|run| run.rewards.as_slice()).collect(),
        })
        .collect();
    let text = written(args, &outcomes, &curves::plot(&curves));
    for (name, contents) in [
        ("rounds.csv", &csv),
        ("curves.csv", &curves::csv(&curves)),
        ("report.md", &text),
    ] {
        let path = args.out.join(name);
        write_atomic(&path, contents.as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(text)
}

/// A checkpoint for each node: of one that trained alone on its part of the environments.
fn specialists(args: &SapoArgs, runs: &Path, seed: u64) -> Result<Vec<PathBuf>> {
    (0..args.nodes)
        .map(|node| {
            let mut manifest = ARMS[0].manifest_table()?;
            let courses = manifest
                .get_mut("curriculum")
                .and_then(|it| it.as_array_mut());
            let courses = courses.context("the local profile has no [[curriculum]]")?;
            let mut names: Vec<Value> = Vec::new();
            courses.retain(|course| {
                let name = Value::from(course.get("env").and_then(|env| env.as_str()));
                let known = names.iter().position(|one| *one == name);
                let index = known.unwrap_or_else(|| {
                    names.push(name);
                    names.len() - 1
                });
                index % usize::from(args.nodes) == usize::from(node)
            });
            let run = Run {
                name: format!("specialist{node}of{}", args.nodes),
                manifest: manifest.to_string(),
                nodes: 2,
                rounds: ALONE,
                seed: seed * 100 + u64::from(node),
                eval_items: 1,
                starts: Vec::new(),
            };
            run.checkpoint(runs)
        })
        .collect()
}

impl Arm {
    /// The local profile with this arm's quotas.
    fn manifest(&self) -> Result<String> {
        Ok(self.manifest_table()?.to_string())
    }

    fn manifest_table(&self) -> Result<Table> {
        let mut manifest: Table = LOCAL_PROFILE.parse().context("the local profile")?;
        manifest.insert("name".into(), format!("sapo {}", self.name).into());
        let training = manifest
            .get_mut("training")
            .and_then(|it| it.as_table_mut());
        let training = training.context("the local profile has no [training]")?;
        training.insert("per_peer".into(), 8.into());
        training.insert("choice".into(), self.choice.into());
        for (kind, share) in [("answers", 1), ("critiques", 2), ("resolutions", 2)] {
            let mut quota = Table::new();
            quota.insert("local".into(), (self.local / share).into());
            quota.insert("external".into(), (self.external / share).into());
            training.insert(kind.into(), quota.into());
        }
        Ok(manifest)
    }
}

fn read(report: &Value, arm: &Arm, seed: u64, expected: u64) -> Result<(Outcome, String)> {
    let rounds = report["rounds"].as_array().map_or(&[][..], Vec::as_slice);
    if rounds.len() as u64 != expected {
        bail!(
            "{} with seed {seed} has {} of {expected} rounds; remove its report to run it again",
            arm.name,
            rounds.len()
        );
    }
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let mut rows = String::new();
    let (mut rewards, mut settled) = (Vec::new(), 0);
    for round in rounds {
        rewards.push(number(&round["reward"]));
        let is_settled = round["settled"].as_bool() == Some(true);
        settled += usize::from(is_settled);
        let _ = writeln!(
            rows,
            "{},{seed},{},{:.6},{:.6},{:.6},{is_settled}",
            arm.name,
            round["round"],
            number(&round["reward"]),
            number(&round["accuracy"]),
            number(&report["held_out"][round["round"].to_string()]),
        );
    }
    let eval = &report["eval"];
    let outcome = Outcome {
        cumulative: rewards.iter().sum(),
        rewards,
        sampled: number(&eval["after"]["sampled"]),
        greedy: number(&eval["after"]["greedy"]),
        before: number(&eval["before"]["sampled"]),
        settled,
    };
    Ok((outcome, rows))
}

/// What `runs` have more of than `others`, paired by seed.
fn difference(runs: &[Outcome], others: &[Outcome], read: fn(&Outcome) -> f64) -> Estimate {
    let pairs = runs.iter().zip(others);
    let more: Vec<f64> = pairs.map(|(one, other)| read(one) - read(other)).collect();
    Estimate::of(&more)
}

fn written(args: &SapoArgs, outcomes: &[Vec<Outcome>], curves: &str) -> String {
    let column = |outcomes: &[Outcome], read: fn(&Outcome) -> f64| -> Vec<f64> {
        outcomes.iter().map(read).collect()
    };
    let alone = &outcomes[0];
    let percent = |estimate: Estimate| {
        format!(
            "{:.1} ± {:.1}",
            100.0 * estimate.mean,
            100.0 * estimate.half
        )
    };
    let mut text = format!(
        "# Sharing: own groups against peers'\n\n\
         `murmur experiment sapo{} --nodes {} --rounds {} --seeds {}`: each node trains on L groups of\n\
         answers of its own and E of its peers' a round, and generates the same in every arm. Mean and\n\
         95% interval over {} seeds; differences are paired by seed, against training alone. Held out\n\
         before any round: {}% sampled.\n\n\
         | L/E | cumulative reward | against 8/0 | held out, sampled % | against 8/0 | greedy % | settled |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        if args.unequal { " --unequal" } else { "" },
        args.nodes,
        args.rounds,
        args.seeds,
        args.seeds,
        percent(Estimate::of(&column(alone, |one| one.before))),
    );
    let most = outcomes
        .iter()
        .map(|runs| Estimate::of(&column(runs, |one| one.cumulative)).mean)
        .fold(f64::EPSILON, f64::max);
    let mut plot = String::new();
    for (arm, runs) in ARMS.iter().zip(outcomes) {
        let against = |read| difference(runs, alone, read);
        let cumulative = Estimate::of(&column(runs, |one| one.cumulative));
        let settled: usize = runs.iter().map(|one| one.settled).sum();
        let itself = arm.name == ARMS[0].name;
        let or_dash = |said: String| if itself { "–".to_owned() } else { said };
        let more = against(|one| one.cumulative);
        let _ = writeln!(
            text,
            "| {} | {:.2} ± {:.2} | {} | {} | {} | {} | {settled} of {} |",
            arm.name,
            cumulative.mean,
            cumulative.half,
            or_dash(format!("{:+.2} ± {:.2}", more.mean, more.half)),
            percent(Estimate::of(&column(runs, |one| one.sampled))),
            or_dash(signed(against(|one| one.sampled))),
            percent(Estimate::of(&column(runs, |one| one.greedy))),
            runs.len() as u64 * args.rounds,
        );
        let width = (cumulative.mean / most * 48.0).round() as usize;
        let _ = writeln!(
            plot,
            "{:<12} {:<48} {:.2}",
            arm.name,
            "█".repeat(width),
            cumulative.mean
        );
    }
    text.push_str(
        "\n| paired by seed | cumulative reward | held out, sampled % |\n| --- | --- | --- |\n",
    );
    for (arm, runs) in ARMS.iter().zip(outcomes) {
        let control = arm.control.and_then(|name| {
            let index = ARMS.iter().position(|other| other.name == name)?;
            outcomes.get(index)
        });
        let (Some(control), Some(name)) = (control, arm.control) else {
            continue;
        };
        let against = |read| difference(runs, control, read);
        let more = against(|one| one.cumulative);
        let _ = writeln!(
            text,
            "| {} less {name} | {:+.2} ± {:.2} | {} |",
            arm.name,
            more.mean,
            more.half,
            signed(against(|one| one.sampled)),
        );
    }
    text.push_str("\nCumulative reward:\n\n```text\n");
    text.push_str(&plot);
    text.push_str("```\n\nReward over the rounds, and cumulative reward ahead of training alone:\n\n```text\n");
    text.push_str(curves);
    text.push_str("```\n\n");
    for arm in ARMS {
        let _ = writeln!(text, "- **{}**: {}.", arm.name, arm.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarm_core::manifest::{Manifest, Quota};
    use tasks::Registry;

    #[test]
    fn every_arm_is_a_swarm_that_can_be() {
        for arm in ARMS {
            let text = arm.manifest().unwrap();
            let manifest = Manifest::from_toml(&text, &Registry::builtin()).unwrap();
            let wanted = Quota {
                local: u16::try_from(arm.local).unwrap(),
                external: u16::try_from(arm.external).unwrap(),
            };
            assert_eq!(manifest.training.answers, wanted);
        }
    }

    #[test]
    fn a_report_without_all_its_rounds_is_not_counted() {
        let report = serde_json::json!({ "rounds": [{ "round": 1, "reward": 0.5 }] });
        let error = read(&report, &ARMS[0], 3, 2).unwrap_err().to_string();
        assert!(error.contains("1 of 2 rounds"), "{error}");
    }
}

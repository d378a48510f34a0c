//! `murmur experiment`: what a rule of the swarm is worth, measured on real
//! swarms and not claimed.
//!
//! Each run is this same program, headless, in a process and a home of its own,
//! with another manifest; its report is kept, so an experiment that was cut off
//! goes on where it stopped. Arms are compared seed by seed.

mod stages;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use toml::Table;

use crate::home::write_atomic;
use crate::process::LOCAL_PROFILE;

/// `murmur experiment`.
#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// Whether training on peers' rollouts helps: from none of them to three
    /// in four, after SAPO (arXiv 2509.08721), with the controls it lacks
    Sapo(SapoArgs),
    /// Whether critiques and second answers are worth their time: beside
    /// answers alone, majorities and the critics' choice
    Stages(stages::StagesArgs),
}

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
    /// What is said of it.
    about: &'static str,
}

const ARMS: [Arm; 6] = [
    Arm {
        name: "8/0",
        local: 8,
        external: 0,
        about: "alone; zero-advantage groups dropped, as in every arm",
    },
    Arm {
        name: "6/2",
        local: 6,
        external: 2,
        about: "a quarter of peers'",
    },
    Arm {
        name: "4/4",
        local: 4,
        external: 4,
        about: "half of peers'",
    },
    Arm {
        name: "2/6",
        local: 2,
        external: 6,
        about: "three quarters of peers'",
    },
    Arm {
        name: "4/0",
        local: 4,
        external: 0,
        about: "control: what 4/4 trains on without its peers'",
    },
    Arm {
        name: "8/8",
        local: 8,
        external: 8,
        about: "control: peers' on top of all of one's own",
    },
];

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    /// Sum over rounds of the mean reward of answers.
    cumulative: f64,
    /// Held-out accuracy afterwards, sampled and greedy.
    sampled: f64,
    greedy: f64,
    /// Held-out accuracy before, sampled.
    before: f64,
    settled: usize,
}

/// Runs what is asked for; what it prints.
///
/// # Errors
/// A run failed (its log is named), a file can't be read or written.
pub fn run(command: &ExperimentCommand) -> Result<String> {
    match command {
        ExperimentCommand::Sapo(args) => sapo(args),
        ExperimentCommand::Stages(args) => stages::run(args),
    }
}

fn sapo(args: &SapoArgs) -> Result<String> {
    let runs = args.out.join("runs");
    std::fs::create_dir_all(&runs).with_context(|| format!("making {}", runs.display()))?;
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); ARMS.len()];
    let mut csv = String::from("arm,seed,round,reward,accuracy,settled\n");
    let total = args.seeds * ARMS.len() as u64;
    let mut done = 0;
    // Seed by seed, so that what was cut off can already be compared.
    for seed in 1..=args.seeds {
        for (arm, outcomes) in ARMS.iter().zip(&mut outcomes) {
            done += 1;
            let run = Run {
                name: arm.name.replace('/', "-"),
                manifest: arm.manifest()?,
                nodes: args.nodes,
                rounds: args.rounds,
                seed,
                eval_items: args.eval_items,
            };
            let report = run.report(&runs, (done, total))?;
            let (outcome, rows) = read(&report, arm, seed, args.rounds)?;
            outcomes.push(outcome);
            csv.push_str(&rows);
        }
    }
    let text = written(args, &outcomes);
    for (name, contents) in [("rounds.csv", &csv), ("report.md", &text)] {
        let path = args.out.join(name);
        write_atomic(&path, contents.as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(text)
}

/// One run of a swarm, of its own kind.
struct Run {
    /// Tells it from the others of the experiment, seed apart.
    name: String,
    manifest: String,
    nodes: u16,
    rounds: u64,
    seed: u64,
    eval_items: u32,
}

impl Run {
    /// Its report: the kept one, or that of a run now.
    fn report(&self, runs: &Path, (done, total): (u64, u64)) -> Result<Value> {
        let setting = format!("{}x{}", self.nodes, self.rounds);
        let name = format!("{}-{setting}-seed{}", self.name, self.seed);
        let path = runs.join(format!("{name}.json"));
        if !path.exists() {
            eprintln!(
                "run {done} of {total}: {} with seed {}",
                self.name, self.seed
            );
            self.go(runs, &name, &path)?;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    fn go(&self, runs: &Path, name: &str, path: &Path) -> Result<()> {
        let home = runs.join(format!("{name}.home"));
        let _ = std::fs::remove_dir_all(&home);
        let manifest = runs.join(format!("{name}.toml"));
        std::fs::write(&manifest, &self.manifest)
            .with_context(|| format!("writing {}", manifest.display()))?;
        let log = runs.join(format!("{name}.log"));
        let logged =
            std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let beside = runs.join(format!("{name}.part"));
        let program = std::env::current_exe().context("finding this program")?;
        let status = Command::new(program)
            .args(["run", "--headless"])
            .args(["--peers", &self.nodes.to_string()])
            .args(["--rounds", &self.rounds.to_string()])
            .args(["--seed", &self.seed.to_string()])
            .args(["--eval-items", &self.eval_items.to_string()])
            .arg("--home")
            .arg(&home)
            .arg("--manifest")
            .arg(&manifest)
            .arg("--report")
            .arg(&beside)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(logged)
            .status()
            .context("starting this program again")?;
        if !status.success() {
            bail!("{name} ended with {status}; see {}", log.display());
        }
        std::fs::rename(&beside, path).with_context(|| format!("keeping {}", path.display()))?;
        std::fs::remove_dir_all(&home).with_context(|| format!("clearing {}", home.display()))
    }
}

impl Arm {
    /// The local profile with this arm's quotas.
    fn manifest(&self) -> Result<String> {
        let mut manifest: Table = LOCAL_PROFILE.parse().context("the local profile")?;
        manifest.insert("name".into(), format!("sapo {}", self.name).into());
        let training = manifest
            .get_mut("training")
            .and_then(|it| it.as_table_mut());
        let training = training.context("the local profile has no [training]")?;
        training.insert("per_peer".into(), 8.into());
        for (kind, share) in [("answers", 1), ("critiques", 2), ("resolutions", 2)] {
            let mut quota = Table::new();
            quota.insert("local".into(), (self.local / share).into());
            quota.insert("external".into(), (self.external / share).into());
            training.insert(kind.into(), quota.into());
        }
        Ok(manifest.to_string())
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
    let (mut cumulative, mut settled) = (0.0, 0);
    for round in rounds {
        cumulative += number(&round["reward"]);
        let is_settled = round["settled"].as_bool() == Some(true);
        settled += usize::from(is_settled);
        let _ = writeln!(
            rows,
            "{},{seed},{},{:.6},{:.6},{is_settled}",
            arm.name,
            round["round"],
            number(&round["reward"]),
            number(&round["accuracy"]),
        );
    }
    let eval = &report["eval"];
    let outcome = Outcome {
        cumulative,
        sampled: number(&eval["after"]["sampled"]),
        greedy: number(&eval["after"]["greedy"]),
        before: number(&eval["before"]["sampled"]),
        settled,
    };
    Ok((outcome, rows))
}

/// A mean and the half-width of its 95% confidence interval (Student's t).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Estimate {
    mean: f64,
    half: f64,
}

impl Estimate {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half = match values.len() {
            0 | 1 => f64::INFINITY,
            many => t_975(many - 1) * (squares / (count - 1.0) / count).sqrt(),
        };
        Self { mean, half }
    }
}

/// The 97.5th percentile of Student's t (Abramowitz and Stegun, table 26.10);
/// between its rows the wider.
fn t_975(freedom: usize) -> f64 {
    const ROWS: [(usize, f64); 14] = [
        (1, 12.706),
        (2, 4.303),
        (3, 3.182),
        (4, 2.776),
        (5, 2.571),
        (6, 2.447),
        (7, 2.365),
        (8, 2.306),
        (9, 2.262),
        (10, 2.228),
        (15, 2.131),
        (20, 2.086),
        (30, 2.042),
        (60, 2.000),
    ];
    let row = ROWS.iter().rev().find(|(least, _)| *least <= freedom);
    row.map_or(f64::INFINITY, |(_, t)| *t)
}

fn written(args: &SapoArgs, outcomes: &[Vec<Outcome>]) -> String {
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
         `murmur experiment sapo --nodes {} --rounds {} --seeds {}`: each node trains on L groups of\n\
         answers of its own and E of its peers' a round, and generates the same in every arm. Mean and\n\
         95% interval over {} seeds; differences are paired by seed, against training alone. Held out\n\
         before any round: {}% sampled.\n\n\
         | L/E | cumulative reward | against 8/0 | held out, sampled % | against 8/0 | greedy % | settled |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
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
        let against = |read: fn(&Outcome) -> f64| {
            let pairs = runs.iter().zip(alone);
            Estimate::of(
                &pairs
                    .map(|(one, other)| read(one) - read(other))
                    .collect::<Vec<_>>(),
            )
        };
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
            "{:<4} {:<48} {:.2}",
            arm.name,
            "█".repeat(width),
            cumulative.mean
        );
    }
    text.push_str("\nCumulative reward:\n\n```text\n");
    text.push_str(&plot);
    text.push_str("```\n\n");
    for arm in ARMS {
        let _ = writeln!(text, "- **{}**: {}.", arm.name, arm.about);
    }
    text
}

fn signed(estimate: Estimate) -> String {
    format!(
        "{:+.1} ± {:.1}",
        100.0 * estimate.mean,
        100.0 * estimate.half
    )
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
    fn an_interval_is_what_a_table_of_t_says() {
        // Of 1, 2, 3, 4, 5: sd = 1.5811, se = 0.70711, t(4) = 2.776.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(estimate.mean, 3.0);
        assert!((estimate.half - 1.9629).abs() < 1e-3);
        assert_eq!(Estimate::of(&[1.0]).half, f64::INFINITY);
    }

    #[test]
    fn a_report_without_all_its_rounds_is_not_counted() {
        let report = serde_json::json!({ "rounds": [{ "round": 1, "reward": 0.5 }] });
        let error = read(&report, &ARMS[0], 3, 2).unwrap_err().to_string();
        assert!(error.contains("1 of 2 rounds"), "{error}");
    }
}

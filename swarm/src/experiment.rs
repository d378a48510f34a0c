//! `murmur experiment`: what a rule of the swarm is worth, measured on real
//! swarms and not claimed.
//!
//! Each run is this same program, headless, in a process and a home of its own,
//! with another manifest; its report is kept, so an experiment that was cut off
//! goes on where it stopped. Arms are compared seed by seed.

mod curves;
mod sapo;
mod stages;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::process::LOCAL_PROFILE;

/// `murmur experiment`.
#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// Whether training on peers' rollouts helps: from none of them to three
    /// in four, after SAPO (arXiv 2509.08721), with the controls it lacks
    Sapo(sapo::SapoArgs),
    /// Whether critiques and second answers are worth their time: beside
    /// answers alone, majorities and the critics' choice
    Stages(stages::StagesArgs),
}

/// Runs what is asked for; what it prints.
///
/// # Errors
/// A run failed (its log is named), a file can't be read or written.
pub fn run(command: &ExperimentCommand) -> Result<String> {
    match command {
        ExperimentCommand::Sapo(args) => sapo::run(args),
        ExperimentCommand::Stages(args) => stages::run(args),
    }
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
    /// The checkpoints that nodes begin with, in order; the rest begin with the model.
    starts: Vec<PathBuf>,
}

/// Where a run leaves its first node's checkpoint.
fn checkpoint_of(runs: &Path, name: &str) -> PathBuf {
    runs.join(format!("{name}.checkpoint"))
}

impl Run {
    fn full_name(&self) -> String {
        let setting = format!("{}x{}", self.nodes, self.rounds);
        format!("{}-{setting}-seed{}", self.name, self.seed)
    }

    /// Runs it, unless its first node's checkpoint is kept already.
    fn checkpoint(&self, runs: &Path) -> Result<PathBuf> {
        let name = self.full_name();
        let kept = checkpoint_of(runs, &name);
        if !kept.exists() {
            eprintln!("{} with seed {}, to begin with", self.name, self.seed);
            let home = self.go(runs, &name, &runs.join(format!("{name}.json")))?;
            let trained = home.join("peers/0/checkpoint");
            std::fs::rename(&trained, &kept)
                .with_context(|| format!("keeping {}", trained.display()))?;
            clear(&home)?;
        }
        Ok(kept)
    }

    /// Its report: the kept one, or that of a run now.
    fn report(&self, runs: &Path, (done, total): (u64, u64)) -> Result<Value> {
        let name = self.full_name();
        let path = runs.join(format!("{name}.json"));
        if !path.exists() {
            eprintln!(
                "run {done} of {total}: {} with seed {}",
                self.name, self.seed
            );
            clear(&self.go(runs, &name, &path)?)?;
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))
    }

    /// Runs it; the home that it leaves.
    fn go(&self, runs: &Path, name: &str, path: &Path) -> Result<PathBuf> {
        let home = runs.join(format!("{name}.home"));
        let _ = std::fs::remove_dir_all(&home);
        for (node, start) in self.starts.iter().enumerate() {
            copy(start, &home.join(format!("peers/{node}/checkpoint")))
                .with_context(|| format!("copying {}", start.display()))?;
        }
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
        Ok(home)
    }
}

fn clear(home: &Path) -> Result<()> {
    std::fs::remove_dir_all(home).with_context(|| format!("clearing {}", home.display()))
}

/// A folder and all in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let beside = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &beside)?;
        } else {
            std::fs::copy(entry.path(), beside)?;
        }
    }
    Ok(())
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

    #[test]
    fn an_interval_is_what_a_table_of_t_says() {
        // Of 1, 2, 3, 4, 5: sd = 1.5811, se = 0.70711, t(4) = 2.776.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(estimate.mean, 3.0);
        assert!((estimate.half - 1.9629).abs() < 1e-3);
        assert_eq!(Estimate::of(&[1.0]).half, f64::INFINITY);
    }
}

//! `murmur sim`: whether cheating pays, tried on the real judge.

use std::fmt::Write as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::home::Home;
use crate::rep::source::{manifest_of, registry_of};
use crate::transcripts::Transcripts;
use anyhow::{Context, Result, bail};
use clap::Args;
use swarm_core::trial::{Behaviour, Recorded, Report, Row, Scenario, run};

/// Shares of cheats that `--all` tries, in per cent.
const SHARES: [u8; 6] = [0, 10, 25, 33, 40, 50];
/// Width of the plot, in characters.
const WIDTH: usize = 64;

/// `murmur sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// A scenario in TOML; flags go before what it says
    #[arg(value_name = "SCENARIO")]
    pub file: Option<PathBuf>,
    /// What the cheats do: copier, lazy, liar, ring, sleeper, splitter, stale,
    /// withholder, judge-hacker, gold-spotter or whitewasher
    #[arg(long)]
    pub behaviour: Option<Behaviour>,
    /// Machines that cheat, in per cent
    #[arg(long, value_name = "PERCENT")]
    pub cheats: Option<u8>,
    /// How many machines take part
    #[arg(long)]
    pub machines: Option<u16>,
    /// How many rounds
    #[arg(long)]
    pub rounds: Option<u64>,
    /// Everything that is random follows from this number
    #[arg(long)]
    pub seed: Option<u64>,
    /// Critics decide the rewards of answers, not the verifier
    #[arg(long)]
    pub judged: bool,
    /// Try every behaviour at 0, 10, 25, 33, 40 and 50 per cent, verified and judged
    #[arg(long, conflicts_with_all = ["behaviour", "cheats", "judged"])]
    pub all: bool,
    /// Print a scenario of the policies that this home's settled rounds show,
    /// to be tried in their stead
    #[arg(long, value_name = "HOME", conflicts_with_all = ["file", "all", "csv", "json"])]
    pub record: Option<PathBuf>,
    /// Write every round as CSV here
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Print JSON instead of tables and plots
    #[arg(long)]
    pub json: bool,
}

/// Plays what is asked for.
///
/// # Errors
/// A scenario that can't be read or can't be, a file that can't be written.
pub fn sim(args: &SimArgs) -> Result<String> {
    if let Some(home) = &args.record {
        return recorded(home, scenario(args)?);
    }
    let scenario = scenario(args)?;
    let scenarios = if args.all {
        all(&scenario)
    } else {
        vec![scenario]
    };
    let reports = play(&scenarios)?;
    if let Some(path) = &args.csv {
        std::fs::write(path, csv(&reports))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if args.json {
        return Ok(serde_json::to_string_pretty(&reports).context("encoding")? + "\n");
    }
    let mut text = table(&reports);
    if let [report] = &reports[..] {
        text.push_str(&plots(report));
    }
    Ok(text)
}

/// Rounds that policies are recorded from, the newest.
const RECORDED_ROUNDS: usize = 64;

/// A scenario of the policies that took part in a home's newest rounds.
fn recorded(home: &Path, scenario: Scenario) -> Result<String> {
    let none = || {
        format!(
            "{} holds no swarm; name the home of one that ran",
            home.display()
        )
    };
    let found = Home::existing(Some(home))?.with_context(none)?;
    let registry = registry_of(&found)?;
    let manifest = manifest_of(&found, &registry)?.with_context(none)?;
    let boards: Vec<_> = Transcripts::of(found.path())
        .newest(&manifest, RECORDED_ROUNDS)?
        .iter()
        .filter_map(|transcript| transcript.recompute(&manifest, &registry).ok())
        .map(|recomputed| recomputed.board)
        .collect();
    let policies = Recorded::of(&boards);
    if policies.is_empty() {
        bail!("{} keeps no transcripts of settled rounds", home.display());
    }
    let scenario = Scenario {
        recorded: policies.into_values().collect(),
        ..scenario
    };
    scenario.check()?;
    toml::to_string(&scenario).context("writing the scenario")
}

fn scenario(args: &SimArgs) -> Result<Scenario> {
    let mut scenario = match &args.file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("reading {}", path.display()))?;
            Scenario::from_toml(&text).with_context(|| path.display().to_string())?
        }
        None => Scenario::default(),
    };
    if let Some(behaviour) = args.behaviour {
        scenario.behaviour = behaviour;
        if args.cheats.is_none() && scenario.cheats == 0 {
            scenario.cheats = 33;
        }
    }
    scenario.cheats = args.cheats.unwrap_or(scenario.cheats);
    scenario.machines = args.machines.unwrap_or(scenario.machines);
    scenario.rounds = args.rounds.unwrap_or(scenario.rounds);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.judged |= args.judged;
    if scenario.cheats > 0 && scenario.behaviour == Behaviour::Honest && !args.all {
        bail!(
            "{} per cent cheat, but how? name a --behaviour",
            scenario.cheats
        );
    }
    scenario.check()?;
    Ok(scenario)
}

fn all(base: &Scenario) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for judged in [false, true] {
        for cheats in SHARES {
            let behaviours: &[Behaviour] = match cheats {
                0 => &[Behaviour::Honest],
                _ => &Behaviour::CHEATS,
            };
            scenarios.extend(behaviours.iter().map(|behaviour| Scenario {
                name: format!("{cheats}% {behaviour}"),
                behaviour: *behaviour,
                cheats,
                judged,
                ..base.clone()
            }));
        }
    }
    scenarios
}

/// Plays scenarios on all cores; the reports are in the scenarios' order.
fn play(scenarios: &[Scenario]) -> Result<Vec<Report>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(scenarios.len()) {
            scope.spawn(|| {
                while let Some((at, scenario)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    scenarios.get(at).map(|scenario| (at, scenario))
                } {
                    let report = run(scenario);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((at, report));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, report)| Ok(report?)).collect()
}

fn table(reports: &[Report]) -> String {
    let mut text = format!(
        "{:<9} {:<13} {:>6}  {:>6} {:>10} {:>7}  {:>8}  {:>9}  {}\n",
        "rewards",
        "cheats",
        "share",
        "score",
        "reputation",
        "reward",
        "pairwise",
        "ring seen",
        "contained"
    );
    for report in reports {
        let scenario = &report.scenario;
        let rewards = if scenario.judged {
            "judged"
        } else {
            "verified"
        };
        let _ = write!(
            text,
            "{rewards:<9} {:<13} {:>5}%",
            scenario.behaviour, scenario.cheats
        );
        let contained = match report.contained {
            _ if scenario.cheating() == 0 => "",
            Some(1) => "at once",
            Some(_) => "later",
            None => "earns as others do",
        };
        if scenario.cheating() == 0 {
            let _ = write!(text, "  {:>6} {:>10} {:>7}", "", "", "");
        } else {
            let _ = write!(
                text,
                "  {:>6.2} {:>10.2} {:>7.2}",
                report.ratio, report.reputation_ratio, report.reward_ratio
            );
        }
        let (ring, others) = report.together;
        let _ = write!(
            text,
            "  {:>7.1}%  {:>9}  {contained}",
            100.0 * report.pairwise,
            format!("{:.0}%/{:.0}%", 100.0 * ring, 100.0 * others)
        );
        if let (Some(round), "later") = (report.contained, contained) {
            let _ = write!(text, ", from round {round}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push_str(
        "\nscore, reputation, reward: of a cheat's machine, all its names together, as a share of an\n\
         honest machine's (second half of the rounds; reputation at the end)\n\
         pairwise: right answers of honest machines that are rewarded above wrong ones\n\
         ring seen: pairs of cheats, and of all others, that stand together: each calls the other's\n\
         answers right more often than the other critics of those answers do\n\
         contained: its reputation stays below nine tenths of an honest machine's\n",
    );
    text
}

/// Reputation and pairwise accuracy over the rounds.
fn plots(report: &Report) -> String {
    let mut text = String::from("\n");
    let scenario = &report.scenario;
    let most = report
        .rounds
        .iter()
        .flat_map(|row| {
            [
                row.honest_reputation,
                row.cheat_reputation,
                row.slow_reputation,
            ]
        })
        .fold(f64::EPSILON, f64::max);
    let mut line = |name: &str, most: f64, value: fn(&Row) -> f64| {
        let last = report.rounds.last().map_or(0.0, value);
        let _ = writeln!(
            text,
            "{name:<21} {}  {last:.3}",
            spark(&report.rounds, most, value)
        );
    };
    line("reputation, honest", most, |row| row.honest_reputation);
    if scenario.slow > 0 {
        line("reputation, slow", most, |row| row.slow_reputation);
    }
    if scenario.cheating() > 0 {
        line("reputation, cheats", most, |row| row.cheat_reputation);
    }
    line("pairwise", 1.0, |row| row.pairwise);
    let _ = writeln!(text, "{:<21} round 1 to {}", "", report.rounds.len());
    text
}

/// Means over equal spans of rounds, as bars of eight heights.
fn spark(rows: &[Row], most: f64, value: fn(&Row) -> f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let width = WIDTH.min(rows.len());
    (0..width)
        .map(|column| {
            let span = &rows[column * rows.len() / width..(column + 1) * rows.len() / width];
            let mean = span.iter().map(value).sum::<f64>() / span.len().max(1) as f64;
            BARS[((mean / most * 8.0) as usize).min(7)]
        })
        .collect()
}

fn csv(reports: &[Report]) -> String {
    let mut text = String::from(
        "rewards,behaviour,cheats_percent,seed,round,honest_score,cheat_score,slow_score,\
         honest_reputation,cheat_reputation,slow_reputation,honest_reward,cheat_reward,\
         pairwise,vote_accuracy\n",
    );
    for report in reports {
        let scenario = &report.scenario;
        let rewards = if scenario.judged {
            "judged"
        } else {
            "verified"
        };
        for row in &report.rounds {
            let _ = write!(
                text,
                "{rewards},{},{},{},{}",
                scenario.behaviour, scenario.cheats, scenario.seed, row.round
            );
            for value in [
                row.honest_score,
                row.cheat_score,
                row.slow_score,
                row.honest_reputation,
                row.cheat_reputation,
                row.slow_reputation,
                row.honest_reward,
                row.cheat_reward,
                row.pairwise,
                row.vote_accuracy,
            ] {
                let _ = write!(text, ",{value:.6}");
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimArgs,
    }

    fn args(words: &[&str]) -> SimArgs {
        let words = ["sim"].iter().chain(words);
        Line::try_parse_from(words).unwrap().args
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "behaviour = \"ring\"\ncheats = 25\nrounds = 9\n").unwrap();
        let words = [file.to_str().unwrap(), "--rounds", "3"];
        let scenario = scenario(&args(&words)).unwrap();
        assert_eq!(
            (scenario.cheats, scenario.rounds, scenario.machines),
            (25, 3, 24)
        );
        assert_eq!(scenario.behaviour, Behaviour::Ring);
    }

    #[test]
    fn a_table_a_plot_and_a_line_for_each_round() {
        let folder = tempfile::tempdir().unwrap();
        let csv = folder.path().join("rounds.csv");
        let words = ["--behaviour", "lazy", "--rounds", "4", "--machines", "6"];
        let mut args = args(&words);
        args.csv = Some(csv.clone());
        let text = sim(&args).unwrap();
        assert!(text.contains("verified  lazy             33%"), "{text}");
        assert!(text.contains("reputation, cheats"), "{text}");
        assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 5);
    }

    #[test]
    fn cheats_without_a_behaviour_are_asked_for_one() {
        let error = sim(&args(&["--cheats", "20"])).unwrap_err().to_string();
        assert!(error.contains("--behaviour"), "{error}");
    }
}

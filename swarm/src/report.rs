//! `report.json`: what a run came to, for scripts and experiments.

use std::collections::BTreeMap;

use serde::Serialize;
use swarm_core::event::{EvalReport, RoundSummary, TaskEval};
use swarm_core::ids::PeerId;

use crate::curriculum::Asked;
use crate::metrics::LinkRow;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One entry a round, as the first local peer saw it.
    pub rounds: Vec<RoundSummary>,
    /// The share of a few held-out items, always the same, that greedy answers
    /// get right after each round's update: the mean over this process's peers.
    /// Empty where a model is too large to be asked every time.
    pub held_out: BTreeMap<u64, f64>,
    /// What was asked, whenever environments or levels changed, as the first
    /// local peer saw it.
    pub curriculum: Vec<Asked>,
    /// The ledger at the end, highest first.
    pub reputation: Vec<ReputationRow>,
    /// Held-out accuracy, the mean over this process's peers; null where a run
    /// that was stopped early did not get to it.
    pub eval: BeforeAfter<Option<EvalReport>>,
    /// The same for each peer.
    pub eval_by_peer: BTreeMap<String, BeforeAfter<Option<EvalReport>>>,
    /// Updates that were not made because a number in them was not finite, of
    /// this process's peers.
    pub skipped_updates: u64,
    /// Where the time went, in seconds, summed over this process's peers.
    pub time_s: BTreeMap<String, f64>,
    /// Every local peer's way to every other: path, bytes, what was refused.
    pub network: Vec<LinkRow>,
    /// What was refused of senders that are not known, by reason.
    pub refused_of_unknown: BTreeMap<String, u64>,
    /// Seconds from the start of the process to the first round's opening.
    pub first_round_s: f64,
}

/// One peer's reputation.
#[derive(Debug, Clone, Serialize)]
pub struct ReputationRow {
    /// Its id.
    pub peer: PeerId,
    /// Its name.
    pub name: String,
    /// Its score, 0 to 1.
    pub score: f64,
    /// Settled rounds it was scored in.
    pub rounds: u64,
}

/// Before any round of this run, and after the last.
#[derive(Debug, Clone, Serialize)]
pub struct BeforeAfter<T> {
    /// Before.
    pub before: T,
    /// After.
    pub after: T,
}

/// The mean of several peers' reports on the same items; `None` without any.
pub fn mean(reports: &[EvalReport]) -> Option<EvalReport> {
    let items = reports.first()?.items;
    let count = reports.len() as f64;
    let average = |read: fn(&EvalReport) -> f64| reports.iter().map(read).sum::<f64>() / count;
    let mut tasks: BTreeMap<String, TaskEval> = BTreeMap::new();
    for (name, eval) in reports.iter().flat_map(|report| &report.tasks) {
        let entry = tasks.entry(name.clone()).or_insert(TaskEval {
            greedy: 0.0,
            sampled: 0.0,
            format_rate: 0.0,
            items: eval.items,
        });
        entry.greedy += eval.greedy / count;
        entry.sampled += eval.sampled / count;
        entry.format_rate += eval.format_rate / count;
    }
    Some(EvalReport {
        greedy: average(|report| report.greedy),
        sampled: average(|report| report.sampled),
        format_rate: average(|report| report.format_rate),
        // Of the same items, so all have them or none.
        verdicts: reports
            .iter()
            .map(|report| report.verdicts)
            .sum::<Option<f64>>()
            .map(|sum| sum / count),
        resolved: reports
            .iter()
            .map(|report| report.resolved)
            .sum::<Option<f64>>()
            .map(|sum| sum / count),
        items,
        too_long: reports[0].too_long,
        tasks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_peers_and_over_tasks() {
        let report = |share: f64| EvalReport {
            greedy: share,
            sampled: share / 2.0,
            format_rate: 1.0,
            verdicts: Some(share),
            resolved: None,
            items: 10,
            too_long: 0,
            tasks: BTreeMap::from([(
                "add".to_owned(),
                TaskEval {
                    greedy: share,
                    sampled: 0.0,
                    format_rate: 1.0,
                    items: 10,
                },
            )]),
        };
        assert_eq!(mean(&[]), None);
        let mean = mean(&[report(0.2), report(0.6)]).unwrap();
        assert!((mean.greedy - 0.4).abs() < 1e-12);
        assert!((mean.sampled - 0.2).abs() < 1e-12);
        assert!((mean.verdicts.unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(mean.resolved, None);
        assert!((mean.tasks["add"].greedy - 0.4).abs() < 1e-12);
        assert_eq!(mean.items, 10);
    }
}

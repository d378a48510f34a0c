//! The current round, the stages of local peers, what was learned, and the
//! rounds' way to the chain.

use std::collections::BTreeMap;

use swarm_core::event::{BeaconSource, EndedBy, EvalReport, RoundSummary, ScoreRow, Stage};
use swarm_core::ids::{Address, Beacon, PeerId, TxHash};

use crate::text;

use super::LINE_BYTES;
use super::series::Series;

/// Local peers whose stages are kept: more than fit in one process.
const LOCALS_KEPT: usize = 64;
/// Witnesses kept: the design elects at most 16.
const WITNESSES_KEPT: usize = 64;
/// Rounds whose settlement is kept apart; older ones are on the chain.
pub const SETTLEMENTS_KEPT: usize = 64;
/// Environments of one evaluation kept: a curriculum has a few dozen.
const TASKS_KEPT: usize = 64;

/// The newest round.
#[derive(Debug, Clone)]
pub struct CurrentRound {
    /// Its number.
    pub round: u64,
    /// When it opened.
    pub opened_ms: u64,
    /// Its public randomness.
    pub beacon: Beacon,
    /// Where that came from.
    pub source: BeaconSource,
    /// The elected witnesses, and whether each one's scorecard agrees with ours.
    pub witnesses: BTreeMap<PeerId, Option<bool>>,
    /// Matching signatures so far.
    pub signatures: u32,
    /// How many settle the round.
    pub needed: u32,
    /// Batches in the inclusion set, once judged.
    pub batches: Option<u32>,
}

impl CurrentRound {
    /// A local peer opened a round. The newest one is shown; a second local
    /// peer that opens the same round adds nothing.
    pub(super) fn open(
        slot: &mut Option<Self>,
        at_ms: u64,
        round: u64,
        beacon: Beacon,
        source: BeaconSource,
        committee: &[PeerId],
    ) {
        if slot.as_ref().is_some_and(|current| current.round >= round) {
            return;
        }
        *slot = Some(Self {
            round,
            opened_ms: at_ms,
            beacon,
            source,
            witnesses: committee
                .iter()
                .take(WITNESSES_KEPT)
                .map(|witness| (*witness, None))
                .collect(),
            signatures: 0,
            needed: 0,
            batches: None,
        });
    }

    pub(super) fn judged(&mut self, round: u64, batches: u32) {
        if self.round == round {
            self.batches = Some(batches);
        }
    }

    pub(super) fn attested(
        &mut self,
        round: u64,
        witness: PeerId,
        agrees: bool,
        signatures: u32,
        needed: u32,
    ) {
        if self.round != round {
            return;
        }
        if self.witnesses.len() < WITNESSES_KEPT || self.witnesses.contains_key(&witness) {
            self.witnesses.insert(witness, Some(agrees));
        }
        self.signatures = self.signatures.max(signatures);
        self.needed = needed;
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageEnd {
    /// Peers that are in.
    pub seen: u32,
    /// Peers that were waited for.
    pub expected: u32,
    /// Why it ended.
    pub ended_by: EndedBy,
    /// Milliseconds it took.
    pub took_ms: u64,
}

/// One stage of one local peer, in the newest round it reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageCell {
    /// The round.
    pub round: u64,
    /// When it began.
    pub started_ms: u64,
    /// When it ends at the latest.
    pub deadline_ms: u64,
    /// How it ended, once it has.
    pub end: Option<StageEnd>,
}

/// Where one local peer is.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Its newest round.
    pub round: u64,
    /// Its stages, in order; training may still belong to the round before.
    pub stages: BTreeMap<Stage, StageCell>,
}

/// Where all local peers are.
#[derive(Debug, Clone, Default)]
pub struct Locals {
    /// By peer; `None` where events do not say whose they are.
    pub peers: BTreeMap<Option<PeerId>, Local>,
}

impl Locals {
    fn entry(&mut self, peer: Option<PeerId>) -> Option<&mut Local> {
        if self.peers.len() >= LOCALS_KEPT && !self.peers.contains_key(&peer) {
            return None;
        }
        Some(self.peers.entry(peer).or_default())
    }

    pub(super) fn opened(&mut self, peer: Option<PeerId>, round: u64) {
        // A round that opens for all is told once, without a peer.
        if peer.is_some()
            && let Some(local) = self.entry(peer)
        {
            local.round = local.round.max(round);
        }
    }

    pub(super) fn started(
        &mut self,
        peer: Option<PeerId>,
        round: u64,
        stage: Stage,
        started_ms: u64,
        deadline_ms: u64,
    ) {
        let Some(local) = self.entry(peer) else {
            return;
        };
        local.round = local.round.max(round);
        let newest = local.stages.get(&stage).map(|cell| cell.round);
        if newest.is_none_or(|newest| newest < round) {
            let cell = StageCell {
                round,
                started_ms,
                deadline_ms,
                end: None,
            };
            local.stages.insert(stage, cell);
        }
    }

    pub(super) fn ended(&mut self, peer: Option<PeerId>, round: u64, stage: Stage, end: StageEnd) {
        let Some(local) = self.entry(peer) else {
            return;
        };
        if let Some(cell) = local.stages.get_mut(&stage)
            && cell.round == round
        {
            cell.end = Some(end);
        }
    }

    /// The stage most local peers are in, and the latest deadline of it.
    pub fn stage(&self) -> Option<(Stage, u64)> {
        let round = self.peers.values().map(|local| local.round).max()?;
        self.peers
            .values()
            .flat_map(|local| &local.stages)
            .filter(|(_, cell)| cell.round == round && cell.end.is_none())
            .map(|(stage, cell)| (*stage, cell.deadline_ms))
            .max()
    }
}

/// Curves over rounds: what the swarm's own rollouts came to.
#[derive(Debug, Clone, Default)]
pub struct Learning {
    /// Share of answers that are right.
    pub accuracy: Series,
    /// Mean reward of answers.
    pub reward: Series,
    /// Share of answers that are well formed.
    pub format_rate: Series,
    /// Share of verdicts that are right.
    pub judge_accuracy: Series,
    /// Share of resolutions that are right.
    pub resolve_accuracy: Series,
    /// What critics say of answers whose truth they did not know to be known.
    pub critics_say: Series,
    /// Share of those that are right. Where the two part, critics are pleased
    /// by what is not right.
    pub critics_verified: Series,
    /// Seconds a round took.
    pub wall_s: Series,
    /// The newest summary.
    pub last: Option<RoundSummary>,
}

impl Learning {
    /// Before a round's summary is in, its scoreboard already tells.
    pub(super) fn rows(&mut self, round: u64, rows: &[ScoreRow]) {
        if rows.is_empty() {
            return;
        }
        let mean = |ppm: fn(&ScoreRow) -> u32| {
            rows.iter().map(|row| text::fraction(ppm(row))).sum::<f64>() / rows.len() as f64
        };
        if self.last.as_ref().is_none_or(|last| last.round < round) {
            self.accuracy.set(round, mean(|row| row.accuracy_ppm));
            self.reward.set(round, mean(|row| row.reward_ppm));
        }
    }

    pub(super) fn ended(&mut self, summary: &RoundSummary) {
        let round = summary.round;
        self.accuracy.set(round, summary.accuracy);
        self.reward.set(round, summary.reward);
        self.format_rate.set(round, summary.format_rate);
        self.judge_accuracy.set(round, summary.judge_accuracy);
        self.resolve_accuracy.set(round, summary.resolve_accuracy);
        let twins = &summary.twins;
        if twins.answers > 0 {
            self.critics_say.set(round, text::fraction(twins.critics.0));
            self.critics_verified
                .set(round, text::fraction(twins.verifier.0));
        }
        self.wall_s.set(round, summary.wall_s);
        if self.last.as_ref().is_none_or(|last| last.round <= round) {
            self.last = Some(summary.clone());
        }
    }
}

/// Accuracy on held-out items: the first report and the newest of each local
/// peer.
#[derive(Debug, Clone, Default)]
pub struct Evaluations {
    first: BTreeMap<Option<PeerId>, EvalReport>,
    first_round: Option<u64>,
    latest: BTreeMap<Option<PeerId>, (u64, EvalReport)>,
    /// Greedy accuracy over rounds, the mean over local peers.
    pub greedy: Series,
    /// Sampled accuracy over rounds, the mean over local peers.
    pub sampled: Series,
}

impl Evaluations {
    pub(super) fn fold(&mut self, peer: Option<PeerId>, round: u64, report: &EvalReport) {
        let mut report = report.clone();
        while report.tasks.len() > TASKS_KEPT {
            report.tasks.pop_last();
        }
        let report = EvalReport {
            tasks: report
                .tasks
                .into_iter()
                .map(|(name, eval)| (text::clip(&name, super::LABEL_BYTES), eval))
                .collect(),
            ..report
        };
        self.greedy.add(round, report.greedy);
        self.sampled.add(round, report.sampled);
        if self.first_round.is_none_or(|first| round < first) {
            self.first_round = Some(round);
            self.first.clear();
        }
        let room = |len: usize, known: bool| known || len < LOCALS_KEPT;
        if self.first_round == Some(round) && room(self.first.len(), self.first.contains_key(&peer))
        {
            self.first.insert(peer, report.clone());
        }
        let newest = self.latest.get(&peer).map(|(newest, _)| *newest);
        if newest.is_none_or(|newest| newest <= round) && room(self.latest.len(), newest.is_some())
        {
            self.latest.insert(peer, (round, report));
        }
    }

    /// The mean of the first reports, and their round.
    pub fn before(&self) -> Option<(u64, EvalReport)> {
        let reports: Vec<&EvalReport> = self.first.values().collect();
        Some((self.first_round?, mean(&reports)?))
    }

    /// The mean of the newest reports after the first round, and the newest
    /// of their rounds. A peer that has not reported again is left out.
    pub fn now(&self) -> Option<(u64, EvalReport)> {
        let first = self.first_round?;
        let later = || self.latest.values().filter(|(round, _)| *round > first);
        let reports: Vec<&EvalReport> = later().map(|(_, report)| report).collect();
        let round = later().map(|(round, _)| *round).max()?;
        Some((round, mean(&reports)?))
    }
}

fn mean(reports: &[&EvalReport]) -> Option<EvalReport> {
    if reports.is_empty() {
        return None;
    }
    let some = |of: fn(&EvalReport) -> Option<f64>| {
        let sum: Option<f64> = reports.iter().map(|report| of(report)).sum();
        sum.map(|sum| sum / reports.len() as f64)
    };
    let average = |of: fn(&EvalReport) -> f64| {
        reports.iter().map(|report| of(report)).sum::<f64>() / reports.len() as f64
    };
    let mut tasks = reports[0].tasks.clone();
    for (name, task) in &mut tasks {
        let all: Vec<_> = reports
            .iter()
            .filter_map(|report| report.tasks.get(name))
            .collect();
        let share = all.len() as f64;
        task.greedy = all.iter().map(|task| task.greedy).sum::<f64>() / share;
        task.sampled = all.iter().map(|task| task.sampled).sum::<f64>() / share;
        task.format_rate = all.iter().map(|task| task.format_rate).sum::<f64>() / share;
    }
    Some(EvalReport {
        greedy: average(|report| report.greedy),
        sampled: average(|report| report.sampled),
        format_rate: average(|report| report.format_rate),
        verdicts: some(|report| report.verdicts),
        resolved: some(|report| report.resolved),
        items: reports[0].items,
        too_long: reports[0].too_long,
        tasks,
    })
}

/// A round on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// When it was seen.
    pub at_ms: u64,
    /// The transaction.
    pub tx: TxHash,
    /// The block.
    pub block: u64,
    /// Gas used.
    pub gas: u64,
    /// Who sent it.
    pub relayer: Address,
}

/// One round's way to the chain.
#[derive(Debug, Clone, Default)]
pub struct SettlementRow {
    /// The settlement, once there is one.
    pub settled: Option<Settlement>,
    /// Why there is none.
    pub why_not: Option<String>,
    /// Matching signatures.
    pub signatures: u32,
    /// How many settle the round.
    pub needed: u32,
    /// Scorecards that contradict ours.
    pub disagreements: u32,
    /// What the round came to.
    pub summary: Option<RoundSummary>,
}

/// The rounds' way to the chain.
#[derive(Debug, Clone, Default)]
pub struct Settlements {
    /// The newest rounds, in order.
    pub rows: BTreeMap<u64, SettlementRow>,
    /// Rounds settled since the log begins.
    pub settled: u64,
    /// Rounds ended since the log begins.
    pub ended: u64,
    /// Gas used since the log begins.
    pub gas: u64,
    /// The newest settlement.
    pub last: Option<(u64, Settlement)>,
}

impl Settlements {
    fn row(&mut self, round: u64) -> Option<&mut SettlementRow> {
        if !self.rows.contains_key(&round) && self.rows.len() >= SETTLEMENTS_KEPT {
            if self
                .rows
                .keys()
                .next()
                .is_some_and(|oldest| round < *oldest)
            {
                return None;
            }
            self.rows.pop_first();
        }
        Some(self.rows.entry(round).or_default())
    }

    pub(super) fn attested(&mut self, round: u64, agrees: bool, signatures: u32, needed: u32) {
        if let Some(row) = self.row(round) {
            row.signatures = row.signatures.max(signatures);
            row.needed = needed;
            row.disagreements += u32::from(!agrees);
        }
    }

    pub(super) fn settled(
        &mut self,
        at_ms: u64,
        round: u64,
        tx: TxHash,
        block: u64,
        gas: u64,
        relayer: Address,
    ) {
        let settlement = Settlement {
            at_ms,
            tx,
            block,
            gas,
            relayer,
        };
        let Some(row) = self.row(round) else {
            return;
        };
        // Every local peer sees the same settlement.
        let first = row.settled.is_none();
        row.settled = Some(settlement);
        row.why_not = None;
        if first {
            self.settled += 1;
            self.gas = self.gas.saturating_add(gas);
        }
        if self.last.is_none_or(|(newest, _)| newest <= round) {
            self.last = Some((round, settlement));
        }
    }

    pub(super) fn unsettled(&mut self, round: u64, why: &str) {
        if let Some(row) = self.row(round)
            && row.settled.is_none()
        {
            row.why_not = Some(text::clip(why, LINE_BYTES));
        }
    }

    pub(super) fn ended(&mut self, summary: &RoundSummary) {
        let Some(row) = self.row(summary.round) else {
            return;
        };
        let first = row.summary.is_none();
        row.summary = Some(summary.clone());
        self.ended += u64::from(first);
    }
}

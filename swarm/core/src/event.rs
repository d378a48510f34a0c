//! The one event type: the screen, the log, the JSONL file, the metrics and
//! the replay all read it, and nothing else.
//!
//! A file of events is a list of [`Record`]s, one JSON object a line. Rates,
//! rewards and scores are parts per million (`ppm`); times are milliseconds
//! since the Unix epoch; durations say their unit in the name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use rewards::Twins;

use crate::gains::Gains;
use crate::ids::{Address, Beacon, Hash, PeerId, SwarmId, TxHash};

/// The version of the event format, in [`Event::SwarmStarted`].
pub const EVENT_VERSION: u32 = 1;

/// An event, when it happened and which local peer it happened to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Milliseconds since the Unix epoch, by this machine's clock.
    pub at_ms: u64,
    /// The local peer that emitted it; `None` when it concerns all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PeerId>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A stage of a round, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Sampling completions for this node's own and the common items.
    Answer,
    /// Reading peers' answers; verdicts are committed, then revealed.
    Critique,
    /// Answering again, having read peers' answers and critiques.
    Resolve,
    /// Witnesses list what arrived; everyone re-scores; witnesses attest.
    Judge,
    /// GRPO steps on this node's own weights.
    Train,
}

impl Stage {
    /// All stages, in the order of a round.
    pub const ALL: [Stage; 5] = [
        Stage::Answer,
        Stage::Critique,
        Stage::Resolve,
        Stage::Judge,
        Stage::Train,
    ];

    /// The stage's name as the field writes it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Answer => "answer",
            Stage::Critique => "critique",
            Stage::Resolve => "resolve",
            Stage::Judge => "judge",
            Stage::Train => "train",
        }
    }
}

/// Where a round's beacon came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeaconSource {
    /// Fixed by the chain; the round can settle.
    Chain,
    /// The offline hash chain; the round stays unsettled.
    Offline,
}

/// Why a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// All peers that were seen are in.
    AllIn,
    /// The deadline passed.
    Deadline,
}

/// The chain a swarm settles on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainInfo {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// JSON-RPC address, without credentials.
    pub rpc: String,
    /// Whether this is the embedded devnet (a devnet, never a rollup).
    pub devnet: bool,
    /// The reputation ledger's address.
    pub ledger: Address,
}

/// One named part of a reward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The part's name (`format`, `correct`, `brevity`, `calibration`…).
    pub name: String,
    /// Its value in ppm.
    pub ppm: u32,
}

/// A critique of one completion, as shown beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CritiqueView {
    /// Who wrote it.
    pub critic: PeerId,
    /// The share of the critic's samples whose verdict is "right", in ppm.
    pub right_ppm: u32,
    /// The critic's weight after calibration, in ppm.
    pub weight_ppm: u32,
    /// The text of one of its samples.
    pub text: String,
}

/// A completion and the reward the swarm gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionView {
    /// The text, as sampled.
    pub text: String,
    /// The reward in ppm.
    pub reward_ppm: u32,
    /// The named parts of the reward.
    pub parts: Vec<Part>,
    /// One line that says why.
    pub why: String,
    /// What critics said of it.
    pub critiques: Vec<CritiqueView>,
}

/// A judged group: one prompt, its completions, and why each earned what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// The round it belongs to.
    pub round: u64,
    /// `answer`, `critique` or `resolve`.
    pub stage: Stage,
    /// Whose completions these are.
    pub owner: PeerId,
    /// Where in the batch: `own 3`, `common 0`, …
    pub slot: String,
    /// The environment: its name, and of a package its hash in short.
    pub env: String,
    /// Its level.
    pub level: u8,
    /// The prompt, as the model read it (user turn).
    pub prompt: String,
    /// The reference answer, regenerated from the item's seed.
    pub reference: String,
    /// The completions.
    pub completions: Vec<CompletionView>,
}

/// A peer's row on a scoreboard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// The peer.
    pub peer: PeerId,
    /// What it contributed this round, in ppm: the number that is attested.
    pub score_ppm: u32,
    /// Mean reward of its answers, in ppm.
    pub reward_ppm: u32,
    /// Share of its answers that are right, in ppm.
    pub accuracy_ppm: u32,
    /// One line that says where the score comes from.
    pub why: String,
}

/// A course of the curriculum, as it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseView {
    /// The environment's name, or its hash where it is not known.
    pub env: String,
    /// Whether the environment is known here.
    pub here: bool,
    /// The level.
    pub level: u8,
    /// The level before, where this round moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u8>,
    /// Its share of the draws, relative to the other courses.
    pub weight: u32,
    /// The smoothed share of right answers that its level follows, in ppm;
    /// none where the level is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_ppm: Option<u32>,
}

/// What a round came to, as the report lists it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundSummary {
    /// The round.
    pub round: u64,
    /// Whether a quorum's scoreboard was settled on chain.
    pub settled: bool,
    /// The settling transaction.
    pub tx: Option<TxHash>,
    /// Peers that took part.
    pub peers: u32,
    /// Batches that a quorum of witnesses listed.
    pub included: u32,
    /// Completions in included answer batches.
    pub answers: u32,
    /// Completions in included critique batches.
    pub critiques: u32,
    /// Completions in included resolve batches.
    pub resolutions: u32,
    /// Mean reward of answers, 0 to 1.
    pub reward: f64,
    /// Share of answers that are right, 0 to 1.
    pub accuracy: f64,
    /// Share of answers that are well formed, 0 to 1.
    pub format_rate: f64,
    /// Share of verdicts that are right, balanced over right and wrong answers, 0 to 1.
    pub judge_accuracy: f64,
    /// Share of resolutions that are right, 0 to 1.
    pub resolve_accuracy: f64,
    /// What critique and resolve were worth.
    #[serde(default)]
    pub gains: Gains,
    /// What critics and verifier said of the same answers.
    #[serde(default)]
    pub twins: Twins,
    /// Seconds from opening to the end of training.
    pub wall_s: f64,
}

/// Accuracy on held-out items, whose questions training never draws.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Share right with greedy decoding, 0 to 1.
    pub greedy: f64,
    /// Share right when sampling at temperature 1, 0 to 1.
    pub sampled: f64,
    /// Share of sampled completions that are well formed, 0 to 1.
    pub format_rate: f64,
    /// Share of sampled verdicts that are right, 0 to 1, on answers of which
    /// one in two is: a coin has one half. `None` where all environments are
    /// games, which are not critiqued.
    #[serde(default)]
    pub verdicts: Option<f64>,
    /// Share of sampled second answers that are right, 0 to 1, after reading
    /// what simulated peers answered. `None` where nothing is answered again.
    #[serde(default)]
    pub resolved: Option<f64>,
    /// How many items.
    pub items: u32,
    /// Of these, how many were not answered because their question alone is
    /// longer than the model's context.
    #[serde(default)]
    pub too_long: u32,
    /// By environment: (greedy, sampled, format_rate).
    #[serde(default)]
    pub tasks: BTreeMap<String, TaskEval>,
}

/// One environment's share of an [`EvalReport`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskEval {
    /// Share right with greedy decoding, 0 to 1.
    pub greedy: f64,
    /// Share right when sampling, 0 to 1.
    pub sampled: f64,
    /// Share well formed, 0 to 1.
    pub format_rate: f64,
    /// How many items.
    pub items: u32,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed and a person should look.
    Error,
    /// Something is off and the node copes.
    Warn,
    /// What the node does.
    Info,
}

/// Everything a node tells of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The node is up.
    SwarmStarted {
        /// [`EVENT_VERSION`].
        version: u32,
        /// The swarm's id.
        swarm: SwarmId,
        /// Its name.
        name: String,
        /// What it settles on; `None` offline.
        chain: Option<ChainInfo>,
        /// Completions in a group.
        group_size: u32,
        /// What a third process needs to join.
        ticket: String,
        /// Whether state from an earlier run was resumed.
        resumed: bool,
    },
    /// A peer announced itself for the first time, or again after an absence.
    PeerSeen {
        /// Who.
        who: PeerId,
        /// Its name.
        name: String,
        /// Who owns its reputation.
        address: Address,
        /// Whether it runs in this process.
        local: bool,
    },
    /// A peer missed a stage that others waited for.
    PeerAbsent {
        /// Who.
        who: PeerId,
        /// The round it missed.
        round: u64,
        /// The stage it missed.
        stage: Stage,
    },
    /// A way to find peers has found one: `ticket`, `mdns`, `dns`, `dht`,
    /// `remembered`, or `swarm` (it told the swarm where it is).
    PeerFound {
        /// Who.
        who: PeerId,
        /// By what.
        by: String,
    },
    /// How a peer is reached and what passed.
    PeerLink {
        /// Who.
        who: PeerId,
        /// `direct`, `relay` or `loopback`.
        path: String,
        /// Round-trip time in microseconds, where known.
        rtt_us: Option<u64>,
        /// Bytes sent to it.
        sent_bytes: u64,
        /// Bytes received from it.
        received_bytes: u64,
    },
    /// A round began.
    RoundOpened {
        /// The round.
        round: u64,
        /// Its public randomness.
        beacon: Beacon,
        /// Where that came from.
        source: BeaconSource,
        /// The elected witnesses.
        committee: Vec<PeerId>,
    },
    /// What is asked from this round on: levels that moved, or the author's
    /// change of the curriculum. Also said of the first round.
    Curriculum {
        /// The round.
        round: u64,
        /// Which amendment holds; 0 for the manifest's curriculum.
        amendment: u32,
        /// Whether it holds for the first time.
        amended: bool,
        /// The courses.
        courses: Vec<CourseView>,
    },
    /// A stage began on this peer.
    StageStarted {
        /// The round.
        round: u64,
        /// The stage.
        stage: Stage,
        /// When it ends at the latest.
        deadline_ms: u64,
    },
    /// A stage ended on this peer.
    StageEnded {
        /// The round.
        round: u64,
        /// The stage.
        stage: Stage,
        /// How many peers are in.
        seen: u32,
        /// How many were waited for.
        expected: u32,
        /// Why it ended.
        ended_by: EndedBy,
        /// Milliseconds it took.
        took_ms: u64,
    },
    /// A batch arrived and passed every check.
    BatchReceived {
        /// The round.
        round: u64,
        /// `answer`, `critique` or `resolve`.
        stage: Stage,
        /// Who signed it.
        from: PeerId,
        /// Its hash.
        hash: Hash,
        /// Its size in bytes.
        bytes: u32,
    },
    /// Something from a peer was refused. It is counted, and nothing else happens.
    Rejected {
        /// Who sent it, where known.
        from: Option<PeerId>,
        /// A short reason, the key it is counted under (`bad signature`, `oversize`, `stale round`…).
        reason: String,
        /// What exactly.
        detail: String,
    },
    /// Refusals of the last round that were counted and not shown one by one.
    RefusedMore {
        /// Whose, where known.
        from: Option<PeerId>,
        /// The reason, as in [`Event::Rejected`].
        reason: String,
        /// How many more.
        count: u64,
    },
    /// A group and its rewards.
    GroupJudged(GroupView),
    /// The scoreboard that follows from what was included.
    Judged {
        /// The round.
        round: u64,
        /// The hash of the inclusion set.
        included: Hash,
        /// How many batches it holds.
        batches: u32,
        /// One row a peer.
        rows: Vec<ScoreRow>,
        /// Share of verdicts that are right, in ppm, balanced over right and wrong answers.
        judge_accuracy_ppm: u32,
    },
    /// A witness's signed scorecard arrived.
    Attested {
        /// The round.
        round: u64,
        /// The witness.
        witness: PeerId,
        /// Whether it matches this peer's own scoreboard.
        agrees: bool,
        /// Matching signatures so far.
        signatures: u32,
        /// How many settle the round.
        needed: u32,
    },
    /// A GRPO step.
    Trained {
        /// The round.
        round: u64,
        /// Optimizer steps since the base model.
        step: u64,
        /// Groups of this peer's own.
        local_groups: u32,
        /// Groups of other peers: whose rollouts moved my weights.
        external_groups: BTreeMap<PeerId, u32>,
        /// Groups left out because every completion earned the same.
        dropped_groups: u32,
        /// Tokens that carried loss.
        tokens: u32,
        /// Mean loss.
        loss: f64,
        /// KL to the reference, where it is on.
        kl: Option<f64>,
        /// Share of tokens whose ratio was clipped.
        clip_fraction: f64,
        /// Mean entropy in nats.
        entropy: f64,
        /// Gradient norm before clipping.
        grad_norm: f64,
        /// Mean reward of the groups that were trained on.
        reward: f64,
        /// Milliseconds spent.
        took_ms: u64,
    },
    /// What an update did on a few held-out items, always the same: the share
    /// that greedy answers get right, 0 to 1. Whose groups it used is told by
    /// [`Event::Trained`] of the same step.
    Probed {
        /// The round.
        round: u64,
        /// The step of the update.
        step: u64,
        /// Before the update.
        before: f64,
        /// After it.
        after: f64,
        /// How many items.
        items: u32,
    },
    /// Accuracy on held-out items.
    Evaluated {
        /// After this round (0: before any).
        round: u64,
        /// The numbers.
        report: EvalReport,
    },
    /// A checkpoint is on disk.
    CheckpointSaved {
        /// The round it follows.
        round: u64,
        /// Optimizer steps.
        step: u64,
        /// The hash of its weights.
        hash: Hash,
    },
    /// A round's scores are on chain.
    Settled {
        /// The round.
        round: u64,
        /// The transaction.
        tx: TxHash,
        /// The block.
        block: u64,
        /// Gas used.
        gas: u64,
        /// Who sent it.
        relayer: Address,
    },
    /// A round will not settle, or not yet, and why.
    Unsettled {
        /// The round.
        round: u64,
        /// Why.
        why: String,
    },
    /// A peer's reputation, as the ledger has it.
    Reputation {
        /// Who.
        who: PeerId,
        /// Its score in ppm.
        score_ppm: u32,
        /// Settled rounds it was scored in.
        rounds: u64,
        /// The round this follows.
        round: u64,
    },
    /// The round is over on this peer.
    RoundEnded(RoundSummary),
    /// A line for the Logs screen.
    Log {
        /// How grave.
        level: LogLevel,
        /// Which part of the node.
        target: String,
        /// What.
        message: String,
    },
    /// The node is leaving; state is saved.
    Stopped,
}

//! The manifest: what a swarm is, in one file, `swarm.toml`.
//!
//! Its canonical bytes hash to the swarm's id, so two nodes with the same id
//! agree on every number below. Environments are named in the file by name or
//! by hash, and held by hash. The curriculum is what a swarm begins with; its
//! levels may move, and its author may change it ([`plan`](crate::plan)).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tasks::{EnvId, Registry};

use crate::curriculum::{self, Course, FileCourse, MAX_COURSES};
use crate::ids::{Address, PeerId, SwarmId};
use crate::message::HARD_PEERS;

/// The most completions a group may have, whatever a manifest says.
pub const HARD_COMPLETIONS: usize = 64;
/// The most groups a body may have, whatever a manifest says.
pub const HARD_GROUPS: usize = 256;
/// The most bytes a body may have, whatever a manifest says.
pub const HARD_BODY_BYTES: u32 = 16 << 20;

/// The version of the rules that this program plays by: the draws, the bodies
/// and the judge. Swarms of other versions are refused, not misunderstood.
pub const RULES: u32 = 4;

/// What a swarm is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`RULES`].
    pub rules: u32,
    /// A name for people.
    pub name: String,
    /// What decides when a round begins.
    pub pace: Pace,
    /// How long stages last.
    pub stages: Stages,
    /// What is asked at first.
    pub curriculum: Vec<Course>,
    /// Whose key may put another curriculum in its place; nobody's if none.
    pub author: Option<PeerId>,
    /// The answer stage.
    pub answer: AnswerPlan,
    /// The critique stage.
    pub critique: CritiquePlan,
    /// The resolve stage.
    pub resolve: ResolvePlan,
    /// What each node trains on.
    pub training: TrainingPlan,
    /// What is refused.
    pub limits: Limits,
    /// What rounds settle on; none for a swarm that never settles.
    pub chain: Option<Chain>,
}

/// What decides when a round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Pace {
    /// A round is as long as the swarm needs: the next begins when this node
    /// has trained. Stage windows are milliseconds from the stage's start.
    Eager,
    /// Round `n` begins at `genesis_ms + n * length_ms`. Stage windows are
    /// shares of the length, in the proportions of [`Stages`].
    Clock {
        /// When round 0 began, in milliseconds since the Unix epoch.
        genesis_ms: u64,
        /// How long every round is.
        length_ms: u64,
    },
}

/// How long each stage lasts at the most, in milliseconds. Under a clock the
/// stages from `answer` to `train` divide the round in these proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// How long a starting node listens for peers before it begins.
    pub join_ms: u64,
    /// How long to wait for the chain's beacon before going on offline.
    pub open_ms: u64,
    /// Sampling answers.
    pub answer_ms: u64,
    /// Sampling critiques, up to the commitment.
    pub critique_ms: u64,
    /// Revealing committed critiques.
    pub reveal_ms: u64,
    /// Sampling resolutions.
    pub resolve_ms: u64,
    /// Gathering the witnesses' lists.
    pub judge_ms: u64,
    /// Training.
    pub train_ms: u64,
    /// How long after judging a round may gather its quorum and settle, while
    /// later rounds run.
    pub settle_ms: u64,
    /// The delay between one relayer's turn and the next.
    pub relay_ms: u64,
    /// The first interval after which an unanswered announcement is repeated;
    /// it doubles each time.
    pub repeat_ms: u64,
}

/// The answer stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerPlan {
    /// Completions a group.
    pub size: u16,
    /// Items each peer draws for itself, at the most.
    pub own: u16,
    /// Items that everyone draws.
    pub common: u16,
}

/// The critique stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CritiquePlan {
    /// Answers of peers that each critic reads.
    pub groups: u16,
    /// Critiques it samples of each.
    pub size: u16,
}

/// The resolve stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolvePlan {
    /// Items answered again: the common ones first, then own ones.
    pub groups: u16,
    /// Completions a group.
    pub size: u16,
    /// Answers read before answering again, at the most.
    pub read: u16,
}

/// What each node trains on after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// Optimizer steps.
    pub steps: u16,
    /// Groups of any one peer, of each kind.
    pub per_peer: u16,
    /// How peers' groups are chosen.
    #[serde(default)]
    pub choice: Choice,
    /// Groups of answers.
    pub answers: Quota,
    /// Groups of critiques.
    pub critiques: Quota,
    /// Groups of resolutions.
    pub resolutions: Quota,
}

/// How a node chooses among its peers' groups. The beacon draws either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// All that have an advantage alike.
    #[default]
    Uniform,
    /// By what this node may expect to learn: [`rewards::promise`].
    Expected,
    /// Also those without an advantage, which teach nothing: to measure by.
    Any,
}

/// How many groups of one kind to train on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Of its own.
    pub local: u16,
    /// Of its peers.
    pub external: u16,
}

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Peers that a node keeps track of.
    pub peers: u16,
    /// Bytes of a body.
    pub body_bytes: u32,
    /// Bytes of one completion.
    pub completion_bytes: u32,
    /// Announcements of one peer in one round.
    pub messages: u32,
}

/// What rounds settle on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The peer registry's address.
    pub registry: Address,
    /// The reputation ledger's address.
    pub ledger: Address,
    /// Whose account may admit, pause and found the swarm's ownership, and never
    /// score; nobody's if none.
    pub author: Option<Address>,
    /// Whether witnesses commit to their scorecards before anybody shows one. Said only
    /// where it is so, and last in the canonical bytes: other swarms' ids do not change.
    #[serde(
        default,
        skip_serializing_if = "std::ops::Not::not",
        deserialize_with = "last_flag"
    )]
    pub sealed: bool,
}

/// A flag that canonical bytes hold only if it is set; whoever reads them compares what
/// they mean with what they are.
fn last_flag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match from.is_human_readable() {
        true => bool::deserialize(from),
        false => Ok(bool::deserialize(from).unwrap_or(false)),
    }
}

/// Why a text is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not TOML, a key missing, unknown, or of another type.
    #[error("{0}")]
    Toml(String),
    /// Not the canonical bytes of a manifest.
    #[error("not a canonical manifest")]
    Canonical,
    /// A value that cannot be.
    #[error("{key}: {why}")]
    Invalid {
        /// Which key.
        key: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
}

/// The file's form of a manifest: environments by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: u32,
    name: String,
    pace: Pace,
    stages: Stages,
    curriculum: Vec<FileCourse>,
    author: Option<PeerId>,
    answer: AnswerPlan,
    critique: CritiquePlan,
    resolve: ResolvePlan,
    training: TrainingPlan,
    limits: Limits,
    chain: Option<Chain>,
}

impl Manifest {
    /// Reads `swarm.toml`, looking environments up by name or hash.
    pub fn from_toml(text: &str, registry: &Registry) -> Result<Self, ManifestError> {
        let manifest = Self::draft(text, registry)?;
        manifest.validate(registry)?;
        Ok(manifest)
    }

    /// As [`from_toml`](Self::from_toml), unchecked: environments named by hash
    /// need not be here yet.
    pub fn draft(text: &str, registry: &Registry) -> Result<Self, ManifestError> {
        let file: File =
            toml::from_str(text).map_err(|error| ManifestError::Toml(error.to_string()))?;
        Ok(Self {
            rules: file.rules,
            name: file.name,
            pace: file.pace,
            stages: file.stages,
            curriculum: curriculum::resolved(&file.curriculum, registry)?,
            author: file.author,
            answer: file.answer,
            critique: file.critique,
            resolve: file.resolve,
            training: file.training,
            limits: file.limits,
            chain: file.chain,
        })
    }

    /// Whether its witnesses commit to their scorecards before anybody shows one.
    pub fn seals_cards(&self) -> bool {
        self.chain.is_some_and(|chain| chain.sealed)
    }

    /// Reads what [`canonical`](Self::canonical) wrote, as a joining node gets it.
    pub fn from_canonical(bytes: &[u8], registry: &Registry) -> Result<Self, ManifestError> {
        let manifest = Self::outline(bytes)?;
        manifest.validate(registry)?;
        Ok(manifest)
    }

    /// The environments that canonical bytes name, for whoever has to get them
    /// before the manifest can be checked; and the swarm's id.
    pub fn named_in(bytes: &[u8]) -> Result<(SwarmId, BTreeSet<EnvId>), ManifestError> {
        let manifest = Self::outline(bytes)?;
        // As many as a valid manifest may have.
        let courses = manifest.curriculum.iter().take(MAX_COURSES);
        Ok((manifest.id(), courses.map(|course| course.env).collect()))
    }

    /// Reads canonical bytes without checking the values: for what can be said of
    /// a swarm before its environments are here.
    pub fn outline(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = postcard::from_bytes(bytes).map_err(|_| ManifestError::Canonical)?;
        if manifest.canonical() != bytes {
            return Err(ManifestError::Canonical);
        }
        Ok(manifest)
    }

    /// The bytes that name the swarm: equal manifests, equal bytes.
    pub fn canonical(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a manifest is plain data and a vector takes any length")
    }

    /// The swarm's id: the hash of its canonical bytes.
    pub fn id(&self) -> SwarmId {
        let mut hasher = blake3::Hasher::new_derive_key("murmuration swarm v1");
        hasher.update(&self.canonical());
        SwarmId(*hasher.finalize().as_bytes())
    }

    /// Checks every value against the others, the hard limits and the environments.
    pub fn validate(&self, registry: &Registry) -> Result<(), ManifestError> {
        if self.rules != RULES {
            let why = format!("this program plays by version {RULES}, not {}", self.rules);
            return Err(invalid("rules", why));
        }
        within("name (length)", self.name.len() as u64, 1, 64)?;
        let completions = HARD_COMPLETIONS as u64;
        within("answer.size", self.answer.size.into(), 2, completions)?;
        let items = u64::from(self.answer.own) + u64::from(self.answer.common);
        within("answer.own + answer.common", items, 1, HARD_GROUPS as u64)?;
        let groups = HARD_GROUPS as u64;
        within("critique.groups", self.critique.groups.into(), 0, groups)?;
        within("critique.size", self.critique.size.into(), 1, completions)?;
        within("resolve.groups", self.resolve.groups.into(), 0, items)?;
        within("resolve.size", self.resolve.size.into(), 1, completions)?;
        within("resolve.read", self.resolve.read.into(), 1, 16)?;
        within("training.steps", self.training.steps.into(), 1, 64)?;
        within(
            "limits.peers",
            self.limits.peers.into(),
            1,
            HARD_PEERS as u64,
        )?;
        let body = u64::from(HARD_BODY_BYTES);
        within(
            "limits.body_bytes",
            self.limits.body_bytes.into(),
            1024,
            body,
        )?;
        let text = u64::from(self.limits.completion_bytes);
        within("limits.completion_bytes", text, 16, 65_536)?;
        within("limits.messages", self.limits.messages.into(), 32, 1 << 20)?;
        for (key, groups, size) in [
            ("answer", items, self.answer.size),
            ("critique", self.critique.groups.into(), self.critique.size),
            ("resolve", self.resolve.groups.into(), self.resolve.size),
        ] {
            let most = groups * (u64::from(size) * (text + 4) + 1024);
            if most > u64::from(self.limits.body_bytes) {
                return Err(invalid(
                    "limits.body_bytes",
                    format!("the {key} stage can fill {most} bytes"),
                ));
            }
        }
        for (key, value) in self.stages.named() {
            within(&format!("stages.{key}"), value, 1, 86_400_000)?;
        }
        if let Pace::Clock { length_ms, .. } = self.pace {
            within("pace.clock.length_ms", length_ms, 1_000, 86_400_000)?;
        }
        curriculum::check(&self.curriculum, Some(registry))
    }
}

impl Stages {
    fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("join_ms", self.join_ms),
            ("open_ms", self.open_ms),
            ("answer_ms", self.answer_ms),
            ("critique_ms", self.critique_ms),
            ("reveal_ms", self.reveal_ms),
            ("resolve_ms", self.resolve_ms),
            ("judge_ms", self.judge_ms),
            ("train_ms", self.train_ms),
            ("settle_ms", self.settle_ms),
            ("relay_ms", self.relay_ms),
            ("repeat_ms", self.repeat_ms),
        ]
    }
}

pub(crate) fn within(key: &str, value: u64, low: u64, high: u64) -> Result<(), ManifestError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(invalid(key, format!("must be {low} to {high}, is {value}")))
    }
}

pub(crate) fn invalid(key: &str, why: String) -> ManifestError {
    ManifestError::Invalid {
        key: key.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests;

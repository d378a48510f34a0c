//! What the judge can be told.

use std::collections::BTreeSet;

use tasks::{EnvId, Ppm};

/// The judge's settings. All peers of a swarm must use the same: they are part
/// of what the scoreboard follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeSettings {
    /// Environments whose rewards the critics decide. All others are exact.
    pub judged: BTreeSet<EnvId>,
    /// Items of judged environments, by environment and question, whose truth
    /// the verifier knows and the critics did not know to be known. Revealed
    /// after the critiques are in.
    pub known: BTreeSet<(EnvId, String)>,
    /// Verdicts of each kind that a critique is read as having besides its
    /// own: with 2, `k` of `n` samples saying "right" is the probability
    /// `(k + 2) / (n + 4)`. A few samples are never read as certainty.
    pub prior_verdicts: u32,
    /// Observations at chance that each critic begins with, for right and for
    /// wrong answers: how slowly a weight moves away from zero.
    pub prior_observations: u32,
    /// No weight is more than this many times the median weight.
    pub weight_cap: u32,
    /// How far from the weighted median a verdict share counts, in judged environments.
    pub clip: Ppm,
    /// Critics with a weight that a judged completion needs.
    pub quorum_critics: u32,
    /// Total weight at which a judged reward stands on its own; below, it is
    /// pulled to the group's mean in proportion.
    pub quorum_weight: Ppm,
    /// Characters from which equal texts in judged environments are called copies.
    pub copy_chars: u32,
    /// Completions from which a peer's answers count in full.
    pub full_answers: u32,
    /// Judged answers of known truth from which a peer's critiques count in full.
    pub full_critiques: u32,
    /// Completions from which a peer's resolutions count in full.
    pub full_resolutions: u32,
    /// Whether answers to an item that several owners answered count as a
    /// contribution. They can be copied: so only where there are no others.
    pub shared_answers: bool,
    /// What a contribution is made of.
    pub shares: Shares,
}

/// The shares of a contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Of answers.
    pub answers: Ppm,
    /// Of critiques.
    pub critiques: Ppm,
    /// Of resolutions.
    pub resolutions: Ppm,
}

impl Default for JudgeSettings {
    fn default() -> JudgeSettings {
        JudgeSettings {
            judged: BTreeSet::new(),
            known: BTreeSet::new(),
            prior_verdicts: 2,
            prior_observations: 4,
            weight_cap: 3,
            clip: Ppm(250_000),
            quorum_critics: 2,
            quorum_weight: Ppm(100_000),
            copy_chars: 200,
            full_answers: 16,
            full_critiques: 8,
            full_resolutions: 8,
            shared_answers: false,
            shares: Shares {
                answers: Ppm(500_000),
                critiques: Ppm(300_000),
                resolutions: Ppm(200_000),
            },
        }
    }
}

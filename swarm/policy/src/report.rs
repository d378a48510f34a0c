//! What a GRPO step tells of itself.

use serde::{Deserialize, Serialize};

/// What training on a batch did. Means are over tokens, then over epochs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Groups trained on.
    pub groups: usize,
    /// Groups left out because nobody in them did better than another.
    pub dropped_zero_advantage: usize,
    /// Groups left out because the prompt leaves no room, or nothing was said.
    pub dropped_unusable: usize,
    /// Why the last of those was: its number, and how long it is.
    pub unusable: Option<String>,
    /// Completions trained on.
    pub completions: usize,
    /// Tokens that carried loss.
    pub tokens: usize,
    /// Updates made: the epochs, or fewer if one was skipped.
    pub updates: u32,
    /// Why an update was not made, if one was not.
    pub skipped: Option<String>,
    /// The learning rate of the last update.
    pub learning_rate: f32,
    /// The loss.
    pub loss: f32,
    /// The divergence (k3) from the reference; zero without one.
    pub kl: f32,
    /// Share of tokens that a clip or the cap left alone: zero in a first epoch.
    pub clip_fraction: f32,
    /// Entropy of the distributions that tokens were drawn from, in nats.
    pub entropy: f32,
    /// The gradient's norm before clipping.
    pub grad_norm: f32,
    /// The largest ratio of new to old probability that was met, after the
    /// last update too if effects were measured.
    pub ratio_max: f32,
    /// The divergence (k3) of the new weights from the old ones, if measured.
    pub shift: Option<f32>,
    /// What each group did, in the order they were given.
    pub contributions: Vec<Contribution>,
}

/// What one group did in a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The group's tag.
    pub origin: u64,
    /// Its tokens that carried loss.
    pub tokens: usize,
    /// Its mean reward.
    pub mean_reward: f32,
    /// Its share of the push on log-probabilities before the first update;
    /// shares add up to one.
    pub share: f32,
    /// How far the weights moved its way, if measured: advantage times the
    /// gain in log-probability, per token. Negative when the others won.
    pub effect: Option<f32>,
}

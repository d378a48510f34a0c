//! What GRPO can be told.

use crate::error::{Error, Result};
use crate::grpo::{AdvantageKind, Clip, RatioLevel};
use crate::kernel::Precision;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// Weights from which on a model is slowed by memory and by the arithmetic of
/// its products: those are then in bf16, where that is faster and nothing is
/// said.
pub(crate) const LARGE: u64 = 10_000_000;

/// How to train on a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoSettings {
    /// AdamW's learning rate.
    pub learning_rate: f32,
    /// Updates over which the learning rate climbs, once in a model's life.
    pub warmup: u64,
    /// Updates over which it falls to a tenth, at the end of `total`.
    pub decay: u64,
    /// All updates that are planned; without a plan nothing decays.
    pub total: Option<u64>,
    /// How rewards become advantages.
    pub advantage: AdvantageKind,
    /// Whose probabilities the ratio compares.
    pub ratio: RatioLevel,
    /// How far the ratio may fall before a bad token is left alone.
    pub clip_low: f32,
    /// How far the ratio may rise before a good token is left alone.
    pub clip_high: f32,
    /// The largest ratio that counts against a token of negative advantage.
    pub negative_ratio_cap: f32,
    /// Weight of the divergence from the frozen reference; none by default.
    pub kl: Option<f32>,
    /// The gradient is scaled down to this norm.
    pub max_grad_norm: f32,
    /// Share of a matrix that is taken away per unit of learning rate.
    pub weight_decay: f32,
    /// Updates made on each batch.
    pub epochs: u32,
    /// What factors of matrix products are rounded to on a CPU; when not said,
    /// bf16 for models of ten million weights or more, where the machine
    /// multiplies it faster.
    pub precision: Option<Precision>,
    /// Padded tokens computed at once where autograd does the work (not on a
    /// CPU, whose kernel cuts its own pieces by the memory there is).
    pub minibatch_tokens: usize,
    /// Whether to look at the batch once more after the last update, to report
    /// what it did: a forward pass, about a third of an epoch.
    pub measure_effect: bool,
}

impl Default for GrpoSettings {
    fn default() -> Self {
        Self {
            learning_rate: 2e-4,
            warmup: 0,
            decay: 0,
            total: None,
            advantage: AdvantageKind::Std,
            ratio: RatioLevel::Token,
            clip_low: 0.2,
            clip_high: 0.28,
            negative_ratio_cap: 4.0,
            kl: None,
            max_grad_norm: 1.0,
            weight_decay: 0.0,
            epochs: 1,
            precision: None,
            minibatch_tokens: 4096,
            measure_effect: true,
        }
    }
}

impl GrpoSettings {
    /// Refuses numbers that no training can be done with.
    pub fn check(&self) -> Result<()> {
        let at_least_zero = |value: f32| value.is_finite() && value >= 0.0;
        for (name, value, is_good) in [
            (
                "learning_rate",
                self.learning_rate,
                at_least_zero(self.learning_rate),
            ),
            (
                "clip_low",
                self.clip_low,
                at_least_zero(self.clip_low) && self.clip_low < 1.0,
            ),
            ("clip_high", self.clip_high, at_least_zero(self.clip_high)),
            (
                "negative_ratio_cap",
                self.negative_ratio_cap,
                self.negative_ratio_cap >= 1.0 + self.clip_high,
            ),
            (
                "kl",
                self.kl.unwrap_or(0.0),
                self.kl.is_none_or(at_least_zero),
            ),
            (
                "max_grad_norm",
                self.max_grad_norm,
                self.max_grad_norm > 0.0,
            ),
            (
                "weight_decay",
                self.weight_decay,
                at_least_zero(self.weight_decay),
            ),
            ("epochs", self.epochs as f32, self.epochs > 0),
        ] {
            if !is_good {
                return Err(Error::Input(format!("{name} cannot be {value}")));
            }
        }
        Ok(())
    }

    pub(crate) fn clip(&self) -> Clip {
        Clip {
            low: self.clip_low,
            high: self.clip_high,
            negative_ratio_cap: self.negative_ratio_cap,
        }
    }

    /// What factors are rounded to in a model of so many weights.
    pub fn precision(&self, parameters: u64) -> Precision {
        self.precision.unwrap_or(Precision::usual(parameters))
    }

    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warmup: self.warmup,
            decay: self.decay,
            total: self.total,
            floor: 0.1,
        }
    }
}

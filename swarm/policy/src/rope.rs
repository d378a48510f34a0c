//! Rotary positions: how far each pair of a head's numbers turns per position.

use crate::config::Config;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How the wavelengths of rotary positions are stretched beyond the context
/// that a model was first trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type")]
#[non_exhaustive]
pub enum RopeScaling {
    /// Llama 3.1 and later: long wavelengths by `factor`, short ones not at
    /// all, those between in proportion.
    #[serde(rename = "llama3")]
    Llama3 {
        /// By how much the longest wavelengths grow.
        factor: f64,
        /// Wavelengths above the original context over this are long.
        low_freq_factor: f64,
        /// Those below the original context over this are short.
        high_freq_factor: f64,
        /// The context of the first training, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Reads `rope_scaling` of a `config.json`; `null` and `default` are none.
    pub(crate) fn from_json(json: &Value) -> Result<Option<Self>> {
        if json.is_null() {
            return Ok(None);
        }
        let mut json = json.clone();
        let kind = ["rope_type", "type"]
            .iter()
            .find_map(|key| json.get(key)?.as_str())
            .unwrap_or("default")
            .to_owned();
        match kind.as_str() {
            "default" => Ok(None),
            "llama3" => {
                json["rope_type"] = "llama3".into();
                let scaling = serde_json::from_value(json)
                    .map_err(|error| Error::Config(format!("rope_scaling: {error}")))?;
                Ok(Some(scaling))
            }
            other => Err(Error::Config(format!(
                "rope_scaling of type {other:?} is not supported, expected \"llama3\" or none: \
                 without it the model works up to its original context"
            ))),
        }
    }

    /// Refuses numbers that stretch nothing or divide by zero.
    pub(crate) fn check(&self) -> Result<()> {
        let &Self::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        } = self;
        let sane = factor.is_finite() && factor >= 1.0 && low > 0.0 && high.is_finite();
        if sane && high > low && original > 0 {
            return Ok(());
        }
        Err(Error::Config(format!(
            "rope_scaling has factor {factor}, frequency factors {low} to {high} and an original \
             context of {original}; expected at least 1, 0 < low < high and at least 1"
        )))
    }

    /// A frequency after stretching, rounded to f32 where Hugging Face rounds.
    fn scale(&self, frequency: f32) -> f32 {
        let &Self::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        } = self;
        let original = original as f64;
        let wavelength = std::f32::consts::TAU / frequency;
        if f64::from(wavelength) > original / low {
            return frequency / factor as f32;
        }
        if f64::from(wavelength) < original / high {
            return frequency;
        }
        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
        (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
    }
}

/// Radians per position of each pair of a head's numbers: `[head_dim / 2]`.
pub(crate) fn frequencies(config: &Config) -> Vec<f32> {
    let width = config.head_dim();
    // Rounded to f32 where Hugging Face rounds, so that angles agree with it.
    (0..width)
        .step_by(2)
        .map(|index| 1.0 / config.rope_theta.powf(index as f64 / width as f64) as f32)
        .map(|frequency| match &config.rope_scaling {
            Some(scaling) => scaling.scale(frequency),
            None => frequency,
        })
        .collect()
}

/// Cosines and sines of every angle up to some position, each
/// `[positions, head_dim / 2]`. It grows on demand: a model's context may be a
/// hundred thousand positions, and hardly a batch uses them.
pub(crate) struct Rotary {
    frequencies: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotary {
    /// The angles of a model, of no position yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            frequencies: frequencies(config),
            cosines: Vec::new(),
            sines: Vec::new(),
        }
    }

    /// Makes sure of all positions below `positions`.
    pub(crate) fn reach(&mut self, positions: usize) {
        let half = self.frequencies.len();
        for position in self.cosines.len() / half..positions {
            for frequency in &self.frequencies {
                let angle = position as f32 * frequency;
                self.cosines.push(angle.cos());
                self.sines.push(angle.sin());
            }
        }
    }

    /// Cosines and sines of one position that was reached.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let angles = position * half..(position + 1) * half;
        (&self.cosines[angles.clone()], &self.sines[angles])
    }

    /// All cosines and all sines.
    pub(crate) fn into_tables(self) -> (Vec<f32>, Vec<f32>) {
        (self.cosines, self.sines)
    }
}

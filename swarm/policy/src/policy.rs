//! One model with all that belongs to it: sampling, training, checkpoints.

use crate::batch::{Batch, TrainGroup};
use crate::checkpoint::{self, Files, Rejected};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::report::StepReport;
use crate::sample::{Completion, Request, SampleLimits, sample};
use crate::settings::GrpoSettings;
use crate::tokenizer::Tokenizer;
use crate::train;
use candle_core::{DType, Device, safetensors};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "weights.safetensors";
const REFERENCE: &str = "reference.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// What Hugging Face calls the weights.
const MODEL: &str = "model.safetensors";

/// A language model that samples and learns, in place, on one set of weights.
pub struct Policy {
    decoder: Decoder,
    reference: Option<Decoder>,
    tokenizer: Tokenizer,
    optimizer: Optimizer,
    limits: SampleLimits,
    step: u64,
    /// As they were read, so that a checkpoint holds the same bytes.
    config_json: Vec<u8>,
    tokenizer_json: Vec<u8>,
}

/// A policy as it was saved.
pub struct Resumed {
    /// It continues bit for bit where it stopped.
    pub policy: Policy,
    /// What the caller saved beside it.
    pub extra: serde_json::Value,
    /// The folder it was read from.
    pub path: PathBuf,
    /// Newer checkpoints that were damaged, each with the reason: tell someone.
    pub rejected: Vec<Rejected>,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    step: u64,
    updates: u64,
    extra: serde_json::Value,
}

const FORMAT: u32 = 1;

impl Policy {
    /// A fresh policy from the bytes of a `config.json`, a `tokenizer.json`
    /// and weights in safetensors of any float type.
    pub fn from_parts(
        config_json: &[u8],
        tokenizer_json: &[u8],
        weights: &[u8],
        device: &Device,
    ) -> Result<Self> {
        let config = Config::from_json(config_json)?;
        let tokenizer = Tokenizer::from_bytes(tokenizer_json)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::Tokenizer(format!(
                "it has {} tokens and the model only {}",
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        let decoder = Decoder::from_safetensors(config, weights, device)?;
        Ok(Self {
            optimizer: Optimizer::adamw(decoder.vars())?,
            reference: None,
            tokenizer,
            decoder,
            limits: SampleLimits::default(),
            step: 0,
            config_json: config_json.to_vec(),
            tokenizer_json: tokenizer_json.to_vec(),
        })
    }

    /// A fresh policy from a folder in Hugging Face's layout.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(checkpoint::at(&path))
        };
        Self::from_parts(&read(CONFIG)?, &read(TOKENIZER)?, &read(MODEL)?, device)
    }

    /// The model.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How often [`Policy::train`] has moved the weights.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Bounds what sampling may use from now on.
    pub fn set_sample_limits(&mut self, limits: SampleLimits) {
        self.limits = limits;
    }

    /// A group of completions for each request, in their order.
    pub fn sample(&self, requests: &[Request]) -> Result<Vec<Vec<Completion>>> {
        sample(&self.decoder, &self.tokenizer, requests, &self.limits)
    }

    /// Freezes the weights as they are now, as the reference that
    /// [`GrpoSettings::kl`] stays near. Saved with the policy.
    pub fn freeze_reference(&mut self) -> Result<()> {
        let weights = self.decoder.to_safetensors(DType::F32)?;
        self.reference = Some(self.read_decoder(&weights)?);
        Ok(())
    }

    /// Updates the weights on scored groups. After an error they are as they
    /// were.
    pub fn train(&mut self, groups: &[TrainGroup], settings: &GrpoSettings) -> Result<StepReport> {
        let positions = self.decoder.config().max_position_embeddings;
        let batch = Batch::new(&self.tokenizer, groups, settings.advantage, positions)?;
        let reference = self.reference.as_ref();
        let report = train::train(
            &self.decoder,
            reference,
            &mut self.optimizer,
            &batch,
            settings,
        )?;
        self.step += u64::from(report.updates > 0);
        Ok(report)
    }

    /// The weights as safetensors: f32 is exact, bf16 is half the size.
    pub fn weights(&self, dtype: DType) -> Result<Vec<u8>> {
        self.decoder.to_safetensors(dtype)
    }

    /// BLAKE3 of the weights as f32 safetensors: the same weights have the same
    /// hash on every machine.
    pub fn weights_hash(&self) -> Result<[u8; 32]> {
        Ok(*blake3::hash(&self.weights(DType::F32)?).as_bytes())
    }

    /// Writes a checkpoint into `dir`, durably and atomically, with `extra`
    /// beside it, and keeps the one before. Returns [`Policy::weights_hash`].
    pub fn save(&self, dir: &Path, extra: &serde_json::Value) -> Result<[u8; 32]> {
        let weights = self.weights(DType::F32)?;
        let hash = *blake3::hash(&weights).as_bytes();
        let moments = self.optimizer.tensors(self.decoder.vars())?;
        let moments = ::safetensors::serialize(&moments, None)
            .map_err(|error| Error::Checkpoint(format!("writing the optimizer: {error}")))?;
        let state = State {
            format: FORMAT,
            step: self.step,
            updates: self.optimizer.updates(),
            extra: extra.clone(),
        };
        let state = serde_json::to_vec_pretty(&state)
            .map_err(|error| Error::Checkpoint(format!("writing {STATE}: {error}")))?;
        let mut files = Files::from([
            (CONFIG.to_owned(), self.config_json.clone()),
            (TOKENIZER.to_owned(), self.tokenizer_json.clone()),
            (WEIGHTS.to_owned(), weights),
            (OPTIMIZER.to_owned(), moments),
            (STATE.to_owned(), state),
        ]);
        if let Some(reference) = &self.reference {
            files.insert(REFERENCE.to_owned(), reference.to_safetensors(DType::F32)?);
        }
        checkpoint::save(dir, &files)?;
        Ok(hash)
    }

    /// Whether `dir` holds a checkpoint, whole or damaged.
    pub fn is_saved(dir: &Path) -> bool {
        checkpoint::exists(dir)
    }

    /// The newest whole checkpoint of `dir`.
    pub fn resume(dir: &Path, device: &Device) -> Result<Resumed> {
        let found = checkpoint::load(dir)?;
        let file = |name: &str| {
            found
                .files
                .get(name)
                .ok_or_else(|| Error::Checkpoint(format!("{} has no {name}", found.path.display())))
        };
        let bad = |name: &str, error: &dyn std::fmt::Display| {
            Error::Checkpoint(format!("{}: {error}", found.path.join(name).display()))
        };
        let state: State =
            serde_json::from_slice(file(STATE)?).map_err(|error| bad(STATE, &error))?;
        if state.format != FORMAT {
            return Err(bad(STATE, &format!("format {} is not known", state.format)));
        }
        let mut policy = Self::from_parts(file(CONFIG)?, file(TOKENIZER)?, file(WEIGHTS)?, device)?;
        let moments = safetensors::load_buffer(file(OPTIMIZER)?, &Device::Cpu)
            .map_err(|error| bad(OPTIMIZER, &error))?;
        policy
            .optimizer
            .restore(&moments.into_iter().collect(), state.updates)?;
        policy.step = state.step;
        if let Some(reference) = found.files.get(REFERENCE) {
            policy.reference = Some(policy.read_decoder(reference)?);
        }
        Ok(Resumed {
            policy,
            extra: state.extra,
            path: found.path,
            rejected: found.rejected,
        })
    }

    fn read_decoder(&self, weights: &[u8]) -> Result<Decoder> {
        let config = self.decoder.config().clone();
        Decoder::from_safetensors(config, weights, self.decoder.device())
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Policy")
            .field("config", self.decoder.config())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

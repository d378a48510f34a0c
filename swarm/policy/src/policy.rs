//! One model with all that belongs to it: sampling, training, checkpoints.

use crate::batch::{Batch, TrainGroup};
use crate::checkpoint::{self, Files, Rejected};
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::kernel::Plan;
use crate::lora::{Adapter, LoraSettings, PEFT_CONFIG, PEFT_WEIGHTS};
use crate::memory::{self, Load, Method};
use crate::optimizer::Optimizer;
use crate::pretrained::Texts;
use crate::report::StepReport;
use crate::sample::{Completion, Request, SampleLimits, sample};
use crate::settings::GrpoSettings;
use crate::tokenizer::Tokenizer;
use crate::train::{self, Reference};
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
/// The chat template and its tokens, where they are not ChatML's.
const CHAT: &str = "tokenizer_config.json";
/// What an adapter in a checkpoint calls its base: the weights beside it.
const BASE: &str = ".";
/// What Hugging Face calls the weights, and the model's card.
const MODEL: &str = "model.safetensors";
const CARD: &str = "README.md";

/// A language model that samples and learns, in place, on one set of weights.
pub struct Policy {
    decoder: Decoder,
    reference: Option<Decoder>,
    tokenizer: Tokenizer,
    optimizer: Optimizer,
    limits: SampleLimits,
    /// Bytes that the policy may take in all; what the machine has, if not said.
    memory: Option<u64>,
    step: u64,
    /// As they were read, so that a checkpoint holds the same bytes.
    texts: Texts,
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
    /// that speaks ChatML, and weights in safetensors of any float type. What
    /// others published is read by [`crate::Pretrained`].
    pub fn from_parts(
        config_json: &[u8],
        tokenizer_json: &[u8],
        weights: &[u8],
        device: &Device,
    ) -> Result<Self> {
        let texts = Texts {
            config: config_json.to_vec(),
            tokenizer: tokenizer_json.to_vec(),
            chat: None,
        };
        Self::from_texts(texts, weights, device)
    }

    fn from_texts(texts: Texts, weights: &[u8], device: &Device) -> Result<Self> {
        let (config, tokenizer) = texts.read()?;
        let decoder = Decoder::from_safetensors(config, weights, device)?;
        Self::new(texts, tokenizer, decoder)
    }

    /// A fresh policy of parts that belong together.
    pub(crate) fn new(texts: Texts, tokenizer: Tokenizer, decoder: Decoder) -> Result<Self> {
        Ok(Self {
            optimizer: Optimizer::adamw(),
            reference: None,
            tokenizer,
            decoder,
            limits: SampleLimits::default(),
            memory: None,
            step: 0,
            texts,
        })
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

    /// Bounds the bytes that the policy takes while it trains; without a bound
    /// it is what the machine has to spare.
    pub fn set_memory(&mut self, bytes: Option<u64>) {
        self.memory = bytes;
    }

    /// Moves all that training works on to `device`, where it continues.
    ///
    /// # Errors
    /// The device has no room.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        if self.decoder.device().same_device(device) {
            return Ok(());
        }
        let decoder = self.decoder.on(device)?;
        let reference = self.reference.as_ref().map(|decoder| decoder.on(device));
        let mut moments = self.optimizer.tensors(self.decoder.trained())?;
        // There the weights themselves are exact.
        for (name, var) in decoder.trained() {
            if let Some(master) = moments.remove(&format!("master.{name}")) {
                var.set(&master.to_device(device)?)?;
            }
        }
        let mut optimizer = Optimizer::adamw();
        optimizer.restore(decoder.trained(), &moments, self.optimizer.updates())?;
        self.reference = reference.transpose()?;
        (self.decoder, self.optimizer) = (decoder, optimizer);
        Ok(())
    }

    /// From now on trains an adapter (LoRA) in place of the weights, which stay
    /// as they are. A fresh one changes nothing yet; it depends on `seed` alone.
    ///
    /// # Errors
    /// Settings that don't fit the model.
    pub fn add_adapter(&mut self, settings: LoraSettings, seed: u64) -> Result<()> {
        let (config, device) = (self.decoder.config(), self.decoder.device());
        let adapter = Adapter::new(config, settings, seed, device)?;
        self.take_adapter(adapter)
    }

    /// Takes up an adapter that `peft` or [`Policy::export_adapter`] wrote into
    /// `dir`, to sample with it and to train it further.
    ///
    /// # Errors
    /// A file can't be read, or is not an adapter of this model.
    pub fn import_adapter(&mut self, dir: &Path) -> Result<()> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(checkpoint::at(&path))
        };
        let (weights, peft) = (read(PEFT_WEIGHTS)?, read(PEFT_CONFIG)?);
        let (config, device) = (self.decoder.config(), self.decoder.device());
        let adapter = Adapter::from_peft(config, &weights, &peft, device)?;
        self.take_adapter(adapter)
    }

    /// Writes the adapter into `dir` as `peft` reads it; `base` is what the
    /// model is called there.
    ///
    /// # Errors
    /// There is no adapter, or the folder can't be written.
    pub fn export_adapter(&self, dir: &Path, base: &str) -> Result<()> {
        let Some(adapter) = self.decoder.adapter() else {
            return Err(Error::Input(
                "this policy has no adapter: all of its weights are trained".into(),
            ));
        };
        let (weights, peft) = adapter.to_peft(base)?;
        fs::create_dir_all(dir).map_err(checkpoint::at(dir))?;
        for (name, bytes) in [(PEFT_WEIGHTS, weights), (PEFT_CONFIG, peft)] {
            let path = dir.join(name);
            fs::write(&path, bytes).map_err(checkpoint::at(&path))?;
        }
        Ok(())
    }

    fn take_adapter(&mut self, adapter: Adapter) -> Result<()> {
        self.decoder = self.decoder.with_adapter(Some(adapter))?;
        self.optimizer = Optimizer::adamw();
        Ok(())
    }

    /// A group of completions for each request, in their order.
    pub fn sample(&self, requests: &[Request]) -> Result<Vec<Vec<Completion>>> {
        sample(&self.decoder, &self.tokenizer, requests, &self.limits)
    }

    /// Freezes the weights as they are now, as the reference that
    /// [`GrpoSettings::kl`] stays near. Saved with the policy.
    pub fn freeze_reference(&mut self) -> Result<()> {
        let bare = self.decoder.with_adapter(None)?;
        self.reference = Some(bare.kept_in(self.decoder.dtype())?);
        Ok(())
    }

    /// Updates the weights, or the adapter, on scored groups. After an error
    /// they are as they were.
    ///
    /// # Errors
    /// Settings or groups that no training can be done with, or more than fits
    /// into memory.
    pub fn train(&mut self, groups: &[TrainGroup], settings: &GrpoSettings) -> Result<StepReport> {
        settings.check()?;
        let positions = self.decoder.config().max_position_embeddings;
        let batch = Batch::new(&self.tokenizer, groups, settings.advantage, positions)?;
        let reference = match (&self.reference, self.decoder.adapter()) {
            (Some(reference), _) => Reference::Frozen(reference),
            (None, Some(_)) => Reference::Bare,
            (None, None) => Reference::None,
        };
        let plan = self.plan(&batch, settings)?;
        let report = train::train(
            &self.decoder,
            reference,
            &mut self.optimizer,
            &batch,
            settings,
            &plan,
        )?;
        self.step += u64::from(report.updates > 0);
        Ok(report)
    }

    /// How the kernel computes a step on `batch` within the memory there is.
    fn plan(&self, batch: &Batch, settings: &GrpoSettings) -> Result<Plan> {
        let config = self.decoder.config();
        let precision = settings.precision(config.parameters());
        let method = match self.decoder.adapter() {
            Some(adapter) => Method::Lora(adapter.settings()),
            None => Method::Full,
        };
        let lengths = || batch.sequences.iter().map(|sequence| sequence.tokens.len());
        let load = Load {
            threads: rayon::current_num_threads(),
            longest: lengths().max().unwrap_or(0),
            tokens: lengths().sum(),
            has_reference: self.reference.is_some(),
            kept_in: self.decoder.dtype(),
        };
        let held = || {
            let usage = memory::usage(config, method, &Plan::default(), &load);
            usage.weights
                + if self.optimizer.has_moments() {
                    usage.moments
                } else {
                    0
                }
        };
        let budget = match (self.memory, memory::available()) {
            (Some(bytes), _) => bytes,
            // A tenth is left to others.
            (None, Some(spare)) => held() + spare / 10 * 9,
            (None, None) => u64::MAX,
        };
        if !self.decoder.device().is_cpu() {
            return Ok(Plan::default());
        }
        memory::plan(config, method, precision, &load, budget)
    }

    /// The weights as safetensors: f32 is exact, bf16 is half the size.
    pub fn weights(&self, dtype: DType) -> Result<Vec<u8>> {
        self.decoder.to_safetensors(dtype)
    }

    /// Writes the model into a new folder, in the layout others read: weights
    /// as `dtype`, configuration, tokenizer, chat template, and a model card
    /// with the licence if one is known. The folder appears whole or not at all.
    ///
    /// # Errors
    /// The folder can't be written, or is there already.
    pub fn export(&self, folder: &Path, dtype: DType, licence: Option<&str>) -> Result<()> {
        let mut files = Files::from([
            (CONFIG.to_owned(), self.texts.config.clone()),
            (TOKENIZER.to_owned(), self.texts.tokenizer.clone()),
            (MODEL.to_owned(), self.weights(dtype)?),
        ]);
        if let Some(chat) = self.texts.chat_json()? {
            files.insert(CHAT.to_owned(), chat);
        }
        if let Some(licence) = licence {
            let card = format!("---\nlicense: {licence}\n---\n");
            files.insert(CARD.to_owned(), card.into_bytes());
        }
        checkpoint::write_folder(folder, &files)
    }

    /// BLAKE3 of what is trained as safetensors, be it the weights as they are
    /// kept or the adapter: the same numbers have the same hash on every machine.
    pub fn weights_hash(&self) -> Result<[u8; 32]> {
        let bytes = match self.decoder.adapter() {
            Some(adapter) => adapter.to_peft(BASE)?.0,
            None => self.decoder.to_safetensors_as_kept()?,
        };
        Ok(*blake3::hash(&bytes).as_bytes())
    }

    /// Writes a checkpoint into `dir`, durably and atomically, with `extra`
    /// beside it, and keeps the one before. Returns [`Policy::weights_hash`].
    pub fn save(&self, dir: &Path, extra: &serde_json::Value) -> Result<[u8; 32]> {
        let weights = self.decoder.to_safetensors_as_kept()?;
        let moments = self.optimizer.tensors(self.decoder.trained())?;
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
            (CONFIG.to_owned(), self.texts.config.clone()),
            (TOKENIZER.to_owned(), self.texts.tokenizer.clone()),
            (WEIGHTS.to_owned(), weights),
            (OPTIMIZER.to_owned(), moments),
            (STATE.to_owned(), state),
        ]);
        let hash = match self.decoder.adapter() {
            Some(adapter) => {
                let (weights, peft) = adapter.to_peft(BASE)?;
                let hash = *blake3::hash(&weights).as_bytes();
                files.insert(PEFT_WEIGHTS.to_owned(), weights);
                files.insert(PEFT_CONFIG.to_owned(), peft);
                hash
            }
            None => *blake3::hash(&files[WEIGHTS]).as_bytes(),
        };
        if let Some(chat) = self.texts.chat_json()? {
            files.insert(CHAT.to_owned(), chat);
        }
        if let Some(reference) = &self.reference {
            files.insert(REFERENCE.to_owned(), reference.to_safetensors_as_kept()?);
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
        let chat = match found.files.get(CHAT) {
            None => None,
            Some(bytes) => serde_json::from_slice(bytes).map_err(|error| bad(CHAT, &error))?,
        };
        let texts = Texts {
            config: file(CONFIG)?.clone(),
            tokenizer: file(TOKENIZER)?.clone(),
            chat,
        };
        let mut policy = Self::from_texts(texts, file(WEIGHTS)?, device)?;
        if let Some(weights) = found.files.get(PEFT_WEIGHTS) {
            let (config, peft) = (policy.decoder.config(), file(PEFT_CONFIG)?);
            let adapter = Adapter::from_peft(config, weights, peft, device)
                .map_err(|error| bad(PEFT_WEIGHTS, &error))?;
            policy.take_adapter(adapter)?;
        }
        let moments = safetensors::load_buffer(file(OPTIMIZER)?, &Device::Cpu)
            .map_err(|error| bad(OPTIMIZER, &error))?;
        let moments = moments.into_iter().collect();
        policy
            .optimizer
            .restore(policy.decoder.trained(), &moments, state.updates)?;
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

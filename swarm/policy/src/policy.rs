//! One model with all that belongs to it: sampling, training, checkpoints.

use crate::batch::{Batch, TrainGroup, room};
use crate::checkpoint::{self, Content, Files, Rejected, content};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::kernel::Plan;
use crate::lora::{Adapter, LoraSettings, PEFT_CONFIG, PEFT_WEIGHTS};
use crate::memory::{self, Load, Method};
use crate::optimizer::Optimizer;
use crate::pretrained::{Ends, GENERATION, Pretrained, Safetensors, Texts};
use crate::report::StepReport;
use crate::sample::{Completion, Request, SampleLimits, sample};
use crate::settings::GrpoSettings;
use crate::tokenizer::{ChatMessage, Tokenizer};
use crate::train::{self, Reference};
use crate::weights::{Lying, write_tensors};
use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "weights.safetensors";
const REFERENCE: &str = "reference.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// The chat template and its tokens, where they are not ChatML's.
const CHAT: &str = "tokenizer_config.json";
/// What an adapter in a checkpoint calls its base: the weights beside it.
const BESIDE: &str = ".";
/// Where an adapter's base is, if that is not beside it.
const BASE: &str = "base.json";
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
    /// Where the weights were read, for as long as they are what was read.
    origin: Option<PathBuf>,
    /// The same, of the weights that an adapter belongs to.
    base: Option<Base>,
}

/// `base.json`: what an adapter belongs to, so that no checkpoint repeats it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    /// What it is called: its name on the hub, or its folder's or file's.
    #[serde(default)]
    model: String,
    /// Its [`Pretrained::fingerprint`], which it has wherever it lies.
    blake3: String,
    /// Where it lay, for the next start to look first: a folder or a file that
    /// [`Pretrained::open`] reads.
    path: PathBuf,
}

impl Base {
    fn at(path: &Path) -> Result<Self> {
        let found = Pretrained::open(path)?.fingerprint()?;
        Ok(Self {
            model: name_of(path),
            blake3: blake3::Hash::from(found).to_hex().to_string(),
            path: path.to_owned(),
        })
    }

    /// The policy of it, and where it lies now: where somebody says, or where it
    /// lay.
    ///
    /// # Errors
    /// It is gone, or another is in its place.
    fn load(mut self, said: Option<&Path>, device: &Device) -> Result<(Self, Policy)> {
        let (mut refusals, was) = (Vec::new(), self.path.clone());
        for path in said.into_iter().chain([was.as_path()]) {
            let found = Pretrained::open(path).and_then(|opened| {
                let found = opened.fingerprint()?;
                Ok((opened, blake3::Hash::from(found).to_hex()))
            });
            match found {
                Ok((opened, found)) if found.as_str() == self.blake3 => {
                    let policy = opened.load(device)?;
                    self.path = std::path::absolute(path).map_err(checkpoint::at(path))?;
                    return Ok((self, policy));
                }
                Ok(_) => refusals.push(format!(
                    "the files of {} are not those it was trained on",
                    path.display()
                )),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        Err(Error::Checkpoint(format!(
            "it is an adapter of {}, blake3 {}, which is not to be found ({}): put it back, or say \
             where it is now",
            match self.model.is_empty() {
                true => was.display().to_string(),
                false => self.model,
            },
            self.blake3,
            refusals.join("; ")
        )))
    }
}

/// What a model at `path` is called: in the hub's cache by its name there.
fn name_of(path: &Path) -> String {
    let part = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let above = path.ancestors().nth(2).and_then(part);
    match above
        .as_deref()
        .and_then(|name| name.strip_prefix("models--"))
    {
        Some(name) => name.replacen("--", "/", 1),
        None => part(path).unwrap_or_default(),
    }
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
            ends: Ends::default(),
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
            origin: None,
            base: None,
        })
    }

    /// Remembers where the weights were read.
    pub(crate) fn came_from(mut self, path: &Path) -> Self {
        self.origin = std::path::absolute(path).ok();
        self
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

    /// Bounds the bytes that the policy takes: training recomputes more, and
    /// sampling draws fewer rows at once. Without a bound training takes what
    /// the machine has to spare, and sampling what its limits say.
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
        if self.base.is_none() {
            self.base = self.origin.as_deref().map(Base::at).transpose()?;
        }
        self.decoder = self.decoder.with_adapter(Some(adapter))?;
        self.optimizer = Optimizer::adamw();
        Ok(())
    }

    /// How many tokens may follow a prompt.
    ///
    /// # Errors
    /// None: says how long the prompt and the model's context are. Its template
    /// refuses the conversation.
    pub fn room(&self, messages: &[ChatMessage]) -> Result<usize> {
        let prompt = self.tokenizer.prompt(messages)?.len();
        room(prompt, self.decoder.config().max_position_embeddings)
    }

    /// A group of completions for each request, in their order; an empty one
    /// where the prompt leaves none [`Policy::room`].
    pub fn sample(&self, requests: &[Request]) -> Result<Vec<Vec<Completion>>> {
        self.sample_until(None, requests)
    }

    /// The same, by a time: groups that are not whole by then are empty.
    pub fn sample_until(
        &self,
        until: Option<Instant>,
        requests: &[Request],
    ) -> Result<Vec<Vec<Completion>>> {
        let mut limits = self.limits.clone();
        limits.until = until.or(limits.until);
        if let Some(budget) = self.memory {
            let (config, load) = (self.decoder.config(), self.load(1, 1));
            let room = memory::cache_room(config, self.method(), &load, budget);
            limits.cache = limits.cache.min(room);
        }
        sample(&self.decoder, &self.tokenizer, requests, &limits)
    }

    /// Freezes the weights as they are now, as the reference that
    /// [`GrpoSettings::kl`] stays near. Saved with the policy.
    pub fn freeze_reference(&mut self) -> Result<()> {
        let bare = self.decoder.with_adapter(None)?;
        self.reference = Some(bare.kept_in(self.decoder.dtype())?);
        Ok(())
    }

    /// Whether there is one.
    pub fn has_reference(&self) -> bool {
        self.reference.is_some()
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
        if report.updates > 0 {
            self.step += 1;
            if self.decoder.adapter().is_none() {
                self.origin = None;
            }
        }
        Ok(report)
    }

    /// What is trained.
    fn method(&self) -> Method<'_> {
        match self.decoder.adapter() {
            Some(adapter) => Method::Lora(adapter.settings()),
            None => Method::Full,
        }
    }

    /// A batch of so many tokens, as training it here asks of memory.
    fn load(&self, longest: usize, tokens: usize) -> Load {
        Load {
            threads: rayon::current_num_threads(),
            longest,
            tokens,
            has_reference: self.reference.is_some(),
            kept_in: self.decoder.dtype(),
        }
    }

    /// How the kernel computes a step on `batch` within the memory there is.
    fn plan(&self, batch: &Batch, settings: &GrpoSettings) -> Result<Plan> {
        let config = self.decoder.config();
        let precision = settings.precision(config.parameters());
        let method = self.method();
        let lengths = || batch.sequences.iter().map(|sequence| sequence.tokens.len());
        let load = self.load(lengths().max().unwrap_or(0), lengths().sum());
        let held = || {
            let usage = memory::usage(config, method, &Plan::default(), &load);
            usage.weights
                + if self.optimizer.has_moments() {
                    usage.moments
                } else {
                    0
                }
        };
        let budget = match (self.memory, memory::spare()) {
            (Some(bytes), _) => bytes,
            (None, Some(spare)) => held() + spare,
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
        let mut files = self.text_files()?;
        files.insert(MODEL.to_owned(), weights(&self.decoder, Some(dtype)));
        if let Some(licence) = licence {
            let card = format!("---\nlicense: {licence}\n---\n");
            files.insert(CARD.to_owned(), content(card));
        }
        checkpoint::write_folder(folder, &files)
    }

    /// What goes with the weights.
    fn text_files(&self) -> Result<Files<'static>> {
        let mut files = Files::from([
            (CONFIG.to_owned(), content(self.texts.config.as_slice())),
            (
                TOKENIZER.to_owned(),
                content(self.texts.tokenizer.as_slice()),
            ),
        ]);
        if let Some(chat) = self.texts.chat_json()? {
            files.insert(CHAT.to_owned(), content(chat));
        }
        if let Some(ends) = self.texts.ends_json()? {
            files.insert(GENERATION.to_owned(), content(ends));
        }
        Ok(files)
    }

    /// BLAKE3 of what is trained as safetensors, be it the weights as they are
    /// kept or the adapter: the same numbers have the same hash on every machine.
    pub fn weights_hash(&self) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        match self.decoder.adapter() {
            Some(adapter) => {
                hasher.update(&adapter.to_peft(BESIDE)?.0);
            }
            None => self
                .decoder
                .write_safetensors(None, &mut hasher)
                .map_err(|error| Error::Weights(error.to_string()))?,
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Writes a checkpoint into `dir`, durably and atomically, with `extra`
    /// beside it, and keeps the one before. Returns [`Policy::weights_hash`].
    ///
    /// Of an adapter's base, a checkpoint holds where it is and its hash, unless
    /// it came from no file.
    pub fn save(&self, dir: &Path, extra: &serde_json::Value) -> Result<[u8; 32]> {
        let unwritten =
            |name: &str, error: &dyn Display| Error::Checkpoint(format!("writing {name}: {error}"));
        let moments = self.optimizer.lying(self.decoder.trained())?;
        let state = State {
            format: FORMAT,
            step: self.step,
            updates: self.optimizer.updates(),
            extra: extra.clone(),
        };
        let state = serde_json::to_vec_pretty(&state).map_err(|error| unwritten(STATE, &error))?;
        let mut files = Files::from([
            (STATE.to_owned(), content(state)),
            (OPTIMIZER.to_owned(), numbers(&moments)),
        ]);
        match &self.base {
            Some(base) => {
                let base =
                    serde_json::to_vec_pretty(base).map_err(|error| unwritten(BASE, &error))?;
                files.insert(BASE.to_owned(), content(base));
            }
            None => {
                files.extend(self.text_files()?);
                files.insert(WEIGHTS.to_owned(), weights(&self.decoder, None));
            }
        }
        if let Some(adapter) = self.decoder.adapter() {
            let base = self.base.as_ref().map(|base| base.path.to_string_lossy());
            let (weights, peft) = adapter.to_peft(base.as_deref().unwrap_or(BESIDE))?;
            files.insert(PEFT_WEIGHTS.to_owned(), content(weights));
            files.insert(PEFT_CONFIG.to_owned(), content(peft));
        }
        if let Some(reference) = &self.reference {
            files.insert(REFERENCE.to_owned(), weights(reference, None));
        }
        let hashes = checkpoint::save(dir, &files)?;
        let trained = match self.decoder.adapter() {
            Some(_) => PEFT_WEIGHTS,
            None => WEIGHTS,
        };
        Ok(*hashes[trained].as_bytes())
    }

    /// Whether `dir` holds a checkpoint, whole or damaged.
    pub fn is_saved(dir: &Path) -> bool {
        checkpoint::exists(dir)
    }

    /// The newest whole checkpoint of `dir`.
    pub fn resume(dir: &Path, device: &Device) -> Result<Resumed> {
        Self::resume_on(dir, None, device)
    }

    /// The same, where `said` is where the base of an adapter is now, if it is an
    /// adapter and its base may have moved. Any other model there is passed over.
    pub fn resume_on(dir: &Path, said: Option<&Path>, device: &Device) -> Result<Resumed> {
        let found = checkpoint::load(dir)?;
        let place = found.path.display();
        let file = |name: &str| {
            found
                .read(name)?
                .ok_or_else(|| Error::Checkpoint(format!("{place} has no {name}")))
        };
        let bad = |name: &str, error: &dyn Display| {
            Error::Checkpoint(format!("{}: {error}", found.path.join(name).display()))
        };
        let state: State =
            serde_json::from_slice(&file(STATE)?).map_err(|error| bad(STATE, &error))?;
        if state.format != FORMAT {
            return Err(bad(STATE, &format!("format {} is not known", state.format)));
        }
        let mut policy = match found.read(BASE)? {
            Some(json) => {
                let base: Base =
                    serde_json::from_slice(&json).map_err(|error| bad(BASE, &error))?;
                let (base, policy) = base.load(said, device).map_err(|error| bad(BASE, &error))?;
                Self {
                    base: Some(base),
                    ..policy
                }
            }
            None => {
                let chat = found.read(CHAT)?;
                let chat = chat.map(|json| serde_json::from_slice(&json));
                let ends = found.read(GENERATION)?;
                let ends = ends.map(|json| serde_json::from_slice(&json));
                let texts = Texts {
                    config: file(CONFIG)?,
                    tokenizer: file(TOKENIZER)?,
                    chat: chat.transpose().map_err(|error| bad(CHAT, &error))?,
                    ends: ends
                        .transpose()
                        .map_err(|error| bad(GENERATION, &error))?
                        .unwrap_or_default(),
                };
                let (config, tokenizer) = texts.read()?;
                let decoder = read_decoder(config, found.path.join(WEIGHTS), device)?;
                Self::new(texts, tokenizer, decoder)?
            }
        };
        if let Some(weights) = found.read(PEFT_WEIGHTS)? {
            let config = policy.decoder.config();
            let adapter = Adapter::from_peft(config, &weights, &file(PEFT_CONFIG)?, device)
                .map_err(|error| bad(PEFT_WEIGHTS, &error))?;
            policy.take_adapter(adapter)?;
        }
        let mut moments = Safetensors::of_file(found.path.join(OPTIMIZER))?;
        let trained = policy.decoder.trained();
        policy
            .optimizer
            .read(trained, &mut moments, state.updates)
            .map_err(|error| bad(OPTIMIZER, &error))?;
        policy.step = state.step;
        if let Some(path) = found.file(REFERENCE) {
            let config = policy.decoder.config().clone();
            policy.reference = Some(read_decoder(config, path, device)?);
        }
        Ok(Resumed {
            policy,
            extra: state.extra,
            path: found.path,
            rejected: found.rejected,
        })
    }
}

fn read_decoder(config: Config, path: PathBuf, device: &Device) -> Result<Decoder> {
    Decoder::from_tensors(config, &mut Safetensors::of_file(path)?, device)
}

/// A file of a model's weights.
fn weights(decoder: &Decoder, dtype: Option<DType>) -> Content<'_> {
    Box::new(move |file| decoder.write_safetensors(dtype, file))
}

/// A file of numbers, written from where they lie.
fn numbers<'a>(numbers: &'a [(String, Lying<'a>)]) -> Content<'a> {
    Box::new(move |file| {
        let named = numbers.iter().map(|(name, lying)| (name.as_str(), *lying));
        write_tensors(named, None, file)
    })
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

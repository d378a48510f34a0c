//! What a peer trains and how: all of its weights, or an adapter beside them, as
//! its share of the memory allows, with GRPO's settings as its owner wants them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use policy::kernel::{Plan, Precision};
use policy::memory::{self, Load, Method};
use policy::{Config, DType, GrpoSettings, LoraSettings, Policy};

use crate::model;

/// How much may be trained.
#[derive(Debug, Clone, Default, Args)]
pub struct TrainingArgs {
    /// Train an adapter (LoRA) of this rank, or 0 for all weights [default: all
    /// weights, or rank 16 where those don't fit into memory]
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub lora_rank: Option<u16>,
    /// Memory for training, all peers of this process together
    /// [default: what the machine has to spare]
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    pub memory: Option<u64>,
    /// Begin with the adapter in this folder, as PEFT writes them
    /// (`adapter_config.json`), and train it further
    #[arg(long, value_name = "DIR", conflicts_with = "lora_rank")]
    pub adapter: Option<PathBuf>,
    /// Settings of GRPO from this TOML file, such as `learning_rate = 1e-5`;
    /// `murmur model grpo` prints all of them. What it leaves out stays usual
    #[arg(long, value_name = "FILE")]
    pub grpo: Option<PathBuf>,
}

fn gigabytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * 1e9) as u64),
        _ => Err("expected gigabytes, such as 7.5".to_owned()),
    }
}

/// What `murmur model grpo` prints: every setting as it usually is.
pub const SETTINGS: &str = include_str!("../../assets/grpo.toml");

/// Tokens of a round's batch, and of its longest sequence: what is planned with
/// before there is one.
const BATCH: usize = 4096;
pub(crate) const LONGEST: usize = 512;

/// A batch as rounds make them, with sequences of at most `longest` tokens, for
/// a model whose matrices are `kept_in` this type.
pub(crate) fn load(config: &Config, kept_in: DType, longest: usize) -> Load {
    Load {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        longest: longest.min(config.max_position_embeddings),
        tokens: BATCH.max(longest),
        has_reference: false,
        kept_in,
    }
}

/// The fastest way to train `config` on such a batch within `budget` bytes.
///
/// # Errors
/// There is none; says what the leanest takes.
pub(crate) fn plan(
    config: &Config,
    method: Method<'_>,
    load: &Load,
    budget: u64,
) -> policy::Result<Plan> {
    memory::plan(config, method, precision(config), load, budget)
}

/// The least that training `config` on such a batch takes, in bytes.
pub(crate) fn leanest(config: &Config, method: Method<'_>, load: &Load) -> u64 {
    memory::leanest(config, method, precision(config), load)
}

fn precision(config: &Config) -> Precision {
    GrpoSettings::default().precision(config.parameters())
}

/// What is to be trained, and why if nobody asked for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The adapter; `None` for all weights.
    pub lora: Option<LoraSettings>,
    /// What to tell the user.
    pub notice: Option<String>,
}

impl TrainingArgs {
    /// Bytes for each of `peers`; call it before any of them has a model.
    pub fn share(&self, peers: u16) -> Option<u64> {
        self.memory
            .or_else(memory::spare)
            .map(|bytes| bytes / u64::from(peers.max(1)))
    }

    /// What of a model is trained within `share` bytes.
    ///
    /// # Errors
    /// What was asked for can't fit.
    pub fn choose(&self, config: &Config, kept_in: DType, share: Option<u64>) -> Result<Choice> {
        let budget = share.unwrap_or(u64::MAX);
        let load = load(config, kept_in, LONGEST);
        let fits = |method| plan(config, method, &load, budget);
        let lora = match self.lora_rank {
            Some(0) => None,
            Some(rank) => Some(LoraSettings::with_rank(rank.into())),
            None if fits(Method::Full).is_ok() => None,
            None => Some(LoraSettings::default()),
        };
        fits(lora.as_ref().map_or(Method::Full, Method::Lora))
            .context("this model can't be trained here")?;
        let unasked = lora.as_ref().filter(|_| self.lora_rank.is_none());
        let notice = unasked.map(|lora| {
            format!(
                "all {} million weights don't fit into {} a peer: training {}",
                config.parameters() / 1_000_000,
                memory::shown(budget),
                Method::Lora(lora),
            )
        });
        Ok(Choice { lora, notice })
    }

    /// How `policy` is trained: as the user's file says, and else as is usual for
    /// a model of its size. What keeps near a reference gets one, which is the
    /// policy as it is now unless a checkpoint brought it.
    ///
    /// # Errors
    /// The file can't be read, or says what no training can be done with; it
    /// names the key.
    pub fn settings(&self, policy: &mut Policy) -> Result<GrpoSettings> {
        let usual = usual(policy);
        let Some(path) = &self.grpo else {
            return Ok(usual);
        };
        let settings = read(path, usual)?;
        if settings.kl.is_some() && policy.decoder().adapter().is_none() && !policy.has_reference()
        {
            policy.freeze_reference().context("keeping a reference")?;
        }
        Ok(settings)
    }

    /// Refuses what would be killed halfway, before anything is read.
    ///
    /// # Errors
    /// Says what is needed, what is there, and what would fit.
    pub fn check(&self, config: &Config, kept_in: DType, peers: u16) -> Result<()> {
        let chosen = |peers| self.choose(config, kept_in, self.share(peers)).map(|_| ());
        chosen(peers).map_err(
            |error| match (1..peers).rev().find(|&fewer| chosen(fewer).is_ok()) {
                None => error,
                Some(fewer) => error.context(format!(
                    "{peers} peers don't fit into memory, --peers {fewer} would"
                )),
            },
        )
    }

    /// Gives `policy` the adapter that was asked for, or one that it needs to
    /// fit into `share`; one that was resumed keeps its own. Says what was
    /// chosen if nobody asked for it.
    ///
    /// # Errors
    /// What was asked for contradicts a checkpoint, or can't fit.
    pub fn apply(
        &self,
        policy: &mut Policy,
        share: Option<u64>,
        seed: u64,
    ) -> Result<Option<String>> {
        policy.set_memory(self.memory.and(share));
        let begun = policy.step() > 0;
        if let Some(folder) = &self.adapter {
            if begun {
                bail!(
                    "this peer has trained already: leave --adapter out, or start from another \
                     --home"
                );
            }
            let imported = policy.import_adapter(folder);
            imported.with_context(|| format!("--adapter {}", folder.display()))?;
        }
        if let Some(adapter) = policy.decoder().adapter() {
            return match self.lora_rank {
                Some(rank) if usize::from(rank) != adapter.rank() => bail!(
                    "this peer's checkpoint trains an adapter of rank {}, not {rank}: leave \
                     --lora-rank out, or start from another --home",
                    adapter.rank()
                ),
                _ => Ok(None),
            };
        }
        if begun && self.lora_rank.is_some_and(|rank| rank > 0) {
            bail!(
                "this peer's checkpoint trains all weights: leave --lora-rank out, or start from \
                 another --home"
            );
        }
        let asked = Self {
            // What was begun with all weights goes on with them.
            lora_rank: if begun { Some(0) } else { self.lora_rank },
            ..self.clone()
        };
        let decoder = policy.decoder();
        let Choice { lora, notice } = asked.choose(decoder.config(), decoder.dtype(), share)?;
        if let Some(settings) = lora {
            policy.add_adapter(settings, seed).context("--lora-rank")?;
        }
        Ok(notice)
    }
}

/// How a model of this size is trained in rounds, unless its owner says otherwise.
pub(crate) fn usual(policy: &Policy) -> GrpoSettings {
    GrpoSettings {
        learning_rate: model::learning_rate(policy),
        measure_effect: false,
        ..Default::default()
    }
}

/// `usual` with what a file says in place of it.
fn read(path: &Path, usual: GrpoSettings) -> Result<GrpoSettings> {
    let named = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let said: toml::Table = toml::from_str(&text).with_context(named)?;
    if said.contains_key("epochs") {
        bail!(
            "{}: epochs is the swarm's to say, as [training] steps of its manifest",
            path.display()
        );
    }
    let mut table = toml::Table::try_from(usual).context("writing the usual settings")?;
    table.extend(said);
    let settings: GrpoSettings = table.try_into().with_context(named)?;
    settings.check().with_context(named)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Policy {
        crate::base::load().unwrap()
    }

    #[test]
    fn what_fits_is_trained_whole_and_the_rest_by_adapter() {
        let mut policy = base();
        let args = TrainingArgs::default();
        assert!(args.apply(&mut policy, Some(1 << 30), 1).unwrap().is_none());
        assert!(policy.decoder().adapter().is_none());

        // Not even an adapter fits into nothing.
        let error = args.apply(&mut policy, Some(1 << 20), 1).unwrap_err();
        let message = format!("{error:#}");
        assert!(message.contains("LoRA of rank 16 takes"), "{message}");
        assert!(message.contains("there are 1 MB"), "{message}");

        let asked = TrainingArgs {
            lora_rank: Some(4),
            ..TrainingArgs::default()
        };
        assert!(asked.apply(&mut policy, None, 1).unwrap().is_none());
        assert_eq!(policy.decoder().adapter().unwrap().rank(), 4);
        let other = TrainingArgs {
            lora_rank: Some(8),
            ..TrainingArgs::default()
        };
        let error = other.apply(&mut policy, None, 1).unwrap_err().to_string();
        assert!(error.contains("adapter of rank 4, not 8"), "{error}");
    }

    #[test]
    fn more_peers_than_fit_are_refused_with_how_many_would() {
        let policy = base();
        let config = policy.decoder().config();
        let lean = load(config, DType::F32, LONGEST);
        let recompute = Plan {
            recompute: true,
            bf16_gradients: true,
            ..Plan::default()
        };
        let one = memory::usage(config, Method::Full, &recompute, &lean).total();
        let args = TrainingArgs {
            memory: Some(3 * one),
            ..TrainingArgs::default()
        };
        assert!(args.check(config, DType::F32, 1).is_ok());
        let message = format!("{:#}", args.check(config, DType::F32, 16).unwrap_err());
        assert!(message.contains("16 peers don't fit"), "{message}");
        assert!(message.contains("--peers 3 would"), "{message}");
        let message = TrainingArgs {
            memory: Some(1_000_000),
            ..TrainingArgs::default()
        };
        let message = format!("{:#}", message.check(config, DType::F32, 2).unwrap_err());
        assert!(message.contains("smaller model"), "{message}");
    }

    #[test]
    fn a_file_says_how_grpo_is_done_and_the_rest_is_usual() {
        let folder = tempfile::tempdir().unwrap();
        let mut policy = base();
        let usual = usual(&policy);
        let mut said = |text: &str| {
            let path = folder.path().join("grpo.toml");
            std::fs::write(&path, text).unwrap();
            let args = TrainingArgs {
                grpo: Some(path),
                ..TrainingArgs::default()
            };
            let settings = args.settings(&mut policy);
            (
                settings.map_err(|error| format!("{error:#}")),
                policy.has_reference(),
            )
        };
        assert_eq!(said("").0.unwrap(), usual);
        assert_eq!(said(SETTINGS).0.unwrap(), usual);
        let unsaid = ["learning_rate", "total", "kl", "precision"];
        let every = unsaid.iter().fold(SETTINGS.to_owned(), |every, key| {
            every.replace(&format!("# {key} ="), &format!("{key} ="))
        });
        let named: toml::Table = toml::from_str(&every).unwrap();
        assert_eq!(named.len(), 15, "all but the epochs: {named:?}");
        let (settings, reference) = said("advantage = \"no_std\"\nratio = \"sequence\"\nkl = 0.02");
        let settings = settings.unwrap();
        assert!(reference, "what it keeps near");
        assert_eq!(settings.kl, Some(0.02));
        assert_eq!(settings.learning_rate, usual.learning_rate);
        assert_ne!(
            (settings.advantage, settings.ratio),
            (usual.advantage, usual.ratio)
        );
        for (text, why) in [
            ("learning_rat = 1", "learning_rat"),
            ("clip_low = 2.0", "clip_low cannot be 2"),
            ("epochs = 3", "[training] steps"),
            ("ratio = 3", "ratio"),
        ] {
            let refusal = said(text).0.unwrap_err();
            assert!(
                refusal.contains(why) && refusal.contains("grpo.toml"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn an_adapter_of_others_is_where_training_begins() {
        let folder = tempfile::tempdir().unwrap();
        let mut theirs = base();
        theirs.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
        theirs.export_adapter(folder.path(), "base").unwrap();
        let args = TrainingArgs {
            adapter: Some(folder.path().to_owned()),
            ..TrainingArgs::default()
        };
        let mut policy = base();
        args.apply(&mut policy, None, 1).unwrap();
        assert_eq!(
            policy.weights_hash().unwrap(),
            theirs.weights_hash().unwrap()
        );
        let missing = TrainingArgs {
            adapter: Some(folder.path().join("none")),
            ..TrainingArgs::default()
        };
        let refusal = format!("{:#}", missing.apply(&mut base(), None, 1).unwrap_err());
        assert!(
            refusal.contains("--adapter") && refusal.contains("none"),
            "{refusal}"
        );
    }

    #[test]
    fn memory_is_shared_among_peers() {
        let args = TrainingArgs {
            memory: Some(gigabytes("8").unwrap()),
            ..TrainingArgs::default()
        };
        assert_eq!(args.share(4), Some(2_000_000_000));
        assert!(gigabytes("-1").is_err() && gigabytes("much").is_err());
    }
}

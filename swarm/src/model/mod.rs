//! Which model peers start from: the embedded one, a folder, a GGUF file, or a
//! name on the hub.
//!
//! | module | story |
//! | --- | --- |
//! | `manner` | how a model is spoken to |
//! | `fetch` | from the hub into its cache |
//! | `command` | `murmur model list`, `pull`, `info`, `import`, `export`, `grpo` |
//!
//! A home remembers the model its peers began with, by the hash of its files:
//! rounds and reputation of one model's peers are not continued with another.

pub mod command;
mod fetch;
mod manner;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use policy::{Device, Policy, Pretrained, Resumed, memory};
use serde::{Deserialize, Serialize};

use crate::base;
use crate::home::{Home, models_folder};
use crate::method::{LONGEST, TrainingArgs};

pub use fetch::OFFLINE_VARIABLE;
pub use manner::Manner;

/// What the embedded model is called.
pub const BASE: &str = "base";
/// In a home: what its peers began with, where that is not the embedded model.
const REMEMBERED: &str = "model.json";
/// A model with more weights is no longer one of a few that share a core.
const SMALL: u64 = 10_000_000;
/// The rate at which small models were found to train steadily, and the usual
/// one for models that come trained.
const LEARNING_RATES: (f32, f32) = (4e-4, 1e-5);

/// A model as its user named it, found on this machine.
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    /// `None`: the embedded one.
    path: Option<PathBuf>,
    /// Whether it was made for the tasks, and needs no instructions.
    knows_tags: bool,
}

/// `model.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// As it was named, paths made absolute.
    model: String,
    /// BLAKE3 of its files.
    blake3: String,
}

impl Model {
    /// The embedded model.
    pub fn base() -> Self {
        Self {
            name: BASE.to_owned(),
            path: None,
            knows_tags: true,
        }
    }

    /// Find the model that `name` says; from the hub if it must be and may be.
    ///
    /// # Errors
    /// There is no such model, or it can't be had: each with what to do.
    pub fn find(name: &str, offline: bool) -> Result<Self> {
        if name == BASE {
            return Ok(Self::base());
        }
        let given = Path::new(name);
        let path = if given.exists() {
            std::path::absolute(given).with_context(|| format!("finding {name}"))?
        } else if let Some(imported) = imported(name)? {
            imported
        } else if fetch::is_name(name) {
            fetch::get(name, offline)?
        } else {
            bail!(
                "there is no model {name:?}: expected a folder, a .gguf file, a name on the hub \
                 like Qwen/Qwen2.5-0.5B-Instruct, or {BASE:?}; `murmur model list` shows those on \
                 this machine"
            );
        };
        let opened = Pretrained::open(&path).with_context(|| format!("opening {name}"))?;
        Ok(Self {
            name: match given.exists() {
                true => path.display().to_string(),
                false => name.to_owned(),
            },
            knows_tags: manner::knows_tags(opened.tokenizer())?,
            path: Some(path),
        })
    }

    /// The model for a run: what the user named, else what the home remembers.
    ///
    /// # Errors
    /// It can't be found, or does not fit this machine.
    pub fn for_run(
        named: Option<&str>,
        home: Option<&Path>,
        offline: bool,
        peers: u16,
        training: &TrainingArgs,
    ) -> Result<Self> {
        let model = match named {
            Some(name) => Self::find(name, offline)?,
            None => match Home::existing(home)? {
                Some(home) => Self::of_home(&home)?,
                None => Self::base(),
            },
        };
        if let Some(opened) = model.open()? {
            training.check(opened.config(), opened.kept_in(), peers)?;
            if !model.knows_tags {
                manner::check(&opened)?;
            }
        }
        Ok(model)
    }

    /// What a home's peers began with.
    ///
    /// # Errors
    /// Its record can't be read, or the model is gone.
    pub fn of_home(home: &Home) -> Result<Self> {
        match remembered(home)? {
            None => Ok(Self::base()),
            // Never fetched anew: that might be another.
            Some(kept) => Self::find(&kept.model, true).with_context(|| {
                format!(
                    "the peers of {} began with {}",
                    home.path().display(),
                    kept.model
                )
            }),
        }
    }

    /// Bind a home to this model.
    ///
    /// # Errors
    /// It is bound to another, or the model's files are no longer those it was
    /// bound to.
    pub fn keep(&self, home: &Home) -> Result<()> {
        let started = home.manifest()?.is_some();
        let another = |kept: &str| {
            format!(
                "the peers of {} began with {kept}, and not with {}; choose another folder with \
                 --home, or leave --model out",
                home.path().display(),
                self.name
            )
        };
        let write = |now: &Remembered| {
            let json = serde_json::to_vec_pretty(now).context("encoding")?;
            home.write(REMEMBERED, &json)
        };
        match (self.open()?, remembered(home)?) {
            (None, None) => Ok(()),
            (None, Some(kept)) => bail!(another(&kept.model)),
            (Some(_), None) if started => bail!(another("the embedded base model")),
            (Some(opened), kept) => {
                let now = Remembered {
                    model: self.name.clone(),
                    blake3: hex::encode(opened.fingerprint().context("reading the model")?),
                };
                match kept {
                    // The same files under another name are the same model, found
                    // there from now on.
                    Some(kept) if kept == now => Ok(()),
                    Some(kept) if kept.blake3 == now.blake3 => write(&now),
                    Some(kept) if kept.model == now.model => bail!(
                        "the files of {} are not those that the peers of {} began with; put them \
                         back, or choose another folder with --home",
                        now.model,
                        home.path().display()
                    ),
                    Some(kept) => bail!(another(&kept.model)),
                    None => write(&now),
                }
            }
        }
    }

    /// Its configuration and tokenizer; `None` for the embedded model.
    fn open(&self) -> Result<Option<Pretrained>> {
        let open = |path| Pretrained::open(path).with_context(|| format!("opening {}", self.name));
        self.path.as_deref().map(open).transpose()
    }

    /// Read it.
    ///
    /// # Errors
    /// There is no room for it, or a file is broken; it names the file and the
    /// tensor.
    pub fn load(&self) -> Result<Policy> {
        let Some(opened) = self.open()? else {
            return base::load();
        };
        has_room(&opened, &self.name)?;
        opened
            .load(&Device::Cpu)
            .with_context(|| format!("reading {}", self.name))
    }

    /// The newest checkpoint of a peer that began with it, wherever this model was
    /// then.
    ///
    /// # Errors
    /// No checkpoint is whole, or it is an adapter of another model.
    pub fn resume(&self, checkpoint: &Path) -> policy::Result<Resumed> {
        Policy::resume_on(checkpoint, self.path.as_deref(), &Device::Cpu)
    }

    /// As its user named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is spoken to, where completions have at most so many bytes.
    pub fn manner(&self, completion_bytes: u32) -> Manner {
        match self.knows_tags {
            true => Manner::taught(),
            false => Manner::instructed(completion_bytes),
        }
    }
}

/// Refuses a model that can't be read into memory.
fn has_room(opened: &Pretrained, name: &str) -> Result<()> {
    let needed = memory::sampling(opened.config(), opened.kept_in(), 1, LONGEST);
    match memory::spare().filter(|&spare| spare < needed) {
        Some(spare) => bail!(
            "{name} takes {} and there are {}: take a smaller model, or close other programs",
            memory::shown(needed),
            memory::shown(spare)
        ),
        None => Ok(()),
    }
}

/// The rate at which a model of this size is trained.
pub fn learning_rate(policy: &Policy) -> f32 {
    let (small, large) = LEARNING_RATES;
    match is_small(policy) {
        true => small,
        false => large,
    }
}

/// Whether a model's matrix products are too short to share among threads.
pub fn is_small(policy: &Policy) -> bool {
    policy.decoder().config().parameters() < SMALL
}

fn remembered(home: &Home) -> Result<Option<Remembered>> {
    let Some(bytes) = home.read(REMEMBERED)? else {
        return Ok(None);
    };
    let path = home.path().join(REMEMBERED);
    let kept =
        serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(kept))
}

/// A model that was imported under this name.
fn imported(name: &str) -> Result<Option<PathBuf>> {
    if !is_plain(name) {
        return Ok(None);
    }
    let path = models_folder()?.join(name);
    Ok(path.is_dir().then_some(path))
}

/// Whether a name is one folder's and leads nowhere else.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 96 && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&folder.path().join("home"))).unwrap();
        (folder, home)
    }

    /// The embedded model, as a folder that could be anybody's.
    fn published(folder: &Path) -> Model {
        std::fs::write(folder.join("config.json"), base::CONFIG).unwrap();
        std::fs::write(folder.join("tokenizer.json"), base::TOKENIZER).unwrap();
        std::fs::write(folder.join("model.safetensors"), base::WEIGHTS).unwrap();
        Model::find(folder.to_str().unwrap(), true).unwrap()
    }

    #[test]
    fn a_home_keeps_to_the_model_it_began_with() {
        let (folder, home) = home();
        let model = published(folder.path());
        model.keep(&home).unwrap();
        model.keep(&home).unwrap();
        assert_eq!(Model::of_home(&home).unwrap().name(), model.name());
        let refusal = Model::base().keep(&home).unwrap_err().to_string();
        assert!(
            refusal.contains("began with") && refusal.contains("--home"),
            "{refusal}"
        );

        // The same path, other files.
        let config = String::from_utf8(base::CONFIG.to_vec()).unwrap();
        std::fs::write(folder.path().join("config.json"), config + "\n").unwrap();
        let refusal = model.keep(&home).unwrap_err().to_string();
        assert!(refusal.contains("are not those"), "{refusal}");
        std::fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(Model::of_home(&home).is_err());
    }

    #[test]
    fn a_home_of_the_embedded_model_takes_no_other() {
        let (folder, home) = home();
        Model::base().keep(&home).unwrap();
        home.keep_manifest(b"begun").unwrap();
        let refusal = published(folder.path())
            .keep(&home)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains("embedded base model"), "{refusal}");
        assert_eq!(Model::of_home(&home).unwrap().name(), BASE);
    }

    #[test]
    fn what_is_no_model_is_refused_with_what_would_be() {
        let refusal = |name: &str| format!("{:#}", Model::find(name, true).unwrap_err());
        assert!(refusal("no such model").contains("murmur model list"));
        assert!(refusal("../..//x").contains("expected a folder"));
    }
}

//! Checkpoints as others publish them: a folder in Hugging Face's layout, or a
//! GGUF file.
//!
//! [`Pretrained::open`] reads what is small (configuration, tokenizer, chat
//! template, the list of tensors) and holds it against each other; only
//! [`Pretrained::load`] reads weights, one tensor at a time and straight into
//! the form they are kept in, so that nothing is in memory twice and nothing is
//! half loaded.
//!
//! | module | story |
//! | --- | --- |
//! | `safetensors` | one file or several with an index |
//! | `gguf` | tensors and configuration of a GGUF file |
//! | `vocabulary` | its tokenizer, as a `tokenizer.json` |

mod gguf;
mod safetensors;
mod vocabulary;

pub(crate) use safetensors::Safetensors;

use crate::checkpoint::at;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::settings::LARGE;
use crate::tokenizer::Tokenizer;
use candle_core::{DType, Device};
use half::bf16;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// How a model is to be sampled from.
pub(crate) const GENERATION: &str = "generation_config.json";
/// A longer `config.json` or template is none.
const MOST_JSON: u64 = 16 << 20;
/// Vocabularies of a quarter million tokens take about 20 MB.
const MOST_TOKENIZER: u64 = 256 << 20;

/// The values of a tensor: in bf16 if that is how they are stored.
pub(crate) enum Numbers {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Numbers {
    pub(crate) fn are_finite(&self) -> bool {
        match self {
            Self::F32(values) => values.iter().all(|value| value.is_finite()),
            Self::Bf16(values) => values.iter().all(|value| value.is_finite()),
        }
    }

    pub(crate) fn widened(self) -> Vec<f32> {
        match self {
            Self::F32(values) => values,
            Self::Bf16(values) => values.into_iter().map(bf16::to_f32).collect(),
        }
    }
}

/// Tensors by Hugging Face's names, read one at a time.
pub(crate) trait Tensors {
    /// Every tensor there is, with its shape.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>>;

    /// The values of one that there is.
    fn read(&mut self, name: &str) -> Result<Numbers>;

    /// Where a tensor is, for messages; `None` if that goes without saying.
    fn place(&self, name: &str) -> Option<String>;
}

/// What goes with the weights: the files that a checkpoint of ours repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts {
    /// `config.json`
    pub(crate) config: Vec<u8>,
    /// `tokenizer.json`
    pub(crate) tokenizer: Vec<u8>,
    /// The chat template and its tokens; ChatML where there is none.
    pub(crate) chat: Option<Chat>,
    /// Tokens that end a message, besides those that the others name.
    pub(crate) ends: Ends,
}

/// The part of a `generation_config.json` that sampling needs, and of a
/// `config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ends {
    /// One or several, or none.
    #[serde(default, deserialize_with = "one_or_several")]
    pub(crate) eos_token_id: Vec<u32>,
}

fn one_or_several<'de, D: Deserializer<'de>>(input: D) -> std::result::Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "eos_token_id is a token's number, or a list of such"
    )]
    enum Written {
        One(u32),
        Several(Vec<u32>),
    }
    Ok(match Option::deserialize(input)? {
        None => Vec::new(),
        Some(Written::One(token)) => vec![token],
        Some(Written::Several(tokens)) => tokens,
    })
}

/// The part of a `tokenizer_config.json` that conversations need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chat {
    pub(crate) chat_template: String,
    /// `bos_token` and its like.
    #[serde(flatten)]
    pub(crate) tokens: BTreeMap<String, String>,
}

impl Texts {
    /// The chat template and its tokens as a `tokenizer_config.json`.
    pub(crate) fn chat_json(&self) -> Result<Option<Vec<u8>>> {
        let write = |chat| {
            serde_json::to_vec_pretty(chat).map_err(|error| Error::Template(error.to_string()))
        };
        self.chat.as_ref().map(write).transpose()
    }

    /// Configuration and tokenizer, held against each other.
    pub(crate) fn read(&self) -> Result<(Config, Tokenizer)> {
        let config = Config::from_json(&self.config)?;
        let tokenizer = match &self.chat {
            Some(chat) => {
                Tokenizer::with_template(&self.tokenizer, &chat.chat_template, chat.tokens.clone())?
            }
            None => Tokenizer::from_bytes(&self.tokenizer)?,
        };
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::Tokenizer(format!(
                "it has {} tokens and the model only {}",
                tokenizer.vocab_size(),
                config.vocab_size
            )));
        }
        let own: Ends = serde_json::from_slice(&self.config)
            .map_err(|error| Error::Config(error.to_string()))?;
        let ends = [own.eos_token_id, self.ends.eos_token_id.clone()].concat();
        match ends.iter().find(|&&end| end as usize >= config.vocab_size) {
            None => Ok((config, tokenizer.with_ends(ends))),
            Some(end) => Err(Error::Tokenizer(format!(
                "eos_token_id is {end}, and the model has {} tokens",
                config.vocab_size
            ))),
        }
    }

    /// What ends a message as a `generation_config.json`, if there is any.
    pub(crate) fn ends_json(&self) -> Result<Option<Vec<u8>>> {
        if self.ends.eos_token_id.is_empty() {
            return Ok(None);
        }
        serde_json::to_vec_pretty(&self.ends)
            .map(Some)
            .map_err(|error| Error::Tokenizer(error.to_string()))
    }
}

/// A published checkpoint, its weights not yet read.
pub struct Pretrained {
    path: PathBuf,
    texts: Texts,
    config: Config,
    tokenizer: Tokenizer,
    tensors: Box<dyn Tensors>,
    files: Vec<PathBuf>,
    stored: String,
    licence: Option<String>,
}

impl Pretrained {
    /// Opens a folder, or a file that ends in `.gguf`.
    ///
    /// # Errors
    /// Names the file and, where there is one, the tensor that is missing,
    /// unreadable, or does not belong to the rest.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = fs::metadata(path).map_err(at(path))?;
        let opened = if kind.is_dir() {
            Self::open_folder(path)
        } else {
            Self::open_gguf(path)
        }?;
        fit(&opened.config, opened.tensors.as_ref())?;
        Ok(opened)
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let config = required(folder, "config.json", MOST_JSON)?;
        let tokenizer = required(folder, "tokenizer.json", MOST_TOKENIZER)?;
        let texts = Texts {
            config,
            tokenizer,
            chat: chat(folder)?,
            ends: ends(folder)?,
        };
        let (config, tokenizer) = texts.read().map_err(|error| error.of(folder))?;
        let tensors = Safetensors::open(folder)?;
        Ok(Self {
            path: folder.to_owned(),
            files: tensors.files(),
            stored: tensors.stored(),
            licence: licence(folder)?,
            tensors: Box::new(tensors),
            texts,
            config,
            tokenizer,
        })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let gguf::Gguf {
            tensors,
            texts,
            stored,
            licence,
        } = gguf::open(path)?;
        let (config, tokenizer) = texts.read().map_err(|error| error.of(path))?;
        Ok(Self {
            path: path.to_owned(),
            tensors: Box::new(tensors),
            files: vec![path.to_owned()],
            texts,
            config,
            tokenizer,
            stored,
            licence,
        })
    }

    /// Reads the weights.
    ///
    /// # Errors
    /// A file is shorter than it says, or holds what is not finite.
    pub fn load(mut self, device: &Device) -> Result<Policy> {
        let decoder = Decoder::from_tensors(self.config, self.tensors.as_mut(), device)?;
        Ok(Policy::new(self.texts, self.tokenizer, decoder)?.came_from(&self.path))
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The tokenizer, which also knows the chat template.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How most weights are stored: `bf16`, `q4_1`.
    pub fn stored(&self) -> &str {
        &self.stored
    }

    /// What its matrices are kept in once they are read on a CPU.
    pub fn kept_in(&self) -> DType {
        match self.stored == "bf16" && self.config.parameters() >= LARGE {
            true => DType::BF16,
            false => DType::F32,
        }
    }

    /// The licence, as the checkpoint states it.
    pub fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// The files that hold the weights.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether the checkpoint brings a chat template of its own.
    pub fn has_template(&self) -> bool {
        self.texts.chat.is_some()
    }

    /// BLAKE3 over all that makes the model: another file, another hash.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        let chat = serde_json::to_vec(&self.texts.chat)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        let ends = self.texts.ends_json()?;
        let texts = [&self.texts.config, &self.texts.tokenizer, &chat];
        for text in texts.into_iter().chain(&ends) {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        for path in &self.files {
            let file = File::open(path).map_err(at(path))?;
            hasher.update_reader(file).map_err(at(path))?;
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Debug for Pretrained {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Pretrained")
            .field("config", &self.config)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

/// Refuses tensors that are not those of the configuration, each in its shape;
/// what a tied model repeats as `lm_head.weight`, as some writers do, is
/// compared when it is read.
pub(crate) fn fit(config: &Config, tensors: &dyn Tensors) -> Result<()> {
    let (expected, found) = (config.shapes(), tensors.shapes());
    let refuse = |name: &str, why: String| {
        let place = tensors.place(name).map(|place| format!("{place}: "));
        Err(Error::Weights(format!(
            "{}tensor {name} {why}",
            place.unwrap_or_default()
        )))
    };
    for (name, shape) in &expected {
        match found.get(name) {
            None => return refuse(name, "is missing".into()),
            Some(found) if found != shape => {
                return refuse(name, format!("is {found:?}, expected {shape:?}"));
            }
            _ => {}
        }
    }
    let repeated = |name: &str| {
        config.tie_word_embeddings
            && name == "lm_head.weight"
            && found.get(name) == expected.get("model.embed_tokens.weight")
    };
    match found
        .keys()
        .find(|name| !expected.contains_key(*name) && !repeated(name))
    {
        None => Ok(()),
        Some(name) => refuse(name, "has no place in the model".into()),
    }
}

/// A file of at most `most` bytes; `None` if there is none of that name.
fn optional(folder: &Path, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(at(&path))?,
    };
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(at(&path))?;
    if bytes.len() as u64 > most {
        return Err(Error::Input(format!(
            "{} has more than {most} bytes",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

fn required(folder: &Path, name: &str, most: u64) -> Result<Vec<u8>> {
    optional(folder, name, most)?.ok_or_else(|| {
        Error::Input(format!(
            "{} has no {name}: expected a folder in Hugging Face's layout (config.json, \
             tokenizer.json, model.safetensors) or a .gguf file",
            folder.display()
        ))
    })
}

/// The chat template of a folder, wherever its writer put it.
fn chat(folder: &Path) -> Result<Option<Chat>> {
    let bad = |name: &str, why: String| {
        Error::Template(format!("{}: {why}", folder.join(name).display()))
    };
    const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
    let settings: Value = match optional(folder, TOKENIZER_CONFIG, MOST_JSON)? {
        None => Value::Null,
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| bad(TOKENIZER_CONFIG, error.to_string()))?,
    };
    let own = match optional(folder, "chat_template.jinja", MOST_JSON)? {
        None => None,
        Some(bytes) => Some(
            String::from_utf8(bytes)
                .map_err(|error| bad("chat_template.jinja", error.to_string()))?,
        ),
    };
    let template = match (own, settings.get("chat_template")) {
        (Some(template), _) => template,
        (None, Some(Value::String(template))) => template.clone(),
        // Several, by name.
        (None, Some(Value::Array(all))) => {
            let named = |name: &str| {
                all.iter()
                    .find(|one| one.get("name").and_then(Value::as_str) == Some(name))
                    .and_then(|one| one.get("template")?.as_str())
            };
            match named("default") {
                Some(template) => template.to_owned(),
                None => return Err(bad(TOKENIZER_CONFIG, "no template is the default".into())),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(Chat {
        chat_template: template,
        tokens: special_tokens(&settings),
    }))
}

/// What a folder's `generation_config.json` ends a message with.
fn ends(folder: &Path) -> Result<Ends> {
    let Some(bytes) = optional(folder, GENERATION, MOST_JSON)? else {
        return Ok(Ends::default());
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let path = folder.join(GENERATION);
        Error::Config(format!("{}: {error}", path.display()))
    })
}

/// `bos_token` and its like: strings, or objects with the string inside.
fn special_tokens(settings: &Value) -> BTreeMap<String, String> {
    let spelled = |value: &Value| {
        let content = value.get("content").unwrap_or(value).as_str()?;
        Some(content.to_owned())
    };
    ["bos_token", "eos_token", "pad_token", "unk_token"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), spelled(settings.get(name)?)?)))
        .collect()
}

/// `license:` in the head of the model card.
fn licence(folder: &Path) -> Result<Option<String>> {
    let Some(card) = optional(folder, "README.md", MOST_JSON)? else {
        return Ok(None);
    };
    let card = String::from_utf8_lossy(&card);
    let mut lines = card.lines();
    if lines.next() != Some("---") {
        return Ok(None);
    }
    Ok(lines
        .take_while(|line| *line != "---")
        .find_map(|line| line.strip_prefix("license:"))
        .map(|licence| licence.trim().trim_matches(['"', '\'']).to_owned()))
}

//! GGUF: one file with configuration, tokenizer and, mostly quantised, weights.
//!
//! llama.cpp has names of its own, stores the rotary pairs of Llama's queries
//! and keys side by side instead of half a head apart, and writes Llama 3's
//! rotary scaling as a tensor of factors. All that is undone here; quantised
//! weights become f32, since a model that is trained moves by less than a
//! quantum.

use super::vocabulary;
use super::{Numbers, Tensors, Texts};
use crate::checkpoint::at;
use crate::config::Config;
use crate::error::{Error, Result, guarded};
use crate::rope::{self, RopeScaling};
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use half::bf16;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The context that Llama 3 was first trained with: the file does not say.
const LLAMA3_CONTEXT: usize = 8192;
const ROTARY_FACTORS: &str = "rope_freqs.weight";

/// All but the weights is never longer, in bytes: half a million texts are not.
/// In memory it may be thirty times as much.
const MOST_HEAD: u64 = 32 << 20;

/// What a file holds.
pub(super) struct Gguf {
    pub(super) tensors: GgufTensors,
    pub(super) texts: Texts,
    pub(super) stored: String,
    pub(super) licence: Option<String>,
}

/// The tensors of a file by Hugging Face's names.
pub(super) struct GgufTensors {
    path: PathBuf,
    reader: BufReader<File>,
    content: Content,
    /// The file's name of each tensor.
    names: BTreeMap<String, String>,
    /// Heads of queries and of keys whose rows are to be put in order.
    interleaved: Option<(usize, usize)>,
}

/// Opens a file and reads all but the weights.
pub(super) fn open(path: &Path) -> Result<Gguf> {
    let file = File::open(path).map_err(at(path))?;
    let mut reader = BufReader::new(file);
    let not_one = |why| Error::Weights(format!("{}: not a GGUF file: {why}", path.display()));
    let content = guarded(|| Content::read(&mut Head(&mut reader)))
        .and_then(|content| content.map_err(|error| error.to_string()))
        .map_err(not_one)?;
    let length = reader.get_ref().metadata().map_err(at(path))?.len();
    is_whole(&content, length).map_err(|error| error.of(path))?;
    read(path, reader, content).map_err(|error| error.of(path))
}

/// A file that seems to end where all but its weights must have: its reader
/// trusts no length beyond that.
struct Head<'a>(&'a mut BufReader<File>);

impl Read for Head<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Seek for Head<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.0.seek(to)?;
        Ok(match to {
            SeekFrom::End(_) => at.min(MOST_HEAD),
            _ => at,
        })
    }

    // Unlike a seek this keeps what is buffered.
    fn stream_position(&mut self) -> io::Result<u64> {
        self.0.stream_position()
    }
}

/// Refuses a file of which some tensor is past its end.
fn is_whole(content: &Content, length: u64) -> Result<()> {
    for (name, info) in &content.tensor_infos {
        let kind = info.ggml_dtype;
        let dims = info.shape.dims().iter();
        let end = dims
            .map(|&size| size as u64)
            .try_fold(1u64, u64::checked_mul)
            .and_then(|count| {
                count
                    .div_ceil(kind.block_size() as u64)
                    .checked_mul(kind.type_size() as u64)
            })
            .and_then(|bytes| {
                bytes
                    .checked_add(info.offset)?
                    .checked_add(content.tensor_data_offset)
            });
        if end.is_none_or(|end| end > length) {
            return Err(Error::Weights(format!(
                "tensor {name} is past the end of the file's {length} bytes: it was cut off"
            )));
        }
    }
    Ok(())
}

fn read(path: &Path, mut reader: BufReader<File>, content: Content) -> Result<Gguf> {
    let metadata = Metadata(&content);
    let family = metadata.text("general.architecture")?;
    let mut config = config(&metadata, family)?;
    let mut names = BTreeMap::new();
    for name in content.tensor_infos.keys() {
        if name == ROTARY_FACTORS {
            continue;
        }
        match hugging_face_name(name) {
            Some(ours) => names.insert(ours, name.clone()),
            None => {
                return Err(Error::Weights(format!(
                    "tensor {name} has no place in the model"
                )));
            }
        };
    }
    if let Some(info) = content.tensor_infos.get(ROTARY_FACTORS) {
        if info.shape.dims() != [config.head_dim() / 2] {
            return Err(Error::Weights(format!(
                "tensor {ROTARY_FACTORS} is {:?}, expected [{}]",
                info.shape.dims(),
                config.head_dim() / 2
            )));
        }
        let factors = values(&content, &mut reader, ROTARY_FACTORS)?;
        config.rope_scaling = Some(scaling(&config, &factors)?);
    }
    let stored = content
        .tensor_infos
        .values()
        .filter(|info| info.shape.rank() == 2)
        .fold(BTreeMap::<String, usize>::new(), |mut counts, info| {
            *counts.entry(format!("{:?}", info.ggml_dtype)).or_default() += 1;
            counts
        })
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(name, _)| name.to_lowercase())
        .unwrap_or_default();
    let texts = Texts {
        config: serde_json::to_vec_pretty(&config)
            .map_err(|error| Error::Config(error.to_string()))?,
        tokenizer: vocabulary::tokenizer_json(&metadata)?,
        chat: vocabulary::chat(&metadata)?,
        ends: vocabulary::ends(&metadata)?,
    };
    let interleaved =
        (family == "llama").then_some((config.num_attention_heads, config.num_key_value_heads));
    Ok(Gguf {
        licence: metadata.text("general.license").ok().map(str::to_owned),
        stored,
        texts,
        tensors: GgufTensors {
            path: path.to_owned(),
            reader,
            content,
            names,
            interleaved,
        },
    })
}

/// The file's keys and values, by type.
pub(super) struct Metadata<'a>(&'a Content);

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Result<&'a Value> {
        self.find(key)
            .ok_or_else(|| Error::Config(format!("{key} is missing")))
    }

    fn find(&self, key: &str) -> Option<&'a Value> {
        self.0.metadata.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Result<&'a str> {
        match self.get(key)? {
            Value::String(text) => Ok(text),
            other => Err(unlike(key, "a text", other)),
        }
    }

    /// A size or an index: whole and not negative.
    pub(super) fn number(&self, key: &str) -> Result<usize> {
        let value = self.get(key)?;
        whole(value).ok_or_else(|| unlike(key, "a whole number", value))
    }

    fn real(&self, key: &str) -> Result<f64> {
        match self.get(key)? {
            Value::F64(value) => Ok(*value),
            // By its digits: 1e-5 in f32 means 1e-5.
            Value::F32(value) => value
                .to_string()
                .parse()
                .map_err(|_| Error::Config(format!("{key} is {value}"))),
            other => Err(unlike(key, "a number", other)),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<&'a [Value]> {
        match self.get(key)? {
            Value::Array(values) => Ok(values),
            other => Err(unlike(key, "a list", other)),
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&'a str>> {
        self.list(key)?
            .iter()
            .map(|value| match value {
                Value::String(text) => Ok(text.as_str()),
                other => Err(unlike(key, "a list of texts", other)),
            })
            .collect()
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }
}

fn unlike(key: &str, expected: &str, found: &Value) -> Error {
    Error::Config(format!(
        "{key} is {expected} in a GGUF file, and {:?} here",
        found.value_type()
    ))
}

/// A whole number that is not negative.
pub(super) fn whole(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(value) => Some(value.into()),
        Value::U16(value) => Some(value.into()),
        Value::U32(value) => value.try_into().ok(),
        Value::U64(value) => value.try_into().ok(),
        Value::I8(value) => value.try_into().ok(),
        Value::I16(value) => value.try_into().ok(),
        Value::I32(value) => value.try_into().ok(),
        Value::I64(value) => value.try_into().ok(),
        _ => None,
    }
}

fn config(metadata: &Metadata<'_>, family: &str) -> Result<Config> {
    if !["llama", "qwen2", "qwen3"].contains(&family) {
        return Err(Error::Config(format!(
            "architecture {family:?} is not supported, expected llama, qwen2 or qwen3"
        )));
    }
    let key = |name: &str| format!("{family}.{name}");
    let number = |name: &str| metadata.number(&key(name));
    let optional = |name: &str, otherwise: usize| match metadata.has(&key(name)) {
        true => number(name),
        false => Ok(otherwise),
    };
    let experts = optional("expert_count", 0)?;
    if experts > 0 {
        return Err(Error::Config(format!(
            "a mixture of {experts} experts is not supported"
        )));
    }
    let scaling = key("rope.scaling.type");
    if metadata.has(&scaling) && metadata.text(&scaling)? != "none" {
        return Err(Error::Config(format!(
            "{scaling} {:?} is not supported",
            metadata.text(&scaling)?
        )));
    }
    let heads = number("attention.head_count")?;
    let hidden = number("embedding_length")?;
    let natural = hidden.checked_div(heads).unwrap_or(0);
    let head_dim = optional("attention.key_length", natural)?;
    for name in ["attention.value_length", "rope.dimension_count"] {
        let found = optional(name, head_dim)?;
        if found != head_dim {
            return Err(Error::Config(format!(
                "{} is {found} and heads are {head_dim} wide: not supported",
                key(name)
            )));
        }
    }
    let embedding = metadata
        .0
        .tensor_infos
        .get("token_embd.weight")
        .and_then(|info| info.shape.dims().first().copied());
    let Some(vocab_size) = embedding else {
        return Err(Error::Weights("tensor token_embd.weight is missing".into()));
    };
    let base = key("rope.freq_base");
    let config = Config {
        vocab_size,
        hidden_size: hidden,
        intermediate_size: number("feed_forward_length")?,
        num_hidden_layers: number("block_count")?,
        num_attention_heads: heads,
        num_key_value_heads: optional("attention.head_count_kv", heads)?,
        head_dim: (head_dim != natural || !hidden.is_multiple_of(heads.max(1))).then_some(head_dim),
        rms_norm_eps: metadata.real(&key("attention.layer_norm_rms_epsilon"))?,
        rope_theta: match metadata.has(&base) {
            true => metadata.real(&base)?,
            false => 10_000.0,
        },
        rope_scaling: None,
        tie_word_embeddings: !metadata.0.tensor_infos.contains_key("output.weight"),
        max_position_embeddings: number("context_length")?,
        model_type: family.to_owned(),
        hidden_act: "silu".to_owned(),
    };
    config.check()?;
    Ok(config)
}

/// The rotary scaling whose factors these are: a file has only the factors.
fn scaling(config: &Config, factors: &[f32]) -> Result<RopeScaling> {
    let most = factors.iter().copied().fold(1.0, f32::max);
    let guess = RopeScaling::Llama3 {
        factor: f64::from(most),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: LLAMA3_CONTEXT,
    };
    guess.check()?;
    let plain = rope::frequencies(config);
    let scaled = rope::frequencies(&Config {
        rope_scaling: Some(guess.clone()),
        ..config.clone()
    });
    let agrees = plain
        .iter()
        .zip(&scaled)
        .zip(factors)
        .all(|((plain, scaled), factor)| (plain / scaled / factor - 1.0).abs() < 1e-3);
    match agrees {
        true => Ok(guess),
        false => Err(Error::Config(format!(
            "tensor {ROTARY_FACTORS} is not the rotary scaling of Llama 3: not supported"
        ))),
    }
}

/// `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`.
fn hugging_face_name(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".into()),
        "output_norm.weight" => return Some("model.norm.weight".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = part.rsplit_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

/// The values of a tensor by the file's name, as the file orders them.
fn values(content: &Content, reader: &mut BufReader<File>, name: &str) -> Result<Vec<f32>> {
    let mut read = || -> candle_core::Result<Vec<f32>> {
        let tensor = content.tensor(reader, name, &Device::Cpu)?;
        tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()
    };
    read().map_err(|error| Error::Weights(format!("tensor {name}: {error}")))
}

/// Rows of each head from pairs side by side to pairs half a head apart.
fn pairs_apart(values: &[f32], heads: usize, columns: usize) -> Vec<f32> {
    let mut ordered = Vec::with_capacity(values.len());
    for head in values.chunks_exact(values.len() / heads) {
        for first in [0, 1] {
            for row in head.chunks_exact(columns).skip(first).step_by(2) {
                ordered.extend_from_slice(row);
            }
        }
    }
    ordered
}

impl Tensors for GgufTensors {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.names
            .iter()
            .map(|(ours, name)| {
                let dims = self.content.tensor_infos[name].shape.dims();
                (ours.clone(), dims.to_vec())
            })
            .collect()
    }

    fn place(&self, name: &str) -> Option<String> {
        let path = self.path.display();
        Some(match self.names.get(name) {
            Some(theirs) => format!("{path} ({theirs})"),
            None => path.to_string(),
        })
    }

    fn read(&mut self, name: &str) -> Result<Numbers> {
        let Some(theirs) = self.names.get(name) else {
            return Err(Error::Weights(format!("tensor {name} is missing")));
        };
        let values = values(&self.content, &mut self.reader, theirs)
            .map_err(|error| error.of(&self.path))?;
        let columns = match self.content.tensor_infos[theirs].shape.dims() {
            &[_, columns] => columns,
            _ => 1,
        };
        let values = match self.interleaved {
            Some((heads, _)) if name.ends_with("q_proj.weight") => {
                pairs_apart(&values, heads, columns)
            }
            Some((_, heads)) if name.ends_with("k_proj.weight") => {
                pairs_apart(&values, heads, columns)
            }
            _ => values,
        };
        let is_bf16 = self.content.tensor_infos[theirs].ggml_dtype == GgmlDType::BF16;
        Ok(match is_bf16 {
            true => Numbers::Bf16(values.into_iter().map(bf16::from_f32).collect()),
            false => Numbers::F32(values),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_put_half_a_head_apart() {
        // Two heads of four rows of one column, as llama.cpp's converter
        // orders them: rows 0, 2, 1, 3 of each head.
        let stored = [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0];
        let ordered = pairs_apart(&stored, 2, 1);
        assert_eq!(ordered, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }

    #[test]
    fn names_are_translated_and_strangers_are_not() {
        let name = hugging_face_name("blk.12.attn_k.bias");
        assert_eq!(
            name.as_deref(),
            Some("model.layers.12.self_attn.k_proj.bias")
        );
        for stranger in ["blk.x.attn_k.bias", "blk.1.ffn_gate_inp.weight", "v.weight"] {
            assert_eq!(hugging_face_name(stranger), None);
        }
    }
}

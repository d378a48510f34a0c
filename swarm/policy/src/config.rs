//! The architecture, as Hugging Face's `config.json` writes it.
//!
//! One decoder computes four families; what tells them apart is three things:
//!
//! | family (`model_type`) | biases of q, k, v | norms of q, k | rotary scaling |
//! | --- | --- | --- | --- |
//! | Qwen2, Qwen2.5 (`qwen2`) | yes | no | no |
//! | Qwen3 (`qwen3`) | no | yes | no |
//! | Llama 3.x, SmolLM2 (`llama`) | no | no | Llama 3.1 and later |
//!
//! What a `config.json` asks for and the forward pass does not do (sliding
//! windows, other biases, quantised weights) is refused, not ignored.

use crate::error::{Error, Result};
use crate::rope::RopeScaling;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The most a single size may be: more is a broken file.
const MOST: usize = 1 << 24;
/// The most layers.
const MOST_LAYERS: usize = 1024;
/// The most weights: 2^40 in f32 are 4 TiB.
const MOST_PARAMETERS: u64 = 1 << 40;

/// A decoder's shape. Keys that the forward pass has no use for are ignored
/// when a `config.json` is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head where it is not the hidden size over the query heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Added to the mean square before its root is taken.
    pub rms_norm_eps: f64,
    /// The base of the rotary embedding's wavelengths.
    #[serde(default = "ten_thousand")]
    pub rope_theta: f64,
    /// How those are stretched for longer contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the output projection is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The longest sequence the model may see.
    pub max_position_embeddings: usize,
    /// Architecture name; absent is read as `qwen2`.
    #[serde(default = "qwen2")]
    pub model_type: String,
    /// Activation of the feed-forward layer; only `silu` is known.
    #[serde(default = "silu")]
    pub hidden_act: String,
}

fn ten_thousand() -> f64 {
    10_000.0
}

fn qwen2() -> String {
    "qwen2".into()
}

fn silu() -> String {
    "silu".into()
}

impl Config {
    /// Reads a `config.json` and checks it.
    ///
    /// # Errors
    /// It is not one, contradicts itself, or asks for what is not supported.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let unreadable = |error: serde_json::Error| Error::Config(error.to_string());
        let mut json: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
        refuse_unsupported(&json)?;
        if let Some(json) = json.as_object_mut() {
            // Newer writers keep the base and the scaling together.
            if let Some(rope) = json.remove("rope_parameters") {
                if let Some(theta) = rope.get("rope_theta").filter(|theta| !theta.is_null()) {
                    json.insert("rope_theta".into(), theta.clone());
                }
                json.insert("rope_scaling".into(), rope);
            }
            let scaling = json.remove("rope_scaling").unwrap_or(Value::Null);
            if let Some(scaling) = RopeScaling::from_json(&scaling)? {
                let scaling = serde_json::to_value(scaling).map_err(unreadable)?;
                json.insert("rope_scaling".into(), scaling);
            }
            // Without the key, every query head has a key head of its own.
            if let Some(heads) = json.get("num_attention_heads").cloned() {
                let shared = json.entry("num_key_value_heads").or_insert(Value::Null);
                if shared.is_null() {
                    *shared = heads;
                }
            }
        }
        let config: Self = serde_json::from_value(json).map_err(unreadable)?;
        config.check()?;
        Ok(config)
    }

    /// Refuses a configuration that no decoder can be built from.
    ///
    /// # Errors
    /// Says which key is wrong and what was expected.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::Config(why));
        let head_dim = self.head_dim.unwrap_or(1);
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, MOST),
            ("hidden_size", self.hidden_size, MOST),
            ("intermediate_size", self.intermediate_size, MOST),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MOST),
            ("num_key_value_heads", self.num_key_value_heads, MOST),
            ("head_dim", head_dim, MOST),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MOST,
            ),
        ] {
            if value == 0 || value > most {
                return refuse(format!("{name} is {value}, expected 1 to {most}"));
            }
        }
        if !["qwen2", "qwen3", "llama"].contains(&self.model_type.as_str()) {
            return refuse(format!(
                "model_type {:?} is not supported, expected \"qwen2\" (Qwen2, Qwen2.5), \
                 \"qwen3\" or \"llama\" (Llama 3.x, SmolLM2)",
                self.model_type
            ));
        }
        if self.hidden_act != "silu" {
            return refuse(format!(
                "hidden_act {:?} is not supported, expected \"silu\"",
                self.hidden_act
            ));
        }
        match self.head_dim {
            Some(width) if !width.is_multiple_of(2) => {
                return refuse(format!("head_dim {width} is not even"));
            }
            None if !self
                .hidden_size
                .is_multiple_of(2 * self.num_attention_heads) =>
            {
                return refuse(format!(
                    "hidden_size {} does not divide into {} heads of even width",
                    self.hidden_size, self.num_attention_heads
                ));
            }
            _ => {}
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return refuse(format!(
                "{} query heads cannot share {} key heads evenly",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps <= 0.1) {
            let eps = self.rms_norm_eps;
            return refuse(format!(
                "rms_norm_eps is {eps}, expected more than 0, at most 0.1"
            ));
        }
        if !(1.0..=1e12).contains(&self.rope_theta) {
            let theta = self.rope_theta;
            return refuse(format!("rope_theta is {theta}, expected 1 to 1e12"));
        }
        if let Some(scaling) = &self.rope_scaling {
            scaling.check()?;
        }
        if self.count() > u128::from(MOST_PARAMETERS) {
            return refuse(format!(
                "its sizes make {} weights, more than any model",
                self.count()
            ));
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
            .unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim()
    }

    /// Width of all key heads together (and of all value heads).
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// Whether the projections to queries, keys and values have biases.
    pub fn has_biases(&self) -> bool {
        self.model_type == "qwen2"
    }

    /// Whether each head of queries and keys is normed before it is rotated.
    pub fn has_head_norms(&self) -> bool {
        self.model_type == "qwen3"
    }

    /// How many weights the model has; tied ones count once.
    pub fn parameters(&self) -> u64 {
        u64::try_from(self.count()).unwrap_or(u64::MAX)
    }

    /// [`Config::parameters`], for sizes that have not been checked either.
    fn count(&self) -> u128 {
        let [vocab, hidden, inner, layers] = [
            self.vocab_size,
            self.hidden_size,
            self.intermediate_size,
            self.num_hidden_layers,
        ]
        .map(|size| size as u128);
        let width = self.head_dim() as u128;
        let query = self.num_attention_heads as u128 * width;
        let narrow = self.num_key_value_heads as u128 * width;
        let layer = 2 * hidden
            + 2 * hidden * (query + narrow)
            + 3 * hidden * inner
            + u128::from(self.has_biases()) * (query + 2 * narrow)
            + u128::from(self.has_head_norms()) * 2 * width;
        let ends = 1 + u128::from(!self.tie_word_embeddings);
        ends * vocab * hidden + hidden + layers * layer
    }

    /// Every tensor of the checkpoint by its Hugging Face name, with its shape.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (query, narrow) = (self.query_size(), self.key_value_size());
        let mut shapes = BTreeMap::new();
        shapes.insert(
            "model.embed_tokens.weight".into(),
            vec![self.vocab_size, hidden],
        );
        shapes.insert("model.norm.weight".into(), vec![hidden]);
        if !self.tie_word_embeddings {
            shapes.insert("lm_head.weight".into(), vec![self.vocab_size, hidden]);
        }
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: &[usize]| {
                shapes.insert(format!("model.layers.{layer}.{name}"), shape.to_vec());
            };
            add("input_layernorm.weight", &[hidden]);
            add("post_attention_layernorm.weight", &[hidden]);
            for (part, size) in [("q_proj", query), ("k_proj", narrow), ("v_proj", narrow)] {
                add(&format!("self_attn.{part}.weight"), &[size, hidden]);
                if self.has_biases() {
                    add(&format!("self_attn.{part}.bias"), &[size]);
                }
            }
            if self.has_head_norms() {
                add("self_attn.q_norm.weight", &[self.head_dim()]);
                add("self_attn.k_norm.weight", &[self.head_dim()]);
            }
            add("self_attn.o_proj.weight", &[hidden, query]);
            add("mlp.gate_proj.weight", &[inner, hidden]);
            add("mlp.up_proj.weight", &[inner, hidden]);
            add("mlp.down_proj.weight", &[hidden, inner]);
        }
        shapes
    }
}

/// Keys that change what a model computes, with values that ours does not:
/// reading past them would give a model that runs and is wrong.
fn refuse_unsupported(json: &Value) -> Result<()> {
    let is_set = |key: &str| json.get(key).and_then(Value::as_bool) == Some(true);
    let family = json.get("model_type").and_then(Value::as_str);
    let own_biases = family.unwrap_or("qwen2") == "qwen2";
    for (key, what) in [
        ("attention_bias", "biases in all of attention"),
        ("mlp_bias", "biases in the feed-forward layer"),
        ("use_sliding_window", "sliding windows"),
    ] {
        if is_set(key) && !(key == "attention_bias" && own_biases) {
            return Err(Error::Config(format!(
                "{key} is true: {what} are not supported"
            )));
        }
    }
    if json
        .get("quantization_config")
        .is_some_and(|quantization| !quantization.is_null())
    {
        return Err(Error::Config(
            "the weights are quantised (quantization_config): take the model's f32, f16 or bf16 \
             weights, or a GGUF file"
                .into(),
        ));
    }
    match json.get("partial_rotary_factor").and_then(Value::as_f64) {
        Some(factor) if factor != 1.0 => Err(Error::Config(format!(
            "partial_rotary_factor is {factor}, only 1 is supported"
        ))),
        _ => Ok(()),
    }
}

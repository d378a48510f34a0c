//! The architecture, as Hugging Face's `config.json` writes it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A Qwen2 decoder's shape. Keys that the forward pass has no use for are
/// ignored when a `config.json` is read.
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
    /// Added to the mean square before its root is taken.
    pub rms_norm_eps: f64,
    /// The base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
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

fn qwen2() -> String {
    "qwen2".into()
}

fn silu() -> String {
    "silu".into()
}

impl Config {
    /// Reads a `config.json` and checks it.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(|error| Error::Config(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Refuses a configuration that no decoder can be built from.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::Config(why));
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ] {
            if value == 0 || value > 1 << 24 {
                return refuse(format!("{name} is {value}, expected 1 to 16777216"));
            }
        }
        if self.model_type != "qwen2" {
            return refuse(format!(
                "model_type {:?} is not supported, expected \"qwen2\"",
                self.model_type
            ));
        }
        if self.hidden_act != "silu" {
            return refuse(format!(
                "hidden_act {:?} is not supported, expected \"silu\"",
                self.hidden_act
            ));
        }
        if !self
            .hidden_size
            .is_multiple_of(2 * self.num_attention_heads)
        {
            return refuse(format!(
                "hidden_size {} does not divide into {} heads of even width",
                self.hidden_size, self.num_attention_heads
            ));
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
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps > 0.0) {
            return refuse(format!("rms_norm_eps is {}", self.rms_norm_eps));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return refuse(format!("rope_theta is {}", self.rope_theta));
        }
        Ok(())
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Width of all key heads together (and of all value heads).
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }

    /// Every tensor of the checkpoint by its Hugging Face name, with its shape.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let (hidden, inner, narrow) = (
            self.hidden_size,
            self.intermediate_size,
            self.key_value_size(),
        );
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
            add("self_attn.q_proj.weight", &[hidden, hidden]);
            add("self_attn.q_proj.bias", &[hidden]);
            add("self_attn.k_proj.weight", &[narrow, hidden]);
            add("self_attn.k_proj.bias", &[narrow]);
            add("self_attn.v_proj.weight", &[narrow, hidden]);
            add("self_attn.v_proj.bias", &[narrow]);
            add("self_attn.o_proj.weight", &[hidden, hidden]);
            add("mlp.gate_proj.weight", &[inner, hidden]);
            add("mlp.up_proj.weight", &[inner, hidden]);
            add("mlp.down_proj.weight", &[hidden, inner]);
        }
        shapes
    }
}

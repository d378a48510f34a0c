//! Small models and a tokenizer of bytes for the tests.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its share; a failure here is a failed test

use candle_core::{Device, Tensor};
use policy::{ChatMessage, Config, Decoder, Request, Tokenizer};

/// Tokens of [`tokenizer`]: 256 bytes, two control tokens, two tags.
pub(crate) const VOCAB: usize = 260;

pub(crate) fn config_with(vocab_size: usize, tied: bool) -> Config {
    Config::from_json(
        serde_json::json!({
            "model_type": "qwen2", "vocab_size": vocab_size, "hidden_size": 48,
            "intermediate_size": 80, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "rope_theta": 10_000.0,
            "tie_word_embeddings": tied, "max_position_embeddings": 128,
        })
        .to_string()
        .as_bytes(),
    )
    .unwrap()
}

/// One small model of each family: Qwen2, Qwen3, Llama 3, SmolLM2.
pub(crate) fn families(vocab_size: usize) -> Vec<Config> {
    let qwen2 = serde_json::to_value(config_with(vocab_size, true)).unwrap();
    let other = |changes: serde_json::Value| {
        let mut json = qwen2.clone();
        let changes = changes.as_object().unwrap().clone();
        json.as_object_mut().unwrap().extend(changes);
        Config::from_json(json.to_string().as_bytes()).unwrap()
    };
    vec![
        config_with(vocab_size, false),
        other(serde_json::json!({ "model_type": "qwen3", "head_dim": 16 })),
        other(serde_json::json!({
            "model_type": "llama", "head_dim": 8, "tie_word_embeddings": false,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
            },
        })),
        other(serde_json::json!({ "model_type": "llama" })),
    ]
}

/// The sizes of the embedded base model.
pub(crate) fn base_config() -> Config {
    Config {
        hidden_size: 96,
        intermediate_size: 288,
        num_hidden_layers: 4,
        max_position_embeddings: 512,
        ..config_with(338, true)
    }
}

/// A random decoder whose biases and norms are other than zero and one.
pub(crate) fn decoder(config: Config, seed: u64) -> Decoder {
    let decoder = Decoder::random(config, seed, &Device::Cpu).unwrap();
    for (name, var) in decoder.vars() {
        let dims = var.dims().to_vec();
        let count = var.elem_count();
        let wave: Vec<f32> = (0..count)
            .map(|index| 0.1 * (index as f32 * 1.7 + name.len() as f32).sin())
            .collect();
        let wave = Tensor::from_vec(wave, dims, &Device::Cpu).unwrap();
        var.set(&(var.as_detached_tensor() + wave).unwrap())
            .unwrap();
    }
    decoder
}

/// The weights of the reference scripts' `fill`.
pub(crate) fn fill(decoder: &Decoder) {
    for (number, (name, var)) in decoder.vars().iter().enumerate() {
        let wave = |index: usize| ((index * 7919 + number * 104_729) % 2001) as f64 / 1000.0 - 1.0;
        let shift = if name.ends_with("norm.weight") {
            1.0
        } else {
            0.0
        };
        let values: Vec<f32> = (0..var.elem_count())
            .map(|index| (shift + 0.3 * wave(index)) as f32)
            .collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
            .unwrap();
    }
}

/// A byte-level tokenizer without merges.
pub(crate) fn tokenizer_json() -> String {
    let mut vocab = serde_json::Map::new();
    let printable = |byte: u32| {
        (0x21..=0x7e).contains(&byte)
            || (0xa1..=0xac).contains(&byte)
            || (0xae..=0xff).contains(&byte)
    };
    let mut next = 256;
    for byte in 0..256u32 {
        let letter = if printable(byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        vocab.insert(char::from_u32(letter).unwrap().to_string(), byte.into());
    }
    let added = |id: u32, content: &str, special: bool| {
        serde_json::json!({
            "id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": special,
        })
    };
    let byte_level = serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [
            added(256, "<|im_start|>", true), added(257, "<|im_end|>", true),
            added(258, "<answer>", false), added(259, "</answer>", false),
        ],
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": false, "vocab": vocab, "merges": [],
        },
    })
    .to_string()
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(tokenizer_json().as_bytes()).unwrap()
}

pub(crate) fn request(content: &str, group: usize, seed: u64) -> Request {
    Request {
        messages: vec![ChatMessage::new("user", content)],
        group,
        seed,
        max_tokens: 40,
        ..Request::default()
    }
}

//! The tokenizer of a GGUF file, as the `tokenizer.json` it was made from.
//!
//! A file lists tokens, merges and the name of the rule that cuts text into
//! words. Rules are known by name only, so one that is not listed here is
//! refused: a tokenizer that cuts differently gives other tokens and says
//! nothing.

use super::gguf::{Metadata, whole};
use super::{Chat, Ends};
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Kinds of tokens that are no text: control tokens, and those of the user.
const CONTROL: usize = 3;
const USER_DEFINED: usize = 4;

const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut into words before merging.
struct Words {
    normalizer: Value,
    pre_tokenizer: Value,
    /// Whether a word that is a token is taken whole, whatever the merges say.
    ignores_merges: bool,
}

fn words(name: &str) -> Result<Words> {
    let bytes = |has_words: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": has_words,
        })
    };
    let sequence = |first: Value, second: Value| json!({ "type": "Sequence", "pretokenizers": [first, second] });
    let split = |pattern: &str| {
        json!({
            "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
            "invert": false,
        })
    };
    Ok(match name {
        "smollm" => Words {
            normalizer: Value::Null,
            pre_tokenizer: sequence(
                json!({ "type": "Digits", "individual_digits": true }),
                bytes(true),
            ),
            ignores_merges: false,
        },
        "qwen2" => Words {
            normalizer: json!({ "type": "NFC" }),
            pre_tokenizer: sequence(split(QWEN2_WORDS), bytes(false)),
            ignores_merges: false,
        },
        "llama-bpe" => Words {
            normalizer: Value::Null,
            pre_tokenizer: sequence(split(LLAMA3_WORDS), bytes(false)),
            ignores_merges: true,
        },
        "gpt-2" => Words {
            normalizer: Value::Null,
            pre_tokenizer: bytes(true),
            ignores_merges: false,
        },
        other => {
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.pre {other:?} is not supported, expected smollm, qwen2, llama-bpe \
                 or gpt-2; take the model's safetensors, whose folder has a tokenizer.json"
            )));
        }
    })
}

/// A `tokenizer.json` of what the file says.
pub(super) fn tokenizer_json(metadata: &Metadata<'_>) -> Result<Vec<u8>> {
    let kind = metadata.text("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(Error::Tokenizer(format!(
            "tokenizer.ggml.model {kind:?} is not supported, expected \"gpt2\"; take the model's \
             safetensors, whose folder has a tokenizer.json"
        )));
    }
    let words = words(metadata.text("tokenizer.ggml.pre")?)?;
    let tokens = metadata.texts("tokenizer.ggml.tokens")?;
    let mut vocab = serde_json::Map::new();
    for (id, token) in tokens.iter().enumerate() {
        if vocab.insert((*token).to_owned(), id.into()).is_some() {
            return Err(Error::Tokenizer(format!("token {token:?} is there twice")));
        }
    }
    let kinds = metadata.list("tokenizer.ggml.token_type")?;
    if kinds.len() != tokens.len() {
        return Err(Error::Tokenizer(format!(
            "{} tokens have {} kinds",
            tokens.len(),
            kinds.len()
        )));
    }
    let added: Vec<Value> = kinds
        .iter()
        .zip(&tokens)
        .enumerate()
        .filter_map(|(id, (kind, token))| {
            let kind = whole(kind).filter(|kind| [CONTROL, USER_DEFINED].contains(kind))?;
            Some(json!({
                "id": id, "content": token, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": kind == CONTROL,
            }))
        })
        .collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": words.normalizer,
        "pre_tokenizer": words.pre_tokenizer,
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": false,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false,
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "byte_fallback": false, "ignore_merges": words.ignores_merges,
            "vocab": vocab, "merges": metadata.texts("tokenizer.ggml.merges")?,
        },
    });
    serde_json::to_vec(&json).map_err(|error| Error::Tokenizer(error.to_string()))
}

/// The file's chat template and the tokens it calls by name.
pub(super) fn chat(metadata: &Metadata<'_>) -> Result<Option<Chat>> {
    const TEMPLATE: &str = "tokenizer.chat_template";
    if !metadata.has(TEMPLATE) {
        return Ok(None);
    }
    let tokens = metadata.texts("tokenizer.ggml.tokens")?;
    let mut named = BTreeMap::new();
    for (name, key) in [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ] {
        if metadata.has(key) {
            let id = metadata.number(key)?;
            let token = tokens.get(id).ok_or_else(|| {
                Error::Tokenizer(format!("{key} is {id}, of {} tokens", tokens.len()))
            })?;
            named.insert(name.to_owned(), (*token).to_owned());
        }
    }
    Ok(Some(Chat {
        chat_template: metadata.text(TEMPLATE)?.to_owned(),
        tokens: named,
    }))
}

/// Tokens that end a message, as the file names them.
pub(super) fn ends(metadata: &Metadata<'_>) -> Result<Ends> {
    let keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let named = keys.into_iter().filter(|key| metadata.has(key));
    let token = |key: &str| {
        let id = metadata.number(key)?;
        u32::try_from(id).map_err(|_| Error::Tokenizer(format!("{key} is {id}")))
    };
    Ok(Ends {
        eos_token_id: named.map(token).collect::<Result<_>>()?,
    })
}

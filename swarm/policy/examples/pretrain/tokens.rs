//! The tokenizer and the shape of the model.

use anyhow::{Result, anyhow};
use policy::Config;
use tasks::{SPECIAL_TOKENS, TOKEN_PATTERN};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, TokenizerBuilder, TokenizerImpl};

use crate::corpus::Example;

/// All tokens: 256 bytes, control tokens, tags, and merges for the words that
/// the prompts repeat.
const VOCABULARY: usize = 412;

/// Byte-level BPE, trained on the text of the examples. Bytes, so that no
/// peer's text is out of vocabulary; digits, capitals and signs are never
/// merged, so that traces align element by element.
pub(crate) fn train(examples: impl Iterator<Item = Example>) -> Result<Vec<u8>> {
    let control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let special: Vec<AddedToken> = control
        .iter()
        .copied()
        .chain(SPECIAL_TOKENS.iter().copied())
        .map(|token| AddedToken::from(token, true))
        .collect();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(special)
        .build();
    let elements = Split::new(
        SplitPattern::Regex(TOKEN_PATTERN.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
    .map_err(|error| anyhow!("the pattern of elements: {error}"))?;
    let mut tokenizer: TokenizerImpl<BPE, NFC, Sequence, TemplateProcessing, ByteLevel> =
        TokenizerBuilder::default()
            .with_model(BPE::default())
            .with_normalizer(None::<NFC>)
            .with_pre_tokenizer(Some(Sequence::new(vec![
                elements.into(),
                ByteLevel::new(false, false, false).into(),
            ])))
            .with_post_processor(None::<TemplateProcessing>)
            .with_decoder(Some(ByteLevel::default()))
            .build()
            .map_err(|error| anyhow!("building the tokenizer: {error}"))?;
    let texts: Vec<String> = examples
        .flat_map(|example| {
            let mut texts: Vec<String> = example
                .prompt
                .into_iter()
                .map(|message| message.content)
                .collect();
            texts.extend(["user", "assistant", "system"].map(str::to_owned));
            let mut completion = example.completion;
            for tag in SPECIAL_TOKENS {
                completion = completion.replace(tag, "\n");
            }
            texts.push(completion);
            texts
        })
        .collect();
    tokenizer
        .train(&mut trainer, texts.iter())
        .map_err(|error| anyhow!("training the tokenizer: {error}"))?;
    // The trainer reserves ids only for special tokens. But to the policy a
    // special token is one that no message may write, while tags are written
    // by messages: there each must stay one token.
    let tags = SPECIAL_TOKENS.map(|tag| AddedToken::from(tag, false).normalized(false));
    tokenizer
        .add_tokens(tags)
        .map_err(|error| anyhow!("adding the tags: {error}"))?;
    Ok(tokenizer
        .to_string(true)
        .map_err(|error| anyhow!("writing the tokenizer: {error}"))?
        .into())
}

/// Qwen2, about half a million parameters. Bigger was worse at equal CPU time.
pub(crate) fn config(vocabulary: usize) -> Config {
    Config {
        model_type: "qwen2".to_owned(),
        vocab_size: vocabulary,
        hidden_size: 96,
        intermediate_size: 288,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        rms_norm_eps: 1e-6,
        head_dim: None,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 512,
        hidden_act: "silu".to_owned(),
    }
}

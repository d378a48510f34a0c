//! Adapters against PEFT, whose files and numbers are in `reference/lora`,
//! written by `reference/lora.py`:
//!
//! ```python
//! model = peft.get_peft_model(base(), peft.LoraConfig(r=4, lora_alpha=6, target_modules=[...]))
//! (-log_probs(model).mean()).backward()
//! model.save_pretrained("lora")
//! ```
//!
//! Tolerance: f32 in another order of operations, as in `reference.rs`.

#![allow(clippy::unwrap_used)] // a failure is a failed test

mod common;

use candle_core::{DType, Device, Tensor};
use common::{VOCAB, config_with, decoder, families, tokenizer_json};
use policy::kernel::{Plan, Sequence, differentiate, score};
use policy::{
    Adapter, ChatMessage, Config, Decoder, GrpoSettings, LoraSettings, Policy, Pretrained, Request,
    TrainCompletion, TrainGroup,
};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const WEIGHTS: &[u8] = include_bytes!("reference/lora/adapter_model.safetensors");
const SETTINGS: &[u8] = include_bytes!("reference/lora/adapter_config.json");

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The model of the script with PEFT's adapter.
fn recorded() -> (Decoder, Vec<Sequence>, Value) {
    let expected: Value =
        serde_json::from_str(include_str!("reference/lora/expected.json")).unwrap();
    let config = Config::from_json(expected["config"].to_string().as_bytes()).unwrap();
    let decoder = Decoder::random(config.clone(), 0, &Device::Cpu).unwrap();
    common::fill(&decoder);
    let adapter = Adapter::from_peft(&config, WEIGHTS, SETTINGS, &Device::Cpu).unwrap();
    let tokens: Vec<Vec<u32>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let sequences = tokens
        .into_iter()
        .map(|tokens| Sequence { tokens, prompt: 1 })
        .collect();
    (
        decoder.with_adapter(Some(adapter)).unwrap(),
        sequences,
        expected,
    )
}

#[test]
fn pefts_adapter_computes_what_it_does_there() {
    let (decoder, sequences, expected) = recorded();
    let slopes = |_, log_probs: &[f32]| vec![-1.0 / 16.0; log_probs.len()];
    let (scores, gradients) =
        differentiate(&decoder, &sequences, &Plan::default(), &slopes).unwrap();
    let truth: Vec<f32> = serde_json::from_value(expected["log_probs"].clone()).unwrap();
    for (found, truth) in scores.log_probs.iter().zip(&truth) {
        assert!((found - truth).abs() < 1e-5, "{found} is not {truth}");
    }
    let norms = expected["gradient_norms"].as_object().unwrap();
    assert_eq!(norms.len(), gradients.len());
    for (name, truth) in norms {
        let truth = truth.as_f64().unwrap() as f32;
        let found = flat(&gradients[name])
            .iter()
            .map(|x| x * x)
            .sum::<f32>()
            .sqrt();
        assert!(
            (found / truth - 1.0).abs() < 1e-5,
            "{name}: {found} is not {truth}"
        );
    }
}

#[test]
fn what_is_exported_is_what_peft_wrote() {
    let (decoder, ..) = recorded();
    let (weights, settings) = decoder.adapter().unwrap().to_peft("tiny").unwrap();
    let read = |bytes: &[u8]| {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let mut tensors: Vec<_> = file
            .iter()
            .map(|(name, view)| {
                let values = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                (name.to_owned(), values)
            })
            .collect();
        tensors.sort_by(|left, right| left.0.cmp(&right.0));
        tensors
    };
    assert!(read(&weights) == read(WEIGHTS), "the tensors differ");
    let (ours, theirs): (Value, Value) = (
        serde_json::from_slice(&settings).unwrap(),
        serde_json::from_slice(SETTINGS).unwrap(),
    );
    for (key, value) in ours.as_object().unwrap() {
        let sorted = |value: &Value| match value.as_array() {
            Some(list) => {
                let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
                list.sort();
                list.join(" ")
            }
            None => value
                .as_f64()
                .map_or(value.to_string(), |number| number.to_string()),
        };
        assert_eq!(sorted(value), sorted(&theirs[key]), "{key}");
    }
}

#[test]
fn kernel_and_graph_agree_with_each_other_and_with_merged_weights() {
    for config in families(40) {
        let base = decoder(config.clone(), 3);
        let adapter = Adapter::new(&config, LoraSettings::with_rank(3), 9, &Device::Cpu).unwrap();
        for (index, var) in adapter.vars().values().enumerate() {
            let wave = |at: usize| 0.3 * ((at * 7 + index) as f32).sin();
            let values: Vec<f32> = (0..var.elem_count()).map(wave).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
        }
        let merged = decoder(config, 3);
        for (name, var) in merged.vars() {
            let Some(map) = name.strip_suffix(".weight") else {
                continue;
            };
            let weight = adapter.merged(map, &var.as_detached_tensor()).unwrap();
            var.set(&weight.copy().unwrap()).unwrap();
        }
        let adapted = base.with_adapter(Some(adapter)).unwrap();
        let sequences: Vec<Sequence> = (0..5u32)
            .map(|row| Sequence {
                tokens: (0..9).map(|at| (at * 11 + row * 7) % 40).collect(),
                prompt: 1 + row as usize,
            })
            .collect();
        let slopes =
            |range: std::ops::Range<usize>, _: &[f32]| range.map(|i| (i as f32).cos()).collect();
        let plan = Plan::default();
        let (found, gradients) = differentiate(&adapted, &sequences, &plan, &slopes).unwrap();
        assert_eq!(gradients.len(), adapted.trained().len());
        let whole = score(&merged, &sequences, &plan).unwrap();
        let bare = score(&base, &sequences, &plan).unwrap();
        let apart = |left: &[f32], right: &[f32]| {
            let pairs = left.iter().zip(right);
            pairs.fold(0f32, |most, (left, right)| most.max((left - right).abs()))
        };
        assert!(apart(&found.log_probs, &whole.log_probs) < 2e-5);
        assert!(apart(&found.log_probs, &bare.log_probs) > 1e-2);

        let mut at = 0;
        let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
        for sequence in &sequences {
            let tokens = Tensor::new(&sequence.tokens[..], &Device::Cpu).unwrap();
            let hidden = adapted.hidden(&tokens.unsqueeze(0).unwrap()).unwrap();
            let count = sequence.predicted();
            let hidden = hidden.squeeze(0).unwrap();
            let rows = hidden.narrow(0, sequence.prompt - 1, count).unwrap();
            let targets = tokens.narrow(0, sequence.prompt, count).unwrap();
            let (log_probs, _) = adapted.log_probs(&rows, &targets, 3).unwrap();
            let weights = slopes(at..at + count, &[]);
            let weights = Tensor::new(weights, &Device::Cpu).unwrap();
            loss = (loss + (log_probs * weights).unwrap().sum_all().unwrap()).unwrap();
            at += count;
        }
        let store = loss.backward().unwrap();
        for (name, var) in adapted.trained() {
            let (ours, theirs) = (flat(&gradients[name]), flat(store.get(var).unwrap()));
            let scale = theirs
                .iter()
                .fold(1e-3f32, |most, value| most.max(value.abs()));
            assert!(apart(&ours, &theirs) < 2e-5 * scale, "{name}");
        }
        // Nothing else is in the graph.
        assert!(adapted.vars().values().all(|var| store.get(var).is_none()));
    }
}

fn policy() -> Policy {
    let config = config_with(VOCAB, true);
    let weights = decoder(config.clone(), 1)
        .to_safetensors(DType::F32)
        .unwrap();
    let config = serde_json::to_vec(&config).unwrap();
    Policy::from_parts(&config, tokenizer_json().as_bytes(), &weights, &Device::Cpu).unwrap()
}

fn train(policy: &mut Policy, kl: Option<f32>) {
    let completion = |text: &str| TrainCompletion {
        text: text.into(),
        tokens: None,
        finished: true,
        ..TrainCompletion::default()
    };
    let group = TrainGroup {
        prompt: vec![ChatMessage::new("user", "2+2?")],
        completions: vec![completion("4"), completion("five")],
        rewards: vec![1.0, 0.0],
        origin: 0,
    };
    let settings = GrpoSettings {
        learning_rate: 1e-2,
        kl,
        ..GrpoSettings::default()
    };
    let report = policy.train(&[group], &settings).unwrap();
    assert_eq!(report.updates, 1);
}

fn greedy(policy: &Policy) -> Vec<f32> {
    let request = Request {
        temperature: 0.0,
        max_tokens: 6,
        ..common::request("2+2?", 1, 0)
    };
    policy.sample(&[request]).unwrap()[0][0].log_probs.clone()
}

#[test]
fn only_the_adapter_is_trained_and_sampling_follows_it() {
    let mut policy = policy();
    let (base, before) = (policy.weights(DType::F32).unwrap(), greedy(&policy));
    policy.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
    assert_eq!(greedy(&policy), before, "a fresh adapter changes nothing");
    let fresh = policy.weights_hash().unwrap();
    // Without a frozen reference the model without its adapter is one.
    for _ in 0..3 {
        train(&mut policy, Some(0.05));
    }
    assert!(
        policy.weights(DType::F32).unwrap() == base,
        "the base moved"
    );
    assert_ne!(policy.weights_hash().unwrap(), fresh);
    assert_ne!(greedy(&policy), before);
}

#[test]
fn sampled_log_probabilities_are_those_of_the_adapted_model() {
    let mut policy = policy();
    policy.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
    for _ in 0..5 {
        train(&mut policy, None);
    }
    let request = Request {
        max_tokens: 12,
        ..common::request("2+2?", 3, 5)
    };
    let prompt = policy.tokenizer().prompt(&request.messages).unwrap();
    for completion in &policy.sample(&[request]).unwrap()[0] {
        let tokens = [prompt.clone(), completion.tokens.clone()].concat();
        let sequence = Sequence {
            tokens,
            prompt: prompt.len(),
        };
        let truth = score(policy.decoder(), &[sequence], &Plan::default()).unwrap();
        for (found, truth) in completion.log_probs.iter().zip(&truth.log_probs) {
            assert!((found - truth).abs() < 1e-4, "{found} is not {truth}");
        }
    }
}

#[test]
fn a_resumed_adapter_continues_bit_for_bit() {
    let dir = TempDir::new().unwrap();
    let mut straight = policy();
    straight.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
    train(&mut straight, None);
    let hash = straight.save(dir.path(), &Value::Null).unwrap();
    assert_eq!(hash, straight.weights_hash().unwrap());
    let resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    let mut policy = resumed.policy;
    assert_eq!(policy.weights_hash().unwrap(), hash);
    for _ in 0..2 {
        train(&mut straight, None);
        train(&mut policy, None);
    }
    assert_eq!(
        policy.weights_hash().unwrap(),
        straight.weights_hash().unwrap()
    );

    // The folder of a checkpoint is one that PEFT reads, and so do others here.
    let mut third = self::policy();
    third.import_adapter(&resumed.path).unwrap();
    assert_eq!(third.weights_hash().unwrap(), hash);
    let export = dir.path().join("export");
    third.export_adapter(&export, "someone/model").unwrap();
    let json = fs::read_to_string(export.join("adapter_config.json")).unwrap();
    assert!(json.contains("someone/model"), "{json}");
    assert!(self::policy().export_adapter(&export, "x").is_err());
}

#[test]
fn adapters_that_are_something_else_are_refused() {
    let config = recorded().0.config().clone();
    let good: Value = serde_json::from_slice(SETTINGS).unwrap();
    let refusal = |changes: Value| {
        let mut json = good.clone();
        let changes = changes.as_object().unwrap().clone();
        json.as_object_mut().unwrap().extend(changes);
        let json = serde_json::to_vec(&json).unwrap();
        Adapter::from_peft(&config, WEIGHTS, &json, &Device::Cpu)
            .unwrap_err()
            .to_string()
    };
    for (changes, why) in [
        (
            serde_json::json!({ "peft_type": "IA3" }),
            "peft_type is \"IA3\"",
        ),
        (serde_json::json!({ "use_dora": true }), "use_dora is set"),
        (serde_json::json!({ "bias": "all" }), "bias is"),
        (
            serde_json::json!({ "modules_to_save": ["lm_head"] }),
            "modules_to_save is set",
        ),
        (
            serde_json::json!({ "r": 8 }),
            "is [4, 24], expected [8, 24]",
        ),
        (serde_json::json!({ "r": 0 }), "r is 0"),
    ] {
        let message = refusal(changes);
        assert!(message.contains(why), "{message}");
    }
    let cut = &WEIGHTS[..WEIGHTS.len() - 9];
    let error = Adapter::from_peft(&config, cut, SETTINGS, &Device::Cpu).unwrap_err();
    assert!(
        error.to_string().contains("adapter_model.safetensors"),
        "{error}"
    );

    for settings in [
        LoraSettings::with_rank(0),
        LoraSettings::with_rank(500),
        LoraSettings {
            targets: ["lm_head".to_owned()].into(),
            ..LoraSettings::default()
        },
        LoraSettings {
            targets: [].into(),
            ..LoraSettings::default()
        },
    ] {
        let error = policy().add_adapter(settings, 1).unwrap_err().to_string();
        assert!(error.contains("LoRA"), "{error}");
    }
}

#[test]
fn a_checkpoint_of_an_adapter_names_its_base_and_does_not_repeat_it() {
    let base = TempDir::new().unwrap();
    let folder = base.path().join("model");
    policy().export(&folder, DType::F32, None).unwrap();
    let read = || Pretrained::open(&folder).unwrap().load(&Device::Cpu);
    let mut straight = read().unwrap();
    straight.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
    train(&mut straight, None);
    let dir = TempDir::new().unwrap();
    let hash = straight.save(dir.path(), &Value::Null).unwrap();
    let resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    let mut names: Vec<_> = fs::read_dir(&resumed.path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            "b3sums",
            "base.json",
            "optimizer.safetensors",
            "state.json"
        ]
    );
    let peft = fs::read_to_string(resumed.path.join("adapter_config.json")).unwrap();
    assert!(peft.contains(folder.to_str().unwrap()), "{peft}");
    let mut policy = resumed.policy;
    assert_eq!(policy.weights_hash().unwrap(), hash);
    train(&mut straight, None);
    train(&mut policy, None);
    assert_eq!(
        policy.weights_hash().unwrap(),
        straight.weights_hash().unwrap()
    );
    // What was resumed is saved the same way.
    policy.save(dir.path(), &Value::Null).unwrap();

    // The base moves: whoever says where it is now need not say it again.
    let moved = base.path().join("elsewhere");
    fs::rename(&folder, &moved).unwrap();
    let refusal = || {
        let resumed = Policy::resume(dir.path(), &Device::Cpu);
        resumed.map(|_| ()).unwrap_err().to_string()
    };
    let error = refusal();
    assert!(
        error.contains("an adapter of model, blake3") && error.contains("say where it is"),
        "{error}"
    );
    let on = |said: &Path| Policy::resume_on(dir.path(), Some(said), &Device::Cpu);
    let found = on(&moved).unwrap().policy;
    assert_eq!(
        found.weights_hash().unwrap(),
        straight.weights_hash().unwrap()
    );
    found.save(dir.path(), &Value::Null).unwrap();
    Policy::resume(dir.path(), &Device::Cpu).unwrap();
    // A model that it does not belong to is passed over.
    let other = base.path().join("other");
    let stranger = Policy::from_parts(
        &fs::read(moved.join("config.json")).unwrap(),
        tokenizer_json().as_bytes(),
        &decoder(config_with(VOCAB, true), 77)
            .to_safetensors(DType::F32)
            .unwrap(),
        &Device::Cpu,
    )
    .unwrap();
    stranger.export(&other, DType::F32, None).unwrap();
    on(&other).unwrap();

    // Another base in its place, and none.
    let folder = moved;
    let weights = folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let error = refusal();
    assert!(
        error.contains("base.json") && error.contains("are not those"),
        "{error}"
    );
    fs::remove_dir_all(&folder).unwrap();
    let error = refusal();
    assert!(error.contains("put it back"), "{error}");
}

#[test]
fn an_adapter_of_weights_that_moved_keeps_them_beside_it() {
    let base = TempDir::new().unwrap();
    let folder = base.path().join("model");
    policy().export(&folder, DType::F32, None).unwrap();
    let mut moved = Pretrained::open(&folder)
        .unwrap()
        .load(&Device::Cpu)
        .unwrap();
    train(&mut moved, None);
    moved.add_adapter(LoraSettings::with_rank(4), 7).unwrap();
    let dir = TempDir::new().unwrap();
    moved.save(dir.path(), &Value::Null).unwrap();
    let resumed = Policy::resume(dir.path(), &Device::Cpu).unwrap();
    assert!(resumed.path.join("weights.safetensors").exists());
    assert_eq!(greedy(&resumed.policy), greedy(&moved));
}

//! The decoder against PyTorch and transformers.
//!
//! `reference/models.json` is written by `reference/models.py`, which gives a
//! tiny model of each family (Qwen2 tied and not, Qwen3, Llama 3 with its
//! rotary scaling, SmolLM2) the weights of a formula and records, in short:
//!
//! ```python
//! model = transformers.AutoModelForCausalLM.from_config(config).float().eval(); fill(model)
//! logits = model(input_ids=tokens).logits[:, :-1].reshape(16, 29)
//! all_log_probs = torch.log_softmax(logits, -1)
//! log_probs = all_log_probs.gather(1, tokens[:, 1:].reshape(16, 1)).squeeze(1)
//! (-log_probs.mean()).backward()
//! ```
//!
//! Tolerance: both compute in f32, whose epsilon is 1.2e-7; a few hundred
//! operations in another order leave them within 1e-5, relative for gradients.

#![allow(clippy::unwrap_used)] // a failure is a failed test

mod common;

use candle_core::{Device, Tensor};
use common::fill;
use policy::kernel::{self, Plan, Sequence};
use policy::{Config, Decoder};
use serde_json::Value;

const TOLERANCE: f32 = 1e-5;

struct Case {
    decoder: Decoder,
    tokens: Vec<Vec<u32>>,
    expected: Value,
}

fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("reference/models.json")).unwrap();
    let case = |expected: &Value| {
        let config = Config::from_json(expected["config"].to_string().as_bytes()).unwrap();
        let decoder = Decoder::random(config, 0, &Device::Cpu).unwrap();
        fill(&decoder);
        let tokens = serde_json::from_value(expected["tokens"].clone()).unwrap();
        Case {
            decoder,
            tokens,
            expected: expected.clone(),
        }
    };
    file["cases"].as_array().unwrap().iter().map(case).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn assert_near(what: &str, ours: &[f32], truth: &[f32]) {
    assert_eq!(ours.len(), truth.len(), "{what}");
    for (ours, truth) in ours.iter().zip(truth) {
        assert!(
            (ours - truth).abs() < TOLERANCE,
            "{what}: {ours} against {truth}"
        );
    }
}

fn assert_gradients(case: &Case, gradient: impl Fn(&str) -> Tensor) {
    let norms = case.expected["gradient_norms"].as_object().unwrap();
    assert_eq!(norms.len(), case.decoder.vars().len());
    for (name, truth) in norms {
        let truth = truth.as_f64().unwrap() as f32;
        let square = gradient(name).sqr().unwrap().sum_all().unwrap();
        let ours = square.to_scalar::<f32>().unwrap().sqrt();
        assert!(
            (ours / truth - 1.0).abs() < TOLERANCE,
            "{name}: norm {ours} against {truth}"
        );
    }
    let whole = gradient("model.layers.0.self_attn.k_proj.weight")
        .flatten_all()
        .unwrap();
    assert_near(
        "gradient",
        &whole.to_vec1().unwrap(),
        &numbers(&case.expected["gradient"]),
    );
}

#[test]
fn the_graph_computes_what_pytorch_computes() {
    for case in cases() {
        let decoder = &case.decoder;
        let tokens = Tensor::new(case.tokens.clone(), &Device::Cpu).unwrap();
        let hidden = decoder.hidden(&tokens).unwrap().narrow(1, 0, 8).unwrap();
        let hidden = hidden.flatten(0, 1).unwrap();
        let targets = tokens.narrow(1, 1, 8).unwrap().flatten_all().unwrap();
        let (log_probs, entropies) = decoder.log_probs(&hidden, &targets, 5).unwrap();
        let list = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap();
        assert_near(
            "log-probs",
            &list(&log_probs),
            &numbers(&case.expected["log_probs"]),
        );
        assert_near(
            "entropies",
            &list(&entropies),
            &numbers(&case.expected["entropies"]),
        );

        let output = match decoder.vars().get("lm_head.weight") {
            Some(head) => head,
            None => &decoder.vars()["model.embed_tokens.weight"],
        };
        let logits = hidden
            .detach()
            .matmul(&output.as_detached_tensor().t().unwrap())
            .unwrap();
        let logits = logits.to_vec2::<f32>().unwrap();
        for (row, truth) in case.expected["logits"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            assert_near("logits", &logits[5 * row], &numbers(truth));
        }

        let gradients = log_probs
            .mean_all()
            .unwrap()
            .neg()
            .unwrap()
            .backward()
            .unwrap();
        assert_gradients(&case, |name| {
            gradients.get(&decoder.vars()[name]).unwrap().clone()
        });
    }
}

#[test]
fn the_kernel_computes_what_pytorch_computes() {
    for case in cases() {
        let sequences: Vec<Sequence> = case
            .tokens
            .iter()
            .map(|tokens| Sequence {
                tokens: tokens.clone(),
                prompt: 1,
            })
            .collect();
        let slopes = |_, log_probs: &[f32]| vec![-1.0 / 16.0; log_probs.len()];
        let (scores, gradients) =
            kernel::differentiate(&case.decoder, &sequences, &Plan::default(), &slopes).unwrap();
        assert_near(
            "log-probs",
            &scores.log_probs,
            &numbers(&case.expected["log_probs"]),
        );
        assert_near(
            "entropies",
            &scores.entropies,
            &numbers(&case.expected["entropies"]),
        );
        assert_gradients(&case, |name| gradients[name].clone());
    }
}

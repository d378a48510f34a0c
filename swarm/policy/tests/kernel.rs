//! The training kernel against the autograd graph.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{decoder, families};
use policy::kernel::{Sequence, differentiate, score};
use policy::{Config, Decoder};

fn config() -> Config {
    Config {
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: None,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_scaling: None,
        tie_word_embeddings: true,
        max_position_embeddings: 64,
        model_type: "qwen2".into(),
        hidden_act: "silu".into(),
    }
}

/// Sequences of many lengths, more than one piece of them; of every four, three
/// begin with the same prompt, and of those one has nothing to predict.
fn sequences(count: usize) -> Vec<Sequence> {
    (0..count)
        .map(|index| {
            let prompt = 1 + (index / 4) % 9;
            let is_alone = index % 4 == 3;
            let predicted = if index % 8 == 1 {
                0
            } else {
                1 + (index * 7) % 40
            };
            Sequence {
                tokens: (0..prompt + predicted)
                    .map(|at| match at < prompt && !is_alone {
                        true => ((index / 4 * 31 + at * 17) % 40) as u32,
                        false => ((index * 13 + at * 17 + 5) % 40) as u32,
                    })
                    .collect(),
                prompt,
            }
        })
        .collect()
}

/// The same log-probabilities and gradients by the graph, one sequence at a time.
fn oracle(
    decoder: &Decoder,
    sequences: &[Sequence],
    slopes: &[f32],
) -> (Vec<f32>, Vec<f32>, BTreeMap<String, Tensor>) {
    let (mut log_probs, mut entropies, mut at) = (Vec::new(), Vec::new(), 0);
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
    for sequence in sequences {
        let length = sequence.tokens.len();
        let tokens = Tensor::new(&sequence.tokens[..], &Device::Cpu)
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let hidden = decoder.hidden(&tokens).unwrap().squeeze(0).unwrap();
        let rows = hidden
            .narrow(0, sequence.prompt - 1, length - sequence.prompt)
            .unwrap();
        let targets = Tensor::new(&sequence.tokens[sequence.prompt..], &Device::Cpu).unwrap();
        let (values, entropy) = decoder.log_probs(&rows, &targets, 7).unwrap();
        let count = sequence.predicted();
        let slope = Tensor::new(&slopes[at..at + count], &Device::Cpu).unwrap();
        loss = (loss + (&values * slope).unwrap().sum_all().unwrap()).unwrap();
        at += count;
        log_probs.extend(values.to_vec1::<f32>().unwrap());
        entropies.extend(entropy.to_vec1::<f32>().unwrap());
    }
    let store = loss.backward().unwrap();
    let gradients = decoder
        .vars()
        .iter()
        .map(|(name, variable)| (name.clone(), store.get(variable).unwrap().clone()))
        .collect();
    (log_probs, entropies, gradients)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_kernel_agrees_with_the_graph() {
    for config in [config()].into_iter().chain(families(40)) {
        let decoder = decoder(config, 3);
        let sequences = sequences(60);
        let predicted: usize = sequences.iter().map(Sequence::predicted).sum();
        let slopes: Vec<f32> = (0..predicted)
            .map(|i| ((i * 37) % 11) as f32 / 11.0 - 0.4)
            .collect();
        let (scores, gradients) =
            differentiate(&decoder, &sequences, &|range, _| slopes[range].to_vec()).unwrap();
        let (log_probs, entropies, expected) = oracle(&decoder, &sequences, &slopes);
        let close = |ours: &[f32], theirs: &[f32], what: &str| {
            let scale = theirs
                .iter()
                .fold(0f32, |most, value| most.max(value.abs()))
                .max(1e-3);
            assert_eq!(ours.len(), theirs.len(), "{what}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!(
                    (ours - theirs).abs() <= 2e-5 * scale,
                    "{what}: {ours} against {theirs}"
                );
            }
        };
        close(&scores.log_probs, &log_probs, "log-probabilities");
        close(&scores.entropies, &entropies, "entropies");
        assert_eq!(gradients.len(), expected.len());
        for (name, gradient) in &expected {
            assert!(
                flat(gradient).iter().any(|value| *value != 0.0),
                "{name} has no gradient"
            );
            close(&flat(&gradients[name]), &flat(gradient), name);
        }
    }
}

#[test]
fn results_are_bit_identical_for_any_number_of_threads() {
    let decoder = Decoder::random(config(), 5, &Device::Cpu).unwrap();
    let sequences = sequences(80);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (scores, gradients) = pool
            .install(|| differentiate(&decoder, &sequences, &|_, log_probs| log_probs.to_vec()))
            .unwrap();
        (scores, gradients.values().map(flat).collect::<Vec<_>>())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
    assert_eq!(one.0, score(&decoder, &sequences).unwrap());
}

#[test]
fn bad_sequences_are_refused() {
    let decoder = Decoder::random(config(), 5, &Device::Cpu).unwrap();
    let refused = |tokens: Vec<u32>, prompt| {
        score(&decoder, &[Sequence { tokens, prompt }])
            .unwrap_err()
            .to_string()
    };
    assert!(refused(vec![1, 2], 0).contains("prompt of 0"));
    assert!(refused(vec![1, 40], 1).contains("outside the vocabulary"));
    assert!(refused(vec![1; 65], 1).contains("positions"));
    assert!(refused(vec![], 0).contains("0 tokens"));
}

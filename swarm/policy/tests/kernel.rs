//! The training kernel against the autograd graph.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use common::{decoder, families};
use policy::kernel::{Plan, Precision, Sequence, differentiate, score};
use policy::{Adapter, Config, DType, Decoder, LoraSettings};

const PLAN: Plan = Plan {
    precision: Precision::F32,
    recompute: false,
    tokens: 0,
    bf16_gradients: false,
};

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
        let (scores, gradients) = differentiate(&decoder, &sequences, &PLAN, &|range, _| {
            slopes[range].to_vec()
        })
        .unwrap();
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

/// A loss with a slope of its own for every token.
fn by_place(range: std::ops::Range<usize>, _: &[f32]) -> Vec<f32> {
    range.map(|i| ((i * 37) % 11) as f32 / 11.0 - 0.4).collect()
}

#[test]
fn neither_threads_nor_what_is_kept_changes_a_bit() {
    let decoder = decoder(config(), 5);
    let sequences = sequences(80);
    let run = |threads, plan: &Plan| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let (scores, gradients) = pool
            .install(|| differentiate(&decoder, &sequences, plan, &by_place))
            .unwrap();
        (scores, gradients.values().map(flat).collect::<Vec<_>>())
    };
    let one = run(1, &PLAN);
    assert_eq!(one, run(2, &PLAN));
    assert_eq!(one, run(5, &PLAN));
    for tokens in [1, 900, 1_000_000] {
        let plan = Plan {
            recompute: true,
            tokens,
            ..PLAN
        };
        assert_eq!(one, run(1, &plan), "{tokens} tokens at once");
        assert_eq!(one, run(2, &plan), "{tokens} tokens at once");
    }
    assert_eq!(one.0, score(&decoder, &sequences, &PLAN).unwrap());
}

/// The largest difference, as a share of the largest number.
fn apart(left: &[f32], right: &[f32]) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |a, b| a.max(b.abs()));
    let most = largest(&mut right.iter().copied()).max(1e-6);
    largest(&mut left.iter().zip(right).map(|(a, b)| a - b)) / most
}

#[test]
fn bf16_is_near_f32() {
    let decoder = decoder(config(), 5);
    let sequences = sequences(60);
    let run = |plan: &Plan| {
        let (scores, gradients) = differentiate(&decoder, &sequences, plan, &by_place).unwrap();
        let gradients: Vec<Vec<f32>> = gradients
            .values()
            .map(|tensor| flat(&tensor.to_dtype(candle_core::DType::F32).unwrap()))
            .collect();
        (scores, gradients)
    };
    let (exact_scores, exact) = run(&PLAN);
    let kept = run(&Plan {
        bf16_gradients: true,
        recompute: true,
        tokens: 1_000_000,
        ..PLAN
    });
    assert_eq!(kept.0, exact_scores);
    let computed = run(&Plan {
        precision: Precision::Bf16,
        ..PLAN
    });
    // Rounded to 8 bits a number is 2^-9 off at most, and an embedding's gradient
    // is rounded twice; products of two and sums of many are further off.
    for (found, most) in [(&kept, 4e-3), (&computed, 0.06)] {
        let off = apart(&found.0.log_probs, &exact_scores.log_probs);
        assert!(off < most, "log-probabilities are {off} apart");
        for (found, exact) in found.1.iter().zip(&exact) {
            let off = apart(found, exact);
            assert!(off < most, "gradients are {off} apart");
        }
    }
    if Precision::bf16_is_fast() {
        assert_ne!(computed.0, exact_scores);
    }
}

#[test]
fn how_weights_are_kept_changes_no_bit() {
    // Wide enough that a product is widened in several parts.
    let wide = Config {
        hidden_size: 64,
        intermediate_size: 4200,
        num_hidden_layers: 1,
        ..config()
    };
    for config in [config(), wide].into_iter().chain(families(40)) {
        let halves = decoder(config.clone(), 3).kept_in(DType::BF16).unwrap();
        let widened = halves.kept_in(DType::F32).unwrap();
        assert_eq!((halves.dtype(), widened.dtype()), (DType::BF16, DType::F32));
        let lora = LoraSettings::with_rank(2);
        let adapter = || Some(Adapter::new(&config, lora.clone(), 7, &Device::Cpu).unwrap());
        let adapted = [&halves, &widened].map(|one| one.with_adapter(adapter()).unwrap());
        let sequences = sequences(20);
        for precision in [Precision::F32, Precision::Bf16] {
            let plan = Plan { precision, ..PLAN };
            let run = |decoder: &Decoder| {
                let (scores, gradients) =
                    differentiate(decoder, &sequences, &plan, &by_place).unwrap();
                (scores, gradients.values().map(flat).collect::<Vec<_>>())
            };
            assert_eq!(run(&halves), run(&widened), "{precision:?}");
            assert_eq!(run(&adapted[0]), run(&adapted[1]), "{precision:?}, LoRA");
        }
    }
}

#[test]
fn bad_sequences_are_refused() {
    let decoder = Decoder::random(config(), 5, &Device::Cpu).unwrap();
    let refused = |tokens: Vec<u32>, prompt| {
        score(&decoder, &[Sequence { tokens, prompt }], &PLAN)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(vec![1, 2], 0).contains("prompt of 0"));
    assert!(refused(vec![1, 40], 1).contains("outside the vocabulary"));
    assert!(refused(vec![1; 65], 1).contains("positions"));
    assert!(refused(vec![], 0).contains("0 tokens"));
}

//! The decoder against the stock model of candle-transformers, over the same
//! storage: one must compute what the other computes, and only ours trains.

#![allow(clippy::unwrap_used)] // a failure is a failed test

mod common;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen2;
use common::{config_with, decoder, families};
use policy::Decoder;

fn tokens(batch: usize, length: usize, vocab: usize) -> Tensor {
    let ids: Vec<u32> = (0..batch * length)
        .map(|index| ((index * 7919 + 13) % vocab) as u32)
        .collect();
    Tensor::from_vec(ids, (batch, length), &Device::Cpu).unwrap()
}

/// The stock model's last hidden states, from the very storage of `decoder`.
fn stock_hidden(decoder: &Decoder, tokens: &Tensor) -> Tensor {
    let config = decoder.config();
    let stock = qwen2::Config {
        vocab_size: config.vocab_size,
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        max_position_embeddings: config.max_position_embeddings,
        sliding_window: config.max_position_embeddings,
        max_window_layers: 0,
        tie_word_embeddings: config.tie_word_embeddings,
        rope_theta: config.rope_theta,
        rms_norm_eps: config.rms_norm_eps,
        use_sliding_window: false,
        hidden_act: candle_nn::Activation::Silu,
    };
    let shared = decoder
        .vars()
        .iter()
        .map(|(name, var)| (name.clone(), var.as_detached_tensor()))
        .collect();
    let builder = VarBuilder::from_tensors(shared, DType::F32, &Device::Cpu);
    let mut model = qwen2::Model::new(&stock, builder).unwrap();
    model.forward(tokens, 0, None).unwrap()
}

fn distance(left: &Tensor, right: &Tensor) -> f32 {
    (left.detach() - right.detach())
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap()
}

#[test]
fn hidden_states_equal_the_stock_models() {
    for tied in [true, false] {
        let decoder = decoder(config_with(61, tied), 5);
        let tokens = tokens(3, 37, 61);
        let ours = decoder.hidden(&tokens).unwrap();
        let stock = stock_hidden(&decoder, &tokens);
        let apart = distance(&ours, &stock);
        assert!(apart < 2e-5, "hidden states are {apart} apart");
    }
}

#[test]
fn every_variable_has_a_gradient() {
    let configs = [config_with(61, true)].into_iter().chain(families(61));
    for config in configs {
        let decoder = decoder(config, 6);
        let tokens = tokens(2, 20, 61);
        let hidden = decoder.hidden(&tokens).unwrap().reshape((40, 48)).unwrap();
        let targets = tokens.flatten_all().unwrap();
        let (log_probs, _) = decoder.log_probs(&hidden, &targets, 16).unwrap();
        let gradients = log_probs.mean_all().unwrap().backward().unwrap();
        for (name, var) in decoder.vars() {
            let gradient = gradients
                .get(var)
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            let size = gradient
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(
                size > 1e-9 && size.is_finite(),
                "{name}: largest gradient is {size}"
            );
        }
    }
}

#[test]
fn padding_on_the_right_changes_nothing_before_it() {
    let decoder = decoder(config_with(61, true), 7);
    let long = tokens(2, 30, 61);
    let short = long.narrow(1, 0, 18).unwrap();
    let apart = distance(
        &decoder.hidden(&long).unwrap().narrow(1, 0, 18).unwrap(),
        &decoder.hidden(&short).unwrap(),
    );
    assert!(apart < 1e-5, "{apart} apart");
}

#[test]
fn log_probs_entropy_and_gradients_equal_plain_autograd_whatever_the_chunk() {
    let decoder = decoder(config_with(61, true), 8);
    let tokens = tokens(1, 29, 61);
    let hidden = decoder.hidden(&tokens).unwrap().reshape((29, 48)).unwrap();
    let targets = tokens.flatten_all().unwrap();
    let output = decoder.vars()["model.embed_tokens.weight"].as_tensor();
    let logits = hidden.matmul(&output.t().unwrap()).unwrap();
    let all = candle_nn::ops::log_softmax(&logits, 1).unwrap();
    let plain = all
        .gather(&targets.unsqueeze(1).unwrap(), 1)
        .unwrap()
        .squeeze(1)
        .unwrap();
    let plain_entropy = (all.exp().unwrap() * &all)
        .unwrap()
        .sum(1)
        .unwrap()
        .neg()
        .unwrap();
    // Unequal slopes, so that each row counts for itself.
    let slopes = Tensor::arange(1f32, 30.0, &Device::Cpu).unwrap();
    let gradients = |log_probs: &Tensor| {
        (log_probs * &slopes)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap()
    };
    let truth = gradients(&plain);
    for chunk in [0, 1, 4, 29, 1000] {
        let (log_probs, entropy) = decoder.log_probs(&hidden, &targets, chunk).unwrap();
        assert!(distance(&log_probs, &plain) < 1e-5);
        assert!(distance(&entropy, &plain_entropy) < 1e-5);
        assert!(!entropy.track_op(), "the entropy is detached");
        let ours = gradients(&log_probs);
        for (name, var) in decoder.vars() {
            let (ours, truth) = (ours.get(var).unwrap(), truth.get(var).unwrap());
            let scale = truth
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert!(
                distance(ours, truth) < 1e-5 * scale.max(1.0),
                "{name}, {chunk} rows"
            );
        }
    }
}

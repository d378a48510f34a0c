//! Weights survive the disk, and what is wrong with a file is said.

#![allow(clippy::unwrap_used)] // a failure is a failed test

mod common;

use candle_core::{DType, Device};
use common::{config_with, decoder};
use policy::{Config, Decoder};
use safetensors::tensor::{SafeTensors, TensorView};

const EMBEDDING: &str = "model.embed_tokens.weight";

fn values(decoder: &Decoder, name: &str) -> Vec<f32> {
    decoder.vars()[name]
        .as_detached_tensor()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The file of `decoder`, its tensors passed through `edit`.
fn edited(
    decoder: &Decoder,
    edit: impl for<'a> Fn(&str, TensorView<'a>) -> Option<(String, TensorView<'a>)>,
) -> Vec<u8> {
    let bytes = decoder.to_safetensors(DType::F32).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views: Vec<_> = file
        .iter()
        .filter_map(|(name, view)| edit(name, view))
        .collect();
    safetensors::serialize(views, None).unwrap()
}

fn refusal(config: Config, bytes: &[u8]) -> String {
    Decoder::from_safetensors(config, bytes, &Device::Cpu)
        .err()
        .unwrap()
        .to_string()
}

#[test]
fn f32_is_exact_and_half_precisions_are_near() {
    for tied in [true, false] {
        let config = config_with(61, tied);
        let first = decoder(config.clone(), 1);
        for (dtype, most) in [(DType::F32, 0.0), (DType::F16, 1e-3), (DType::BF16, 1e-2)] {
            let bytes = first.to_safetensors(dtype).unwrap();
            let second = Decoder::from_safetensors(config.clone(), &bytes, &Device::Cpu).unwrap();
            assert_eq!(first.vars().len(), second.vars().len());
            for name in first.vars().keys() {
                for (before, after) in values(&first, name).iter().zip(values(&second, name)) {
                    assert!(
                        (before - after).abs() <= most,
                        "{name}: {before} became {after}"
                    );
                }
            }
            assert_eq!(
                bytes,
                second.to_safetensors(dtype).unwrap(),
                "writing is deterministic"
            );
        }
        assert!(first.to_safetensors(DType::U8).is_err());
    }
}

#[test]
fn random_weights_are_the_seeds() {
    let config = config_with(61, true);
    let bytes = |seed: u64| {
        let decoder = Decoder::random(config.clone(), seed, &Device::Cpu).unwrap();
        decoder.to_safetensors(DType::F32).unwrap()
    };
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
    let decoder = Decoder::random(config.clone(), 1, &Device::Cpu).unwrap();
    let weights = values(&decoder, "model.layers.0.self_attn.q_proj.weight");
    let mean_square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
    let expected = 1.0 / (3.0 * config.hidden_size as f32);
    assert!(
        (mean_square / expected - 1.0).abs() < 0.1,
        "{mean_square} against {expected}"
    );
    assert!(
        values(&decoder, "model.norm.weight")
            .iter()
            .all(|&w| w == 1.0)
    );
    assert!(
        values(&decoder, "model.layers.0.self_attn.q_proj.bias")
            .iter()
            .all(|&w| w == 0.0)
    );
}

#[test]
fn a_tied_file_may_repeat_the_embedding_but_not_contradict_it() {
    let untied = decoder(config_with(61, false), 1);
    let tied = config_with(61, true);
    assert!(
        refusal(tied.clone(), &untied.to_safetensors(DType::F32).unwrap())
            .contains("lm_head.weight has no place")
    );
    let head = untied.vars()["lm_head.weight"].clone();
    head.set(&untied.vars()[EMBEDDING].as_detached_tensor())
        .unwrap();
    let bytes = untied.to_safetensors(DType::BF16).unwrap();
    let loaded = Decoder::from_safetensors(tied, &bytes, &Device::Cpu).unwrap();
    assert!(!loaded.vars().contains_key("lm_head.weight"));
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let config = config_with(61, true);
    let decoder = decoder(config.clone(), 1);
    let whole = decoder.to_safetensors(DType::F32).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        let error = refusal(config.clone(), &whole[..length]);
        assert!(
            error.contains("not a safetensors file"),
            "{length} bytes: {error}"
        );
    }

    let missing = edited(&decoder, |name, view| {
        (!name.ends_with("1.mlp.up_proj.weight")).then(|| (name.to_owned(), view))
    });
    let error = refusal(config.clone(), &missing);
    assert!(
        error.contains("model.layers.1.mlp.up_proj.weight is missing"),
        "{error}"
    );

    let renamed = edited(&decoder, |name, view| {
        Some((name.replace("model.norm.weight", "model.norm.scale"), view))
    });
    let error = refusal(config.clone(), &renamed);
    assert!(error.contains("model.norm.weight is missing"), "{error}");

    let other = Config {
        intermediate_size: 79,
        ..config.clone()
    };
    let error = refusal(other, &whole);
    assert!(error.contains("is [48, 80], expected [48, 79]"), "{error}");

    let integers = edited(&decoder, |name, view| {
        let view = match name {
            "model.norm.weight" => {
                TensorView::new(safetensors::Dtype::I32, view.shape().to_vec(), view.data())
                    .unwrap()
            }
            _ => view,
        };
        Some((name.to_owned(), view))
    });
    let error = refusal(config.clone(), &integers);
    assert!(
        error.contains("model.norm.weight is of type I32"),
        "{error}"
    );

    let norm = &decoder.vars()["model.norm.weight"];
    norm.set(&(norm.as_detached_tensor() * f64::INFINITY).unwrap())
        .unwrap();
    let error = refusal(config, &decoder.to_safetensors(DType::F32).unwrap());
    assert!(
        error.contains("model.norm.weight holds values that are not finite"),
        "{error}"
    );
}

#[test]
fn a_config_that_contradicts_itself_is_refused() {
    let good = serde_json::to_value(config_with(61, true)).unwrap();
    let refusal = |key: &str, value: serde_json::Value| {
        let mut config = good.clone();
        config[key] = value;
        Config::from_json(config.to_string().as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert!(refusal("num_attention_heads", 5.into()).contains("does not divide"));
    assert!(refusal("num_key_value_heads", 3.into()).contains("cannot share"));
    assert!(refusal("vocab_size", 0.into()).contains("vocab_size is 0"));
    assert!(refusal("hidden_size", (1u64 << 40).into()).contains("hidden_size is"));
    assert!(refusal("rms_norm_eps", 0.0.into()).contains("rms_norm_eps"));
    assert!(refusal("rms_norm_eps", 1e300.into()).contains("rms_norm_eps"));
    assert!(refusal("rope_theta", (-1.0).into()).contains("rope_theta"));
    assert!(refusal("rope_theta", 1e-300.into()).contains("rope_theta"));
    assert!(refusal("model_type", "bert".into()).contains("\"bert\" is not supported"));
    assert!(refusal("hidden_act", "gelu".into()).contains("\"gelu\" is not supported"));
    assert!(Config::from_json(b"{").is_err());
    let without = Config::from_json(b"{\"vocab_size\": 3}")
        .unwrap_err()
        .to_string();
    assert!(without.contains("missing field"), "{without}");
}

#[test]
fn tokens_that_do_not_fit_are_refused() {
    let decoder = decoder(config_with(61, true), 1);
    let hidden = |tokens: candle_core::Result<candle_core::Tensor>| {
        decoder.hidden(&tokens.unwrap()).unwrap_err().to_string()
    };
    let device = &Device::Cpu;
    let new = |tokens: [[u32; 2]; 1]| candle_core::Tensor::new(&tokens, device);
    assert!(hidden(new([[60, 61]])).contains("token 61 is outside the vocabulary of 61"));
    assert!(
        hidden(candle_core::Tensor::zeros((1, 129), DType::U32, device)).contains("129 tokens")
    );
    assert!(hidden(candle_core::Tensor::zeros((1, 0), DType::U32, device)).contains("no tokens"));
    assert!(hidden(candle_core::Tensor::zeros(4, DType::U32, device)).contains("[batch, tokens]"));
    assert!(
        hidden(candle_core::Tensor::zeros((1, 4), DType::F32, device)).contains("expected u32")
    );

    let rows = decoder
        .hidden(&new([[1, 2]]).unwrap())
        .unwrap()
        .squeeze(0)
        .unwrap();
    let refusal = |targets: &[u32]| {
        let targets = candle_core::Tensor::new(targets, device).unwrap();
        decoder
            .log_probs(&rows, &targets, 8)
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(&[1, 99]).contains("token 99 is outside"));
    assert!(refusal(&[1]).contains("expected [2] of u32"));
}

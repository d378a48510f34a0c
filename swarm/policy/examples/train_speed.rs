//! Tokens per CPU-second of training, and the peak of memory, at the sizes of
//! the benchmarks with random weights. Each line of output is JSON.
//!
//! `cargo run --release -p policy --example train_speed -- 0.5B lora bf16`,
//! with any of `0.5M`, `30M`, `0.5B`; `full`, `lora`; `f32`, `bf16`; and
//! `memory=GB` for a budget. `RAYON_NUM_THREADS` says how many threads.

use anyhow::{Context as _, bail};
use candle_core::Device;
use policy::kernel::{self, Plan, Precision, Sequence};
use policy::memory::{self, Load, Method};
use policy::{
    AdamW, Adapter, Config, Decoder, Gradients, LoraSettings, Optimizer, Rates, clip_factor,
};
use std::time::Instant;

/// A number of this process, as the system tells it.
fn of_process(file: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).ok()?;
    if key.is_empty() {
        let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11);
        let mut next = || fields.next()?.parse::<f64>().ok();
        return Some((next()? + next()?) / 100.0);
    }
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// CPU-seconds of all threads; wall time where the system does not tell.
fn seconds(began: Instant) -> f64 {
    of_process("stat", "").unwrap_or_else(|| began.elapsed().as_secs_f64())
}

fn config(size: &str) -> anyhow::Result<(Config, usize, usize)> {
    let (vocabulary, hidden, inner, layers, heads, shared, batch, length) = match size {
        "0.5M" => (412, 96, 288, 4, 4, 2, 48, 128),
        "30M" => (8192, 512, 1408, 8, 8, 4, 8, 128),
        "0.5B" => (151_936, 896, 4864, 24, 14, 2, 8, 128),
        other => bail!("{other} is none of 0.5M, 30M, 0.5B"),
    };
    let json = serde_json::json!({
        "model_type": "qwen2", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": shared,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true,
        "max_position_embeddings": 4096,
    });
    Ok((
        Config::from_json(json.to_string().as_bytes())?,
        batch,
        length,
    ))
}

fn main() -> anyhow::Result<()> {
    let began = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let size = arguments.first().map_or("0.5M", String::as_str);
    let (config, batch, length) = config(size)?;
    let budget = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("memory="))
        .map_or(Ok(u64::MAX), |text| {
            text.parse::<f64>()
                .map(|gigabytes| (gigabytes * 1e9) as u64)
        })
        .context("memory=GB takes a number")?;
    let precision = if has("bf16") {
        Precision::Bf16
    } else {
        Precision::F32
    };
    let decoder = Decoder::random(config.clone(), 1, &Device::Cpu)?;
    let lora = LoraSettings::default();
    let decoder = match has("lora") {
        true => {
            let adapter = Adapter::new(&config, lora.clone(), 2, &Device::Cpu)?;
            decoder.with_adapter(Some(adapter))?
        }
        false => decoder,
    };
    let method = if has("lora") {
        Method::Lora(&lora)
    } else {
        Method::Full
    };
    let load = Load {
        threads: rayon::current_num_threads(),
        longest: length + 1,
        tokens: batch * (length + 1),
        has_reference: false,
        kept_in: decoder.dtype(),
    };
    let plan = memory::plan(&config, method, precision, &load, budget)?;
    let sequences: Vec<Sequence> = (0..batch)
        .map(|row| Sequence {
            tokens: (0..=length)
                .map(|at| ((row * length + at) * 7919 % config.vocab_size) as u32)
                .collect(),
            prompt: 1,
        })
        .collect();
    let mut optimizer = Optimizer::adamw();
    let steps = if size == "0.5B" { 2 } else { 8 };
    let (mut start, mut wall) = (0.0, Instant::now());
    for step in 0..=steps {
        // The first step pays for memory that the others use again.
        if step == 1 {
            (start, wall) = (seconds(began), Instant::now());
        }
        step_once(&decoder, &sequences, &plan, &mut optimizer)?;
    }
    let tokens = (steps * batch * length) as f64;
    let cpu = seconds(began) - start;
    println!(
        "{}",
        serde_json::json!({
            "what": "train", "size": size, "parameters": config.parameters(),
            "method": if has("lora") { "lora" } else { "full" },
            "precision": if has("bf16") { "bf16" } else { "f32" },
            "batch": [batch, length], "threads": load.threads,
            "recompute": plan.recompute, "bf16_gradients": plan.bf16_gradients,
            "tokens_per_cpu_second": tokens / cpu,
            "tokens_per_second": tokens / wall.elapsed().as_secs_f64(),
            "gflop_per_cpu_second": tokens * 6.0 * config.parameters() as f64 / cpu / 1e9,
            "peak_gb": of_process("status", "VmHWM:").map(|kilobytes| kilobytes * 1024.0 / 1e9),
            "predicted_gb": memory::usage(&config, method, &plan, &load).total() as f64 / 1e9,
        })
    );
    Ok(())
}

fn step_once(
    decoder: &Decoder,
    sequences: &[Sequence],
    plan: &Plan,
    optimizer: &mut Optimizer,
) -> anyhow::Result<()> {
    let slopes = |_, log_probs: &[f32]| vec![-1e-3; log_probs.len()];
    let (_, gradients) = kernel::differentiate(decoder, sequences, plan, &slopes)?;
    let gradients = Gradients::from_tensors(gradients);
    let factor = clip_factor(gradients.norm()?, Some(1.0));
    let rates = Rates {
        adamw: 1e-6,
        muon: 0.0,
    };
    optimizer.step(
        decoder.trained(),
        &gradients,
        factor,
        rates,
        &AdamW::default(),
    )?;
    Ok(())
}

//! CPU-seconds of a GRPO update at the size of the base model.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p policy --example grpo_speed`

use candle_core::{DType, Device};
use policy::{ChatMessage, Config, Decoder, GrpoSettings, Policy, TrainCompletion, TrainGroup};
use std::time::Instant;

#[path = "../tests/common/mod.rs"]
mod common;

/// CPU-seconds of this process, all threads, to a hundredth. Wall time where
/// the system does not tell.
fn cpu_seconds(began: Instant) -> f64 {
    let ticks = || -> Option<f64> {
        let line = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = line.rsplit_once(") ")?.1.split(' ').skip(11);
        let mut next = || fields.next()?.parse::<f64>().ok();
        Some((next()? + next()?) / 100.0)
    };
    ticks().unwrap_or_else(|| began.elapsed().as_secs_f64())
}

fn main() -> anyhow::Result<()> {
    let config = Config {
        vocab_size: 412,
        hidden_size: 96,
        intermediate_size: 288,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 512,
        ..common::config_with(412, true)
    };
    let weights = Decoder::random(config.clone(), 1, &Device::Cpu)?.to_safetensors(DType::F32)?;
    let mut policy = Policy::from_parts(
        &serde_json::to_vec(&config)?,
        common::tokenizer_json().as_bytes(),
        &weights,
        &Device::Cpu,
    )?;
    // Twelve groups of eight: prompts of about 60 tokens, completions of 60.
    let groups: Vec<TrainGroup> = (0..12)
        .map(|origin| TrainGroup {
            prompt: vec![ChatMessage::new("user", "x".repeat(40))],
            completions: (0..8)
                .map(|member| TrainCompletion {
                    text: (0..45 + 4 * member)
                        .map(|at| char::from(b'a' + (at * member % 26) as u8))
                        .collect(),
                    tokens: None,
                    finished: true,
                })
                .collect(),
            rewards: (0..8).map(|member| (member % 3) as f32 / 2.0).collect(),
            origin,
        })
        .collect();
    let began = Instant::now();
    for measure_effect in [false, true] {
        let settings = GrpoSettings {
            measure_effect,
            ..GrpoSettings::default()
        };
        let report = policy.train(&groups, &settings)?;
        let steps = 10;
        let (start, wall) = (cpu_seconds(began), Instant::now());
        for _ in 0..steps {
            policy.train(&groups, &settings)?;
        }
        let cpu = (cpu_seconds(began) - start) / f64::from(steps);
        println!(
            "{} completions, {} tokens with loss, effect measured: {measure_effect}: \
             {cpu:.3} CPU-seconds a step, {:.0} tokens with loss a CPU-second, wall {:.3} s",
            report.completions,
            report.tokens,
            report.tokens as f64 / cpu,
            wall.elapsed().as_secs_f64() / f64::from(steps),
        );
    }
    let dir = std::env::temp_dir().join(format!("grpo-speed-{}", std::process::id()));
    let wall = Instant::now();
    for _ in 0..5 {
        policy.save(&dir, &serde_json::Value::Null)?;
    }
    println!("a checkpoint: {:.3} s", wall.elapsed().as_secs_f64() / 5.0);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

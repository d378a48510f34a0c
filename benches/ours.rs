//! Our side of the benchmarks: answers requests for work, a JSON object a
//! line, with what the work took. `run.py` asks; see the README here.
//!
//! `ours FOLDER`: a model in Hugging Face's layout.

use anyhow::{Context, bail};
use policy::kernel::{self, Plan, Sequence};
use policy::{ChatMessage, Config, Decoder, Device, Request, SampleLimits, Tokenizer, sample};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

/// CPU-seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split(' ').next()?.parse::<f64>().ok())
        .sum::<f64>()
        * 1e-9
}

/// The most memory this process has held, in MB.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1000.0)
}

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("name a model's folder")?;
    let read = |name: &str| {
        let path = Path::new(&folder).join(name);
        std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let config = Config::from_json(&read("config.json")?)?;
    let tokenizer = Tokenizer::from_bytes(&read("tokenizer.json")?)?;
    let decoder = Decoder::from_safetensors(config, &read("model.safetensors")?, &Device::Cpu)?;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let number = |key: &str| -> anyhow::Result<usize> {
            let number = asked[key].as_u64().with_context(|| format!("{key}?"))?;
            Ok(usize::try_from(number)?)
        };
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let tokens = match asked["work"].as_str() {
            Some("decode") => {
                let request = Request {
                    messages: vec![ChatMessage::new("user", "x")],
                    group: number("batch")?,
                    max_tokens: number("tokens")?,
                    seed: 1,
                    ..Request::default()
                };
                let groups = sample(&decoder, &tokenizer, &[request], &SampleLimits::default())?;
                groups.iter().flatten().map(|one| one.tokens.len()).sum()
            }
            Some("prefill") => {
                let messages = vec![ChatMessage::new("user", "x".repeat(number("tokens")?))];
                let count = tokenizer.prompt(&messages)?.len();
                let request = Request {
                    messages,
                    max_tokens: 1,
                    ..Request::default()
                };
                sample(&decoder, &tokenizer, &[request], &SampleLimits::default())?;
                count
            }
            Some("log-probs") => {
                let sequence = |row: usize, length: usize| Sequence {
                    tokens: (0..length)
                        .map(|at| ((row * 31 + at) * 7919 % 300) as u32)
                        .collect(),
                    prompt: 1,
                };
                let (batch, length) = (number("batch")?, number("tokens")?);
                let sequences: Vec<_> = (0..batch).map(|row| sequence(row, length)).collect();
                kernel::score(&decoder, &sequences, &Plan::default())?;
                batch * length
            }
            Some("peak") => 0,
            other => bail!("there is no work {other:?}"),
        };
        let answer = json!({
            "tokens": tokens,
            "cpu": cpu_seconds() - cpu,
            "wall": wall.elapsed().as_secs_f64(),
            "peak_mb": peak_memory(),
        });
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

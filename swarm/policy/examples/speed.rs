//! Tokens per CPU-second of sampling and training at the size of the base model.
//!
//! `cargo run --release -p policy --example speed [sampling]`, with
//! `RAYON_NUM_THREADS=1` so that this thread does all the work that is counted.

use candle_core::{Device, Tensor};
use policy::kernel::{self, Sequence};
use policy::{ChatMessage, Decoder, Request, SampleLimits, Tokenizer, sample};
use std::time::Instant;

#[path = "../tests/common/mod.rs"]
mod common;

/// Seconds this thread has computed: what others do on the machine does not
/// count. Wall time where the system does not tell.
fn seconds(since: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse::<f64>().ok())
        .map_or_else(
            || since.elapsed().as_secs_f64(),
            |nanoseconds| nanoseconds * 1e-9,
        )
}

fn main() -> anyhow::Result<()> {
    let began = Instant::now();
    let decoder = Decoder::random(common::base_config(), 1, &Device::Cpu)?;
    let tokenizer = Tokenizer::from_bytes(common::tokenizer_json().as_bytes())?;
    for (total, rows) in [
        (1usize, 1),
        (8, 8),
        (96, 8),
        (96, 16),
        (96, 24),
        (96, 32),
        (96, 48),
        (96, 96),
    ] {
        let limits = SampleLimits {
            rows,
            ..SampleLimits::default()
        };
        let requests: Vec<Request> = (0..total.div_ceil(8) as u64)
            .map(|seed| Request {
                messages: vec![ChatMessage::new("user", "x".repeat(60))],
                group: total.min(8),
                seed,
                max_tokens: 100,
                ..Request::default()
            })
            .collect();
        let mut best = 0f64;
        for _ in 0..5 {
            let start = seconds(began);
            let groups = sample(&decoder, &tokenizer, &requests, &limits)?;
            let tokens: usize = groups.iter().flatten().map(|c| c.tokens.len()).sum();
            best = best.max(tokens as f64 / (seconds(began) - start));
        }
        println!("sampling {total} completions, {rows} together: {best:.0} tokens/s");
    }
    if std::env::args().any(|argument| argument == "sampling") {
        return Ok(());
    }
    for (batch, length) in [(8usize, 128usize), (48, 64)] {
        let ids: Vec<u32> = (0..batch * length)
            .map(|i| (i * 7919 % 338) as u32)
            .collect();
        let tokens = Tensor::from_vec(ids, (batch, length), &Device::Cpu)?;
        let mut best = (0f64, 0f64);
        for _ in 0..5 {
            let start = seconds(began);
            let hidden = decoder.hidden(&tokens)?.flatten(0, 1)?;
            let (log_probs, _) = decoder.log_probs(&hidden, &tokens.flatten_all()?, 512)?;
            let rate = |start: f64| (batch * length) as f64 / (seconds(began) - start);
            best.0 = best.0.max(rate(start));
            log_probs.mean_all()?.backward()?;
            best.1 = best.1.max(rate(start));
        }
        let sequences: Vec<Sequence> = (0..batch)
            .map(|row| Sequence {
                tokens: (0..=length)
                    .map(|i| ((row * length + i) * 7919 % 338) as u32)
                    .collect(),
                prompt: 1,
            })
            .collect();
        let mut kernel_best = 0f64;
        for _ in 0..5 {
            let start = seconds(began);
            let slopes = |_, log_probs: &[f32]| vec![-1.0; log_probs.len()];
            kernel::differentiate(&decoder, &sequences, &kernel::Plan::default(), &slopes)?;
            kernel_best = kernel_best.max((batch * length) as f64 / (seconds(began) - start));
        }
        println!(
            "training, {batch} x {length}: graph forward {:.0} tokens/s, with backward {:.0}; kernel {kernel_best:.0}",
            best.0, best.1
        );
    }
    Ok(())
}

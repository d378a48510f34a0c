//! Makes the embedded base model: tokenizer, weights, config and model card,
//! from the project's own environments and a seed.
//!
//! ```text
//! cargo run --release -p policy --example pretrain -- --out assets/base
//! ```
//!
//! The same seed and build give the same bytes. Settings follow what was found
//! to work at this size: Muon for the matrices inside the layers and AdamW for
//! the rest, a mix of answer styles so that RL has something to find, about
//! half of the data verdicts, and verdicts as element-wise comparison.

mod card;
mod corpus;
mod measure;
mod tokens;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use clap::Parser;
use corpus::{Corpus, Example, Mix};
use policy::kernel::{Plan, Sequence, differentiate};
use policy::{AdamW, Decoder, Gradients, Muon, Optimizer, Rates, Schedule, Tokenizer, clip_factor};
use serde::Serialize;
use tasks::{Registry, SPECIAL_TOKENS};

/// Pre-train the embedded base model.
#[derive(Debug, Clone, Parser, Serialize)]
struct Arguments {
    /// Folder to write
    #[arg(long, default_value = "assets/base")]
    out: PathBuf,
    /// Everything follows from it
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Optimizer steps
    #[arg(long, default_value_t = 4800)]
    steps: u64,
    /// Conversations a step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Peak learning rate of Muon
    #[arg(long, default_value_t = 0.012)]
    muon_rate: f32,
    /// Peak learning rate of AdamW (embeddings, norms, biases)
    #[arg(long, default_value_t = 3e-3)]
    adamw_rate: f32,
    /// Print progress every so many steps
    #[arg(long, default_value_t = 50)]
    every: u64,
    /// Held-out items per environment and level for the model card
    #[arg(long, default_value_t = 48)]
    eval_items: usize,
}

/// What the run cost.
#[derive(Debug, Clone, Serialize)]
struct Cost {
    tokens: u64,
    wall_s: f64,
    final_loss: f32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let registry = Registry::builtin();
    let mix = Mix::default();
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("making {}", arguments.out.display()))?;

    let mut corpus = Corpus::new(&registry, mix.clone(), arguments.seed ^ 0x746f_6b65_6e73);
    let tokenizer_json = tokens::train((0..20_000).map(|_| corpus.draw()))?;
    let tokenizer = Tokenizer::from_bytes(&tokenizer_json)?;
    for tag in SPECIAL_TOKENS {
        anyhow::ensure!(tokenizer.encode(tag)?.len() == 1, "{tag} is not one token");
    }
    let config = tokens::config(tokenizer.vocab_size());
    let decoder = Decoder::random(config.clone(), arguments.seed, &Device::Cpu)?;
    let parameters: usize = decoder
        .vars()
        .values()
        .map(|variable| variable.elem_count())
        .sum();
    eprintln!(
        "{parameters} parameters, {} tokens in the vocabulary",
        config.vocab_size
    );

    let cost = train(&arguments, &registry, mix.clone(), &decoder, &tokenizer)?;

    let write = |name: &str, bytes: &[u8]| {
        let path = arguments.out.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    let weights = decoder.to_safetensors(DType::BF16)?;
    write("model.safetensors", &weights)?;
    write("tokenizer.json", &tokenizer_json)?;
    write("config.json", &serde_json::to_vec_pretty(&config)?)?;
    // Measured on what was written: bf16 rounds.
    let decoder = Decoder::from_safetensors(config, &weights, &Device::Cpu)?;
    let measured = measure::measure(&decoder, &tokenizer, &registry, arguments.eval_items)?;
    write(
        "README.md",
        card::render(
            &arguments,
            &mix,
            parameters,
            weights.len(),
            &cost,
            &measured,
        )?
        .as_bytes(),
    )?;
    eprintln!("{}", card::tables(&measured));
    Ok(())
}

fn train(
    arguments: &Arguments,
    registry: &Registry,
    mix: Mix,
    decoder: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<Cost> {
    let muon = Schedule {
        peak: arguments.muon_rate,
        warmup: 20,
        decay: arguments.steps / 3,
        total: Some(arguments.steps),
        floor: 0.02,
    };
    let adamw = Schedule {
        peak: arguments.adamw_rate,
        ..muon
    };
    let mut optimizer = Optimizer::muon(Muon::default());
    let mut corpus = Corpus::new(registry, mix, arguments.seed);
    let start = Instant::now();
    let (mut tokens, mut smooth) = (0u64, None::<f32>);
    for step in 0..arguments.steps {
        let examples: Vec<Example> = (0..arguments.batch).map(|_| corpus.draw()).collect();
        let sequences = sequences(tokenizer, &examples)?;
        tokens += sequences
            .iter()
            .map(|sequence| sequence.tokens.len() as u64)
            .sum::<u64>();
        let predicted: usize = sequences.iter().map(Sequence::predicted).sum();
        let mean = 1.0 / predicted as f32;
        let (scores, gradients) =
            differentiate(decoder, &sequences, &Plan::default(), &|range, _| {
                vec![-mean; range.len()]
            })?;
        let gradients = Gradients::from_tensors(gradients);
        let factor = clip_factor(gradients.norm()?, Some(1.0));
        let rates = Rates {
            adamw: adamw.at(step),
            muon: muon.at(step),
        };
        let settings = AdamW {
            beta2: 0.99,
            ..AdamW::default()
        };
        optimizer.step(decoder.vars(), &gradients, factor, rates, &settings)?;
        let loss = -scores.log_probs.iter().sum::<f32>() * mean;
        anyhow::ensure!(loss.is_finite(), "the loss is not finite at step {step}");
        smooth = Some(smooth.map_or(loss, |mean| 0.95 * mean + 0.05 * loss));
        if (step + 1) % arguments.every == 0 {
            let seconds = start.elapsed().as_secs_f64();
            eprintln!(
                "step {:5}  loss {:.4}  {tokens} tokens  {:.0} tokens/s",
                step + 1,
                smooth.unwrap_or(loss),
                tokens as f64 / seconds
            );
        }
    }
    Ok(Cost {
        tokens,
        wall_s: start.elapsed().as_secs_f64(),
        final_loss: smooth.unwrap_or(f32::NAN),
    })
}

/// Conversations as tokens; their completions are predicted.
fn sequences(tokenizer: &Tokenizer, examples: &[Example]) -> Result<Vec<Sequence>> {
    examples
        .iter()
        .map(|example| {
            let mut tokens = tokenizer.prompt(&example.prompt)?;
            let prompt = tokens.len();
            tokens.extend(tokenizer.completion(&example.completion, true)?);
            Ok(Sequence { tokens, prompt })
        })
        .collect()
}

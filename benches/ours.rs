//! Our side of the benchmarks: answers requests for work, a JSON object a
//! line, with what the work took. `run.py` asks; see the README here.
//!
//! `ours FOLDER`: a model in Hugging Face's layout, read as the program reads
//! it. `ours limits`: none, to measure the machine itself.

use anyhow::{Context, bail};
use policy::kernel::{self, Precision, Sequence};
use policy::memory::{self, Load, Method};
use policy::{
    AdamW, ChatMessage, Completion, Decoder, Device, Gradients, GrpoSettings, LoraSettings,
    Optimizer, Policy, Pretrained, Rates, Request, SampleLimits, TrainCompletion, TrainGroup,
    clip_factor,
};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

#[path = "limits.rs"]
mod limits;

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
    Some(kilobytes * 1.024e-3)
}

fn main() -> anyhow::Result<()> {
    // As the program does.
    memory::give_back_what_is_freed();
    let folder = std::env::args().nth(1).context("name a model's folder")?;
    let mut side = match folder.as_str() {
        "limits" => None,
        folder => Some(Side::read(Path::new(folder))?),
    };
    for line in std::io::stdin().lock().lines() {
        let asked = Asked(serde_json::from_str(&line?)?);
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let done = match &mut side {
            Some(side) => side.answer(&asked),
            None => Ok(limits::measure()),
        };
        let mut answer = match done {
            Ok(answer) => answer,
            Err(error) => json!({ "error": format!("{error:#}") }),
        };
        answer["cpu"] = json!(cpu_seconds() - cpu);
        answer["wall"] = json!(wall.elapsed().as_secs_f64());
        answer["peak_mb"] = json!(peak_memory());
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// A request.
struct Asked(Value);

impl Asked {
    fn number(&self, key: &str) -> anyhow::Result<usize> {
        let number = self.0[key].as_u64().with_context(|| format!("{key}?"))?;
        Ok(usize::try_from(number)?)
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0[key].as_str()
    }
}

/// A model, and the optimizer of what of it is trained.
struct Side {
    policy: Policy,
    optimizer: Optimizer,
}

impl Side {
    fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            policy: Pretrained::open(folder)?.load(&Device::Cpu)?,
            optimizer: Optimizer::adamw(),
        })
    }

    /// Does what is asked; says how many tokens that was.
    fn answer(&mut self, asked: &Asked) -> anyhow::Result<Value> {
        let tokens = match asked.text("work") {
            Some("decode") => {
                let mut tokens = 0;
                // Again and again, where once is too short to be measured.
                for seed in 0..asked.0["times"].as_u64().unwrap_or(1) {
                    let request = Request {
                        messages: vec![ChatMessage::new("user", "x")],
                        group: asked.number("batch")?,
                        max_tokens: asked.number("tokens")?,
                        seed,
                        ..Request::default()
                    };
                    let groups = self.policy.sample(&[request])?;
                    let drawn = groups.iter().flatten().map(|one| one.tokens.len());
                    tokens += drawn.sum::<usize>();
                }
                tokens
            }
            Some("prefill") => {
                let text = "x".repeat(asked.number("tokens")?);
                let messages = vec![ChatMessage::new("user", text)];
                let count = self.policy.tokenizer().prompt(&messages)?.len();
                self.policy.set_sample_limits(SampleLimits {
                    prompts: Some(precision(asked, self.policy.decoder())),
                    ..SampleLimits::default()
                });
                let request = Request {
                    messages,
                    max_tokens: 1,
                    ..Request::default()
                };
                self.policy.sample(&[request])?;
                count
            }
            Some("log-probs") => {
                let sequences = sequences(asked)?;
                let decoder = self.policy.decoder();
                let plan = kernel::Plan {
                    precision: precision(asked, decoder),
                    ..kernel::Plan::default()
                };
                kernel::score(decoder, &sequences, &plan)?;
                asked.number("batch")? * asked.number("tokens")?
            }
            Some("train") => return self.train(asked),
            Some("grpo") => self.grpo(asked)?,
            Some("weights") => return Ok(self.weights()),
            other => bail!("there is no work {other:?}"),
        };
        Ok(json!({ "tokens": tokens }))
    }

    /// How many weights there are, and in how many bytes.
    fn weights(&self) -> Value {
        let decoder = self.policy.decoder();
        let variables = decoder.vars().values();
        let bytes: usize = variables
            .map(|variable| variable.elem_count() * variable.dtype().size_in_bytes())
            .sum();
        let config = decoder.config();
        json!({
            "tokens": 0, "bytes": bytes, "parameters": config.parameters(),
            "embedding": config.vocab_size * config.hidden_size,
        })
    }

    /// One update on the next-token loss of a batch: forward, backward, norm,
    /// AdamW; within `memory` bytes if the request says so.
    fn train(&mut self, asked: &Asked) -> anyhow::Result<Value> {
        let (batch, length) = (asked.number("batch")?, asked.number("tokens")?);
        let lora = LoraSettings::default();
        let method = match asked.text("method") {
            Some("full") => Method::Full,
            Some("lora") => Method::Lora(&lora),
            other => bail!("there is no method {other:?}"),
        };
        if method != Method::Full && self.policy.decoder().adapter().is_none() {
            self.policy.add_adapter(lora.clone(), 1)?;
        }
        let decoder = self.policy.decoder();
        let load = Load {
            threads: rayon::current_num_threads(),
            // The first of each is not predicted.
            longest: length + 1,
            tokens: batch * (length + 1),
            has_reference: false,
            kept_in: decoder.dtype(),
        };
        let budget = asked.0["memory"].as_u64().unwrap_or(u64::MAX);
        let precision = precision(asked, decoder);
        let plan = memory::plan(decoder.config(), method, precision, &load, budget)?;
        let slopes = |_, log_probs: &[f32]| vec![-1.0 / log_probs.len() as f32; log_probs.len()];
        let (_, gradients) = kernel::differentiate(decoder, &sequences(asked)?, &plan, &slopes)?;
        let gradients = Gradients::from_tensors(gradients);
        let factor = clip_factor(gradients.norm()?, Some(1.0));
        let rates = Rates {
            adamw: 1e-6,
            muon: 0.0,
        };
        let trained = decoder.trained();
        self.optimizer
            .step(trained, &gradients, factor, rates, &AdamW::default())?;
        let planned = memory::usage(decoder.config(), method, &plan, &load).total();
        Ok(json!({
            "tokens": batch * length,
            "planned_mb": planned as f64 / 1e6,
            "plan": format!("{plan:?}"),
        }))
    }

    /// A whole step: `batch` completions each for several prompts, rewards, an
    /// update. Tokens are those of the completions.
    fn grpo(&mut self, asked: &Asked) -> anyhow::Result<usize> {
        let prompt = |group: usize| vec![ChatMessage::new("user", "x".repeat(40 + group))];
        let requests = (0..asked.number("groups")?)
            .map(|group| {
                Ok(Request {
                    messages: prompt(group),
                    group: asked.number("batch")?,
                    max_tokens: asked.number("tokens")?,
                    seed: self.policy.step() * 1000 + group as u64,
                    ..Request::default()
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let groups = self.policy.sample(&requests)?;
        let reward = |one: &Completion| {
            let odd = one.tokens.iter().filter(|&token| token % 2 == 1).count();
            odd as f32 / one.tokens.len() as f32
        };
        let groups: Vec<TrainGroup> = groups
            .into_iter()
            .enumerate()
            .map(|(origin, group)| TrainGroup {
                prompt: prompt(origin),
                rewards: group.iter().map(reward).collect(),
                completions: group
                    .into_iter()
                    .map(|one| TrainCompletion {
                        text: one.text,
                        tokens: Some(one.tokens),
                        finished: one.finished,
                        ..TrainCompletion::default()
                    })
                    .collect(),
                origin: origin as u64,
            })
            .collect();
        // As in the program's rounds.
        let settings = GrpoSettings {
            measure_effect: false,
            learning_rate: 1e-6,
            ..GrpoSettings::default()
        };
        let report = self.policy.train(&groups, &settings)?;
        if report.updates != 1 {
            bail!("{} updates in place of one: {report:?}", report.updates);
        }
        Ok(report.tokens)
    }
}

/// `batch` sequences of `tokens` tokens and one more, all but the first predicted.
fn sequences(asked: &Asked) -> anyhow::Result<Vec<Sequence>> {
    let (batch, length) = (asked.number("batch")?, asked.number("tokens")?);
    let sequence = |row: usize| Sequence {
        tokens: (0..=length)
            .map(|at| ((row * 31 + at) * 7919 % 300) as u32)
            .collect(),
        prompt: 1,
    };
    Ok((0..batch).map(sequence).collect())
}

/// What factors are rounded to: as the program would, if the request is silent.
fn precision(asked: &Asked, decoder: &Decoder) -> Precision {
    match asked.text("precision") {
        Some("f32") => Precision::F32,
        _ => GrpoSettings::default().precision(decoder.config().parameters()),
    }
}

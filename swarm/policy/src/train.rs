//! The training engine: one batch of scored groups to a few GRPO updates.
//!
//! The weights before the first update are the old policy of the whole batch:
//! its log-probabilities are those of the first epoch's forward pass, made
//! here. What a peer, or our own sampler, says of them is never used.
//!
//! An update that would not be finite is not made. The weights and the
//! optimizer then stay as they were, and the report says why.

use crate::adamw::AdamW;
use crate::batch::Batch;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::gradients::{Gradients, clip_factor};
use crate::graph;
use crate::grpo::{RatioLevel, TokenLoss, loss_at};
use crate::kernel::{self, LossSlopes, Plan, TokenScores};
use crate::optimizer::{Optimizer, Rates};
use crate::report::{Contribution, StepReport};
use crate::settings::GrpoSettings;
use std::ops::Range;

/// What a step holds a policy's divergence against.
#[derive(Clone, Copy)]
pub(crate) enum Reference<'a> {
    /// Nothing.
    None,
    /// Weights that were frozen.
    Frozen(&'a Decoder),
    /// The model without its adapter.
    Bare,
}

/// Trains `decoder` on `batch`, which it changes in place; the kernel computes
/// as `plan` says.
pub(crate) fn train(
    decoder: &Decoder,
    reference: Reference<'_>,
    optimizer: &mut Optimizer,
    batch: &Batch,
    settings: &GrpoSettings,
    plan: &Plan,
) -> Result<StepReport> {
    let mut report = StepReport {
        groups: batch.groups.len(),
        dropped_zero_advantage: batch.dropped_zero_advantage,
        dropped_unusable: batch.dropped_unusable,
        unusable: batch.unusable.clone(),
        completions: batch.sequences.len(),
        tokens: batch.tokens(),
        ..StepReport::default()
    };
    if report.tokens == 0 {
        return Ok(report);
    }
    let mut step = Step::new(decoder, reference, batch, settings, *plan)?;
    for _ in 0..settings.epochs {
        if let Err(why) = step.epoch(optimizer, &mut report)? {
            report.skipped = Some(why);
            break;
        }
    }
    step.finish(&mut report)?;
    Ok(report)
}

/// A batch being trained on.
struct Step<'a> {
    decoder: &'a Decoder,
    batch: &'a Batch,
    settings: &'a GrpoSettings,
    plan: Plan,
    /// For each sequence, where its tokens are in what follows.
    ranges: Vec<Range<usize>>,
    /// For each token, of which sequence it is.
    owners: Vec<usize>,
    /// Sequences that have tokens.
    spoken: usize,
    /// Under the weights before the first update; empty until they are known.
    old: Vec<f32>,
    /// Under the frozen reference; empty without one.
    reference: Vec<f32>,
    sums: Sums,
    push: Vec<f64>, // for each group
    ratio_max: f64,
}

/// Means over the epochs, in the making.
#[derive(Default)]
struct Sums {
    epochs: f64,
    loss: f64,
    kl: f64,
    clipped: f64,
    entropy: f64,
    grad_norm: f64,
}

impl<'a> Step<'a> {
    fn new(
        decoder: &'a Decoder,
        reference: Reference<'_>,
        batch: &'a Batch,
        settings: &'a GrpoSettings,
        plan: Plan,
    ) -> Result<Self> {
        let mut step = Self {
            decoder,
            batch,
            settings,
            plan,
            ranges: Vec::new(),
            owners: Vec::new(),
            spoken: 0,
            old: Vec::new(),
            reference: Vec::new(),
            sums: Sums::default(),
            push: vec![0.0; batch.groups.len()],
            ratio_max: 0.0,
        };
        for (index, sequence) in batch.sequences.iter().enumerate() {
            let start = step.owners.len();
            let end = start + sequence.predicted();
            step.owners.resize(end, index);
            step.spoken += usize::from(end > start);
            step.ranges.push(start..end);
        }
        if settings.kl.is_some() {
            step.reference = match reference {
                Reference::Frozen(reference) => step.score(reference)?.log_probs,
                Reference::Bare => step.score(&decoder.with_adapter(None)?)?.log_probs,
                Reference::None => {
                    return Err(Error::Input(
                        "a divergence is to be kept small, and there is no reference".into(),
                    ));
                }
            };
        }
        Ok(step)
    }

    /// The losses of the tokens in `range`, which are those of whole
    /// sequences, when their log-probabilities are `new`.
    fn losses(&self, range: Range<usize>, new: &[f32]) -> Vec<TokenLoss> {
        let clip = self.settings.clip();
        let mut losses = Vec::with_capacity(new.len());
        while losses.len() < new.len() {
            let start = range.start + losses.len();
            let sequence = self.owners[start];
            let length = self.ranges[sequence].len();
            let new = &new[losses.len()..losses.len() + length];
            let gap = |index: usize| {
                let old = self.old.get(start + index).copied().unwrap_or(new[index]);
                f64::from(new[index]) - f64::from(old)
            };
            let mean = (0..length).map(gap).sum::<f64>() / length as f64;
            for (index, &new) in new.iter().enumerate() {
                let log_ratio = match self.settings.ratio {
                    RatioLevel::Token => gap(index),
                    RatioLevel::Sequence => mean,
                };
                let reference = self.reference.get(start + index);
                let distance = reference.map(|&value| f64::from(value) - f64::from(new));
                let advantage = self.batch.members[sequence].advantage;
                let kl = self.settings.kl;
                losses.push(loss_at(log_ratio, distance, advantage, &clip, kl));
            }
        }
        losses
    }

    /// The share of token `index` in the mean loss.
    fn share(&self, index: usize) -> f64 {
        match self.settings.ratio {
            RatioLevel::Token => 1.0 / self.owners.len() as f64,
            RatioLevel::Sequence => {
                let length = self.ranges[self.owners[index]].len();
                1.0 / (self.spoken * length) as f64
            }
        }
    }

    /// The mean loss's derivative in each log-probability.
    fn slopes(&self, range: Range<usize>, new: &[f32]) -> Vec<f32> {
        let losses = self.losses(range.clone(), new);
        range
            .zip(losses)
            .map(|(index, token)| (token.slope * self.share(index)) as f32)
            .collect()
    }

    fn score(&self, decoder: &Decoder) -> Result<TokenScores> {
        let sequences = &self.batch.sequences;
        if decoder.device().is_cpu() {
            return kernel::score(decoder, sequences, &self.plan);
        }
        graph::score(decoder, sequences, self.settings.minibatch_tokens)
    }

    /// One update, or the reason why it was not made.
    fn epoch(
        &mut self,
        optimizer: &mut Optimizer,
        report: &mut StepReport,
    ) -> Result<std::result::Result<(), String>> {
        let slopes = |range: Range<usize>, new: &[f32]| self.slopes(range, new);
        let (scores, gradients) = self.differentiate(&slopes)?;
        let norm = gradients.norm()?;
        self.note(&scores, norm);
        if !self
            .old
            .iter()
            .chain(&scores.log_probs)
            .all(|value| value.is_finite())
        {
            return Ok(Err("log-probabilities are not finite".into()));
        }
        if !norm.is_finite() {
            return Ok(Err("the gradient is not finite".into()));
        }
        if self.old.is_empty() {
            self.old = scores.log_probs;
        }
        report.learning_rate = self.settings.schedule().at(optimizer.updates());
        let rates = Rates {
            adamw: report.learning_rate,
            muon: 0.0,
        };
        let adamw = AdamW {
            weight_decay: self.settings.weight_decay,
            ..AdamW::default()
        };
        let factor = clip_factor(norm, Some(self.settings.max_grad_norm));
        optimizer.step(self.decoder.trained(), &gradients, factor, rates, &adamw)?;
        report.updates += 1;
        Ok(Ok(()))
    }

    fn differentiate(&self, slopes: LossSlopes<'_>) -> Result<(TokenScores, Gradients)> {
        if self.decoder.device().is_cpu() {
            let (scores, gradients) =
                kernel::differentiate(self.decoder, &self.batch.sequences, &self.plan, slopes)?;
            return Ok((scores, Gradients::from_tensors(gradients)));
        }
        let budget = self.settings.minibatch_tokens;
        graph::differentiate(self.decoder, &self.batch.sequences, budget, slopes)
    }

    /// Adds an epoch to the means.
    fn note(&mut self, scores: &TokenScores, norm: f64) {
        let count = self.owners.len() as f64;
        let is_first = self.old.is_empty();
        let losses = self.losses(0..self.owners.len(), &scores.log_probs);
        for (index, token) in losses.into_iter().enumerate() {
            self.sums.loss += token.loss * self.share(index);
            self.sums.kl += token.kl / count;
            self.sums.clipped += f64::from(u8::from(token.clipped)) / count;
            self.ratio_max = self.ratio_max.max(token.ratio);
            if is_first {
                let group = self.group(index);
                self.push[group] += token.slope.abs() * self.share(index);
            }
        }
        self.sums.entropy += scores
            .entropies
            .iter()
            .map(|&value| f64::from(value))
            .sum::<f64>()
            / count;
        self.sums.grad_norm += norm;
        self.sums.epochs += 1.0;
    }

    /// Whose token `index` is.
    fn group(&self, index: usize) -> usize {
        self.batch.members[self.owners[index]].group
    }

    /// Fills in what is known at the end.
    fn finish(mut self, report: &mut StepReport) -> Result<()> {
        let effects = self.effects(report)?;
        let mean = |sum: f64| (sum / self.sums.epochs) as f32;
        report.loss = mean(self.sums.loss);
        report.kl = mean(self.sums.kl);
        report.clip_fraction = mean(self.sums.clipped);
        report.entropy = mean(self.sums.entropy);
        report.grad_norm = mean(self.sums.grad_norm);
        report.ratio_max = self.ratio_max as f32;
        let mut tokens = vec![0; self.batch.groups.len()];
        (0..self.owners.len()).for_each(|index| tokens[self.group(index)] += 1);
        let all: f64 = self.push.iter().sum();
        for (index, group) in self.batch.groups.iter().enumerate() {
            report.contributions.push(Contribution {
                origin: group.origin,
                tokens: tokens[index],
                mean_reward: group.mean_reward,
                share: if all > 0.0 {
                    (self.push[index] / all) as f32
                } else {
                    0.0
                },
                effect: effects
                    .as_ref()
                    .map(|effects| (effects[index] / tokens[index].max(1) as f64) as f32),
            });
        }
        Ok(())
    }

    /// Looks at the batch again: advantage times gain of each group's tokens.
    fn effects(&mut self, report: &mut StepReport) -> Result<Option<Vec<f64>>> {
        if !self.settings.measure_effect || report.updates == 0 {
            return Ok(None);
        }
        let new = self.score(self.decoder)?.log_probs;
        let mut effects = vec![0.0; self.batch.groups.len()];
        let mut shift = 0.0;
        for (index, (&new, &old)) in new.iter().zip(&self.old).enumerate() {
            let gain = f64::from(new) - f64::from(old);
            let ratio = gain.min(60.0).exp();
            let member = self.batch.members[self.owners[index]];
            effects[member.group] += f64::from(member.advantage) * gain;
            // k3 of old from new, with tokens drawn by the old.
            shift += (ratio - gain - 1.0) / self.old.len() as f64;
            self.ratio_max = self.ratio_max.max(ratio);
        }
        report.shift = Some(shift as f32);
        Ok(Some(effects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Group, Member};
    use crate::config::Config;
    use crate::kernel::Sequence;
    use candle_core::{Device, Tensor};

    fn decoder(seed: u64) -> Decoder {
        let config = serde_json::json!({
            "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": true,
            "max_position_embeddings": 64,
        });
        let config = Config::from_json(config.to_string().as_bytes()).unwrap();
        Decoder::random(config, seed, &Device::Cpu).unwrap()
    }

    fn batch() -> Batch {
        let mut batch = Batch::default();
        for group in 0..5 {
            batch.groups.push(Group {
                origin: group,
                mean_reward: 0.5,
            });
            for (member, advantage) in [1.3, -0.4, -0.9].into_iter().enumerate() {
                let length = 4 + (group as usize * 5 + member * 7) % 17;
                batch.sequences.push(Sequence {
                    tokens: (0..length as u32)
                        .map(|at| (at * 17 + group as u32 * 3 + member as u32) % 40)
                        .collect(),
                    prompt: 1 + group as usize % 3,
                });
                batch.members.push(Member {
                    advantage,
                    group: group as usize,
                });
            }
        }
        batch
    }

    /// A step whose old policy and reference are other models than the new
    /// one, so that every part of the loss is at work.
    fn off_policy<'a>(new: &'a Decoder, batch: &'a Batch, settings: &'a GrpoSettings) -> Step<'a> {
        let reference = decoder(3);
        let reference = Reference::Frozen(&reference);
        let mut step = Step::new(new, reference, batch, settings, Plan::default()).unwrap();
        // Tokens drawn by the old model differ a little in probability.
        let mut old = step.score(new).unwrap().log_probs;
        for (index, value) in old.iter_mut().enumerate() {
            *value += 0.6 * (index as f32).sin();
        }
        step.old = old;
        step
    }

    fn mean_loss(step: &Step<'_>) -> f64 {
        let scores = step.score(step.decoder).unwrap();
        let losses = step.losses(0..step.owners.len(), &scores.log_probs);
        let shares = (0..losses.len()).map(|index| step.share(index));
        losses
            .iter()
            .zip(shares)
            .map(|(token, share)| token.loss * share)
            .sum()
    }

    // The second witness beside PyTorch's numbers in `grpo`: no formula of ours
    // but the loss itself is believed.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
            check_gradient(&GrpoSettings {
                kl: Some(0.5),
                ratio,
                ..GrpoSettings::default()
            });
        }
    }

    fn check_gradient(settings: &GrpoSettings) {
        let (new, batch) = (decoder(1), batch());
        let step = off_policy(&new, &batch, settings);
        let (_, gradients) = step
            .differentiate(&|range, new| step.slopes(range, new))
            .unwrap();
        for (name, variable) in new.vars() {
            let gradient = gradients.get(name).unwrap();
            let squares = gradient
                .sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            let norm = f64::from(squares).sqrt();
            // Along its own gradient a loss rises by the gradient's norm.
            let start = variable.as_detached_tensor().copy().unwrap();
            let length = 2e-3;
            let at = |distance: f64| {
                let moved = (&start + (gradient * (distance / norm)).unwrap()).unwrap();
                variable.set(&moved).unwrap();
                mean_loss(&step)
            };
            let measured = (at(length) - at(-length)) / (2.0 * length);
            variable.set(&start).unwrap();
            // f32 rounds the losses in the seventh digit, of a difference in the fourth.
            assert!(
                (measured - norm).abs() < 0.02 * norm + 2e-4,
                "{name}: {measured} is not {norm}"
            );
        }
    }

    #[test]
    fn minibatches_of_any_size_add_up_to_the_same_gradient() {
        let (new, batch) = (decoder(1), batch());
        let settings = GrpoSettings {
            kl: Some(0.5),
            ..GrpoSettings::default()
        };
        let step = off_policy(&new, &batch, &settings);
        let slopes = |range: Range<usize>, new: &[f32]| step.slopes(range, new);
        let (scores, whole) = step.differentiate(&slopes).unwrap();
        for budget in [1, 60, 1_000_000] {
            let (found, sum) =
                graph::differentiate(&new, &batch.sequences, budget, &slopes).unwrap();
            assert_close(&scores.log_probs, &found.log_probs, "log-probabilities");
            assert_close(&scores.entropies, &found.entropies, "entropies");
            for (name, gradient) in whole.iter() {
                assert_close(&flat(gradient), &flat(sum.get(name).unwrap()), name);
            }
            let alone = graph::score(&new, &batch.sequences, budget).unwrap();
            assert_close(&scores.log_probs, &alone.log_probs, "scores");
        }
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// To 2e-5 of the largest: sums of f32 in another order.
    fn assert_close(left: &[f32], right: &[f32], what: &str) {
        assert_eq!(left.len(), right.len(), "{what}");
        let scale = left
            .iter()
            .fold(1e-3_f32, |most, value| most.max(value.abs()));
        for (left, right) in left.iter().zip(right) {
            assert!(
                (left - right).abs() <= 2e-5 * scale,
                "{what}: {left} is not {right}"
            );
        }
    }

    // Two updates of a tiny model, by `GRPOTrainer._compute_loss` of TRL, PyTorch's
    // `clip_grad_norm_` and its AdamW: `tests/reference/grpo.py`. Both sides work
    // in f32; Adam's first steps divide gradients by their own size, so that
    // where a gradient is nearly zero its last digits show.
    #[test]
    fn two_updates_agree_with_trl() {
        let file = include_str!("../tests/reference/grpo.json");
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f32> {
            serde_json::from_value(value.clone()).unwrap()
        };
        let tokens = |value: &serde_json::Value| -> Vec<u32> {
            serde_json::from_value(value.clone()).unwrap()
        };
        let mut batch = Batch::default();
        for (group, prompt) in file["prompts"].as_array().unwrap().iter().enumerate() {
            let rewards = numbers(&file["rewards"][group]);
            let worth = crate::grpo::advantages(&rewards, crate::AdvantageKind::Std);
            batch.groups.push(Group {
                origin: group as u64,
                mean_reward: 0.0,
            });
            let completions = file["completions"][group].as_array().unwrap();
            for (completion, advantage) in completions.iter().zip(worth) {
                batch.sequences.push(Sequence {
                    tokens: [tokens(prompt), tokens(completion)].concat(),
                    prompt: tokens(prompt).len(),
                });
                batch.members.push(Member { advantage, group });
            }
        }
        for case in file["cases"].as_array().unwrap() {
            let config = Config::from_json(file["config"].to_string().as_bytes()).unwrap();
            let decoder = Decoder::random(config.clone(), 0, &Device::Cpu).unwrap();
            fill(&decoder);
            let reference = Decoder::random(config, 0, &Device::Cpu).unwrap();
            fill(&reference);
            let settings = GrpoSettings {
                learning_rate: file["learning_rate"].as_f64().unwrap() as f32,
                weight_decay: file["weight_decay"].as_f64().unwrap() as f32,
                kl: Some(0.04),
                epochs: 2,
                ratio: serde_json::from_value(case["level"].clone()).unwrap(),
                ..GrpoSettings::default()
            };
            let reference = Reference::Frozen(&reference);
            let mut optimizer = Optimizer::adamw();
            let plan = Plan::default();
            let report = train(
                &decoder,
                reference,
                &mut optimizer,
                &batch,
                &settings,
                &plan,
            )
            .unwrap();
            let mean = |key: &str| numbers(&case[key]).iter().sum::<f32>() / 2.0;
            let close = |what: &str, ours: f32, truth: f32, most: f32| {
                assert!((ours - truth).abs() < most, "{what}: {ours} is not {truth}");
            };
            close("loss", report.loss, mean("losses"), 1e-5);
            close("norm", report.grad_norm, mean("grad_norms"), 1e-4);
            for (name, variable) in decoder.vars() {
                let values = flat(variable);
                let expected = numbers(&case["weights"][name]);
                let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
                close(name, values.iter().sum(), expected[0], 2e-3);
                close(name, norm, expected[1], 2e-4);
            }
            let found = flat(&decoder.vars()["model.layers.1.mlp.up_proj.weight"]);
            for (ours, truth) in found.iter().zip(numbers(&case["norm"])) {
                close("a weight", *ours, truth, 2e-4);
            }
        }
    }

    /// The weights of the reference scripts' `fill`.
    fn fill(decoder: &Decoder) {
        for (number, (name, var)) in decoder.vars().iter().enumerate() {
            let wave = |at: usize| ((at * 7919 + number * 104_729) % 2001) as f64 / 1000.0 - 1.0;
            let shift = f64::from(u8::from(name.ends_with("norm.weight")));
            let values: Vec<f32> = (0..var.elem_count())
                .map(|index| (shift + 0.3 * wave(index)) as f32)
                .collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
        }
    }
}

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
use crate::grpo::{TokenLogProbs, TokenLoss, token_loss};
use crate::kernel::{self, LossSlopes, TokenScores};
use crate::optimizer::{Optimizer, Rates};
use crate::report::{Contribution, StepReport};
use crate::settings::GrpoSettings;
use std::ops::Range;

/// Trains `decoder` on `batch`, which it changes in place.
pub(crate) fn train(
    decoder: &Decoder,
    reference: Option<&Decoder>,
    optimizer: &mut Optimizer,
    batch: &Batch,
    settings: &GrpoSettings,
) -> Result<StepReport> {
    settings.check()?;
    let mut report = StepReport {
        groups: batch.groups.len(),
        dropped_zero_advantage: batch.dropped_zero_advantage,
        dropped_unusable: batch.dropped_unusable,
        completions: batch.sequences.len(),
        tokens: batch.tokens(),
        ..StepReport::default()
    };
    if report.tokens == 0 {
        return Ok(report);
    }
    let mut step = Step::new(decoder, reference, batch, settings)?;
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
    /// For each token.
    advantages: Vec<f32>,
    /// For each token.
    groups: Vec<usize>,
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
        reference: Option<&Decoder>,
        batch: &'a Batch,
        settings: &'a GrpoSettings,
    ) -> Result<Self> {
        let members = batch.token_members();
        let reference = match (settings.kl, reference) {
            (None, _) => Vec::new(),
            (Some(_), Some(reference)) => score(reference, batch, settings)?.log_probs,
            (Some(_), None) => {
                return Err(Error::Input(
                    "a divergence is to be kept small, and there is no reference".into(),
                ));
            }
        };
        Ok(Self {
            decoder,
            batch,
            settings,
            advantages: members.iter().map(|member| member.advantage).collect(),
            groups: members.iter().map(|member| member.group).collect(),
            old: Vec::new(),
            reference,
            sums: Sums::default(),
            push: vec![0.0; batch.groups.len()],
            ratio_max: 0.0,
        })
    }

    /// The loss of token `index` when its log-probability is `new`.
    fn loss(&self, index: usize, new: f32) -> TokenLoss {
        let log_probs = TokenLogProbs {
            new,
            old: self.old.get(index).copied().unwrap_or(new),
            reference: self.reference.get(index).copied(),
        };
        token_loss(
            log_probs,
            self.advantages[index],
            &self.settings.clip(),
            self.settings.kl,
        )
    }

    /// One update, or the reason why it was not made.
    fn epoch(
        &mut self,
        optimizer: &mut Optimizer,
        report: &mut StepReport,
    ) -> Result<std::result::Result<(), String>> {
        let count = self.advantages.len() as f64;
        let slopes = |range: Range<usize>, new: &[f32]| -> Vec<f32> {
            range
                .zip(new)
                .map(|(index, &new)| (self.loss(index, new).slope / count) as f32)
                .collect()
        };
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
        optimizer.step(self.decoder.vars(), &gradients, factor, rates, &adamw)?;
        report.updates += 1;
        Ok(Ok(()))
    }

    fn differentiate(&self, slopes: LossSlopes<'_>) -> Result<(TokenScores, Gradients)> {
        if self.decoder.device().is_cpu() {
            let (scores, gradients) =
                kernel::differentiate(self.decoder, &self.batch.sequences, slopes)?;
            return Ok((scores, Gradients::from_tensors(gradients)));
        }
        let budget = self.settings.minibatch_tokens;
        graph::differentiate(self.decoder, &self.batch.sequences, budget, slopes)
    }

    /// Adds an epoch to the means.
    fn note(&mut self, scores: &TokenScores, norm: f64) {
        let count = self.advantages.len() as f64;
        let is_first = self.old.is_empty();
        for (index, &new) in scores.log_probs.iter().enumerate() {
            let token = self.loss(index, new);
            self.sums.loss += token.loss / count;
            self.sums.kl += token.kl / count;
            self.sums.clipped += f64::from(u8::from(token.clipped)) / count;
            self.ratio_max = self.ratio_max.max(token.ratio);
            if is_first {
                self.push[self.groups[index]] += token.slope.abs();
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
        self.groups.iter().for_each(|&group| tokens[group] += 1);
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
        let new = score(self.decoder, self.batch, self.settings)?.log_probs;
        let mut effects = vec![0.0; self.batch.groups.len()];
        let mut shift = 0.0;
        for (index, (&new, &old)) in new.iter().zip(&self.old).enumerate() {
            let gain = f64::from(new) - f64::from(old);
            let ratio = gain.min(60.0).exp();
            effects[self.groups[index]] += f64::from(self.advantages[index]) * gain;
            // k3 of old from new, with tokens drawn by the old.
            shift += (ratio - gain - 1.0) / self.old.len() as f64;
            self.ratio_max = self.ratio_max.max(ratio);
        }
        report.shift = Some(shift as f32);
        Ok(Some(effects))
    }
}

fn score(decoder: &Decoder, batch: &Batch, settings: &GrpoSettings) -> Result<TokenScores> {
    if decoder.device().is_cpu() {
        return kernel::score(decoder, &batch.sequences);
    }
    graph::score(decoder, &batch.sequences, settings.minibatch_tokens)
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
        let mut step = Step::new(new, Some(&decoder(3)), batch, settings).unwrap();
        // Tokens drawn by the old model differ a little in probability.
        let mut old = score(new, batch, settings).unwrap().log_probs;
        for (index, value) in old.iter_mut().enumerate() {
            *value += 0.6 * (index as f32).sin();
        }
        step.old = old;
        step
    }

    fn slopes<'a>(step: &'a Step<'_>) -> impl Fn(Range<usize>, &[f32]) -> Vec<f32> + Sync + 'a {
        let count = step.advantages.len() as f64;
        move |range: Range<usize>, new: &[f32]| {
            range
                .zip(new)
                .map(|(index, &new)| (step.loss(index, new).slope / count) as f32)
                .collect()
        }
    }

    fn mean_loss(step: &Step<'_>) -> f64 {
        let scores = score(step.decoder, step.batch, step.settings).unwrap();
        let losses = scores
            .log_probs
            .iter()
            .enumerate()
            .map(|(index, &new)| step.loss(index, new).loss);
        losses.sum::<f64>() / step.advantages.len() as f64
    }

    // The second witness beside PyTorch's numbers in `grpo`: no formula of ours
    // but the loss itself is believed.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (new, batch) = (decoder(1), batch());
        let settings = GrpoSettings {
            kl: Some(0.5),
            ..GrpoSettings::default()
        };
        let step = off_policy(&new, &batch, &settings);
        let (_, gradients) = step.differentiate(&slopes(&step)).unwrap();
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
        let slopes = slopes(&step);
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
}

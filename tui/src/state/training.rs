//! Optimizer steps of local peers, and who taught whom.

use std::collections::BTreeMap;

use swarm_core::event::Event;
use swarm_core::ids::{Hash, PeerId};

use super::series::Series;

/// Local peers whose training is kept: more than fit in one process.
const TRAINERS_KEPT: usize = 64;
/// Teachers of one peer kept; past that the newest ones are not told apart.
const TEACHERS_KEPT: usize = 256;

/// The numbers of the newest step.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The round.
    pub round: u64,
    /// Optimizer steps since the base model.
    pub step: u64,
    /// Groups of its own.
    pub local_groups: u32,
    /// Groups of others.
    pub external_groups: u32,
    /// Groups left out because every completion earned the same.
    pub dropped_groups: u32,
    /// Tokens that carried loss.
    pub tokens: u32,
    /// Mean loss.
    pub loss: f64,
    /// KL to the reference, where it is on.
    pub kl: Option<f64>,
    /// Share of tokens whose ratio was clipped.
    pub clip_fraction: f64,
    /// Mean entropy in nats.
    pub entropy: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Mean reward of the groups.
    pub reward: f64,
    /// Milliseconds spent.
    pub took_ms: u64,
}

/// One local peer's training.
#[derive(Debug, Clone, Default)]
pub struct Trainer {
    /// The newest step.
    pub last: Step,
    /// Loss over steps.
    pub loss: Series,
    /// Entropy over steps.
    pub entropy: Series,
    /// Gradient norm over steps.
    pub grad_norm: Series,
    /// Mean reward of what was trained on, over steps.
    pub reward: Series,
    /// Tokens that carried loss, over steps.
    pub tokens: Series,
    /// Share of clipped tokens over steps.
    pub clip_fraction: Series,
    /// Held-out items right after each step, of those that are always asked, 0 to 1.
    pub held_out: Series,
    /// What the newest update changed of it, 0 to 1.
    pub held_out_change: Option<f64>,
    /// Own groups trained on since the log begins.
    pub own_groups: u64,
    /// Other peers' groups trained on since the log begins, by teacher.
    pub taught_by: BTreeMap<PeerId, u64>,
    /// The newest checkpoint: round, step and hash.
    pub checkpoint: Option<(u64, u64, Hash)>,
}

/// The training of all local peers.
#[derive(Debug, Clone, Default)]
pub struct Training {
    /// By peer; `None` where events do not say whose they are.
    pub peers: BTreeMap<Option<PeerId>, Trainer>,
    /// Tokens that carried loss, since the log begins.
    pub tokens: u64,
}

impl Training {
    fn entry(&mut self, peer: Option<PeerId>) -> Option<&mut Trainer> {
        if self.peers.len() >= TRAINERS_KEPT && !self.peers.contains_key(&peer) {
            return None;
        }
        Some(self.peers.entry(peer).or_default())
    }

    pub(super) fn fold(&mut self, peer: Option<PeerId>, event: &Event) {
        let Event::Trained {
            round,
            step,
            local_groups,
            external_groups,
            dropped_groups,
            tokens,
            loss,
            kl,
            clip_fraction,
            entropy,
            grad_norm,
            reward,
            took_ms,
        } = event
        else {
            return;
        };
        self.tokens = self.tokens.saturating_add(u64::from(*tokens));
        let Some(trainer) = self.entry(peer) else {
            return;
        };
        trainer.loss.set(*step, *loss);
        trainer.entropy.set(*step, *entropy);
        trainer.grad_norm.set(*step, *grad_norm);
        trainer.reward.set(*step, *reward);
        trainer.tokens.set(*step, f64::from(*tokens));
        trainer.clip_fraction.set(*step, *clip_fraction);
        trainer.own_groups += u64::from(*local_groups);
        for (teacher, groups) in external_groups {
            let known = trainer.taught_by.contains_key(teacher);
            if known || trainer.taught_by.len() < TEACHERS_KEPT {
                *trainer.taught_by.entry(*teacher).or_default() += u64::from(*groups);
            }
        }
        if trainer.last.step <= *step {
            trainer.last = Step {
                round: *round,
                step: *step,
                local_groups: *local_groups,
                external_groups: external_groups
                    .values()
                    .fold(0, |sum: u32, groups| sum.saturating_add(*groups)),
                dropped_groups: *dropped_groups,
                tokens: *tokens,
                loss: *loss,
                kl: *kl,
                clip_fraction: *clip_fraction,
                entropy: *entropy,
                grad_norm: *grad_norm,
                reward: *reward,
                took_ms: *took_ms,
            };
        }
    }

    pub(super) fn probed(&mut self, peer: Option<PeerId>, step: u64, before: f64, after: f64) {
        if let Some(trainer) = self.entry(peer) {
            trainer.held_out.set(step, after);
            trainer.held_out_change = Some(after - before);
        }
    }

    pub(super) fn checkpoint(&mut self, peer: Option<PeerId>, round: u64, step: u64, hash: Hash) {
        if let Some(trainer) = self.entry(peer) {
            trainer.checkpoint = Some((round, step, hash));
        }
    }
}

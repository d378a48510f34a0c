//! From scored groups of text to token sequences that can be trained on.

use crate::error::{Error, Result};
use crate::grpo::{AdvantageKind, advantages};
use crate::kernel::Sequence;
use crate::tokenizer::{ChatMessage, Tokenizer};

/// One prompt, its completions and what each was worth.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainGroup {
    /// What the completions answer.
    pub prompt: Vec<ChatMessage>,
    /// The group; all are compared with each other.
    pub completions: Vec<TrainCompletion>,
    /// One for each completion.
    pub rewards: Vec<f32>,
    /// Whatever the caller wants to find again in the report.
    pub origin: u64,
}

/// A completion to learn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainCompletion {
    /// The turns before it, where it is the last of an episode of several.
    pub before: Vec<TrainTurn>,
    /// What was said, without the end-of-message token.
    pub text: String,
    /// The tokens it was drawn as, for own rollouts, with the end-of-message
    /// token; text of peers has none and is tokenised here.
    pub tokens: Option<Vec<u32>>,
    /// Whether its author ended the message; if so, ending is learnt too.
    pub finished: bool,
}

/// A turn of an episode that went on after it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainTurn {
    /// What the policy said, and ended.
    pub text: String,
    /// What it was told then; nothing of it is trained.
    pub replies: Vec<ChatMessage>,
}

/// Sequences with an advantage, ready for the engine.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) sequences: Vec<Sequence>,
    /// For each sequence.
    pub(crate) members: Vec<Member>,
    /// For each group that is trained on.
    pub(crate) groups: Vec<Group>,
    /// Groups left out because nobody in them did better than another.
    pub(crate) dropped_zero_advantage: usize,
    /// Groups left out because the prompt leaves the model no room, or nothing
    /// was said.
    pub(crate) dropped_unusable: usize,
    /// Why the last of them was.
    pub(crate) unusable: Option<String>,
}

/// What a sequence is worth, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) advantage: f32,
    pub(crate) group: usize,
}

/// A group in a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) origin: u64,
    pub(crate) mean_reward: f32,
}

impl Batch {
    /// Tokenises `groups`; those that teach nothing never reach the model.
    ///
    /// A completion that does not fit behind its prompt is cut. An empty one
    /// has nothing to train, yet counts among those the others are compared
    /// with.
    ///
    /// An episode becomes a sequence for each turn, what came before it being
    /// the prompt, and each has the advantage of the whole.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        groups: &[TrainGroup],
        kind: AdvantageKind,
        positions: usize,
    ) -> Result<Self> {
        let mut batch = Self::default();
        for group in groups {
            let worth = group.advantages(kind)?;
            if worth.iter().all(|&advantage| advantage == 0.0) {
                batch.dropped_zero_advantage += 1;
                continue;
            }
            let prompt = tokenizer.prompt(&group.prompt)?;
            let fits = room(prompt.len(), positions);
            let mut is_used = false;
            for (completion, advantage) in group.completions.iter().zip(worth) {
                let mut said = group.prompt.clone();
                for turn in &completion.before {
                    let spoken = tokenizer.completion(&turn.text, true)?;
                    let asked = tokenizer.prompt(&said)?;
                    is_used |= batch.add(&asked, spoken, advantage, positions);
                    said.push(ChatMessage::new("assistant", turn.text.clone()));
                    said.extend(turn.replies.iter().cloned());
                }
                let spoken = match &completion.tokens {
                    Some(tokens) => tokens.clone(),
                    None => tokenizer.completion(&completion.text, completion.finished)?,
                };
                let later;
                let asked = if completion.before.is_empty() {
                    &prompt
                } else {
                    later = tokenizer.prompt(&said)?;
                    &later
                };
                is_used |= batch.add(asked, spoken, advantage, positions);
            }
            if is_used {
                batch.groups.push(Group {
                    origin: group.origin,
                    mean_reward: group.rewards.iter().sum::<f32>() / group.rewards.len() as f32,
                });
            } else {
                batch.dropped_unusable += 1;
                batch.unusable = Some(match fits {
                    Err(why) => format!("group {}: {why}", group.origin),
                    Ok(_) => format!("group {}: nothing was said in it", group.origin),
                });
            }
        }
        Ok(batch)
    }

    /// A sequence of the group in the making, unless nothing of it fits.
    fn add(&mut self, prompt: &[u32], spoken: Vec<u32>, advantage: f32, positions: usize) -> bool {
        let room = positions.saturating_sub(prompt.len());
        if spoken.is_empty() || room == 0 {
            return false;
        }
        let mut tokens = prompt.to_vec();
        tokens.extend(spoken.into_iter().take(room));
        self.sequences.push(Sequence {
            tokens,
            prompt: prompt.len(),
        });
        self.members.push(Member {
            advantage,
            group: self.groups.len(),
        });
        true
    }

    /// How many tokens carry loss.
    pub(crate) fn tokens(&self) -> usize {
        self.sequences.iter().map(Sequence::predicted).sum()
    }
}

/// How many tokens may follow a prompt of so many.
pub(crate) fn room(prompt: usize, positions: usize) -> Result<usize> {
    match positions.checked_sub(prompt) {
        None | Some(0) => Err(Error::Input(format!(
            "the prompt has {prompt} tokens and the model's context {positions}: none are left \
             for an answer; take a shorter prompt or a model of a longer context"
        ))),
        Some(room) => Ok(room),
    }
}

impl TrainGroup {
    /// The advantage of each completion.
    fn advantages(&self, kind: AdvantageKind) -> Result<Vec<f32>> {
        if self.rewards.len() != self.completions.len() {
            return Err(Error::Input(format!(
                "group {} has {} completions and {} rewards",
                self.origin,
                self.completions.len(),
                self.rewards.len()
            )));
        }
        if let Some(reward) = self.rewards.iter().find(|reward| !reward.is_finite()) {
            return Err(Error::Input(format!(
                "group {} has a reward of {reward}",
                self.origin
            )));
        }
        Ok(advantages(&self.rewards, kind))
    }
}

//! Judged groups for the Rollouts screen: the newest ones, bounded in number
//! and in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use swarm_core::event::{CompletionView, CritiqueView, GroupView, Part, Stage};
use swarm_core::ids::PeerId;

use crate::text;

use super::{LABEL_BYTES, LINE_BYTES};

/// Groups kept: several rounds of a swarm of four, more than a person scrolls.
pub const GROUPS_KEPT: usize = 1_024;
/// Bytes of text kept over all groups.
pub const GROUPS_BYTES: usize = 16 << 20;
/// Longest prompt kept, in bytes; a resolve prompt quotes several answers.
const PROMPT_BYTES: usize = 16 << 10;
/// Longest completion or critique kept, in bytes.
const COMPLETION_BYTES: usize = 8 << 10;
/// Completions, parts and critiques kept of each group.
const COMPLETIONS_KEPT: usize = 64;

/// What tells groups apart: round, stage, owner and slot.
pub type GroupKey = (u64, Stage, PeerId, String);

/// A judged group.
#[derive(Debug)]
pub struct Group {
    /// When it was judged.
    pub at_ms: u64,
    /// The group, its texts clipped.
    pub view: GroupView,
    bytes: usize,
}

impl Group {
    /// What tells it from other groups.
    pub fn key(&self) -> GroupKey {
        let view = &self.view;
        (view.round, view.stage, view.owner, view.slot.clone())
    }

    fn has_key(&self, of: &GroupView) -> bool {
        let view = &self.view;
        view.round == of.round
            && view.stage == of.stage
            && view.owner == of.owner
            && view.slot == of.slot
    }

    /// The mean reward, 0 to 1.
    pub fn reward(&self) -> f64 {
        let completions = &self.view.completions;
        let sum: f64 = completions
            .iter()
            .map(|completion| text::fraction(completion.reward_ppm))
            .sum();
        if completions.is_empty() {
            0.0
        } else {
            sum / completions.len() as f64
        }
    }
}

/// The newest groups, oldest first. Cloning shares the texts.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    groups: VecDeque<Arc<Group>>,
    bytes: usize,
    /// Groups judged since the log begins.
    pub total: u64,
}

impl Groups {
    pub(super) fn push(&mut self, at_ms: u64, view: &GroupView) {
        let view = clipped(view);
        let bytes = size(&view);
        let group = Arc::new(Group { at_ms, view, bytes });
        // Several local peers judge one group, and to the same end.
        let known = self
            .groups
            .iter_mut()
            .rev()
            .find(|known| known.has_key(&group.view));
        self.bytes += bytes;
        match known {
            Some(known) => {
                self.bytes -= known.bytes;
                *known = group;
            }
            None => {
                self.total += 1;
                self.groups.push_back(group);
            }
        }
        while self.groups.len() > GROUPS_KEPT
            || (self.bytes > GROUPS_BYTES && self.groups.len() > 1)
        {
            if let Some(oldest) = self.groups.pop_front() {
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// Newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().rev()
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Bytes of text kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn clipped(view: &GroupView) -> GroupView {
    let completion = |completion: &CompletionView| CompletionView {
        text: text::clip(&completion.text, COMPLETION_BYTES),
        reward_ppm: completion.reward_ppm,
        parts: completion
            .parts
            .iter()
            .take(COMPLETIONS_KEPT)
            .map(|part| Part {
                name: text::clip(&part.name, LABEL_BYTES),
                ppm: part.ppm,
            })
            .collect(),
        why: text::clip(&completion.why, LINE_BYTES),
        critiques: completion
            .critiques
            .iter()
            .take(COMPLETIONS_KEPT)
            .map(|critique| CritiqueView {
                text: text::clip(&critique.text, COMPLETION_BYTES),
                ..critique.clone()
            })
            .collect(),
    };
    GroupView {
        slot: text::clip(&view.slot, LABEL_BYTES),
        env: text::clip(&view.env, LABEL_BYTES),
        prompt: text::clip(&view.prompt, PROMPT_BYTES),
        reference: text::clip(&view.reference, COMPLETION_BYTES),
        completions: view
            .completions
            .iter()
            .take(COMPLETIONS_KEPT)
            .map(completion)
            .collect(),
        ..view.clone()
    }
}

/// Bytes a group takes, near enough: its texts and its fixed parts.
fn size(view: &GroupView) -> usize {
    let completion = |completion: &CompletionView| {
        let critiques = completion
            .critiques
            .iter()
            .map(|critique| critique.text.len() + size_of::<CritiqueView>());
        let parts = completion
            .parts
            .iter()
            .map(|part| part.name.len() + size_of::<Part>());
        completion.text.len()
            + completion.why.len()
            + size_of::<CompletionView>()
            + critiques.sum::<usize>()
            + parts.sum::<usize>()
    };
    view.prompt.len()
        + view.reference.len()
        + size_of::<GroupView>()
        + view.completions.iter().map(completion).sum::<usize>()
}

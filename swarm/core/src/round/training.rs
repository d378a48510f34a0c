//! What this peer trains on, and what it shows of a judged round: its own
//! groups, and those of its peers that move its weights.

use std::collections::BTreeSet;

use rewards::{Candidate, CompletionScore, Scoreboard, Selection, SelectionPlan, select_groups};
use tasks::Seed;
use tasks::dialogue::Message;

use super::gallery::Gallery;
use super::sampling::slot_of;
use super::stages::count;
use super::state::{GroupKey, Judged};
use super::{Effect, Machine, TrainGroup};
use crate::body::{Completion, Exhibit};
use crate::event::{CompletionView, CritiqueView, Event, GroupView, Part};
use crate::ids::{Beacon, PeerId};
use crate::manifest::{Quota, TrainingPlan};
use crate::message::BodyKind;

/// A judged group with all that was scattered over bodies and scoreboard.
pub(crate) struct JudgedGroup<'a> {
    pub(crate) round: u64,
    pub(crate) owner: PeerId,
    kind: BodyKind,
    /// The first completion of the group itself; for a critique, what it is of.
    target: Exhibit,
    label: String,
    env: tasks::EnvId,
    level: u8,
    reference: String,
    messages: Vec<Message>,
    completions: &'a [Completion],
    scores: &'a [CompletionScore<PeerId>],
    trainable: bool,
}

impl JudgedGroup<'_> {
    pub(crate) fn key(&self) -> GroupKey {
        (self.kind, self.owner, self.target)
    }
}

impl Machine {
    /// Chooses what to train on, and shows it beside this peer's own groups.
    /// Others' groups may be of the round before: what came too late for one
    /// round is still worth learning from in the next.
    pub(super) fn train(&mut self) {
        let number = self.at.round;
        let plan = self.config.manifest.training;
        let mut chosen = Vec::new();
        let mut views = Vec::new();
        let mut used = BTreeSet::new();
        let mut dropped = 0;
        let last = number.checked_sub(1);
        let before = last.and_then(|last| Some((last, self.judged_round(last)?)));
        if let Some((judged, gallery)) = self.judged_round(number) {
            for (kind, quota) in quotas(&plan) {
                let now = groups(number, &gallery, &judged.board, kind);
                let late = before
                    .as_ref()
                    .map_or_else(Vec::new, |(last, (judged, gallery))| {
                        groups(*last, gallery, &judged.board, kind)
                    });
                let unused = |key: &GroupKey| !last.is_some_and(|last| self.was_used(last, key));
                let me = self.config.me;
                let drawn = draw(
                    &plan,
                    me,
                    gallery.beacon(),
                    (kind, quota),
                    (&now, &late),
                    unused,
                );
                dropped += drawn.selection.dropped;
                for (index, group) in drawn.from.iter().enumerate() {
                    let local = drawn.selection.local.binary_search(&index).is_ok();
                    let external = drawn.selection.external.binary_search(&index).is_ok();
                    let of = match &before {
                        Some((_, (_, before))) if group.round != number => before,
                        _ => &gallery,
                    };
                    if external || group.owner == self.config.me {
                        views.push(self.view(of, group));
                    }
                    if external && group.round == number {
                        used.insert(group.key());
                    }
                    if local || external {
                        chosen.push(TrainGroup {
                            owner: group.owner,
                            round: group.round,
                            kind,
                            slot: group.target.slot,
                            messages: group.messages.clone(),
                            completions: group.completions.to_vec(),
                            rewards: group.scores.iter().map(|score| score.reward.0).collect(),
                        });
                    }
                }
            }
        }
        self.round_mut(number).used = used;
        for view in views {
            self.emit(Event::GroupJudged(view));
        }
        self.effects.push(Effect::Train {
            round: number,
            steps: plan.steps,
            dropped: count(dropped),
            groups: chosen,
        });
    }

    /// A round that was judged here and whose bodies are kept.
    fn judged_round(&self, number: u64) -> Option<(&Judged, Gallery<'_>)> {
        let round = self.rounds.get(&number)?;
        let (judged, opened) = (round.judged.as_ref()?, round.opened.as_ref()?);
        let bodies = judged.entries.iter();
        let gallery = Gallery::new(
            self.rules(number),
            &self.config.registry,
            opened.beacon,
            bodies.filter_map(|hash| round.bodies.get(hash)),
        );
        Some((judged, gallery))
    }

    fn was_used(&self, number: u64, key: &GroupKey) -> bool {
        let round = self.rounds.get(&number);
        round.is_some_and(|round| round.used.contains(key))
    }

    fn view(&self, gallery: &Gallery<'_>, group: &JudgedGroup<'_>) -> GroupView {
        let env = self.config.registry.get(&group.env);
        let prompt = group
            .messages
            .iter()
            .map(|message| message.content.as_str());
        GroupView {
            round: group.round,
            stage: group.kind.stage(),
            owner: group.owner,
            slot: group.label.clone(),
            env: env.map_or_else(|| group.env.to_string(), |env| env.manifest().label()),
            level: group.level,
            prompt: prompt.collect::<Vec<_>>().join("\n"),
            reference: group.reference.clone(),
            completions: group
                .completions
                .iter()
                .zip(group.scores)
                .enumerate()
                .map(|(index, (completion, score))| CompletionView {
                    text: completion.text.clone(),
                    reward_ppm: score.reward.0,
                    parts: score
                        .parts
                        .iter()
                        .map(|part| Part {
                            name: part.name.clone(),
                            ppm: part.value.0,
                        })
                        .collect(),
                    why: score.told(),
                    critiques: critiques(gallery, group, index, score),
                })
                .collect(),
        }
    }
}

/// How many groups of each kind are trained on.
pub(crate) fn quotas(plan: &TrainingPlan) -> [(BodyKind, Quota); 3] {
    [
        (BodyKind::Answer, plan.answers),
        (BodyKind::Critique, plan.critiques),
        (BodyKind::Resolve, plan.resolutions),
    ]
}

/// What a peer chooses from, and what it chooses, as indices into it.
pub(crate) struct Drawn<'g, 'a> {
    pub(crate) from: Vec<&'g JudgedGroup<'a>>,
    pub(crate) selection: Selection,
}

/// What the beacon draws for a peer to train on: from everyone's groups of this
/// round, and from others' of the round before that it has not used.
pub(crate) fn draw<'g, 'a>(
    plan: &TrainingPlan,
    me: PeerId,
    beacon: Beacon,
    (kind, quota): (BodyKind, Quota),
    (now, late): (&'g [JudgedGroup<'a>], &'g [JudgedGroup<'a>]),
    unused: impl Fn(&GroupKey) -> bool,
) -> Drawn<'g, 'a> {
    let late = late.iter();
    let late = late.filter(|group| group.trainable && group.owner != me && unused(&group.key()));
    let from: Vec<&JudgedGroup<'_>> = now.iter().chain(late).collect();
    let candidates: Vec<Candidate<PeerId>> = from
        .iter()
        .map(|group| Candidate {
            owner: group.owner,
            trainable: group.trainable,
        })
        .collect();
    let limits = SelectionPlan {
        local: quota.local.into(),
        external: quota.external.into(),
        per_peer: plan.per_peer.into(),
    };
    let seed = Seed::derive(&[b"training", &beacon.0, &me.0, &[kind as u8]]);
    Drawn {
        from,
        selection: select_groups(me, &candidates, &limits, &seed),
    }
}

/// The groups of one kind, with their bodies' completions and the judge's scores.
pub(crate) fn groups<'a>(
    round: u64,
    gallery: &Gallery<'a>,
    board: &'a Scoreboard<PeerId>,
    kind: BodyKind,
) -> Vec<JudgedGroup<'a>> {
    let mut groups = Vec::new();
    match kind {
        BodyKind::Answer | BodyKind::Resolve => {
            let scored = match kind {
                BodyKind::Answer => &board.answers,
                _ => &board.resolutions,
            };
            for score in scored {
                let slot = slot_of(score.slot);
                let found = match kind {
                    BodyKind::Answer => gallery
                        .answer_group(score.owner, slot)
                        .map(|group| &group.completions)
                        .zip(gallery.answer_prompt(score.owner, slot)),
                    _ => gallery.resolve_group(score.owner, slot).and_then(|group| {
                        // The prompt as its author read it, which is what its
                        // completions answer.
                        let prompt = gallery.resolve_prompt(score.owner, slot, &group.read)?;
                        Some((&group.completions, prompt))
                    }),
                };
                let (Some((completions, messages)), Some((item, _))) =
                    (found, gallery.item(score.owner, slot))
                else {
                    continue;
                };
                groups.push(JudgedGroup {
                    round,
                    owner: score.owner,
                    kind,
                    target: Exhibit {
                        peer: score.owner,
                        slot,
                        completion: 0,
                    },
                    label: slot.to_string(),
                    env: score.env,
                    level: score.level,
                    reference: item.reference,
                    messages,
                    completions,
                    scores: &score.completions,
                    trainable: score.trainable,
                });
            }
        }
        BodyKind::Critique => {
            for score in &board.critiques {
                let target = Exhibit {
                    peer: score.target_owner,
                    slot: slot_of(score.target_slot),
                    completion: score.target_completion,
                };
                let (Some(group), Some(messages), Some((item, _))) = (
                    gallery.critique_group(score.critic, &target),
                    gallery.critique_prompt(&target),
                    gallery.item(target.peer, target.slot),
                ) else {
                    continue;
                };
                let truth = match score.truth {
                    Some(true) => "right",
                    Some(false) => "wrong",
                    None => "unknown",
                };
                groups.push(JudgedGroup {
                    round,
                    owner: score.critic,
                    kind,
                    target,
                    label: format!("{} of {}", target.slot, target.peer.nickname()),
                    env: item.env,
                    level: item.level,
                    reference: truth.to_owned(),
                    messages,
                    completions: &group.completions,
                    scores: &score.samples,
                    trainable: score.trainable && score.ignored.is_none(),
                });
            }
        }
    }
    groups
}

/// What critics said of one completion, in their own words.
fn critiques(
    gallery: &Gallery<'_>,
    group: &JudgedGroup<'_>,
    completion: usize,
    score: &CompletionScore<PeerId>,
) -> Vec<CritiqueView> {
    let Ok(completion) = u16::try_from(completion) else {
        return Vec::new();
    };
    let target = Exhibit {
        peer: group.owner,
        slot: group.target.slot,
        completion,
    };
    score
        .critiques
        .iter()
        .map(|critique| {
            let sample = critique.sample_index as usize;
            let text = gallery
                .critique_group(critique.critic, &target)
                .and_then(|group| group.completions.get(sample))
                .map(|completion| completion.text.clone());
            CritiqueView {
                critic: critique.critic,
                right_ppm: critique.right_ppm.0,
                weight_ppm: critique.weight_ppm.0,
                text: text.unwrap_or_default(),
            }
        })
        .collect()
}

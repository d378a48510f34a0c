//! What this peer trains on, and what it shows of a judged round: its own
//! groups, and those of its peers that move its weights.

use std::collections::{BTreeMap, BTreeSet};

use rewards::{
    Candidate, CompletionScore, Scoreboard, Selection, SelectionPlan, promise, select_groups,
};
use tasks::dialogue::Message;
use tasks::{EnvId, Ppm, Seed, TURN_BREAK};

use super::gallery::Gallery;
use super::sampling::slot_of;
use super::stages::count;
use super::state::{GroupKey, Judged};
use super::{Effect, Machine, TrainGroup};
use crate::body::{Completion, Exhibit, Slot};
use crate::event::{CompletionView, CritiqueView, Event, GroupView, Part};
use crate::ids::{Beacon, PeerId};
use crate::manifest::{Choice, Quota, TrainingPlan};
use crate::message::BodyKind;

/// A judged group with all that was scattered over bodies and scoreboard.
pub(crate) struct JudgedGroup<'a> {
    pub(crate) round: u64,
    pub(crate) owner: PeerId,
    kind: BodyKind,
    /// The first completion of the group itself; for a critique, what it is of.
    target: Exhibit,
    label: String,
    env: EnvId,
    level: u8,
    reference: String,
    /// Of a critique: whether the answer is right that it is of.
    truth: Option<bool>,
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
            let earlier = before.as_ref().map(|(_, (judged, _))| &judged.board);
            let rates = Rates::of(self.config.me, [&judged.board].into_iter().chain(earlier));
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
                    (me, &rates),
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
                            game: match kind {
                                BodyKind::Answer => of.game(group.owner, group.target.slot),
                                _ => None,
                            },
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
                    // An episode is shown with a line for each turn.
                    text: completion.text.replace(TURN_BREAK, "\n"),
                    reward_ppm: score.reward.0,
                    parts: score
                        .parts
                        .iter()
                        .map(|part| Part {
                            name: part.name.clone().into_owned(),
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

/// How often a peer was right of late, by environment and level: what its own
/// answers of one round and the one before show to everybody.
#[derive(Default)]
pub(crate) struct Rates(BTreeMap<(EnvId, u8), (u64, u64)>);

impl Rates {
    pub(crate) fn of<'a>(
        me: PeerId,
        boards: impl IntoIterator<Item = &'a Scoreboard<PeerId>>,
    ) -> Self {
        let mut rates = Self::default();
        for board in boards {
            for group in board.answers.iter().filter(|group| group.owner == me) {
                let (right, all) = rates.0.entry((group.env, group.level)).or_default();
                *right += group.completions.iter().filter(|one| one.correct).count() as u64;
                *all += group.completions.len() as u64;
            }
        }
        rates
    }

    /// Shrunk to one half by as much as half a usual group: nothing is known
    /// of what was not answered.
    fn of_items(&self, env: EnvId, level: u8) -> Ppm {
        let (right, all) = self.0.get(&(env, level)).copied().unwrap_or_default();
        let share = (right + 2) * 1_000_000 / (all + 4);
        Ppm(u32::try_from(share).unwrap_or(Ppm::ONE.0))
    }
}

impl JudgedGroup<'_> {
    /// What a peer of these rates may expect to learn from it.
    fn promise(&self, rates: &Rates) -> u32 {
        let sum: u64 = self.scores.iter().map(|one| u64::from(one.reward.0)).sum();
        let mean = sum / (self.scores.len() as u64).max(1);
        let reward = Ppm(u32::try_from(mean).unwrap_or(Ppm::ONE.0));
        match self.kind {
            // How well it judges is not shown by what it answers.
            BodyKind::Critique => promise(Ppm(500_000), reward, true),
            _ => {
                let new = matches!(self.target.slot, Slot::Own(_));
                promise(rates.of_items(self.env, self.level), reward, new)
            }
        }
    }
}

/// What the beacon draws for a peer to train on: from everyone's groups of this
/// round, and from others' of the round before that it has not used.
pub(crate) fn draw<'g, 'a>(
    plan: &TrainingPlan,
    (me, rates): (PeerId, &Rates),
    beacon: Beacon,
    (kind, quota): (BodyKind, Quota),
    (now, late): (&'g [JudgedGroup<'a>], &'g [JudgedGroup<'a>]),
    unused: impl Fn(&GroupKey) -> bool,
) -> Drawn<'g, 'a> {
    let useful = |group: &JudgedGroup<'_>| match plan.choice {
        Choice::Any => group.owner != me || group.trainable,
        Choice::Uniform | Choice::Expected => group.trainable,
    };
    let late = late.iter();
    let late = late.filter(|group| useful(group) && group.owner != me && unused(&group.key()));
    let from: Vec<&JudgedGroup<'_>> = now.iter().chain(late).collect();
    // Most answers are right, or soon will be: a critic that trained on what
    // comes would learn to say so.
    let of = |truth: bool| {
        let groups = from.iter();
        let count = groups.filter(|one| useful(one) && one.truth == Some(truth));
        u32::try_from(count.count())
            .unwrap_or(u32::MAX)
            .clamp(1, 1_000)
    };
    let (right, wrong) = (of(true), of(false));
    let candidates: Vec<Candidate<PeerId>> = from
        .iter()
        .map(|group| {
            let promise = match plan.choice {
                Choice::Expected => group.promise(rates),
                Choice::Uniform | Choice::Any => 1,
            };
            let rarity = match group.truth {
                Some(true) => wrong,
                Some(false) => right,
                None => 1,
            };
            Candidate {
                owner: group.owner,
                trainable: useful(group),
                weight: promise * rarity,
            }
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
                    truth: None,
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
                    truth: score.truth,
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

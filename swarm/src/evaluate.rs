//! Held-out accuracy: items whose questions neither pre-training nor any round
//! ever draws (`tasks::held_out`), so a rise is learning and not memory.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use policy::{Policy, Request};
use swarm_core::body::Completion;
use swarm_core::event::{EvalReport, TaskEval};
use swarm_core::manifest::Manifest;
use tasks::dialogue::{
    Message, Verdict, answer_prompt, critique_prompt, parse_verdict, resolve_prompt,
};
use tasks::{EnvId, Environment, Item, Registry, Seed, practice};

use crate::model::{Manner, Model};
use crate::play::{self, Ask};

/// What to measure.
#[derive(Debug, Clone)]
pub struct EvalPlan {
    /// Environments and levels.
    pub entries: Vec<(EnvId, u8)>,
    /// Items for each of them, at most: some have few questions.
    pub items: u32,
    /// Completions sampled for each item at temperature 1, beside the greedy one.
    pub samples: usize,
    /// Which items, and which draws: the same number measures the same items.
    pub seed: u64,
    /// How the model is spoken to, here and in the rounds.
    pub manner: Manner,
}

/// Draws for each held-out item that is wanted, before a task's questions are
/// taken to have run out.
const TRIES: u32 = 8;

/// Completions sampled for each held-out item.
const SAMPLES: usize = 4;

/// Completions that are asked for at a time, at least.
const ROWS_TOGETHER: usize = 64;

impl EvalPlan {
    /// The whole curriculum of a swarm, always on the same items.
    pub fn of(manifest: &Manifest, items: u32, model: &Model) -> Self {
        let entries: BTreeSet<_> = manifest
            .curriculum
            .iter()
            .flat_map(|course| {
                // Where levels move: all that it may come to.
                let levels = course.climb.map_or(course.level..=course.level, |climb| {
                    climb.lowest..=climb.highest
                });
                levels.map(|level| (course.env, level))
            })
            .collect();
        Self {
            entries: entries.into_iter().collect(),
            items,
            samples: SAMPLES,
            seed: 0,
            manner: model.manner(manifest.limits.completion_bytes),
        }
    }
}

#[derive(Default, Clone, Copy)]
struct Tally {
    items: u32,
    greedy: u32,
    samples: u32,
    sampled: u32,
    formed: u32,
    /// Items whose question leaves no room for an answer.
    too_long: u32,
    /// Verdicts, and those that are right.
    judged: (u32, u32),
    /// Second answers, and those that are right.
    resolved: (u32, u32),
}

fn share(part: u32, whole: u32) -> f64 {
    f64::from(part) / f64::from(whole.max(1))
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.items += other.items;
        self.greedy += other.greedy;
        self.samples += other.samples;
        self.sampled += other.sampled;
        self.formed += other.formed;
        self.too_long += other.too_long;
        self.judged.0 += other.judged.0;
        self.judged.1 += other.judged.1;
        self.resolved.0 += other.resolved.0;
        self.resolved.1 += other.resolved.1;
    }

    fn report(self) -> TaskEval {
        TaskEval {
            greedy: share(self.greedy, self.items),
            sampled: share(self.sampled, self.samples),
            format_rate: share(self.formed, self.samples),
            items: self.items,
        }
    }
}

/// Accuracy of `policy` on held-out items. `began` hears of each of the plan's
/// entries by its number as it is begun, since with a large model one takes a
/// while, and may put an end to it.
///
/// # Errors
/// An environment of the plan is unknown, or sampling fails.
pub fn evaluate(
    policy: &Policy,
    registry: &Registry,
    plan: &EvalPlan,
    mut began: impl FnMut(usize) -> Result<()>,
) -> Result<EvalReport> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut parts = Vec::new();
    for (env, level) in &plan.entries {
        let environment = registry
            .get(env)
            .with_context(|| format!("no environment {env} in this build"))?;
        let items = distinct(plan, env, environment, *level);
        parts.push(Measured::new(plan, environment, items));
    }
    // As many at a time as fill a batch: a large model takes as long for few rows.
    let each = plan.items as usize * (3 + plan.samples);
    let together = ROWS_TOGETHER.div_ceil(each.max(1));
    for (number, parts) in parts.chunks(together).enumerate() {
        began(number * together)?;
        let asks: Vec<Vec<Ask<'_>>> = parts.iter().map(Measured::asks).collect();
        let counts: Vec<usize> = asks.iter().map(Vec::len).collect();
        let asks: Vec<Ask<'_>> = asks.into_iter().flatten().collect();
        let groups = play::sample(policy, &plan.manner, &asks, None);
        let mut groups = groups.context("sampling held-out items")?.into_iter();
        for (part, count) in parts.iter().zip(counts) {
            let groups: Vec<_> = groups.by_ref().take(count).collect();
            tallies
                .entry(part.environment.manifest().label())
                .or_default()
                .add(part.tally(&groups));
        }
    }
    let mut total = Tally::default();
    for tally in tallies.values() {
        total.add(*tally);
    }
    let whole = total.report();
    let some = |(all, right): (u32, u32)| (all > 0).then(|| share(right, all));
    Ok(EvalReport {
        greedy: whole.greedy,
        sampled: whole.sampled,
        format_rate: whole.format_rate,
        verdicts: some(total.judged),
        resolved: some(total.resolved),
        items: total.items,
        too_long: total.too_long,
        tasks: tallies
            .into_iter()
            .map(|(name, tally)| (name, tally.report()))
            .collect(),
    })
}

/// A greedy answer to the first held-out item of each of the plan's entries:
/// how many of how many are right. What it costs is little beside a round.
///
/// # Errors
/// An environment of the plan is unknown, or sampling fails.
pub fn probe(policy: &Policy, registry: &Registry, plan: &EvalPlan) -> Result<(u32, u32)> {
    let one = EvalPlan {
        items: 1,
        ..plan.clone()
    };
    let mut asked: Vec<(&dyn Environment, Item)> = Vec::new();
    for (env, level) in &plan.entries {
        let environment = registry
            .get(env)
            .with_context(|| format!("no environment {env} in this build"))?;
        let items = distinct(&one, env, environment, *level).into_iter();
        asked.extend(items.map(|item| (environment, item)));
    }
    let asks: Vec<Ask<'_>> = asked
        .iter()
        .map(|(environment, item)| {
            let request = Request {
                messages: plan.manner.chat(&answer_prompt(item)),
                group: 1,
                max_tokens: plan.manner.max_tokens(),
                temperature: 0.0,
                ..Request::default()
            };
            Ask::of(*environment, item, request)
        })
        .collect();
    let groups =
        play::sample(policy, &plan.manner, &asks, None).context("sampling held-out items")?;
    let answers = asked.iter().zip(groups.iter().flatten());
    let right = answers
        .filter(|((environment, item), completion)| is_right(*environment, item, &completion.text));
    Ok((right.count() as u32, asked.len() as u32))
}

/// Held-out items with different questions: as many as the plan wants, or as
/// there are, as far as a few tries for each can tell. A question that comes
/// twice would count twice and measure nothing new.
fn distinct(plan: &EvalPlan, env: &EnvId, environment: &dyn Environment, level: u8) -> Vec<Item> {
    let mut asked = BTreeSet::new();
    (0..plan.items.saturating_mul(TRIES))
        .map(|index| {
            let seed = Seed::derive(&[
                b"held-out",
                &plan.seed.to_le_bytes(),
                &env.0,
                &[level],
                &index.to_le_bytes(),
            ]);
            environment.generate_held_out(&seed, level)
        })
        .filter(|item| item.fault().is_none() && asked.insert(item.question.clone()))
        .take(plan.items as usize)
        .collect()
}

/// One environment and level, and its held-out items.
struct Measured<'a> {
    environment: &'a dyn Environment,
    items: Vec<Item>,
    plan: &'a EvalPlan,
    /// Each environment and level has draws of its own; they differ in the high
    /// bits, items in the low ones.
    draws: u64,
}

impl<'a> Measured<'a> {
    fn new(plan: &'a EvalPlan, environment: &'a dyn Environment, items: Vec<Item>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("murmuration evaluation draws v1");
        hasher.update(&plan.seed.to_le_bytes());
        hasher.update(&environment.manifest().id().0);
        hasher.update(&[items.first().map_or(0, |item| item.level)]);
        let mut draws = [0; 8];
        hasher.finalize_xof().fill(&mut draws);
        Self {
            environment,
            items,
            plan,
            draws: u64::from_le_bytes(draws),
        }
    }

    /// The later stages come after simulated peers, always the same.
    fn peers(&self, index: usize) -> Seed {
        Seed::derive(&[
            b"held-out peers",
            &self.draws.to_le_bytes(),
            &index.to_le_bytes(),
        ])
    }

    /// Four for each item: a greedy answer, sampled ones, and fewer draws of the
    /// later stages.
    fn asks(&self) -> Vec<Ask<'_>> {
        let Self {
            environment,
            plan,
            draws,
            ..
        } = *self;
        let request = |messages: &[Message], index: usize, group, temperature| Request {
            messages: plan.manner.chat(messages),
            group,
            seed: draws ^ index as u64,
            max_tokens: plan.manner.max_tokens(),
            temperature,
            ..Request::default()
        };
        // Episodes are neither judged nor played again after others'.
        let is_game = environment.turns() > 1;
        let fewer = if is_game { 0 } else { plan.samples.div_ceil(4) };
        self.items
            .iter()
            .enumerate()
            .flat_map(|(index, item)| {
                let answer = answer_prompt(item);
                let (proposal, _) = practice::proposal(environment, item, &self.peers(index));
                let shown = practice::peers(environment, item, &self.peers(index));
                let later = |request| Ask {
                    request,
                    game: None,
                };
                [
                    Ask::of(environment, item, request(&answer, index, 1, 0.0)),
                    Ask::of(
                        environment,
                        item,
                        request(&answer, index, plan.samples, 1.0),
                    ),
                    later(request(
                        &critique_prompt(item, &proposal),
                        index,
                        fewer,
                        1.0,
                    )),
                    later(request(&resolve_prompt(item, &shown), index, fewer, 1.0)),
                ]
            })
            .collect()
    }

    /// What the groups of [`asks`](Self::asks) came to.
    fn tally(&self, groups: &[Vec<Completion>]) -> Tally {
        let environment = self.environment;
        let mut tally = Tally::default();
        for (index, (item, stages)) in self.items.iter().zip(groups.chunks(4)).enumerate() {
            let [greedy, sampled, judged, resolved] = stages else {
                continue;
            };
            let (_, truth) = practice::proposal(environment, item, &self.peers(index));
            for completion in judged {
                tally.judged.0 += 1;
                tally.judged.1 += u32::from(parse_verdict(&completion.text) == Verdict::of(truth));
            }
            for completion in resolved {
                tally.resolved.0 += 1;
                tally.resolved.1 += u32::from(is_right(environment, item, &completion.text));
            }
            tally.items += 1;
            tally.too_long += u32::from(greedy.is_empty());
            tally.greedy += u32::from(
                greedy
                    .iter()
                    .any(|completion| is_right(environment, item, &completion.text)),
            );
            for completion in sampled {
                let score = environment.score(item, &completion.text);
                tally.samples += 1;
                tally.sampled += u32::from(score.is_right());
                tally.formed += u32::from(score.well_formed());
            }
        }
        tally
    }
}

fn is_right(environment: &dyn Environment, item: &Item, text: &str) -> bool {
    environment.score(item, text).is_right()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_question_is_measured_twice_and_small_tasks_have_fewer_items() {
        let registry = Registry::builtin();
        let plan = EvalPlan {
            entries: Vec::new(),
            items: 256,
            samples: 1,
            seed: 0,
            manner: Model::base().manner(512),
        };
        let mut fewest = u32::MAX;
        for environment in registry.iter() {
            let env = environment.manifest().id();
            let items = distinct(&plan, &env, environment, 1);
            let questions: BTreeSet<&str> =
                items.iter().map(|item| item.question.as_str()).collect();
            assert_eq!(questions.len(), items.len());
            assert!(!items.is_empty());
            fewest = fewest.min(items.len() as u32);
        }
        assert!(fewest < plan.items, "some task is small: {fewest}");
    }
}

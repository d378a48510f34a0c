//! The two settings of a task as environments.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::{Ask, Puzzle, Random, TASKS, Task};
use crate::{
    Draw, Environment, Item, Level, Limits, Manifest, Part, PartWeight, Ppm, Reading, Score, Seed,
    Status, Style,
    builtin::distract,
    dialogue::{BLANK, Message, Role, sanitise},
    format,
    item::Stamp,
    score,
};

/// How to answer: what is said before every question of ours.
const INSTRUCTIONS: &str = "Write <think>your steps</think><answer>your answer</answer> and nothing outside the tags. The steps may be left out.";

/// How often draws that make no good item are drawn again. No task needs more
/// than a few; past this the item is a faulty one.
const TRIES: u64 = 10_000;

/// The longest data set: one task draws for all items before the one asked for.
const LONGEST_RUN: u64 = 1_000_000;

/// Why an item is faulty.
const NO_ITEM: &str = "no draw made a good item";

/// How often a wrong answer is looked for before a blank one will do.
const DISTRACTIONS: usize = 64;

/// Every task in the default setting.
pub(crate) fn repaired() -> Vec<Arc<dyn Environment>> {
    TASKS
        .iter()
        .map(|task| Arc::new(Repaired::new(task)) as Arc<dyn Environment>)
        .collect()
}

/// Every task as upstream has it.
pub(crate) fn compat() -> Vec<Arc<dyn Environment>> {
    Upstream::all()
        .map(|task| Arc::new(task) as Arc<dyn Environment>)
        .collect()
}

/// A task in the default setting.
struct Repaired {
    task: &'static Task,
    manifest: Manifest,
    stamp: Stamp,
}

impl Repaired {
    fn new(task: &'static Task) -> Repaired {
        let levels = task
            .levels
            .iter()
            .map(|(meaning, space)| Level {
                meaning: (*meaning).to_owned(),
                space: *space,
            })
            .collect();
        let parts = [
            ("format", Ppm::ZERO),
            ("correct", score::CORRECT_WEIGHT),
            ("brevity", score::CORRECT_WEIGHT.complement()),
        ];
        let manifest = manifest(task, task.name.to_owned(), levels, &parts);
        Repaired {
            task,
            stamp: stamp(task, &manifest, task.name.into()),
            manifest,
        }
    }
}

fn manifest(task: &Task, name: String, levels: Vec<Level>, parts: &[(&str, Ppm)]) -> Manifest {
    Manifest {
        name,
        version: 1,
        summary: task.summary.to_owned(),
        levels,
        parts: parts
            .iter()
            .map(|(name, weight)| PartWeight {
                name: (*name).to_owned(),
                weight: *weight,
            })
            .collect(),
        limits: Limits {
            completion_bytes: 16_384,
            answer_chars: task.answer_chars,
            // Steps of a few hundred tokens are what these tasks are for.
            free_bytes: 2_048,
            penalty_bytes: 8_192,
        },
        alphabet: task.alphabet.to_owned(),
        reading: Reading::Forward,
        package: None,
    }
}

/// What the items of a task have in common.
fn stamp(task: &Task, manifest: &Manifest, name: Cow<'static, str>) -> Stamp {
    Stamp {
        env: manifest.id(),
        task: name,
        alphabet: task.alphabet.into(),
        shown_chars: manifest.limits.answer_chars as usize,
    }
}

/// An item from a puzzle, unless a copy of something in the question is `paid`
/// for it.
fn item(
    stamp: &Stamp,
    level: u8,
    puzzle: Puzzle,
    paid: impl Fn(&Item, &str) -> bool,
) -> Option<Item> {
    let Puzzle {
        question,
        answer,
        facts,
        working,
        mut decoys,
        slips,
        copies,
    } = puzzle;
    let item = Item::stamped(stamp.clone(), level, facts, question, answer);
    if copies.iter().any(|copy| paid(&item, copy)) {
        return None;
    }
    if decoys.is_empty() {
        decoys = copies;
    } else {
        decoys.extend(copies);
    }
    let item = item.with_working(working).with_decoys(decoys);
    Some(item.with_slips(slips))
}

/// What is said before every question of ours, once for all of them.
static CONTEXT: LazyLock<Arc<[Message]>> = LazyLock::new(|| {
    Arc::new([Message {
        role: Role::System,
        content: INSTRUCTIONS.to_owned(),
    }])
});

/// A reference completion.
fn demonstrate(item: &Item, style: Style) -> String {
    let answer = &item.reference;
    match style {
        Style::Untagged => answer.clone(),
        Style::Think if !item.working.is_empty() => {
            format!("<think>{}</think><answer>{answer}</answer>", item.working)
        }
        _ => format!("<answer>{answer}</answer>"),
    }
}

/// A wrong answer, by what is accepted and not by how it is written.
fn distractor(environment: &dyn Environment, item: &Item, draw: &mut Draw) -> String {
    for _ in 0..DISTRACTIONS {
        let wrong = sanitise(item, &distract(item, draw));
        if !environment.accepts(item, &wrong) {
            return wrong;
        }
    }
    BLANK.to_string()
}

impl Environment for Repaired {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, level: u8) -> Item {
        let level = self.manifest.clamp(level);
        let ask = Ask {
            step: usize::from(level),
            upstream: false,
            place: (0, 0),
        };
        let named = Seed::derive(&[b"item", &self.stamp.env.0, &[level], &seed.0]);
        let mut random = Random::seeded(&named);
        (0..TRIES)
            .find_map(|_| {
                let puzzle = (self.task.make)(&ask, &mut random)?;
                item(&self.stamp, level, puzzle, |item, copy| {
                    self.accepts(item, copy)
                })
            })
            .map(|item| item.with_context(Arc::clone(&CONTEXT)))
            .unwrap_or_else(|| Item::faulty(&self.manifest, level, NO_ITEM.to_owned()))
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        score::judged(&self.manifest, completion, |body| self.accepts(item, body))
    }

    fn demonstrate(&self, item: &Item, style: Style) -> String {
        demonstrate(item, style)
    }

    fn distractor(&self, item: &Item, seed: &Seed) -> String {
        let named = Seed::derive(&[b"distractor", &self.stamp.env.0, &seed.0]);
        distractor(self, item, &mut named.draw())
    }

    fn accepts(&self, item: &Item, answer: &str) -> bool {
        (self.task.accepts)(item, answer.trim())
    }
}

/// A task as upstream has it: `rg_NAME`. For measuring against published
/// numbers, not for training: what upstream pays for, it pays for here.
pub struct Upstream {
    task: &'static Task,
    manifest: Manifest,
    stamp: Stamp,
}

impl Upstream {
    /// Every task.
    pub fn all() -> impl Iterator<Item = Upstream> {
        TASKS.iter().map(|task| {
            let level = Level {
                meaning: "upstream's default configuration".to_owned(),
                space: 1 << 32,
            };
            let name = format!("rg_{}", task.name);
            let manifest = manifest(task, name.clone(), vec![level], &[("correct", Ppm::ONE)]);
            Upstream {
                task,
                stamp: stamp(task, &manifest, name.into()),
                manifest,
            }
        })
    }

    /// Upstream's name of the task, without `rg_`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.task.name
    }

    /// What `create_dataset(name, seed=seed)[index]` is; nothing where that
    /// fails, or for an index past a million. Step 0 is the default configuration, 1 to 3 are those of our levels.
    #[must_use]
    pub fn item(&self, step: u8, seed: u64, index: u64) -> Option<Item> {
        let ask = Ask {
            step: usize::from(step),
            upstream: true,
            place: (seed, index),
        };
        if index > LONGEST_RUN {
            return None;
        }
        let mut random = Random::new(seed.wrapping_add(index));
        let puzzle = (self.task.make)(&ask, &mut random)?;
        item(&self.stamp, 1, puzzle, |_, _| false)
    }

    /// What `score_answer(answer, item)` is.
    #[must_use]
    pub fn score_answer(&self, item: &Item, answer: &str) -> Ppm {
        if answer.len() > self.manifest.limits.completion_bytes as usize {
            return Ppm::ZERO;
        }
        (self.task.upstream)(item, answer)
    }
}

/// What upstream's `extract_answer` finds: the last pair of tags.
fn extract(completion: &str) -> Option<&str> {
    let (mut rest, mut last) = (completion, None);
    while let Some((_, after)) = rest.split_once("<answer>") {
        let Some((body, after)) = after.split_once("</answer>") else {
            break;
        };
        last = Some(body.trim());
        rest = after;
    }
    last
}

impl Environment for Upstream {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn draw(&self, seed: &Seed, _level: u8) -> Item {
        let mut draw = Seed::derive(&[b"upstream", &self.stamp.env.0, &seed.0]).draw();
        (0..TRIES)
            .find_map(|_| {
                let number = draw.below(1 << 32);
                self.item(0, number, draw.below(500))
            })
            .unwrap_or_else(|| Item::faulty(&self.manifest, 1, NO_ITEM.to_owned()))
    }

    fn score(&self, item: &Item, completion: &str) -> Score {
        let limit = self.manifest.limits.completion_bytes as usize;
        let read = completion.len() <= limit;
        let answer = read.then(|| extract(completion)).flatten();
        let reward = answer.map_or(Ppm::ZERO, |answer| self.score_answer(item, answer));
        Score {
            status: match answer {
                Some(_) => Status::Ok,
                None if read => Status::NoAnswer,
                None => Status::Invalid,
            },
            reward,
            parts: vec![Part {
                name: "correct".into(),
                value: reward,
            }],
            answer: answer.map(format::printable),
            why: match answer {
                Some(_) => "as upstream scores it".into(),
                None if read => "no answer in tags".into(),
                None => format!("{} bytes, at most {limit} are read", completion.len()).into(),
            },
        }
    }

    fn demonstrate(&self, item: &Item, style: Style) -> String {
        demonstrate(item, style)
    }

    fn distractor(&self, item: &Item, seed: &Seed) -> String {
        let named = Seed::derive(&[b"distractor", &self.stamp.env.0, &seed.0]);
        distractor(self, item, &mut named.draw())
    }

    fn accepts(&self, item: &Item, answer: &str) -> bool {
        self.score_answer(item, answer.trim()) == Ppm::ONE
    }
}

//! The data: conversations of the three stages, made from the project's own
//! environments, never from a held-out question.

use std::collections::BTreeMap;

use policy::ChatMessage;
use serde::Serialize;
use tasks::dialogue::{self, Message};
use tasks::{Draw, Environment, Item, Registry, Seed, Style, practice};

/// A conversation: what the model reads, and what it learns to write.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    /// The turns before the completion.
    pub(crate) prompt: Vec<ChatMessage>,
    /// The completion.
    pub(crate) completion: String,
}

/// Shares of the mix, in percent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Mix {
    /// Critiques: verdicts are the hardest thing to learn at this size.
    pub(crate) critique: u64,
    /// Resolutions.
    pub(crate) resolve: u64,
    /// Of the answers: with the steps written out.
    pub(crate) think: u64,
    /// Of the answers: bare, without tags; so that format is something to find.
    pub(crate) untagged: u64,
    /// Of the critiques: with the element-wise comparison written out.
    pub(crate) critique_think: u64,
    /// Weight of each level, from the first.
    pub(crate) levels: [u64; 3],
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            critique: 52,
            resolve: 12,
            think: 50,
            untagged: 20,
            critique_think: 90,
            levels: [60, 30, 10],
        }
    }
}

/// An endless, reproducible stream of examples.
pub(crate) struct Corpus<'a> {
    environments: Vec<&'a dyn Environment>,
    mix: Mix,
    seed: u64,
    drawn: u64,
}

impl<'a> Corpus<'a> {
    /// The stream of a seed.
    pub(crate) fn new(registry: &'a Registry, mix: Mix, seed: u64) -> Self {
        Self {
            environments: registry.iter().collect(),
            mix,
            seed,
            drawn: 0,
        }
    }

    /// The next example.
    pub(crate) fn draw(&mut self) -> Example {
        let seed = Seed::derive(&[
            b"pretrain",
            &self.seed.to_le_bytes(),
            &self.drawn.to_le_bytes(),
        ]);
        self.drawn += 1;
        let mut draw = seed.draw();
        let environment = self.environments[draw.index(self.environments.len())];
        let level = self.level(&mut draw, environment);
        let item = environment.generate(&Seed::derive(&[b"item", &seed.0]), level);
        let kind = draw.below(100);
        if kind < self.mix.critique {
            self.critique(environment, &item, &seed, &mut draw)
        } else if kind < self.mix.critique + self.mix.resolve {
            resolve(environment, &item, &seed)
        } else {
            let style = if draw.percent(self.mix.untagged) {
                Style::Untagged
            } else if draw.percent(self.mix.think) {
                Style::Think
            } else {
                Style::Direct
            };
            Example {
                prompt: chat(dialogue::answer_prompt(&item)),
                completion: environment.demonstrate(&item, style),
            }
        }
    }

    fn level(&self, draw: &mut Draw, environment: &dyn Environment) -> u8 {
        let levels = environment
            .manifest()
            .levels
            .len()
            .min(self.mix.levels.len());
        let weights = &self.mix.levels[..levels];
        let mut left = draw.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index as u8 + 1;
            }
            left -= weight;
        }
        1
    }

    /// A critique of a right or a wrong proposal, evenly.
    fn critique(
        &self,
        environment: &dyn Environment,
        item: &Item,
        seed: &Seed,
        draw: &mut Draw,
    ) -> Example {
        let (proposal, _) = practice::proposal(environment, item, seed);
        let think = draw.percent(self.mix.critique_think);
        Example {
            prompt: chat(dialogue::critique_prompt(item, &proposal)),
            completion: dialogue::demonstrate_critique(environment, item, &proposal, think),
        }
    }
}

/// A resolution of what simulated peers answered.
fn resolve(environment: &dyn Environment, item: &Item, seed: &Seed) -> Example {
    let peers = practice::peers(environment, item, seed);
    Example {
        prompt: chat(dialogue::resolve_prompt(item, &peers)),
        completion: dialogue::demonstrate_resolve(environment, item, &peers),
    }
}

/// Messages as the policy takes them.
pub(crate) fn chat(messages: Vec<Message>) -> Vec<ChatMessage> {
    messages
        .into_iter()
        .map(|message| ChatMessage {
            role: message.role.as_str().to_owned(),
            content: message.content,
        })
        .collect()
}

/// How often each kind of thing was right.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Tally {
    /// Tries.
    pub(crate) tries: u32,
    /// Right ones.
    pub(crate) right: u32,
    /// Well-formed ones.
    pub(crate) formed: u32,
}

impl Tally {
    /// Count one try.
    pub(crate) fn add(&mut self, right: bool, formed: bool) {
        self.tries += 1;
        self.right += u32::from(right);
        self.formed += u32::from(formed);
    }

    /// The share of right ones, 0 to 1.
    pub(crate) fn accuracy(&self) -> f64 {
        f64::from(self.right) / f64::from(self.tries.max(1))
    }
}

/// Tallies by name.
pub(crate) type Tallies = BTreeMap<String, Tally>;

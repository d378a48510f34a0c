//! A policy that is right with a given chance, by looking the answer up.

use std::collections::BTreeMap;

use tasks::dialogue::Verdict;
use tasks::{Draw, Episode, Item, Registry, Seed, Style};

use super::Lie;
use crate::body::Completion;
use crate::curriculum::Course;
use crate::draw;
use crate::ids::{Beacon, PeerId};
use crate::manifest::Manifest;
use crate::message::BodyKind;
use crate::round::SampleRequest;

/// Every item of a round, by its question.
#[derive(Default)]
pub(super) struct AnswerBook {
    beacon: Beacon,
    curriculum: Vec<Course>,
    items: BTreeMap<String, Item>,
}

impl AnswerBook {
    /// Makes the book of a round, if it is not the present one.
    pub(super) fn turn_to(
        &mut self,
        manifest: &Manifest,
        registry: &Registry,
        beacon: Beacon,
        peers: &[PeerId],
    ) {
        if self.beacon == beacon && self.curriculum == manifest.curriculum {
            return;
        }
        self.beacon = beacon;
        self.curriculum.clone_from(&manifest.curriculum);
        self.items.clear();
        for peer in peers {
            for slot in draw::slots(manifest) {
                let drawn = draw::item(manifest, beacon, *peer, slot).expect("slots have items");
                let environment = registry.get(&drawn.env).expect("built in");
                let item = environment.generate(&drawn.seed, drawn.level);
                self.items.insert(item.question.clone(), item);
            }
        }
    }

    /// Samples a group. `skill` is the chance of being right at each level, in
    /// percent, the last also beyond; whoever lies never is.
    pub(super) fn sample(
        &self,
        registry: &Registry,
        kind: BodyKind,
        request: &SampleRequest,
        skill: &[u64],
        lie: Option<Lie>,
    ) -> Vec<Completion> {
        let mut dice = Seed::derive(&[b"policy", &request.seed.to_le_bytes()]).draw();
        let prompt = request.messages.last().map_or("", |m| m.content.as_str());
        let mut lines = prompt.lines();
        let item = lines.next().and_then(|question| self.items.get(question));
        let second = lines.next();
        let contrary = lie == Some(Lie::Contrary);
        let skill = match item {
            _ if lie == Some(Lie::Sandbag) && kind != BodyKind::Critique => 0,
            Some(item) => {
                let level = usize::from(item.level).min(skill.len());
                skill.get(level.saturating_sub(1)).copied().unwrap_or(0)
            }
            None => 0,
        };
        (0..request.completions)
            .map(|_| Completion {
                text: item.map_or_else(String::new, |item| {
                    let proposal = second.and_then(|line| line.strip_prefix("check "));
                    match (kind, proposal) {
                        (BodyKind::Critique, Some(proposal)) => {
                            let environment = registry.get(&item.env).expect("built in");
                            let truth = environment.accepts(item, proposal);
                            let found = truth == dice.percent(skill);
                            let said = Verdict::of(found != contrary).as_str();
                            format!("<verdict>{said}</verdict>")
                        }
                        _ => answer(registry, item, &mut dice, skill),
                    }
                }),
                finished: true,
            })
            .collect()
    }
}

/// An answer; of a game an episode, each of whose turns is right with the
/// given chance.
fn answer(registry: &Registry, item: &Item, dice: &mut Draw, skill: u64) -> String {
    let environment = registry.get(&item.env).expect("built in");
    let mut say = || {
        if dice.percent(skill) {
            environment.demonstrate(item, Style::Direct)
        } else {
            let seed = Seed::derive(&[b"wrong", &dice.next_u64().to_le_bytes()]);
            format!("<answer>{}</answer>", environment.distractor(item, &seed))
        }
    };
    if environment.turns() < 2 {
        return say();
    }
    let mut episode = Episode::new(environment, item);
    while !episode.is_over() {
        episode.play(&say());
    }
    episode.text()
}

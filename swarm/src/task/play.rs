//! `murmur task play`: one's own answers to an environment's items.

use anyhow::{Context, Result};
use tasks::{Environment, Item, Seed, Step, Style, dialogue::answer_prompt};
use tui::play::{Game, Marked, Shown};

use super::{PlayArgs, find, has_level};

/// An environment, played.
struct Session<'a> {
    environment: &'a dyn Environment,
    level: u8,
    seed: u64,
    item: Option<Item>,
    state: Vec<u8>,
}

pub(super) fn play(args: &PlayArgs) -> Result<String> {
    let found = find(&args.which)?;
    let environment = found.environment()?;
    has_level(environment, args.level)?;
    let mut session = Session {
        environment,
        level: args.level,
        seed: args.seed,
        item: None,
        state: Vec::new(),
    };
    tui::play::play(&mut session).context("drawing on the terminal (is this a terminal?)")?;
    Ok(String::new())
}

impl Session<'_> {
    fn show(&mut self) -> Shown {
        let manifest = self.environment.manifest();
        let seed = Seed::derive(&[b"play", &self.seed.to_le_bytes()]);
        let item = self.environment.generate(&seed, self.level);
        self.state.clear();
        let shown = Shown {
            title: format!("{} {}", manifest.name, manifest.version),
            place: format!(
                "level {} of {}, item {}",
                self.level,
                manifest.levels.len(),
                self.seed
            ),
            meaning: manifest
                .levels
                .get(usize::from(self.level) - 1)
                .map(|level| level.meaning.clone())
                .unwrap_or_default(),
            prompt: match item.fault() {
                Some(why) => vec![("fault".to_owned(), why.to_owned())],
                None => answer_prompt(&item)
                    .into_iter()
                    .map(|message| (message.role.as_str().to_owned(), message.content))
                    .collect(),
            },
        };
        self.item = Some(item);
        shown
    }
}

impl Game for Session<'_> {
    fn first(&mut self) -> Shown {
        self.show()
    }

    fn next(&mut self) -> Shown {
        self.seed = self.seed.wrapping_add(1);
        self.show()
    }

    fn level(&mut self, up: bool) -> Shown {
        let level = if up {
            self.level.saturating_add(1)
        } else {
            self.level.saturating_sub(1)
        };
        self.level = self.environment.manifest().clamp(level);
        self.show()
    }

    fn answer(&mut self, text: &str, whole: bool) -> Marked {
        let Some(item) = &self.item else {
            return Marked::default();
        };
        // People need not write the tags; with them they can try the gate.
        let completion = if whole {
            text.to_owned()
        } else {
            format!("<answer>{text}</answer>")
        };
        match self.environment.step(item, &self.state, &completion) {
            Step::Continue { state, messages } => {
                self.state = state;
                Marked {
                    said: messages
                        .into_iter()
                        .map(|message| message.content)
                        .collect(),
                    ..Marked::default()
                }
            }
            Step::Done(score) => Marked {
                status: format!("{:?}", score.status).to_lowercase(),
                reward_ppm: score.reward.0,
                parts: score
                    .parts
                    .into_iter()
                    .map(|part| (part.name.into_owned(), part.value.0))
                    .collect(),
                why: score.why.into_owned(),
                said: Vec::new(),
            },
        }
    }

    fn solution(&mut self) -> String {
        let item = self.item.as_ref();
        item.map(|item| self.environment.demonstrate(item, Style::Think))
            .unwrap_or_default()
    }
}

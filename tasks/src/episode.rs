//! Episodes: items that take several turns, and how they travel.
//!
//! The policy answers, the environment replies, and so on until one of them is
//! done. On the wire an episode is one text: what the policy said in each turn,
//! with a [`TURN_BREAK`] between one turn and the next. What the environment
//! replied is not in it: whoever reads it has the environment reply again, and
//! so everyone comes to the same score.

use std::{fmt, sync::Arc};

use crate::{
    Environment, Item, Score, Step,
    dialogue::{Message, Role, answer_prompt},
    score,
};

/// What stands between two turns of an episode, U+001E.
pub const TURN_BREAK: char = '\u{1e}';

/// An item of several turns, and what plays it.
#[derive(Clone)]
pub struct Game {
    /// What replies.
    pub environment: Arc<dyn Environment>,
    /// The item.
    pub item: Item,
}

impl PartialEq for Game {
    fn eq(&self, other: &Game) -> bool {
        // An item names its environment, and the name says all of it.
        self.item == other.item
    }
}

impl fmt::Debug for Game {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Game").field(&self.item).finish()
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the policy said.
    pub said: String,
    /// What the environment replied; nothing where the episode ended.
    pub replies: Vec<Message>,
}

/// An episode, as far as it was played.
pub struct Episode<'a> {
    environment: &'a dyn Environment,
    item: &'a Item,
    state: Vec<u8>,
    turns: Vec<Turn>,
    score: Option<Score>,
}

impl<'a> Episode<'a> {
    /// An item before the first turn.
    #[must_use]
    pub fn new(environment: &'a dyn Environment, item: &'a Item) -> Episode<'a> {
        Episode {
            environment,
            item,
            state: Vec::new(),
            turns: Vec::new(),
            score: None,
        }
    }

    /// The episode that a text of the wire tells. Turns that come after its end
    /// are not played, and it is worth nothing for them.
    #[must_use]
    pub fn replay(environment: &'a dyn Environment, item: &'a Item, text: &str) -> Episode<'a> {
        Episode::replay_by(environment, item, text, |state, said| {
            environment.step(item, state, said)
        })
    }

    pub(crate) fn replay_by(
        environment: &'a dyn Environment,
        item: &'a Item,
        text: &str,
        mut step: impl FnMut(&[u8], &str) -> Step,
    ) -> Episode<'a> {
        let mut episode = Episode::new(environment, item);
        for said in text.split(TURN_BREAK) {
            if episode.is_over() {
                let why = "there are turns after the end of the episode";
                episode.score = Some(score::out_of_form(why.to_owned()));
                break;
            }
            let next = step(&episode.state, said);
            episode.take(said.to_owned(), next);
        }
        episode
    }

    /// One turn. A [`TURN_BREAK`] in it is left out: it would be read as two.
    /// Does nothing once the episode is over.
    pub fn play(&mut self, said: &str) {
        if self.is_over() {
            return;
        }
        let said = said.replace(TURN_BREAK, "");
        let step = self.environment.step(self.item, &self.state, &said);
        self.take(said, step);
    }

    fn take(&mut self, said: String, step: Step) {
        let mut turn = Turn {
            said,
            replies: Vec::new(),
        };
        match step {
            Step::Continue { state, messages } => {
                self.state = state;
                turn.replies = messages;
            }
            Step::Done(score) => self.score = Some(score),
        }
        self.turns.push(turn);
    }

    /// Whether nothing more can be said.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.score.is_some() || self.turns.len() >= usize::from(self.environment.turns())
    }

    /// What was played.
    #[must_use]
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// All that was said so far, the prompt first: what the policy goes on from.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        let mut messages = answer_prompt(self.item);
        for turn in &self.turns {
            messages.push(Message {
                role: Role::Assistant,
                content: turn.said.clone(),
            });
            messages.extend(turn.replies.iter().cloned());
        }
        messages
    }

    /// The text that travels.
    #[must_use]
    pub fn text(&self) -> String {
        let said: Vec<&str> = self.turns.iter().map(|turn| turn.said.as_str()).collect();
        said.join(TURN_BREAK.encode_utf8(&mut [0; 4]))
    }

    /// What it is worth: what the environment says at its end. An episode that
    /// was left is no answer, and one whose turns ran out is wrong.
    #[must_use]
    pub fn score(self) -> Score {
        let (turns, most) = (self.turns.len(), self.environment.turns());
        self.score.unwrap_or_else(|| {
            if turns < usize::from(most) {
                score::left(format!("left after {turns} of at most {most} turns"))
            } else {
                score::not_done(format!("not done in {most} turns"))
            }
        })
    }
}

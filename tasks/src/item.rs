//! One question, with its answer kept to itself.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{EnvId, Manifest, dialogue::Message};

/// One question of an environment.
///
/// An item never travels: whoever needs it makes it again from the seed. It
/// can be written for people to read, without its answer, and cannot be read
/// back.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The environment it belongs to.
    pub env: EnvId,
    /// The level it was drawn at.
    pub level: u8,
    /// What is said before the question: instructions, or earlier turns. The
    /// built-in environments need none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<Message>,
    /// What is asked. It is what tells one item from another of its kind.
    pub question: String,
    /// The right answer.
    #[serde(skip)]
    pub reference: String,
    /// What else is known of it, none of which gives the answer away.
    pub metadata: BTreeMap<String, String>,
    /// The steps from question to answer.
    #[serde(skip)]
    pub(crate) working: String,
    /// Wrong answers that a careless solver would give, as they were written:
    /// the right one may be among them. See [`Item::decoys`].
    #[serde(skip)]
    decoys: Vec<String>,
    /// Whether numbers near the right one are such answers too.
    #[serde(skip)]
    near: Option<i128>,
    /// The characters an answer is made of, from the manifest.
    #[serde(skip)]
    pub(crate) alphabet: String,
    /// What else the scorer needs, in a form only it knows.
    #[serde(skip)]
    pub(crate) hidden: Vec<u8>,
    /// Why there is nothing to ask.
    fault: Option<String>,
    /// How much of an answer is shown to a model, from the manifest.
    #[serde(skip)]
    pub(crate) shown_chars: usize,
}

impl Item {
    /// An item of the environment with this manifest.
    #[must_use]
    pub fn new(manifest: &Manifest, level: u8, question: String, reference: String) -> Item {
        Item::named(manifest.id(), manifest, level, question, reference)
    }

    /// As [`Item::new`], for whoever has hashed the manifest already.
    pub(crate) fn named(
        env: EnvId,
        manifest: &Manifest,
        level: u8,
        question: String,
        reference: String,
    ) -> Item {
        Item {
            env,
            level,
            context: Vec::new(),
            question,
            reference,
            metadata: BTreeMap::from([("task".to_owned(), manifest.name.clone())]),
            working: String::new(),
            decoys: Vec::new(),
            near: None,
            alphabet: manifest.alphabet.clone(),
            hidden: Vec::new(),
            fault: None,
            shown_chars: manifest.limits.answer_chars as usize,
        }
    }

    /// What stands for an item that the environment failed to make. There is
    /// nothing to ask, and no completion of it can be scored.
    #[must_use]
    pub fn faulty(manifest: &Manifest, level: u8, why: String) -> Item {
        Item {
            fault: Some(why),
            ..Item::new(manifest, level, String::new(), String::new())
        }
    }

    /// Why there is nothing to ask, if there is not.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The same item with something said before its question.
    #[must_use]
    pub fn with_context(mut self, context: Vec<Message>) -> Item {
        self.context = context;
        self
    }

    /// The same item with what its scorer needs beside the answer.
    #[must_use]
    pub fn with_hidden(mut self, hidden: Vec<u8>) -> Item {
        self.hidden = hidden;
        self
    }

    /// The same item with the steps that lead to its answer.
    #[must_use]
    pub fn with_working(mut self, working: String) -> Item {
        self.working = working;
        self
    }

    /// The same item with wrong answers that a careless solver would give.
    #[must_use]
    pub fn with_decoys(mut self, decoys: Vec<String>) -> Item {
        self.decoys = decoys;
        self
    }

    /// The same item, whose answer is this number: numbers near it, its double
    /// and its opposite are what a careless solver would give.
    pub(crate) fn with_near(mut self, value: Option<i128>) -> Item {
        self.near = value;
        self
    }

    /// Wrong answers that a careless solver would give, in order, each once.
    /// Most items are never asked for them, so they are made here.
    pub(crate) fn decoys(&self) -> Vec<String> {
        let mut decoys = self.decoys.clone();
        if let Some(value) = self.near {
            let near = [
                value + 1,
                value - 1,
                value + 10,
                value - 10,
                -value,
                value * 2,
            ];
            decoys.extend(near.map(|wrong| wrong.to_string()));
        }
        decoys.retain(|decoy| *decoy != self.reference);
        decoys.sort_unstable();
        decoys.dedup();
        decoys
    }

    /// What the scorer needs beside the answer.
    #[must_use]
    pub fn hidden(&self) -> &[u8] {
        &self.hidden
    }

    /// The same item with what else is known of it.
    #[must_use]
    pub fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Item {
        self.metadata.extend(metadata);
        self
    }

    /// The steps from question to answer; empty where none were written.
    #[must_use]
    pub fn working(&self) -> &str {
        &self.working
    }
}

impl fmt::Debug for Item {
    /// Without the answer, so that no log gives it away.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("env", &self.env)
            .field("level", &self.level)
            .field("question", &self.question)
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

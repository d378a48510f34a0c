//! One question, with its answer kept to itself.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap};

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
    #[serde(skip_serializing_if = "is_empty", serialize_with = "messages")]
    pub context: Arc<[Message]>,
    /// What is asked. It is what tells one item from another of its kind.
    pub question: String,
    /// The right answer.
    #[serde(skip)]
    pub reference: String,
    /// What else is known of it, none of which gives the answer away.
    pub metadata: Facts,
    /// The steps from question to answer.
    #[serde(skip)]
    pub(crate) working: String,
    /// Wrong answers that a careless solver would give, as they were written:
    /// the right one may be among them. See [`Item::decoys`].
    #[serde(skip)]
    decoys: Vec<String>,
    /// Those that follow from the rest of the item.
    #[serde(skip)]
    slips: Slips,
    /// The characters an answer is made of, from the manifest.
    #[serde(skip)]
    pub(crate) alphabet: Cow<'static, str>,
    /// What else the scorer needs, in a form only it knows.
    #[serde(skip)]
    pub(crate) hidden: Vec<u8>,
    /// Why there is nothing to ask.
    fault: Option<String>,
    /// How much of an answer is shown to a model, from the manifest.
    #[serde(skip)]
    pub(crate) shown_chars: usize,
}

/// A few texts by name, in the order of names, each name once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(Vec<(Cow<'static, str>, Cow<'static, str>)>);

impl Facts {
    /// No text, and room for so many.
    pub(crate) fn with_room(count: usize) -> Facts {
        Facts(Vec::with_capacity(count))
    }

    /// Adds a text, in place of one of the same name.
    pub fn insert(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) {
        let (name, value) = (name.into(), value.into());
        match self.place(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// The text of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.place(name).ok()?;
        Some(&self.0[at].1)
    }

    /// Names and texts, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name))
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn is_empty(messages: &Arc<[Message]>) -> bool {
    messages.is_empty()
}

fn messages<S: Serializer>(messages: &Arc<[Message]>, serializer: S) -> Result<S::Ok, S::Error> {
    messages[..].serialize(serializer)
}

/// Makes the wrong answers that follow from the rest of an item. Most items
/// are never asked for them.
#[derive(Clone, Copy, Default)]
struct Slips(Option<fn(&Item) -> Vec<String>>);

impl PartialEq for Slips {
    /// Items that are equal in all else have the same.
    fn eq(&self, _: &Slips) -> bool {
        true
    }
}

impl Eq for Slips {}

/// Numbers near the right answer, its double and its opposite: what a careless
/// solver gives where it is a number.
pub(crate) fn near(item: &Item) -> Vec<String> {
    let Ok(value) = item.reference.parse::<i128>() else {
        return Vec::new();
    };
    [
        value + 1,
        value - 1,
        value + 10,
        value - 10,
        -value,
        value * 2,
    ]
    .map(|wrong| wrong.to_string())
    .to_vec()
}

/// What an environment puts into each of its items.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) env: EnvId,
    /// The name in the item's metadata.
    pub(crate) task: Cow<'static, str>,
    pub(crate) alphabet: Cow<'static, str>,
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
        let stamp = Stamp {
            env,
            task: Cow::Owned(manifest.name.clone()),
            alphabet: Cow::Owned(manifest.alphabet.clone()),
            shown_chars: manifest.limits.answer_chars as usize,
        };
        Item::stamped(stamp, level, Facts::default(), question, reference)
    }

    /// An item with these facts and the name of its task.
    pub(crate) fn stamped(
        stamp: Stamp,
        level: u8,
        mut metadata: Facts,
        question: String,
        reference: String,
    ) -> Item {
        metadata.insert("task", stamp.task);
        Item {
            env: stamp.env,
            level,
            context: Arc::default(),
            question,
            reference,
            metadata,
            working: String::new(),
            decoys: Vec::new(),
            slips: Slips::default(),
            alphabet: stamp.alphabet,
            hidden: Vec::new(),
            fault: None,
            shown_chars: stamp.shown_chars,
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
    pub fn with_context(mut self, context: impl Into<Arc<[Message]>>) -> Item {
        self.context = context.into();
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

    /// The same item with what makes wrong answers of it that were not written.
    pub(crate) fn with_slips(mut self, slips: Option<fn(&Item) -> Vec<String>>) -> Item {
        self.slips = Slips(slips);
        self
    }

    /// Wrong answers that a careless solver would give, in order, each once.
    pub(crate) fn decoys(&self) -> Vec<String> {
        let mut decoys = self.decoys.clone();
        decoys.extend(self.slips.0.into_iter().flat_map(|slips| slips(self)));
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
        for (name, value) in metadata {
            self.metadata.insert(name, value);
        }
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

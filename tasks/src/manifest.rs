//! What an environment is, and the hash that names it.

use serde::{Deserialize, Serialize};

use crate::{Package, Ppm, bytes::bytes32};

/// The name of an environment: the hash of its canonical manifest. A change
/// of what it asks or how it scores is a change of version, and so of name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvId(pub [u8; 32]);

bytes32!(EnvId);

/// One step of difficulty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// What the questions of this level are.
    pub meaning: String,
    /// How many different questions there are, held-out ones included.
    pub space: u64,
}

/// A part of the score and its share of the reward. A share of zero is a gate:
/// without it there is no reward, and it adds none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartWeight {
    /// As in [`crate::Part`].
    pub name: String,
    /// Share of the reward.
    pub weight: Ppm,
}

/// How much text is read, and how much is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A longer completion is refused unread.
    pub completion_bytes: u32,
    /// A longer answer is refused.
    pub answer_chars: u32,
    /// Up to here length costs nothing, even where the answer is right.
    pub free_bytes: u32,
    /// Bytes past the free ones at which the whole of `brevity` is lost.
    pub penalty_bytes: u32,
}

/// From which end an answer is compared, element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading {
    /// First element first.
    Forward,
    /// Last element first, as carries run.
    Backward,
}

/// All that defines an environment to somebody who does not run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// One lower-case word; also the first word of every question.
    pub name: String,
    /// Raised with every change of a question, an answer or a score.
    pub version: u32,
    /// One line for people.
    pub summary: String,
    /// Level 1 first.
    pub levels: Vec<Level>,
    /// What the reward is made of.
    pub parts: Vec<PartWeight>,
    /// Sizes.
    pub limits: Limits,
    /// The characters an answer is made of.
    pub alphabet: String,
    /// From which end answers are compared.
    pub reading: Reading,
    /// What it consists of, where it is not part of the program.
    pub package: Option<Package>,
}

/// How the canonical bytes of a package's manifest begin.
const PACKAGE_MARK: &[u8] = b"murmuration package v1\n";

impl Manifest {
    /// The name of this manifest. A package's is the plain hash of its
    /// [bytes](Manifest::package_bytes), so that whoever has the name can ask
    /// for them.
    #[must_use]
    pub fn id(&self) -> EnvId {
        if self.package.is_some() {
            return EnvId(*blake3::hash(&self.package_bytes()).as_bytes());
        }
        let mut hasher = blake3::Hasher::new_derive_key("murmuration environment v1");
        hasher.update(&self.canonical());
        EnvId(*hasher.finalize().as_bytes())
    }

    /// What people are shown: the name, and of a package the short form of its
    /// hash with it, since anybody may take any name.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.package {
            Some(_) => format!("{} {}", self.name, self.id()),
            None => self.name.clone(),
        }
    }

    /// The level nearest to the one asked for. Level 0 is level 1.
    #[must_use]
    pub fn clamp(&self, level: u8) -> u8 {
        let highest = u8::try_from(self.levels.len()).unwrap_or(u8::MAX);
        level.clamp(1, highest.max(1))
    }

    /// The share of one part, zero where there is no such part.
    #[must_use]
    pub fn weight(&self, name: &str) -> Ppm {
        self.parts
            .iter()
            .find(|part| part.name == name)
            .map_or(Ppm::ZERO, |part| part.weight)
    }

    /// The bytes of a package's manifest, as they travel.
    #[must_use]
    pub fn package_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, PACKAGE_MARK.to_vec())
            .expect("a manifest is plain data and a vector takes any length")
    }

    /// Reads what [`package_bytes`](Manifest::package_bytes) wrote; nothing
    /// else is taken for a package's manifest.
    #[must_use]
    pub fn from_package_bytes(bytes: &[u8]) -> Option<Manifest> {
        let manifest: Manifest = postcard::from_bytes(bytes.strip_prefix(PACKAGE_MARK)?).ok()?;
        let canonical = manifest.package.is_some() && manifest.package_bytes() == bytes;
        canonical.then_some(manifest)
    }

    /// Every field of a built-in environment's manifest in a fixed order, each
    /// list and text after its length.
    fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let number = |out: &mut Vec<u8>, value: u64| out.extend(value.to_le_bytes());
        let text = |out: &mut Vec<u8>, value: &str| {
            number(out, value.len() as u64);
            out.extend(value.as_bytes());
        };
        text(&mut out, &self.name);
        number(&mut out, u64::from(self.version));
        text(&mut out, &self.summary);
        number(&mut out, self.levels.len() as u64);
        for level in &self.levels {
            text(&mut out, &level.meaning);
            number(&mut out, level.space);
        }
        number(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            text(&mut out, &part.name);
            number(&mut out, u64::from(part.weight.0));
        }
        for limit in [
            self.limits.completion_bytes,
            self.limits.answer_chars,
            self.limits.free_bytes,
            self.limits.penalty_bytes,
        ] {
            number(&mut out, u64::from(limit));
        }
        text(&mut out, &self.alphabet);
        number(
            &mut out,
            match self.reading {
                Reading::Forward => 0,
                Reading::Backward => 1,
            },
        );
        out
    }
}

#[cfg(test)]
mod tests {
    use crate::Registry;

    #[test]
    fn every_field_is_in_the_name() {
        let registry = Registry::builtin();
        let manifest = registry.by_name("add").unwrap().manifest().clone();
        let mut changed = Vec::new();
        let mut change = |edit: &dyn Fn(&mut super::Manifest)| {
            let mut other = manifest.clone();
            edit(&mut other);
            changed.push(other.id());
        };
        change(&|m| m.name.push('x'));
        change(&|m| m.version += 1);
        change(&|m| m.summary.push('x'));
        change(&|m| m.levels[0].meaning.push('x'));
        change(&|m| m.levels[0].space += 1);
        change(&|m| drop(m.levels.pop()));
        change(&|m| m.parts[0].name.push('x'));
        change(&|m| m.parts[0].weight.0 += 1);
        change(&|m| drop(m.parts.pop()));
        change(&|m| m.limits.completion_bytes += 1);
        change(&|m| m.limits.answer_chars += 1);
        change(&|m| m.limits.free_bytes += 1);
        change(&|m| m.limits.penalty_bytes += 1);
        change(&|m| m.alphabet.push('x'));
        change(&|m| m.reading = super::Reading::Forward);
        changed.push(manifest.id());
        let count = changed.len();
        changed.sort_unstable();
        changed.dedup();
        assert_eq!(changed.len(), count);
    }

    #[test]
    fn a_short_name_has_an_ellipsis() {
        let id = super::EnvId([0x3f; 32]);
        assert_eq!(id.to_string(), "3f3f…f3f");
        assert_eq!(id.to_hex().parse::<super::EnvId>(), Ok(id));
    }
}

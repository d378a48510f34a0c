//! What travels by hash: the completions of one stage of one peer.
//!
//! A body holds completions and where they belong, never a prompt and never a
//! key: whoever reads it makes the item again from the beacon. [`decode`]
//! gives back only what is canonical and within the hard limits,
//! [`Body::check`] only what the manifest allows and the beacon draws.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use tasks::EnvId;

use crate::bounded::at_most;
use crate::draw;
use crate::ids::{Address, Beacon, Hash, PeerId};
use crate::manifest::{HARD_COMPLETIONS, HARD_GROUPS, Manifest};
use crate::message::BodyKind;
use crate::refusal::RejectReason;

/// The version of the body format, its first byte.
pub const BODY_VERSION: u8 = 2;

/// Which of a peer's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// One that everyone answers.
    Common(u16),
    /// One that only this peer answers.
    Own(u16),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common(index) => write!(f, "common {index}"),
            Self::Own(index) => write!(f, "own {index}"),
        }
    }
}

/// One completion of one peer, put before the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Exhibit {
    /// Whose.
    pub peer: PeerId,
    /// Of which item.
    pub slot: Slot,
    /// Which of the group.
    pub completion: u16,
}

/// What a policy wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Whether it ended by itself, not by running out of tokens.
    pub finished: bool,
}

/// A group of answers to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerGroup {
    /// Which item.
    pub slot: Slot,
    /// Its environment.
    pub env: EnvId,
    /// Its level.
    pub level: u8,
    /// The answers.
    #[serde(deserialize_with = "at_most::<_, _, HARD_COMPLETIONS>")]
    pub completions: Vec<Completion>,
}

/// A group of critiques of one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CritiqueGroup {
    /// Which answer.
    pub target: Exhibit,
    /// The critiques.
    #[serde(deserialize_with = "at_most::<_, _, HARD_COMPLETIONS>")]
    pub completions: Vec<Completion>,
}

/// An answer that was read before answering again, and of nine votes how many
/// are for it and how many against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Whose answer to the same item.
    pub peer: PeerId,
    /// Which of the group.
    pub completion: u16,
    /// Votes for it.
    pub right: u16,
    /// Votes against it.
    pub wrong: u16,
}

/// A group of second answers to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveGroup {
    /// Which item.
    pub slot: Slot,
    /// What was read.
    #[serde(deserialize_with = "at_most::<_, _, 16>")]
    pub read: Vec<Read>,
    /// The answers.
    #[serde(deserialize_with = "at_most::<_, _, HARD_COMPLETIONS>")]
    pub completions: Vec<Completion>,
}

/// Whose body this is, of which round, drawn from which beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The round.
    pub round: u64,
    /// The beacon its draws come from.
    pub beacon: Beacon,
    /// The plan they are made by.
    pub plan: Hash,
    /// Whose completions these are.
    pub peer: PeerId,
    /// Who is scored for them. A claim: only the author loses by a false one.
    pub address: Address,
}

/// The completions of one stage of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch<G> {
    /// Whose and when.
    pub header: Header,
    /// What a commitment hides behind; zero where nothing is committed.
    #[serde(with = "crate::ids::bytes")]
    pub salt: [u8; 32],
    /// The groups.
    #[serde(
        deserialize_with = "at_most::<_, _, HARD_GROUPS>",
        bound(deserialize = "G: Deserialize<'de>")
    )]
    pub groups: Vec<G>,
}

/// A body of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Answers.
    Answer(Batch<AnswerGroup>),
    /// Critiques.
    Critique(Batch<CritiqueGroup>),
    /// Resolutions.
    Resolve(Batch<ResolveGroup>),
}

impl Body {
    /// What kind this is.
    pub fn kind(&self) -> BodyKind {
        match self {
            Self::Answer(_) => BodyKind::Answer,
            Self::Critique(_) => BodyKind::Critique,
            Self::Resolve(_) => BodyKind::Resolve,
        }
    }

    /// Whose and when.
    pub fn header(&self) -> &Header {
        match self {
            Self::Answer(batch) => &batch.header,
            Self::Critique(batch) => &batch.header,
            Self::Resolve(batch) => &batch.header,
        }
    }

    /// How many completions it holds.
    pub fn completions(&self) -> usize {
        match self {
            Self::Answer(batch) => batch.groups.iter().map(|g| g.completions.len()).sum(),
            Self::Critique(batch) => batch.groups.iter().map(|g| g.completions.len()).sum(),
            Self::Resolve(batch) => batch.groups.iter().map(|g| g.completions.len()).sum(),
        }
    }

    /// The bytes that travel, and the hash that names them.
    pub fn encode(&self) -> (Hash, Vec<u8>) {
        let bytes = postcard::to_extend(self, vec![BODY_VERSION])
            .expect("a body is plain data and a vector takes any length");
        (Hash::of(&bytes), bytes)
    }

    /// Whether this is what the beacon draws for its peer, within the numbers
    /// of the manifest that holds in the round.
    pub fn check(&self, manifest: &Manifest) -> Result<(), RejectReason> {
        let Header { beacon, peer, .. } = *self.header();
        match self {
            Self::Answer(batch) => {
                let plan = &manifest.answer;
                distinct(batch.groups.iter().map(|group| group.slot))?;
                for group in &batch.groups {
                    completions(manifest, &group.completions, plan.size)?;
                    let drawn = draw::item(manifest, beacon, peer, group.slot)
                        .ok_or_else(|| draw_error(group.slot, "no such slot"))?;
                    if (drawn.env, drawn.level) != (group.env, group.level) {
                        return Err(draw_error(group.slot, "another environment or level"));
                    }
                }
            }
            Self::Critique(batch) => {
                let plan = &manifest.critique;
                at_most_groups(batch.groups.len(), plan.groups)?;
                distinct(batch.groups.iter().map(|group| group.target))?;
                for group in &batch.groups {
                    completions(manifest, &group.completions, plan.size)?;
                    if !draw::may_read(manifest, beacon, peer, &group.target) {
                        return Err(draw_error(group.target.slot, "not this critic's to read"));
                    }
                }
            }
            Self::Resolve(batch) => {
                let plan = &manifest.resolve;
                let drawn = draw::resolve_slots(manifest);
                distinct(batch.groups.iter().map(|group| group.slot))?;
                for group in &batch.groups {
                    completions(manifest, &group.completions, plan.size)?;
                    if !drawn.contains(&group.slot) {
                        return Err(draw_error(group.slot, "not to be resolved"));
                    }
                    at_most_groups(group.read.len(), plan.read)?;
                    distinct(group.read.iter().map(|read| (read.peer, read.completion)))?;
                    for read in &group.read {
                        let others = matches!(group.slot, Slot::Own(_)) && read.peer != peer;
                        if others || read.completion >= manifest.answer.size {
                            return Err(draw_error(group.slot, "read what is not on show"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads a body's bytes: size first, then version, form and hard limits.
pub fn decode(bytes: &[u8], limit: u32) -> Result<Body, RejectReason> {
    if bytes.len() > limit as usize {
        return Err(RejectReason::Oversize {
            bytes: bytes.len(),
            limit: limit as usize,
        });
    }
    let body = match bytes.split_first() {
        Some((&BODY_VERSION, body)) => body,
        Some((&version, _)) => return Err(RejectReason::Version(version)),
        None => return Err(RejectReason::Malformed("empty".into())),
    };
    let body: Body =
        postcard::from_bytes(body).map_err(|error| RejectReason::Malformed(error.to_string()))?;
    if body.encode().1 != bytes {
        return Err(RejectReason::NotCanonical);
    }
    Ok(body)
}

fn completions(manifest: &Manifest, group: &[Completion], size: u16) -> Result<(), RejectReason> {
    if group.len() != usize::from(size) {
        return Err(RejectReason::Manifest(format!(
            "a group of {} where {size} are due",
            group.len()
        )));
    }
    let limit = manifest.limits.completion_bytes as usize;
    match group.iter().map(|completion| completion.text.len()).max() {
        Some(bytes) if bytes > limit => Err(RejectReason::Oversize { bytes, limit }),
        _ => Ok(()),
    }
}

fn at_most_groups(count: usize, limit: u16) -> Result<(), RejectReason> {
    if count > usize::from(limit) {
        return Err(RejectReason::Manifest(format!(
            "{count} where {limit} are allowed"
        )));
    }
    Ok(())
}

fn distinct<T: Ord>(keys: impl Iterator<Item = T>) -> Result<(), RejectReason> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return Err(RejectReason::Manifest("the same group twice".into()));
        }
    }
    Ok(())
}

fn draw_error(slot: Slot, what: &str) -> RejectReason {
    RejectReason::Draw(format!("{slot}: {what}"))
}

#[cfg(test)]
mod tests;

//! What a round included: the judge's whole input.

use std::collections::BTreeMap;

use tasks::{Item, dialogue::PeerAnswer};

use crate::Calibration;

/// One owner's completions of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerGroup<K> {
    /// Who sampled them.
    pub owner: K,
    /// Where in the owner's batch; the judge only tells slots apart and orders by them.
    pub slot: u32,
    /// The item, regenerated from its seed by whoever judges.
    pub item: Item,
    /// The completions, as sampled.
    pub completions: Vec<String>,
}

/// One critic's samples of a critique of one completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CritiqueGroup<K> {
    /// Who sampled them.
    pub critic: K,
    /// Whose completion they are about.
    pub target_owner: K,
    /// In which of that owner's groups.
    pub target_slot: u32,
    /// Which completion of that group.
    pub target_completion: u16,
    /// The critiques, as sampled.
    pub completions: Vec<String>,
}

/// One owner's second answers to one item, given after reading peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveGroup<K> {
    /// Who sampled them.
    pub owner: K,
    /// The slot of the item; the same number as that of the first answers is fine.
    pub slot: u32,
    /// The item, regenerated from its seed by whoever judges.
    pub item: Item,
    /// The answers the prompt showed, rebuilt by whoever judges from what was
    /// included, never taken from the owner. Empty where nothing was shown.
    pub read: Vec<PeerAnswer>,
    /// The completions, as sampled.
    pub completions: Vec<String>,
}

/// Everything that counts in a round. Order does not matter. Of two groups
/// with the same place, the first in canonical order (by item, then text)
/// counts and the other is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included<K> {
    /// First answers.
    pub answers: Vec<AnswerGroup<K>>,
    /// Critiques.
    pub critiques: Vec<CritiqueGroup<K>>,
    /// Second answers.
    pub resolutions: Vec<ResolveGroup<K>>,
    /// In which order the peers' answers arrived, lower first, where the
    /// inclusion set fixes one. Used for [originality](crate::originality)
    /// only; peers without a rank are neither copied from nor copies.
    pub arrival: BTreeMap<K, u32>,
    /// What earlier rounds showed of the critics, as it counts in this one.
    pub history: BTreeMap<K, Calibration>,
}

impl<K> Default for Included<K> {
    fn default() -> Included<K> {
        Included {
            answers: Vec::new(),
            critiques: Vec::new(),
            resolutions: Vec::new(),
            arrival: BTreeMap::new(),
            history: BTreeMap::new(),
        }
    }
}

/// Items in canonical order of `place`, then `content`, one for each place,
/// and how many were left out.
pub(crate) fn canonical<'a, T, P: Ord, C: Ord>(
    groups: &'a [T],
    place: impl Fn(&T) -> P,
    content: impl Fn(&'a T) -> C,
) -> (Vec<&'a T>, u32) {
    let mut ordered: Vec<&T> = groups.iter().collect();
    ordered.sort_by(|a, b| {
        place(a)
            .cmp(&place(b))
            .then_with(|| content(a).cmp(&content(b)))
    });
    let before = ordered.len();
    ordered.dedup_by(|later, first| place(later) == place(first));
    let left_out = u32::try_from(before - ordered.len()).unwrap_or(u32::MAX);
    (ordered, left_out)
}

/// All of an item that decides what it is.
pub(crate) type ItemKey<'a> = (tasks::EnvId, u8, &'a str, &'a str);

/// The key of an item.
pub(crate) fn item_key(item: &Item) -> ItemKey<'_> {
    (item.env, item.level, &item.question, &item.reference)
}

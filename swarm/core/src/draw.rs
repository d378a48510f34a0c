//! What the beacon draws, so that nobody chooses: items, what is put on show,
//! who reads it, who witnesses, who relays. Pure functions of public data.

use tasks::{EnvId, Seed};

use crate::body::{Exhibit, Slot};
use crate::ids::{Beacon, PeerId, SwarmId};
use crate::manifest::Manifest;
use crate::message::BodyKind;

/// An item to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemDraw {
    /// The environment.
    pub env: EnvId,
    /// The level.
    pub level: u8,
    /// The item's seed.
    pub seed: Seed,
}

/// The item in a peer's slot; `None` if the manifest has no such slot.
pub fn item(manifest: &Manifest, beacon: Beacon, peer: PeerId, slot: Slot) -> Option<ItemDraw> {
    let seed = match slot {
        Slot::Common(k) if k < manifest.answer.common => {
            Seed::derive(&[b"common item", &beacon.0, &k.to_le_bytes()])
        }
        Slot::Own(k) if k < manifest.answer.own => {
            Seed::derive(&[b"own item", &beacon.0, &peer.0, &k.to_le_bytes()])
        }
        _ => return None,
    };
    let total = manifest
        .curriculum
        .iter()
        .map(|course| u64::from(course.weight))
        .sum();
    let mut ticket = Seed::derive(&[b"course", &seed.0]).draw().below(total);
    let course = manifest.curriculum.iter().find(|course| {
        let weight = u64::from(course.weight);
        let won = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        won
    })?;
    Some(ItemDraw {
        env: course.env,
        level: course.level,
        seed,
    })
}

/// All slots of a peer, the common ones first.
pub fn slots(manifest: &Manifest) -> impl Iterator<Item = Slot> + use<> {
    let (common, own) = (manifest.answer.common, manifest.answer.own);
    (0..common).map(Slot::Common).chain((0..own).map(Slot::Own))
}

/// Which completion of a peer's group is put before the others. One a group:
/// verdicts gather on it, and whoever resolves reads it.
pub fn exhibit(manifest: &Manifest, beacon: Beacon, peer: PeerId, slot: Slot) -> Option<u16> {
    let (kind, k, count) = match slot {
        Slot::Common(k) => (0, k, manifest.answer.common),
        Slot::Own(k) => (1, k, manifest.answer.own),
    };
    if k >= count {
        return None;
    }
    let seed = Seed::derive(&[b"exhibit", &beacon.0, &peer.0, &[kind], &k.to_le_bytes()]);
    u16::try_from(seed.draw().below(manifest.answer.size.into())).ok()
}

/// The order in which a critic reads one peer's exhibits: common items before
/// own ones, each kind from a drawn start, so that critics spread evenly.
fn shelf(manifest: &Manifest, beacon: Beacon, critic: PeerId, peer: PeerId) -> Vec<Slot> {
    let mut draw = Seed::derive(&[b"shelf", &beacon.0, &critic.0, &peer.0]).draw();
    let mut order = Vec::new();
    let (common, own) = (manifest.answer.common, manifest.answer.own);
    let starts = (draw.below(common.into()), draw.below(own.into()));
    let turned = |start: u64, k: u16, count: u16| {
        u16::try_from((start + u64::from(k)) % u64::from(count)).unwrap_or(0)
    };
    order.extend((0..common).map(|k| Slot::Common(turned(starts.0, k, common))));
    order.extend((0..own).map(|k| Slot::Own(turned(starts.1, k, own))));
    order
}

/// What a critic reads, given whose answers are there: one exhibit of each
/// peer in drawn order, then a second of each, until it has read its share.
/// Never its own.
pub fn reading(
    manifest: &Manifest,
    beacon: Beacon,
    critic: PeerId,
    answered: impl IntoIterator<Item = (PeerId, Vec<Slot>)>,
) -> Vec<Exhibit> {
    let answered: std::collections::BTreeMap<_, _> = answered.into_iter().collect();
    let others = answered.keys().copied().filter(|peer| *peer != critic);
    let shelves: Vec<(PeerId, Vec<Slot>)> = ranked(b"reading", beacon, Some(critic), others)
        .into_iter()
        .map(|peer| {
            let mut shelf = shelf(manifest, beacon, critic, peer);
            shelf.retain(|slot| answered[&peer].contains(slot));
            (peer, shelf)
        })
        .collect();
    let depth = shelves.iter().map(|(_, shelf)| shelf.len()).max();
    let mut read = Vec::new();
    for pass in 0..depth.unwrap_or(0) {
        for (peer, shelf) in &shelves {
            let Some(&slot) = shelf.get(pass) else {
                continue;
            };
            let Some(completion) = exhibit(manifest, beacon, *peer, slot) else {
                continue;
            };
            if read.len() < usize::from(manifest.critique.groups) {
                read.push(Exhibit {
                    peer: *peer,
                    slot,
                    completion,
                });
            }
        }
    }
    read
}

/// Whether a critic may read this, as far as anybody can tell who does not
/// know which answers reached it: on show, and not its own.
pub fn may_read(manifest: &Manifest, beacon: Beacon, critic: PeerId, target: &Exhibit) -> bool {
    target.peer != critic
        && exhibit(manifest, beacon, target.peer, target.slot) == Some(target.completion)
}

/// Which items a peer answers again.
pub fn resolve_slots(manifest: &Manifest) -> Vec<Slot> {
    slots(manifest)
        .take(manifest.resolve.groups.into())
        .collect()
}

/// Peers in an order that the beacon draws, another for each label and for
/// each observer.
pub fn ranked(
    label: &[u8],
    beacon: Beacon,
    observer: Option<PeerId>,
    peers: impl IntoIterator<Item = PeerId>,
) -> Vec<PeerId> {
    let observer = observer.map_or([0; 32], |peer| peer.0);
    let mut keyed: Vec<(Seed, PeerId)> = peers
        .into_iter()
        .map(|peer| {
            let key = Seed::derive(&[b"rank", label, &beacon.0, &observer, &peer.0]);
            (key, peer)
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, peer)| peer).collect()
}

/// The seed of the sampler for one group, so that a policy's draws are its
/// own and can be made again.
pub fn sampling_seed(beacon: Beacon, peer: PeerId, kind: BodyKind, index: usize) -> u64 {
    let index = (index as u64).to_le_bytes();
    Seed::derive(&[b"sample", &beacon.0, &peer.0, &[kind as u8], &index])
        .draw()
        .next_u64()
}

/// The beacon of a round that the chain does not open. Anybody can compute it,
/// also who joins late and offline; so anybody could have computed it before,
/// and such a round is never settled.
pub fn offline_beacon(swarm: SwarmId, round: u64) -> Beacon {
    Beacon(Seed::derive(&[b"offline beacon", &swarm.0, &round.to_le_bytes()]).0)
}

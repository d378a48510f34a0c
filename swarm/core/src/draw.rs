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

/// The item in a peer's slot; `None` if the manifest has no such slot. The
/// manifest is the one that [holds in the round](crate::plan::Plan::applied).
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::sim;

    const BEACON: Beacon = Beacon([5; 32]);

    fn peers(count: u8) -> Vec<PeerId> {
        (1..=count).map(|index| PeerId([index; 32])).collect()
    }

    #[test]
    fn common_items_are_everyones_and_own_items_nobody_elses() {
        let manifest = sim::manifest();
        let draw = |peer: u8, slot| item(&manifest, BEACON, PeerId([peer; 32]), slot).unwrap();
        assert_eq!(draw(1, Slot::Common(0)), draw(2, Slot::Common(0)));
        assert_ne!(draw(1, Slot::Own(0)), draw(2, Slot::Own(0)));
        assert_ne!(draw(1, Slot::Own(0)).seed, draw(1, Slot::Own(1)).seed);
        let outside = [Slot::Own(2), Slot::Common(1)];
        let none = outside.map(|slot| item(&manifest, BEACON, PeerId([1; 32]), slot));
        assert_eq!(none, [None, None]);
    }

    #[test]
    fn environments_are_drawn_by_their_weight() {
        let mut manifest = sim::manifest();
        manifest.curriculum.truncate(2);
        manifest.curriculum[0].weight = 3;
        manifest.answer.own = 4_000;
        let count = (0..4_000)
            .filter_map(|k| item(&manifest, BEACON, PeerId([1; 32]), Slot::Own(k)))
            .filter(|drawn| drawn.env == manifest.curriculum[0].env)
            .count();
        // 3,000, give or take five sigma.
        assert!((2_860..3_140).contains(&count), "{count}");
    }

    #[test]
    fn critics_read_what_they_may_never_their_own_and_spread_evenly() {
        let mut manifest = sim::manifest();
        manifest.answer.own = 4;
        manifest.answer.common = 2;
        manifest.critique.groups = 6;
        let mut read_by: BTreeMap<PeerId, usize> = BTreeMap::new();
        for round in 0..50 {
            let beacon = Beacon([round; 32]);
            let all: Vec<Slot> = slots(&manifest).collect();
            let answered = || peers(20).into_iter().map(|peer| (peer, all.clone()));
            for critic in peers(20) {
                let read = reading(&manifest, beacon, critic, answered());
                assert_eq!(read.len(), 6);
                let distinct: BTreeSet<_> = read.iter().collect();
                assert_eq!(distinct.len(), 6);
                for exhibit in read {
                    assert!(may_read(&manifest, beacon, critic, &exhibit));
                    assert!(matches!(exhibit.slot, Slot::Common(_)), "common ones first");
                    *read_by.entry(exhibit.peer).or_default() += 1;
                }
            }
        }
        // 50 rounds x 20 critics x 6 exhibits over 20 peers: 300 each.
        assert!(
            read_by.values().all(|count| (200..400).contains(count)),
            "{read_by:?}"
        );
    }

    #[test]
    fn in_a_small_swarm_every_common_exhibit_is_read_by_every_other_peer() {
        let mut manifest = sim::manifest();
        manifest.answer.common = 2;
        manifest.critique.groups = 6;
        let all: Vec<Slot> = slots(&manifest).collect();
        for critic in peers(4) {
            let answered = peers(4).into_iter().map(|peer| (peer, all.clone()));
            let read: BTreeSet<(PeerId, Slot)> = reading(&manifest, BEACON, critic, answered)
                .into_iter()
                .map(|exhibit| (exhibit.peer, exhibit.slot))
                .collect();
            let common = |peer| [(peer, Slot::Common(0)), (peer, Slot::Common(1))];
            let others = peers(4).into_iter().filter(|peer| *peer != critic);
            assert_eq!(read, others.flat_map(common).collect());
        }
    }

    #[test]
    fn only_what_is_on_show_may_be_read() {
        let manifest = sim::manifest();
        let [one, other] = [PeerId([1; 32]), PeerId([2; 32])];
        let slot = Slot::Own(1);
        let shown = exhibit(&manifest, BEACON, other, slot).unwrap();
        for completion in 0..manifest.answer.size {
            let target = |peer| Exhibit {
                peer,
                slot,
                completion,
            };
            let allowed = may_read(&manifest, BEACON, one, &target(other));
            assert_eq!(allowed, completion == shown);
            assert!(!may_read(&manifest, BEACON, one, &target(one)));
        }
    }

    #[test]
    fn a_ranking_is_of_all_and_another_for_each_observer() {
        let rank = |observer| ranked(b"test", BEACON, observer, peers(10));
        let sorted = |mut order: Vec<PeerId>| {
            order.sort_unstable();
            order
        };
        assert_eq!(sorted(rank(None)), peers(10));
        assert_ne!(rank(None), rank(Some(PeerId([1; 32]))));
        let reversed = ranked(b"test", BEACON, None, peers(10).into_iter().rev());
        assert_eq!(rank(None), reversed);
    }
}

//! Who is here: what each peer last said of itself, whether it is waited for,
//! and how often it was refused.

use std::collections::BTreeMap;

use crate::ids::{Address, PeerId};
use crate::message::{Phase, Position};

/// Refusals of one peer that are shown in one round; all are counted.
const SHOWN_REFUSALS: u32 = 8;
/// What a stage costs that a peer was waited for in vain. Each round pays one
/// back.
const MISS: u32 = 16;
/// From here on a peer is not waited for: two stages not long after each other.
/// So one that would have everybody wait again and again costs the swarm one
/// stage in [`MISS`] rounds.
const PATIENCE: u32 = MISS + MISS / 2;
/// The most that is held against a peer: one that was slow is waited for again
/// after some rounds, however long it was.
const WORST: u32 = 3 * MISS;

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name; empty until it said Hello.
    pub name: String,
    /// Who owns its reputation; unknown until it said Hello.
    pub address: Option<Address>,
    /// Where it was when it last spoke.
    pub at: Position,
    /// The first round it was under way in since it arrived.
    pub since: u64,
    /// The highest sequence number it used.
    pub sequence: u64,
    /// When it last spoke.
    pub heard_ms: u64,
    /// The newest amendment it knows of.
    pub curriculum: u32,
    /// Whether it is waited for: it spoke since it last missed a stage.
    pub present: bool,
    /// What it owes for stages in which it was waited for in vain.
    debt: u32,
    /// The last round in which it was asked for that somebody registers it.
    pub(crate) sponsored: Option<u64>,
    /// What was refused of it, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    messages: u32,
    shown: u32,
    /// Refusals of this round that were not shown one by one.
    hidden: BTreeMap<&'static str, u64>,
}

impl Peer {
    /// Whether it has been waited for in vain too often of late. Whatever it
    /// brings in time counts all the same.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.debt >= PATIENCE
    }

    /// It was waited for in vain.
    pub(crate) fn miss(&mut self) {
        self.debt = (self.debt + MISS).min(WORST);
    }
}

/// The peers, this one excluded.
#[derive(Debug, Default)]
pub struct Roster {
    peers: BTreeMap<PeerId, Peer>,
    limit: usize,
    /// Refusals of nobody in particular that were shown this round.
    shown: u32,
    /// Those that were not.
    hidden: BTreeMap<&'static str, u64>,
}

/// Refusals that were counted and not shown: whose, why, how many.
pub(crate) type Hidden = (Option<PeerId>, &'static str, u64);

/// What hearing from a peer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The roster is full of peers that are here.
    Full,
    /// It has used up its messages for this round.
    OverBudget,
    /// Somebody new, or back.
    Arrived,
    /// Somebody known.
    Known,
}

impl Roster {
    pub(crate) fn new(limit: u16) -> Self {
        Self {
            peers: BTreeMap::new(),
            limit: limit.into(),
            shown: 0,
            hidden: BTreeMap::new(),
        }
    }

    /// All known peers.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    /// One peer.
    pub fn get(&self, id: &PeerId) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// Those that are waited for.
    pub fn present(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.iter().filter(|(_, peer)| peer.present)
    }

    pub(crate) fn get_mut(&mut self, id: &PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    /// Notes that a peer spoke, and counts it against its budget.
    pub(crate) fn hear(
        &mut self,
        id: PeerId,
        at: Position,
        sequence: u64,
        now_ms: u64,
        budget: u32,
    ) -> Heard {
        if !self.peers.contains_key(&id) && self.peers.len() >= self.limit {
            let gone = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.present)
                .min_by_key(|(_, peer)| peer.heard_ms)
                .map(|(id, _)| *id);
            match gone {
                Some(gone) => self.peers.remove(&gone),
                None => return Heard::Full,
            };
        }
        let peer = self.peers.entry(id).or_insert_with(|| Peer {
            name: String::new(),
            address: None,
            at,
            since: u64::MAX,
            sequence: 0,
            heard_ms: now_ms,
            curriculum: 0,
            present: false,
            debt: 0,
            sponsored: None,
            refused: BTreeMap::new(),
            messages: 0,
            shown: 0,
            hidden: BTreeMap::new(),
        });
        peer.messages = peer.messages.saturating_add(1);
        if peer.messages > budget {
            return Heard::OverBudget;
        }
        peer.heard_ms = now_ms;
        // What was overtaken says nothing new of where the peer is, and does
        // not bring back one that has left since.
        if sequence <= peer.sequence {
            return Heard::Known;
        }
        peer.sequence = sequence;
        peer.at = at;
        let arrived = !std::mem::replace(&mut peer.present, true);
        if at.phase == Phase::Join {
            peer.since = u64::MAX;
        } else {
            let before = if arrived { u64::MAX } else { peer.since };
            peer.since = before.min(at.round);
        }
        if arrived {
            Heard::Arrived
        } else {
            Heard::Known
        }
    }

    /// Gives every peer its budget for a new round, and forgives a little. What
    /// was refused in the last and not shown is told now.
    pub(crate) fn renew_budgets(&mut self) -> Vec<Hidden> {
        let mut hidden: Vec<Hidden> = Vec::new();
        let nobodys = std::mem::take(&mut self.hidden).into_iter();
        hidden.extend(nobodys.map(|(key, count)| (None, key, count)));
        for (id, peer) in &mut self.peers {
            let theirs = std::mem::take(&mut peer.hidden).into_iter();
            hidden.extend(theirs.map(|(key, count)| (Some(*id), key, count)));
        }
        self.shown = 0;
        for peer in self.peers.values_mut() {
            peer.messages = 0;
            peer.shown = 0;
            peer.debt = peer.debt.saturating_sub(1);
        }
        hidden
    }

    /// Counts a refusal of so many messages, and says whether to show it.
    pub(crate) fn refuse(&mut self, id: Option<&PeerId>, key: &'static str, count: u64) -> bool {
        // Nothing is kept of a key that never said anything of use.
        let (shown, hidden) = match id.and_then(|id| self.peers.get_mut(id)) {
            Some(peer) => {
                *peer.refused.entry(key).or_default() += count;
                (&mut peer.shown, &mut peer.hidden)
            }
            None => (&mut self.shown, &mut self.hidden),
        };
        *shown = shown.saturating_add(1);
        let is_shown = *shown <= SHOWN_REFUSALS;
        // The event that shows it stands for one.
        let rest = if is_shown {
            count.saturating_sub(1)
        } else {
            count
        };
        if rest > 0 {
            *hidden.entry(key).or_default() += rest;
        }
        is_shown
    }

    /// Where the swarm is: the furthest position that more than half of the
    /// peers here have reached, so that no lone liar moves it. `None` if half
    /// of them or more are not under way.
    pub fn prevailing(&self) -> Option<Position> {
        let under_way = |peer: &Peer| {
            let away = matches!(peer.at.phase, Phase::Join | Phase::Rest);
            (!away).then_some(peer.at)
        };
        let mut positions: Vec<Option<Position>> =
            self.present().map(|(_, peer)| under_way(peer)).collect();
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions.get(positions.len() / 2).copied().flatten()
    }

    /// The round that more than half of those who are joining, `own` among
    /// them, mean to begin with, or a later one.
    pub(crate) fn prevailing_target(&self, own: u64) -> u64 {
        let mut targets: Vec<u64> = self
            .present()
            .filter(|(_, peer)| peer.at.phase == Phase::Join)
            .map(|(_, peer)| peer.at.round)
            .chain([own])
            .collect();
        targets.sort_unstable_by(|a, b| b.cmp(a));
        targets[targets.len() / 2].max(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(round: u64, phase: Phase) -> Position {
        Position { round, phase }
    }

    fn roster(rounds: &[u64]) -> Roster {
        let mut roster = Roster::new(64);
        for (index, round) in (0u8..).zip(rounds) {
            roster.hear(PeerId([index; 32]), at(*round, Phase::Answer), 1, 0, 10);
        }
        roster
    }

    #[test]
    fn a_lone_liar_does_not_move_the_swarm() {
        assert_eq!(Roster::new(4).prevailing(), None);
        let prevailing = |rounds: &[u64]| roster(rounds).prevailing().unwrap().round;
        assert_eq!(prevailing(&[7]), 7);
        assert_eq!(prevailing(&[7, 1000]), 7);
        assert_eq!(prevailing(&[7, 7, 1000]), 7);
        assert_eq!(prevailing(&[7, 7, 8]), 7);
        assert_eq!(prevailing(&[7, 8, 8]), 8);
        assert_eq!(prevailing(&[7, 7, 8, 8]), 7);
        assert_eq!(prevailing(&[7, 8, 8, 8]), 8);
    }

    #[test]
    fn an_overtaken_message_neither_moves_nor_revives_a_peer() {
        let mut roster = Roster::new(4);
        let id = PeerId([1; 32]);
        assert_eq!(
            roster.hear(id, at(3, Phase::Judge), 5, 0, 10),
            Heard::Arrived
        );
        roster.get_mut(&id).unwrap().present = false;
        assert_eq!(
            roster.hear(id, at(2, Phase::Answer), 4, 1, 10),
            Heard::Known
        );
        let peer = roster.get(&id).unwrap();
        assert_eq!((peer.at.round, peer.present), (3, false));
        assert_eq!(
            roster.hear(id, at(4, Phase::Answer), 6, 2, 10),
            Heard::Arrived
        );
    }

    #[test]
    fn a_full_roster_makes_room_only_for_those_who_are_gone() {
        let mut roster = Roster::new(2);
        let hear = |roster: &mut Roster, index: u8| {
            roster.hear(PeerId([index; 32]), at(1, Phase::Join), 1, index.into(), 10)
        };
        assert_eq!(hear(&mut roster, 1), Heard::Arrived);
        assert_eq!(hear(&mut roster, 2), Heard::Arrived);
        assert_eq!(hear(&mut roster, 3), Heard::Full);
        roster.get_mut(&PeerId([1; 32])).unwrap().present = false;
        assert_eq!(hear(&mut roster, 3), Heard::Arrived);
        assert!(roster.get(&PeerId([1; 32])).is_none());
    }

    #[test]
    fn who_is_waited_for_in_vain_twice_is_not_until_it_is_forgiven() {
        let mut roster = roster(&[1]);
        let id = PeerId([0; 32]);
        let mut waits = 0;
        for round in 0..10 * MISS {
            roster.renew_budgets();
            let peer = roster.get_mut(&id).unwrap();
            if !peer.is_overdrawn() {
                waits += 1;
                peer.miss();
            }
            assert!(waits <= 3 + round / MISS, "round {round}: {waits}");
        }
        assert!(waits > 4, "it is forgiven in time");
    }

    #[test]
    fn a_flood_is_cut_off_until_the_next_round() {
        let mut roster = Roster::new(2);
        let id = PeerId([1; 32]);
        let hear =
            |roster: &mut Roster, sequence| roster.hear(id, at(1, Phase::Answer), sequence, 0, 3);
        for sequence in 1..=3 {
            assert_ne!(hear(&mut roster, sequence), Heard::OverBudget);
        }
        assert_eq!(hear(&mut roster, 4), Heard::OverBudget);
        roster.renew_budgets();
        assert_eq!(hear(&mut roster, 5), Heard::Known);
    }
}

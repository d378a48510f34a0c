//! What comes from peers. Every announcement is applied, ignored or refused;
//! nothing is fetched before its author, round, stage and size are known good,
//! and no body is kept that the beacon does not draw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::stages::{count, stage_of};
use super::state::{Claim, Fetching};
use super::{Effect, Machine};
use crate::body::{self, Body};
use crate::draw;
use crate::event::{BeaconSource, Event};
use crate::ids::{Address, Beacon, Hash, PeerId};
use crate::message::{Announcement, BodyKind, BodyRef, Card, Payload, Phase, Plea, Position, Seal};
use crate::refusal::{Outcome, RejectReason};
use crate::roster::Heard;
use crate::score::UNSCORED;

/// How many others are asked for a body that its author does not give.
const OTHER_PROVIDERS: usize = 8;
/// The first wait before a body is asked for again doubles this many times.
const FETCH_DOUBLINGS: u32 = 6;

impl Machine {
    /// Takes in a verified announcement.
    pub(super) fn receive(&mut self, announcement: Announcement) -> Outcome {
        let Announcement {
            round,
            peer,
            sequence,
            at,
            payload,
            swarm,
            ..
        } = announcement;
        if swarm != self.id || peer == self.config.me {
            return Outcome::Ignored("not for this peer");
        }
        let known = self.roster.get(&peer).map(|known| known.sequence);
        let budget = self.config.manifest.limits.messages;
        let arrived = match self.roster.hear(peer, at, sequence, self.now, budget) {
            Heard::Full => return Outcome::Ignored("the roster is full"),
            Heard::OverBudget => return RejectReason::Budget(budget).into(),
            Heard::Arrived => true,
            Heard::Known => false,
        };
        let fresh = known.is_none_or(|known| sequence > known);
        let mut introduced = false;
        if let Payload::Hello {
            address,
            name,
            plea,
            curriculum,
        } = &payload
            && let Some(known) = self.roster.get_mut(&peer)
        {
            known.curriculum = *curriculum;
            introduced = known.address != Some(*address) || known.name != *name;
            known.address = Some(*address);
            known.name.clone_from(name);
            if let Some(plea) = plea {
                self.sponsor(peer, *address, name, plea);
            }
            self.compare_amendments(*curriculum);
        }
        if payload == Payload::Leave {
            if let Some(known) = self.roster.get_mut(&peer)
                && fresh
            {
                known.present = false;
            }
            return Outcome::Applied;
        }
        if arrived || introduced {
            self.show_arrival(peer);
            // It may have missed our Hello: the next one comes soon.
            self.hello.hurry();
        }
        if fresh {
            self.help(at);
        }
        self.apply(round, peer, payload)
    }

    /// A peer asks to be registered by whoever can pay; turns are drawn.
    fn sponsor(&mut self, who: PeerId, address: Address, name: &str, plea: &Plea) {
        let (round, me) = (self.at.round, self.config.me);
        let Some(known) = self.roster.get_mut(&who) else {
            return;
        };
        if known.sponsored.replace(round) == Some(round) || self.config.manifest.chain.is_none() {
            return;
        }
        let peers = self.roster.present().map(|(id, _)| id).chain([me]);
        let order = draw::ranked(
            b"sponsor",
            Beacon(who.0),
            None,
            peers.filter(|id| *id != who),
        );
        let rank = order.iter().take_while(|peer| **peer != me).count() as u64;
        self.effects.push(Effect::Sponsor {
            peer: who,
            address,
            name: name.to_owned(),
            plea: Box::new(plea.clone()),
            after_ms: rank * self.config.manifest.stages.relay_ms,
        });
    }

    /// The transport gave a peer up: it is not waited for until it speaks.
    pub(super) fn lost(&mut self, who: PeerId) {
        let here = self.at;
        if let Some(known) = self.roster.get_mut(&who)
            && std::mem::replace(&mut known.present, false)
        {
            self.emit(Event::PeerAbsent {
                who,
                round: here.round,
                stage: stage_of(here.phase),
            });
        }
    }

    fn show_arrival(&mut self, who: PeerId) {
        // Shown once it has said Hello, which it does every round.
        let Some((peer, address)) = self
            .roster
            .get(&who)
            .and_then(|peer| Some((peer, peer.address?)))
        else {
            return;
        };
        let name = peer.name.clone();
        self.emit(Event::PeerSeen {
            who,
            name,
            address,
            local: self.config.local.contains(&who),
        });
    }

    fn apply(&mut self, number: u64, peer: PeerId, payload: Payload) -> Outcome {
        let kept = self.rounds.contains_key(&number);
        let near = number == self.at.round || number == self.at.round.saturating_add(1);
        match payload {
            Payload::Hello { .. } | Payload::Leave | Payload::Checkpoint { .. } => {
                return Outcome::Applied;
            }
            Payload::Amendment(amendment) => return self.take_amendment(*amendment),
            _ if !kept && !near => return Outcome::Ignored("another round"),
            _ => {}
        }
        match payload {
            Payload::Have { kind, body } => self.apply_have(number, peer, kind, body),
            Payload::Commit { body } => self.apply_commit(number, peer, body),
            Payload::Inclusion { entries } => {
                let round = self.round_mut(number);
                if round.over && round.closing.tx.is_some() {
                    return Outcome::Ignored("settled");
                }
                if let Some(outcome) = self.not_a_witness(number, peer) {
                    return outcome;
                }
                let entries = entries.into_iter().collect();
                match self.round_mut(number).lists.get(&peer) {
                    None => {
                        self.round_mut(number).lists.insert(peer, entries);
                        Outcome::Applied
                    }
                    Some(before) if *before == entries => Outcome::Ignored("said before"),
                    Some(_) => RejectReason::Equivocation("two lists of a round").into(),
                }
            }
            Payload::Attestation(card) => self.apply_card(number, peer, card),
            Payload::Sealed(seal) => self.apply_seal(number, peer, seal),
            Payload::Plan { plan } => self.apply_plan(number, peer, plan),
            Payload::Hello { .. }
            | Payload::Leave
            | Payload::Checkpoint { .. }
            | Payload::Amendment(_) => Outcome::Applied,
        }
    }

    /// Whether a phase of a round is still open here.
    fn in_time(&self, round: u64, last: Phase) -> bool {
        self.at <= Position { round, phase: last }
    }

    fn too_large(&self, body: BodyRef) -> Option<Outcome> {
        let limit = self.config.manifest.limits.body_bytes;
        (body.bytes > limit).then_some({
            Outcome::Rejected(RejectReason::Oversize {
                bytes: body.bytes as usize,
                limit: limit as usize,
            })
        })
    }

    fn apply_have(&mut self, number: u64, peer: PeerId, kind: BodyKind, body: BodyRef) -> Outcome {
        if let Some(outcome) = self.too_large(body) {
            return outcome;
        }
        let last = match kind {
            BodyKind::Answer => Phase::Answer,
            BodyKind::Critique => Phase::Reveal,
            BodyKind::Resolve => Phase::Resolve,
        };
        let in_time = self.in_time(number, last);
        let round = self.round_mut(number);
        if let Some(before) = round.claims.get(&(peer, kind)) {
            if before.body == body {
                return Outcome::Ignored("said before");
            }
            return RejectReason::Equivocation("two bodies of a stage").into();
        }
        if kind == BodyKind::Critique
            && let Some(commit) = round.commits.get(&peer)
            && commit.body != body
        {
            return RejectReason::Mismatch("the critiques are not those committed").into();
        }
        round.claims.insert((peer, kind), Claim { body, in_time });
        if in_time {
            Outcome::Applied
        } else {
            Outcome::Ignored("late for its stage")
        }
    }

    fn apply_commit(&mut self, number: u64, peer: PeerId, body: BodyRef) -> Outcome {
        if let Some(outcome) = self.too_large(body) {
            return outcome;
        }
        let in_time = self.in_time(number, Phase::Commit);
        let round = self.round_mut(number);
        if let Some(before) = round.commits.get(&peer) {
            if before.body == body {
                return Outcome::Ignored("said before");
            }
            return RejectReason::Equivocation("two commitments of a round").into();
        }
        // Overtaken by its own reveal, which then must be the same body.
        let revealed = round.claims.get(&(peer, BodyKind::Critique));
        if revealed.is_some_and(|claim| claim.body != body) {
            return RejectReason::Mismatch("the critiques are not those committed").into();
        }
        round.commits.insert(peer, Claim { body, in_time });
        if in_time {
            Outcome::Applied
        } else {
            Outcome::Ignored("late for its stage")
        }
    }

    /// What becomes of a witness's word from somebody who is none.
    fn not_a_witness(&self, number: u64, peer: PeerId) -> Option<Outcome> {
        let opened = self.rounds.get(&number)?.opened.as_ref()?;
        if opened.committee.contains_key(&peer) {
            return None;
        }
        // Offline everyone draws from its own roster, and rosters may differ.
        Some(match opened.source {
            BeaconSource::Chain => RejectReason::NotEntitled("not a witness of this round").into(),
            BeaconSource::Offline => Outcome::Ignored("not a witness here"),
        })
    }

    fn apply_seal(&mut self, number: u64, peer: PeerId, seal: Seal) -> Outcome {
        if !self.config.manifest.seals_cards() {
            return RejectReason::NotEntitled("a seal where cards are open").into();
        }
        if let Some(outcome) = self.not_a_witness(number, peer) {
            return outcome;
        }
        let seals = &mut self.round_mut(number).seals;
        match seals.get(&peer) {
            None => {
                seals.insert(peer, seal);
                Outcome::Applied
            }
            Some(before) if *before == seal => Outcome::Ignored("said before"),
            Some(_) => RejectReason::Equivocation("two seals of a round").into(),
        }
    }

    fn apply_card(&mut self, number: u64, peer: PeerId, card: Card) -> Outcome {
        if let Some(outcome) = self.not_a_witness(number, peer) {
            return outcome;
        }
        let own = self.witness(number, peer);
        if card
            .scores
            .iter()
            .any(|(address, score)| Some(*address) == own && *score != UNSCORED)
        {
            return RejectReason::NotEntitled("a witness scores itself").into();
        }
        let round = self.round_mut(number);
        match round.cards.get(&peer) {
            None => {
                round.cards.insert(peer, card);
                self.show_card(number, peer);
                Outcome::Applied
            }
            Some(before) if *before == card => Outcome::Ignored("said before"),
            Some(_) => RejectReason::Equivocation("two scorecards of a round").into(),
        }
    }

    /// Asks for every body that matters and is not here.
    pub(super) fn fetch(&mut self) {
        let now = self.now;
        let numbers: Vec<u64> = self.rounds.keys().copied().collect();
        for number in numbers {
            let wanted = self.wanted(number);
            let round = self.round_mut(number);
            round.fetching.retain(|hash, _| wanted.contains_key(hash));
            let mut asked = Vec::new();
            for (hash, bytes) in wanted {
                let fetching = round.fetching.entry(hash).or_insert(Fetching {
                    author: None,
                    failures: 0,
                    retry_ms: Some(now),
                });
                if fetching.retry_ms.is_some_and(|at| at <= now) {
                    fetching.retry_ms = None;
                    asked.push((hash, bytes, fetching.failures));
                }
            }
            for (hash, bytes, failures) in asked {
                let (author, from) = self.providers(number, hash, failures);
                if let Some(fetching) = self.round_mut(number).fetching.get_mut(&hash) {
                    fetching.author = author;
                }
                self.effects.push(Effect::Fetch { hash, bytes, from });
            }
        }
    }

    /// The bodies of a round that matter and are not here, and how large they
    /// are at most.
    fn wanted(&self, number: u64) -> BTreeMap<Hash, u32> {
        let mut wanted = BTreeMap::new();
        let Some(round) = self.rounds.get(&number) else {
            return wanted;
        };
        let past = number.saturating_add(1) < self.at.round;
        if round.plan.is_none() || round.closing.tx.is_some() || past {
            return wanted;
        }
        let here = |hash: &Hash| round.bodies.contains_key(hash) || round.is_useless(hash);
        if number == self.at.round {
            for ((peer, kind), claim) in &round.claims {
                if !here(&claim.body.hash) && round.in_time(*peer, *kind) {
                    wanted.insert(claim.body.hash, claim.body.bytes);
                }
            }
        }
        let judging = self.at.phase >= Phase::Judge || number < self.at.round;
        if judging && !round.is_agreed() {
            for hash in round.listed() {
                if !here(&hash) {
                    let claim = round.claims.values().find(|claim| claim.body.hash == hash);
                    let limit = self.config.manifest.limits.body_bytes;
                    wanted.insert(hash, claim.map_or(limit, |claim| claim.body.bytes));
                }
            }
        }
        wanted
    }

    /// Who has a body: the author, as far as it is known, and the witnesses
    /// that list it. If they do not give it, others may have got it before.
    fn providers(&self, number: u64, hash: Hash, failures: u32) -> (Option<PeerId>, Vec<PeerId>) {
        let Some(round) = self.rounds.get(&number) else {
            return (None, Vec::new());
        };
        let mut claims = round.claims.iter();
        let claim = claims.find(|(_, claim)| claim.body.hash == hash);
        let author = claim.map(|((peer, _), _)| *peer);
        let listing = round.lists.iter().filter(|(_, list)| list.contains(&hash));
        let mut from: Vec<PeerId> = author.into_iter().collect();
        from.extend(listing.map(|(peer, _)| *peer));
        if failures > 0 {
            let seed = Beacon(hash.0);
            let present = self.roster.present().map(|(id, _)| id);
            let order = draw::ranked(b"provider", seed, Some(self.config.me), present);
            from.extend(order.into_iter().take(OTHER_PROVIDERS));
        }
        let mut seen = BTreeSet::from([self.config.me]);
        from.retain(|peer| seen.insert(*peer));
        (author, from)
    }

    /// Nobody gave it: asks again later, ever more patiently.
    pub(super) fn fetch_failed(&mut self, hash: Hash) {
        if self.receive_plan(hash, None) {
            return;
        }
        let repeat_ms = self.config.manifest.stages.repeat_ms;
        let now = self.now;
        for round in self.rounds.values_mut() {
            if let Some(fetching) = round.fetching.get_mut(&hash) {
                let wait = repeat_ms << fetching.failures.min(FETCH_DOUBLINGS);
                fetching.failures += 1;
                fetching.retry_ms = Some(now + wait);
            }
        }
    }

    /// A body that was asked for is here.
    pub(super) fn receive_body(&mut self, hash: Hash, bytes: &[u8]) {
        if self.receive_plan(hash, Some(bytes)) {
            return;
        }
        let Some((number, fetching)) = self.rounds.iter_mut().find_map(|(number, round)| {
            let fetching = round.fetching.remove(&hash)?;
            Some((*number, fetching))
        }) else {
            return;
        };
        let author = fetching.author;
        match self.examine(number, hash, bytes) {
            Ok(Some(body)) => {
                let (from, kind) = (body.header().peer, body.kind());
                self.round_mut(number).bodies.insert(hash, Arc::new(body));
                self.emit(Event::BatchReceived {
                    round: number,
                    stage: kind.stage(),
                    from,
                    hash,
                    bytes: count(bytes.len()),
                });
            }
            Ok(None) => {
                self.round_mut(number).foreign.insert(hash);
            }
            Err(reason) => {
                self.round_mut(number).refused.insert(hash);
                self.refuse(author, &reason);
            }
        }
    }

    /// Whether a body is what was announced and what the beacon draws; `None`
    /// if it was drawn from another beacon or made by another plan, which may
    /// be an honest mistake.
    fn examine(&self, number: u64, hash: Hash, bytes: &[u8]) -> Result<Option<Body>, RejectReason> {
        if Hash::of(bytes) != hash {
            return Err(RejectReason::Mismatch("the bytes have another hash"));
        }
        let body = body::decode(bytes, self.config.manifest.limits.body_bytes)?;
        let header = *body.header();
        let round = self.rounds.get(&number);
        let claim = round.and_then(|round| {
            let mut claims = round.claims.iter();
            claims.find(|(_, claim)| claim.body.hash == hash)
        });
        if let Some(((peer, kind), claim)) = claim {
            if (header.peer, body.kind()) != (*peer, *kind) {
                return Err(RejectReason::Mismatch("another author or stage"));
            }
            if claim.body.bytes as usize != bytes.len() {
                return Err(RejectReason::Mismatch("another size"));
            }
        }
        if header.round != number {
            return Err(RejectReason::Mismatch("another round"));
        }
        let beacon = round.and_then(|round| Some(round.opened.as_ref()?.beacon));
        let plan = round.and_then(|round| Some(round.plan.as_ref()?.1));
        if (beacon, plan) != (Some(header.beacon), Some(header.plan)) {
            return Ok(None);
        }
        body.check(self.rules(number))?;
        Ok(Some(body))
    }
}

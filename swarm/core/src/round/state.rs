//! What is known of one round, past, present or next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rewards::Scoreboard;

use crate::body::{Body, Exhibit, Read, Slot};
use crate::event::{BeaconSource, RoundSummary};
use crate::gains::Gains;
use crate::ids::{Address, Beacon, Hash, PeerId, SwarmId, TxHash};
use crate::manifest::Manifest;
use crate::message::{BodyKind, BodyRef, Card, Payload, Phase, Seal};
use crate::plan::{Plan, SettledSet};
use crate::transcript::included_hash;

/// The first repetition interval doubles up to this many times.
const DOUBLINGS: u32 = 2;

/// The beacon and the witnesses.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) beacon: Beacon,
    pub(super) source: BeaconSource,
    pub(super) committee: BTreeMap<PeerId, Address>,
    /// What the ledger had settled that this round's plan follows from;
    /// `None` offline.
    pub(super) settled: Option<Vec<SettledSet>>,
    /// How many witnesses were drawn, those that no peer here stands for
    /// among them.
    pub(super) seats: usize,
}

impl Opened {
    /// More than two thirds.
    pub(super) fn needed(&self) -> usize {
        2 * self.seats / 3 + 1
    }
}

/// A body that a peer announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) body: BodyRef,
    pub(super) in_time: bool,
}

/// A body that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Fetching {
    pub(super) author: Option<PeerId>,
    pub(super) failures: u32,
    /// When to ask again; `None` while asked.
    pub(super) retry_ms: Option<u64>,
}

/// Something this peer said, kept because gossip has no history.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) payload: Payload,
    /// The phase that waits for it.
    pub(super) phase: Phase,
    pub(super) last_ms: u64,
    repeats: u32,
}

impl Said {
    pub(super) fn new(payload: Payload, phase: Phase, now_ms: u64) -> Self {
        Self {
            payload,
            phase,
            last_ms: now_ms,
            repeats: 0,
        }
    }

    /// When it is said again if nothing moves on.
    pub(super) fn next_ms(&self, repeat_ms: u64) -> u64 {
        self.last_ms + (repeat_ms << self.repeats.min(DOUBLINGS))
    }

    /// Somebody new listens: the intervals begin anew.
    pub(super) fn hurry(&mut self) {
        self.repeats = 0;
    }

    /// As if it had been said just now for the first time.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.last_ms = now_ms;
        self.repeats = 0;
    }

    pub(super) fn repeated(&mut self, now_ms: u64) {
        self.last_ms = now_ms;
        self.repeats += 1;
    }
}

/// What the policy was asked to sample, by group.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Answers(Vec<Slot>),
    Critiques(Vec<Exhibit>),
    Resolutions(Vec<(Slot, Vec<Read>)>),
}

impl Asked {
    pub(super) fn kind(&self) -> BodyKind {
        match self {
            Self::Answers(_) => BodyKind::Answer,
            Self::Critiques(_) => BodyKind::Critique,
            Self::Resolutions(_) => BodyKind::Resolve,
        }
    }
}

/// What tells a round's groups apart: the stage, who wrote it, and about what.
pub(crate) type GroupKey = (BodyKind, PeerId, Exhibit);

/// What a round came to, on this peer.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// The hash of the quorum's set; `None` if there was no quorum, and this
    /// peer judged what it held.
    pub(super) included: Option<Hash>,
    pub(super) entries: BTreeSet<Hash>,
    /// Whether all of it could be scored here; else this peer signs nothing.
    pub(super) whole: bool,
    pub(super) board: Scoreboard<PeerId>,
    pub(super) gains: Gains,
    /// What witnesses sign, this peer's own row among it.
    pub(super) rows: BTreeMap<Address, u32>,
}

/// How far a judged round is from the ledger.
#[derive(Debug, Clone, Default)]
pub(super) struct Closing {
    /// This peer was asked for its card: it signs once a round, whatever it
    /// learns later.
    pub(super) signed: bool,
    /// When there were first enough seals, where cards are sealed.
    pub(super) seals_ms: Option<u64>,
    /// This peer sent the seals.
    pub(super) committed: bool,
    /// Whose cards the ledger holds the seals of.
    pub(super) sealed: Option<BTreeSet<Address>>,
    /// When a quorum was first there.
    pub(super) quorum_ms: Option<u64>,
    /// This peer's turn to relay it, once there is a quorum.
    pub(super) rank: u64,
    /// This peer sent it.
    pub(super) sent: bool,
    /// After this the round is given up.
    pub(super) until_ms: Option<u64>,
    pub(super) tx: Option<TxHash>,
    /// Why not, where that is known before the end.
    pub(super) why: Option<String>,
    /// The quorum's set is not the one this peer judged, and that was said.
    pub(super) differs: bool,
}

/// One round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) opened: Option<Opened>,
    /// What is asked in it, once that is settled, and its hash.
    pub(super) plan: Option<(Arc<Plan>, Hash)>,
    /// The manifest as it holds with that plan.
    pub(super) rules: Option<Arc<Manifest>>,
    /// By what others say they ask.
    pub(super) plans: BTreeMap<PeerId, BodyRef>,
    /// Every stage is behind this peer, by work or by being left behind.
    pub(super) over: bool,
    pub(super) ended: bool,
    pub(super) claims: BTreeMap<(PeerId, BodyKind), Claim>,
    pub(super) commits: BTreeMap<PeerId, Claim>,
    pub(super) bodies: BTreeMap<Hash, Arc<Body>>,
    /// Bodies that were refused.
    pub(super) refused: BTreeSet<Hash>,
    /// Bodies that were drawn from another beacon, or made by another plan.
    pub(super) foreign: BTreeSet<Hash>,
    pub(super) fetching: BTreeMap<Hash, Fetching>,
    pub(super) lists: BTreeMap<PeerId, BTreeSet<Hash>>,
    pub(super) cards: BTreeMap<PeerId, Card>,
    pub(super) seals: BTreeMap<PeerId, Seal>,
    pub(super) said: Vec<Said>,
    pub(super) asked: Option<Asked>,
    pub(super) judged: Option<Judged>,
    pub(super) summary: Option<RoundSummary>,
    /// Others' groups that were trained on, so that the next round leaves them.
    pub(super) used: BTreeSet<GroupKey>,
    pub(super) closing: Closing,
    /// When its answer stage began here.
    pub(super) began_ms: u64,
}

impl Round {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// Whether a peer's body of this kind is here, or will never be.
    pub(super) fn is_in(&self, peer: PeerId, kind: BodyKind) -> bool {
        self.claims.get(&(peer, kind)).is_some_and(|claim| {
            let hash = claim.body.hash;
            self.bodies.contains_key(&hash) || self.is_useless(&hash)
        })
    }

    /// Whether a body came and cannot be used.
    pub(super) fn is_useless(&self, hash: &Hash) -> bool {
        self.refused.contains(hash) || self.foreign.contains(hash)
    }

    /// A peer's body of this kind.
    pub(super) fn body(&self, peer: PeerId, kind: BodyKind) -> Option<&Arc<Body>> {
        let claim = self.claims.get(&(peer, kind))?;
        self.bodies.get(&claim.body.hash)
    }

    /// Whether a claim came in time; a critique's commitment, too.
    pub(super) fn in_time(&self, peer: PeerId, kind: BodyKind) -> bool {
        let Some(claim) = self.claims.get(&(peer, kind)) else {
            return false;
        };
        let committed = || {
            self.commits
                .get(&peer)
                .is_some_and(|commit| commit.in_time && commit.body == claim.body)
        };
        claim.in_time && (kind != BodyKind::Critique || committed())
    }

    /// The bodies that a witness lists: announced in time, here, and valid.
    pub(super) fn witnessed(&self) -> BTreeSet<Hash> {
        self.claims
            .iter()
            .filter(|((peer, kind), claim)| {
                self.in_time(*peer, *kind) && self.bodies.contains_key(&claim.body.hash)
            })
            .map(|(_, claim)| claim.body.hash)
            .collect()
    }

    /// The bodies that more than two thirds of the committee list. A pure
    /// function of the lists.
    pub(super) fn listed(&self) -> BTreeSet<Hash> {
        let Some(opened) = &self.opened else {
            return BTreeSet::new();
        };
        let mut counts: BTreeMap<Hash, usize> = BTreeMap::new();
        for (witness, list) in &self.lists {
            if opened.committee.contains_key(witness) {
                for hash in list {
                    *counts.entry(*hash).or_default() += 1;
                }
            }
        }
        counts.retain(|_, count| *count >= opened.needed());
        counts.into_keys().collect()
    }

    /// Whether this peer has judged a quorum's set, and no other set has
    /// gathered a quorum of cards.
    pub(super) fn is_agreed(&self) -> bool {
        let mine = self.judged.as_ref().and_then(|judged| judged.included);
        let (Some(mine), Some(opened)) = (mine, &self.opened) else {
            return false;
        };
        let others = self.cards.values().filter(|card| card.included != mine);
        others.count() < opened.needed()
    }

    /// How many of the committee have listed what they saw.
    pub(super) fn witnesses_in(&self) -> usize {
        self.opened.as_ref().map_or(0, |opened| {
            let listed = |witness: &&PeerId| self.lists.contains_key(witness);
            opened.committee.keys().filter(listed).count()
        })
    }

    /// The name of a set of bodies of this round.
    pub(super) fn included_hash(&self, swarm: SwarmId, entries: &BTreeSet<Hash>) -> Hash {
        let beacon = self.opened.as_ref().map(|opened| opened.beacon);
        let plan = self.plan.as_ref().map(|(_, hash)| *hash);
        let (beacon, plan) = (beacon.unwrap_or_default(), plan.unwrap_or_default());
        included_hash(swarm, self.number, beacon, plan, entries)
    }
}

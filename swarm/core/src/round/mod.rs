//! A round, as a state machine: time and what happened go in, what to do comes
//! out. The shell around it (the node, or the simulator) carries effects out
//! and reports back; it decides nothing.
//!
//! ```text
//! let effects = machine.handle(now_ms, input);   // deterministic, never blocks
//! ```
//!
//! # One round, as the shell sees it
//!
//! | what goes in | what comes out |
//! | --- | --- |
//! | `Start` | `Publish(Hello)`, `SetTimer`; the node listens for peers |
//! | `Announcement`s, then `Tick` | `Publish(Hello)`, `OpenRound { round }`: ask the chain to open the round, or to tell its beacon if it is open |
//! | `RoundOpened` | `Emit(RoundOpened)`, `Emit(StageStarted)`, `Sample { kind: Answer }` |
//! | `Sampled { kind: Answer }` | `Serve` the batch, `Publish(Have)` |
//! | `Announcement(Have)` of a peer | `Fetch` |
//! | `Body` | `Emit(BatchReceived)`; when all are in or at the deadline: `Sample { kind: Critique }` |
//! | `Sampled { kind: Critique }` | `Publish(Commit)`; when all have committed: `Serve`, `Publish(Have)` |
//! | `Body`s of critiques | when all are in: `Sample { kind: Resolve }` |
//! | `Sampled { kind: Resolve }` | `Serve`, `Publish(Have)`; when all are in, a witness does `Publish(Inclusion)` |
//! | `Announcement(Inclusion)`s | when the witnesses have spoken: `Emit(Judged)`, `SignScorecard` (a witness), `Emit(GroupJudged)`, `Train` |
//! | `CardSigned` | `Publish(Attestation)`; where cards are sealed, `Publish(Sealed)` |
//! | `Announcement(Sealed)`s | with enough of them, in a drawn order: `CommitSeals` |
//! | `CardsSealed` | `Publish(Attestation)` |
//! | `Announcement(Attestation)`s | with a quorum, in a drawn order: `Settle` |
//! | `Trained` | `Publish(Checkpoint)`, then the next `OpenRound` |
//! | `Settled` (may come rounds later) | `Emit(RoundEnded)` |
//!
//! A stage with nothing to sample asks for nothing; an empty body says so. At
//! any time: `Fetch` again, `Publish` again, `SetTimer`, `Emit`. `Retire` comes
//! when a round begins whose predecessors' bodies nobody needs any more.
//!
//! # What the shell promises
//! - Announcements were [verified](crate::message::verify), and those that
//!   carry an attestation also against [`Machine::witness`]; what fails goes
//!   in as [`Input::Refused`], to be counted. An attestation for which
//!   `witness` knows nobody is dropped: it is repeated.
//! - Every `Sample` is answered by one `Sampled`, every `Train` by one
//!   `Trained`, in the order asked. Late is fine; the machine does not wait
//!   past its deadline.
//! - One timer: a `SetTimer` replaces the one before. Early or extra `Tick`s do
//!   no harm: each is answered by the time that is left to wait for.
//! - `RoundOpened` goes in for every round the chain opens, asked for or not;
//!   a round that can no longer be opened is answered by the last that was.
//!   `OpenRound` and `Settle` are tried until they succeed or are overtaken.
//! - It ends when [`Machine::is_done`], which is after the last round's
//!   `RoundEnded`, and also when the last round went on without this peer.
//!
//! # What the machine promises
//! - A round always ends, whatever peers and chain do; every round that was
//!   opened here gets one `RoundEnded`.
//! - Equal inputs at equal times give equal effects.
//! - What a round comes to depends on the set of bodies that a quorum of
//!   witnesses listed, not on the order in which anything arrived.
//! - It signs one scorecard a round, and answers each item once.
//!
//! # Where things are
//! `api` is what goes in and out; `join` begins and catches up,
//! `stages` goes from phase to phase, `pace` says when, `planning` what is
//! asked; `receive` takes in what
//! peers say, `sampling` what the policy wrote; `gallery` is what is on show;
//! `judging`, `training` and `closing` are the end of a round.

mod api;
mod closing;
mod gallery;
mod join;
mod judging;
mod pace;
mod planning;
mod receive;
mod sampling;
mod stages;
mod state;
mod training;

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{BeaconSource, Event};
use crate::ids::{Address, PeerId, SwarmId};
use crate::manifest::Pace;
use crate::message::{Announcement, Payload, Phase, Position, WIRE_VERSION};
use crate::refusal::{Outcome, RejectReason};
use crate::roster::Roster;
use planning::Planning;
use state::{Opened, Round, Said};

pub(crate) use gallery::Gallery;
pub(crate) use judging::{Decision, included, judge_bodies, judge_settings};
pub(crate) use sampling::slot_number;
pub(crate) use state::GroupKey;
pub(crate) use training::{Rates, draw, groups, quotas};

pub use api::{Config, Effect, Input, SampleRequest, ScorecardRequest, Settlement, TrainGroup};

/// How many rounds beyond what the chain has opened peers are followed on
/// their word alone, where there is a chain to ask. Offline everyone goes on in
/// step; whoever was away for longer hears of the round from the chain.
const FOLLOWED: u64 = 16;

/// One peer's view of the swarm, and what it does next.
pub struct Machine {
    config: Config,
    id: SwarmId,
    now: u64,
    sequence: u64,
    at: Position,
    last_round: Option<u64>,
    /// The highest round the chain is known to have opened.
    newest: u64,
    expect: usize,
    /// When the present phase began, and when it ends at the latest.
    began: u64,
    deadline: u64,
    roster: Roster,
    rounds: BTreeMap<u64, Round>,
    planning: Planning,
    hello: Said,
    timer: Option<u64>,
    running: bool,
    effects: Vec<Effect>,
}

impl Machine {
    /// A machine that has not started.
    pub fn new(config: Config) -> Self {
        let hello = Payload::Hello {
            address: config.address,
            name: config.name.clone(),
            plea: config.plea.clone(),
            curriculum: 0,
        };
        Self {
            id: config.manifest.id(),
            now: 0,
            sequence: 0,
            at: Position {
                round: 0,
                phase: Phase::Join,
            },
            last_round: None,
            newest: 0,
            expect: 0,
            began: 0,
            deadline: u64::MAX,
            roster: Roster::new(config.manifest.limits.peers),
            rounds: BTreeMap::new(),
            planning: Planning::new(&config.manifest),
            hello: Said::new(hello, Phase::Join, 0),
            timer: None,
            running: false,
            effects: Vec::new(),
            config,
        }
    }

    /// The swarm.
    pub fn swarm(&self) -> SwarmId {
        self.id
    }

    /// Where this peer is.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Whether the last round is behind this peer, and every round it was in
    /// has settled or been given up.
    pub fn is_done(&self) -> bool {
        let closing = |round: &Round| round.closing.until_ms.is_some() && !round.ended;
        self.at.phase == Phase::Rest
            && self.deadline == u64::MAX
            && !self.rounds.values().any(closing)
    }

    /// Who else is here.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The address whose signature makes a peer's attestation of a round
    /// good; `None` if the peer is no witness of it, as far as is known here.
    pub fn witness(&self, round: u64, peer: PeerId) -> Option<Address> {
        let opened = self.rounds.get(&round)?.opened.as_ref()?;
        opened.committee.get(&peer).copied()
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Vec<Effect> {
        // A clock that is set back stands still until it has caught up.
        self.now = self.now.max(now_ms);
        match input {
            Input::Start {
                first_round,
                last_round,
                expect,
            } => self.start(first_round, last_round, expect.into()),
            _ if !self.running => {}
            // The timer is spent; what is left to wait for is asked for again.
            Input::Tick => self.timer = None,
            Input::Announcement(announcement) => {
                let from = announcement.peer;
                let outcome = self.receive(announcement);
                self.count(Some(from), outcome);
            }
            Input::Lost { peer } => self.lost(peer),
            Input::Refused { from, reason } => self.count(from, reason.into()),
            Input::Body { hash, bytes } => self.receive_body(hash, &bytes),
            Input::FetchFailed { hash } => self.fetch_failed(hash),
            Input::Amendment(amendment) => self.amend(*amendment),
            Input::RoundOpened {
                round,
                beacon,
                committee,
                settled,
            } => {
                let opened = Opened {
                    beacon,
                    source: BeaconSource::Chain,
                    seats: committee.len(),
                    committee: committee.into_iter().collect(),
                    settled: Some(settled),
                };
                self.round_opened(round, opened);
            }
            Input::Sampled {
                round,
                kind,
                groups,
            } => self.sampled(round, kind, groups),
            Input::CardSigned {
                round,
                included,
                signature,
                seal,
            } => self.card_signed(round, included, signature, seal),
            Input::CardsSealed { round, witnesses } => self.cards_sealed(round, witnesses),
            Input::Trained { round, checkpoint } => self.trained(round, checkpoint),
            Input::Settled { round, tx } => {
                if let Some(round) = self.rounds.get_mut(&round) {
                    round.closing.tx = Some(tx);
                }
            }
            Input::Stop => {
                self.publish(self.at.round, Payload::Leave);
                self.running = false;
            }
        }
        if self.running {
            self.advance();
            self.fetch();
            self.close_rounds();
            self.repeat();
            self.set_timer();
        }
        std::mem::take(&mut self.effects)
    }

    fn start(&mut self, first_round: u64, last_round: Option<u64>, expect: usize) {
        self.running = true;
        self.last_round = last_round;
        self.expect = expect;
        self.newest = first_round.saturating_sub(1);
        self.sequence = self.now;
        self.join(first_round, self.config.manifest.stages.join_ms);
    }

    fn round_opened(&mut self, number: u64, opened: Opened) {
        self.newest = self.newest.max(number);
        if number < self.at.round {
            return;
        }
        let round = self.round_mut(number);
        match &round.opened {
            None => round.opened = Some(opened),
            // The chain is back before anything depends on the offline beacon.
            Some(before) if before.source == BeaconSource::Offline => {
                let answering = Position {
                    round: number,
                    phase: Phase::Answer,
                };
                if self.at <= answering {
                    let before = self.round_mut(number);
                    let claims = std::mem::take(&mut before.claims);
                    let plans = std::mem::take(&mut before.plans);
                    let me = self.config.me;
                    let mut round = Round::new(number);
                    round.opened = Some(opened);
                    round.plans = plans;
                    round.claims = claims;
                    round.claims.retain(|(peer, _), _| *peer != me);
                    self.rounds.insert(number, round);
                    if self.at == answering {
                        self.at.phase = Phase::Open;
                    }
                }
            }
            Some(_) => {}
        }
        self.notice_opened(number);
    }

    fn clocked(&self) -> bool {
        matches!(self.config.manifest.pace, Pace::Clock { .. })
    }

    fn round_mut(&mut self, number: u64) -> &mut Round {
        self.rounds
            .entry(number)
            .or_insert_with(|| Round::new(number))
    }

    /// The round this peer is in; between rounds, the one it comes from.
    fn round(&self) -> Option<&Round> {
        self.rounds.get(&self.at.round)
    }

    fn emit(&mut self, event: Event) {
        self.effects.push(Effect::Emit(event));
    }

    fn publish(&mut self, round: u64, payload: Payload) {
        // Larger than any number used before a restart, as the clock goes on.
        self.sequence = self.now.max(self.sequence + 1);
        self.effects.push(Effect::Publish(Announcement {
            version: WIRE_VERSION,
            swarm: self.id,
            round,
            peer: self.config.me,
            sequence: self.sequence,
            at: self.at,
            payload,
        }));
    }

    /// Says something about a round, and goes on saying it while `phase` lasts.
    fn say(&mut self, number: u64, phase: Phase, payload: Payload) {
        self.publish(number, payload.clone());
        let said = Said::new(payload, phase, self.now);
        self.round_mut(number).said.push(said);
    }

    fn say_hello(&mut self) {
        self.hello.repeated(self.now);
        let newest = self.planning.newest();
        if let Payload::Hello { curriculum, .. } = &mut self.hello.payload {
            *curriculum = newest;
        }
        self.publish(self.at.round, self.hello.payload.clone());
    }

    /// Whether a Hello is all there is to say while waiting: it tells those
    /// who are ahead what this peer lacks.
    fn only_hello(&self) -> bool {
        let at = self.at;
        let waiting = match at.phase {
            // Those who are ahead say again by what they ask.
            Phase::Open => self.planning.is_waiting(),
            Phase::Train | Phase::Rest => false,
            _ => true,
        };
        let silent = |round: &Round| !round.said.iter().any(|said| said.phase == at.phase);
        waiting && self.round().is_none_or(silent)
    }

    /// Says again what has gone unanswered for long enough.
    fn repeat(&mut self) {
        let (now, at) = (self.now, self.at);
        let repeat_ms = self.config.manifest.stages.repeat_ms;
        if self.only_hello() && self.hello.next_ms(repeat_ms) <= now {
            self.say_hello();
        }
        let mut again = Vec::new();
        for (number, round) in &mut self.rounds {
            for index in 0..round.said.len() {
                if waits(round, &round.said[index], at) {
                    let said = &mut round.said[index];
                    if said.next_ms(repeat_ms) <= now {
                        said.repeated(now);
                        again.push((*number, said.payload.clone()));
                    }
                }
            }
        }
        for (number, payload) in again {
            self.publish(number, payload);
        }
    }

    /// Says again what a peer that is behind may lack: everything from its
    /// phase on, but nothing twice within the shortest interval.
    fn help(&mut self, behind: Position) {
        let (now, at) = (self.now, self.at);
        let repeat_ms = self.config.manifest.stages.repeat_ms;
        if behind.phase == Phase::Join {
            if at.phase != Phase::Join && self.hello.last_ms + repeat_ms <= now {
                self.say_hello();
            }
            return;
        }
        if behind >= at || behind.round.saturating_add(1) < at.round {
            return;
        }
        let Some(round) = self.rounds.get_mut(&behind.round) else {
            return;
        };
        let mut again = Vec::new();
        for said in &mut round.said {
            if said.phase >= behind.phase && said.last_ms + repeat_ms <= now {
                said.last_ms = now;
                again.push(said.payload.clone());
            }
        }
        for payload in again {
            self.publish(behind.round, payload);
        }
    }

    /// Counts a refusal and shows it.
    fn count(&mut self, from: Option<PeerId>, outcome: Outcome) {
        if let Outcome::Rejected(reason) = outcome {
            self.refuse(from, &reason);
        }
    }

    fn refuse(&mut self, from: Option<PeerId>, reason: &RejectReason) {
        let count = match reason {
            RejectReason::Flood(count) | RejectReason::Crowd(count) => *count,
            _ => 1,
        };
        if self.roster.refuse(from.as_ref(), reason.key(), count) {
            self.emit(Event::Rejected {
                from,
                reason: reason.key().to_owned(),
                detail: reason.to_string(),
            });
        }
    }

    fn set_timer(&mut self) {
        let repeat_ms = self.config.manifest.stages.repeat_ms;
        let mut next = self.deadline;
        if self.only_hello() {
            next = next.min(self.hello.next_ms(repeat_ms));
        }
        for round in self.rounds.values() {
            for said in &round.said {
                if waits(round, said, self.at) {
                    next = next.min(said.next_ms(repeat_ms));
                }
            }
            for fetching in round.fetching.values() {
                next = next.min(fetching.retry_ms.unwrap_or(u64::MAX));
            }
            next = next.min(self.closing_wakes_at(round));
        }
        // What is due was done above; anything left can wait a moment.
        let next = next.max(self.now + 1);
        if next != u64::MAX && self.timer != Some(next) {
            self.timer = Some(next);
            self.effects.push(Effect::SetTimer { at_ms: next });
        }
    }

    /// Those that are waited for in the present round: they were here in the
    /// last one, or have said that they begin with this one. Whoever is ahead
    /// has been here too, and repeats what we lack when it hears us.
    fn participants(&self) -> BTreeSet<PeerId> {
        let number = self.at.round;
        let clocked = self.clocked();
        self.roster
            .present()
            .filter(|(_, peer)| !peer.is_overdrawn())
            .filter(|(_, peer)| match peer.at.phase {
                Phase::Join => peer.at.round == number,
                Phase::Rest if !clocked => peer.at.round >= number && peer.since <= number,
                _ => peer.at.round.saturating_add(1) >= number && peer.since <= number,
            })
            .map(|(id, _)| id)
            .collect()
    }
}

/// Whether something said is still waited for by those it was said to.
fn waits(round: &Round, said: &Said, at: Position) -> bool {
    match said.payload {
        // What settles a round is said until it has settled.
        Payload::Attestation(_) | Payload::Inclusion { .. } => !round.ended,
        Payload::Sealed(_) => !round.ended && round.closing.sealed.is_none(),
        _ => round.number == at.round && said.phase == at.phase,
    }
}

#[cfg(test)]
mod tests;

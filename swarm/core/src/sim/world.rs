//! The event loop: effects of machines become later inputs of others.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use tasks::{Draw, EnvId, Registry, Seed};

use super::chain::{Ledger, sign};
use super::policy::AnswerBook;
use super::{Fault, Lie, Report, Scenario};
use crate::event::Event;
use crate::ids::{Address, Beacon, Hash, PeerId};
use crate::message::{Announcement, BodyKind, Payload, Seal};
use crate::round::{Config, Effect, Input, Machine, SampleRequest, Settlement, TrainGroup};
use crate::transcript::Transcript;

/// Nothing takes longer, unless something never ends.
const LONGEST_MS: u64 = 3_600_000;
/// How long until something is sent to the chain again.
const OUTBOX_MS: u64 = 300;
/// How long a fetch from nobody takes to fail.
const FETCH_TIMEOUT_MS: u64 = 800;

/// What happens to whom.
enum Happening {
    Start,
    Crash,
    Input(Input),
    Tick,
    /// An environment that was asked for, if it can be had by then.
    Obtain(EnvId),
    Open(u64),
    Settle(Settlement),
    /// The transport gives up this peer's process of that life.
    Lost(usize, u32),
}

pub(super) struct Node {
    machine: Option<Machine>,
    /// Counts lives: what was sent to an earlier one is lost.
    life: u32,
    timer: Option<u64>,
    pub(super) store: BTreeMap<Hash, Vec<u8>>,
    /// The last round it opened, which is all a restart knows.
    opened: u64,
    beacons: BTreeMap<u64, Beacon>,
    pub(super) lie: Option<Lie>,
    /// When its policy is free.
    busy_until: u64,
}

pub(super) struct World<'a> {
    scenario: &'a Scenario,
    registry: Registry,
    ids: Vec<PeerId>,
    pub(super) addresses: Vec<Address>,
    pub(super) nodes: Vec<Node>,
    ledger: Ledger,
    book: AnswerBook,
    dice: Draw,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize, u32)>>,
    happenings: BTreeMap<u64, Happening>,
    events: Vec<Vec<(u64, Event)>>,
    trained: Vec<Vec<(u64, Vec<TrainGroup>)>>,
    transcripts: BTreeMap<u64, Transcript>,
    messages: u64,
    /// Starts that are still to come.
    starting: usize,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> Self {
        let name = |index: usize, what: &[u8]| {
            Seed::derive(&[
                b"sim",
                what,
                &scenario.seed.to_le_bytes(),
                &index.to_le_bytes(),
            ])
            .0
        };
        let ids: Vec<PeerId> = (0..scenario.peers)
            .map(|i| PeerId(name(i, b"id")))
            .collect();
        let address = |index| {
            let mut bytes = [0; 20];
            bytes.copy_from_slice(&name(index, b"address")[..20]);
            Address(bytes)
        };
        let mut world = Self {
            scenario,
            registry: scenario.registry.clone(),
            addresses: (0..scenario.peers).map(address).collect(),
            nodes: Vec::new(),
            ledger: Ledger::new(scenario.seed),
            book: AnswerBook::default(),
            dice: Seed::derive(&[b"sim dice", &scenario.seed.to_le_bytes()]).draw(),
            now: 1_000_000,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            events: vec![Vec::new(); scenario.peers],
            trained: vec![Vec::new(); scenario.peers],
            transcripts: BTreeMap::new(),
            messages: 0,
            starting: 0,
            ids,
        };
        for index in 0..scenario.peers {
            let lie = scenario.faults.iter().find_map(|fault| match fault {
                Fault::Liar { peer, lie } if *peer == index => Some(*lie),
                _ => None,
            });
            world.nodes.push(Node {
                machine: None,
                life: 0,
                timer: None,
                store: BTreeMap::new(),
                opened: 0,
                beacons: BTreeMap::new(),
                lie,
                busy_until: 0,
            });
        }
        world.plan();
        world
    }

    /// Puts starts and crashes on the calendar.
    fn plan(&mut self) {
        let begin = self.now;
        let mut planned: BTreeMap<usize, (bool, bool)> = BTreeMap::new();
        for fault in &self.scenario.faults {
            match fault {
                Fault::Crash { peer, at_ms } => {
                    planned.entry(*peer).or_default().0 = true;
                    self.push(begin + at_ms, *peer, Happening::Crash);
                }
                Fault::Start { peer, at_ms } => {
                    planned.entry(*peer).or_default().1 = true;
                    self.push(begin + at_ms, *peer, Happening::Start);
                }
                _ => {}
            }
        }
        for (at_ms, peer, amendment) in &self.scenario.amendments {
            let input = Input::Amendment(Box::new(amendment.clone()));
            self.push(begin + at_ms, *peer, Happening::Input(input));
        }
        for peer in 0..self.scenario.peers {
            let (crashes, starts) = planned.get(&peer).copied().unwrap_or_default();
            if crashes || !starts {
                let at = begin + self.dice.below(200);
                self.push(at, peer, Happening::Start);
            }
        }
    }

    pub(super) fn run(mut self) -> Report {
        let begin = self.now;
        let mut finished = false;
        while let Some(Reverse((at, order, peer, life))) = self.queue.pop() {
            self.now = at;
            let happening = self.happenings.remove(&order).expect("each is queued once");
            self.happen(peer, life, happening);
            if self.now > begin + LONGEST_MS {
                break;
            }
            let starting = self
                .happenings
                .values()
                .any(|h| matches!(h, Happening::Start));
            if !starting && self.all_done() {
                finished = true;
                break;
            }
        }
        Report {
            finished,
            ended_ms: self.now - begin,
            events: self.events,
            trained: self.trained,
            transcripts: self.transcripts,
            settled: self.ledger.settled,
            ids: self.ids,
            addresses: self.addresses,
            messages: self.messages,
        }
    }

    fn all_done(&self) -> bool {
        let mut machines = self.nodes.iter().filter_map(|node| node.machine.as_ref());
        machines.all(Machine::is_done)
    }

    fn push(&mut self, at: u64, peer: usize, happening: Happening) {
        let life = self.nodes.get(peer).map_or(0, |node| node.life);
        self.order += 1;
        self.starting += usize::from(matches!(happening, Happening::Start));
        self.queue.push(Reverse((at, self.order, peer, life)));
        self.happenings.insert(self.order, happening);
    }

    fn push_input(&mut self, after_ms: u64, peer: usize, input: Input) {
        self.push(self.now + after_ms, peer, Happening::Input(input));
    }

    fn happen(&mut self, peer: usize, life: u32, happening: Happening) {
        match happening {
            Happening::Start => {
                self.starting -= 1;
                self.start(peer);
            }
            Happening::Crash => {
                let node = &mut self.nodes[peer];
                node.machine = None;
                node.life += 1;
                node.store.clear();
                let life = node.life;
                if let Some(notice_ms) = self.scenario.notice_ms {
                    for index in (0..self.nodes.len()).filter(|index| *index != peer) {
                        self.push(self.now + notice_ms, index, Happening::Lost(peer, life));
                    }
                }
            }
            // What the chain does not take is sent again, as an outbox does.
            Happening::Open(_) | Happening::Settle(_) if self.chain_down(peer) => {
                if self.nodes[peer].life == life {
                    self.push(self.now + OUTBOX_MS, peer, happening);
                }
            }
            Happening::Open(round) => {
                let opened = self.ledger.open(round);
                for index in 0..self.nodes.len() {
                    if !self.chain_down(index) {
                        let after = 20 + self.dice.below(60);
                        let input = Input::RoundOpened {
                            round: opened.round,
                            beacon: opened.beacon,
                            committee: opened.committee.clone(),
                            settled: opened.settled.clone(),
                        };
                        self.push_input(after, index, input);
                    }
                }
            }
            Happening::Settle(settlement) => {
                if self.ledger.settle(&settlement).is_ok() {
                    let round = settlement.round;
                    let tx = self.ledger.settled[&round].tx;
                    for index in 0..self.nodes.len() {
                        if !self.chain_down(index) {
                            let after = 20 + self.dice.below(60);
                            self.push_input(after, index, Input::Settled { round, tx });
                        }
                    }
                }
            }
            // Meant for a process that is no more.
            _ if self.nodes[peer].life != life => {}
            Happening::Tick => {
                if self.nodes[peer].timer == Some(self.now) {
                    self.feed(peer, Input::Tick);
                }
            }
            Happening::Input(input) => self.feed(peer, input),
            Happening::Obtain(env) => {
                let environment = self
                    .registry
                    .shared(&env)
                    .filter(|_| !self.lacks(peer, env));
                if let Some(machine) = self.nodes[peer].machine.as_mut() {
                    match environment {
                        Some(environment) => machine.add_environment(environment),
                        None => machine.environment_failed(env),
                    }
                }
            }
            Happening::Lost(gone, life) => {
                // One that is back has new connections.
                let node = &self.nodes[gone];
                if node.life == life && node.machine.is_none() {
                    let lost = self.ids[gone];
                    self.feed(peer, Input::Lost { peer: lost });
                }
            }
        }
    }

    fn start(&mut self, peer: usize) {
        let scenario = self.scenario;
        let ids: BTreeSet<PeerId> = self.ids.iter().copied().collect();
        self.ledger.check_in(self.ids[peer], self.addresses[peer]);
        let known = self.registry.ids().filter(|env| !self.lacks(peer, *env));
        let known = known.filter_map(|env| self.registry.shared(&env)).collect();
        let registry = Registry::new(known).expect("fewer of what is a registry");
        let node = &mut self.nodes[peer];
        if node.machine.is_some() {
            return;
        }
        node.machine = Some(Machine::new(Config {
            me: self.ids[peer],
            address: self.addresses[peer],
            name: format!("peer {peer}"),
            plea: None,
            secret: [u8::try_from(peer).unwrap_or(0); 32],
            local: ids,
            manifest: scenario.manifest.clone(),
            registry,
        }));
        node.busy_until = self.now;
        let first_round = (node.opened + 1).max(self.ledger.next_round());
        let expect = u16::try_from(scenario.peers - 1).unwrap_or(u16::MAX);
        self.feed(
            peer,
            Input::Start {
                first_round,
                last_round: Some(scenario.rounds),
                expect,
            },
        );
    }

    fn feed(&mut self, peer: usize, input: Input) {
        let Some(machine) = self.nodes[peer].machine.as_mut() else {
            return;
        };
        if let Input::Announcement(Announcement {
            round,
            peer: from,
            payload: Payload::Attestation(card),
            ..
        }) = &input
        {
            // As the shell does: a card counts only by its witness's hand.
            match machine.witness(*round, *from) {
                Some(witness) if card.signature == sign(witness, card.included, &card.scores) => {}
                Some(_) | None => return,
            }
        }
        for effect in machine.handle(self.now, input) {
            self.act(peer, effect);
        }
    }

    fn act(&mut self, peer: usize, effect: Effect) {
        match effect {
            Effect::OpenRound { round } => {
                self.nodes[peer].opened = round;
                let after = 20 + self.dice.below(60);
                self.push(self.now + after, peer, Happening::Open(round));
            }
            Effect::Publish(announcement) => self.gossip(peer, announcement),
            Effect::Serve { hash, bytes } => {
                let bytes = match self.nodes[peer].lie {
                    Some(Lie::Garbage) => vec![7; bytes.len()],
                    _ => bytes,
                };
                self.nodes[peer].store.insert(hash, bytes);
            }
            Effect::Fetch { hash, bytes, from } => self.fetch(peer, hash, bytes, &from),
            Effect::Obtain { env, .. } => {
                let after = self.latency() + self.latency();
                self.push(self.now + after, peer, Happening::Obtain(env));
            }
            Effect::Record { round, transcript } => {
                self.transcripts.entry(round).or_insert(transcript);
            }
            Effect::Retire { .. } | Effect::Sponsor { .. } | Effect::Keep { .. } => {}
            Effect::Sample {
                round,
                kind,
                requests,
                ..
            } => self.sample(peer, round, kind, &requests),
            Effect::SignScorecard(request) => {
                let signature = sign(self.addresses[peer], request.included, &request.scores);
                let input = Input::CardSigned {
                    round: request.round,
                    included: request.included,
                    signature,
                    seal: self.scenario.manifest.seals_cards().then(|| Seal {
                        seal: Hash::of(&signature.0),
                        signature,
                    }),
                };
                self.push_input(1, peer, input);
            }
            Effect::CommitSeals { round, seals } => {
                let witnesses = self.ledger.seal(round, &seals);
                for index in 0..self.nodes.len() {
                    let (after, witnesses) = (20 + self.dice.below(60), witnesses.clone());
                    self.push_input(after, index, Input::CardsSealed { round, witnesses });
                }
            }
            Effect::Settle(settlement) => {
                let after = 20 + self.dice.below(60);
                self.push(self.now + after, peer, Happening::Settle(settlement));
            }
            Effect::Train { round, groups, .. } => {
                self.trained[peer].push((round, groups));
                let after = self.work(peer);
                let checkpoint = Some((Hash::of(&round.to_le_bytes()), round));
                self.push_input(after, peer, Input::Trained { round, checkpoint });
            }
            Effect::SetTimer { at_ms } => {
                self.nodes[peer].timer = Some(at_ms);
                self.push(at_ms.max(self.now), peer, Happening::Tick);
            }
            Effect::Emit(event) => {
                if let Event::RoundOpened { round, beacon, .. } = &event {
                    self.nodes[peer].opened = *round;
                    self.nodes[peer].beacons.insert(*round, *beacon);
                }
                self.events[peer].push((self.now, event));
            }
        }
    }

    /// How long until the policy has done one more thing.
    fn work(&mut self, peer: usize) -> u64 {
        let (least, most) = self.scenario.work_ms;
        let takes = least + self.dice.below(most - least + 1);
        let node = &mut self.nodes[peer];
        node.busy_until = node.busy_until.max(self.now) + takes;
        node.busy_until - self.now
    }

    fn sample(&mut self, peer: usize, round: u64, kind: BodyKind, requests: &[SampleRequest]) {
        let beacon = self.nodes[peer].beacons[&round];
        let Some(machine) = &self.nodes[peer].machine else {
            return;
        };
        let rules = machine.rules(round);
        self.book.turn_to(rules, &self.registry, beacon, &self.ids);
        let (skill, lie) = (&self.scenario.skill, self.nodes[peer].lie);
        let groups = requests
            .iter()
            .map(|request| self.book.sample(&self.registry, kind, request, skill, lie))
            .collect();
        let after = self.work(peer);
        self.push_input(
            after,
            peer,
            Input::Sampled {
                round,
                kind,
                groups,
            },
        );
    }

    fn gossip(&mut self, peer: usize, announcement: Announcement) {
        self.messages += 1;
        let link = self.scenario.link;
        for index in 0..self.nodes.len() {
            if index == peer || self.apart(peer, index) {
                continue;
            }
            let Some(heard) = self.told(peer, index, announcement.clone()) else {
                continue;
            };
            let copies = 1 + u64::from(self.dice.percent(link.twice));
            for _ in 0..copies {
                if !self.dice.percent(link.loss) {
                    let after = self.latency();
                    self.push_input(after, index, Input::Announcement(heard.clone()));
                }
            }
        }
    }

    fn fetch(&mut self, peer: usize, hash: Hash, size: u32, from: &[PeerId]) {
        let there = |index: &usize| {
            let node = &self.nodes[*index];
            node.machine.is_some()
                && !self.apart(peer, *index)
                && from.contains(&self.ids[*index])
                && node
                    .store
                    .get(&hash)
                    .is_some_and(|bytes| bytes.len() <= size as usize)
        };
        let provider = (0..self.nodes.len()).find(there);
        let lost = self.dice.percent(self.scenario.link.loss);
        match provider {
            Some(provider) if !lost => {
                let bytes = self.nodes[provider].store[&hash].clone();
                let garbage = self.nodes[provider].lie == Some(Lie::Garbage);
                if !garbage {
                    // Whoever has it can give it.
                    self.nodes[peer].store.insert(hash, bytes.clone());
                }
                let after = self.latency() + self.latency();
                self.push_input(after, peer, Input::Body { hash, bytes });
            }
            _ => self.push_input(FETCH_TIMEOUT_MS, peer, Input::FetchFailed { hash }),
        }
    }

    fn latency(&mut self) -> u64 {
        let (least, most) = self.scenario.link.latency_ms;
        least + self.dice.below(most - least + 1)
    }

    fn since_begin(&self) -> u64 {
        self.now - 1_000_000
    }

    fn chain_down(&self, peer: usize) -> bool {
        let now = self.since_begin();
        self.scenario.faults.iter().any(|fault| {
            matches!(fault, Fault::ChainDown { from_ms, until_ms, peers }
                if (*from_ms..*until_ms).contains(&now)
                    && (peers.is_empty() || peers.contains(&peer)))
        })
    }

    fn lacks(&self, peer: usize, env: EnvId) -> bool {
        let now = self.since_begin();
        self.scenario.faults.iter().any(|fault| {
            matches!(fault, Fault::Lacks { peer: of, env: lacked, until_ms }
                if (*of, *lacked) == (peer, env) && now < *until_ms)
        })
    }

    fn apart(&self, one: usize, other: usize) -> bool {
        let now = self.since_begin();
        self.scenario.faults.iter().any(|fault| {
            matches!(fault, Fault::Partition { from_ms, until_ms, group }
                if (*from_ms..*until_ms).contains(&now)
                    && group.contains(&one) != group.contains(&other))
        })
    }
}

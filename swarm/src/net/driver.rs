//! The task that owns the gossip topic: it frames and unframes messages, keeps
//! the budgets, runs the watchdog and never waits for the node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use futures_lite::StreamExt;
use iroh::endpoint::Endpoint;
use iroh::{EndpointAddr, EndpointId};
use iroh_gossip::api::{Event, GossipReceiver, GossipSender, Message};
use rand::seq::IndexedRandom;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::address::{AddressBook, PeerAddr};
use super::authors::{AuthorOf, Authors};
use super::bodies::Bodies;
use super::budget::{Account, Budget};
use super::endpoint::own_address;
use super::find::{Finder, Finds, Nearby};
use super::limits::{MAX_BUDGETS, MAX_NEARBY_DIALS, NEARBY_NEIGHBOURS, REJOIN_FANOUT, TICK};
use super::links::{Registry, Watched};
use super::presence::{self, Schedule};
use super::watchdog::{Action, Watchdog};
use super::{GOSSIP_ALPN, NetEvent, Reach};

/// Kind and nonce, before the payload.
pub(super) const FRAME_HEADER: usize = 9;

const KIND_MESSAGE: u8 = 0;
pub(super) const KIND_ASK: u8 = 1;
const KIND_ANSWER: u8 = 2;
const KIND_HERE: u8 = 3;

/// What travels in a gossip message. The nonce makes each frame unique: gossip
/// ignores a message whose bytes it has seen, and an announcement repeated for
/// a latecomer must pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message(&'a [u8]),
    Ask(u64),
    Answer(u64),
    Here(&'a [u8]),
}

impl<'a> Frame<'a> {
    pub(super) fn decode(bytes: &'a [u8], max_message: usize) -> Result<Self, &'static str> {
        let Some((header, payload)) = bytes.split_at_checked(FRAME_HEADER) else {
            return Err("short frame");
        };
        let nonce = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        match header[0] {
            KIND_MESSAGE if payload.len() > max_message => Err("oversize"),
            KIND_MESSAGE => Ok(Frame::Message(payload)),
            KIND_ASK if payload.is_empty() => {
                nonce(&header[1..]).map(Frame::Ask).ok_or("bad frame")
            }
            KIND_HERE => Ok(Frame::Here(payload)),
            KIND_ANSWER => nonce(payload).map(Frame::Answer).ok_or("bad frame"),
            _ => Err("unknown frame"),
        }
    }
}

pub(super) fn frame(kind: u8, nonce: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_HEADER + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&nonce.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The target of trace events by which announcements can be timed: each frame's
/// nonce, at its author and at everyone who hears it.
pub const ANNOUNCEMENTS: &str = "murmuration::announcements";

fn trace(what: &'static str, frame: &[u8]) {
    if let [KIND_MESSAGE, nonce @ ..] = frame
        && let Some(nonce) = nonce.first_chunk()
    {
        let nonce = u64::from_le_bytes(*nonce);
        tracing::trace!(target: ANNOUNCEMENTS, nonce, what);
    }
}

/// What the handle asks of the driver.
#[derive(Debug)]
pub(super) enum Command {
    Broadcast(Vec<u8>),
    Join(Vec<EndpointId>),
    Rejoin,
}

/// The way to the node: bounded, never waited for. What does not fit is
/// counted, and said as soon as there is room.
#[derive(Debug)]
pub(super) struct EventSink {
    sender: mpsc::Sender<NetEvent>,
    missed: u64,
}

impl EventSink {
    pub(super) fn new(sender: mpsc::Sender<NetEvent>) -> Self {
        Self { sender, missed: 0 }
    }

    pub(super) fn finder_failed(&mut self, finder: Finder, why: String) {
        let finder = finder.name();
        self.send(NetEvent::FinderFailed { finder, why });
    }

    fn send(&mut self, event: NetEvent) {
        if self.missed > 0 {
            let lagged = NetEvent::Lagged {
                missed: self.missed,
            };
            match self.sender.try_send(lagged) {
                Ok(()) => self.missed = 0,
                Err(_) => {
                    self.missed += 1;
                    return;
                }
            }
        }
        if self.sender.try_send(event).is_err() {
            self.missed += 1;
        }
    }
}

/// The neighbours of the moment, shared with the handle.
pub(super) type Neighbours = Arc<RwLock<BTreeSet<EndpointId>>>;

pub(super) struct Driver {
    pub(super) endpoint: Endpoint,
    pub(super) sender: GossipSender,
    pub(super) receiver: GossipReceiver,
    pub(super) book: Arc<AddressBook>,
    pub(super) registry: Arc<Registry>,
    pub(super) connections: mpsc::Receiver<Watched>,
    /// Connections and whether they ended in silence.
    pub(super) watched: JoinSet<(EndpointId, bool)>,
    pub(super) bodies: Arc<Bodies>,
    pub(super) neighbours: Neighbours,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: EventSink,
    pub(super) finds: Arc<Finds>,
    pub(super) found: mpsc::Receiver<(EndpointId, &'static str)>,
    pub(super) nearby: Nearby,
    /// Peers that showed up on the LAN and were dialled.
    pub(super) dialled_nearby: usize,
    pub(super) watchdog: Watchdog,
    pub(super) presence: Schedule,
    pub(super) topic: [u8; 32],
    pub(super) reach: Reach,
    pub(super) budget: Budget,
    pub(super) accounts: BTreeMap<EndpointId, Account>,
    pub(super) author_of: Option<AuthorOf>,
    pub(super) authors: Authors,
    pub(super) max_message: usize,
    pub(super) cancel: CancellationToken,
}

impl Driver {
    /// Runs until it is cancelled; leaves the topic by ending. Should gossip
    /// end first, the node is told once and the events stay open: a channel
    /// that closes by itself would be taken for a shutdown.
    pub(super) async fn run(mut self) {
        let mut ended = false;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                Some(command) = self.commands.recv() => self.obey(command).await,
                event = self.receiver.next(), if !ended => match event {
                    Some(Ok(event)) => self.hear(event).await,
                    Some(Err(error)) => {
                        ended = true;
                        self.events.send(NetEvent::Ended(error.to_string()));
                    }
                    None => {
                        ended = true;
                        self.events.send(NetEvent::Ended("gossip stopped".into()));
                    }
                },
                Some((peer, silent)) = self.connections.recv() => {
                    self.watched.spawn(async move { (peer, silent.await) });
                }
                Some(ended) = self.watched.join_next() => {
                    if let Ok((peer, true)) = ended {
                        self.fell_silent(peer);
                    }
                }
                Some((peer, by)) = self.found.recv() => {
                    let peer = *peer.as_bytes();
                    self.events.send(NetEvent::Found { peer, by });
                }
                peer = self.nearby.next() => self.showed_up(peer).await,
                _ = tick.tick() => self.tick().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Broadcast(payload) => {
                self.say(frame(KIND_MESSAGE, rand::random(), &payload))
                    .await;
            }
            Command::Join(peers) => self.join(peers).await,
            Command::Rejoin => self.act(Action::Rejoin).await,
        }
    }

    async fn hear(&mut self, event: Event) {
        match event {
            Event::NeighborUp(peer) => self.neighbour_up(peer).await,
            Event::NeighborDown(peer) => {
                self.set_neighbours(|set| set.remove(&peer));
                self.events.send(NetEvent::NeighbourDown(*peer.as_bytes()));
            }
            Event::Received(message) => self.receive(message),
            Event::Lagged => self.events.send(NetEvent::Lagged { missed: 1 }),
        }
    }

    /// A peer of this swarm on the LAN, it says. Anyone there can say so, so only
    /// some are dialled; the rest are remembered, and tried when we are alone.
    async fn showed_up(&mut self, addr: EndpointAddr) {
        let id = addr.id;
        self.finds.note(id, Finder::Mdns.name());
        self.book.learn(addr);
        let neighbours: Vec<EndpointId> = self.receiver.neighbors().collect();
        let wanted = neighbours.len() < NEARBY_NEIGHBOURS && !neighbours.contains(&id);
        if wanted && self.dialled_nearby < MAX_NEARBY_DIALS {
            self.dialled_nearby += 1;
            self.join(vec![id]).await;
        }
    }

    /// A connection ended because nothing came any more. If it was the last one
    /// with that peer, the peer or the way to it is gone.
    fn fell_silent(&mut self, peer: EndpointId) {
        if !self.registry.connected(&peer) {
            self.events.send(NetEvent::Lost(*peer.as_bytes()));
        }
    }

    async fn neighbour_up(&mut self, peer: EndpointId) {
        self.set_neighbours(|set| set.insert(peer));
        self.events.send(NetEvent::NeighbourUp(*peer.as_bytes()));
        self.presence.arrived(Instant::now());
        // Whoever dialled us is only known to the transport: write down where
        // it is, to find it again.
        if let Some(info) = self.endpoint.remote_info(peer).await {
            let addrs = info.into_addrs().map(|addr| addr.addr().clone());
            self.book.learn(EndpointAddr::from_parts(peer, addrs));
        }
    }

    fn receive(&mut self, message: Message) {
        let now = Instant::now();
        let from = message.delivered_from;
        let budget = self.budget;
        let account = self
            .accounts
            .entry(from)
            .or_insert_with(|| Account::new(budget, now));
        if !account.admit(message.content.len(), now) {
            return;
        }
        trace("heard", &message.content);
        self.watchdog.heard(now);
        let frame = Frame::decode(&message.content, self.max_message);
        if let Some(author_of) = self.author_of {
            let within = match &frame {
                Ok(Frame::Message(payload)) => {
                    let author = author_of(payload, &self.topic);
                    self.authors.admit(author, payload.len(), now)
                }
                _ => self.authors.admit_signal(message.content.len(), now),
            };
            if !within {
                account.refuse();
                return;
            }
        }
        let from = *from.as_bytes();
        match frame {
            Ok(Frame::Message(payload)) => self.events.send(NetEvent::Message {
                from_neighbour: from,
                bytes: payload.to_vec(),
            }),
            Ok(Frame::Ask(nonce)) => self.watchdog.question(nonce, rand::random(), now),
            Ok(Frame::Answer(nonce)) => self.watchdog.answered(nonce),
            Ok(Frame::Here(sealed)) => match presence::open(sealed, &self.topic) {
                Ok(addr) => self.met(&addr, now),
                Err(reason) => self.refuse(from, reason),
            },
            Err(reason) => self.refuse(from, reason),
        }
    }

    /// A peer said where it is.
    fn met(&mut self, addr: &PeerAddr, now: Instant) {
        let Ok(known) = addr.to_iroh() else {
            return;
        };
        self.finds.note(known.id, "swarm");
        if self.book.learn(known) {
            self.presence.newcomer(rand::random(), now);
            self.events.send(NetEvent::Met(addr.id));
        }
    }

    fn refuse(&mut self, from_neighbour: [u8; 32], reason: &'static str) {
        self.events.send(NetEvent::Refused {
            from_neighbour,
            reason,
        });
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        self.registry.refresh();
        self.bodies.sweep();
        for (peer, count) in self.registry.take_turned_away() {
            let peer = *peer.as_bytes();
            self.events.send(NetEvent::TurnedAway { peer, count });
        }
        for (peer, account) in &mut self.accounts {
            let dropped = account.take_dropped();
            if dropped > 0 {
                self.events.send(NetEvent::OverBudget {
                    neighbour: *peer.as_bytes(),
                    dropped,
                });
            }
        }
        if self.accounts.len() > MAX_BUDGETS {
            self.accounts.retain(|_, account| !account.is_full(now));
        }
        if self.presence.poll(now) {
            let here = own_address(&self.endpoint, self.reach);
            if let Some(sealed) = presence::seal(&here, &self.topic, self.endpoint.secret_key()) {
                self.say(frame(KIND_HERE, rand::random(), &sealed)).await;
            }
        }
        let neighbours = self.receiver.neighbors().count();
        for action in self.watchdog.poll(neighbours, now) {
            self.act(action).await;
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Ask => self.say(frame(KIND_ASK, rand::random(), &[])).await,
            Action::Answer(nonce) => {
                let bytes = frame(KIND_ANSWER, rand::random(), &nonce.to_le_bytes());
                self.say(bytes).await;
            }
            Action::Join => {
                let peers = self.remembered(REJOIN_FANOUT);
                self.join(peers).await;
            }
            Action::Bridge => {
                let peers = self.remembered(1);
                self.join(peers).await;
            }
            Action::Rejoin => {
                let peers = self.neighbours_and_remembered();
                self.events.send(NetEvent::Rejoining { peers: peers.len() });
                self.join(peers).await;
            }
            Action::Restart => {
                let peers = self.neighbours_and_remembered();
                self.events.send(NetEvent::Rejoining { peers: peers.len() });
                self.registry.close_protocol(GOSSIP_ALPN);
                self.join(peers).await;
            }
        }
    }

    async fn say(&mut self, frame: Vec<u8>) {
        trace("said", &frame);
        if let Err(error) = self.sender.broadcast(frame.into()).await {
            tracing::debug!(%error, "broadcast failed: gossip stopped");
        }
    }

    async fn join(&mut self, peers: Vec<EndpointId>) {
        if peers.is_empty() {
            return;
        }
        if let Err(error) = self.sender.join_peers(peers).await {
            tracing::debug!(%error, "join failed: gossip stopped");
        }
    }

    /// Up to `count` remembered peers that are no neighbours, at random.
    fn remembered(&self, count: usize) -> Vec<EndpointId> {
        let neighbours: BTreeSet<EndpointId> = self.receiver.neighbors().collect();
        let mut candidates = self.book.ids();
        candidates.retain(|peer| !neighbours.contains(peer));
        candidates
            .sample(&mut rand::rng(), count)
            .copied()
            .collect()
    }

    fn neighbours_and_remembered(&self) -> Vec<EndpointId> {
        let mut peers: Vec<EndpointId> = self.receiver.neighbors().collect();
        peers.extend(self.remembered(REJOIN_FANOUT));
        peers
    }

    fn set_neighbours(&self, change: impl FnOnce(&mut BTreeSet<EndpointId>) -> bool) {
        let mut set = self
            .neighbours
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let message = frame(KIND_MESSAGE, 5, b"hello");
        assert_eq!(Frame::decode(&message, 5), Ok(Frame::Message(b"hello")));
        let ask = frame(KIND_ASK, 6, &[]);
        assert_eq!(Frame::decode(&ask, 5), Ok(Frame::Ask(6)));
        let answer = frame(KIND_ANSWER, 7, &6u64.to_le_bytes());
        assert_eq!(Frame::decode(&answer, 5), Ok(Frame::Answer(6)));
        let here = frame(KIND_HERE, 8, b"sealed");
        assert_eq!(Frame::decode(&here, 5), Ok(Frame::Here(b"sealed")));
    }

    #[test]
    fn the_frame_layout_is_fixed() {
        assert_eq!(
            frame(KIND_MESSAGE, 0x0102, b"ab"),
            [0, 2, 1, 0, 0, 0, 0, 0, 0, b'a', b'b']
        );
    }

    #[test]
    fn bad_frames_are_refused_with_a_reason() {
        let oversize = frame(KIND_MESSAGE, 1, &[0; 6]);
        assert_eq!(Frame::decode(&oversize, 5), Err("oversize"));
        assert_eq!(Frame::decode(&[0; 8], 5), Err("short frame"));
        let unknown = frame(9, 1, &[]);
        assert_eq!(Frame::decode(&unknown, 5), Err("unknown frame"));
        let answer = frame(KIND_ANSWER, 1, &[1, 2]);
        assert_eq!(Frame::decode(&answer, 5), Err("bad frame"));
    }

    #[test]
    fn a_full_node_is_told_how_much_it_missed() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut sink = EventSink::new(sender);
        for _ in 0..5 {
            sink.send(NetEvent::Ended(String::new()));
        }
        assert!(matches!(receiver.try_recv(), Ok(NetEvent::Ended(_))));
        assert!(matches!(receiver.try_recv(), Ok(NetEvent::Ended(_))));
        sink.send(NetEvent::NeighbourUp([1; 32]));
        assert!(matches!(
            receiver.try_recv(),
            Ok(NetEvent::Lagged { missed: 3 })
        ));
        assert!(matches!(receiver.try_recv(), Ok(NetEvent::NeighbourUp(_))));
    }
}

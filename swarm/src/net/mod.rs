//! The network shell of a peer: bytes in, bytes out.
//!
//! Each peer is one iroh endpoint with its own key. Small announcements travel
//! by gossip ([`Net::broadcast`]); bodies are kept under their BLAKE3 hash
//! ([`Net::serve`]) and fetched from whoever has them ([`Net::fetch`]). What
//! the bytes mean, and who signed them, is the caller's affair: a message here
//! comes *from a neighbour*, which is who forwarded it, not who wrote it.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `config`, `event` | what goes in, what comes out, what can go wrong |
//! | `endpoint` | binding the iroh endpoint |
//! | `address` | a peer's address as it travels, and the bounded address book |
//! | `bodies` | the body store, and fetching with our own time limits |
//! | `gate` | who may read our bodies, and how many at once |
//! | `driver` | the task that owns the gossip topic |
//! | `watchdog` | noticing that we hear nothing, and joining again |
//! | `budget` | what may come: messages and bytes |
//! | `authors` | what one author may say, whoever passes it on |
//! | `find` | LAN, DNS and DHT: finding peers besides being told |
//! | `meet` | a ticket for whoever knows a peer's key |
//! | `tunnel` | a peer's devnet, from elsewhere |
//! | `guest` | an endpoint that only asks, before a node joins |
//! | `conduct` | what a peer did to us, and whether we still deal with it |
//! | `presence` | telling the swarm, signed, where we are |
//! | `links` | every connection: limits and numbers |
//! | [`limits`] | every constant, with its reason |
//!
//! Invariants:
//! - no message over the limit reaches the gossip protocol, which would fall
//!   silent without an error;
//! - a node that hears nothing joins again by itself, through peers it
//!   remembers;
//! - nothing waits for the caller: events that do not fit are dropped, counted
//!   and reported as [`NetEvent::Lagged`];
//! - [`Net::shutdown`] ends every task it began, in order: topic, provider
//!   connections, gossip, body store, endpoint.

mod address;
mod authors;
mod bodies;
mod budget;
mod conduct;
mod config;
mod driver;
mod endpoint;
mod event;
mod find;
mod gate;
mod guest;
pub mod limits;
mod links;
mod meet;
mod presence;
mod tunnel;
mod watchdog;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::address_lookup::memory::MemoryLookup;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr};
use iroh_blobs::BlobsProtocol;
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::TopicId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use address::PeerAddr;
pub use authors::AuthorOf;
pub use bodies::{BodyStore, FetchError, ProviderFailure};
pub use budget::Budget;
pub use config::{NetConfig, Reach, RelayChoice};
pub use driver::ANNOUNCEMENTS;
pub use event::{NetError, NetEvent, NetEvents};
pub use find::Finder;
pub use guest::Guest;
pub use links::{Link, LinkPath};
pub use meet::{Answer, MAX_SKEW, MeetError};
pub use tunnel::Tunnel;
pub use watchdog::Watch;

use address::AddressBook;
use authors::Authors;
use bodies::{Bodies, Size};
use driver::{Command, Driver, EventSink, FRAME_HEADER, Neighbours};
use endpoint::{bind, own_address};
use find::{Finds, Nearby};
use limits::{COMMAND_CAPACITY, EVENT_CAPACITY, GOSSIP_OVERHEAD, MIN_GOSSIP_SIZE};
use links::Registry;
use meet::{Desk, MEET_ALPN};
use presence::Schedule;
use tunnel::{CHAIN_ALPN, Door};
use watchdog::Watchdog;

/// The gossip protocol with our frames in it. The number is the frame's version.
const GOSSIP_ALPN: &[u8] = b"/murmuration/gossip/1";

/// A running network: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

struct Inner {
    endpoint: Endpoint,
    reach: Reach,
    max_message: usize,
    book: Arc<AddressBook>,
    registry: Arc<Registry>,
    bodies: Arc<Bodies>,
    desk: Desk,
    door: Door,
    commands: mpsc::Sender<Command>,
    neighbours: Neighbours,
    cancel: CancellationToken,
    running: Mutex<Option<Running>>,
}

/// What shutting down must end.
struct Running {
    router: Router,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Net({})", self.inner.endpoint.id().fmt_short())
    }
}

impl Net {
    /// Binds an endpoint, joins the topic and begins to serve. Returns at once,
    /// whether or not anyone can be reached; [`NetEvent::NeighbourUp`] says when.
    pub async fn start(config: NetConfig) -> Result<(Net, NetEvents), NetError> {
        let told = config.bootstrap.iter().map(|peer| (peer, "ticket"));
        let remembered = config.remembered.iter();
        let remembered = remembered.map(|peer| (peer, Finder::Remembered.name()));
        let bootstrap = told
            .chain(remembered)
            .map(|(peer, by)| Ok((peer.to_iroh()?, by)))
            .collect::<Result<Vec<_>, NetError>>()?;
        let (registry, connections) = Registry::new();
        let registry = Arc::new(registry);
        let lookup = MemoryLookup::new();
        let (finds, found) = Finds::new();
        let endpoint = bind(&config, lookup.clone(), registry.clone(), &finds, true).await?;
        let book = Arc::new(AddressBook::new(endpoint.id(), lookup));
        let bootstrap_ids = bootstrap.iter().map(|(addr, _)| addr.id).collect();
        for (addr, by) in bootstrap {
            finds.note(addr.id, by);
            book.learn(addr);
        }

        let cancel = CancellationToken::new();
        let bodies = Bodies::open(
            &config.bodies,
            endpoint.clone(),
            book.clone(),
            registry.clone(),
            config.max_body,
            cancel.clone(),
        );
        let bodies = match bodies.await {
            Ok(bodies) => Arc::new(bodies),
            Err(error) => {
                endpoint.close().await;
                return Err(error);
            }
        };
        let (gate, questions) = gate::channel();
        let gossip = Gossip::builder()
            .alpn(GOSSIP_ALPN)
            .max_message_size(gossip_size(config.max_message))
            .spawn(endpoint.clone());
        let (desk, door) = (Desk::of(config.topic), Door::closed());
        let router = Router::builder(endpoint.clone())
            .accept(GOSSIP_ALPN, gossip.clone())
            .accept(
                iroh_blobs::ALPN,
                BlobsProtocol::new(&bodies.store, Some(gate)),
            )
            .accept(MEET_ALPN, desk.clone())
            .accept(CHAIN_ALPN, door.clone())
            .spawn();
        let topic = gossip
            .subscribe(TopicId::from_bytes(config.topic), bootstrap_ids)
            .await
            .map_err(|error| NetError::Gossip(error.to_string()))?;
        let (sender, receiver) = topic.split();

        let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
        let mut events_in = EventSink::new(event_sender);
        let mut nearby = Nearby::off();
        if config.finders.contains(&Finder::Mdns) {
            match Nearby::look(&endpoint, &config.topic, true, &finds).await {
                Ok(looking) => nearby = looking,
                Err(why) => events_in.finder_failed(Finder::Mdns, why),
            }
        }
        let (commands, command_receiver) = mpsc::channel(COMMAND_CAPACITY);
        let neighbours = Neighbours::default();
        let driver = Driver {
            endpoint: endpoint.clone(),
            sender,
            receiver,
            book: book.clone(),
            registry: registry.clone(),
            connections,
            watched: JoinSet::new(),
            bodies: bodies.clone(),
            neighbours: neighbours.clone(),
            commands: command_receiver,
            events: events_in,
            finds,
            found,
            nearby,
            dialled_nearby: 0,
            watchdog: Watchdog::new(config.watch, Instant::now()),
            presence: Schedule::new(),
            topic: config.topic,
            reach: config.reach,
            budget: config.budget,
            accounts: BTreeMap::new(),
            author_of: config.author,
            authors: Authors::new(Instant::now()),
            max_message: config.max_message,
            cancel: cancel.clone(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        let store = bodies.store.clone();
        tasks.spawn(gate::run(
            questions,
            store,
            registry.clone(),
            cancel.clone(),
        ));
        let inner = Inner {
            endpoint,
            reach: config.reach,
            max_message: config.max_message,
            book,
            registry,
            bodies,
            desk,
            door,
            commands,
            neighbours,
            cancel,
            running: Mutex::new(Some(Running { router, tasks })),
        };
        let inner = Arc::new(inner);
        Ok((Net { inner }, NetEvents(events)))
    }

    /// This peer's id: its public key.
    pub fn id(&self) -> [u8; 32] {
        *self.inner.endpoint.id().as_bytes()
    }

    /// Where this peer can be reached, for tickets and greetings.
    pub fn address(&self) -> PeerAddr {
        own_address(&self.inner.endpoint, self.inner.reach)
    }

    /// Gives this ticket to whoever knows this peer's key and the swarm's id.
    pub fn offer_ticket(&self, ticket: String) {
        self.inner.desk.offer(ticket);
    }

    /// Lets peers reach the devnet that listens here. Nothing but a devnet: they
    /// may send it whatever they like.
    pub fn open_chain(&self, devnet: std::net::SocketAddr) {
        self.inner.door.open(devnet);
    }

    /// Announces `bytes` to the swarm. Oversize is refused here; nobody is told
    /// whether anyone hears it.
    pub async fn broadcast(&self, bytes: Vec<u8>) -> Result<(), NetError> {
        if bytes.len() > self.inner.max_message {
            return Err(NetError::MessageTooLarge {
                bytes: bytes.len(),
                max: self.inner.max_message,
            });
        }
        self.command(Command::Broadcast(bytes)).await
    }

    /// Keeps a body under its hash and serves it until [`Net::forget`].
    pub async fn serve(&self, body: Vec<u8>) -> Result<[u8; 32], NetError> {
        self.alive()?;
        self.inner.bodies.serve(body).await
    }

    /// Stops serving a body; it leaves the store within minutes.
    pub async fn forget(&self, hash: [u8; 32]) -> Result<(), NetError> {
        self.alive()?;
        self.inner.bodies.forget(hash).await
    }

    /// Forgets every body but these; returns how many.
    pub async fn forget_all_but(&self, keep: &[[u8; 32]]) -> Result<u64, NetError> {
        self.alive()?;
        self.inner.bodies.retain(keep).await
    }

    /// Fetches the body with this hash and exactly this size from one of the
    /// providers, each tried in turn, connected ones first. The body is kept
    /// and served on to others until [`Net::forget`].
    ///
    /// A provider without sockets ([`PeerAddr::of`]) is looked up among the
    /// addresses that peers have told the swarm.
    pub async fn fetch(
        &self,
        hash: [u8; 32],
        expected_bytes: u64,
        from: &[PeerAddr],
    ) -> Result<Vec<u8>, FetchError> {
        self.get(hash, Size::Exactly(expected_bytes), from).await
    }

    /// As [`Net::fetch`], for a body whose size is not known: the provider must
    /// prove it before a byte of the body moves, and one over `max_bytes` is
    /// refused.
    pub async fn fetch_within(
        &self,
        hash: [u8; 32],
        max_bytes: u64,
        from: &[PeerAddr],
    ) -> Result<Vec<u8>, FetchError> {
        self.get(hash, Size::AtMost(max_bytes), from).await
    }

    async fn get(
        &self,
        hash: [u8; 32],
        size: Size,
        from: &[PeerAddr],
    ) -> Result<Vec<u8>, FetchError> {
        self.alive().map_err(|_| FetchError::Closed)?;
        // An address that makes no sense is no provider; the rest may deliver.
        let providers = from.iter().filter_map(|addr| addr.to_iroh().ok()).collect();
        let fetch = self.inner.bodies.fetch(hash, size, providers);
        tokio::select! {
            body = fetch => body,
            () = self.inner.cancel.cancelled() => Err(FetchError::Closed),
        }
    }

    /// Remembers where a peer is, for joining and fetching. Peers tell each
    /// other by themselves; this is for what is known from elsewhere.
    pub fn learn(&self, peer: &PeerAddr) -> Result<(), NetError> {
        self.inner.book.learn(peer.to_iroh()?);
        Ok(())
    }

    /// Every remembered peer: worth saving, to join through after a restart.
    pub fn known(&self) -> Vec<PeerAddr> {
        let all = self.inner.book.all();
        all.iter().map(PeerAddr::from_iroh).collect()
    }

    /// Joins the swarm through these peers, and remembers them.
    pub async fn join(&self, peers: &[PeerAddr]) -> Result<(), NetError> {
        let peers = peers
            .iter()
            .map(PeerAddr::to_iroh)
            .collect::<Result<Vec<EndpointAddr>, _>>()?;
        let ids = peers.iter().map(|peer| peer.id).collect();
        for peer in peers {
            self.inner.book.learn(peer);
        }
        self.command(Command::Join(ids)).await
    }

    /// Joins again through neighbours and remembered peers. The watchdog does
    /// it when *we* hear nothing; the caller may know that nobody hears *us*.
    pub async fn rejoin(&self) -> Result<(), NetError> {
        self.command(Command::Rejoin).await
    }

    /// The direct neighbours of the moment.
    pub fn neighbours(&self) -> Vec<[u8; 32]> {
        let set = self.inner.neighbours.read();
        let set = set.unwrap_or_else(PoisonError::into_inner);
        set.iter().map(|id| *id.as_bytes()).collect()
    }

    /// Every peer we had a connection with, how it is reached, what passed.
    pub fn links(&self) -> Vec<Link> {
        self.inner.registry.links()
    }

    /// Leaves the swarm and ends every task, in order. Other handles say
    /// [`NetError::Closed`] from then on; a second call does nothing.
    pub async fn shutdown(self) {
        self.inner.cancel.cancel();
        let running = {
            let mut running = self.inner.running.lock();
            running
                .as_mut()
                .map(|running| running.take())
                .unwrap_or_else(|poisoned| poisoned.get_mut().take())
        };
        let Some(Running { router, mut tasks }) = running else {
            return;
        };
        // The topic ends with the driver; the gate ends by the same token.
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a network task failed");
            }
        }
        self.inner.bodies.close();
        // Tells gossip to say goodbye, closes the body store, then the endpoint.
        if let Err(error) = router.shutdown().await {
            tracing::error!(%error, "the accept loop failed");
        }
    }

    fn alive(&self) -> Result<(), NetError> {
        if self.inner.cancel.is_cancelled() {
            return Err(NetError::Closed);
        }
        Ok(())
    }

    async fn command(&self, command: Command) -> Result<(), NetError> {
        self.alive()?;
        self.inner
            .commands
            .send(command)
            .await
            .map_err(|_| NetError::Closed)
    }
}

/// The gossip protocol's own limit, for a swarm whose announcements have this
/// one.
fn gossip_size(max_message: usize) -> usize {
    (max_message + FRAME_HEADER + GOSSIP_OVERHEAD).max(MIN_GOSSIP_SIZE)
}

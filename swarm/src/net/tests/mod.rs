//! Real endpoints, real QUIC, on loopback. Every wait is for an event; the one
//! timeout is for a test that hangs.

mod fetching;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use futures_lite::StreamExt;
use iroh::SecretKey;
use iroh::endpoint::presets;
use iroh_gossip::api::Event;
use tracing_subscriber::layer::SubscriberExt;

use super::driver::Frame;
use super::endpoint::sockets;
use super::*;

const TOPIC: [u8; 32] = [9; 32];

/// Only so that a hang fails instead of hanging: far above what anything takes.
const HANG: Duration = Duration::from_secs(120);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future)
        .await
        .unwrap_or_else(|_| panic!("hangs: {what}"))
}

/// Intervals short enough that a test of the watchdog does not take a minute.
const QUICK: Watch = Watch {
    ask_after: Duration::from_millis(300),
    answer_within: Duration::from_millis(100),
    deaf_after: Duration::from_millis(1_500),
    alone_retry: Duration::from_millis(300),
    bridge_every: Duration::from_secs(90),
};

fn config(n: u8) -> NetConfig {
    NetConfig::local([n; 32], TOPIC)
}

struct Node {
    net: Net,
    events: NetEvents,
}

impl Node {
    async fn start(config: NetConfig) -> Self {
        let (net, events) = within("start", Net::start(config)).await.unwrap();
        Node { net, events }
    }

    async fn joined_to(n: u8, others: &[&Node]) -> Self {
        let mut config = config(n);
        config.bootstrap = others.iter().map(|node| node.net.address()).collect();
        let mut node = Node::start(config).await;
        node.neighbour().await;
        node
    }

    /// Waits for a neighbour.
    async fn neighbour(&mut self) -> [u8; 32] {
        within("neighbour", async {
            loop {
                if let NetEvent::NeighbourUp(id) = self.event().await {
                    return id;
                }
            }
        })
        .await
    }

    async fn event(&mut self) -> NetEvent {
        self.events.next().await.expect("the network runs")
    }

    /// Waits for the next message.
    async fn message(&mut self) -> Vec<u8> {
        within("message", async {
            loop {
                if let NetEvent::Message { bytes, .. } = self.event().await {
                    return bytes;
                }
            }
        })
        .await
    }

    /// Waits until each of these messages has come, in whatever order.
    async fn hears(&mut self, messages: impl IntoIterator<Item = Vec<u8>>) {
        let mut missing: BTreeSet<Vec<u8>> = messages.into_iter().collect();
        while !missing.is_empty() {
            let message = self.message().await;
            missing.remove(&message);
        }
    }

    async fn say(&self, text: &str) {
        self.net.broadcast(text.into()).await.unwrap();
    }

    async fn stop(self) {
        within("shutdown", self.net.shutdown()).await;
    }
}

/// Waits until each node has some neighbour, then until words pass both ways
/// between all of them: a swarm that stands.
async fn swarm(size: u8) -> Vec<Node> {
    let mut nodes = vec![Node::start(config(1)).await];
    for n in 2..=size {
        let first = &nodes[0];
        let node = Node::joined_to(n, &[first]).await;
        nodes.push(node);
    }
    nodes[0].neighbour().await;
    nodes
}

fn body(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 % 251) as u8).collect()
}

/// The address of a peer that does not exist: a real key, a port nobody has.
async fn nobody(n: u8) -> PeerAddr {
    let node = Node::start(config(n)).await;
    let address = node.net.address();
    node.stop().await;
    address
}

/// Runs a node until told to end, and then ends as a killed process does: no
/// goodbye, no close, only silence.
fn doomed(n: u8, other: PeerAddr) -> (std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (die, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut config = config(n);
        config.bootstrap = vec![other];
        let node = runtime.block_on(Node::start(config));
        told.recv().unwrap();
        runtime.shutdown_background();
        // Dropping it would try to say something.
        std::mem::forget(node);
    });
    (die, thread)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_without_a_word_is_given_up() {
    let mut node = Node::start(config(1)).await;
    let (die, thread) = doomed(2, node.net.address());
    let other = node.neighbour().await;
    die.send(()).unwrap();
    thread.join().unwrap();
    within("being given up", async {
        loop {
            match node.event().await {
                NetEvent::Lost(id) => {
                    assert_eq!(id, other);
                    break;
                }
                NetEvent::Ended(why) => panic!("gossip ended: {why}"),
                _ => {}
            }
        }
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_goodbye_is_not_lost() {
    let mut nodes = swarm(2).await;
    let gone = nodes.pop().unwrap();
    gone.stop().await;
    within("the goodbye", async {
        loop {
            match nodes[0].event().await {
                NetEvent::NeighbourDown(_) => break,
                event => assert!(!matches!(event, NetEvent::Lost(_))),
            }
        }
    })
    .await;
    nodes.pop().unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_hear_each_other() {
    let mut nodes = swarm(4).await;
    for (n, node) in nodes.iter().enumerate() {
        node.say(&format!("from {n}")).await;
    }
    for (n, node) in nodes.iter_mut().enumerate() {
        let others = (0..4).filter(|other| *other != n);
        let words: Vec<Vec<u8>> = others.map(|o| format!("from {o}").into()).collect();
        node.hears(words).await;
    }
    let links = nodes[0].net.links();
    assert!(links.iter().any(|link| link.path == LinkPath::Loopback));
    assert!(links.iter().all(|link| link.received > 0 && link.sent > 0));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_words_said_twice_are_heard_twice() {
    let mut nodes = swarm(2).await;
    nodes[0].say("again").await;
    assert_eq!(nodes[1].message().await, b"again");
    nodes[0].say("again").await;
    assert_eq!(nodes[1].message().await, b"again");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_message_is_refused_and_the_node_still_hears_and_speaks() {
    let mut nodes = swarm(2).await;
    let max = limits::MAX_MESSAGE;
    let refused = nodes[0].net.broadcast(vec![0; max + 1]).await;
    assert!(matches!(
        refused,
        Err(NetError::MessageTooLarge { bytes, .. }) if bytes == max + 1
    ));
    let largest = body(max);
    nodes[0].net.broadcast(largest.clone()).await.unwrap();
    assert_eq!(nodes[1].message().await, largest);
    nodes[1].say("still there").await;
    assert_eq!(nodes[0].message().await, b"still there");
    nodes[0].say("yes").await;
    assert_eq!(nodes[1].message().await, b"yes");
    for node in nodes {
        node.stop().await;
    }
}

/// In a chain each node is joined through the one before, and the ends of a
/// longer one are no neighbours. Everyone learns where everyone is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_latecomer_hears_what_is_said_after_it_came_and_is_heard() {
    let mut nodes = swarm(3).await;
    nodes[0].say("early").await;
    nodes[1].hears([b"early".to_vec()]).await;
    let mut late = Node::joined_to(40, &[&nodes[2]]).await;
    late.say("here I am").await;
    nodes[0].hears([b"here I am".to_vec()]).await;
    nodes[0].say("welcome").await;
    assert_eq!(late.message().await, b"welcome");
    late.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_with_its_key_is_heard_and_served_again() {
    let mut nodes = swarm(3).await;
    let leaver = nodes.pop().unwrap();
    let id = leaver.net.id();
    let body = body(2_000);
    let hash = leaver.net.serve(body.clone()).await.unwrap();
    let from = [leaver.net.address()];
    let before = within("fetch", nodes[0].net.fetch(hash, 2_000, &from)).await;
    assert_eq!(before.unwrap(), body);
    leaver.stop().await;
    within("goodbye", async {
        while nodes[0].net.neighbours().contains(&id) {
            nodes[0].event().await;
        }
    })
    .await;

    let mut back = Node::joined_to(3, &[&nodes[0]]).await;
    assert_eq!(back.net.id(), id);
    nodes[1].say("you again").await;
    back.hears([b"you again".to_vec()]).await;
    back.say("me again").await;
    nodes[1].hears([b"me again".to_vec()]).await;

    let other = b"another body".to_vec();
    let hash = back.net.serve(other.clone()).await.unwrap();
    let size = other.len() as u64;
    let from = [back.net.address()];
    let after = within("fetch", nodes[0].net.fetch(hash, size, &from)).await;
    assert_eq!(after.unwrap(), other);
    back.stop().await;
    for node in nodes {
        node.stop().await;
    }
}

/// The port is given back and taken again: whoever waits for us finds us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_node_keeps_trying_until_the_peer_it_remembers_is_there() {
    let absent = nobody(70).await;
    let mut waiting = config(71);
    waiting.bootstrap = vec![absent.clone()];
    waiting.watch = QUICK;
    let mut waiting = Node::start(waiting).await;
    let mut late = config(70);
    late.port = Some(absent.sockets[0].port());
    let late = Node::start(late).await;
    assert_eq!(waiting.neighbour().await, late.net.id());
    late.say("at last").await;
    assert_eq!(waiting.message().await, b"at last");
    waiting.stop().await;
    late.stop().await;
}

/// A neighbour that hears us and never says anything: it is not of our swarm's
/// kind, so it does not answer. The node notices and joins again, twice over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_joins_again() {
    let mute = MutePeer::start().await;
    let mut config = config(80);
    config.bootstrap = vec![mute.address.clone()];
    config.watch = QUICK;
    let mut node = Node::start(config).await;
    within("rejoining twice", async {
        let mut rejoined = 0;
        while rejoined < 2 {
            if let NetEvent::Rejoining { peers } = node.event().await {
                assert!(peers > 0);
                rejoined += 1;
            }
        }
    })
    .await;
    node.stop().await;
    mute.stop().await;
}

/// Which is how a quiet swarm keeps its watchdogs quiet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_whether_anyone_is_there_is_answered() {
    let mut mute = MutePeer::start().await;
    let mut config = config(81);
    config.bootstrap = vec![mute.address.clone()];
    let node = Node::start(config).await;
    within("gossip", mute.topic.joined()).await.unwrap();
    let question = driver::frame(driver::KIND_ASK, 4242, &[]);
    mute.topic.broadcast(question.into()).await.unwrap();
    within("answer", async {
        loop {
            let event = mute.topic.next().await.expect("gossip runs").unwrap();
            let Event::Received(message) = event else {
                continue;
            };
            if Frame::decode(&message.content, 100) == Ok(Frame::Answer(4242)) {
                break;
            }
        }
    })
    .await;
    node.stop().await;
    mute.stop().await;
}

/// A peer of the raw gossip protocol, which speaks in frames that are not ours.
struct MutePeer {
    router: Router,
    topic: iroh_gossip::api::GossipTopic,
    address: PeerAddr,
}

impl MutePeer {
    async fn start() -> Self {
        let builder =
            Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&[88; 32]));
        let builder = sockets(builder, Reach::Loopback, 0).unwrap();
        let endpoint = builder.bind().await.unwrap();
        let gossip = Gossip::builder()
            .alpn(GOSSIP_ALPN)
            .max_message_size(gossip_size(limits::MAX_MESSAGE))
            .spawn(endpoint.clone());
        let router = Router::builder(endpoint.clone())
            .accept(GOSSIP_ALPN, gossip.clone())
            .spawn();
        let topic = TopicId::from_bytes(TOPIC);
        let topic = gossip.subscribe(topic, Vec::new()).await.unwrap();
        let mut address = PeerAddr::of(*endpoint.id().as_bytes());
        address.sockets = endpoint.bound_sockets();
        MutePeer {
            router,
            topic,
            address,
        }
    }

    async fn stop(self) {
        drop(self.topic);
        self.router.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused_and_a_flood_is_over_budget() {
    let mut mute = MutePeer::start().await;
    let mut config = config(90);
    config.bootstrap = vec![mute.address.clone()];
    config.budget = Budget {
        messages_per_second: 1,
        message_burst: 20,
        bytes_per_second: 1_000_000,
        byte_burst: 1_000_000,
    };
    let mut node = Node::start(config).await;
    node.neighbour().await;
    within("gossip", mute.topic.joined()).await.unwrap();
    for n in 0..200u32 {
        let junk = [&[250; 20], &n.to_le_bytes()[..]].concat();
        mute.topic.broadcast(junk.into()).await.unwrap();
    }
    let (mut refused, mut dropped) = (0, 0);
    within("refusals", async {
        while refused + dropped < 200 {
            match node.event().await {
                NetEvent::Refused { reason, .. } => {
                    assert_eq!(reason, "unknown frame");
                    refused += 1;
                }
                NetEvent::OverBudget {
                    neighbour,
                    dropped: more,
                } => {
                    assert_eq!(neighbour, mute.address.id);
                    dropped += more;
                }
                _ => {}
            }
        }
    })
    .await;
    assert!(refused >= 20, "the burst passes: {refused}");
    assert!(dropped > 0, "the rest is dropped");
    node.stop().await;
    mute.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_said_plainly() {
    let first = Node::start(config(95)).await;
    let port = first.net.address().sockets[0].port();
    for reach in [Reach::Loopback, Reach::Any] {
        let mut second = config(96);
        second.port = Some(port);
        second.reach = reach;
        let refused = within("start", Net::start(second)).await;
        let error = refused.map(drop).unwrap_err();
        assert!(
            matches!(error, NetError::PortInUse(p) if p == port),
            "{error}"
        );
    }
    first.stop().await;
}

/// Counts warnings and errors, and keeps the last.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Complaints {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            let complaint = format!("{event:?}");
            self.0.lock().unwrap().push(complaint);
        }
    }
}

/// On one thread, so that every task's complaints are heard and every task is
/// counted.
#[tokio::test]
async fn after_shutdown_nothing_runs_nothing_complained_and_every_call_says_closed() {
    let complaints = Complaints::default();
    let subscriber = tracing_subscriber::registry().with(complaints.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();

    let mut nodes = swarm(2).await;
    nodes[0].say("hello").await;
    nodes[1].hears([b"hello".to_vec()]).await;
    let hash = nodes[0].net.serve(body(40_000)).await.unwrap();
    let from = [nodes[0].net.address()];
    let fetched = within("fetch", nodes[1].net.fetch(hash, 40_000, &from)).await;
    assert_eq!(fetched.unwrap(), body(40_000));

    let other = nodes[0].net.clone();
    for node in nodes {
        let Node { net, mut events } = node;
        let again = net.clone();
        within("shutdown", net.shutdown()).await;
        within("second shutdown", again.shutdown()).await;
        within("end of events", async {
            while events.next().await.is_some() {}
        })
        .await;
    }
    let said = other.broadcast(vec![1]).await;
    assert!(matches!(said, Err(NetError::Closed)));
    let served = other.serve(vec![1]).await;
    assert!(matches!(served, Err(NetError::Closed)));
    let fetched = other.fetch([0; 32], 1, &[]).await;
    assert!(matches!(fetched, Err(FetchError::Closed)));
    drop(other);

    // Each memory store leaves its collector parked, see `bodies::collector`.
    const PARKED: usize = 2;
    within("tasks to end", async {
        while metrics.num_alive_tasks() > before + PARKED {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // One complaint of our own proves that the others would have been heard.
    tracing::warn!("the last word");
    let complaints = complaints.0.lock().unwrap().clone();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("the last word"), "{complaints:?}");
}

/// What was found, until a peer was found in this way.
async fn found_by(node: &mut Node, way: &str) -> [u8; 32] {
    within("found", async {
        loop {
            if let NetEvent::Found { peer, by } = node.event().await
                && by == way
            {
                return peer;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_stranger_with_a_key_and_the_swarms_id_gets_the_ticket_and_the_time() {
    let host = Node::start(config(1)).await;
    let guest = within("bind", Guest::bind(&config(2))).await.unwrap();
    let host_at = host.net.address();
    let early = within("ask", guest.asker().ticket(&host_at, &TOPIC)).await;
    assert!(matches!(early, Err(MeetError::Refused(_))), "{early:?}");
    host.net.offer_ticket("murmur1text".into());
    let answer = within("ask", guest.asker().ticket(&host_at, &TOPIC)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.ticket, "murmur1text");
    assert!(answer.clock_offset_ms.abs() < 10_000, "{answer:?}");
    let other = within("ask", guest.asker().ticket(&host_at, &[1; 32])).await;
    assert!(matches!(other, Err(MeetError::Refused(_))), "{other:?}");
    guest.close().await;
    host.stop().await;
}

#[tokio::test]
async fn a_devnet_is_reached_through_its_peer_past_one_that_has_none() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let chain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = chain.local_addr().unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..3 {
            let (mut stream, _) = chain.accept().await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            asked.reverse();
            stream.write_all(&asked).await.unwrap();
        }
    });
    let (without, with) = (Node::start(config(1)).await, Node::start(config(2)).await);
    with.net.open_chain(at);
    let guest = Guest::bind(&config(3)).await.unwrap();
    let peers = [without.net.address(), with.net.address()];
    let tunnel = guest.tunnel(&peers).await.unwrap();
    let near = tunnel.url().trim_start_matches("http://").to_owned();
    for size in [1usize, 1_000, 600_000] {
        let mut stream = tokio::net::TcpStream::connect(&near).await.unwrap();
        stream.write_all(&body(size)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        within("answer", stream.read_to_end(&mut answer))
            .await
            .unwrap();
        answer.reverse();
        assert_eq!(answer, body(size));
    }
    server.await.unwrap();
    drop(tunnel);
    guest.close().await;
    with.stop().await;
    without.stop().await;
}

#[tokio::test]
async fn a_node_comes_back_through_remembered_peers_when_the_tickets_issuer_is_gone() {
    let issuer = Node::start(config(1)).await;
    let ticket = issuer.net.address();
    let mut stays = Node::joined_to(2, &[&issuer]).await;
    let mut leaves = Node::joined_to(3, &[&issuer]).await;
    // Both are told to each other by the swarm itself.
    while found_by(&mut leaves, "swarm").await != stays.net.id() {}
    let remembered = leaves.net.known();
    leaves.stop().await;
    issuer.stop().await;

    let mut config = config(3);
    config.bootstrap = vec![ticket];
    config.remembered = remembered;
    let mut back = Node::start(config).await;
    found_by(&mut back, "remembered").await;
    assert_eq!(back.neighbour().await, stays.net.id());
    back.say("here again").await;
    stays.hears([b"here again".to_vec()]).await;
    back.stop().await;
    stays.stop().await;
}

#[tokio::test]
async fn a_peer_that_crowds_is_turned_away_and_counted_and_others_are_not() {
    let mut host = Node::start(config(1)).await;
    host.net.offer_ticket("murmur1text".into());
    let at = host.net.address();
    let crowd = Guest::bind(&config(2)).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (asker, at) = (crowd.asker(), at.clone());
        asking.spawn(async move { asker.hold(&at).await });
    }
    let counted = within("turned away", async {
        loop {
            if let NetEvent::TurnedAway { peer, count } = host.event().await {
                return (peer, count);
            }
        }
    });
    let (peer, count) = counted.await;
    assert_eq!(peer, *SecretKey::from_bytes(&[2; 32]).public().as_bytes());
    assert!(count >= 1);
    let honest = Guest::bind(&config(3)).await.unwrap();
    let answer = within("ask", honest.asker().ticket(&at, &TOPIC)).await;
    assert_eq!(answer.unwrap().ticket, "murmur1text");
    asking.shutdown().await;
    crowd.close().await;
    honest.close().await;
    host.stop().await;
}

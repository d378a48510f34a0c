//! Who floods: a stranger with a ticket and keys of its own, who speaks the wire's
//! protocols and plays none of their rules.

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use ed25519_dalek::SigningKey;
use futures_lite::StreamExt;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::{Connection, PortmapperConfig, presets};
use iroh::protocol::{AcceptError, ProtocolHandler, Router};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr};
use iroh_gossip::api::{Event, GossipReceiver, GossipSender};
use iroh_gossip::net::Gossip;
use iroh_gossip::proto::TopicId;
use swarm::net::{Net, NetConfig, PeerAddr};
use swarm::ticket::Ticket;
use swarm_core::ids::{Address, Hash, PeerId, SwarmId};
use swarm_core::manifest::Manifest;
use swarm_core::message::{
    Announcement, BodyKind, BodyRef, Payload, Phase, Position, WIRE_VERSION, verify,
};
use tokio_util::sync::CancellationToken;

use crate::told::now_us;

/// How somebody is hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Announcements whose signatures are wrong.
    Signatures,
    /// What others said, again and again.
    Replays,
    /// Well signed, for other rounds and stages, and as a witness that it is not.
    Stages,
    /// Bodies that are said to be larger than any may be; the largest messages there are.
    Oversize,
    /// Bodies that are not what their hash names.
    Mismatches,
    /// Bodies that come at a byte a second.
    Drip,
    /// A hundred keys behind one address, each saying that it is here.
    Keys,
    /// Connections, as fast as they can be opened, to everybody.
    Connections,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Signatures => "signatures",
            Kind::Replays => "replays",
            Kind::Stages => "stages",
            Kind::Oversize => "oversize",
            Kind::Mismatches => "mismatches",
            Kind::Drip => "drip",
            Kind::Keys => "keys",
            Kind::Connections => "connections",
        }
    }
}

/// One kind, or all.
#[derive(Debug, Clone)]
pub(crate) struct Kinds(pub(crate) Vec<Kind>);

pub(crate) fn kinds(text: &str) -> Result<Kinds, String> {
    if text == "all" {
        return Ok(Kinds(Kind::value_variants().to_vec()));
    }
    Kind::from_str(text, false).map(|kind| Kinds(vec![kind]))
}

#[derive(Debug, Args)]
pub(crate) struct FloodArgs {
    kind: Kind,
    #[arg(long)]
    ticket: String,
}

/// Messages a second: more than a budget holds, as much as one attacker on the same
/// machine can send without taking the CPU from those it attacks.
const RATE: u32 = 1_000;
/// Keys behind one address.
const KEYS: u8 = 100;
/// Connections opened at once.
const DIALS: usize = 32;

const GOSSIP_ALPN: &[u8] = b"/murmuration/gossip/1";
/// Kind and nonce come before what is said.
const FRAME_HEADER: usize = 9;

/// Attacks until standard input ends.
pub(crate) fn run(args: &FloodArgs) -> Result<()> {
    let stop = CancellationToken::new();
    let told = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        told.cancel();
    });
    let ticket: Ticket = args.ticket.parse().context("the ticket")?;
    let (swarm, _) = Manifest::named_in(&ticket.manifest).context("its manifest")?;
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let attack = async {
        match args.kind {
            Kind::Keys => crowd(swarm, &ticket.peers).await,
            Kind::Connections => dial(swarm, &ticket.peers).await,
            kind => flood(kind, swarm, &ticket.peers).await,
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = attack => ended,
        }
    })
}

/// A peer that speaks for itself.
struct Foe {
    key: SigningKey,
    swarm: SwarmId,
    sender: GossipSender,
    receiver: GossipReceiver,
    /// Where the honest are.
    at: Position,
    sequence: u64,
    /// What was heard last, to say it again.
    heard: Vec<Vec<u8>>,
    _router: Router,
}

fn iroh_address(peer: &PeerAddr) -> Result<EndpointAddr> {
    let id = EndpointId::from_bytes(&peer.id).map_err(|error| anyhow!("{error}"))?;
    let sockets = peer.sockets.iter().map(|at| TransportAddr::Ip(*at));
    Ok(EndpointAddr::from_parts(id, sockets))
}

async fn bind(secret: [u8; 32], peers: &[PeerAddr]) -> Result<Endpoint> {
    let lookup = MemoryLookup::new();
    for peer in peers {
        lookup.add_endpoint_info(iroh_address(peer)?);
    }
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&secret))
        .relay_mode(RelayMode::Disabled)
        .address_lookup(lookup)
        .clear_ip_transports()
        .portmapper_config(PortmapperConfig::Disabled);
    let builder = builder.bind_addr((Ipv4Addr::LOCALHOST, 0));
    let builder = builder.map_err(|error| anyhow!("{error}"))?;
    builder.bind().await.context("binding an endpoint")
}

impl Foe {
    async fn join(number: u8, kind: Kind, swarm: SwarmId, peers: &[PeerAddr]) -> Result<Self> {
        let mut secret = [number; 32];
        secret[..8].copy_from_slice(&now_us().to_le_bytes());
        let endpoint = bind(secret, peers).await?;
        let gossip = Gossip::builder()
            .alpn(GOSSIP_ALPN)
            .max_message_size(32 * 1024)
            .spawn(endpoint.clone());
        let router = Router::builder(endpoint)
            .accept(GOSSIP_ALPN, gossip.clone())
            .accept(iroh_blobs::ALPN, Provider(kind))
            .spawn();
        let ids = peers.iter().map(iroh_address);
        let ids = ids.map(|addr| addr.map(|addr| addr.id));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        let topic = gossip.subscribe(TopicId::from_bytes(swarm.0), ids);
        let (sender, mut receiver) = topic.await.context("joining")?.split();
        receiver.joined().await.context("joining")?;
        Ok(Self {
            key: SigningKey::from_bytes(&secret),
            swarm,
            sender,
            receiver,
            at: Position {
                round: 0,
                phase: Phase::Answer,
            },
            sequence: now_us() / 1000,
            heard: Vec::new(),
            _router: router,
        })
    }

    /// Takes in what there is to hear.
    async fn listen(&mut self) {
        let waiting = async {
            while let Some(Ok(event)) = self.receiver.next().await {
                let Event::Received(message) = event else {
                    continue;
                };
                let Some(said) = message.content.get(FRAME_HEADER..) else {
                    continue;
                };
                if let Ok(Some(announcement)) = verify(said, self.swarm) {
                    self.at = self.at.max(announcement.at);
                    if self.heard.len() >= 256 {
                        self.heard.remove(0);
                    }
                    self.heard.push(said.to_vec());
                }
            }
        };
        // Only what has come already.
        let _ = tokio::time::timeout(Duration::from_millis(2), waiting).await;
    }

    fn announcement(&mut self, round: u64, payload: Payload) -> Result<Vec<u8>> {
        self.sequence += 1;
        let announcement = Announcement {
            version: WIRE_VERSION,
            swarm: self.swarm,
            round,
            peer: PeerId(self.key.verifying_key().to_bytes()),
            sequence: self.sequence,
            at: self.at,
            payload,
        };
        let signed = announcement.sign(&self.key);
        signed.map_err(|why| anyhow!("signing: {why}"))
    }

    async fn say(&self, said: &[u8]) -> Result<()> {
        let mut frame = vec![0];
        frame.extend(rand::random::<u64>().to_le_bytes());
        frame.extend(said);
        let sent = self.sender.broadcast(frame.into()).await;
        sent.context("speaking")
    }

    /// The next thing to say.
    fn words(&mut self, kind: Kind, turn: u64) -> Result<Vec<u8>> {
        let round = self.at.round;
        let hello = Payload::Hello {
            address: Address([turn as u8; 20]),
            name: "foe".to_owned(),
            plea: None,
            curriculum: 0,
        };
        let stage = BodyKind::ALL[turn as usize % 3];
        let have = |hash: [u8; 32], bytes: u32| Payload::Have {
            kind: stage,
            body: BodyRef {
                hash: Hash(hash),
                bytes,
            },
        };
        match kind {
            Kind::Signatures => {
                let mut said = self.announcement(round, hello)?;
                said[turn as usize % 64] ^= 1;
                Ok(said)
            }
            Kind::Replays if !self.heard.is_empty() => {
                Ok(self.heard[turn as usize % self.heard.len()].clone())
            }
            Kind::Stages => match turn % 4 {
                0 => self.announcement(round + turn % 9, have(rand::random(), 100)),
                1 => self.announcement(
                    round,
                    Payload::Inclusion {
                        entries: vec![Hash(rand::random())],
                    },
                ),
                2 => {
                    let phases = [Phase::Train, Phase::Join, Phase::Judge, Phase::Open];
                    let at = self.at;
                    self.at = Position {
                        round: (at.round + turn % 5).saturating_sub(2),
                        phase: phases[turn as usize / 4 % 4],
                    };
                    let said = self.announcement(round, hello);
                    self.at = at;
                    said
                }
                _ => self.announcement(round.saturating_sub(turn % 5), have(rand::random(), 100)),
            },
            Kind::Oversize => match turn % 3 {
                0 => self.announcement(round, have(rand::random(), u32::MAX)),
                // A signed message as large as one may be, of nothing.
                _ => {
                    let mut said = self.announcement(round, hello)?;
                    said.resize(16 * 1024, 0);
                    Ok(said)
                }
            },
            // One body a stage, or it would be two bodies of a stage; what is said
            // again in between costs them nothing.
            Kind::Mismatches | Kind::Drip => {
                let named = [&round.to_le_bytes()[..], &[turn as u8 % 3]].concat();
                self.announcement(round, have(*blake3::hash(&named).as_bytes(), 40_000))
            }
            _ => self.announcement(round, hello),
        }
    }
}

/// Speaks at [`RATE`].
async fn flood(kind: Kind, swarm: SwarmId, peers: &[PeerAddr]) -> Result<()> {
    let mut foe = Foe::join(1, kind, swarm, peers).await?;
    let began = Instant::now();
    let mut turn = 0u64;
    loop {
        foe.listen().await;
        let due = (began.elapsed().as_secs_f64() * f64::from(RATE)) as u64;
        while turn < due {
            let said = foe.words(kind, turn)?;
            foe.say(&said).await?;
            turn += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Many keys, each of which is here, in every round anew.
async fn crowd(swarm: SwarmId, peers: &[PeerAddr]) -> Result<()> {
    let mut foes = Vec::new();
    for number in 0..KEYS {
        // The swarm may well turn some away.
        let joining = Foe::join(number, Kind::Keys, swarm, peers);
        if let Ok(Ok(foe)) = tokio::time::timeout(Duration::from_secs(2), joining).await {
            foes.push(foe);
        }
    }
    loop {
        for foe in &mut foes {
            foe.listen().await;
            let hello = foe.words(Kind::Keys, 0)?;
            foe.say(&hello).await?;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Opens connections to everyone and drops them, with a few keys.
async fn dial(swarm: SwarmId, peers: &[PeerAddr]) -> Result<()> {
    // A peer that behaves, until it knows where everybody is.
    let mut config = NetConfig::local(rand::random(), swarm.0);
    config.bootstrap = peers.to_vec();
    let (net, mut events) = Net::start(config).await.context("listening")?;
    let listening = async { while events.next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), listening).await;
    let known = net.known();
    net.shutdown().await;

    let mut dialling = tokio::task::JoinSet::new();
    for number in 0..DIALS {
        let known = known.clone();
        dialling.spawn(async move {
            let endpoint = bind(rand::random(), &known).await?;
            for turn in number.. {
                let Some(peer) = known.get(turn % known.len().max(1)) else {
                    break;
                };
                let peer = iroh_address(peer)?;
                let dial = endpoint.connect(peer, iroh_blobs::ALPN);
                // Refused or not, the next one follows.
                let _ = tokio::time::timeout(Duration::from_secs(1), dial).await;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = dialling.join_next().await {
        ended.context("dialling")??;
    }
    Ok(())
}

/// Gives bodies, in its manner.
#[derive(Debug, Clone, Copy)]
struct Provider(Kind);

impl ProtocolHandler for Provider {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            let slow = self.0 == Kind::Drip;
            tokio::spawn(async move {
                let asked = receive.read_to_end(4096).await;
                let mut sent = send.write_all(&40_000u64.to_le_bytes()).await;
                if slow {
                    while sent.is_ok() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        sent = send.write_all(&[7]).await;
                    }
                } else if asked.is_ok()
                    && sent.is_ok()
                    && send.write_all(&[7; 40_000]).await.is_ok()
                {
                    send.finish().ok();
                }
            });
        }
        Ok(())
    }
}

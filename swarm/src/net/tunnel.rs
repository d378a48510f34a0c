//! The chain through a peer: a swarm that settles on somebody's embedded devnet
//! can be joined from anywhere, though the devnet listens on loopback only.
//!
//! `/murmuration/chain/1`: each stream is one TCP connection to the devnet's
//! JSON-RPC on the other side. Whoever joins opens a port on its own loopback
//! and talks to the devnet as if it were here. Only a devnet is ever offered:
//! its money is play money, and anyone may have some.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use iroh::endpoint::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh::{EndpointAddr, EndpointId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::budget::{Account, Budget};
use super::limits::CONNECT_TIMEOUT;

/// The protocol's name and version.
pub(super) const CHAIN_ALPN: &[u8] = b"/murmuration/chain/1";

/// Streams for one connection: a node keeps a handful of HTTP connections.
const MAX_STREAMS: usize = 16;

/// Streams over all peers: below what the devnet takes, so that it stays
/// reachable from its own machine.
const MAX_ALL_STREAMS: usize = 128;

/// A stream on which nothing moves for this long is closed. Above the time
/// that HTTP clients keep an idle connection.
const IDLE: Duration = Duration::from_secs(120);

/// What one peer may send to the chain: settlements of a large round are some
/// hundred kilobytes. Beyond it the peer is slowed down, not cut off.
const REQUESTS: Budget = Budget {
    messages_per_second: 200,
    message_burst: 2_000,
    bytes_per_second: 256 * 1024,
    byte_burst: 4 * 1024 * 1024,
};

/// A peer without a chain has closed the connection by then, wherever it is.
const REFUSAL: Duration = Duration::from_secs(1);

/// Bytes carried at once.
const CHUNK: usize = 16 * 1024;

const CLOSE_NO_CHAIN: VarInt = VarInt::from_u32(0x4d05);

/// The way in, on the machine whose devnet it is.
#[derive(Debug, Clone)]
pub(super) struct Door {
    chain: Arc<RwLock<Option<SocketAddr>>>,
    places: Arc<Semaphore>,
}

impl Door {
    pub(super) fn closed() -> Self {
        Self {
            chain: Arc::default(),
            places: Arc::new(Semaphore::new(MAX_ALL_STREAMS)),
        }
    }

    pub(super) fn open(&self, chain: SocketAddr) {
        *self.chain.write().unwrap_or_else(PoisonError::into_inner) = Some(chain);
    }
}

impl ProtocolHandler for Door {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let chain = *self.chain.read().unwrap_or_else(PoisonError::into_inner);
        let Some(chain) = chain else {
            connection.close(CLOSE_NO_CHAIN, b"no chain here");
            return Ok(());
        };
        let account = Arc::new(Mutex::new(Account::new(REQUESTS, Instant::now())));
        let mut streams = JoinSet::new();
        loop {
            let (send, receive) = tokio::select! {
                stream = connection.accept_bi() => match stream {
                    Ok(stream) => stream,
                    Err(_) => break,
                },
                Some(_) = streams.join_next() => continue,
            };
            // Dropped streams are reset: the other side sees a closed connection.
            if streams.len() >= MAX_STREAMS {
                continue;
            }
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                continue;
            };
            let account = account.clone();
            streams.spawn(async move {
                let _place = place;
                if let Ok(tcp) = TcpStream::connect(chain).await {
                    carry(tcp, send, receive, Some(account)).await;
                }
            });
        }
        Ok(())
    }
}

/// A port on this machine's loopback behind which is a peer's devnet; until it
/// is dropped.
#[derive(Debug)]
pub struct Tunnel {
    at: SocketAddr,
    _task: JoinSet<()>,
}

impl Tunnel {
    /// Opens the port. `peers` are asked in order, again whenever the
    /// connection is lost.
    pub(super) async fn open(endpoint: Endpoint, peers: Vec<EndpointId>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let at = listener.local_addr()?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let far = Arc::new(Far {
                endpoint,
                peers,
                connection: Mutex::default(),
            });
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    Some(_) = open.join_next() => {}
                    accepted = listener.accept(), if open.len() < MAX_STREAMS => {
                        // Gone already, or out of descriptors: the next may be well.
                        let Ok((tcp, _)) = accepted else { continue };
                        let far = far.clone();
                        open.spawn(async move {
                            if let Some((send, receive)) = far.stream().await {
                                carry(tcp, send, receive, None).await;
                            }
                        });
                    }
                }
            }
        });
        Ok(Self { at, _task: task })
    }

    /// Where the chain's JSON-RPC seems to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

/// The other end.
struct Far {
    endpoint: Endpoint,
    peers: Vec<EndpointId>,
    connection: Mutex<Option<Connection>>,
}

impl Far {
    async fn stream(&self) -> Option<(SendStream, RecvStream)> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref()
            && let Ok(Ok(stream)) = timeout(CONNECT_TIMEOUT, connection.open_bi()).await
        {
            return Some(stream);
        }
        *kept = None;
        for peer in &self.peers {
            let dial = self.endpoint.connect(EndpointAddr::new(*peer), CHAIN_ALPN);
            let Ok(Ok(connection)) = timeout(CONNECT_TIMEOUT, dial).await else {
                continue;
            };
            // A peer without a chain closes at once; one with a chain says nothing
            // before it is asked.
            let refused = timeout(REFUSAL, connection.closed()).await;
            if refused.is_err()
                && let Ok(stream) = connection.open_bi().await
            {
                *kept = Some(connection);
                return Some(stream);
            }
        }
        None
    }
}

/// Carries bytes both ways until one side ends or nothing moves.
async fn carry(
    tcp: TcpStream,
    send: SendStream,
    receive: RecvStream,
    account: Option<Arc<Mutex<Account>>>,
) {
    let (tcp_read, tcp_write) = tcp.into_split();
    tokio::join!(
        pump(receive, tcp_write, account),
        pump(tcp_read, send, None)
    );
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    account: Option<Arc<Mutex<Account>>>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(Ok(read @ 1..)) = timeout(IDLE, from.read(&mut chunk)).await {
        if let Some(account) = &account {
            while !account.lock().await.admit(read, Instant::now()) {
                sleep(Duration::from_millis(100)).await;
            }
        }
        match timeout(IDLE, to.write_all(&chunk[..read])).await {
            Ok(Ok(())) => {}
            _ => break,
        }
    }
    // The other side is told that no more comes; it may be gone.
    let _ = to.shutdown().await;
}

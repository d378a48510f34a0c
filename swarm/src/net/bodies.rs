//! Bodies by hash: kept in a blob store, served under limits, fetched from
//! whoever has them.
//!
//! A fetch asks a provider to *prove* the size before a byte of the body moves,
//! refuses a body that is not exactly as long as announced, verifies every
//! chunk against the hash as it arrives, and gives up on a provider that is
//! dead or slow in seconds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Connection, Endpoint};
use iroh::{EndpointAddr, EndpointId};
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::get::GetError;
use iroh_blobs::get::fsm::{AtBlobHeaderNextError, DecodeError};
use iroh_blobs::get::request::get_verified_size;
use iroh_blobs::protocol::{ERR_INTERNAL, ERR_LIMIT, ERR_PERMISSION};
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::mem::MemStore;
use iroh_blobs::store::{GcConfig, ProtectOutcome};
use iroh_blobs::{Hash, HashAndFormat};
use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::NetError;
use super::address::AddressBook;
use super::conduct::Fault;
use super::limits::{
    BODY_TIMEOUT, COLLECT_INTERVAL, CONNECT_TIMEOUT, KEEP_CONNECTION, MAX_FETCHES,
    MAX_KEPT_CONNECTIONS, MIN_BODY_RATE, SIZE_TIMEOUT,
};
use super::links::Registry;

/// Where bodies are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyStore {
    /// In memory: gone when the node stops.
    Memory,
    /// In a folder of the node's own. Two processes cannot share one.
    Folder(PathBuf),
}

/// Why one provider did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProviderFailure {
    /// No connection within [`CONNECT_TIMEOUT`], or it broke.
    Unreachable(String),
    /// It answered, but not in time.
    TooSlow,
    /// It does not have the body.
    Missing,
    /// It is at its limits; later may work.
    Busy,
    /// What it sent is not what the hash names.
    Corrupt,
}

impl fmt::Display for ProviderFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProviderFailure::Unreachable(why) => write!(f, "unreachable ({why})"),
            ProviderFailure::TooSlow => f.write_str("too slow"),
            ProviderFailure::Missing => f.write_str("does not have it"),
            ProviderFailure::Busy => f.write_str("busy"),
            ProviderFailure::Corrupt => f.write_str("sent something else"),
        }
    }
}

/// Why a body was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nothing was asked of anyone.
    #[error("a body of {bytes} bytes is announced, the limit is {max}")]
    TooLarge {
        /// As announced.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A provider proved another size than was announced: the announcement is
    /// false, and no other provider can make it true.
    #[error("the body is {actual} bytes, {expected} were announced")]
    WrongSize {
        /// As announced.
        expected: u64,
        /// As proved against the hash.
        actual: u64,
    },
    /// Nobody to ask.
    #[error("no provider is known for the body")]
    NoProvider,
    /// Everyone was asked.
    #[error("no provider delivered the body: {}", list(.0))]
    NoneDelivered(Vec<([u8; 32], ProviderFailure)>),
    /// Our own store failed.
    #[error("the body store failed: {0}")]
    Store(String),
    /// The node is shutting down.
    #[error("the network is closed")]
    Closed,
}

fn list(failures: &[([u8; 32], ProviderFailure)]) -> String {
    failures
        .iter()
        .map(|(peer, failure)| format!("{} {failure}", hex::encode(&peer[..4])))
        .collect::<Vec<_>>()
        .join(", ")
}

/// What is known of a body's size before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// It was announced.
    Exactly(u64),
    /// Only what it may be.
    AtMost(u64),
}

impl Size {
    fn most(self) -> u64 {
        match self {
            Size::Exactly(bytes) | Size::AtMost(bytes) => bytes,
        }
    }

    /// Refuses a body whose proved size is not what was said, or too much.
    fn admit(self, actual: u64) -> Result<(), FetchError> {
        match self {
            Size::Exactly(expected) if actual != expected => {
                Err(FetchError::WrongSize { expected, actual })
            }
            Size::AtMost(max) if actual > max => Err(FetchError::TooLarge { bytes: actual, max }),
            _ => Ok(()),
        }
    }
}

/// A failure of one attempt: the provider's, or the end of the fetch.
enum Attempt {
    Provider(ProviderFailure),
    Final(FetchError),
}

pub(super) struct Bodies {
    pub(super) store: Store,
    endpoint: Endpoint,
    book: Arc<AddressBook>,
    registry: Arc<Registry>,
    kept: Mutex<BTreeMap<EndpointId, Kept>>,
    slots: Semaphore,
    max_body: u64,
}

struct Kept {
    connection: Connection,
    used: Instant,
}

impl Bodies {
    pub(super) async fn open(
        place: &BodyStore,
        endpoint: Endpoint,
        book: Arc<AddressBook>,
        registry: Arc<Registry>,
        max_body: u64,
        closed: CancellationToken,
    ) -> Result<Self, NetError> {
        let store = match place {
            BodyStore::Memory => {
                let options = iroh_blobs::store::mem::Options {
                    gc_config: Some(collector(closed)),
                };
                MemStore::new_with_opts(options).into()
            }
            BodyStore::Folder(folder) => open_folder(folder, closed).await?,
        };
        Ok(Self {
            store,
            endpoint,
            book,
            registry,
            kept: Mutex::default(),
            slots: Semaphore::new(MAX_FETCHES),
            max_body,
        })
    }

    /// Keeps a body and serves it until it is forgotten.
    pub(super) async fn serve(&self, body: Vec<u8>) -> Result<[u8; 32], NetError> {
        if body.len() as u64 > self.max_body {
            return Err(NetError::BodyTooLarge {
                bytes: body.len() as u64,
                max: self.max_body,
            });
        }
        let hash = Hash::new(&body);
        self.store
            .add_bytes(body)
            .with_named_tag(tag(&hash))
            .await
            .map_err(|error| NetError::Store(error.to_string()))?;
        Ok(*hash.as_bytes())
    }

    /// Stops serving a body; it is removed at the next collection.
    pub(super) async fn forget(&self, hash: [u8; 32]) -> Result<(), NetError> {
        self.store
            .tags()
            .delete(tag(&Hash::from_bytes(hash)))
            .await
            .map(drop)
            .map_err(|error| NetError::Store(error.to_string()))
    }

    /// Forgets every body but these.
    pub(super) async fn retain(&self, keep: &[[u8; 32]]) -> Result<u64, NetError> {
        use futures_lite::StreamExt;
        let failed = |error: &dyn fmt::Display| NetError::Store(error.to_string());
        let mut tags = self
            .store
            .tags()
            .list_prefix(TAG_PREFIX)
            .await
            .map_err(|error| failed(&error))?;
        let mut forgotten = Vec::new();
        while let Some(entry) = tags.next().await {
            let entry = entry.map_err(|error| failed(&error))?;
            if !keep.contains(entry.hash.as_bytes()) {
                forgotten.push(*entry.hash.as_bytes());
            }
        }
        for hash in &forgotten {
            self.forget(*hash).await?;
        }
        Ok(forgotten.len() as u64)
    }

    /// The body with this hash, from our own store or from one of `providers`.
    pub(super) async fn fetch(
        &self,
        hash: [u8; 32],
        expected: Size,
        providers: Vec<EndpointAddr>,
    ) -> Result<Vec<u8>, FetchError> {
        if expected.most() > self.max_body {
            return Err(FetchError::TooLarge {
                bytes: expected.most(),
                max: self.max_body,
            });
        }
        let hash = Hash::from_bytes(hash);
        if let Some(body) = self.local(hash, expected).await? {
            return Ok(body);
        }
        let _slot = self.slots.acquire().await.map_err(|_| FetchError::Closed)?;
        let mut failures = Vec::new();
        for provider in self.in_order(providers) {
            match self.attempt(provider, hash, expected).await {
                Ok(body) => return Ok(body),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Provider(failure)) => {
                    tracing::debug!(provider = %provider.fmt_short(), %failure, "body not delivered");
                    match failure {
                        ProviderFailure::Corrupt => self.registry.fault(provider, Fault::Corrupt),
                        ProviderFailure::TooSlow => self.registry.fault(provider, Fault::Slow),
                        _ => {}
                    }
                    failures.push((*provider.as_bytes(), failure));
                }
            }
        }
        if failures.is_empty() {
            return Err(FetchError::NoProvider);
        }
        Err(FetchError::NoneDelivered(failures))
    }

    /// Closes provider connections that nobody used for a while.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, kept| {
            now < kept.used + KEEP_CONNECTION && kept.connection.close_reason().is_none()
        });
    }

    /// Ends waiting fetches and lets go of all connections.
    pub(super) fn close(&self) {
        self.slots.close();
        self.lock().clear();
    }

    async fn local(&self, hash: Hash, expected: Size) -> Result<Option<Vec<u8>>, FetchError> {
        let failed = |error: &dyn fmt::Display| FetchError::Store(error.to_string());
        match self.store.status(hash).await.map_err(|e| failed(&e))? {
            BlobStatus::Complete { size } => {
                expected.admit(size)?;
                let body = self.store.get_bytes(hash).await.map_err(|e| failed(&e))?;
                // It may be about to be collected: it is wanted again.
                self.keep(hash).await?;
                Ok(Some(body.to_vec()))
            }
            _ => Ok(None),
        }
    }

    async fn keep(&self, hash: Hash) -> Result<(), FetchError> {
        self.store
            .tags()
            .set(tag(&hash), HashAndFormat::raw(hash))
            .await
            .map_err(|error| FetchError::Store(error.to_string()))
    }

    /// Providers with a clean record first, among them those we are connected to,
    /// each kind in random order, so that the first announced is not everyone's
    /// first choice. One that is cut off is not asked.
    fn in_order(&self, providers: Vec<EndpointAddr>) -> Vec<EndpointId> {
        let me = self.endpoint.id();
        let mut ids: Vec<EndpointId> = Vec::new();
        for provider in providers {
            if provider.id != me && !ids.contains(&provider.id) {
                ids.push(provider.id);
                if !provider.is_empty() {
                    self.book.learn(provider);
                }
            }
        }
        ids.shuffle(&mut rand::rng());
        ids.retain(|id| !self.registry.is_out(id));
        ids.sort_by_key(|id| (self.registry.points(id), !self.registry.connected(id)));
        ids
    }

    async fn attempt(
        &self,
        provider: EndpointId,
        hash: Hash,
        expected: Size,
    ) -> Result<Vec<u8>, Attempt> {
        let (connection, kept) = self.connect(provider).await?;
        match self.transfer(&connection, hash, expected).await {
            Err(Attempt::Provider(ProviderFailure::Unreachable(_) | ProviderFailure::TooSlow))
                if kept =>
            {
                // A provider that restarted leaves a connection that looks
                // alive: it deserves a fresh one before it is called dead.
                self.lock().remove(&provider);
                let (connection, _) = self.connect(provider).await?;
                self.transfer(&connection, hash, expected).await
            }
            result => result,
        }
        .inspect_err(|_| {
            self.lock().remove(&provider);
        })
    }

    /// A connection to the provider, and whether it is an old one.
    async fn connect(&self, provider: EndpointId) -> Result<(Connection, bool), Attempt> {
        if let Some(kept) = self.lock().get_mut(&provider)
            && kept.connection.close_reason().is_none()
        {
            kept.used = Instant::now();
            return Ok((kept.connection.clone(), true));
        }
        let unreachable = |why: String| Attempt::Provider(ProviderFailure::Unreachable(why));
        let dial = self.endpoint.connect(provider, iroh_blobs::ALPN);
        let connection = timeout(CONNECT_TIMEOUT, dial)
            .await
            .map_err(|_| unreachable(format!("no answer in {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        let mut kept = self.lock();
        if kept.len() >= MAX_KEPT_CONNECTIONS {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                kept.remove(&oldest);
            }
        }
        let used = Instant::now();
        let entry = Kept {
            connection: connection.clone(),
            used,
        };
        kept.insert(provider, entry);
        Ok((connection, false))
    }

    async fn transfer(
        &self,
        connection: &Connection,
        hash: Hash,
        expected: Size,
    ) -> Result<Vec<u8>, Attempt> {
        let too_slow = |_| Attempt::Provider(ProviderFailure::TooSlow);
        let (actual, _) = timeout(SIZE_TIMEOUT, get_verified_size(connection, &hash))
            .await
            .map_err(too_slow)?
            .map_err(classify)?;
        expected.admit(actual).map_err(Attempt::Final)?;
        let failed =
            |error: &dyn fmt::Display| Attempt::Final(FetchError::Store(error.to_string()));
        // Protects the partial body from collection until its tag is set.
        let content = HashAndFormat::raw(hash);
        let partial = self.store.tags().temp_tag(content).await;
        let _partial = partial.map_err(|error| failed(&error))?;
        let patience = BODY_TIMEOUT + Duration::from_secs(actual / MIN_BODY_RATE);
        let fetch = self.store.remote().fetch(connection.clone(), content);
        timeout(patience, fetch.complete())
            .await
            .map_err(too_slow)?
            .map_err(classify)?;
        self.keep(hash).await.map_err(Attempt::Final)?;
        let body = self.store.get_bytes(hash).await;
        Ok(body.map_err(|error| failed(&error))?.to_vec())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Kept>> {
        // A map of handles: whole after every statement.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names of the tags that protect bodies from collection.
const TAG_PREFIX: &str = "body-";

fn tag(hash: &Hash) -> String {
    format!("{TAG_PREFIX}{}", hash.to_hex())
}

/// Collects forgotten bodies. The store's collector cannot be stopped and
/// complains once the store is gone, so it is made to wait for ever instead.
fn collector(closed: CancellationToken) -> GcConfig {
    GcConfig {
        interval: COLLECT_INTERVAL,
        add_protected: Some(Arc::new(move |_| {
            let closed = closed.clone();
            Box::pin(async move {
                if closed.is_cancelled() {
                    std::future::pending::<()>().await;
                }
                ProtectOutcome::Continue
            })
        })),
    }
}

async fn open_folder(folder: &Path, closed: CancellationToken) -> Result<Store, NetError> {
    let mut options = iroh_blobs::store::fs::options::Options::new(folder);
    options.gc = Some(collector(closed));
    let database = folder.join("blobs.db");
    FsStore::load_with_opts(database, options)
        .await
        .map(Into::into)
        .map_err(|error| NetError::Store(format!("{}: {error:#}", folder.display())))
}

/// What a failed request says about the provider.
fn classify(error: GetError) -> Attempt {
    match error.iroh_error_code() {
        Some(ERR_LIMIT) => return Attempt::Provider(ProviderFailure::Busy),
        // A store without the body calls that an internal error.
        Some(ERR_INTERNAL | ERR_PERMISSION) => {
            return Attempt::Provider(ProviderFailure::Missing);
        }
        _ => {}
    }
    Attempt::Provider(match &error {
        GetError::AtBlobHeaderNext {
            source: AtBlobHeaderNextError::NotFound { .. },
            ..
        } => ProviderFailure::Missing,
        GetError::Decode { source, .. } => match source {
            DecodeError::ChunkNotFound { .. }
            | DecodeError::ParentNotFound { .. }
            | DecodeError::LeafNotFound { .. } => ProviderFailure::Missing,
            DecodeError::ParentHashMismatch { .. } | DecodeError::LeafHashMismatch { .. } => {
                ProviderFailure::Corrupt
            }
            DecodeError::Write { source, .. } => {
                return Attempt::Final(FetchError::Store(source.to_string()));
            }
            other => ProviderFailure::Unreachable(other.to_string()),
        },
        other => ProviderFailure::Unreachable(other.to_string()),
    })
}

//! The devnet: an Ethereum chain inside this process, for a swarm that has no other.
//!
//! A real EVM (revm), real contracts and real JSON-RPC on loopback, one block a
//! transaction, final at once. It is a *devnet*, never a rollup: whoever runs it
//! could write anything into it, so what it settles proves nothing to strangers.
//!
//! - [`log`]: the append-only file it lives in
//! - [`chain`]: blocks and state; pure
//! - [`past`]: the state as it was, a while back; [`trie`]: its root, and proofs
//! - [`rpc`]: what it answers; [`otterscan`] what an explorer asks beside; [`filters`] and
//!   [`subscriptions`] for those who want to be told of what comes
//! - [`pages`]: which web pages may read the answers
//! - this file: the server, the clock and the randomness, at the edge
//!
//! A block is on disk before its transaction's hash is told, and the log is read back at
//! start, so that kill -9 loses nothing anybody was told of.

mod chain;
mod filters;
mod log;
mod otterscan;
mod pages;
mod past;
mod remote;
mod rpc;
mod subscriptions;
mod trie;

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use jsonrpsee::RpcModule;
use jsonrpsee::server::middleware::http::HostFilterLayer;
use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig, ServerHandle};
use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::broadcast;

pub(crate) use self::chain::Chain;
use self::chain::{BASE_FEE, Block, Entry, Rejected};
#[cfg(test)]
pub(crate) use self::chain::{Call, CallOutcome};
use self::filters::Filters;
pub(crate) use self::log::Genesis;
pub(crate) use self::log::sync_folder;
pub(crate) use self::log::{Log, Record};
pub use self::log::{LogError, TornTail};
use self::log::{LogReader, Nonsense};
use self::pages::Pages;
pub use self::remote::{answers, request_funds};

/// The devnet's own chain id, when nobody asks for another.
pub const DEFAULT_CHAIN_ID: u64 = 7700;

/// What an account is given at first: a hundred ether, for ever at these fees.
const FUND_DEFAULT: U256 = U256::from_limbs([0x6bc7_5e2d_6310_0000, 0x5, 0, 0]);
/// What the faucet starts with: 2^96 wei, some 79 billion ether.
const FAUCET_BALANCE: U256 = U256::from_limbs([0, 1 << 32, 0, 0]);
/// When a seeded devnet's genesis was: its clock counts blocks from here.
const SEEDED_EPOCH: u64 = 1_700_000_000;

/// A request's size: above the largest settlement, far below what would hurt.
const REQUEST_LIMIT: u32 = 2 << 20;
/// A response's size: logs are the largest.
const RESPONSE_LIMIT: u32 = 32 << 20;
/// More would be a mistake: its users are this machine's nodes and a `cast` or two.
const CONNECTION_LIMIT: u32 = 256;
/// Subscriptions of one connection.
const SUBSCRIPTION_LIMIT: u32 = 32;
/// New blocks a slow subscriber may be behind before it misses some.
const HEADS: usize = 256;
/// Requests in one batch.
const BATCH_LIMIT: u32 = 100;

/// How to start a devnet.
#[derive(Clone, Debug)]
pub struct DevnetConfig {
    /// The folder its log lives in; made if missing.
    pub home: PathBuf,
    /// The loopback port to listen on; 0 takes any that is free.
    pub port: u16,
    /// Its chain id, fixed when the log is created.
    pub chain_id: u64,
    /// Accounts to see to it that have funds, now and at any later start.
    pub prefund: Vec<Address>,
    /// With a seed the chain is a function of the transactions it is sent: its
    /// randomness and its clock follow from the seed. Fixed when the log is created.
    pub seed: Option<u64>,
}

/// Why a devnet did not start, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevnetError {
    /// The folder could not be used.
    #[error("devnet home {path}: {source}")]
    Home {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process runs this devnet.
    #[error(
        "the devnet in {home} is already running (process {holder}): stop that one, connect to it, or choose another home"
    )]
    InUse {
        /// The folder.
        home: PathBuf,
        /// The process that holds it, as it wrote itself down.
        holder: String,
    },
    /// The port is taken.
    #[error("port {port} is in use on this machine: choose another, or 0 for any that is free")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// The server could not be started.
    #[error("devnet server: {0}")]
    Server(std::io::Error),
    /// The log is of another chain.
    #[error(
        "the devnet log in {home} is of chain {found}, not {asked}: choose another home, or ask for chain {found}"
    )]
    OtherChain {
        /// The folder.
        home: PathBuf,
        /// The log's chain id.
        found: u64,
        /// The one asked for.
        asked: u64,
    },
    /// The log could not be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The devnet was stopped.
    #[error("the devnet is stopped")]
    Stopped,
    /// A transaction was refused.
    #[error("{0}")]
    Rejected(String),
}

/// A running devnet. Dropping it stops it; nothing is lost, and its home can be opened
/// again at once.
#[derive(Debug)]
pub struct Devnet {
    address: SocketAddr,
    server: ServerHandle,
    state: Arc<State>,
    torn: Option<TornTail>,
}

impl Devnet {
    /// Opens or creates the chain in `config.home`, replays its log and serves it.
    pub async fn start(config: DevnetConfig) -> Result<Self, DevnetError> {
        // Taken before the log is read: a used port should not cost a replay.
        let listener = listen(config.port)?;
        let address = listener.local_addr().map_err(DevnetError::Server)?;
        let (state, torn) = tokio::task::spawn_blocking(move || State::open(&config))
            .await
            .map_err(|error| DevnetError::Server(std::io::Error::other(error)))??;
        let state = Arc::new(state);
        let server = serve(listener, Arc::clone(&state)).await?;
        Ok(Self {
            address,
            server,
            state,
            torn,
        })
    }

    /// Where its JSON-RPC is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its chain id.
    pub fn chain_id(&self) -> u64 {
        self.state.chain().chain_id()
    }

    /// How many blocks there are above genesis: one for each transaction.
    pub fn height(&self) -> u64 {
        self.state.chain().height()
    }

    /// What a crash had left half written, if it had; worth telling the user.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// Sends `amount` wei from the faucet.
    pub async fn fund(&self, account: Address, amount: U256) -> Result<(), DevnetError> {
        let state = Arc::clone(&self.state);
        tokio::task::spawn_blocking(move || state.fund(account, amount))
            .await
            .map_err(|error| DevnetError::Server(std::io::Error::other(error)))??;
        Ok(())
    }

    /// Stops the server and waits for the requests in flight.
    pub async fn shutdown(self) {
        // Fails only if it has stopped already.
        let _ = self.server.stop();
        self.server.clone().stopped().await;
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Fails only if it has stopped already.
        let _ = self.server.stop();
        // The server's tasks may outlive this; they must not write any more.
        self.state.close();
    }
}

/// The chain, its log, and the edge where clock and randomness come in.
#[derive(Debug)]
pub(crate) struct State {
    chain: RwLock<Chain>,
    reader: LogReader,
    /// Held while a block is made, so that one is made at a time; empty once stopped.
    writer: Mutex<Option<Writer>>,
    faucet: PrivateKeySigner,
    filters: Mutex<Filters>,
    /// The number of each new block, for those who wait.
    heads: broadcast::Sender<u64>,
}

/// The right to write.
#[derive(Debug)]
struct Writer {
    log: Log,
    /// The file whose lock says that this process is the one writer.
    _lock: File,
}

/// The chain as it stands, with its old blocks.
pub(crate) struct View<'a> {
    pub(crate) chain: RwLockReadGuard<'a, Chain>,
    reader: &'a LogReader,
}

impl View<'_> {
    /// A block, in full.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Block>, DevnetError> {
        match self.chain.entry(number) {
            None => Ok(None),
            Some(Entry { place: None, .. }) => Ok(Some(self.chain.genesis())),
            Some(Entry {
                place: Some(place), ..
            }) => Ok(self.chain.rebuild(number, self.reader.block(*place)?)),
        }
    }

    /// The contracts that a block made, by whomever.
    pub(crate) fn made(&self, number: u64) -> Result<Vec<Address>, DevnetError> {
        let Some(Entry {
            place: Some(place), ..
        }) = self.chain.entry(number)
        else {
            return Ok(Vec::new());
        };
        let record = self.reader.block(*place)?;
        let made = record.changes.iter().filter(|change| change.code.is_some());
        Ok(made.map(|change| change.address).collect())
    }

    /// The block a transaction is in.
    pub(crate) fn block_of_transaction(&self, hash: &B256) -> Result<Option<Block>, DevnetError> {
        match self.chain.number_of_transaction(hash) {
            Some(number) => self.block(number),
            None => Ok(None),
        }
    }
}

impl State {
    fn open(config: &DevnetConfig) -> Result<(Self, Option<TornTail>), DevnetError> {
        let home = |source| DevnetError::Home {
            path: config.home.clone(),
            source,
        };
        std::fs::create_dir_all(&config.home).map_err(home)?;
        let lock = lock(&config.home)?;
        let mut chain = None;
        let (mut log, torn) = Log::open(&config.home.join("devnet.log"), |record, place| {
            match (record, &mut chain) {
                (Record::Genesis(genesis), None) => chain = Some(Chain::new(&genesis)),
                (Record::Block(block), Some(chain)) => chain.commit(&block, place),
                _ => return Err(Nonsense),
            }
            Ok(())
        })?;
        let faucet = faucet(config.chain_id);
        let chain = match chain {
            Some(chain) => chain,
            None => {
                let genesis = genesis(config, faucet.address());
                log.append(&Record::Genesis(genesis.clone()))?;
                Chain::new(&genesis)
            }
        };
        if chain.chain_id() != config.chain_id {
            return Err(DevnetError::OtherChain {
                home: config.home.clone(),
                found: chain.chain_id(),
                asked: config.chain_id,
            });
        }
        let state = Self {
            chain: RwLock::new(chain),
            reader: log.reader()?,
            writer: Mutex::new(Some(Writer { log, _lock: lock })),
            faucet,
            filters: Mutex::default(),
            heads: broadcast::Sender::new(HEADS),
        };
        for &account in &config.prefund {
            if state.chain().account(account).balance.is_zero() {
                state.fund(account, FUND_DEFAULT)?;
            }
        }
        Ok((state, torn))
    }

    /// Gives up the right to write.
    fn close(&self) {
        *self.writer() = None;
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            chain: self.chain(),
            reader: &self.reader,
        }
    }

    /// A panic in another thread cannot have left the chain half changed: blocks are
    /// made on the side and put in whole.
    pub(crate) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of each block that is made from now on.
    pub(crate) fn heads(&self) -> broadcast::Receiver<u64> {
        self.heads.subscribe()
    }

    /// When the next block would be made, were it made now.
    pub(crate) fn next_timestamp(&self, chain: &Chain) -> u64 {
        match chain.seed() {
            Some(_) => SEEDED_EPOCH + chain.height() + 1,
            // A clock set back must not run the chain's time backwards.
            None => now().max(chain.head().timestamp),
        }
    }

    /// Makes a block of a raw transaction; when this returns, it survives a crash.
    pub(crate) fn submit(&self, raw: &[u8]) -> Result<B256, DevnetError> {
        self.append(self.writer().as_mut().ok_or(DevnetError::Stopped)?, raw)
    }

    fn append(&self, writer: &mut Writer, raw: &[u8]) -> Result<B256, DevnetError> {
        let candidate = {
            let chain = self.chain();
            let prevrandao = match chain.seed() {
                Some(seed) => seeded_randomness(seed, chain.height() + 1),
                None => B256::from(rand::random::<[u8; 32]>()),
            };
            chain.execute(raw, self.next_timestamp(&chain), prevrandao)?
        };
        let record = Record::Block(candidate.record);
        let place = writer.log.append(&record)?;
        if let Record::Block(record) = &record {
            let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
            chain.commit(record, place);
            // Fails only if nobody listens.
            let _ = self.heads.send(chain.height());
        }
        Ok(candidate.block.mined.map_or(B256::ZERO, |mined| mined.hash))
    }

    /// Sends funds from the faucet: an ordinary transaction, so an ordinary block.
    pub(crate) fn fund(&self, account: Address, amount: U256) -> Result<B256, DevnetError> {
        // Taken first, so that no other transfer gets the same nonce.
        let mut writer = self.writer();
        let writer = writer.as_mut().ok_or(DevnetError::Stopped)?;
        let (chain_id, nonce) = {
            let chain = self.chain();
            (chain.chain_id(), chain.account(self.faucet.address()).nonce)
        };
        let transfer = TxEip1559 {
            chain_id,
            nonce,
            // A contract may want more than a plain transfer costs.
            gas_limit: 100_000,
            max_fee_per_gas: u128::from(BASE_FEE),
            max_priority_fee_per_gas: 0,
            to: TxKind::Call(account),
            value: amount,
            access_list: Default::default(),
            input: Bytes::new(),
        };
        let signature = self
            .faucet
            .sign_hash_sync(&transfer.signature_hash())
            .map_err(|error| DevnetError::Rejected(error.to_string()))?;
        let envelope = TxEnvelope::from(transfer.into_signed(signature));
        self.append(writer, &envelope.encoded_2718())
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Chain({} at block {})",
            self.chain_id(),
            self.height()
        )
    }
}

impl From<Rejected> for DevnetError {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected.to_string())
    }
}

impl From<DevnetError> for ErrorObjectOwned {
    fn from(error: DevnetError) -> Self {
        rpc::declined(error.to_string())
    }
}

fn genesis(config: &DevnetConfig, faucet: Address) -> Genesis {
    let accounts = config
        .prefund
        .iter()
        .map(|&account| (account, FUND_DEFAULT));
    Genesis {
        chain_id: config.chain_id,
        timestamp: if config.seed.is_some() {
            SEEDED_EPOCH
        } else {
            now()
        },
        seed: config.seed,
        balances: std::iter::once((faucet, FAUCET_BALANCE))
            .chain(accounts)
            .collect(),
    }
}

fn lock(home: &Path) -> Result<File, DevnetError> {
    let path = home.join("devnet.lock");
    let failed = |source| DevnetError::Home {
        path: path.clone(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            let holder = match holder.trim() {
                "" => "unknown".to_owned(),
                known => known.to_owned(),
            };
            return Err(DevnetError::InUse {
                home: home.to_owned(),
                holder,
            });
        }
        Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
    }
    // The lock goes with the process, however it ends; the number is for people.
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

fn listen(port: u16) -> Result<TcpListener, DevnetError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => DevnetError::PortInUse { port },
            _ => DevnetError::Server(error),
        })?;
    listener
        .set_nonblocking(true)
        .map_err(DevnetError::Server)?;
    Ok(listener)
}

async fn serve(listener: TcpListener, state: Arc<State>) -> Result<ServerHandle, DevnetError> {
    let mut module = RpcModule::from_arc(state);
    for &method in rpc::METHODS {
        module
            .register_blocking_method(method, move |parameters, state, _| {
                let values = parameters.parse::<Option<Vec<serde_json::Value>>>()?;
                rpc::answer(&state, method, values.unwrap_or_default())
            })
            .expect("method names are unique");
    }
    subscriptions::register(&mut module);
    let config = ServerConfig::builder()
        .set_id_provider(subscriptions::HexIds::default())
        .max_subscriptions_per_connection(SUBSCRIPTION_LIMIT)
        .max_request_body_size(REQUEST_LIMIT)
        .max_response_body_size(RESPONSE_LIMIT)
        .max_connections(CONNECTION_LIMIT)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_LIMIT))
        .build();
    // A web page may make a browser send requests to loopback under another name.
    let hosts = ["localhost:*", "127.0.0.1:*"];
    let hosts = HostFilterLayer::new(hosts).expect("constant host names");
    let server = Server::builder()
        .set_config(config)
        .set_http_middleware(tower::ServiceBuilder::new().layer(hosts).layer(Pages))
        .build_from_tcp(listener)
        .map_err(DevnetError::Server)?;
    Ok(server.start(module))
}

/// The account that funds others, its key known to all: it holds play money.
fn faucet(chain_id: u64) -> PrivateKeySigner {
    let secret = keccak256(format!("murmuration devnet faucet {chain_id}"));
    PrivateKeySigner::from_bytes(&secret).expect("a hash below the curve's order")
}

fn seeded_randomness(seed: u64, block: u64) -> B256 {
    keccak256([seed.to_be_bytes(), block.to_be_bytes()].concat())
}

fn now() -> u64 {
    // A clock before 1970 is one that was never set.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

//! The devnet: an Ethereum chain inside this process, for a swarm that has no other.
//!
//! A real EVM (revm), real contracts and real JSON-RPC on loopback, one block a
//! transaction, final at once. It is a *devnet*, never a rollup: whoever runs it
//! could write anything into it, so what it settles proves nothing to strangers.
//!
//! - [`log`]: the append-only file it lives in
//! - [`chain`]: blocks and state; pure
//! - [`rpc`]: what it answers
//! - this file: the server, the clock and the randomness, at the edge
//!
//! A block is on disk before its transaction's hash is told, and the log is replayed
//! at start, so that kill -9 loses nothing anybody was told of.

mod chain;
mod log;
mod remote;
mod rpc;

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

pub(crate) use self::chain::Chain;
use self::chain::{BASE_FEE, Rejected};
#[cfg(test)]
pub(crate) use self::chain::{Call, CallOutcome};
pub(crate) use self::log::Genesis;
pub(crate) use self::log::sync_folder;
use self::log::{BlockRecord, Log, Record};
pub use self::log::{LogError, TornTail};
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
    /// The log holds a block that does not follow from the ones before.
    #[error("devnet log, block {block}: {why}; was it written by another version?")]
    Replay {
        /// The block's number.
        block: u64,
        /// Why it was refused.
        why: String,
    },
    /// A transaction was refused.
    #[error("{0}")]
    Rejected(String),
}

/// A running devnet. Dropping it stops the server; nothing is lost.
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
        self.server.stopped().await;
    }
}

/// The chain, its log, and the edge where clock and randomness come in.
#[derive(Debug)]
pub(crate) struct State {
    chain: RwLock<Chain>,
    /// Held while a block is made, so that one is made at a time.
    log: Mutex<Log>,
    faucet: PrivateKeySigner,
    /// Held as long as this lives: the log has one writer.
    _lock: File,
}

impl State {
    fn open(config: &DevnetConfig) -> Result<(Self, Option<TornTail>), DevnetError> {
        let home = |source| DevnetError::Home {
            path: config.home.clone(),
            source,
        };
        std::fs::create_dir_all(&config.home).map_err(home)?;
        let lock = lock(&config.home)?;
        let (mut log, records, torn) = Log::open(&config.home.join("devnet.log"))?;
        let faucet = faucet(config.chain_id);

        let mut records = records.into_iter();
        let genesis = match records.next() {
            Some(Record::Genesis(genesis)) => genesis,
            Some(Record::Block(_)) => {
                return Err(DevnetError::Replay {
                    block: 0,
                    why: "no genesis".to_owned(),
                });
            }
            None => {
                let genesis = Genesis {
                    chain_id: config.chain_id,
                    timestamp: if config.seed.is_some() {
                        SEEDED_EPOCH
                    } else {
                        now()
                    },
                    seed: config.seed,
                    balances: std::iter::once((faucet.address(), FAUCET_BALANCE))
                        .chain(
                            config
                                .prefund
                                .iter()
                                .map(|&account| (account, FUND_DEFAULT)),
                        )
                        .collect(),
                };
                log.append(&Record::Genesis(genesis.clone()))?;
                genesis
            }
        };
        if genesis.chain_id != config.chain_id {
            return Err(DevnetError::OtherChain {
                home: config.home.clone(),
                found: genesis.chain_id,
                asked: config.chain_id,
            });
        }
        let mut chain = Chain::new(&genesis);
        for record in records {
            replay(&mut chain, record)?;
        }
        let state = Self {
            chain: RwLock::new(chain),
            log: Mutex::new(log),
            faucet,
            _lock: lock,
        };
        for &account in &config.prefund {
            if state.chain().account(account).balance.is_zero() {
                state.fund(account, FUND_DEFAULT)?;
            }
        }
        Ok((state, torn))
    }

    /// A panic in another thread cannot have left the chain half changed: blocks are
    /// made on the side and put in whole.
    pub(crate) fn chain(&self) -> RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next block would be made, were it made now.
    pub(crate) fn next_timestamp(&self, chain: &Chain) -> u64 {
        match chain.seed() {
            Some(_) => SEEDED_EPOCH + chain.height() + 1,
            // A clock set back must not run the chain's time backwards.
            None => now().max(chain.head().header.timestamp),
        }
    }

    /// Makes a block of a raw transaction; when this returns, it survives a crash.
    pub(crate) fn submit(&self, raw: &[u8]) -> Result<B256, DevnetError> {
        self.append(&mut self.log(), raw)
    }

    fn append(&self, log: &mut Log, raw: &[u8]) -> Result<B256, DevnetError> {
        let candidate = {
            let chain = self.chain();
            let prevrandao = match chain.seed() {
                Some(seed) => seeded_randomness(seed, chain.height() + 1),
                None => B256::from(rand::random::<[u8; 32]>()),
            };
            chain.execute(raw, self.next_timestamp(&chain), prevrandao)?
        };
        log.append(&Record::Block(candidate.record.clone()))?;
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        Ok(chain.commit(candidate))
    }

    /// Sends funds from the faucet: an ordinary transaction, so an ordinary block.
    pub(crate) fn fund(&self, account: Address, amount: U256) -> Result<B256, DevnetError> {
        // Taken first, so that no other transfer gets the same nonce.
        let mut log = self.log();
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
        self.append(&mut log, &envelope.encoded_2718())
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

fn replay(chain: &mut Chain, record: Record) -> Result<(), DevnetError> {
    let block = chain.height() + 1;
    let Record::Block(BlockRecord {
        timestamp,
        prevrandao,
        raw,
    }) = record
    else {
        return Err(DevnetError::Replay {
            block,
            why: "a second genesis".to_owned(),
        });
    };
    let candidate = chain
        .execute(&raw, timestamp, prevrandao)
        .map_err(|rejected| DevnetError::Replay {
            block,
            why: rejected.to_string(),
        })?;
    chain.commit(candidate);
    Ok(())
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
    let config = ServerConfig::builder()
        .http_only()
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
        .set_http_middleware(tower::ServiceBuilder::new().layer(hosts))
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

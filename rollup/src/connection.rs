//! A connection to a chain and the one task that sends for a key.
//!
//! Transactions of one key carry consecutive numbers, so they are sent by one task,
//! one after another: each is priced, signed, sent, and waited for; one that is not
//! mined in time is sent again with a higher fee under the same number, so that it
//! replaces itself.
//!
//! Nothing here reads a block's transactions: on the OP stack every block holds one
//! of a type that Ethereum does not know.

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{BlockHeader, SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::BlockNumberOrTag;
use alloy::eips::eip2718::Encodable2718;
use alloy::network::AnyNetwork;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Log, TransactionRequest};
use alloy::serde::WithOtherFields;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::http::Http;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::contracts::Refusal;
use crate::error::LedgerError;

/// Transactions a node may have waiting; it makes a handful a round.
const QUEUE_LIMIT: usize = 64;
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a transaction may stay unmined before its fee is raised.
const MINING_PATIENCE: Duration = Duration::from_secs(45);
/// How often a fee is raised before giving up.
const FEE_RAISES: u32 = 4;
/// How often a number that somebody else has used is replaced by a fresh one.
const NONCE_RETRIES: u32 = 32;

/// A chain, by name: what a manifest or a command line says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainProfile {
    /// Where its JSON-RPC is: an http or https URL.
    pub rpc: String,
    /// Its chain id; checked on connecting.
    pub chain_id: u64,
    /// The `PeerRegistry`; where this version's would be deployed, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Address>,
    /// The `ReputationLedger`; where this version's would be deployed, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Address>,
}

impl ChainProfile {
    /// A chain with this version's contracts where they deploy themselves.
    pub fn new(rpc: impl Into<String>, chain_id: u64) -> Self {
        Self {
            rpc: rpc.into(),
            chain_id,
            registry: None,
            ledger: None,
        }
    }
}

/// A transaction that was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its hash.
    pub tx: [u8; 32],
    /// Gas it used.
    pub gas: u64,
    /// The block it is in.
    pub block: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Connection {
    reader: Reader,
    jobs: mpsc::Sender<Job>,
}

/// What a connection reads with; the sender has one too.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    provider: RootProvider<AnyNetwork>,
    rpc: Arc<str>,
    pub(crate) chain_id: u64,
    pub(crate) signer: PrivateKeySigner,
}

#[derive(Debug)]
struct Job {
    to: Address,
    value: U256,
    input: Bytes,
    done: oneshot::Sender<Result<Sent, LedgerError>>,
}

/// A chain's JSON-RPC; nothing is asked yet.
pub(crate) fn provider_of(rpc: &str) -> Result<RootProvider<AnyNetwork>, LedgerError> {
    let wrong = |what: String| LedgerError::Profile(format!("rpc = {rpc:?}: {what}"));
    let url: reqwest::Url = rpc.parse().map_err(|error| wrong(format!("{error}")))?;
    // Without one, reqwest panics. Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
    match url.scheme() {
        "https" => {}
        // A bare machine has no certificates, and needs none to reach its own devnet.
        "http" => client = client.tls_certs_only([]),
        other => {
            return Err(wrong(format!(
                "only http and https can be used, not {other}"
            )));
        }
    }
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if local {
        // A proxy cannot know what is on this machine.
        client = client.no_proxy();
    }
    let client = client
        .build()
        .map_err(|error| wrong(format!("no http client: {error:?}")))?;
    let client = RpcClient::new(Http::with_client(client, url), local);
    Ok(RootProvider::new(client))
}

impl Connection {
    /// Connects, and refuses a chain that is not the one named.
    pub(crate) async fn open(
        profile: &ChainProfile,
        signer: PrivateKeySigner,
    ) -> Result<Self, LedgerError> {
        Self::open_with(profile, signer, MINING_PATIENCE).await
    }

    async fn open_with(
        profile: &ChainProfile,
        signer: PrivateKeySigner,
        patience: Duration,
    ) -> Result<Self, LedgerError> {
        let reader = Reader {
            provider: provider_of(&profile.rpc)?,
            rpc: profile.rpc.as_str().into(),
            chain_id: profile.chain_id,
            signer,
        };
        let found = reader
            .provider
            .get_chain_id()
            .await
            .map_err(|error| reader.error(error))?;
        if found != profile.chain_id {
            return Err(LedgerError::ChainMismatch {
                rpc: profile.rpc.clone(),
                expected: profile.chain_id,
                found,
            });
        }
        let (jobs, queue) = mpsc::channel(QUEUE_LIMIT);
        let sender = Sender {
            reader: reader.clone(),
            patience,
        };
        // Ends when the last clone of this connection is dropped.
        tokio::spawn(sender.run(queue));
        Ok(Self { reader, jobs })
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Sends a call as a transaction and waits until it is mined.
    pub(crate) async fn send<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<Sent, LedgerError> {
        self.send_raw(to, call.abi_encode().into()).await
    }

    pub(crate) async fn send_raw(&self, to: Address, input: Bytes) -> Result<Sent, LedgerError> {
        self.send_value(to, U256::ZERO, input).await
    }

    /// The same with an amount in wei.
    pub(crate) async fn send_value(
        &self,
        to: Address,
        value: U256,
        input: Bytes,
    ) -> Result<Sent, LedgerError> {
        let (done, result) = oneshot::channel();
        let job = Job {
            to,
            value,
            input,
            done,
        };
        let gone = || LedgerError::Transport {
            rpc: self.reader.rpc.to_string(),
            message: "the sending task has ended".to_owned(),
        };
        self.jobs.send(job).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

impl Reader {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) fn error(
        &self,
        error: alloy::transports::RpcError<alloy::transports::TransportErrorKind>,
    ) -> LedgerError {
        LedgerError::from_rpc(&self.rpc, self.address(), error)
    }

    pub(crate) fn unreadable(&self, error: impl std::fmt::Display) -> LedgerError {
        LedgerError::Unreadable {
            rpc: self.rpc.to_string(),
            message: error.to_string(),
        }
    }

    /// Asks a contract something, on top of the latest block.
    pub(crate) async fn call<C: SolCall>(
        &self,
        to: Address,
        call: &C,
    ) -> Result<C::Return, LedgerError> {
        let request = self.request(to, call.abi_encode().into());
        let answer = self
            .provider
            .call(request)
            .block(BlockNumberOrTag::Latest.into())
            .await
            .map_err(|error| self.error(error))?;
        C::abi_decode_returns(&answer).map_err(|error| self.unreadable(error))
    }

    pub(crate) async fn code(&self, address: Address) -> Result<Bytes, LedgerError> {
        self.provider
            .get_code_at(address)
            .await
            .map_err(|error| self.error(error))
    }

    pub(crate) async fn balance(&self, address: Address) -> Result<U256, LedgerError> {
        self.provider
            .get_balance(address)
            .await
            .map_err(|error| self.error(error))
    }

    pub(crate) async fn gas_price(&self) -> Result<U256, LedgerError> {
        let price = self
            .provider
            .get_gas_price()
            .await
            .map_err(|error| self.error(error))?;
        Ok(U256::from(price))
    }

    pub(crate) async fn height(&self) -> Result<u64, LedgerError> {
        self.provider
            .get_block_number()
            .await
            .map_err(|error| self.error(error))
    }

    pub(crate) async fn logs(
        &self,
        filter: &alloy::rpc::types::Filter,
    ) -> Result<Vec<Log>, LedgerError> {
        self.provider
            .get_logs(filter)
            .await
            .map_err(|error| self.error(error))
    }

    /// Number and time of a block, or `None` if the chain has none by that name.
    pub(crate) async fn header(
        &self,
        block: BlockNumberOrTag,
    ) -> Result<Option<(u64, u64)>, LedgerError> {
        let found = self
            .provider
            .get_block_by_number(block)
            .hashes()
            .await
            .map_err(|error| self.error(error))?;
        Ok(found.map(|block| (block.header.number(), block.header.timestamp())))
    }

    fn request(&self, to: Address, input: Bytes) -> WithOtherFields<TransactionRequest> {
        WithOtherFields::new(
            TransactionRequest::default()
                .from(self.address())
                .to(to)
                .input(input.into()),
        )
    }
}

struct Sender {
    reader: Reader,
    /// How long a transaction may stay unmined before its fee is raised.
    patience: Duration,
}

impl Sender {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(Job {
            to,
            value,
            input,
            done,
        }) = queue.recv().await
        {
            let result = self.send(to, value, input).await;
            // Whoever asked may have stopped waiting; the transaction stands.
            let _ = done.send(result);
        }
    }

    async fn send(&self, to: Address, value: U256, input: Bytes) -> Result<Sent, LedgerError> {
        let mut retries = 0;
        loop {
            match self.attempt(to, value, &input).await {
                // Another process sends with this key, or a transaction of an earlier
                // run was mined meanwhile: the next attempt asks for a fresh number.
                Err(LedgerError::Declined { message, .. })
                    if is_used_nonce(&message) && retries < NONCE_RETRIES =>
                {
                    retries += 1;
                    tracing::debug!(%message, retries, "nonce used by somebody else");
                }
                other => return other,
            }
        }
    }

    async fn attempt(&self, to: Address, value: U256, input: &Bytes) -> Result<Sent, LedgerError> {
        let reader = &self.reader;
        let from = reader.address();
        let mut request = reader.request(to, input.clone());
        request.inner.value = Some(value);
        let gas = reader
            .provider
            .estimate_gas(request)
            .block(BlockNumberOrTag::Latest.into())
            .await
            .map_err(|error| reader.error(error))?;
        let nonce = reader
            .provider
            .get_transaction_count(from)
            .pending()
            .await
            .map_err(|error| reader.error(error))?;
        let (mut max_fee, mut tip) = self.fees().await?;
        let mut hashes = Vec::new();
        for raise in 0..=FEE_RAISES {
            let transaction = TxEip1559 {
                chain_id: reader.chain_id,
                nonce,
                // The state may change a little before it is mined.
                gas_limit: gas + gas / 5,
                max_fee_per_gas: max_fee,
                max_priority_fee_per_gas: tip,
                to: TxKind::Call(to),
                value,
                access_list: Default::default(),
                input: input.clone(),
            };
            let signature = reader
                .signer
                .sign_hash_sync(&transaction.signature_hash())
                .map_err(|error| LedgerError::Profile(format!("signing: {error}")))?;
            let envelope = TxEnvelope::from(transaction.into_signed(signature));
            let hash = *envelope.tx_hash();
            let sent = reader
                .provider
                .send_raw_transaction(&envelope.encoded_2718())
                .await;
            match sent.map(drop).map_err(|error| reader.error(error)) {
                Ok(()) => hashes.push(hash),
                Err(LedgerError::Declined { message, .. }) if is_known(&message) => {
                    hashes.push(hash);
                }
                // One of the earlier ones was mined while this one was made.
                Err(LedgerError::Declined { message, .. })
                    if is_used_nonce(&message) && !hashes.is_empty() => {}
                Err(LedgerError::Declined { message, .. }) if is_underpriced(&message) => {
                    tracing::debug!(%message, raise, "fee too low");
                }
                Err(other) => return Err(other),
            }
            if let Some(sent) = self.wait(&hashes).await? {
                return Ok(sent);
            }
            // A replacement must pay at least a tenth more.
            max_fee += max_fee / 4 + 1;
            tip += tip / 4 + 1;
        }
        Err(match hashes.last() {
            Some(&hash) => LedgerError::NotMined(hash),
            None => LedgerError::Declined {
                rpc: reader.rpc.to_string(),
                message: "transaction underpriced, at any fee tried".to_owned(),
            },
        })
    }

    /// Fee limits of a transaction: room for the base fee to double, and the tip the
    /// node suggests, if it has an opinion.
    async fn fees(&self) -> Result<(u128, u128), LedgerError> {
        let provider = &self.reader.provider;
        let price = provider
            .get_gas_price()
            .await
            .map_err(|error| self.reader.error(error))?;
        let tip = provider.get_max_priority_fee_per_gas().await.unwrap_or(0);
        Ok((2 * price + tip, tip))
    }

    /// Waits for one of several forms of a transaction to be mined.
    async fn wait(&self, hashes: &[B256]) -> Result<Option<Sent>, LedgerError> {
        let deadline = tokio::time::Instant::now() + self.patience;
        // A devnet has mined before it answers; a rollup takes a second or two.
        let mut pause = Duration::from_millis(20);
        loop {
            for &hash in hashes.iter().rev() {
                // A request that fails is asked again, until the patience ends.
                let receipt = match self.reader.provider.get_transaction_receipt(hash).await {
                    Ok(receipt) => receipt,
                    Err(error) => {
                        tracing::debug!(%error, "asking for a receipt");
                        None
                    }
                };
                let Some(receipt) = receipt else { continue };
                if !receipt.inner.inner.status() {
                    return Err(LedgerError::Reverted(hash));
                }
                return Ok(Some(Sent {
                    tx: hash.0,
                    gas: receipt.gas_used,
                    block: receipt.block_number.unwrap_or_default(),
                }));
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

// Nodes agree on the meaning of these refusals, and on no code for them.

fn is_used_nonce(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("nonce too low") || message.contains("nonce too high")
}

fn is_known(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("already known") || message.contains("already imported")
}

fn is_underpriced(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("underpriced")
        || message.contains("fee too low")
        || message.contains("less than block base fee")
        || message.contains("lower than the minimum")
}

impl From<Refusal> for LedgerError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use alloy::consensus::Transaction;
    use alloy::eips::eip2718::Decodable2718;
    use jsonrpsee::RpcModule;
    use jsonrpsee::server::{Server, ServerHandle};
    use jsonrpsee::types::ErrorObjectOwned;
    use serde_json::{Value, json};

    use super::*;

    /// A node that takes or declines transactions as a test says.
    struct Node {
        /// What each sending is answered with, in order: mined, pending, or declined.
        script: Vec<Answer>,
        /// What was sent.
        sent: Vec<TxEnvelope>,
        /// Hashes of the mined ones, and whether each succeeded.
        mined: Vec<(B256, bool)>,
        /// Receipts still to be answered with an error before any is given.
        deaf: u32,
        nonce: u64,
    }

    enum Answer {
        Mined,
        MinedAndReverted,
        /// Kept in the pool for ever.
        Pending,
        /// Mined, but the answer says something else.
        MinedBut(&'static str),
        /// Mines what was sent before, and declines this.
        MinesTheFirst(&'static str),
        Declined(&'static str),
    }

    type Shared = Arc<Mutex<Node>>;

    async fn node(script: Vec<Answer>) -> (Shared, Connection, ServerHandle) {
        node_with(script, Duration::from_millis(1)).await
    }

    async fn node_with(
        script: Vec<Answer>,
        patience: Duration,
    ) -> (Shared, Connection, ServerHandle) {
        let node = Arc::new(Mutex::new(Node {
            script,
            sent: vec![],
            mined: vec![],
            deaf: 0,
            nonce: 7,
        }));
        let mut module = RpcModule::from_arc(Arc::new(Arc::clone(&node)));
        for method in [
            "eth_chainId",
            "eth_estimateGas",
            "eth_getTransactionCount",
            "eth_gasPrice",
            "eth_sendRawTransaction",
            "eth_getTransactionReceipt",
        ] {
            module
                .register_method(method, move |parameters, node: &Shared, _| {
                    let given: Vec<Value> = parameters.parse().unwrap_or_default();
                    node.lock().unwrap().answer(method, &given)
                })
                .unwrap();
        }
        let server = Server::builder().build("127.0.0.1:0").await.unwrap();
        let profile = ChainProfile::new(format!("http://{}", server.local_addr().unwrap()), 5);
        let handle = server.start(module);
        let signer = PrivateKeySigner::from_bytes(&B256::with_last_byte(1)).unwrap();
        let connection = Connection::open_with(&profile, signer, patience)
            .await
            .unwrap();
        (node, connection, handle)
    }

    impl Node {
        fn answer(&mut self, method: &str, given: &[Value]) -> Result<Value, ErrorObjectOwned> {
            let declined = |message: &str| {
                Err(ErrorObjectOwned::owned(
                    -32000,
                    message.to_owned(),
                    None::<()>,
                ))
            };
            match method {
                "eth_chainId" => Ok(json!("0x5")),
                "eth_estimateGas" => Ok(json!("0x5208")),
                "eth_getTransactionCount" => Ok(json!(format!("{:#x}", self.nonce))),
                "eth_gasPrice" => Ok(json!("0x64")),
                "eth_sendRawTransaction" => {
                    let raw: Bytes = serde_json::from_value(given[0].clone()).unwrap();
                    let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).unwrap();
                    let hash = *envelope.tx_hash();
                    self.sent.push(envelope);
                    match self.script.remove(0) {
                        Answer::Mined => self.mined.push((hash, true)),
                        Answer::MinedAndReverted => self.mined.push((hash, false)),
                        Answer::Pending => {}
                        Answer::MinedBut(message) => {
                            self.mined.push((hash, true));
                            return declined(message);
                        }
                        Answer::MinesTheFirst(message) => {
                            self.mined.push((*self.sent[0].tx_hash(), true));
                            return declined(message);
                        }
                        Answer::Declined(message) => return declined(message),
                    }
                    Ok(json!(hash))
                }
                "eth_getTransactionReceipt" => {
                    if self.deaf > 0 {
                        self.deaf -= 1;
                        return declined("try later");
                    }
                    let found = self.mined.iter().find(|(hash, _)| given[0] == json!(hash));
                    Ok(found.map_or(Value::Null, |(hash, success)| {
                        json!({
                            "transactionHash": hash,
                            "transactionIndex": "0x0",
                            "blockHash": hash,
                            "blockNumber": "0x9",
                            "from": Address::ZERO,
                            "to": Address::ZERO,
                            "cumulativeGasUsed": "0x5208",
                            "gasUsed": "0x5208",
                            "effectiveGasPrice": "0x64",
                            "logs": [],
                            "logsBloom": alloy::primitives::Bloom::ZERO,
                            // What the OP stack adds must not disturb.
                            "l1Fee": "0x1",
                            "type": "0x2",
                            "status": if *success { "0x1" } else { "0x0" },
                        })
                    }))
                }
                other => panic!("{other}"),
            }
        }
    }

    async fn send(connection: &Connection) -> Result<Sent, LedgerError> {
        connection.send_raw(Address::ZERO, Bytes::new()).await
    }

    #[tokio::test]
    async fn a_transaction_is_sent_once_and_its_receipt_is_waited_for() {
        let (node, connection, _server) = node_with(vec![Answer::Mined], MINING_PATIENCE).await;
        node.lock().unwrap().deaf = 2;
        let sent = send(&connection).await.unwrap();
        let node = node.lock().unwrap();
        assert_eq!(node.sent.len(), 1);
        assert_eq!(
            (sent.tx, sent.gas, sent.block),
            (node.sent[0].tx_hash().0, 21_000, 9)
        );
        assert_eq!(
            (node.sent[0].nonce(), node.sent[0].chain_id()),
            (7, Some(5))
        );
    }

    #[tokio::test]
    async fn one_that_is_not_mined_replaces_itself_with_a_higher_fee() {
        let script = vec![
            Answer::Pending,
            Answer::Declined("replacement underpriced"),
            Answer::Mined,
        ];
        let (node, connection, _server) = node(script).await;
        let sent = send(&connection).await.unwrap();
        let node = node.lock().unwrap();
        assert_eq!(sent.tx, node.sent[2].tx_hash().0);
        assert!(node.sent.iter().all(|envelope| envelope.nonce() == 7));
        for pair in node.sent.windows(2) {
            assert!(pair[1].max_fee_per_gas() * 10 >= pair[0].max_fee_per_gas() * 11);
        }
    }

    #[tokio::test]
    async fn the_first_form_may_be_the_one_that_is_mined() {
        let script = vec![Answer::Pending, Answer::MinesTheFirst("nonce too low")];
        let (node, connection, _server) = node(script).await;
        let sent = send(&connection).await.unwrap();
        assert_eq!(sent.tx, node.lock().unwrap().sent[0].tx_hash().0);
    }

    #[tokio::test]
    async fn a_transaction_that_the_node_has_already_is_waited_for() {
        let (node, connection, _server) = node(vec![Answer::MinedBut("already known")]).await;
        let sent = send(&connection).await.unwrap();
        assert_eq!(sent.tx, node.lock().unwrap().sent[0].tx_hash().0);
    }

    #[tokio::test]
    async fn a_number_that_somebody_used_is_asked_for_again() {
        let script = vec![Answer::Declined("nonce too low: next 8"), Answer::Mined];
        let (node, connection, _server) = node(script).await;
        send(&connection).await.unwrap();
        assert_eq!(node.lock().unwrap().sent.len(), 2);
    }

    #[tokio::test]
    async fn giving_up_and_refusal_are_told_apart() {
        let (_, connection, _server) = node((0..5).map(|_| Answer::Pending).collect()).await;
        let error = send(&connection).await.unwrap_err();
        assert!(matches!(error, LedgerError::NotMined(_)), "{error}");
        let (_, connection, _server) = node(vec![Answer::MinedAndReverted]).await;
        let error = send(&connection).await.unwrap_err();
        assert!(matches!(error, LedgerError::Reverted(_)), "{error}");
        let funds = "insufficient funds for gas * price + value";
        let (_, connection, _server) = node(vec![Answer::Declined(funds)]).await;
        let error = send(&connection).await.unwrap_err();
        assert!(matches!(error, LedgerError::Unfunded { .. }), "{error}");
    }
}

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
use crate::fees::{FeeModel, wire_form};

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
    /// The `SwarmRegistry`; where this version's would be deployed, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarms: Option<Address>,
    /// The `ReputationLedger`; where this version's would be deployed, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Address>,
    /// What the contracts' code there must hash to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeHashes>,
    /// The block from which on their events are looked for: nothing earlier is theirs.
    #[serde(default)]
    pub deploy_block: u64,
    /// Where people look at the chain's transactions: `https://explorer.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explorer: Option<String>,
    /// How it asks for its fees; found out by asking, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fees: Option<FeeModel>,
    /// Its ERC-8004 registries; where they stand on most chains, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentRegistries>,
}

/// The keccak hash of each contract's code on a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeHashes {
    /// The `PeerRegistry`'s.
    pub registry: B256,
    /// The `SwarmRegistry`'s.
    pub swarms: B256,
    /// The `ReputationLedger`'s.
    pub ledger: B256,
}

/// Where a chain's ERC-8004 registries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRegistries {
    /// The identity registry.
    pub identities: Address,
    /// The reputation registry.
    pub reputations: Address,
}

impl ChainProfile {
    /// A chain with this version's contracts where they deploy themselves.
    pub fn new(rpc: impl Into<String>, chain_id: u64) -> Self {
        Self {
            rpc: rpc.into(),
            chain_id,
            registry: None,
            swarms: None,
            ledger: None,
            code: None,
            deploy_block: 0,
            explorer: None,
            fees: None,
            agents: None,
        }
    }

    /// Where a transaction can be looked at, if the profile names an explorer.
    pub fn page_of(&self, tx: [u8; 32]) -> Option<String> {
        let explorer = self.explorer.as_ref()?.trim_end_matches('/');
        Some(format!("{explorer}/tx/{}", B256::from(tx)))
    }
}

/// A transaction that was mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its hash.
    pub tx: [u8; 32],
    /// Gas it used.
    pub gas: u64,
    /// Wei it cost, with what its bytes cost on the layer below.
    pub fee: U256,
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
    pub(crate) fees: FeeModel,
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
        let mut reader = Reader {
            provider: provider_of(&profile.rpc)?,
            rpc: profile.rpc.as_str().into(),
            chain_id: profile.chain_id,
            signer,
            fees: FeeModel::Ethereum,
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
        let seen = reader.fee_model().await?;
        if let Some(named) = profile.fees
            && named != seen
        {
            return Err(LedgerError::Profile(format!(
                "fees = {:?}, but the chain at {} asks for them as {:?} does: correct the profile",
                named.name(),
                profile.rpc,
                seen.name()
            )));
        }
        reader.fees = seen;
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

    /// Fee limits of a transaction: room for the base fee to double, and the tip the
    /// node suggests, if it has an opinion.
    pub(crate) async fn fee_limits(&self) -> Result<(u128, u128), LedgerError> {
        let price = self
            .provider
            .get_gas_price()
            .await
            .map_err(|error| self.error(error))?;
        let tip = self
            .provider
            .get_max_priority_fee_per_gas()
            .await
            .unwrap_or(0);
        Ok((2 * price + tip, tip))
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

    pub(crate) async fn ask(
        &self,
        method: &str,
        params: serde_json::Value,
    ) -> Result<serde_json::Value, LedgerError> {
        self.provider
            .raw_request(method.to_owned().into(), params)
            .await
            .map_err(|error| self.error(error))
    }

    /// Whom a transaction calls, and with what; read as plain JSON, since a rollup may
    /// give its transactions types that no library knows.
    pub(crate) async fn transaction(
        &self,
        hash: B256,
    ) -> Result<Option<(Option<Address>, Bytes)>, LedgerError> {
        #[derive(Debug, Deserialize)]
        struct Called {
            to: Option<Address>,
            input: Bytes,
        }
        let found: Option<Called> = self
            .provider
            .raw_request("eth_getTransactionByHash".into(), (hash,))
            .await
            .map_err(|error| self.error(error))?;
        Ok(found.map(|called| (called.to, called.input)))
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
        // The state may change a little before it is mined.
        let gas = gas + gas / 5;
        let (mut max_fee, mut tip) = reader.fee_limits().await?;
        self.afford(to, value, input, gas, max_fee).await?;
        let mut hashes = Vec::new();
        for raise in 0..=FEE_RAISES {
            let transaction = TxEip1559 {
                chain_id: reader.chain_id,
                nonce,
                gas_limit: gas,
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

    /// Refuses what the account cannot pay for, before anything is sent: its gas, at the
    /// most, and its bytes on the layer below, where they are charged beside.
    async fn afford(
        &self,
        to: Address,
        value: U256,
        input: &Bytes,
        gas: u64,
        max_fee: u128,
    ) -> Result<(), LedgerError> {
        let reader = &self.reader;
        let wire = wire_form(to, value, input.clone(), gas, max_fee);
        let data = reader.data_fee(wire).await?;
        let execution = U256::from(gas) * U256::from(max_fee);
        let balance = reader.balance(reader.address()).await?;
        if balance < value + execution + data {
            return Err(LedgerError::Unfunded {
                account: reader.address(),
                message: format!(
                    "it has {balance} wei, of {} needed at the most: {execution} for gas, {data} \
                     for data on the layer below, {value} to hand on",
                    value + execution + data
                ),
            });
        }
        Ok(())
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
                // What the OP stack adds to a receipt.
                let data = receipt.other.get_deserialized::<U256>("l1Fee");
                let data = data.and_then(Result::ok).unwrap_or_default();
                let execution =
                    U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
                return Ok(Some(Sent {
                    tx: hash.0,
                    gas: receipt.gas_used,
                    fee: execution + data,
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
mod tests;

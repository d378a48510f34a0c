//! What the devnet answers: the part of Ethereum's JSON-RPC that `cast`, alloy and
//! a browser wallet use, and three methods of its own.
//!
//! [`answer`] is a plain function from a method and its parameters to a result;
//! the server in the parent module only carries it.

use alloy::consensus::Transaction as _;
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Receipt, ReceiptEnvelope, ReceiptWithBloom};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, Bytes, TxKind, U64, U256, keccak256};
use alloy::rpc::types as rpc;
use jsonrpsee::types::{ErrorObjectOwned, error::INVALID_PARAMS_CODE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::chain::{
    BASE_FEE, BLOCK_GAS_LIMIT, Block, Call, CallOutcome, Chain, Estimate, Mined, too_long_ago,
};
use super::filters::Kind;
use super::past::Past;
use super::{State, View, otterscan, trie};

/// Logs one answer may hold; a narrower range gets the rest.
const LOGS_LIMIT: usize = 10_000;
/// Blocks `eth_feeHistory` goes back.
const FEE_HISTORY_LIMIT: u64 = 1024;
/// The most `murmur_fund` gives at once: a thousand ether.
const FUND_LIMIT: U256 = U256::from_limbs([0x35c9_adc5_dea0_0000, 0x36, 0, 0]);

/// Ethereum's code for a call that reverted; its data is what it reverted with.
const REVERTED: i32 = 3;
/// Ethereum's code for everything a node declines to do.
const DECLINED: i32 = -32000;

/// Every method the devnet knows.
pub(crate) const METHODS: &[&str] = &[
    "web3_clientVersion",
    "web3_sha3",
    "net_version",
    "net_listening",
    "net_peerCount",
    "eth_chainId",
    "eth_blockNumber",
    "eth_syncing",
    "eth_accounts",
    "eth_mining",
    "eth_gasPrice",
    "eth_maxPriorityFeePerGas",
    "eth_feeHistory",
    "eth_getBalance",
    "eth_getTransactionCount",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getProof",
    "eth_call",
    "eth_estimateGas",
    "eth_sendRawTransaction",
    "eth_getTransactionByHash",
    "eth_getRawTransactionByHash",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getTransactionReceipt",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBlockReceipts",
    "eth_getBlockTransactionCountByNumber",
    "eth_getBlockTransactionCountByHash",
    "eth_getLogs",
    "eth_getUncleCountByBlockNumber",
    "eth_getUncleCountByBlockHash",
    "eth_newFilter",
    "eth_newBlockFilter",
    "eth_newPendingTransactionFilter",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_uninstallFilter",
    "ots_getApiLevel",
    "ots_hasCode",
    "ots_getBlockDetails",
    "ots_getBlockDetailsByHash",
    "ots_getBlockTransactions",
    "ots_searchTransactionsBefore",
    "ots_searchTransactionsAfter",
    "ots_getTransactionBySenderAndNonce",
    "ots_getContractCreator",
    "ots_getTransactionError",
    "ots_getInternalOperations",
    "ots_traceTransaction",
    "murmur_fund",
    "murmur_info",
    "murmur_stateRoot",
];

pub(super) type Answer = Result<Value, ErrorObjectOwned>;

/// Answers one request.
pub(crate) fn answer(state: &State, method: &str, parameters: Vec<Value>) -> Answer {
    let mut given = Parameters {
        values: parameters.into_iter(),
        taken: 0,
    };
    let chain = || state.chain();
    let view = || state.view();
    match method {
        "web3_clientVersion" => to_json(concat!(
            "murmuration-devnet/",
            env!("CARGO_PKG_VERSION"),
            "/revm"
        )),
        "web3_sha3" => to_json(keccak256(given.required::<Bytes>("data")?)),
        "net_version" => to_json(chain().chain_id().to_string()),
        "net_listening" => to_json(true),
        "net_peerCount" => to_json(U64::ZERO),
        "eth_chainId" => to_json(U64::from(chain().chain_id())),
        "eth_blockNumber" => to_json(U64::from(chain().height())),
        "eth_syncing" | "eth_mining" => to_json(false),
        // It holds nobody's keys: transactions come signed.
        "eth_accounts" => to_json(Vec::<Address>::new()),
        "eth_gasPrice" => to_json(U256::from(BASE_FEE)),
        "eth_maxPriorityFeePerGas" => to_json(U256::ZERO),
        "eth_feeHistory" => fee_history(&chain(), &mut given),
        "eth_getBalance" => {
            let address = given.required("address")?;
            let chain = chain();
            to_json(given.state(&chain)?.account(address).balance)
        }
        "eth_getTransactionCount" => {
            let address = given.required("address")?;
            let chain = chain();
            to_json(U64::from(given.state(&chain)?.account(address).nonce))
        }
        "eth_getCode" => {
            let address = given.required("address")?;
            let chain = chain();
            to_json(given.state(&chain)?.code(address))
        }
        "eth_getStorageAt" => {
            let (address, slot) = (given.required("address")?, given.required("slot")?);
            let chain = chain();
            to_json(B256::from(given.state(&chain)?.storage(address, slot)))
        }
        "eth_getProof" => {
            let (address, keys) = (given.required("address")?, given.required("keys")?);
            let chain = chain();
            to_json(trie::prove(&given.state(&chain)?, address, keys))
        }
        "eth_call" => call(state, &mut given),
        "eth_estimateGas" => estimate(state, &mut given),
        "eth_sendRawTransaction" => {
            let raw: Bytes = given.required("transaction")?;
            to_json(
                state
                    .submit(&raw)
                    .map_err(|error| declined(error.to_string()))?,
            )
        }
        "eth_getTransactionByHash" => {
            let hash = given.required("hash")?;
            to_json(
                view()
                    .block_of_transaction(&hash)?
                    .as_ref()
                    .and_then(transaction),
            )
        }
        "eth_getRawTransactionByHash" => {
            let hash = given.required("hash")?;
            let mined = view()
                .block_of_transaction(&hash)?
                .and_then(|block| block.mined);
            to_json(mined.map(|mined| Bytes::from(mined.envelope.encoded_2718())))
        }
        "eth_getTransactionByBlockNumberAndIndex" | "eth_getTransactionByBlockHashAndIndex" => {
            let block = given.block(&view(), method.contains("Hash"))?;
            let index: U64 = given.required("index")?;
            to_json(
                block
                    .filter(|_| index.is_zero())
                    .as_ref()
                    .and_then(transaction),
            )
        }
        "eth_getTransactionReceipt" => {
            let hash = given.required("hash")?;
            to_json(
                view()
                    .block_of_transaction(&hash)?
                    .as_ref()
                    .and_then(receipt),
            )
        }
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            let block = given.block(&view(), method.contains("Hash"))?;
            let full = given.optional::<bool>("full")?.unwrap_or(false);
            to_json(block.map(|block| block_view(&block, full)))
        }
        "eth_getBlockReceipts" => {
            let id: BlockId = given.required("block")?;
            let view = view();
            let block = number_by_id(&view.chain, id).map(|number| view.block(number));
            let block = block.transpose()?.flatten();
            to_json(block.map(|block| receipt(&block).into_iter().collect::<Vec<_>>()))
        }
        "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
            let block = given.block(&view(), method.contains("Hash"))?;
            to_json(block.map(|block| U64::from(u64::from(block.mined.is_some()))))
        }
        "eth_getLogs" => to_json(logs(&view(), &given.required("filter")?)?),
        "eth_getUncleCountByBlockNumber" | "eth_getUncleCountByBlockHash" => {
            let block = given.block(&view(), method.contains("Hash"))?;
            to_json(block.map(|_| U64::ZERO))
        }
        "eth_newFilter" => {
            let filter = Kind::Logs(Box::new(given.required("filter")?));
            install(state, filter)
        }
        "eth_newBlockFilter" => install(state, Kind::Blocks),
        "eth_newPendingTransactionFilter" => install(state, Kind::Transactions),
        "eth_getFilterChanges" => changes(state, given.required::<U64>("filter id")?.to()),
        "eth_getFilterLogs" => {
            let id: U64 = given.required("filter id")?;
            let kind = state.filters().kind(id.to());
            match kind {
                Some(Kind::Logs(filter)) => to_json(logs(&view(), &filter)?),
                _ => Err(declined("there is no filter of logs with this id")),
            }
        }
        "eth_uninstallFilter" => {
            let id: U64 = given.required("filter id")?;
            to_json(state.filters().remove(id.to()))
        }
        ots if ots.starts_with("ots_") => otterscan::answer(state, ots, &mut given),
        "murmur_fund" => {
            let address = given.required("address")?;
            let amount = given
                .optional::<U256>("amount")?
                .unwrap_or(super::FUND_DEFAULT);
            if amount > FUND_LIMIT {
                return Err(declined(format!("at most {FUND_LIMIT} wei at once")));
            }
            to_json(
                state
                    .fund(address, amount)
                    .map_err(|error| declined(error.to_string()))?,
            )
        }
        "murmur_info" => {
            let chain = chain();
            Ok(json!({
                "kind": "devnet",
                "chainId": chain.chain_id(),
                "blocks": chain.height(),
                "seed": chain.seed(),
                "genesis": chain.genesis().hash,
            }))
        }
        "murmur_stateRoot" => {
            let chain = chain();
            to_json(trie::root(&given.state(&chain)?))
        }
        other => Err(declined(format!("the devnet has no method {other}"))),
    }
}

fn call(state: &State, given: &mut Parameters) -> Answer {
    let request = given.required::<rpc::TransactionRequest>("transaction")?;
    let chain = state.chain();
    let number = given.number(&chain)?;
    given.no_overrides()?;
    let request = message(request);
    let ran = match number == chain.height() {
        true => chain.call(&request, state.next_timestamp(&chain)),
        false => chain.call_at(&request, number),
    };
    match ran.map_err(declined)? {
        CallOutcome::Returned { output, .. } => to_json(output),
        CallOutcome::Reverted { output } => Err(reverted(&output)),
        CallOutcome::Halted { reason } => Err(declined(format!("execution halted: {reason}"))),
    }
}

fn estimate(state: &State, given: &mut Parameters) -> Answer {
    let request = given.required::<rpc::TransactionRequest>("transaction")?;
    let chain = state.chain();
    if given.number(&chain)? != chain.height() {
        return Err(declined("gas is estimated on the latest block only"));
    }
    given.no_overrides()?;
    match chain
        .estimate(&message(request), state.next_timestamp(&chain))
        .map_err(declined)?
    {
        Estimate::Gas(gas) => to_json(U64::from(gas)),
        Estimate::Reverted(output) => Err(reverted(&output)),
        Estimate::Halted(reason) => Err(declined(format!("execution halted: {reason}"))),
    }
}

fn message(request: rpc::TransactionRequest) -> Call {
    Call {
        from: request.from.unwrap_or_default(),
        to: request.to.and_then(|kind| match kind {
            TxKind::Call(to) => Some(to),
            TxKind::Create => None,
        }),
        value: request.value.unwrap_or_default(),
        gas: request.gas,
        input: request.input.into_input().unwrap_or_default(),
    }
}

fn fee_history(chain: &Chain, given: &mut Parameters) -> Answer {
    let asked: U64 = given.required("block count")?;
    let newest = given.required::<BlockNumberOrTag>("newest block")?;
    let percentiles = given
        .optional::<Vec<f64>>("reward percentiles")?
        .unwrap_or_default();
    if percentiles.len() > 100 {
        return Err(invalid("at most 100 reward percentiles"));
    }
    let newest = number_of(chain, newest).min(chain.height());
    let count = asked
        .to::<u64>()
        .clamp(1, FEE_HISTORY_LIMIT)
        .min(newest + 1);
    let oldest = newest + 1 - count;
    let used = (oldest..=newest).map(|number| {
        let gas = chain.entry(number).map_or(0, |entry| entry.gas_used);
        gas as f64 / BLOCK_GAS_LIMIT as f64
    });
    to_json(rpc::FeeHistory {
        // One more than asked: the fee of the block to come is known.
        base_fee_per_gas: vec![u128::from(BASE_FEE); count as usize + 1],
        gas_used_ratio: used.collect(),
        oldest_block: oldest,
        // Nobody needs to tip a chain that never has a queue.
        reward: Some(vec![vec![0; percentiles.len()]; count as usize]),
        ..rpc::FeeHistory::default()
    })
}

fn install(state: &State, kind: Kind) -> Answer {
    let height = state.chain().height();
    to_json(U64::from(state.filters().install(kind, height)))
}

/// What has come since a filter was last asked.
fn changes(state: &State, id: u64) -> Answer {
    let view = state.view();
    let height = view.chain.height();
    let asked = state.filters().ask(id, height);
    let Some((kind, from)) = asked else {
        return Err(declined("filter not found: install it again"));
    };
    let mut blocks = Vec::new();
    for number in from..=height {
        blocks.extend(view.block(number)?);
    }
    match kind {
        Kind::Blocks => to_json(blocks.iter().map(|block| block.hash).collect::<Vec<_>>()),
        Kind::Transactions => {
            let mined = blocks.iter().filter_map(|block| block.mined.as_ref());
            to_json(mined.map(|mined| mined.hash).collect::<Vec<_>>())
        }
        Kind::Logs(filter) => {
            let within = |block: &&Block| {
                let tag = |tag: Option<&BlockNumberOrTag>, otherwise| match tag {
                    Some(BlockNumberOrTag::Number(number)) => *number,
                    _ => otherwise,
                };
                let first = tag(filter.block_option.get_from_block(), 0);
                let last = tag(filter.block_option.get_to_block(), u64::MAX);
                (first..=last).contains(&block.header.number)
            };
            let logs = blocks.iter().filter(within).flat_map(block_logs);
            to_json(
                logs.filter(|log| filter.rpc_matches(log))
                    .collect::<Vec<_>>(),
            )
        }
    }
}

/// The logs of a block.
pub(super) fn block_logs(block: &Block) -> Vec<rpc::Log> {
    let logs = block.mined.iter().flat_map(|mined| rpc_logs(block, mined));
    logs.collect()
}

fn logs(view: &View<'_>, filter: &rpc::Filter) -> Result<Vec<rpc::Log>, ErrorObjectOwned> {
    let chain = &view.chain;
    let (from, to) = match filter.block_option {
        rpc::FilterBlockOption::AtBlockHash(hash) => match chain.number_of_block(&hash) {
            Some(number) => (number, number),
            None => return Err(declined("unknown block")),
        },
        rpc::FilterBlockOption::Range {
            from_block,
            to_block,
        } => {
            let height = chain.height();
            let from = from_block.map_or(height, |tag| number_of(chain, tag));
            let to = to_block
                .map_or(height, |tag| number_of(chain, tag))
                .min(height);
            if from > to && from <= height {
                return Err(invalid("the range ends before it starts"));
            }
            (from, to)
        }
    };
    let mut found = Vec::new();
    for number in from..=to {
        let may_match = chain
            .entry(number)
            .is_some_and(|entry| filter.matches_bloom(entry.bloom));
        if !may_match {
            continue;
        }
        let Some(block) = view.block(number)? else {
            continue;
        };
        let logs = block_logs(&block).into_iter();
        found.extend(logs.filter(|log| filter.rpc_matches(log)));
        if found.len() > LOGS_LIMIT {
            return Err(declined(format!(
                "more than {LOGS_LIMIT} logs in blocks {from} to {to}: ask for fewer blocks"
            )));
        }
    }
    Ok(found)
}

fn number_of(chain: &Chain, tag: BlockNumberOrTag) -> u64 {
    match tag {
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Earliest => 0,
        // A block is final when it is made: there is one maker, and nothing is undone.
        _ => chain.height(),
    }
}

fn number_by_id(chain: &Chain, id: BlockId) -> Option<u64> {
    let number = match id {
        BlockId::Hash(hash) => chain.number_of_block(&hash.block_hash)?,
        BlockId::Number(tag) => number_of(chain, tag),
    };
    (number <= chain.height()).then_some(number)
}

pub(super) fn block_view(block: &Block, full: bool) -> rpc::Block {
    let mut header = rpc::Header::new(block.header.clone());
    header.total_difficulty = Some(U256::ZERO);
    let transactions = if full {
        rpc::BlockTransactions::Full(transaction(block).into_iter().collect())
    } else {
        rpc::BlockTransactions::Hashes(block.mined.iter().map(|mined| mined.hash).collect())
    };
    rpc::Block::new(header, transactions)
}

pub(super) fn transaction(block: &Block) -> Option<rpc::Transaction> {
    let mined = block.mined.as_ref()?;
    Some(rpc::Transaction {
        inner: Recovered::new_unchecked(mined.envelope.clone(), mined.sender),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        transaction_index: Some(0),
        effective_gas_price: Some(mined.gas_price),
        block_timestamp: Some(block.header.timestamp),
    })
}

pub(super) fn receipt(block: &Block) -> Option<rpc::TransactionReceipt> {
    let mined = block.mined.as_ref()?;
    let receipt = ReceiptWithBloom {
        receipt: Receipt {
            status: mined.success.into(),
            cumulative_gas_used: mined.gas_used,
            logs: rpc_logs(block, mined),
        },
        logs_bloom: block.header.logs_bloom,
    };
    Some(rpc::TransactionReceipt {
        inner: ReceiptEnvelope::from_typed(mined.envelope.tx_type(), receipt),
        transaction_hash: mined.hash,
        transaction_index: Some(0),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: mined.gas_used,
        effective_gas_price: mined.gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: mined.sender,
        to: mined.envelope.to(),
        contract_address: mined.created,
    })
}

fn rpc_logs(block: &Block, mined: &Mined) -> Vec<rpc::Log> {
    let place = |(index, log): (usize, &alloy::primitives::Log)| rpc::Log {
        inner: log.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(mined.hash),
        transaction_index: Some(0),
        log_index: Some(index as u64),
        removed: false,
    };
    mined.logs.iter().enumerate().map(place).collect()
}

/// A request's parameters, taken in order.
pub(super) struct Parameters {
    values: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Parameters {
    fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ErrorObjectOwned> {
        self.taken += 1;
        match self.values.next() {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| invalid(format!("parameter {} ({name}): {error}", self.taken))),
        }
    }

    pub(super) fn required<T: DeserializeOwned>(
        &mut self,
        name: &str,
    ) -> Result<T, ErrorObjectOwned> {
        self.optional(name)?
            .ok_or_else(|| invalid(format!("parameter {} ({name}) is missing", self.taken)))
    }

    pub(super) fn block(
        &mut self,
        view: &View<'_>,
        by_hash: bool,
    ) -> Result<Option<Block>, ErrorObjectOwned> {
        let number = if by_hash {
            view.chain.number_of_block(&self.required("block hash")?)
        } else {
            Some(number_of(&view.chain, self.required("block number")?))
        };
        Ok(number
            .map(|number| view.block(number))
            .transpose()?
            .flatten())
    }

    /// Takes the block that something is asked of; the latest, if it is left out.
    fn number(&mut self, chain: &Chain) -> Result<u64, ErrorObjectOwned> {
        let id = self.optional::<BlockId>("block")?.unwrap_or_default();
        number_by_id(chain, id).ok_or_else(|| declined("unknown block"))
    }

    /// The same, as the state after it.
    pub(super) fn state<'a>(&mut self, chain: &'a Chain) -> Result<Past<'a>, ErrorObjectOwned> {
        let number = self.number(chain)?;
        chain
            .at(number)
            .ok_or_else(|| declined(too_long_ago(number)))
    }

    fn no_overrides(&mut self) -> Result<(), ErrorObjectOwned> {
        match self.optional::<Value>("overrides")? {
            Some(Value::Object(overrides)) if !overrides.is_empty() => {
                Err(declined("the devnet has no state overrides"))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn to_json(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| declined(error.to_string()))
}

pub(super) fn invalid(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS_CODE, message, None::<()>)
}

pub(super) fn declined(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(DECLINED, message, None::<()>)
}

fn reverted(output: &Bytes) -> ErrorObjectOwned {
    let reason = alloy::sol_types::decode_revert_reason(output);
    let message = match reason {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED, message, Some(output))
}

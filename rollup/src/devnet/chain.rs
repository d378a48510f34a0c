//! The chain itself: blocks of one transaction, executed by revm.
//!
//! Pure: it reads no clock, draws no randomness and touches no disk. Each block's
//! timestamp and randomness are passed in, and of old blocks it keeps no more than an
//! index; the same genesis and records give the same chain, block hash for block hash.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope, TxType};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{
    Address, B256, Bloom, Bytes, Log, TxKind, U256, b256, keccak256, logs_bloom,
};
use revm::context::result::{EVMError, ExecutionResult, HaltReason};
use revm::context::{BlockEnv, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode, EvmState};
use revm::{Context, DatabaseRef, ExecuteEvm, MainBuilder, MainContext};

use super::log::{BlockRecord, Change, Genesis};
use super::past::{KEPT, Past, Undo};

/// Gas one block, and so one transaction, may use.
pub(crate) const BLOCK_GAS_LIMIT: u64 = 30_000_000;
/// Wei a unit of gas costs, always: low, but not nothing, so that an account
/// without funds behaves here as it would on a rollup.
pub(crate) const BASE_FEE: u64 = 1_000_000;

/// Arachnid's deterministic deployment proxy, at the address it has everywhere.
pub(crate) const CREATE2_FACTORY: Address =
    alloy::primitives::address!("4e59b44847b379578588920cA78FbF26c0B4956C");
const CREATE2_FACTORY_CODE: &str = "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3";

/// The hash of an empty ommers list.
const NO_OMMERS: B256 = b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");

/// Why a transaction was not mined.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Rejected {
    #[error("not a transaction: {0}")]
    Undecodable(String),
    #[error("already known")]
    AlreadyKnown,
    #[error("the devnet takes legacy, EIP-2930 and EIP-1559 transactions, not type {0}")]
    UnsupportedType(u8),
    #[error("invalid signature")]
    BadSignature,
    #[error("only replay-protected transactions for chain {0} are taken")]
    Unprotected(u64),
    #[error("nonce too low: next nonce {expected}, transaction nonce {given}")]
    NonceTooLow { expected: u64, given: u64 },
    #[error(
        "nonce too high: next nonce {expected}, transaction nonce {given} (the devnet mines at once and queues nothing)"
    )]
    NonceTooHigh { expected: u64, given: u64 },
    #[error("{0}")]
    Invalid(String),
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallOutcome {
    Returned { output: Bytes, gas_used: u64 },
    Reverted { output: Bytes },
    Halted { reason: String },
}

/// A block and, but for genesis, its transaction.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) mined: Option<Mined>,
}

/// A transaction in its block.
#[derive(Debug, Clone)]
pub(crate) struct Mined {
    pub(crate) envelope: TxEnvelope,
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) gas_price: u128,
    pub(crate) created: Option<Address>,
    pub(crate) logs: Vec<Log>,
}

/// A block that has been executed and is not yet part of the chain: it can still be
/// dropped, as when the log cannot take it.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) block: Block,
    pub(crate) record: BlockRecord,
}

/// What is kept of a block in memory; the rest is in its record.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) hash: B256,
    pub(crate) timestamp: u64,
    pub(crate) gas_used: u64,
    pub(crate) bloom: Bloom,
    /// Where its record is; nowhere for genesis.
    pub(crate) place: Option<u64>,
}

/// A message call, as `eth_call` has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Call {
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) input: Bytes,
    pub(crate) gas: Option<u64>,
}

pub(crate) struct Chain {
    chain_id: u64,
    seed: Option<u64>,
    db: CacheDB<EmptyDB>,
    genesis: Header,
    entries: Vec<Entry>,
    by_hash: HashMap<B256, u64>,
    by_transaction: HashMap<B256, u64>,
    /// What the newest blocks changed, the newest last.
    undo: VecDeque<Undo>,
}

impl Chain {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let mut db = CacheDB::new(EmptyDB::new());
        for (address, balance) in &genesis.balances {
            db.insert_account_info(*address, AccountInfo::from_balance(*balance));
        }
        let factory = hex::decode(CREATE2_FACTORY_CODE).expect("a constant of hex digits");
        let code = Bytecode::new_raw(Bytes::from(factory));
        db.insert_account_info(
            CREATE2_FACTORY,
            AccountInfo {
                nonce: 1,
                ..AccountInfo::default().with_code(code)
            },
        );
        let origin = serde_json::to_vec(genesis).expect("plain data");
        let header = Header {
            ommers_hash: NO_OMMERS,
            gas_limit: BLOCK_GAS_LIMIT,
            timestamp: genesis.timestamp,
            // Ties the chain's hashes to what it started from.
            extra_data: Bytes::copy_from_slice(keccak256(origin).as_slice()),
            base_fee_per_gas: Some(BASE_FEE),
            ..Header::default()
        };
        let entry = Entry {
            hash: header.hash_slow(),
            timestamp: header.timestamp,
            gas_used: 0,
            bloom: Bloom::ZERO,
            place: None,
        };
        let mut chain = Self {
            chain_id: genesis.chain_id,
            seed: genesis.seed,
            db,
            genesis: header,
            entries: Vec::new(),
            by_hash: HashMap::new(),
            by_transaction: HashMap::new(),
            undo: VecDeque::new(),
        };
        chain.push(entry);
        chain
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub(crate) fn head(&self) -> &Entry {
        self.entries.last().expect("genesis is never removed")
    }

    pub(crate) fn height(&self) -> u64 {
        self.entries.len() as u64 - 1
    }

    pub(crate) fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn number_of_block(&self, hash: &B256) -> Option<u64> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn number_of_transaction(&self, hash: &B256) -> Option<u64> {
        self.by_transaction.get(hash).copied()
    }

    /// The block before all others.
    pub(crate) fn genesis(&self) -> Block {
        Block {
            header: self.genesis.clone(),
            hash: self.entries[0].hash,
            mined: None,
        }
    }

    /// A block from its record, as it was when it was made.
    pub(crate) fn rebuild(&self, number: u64, record: BlockRecord) -> Option<Block> {
        let parent = self.entry(number.checked_sub(1)?)?;
        let envelope = TxEnvelope::decode_2718(&mut record.raw.as_ref()).ok()?;
        Some(seal(number, parent.hash, envelope, &record))
    }

    pub(crate) fn account(&self, address: Address) -> AccountInfo {
        let Ok(account) = self.db.basic_ref(address);
        account.unwrap_or_default()
    }

    pub(crate) fn storage(&self, address: Address, slot: U256) -> U256 {
        let Ok(value) = self.db.storage_ref(address, slot);
        value
    }

    /// Executes a raw transaction as the next block, without committing it.
    pub(crate) fn execute(
        &self,
        raw: &[u8],
        timestamp: u64,
        prevrandao: B256,
    ) -> Result<Candidate, Rejected> {
        let mut rest = raw;
        let envelope = TxEnvelope::decode_2718(&mut rest)
            .map_err(|error| Rejected::Undecodable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(Rejected::Undecodable(format!(
                "{} bytes too many",
                rest.len()
            )));
        }
        match envelope.tx_type() {
            TxType::Legacy | TxType::Eip2930 | TxType::Eip1559 => {}
            other => return Err(Rejected::UnsupportedType(other as u8)),
        }
        let hash = *envelope.tx_hash();
        if self.by_transaction.contains_key(&hash) {
            return Err(Rejected::AlreadyKnown);
        }
        if envelope.chain_id() != Some(self.chain_id) {
            return Err(Rejected::Unprotected(self.chain_id));
        }
        let sender = envelope
            .recover_signer()
            .map_err(|_| Rejected::BadSignature)?;
        let (expected, given) = (self.account(sender).nonce, envelope.nonce());
        if given < expected {
            return Err(Rejected::NonceTooLow { expected, given });
        } else if given > expected {
            return Err(Rejected::NonceTooHigh { expected, given });
        }

        let environment = environment_of(&envelope, sender);
        let block = self.environment(timestamp, prevrandao, BASE_FEE);
        let (result, state) = self
            .transact(&self.db, block, environment, false)
            .map_err(Rejected::Invalid)?;

        let mut record = BlockRecord {
            hash: B256::ZERO,
            timestamp,
            prevrandao,
            raw: Bytes::copy_from_slice(raw),
            sender,
            success: result.is_success(),
            gas_used: result.tx_gas_used(),
            logs: result.into_logs(),
            changes: changes(state),
        };
        let block = seal(self.height() + 1, self.head().hash, envelope, &record);
        record.hash = block.hash;
        Ok(Candidate { block, record })
    }

    /// Makes an executed block part of the chain; its record is at `place`.
    pub(crate) fn commit(&mut self, record: &BlockRecord, place: u64) {
        let undo = Undo {
            accounts: record
                .changes
                .iter()
                .map(|change| {
                    let Ok(account) = self.db.basic_ref(change.address);
                    (change.address, account)
                })
                .collect(),
            storage: record
                .changes
                .iter()
                .flat_map(|change| {
                    let slots = change.storage.iter();
                    slots.map(|(slot, _)| (change.address, *slot))
                })
                .map(|(address, slot)| ((address, slot), self.storage(address, slot)))
                .collect(),
        };
        self.undo.push_back(undo);
        if self.undo.len() > KEPT {
            self.undo.pop_front();
        }
        for change in &record.changes {
            self.apply(change);
        }
        let number = self.height() + 1;
        // Of every type that is taken, the hash is that of the bytes on the wire.
        self.by_transaction.insert(keccak256(&record.raw), number);
        self.push(Entry {
            hash: record.hash,
            timestamp: record.timestamp,
            gas_used: record.gas_used,
            bloom: logs_bloom(&record.logs),
            place: Some(place),
        });
    }

    fn apply(&mut self, change: &Change) {
        let mut info = self.account(change.address);
        (info.balance, info.nonce) = (change.balance, change.nonce);
        if change.destroyed {
            self.db.cache.accounts.remove(&change.address);
            return;
        }
        if let Some(code) = &change.code {
            info = info.with_code(Bytecode::new_raw(code.clone()));
        }
        self.db.insert_account_info(change.address, info);
        for &(slot, value) in &change.storage {
            let Ok(()) = self.db.insert_account_storage(change.address, slot, value);
        }
    }

    /// The state after a block, if it is not too long ago.
    pub(crate) fn at(&self, number: u64) -> Option<Past<'_>> {
        let back = usize::try_from(self.height().checked_sub(number)?).ok()?;
        let first = self.undo.len().checked_sub(back)?;
        Some(Past::before(&self.db, self.undo.iter().skip(first)))
    }

    /// What a mined transaction reverted with, if it did: it is executed again, on the
    /// state before its block.
    pub(crate) fn again(&self, block: &Block) -> Result<Option<Bytes>, String> {
        let number = block.header.number;
        let Some(mined) = block.mined.as_ref().filter(|mined| !mined.success) else {
            return Ok(None);
        };
        let before = number.checked_sub(1).and_then(|number| self.at(number));
        let before = before.ok_or_else(|| too_long_ago(number))?;
        let header = &block.header;
        let block = BlockEnv {
            number: U256::from(number),
            ..self.environment(header.timestamp, header.mix_hash, BASE_FEE)
        };
        let environment = environment_of(&mined.envelope, mined.sender);
        match self.transact(&before, block, environment, false)?.0 {
            ExecutionResult::Revert { output, .. } => Ok(Some(output)),
            _ => Ok(Some(Bytes::new())),
        }
    }

    /// Runs a message call on top of the head, as part of the block that would come
    /// next at `timestamp`.
    pub(crate) fn call(&self, call: &Call, timestamp: u64) -> Result<CallOutcome, String> {
        self.call_in(call, &self.db, self.next_block(timestamp))
    }

    /// Runs a message call on the state after a block, as part of it.
    pub(crate) fn call_at(&self, call: &Call, number: u64) -> Result<CallOutcome, String> {
        let past = self.at(number).ok_or_else(|| too_long_ago(number))?;
        let entry = self.entry(number).ok_or_else(|| too_long_ago(number))?;
        let block = BlockEnv {
            number: U256::from(number),
            // What its randomness was is in its record; a call has no use for it.
            ..self.environment(entry.timestamp, keccak256(entry.hash), 0)
        };
        self.call_in(call, &past, block)
    }

    fn call_in<D: DatabaseRef<Error = Infallible>>(
        &self,
        call: &Call,
        state: &D,
        block: BlockEnv,
    ) -> Result<CallOutcome, String> {
        let gas = call.gas.unwrap_or(BLOCK_GAS_LIMIT).min(BLOCK_GAS_LIMIT);
        let (result, _) = self.transact(state, block, self.message(call, gas), true)?;
        Ok(match result {
            ExecutionResult::Success { ref output, .. } => CallOutcome::Returned {
                output: output.data().clone(),
                gas_used: result.tx_gas_used(),
            },
            ExecutionResult::Revert { output, .. } => CallOutcome::Reverted { output },
            ExecutionResult::Halt { reason, .. } => CallOutcome::Halted {
                reason: format!("{reason:?}"),
            },
        })
    }

    /// The least gas limit, to within a 64th, with which the call succeeds.
    pub(crate) fn estimate(&self, call: &Call, timestamp: u64) -> Result<Estimate, String> {
        let ceiling = call.gas.unwrap_or(BLOCK_GAS_LIMIT).min(BLOCK_GAS_LIMIT);
        let (result, _) = self.simulate(call, ceiling, timestamp)?;
        let spent = match result {
            // What was refunded in the end had to be there before.
            ExecutionResult::Success { gas, .. } => gas.total_gas_spent().max(gas.tx_gas_used()),
            ExecutionResult::Revert { output, .. } => return Ok(Estimate::Reverted(output)),
            ExecutionResult::Halt { reason, .. } => {
                return Ok(Estimate::Halted(format!("{reason:?}")));
            }
        };
        let succeeds = |limit: u64| -> Result<bool, String> {
            Ok(self.simulate(call, limit, timestamp)?.0.is_success())
        };
        // A call may pass on at most 63 of 64 parts of its gas, so that what was spent
        // is not always enough; a 64th more nearly always is.
        let (mut low, mut high) = (spent, ceiling);
        for guess in [spent, spent + spent / 63 + 2_300] {
            if guess < ceiling && succeeds(guess)? {
                high = guess;
                break;
            }
            low = guess;
        }
        while high > low && high - low > low / 64 {
            let middle = low + (high - low) / 2;
            if succeeds(middle)? {
                high = middle;
            } else {
                low = middle;
            }
        }
        Ok(Estimate::Gas(high))
    }

    fn simulate(
        &self,
        call: &Call,
        gas_limit: u64,
        timestamp: u64,
    ) -> Result<(ExecutionResult<HaltReason>, EvmState), String> {
        let block = self.next_block(timestamp);
        self.transact(&self.db, block, self.message(call, gas_limit), true)
    }

    fn message(&self, call: &Call, gas_limit: u64) -> TxEnv {
        TxEnv {
            caller: call.from,
            gas_limit,
            kind: call.to.map_or(TxKind::Create, TxKind::Call),
            value: call.value,
            data: call.input.clone(),
            chain_id: Some(self.chain_id),
            ..TxEnv::default()
        }
    }

    /// The block that a call is part of, on top of the head.
    fn next_block(&self, timestamp: u64) -> BlockEnv {
        // What the next block's randomness will be is not known before it is made.
        let prevrandao = keccak256(self.head().hash);
        // A call pays nothing, so its block must ask for nothing.
        self.environment(timestamp, prevrandao, 0)
    }

    fn environment(&self, timestamp: u64, prevrandao: B256, basefee: u64) -> BlockEnv {
        BlockEnv {
            number: U256::from(self.height() + 1),
            beneficiary: Address::ZERO,
            timestamp: U256::from(timestamp),
            gas_limit: BLOCK_GAS_LIMIT,
            basefee,
            prevrandao: Some(prevrandao),
            ..BlockEnv::default()
        }
    }

    fn transact<D: DatabaseRef<Error = Infallible>>(
        &self,
        state: &D,
        block: BlockEnv,
        transaction: TxEnv,
        any_nonce: bool,
    ) -> Result<(ExecutionResult<HaltReason>, EvmState), String> {
        let mut evm = Context::mainnet()
            .modify_cfg_chained(|cfg| {
                cfg.set_spec_and_mainnet_gas_params(SpecId::PRAGUE);
                cfg.chain_id = self.chain_id;
                cfg.disable_nonce_check = any_nonce;
            })
            .with_block(block)
            .with_ref_db(state)
            .build_mainnet();
        let done = evm.transact(transaction).map_err(|error| match error {
            EVMError::Transaction(invalid) => invalid.to_string(),
            other => other.to_string(),
        })?;
        Ok((done.result, done.state))
    }

    fn push(&mut self, entry: Entry) {
        let number = self.entries.len() as u64;
        self.db
            .cache
            .block_hashes
            .insert(U256::from(number), entry.hash);
        self.by_hash.insert(entry.hash, number);
        self.entries.push(entry);
    }
}

fn environment_of(envelope: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: envelope.tx_type() as u8,
        caller: sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.kind(),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        ..TxEnv::default()
    }
}

/// Why a state is not told.
pub(crate) fn too_long_ago(number: u64) -> String {
    format!("the devnet keeps the state of its newest {KEPT} blocks, and block {number} is older")
}

/// Puts a block together from what came of its transaction.
fn seal(number: u64, parent_hash: B256, envelope: TxEnvelope, record: &BlockRecord) -> Block {
    let BlockRecord {
        success,
        gas_used,
        logs,
        ..
    } = record.clone();
    let receipt = Receipt {
        status: success.into(),
        cumulative_gas_used: gas_used,
        logs,
    };
    let receipt: ReceiptEnvelope = ReceiptEnvelope::from_typed(envelope.tx_type(), receipt);
    let header = Header {
        parent_hash,
        ommers_hash: NO_OMMERS,
        // The state is not kept as a trie, so there is no root to tell.
        state_root: B256::ZERO,
        transactions_root: calculate_transaction_root(std::slice::from_ref(&envelope)),
        receipts_root: calculate_receipt_root(std::slice::from_ref(&receipt)),
        logs_bloom: *receipt.logs_bloom(),
        number,
        gas_limit: BLOCK_GAS_LIMIT,
        gas_used,
        timestamp: record.timestamp,
        mix_hash: record.prevrandao,
        base_fee_per_gas: Some(BASE_FEE),
        ..Header::default()
    };
    let created = match envelope.kind() {
        TxKind::Create if success => Some(record.sender.create(envelope.nonce())),
        _ => None,
    };
    let mined = Mined {
        hash: *envelope.tx_hash(),
        sender: record.sender,
        success,
        gas_used,
        gas_price: envelope.effective_gas_price(Some(BASE_FEE)),
        created,
        logs: record.logs.clone(),
        envelope,
    };
    Block {
        hash: header.hash_slow(),
        header,
        mined: Some(mined),
    }
}

/// What a transaction changed, by address, so that a record is the same each time.
fn changes(state: EvmState) -> Vec<Change> {
    let mut changes: Vec<_> = state
        .into_iter()
        .filter(|(_, account)| account.is_touched())
        .map(|(address, account)| {
            let mut storage: Vec<_> = account
                .storage
                .iter()
                .filter(|(_, slot)| slot.is_changed())
                .map(|(&key, slot)| (key, slot.present_value()))
                .collect();
            storage.sort_unstable();
            let code = account
                .info
                .code
                .as_ref()
                .filter(|code| account.is_created() && !code.is_empty());
            Change {
                address,
                balance: account.info.balance,
                nonce: account.info.nonce,
                code: code.map(Bytecode::original_bytes),
                destroyed: account.is_selfdestructed(),
                storage,
            }
        })
        .collect();
    changes.sort_unstable_by_key(|change| change.address);
    changes
}

/// What `eth_estimateGas` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Estimate {
    Gas(u64),
    Reverted(Bytes),
    Halted(String),
}

#[cfg(test)]
mod tests;

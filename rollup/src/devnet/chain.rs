//! The chain itself: blocks of one transaction, executed by revm, kept in memory.
//!
//! Pure: it reads no clock and draws no randomness; each block's timestamp and
//! randomness are passed in. The same genesis and records give the same chain,
//! block hash for block hash.

use std::collections::HashMap;

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::transaction::SignerRecoverable;
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope, TxType};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, B256, Bytes, Log, TxKind, U256, b256, keccak256, logs_bloom};
use revm::context::result::{EVMError, ExecutionResult, HaltReason};
use revm::context::{BlockEnv, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, Bytecode, EvmState};
use revm::{Context, DatabaseCommit, DatabaseRef, ExecuteEvm, MainBuilder, MainContext};

use super::log::{BlockRecord, Genesis};

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

/// A block that has been executed and not yet committed: it can still be dropped,
/// as when the log cannot take it.
pub(crate) struct Candidate {
    block: Block,
    state: EvmState,
    pub(crate) record: BlockRecord,
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
    blocks: Vec<Block>,
    by_hash: HashMap<B256, u64>,
    by_transaction: HashMap<B256, u64>,
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
        let header = Header {
            ommers_hash: NO_OMMERS,
            gas_limit: BLOCK_GAS_LIMIT,
            timestamp: genesis.timestamp,
            // Ties the chain's hashes to what it started from.
            extra_data: Bytes::copy_from_slice(
                &keccak256(serde_json::to_vec(genesis).expect("plain data"))[..],
            ),
            base_fee_per_gas: Some(BASE_FEE),
            ..Header::default()
        };
        let mut chain = Self {
            chain_id: genesis.chain_id,
            seed: genesis.seed,
            db,
            blocks: Vec::new(),
            by_hash: HashMap::new(),
            by_transaction: HashMap::new(),
        };
        let hash = header.hash_slow();
        chain.push(Block {
            header,
            hash,
            mined: None,
        });
        chain
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub(crate) fn head(&self) -> &Block {
        self.blocks.last().expect("genesis is never removed")
    }

    pub(crate) fn height(&self) -> u64 {
        self.head().header.number
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Block> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_by_hash(&self, hash: &B256) -> Option<&Block> {
        self.block(*self.by_hash.get(hash)?)
    }

    pub(crate) fn block_of_transaction(&self, hash: &B256) -> Option<&Block> {
        self.block(*self.by_transaction.get(hash)?)
    }

    pub(crate) fn account(&self, address: Address) -> AccountInfo {
        let Ok(account) = self.db.basic_ref(address);
        account.unwrap_or_default()
    }

    pub(crate) fn code(&self, address: Address) -> Bytes {
        let account = self.account(address);
        let Ok(code) = self.db.code_by_hash_ref(account.code_hash);
        account.code.unwrap_or(code).original_bytes()
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
        let tx_type = match envelope.tx_type() {
            known @ (TxType::Legacy | TxType::Eip2930 | TxType::Eip1559) => known,
            other => return Err(Rejected::UnsupportedType(other as u8)),
        };
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

        let parent = self.head();
        let number = parent.header.number + 1;
        let environment = TxEnv {
            tx_type: tx_type as u8,
            caller: sender,
            gas_limit: envelope.gas_limit(),
            gas_price: envelope.max_fee_per_gas(),
            kind: envelope.kind(),
            value: envelope.value(),
            data: envelope.input().clone(),
            nonce: given,
            chain_id: envelope.chain_id(),
            access_list: envelope.access_list().cloned().unwrap_or_default(),
            gas_priority_fee: envelope.max_priority_fee_per_gas(),
            ..TxEnv::default()
        };
        let block = self.environment(timestamp, prevrandao, BASE_FEE);
        let (result, state) = self
            .transact(block, environment, false)
            .map_err(Rejected::Invalid)?;

        let gas_used = result.tx_gas_used();
        let success = result.is_success();
        let created = match envelope.kind() {
            TxKind::Create if success => Some(sender.create(given)),
            _ => None,
        };
        let logs = result.into_logs();
        let gas_price = envelope.effective_gas_price(Some(BASE_FEE));
        let bloom = logs_bloom(&logs);
        let receipt = ReceiptEnvelope::from_typed(
            tx_type,
            Receipt {
                status: success.into(),
                cumulative_gas_used: gas_used,
                logs: logs.clone(),
            },
        );
        let header = Header {
            parent_hash: parent.hash,
            ommers_hash: NO_OMMERS,
            // The state is not kept as a trie, so there is no root to tell.
            state_root: B256::ZERO,
            transactions_root: calculate_transaction_root(std::slice::from_ref(&envelope)),
            receipts_root: calculate_receipt_root(&[receipt]),
            logs_bloom: bloom,
            number,
            gas_limit: BLOCK_GAS_LIMIT,
            gas_used,
            timestamp,
            mix_hash: prevrandao,
            base_fee_per_gas: Some(BASE_FEE),
            ..Header::default()
        };
        let mined = Mined {
            envelope,
            hash,
            sender,
            success,
            gas_used,
            gas_price,
            created,
            logs,
        };
        Ok(Candidate {
            block: Block {
                hash: header.hash_slow(),
                header,
                mined: Some(mined),
            },
            state,
            record: BlockRecord {
                timestamp,
                prevrandao,
                raw: Bytes::copy_from_slice(raw),
            },
        })
    }

    /// Makes an executed block part of the chain.
    pub(crate) fn commit(&mut self, candidate: Candidate) -> B256 {
        self.db.commit(candidate.state);
        let hash = candidate
            .block
            .mined
            .as_ref()
            .map_or(B256::ZERO, |mined| mined.hash);
        self.push(candidate.block);
        hash
    }

    /// Runs a message call on top of the head, as part of the block that would come
    /// next at `timestamp`.
    pub(crate) fn call(&self, call: &Call, timestamp: u64) -> Result<CallOutcome, String> {
        let gas = call.gas.unwrap_or(BLOCK_GAS_LIMIT).min(BLOCK_GAS_LIMIT);
        let (result, _) = self.simulate(call, gas, timestamp)?;
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
        let environment = TxEnv {
            caller: call.from,
            gas_limit,
            kind: call.to.map_or(TxKind::Create, TxKind::Call),
            value: call.value,
            data: call.input.clone(),
            chain_id: Some(self.chain_id),
            ..TxEnv::default()
        };
        // What the next block's randomness will be is not known before it is made.
        let prevrandao = keccak256(self.head().hash);
        // A call pays nothing, so its block must ask for nothing.
        let block = self.environment(timestamp, prevrandao, 0);
        self.transact(block, environment, true)
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

    fn transact(
        &self,
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
            .with_ref_db(&self.db)
            .build_mainnet();
        let done = evm.transact(transaction).map_err(|error| match error {
            EVMError::Transaction(invalid) => invalid.to_string(),
            other => other.to_string(),
        })?;
        Ok((done.result, done.state))
    }

    fn push(&mut self, block: Block) {
        let number = block.header.number;
        self.db
            .cache
            .block_hashes
            .insert(U256::from(number), block.hash);
        self.by_hash.insert(block.hash, number);
        if let Some(mined) = &block.mined {
            self.by_transaction.insert(mined.hash, number);
        }
        self.blocks.push(block);
    }
}

/// What `eth_estimateGas` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Estimate {
    Gas(u64),
    Reverted(Bytes),
    Halted(String),
}

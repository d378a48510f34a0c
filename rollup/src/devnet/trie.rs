//! The state as Ethereum's trie has it: its root, and proofs that lead from there to an
//! account and its storage.
//!
//! The devnet keeps no trie. It is built from all accounts each time somebody asks, at a
//! microsecond or two for each account and slot; at every block that would be too much, and
//! so the headers name no root.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::rpc::types::serde_helpers::JsonStorageKey;
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy::trie::proof::ProofRetainer;
use alloy::trie::{HashBuilder, Nibbles, TrieAccount};
use revm::state::AccountInfo;

use super::past::Past;

/// A trie's leaves: hashed keys and encoded values, in order.
type Leaves = BTreeMap<B256, Vec<u8>>;

/// The root over every account.
pub(crate) fn root(state: &Past<'_>) -> B256 {
    build(&accounts(state), None).0
}

/// An account, what of its storage was asked for, and the nodes that prove both.
pub(crate) fn prove(
    state: &Past<'_>,
    address: Address,
    keys: Vec<JsonStorageKey>,
) -> EIP1186AccountProofResponse {
    let account = state.account(address);
    let storage = storage(state, address);
    let slot_proof = |key: JsonStorageKey| {
        let slot = key.as_b256();
        EIP1186StorageProof {
            key,
            value: state.storage(address, slot.into()),
            proof: build(&storage, Some(keccak256(slot))).1,
        }
    };
    EIP1186AccountProofResponse {
        address,
        balance: account.balance,
        code_hash: account.code_hash,
        nonce: account.nonce,
        storage_hash: build(&storage, None).0,
        account_proof: build(&accounts(state), Some(keccak256(address))).1,
        storage_proof: keys.into_iter().map(slot_proof).collect(),
    }
}

fn accounts(state: &Past<'_>) -> Leaves {
    let leaf = |(address, account): (Address, AccountInfo)| {
        let account = TrieAccount {
            nonce: account.nonce,
            balance: account.balance,
            storage_root: build(&storage(state, address), None).0,
            code_hash: account.code_hash,
        };
        (keccak256(address), alloy::rlp::encode(account))
    };
    // An account that has nothing is none (EIP-161), even if a transaction touched it.
    let there = state.accounts().filter(|(_, account)| !account.is_empty());
    there.map(leaf).collect()
}

fn storage(state: &Past<'_>, address: Address) -> Leaves {
    let leaf = |(slot, value): (U256, U256)| {
        let key = keccak256(B256::from(slot));
        (key, alloy::rlp::encode(value))
    };
    // A slot that holds zero is none.
    let slots = state.slots(address).filter(|(_, value)| !value.is_zero());
    slots.map(leaf).collect()
}

/// A trie's root, and the nodes from there to a key, or to where it would be.
fn build(leaves: &Leaves, proven: Option<B256>) -> (B256, Vec<Bytes>) {
    let targets = proven.map(Nibbles::unpack).into_iter().collect();
    let mut builder = HashBuilder::default().with_proof_retainer(ProofRetainer::new(targets));
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), value);
    }
    let root = builder.root();
    let nodes = builder.take_proof_nodes().into_nodes_sorted();
    let proof = nodes.into_iter().map(|(_, node)| node);
    (root, proof.filter(|_| proven.is_some()).collect())
}

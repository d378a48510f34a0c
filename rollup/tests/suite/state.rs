//! The state as a trie: the devnet's root and proofs, and what anvil makes of a root.

use std::collections::BTreeMap;
use std::io::Read;

use alloy::primitives::{Address, B256, Bytes, U256, address, keccak256};
use alloy::rpc::types::EIP1186AccountProofResponse;
use alloy::sol_types::SolValue;
use alloy::trie::proof::verify_proof;
use alloy::trie::root::{state_root_unhashed, storage_root_unhashed};
use alloy::trie::{KECCAK_EMPTY, Nibbles, TrieAccount};
use rollup::devnet::Devnet;
use serde::Deserialize;
use serde_json::json;

use crate::support::{ask, config, key, profile, swarm_of};

/// EIP-2935's contract. Anvil puts it into every chain from Prague on, and has it keep the
/// hashes of past blocks; the devnet, whose blocks have other hashes, does without.
const HISTORY: Address = address!("0000F90827F1C53a10cb7A02335B175320002935");

/// What `anvil_dumpState` tells of every account.
#[derive(Deserialize)]
pub(crate) struct Dump {
    accounts: BTreeMap<Address, Account>,
}

#[derive(Deserialize)]
struct Account {
    nonce: u64,
    balance: U256,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

/// By whose rules a state has a root.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Rules {
    /// Accounts that have nothing and slots that hold zero are none; and without anvil's
    /// own addition.
    Ethereums,
    /// Anvil keeps them all as leaves.
    Anvils,
}

impl Dump {
    /// From what the call answers: compressed, in hexadecimal digits.
    pub(crate) fn read(answer: &str) -> Self {
        let packed: Bytes = answer.parse().unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_ref())
            .read_to_string(&mut text)
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn root(&self, rules: Rules) -> B256 {
        let kept = |address: &Address, account: &Account| {
            let has_something =
                account.nonce > 0 || !account.balance.is_zero() || !account.code.is_empty();
            rules == Rules::Anvils || (has_something && *address != HISTORY)
        };
        let leaf = |account: &Account| {
            let slots = account.storage.iter();
            let slots = slots.filter(|(_, value)| rules == Rules::Anvils || !value.is_zero());
            let slots = slots.map(|(slot, value)| (B256::from(*slot), *value));
            TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: storage_root_unhashed(slots),
                code_hash: keccak256(&account.code),
            }
        };
        let accounts = self.accounts.iter();
        let accounts = accounts.filter(|(address, account)| kept(address, account));
        state_root_unhashed(accounts.map(|(address, account)| (*address, leaf(account))))
    }
}

/// Checks an account's proof, and those of its slots, against a root.
fn verify(root: B256, proof: &EIP1186AccountProofResponse) {
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let is_there =
        account.nonce > 0 || !account.balance.is_zero() || account.code_hash != KECCAK_EMPTY;
    let leaf = is_there.then(|| alloy::rlp::encode(account));
    let path = Nibbles::unpack(keccak256(proof.address));
    verify_proof(root, path, leaf, &proof.account_proof).unwrap();
    for slot in &proof.storage_proof {
        let leaf = (!slot.value.is_zero()).then(|| alloy::rlp::encode(slot.value));
        let path = Nibbles::unpack(keccak256(slot.key.as_b256()));
        verify_proof(proof.storage_hash, path, leaf, &slot.proof).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_devnet_says_of_an_account_is_proved_by_its_states_root() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 2)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 2).await;
    let at = swarms[0].ledger().addresses();
    // Where the registry keeps a peer's record: in its fourth slot is a map from owners.
    let record: U256 = keccak256((key(1).address(), U256::from(3)).abi_encode()).into();
    let height = devnet.height();
    let mut roots = Vec::new();
    for block in [height - 1, height] {
        let block = format!("{block:#x}");
        let answer = ask(&devnet.url(), "murmur_stateRoot", json!([block])).await;
        let root: B256 = serde_json::from_value(answer["result"].clone()).unwrap();
        let nobody = Address::repeat_byte(7);
        let accounts = [
            key(1).address(),
            at.registry,
            at.ledger,
            Address::ZERO,
            nobody,
        ];
        let mut written = 0;
        for account in accounts {
            let slots: Vec<_> = (0..6).map(|slot| record + U256::from(slot)).collect();
            let answer = ask(
                &devnet.url(),
                "eth_getProof",
                json!([account, slots, block]),
            )
            .await;
            let proof: EIP1186AccountProofResponse =
                serde_json::from_value(answer["result"].clone()).unwrap();
            assert_eq!((proof.address, proof.storage_proof.len()), (account, 6));
            verify(root, &proof);
            let slots = proof.storage_proof.iter();
            written += slots.filter(|slot| !slot.value.is_zero()).count();
        }
        assert_eq!(written, 5, "a record's slots");
        roots.push(root);
    }
    // The last transaction changed something, and the older state is proved by the older root.
    assert_ne!(roots[0], roots[1]);
}

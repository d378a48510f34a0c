//! The compiled contracts: their interfaces, their code, where they live.
//!
//! Everything comes from `contracts/artifacts`, which a script recompiles and
//! compares (`contracts/check.sh`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use alloy::dyn_abi::ErrorExt;
use alloy::json_abi::JsonAbi;
use alloy::primitives::{Address, B256, Bytes, address, keccak256};
use alloy::sol_types::{SolValue, decode_revert_reason};
use serde::Deserialize;

/// The interfaces, as Rust types. Internal: the client speaks in its own.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod abi {
    pub mod registry {
        alloy::sol!(PeerRegistry, "contracts/artifacts/PeerRegistry.json");
    }
    pub mod ledger {
        alloy::sol!(
            ReputationLedger,
            "contracts/artifacts/ReputationLedger.json"
        );
    }
}

/// Arachnid's deterministic deployment proxy: the same code at the same address on
/// nearly every chain, so that what it deploys has one address everywhere.
pub(crate) const CREATE2_FACTORY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
/// Changes when a deployment must not be taken for an older one.
const SALT: B256 = B256::ZERO;

/// Where a chain's two contracts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// The `PeerRegistry`.
    pub registry: Address,
    /// The `ReputationLedger`.
    pub ledger: Address,
}

impl Addresses {
    /// Where this version's contracts are on any chain that has the deterministic
    /// deployment proxy: a function of their code and nothing else.
    pub fn deterministic() -> Self {
        let registry = CREATE2_FACTORY.create2(SALT, keccak256(registry_init_code()));
        let ledger = CREATE2_FACTORY.create2(SALT, keccak256(ledger_init_code(registry)));
        Self { registry, ledger }
    }
}

/// A compiled contract, as `contracts/check.sh` writes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Artifact {
    pub(crate) abi: JsonAbi,
    advice: BTreeMap<String, String>,
    bytecode: Bytes,
    deployed_bytecode: Bytes,
    immutables: Vec<Immutable>,
}

/// Bytes of the deployed code that its constructor fills in.
#[derive(Deserialize)]
struct Immutable {
    start: usize,
    length: usize,
}

pub(crate) static REGISTRY: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../contracts/artifacts/PeerRegistry.json")));
pub(crate) static LEDGER: LazyLock<Artifact> =
    LazyLock::new(|| parse(include_str!("../contracts/artifacts/ReputationLedger.json")));

fn parse(artifact: &str) -> Artifact {
    serde_json::from_str(artifact).expect("the committed artifacts are checked by a test")
}

pub(crate) fn registry_init_code() -> Bytes {
    REGISTRY.bytecode.clone()
}

pub(crate) fn ledger_init_code(registry: Address) -> Bytes {
    [LEDGER.bytecode.as_ref(), &registry.abi_encode()]
        .concat()
        .into()
}

/// What the proxy is called with to deploy a contract.
pub(crate) fn deployment(init_code: &[u8]) -> Bytes {
    [SALT.as_slice(), init_code].concat().into()
}

impl Artifact {
    /// Whether code found on a chain is this contract's, but for what its constructor
    /// filled in.
    pub(crate) fn matches(&self, code: &[u8]) -> bool {
        let mut expected = self.deployed_bytecode.to_vec();
        let mut found = code.to_vec();
        if expected.len() != found.len() {
            return false;
        }
        for Immutable { start, length } in &self.immutables {
            expected[*start..start + length].fill(0);
            found[*start..start + length].fill(0);
        }
        expected == found
    }
}

/// One of the contracts' own errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error's name, as in the Solidity source: `AlreadySettled`.
    pub name: String,
    /// Its arguments: `round = 7`.
    pub arguments: String,
    /// What to do about it, in the source's words.
    pub advice: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}({})", self.name, self.arguments)?;
        if !self.advice.is_empty() {
            write!(formatter, ": {}", self.advice)?;
        }
        Ok(())
    }
}

impl Refusal {
    /// Reads what a call reverted with.
    pub(crate) fn decode(data: &[u8]) -> Self {
        Self::named(data).unwrap_or_else(|| Self {
            name: "Revert".to_owned(),
            arguments: decode_revert_reason(data).unwrap_or_else(|| hex::encode(data)),
            advice: String::new(),
        })
    }

    fn named(data: &[u8]) -> Option<Self> {
        let selector = data.get(..4)?;
        [&*LEDGER, &*REGISTRY].into_iter().find_map(|artifact| {
            let error = artifact
                .abi
                .errors()
                .find(|error| error.selector() == selector)?;
            let values = error.decode_error(data).ok()?.body;
            let arguments: Vec<_> = error
                .inputs
                .iter()
                .zip(&values)
                .map(|(input, value)| format!("{} = {}", input.name, display(value)))
                .collect();
            let advice = artifact
                .advice
                .get(&error.name)
                .cloned()
                .unwrap_or_default();
            Some(Self {
                name: error.name.clone(),
                arguments: arguments.join(", "),
                advice,
            })
        })
    }
}

fn display(value: &alloy::dyn_abi::DynSolValue) -> String {
    use alloy::dyn_abi::DynSolValue::{Address, Bool, FixedBytes, Uint};
    match value {
        Uint(number, _) => number.to_string(),
        Address(address) => address.to_string(),
        FixedBytes(word, size) => hex::encode(&word[..*size]),
        Bool(yes) => yes.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_artifacts_are_whole() {
        for artifact in [&*REGISTRY, &*LEDGER] {
            assert!(artifact.matches(&artifact.deployed_bytecode));
            let mut other = artifact.deployed_bytecode.to_vec();
            other[20] ^= 1;
            assert!(!artifact.matches(&other));
            assert!(!artifact.matches(&[]));
        }
    }

    #[test]
    fn every_error_of_the_ledger_says_what_to_do() {
        for error in LEDGER
            .abi
            .errors()
            .filter(|error| !error.name.contains("String"))
        {
            // OpenZeppelin's own come without advice, and cannot happen to a caller.
            if ["InvalidShortString", "StringTooLong"].contains(&error.name.as_str()) {
                continue;
            }
            assert!(
                LEDGER.advice.contains_key(&error.name),
                "{} has no advice",
                error.name
            );
        }
    }

    #[test]
    fn an_error_reads_as_a_sentence() {
        let data = [
            &keccak256("NoQuorum(uint256,uint256)")[..4],
            &[0; 31],
            &[2],
            &[0; 31],
            &[4],
        ]
        .concat();
        assert_eq!(
            Refusal::decode(&data).to_string(),
            "NoQuorum(signatures = 2, committee = 4): Gather more: strictly more than two thirds of the committee must sign."
        );
    }
}

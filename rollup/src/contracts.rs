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
    pub mod swarms {
        alloy::sol!(SwarmRegistry, "contracts/artifacts/SwarmRegistry.json");
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

/// Where a chain's three contracts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// The `PeerRegistry`.
    pub registry: Address,
    /// The `SwarmRegistry`.
    pub swarms: Address,
    /// The `ReputationLedger`.
    pub ledger: Address,
}

impl Addresses {
    /// Where this version's contracts are on any chain that has the deterministic
    /// deployment proxy: a function of their code and nothing else.
    pub fn deterministic() -> Self {
        let registry = deployed_at(&registry_init_code());
        let swarms = deployed_at(&swarms_init_code(registry));
        let ledger = deployed_at(&ledger_init_code(registry, swarms));
        Self {
            registry,
            swarms,
            ledger,
        }
    }

    /// What each is deployed with, in order: a later one names the earlier.
    pub(crate) fn init_codes(&self) -> [(Address, Bytes); 3] {
        [
            (self.registry, registry_init_code()),
            (self.swarms, swarms_init_code(self.registry)),
            (self.ledger, ledger_init_code(self.registry, self.swarms)),
        ]
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

/// A contract of `contracts/artifacts`.
macro_rules! artifact {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<Artifact> =
            LazyLock::new(|| parse(include_str!(concat!("../contracts/artifacts/", $file))));
    };
}
artifact!(REGISTRY, "PeerRegistry.json");
artifact!(SWARMS, "SwarmRegistry.json");
artifact!(LEDGER, "ReputationLedger.json");
artifact!(MIRROR, "AgentMirror.json");
artifact!(SHARES, "ContributionShares.json");
artifact!(VAULT, "RevenueVault.json");
artifact!(GOVERNOR, "SwarmGovernor.json");
artifact!(TIMELOCK, "TimelockController.json");

fn parse(artifact: &str) -> Artifact {
    serde_json::from_str(artifact).expect("the committed artifacts are checked by a test")
}

fn registry_init_code() -> Bytes {
    REGISTRY.bytecode.clone()
}

fn swarms_init_code(registry: Address) -> Bytes {
    SWARMS.with_arguments(&registry.abi_encode())
}

fn ledger_init_code(registry: Address, swarms: Address) -> Bytes {
    LEDGER.with_arguments(&(registry, swarms).abi_encode_params())
}

pub(crate) fn deployed_at(init_code: &[u8]) -> Address {
    deployed_by(SALT, init_code)
}

/// The same with another salt: for contracts of which a chain has several alike.
pub(crate) fn deployed_by(salt: B256, init_code: &[u8]) -> Address {
    CREATE2_FACTORY.create2(salt, keccak256(init_code))
}

/// What the proxy is called with to deploy a contract.
pub(crate) fn deployment(init_code: &[u8]) -> Bytes {
    deployment_by(SALT, init_code)
}

/// The same with another salt.
pub(crate) fn deployment_by(salt: B256, init_code: &[u8]) -> Bytes {
    [salt.as_slice(), init_code].concat().into()
}

impl Artifact {
    /// What deploys the contract, its constructor's arguments included.
    pub(crate) fn with_arguments(&self, encoded: &[u8]) -> Bytes {
        [self.bytecode.as_ref(), encoded].concat().into()
    }

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
        [
            &*LEDGER, &*SWARMS, &*REGISTRY, &*MIRROR, &*SHARES, &*VAULT, &*GOVERNOR, &*TIMELOCK,
        ]
        .into_iter()
        .find_map(|artifact| {
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
        for artifact in [&*REGISTRY, &*SWARMS, &*LEDGER] {
            assert!(artifact.matches(&artifact.deployed_bytecode));
            let mut other = artifact.deployed_bytecode.to_vec();
            other[20] ^= 1;
            assert!(!artifact.matches(&other));
            assert!(!artifact.matches(&[]));
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        // OpenZeppelin's own come without advice.
        let foreign = [
            "InvalidShortString",
            "StringTooLong",
            "InvalidAccountNonce",
            "StringsInsufficientHexLength",
        ];
        for artifact in [&*REGISTRY, &*SWARMS, &*LEDGER, &*MIRROR] {
            for error in artifact.abi.errors() {
                assert!(
                    foreign.contains(&error.name.as_str())
                        || artifact.advice.contains_key(&error.name),
                    "{} has no advice",
                    error.name
                );
            }
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

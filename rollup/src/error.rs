//! What can go wrong between a node and its chain.

use alloy::primitives::{Address, B256};
use alloy::transports::{RpcError, TransportErrorKind};

use crate::contracts::Refusal;

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The chain profile cannot be used.
    #[error("chain profile: {0}")]
    Profile(String),
    /// The swarm cannot be owned, or is governed by something that is not known here.
    #[error("ownership: {0}")]
    Ownership(String),
    /// The node behind the URL could not be reached, or made no sense.
    #[error("chain at {rpc}: {message}")]
    Transport {
        /// Where it was looked for.
        rpc: String,
        /// What went wrong.
        message: String,
    },
    /// The node declined, for a reason that is not a contract's.
    #[error("chain at {rpc} declined: {message}")]
    Declined {
        /// Where it is.
        rpc: String,
        /// What it said.
        message: String,
    },
    /// The URL leads to another chain than the profile names.
    #[error(
        "the chain at {rpc} has id {found}, but the profile says {expected}: correct one of the two"
    )]
    ChainMismatch {
        /// Where it is.
        rpc: String,
        /// The profile's chain id.
        expected: u64,
        /// The chain's own.
        found: u64,
    },
    /// No contract where one should be.
    #[error(
        "there is no {contract} at {address} on chain {chain_id}: deploy it, or correct the address in the chain profile"
    )]
    NoContract {
        /// `PeerRegistry` or `ReputationLedger`.
        contract: &'static str,
        /// Where it was looked for.
        address: Address,
        /// On which chain.
        chain_id: u64,
    },
    /// Another contract than this program knows.
    #[error(
        "what is at {address} on chain {chain_id} is not this version's {contract}: correct the address in the chain profile, or use the version that deployed it"
    )]
    OtherContract {
        /// `PeerRegistry` or `ReputationLedger`.
        contract: &'static str,
        /// Where it is.
        address: Address,
        /// On which chain.
        chain_id: u64,
    },
    /// A contract refused, and said why.
    #[error("refused by the ledger: {0}")]
    Refused(Refusal),
    /// The account cannot pay.
    #[error(
        "account {account} cannot pay for the transaction: fund it, or let another peer relay ({message})"
    )]
    Unfunded {
        /// Whose account.
        account: Address,
        /// What the chain said.
        message: String,
    },
    /// A transaction was mined and reverted, without telling why.
    #[error("transaction {0} reverted")]
    Reverted(B256),
    /// A transaction was sent, again with higher fees, and not mined in time. It may be
    /// later: ask the ledger before sending it anew.
    #[error("transaction {0} was not mined in time")]
    NotMined(B256),
    /// What came back does not fit the contract.
    #[error("chain at {rpc}: unreadable answer: {message}")]
    Unreadable {
        /// Where it came from.
        rpc: String,
        /// What is wrong with it.
        message: String,
    },
    /// The signed scorecards given do not belong together.
    #[error("scorecards: {0}")]
    Cards(String),
}

impl LedgerError {
    /// The contract's own error, if that is what this is.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.name),
            _ => None,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Transport { .. }
                | Self::NotMined(_)
                | Self::Unfunded { .. }
                | Self::Declined { .. }
        )
    }

    /// Reads what the node said.
    pub(crate) fn from_rpc(
        rpc: &str,
        account: Address,
        error: RpcError<TransportErrorKind>,
    ) -> Self {
        let rpc = rpc.to_owned();
        let RpcError::ErrorResp(payload) = &error else {
            return match error {
                RpcError::DeserError { .. } => Self::Unreadable {
                    rpc,
                    message: error.to_string(),
                },
                _ => Self::Transport {
                    rpc,
                    message: error.to_string(),
                },
            };
        };
        if let Some(data) = payload.as_revert_data().filter(|data| data.len() >= 4) {
            return Self::Refused(Refusal::decode(&data));
        }
        let message = payload.message.to_string();
        let lower = message.to_lowercase();
        if lower.contains("insufficient funds") || lower.contains("lack of funds") {
            return Self::Unfunded { account, message };
        }
        Self::Declined { rpc, message }
    }
}

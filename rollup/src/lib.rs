//! The reputation ledger: contracts, their client, the embedded devnet.
mod connection;
#[cfg(test)]
mod contract_tests;
mod contracts;
pub mod devnet;
mod error;
mod funding;
mod history;
mod keystore;
mod ledger;
mod outbox;
mod registration;
mod scorecard;
mod swarm;

/// An Ethereum address.
pub use alloy::primitives::{Address, U256};
/// An Ethereum key in memory.
pub use alloy::signers::local::PrivateKeySigner;
pub use connection::{ChainProfile, Sent};
pub use contracts::{Addresses, Refusal};
pub use error::LedgerError;
pub use history::{Finality, ScoredPeer, SettledRound};
pub use keystore::{Keystore, KeystoreError};
pub use ledger::{Ledger, Terms};
pub use outbox::{Delivery, Outbox, OutboxError, SignedRound};
pub use registration::{Peer, RegistrationRequest, registration_message};
pub use scorecard::{
    Domain, NotASignature, PPM, Scorecard, SignedScorecard, UNSCORED, recover_scorecard,
    sign_scorecard,
};
pub use swarm::{
    MembershipRequest, Reputation, RoundOpened, RoundStatus, Settled, Swarm, SwarmInfo,
};

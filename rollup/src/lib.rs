//! The reputation ledger: who the peers are, which witnesses a round has, which scores
//! they signed, and what reputation follows; on any EVM chain named by an RPC URL and a
//! chain id, or on the devnet inside this process.
//!
//! - [`Ledger`] is a chain's ledger as one account sees it; [`Swarm`] is one swarm on it:
//!   rounds opened, settled, voided, read back
//! - [`Scorecard`] is what a witness signs; no network needed
//! - [`Outbox`] keeps signed rounds until the chain has them, [`Keystore`] the key
//! - [`Chronicle`] is all that a swarm's events say, [`audit`] the ledger's arithmetic
//!   done again
//! - [`Prices`] is what it all costs before it is sent; [`Ownership`] what contributors own,
//!   [`Agents`] the peers in ERC-8004's registries
//! - [`devnet`] is the chain for those who have no other
//!
//! Invariants: everything several peers may do at once is idempotent, by (swarm, round);
//! nothing is sent but by one task for each key; no block's transactions are read, since
//! rollups have types of their own; what a contract refuses is told in its own words,
//! with what to do.
//!
//! ```no_run
//! # async fn tour() -> anyhow::Result<()> {
//! use rollup::devnet::{DEFAULT_CHAIN_ID, Devnet, DevnetConfig};
//! use rollup::{ChainProfile, Keystore, Ledger, Scorecard, SignedScorecard, Terms};
//!
//! let signer = Keystore::at("home/eth.key").load_or_create(None)?;
//! let devnet = Devnet::start(DevnetConfig {
//!     home: "home/devnet".into(),
//!     port: 0,
//!     chain_id: DEFAULT_CHAIN_ID,
//!     prefund: vec![signer.address()],
//!     seed: None,
//! })
//! .await?;
//! let profile = ChainProfile::new(devnet.url(), devnet.chain_id());
//! let ledger = Ledger::deploy(&profile, signer).await?;
//! # let (iroh_key, iroh_signature) = ([1; 32], [2; 64]);
//! ledger.register(iroh_key, iroh_signature, "starling").await?;
//! let swarm = ledger.create_swarm([7; 32], Terms::LOCAL).await?;
//! swarm.join().await?;
//!
//! let opened = swarm.open_round(1).await?;
//! assert!(opened.committee.contains(&ledger.address()));
//! let scores = [([9; 20], 800_000)];
//! let card = Scorecard::new(ledger.address(), swarm.id(), 1, [3; 32], scores);
//! let signed = SignedScorecard::sign(ledger.signer(), &ledger.domain(), card);
//! swarm.settle(1, [3; 32], &[signed]).await?;
//! # Ok(()) }
//! ```

mod agents;
pub mod audit;
mod chronicle;
mod connection;
#[cfg(test)]
mod contract_tests;
mod contracts;
pub mod devnet;
mod error;
mod fees;
mod funding;
mod history;
mod keystore;
mod ledger;
mod merkle;
mod outbox;
mod ownership;
mod registration;
mod scorecard;
mod sealed;
/// What the tests of this crate and those against it share; it names the crate from outside.
#[cfg(test)]
#[path = "../tests/suite/support.rs"]
#[allow(dead_code, reason = "each test crate uses a part")]
mod support;
mod swarm;
#[cfg(test)]
extern crate self as rollup;

pub use agents::{Agents, EPOCH_ROUNDS, Mirrored};
/// Ether, as people write it, in wei.
pub use alloy::primitives::utils::parse_ether;
/// An Ethereum address.
pub use alloy::primitives::{Address, U256};
/// An Ethereum key in memory.
pub use alloy::signers::local::PrivateKeySigner;
pub use chronicle::{Chronicle, KnownSwarm, Round, Step, checksummed, interface};
pub use connection::{AgentRegistries, ChainProfile, CodeHashes, Sent};
pub use contracts::{Addresses, Refusal};
pub use error::LedgerError;
pub use fees::{FeeModel, Prices, Quote};
pub use history::{Finality, Milestone, ScoredPeer, SettledRound};
pub use keystore::{Keystore, KeystoreError, signer_of_phrase};
pub use ledger::{Admission, Ledger, Terms};
pub use outbox::{Delivery, Outbox, OutboxError, SignedRound};
pub use ownership::{
    Claimable, Decision, Holding, Ownership, OwnershipAddresses, OwnershipTerms, Proposal,
    ProposalState,
};
pub use registration::{Peer, RegistrationRequest, registration_message};
pub use scorecard::{
    Domain, NotASignature, PPM, Scorecard, SignedScorecard, UNSCORED, recover_scorecard,
    sign_scorecard,
};
pub use sealed::{ProvenLine, RootOfScores, ScoreTree, SignedRoot, SignedSeal};
pub use swarm::{
    MembershipRequest, Reputation, RoundOpened, RoundStatus, Settled, Swarm, SwarmInfo,
};

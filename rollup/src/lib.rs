//! The reputation ledger: contracts, their client, the embedded devnet.
pub mod devnet;

//! Who pays: peers' accounts get what their transactions will cost from one
//! account of the user's.

use alloy::primitives::{Address, Bytes, U256};

use crate::error::LedgerError;
use crate::ledger::{Ledger, Terms};
use crate::swarm::Swarm;

/// Below this an account is topped up, in gas at the chain's price.
const LOW_GAS: u64 = 5_000_000;
/// What it is topped up to: some hundred settlements of a small swarm.
const FULL_GAS: u64 = 50_000_000;

impl Ledger {
    /// Sends an account what it lacks for its next transactions; false if it
    /// had enough.
    pub async fn top_up(&self, account: [u8; 20]) -> Result<bool, LedgerError> {
        let price = self.connection().reader().gas_price().await?;
        let balance = self.balance(account).await?;
        if balance >= price * U256::from(LOW_GAS) {
            return Ok(false);
        }
        let amount = price * U256::from(FULL_GAS) - balance;
        self.connection()
            .send_value(Address::from(account), amount, Bytes::new())
            .await?;
        Ok(true)
    }

    /// A swarm that has been created: its id follows from manifest and terms.
    pub async fn find_swarm(
        &self,
        manifest_hash: [u8; 32],
        terms: Terms,
    ) -> Result<Swarm, LedgerError> {
        let swarm = self.swarm(self.swarm_id(manifest_hash, terms).await?);
        swarm.info().await?;
        Ok(swarm)
    }
}

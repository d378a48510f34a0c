//! A devnet as another process sees it: two calls beyond the standard ones.

use alloy::primitives::{Address, U256};
use alloy::providers::Provider;

use crate::connection::provider_of;
use crate::error::LedgerError;

/// What an account is given: 2^69 wei, some six hundred ether of a devnet's.
const GIFT: u32 = 69;

/// Asks a devnet for funds for an account that has none.
pub async fn request_funds(rpc: &str, account: [u8; 20]) -> Result<(), LedgerError> {
    let provider = provider_of(rpc)?;
    let unreachable = |error| LedgerError::from_rpc(rpc, Address::from(account), error);
    let balance = provider
        .get_balance(account.into())
        .await
        .map_err(unreachable)?;
    if balance.is_zero() {
        let amount = U256::from(1) << GIFT;
        let _: serde_json::Value = provider
            .raw_request("murmur_fund".into(), (Address::from(account), amount))
            .await
            .map_err(unreachable)?;
    }
    Ok(())
}

/// Whether a chain of this id answers there.
pub async fn answers(rpc: &str, chain_id: u64) -> bool {
    match provider_of(rpc) {
        Ok(provider) => provider
            .get_chain_id()
            .await
            .is_ok_and(|found| found == chain_id),
        Err(_) => false,
    }
}

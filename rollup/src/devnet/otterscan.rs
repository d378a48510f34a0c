//! What Otterscan, an explorer in the browser, asks beside: `ots_*`. Blocks here hold one
//! transaction each and pay nobody, which makes most answers short. There are no traces.

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address, B256, Bytes, U64, U256};
use serde_json::{Value, json};

use super::chain::Block;
use super::rpc::{Answer, Parameters, block_view, declined, receipt, to_json, transaction};
use super::{State, View};

/// The version of Otterscan's interface.
const API_LEVEL: u64 = 8;
/// Transactions on a page of a search, at the most.
const PAGE: usize = 25;

/// Answers one request, or says that it knows no such method.
pub(super) fn answer(state: &State, method: &str, given: &mut Parameters) -> Answer {
    let view = state.view();
    match method {
        "ots_getApiLevel" => to_json(API_LEVEL),
        "ots_hasCode" => {
            let address: Address = given.required("address")?;
            let past = given.state(&view.chain)?;
            to_json(!past.code(address).is_empty())
        }
        "ots_getBlockDetails" | "ots_getBlockDetailsByHash" => {
            let block = given.block(&view, method.ends_with("Hash"))?;
            to_json(block.as_ref().map(details))
        }
        "ots_getBlockTransactions" => {
            let block = given.block(&view, false)?;
            let page: u64 = given.required("page")?;
            let (_size, none) = (given.required::<u64>("page size")?, page > 0);
            to_json(block.map(|block| {
                let mut full = json!(block_view(&block, true));
                full["transactionCount"] = json!(u64::from(block.mined.is_some()));
                let receipts: Vec<_> = receipt(&block).into_iter().filter(|_| !none).collect();
                if none {
                    full["transactions"] = json!([]);
                }
                json!({ "fullblock": full, "receipts": receipts })
            }))
        }
        "ots_searchTransactionsBefore" | "ots_searchTransactionsAfter" => {
            search(&view, method, given)
        }
        "ots_getTransactionBySenderAndNonce" => {
            let sender: Address = given.required("sender")?;
            let nonce: u64 = given.required("nonce")?;
            to_json(first(&view, |block| {
                let mined = block.mined.as_ref()?;
                let found = mined.sender == sender && mined.envelope.nonce() == nonce;
                found.then_some(mined.hash)
            })?)
        }
        "ots_getContractCreator" => {
            let address: Address = given.required("address")?;
            // One that another contract made is found where its code came to be.
            let height = view.chain.height();
            let mut found = None;
            for number in 1..=height {
                if view.made(number)?.contains(&address) {
                    let block = view.block(number)?;
                    found = block.and_then(|block| block.mined);
                    break;
                }
            }
            to_json(found.map(|mined| json!({ "hash": mined.hash, "creator": mined.sender })))
        }
        "ots_getTransactionError" => {
            let hash: B256 = given.required("hash")?;
            let Some(block) = view.block_of_transaction(&hash)? else {
                return to_json(Value::Null);
            };
            let output = view.chain.again(&block).map_err(declined)?;
            to_json(output.unwrap_or_else(Bytes::new))
        }
        "ots_getInternalOperations" | "ots_traceTransaction" => {
            Err(declined("the devnet keeps no traces"))
        }
        other => Err(declined(format!("the devnet has no method {other}"))),
    }
}

fn details(block: &Block) -> Value {
    let mut shown = json!(block_view(block, false));
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("transactions");
        shown.insert("logsBloom".into(), Value::Null);
        let count = u64::from(block.mined.is_some());
        shown.insert("transactionCount".into(), count.into());
    }
    let fees = block.mined.as_ref().map_or(U256::ZERO, |mined| {
        U256::from(mined.gas_used) * U256::from(mined.gas_price)
    });
    let nothing = U64::ZERO;
    json!({
        "block": shown,
        "issuance": { "blockReward": nothing, "uncleReward": nothing, "issuance": nothing },
        "totalFees": fees,
    })
}

/// What the first block gives for which anything is given.
fn first<T>(
    view: &View<'_>,
    look: impl Fn(&Block) -> Option<T>,
) -> Result<Option<T>, super::DevnetError> {
    for number in 1..=view.chain.height() {
        if let Some(block) = view.block(number)?
            && let Some(found) = look(&block)
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// A page of the transactions that have to do with an account, the newest first.
fn search(view: &View<'_>, method: &str, given: &mut Parameters) -> Answer {
    let address: Address = given.required("address")?;
    let from: u64 = given.required("block")?;
    let size = given.required::<usize>("page size")?.clamp(1, PAGE);
    let height = view.chain.height();
    let backward = method.ends_with("Before");
    let numbers: Box<dyn Iterator<Item = u64>> = match (backward, from) {
        (true, 0) => Box::new((1..=height).rev()),
        (true, from) => Box::new((1..from.min(height + 1)).rev()),
        (false, from) => Box::new(from + 1..=height),
    };
    let (mut found, mut more) = (Vec::new(), false);
    for number in numbers {
        let Some(block) = view.block(number)? else {
            continue;
        };
        let concerns = block.mined.as_ref().is_some_and(|mined| {
            let logs = mined.logs.iter().any(|log| log.address == address);
            mined.sender == address
                || mined.envelope.to() == Some(address)
                || mined.created == Some(address)
                || logs
        });
        if !concerns {
            continue;
        }
        if found.len() == size {
            more = true;
            break;
        }
        found.push(block);
    }
    if !backward {
        found.reverse();
    }
    let transactions: Vec<_> = found.iter().filter_map(transaction).collect();
    let receipts: Vec<_> = found
        .iter()
        .filter_map(|block| {
            let mut shown = json!(receipt(block)?);
            shown["timestamp"] = block.header.timestamp.into();
            Some(shown)
        })
        .collect();
    let (first, last) = match backward {
        true => (from == 0, !more),
        false => (!more, from == 0),
    };
    to_json(json!({
        "txs": transactions,
        "receipts": receipts,
        "firstPage": first,
        "lastPage": last,
    }))
}

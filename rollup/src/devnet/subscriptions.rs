//! `eth_subscribe`, over WebSocket: each new block, its logs, its transaction.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy::rpc::types as rpc;
use jsonrpsee::core::traits::IdProvider;
use jsonrpsee::types::{ErrorObjectOwned, Params, SubscriptionId};
use jsonrpsee::{PendingSubscriptionSink, RpcModule};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::rpc::{block_logs, block_view, invalid};
use super::{DevnetError, State};

/// What is subscribed to.
enum Kind {
    Heads,
    Logs(Box<rpc::Filter>),
    Transactions,
}

/// Ids as Ethereum writes them.
#[derive(Debug, Default)]
pub(super) struct HexIds(AtomicU64);

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let id = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        SubscriptionId::Str(format!("{id:#x}").into())
    }
}

pub(super) fn register(module: &mut RpcModule<State>) {
    module
        .register_subscription(
            "eth_subscribe",
            "eth_subscription",
            "eth_unsubscribe",
            |parameters, pending, state, _| async move {
                serve(parameters, pending, &state).await;
            },
        )
        .expect("method names are unique");
}

fn kind(parameters: &Params<'_>) -> Result<Kind, ErrorObjectOwned> {
    let mut given = parameters.sequence();
    let name: String = given.next()?;
    match name.as_str() {
        "newHeads" => Ok(Kind::Heads),
        "newPendingTransactions" => Ok(Kind::Transactions),
        "logs" => {
            let filter: Option<rpc::Filter> = given.optional_next()?;
            Ok(Kind::Logs(Box::new(filter.unwrap_or_default())))
        }
        other => Err(invalid(format!(
            "the devnet has no subscription to {other}"
        ))),
    }
}

async fn serve(parameters: Params<'static>, pending: PendingSubscriptionSink, state: &State) {
    let kind = match kind(&parameters) {
        Ok(kind) => kind,
        Err(error) => return pending.reject(error).await,
    };
    // From here on nothing is missed.
    let mut heads = state.heads();
    let Ok(sink) = pending.accept().await else {
        return;
    };
    loop {
        let number = tokio::select! {
            () = sink.closed() => return,
            head = heads.recv() => match head {
                Ok(number) => number,
                // Whoever reads too slowly misses some, as on any node.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
        };
        let Ok(told) = news(state, &kind, number) else {
            return;
        };
        for item in told {
            let Ok(item) = serde_json::value::to_raw_value(&item) else {
                continue;
            };
            if sink.send(item).await.is_err() {
                return;
            }
        }
    }
}

/// What a block is news of.
fn news(state: &State, kind: &Kind, number: u64) -> Result<Vec<Value>, DevnetError> {
    let Some(block) = state.view().block(number)? else {
        return Ok(Vec::new());
    };
    Ok(match kind {
        Kind::Heads => vec![json!(block_view(&block, false).header)],
        Kind::Transactions => block.mined.iter().map(|mined| json!(mined.hash)).collect(),
        Kind::Logs(filter) => block_logs(&block)
            .into_iter()
            .filter(|log| filter.rpc_matches(log))
            .map(|log| json!(log))
            .collect(),
    })
}

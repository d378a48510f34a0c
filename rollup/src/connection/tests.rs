//! The sender against a node that takes or declines transactions as a test says.

use std::sync::Mutex;

use alloy::consensus::Transaction;
use alloy::eips::eip2718::Decodable2718;
use jsonrpsee::RpcModule;
use jsonrpsee::server::{Server, ServerHandle};
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::{Value, json};

use super::*;
use crate::fees::GAS_PRICE_ORACLE;

/// A node that takes or declines transactions as a test says.
struct Node {
    /// What each sending is answered with, in order: mined, pending, or declined.
    script: Vec<Answer>,
    /// What was sent.
    sent: Vec<TxEnvelope>,
    /// Hashes of the mined ones, and whether each succeeded.
    mined: Vec<(B256, bool)>,
    /// Receipts still to be answered with an error before any is given.
    deaf: u32,
    nonce: u64,
    /// What a transaction's bytes cost on the layer below, where they do.
    data_fee: Option<u64>,
    balance: u64,
}

enum Answer {
    Mined,
    MinedAndReverted,
    /// Kept in the pool for ever.
    Pending,
    /// Mined, but the answer says something else.
    MinedBut(&'static str),
    /// Mines what was sent before, and declines this.
    MinesTheFirst(&'static str),
    Declined(&'static str),
}

type Shared = Arc<Mutex<Node>>;

async fn node(script: Vec<Answer>) -> (Shared, Connection, ServerHandle) {
    node_with(script, Duration::from_millis(1)).await
}

async fn node_with(script: Vec<Answer>, patience: Duration) -> (Shared, Connection, ServerHandle) {
    node_of(script, patience, None).await
}

/// A node of an OP-stack chain, where each transaction's bytes cost so much beside.
async fn op_node(script: Vec<Answer>, data_fee: u64) -> (Shared, Connection, ServerHandle) {
    node_of(script, Duration::from_millis(1), Some(data_fee)).await
}

async fn node_of(
    script: Vec<Answer>,
    patience: Duration,
    data_fee: Option<u64>,
) -> (Shared, Connection, ServerHandle) {
    let node = Arc::new(Mutex::new(Node {
        script,
        sent: vec![],
        mined: vec![],
        deaf: 0,
        nonce: 7,
        data_fee,
        balance: 1_000_000_000,
    }));
    let mut module = RpcModule::from_arc(Arc::new(Arc::clone(&node)));
    for method in [
        "eth_chainId",
        "eth_estimateGas",
        "eth_getTransactionCount",
        "eth_gasPrice",
        "eth_getCode",
        "eth_getBalance",
        "eth_call",
        "eth_getBlockByNumber",
        "eth_getTransactionByHash",
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
    ] {
        module
            .register_method(method, move |parameters, node: &Shared, _| {
                let given: Vec<Value> = parameters.parse().unwrap_or_default();
                node.lock().unwrap().answer(method, &given)
            })
            .unwrap();
    }
    let server = Server::builder().build("127.0.0.1:0").await.unwrap();
    let profile = ChainProfile::new(format!("http://{}", server.local_addr().unwrap()), 5);
    let handle = server.start(module);
    let signer = PrivateKeySigner::from_bytes(&B256::with_last_byte(1)).unwrap();
    let connection = Connection::open_with(&profile, signer, patience)
        .await
        .unwrap();
    (node, connection, handle)
}

impl Node {
    fn answer(&mut self, method: &str, given: &[Value]) -> Result<Value, ErrorObjectOwned> {
        let declined = |message: &str| {
            Err(ErrorObjectOwned::owned(
                -32000,
                message.to_owned(),
                None::<()>,
            ))
        };
        match method {
            "eth_chainId" => Ok(json!("0x5")),
            "eth_estimateGas" => Ok(json!("0x5208")),
            "eth_getTransactionCount" => Ok(json!(format!("{:#x}", self.nonce))),
            "eth_gasPrice" => Ok(json!("0x64")),
            "eth_getBalance" => Ok(json!(format!("{:#x}", self.balance))),
            "eth_getCode" => Ok(json!(match self.data_fee {
                Some(_) if given[0] == json!(GAS_PRICE_ORACLE) => "0x60",
                _ => "0x",
            })),
            "eth_call" => Ok(json!(B256::from(U256::from(self.data_fee.unwrap())))),
            "eth_getBlockByNumber" => Ok(op_block()),
            "eth_getTransactionByHash" => Ok(op_block()["transactions"][0].clone()),
            "eth_sendRawTransaction" => {
                let raw: Bytes = serde_json::from_value(given[0].clone()).unwrap();
                let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).unwrap();
                let hash = *envelope.tx_hash();
                self.sent.push(envelope);
                match self.script.remove(0) {
                    Answer::Mined => self.mined.push((hash, true)),
                    Answer::MinedAndReverted => self.mined.push((hash, false)),
                    Answer::Pending => {}
                    Answer::MinedBut(message) => {
                        self.mined.push((hash, true));
                        return declined(message);
                    }
                    Answer::MinesTheFirst(message) => {
                        self.mined.push((*self.sent[0].tx_hash(), true));
                        return declined(message);
                    }
                    Answer::Declined(message) => return declined(message),
                }
                Ok(json!(hash))
            }
            "eth_getTransactionReceipt" => {
                if self.deaf > 0 {
                    self.deaf -= 1;
                    return declined("try later");
                }
                let found = self.mined.iter().find(|(hash, _)| given[0] == json!(hash));
                Ok(found.map_or(Value::Null, |(hash, success)| {
                    json!({
                        "transactionHash": hash,
                        "transactionIndex": "0x0",
                        "blockHash": hash,
                        "blockNumber": "0x9",
                        "from": Address::ZERO,
                        "to": Address::ZERO,
                        "cumulativeGasUsed": "0x5208",
                        "gasUsed": "0x5208",
                        "effectiveGasPrice": "0x64",
                        "logs": [],
                        "logsBloom": alloy::primitives::Bloom::ZERO,
                        // What the OP stack adds must not disturb.
                        "l1Fee": "0x1",
                        "type": "0x2",
                        "status": if *success { "0x1" } else { "0x0" },
                    })
                }))
            }
            other => panic!("{other}"),
        }
    }
}

async fn send(connection: &Connection) -> Result<Sent, LedgerError> {
    connection.send_raw(Address::ZERO, Bytes::new()).await
}

#[tokio::test]
async fn a_transaction_is_sent_once_and_its_receipt_is_waited_for() {
    let (node, connection, _server) = node_with(vec![Answer::Mined], MINING_PATIENCE).await;
    node.lock().unwrap().deaf = 2;
    let sent = send(&connection).await.unwrap();
    let node = node.lock().unwrap();
    assert_eq!(node.sent.len(), 1);
    assert_eq!(
        (sent.tx, sent.gas, sent.block),
        (node.sent[0].tx_hash().0, 21_000, 9)
    );
    assert_eq!(
        (node.sent[0].nonce(), node.sent[0].chain_id()),
        (7, Some(5))
    );
}

#[tokio::test]
async fn one_that_is_not_mined_replaces_itself_with_a_higher_fee() {
    let script = vec![
        Answer::Pending,
        Answer::Declined("replacement underpriced"),
        Answer::Mined,
    ];
    let (node, connection, _server) = node(script).await;
    let sent = send(&connection).await.unwrap();
    let node = node.lock().unwrap();
    assert_eq!(sent.tx, node.sent[2].tx_hash().0);
    assert!(node.sent.iter().all(|envelope| envelope.nonce() == 7));
    for pair in node.sent.windows(2) {
        assert!(pair[1].max_fee_per_gas() * 10 >= pair[0].max_fee_per_gas() * 11);
    }
}

#[tokio::test]
async fn the_first_form_may_be_the_one_that_is_mined() {
    let script = vec![Answer::Pending, Answer::MinesTheFirst("nonce too low")];
    let (node, connection, _server) = node(script).await;
    let sent = send(&connection).await.unwrap();
    assert_eq!(sent.tx, node.lock().unwrap().sent[0].tx_hash().0);
}

#[tokio::test]
async fn a_transaction_that_the_node_has_already_is_waited_for() {
    let (node, connection, _server) = node(vec![Answer::MinedBut("already known")]).await;
    let sent = send(&connection).await.unwrap();
    assert_eq!(sent.tx, node.lock().unwrap().sent[0].tx_hash().0);
}

#[tokio::test]
async fn a_number_that_somebody_used_is_asked_for_again() {
    let script = vec![Answer::Declined("nonce too low: next 8"), Answer::Mined];
    let (node, connection, _server) = node(script).await;
    send(&connection).await.unwrap();
    assert_eq!(node.lock().unwrap().sent.len(), 2);
}

#[tokio::test]
async fn giving_up_and_refusal_are_told_apart() {
    let (_, connection, _server) = node((0..5).map(|_| Answer::Pending).collect()).await;
    let error = send(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::NotMined(_)), "{error}");
    let (_, connection, _server) = node(vec![Answer::MinedAndReverted]).await;
    let error = send(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::Reverted(_)), "{error}");
    let funds = "insufficient funds for gas * price + value";
    let (_, connection, _server) = node(vec![Answer::Declined(funds)]).await;
    let error = send(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unfunded { .. }), "{error}");
}

/// A block as an OP-stack node answers it, in full: its first transaction is of a type that
/// Ethereum does not know.
fn op_block() -> Value {
    let text = include_str!("../../tests/data/op-block.json");
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn an_op_stack_block_with_its_deposit_disturbs_nothing() {
    let (_, connection, _server) = op_node(vec![], 1).await;
    let reader = connection.reader();
    assert_eq!(reader.fees, FeeModel::OpStack);
    let header = reader.header(BlockNumberOrTag::Latest).await.unwrap();
    assert_eq!(header, Some((0x7a_1200, 0x6600_0001)));
    // Even in full, which nothing here asks for.
    let block = reader
        .provider
        .get_block_by_number(BlockNumberOrTag::Latest)
        .full()
        .await;
    assert_eq!(block.unwrap().unwrap().transactions.len(), 2);
    let deposit = op_block()["transactions"][0]["hash"].clone();
    let deposit = reader
        .transaction(serde_json::from_value(deposit).unwrap())
        .await
        .unwrap();
    let (to, input) = deposit.unwrap();
    let attributes = "4200000000000000000000000000000000000015".parse().unwrap();
    assert_eq!((to, input.len()), (Some(attributes), 164));
}

#[tokio::test]
async fn what_data_costs_below_is_asked_for_before_anything_is_sent() {
    let (node, connection, _server) = op_node(vec![Answer::Mined], 1_000_000).await;
    // 25,200 gas at 200 wei, and the data: 6,040,000 wei in all.
    node.lock().unwrap().balance = 6_039_999;
    let error = send(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unfunded { .. }), "{error}");
    let told = error.to_string();
    for part in ["6039999", "6040000", "5040000 for gas", "1000000 for data"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(node.lock().unwrap().sent.is_empty());
    node.lock().unwrap().balance = 6_040_000;
    let sent = send(&connection).await.unwrap();
    // 21,000 gas at 100 wei, and what the receipt says of the data.
    assert_eq!(sent.fee, U256::from(2_100_001));
}

#[tokio::test]
async fn a_profile_that_says_other_fees_than_the_chain_asks_for_is_refused() {
    let (_, connection, _server) = op_node(vec![], 1).await;
    let profile = ChainProfile {
        fees: Some(FeeModel::Ethereum),
        ..ChainProfile::new(connection.reader().rpc.to_string(), 5)
    };
    let signer = PrivateKeySigner::random();
    let error = Connection::open(&profile, signer).await.unwrap_err();
    assert!(matches!(error, LedgerError::Profile(_)), "{error}");
    assert!(error.to_string().contains("op-stack"), "{error}");
}

//! The same client against anvil, a chain that is not ours.
//!
//! Run where `MURMUR_ANVIL` names the binary or `anvil` is on the path; elsewhere it says
//! that it did not.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rollup::devnet::{Devnet, DevnetConfig};
use rollup::{ChainProfile, Delivery, Ledger, Outbox, RoundStatus, U256};
use serde_json::{Value, json};

use crate::client::signed_round;
use crate::state::{Dump, Rules};
use crate::support::{ask, config, key, profile, swarm_of};

pub(crate) struct Anvil {
    pub(crate) profile: ChainProfile,
    process: Child,
}

impl Anvil {
    /// Starts it on a free port with the first four test keys funded, or `None`.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let anvil = Self::bare(arguments).await?;
        for number in 0..4 {
            let ether = U256::from(10).pow(U256::from(20));
            let answer = ask(
                &anvil.profile.rpc,
                "anvil_setBalance",
                json!([key(number).address(), ether]),
            )
            .await;
            assert!(answer.get("error").is_none(), "{answer}");
        }
        Some(anvil)
    }

    /// The same as it comes.
    async fn bare(arguments: &[&str]) -> Option<Self> {
        let program = std::env::var("MURMUR_ANVIL").unwrap_or_else(|_| "anvil".to_owned());
        let spawned = Command::new(&program)
            .args(["--port", "0", "--chain-id", "31337"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) => {
                assert!(
                    std::env::var_os("MURMUR_ANVIL").is_none(),
                    "MURMUR_ANVIL = {program} does not run: {error}"
                );
                eprintln!(
                    "\n!!! SKIPPED: anvil is not installed (npm install @foundry-rs/anvil; \
                     set MURMUR_ANVIL to the binary). The client was NOT tested against it. !!!\n"
                );
                return None;
            }
        };
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines
                .next()
                .expect("anvil ended before it listened")
                .unwrap();
            if let Some(address) = line.strip_prefix("Listening on ") {
                break address.trim().to_owned();
            }
        };
        // Its later output must go somewhere, or it would stop when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        let profile = ChainProfile::new(format!("http://{address}"), 31337);
        Some(Self { profile, process })
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swarms_whole_life_on_anvil() {
    let Some(anvil) = Anvil::start(&[]).await else {
        return;
    };
    crate::client::whole_life(&anvil.profile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_takes_its_time_is_waited_for() {
    // A block every second, as on a rollup: transactions wait in a pool.
    let Some(anvil) = Anvil::start(&["--block-time", "1"]).await else {
        return;
    };
    let ledger = Ledger::deploy(&anvil.profile, key(0)).await.unwrap();
    let second = ledger.clone();
    let (one, two) = tokio::join!(
        ledger.register([1; 32], [0; 64], "one"),
        second.register([2; 32], [0; 64], "two"),
    );
    assert_ne!(one.unwrap().tx, two.unwrap().tx);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settled_round_that_the_chain_undoes_is_settled_again() {
    // The two newest blocks are not final yet.
    let Some(anvil) = Anvil::start(&["--slots-in-an-epoch", "1"]).await else {
        return;
    };
    let swarms = swarm_of(&anvil.profile, 4).await;
    swarms[0].open_round(1).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(folder.path()).unwrap();
    outbox.put(&signed_round(&swarms, 1)).unwrap();
    let flush = async || {
        let mut report = outbox.flush(swarms[0].ledger()).await.unwrap();
        match report.remove(0).1 {
            Delivery::Settled { settled, finalized } => (settled.already, finalized),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(flush().await, (false, false));
    assert_eq!(flush().await, (true, false));

    let answer = ask(&anvil.profile.rpc, "anvil_reorg", json!([1, []])).await;
    assert!(answer.get("error").is_none(), "{answer}");
    let status = swarms[0].round_opened(1).await.unwrap().unwrap().status;
    assert_eq!(status, RoundStatus::Opened);
    assert_eq!(swarms[0].history(0).await.unwrap(), []);
    assert_eq!(flush().await, (false, false));

    ask(&anvil.profile.rpc, "anvil_mine", json!(["0x4"])).await;
    assert_eq!(flush().await, (true, true));
    assert!(outbox.waiting().unwrap().is_empty());
    assert_eq!(swarms[0].history(0).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_devnet_and_anvil_make_the_same_of_the_same_transactions() {
    let home = tempfile::tempdir().unwrap();
    let start = DevnetConfig {
        chain_id: 31337,
        ..config(&home, 2)
    };
    let devnet = Devnet::start(start).await.unwrap();
    let result = async |url: &str, method: &str, params: Value| {
        let mut answer = ask(url, method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    };
    let own = devnet.url();
    // Contracts, events, storage, ether handed on, and what reverts.
    devnet
        .fund(key(7).address(), U256::from(12345))
        .await
        .unwrap();
    let swarms = swarm_of(&profile(&devnet), 2).await;
    let ledger = swarms[1].ledger();
    ledger.post_bond(1000).await.unwrap();
    ledger.rotate([8; 32], [9; 64]).await.unwrap();
    ledger.retire().await.unwrap();

    // The accounts that there were before all of it.
    let factory = "0x4e59b44847b379578588920cA78FbF26c0B4956C";
    let first = result(&own, "eth_getBlockByNumber", json!(["0x1", true])).await;
    let faucet = first["transactions"][0]["from"].clone();
    let mut alloc = serde_json::Map::new();
    for account in [faucet, json!(key(0).address()), json!(key(1).address())] {
        let balance = result(&own, "eth_getBalance", json!([account, "0x0"])).await;
        alloc.insert(
            account.as_str().unwrap().to_owned(),
            json!({ "balance": balance }),
        );
    }
    let code = result(&own, "eth_getCode", json!([factory, "0x0"])).await;
    let factory_alloc = json!({ "balance": "0x0", "nonce": "0x1", "code": code });
    alloc.insert(factory.to_owned(), factory_alloc);
    let genesis = json!({
        "config": { "chainId": 31337 }, "alloc": alloc, "difficulty": "0x0",
        "gasLimit": "0x1c9c380", "timestamp": "0x1", "baseFeePerGas": "0xf4240",
    });
    let file = home.path().join("genesis.json");
    std::fs::write(&file, genesis.to_string()).unwrap();
    let arguments = [
        "--init",
        file.to_str().unwrap(),
        "--hardfork",
        "prague",
        "--accounts",
        "0",
        "--disable-default-create2-deployer",
        "--no-mining",
    ];
    let Some(anvil) = Anvil::bare(&arguments).await else {
        return;
    };
    let other = anvil.profile.rpc.clone();
    for number in 1..=devnet.height() {
        let number = format!("{number:#x}");
        let block = result(&own, "eth_getBlockByNumber", json!([number, false])).await;
        let hash = block["transactions"][0].clone();
        let raw = result(&own, "eth_getRawTransactionByHash", json!([hash])).await;
        result(
            &other,
            "anvil_setNextBlockBaseFeePerGas",
            json!(["0xf4240"]),
        )
        .await;
        let time = json!([block["timestamp"]]);
        result(&other, "evm_setNextBlockTimestamp", time).await;
        result(&other, "eth_sendRawTransaction", json!([raw])).await;
        result(&other, "evm_mine", json!([])).await;
        let theirs = result(&other, "eth_getBlockByNumber", json!([number, false])).await;
        for field in [
            "transactionsRoot",
            "receiptsRoot",
            "logsBloom",
            "gasUsed",
            "baseFeePerGas",
        ] {
            assert_eq!(block[field], theirs[field], "block {number}: {field}");
        }
        let dump = result(&other, "anvil_dumpState", json!([])).await;
        let state = Dump::read(dump.as_str().unwrap());
        assert_eq!(
            json!(state.root(Rules::Anvils)),
            theirs["stateRoot"],
            "block {number}: what is told apart here is all that there is"
        );
        let root = result(&own, "murmur_stateRoot", json!([number])).await;
        assert_eq!(root, json!(state.root(Rules::Ethereums)), "block {number}");
        let mine = result(&own, "eth_getTransactionReceipt", json!([hash])).await;
        let theirs = result(&other, "eth_getTransactionReceipt", json!([hash])).await;
        let fields = [
            "status",
            "type",
            "gasUsed",
            "cumulativeGasUsed",
            "effectiveGasPrice",
            "logsBloom",
            "from",
            "to",
            "contractAddress",
            "transactionIndex",
        ];
        for field in fields {
            assert_eq!(
                mine[field], theirs[field],
                "block {number}: receipt's {field}"
            );
        }
        let logs = mine["logs"].as_array().unwrap();
        assert_eq!(logs.len(), theirs["logs"].as_array().unwrap().len());
        for (mine, theirs) in logs.iter().zip(theirs["logs"].as_array().unwrap()) {
            for field in ["address", "topics", "data", "logIndex"] {
                assert_eq!(
                    mine[field], theirs[field],
                    "block {number}: a log's {field}"
                );
            }
        }
    }
    let at = ledger.addresses();
    let mut accounts = vec![
        json!(factory),
        json!("0x0000000000000000000000000000000000000000"),
    ];
    accounts.extend(alloc.keys().map(|account| json!(account)));
    accounts.extend([at.registry, at.swarms, at.ledger].map(|account| json!(account)));
    accounts.push(json!(key(7).address()));
    for account in accounts {
        for method in ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"] {
            let mine = result(&own, method, json!([account, "latest"])).await;
            let theirs = result(&other, method, json!([account, "latest"])).await;
            assert_eq!(mine, theirs, "{method} of {account}");
        }
    }
}

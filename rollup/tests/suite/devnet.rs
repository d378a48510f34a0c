//! The devnet as a process among others: restarts, crashes, rivals, bad input.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use rollup::devnet::{Devnet, DevnetConfig, DevnetError, LogError};
use rollup::{Ledger, RoundStatus, U256};
use serde_json::{Value, json};

use crate::support::{ask, cards, config, http, key, post, profile, swarm_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_every_block_and_what_was_settled() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 3).await;
    swarms[0].open_round(1).await.unwrap();
    swarms[0]
        .settle(1, [1; 32], &cards(&swarms, 1, [1; 32]))
        .await
        .unwrap();
    let history = swarms[0].history(0).await.unwrap();
    let reputations = swarms[0].reputations().await.unwrap();
    let all = json!([{ "fromBlock": "earliest", "toBlock": "latest" }]);
    let logs = ask(&devnet.url(), "eth_getLogs", all.clone()).await;
    let early = ask(&devnet.url(), "eth_getBlockByNumber", json!(["0x3", true])).await;
    let head = ask(
        &devnet.url(),
        "eth_getBlockByNumber",
        json!(["latest", true]),
    )
    .await;
    devnet.shutdown().await;

    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    assert_eq!(devnet.torn_tail(), None);
    assert_eq!(ask(&devnet.url(), "eth_getLogs", all).await, logs);
    let same = ask(&devnet.url(), "eth_getBlockByNumber", json!(["0x3", true])).await;
    assert_eq!(same, early);
    assert_eq!(
        ask(
            &devnet.url(),
            "eth_getBlockByNumber",
            json!(["latest", true])
        )
        .await,
        head
    );
    let ledger = Ledger::connect(&profile(&devnet), key(1)).await.unwrap();
    let swarm = ledger.swarm(swarms[0].id());
    assert_eq!(swarm.history(0).await.unwrap(), history);
    assert_eq!(swarm.reputations().await.unwrap(), reputations);
    swarm.open_round(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_without_a_word_it_can_be_opened_again_at_once() {
    let home = tempfile::tempdir().unwrap();
    for height in 0..20 {
        let devnet = Devnet::start(config(&home, 1)).await.unwrap();
        assert_eq!(devnet.height(), height);
        devnet.fund(key(50).address(), U256::from(1)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_loses_only_what_was_being_written_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    devnet.fund(key(50).address(), U256::from(5)).await.unwrap();
    let height = devnet.height();
    devnet.shutdown().await;
    let path = home.path().join("devnet.log");
    let whole = std::fs::metadata(&path).unwrap().len();
    let mut log = std::fs::File::options().append(true).open(&path).unwrap();
    log.write_all(&[77, 1, 0, 0, 9, 9, 9]).unwrap();
    drop(log);

    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let torn = devnet.torn_tail().unwrap();
    assert_eq!((torn.offset, torn.bytes), (whole, 7));
    assert!(torn.kept_in.exists());
    assert_eq!(devnet.height(), height);
    devnet.fund(key(50).address(), U256::from(6)).await.unwrap();
    devnet.shutdown().await;
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    assert_eq!((devnet.torn_tail(), devnet.height()), (None, height + 1));
    let balance = ask(
        &devnet.url(),
        "eth_getBalance",
        json!([key(50).address(), "latest"]),
    )
    .await;
    assert_eq!(balance["result"], "0xb");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    devnet.fund(key(50).address(), U256::from(5)).await.unwrap();
    devnet.shutdown().await;
    let path = home.path().join("devnet.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Devnet::start(config(&home, 1)).await.unwrap_err();
    assert!(
        matches!(error, DevnetError::Log(LogError::Damaged { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_home_has_one_devnet_and_one_port_one_server() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let error = Devnet::start(config(&home, 1)).await.unwrap_err();
    assert!(matches!(error, DevnetError::InUse { .. }), "{error}");
    assert!(
        error.to_string().contains(&std::process::id().to_string()),
        "{error}"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let rival = DevnetConfig {
        port: devnet.port(),
        ..config(&elsewhere, 1)
    };
    let error = Devnet::start(rival).await.unwrap_err();
    assert!(matches!(error, DevnetError::PortInUse { .. }), "{error}");

    devnet.shutdown().await;
    let other = DevnetConfig {
        chain_id: 5,
        ..config(&home, 1)
    };
    let error = Devnet::start(other).await.unwrap_err();
    assert!(
        matches!(
            error,
            DevnetError::OtherChain {
                found: 7700,
                asked: 5,
                ..
            }
        ),
        "{error}"
    );
    Devnet::start(config(&home, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_funded_at_the_start_later_and_on_request() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let balance = async |devnet: &Devnet, account: u8| {
        let answer = ask(
            &devnet.url(),
            "eth_getBalance",
            json!([key(account).address(), "latest"]),
        )
        .await;
        answer["result"].as_str().unwrap().parse::<U256>().unwrap()
    };
    let hundred_ether = U256::from(10).pow(U256::from(20));
    assert_eq!(balance(&devnet, 0).await, hundred_ether);
    assert_eq!(balance(&devnet, 1).await, U256::ZERO);
    devnet.shutdown().await;
    let devnet = Devnet::start(config(&home, 2)).await.unwrap();
    assert_eq!(balance(&devnet, 1).await, hundred_ether);
    let funded = ask(
        &devnet.url(),
        "murmur_fund",
        json!([key(2).address(), "0x5"]),
    )
    .await;
    assert!(funded["result"].is_string(), "{funded}");
    assert_eq!(balance(&devnet, 2).await, U256::from(5));
    let refused = ask(
        &devnet.url(),
        "murmur_fund",
        json!([key(2).address(), U256::MAX]),
    )
    .await;
    assert!(refused["error"].is_object(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_seed_the_same_transactions_make_the_same_chain() {
    let mut heads = Vec::new();
    for seed in [7, 7, 8] {
        let home = tempfile::tempdir().unwrap();
        let seeded = DevnetConfig {
            seed: Some(seed),
            ..config(&home, 3)
        };
        let devnet = Devnet::start(seeded).await.unwrap();
        let swarms = swarm_of(&profile(&devnet), 3).await;
        let opened = swarms[0].open_round(1).await.unwrap();
        swarms[1]
            .settle(1, [1; 32], &cards(&swarms, 1, [1; 32]))
            .await
            .unwrap();
        let head = ask(
            &devnet.url(),
            "eth_getBlockByNumber",
            json!(["latest", false]),
        )
        .await;
        heads.push((opened.beacon, head["result"]["hash"].clone()));
    }
    assert_eq!(heads[0], heads[1]);
    assert_ne!(heads[0], heads[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_with_an_error_and_harms_nothing() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\u{0}",
        "{\"jsonrpc\":\"2.0\"}",
        "[1,2,3]",
    ] {
        let (status, answer) = post(&devnet.url(), body).await;
        assert!(
            status >= 400 || answer.contains("\"error\""),
            "{body:?}: {status} {answer}"
        );
    }
    let many = format!("[{}]", vec!["1"; 200].join(","));
    let (_, answer) = post(&devnet.url(), many).await;
    assert!(answer.contains("error"), "{answer}");
    let large = format!(
        "{{\"jsonrpc\":\"2.0\",\"pad\":\"{}\"}}",
        "x".repeat(3 << 20)
    );
    // The server may hang up before all of it is sent.
    let request = http()
        .post(devnet.url())
        .header("content-type", "application/json");
    if let Ok(response) = request.body(large).send().await {
        assert_eq!(response.status().as_u16(), 413);
    }

    let zeros = format!("0x{}", "00".repeat(20));
    let transaction = json!({ "to": zeros, "data": "0x" });
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(["0x12"])),
        ("eth_getBalance", json!({ "address": zeros })),
        ("eth_getBalance", json!([zeros, "0x0123456789abcdef0"])),
        ("eth_getBalance", json!([zeros, "0x3e7"])),
        ("eth_call", json!(["nonsense"])),
        (
            "eth_call",
            json!([transaction, "latest", { zeros.clone(): { "balance": "0x1" } }]),
        ),
        (
            "eth_call",
            json!([{ "from": zeros, "to": zeros, "value": format!("0x{}", "f".repeat(64)) }]),
        ),
        ("eth_estimateGas", json!([{ "data": "0xfe" }])),
        ("eth_sendRawTransaction", json!(["0x"])),
        ("eth_sendRawTransaction", json!(["0x02"])),
        ("eth_sendRawTransaction", json!(["0x7e0102"])),
        (
            "eth_sendRawTransaction",
            json!([format!("0x{}", "f8".repeat(5000))]),
        ),
        (
            "eth_getLogs",
            json!([{ "fromBlock": "0x1", "blockHash": format!("0x{}", "11".repeat(32)) }]),
        ),
        (
            "eth_getLogs",
            json!([{ "blockHash": format!("0x{}", "11".repeat(32)) }]),
        ),
        ("eth_getStorageAt", json!([zeros, "slot"])),
        ("eth_feeHistory", json!(["0x5", "latest", vec![1.0; 1000]])),
        ("murmur_fund", json!(["nobody"])),
        ("eth_sign", json!([zeros, "0x00"])),
        ("debug_traceTransaction", json!([])),
    ] {
        let answer = ask(&devnet.url(), method, params.clone()).await;
        assert!(
            answer["error"]["message"].is_string(),
            "{method} {params}: {answer}"
        );
    }
    assert_eq!(devnet.height(), 0);
    assert_eq!(
        ask(&devnet.url(), "eth_chainId", json!([])).await["result"],
        "0x1e14"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_that_calls_itself_something_else_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }).to_string();
    let status = async |host: String| {
        let request = http()
            .post(devnet.url())
            .header("host", host)
            .header("content-type", "application/json")
            .body(body.clone());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status(format!("127.0.0.1:{}", devnet.port())).await, 200);
    assert_eq!(status(format!("localhost:{}", devnet.port())).await, 200);
    assert_eq!(status("rebound.example.com".to_owned()).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_lets_only_this_machines_pages_read_the_answers() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }).to_string();
    let allowed = async |method: reqwest::Method, origin: &str| {
        let request = http()
            .request(method, devnet.url())
            .header("origin", origin)
            .header("content-type", "application/json")
            .body(body.clone());
        let response = request.send().await.unwrap();
        let header = response
            .headers()
            .get("access-control-allow-origin")
            .cloned();
        header.map(|origin| origin.to_str().unwrap().to_owned())
    };
    let page = "http://127.0.0.1:7780";
    for method in [reqwest::Method::POST, reqwest::Method::OPTIONS] {
        assert_eq!(allowed(method.clone(), page).await.as_deref(), Some(page));
        assert_eq!(allowed(method, "https://example.org").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wallets_ask_for_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 3).await;
    swarms[0].open_round(1).await.unwrap();
    let settled = swarms[0]
        .settle(1, [1; 32], &cards(&swarms, 1, [1; 32]))
        .await
        .unwrap();
    let tx = format!("0x{}", hex::encode(settled.tx.unwrap()));
    let ledger = swarms[0].ledger().addresses().ledger;
    let result = async |method: &str, params: Value| {
        let mut answer = ask(&devnet.url(), method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    };
    let receipt = result("eth_getTransactionReceipt", json!([tx])).await;
    assert_eq!(
        (&receipt["status"], &receipt["type"]),
        (&json!("0x1"), &json!("0x2"))
    );
    // Three scores, three weights and the round, each with its place.
    assert_eq!(receipt["logs"].as_array().unwrap().len(), 7);
    assert_eq!(receipt["logs"][6]["logIndex"], "0x6");
    let block = receipt["blockHash"].clone();
    let number = receipt["blockNumber"].clone();
    assert_eq!(
        result("eth_getBlockReceipts", json!([number])).await[0],
        receipt
    );
    let transaction = result("eth_getTransactionByHash", json!([tx])).await;
    assert_eq!(
        (&transaction["blockHash"], &transaction["hash"]),
        (&block, &json!(tx))
    );
    let by_hash = result("eth_getBlockByHash", json!([block, true])).await;
    assert_eq!(by_hash["transactions"][0], transaction);
    assert_eq!(
        result("eth_getBlockByNumber", json!([number, true])).await,
        by_hash
    );
    let at = json!([block, "0x0"]);
    assert_eq!(
        result("eth_getTransactionByBlockHashAndIndex", at).await,
        transaction
    );
    let logs = result(
        "eth_getLogs",
        json!([{ "address": ledger, "blockHash": block }]),
    )
    .await;
    assert_eq!(logs, receipt["logs"]);
    let none = result(
        "eth_getLogs",
        json!([{ "fromBlock": "0xffff", "toBlock": "latest" }]),
    )
    .await;
    assert_eq!(none, json!([]));
    let all = result(
        "eth_getLogs",
        json!([{ "fromBlock": "earliest", "toBlock": "latest" }]),
    )
    .await;
    assert!(all.as_array().unwrap().len() > 10);
    let fees = result("eth_feeHistory", json!(["0x3", "latest", [10, 50]])).await;
    assert_eq!(fees["baseFeePerGas"].as_array().unwrap().len(), 4);
    assert_eq!(fees["reward"].as_array().unwrap().len(), 3);
    assert_eq!(
        result("eth_getTransactionByHash", json!([block])).await,
        Value::Null
    );
    assert_eq!(
        result("eth_getTransactionReceipt", json!([block])).await,
        Value::Null
    );
    assert_eq!(
        result("eth_getBlockByNumber", json!(["0xffffff", false])).await,
        Value::Null
    );
    assert_eq!(result("eth_syncing", json!([])).await, json!(false));
    assert_eq!(result("eth_accounts", Value::Null).await, json!([]));
    assert_eq!(result("net_version", json!([])).await, json!("7700"));
    assert!(
        result("eth_getCode", json!([ledger]))
            .await
            .as_str()
            .unwrap()
            .len()
            > 20_000
    );
    assert_eq!(
        result("murmur_info", json!([])).await["kind"],
        json!("devnet")
    );
    assert_eq!(
        result(
            "eth_getTransactionCount",
            json!([key(0).address(), "pending"])
        )
        .await,
        result(
            "eth_getTransactionCount",
            json!([key(0).address(), "latest"])
        )
        .await,
    );
}

/// Set in the environment of the child process that the next test starts and kills.
const CHILD_HOME: &str = "MURMUR_TEST_DEVNET_HOME";

/// Not a test of its own: the process that `kill_9_…` kills. It settles rounds for ever
/// and prints each once the chain has told that it is settled.
#[tokio::test(flavor = "multi_thread")]
async fn child_process_that_settles_until_killed() {
    let Some(home) = std::env::var_os(CHILD_HOME) else {
        return;
    };
    let home = std::path::PathBuf::from(home);
    let prefund = (0..3).map(|number| key(number).address()).collect();
    let start = DevnetConfig {
        home,
        port: 0,
        chain_id: 7700,
        prefund,
        seed: None,
    };
    let devnet = Devnet::start(start).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 3).await;
    let first = swarms[0].info().await.unwrap().next_round;
    for round in first.. {
        swarms[0].open_round(round).await.unwrap();
        swarms[1]
            .settle(round, [1; 32], &cards(&swarms, round, [1; 32]))
            .await
            .unwrap();
        println!("settled {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_no_settled_round() {
    let home = tempfile::tempdir().unwrap();
    let mut known = Vec::new();
    for wanted in [1, 4, 9] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "devnet::child_process_that_settles_until_killed",
                "--exact",
                "--nocapture",
            ])
            .env(CHILD_HOME, home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some((_, round)) = line.split_once("settled ") else {
                continue;
            };
            known.push(round.parse::<u64>().unwrap());
            told += 1;
            // It goes on while it is killed, so the moment is as good as any.
            if told == wanted {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(told >= wanted, "the child ended by itself");
    }
    let devnet = Devnet::start(config(&home, 3)).await.unwrap();
    let ledger = Ledger::connect(&profile(&devnet), key(0)).await.unwrap();
    let swarm = ledger
        .create_swarm([42; 32], rollup::Terms::LOCAL)
        .await
        .unwrap();
    for round in known {
        let status = swarm.round_opened(round).await.unwrap().unwrap().status;
        assert_eq!(status, RoundStatus::Settled, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recent_states_can_be_asked_for_and_older_ones_say_so() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let account = key(9).address();
    let one = U256::from(7);
    for _ in 0..3 {
        devnet.fund(account, one).await.unwrap();
    }
    let height = devnet.height();
    let balance = async |block: u64| {
        let block = format!("{block:#x}");
        ask(&devnet.url(), "eth_getBalance", json!([account, block])).await
    };
    for back in 0..=3 {
        let answer = balance(height - back).await;
        assert_eq!(
            answer["result"],
            json!(U256::from(7 * (3 - back))),
            "{answer}"
        );
    }
    assert!(balance(height + 1).await.get("error").is_some());

    // A contract's storage and code too, and calls on them.
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    let registry = ledger.addresses().registry;
    let before = devnet.height();
    ledger.register([3; 32], [0; 64], "starling").await.unwrap();
    let registered = async |block: u64| {
        // isRegistered(address)
        let input = format!(
            "0xc3c5a547{}{}",
            "00".repeat(12),
            hex::encode(ledger.address())
        );
        let call = json!([{ "to": registry, "data": input }, format!("{block:#x}")]);
        let answer = ask(&devnet.url(), "eth_call", call).await;
        answer["result"].as_str().unwrap().ends_with('1')
    };
    assert!(!registered(before).await);
    assert!(registered(before + 1).await);
    let code = json!([registry, "0x1"]);
    assert_eq!(
        ask(&devnet.url(), "eth_getCode", code).await["result"],
        "0x"
    );

    for _ in 0..130 {
        devnet.fund(account, one).await.unwrap();
    }
    let gone = balance(1).await;
    let told = gone["error"]["message"].as_str().unwrap();
    assert!(told.contains("newest 128 blocks"), "{gone}");
    let kept = balance(devnet.height() - 128).await;
    assert!(kept.get("result").is_some(), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_tell_of_what_came_since_they_were_last_asked() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    let result = async |method: &str, params: Value| {
        let mut answer = ask(&devnet.url(), method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    };
    let blocks = result("eth_newBlockFilter", json!([])).await;
    let transactions = result("eth_newPendingTransactionFilter", json!([])).await;
    let filter = json!([{ "address": ledger.addresses().registry }]);
    let logs = result("eth_newFilter", filter).await;
    let sent = ledger.register([3; 32], [0; 64], "one").await.unwrap();
    devnet.fund(key(5).address(), U256::from(1)).await.unwrap();
    let changes = async |id: &Value| result("eth_getFilterChanges", json!([id])).await;
    assert_eq!(changes(&blocks).await.as_array().unwrap().len(), 2);
    let hashes = changes(&transactions).await;
    assert_eq!(hashes[0], json!(format!("0x{}", hex::encode(sent.tx))));
    let found = changes(&logs).await;
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["transactionHash"], hashes[0]);
    for id in [&blocks, &transactions, &logs] {
        assert_eq!(changes(id).await, json!([]));
    }
    assert_eq!(
        result("eth_uninstallFilter", json!([logs])).await,
        json!(true)
    );
    let gone = ask(&devnet.url(), "eth_getFilterChanges", json!([logs])).await;
    assert!(gone.get("error").is_some(), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explorer_finds_blocks_accounts_and_creators() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 2)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 2).await;
    let at = swarms[0].ledger().addresses();
    let result = async |method: &str, params: Value| {
        let mut answer = ask(&devnet.url(), method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    };
    assert_eq!(result("ots_getApiLevel", json!([])).await, 8);
    assert_eq!(
        result("ots_hasCode", json!([at.ledger, "latest"])).await,
        true
    );
    let own = key(0).address();
    assert_eq!(result("ots_hasCode", json!([own, "latest"])).await, false);
    // Made by the deployment proxy, on this account's word.
    let creator = result("ots_getContractCreator", json!([at.ledger])).await;
    assert_eq!(creator["creator"], json!(own));
    let first = result("ots_getTransactionBySenderAndNonce", json!([own, 0])).await;
    let newest = result("ots_searchTransactionsBefore", json!([own, 0, 2])).await;
    assert_eq!(
        (&newest["firstPage"], &newest["lastPage"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(newest["txs"].as_array().unwrap().len(), 2);
    assert_eq!(
        newest["receipts"][0]["transactionHash"],
        newest["txs"][0]["hash"]
    );
    let oldest = result("ots_searchTransactionsAfter", json!([own, 0, 1])).await;
    assert_eq!(
        (&oldest["txs"][0]["hash"], &oldest["lastPage"]),
        (&first, &json!(true))
    );
    let details = result("ots_getBlockDetails", json!(["latest"])).await;
    assert_eq!(details["block"]["transactionCount"], 1);
    let block = result("ots_getBlockTransactions", json!(["latest", 0, 10])).await;
    assert_eq!(block["receipts"].as_array().unwrap().len(), 1);
    let traces = ask(&devnet.url(), "ots_traceTransaction", json!([first])).await;
    assert!(
        traces["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no traces")
    );
}

/// As much of a WebSocket client as a test needs: short texts there, texts back.
struct Socket(std::net::TcpStream);

impl Socket {
    fn open(port: u16, origin: &str) -> Result<Self, String> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        let hello = format!(
            "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{origin}\r\n"
        );
        stream.write_all(hello.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => answer.push(byte[0]),
                _ => break,
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        match answer.starts_with("HTTP/1.1 101") {
            true => Ok(Self(stream)),
            false => Err(answer),
        }
    }

    fn say(&mut self, text: &str) {
        // Masked with zeros, which is a mask too.
        let size = u16::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(size.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).unwrap();
    }

    fn hear(&mut self) -> Value {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let size = match head[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).unwrap();
                usize::from(u16::from_be_bytes(long))
            }
            short => usize::from(short),
        };
        let mut text = vec![0; size];
        self.0.read_exact(&mut text).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.say(&body.to_string());
        self.hear()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_told_of_blocks_and_logs_over_a_socket_that_foreign_pages_cannot_open() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 1)).await.unwrap();
    let ledger = Ledger::deploy(&profile(&devnet), key(0)).await.unwrap();
    let port = devnet.port();
    let refused = Socket::open(port, "Origin: https://example.org\r\n").err();
    assert!(refused.is_some_and(|answer| answer.starts_with("HTTP/1.1 403")));
    let mut heads = Socket::open(port, "Origin: http://localhost:3000\r\n").unwrap();
    let mut logs = Socket::open(port, "").unwrap();
    assert_eq!(heads.ask("eth_chainId", json!([]))["result"], "0x1e14");
    let id = heads.ask("eth_subscribe", json!(["newHeads"]))["result"].take();
    assert!(id.as_str().unwrap().starts_with("0x"), "{id}");
    let filter = json!(["logs", { "address": ledger.addresses().registry }]);
    assert!(logs.ask("eth_subscribe", filter).get("result").is_some());
    assert!(
        logs.ask("eth_subscribe", json!(["weather"]))
            .get("error")
            .is_some()
    );

    devnet.fund(key(5).address(), U256::from(1)).await.unwrap();
    let sent = ledger.register([3; 32], [0; 64], "one").await.unwrap();
    for number in [sent.block - 1, sent.block] {
        let told = heads.hear();
        assert_eq!(told["method"], "eth_subscription");
        assert_eq!(told["params"]["subscription"], id);
        assert_eq!(told["params"]["result"]["number"], format!("{number:#x}"));
    }
    let told = logs.hear();
    let tx = format!("0x{}", hex::encode(sent.tx));
    assert_eq!(told["params"]["result"]["transactionHash"], tx);
    assert_eq!(heads.ask("eth_unsubscribe", json!([id]))["result"], true);
}

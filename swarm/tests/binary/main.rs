//! The binary as a user runs it: headless, resumed, killed, joined by other
//! processes, and given bad input.

#![allow(
    clippy::unwrap_used,
    reason = "a test may panic; its helpers are not test functions"
)]

mod browser;
mod chain;
mod curriculum;
mod explorer;
mod models;
mod network;
mod own;
mod packages;
mod reputation;
mod support;
mod terminal;

use serde_json::Value;
use support::{Murmur, ONE_PEER, murmur};

/// What every report must hold, and that everything settled.
fn check(report: &Value, rounds: u64, peers: u64) {
    let listed = report["rounds"].as_array().expect("rounds");
    assert_eq!(listed.len() as u64, rounds, "{report:#}");
    for round in listed {
        assert_eq!(round["settled"], true, "{round:#}");
        assert_eq!(round["peers"], peers, "{round:#}");
        assert_eq!(round["included"], 3 * peers, "{round:#}");
        assert_eq!(round["tx"].as_str().map(str::len), Some(64), "{round:#}");
        for share in ["reward", "accuracy", "format_rate", "judge_accuracy"] {
            let value = round[share].as_f64().expect(share);
            assert!((0.0..=1.0).contains(&value), "{share} is {value}");
        }
        for count in ["answers", "critiques", "resolutions"] {
            assert!(
                round[count].as_u64().expect(count) > 0,
                "no {count}: {round:#}"
            );
        }
        assert!(round["wall_s"].as_f64().expect("wall_s") > 0.0);
    }
    for when in ["before", "after"] {
        let eval = &report["eval"][when];
        assert!(eval["items"].as_u64().expect("items") > 0);
        for share in ["greedy", "sampled", "format_rate"] {
            assert!((0.0..=1.0).contains(&eval[share].as_f64().expect(share)));
        }
    }
}

#[test]
fn a_headless_run_settles_every_round_and_the_next_one_resumes_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("home");
    let report = home.path().join("report.json");
    let run = |rounds: &str| {
        let (home, file) = (path.to_str().unwrap(), report.to_str().unwrap());
        let args = [
            "run",
            "--headless",
            "--peers",
            "4",
            "--rounds",
            rounds,
            "--seed",
            "7",
            "--home",
            home,
            "--report",
            file,
            "--eval-items",
            "1",
        ];
        let ended = murmur(&args);
        assert!(ended.success, "{}", ended.stderr);
        let bytes = std::fs::read(&report).unwrap();
        (
            ended.stderr,
            serde_json::from_slice::<Value>(&bytes).unwrap(),
        )
    };
    let (_, first) = run("2");
    check(&first, 2, 4);
    assert_eq!(first["reputation"].as_array().unwrap().len(), 4);

    let (stderr, second) = run("1");
    check(&second, 1, 4);
    assert!(stderr.contains("resumed swarm"), "{stderr}");
    assert_eq!(second["rounds"][0]["round"], 3, "{second:#}");
    assert_eq!(second["reputation"][0]["rounds"], 3, "{second:#}");
    // The second run began with the weights that the first one ended with.
    assert_eq!(first["eval"]["after"], second["eval"]["before"]);

    let top = murmur(&["rep", "top", "--json", "--home", path.to_str().unwrap()]);
    assert!(top.success, "{}", top.stderr);
    let top: Value = serde_json::from_str(&top.stdout).unwrap();
    assert_eq!(top.as_array().unwrap().len(), 4);
    assert_eq!(top[0]["rounds"], 3);

    let eval = murmur(&[
        "eval",
        "--json",
        "--items",
        "1",
        "--home",
        path.to_str().unwrap(),
    ]);
    assert!(eval.success, "{}", eval.stderr);
    let eval: Value = serde_json::from_str(&eval.stdout).unwrap();
    assert_eq!(
        eval.as_array().unwrap().len(),
        5,
        "the base model and four peers: {eval:#}"
    );
}

#[test]
fn a_peer_hands_in_what_it_has_time_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let profile = include_str!("../../../assets/profiles/local.toml");
    let hurried = profile
        .replace("answer_ms = 15000", "answer_ms = 60")
        .replace("own = 8", "own = 96");
    let (manifest, home, report) = (path("hurried.toml"), path("home"), path("report.json"));
    std::fs::write(&manifest, hurried).unwrap();
    let rest = [
        "--manifest",
        &manifest,
        "--rounds",
        "3",
        "--report",
        &report,
    ];
    let ran = murmur(&[&ONE_PEER[..], &[&home], &rest].concat());
    assert!(ran.success, "{}", ran.stderr);
    let short = ran
        .stderr
        .lines()
        .filter(|line| line.contains("of 100 groups of answers"));
    assert_eq!(short.count(), 3, "{}", ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    for round in report["rounds"].as_array().unwrap() {
        assert!(round["answers"].as_u64().unwrap() < 800, "{round:#}");
    }
}

#[test]
fn three_processes_are_one_swarm_while_one_comes_late_and_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b, c) = (home("a"), home("b"), home("c"));
    let first = Murmur::start(&[&ONE_PEER[..], &[&a]].concat());
    first.wait_for("join with:");
    let ticket = std::fs::read_to_string(folder.path().join("a/ticket.txt")).unwrap();
    let second = Murmur::start(&[&ONE_PEER[..], &[&b, "--join", &ticket]].concat());
    second.wait_for("settled in block");
    // Late: rounds have settled without it.
    let third = Murmur::start(&[&ONE_PEER[..], &[&c, "--join", &ticket]].concat());
    third.wait_for("settled in block");
    let with_three = first.last_settled();
    third.kill();
    // The two that are left go on, whatever the third was in the middle of:
    // their connections to it fell silent, and no stage waited for its deadline.
    let events = || std::fs::read_to_string(folder.path().join("a/events.jsonl")).unwrap();
    // Rounds that it took part in may still be settling when it dies.
    first.wait_until(|log| {
        support::last_settled(log) > with_three + 2 && events().contains("\"type\":\"peer_absent\"")
    });
    let log = events();
    assert!(!log.contains("\"ended_by\":\"deadline\""), "{log}");
    for process in [first, second] {
        let ended = process.stop();
        assert!(ended.success, "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn kill_9_of_everything_loses_nothing_that_was_settled() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let home = home.to_str().unwrap();
    let args = [
        "run",
        "--headless",
        "--eval-items",
        "1",
        "--peers",
        "3",
        "--home",
        home,
    ];
    let mut settled = 0;
    for round in 1..=3 {
        let process = Murmur::start(&args);
        process.wait_until(|log| support::last_settled(log) > settled);
        settled = process.last_settled();
        process.kill();
        let top = murmur(&["rep", "top", "--json", "--home", home]);
        assert!(top.success, "after kill {round}: {}", top.stderr);
        let top: Value = serde_json::from_str(&top.stdout).unwrap();
        for peer in top.as_array().unwrap() {
            assert!(
                peer["rounds"].as_u64().unwrap() >= round,
                "after kill {round}: {top:#}"
            );
        }
    }
}

#[test]
fn bad_input_gets_a_clear_message_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let refused = |args: &[&str], expected: &str| {
        let ended = murmur(args);
        assert!(!ended.success, "{args:?} should fail");
        assert!(
            ended.stderr.contains(expected),
            "{args:?} said: {}",
            ended.stderr
        );
        assert!(
            !ended.stderr.contains("panicked"),
            "{args:?} said: {}",
            ended.stderr
        );
    };
    refused(&["run", "--peers", "0"], "0 is not in 1..=16");
    refused(&["run", "--rpc", "http://127.0.0.1:1"], "--chain-id");
    refused(&["fly"], "unrecognized subcommand");

    let file = at("a-file");
    std::fs::write(&file, b"not a folder").unwrap();
    refused(&["run", "--headless", "--home", &file], "a-file");
    refused(&["eval", "--home", &file], "is not a folder");
    refused(&["eval", "--home", &at("nowhere")], "no swarm has run in");
    for command in ["train", "play"] {
        refused(
            &["task", command, "add", "--level", "9"],
            "add has no level 9: --level must be 1 to 3",
        );
    }
    refused(
        &["rep", "top", "--home", &at("nowhere")],
        "start one with `murmur`",
    );
    refused(
        &[
            "run",
            "--headless",
            "--home",
            &at("h1"),
            "--join",
            "murmur1abc",
        ],
        "ticket",
    );
    refused(&["replay", &at("missing.jsonl")], "missing.jsonl");
    refused(&["replay", &file], "a-file");

    let manifest = at("swarm.toml");
    std::fs::write(&manifest, "rules = 4\nname = \"x\"\nunknown = 3\n").unwrap();
    refused(
        &[
            "run",
            "--headless",
            "--home",
            &at("h2"),
            "--manifest",
            &manifest,
        ],
        "unknown",
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refused(
        &[
            "run",
            "--headless",
            "--home",
            &at("h3"),
            "--rpc-port",
            &port,
        ],
        "in use",
    );
}

#[test]
fn a_damaged_home_is_said_and_a_torn_log_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let path = home.to_str().unwrap();
    let args = [
        "run",
        "--headless",
        "--eval-items",
        "1",
        "--peers",
        "1",
        "--rounds",
        "1",
        "--home",
        path,
    ];
    assert!(murmur(&args).success);

    let log = home.join("events.jsonl");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes.extend(b"{\"at_ms\":1,\"type\":\"sto");
    std::fs::write(&log, &bytes).unwrap();
    let ended = murmur(&args);
    assert!(ended.success, "{}", ended.stderr);
    assert!(ended.stderr.contains("torn"), "{}", ended.stderr);

    let identity = home.join("peers/0/identity.json");
    let kept = std::fs::read(&identity).unwrap();
    std::fs::write(&identity, b"garbage").unwrap();
    let ended = murmur(&args);
    assert!(
        !ended.success && ended.stderr.contains("identity.json is damaged"),
        "{}",
        ended.stderr
    );
    std::fs::write(&identity, kept).unwrap();

    // A second process in the same home is refused while the first one lives.
    let running = Murmur::start(&["run", "--headless", "--eval-items", "1", "--home", path]);
    running.wait_for("resumed swarm");
    let ended = murmur(&args);
    assert!(
        !ended.success && ended.stderr.contains("another murmur"),
        "{}",
        ended.stderr
    );
    // And a foreign chain id is refused before anything is sent.
    let rpc = std::fs::read_to_string(home.join("rpc.txt")).unwrap();
    let other = folder.path().join("other");
    let ended = support::murmur_with(
        &[
            "run",
            "--headless",
            "--home",
            other.to_str().unwrap(),
            "--rpc",
            &rpc,
            "--chain-id",
            "1",
        ],
        &[
            ("MURMUR_PAYER_KEY", &"11".repeat(32)),
            ("MURMUR_PASSPHRASE", "of a test"),
        ],
    );
    assert!(
        !ended.success && ended.stderr.contains("7700"),
        "{}",
        ended.stderr
    );
    assert!(running.stop().success);
}

#[test]
fn a_damaged_checkpoint_is_said_and_never_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let args = [
        "run",
        "--headless",
        "--eval-items",
        "1",
        "--peers",
        "1",
        "--rounds",
        "2",
        "--home",
        home.to_str().unwrap(),
    ];
    assert!(murmur(&args).success);
    for file in files_below(&home.join("peers/0/checkpoint")) {
        if file.ends_with("weights.safetensors") {
            std::fs::write(&file, b"garbage").unwrap();
        }
    }
    let ended = murmur(&args);
    assert!(!ended.success, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("away to start this peer anew"),
        "{}",
        ended.stderr
    );
    std::fs::rename(home.join("peers/0/checkpoint"), folder.path().join("kept")).unwrap();
    assert!(murmur(&args).success);
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_peer_that_sends_garbage_is_refused_visibly_and_holds_nobody_up() {
    use swarm::net::{Net, NetConfig, NetEvent};
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let node = Murmur::start(&[
        "run",
        "--headless",
        "--eval-items",
        "1",
        "--peers",
        "2",
        "--home",
        home.to_str().unwrap(),
    ]);
    node.wait_for("join with:");
    let ticket = std::fs::read_to_string(home.join("ticket.txt")).unwrap();
    let ticket: swarm::ticket::Ticket = ticket.parse().unwrap();
    let registry = tasks::Registry::builtin();
    let manifest =
        swarm_core::manifest::Manifest::from_canonical(&ticket.manifest, &registry).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let net = runtime.block_on(async {
        let mut config = NetConfig::local([9; 32], manifest.id().0);
        config.bootstrap = ticket.peers.clone();
        let (net, mut events) = Net::start(config).await.unwrap();
        while !matches!(events.next().await, Some(NetEvent::NeighbourUp(_))) {}
        for index in 0..20u8 {
            net.broadcast(vec![index; 200]).await.unwrap();
        }
        net
    });
    node.wait_for("refused from");
    let before = node.last_settled();
    node.wait_until(|log| support::last_settled(log) > before + 1);
    runtime.block_on(net.shutdown());
    assert!(node.stop().success);
    let events = std::fs::read_to_string(home.join("events.jsonl")).unwrap();
    assert!(
        events.contains("\"type\":\"rejected\""),
        "the refusal is on record"
    );
}

/// What the keys of peers come from that leave none on the disk.
const PHRASE: &str = "legal winner thank year wave sausage worth useful legal winner thank yellow";
/// The first account that anvil funds; everyone knows its key.
const PAYER: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

#[test]
fn any_other_evm_chain_serves_as_the_ledger() {
    let Some(anvil) = std::env::var_os("MURMUR_ANVIL") else {
        eprintln!(
            "\n!!! SKIPPED: MURMUR_ANVIL does not name an anvil (npm install @foundry-rs/anvil); \
             settling on a foreign chain was NOT tested !!!\n"
        );
        return;
    };
    let chain = support::Anvil::start(&anvil);
    let rich_keys = [("MURMUR_PAYER_KEY", PAYER), ("MURMUR_MNEMONIC", PHRASE)];
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let ended = support::murmur_with(
        &[
            "run",
            "--headless",
            "--peers",
            "3",
            "--rounds",
            "2",
            "--eval-items",
            "1",
            "--home",
            folder.path().join("home").to_str().unwrap(),
            "--report",
            report.to_str().unwrap(),
            "--rpc",
            &chain.rpc,
            "--chain-id",
            "31337",
        ],
        &rich_keys,
    );
    assert!(ended.success, "{}", ended.stderr);
    let identity = folder.path().join("home/peers/0/identity.json");
    let identity = std::fs::read_to_string(identity).unwrap();
    assert!(
        identity.contains("iroh_sealed"),
        "no key in the clear: {identity}"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    check(&report, 2, 3);

    // Who has nothing to pay with takes part all the same: a peer that has pays
    // for its way onto the ledger.
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let common = ["run", "--headless", "--eval-items", "1", "--home"];
    let chain_id = ["--rpc", &chain.rpc, "--chain-id", "31337"];
    let rich = Murmur::start_with(
        &[&common[..], &[&at("home"), "--peers", "3"], &chain_id].concat(),
        &rich_keys,
    );
    rich.wait_for("join with:");
    let ticket = std::fs::read_to_string(folder.path().join("home/ticket.txt")).unwrap();
    let poor = Murmur::start_with(
        &[
            &common[..],
            &[&at("poor"), "--peers", "1", "--join", &ticket],
            &chain_id,
        ]
        .concat(),
        &[("MURMUR_PASSPHRASE", "a long passphrase")],
    );
    poor.wait_for("no funds on this chain");
    rich.wait_for("way onto the ledger");
    let before = poor.last_settled();
    poor.wait_until(|log| support::last_settled(log) > before + 2);
    let top = murmur(&["rep", "top", "--json", "--home", &at("poor")]);
    let top: Value = serde_json::from_str(&top.stdout).unwrap();
    let peers = top.as_array().unwrap();
    assert_eq!(peers.len(), 4, "{top:#}");
    assert!(
        peers.iter().all(|peer| peer["rounds"].as_u64() > Some(0)),
        "{top:#}"
    );
    for process in [poor, rich] {
        let ended = process.stop();
        assert!(ended.success, "{}", ended.stderr);
    }
}

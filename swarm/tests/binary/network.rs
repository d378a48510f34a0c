//! A swarm for others: created, joined by whatever names it, watched, attacked,
//! stopped in the middle.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use swarm::net::{Guest, Net, NetConfig};
use swarm::ticket::Ticket;
use swarm_core::manifest::Manifest;

use super::support::{self, Murmur, murmur};

const HEADLESS: [&str; 4] = ["--headless", "--eval-items", "1", "--peers"];

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Whether this machine has an interface that others could reach, or a notice.
fn has_a_network() -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let has = socket.connect("192.0.2.1:9").is_ok();
    if !has {
        eprintln!("NOTE: no interface but loopback here; joining across interfaces is not tested");
    }
    has
}

/// Whether multicast comes back to this machine, or a notice.
fn has_multicast() -> bool {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
    let heard = || -> std::io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&GROUP, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_multicast_loop_v4(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(b"murmur", (GROUP, socket.local_addr()?.port()))?;
        socket.recv(&mut [0; 16]).map(drop)
    };
    match heard() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("NOTE: no multicast here ({error}); finding peers by mdns is not tested");
            false
        }
    }
}

fn get(at: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_created_swarm_is_joined_by_invite_by_url_and_from_the_lan_and_its_numbers_are_served() {
    if !has_a_network() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b, c) = (home("a"), home("b"), home("c"));
    // No service of anybody's is asked: no relay, no DNS, no DHT.
    let quiet = ["--relay", "none", "--find", "mdns,remembered"];
    let create = ["create", "--name", "reeds", "--json", "--home", &a];
    let created = murmur(&[&create[..], &quiet].concat());
    assert!(created.success, "{}", created.stderr);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let invite = created["invite"].as_str().unwrap();
    assert!(invite.starts_with("murmur2"), "{invite}");
    let again = murmur(&[&create[..], &quiet].concat());
    assert!(!again.success && again.stderr.contains("has a swarm already"));

    let run = ["run", "--home", &a, "--metrics", "127.0.0.1:0"];
    let first = Murmur::start(&[&run[..], &HEADLESS, &["1"]].concat());
    first.wait_for("join with:");
    first.wait_for("/metrics");
    let join = ["join", invite, "--home", &b];
    let second = Murmur::start(&[&join[..], &quiet, &HEADLESS, &["1"]].concat());
    second.wait_for("gave a ticket");
    second.wait_for("reached through it");
    second.wait_for("settled in block");
    let doctor = murmur(&["doctor", "--home", &b, "--json"]);
    assert!(doctor.success, "{}{}", doctor.stdout, doctor.stderr);
    let doctor: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let state = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no {name} in {doctor:#}"))["state"].clone()
    };
    for name in ["peers", "clock", "udp"] {
        assert_eq!(state(name), "ok", "{doctor:#}");
    }
    let settled = first.last_settled();
    let ended = second.stop();
    assert!(
        ended.success && !ended.stderr.contains("panicked"),
        "{}",
        ended.stderr
    );

    // Who has joined once needs nothing to come back.
    let report = home("report.json");
    let back = ["join", "--rounds", "1", "--home", &b, "--report", &report];
    let back = murmur(&[&back[..], &HEADLESS, &["1"]].concat());
    assert!(back.success, "{}", back.stderr);
    assert!(
        back.stderr.contains("resumed swarm reeds"),
        "{}",
        back.stderr
    );
    let report: Value = serde_json::from_str(&text(report.as_ref())).unwrap();
    let link = &report["network"][0];
    assert!(link["received_bytes"].as_u64().unwrap() > 0, "{report:#}");
    assert!(first.last_settled() >= settled);

    let log = first.said();
    let at = log
        .split("http://")
        .filter_map(|rest| rest.split_once("/metrics"));
    let at = at.map(|(at, _)| at).next().unwrap();
    let numbers = get(at, "/metrics");
    for line in [
        "murmur_info{",
        "murmur_rounds_settled_total ",
        "murmur_link_rtt_seconds{",
    ] {
        assert!(numbers.contains(line), "no {line} in {numbers}");
    }
    assert!(get(at, "/elsewhere").starts_with("HTTP/1.1 404"));

    if has_multicast() {
        // The manifest from a web server; somebody of it on the LAN.
        let manifest = text(&folder.path().join("a/swarm.toml"));
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/swarm.toml", server.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let _ = stream.read(&mut [0; 2048]);
            let size = manifest.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{manifest}"
            )
            .unwrap();
        });
        let join = ["join", &url, "--home", &c];
        let third = Murmur::start(&[&join[..], &quiet, &HEADLESS, &["1"]].concat());
        third.wait_for("on the LAN");
        third.wait_for("gave a ticket");
        third.wait_for("settled in block");
        let ended = third.stop();
        assert!(
            ended.success && !ended.stderr.contains("panicked"),
            "{}",
            ended.stderr
        );
        let events = text(&folder.path().join("c/events.jsonl"));
        assert!(events.contains(r#""type":"peer_found""#) && events.contains(r#""by":"mdns""#));
    }
    assert!(first.stop().success);
}

#[test]
fn what_names_no_swarm_is_refused_with_what_would() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let refused = |source: &[&str], expected: &str| {
        let home = at("home");
        let ended = murmur(&[&["join", "--headless", "--home", &home], source].concat());
        assert!(!ended.success, "{source:?}");
        let said = &ended.stderr;
        assert!(
            said.contains(expected) && !said.contains("panicked"),
            "{source:?}: {said}"
        );
    };
    refused(&[], "join what?");
    refused(&["hello"], "not a ticket");
    refused(&["murmur1abc"], "checksum");
    refused(&["murmur2abc"], "checksum");
    refused(&["murmur7abc"], "another version");
    refused(&["chain:12"], "--rpc");
    refused(
        &["chain:12", "--rpc", "http://127.0.0.1:1", "--chain-id", "1"],
        "64 hex digits",
    );
    refused(&["http://127.0.0.1:1/secret?key=1"], "http://127.0.0.1:1:");
    let file = at("swarm.toml");
    std::fs::write(&file, "rules = 2\nname = \"x\"\n").unwrap();
    refused(&[&file], "swarm.toml");
    std::fs::write(&file, vec![b'x'; 100_000]).unwrap();
    refused(&[&file], "larger than");

    let doctor = murmur(&[
        "doctor",
        "--listen",
        "local",
        "--json",
        "--home",
        &at("none"),
    ]);
    assert!(doctor.success, "{}", doctor.stdout);
    let ticketless = murmur(&["doctor", "nonsense"]);
    assert!(!ticketless.success && ticketless.stderr.contains("not a ticket"));
    let relay = murmur(&["run", "--relay", "maybe"]);
    assert!(
        !relay.success && relay.stderr.contains("public"),
        "{}",
        relay.stderr
    );
}

#[test]
fn a_peer_that_slept_is_waited_for_no_longer_and_comes_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (home("a"), home("b"));
    let run = ["run", "--home", &a];
    let first = Murmur::start(&[&run[..], &HEADLESS, &["2"]].concat());
    first.wait_for("join with:");
    let ticket = text(&folder.path().join("a/ticket.txt"));
    let join = ["join", &ticket, "--home", &b];
    let second = Murmur::start(&[&join[..], &HEADLESS, &["1"]].concat());
    second.wait_for("settled in block");
    let step = step(&second);
    second.signal("STOP");
    let then = first.last_settled();
    // Long enough that every connection to it is given up, then a few rounds more.
    std::thread::sleep(Duration::from_secs(20));
    first.wait_until(|log| support::last_settled(log) > then + 3);
    second.signal("CONT");
    let awake = first.last_settled();
    second.wait_until(|log| support::last_settled(log) > awake + 1);
    // It trains on with the weights it had.
    second.wait_until(|log| last_step(log) > step);
    for process in [second, first] {
        let ended = process.stop();
        assert!(
            ended.success && !ended.stderr.contains("panicked"),
            "{}",
            ended.stderr
        );
    }
    let events = text(&folder.path().join("b/events.jsonl"));
    let seen: Vec<u64> = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["type"] == "trained")
        .filter_map(|event| event["step"].as_u64())
        .collect();
    assert!(seen.is_sorted(), "weights were lost: {seen:?}");
}

/// The optimizer step that a process last reported.
fn last_step(log: &str) -> u64 {
    let steps = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once(": step ")?;
        rest.split(',').next()?.parse().ok()
    });
    steps.max().unwrap_or(0)
}

fn step(process: &Murmur) -> u64 {
    last_step(&process.said())
}

/// Strangers with keys of their own, at work against a swarm until dropped.
struct Hostile {
    _runtime: tokio::runtime::Runtime,
}

impl Hostile {
    /// Two flood the topic with garbage, one with oversize-but-framed noise that
    /// looks signed; eight keys hammer the ticket desk; one asks every peer for
    /// bodies that nobody has.
    fn against(ticket: &Ticket) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (swarm, _) = Manifest::named_in(&ticket.manifest).unwrap();
        for n in 0..3u8 {
            let mut config = NetConfig::local([100 + n; 32], swarm.0);
            config.bootstrap = ticket.peers.clone();
            let peers = ticket.peers.clone();
            runtime.spawn(async move {
                let (net, mut events) = Net::start(config).await.unwrap();
                tokio::spawn(async move { while events.next().await.is_some() {} });
                for count in 0u64.. {
                    let mut noise = vec![n; 4096];
                    noise[..8].copy_from_slice(&count.to_le_bytes());
                    net.broadcast(noise).await.unwrap();
                    if n == 2 {
                        let hash = *blake3::hash(&count.to_le_bytes()).as_bytes();
                        let _ = net.fetch(hash, 1_000, &peers).await;
                    } else {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
        }
        for n in 0..8u8 {
            let (config, peers) = (
                NetConfig::local([200 + n; 32], swarm.0),
                ticket.peers.clone(),
            );
            runtime.spawn(async move {
                let guest = Guest::bind(&config).await.unwrap();
                loop {
                    for peer in &peers {
                        let _ = guest.asker().ticket(peer, &[n; 32]).await;
                    }
                }
            });
        }
        Self { _runtime: runtime }
    }
}

#[test]
fn honest_rounds_settle_whole_and_in_time_while_strangers_flood() {
    let folder = tempfile::tempdir().unwrap();
    let (home, report) = (
        folder.path().join("home"),
        folder.path().join("report.json"),
    );
    let run = ["run", "--rounds", "4", "--home", home.to_str().unwrap()];
    let told = ["--report", report.to_str().unwrap()];
    let honest = Murmur::start(&[&run[..], &told, &HEADLESS, &["3"]].concat());
    honest.wait_for("join with:");
    let ticket: Ticket = text(&home.join("ticket.txt")).parse().unwrap();
    let hostile = Hostile::against(&ticket);
    honest.wait_for("stopped; state is saved");
    drop(hostile);
    let report: Value = serde_json::from_str(&text(&report)).unwrap();
    super::check(&report, 4, 3);
    let events = text(&home.join("events.jsonl"));
    assert!(
        !events.contains(r#""ended_by":"deadline""#),
        "a round was delayed"
    );
    // Counted, by reason, and shown.
    let refused = events
        .lines()
        .filter(|line| line.contains(r#""type":"rejected""#));
    let more = events
        .lines()
        .filter(|line| line.contains(r#""type":"refused_more""#));
    assert!(refused.count() > 0 && more.count() > 0, "{events}");
    let unknown = report["refused_of_unknown"].as_object().unwrap();
    let counted: u64 = unknown.values().filter_map(Value::as_u64).sum();
    assert!(counted > 100, "{unknown:?}");
    let ended = honest.end();
    assert!(
        ended.success && !ended.stderr.contains("panicked"),
        "{}",
        ended.stderr
    );
}

//! The outbox against a chain that dies, an account that runs dry and a process that is
//! killed: nothing settled is lost or doubled. `ATTACKS.md` lists what else is tried, and
//! where.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rollup::devnet::Devnet;
use rollup::{ChainProfile, Delivery, Ledger, LedgerError, Outbox, RoundStatus, Swarm};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::anvil::Anvil;
use crate::client::signed_round;
use crate::support::{config, key, profile, swarm_of};

/// Runs an attack on the devnet, and on anvil where it is.
async fn on_both(attack: impl AsyncFn(&ChainProfile)) {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 4)).await.unwrap();
    attack(&profile(&devnet)).await;
    if let Some(anvil) = Anvil::start(&[]).await {
        attack(&anvil.profile).await;
    }
}

/// How often each round of a swarm has settled.
async fn settled_once(swarm: &Swarm, rounds: std::ops::RangeInclusive<u64>) {
    let history = swarm.history(0).await.unwrap();
    let found: Vec<u64> = history.iter().map(|settled| settled.round).collect();
    assert_eq!(found, rounds.collect::<Vec<_>>());
}

/// A door to a chain that is shut after so many requests.
struct Door {
    url: String,
    left: Arc<AtomicU32>,
}

impl Door {
    async fn to(profile: &ChainProfile) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let chain = profile.rpc.strip_prefix("http://").unwrap().to_owned();
        let left = Arc::new(AtomicU32::new(u32::MAX));
        let count = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (chain, count) = (chain.clone(), Arc::clone(&count));
                tokio::spawn(async move { carry(client, &chain, &count).await });
            }
        });
        Self { url, left }
    }
}

/// Carries requests there and answers back, until the door is shut.
async fn carry(mut client: TcpStream, chain: &str, left: &AtomicU32) -> Option<()> {
    let mut server = TcpStream::connect(chain).await.ok()?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            asked = client.read(&mut request) => {
                let size = asked.ok().filter(|size| *size > 0)?;
                // A long request comes in parts; only its first begins like this.
                if request.starts_with(b"POST") {
                    let pass = |left: u32| left.checked_sub(1);
                    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, pass).ok()?;
                }
                server.write_all(&request[..size]).await.ok()?;
            }
            answered = server.read(&mut answer) => {
                let size = answered.ok().filter(|size| *size > 0)?;
                client.write_all(&answer[..size]).await.ok()?;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_dies_at_any_request_loses_and_doubles_nothing() {
    on_both(async |profile| {
        let swarms = swarm_of(profile, 3).await;
        let door = Door::to(profile).await;
        let through = ChainProfile::new(door.url.clone(), profile.chain_id);
        let ledger = Ledger::connect(&through, key(0)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        // Dying at the first request, at the second, ... and not at all.
        let moments = (0..14).chain([16, 19, 23, 28, 34, 200]);
        for (round, requests) in (1..).zip(moments) {
            door.left.store(requests, Ordering::SeqCst);
            swarms[0].open_round(round).await.unwrap();
            outbox.put(&signed_round(&swarms, round)).unwrap();
            let flush = tokio::time::timeout(Duration::from_millis(400), outbox.flush(&ledger));
            // Whoever waits for a receipt waits on; a killed process does not come back.
            if let Ok(report) = flush.await {
                for (_, delivery) in report.unwrap() {
                    let refused = matches!(delivery, Delivery::Refused(_));
                    assert!(!refused, "round {round}: {delivery:?}");
                }
            }
            door.left.store(u32::MAX, Ordering::SeqCst);
            outbox.flush(&ledger).await.unwrap();
            let status = swarms[0].round_opened(round).await.unwrap().unwrap().status;
            assert_eq!(status, RoundStatus::Settled, "after {requests} requests");
        }
        settled_once(&swarms[0], 1..=20).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_runs_dry_sends_nothing_and_settles_when_it_is_funded_or_relayed() {
    on_both(async |profile| {
        let swarms = swarm_of(profile, 3).await;
        let poor = Ledger::connect(profile, key(150)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(folder.path()).unwrap();
        for round in 1..=2 {
            swarms[0].open_round(round).await.unwrap();
            outbox.put(&signed_round(&swarms, round)).unwrap();
        }
        let report = outbox.flush(&poor).await.unwrap();
        for (_, delivery) in &report {
            let Delivery::Waiting(LedgerError::Unfunded { .. }) = delivery else {
                panic!("{delivery:?}");
            };
        }
        assert_eq!(outbox.waiting().unwrap().len(), 2);
        // Another peer relays the first; funds come for the second.
        let signed = signed_round(&swarms, 1);
        swarms[1]
            .settle(1, signed.included, &signed.cards)
            .await
            .unwrap();
        assert!(swarms[0].ledger().top_up(poor.address()).await.unwrap());
        let report = outbox.flush(&poor).await.unwrap();
        let already: Vec<bool> = report
            .iter()
            .map(|(_, delivery)| match delivery {
                Delivery::Settled { settled, .. } => settled.already,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(already, [true, false]);
        settled_once(&swarms[0], 1..=2).await;
    })
    .await;
}

const CHILD: &str = "MURMUR_TEST_OUTBOX";

/// Not a test of its own: what the next one starts, and kills.
#[tokio::test(flavor = "multi_thread")]
async fn child_process_that_delivers_until_killed() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (rpc, folder) = told.split_once(' ').unwrap();
    let profile = ChainProfile::new(rpc, 7700);
    let mut swarms = Vec::new();
    for number in 0..3 {
        let ledger = Ledger::connect(&profile, key(number)).await.unwrap();
        let swarm = ledger.create_swarm([42; 32], rollup::Terms::LOCAL).await;
        swarms.push(swarm.unwrap());
    }
    let outbox = Outbox::open(folder).unwrap();
    let mut round = swarms[0].info().await.unwrap().next_round.max(1);
    println!("started");
    loop {
        swarms[0].open_round(round).await.unwrap();
        outbox.put(&signed_round(&swarms, round)).unwrap();
        println!("put {round}");
        outbox.flush(swarms[0].ledger()).await.unwrap();
        round += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_outbox_loses_and_doubles_nothing() {
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(config(&home, 4)).await.unwrap();
    let swarms = swarm_of(&profile(&devnet), 3).await;
    let folder = tempfile::tempdir().unwrap();
    let mut put = std::collections::BTreeSet::new();
    // Moments a millisecond or so apart, after a start: one falls into each step.
    for moment in 0..24u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "attacks::child_process_that_delivers_until_killed",
                "--exact",
                "--nocapture",
            ])
            .env(
                CHILD,
                format!("{} {}", devnet.url(), folder.path().display()),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (ready, started) = tokio::sync::oneshot::channel();
        let reader = std::thread::spawn(move || {
            use std::io::{BufRead, BufReader};
            let mut ready = Some(ready);
            let mut put = Vec::new();
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("started") {
                    ready.take().map(|ready| ready.send(()));
                }
                let round = line
                    .split_once("put ")
                    .map(|(_, round)| round.parse::<u64>());
                put.extend(round.and_then(Result::ok));
            }
            put
        });
        started.await.expect("the child ended before it started");
        tokio::time::sleep(Duration::from_micros(900 * moment)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        put.extend(reader.join().unwrap());
    }
    let outbox = Outbox::open(folder.path()).unwrap();
    outbox.flush(swarms[0].ledger()).await.unwrap();
    assert!(outbox.waiting().unwrap().is_empty());
    let history = swarms[0].history(0).await.unwrap();
    let settled: Vec<u64> = history.iter().map(|settled| settled.round).collect();
    let once: std::collections::BTreeSet<u64> = settled.iter().copied().collect();
    assert_eq!(
        settled.len(),
        once.len(),
        "a round settled twice: {settled:?}"
    );
    assert!(
        !put.is_empty(),
        "no child came far enough to be killed at anything"
    );
    let lost: Vec<_> = put.difference(&once).collect();
    assert!(lost.is_empty(), "put, and never settled: {lost:?}");
}

//! The same client against anvil, a chain that is not ours.
//!
//! Run where `MURMUR_ANVIL` names the binary or `anvil` is on the path; elsewhere it says
//! that it did not.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rollup::{ChainProfile, Delivery, Ledger, Outbox, RoundStatus, U256};
use serde_json::json;

use crate::client::signed_round;
use crate::support::{ask, key, swarm_of};

pub(crate) struct Anvil {
    pub(crate) profile: ChainProfile,
    process: Child,
}

impl Anvil {
    /// Starts it on a free port with the first four test keys funded, or `None`.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
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
        let anvil = Self { profile, process };
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

//! Reputation as a user looks at it and checks it, from the command line.

use serde_json::Value;

use crate::support::{Ended, Murmur, murmur};

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {}{}", ended.stdout, ended.stderr))
}

#[test]
fn a_killed_swarms_rounds_are_recomputed_and_what_was_changed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let path = home.to_str().unwrap();
    let rep = |args: &[&str]| murmur(&[&["rep"], args, &["--home", path]].concat());
    let args = ["run", "--headless", "--eval-items", "1", "--peers", "2"];
    let process = Murmur::start(&[&args[..], &["--home", path]].concat());
    process.wait_until(|log| crate::support::last_settled(log) >= 2);
    // While it runs, its chain is asked.
    let ended = rep(&["verify", "1", "--json"]);
    assert!(ended.success, "{}{}", ended.stdout, ended.stderr);
    process.kill();

    let all = json(&rep(&["verify", "--all", "--json"]));
    assert_eq!(all["agrees"], true, "{all:#}");
    assert!(all["rounds"].as_array().unwrap().len() >= 2, "{all:#}");
    for round in all["rounds"].as_array().unwrap() {
        assert_eq!(round["unchecked"], serde_json::json!([]), "{round:#}");
        assert!(round["bodies"].as_u64().unwrap() >= 6, "{round:#}");
    }

    // A peer by its name, the beginning of its address, and its iroh id is one peer.
    let top = json(&rep(&["top", "--json"]));
    let first = &top[0];
    for wanted in ["name", "address", "peer"] {
        let wanted = first[wanted].as_str().unwrap();
        let found = json(&rep(&["peer", wanted, "--json"]));
        assert_eq!(found["address"], first["address"], "{found:#}");
        let newest = &found["newest"];
        assert!(
            newest["why"].as_str().is_some_and(|why| !why.is_empty()),
            "{found:#}"
        );
        assert!(newest["not_counted"].is_array(), "{found:#}");
    }
    let round = json(&rep(&["round", "1", "--json"]));
    assert_eq!(round["status"], "settled", "{round:#}");
    assert_eq!(round["judged"]["peers"].as_array().unwrap().len(), 2);
    let table = rep(&["round", "1"]).stdout;
    assert!(table.contains("not counted because"), "{table}");
    let lines = rep(&["export", "--csv"]).stdout;
    let scored: usize = top[0]["rounds"].as_u64().unwrap().try_into().unwrap();
    assert!(lines.lines().count() > 2 * (scored - 1), "{lines}");
    let swarm = json(&rep(&["swarm", "--json"]));
    assert_eq!(swarm["devnet"], true);

    // One letter of one completion: the set is not the one that was signed.
    let transcript = std::fs::read_dir(home.join("transcripts"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("0000000001-")
        })
        .expect("round 1 was kept");
    let kept = std::fs::read(&transcript).unwrap();
    let at = kept
        .windows(8)
        .position(|window| window == b"<answer>")
        .expect("an answer")
        + 8;
    let mut changed = kept.clone();
    changed[at] = if changed[at] == b'7' { b'8' } else { b'7' };
    std::fs::write(&transcript, &changed).unwrap();
    let ended = rep(&["verify", "1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stdout);
    assert!(
        ended
            .stdout
            .contains("round 1 DIFFERS: included hash: claimed"),
        "{}",
        ended.stdout
    );
    // The true one, from elsewhere, is as good as the home's.
    let elsewhere = folder.path().join("round-1.bin");
    std::fs::write(&elsewhere, &kept).unwrap();
    let ended = rep(&["verify", "--transcript", elsewhere.to_str().unwrap()]);
    assert!(
        ended.success && ended.stdout.contains("bodies agree"),
        "{}",
        ended.stdout
    );
    // Without any, signatures and arithmetic are checked, and that is said.
    std::fs::remove_dir_all(home.join("transcripts")).unwrap();
    let ended = rep(&["verify", "1"]);
    assert!(ended.success, "{}", ended.stderr);
    assert!(
        ended.stdout.contains("not checked: the scores themselves"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_does_not_exist_is_said_with_what_does() {
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
    ];
    let ended = murmur(&[&args[..], &["--home", path]].concat());
    assert!(ended.success, "{}", ended.stderr);
    let refused = |args: &[&str], expected: &str| {
        let ended = murmur(&[args, &["--home", path]].concat());
        assert!(!ended.success, "{args:?}");
        assert!(
            ended.stderr.contains(expected),
            "{args:?} said: {}",
            ended.stderr
        );
    };
    refused(&["rep", "peer", "nobody"], "`murmur rep top` lists them");
    refused(
        &["rep", "round", "99"],
        "round 99 was never opened; the newest settled round is 1",
    );
    refused(&["rep", "verify", "99"], "round 99 was never opened");
    refused(
        &["rep", "top", "--swarm", "ffff"],
        "no swarm of this ledger begins with ffff",
    );
    refused(
        &[
            "rep",
            "top",
            "--rpc",
            "http://127.0.0.1:1",
            "--chain-id",
            "1",
        ],
        "127.0.0.1:1",
    );
    refused(
        &["rep", "verify", "1", "--transcript", "/dev/null"],
        "is no transcript",
    );
    // Keys: seen without being told, and kept in one file.
    let wallet = murmur(&["wallet", "--json", "--home", path]);
    let wallet: Value = serde_json::from_str(&wallet.stdout).unwrap();
    // Who pays, who may change the curriculum, and the peer.
    assert_eq!(wallet["keys"].as_array().unwrap().len(), 3, "{wallet:#}");
    assert!(wallet["keys"][1]["balance"].is_string(), "{wallet:#}");
    let secret = std::fs::read_to_string(home.join("peers/0/identity.json")).unwrap();
    let secret: Value = serde_json::from_str(&secret).unwrap();
    assert!(
        !wallet
            .to_string()
            .contains(secret["ethereum"].as_str().unwrap())
    );
    let backup = folder.path().join("keys.json");
    refused(
        &["wallet", "backup", backup.to_str().unwrap()],
        "MURMUR_PASSPHRASE",
    );
}

#[test]
fn a_swarm_that_seals_its_cards_settles_and_every_round_of_it_is_recomputed() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let here = ["--home", home.to_str().unwrap()];
    let create = ["create", "--sealed", "--no-qr", "--relay", "none"];
    let made = murmur(&[&create[..], &here].concat());
    assert!(made.success, "{}", made.stderr);
    let text = std::fs::read_to_string(home.join("swarm.toml")).unwrap();
    assert!(text.contains("sealed = true"), "{text}");
    let run = ["run", "--headless", "--eval-items", "1", "--peers", "3"];
    let ran = murmur(&[&run[..], &["--rounds", "2"], &here].concat());
    assert!(ran.success, "{}", ran.stderr);
    // The ledger takes no card of this swarm that it holds no seal of.
    let all = json(&murmur(
        &[&["rep", "verify", "--all", "--json"][..], &here].concat(),
    ));
    assert_eq!(all["agrees"], true, "{all:#}");
    assert_eq!(all["rounds"].as_array().unwrap().len(), 2, "{all:#}");
}

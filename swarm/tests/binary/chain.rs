//! The chain as the command line shows it, and the keys of a home.

use serde_json::Value;
use swarm_core::ids::Address;
use swarm_core::manifest::Manifest;

use crate::support::{Ended, murmur, murmur_with};

fn json(ended: &Ended) -> Value {
    assert!(ended.success, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

fn refused(ended: &Ended, expected: &str) {
    assert!(!ended.success, "{}", ended.stdout);
    assert!(ended.stderr.contains(expected), "it said: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

const RUN: [&str; 8] = [
    "run",
    "--headless",
    "--eval-items",
    "1",
    "--peers",
    "2",
    "--rounds",
    "1",
];

#[test]
fn a_profile_says_all_of_a_chain_and_one_that_differs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let home = at("home");
    let here = ["--home", home.as_str()];
    let ran = murmur(&[&RUN[..], &here].concat());
    assert!(ran.success, "{}", ran.stderr);

    let fees = json(&murmur(&[&["chain", "fees", "--json"][..], &here].concat()));
    assert_eq!(fees["fees"], "ethereum", "{fees:#}");
    let rows = fees["at_most"].as_array().unwrap();
    assert_eq!(rows.len(), 4, "{fees:#}");
    for row in rows {
        let wei = |key: &str| row[key].as_str().unwrap().parse::<u128>().unwrap();
        let gas = u128::from(row["gas"].as_u64().unwrap());
        assert_eq!(wei("execution_wei"), gas * wei("gas_price_wei"), "{row:#}");
        assert_eq!(wei("total_wei"), wei("execution_wei") + wei("data_wei"));
    }
    for command in ["agent", "mirror"] {
        let ended = murmur(&[&["chain", command][..], &here].concat());
        refused(&ended, "name them as [agents] in a profile");
    }

    // Held open, so that the profile's JSON-RPC answers.
    let node = crate::support::Murmur::start(&[&RUN[..6], &here].concat());
    node.wait_for("settled in block");
    let shown = murmur(&[&["chain", "show"][..], &here].concat());
    assert!(shown.success, "{}", shown.stderr);
    let (good, bad) = (at("chain.toml"), at("bad.toml"));
    std::fs::write(&good, &shown.stdout).unwrap();
    let top = json(&murmur(&["rep", "top", "--json", "--chain", &good]));
    assert_eq!(top.as_array().unwrap().len(), 2, "{top:#}");
    // A swarm made on it names the chain's contracts.
    let other = at("other");
    let made = murmur_with(
        &[
            "create", "--no-qr", "--relay", "none", "--home", &other, "--chain", &good,
        ],
        &[],
    );
    assert!(made.success, "{}", made.stderr);
    assert!(
        made.stdout.contains(&format!("--chain {good}")),
        "{}",
        made.stdout
    );

    // One digit of a code's hash.
    let place = shown.stdout.find("[code]").unwrap();
    let digits = place + shown.stdout[place..].find("ledger = \"0x").unwrap() + 12;
    let mut text = shown.stdout.clone();
    let digit = if text[digits..].starts_with('0') {
        "1"
    } else {
        "0"
    };
    text.replace_range(digits..=digits, digit);
    std::fs::write(&bad, text).unwrap();
    let ended = murmur(&["rep", "top", "--chain", &bad]);
    refused(&ended, "is not this version's ReputationLedger");
    let ended = murmur(&[&RUN[..], &["--home", &at("third"), "--chain", &bad]].concat());
    assert!(!ended.success, "{}", ended.stderr);
    assert!(node.stop().success);
}

#[test]
fn a_home_of_another_versions_contracts_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let here = ["--home", home.to_str().unwrap()];
    assert!(murmur(&[&RUN[..], &here].concat()).success);
    let file = home.join("swarm.bin");
    let mut manifest = Manifest::outline(&std::fs::read(&file).unwrap()).unwrap();
    manifest.chain.as_mut().unwrap().ledger = Address([0x5a; 20]);
    std::fs::write(&file, manifest.canonical()).unwrap();
    let ended = murmur(&[&RUN[..], &here].concat());
    refused(&ended, "the contracts of another version of murmur");
    refused(&ended, "begin anew in another folder with --home");
    let ended = murmur(&[&["rep", "top"][..], &here].concat());
    refused(&ended, "there is no ReputationLedger at 0x5a5A");
}

#[test]
fn keys_are_rotated_backed_up_and_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (home, file, back) = (at("home"), at("keys.json"), at("back"));
    let here = ["--home", home.as_str()];
    assert!(murmur(&[&RUN[..], &here].concat()).success);
    let top = || json(&murmur(&[&["rep", "top", "--json"][..], &here].concat()));
    let keys = |home: &str| json(&murmur(&["wallet", "--json", "--home", home]))["keys"].clone();
    let before = keys(&home);

    let rotated = murmur(&[&["wallet", "rotate", "--peer", "1"][..], &here].concat());
    assert!(rotated.success, "{}", rotated.stderr);
    assert!(
        rotated.stdout.contains("the next start registers it"),
        "{}",
        rotated.stdout
    );
    let no_such = murmur(&[&["wallet", "rotate", "--peer", "9"][..], &here].concat());
    refused(&no_such, "peer 9 has no keys");
    let after = keys(&home);
    let key = |keys: &Value, place: &str, what: &str| {
        let mut all = keys.as_array().unwrap().iter();
        let found = all.find(|one| one["place"] == place).unwrap();
        found[what].clone()
    };
    assert_eq!(
        key(&before, "peers/1", "address"),
        key(&after, "peers/1", "address")
    );
    assert_ne!(
        key(&before, "peers/1", "iroh_id"),
        key(&after, "peers/1", "iroh_id")
    );
    // The chain has the new key after the next start, and the reputation goes on.
    assert!(murmur(&[&RUN[..], &here].concat()).success);
    let address = key(&after, "peers/1", "address");
    let standings = top();
    let standing = standings
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["address"] == address);
    let standing = standing.unwrap();
    assert_eq!(
        standing["peer"],
        key(&after, "peers/1", "iroh_id"),
        "{standings:#}"
    );
    assert_eq!(standing["rounds"], 2, "{standings:#}");

    let secret = [("MURMUR_PASSPHRASE", "a long passphrase")];
    let kept = murmur_with(&[&["wallet", "backup", &file][..], &here].concat(), &secret);
    assert!(kept.success, "{}", kept.stderr);
    let text = std::fs::read_to_string(&file).unwrap();
    let plain = std::fs::read_to_string(folder.path().join("home/peers/0/identity.json")).unwrap();
    let plain: Value = serde_json::from_str(&plain).unwrap();
    for name in ["ethereum", "iroh"] {
        let key = plain[name].as_str().unwrap();
        assert!(!text.contains(key), "{name} is in the clear");
    }
    let restored = murmur(&["wallet", "restore", &file, "--home", &back]);
    assert!(restored.success, "{}", restored.stderr);
    let restored = keys(&back);
    for place in [".", "author", "peers/0", "peers/1"] {
        for what in ["address", "iroh_id"] {
            assert_eq!(
                key(&after, place, what),
                key(&restored, place, what),
                "{place}"
            );
        }
    }
    refused(
        &murmur(&["wallet", "restore", &file, "--home", &home]),
        "holds keys already",
    );
    // They open with that passphrase alone.
    let run = [&RUN[..], &["--home", &back]].concat();
    refused(&murmur(&run), "MURMUR_PASSPHRASE");
    let ended = murmur_with(&run, &[("MURMUR_PASSPHRASE", "another one")]);
    assert!(!ended.success, "{}", ended.stderr);
    let ended = murmur_with(&run, &secret);
    assert!(ended.success, "{}", ended.stderr);
}

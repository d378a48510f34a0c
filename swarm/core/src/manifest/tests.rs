use super::*;

const TEXT: &str = r#"
    rules = 4
    name = "test"
    pace = "eager"

    [stages]
    join_ms = 2000
    open_ms = 5000
    answer_ms = 60000
    critique_ms = 60000
    reveal_ms = 10000
    resolve_ms = 60000
    judge_ms = 10000
    train_ms = 60000
    settle_ms = 60000
    relay_ms = 500
    repeat_ms = 1000

    [[curriculum]]
    env = "add"
    level = 1
    weight = 3

    [[curriculum]]
    env = "sub"
    level = 2
    weight = 1

    [answer]
    size = 8
    own = 4
    common = 2

    [critique]
    groups = 6
    size = 4

    [resolve]
    groups = 2
    size = 8
    read = 3

    [training]
    steps = 1
    per_peer = 3
    answers = { local = 4, external = 4 }
    critiques = { local = 2, external = 2 }
    resolutions = { local = 1, external = 1 }

    [limits]
    peers = 64
    body_bytes = 1048576
    completion_bytes = 2048
    messages = 2000

    [chain]
    chain_id = 31337
    registry = "0x0101010101010101010101010101010101010101"
    ledger = "0x0202020202020202020202020202020202020202"
"#;

fn read(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::from_toml(text, &Registry::builtin())
}

fn refused(from: &str, to: &str) -> String {
    assert!(TEXT.contains(from), "{from}");
    read(&TEXT.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_file_reads_and_its_canonical_bytes_read_back() {
    let manifest = read(TEXT).unwrap();
    assert_eq!(manifest.pace, Pace::Eager);
    assert_eq!(manifest.chain.unwrap().chain_id, 31337);
    let registry = Registry::builtin();
    let back = Manifest::from_canonical(&manifest.canonical(), &registry);
    assert_eq!(back.unwrap(), manifest);
    let mut longer = manifest.canonical();
    longer.push(0);
    let error = Manifest::from_canonical(&longer, &registry);
    assert_eq!(error, Err(ManifestError::Canonical));
}

#[test]
fn the_id_follows_from_the_values_not_from_the_text() {
    let manifest = read(TEXT).unwrap();
    let spaced = read(&format!("# a comment\n{TEXT}")).unwrap();
    assert_eq!(manifest.id(), spaced.id());
    let hash = Registry::builtin().by_name("add").unwrap().manifest().id();
    let by_hash = TEXT.replacen("\"add\"", &format!("\"{}\"", hash.to_hex()), 1);
    assert_eq!(manifest.id(), read(&by_hash).unwrap().id());
    for (from, to) in [
        ("\"test\"", "\"rest\""),
        ("own = 4", "own = 5"),
        ("weight = 3", "weight = 2"),
    ] {
        let changed = read(&TEXT.replacen(from, to, 1)).unwrap();
        assert_ne!(manifest.id(), changed.id(), "{to}");
    }
}

#[test]
fn a_clock_says_when_it_began() {
    let clock = "pace = { clock = { genesis_ms = 1000, length_ms = 60000 } }";
    let manifest = read(&TEXT.replacen("pace = \"eager\"", clock, 1)).unwrap();
    let expected = Pace::Clock {
        genesis_ms: 1000,
        length_ms: 60000,
    };
    assert_eq!(manifest.pace, expected);
}

#[test]
fn an_error_names_the_key() {
    for (from, to, key) in [
        ("per_peer = 3", "per_pear = 3", "per_pear"),
        ("own = 4", "own = \"four\"", "own"),
        ("relay_ms = 500", "", "relay_ms"),
        (
            "rules = 4",
            "rules = 2",
            "rules: this program plays by version 4",
        ),
        (
            "env = \"sub\"",
            "env = \"chess\"",
            "curriculum[1].env: no environment is named \"chess\"",
        ),
        (
            "level = 2",
            "level = 99",
            "curriculum[1].level: must be 1 to",
        ),
        ("weight = 1", "weight = 0", "curriculum[1].weight"),
        (
            "weight = 1",
            "weight = 1\nclimb = { lowest = 1, highest = 9, down = 30, up = 80 }",
            "curriculum[1].climb.highest: must be 1 to 3",
        ),
        (
            "weight = 1",
            "weight = 1\nclimb = { lowest = 1, highest = 3, down = 80, up = 80 }",
            "curriculum[1].climb.down: must be 0 to 79",
        ),
        (
            "pace = \"eager\"",
            "pace = \"eager\"\nauthor = \"me\"",
            "a peer id must be 64 hex digits",
        ),
        ("size = 8", "size = 1", "answer.size: must be 2 to 64, is 1"),
        ("groups = 2", "groups = 7", "resolve.groups: must be 0 to 6"),
        (
            "body_bytes = 1048576",
            "body_bytes = 65536",
            "limits.body_bytes: the answer stage",
        ),
        ("peers = 64", "peers = 65", "limits.peers"),
        ("repeat_ms = 1000", "repeat_ms = 0", "stages.repeat_ms"),
    ] {
        let error = refused(from, to);
        assert!(error.contains(key), "{error:?} does not say {key:?}");
    }
}

#[test]
fn only_a_swarm_that_seals_its_cards_says_so_and_the_others_keep_their_ids() {
    let open = read(TEXT).unwrap();
    let sealed = read(&format!("{TEXT}sealed = true\n")).unwrap();
    assert!(!open.seals_cards() && sealed.seals_cards());
    let bytes = open.canonical();
    assert_eq!(sealed.canonical(), [&bytes[..], &[1]].concat());
    for manifest in [&open, &sealed] {
        assert_eq!(&Manifest::outline(&manifest.canonical()).unwrap(), manifest);
    }
    // What says that cards are open is no canonical form of it.
    for end in [0, 2] {
        let bytes = [&bytes[..], &[end]].concat();
        assert_eq!(Manifest::outline(&bytes), Err(ManifestError::Canonical));
    }
    let error = read(&format!("{TEXT}sealed = 1\n")).unwrap_err();
    assert!(error.to_string().contains("sealed"), "{error}");
}

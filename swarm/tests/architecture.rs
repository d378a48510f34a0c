//! Who knows whom: the dependency direction of the workspace is a test.
//!
//! ```text
//! tasks <- rewards <- swarm-core <- { rollup, tui } <- swarm -> policy
//! ```

use std::collections::BTreeSet;
use std::process::Command;

/// What each crate may depend on, directly, of the others.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("tasks", &[]),
    ("rewards", &["tasks"]),
    ("swarm-core", &["tasks", "rewards"]),
    ("policy", &[]),
    ("rollup", &["swarm-core"]),
    ("tui", &["swarm-core"]),
    (
        "swarm",
        &["tasks", "rewards", "swarm-core", "policy", "rollup", "tui"],
    ),
];

/// What the pure crates must not have anywhere below them: runtimes, networks,
/// models, chains, screens, clocks and sources of randomness.
const SHELLS: [&str; 12] = [
    "tokio",
    "iroh",
    "candle-core",
    "alloy",
    "ratatui",
    "crossterm",
    "reqwest",
    "getrandom",
    "chrono",
    "time",
    "mio",
    "rayon",
];

/// Everything below a crate as it is built alone: names of packages, itself
/// included; not what only builds or tests need. Built with the whole
/// workspace, features of others would show as its own.
fn below(name: &str, depth: Option<usize>) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args([
            "tree",
            "--package",
            name,
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--locked", "--offline", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(depth) = depth {
        command.args(["--depth", &depth.to_string()]);
    }
    let output = command.output().expect("cargo runs, it runs this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn crates_depend_in_one_direction() {
    for (name, allowed) in ALLOWED {
        let known = below(name, Some(1));
        assert!(
            known.contains(name),
            "the tree of {name} was not read: {known:?}"
        );
        let extra: Vec<_> = ALLOWED
            .iter()
            .map(|(member, _)| *member)
            .filter(|member| *member != name && known.contains(*member))
            .filter(|member| !allowed.contains(member))
            .collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}");
    }
}

#[test]
fn the_pure_crates_know_no_shell() {
    for name in ["tasks", "rewards", "swarm-core"] {
        let below = below(name, None);
        assert!(below.contains("serde"), "the tree of {name} was not read");
        let found: Vec<_> = SHELLS
            .iter()
            .filter(|shell| below.contains(**shell))
            .collect();
        assert!(found.is_empty(), "{name} has {found:?} below it");
    }
}

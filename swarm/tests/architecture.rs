//! Who knows whom: the dependency direction of the workspace is a test.
//!
//! ```text
//! tasks <- rewards <- swarm-core <- { rollup, tui } <- swarm -> policy
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

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

/// The normal (not build, not test) dependencies of every package, by name.
fn graph() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, it runs this test");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().expect("nodes") {
        let below = graph.entry(names[&text(&node["id"])].clone()).or_default();
        for dependency in node["deps"].as_array().expect("deps") {
            let normal = dependency["dep_kinds"]
                .as_array()
                .expect("dep_kinds")
                .iter()
                .any(|kind| kind["kind"].is_null());
            if normal {
                below.insert(names[&text(&dependency["pkg"])].clone());
            }
        }
    }
    graph
}

fn everything_below(graph: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(next) = open.pop() {
        for below in graph.get(&next).into_iter().flatten() {
            if found.insert(below.clone()) {
                open.push(below.clone());
            }
        }
    }
    found
}

#[test]
fn crates_depend_in_one_direction() {
    let graph = graph();
    let members: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in ALLOWED {
        let known: BTreeSet<&str> = graph[name]
            .iter()
            .map(String::as_str)
            .filter(|below| members.contains(below))
            .collect();
        let extra: Vec<_> = known
            .iter()
            .filter(|below| !allowed.contains(*below))
            .collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}");
    }
}

#[test]
fn the_pure_crates_know_no_shell() {
    let graph = graph();
    for name in ["tasks", "rewards", "swarm-core"] {
        let below = everything_below(&graph, name);
        assert!(below.contains("serde"), "the graph of {name} was not read");
        let found: Vec<_> = SHELLS
            .iter()
            .filter(|shell| below.contains(**shell))
            .collect();
        assert!(found.is_empty(), "{name} has {found:?} below it");
    }
}

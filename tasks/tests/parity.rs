//! The library against reasoning-gym 0.1.25: the items and scores that
//! `parity/export.py` wrote, without Python. `--nocapture` prints how many of each agree.

use std::collections::BTreeMap;

use serde::Deserialize;
use tasks::{Item, library::Upstream};

#[derive(Deserialize)]
struct Golden {
    version: String,
    seed: u64,
    /// Whether upstream's own answers can be compared by their text.
    answers: bool,
    runs: Vec<Run>,
    items: Vec<Full>,
}

/// Many items, three bytes of a hash each; dashes where upstream fails.
#[derive(Deserialize)]
struct Run {
    step: u8,
    hashes: String,
}

/// An item in full, and the scores of several answers.
#[derive(Deserialize)]
struct Full {
    step: u8,
    index: u64,
    question: String,
    answer: String,
    facts: BTreeMap<String, String>,
    scores: Vec<(String, u32)>,
}

fn golden(task: &Upstream) -> Golden {
    let name = task.name();
    let path = format!("{}/tests/parity/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What the scorers know of an item: all but the name of its task.
fn facts(item: &Item) -> BTreeMap<String, String> {
    item.metadata
        .iter()
        .filter(|(name, _)| *name != "task")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn digest(item: &Item, answers: bool) -> String {
    let answer = if answers { item.reference.as_str() } else { "" };
    let mut parts = vec![item.question.clone(), answer.to_owned()];
    parts.extend(
        facts(item)
            .iter()
            .map(|(key, value)| format!("{key}={value}")),
    );
    blake3::hash(parts.join("\0").as_bytes()).to_hex()[..6].to_owned()
}

#[test]
fn every_item_is_upstreams() {
    let mut wrong = Vec::new();
    for task in Upstream::all() {
        let golden = golden(&task);
        assert_eq!(golden.version, "0.1.25");
        for full in &golden.items {
            let Some(item) = task.item(full.step, golden.seed, full.index) else {
                wrong.push(format!(
                    "{} {} {}: none",
                    task.name(),
                    full.step,
                    full.index
                ));
                continue;
            };
            let same = item.question == full.question
                && facts(&item) == full.facts
                && (!golden.answers || item.reference == full.answer);
            if !same {
                wrong.push(format!(
                    "{} step {} index {}:\n{}\n{}\n{:?}\n---- upstream\n{}\n{}\n{:?}",
                    task.name(),
                    full.step,
                    full.index,
                    item.question,
                    item.reference,
                    facts(&item),
                    full.question,
                    full.answer,
                    full.facts
                ));
                break;
            }
        }
        let (mut same, mut count) = (0, 0);
        for run in &golden.runs {
            for (index, hash) in run.hashes.as_bytes().chunks(6).enumerate() {
                let item = task.item(run.step, golden.seed, index as u64);
                let ours = item.map_or("------".to_owned(), |item| digest(&item, golden.answers));
                count += 1;
                if ours.as_bytes() == hash {
                    same += 1;
                } else if count - same <= 2 {
                    wrong.push(format!("{} step {} index {index}", task.name(), run.step));
                }
            }
        }
        println!("{:24} {same} of {count} items", task.name());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_score_is_upstreams() {
    let mut wrong = Vec::new();
    for task in Upstream::all() {
        let golden = golden(&task);
        let (mut same, mut count) = (0, 0);
        for full in &golden.items {
            let Some(item) = task.item(full.step, golden.seed, full.index) else {
                continue;
            };
            for (answer, score) in &full.scores {
                let ours = task.score_answer(&item, answer).0;
                count += 1;
                if ours == *score {
                    same += 1;
                } else if count - same <= 3 {
                    wrong.push(format!(
                        "{}: {answer:?} for {:?} is worth {ours}, upstream {score}",
                        task.name(),
                        full.answer
                    ));
                }
            }
        }
        println!("{:24} {same} of {count} scores", task.name());
        assert!(count > 0);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

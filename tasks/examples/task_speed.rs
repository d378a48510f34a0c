//! Items and scores a CPU-second of every library task, as JSON, to be set
//! beside what `parity/speed.py` finds for reasoning-gym itself:
//!
//! ```sh
//! cargo run --release -p tasks --example task_speed > native.json
//! /tmp/venv-rg/bin/python tasks/parity/speed.py --against native.json
//! ```
//!
//! Both make the same items (upstream's default configuration) and score the
//! same answers. Of the same items most of the time goes into seeding Python's
//! generator, which both must; `ours` is the default setting, which need not, at
//! level 3, which is about as hard as upstream's configuration.

use std::{collections::BTreeMap, hint::black_box, time::Instant};

use tasks::{Registry, Seed, library::Upstream};

/// CPU-seconds for each figure.
const SPENT: f64 = 0.2;

/// The CPU time of this thread, or the time of day where it is not known.
fn seconds(start: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or_else(|| start.elapsed().as_secs_f64(), |nanos| nanos as f64 / 1e9)
}

/// How often something can be done a second.
fn rate(mut work: impl FnMut(u64)) -> f64 {
    // What is made once (word lists, templates) is not part of it.
    work(0);
    let clock = Instant::now();
    let start = seconds(clock);
    let (mut done, mut batch) = (0, 1);
    loop {
        for index in done..done + batch {
            work(index);
        }
        done += batch;
        let spent = seconds(clock) - start;
        if spent > SPENT {
            return (done as f64 / spent).round();
        }
        batch = batch.saturating_mul(2).min(1_000);
    }
}

fn main() {
    let library = Registry::library();
    let mut report = BTreeMap::new();
    for task in Upstream::all() {
        let items: Vec<_> = (0..50).filter_map(|index| task.item(0, 0, index)).collect();
        let native = rate(|index| drop(black_box(task.item(0, 0, index % 400))));
        let scores = rate(|index| {
            let item = &items[index as usize % items.len()];
            let other = &items[(index as usize + 1) % items.len()].reference;
            let answer = [item.reference.as_str(), other, "7"][index as usize % 3];
            black_box(task.score_answer(item, answer));
        });
        let ours = library.by_name(task.name()).map_or(0.0, |environment| {
            rate(|index| {
                let seed = Seed::derive(&[b"speed", &index.to_le_bytes()]);
                drop(black_box(environment.draw(&seed, 3)));
            })
        });
        let figures = BTreeMap::from([("items", native), ("scores", scores), ("ours", ours)]);
        report.insert(task.name(), figures);
    }
    println!("{}", serde_json::json!(report));
}

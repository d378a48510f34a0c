//! What a swarm is asked changes while it runs: levels by what was measured,
//! the curriculum by its author's word, in several processes and without a
//! restart.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::packages::{follow_the_guide, murmur_in};
use crate::support::{self, Murmur, murmur};

const PROFILE: &str = include_str!("../../../assets/profiles/local.toml");

/// Levels that rise as soon as a quarter of the answers is right.
const CLIMBING: &str = r#"
[[curriculum]]
env = "add"
level = 1
weight = 1
climb = { lowest = 1, highest = 3, down = 0, up = 25 }

[[curriculum]]
env = "sub"
level = 1
weight = 1
climb = { lowest = 1, highest = 3, down = 0, up = 25 }
"#;

fn events(home: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(Path::new(home).join("events.jsonl")).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    let is = |event: &&Value| event["type"] == kind;
    events.iter().filter(is).collect()
}

#[test]
fn levels_move_and_the_author_changes_the_curriculum_while_strangers_train() {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (author, one, other) = (home("author"), home("b"), home("c"));
    let head = &PROFILE[..PROFILE.find("[[curriculum]]").unwrap()];
    let manifest = folder.path().join("swarm.toml");
    std::fs::write(&manifest, format!("{head}{CLIMBING}")).unwrap();
    let common = ["run", "--headless", "--eval-items", "1", "--home"];
    let made = ["--peers", "2", "--manifest", manifest.to_str().unwrap()];
    let first = Murmur::start(&[&common[..], &[author.as_str()], &made].concat());
    first.wait_for("join with:");
    let ticket = std::fs::read_to_string(folder.path().join("author/ticket.txt")).unwrap();
    let join = |home: &str| {
        let joined = ["--peers", "1", "--join", &ticket];
        Murmur::start(&[&common[..], &[home], &joined].concat())
    };
    let others = [join(&one), join(&other)];
    let all = || others.iter().chain([&first]);
    for process in all() {
        process.wait_until(|log| support::last_settled(log) >= 3);
    }

    // Written, published and asked while everyone trains on something else.
    let hash = follow_the_guide(folder.path(), &author);
    let changed = folder.path().join("changed.toml");
    let dice = format!("[[curriculum]]\nenv = \"{hash}\"\nlevel = 1\nweight = 3\n\n");
    let add = "[[curriculum]]\nenv = \"add\"\nlevel = 2\nweight = 1\n";
    std::fs::write(&changed, format!("{dice}{add}")).unwrap();
    let set = |home: &str, more: &[&str]| {
        let args = ["curriculum", "set", "changed.toml", "--home", home];
        murmur_in(folder.path(), &[&args[..], more].concat())
    };
    let stranger = set(&one, &[]);
    assert!(
        stranger.stderr.contains("no environment") || stranger.stderr.contains("author"),
        "{}",
        stranger.stderr
    );
    let late = set(&author, &["--from", "1"]);
    assert!(late.stderr.contains("has begun already"), "{}", late.stderr);
    let done = set(&author, &[]);
    assert!(done.success, "{}", done.stderr);
    let from: u64 = done
        .stdout
        .split_once("from round ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{}", done.stdout));
    for process in &others {
        process.wait_for(&format!("environment {hash} (dice) is here now"));
    }
    for process in all() {
        process.wait_until(|log| support::last_settled(log) >= from + 2);
    }
    // Who comes now was never told of it by the author.
    let newcomer = home("d");
    let last = join(&newcomer);
    last.wait_for(&format!("environment {hash} (dice) is here now"));
    let target = first.last_settled() + 3;
    for process in all().chain([&last]) {
        process.wait_until(|log| support::last_settled(log) >= target);
    }

    let verified = murmur(&["rep", "verify", "--all", "--home", &author]);
    assert!(verified.success, "{}{}", verified.stdout, verified.stderr);
    assert!(
        verified.stdout.contains("bodies agree"),
        "{}",
        verified.stdout
    );
    let shown = murmur(&["curriculum", "show", "--home", &newcomer]);
    assert!(
        shown.stdout.contains("amendment 1: 2 courses"),
        "{}",
        shown.stdout
    );

    let processes: Vec<Murmur> = others.into_iter().chain([first, last]).collect();
    for process in processes {
        let ended = process.stop();
        assert!(ended.success, "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    for home in [&author, &one, &other] {
        let events = events(home);
        let asked = of(&events, "curriculum");
        let moved = asked.iter().filter(|asked| {
            let mut courses = asked["courses"].as_array().unwrap().iter();
            courses.any(|course| course["from"].is_u64())
        });
        assert!(moved.count() > 0, "no level moved in {home}");
        let amended = asked.iter().find(|asked| asked["amended"] == true);
        assert_eq!(amended.unwrap()["round"], from, "{home}");
        let after: BTreeSet<String> = of(&events, "group_judged")
            .iter()
            .filter(|group| group["round"].as_u64() >= Some(from))
            .map(|group| group["env"].as_str().unwrap().to_owned())
            // A package is shown by its name and a part of its hash.
            .map(|env| env.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(
            after,
            BTreeSet::from(["add".into(), "dice".into()]),
            "{home}"
        );
        let trained = of(&events, "trained");
        assert!(
            trained
                .iter()
                .any(|step| step["round"].as_u64() > Some(from)),
            "{home}"
        );
    }
    // A restart goes on where it stopped: the same amendment, from its own disk.
    let again = murmur(&[&common[..], &[author.as_str(), "--rounds", "2"], &made].concat());
    assert!(again.success, "{}", again.stderr);
    let resumed = events(&author);
    let asked = of(&resumed, "curriculum");
    assert!(
        asked
            .iter()
            .rev()
            .take(2)
            .all(|asked| asked["amendment"] == 1)
    );
}

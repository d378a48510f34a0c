//! Who contributed owns, from the command line: the walk-through of `rollup/OWNERSHIP.md`.
//! The devnet is seeded, so its clock counts blocks and nothing has to be waited for.

use std::path::Path;

use serde_json::Value;

use crate::support::{Ended, murmur};

/// The walk-through's commands, in order, as the document shows them.
fn steps() -> Vec<String> {
    let text = include_str!("../../../rollup/OWNERSHIP.md");
    let lines = text.lines().map(str::trim);
    let steps = lines.filter_map(|line| line.strip_prefix("$ murmur "));
    steps.map(str::to_owned).collect()
}

/// Words, with what is quoted as one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

struct Walk {
    home: String,
    folder: tempfile::TempDir,
}

impl Walk {
    fn murmur(&self, line: &str) -> Ended {
        let mut args = words(line);
        for arg in &mut args {
            if arg == "harder.toml" {
                *arg = self
                    .folder
                    .path()
                    .join("harder.toml")
                    .to_str()
                    .unwrap()
                    .to_owned();
            }
        }
        args.extend(["--home".to_owned(), self.home.clone()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        murmur(&args)
    }

    fn done(&self, line: &str) -> String {
        let ended = self.murmur(line);
        assert!(ended.success, "{line}: {}{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    fn refused(&self, line: &str, expected: &str) {
        let ended = self.murmur(line);
        assert!(!ended.success, "{line}: {}", ended.stdout);
        assert!(
            ended.stderr.contains(expected),
            "{line} said: {}",
            ended.stderr
        );
    }

    /// One more block, and so one more second.
    fn tick(&self) {
        self.done("own pay 0.000001");
    }

    fn shown(&self) -> Value {
        serde_json::from_str(&self.done("own --json")).unwrap()
    }
}

#[test]
fn contributors_found_claim_divide_and_vote_as_the_walk_through_says() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home").to_str().unwrap().to_owned();
    let harder = "[[curriculum]]\nenv = \"add\"\nlevel = 2\nweight = 1\n";
    std::fs::write(folder.path().join("harder.toml"), harder).unwrap();
    let walk = Walk { home, folder };
    let run = "run --headless --eval-items 1 --peers 3 --seed 7 --rounds";
    walk.done(&format!("{run} 2"));
    walk.refused("own", "its author founds that with `murmur own found`");

    let steps = steps();
    let step = |begins: &str| -> &str {
        let found = steps.iter().find(|step| step.starts_with(begins));
        found.unwrap_or_else(|| panic!("the walk-through has no {begins:?}: {steps:?}"))
    };
    let founded = walk.done(step("own found"));
    assert!(founded.contains("the author keeps no right"), "{founded}");
    // Once: a second founding finds the first, and other terms are too late.
    assert_eq!(walk.done(step("own found")), founded);
    walk.refused("own found --epoch-rounds 9", "can be founded once");

    let claimed = walk.done(step("own claim"));
    assert_eq!(claimed.matches("minted in block").count(), 3, "{claimed}");
    assert!(walk.done(step("own claim")).contains("nothing to claim"));
    let own = walk.shown();
    assert_eq!(own["epochs_over"], 1, "{own:#}");
    let holders = own["holders"].as_array().unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
    let sum: f64 = holders.iter().map(|one| number(&one["shares"])).sum();
    assert!(
        sum > 0.0 && (sum - number(&own["supply"])).abs() < 1e-9,
        "{own:#}"
    );
    for holder in holders {
        assert_eq!(holder["shares"], holder["votes"], "{own:#}");
    }

    walk.refused("own pay much", "no amount of ether");
    walk.refused("own pay 0", "pay something");
    walk.done(step("own pay"));
    let due: f64 = walk.shown()["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| number(&one["to_collect"]))
        .sum();
    // All of it but what rounding leaves.
    assert!((due - 3.0).abs() < 1e-9, "{due}");
    assert!(walk.done(step("own collect")).contains("payment 0"));
    assert!(
        walk.done(step("own collect"))
            .contains("nothing to collect")
    );

    let proposed = walk.done(step("own propose"));
    assert!(
        proposed.starts_with("proposal 1: curriculum "),
        "{proposed}"
    );
    walk.refused("own vote 2 yes", "there is no proposal 2");
    walk.refused("own vote 1 yes", "voting begins");
    walk.tick();
    let votes = [
        step("own vote 1 yes --peer 0"),
        step("own vote 1 yes --peer 1"),
        step("own vote 1 no"),
    ];
    for vote in votes {
        assert!(walk.done(vote).contains("voted with 0."), "{vote}");
    }
    walk.refused("own vote 1 no --peer 0", "has voted on proposal 1");
    while walk.shown()["proposals"][0]["state"] == "active" {
        walk.tick();
    }
    let queued = walk.done(step("own advance 1"));
    assert!(queued.contains("queued"), "{queued}");
    walk.tick();
    let carried = walk.done(step("own advance 1"));
    assert!(
        carried.contains("carried out in block") && carried.contains("amendment 1: 1 courses"),
        "{carried}"
    );
    assert!(walk.done("own advance 1").contains("in force: amendment 1"));
    assert_eq!(walk.shown()["proposals"][0]["state"], "executed");

    // The swarm asks what was decided, under the id it had.
    walk.done(&format!("{run} 5"));
    let asked: Value = serde_json::from_str(&walk.done("curriculum show --json")).unwrap();
    let asked = &asked["asked"];
    assert_eq!(
        (&asked["amendment"], &asked["courses"][0]["level"]),
        (&1.into(), &2.into())
    );
    assert_eq!(asked["courses"].as_array().unwrap().len(), 1, "{asked:#}");
    let swarm: Value = serde_json::from_str(&walk.done("rep swarm --json")).unwrap();
    assert_eq!(swarm["rounds"]["settled"], 7, "{swarm:#}");

    // Elsewhere there is no author's key.
    let author = Path::new(&walk.home).join("author");
    std::fs::rename(&author, walk.folder.path().join("kept")).unwrap();
    walk.refused("own found", "go where the swarm was made");
}

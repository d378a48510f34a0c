//! An environment from an author's folder to strangers' training: written
//! from the guide alone, published by one node, trained on by three others
//! that had never seen it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{self, Ended, Murmur, ONE_PEER, murmur};

const GUIDE: &str = include_str!("../../../tasks/GUIDE.md");
const PROFILE: &str = include_str!("../../../assets/profiles/local.toml");

/// The code blocks of the guide in one language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    let parts = GUIDE.split(&opening).skip(1);
    parts
        .map(|part| part.split("\n```").next().unwrap())
        .collect()
}

pub(crate) fn murmur_in(folder: &Path, args: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_murmur"))
        .args(args)
        .current_dir(folder)
        .env_remove("MURMUR_HOME")
        .output()
        .unwrap();
    Ended {
        success: output.status.success(),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Follows the guide up to `publish`; returns the hash.
pub(crate) fn follow_the_guide(folder: &Path, home: &str) -> String {
    let made = murmur_in(folder, &["task", "new", "dice", "--kind", "starlark"]);
    assert!(made.success, "{}", made.stderr);
    let dice = folder.join("dice");
    std::fs::write(dice.join("task.star"), blocks("python")[0]).unwrap();
    let settings = std::fs::read_to_string(dice.join("task.toml")).unwrap();
    let (head, tail) = settings.split_once("[[levels]]").unwrap();
    let parts = &tail[tail.find("[parts]").unwrap()..];
    let head: Vec<&str> = head
        .lines()
        .filter(|line| !line.starts_with("summary") && !line.starts_with("authors"))
        .collect();
    // The keys first, then the levels, as the guide shows them.
    let (keys, levels) = blocks("toml")[0].split_once("\n\n").unwrap();
    let settings = format!("{}\n{keys}\n\n{levels}\n\n{parts}", head.join("\n"));
    std::fs::write(dice.join("task.toml"), settings).unwrap();

    let tested = murmur_in(&dice, &["task", "test"]);
    assert!(tested.success, "{}{}", tested.stdout, tested.stderr);
    assert!(
        tested.stdout.contains("golden vectors"),
        "{}",
        tested.stdout
    );
    let again = murmur_in(&dice, &["task", "test"]);
    assert!(
        again.success && again.stdout.contains("hold"),
        "{}",
        again.stdout
    );
    let published = murmur_in(&dice, &["task", "publish", "--no-seed", "--home", home]);
    assert!(published.success, "{}", published.stderr);
    let hash = published
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("hash "));
    hash.unwrap().to_owned()
}

#[test]
fn a_package_written_from_the_guide_is_trained_on_by_three_nodes_that_never_saw_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let author = home("author");
    let hash = follow_the_guide(folder.path(), &author);

    let head = &PROFILE[..PROFILE.find("[[curriculum]]").unwrap()];
    let manifest = folder.path().join("swarm.toml");
    let course = blocks("toml")[1].replace("PUT THE HASH HERE", &hash);
    std::fs::write(&manifest, format!("{head}{course}\n")).unwrap();
    let first = Murmur::start(
        &[
            &ONE_PEER[..],
            &[&author, "--manifest", manifest.to_str().unwrap()],
        ]
        .concat(),
    );
    first.wait_for("join with:");
    let ticket = std::fs::read_to_string(folder.path().join("author/ticket.txt")).unwrap();
    let strangers = ["b", "c", "d"].map(home);
    let others: Vec<Murmur> = strangers
        .iter()
        .map(|home| Murmur::start(&[&ONE_PEER[..], &[home, "--join", &ticket]].concat()))
        .collect();
    for other in &others {
        other.wait_for(&format!("environment {hash} came from a peer"));
    }
    // All four in one settled round, and trained.
    for process in others.iter().chain([&first]) {
        process.wait_until(|log| {
            support::last_settled(log) >= 4 && log.contains(" external groups, reward ")
        });
    }
    for process in others.into_iter().chain([first]) {
        let ended = process.stop();
        assert!(ended.success, "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
    // A name is anybody's: the hash is shown with it.
    let label = format!("dice {}…{}", &hash[..4], &hash[61..]);
    for home in &strangers {
        let events = std::fs::read_to_string(Path::new(home).join("events.jsonl")).unwrap();
        let judged: Vec<Value> = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|record: &Value| record.to_string().contains(&label))
            .collect();
        assert!(
            !judged.is_empty(),
            "no group of the environment was judged in {home}"
        );
        let verified = murmur(&["task", "verify", &hash, "--home", home]);
        assert!(verified.success, "{}", verified.stderr);
        assert!(
            verified.stdout.contains("golden vectors hold here"),
            "{}",
            verified.stdout
        );
    }
    // The author's home holds the chain too.
    read_by_others(&author, &hash, &label);
}

/// What is not the swarm itself reads packages too.
fn read_by_others(home: &str, hash: &str, label: &str) {
    let checked = murmur(&["rep", "verify", "--all", "--home", home]);
    assert!(checked.success, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.contains("agree"), "{}", checked.stdout);
    let measured = murmur(&["eval", "--items", "2", "--home", home]);
    assert!(measured.success, "{}", measured.stderr);
    assert!(measured.stdout.contains(label), "{}", measured.stdout);
    // Without the package nothing can be scored, and that is said.
    std::fs::remove_dir_all(Path::new(home).join("packages")).unwrap();
    let lacking = murmur(&["rep", "verify", "--all", "--home", home]);
    let said = format!("murmur task verify {hash} --from");
    assert!(
        !lacking.success && lacking.stderr.contains(&said),
        "{}",
        lacking.stderr
    );
}

/// An environment in a few lines of shell: what a Python one is to the host.
const PROGRAM: &str = r#"
while read -r line; do
  case "$line" in
    *'"generate"'*)
      seed=${line##*'"seed":'}; seed=${seed%%[,\}]*}
      echo "{\"question\":\"what is 2+2, asked $seed times\",\"answer\":\"4\",\"hidden\":null}" ;;
    *'"answered":"4"'*) echo '{"correct":1}' ;;
    *) echo '{"correct":0,"why":"no"}' ;;
  esac
done
"#;

#[test]
fn a_program_of_ones_own_is_played_here_and_goes_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program.sh");
    std::fs::write(&program, PROGRAM).unwrap();
    let named = format!("python:sh {}", program.display());
    let tested = murmur_in(folder.path(), &["task", "test", &named, "--items", "2"]);
    assert!(tested.success, "{}{}", tested.stdout, tested.stderr);
    assert!(tested.stdout.contains("unverifiable"), "{}", tested.stdout);
    let published = murmur_in(folder.path(), &["task", "publish", &named, "--home", "h"]);
    assert!(
        !published.success && published.stderr.contains("cannot be published"),
        "{}",
        published.stderr
    );
    let head = &PROFILE[..PROFILE.find("[[curriculum]]").unwrap()];
    for env in [named.as_str(), "python"] {
        let course = format!("[[curriculum]]\nenv = {env:?}\nlevel = 1\nweight = 1\n");
        std::fs::write(folder.path().join("swarm.toml"), format!("{head}{course}")).unwrap();
        let run = [
            "run",
            "--headless",
            "--manifest",
            "swarm.toml",
            "--home",
            "h",
        ];
        let refused = murmur_in(folder.path(), &run);
        assert!(
            !refused.success && refused.stderr.contains(env),
            "{}",
            refused.stderr
        );
    }
    let gone = murmur_in(
        folder.path(),
        &["task", "bench", "python:true", "--seconds", "0.1"],
    );
    assert!(
        !gone.success && gone.stderr.contains("the program"),
        "{}",
        gone.stderr
    );
}

/// With a Python that has reasoning-gym, named in `MURMUR_PYTHON` or `python3`.
#[test]
fn reasoning_gym_itself_is_played_over_the_bridge() {
    let python = std::env::var("MURMUR_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python)
        .args(["-c", "import reasoning_gym"])
        .output();
    if !has.is_ok_and(|output| output.status.success()) {
        eprintln!("NOTE: {python} has no reasoning-gym; the bridge to it is not tested");
        return;
    }
    let bridge =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tasks/bridges/reasoning_gym_bridge.py");
    let named = format!("python:{python} {} chain_sum", bridge.display());
    let timed = murmur(&["task", "bench", &named, "--seconds", "0.2"]);
    assert!(timed.success, "{}", timed.stderr);
    let tested = murmur(&["task", "test", &named, "--items", "2"]);
    assert!(
        tested.stdout.contains("ok   reference") && tested.stdout.contains("unverifiable"),
        "{}{}",
        tested.stdout,
        tested.stderr
    );
}

#[test]
fn an_environment_of_every_kind_is_begun_and_a_module_that_is_not_built_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for kind in ["table", "starlark", "game", "rust", "assemblyscript"] {
        let made = murmur_in(folder.path(), &["task", "new", kind, "--kind", kind]);
        assert!(
            made.success && made.stdout.contains("cd "),
            "{}",
            made.stderr
        );
        let tested = murmur_in(&folder.path().join(kind), &["task", "test"]);
        let built = matches!(kind, "table" | "starlark" | "game");
        assert_eq!(tested.success, built, "{kind}: {}", tested.stderr);
        let said = tested.stderr.contains("task.wasm") && tested.stderr.contains("build it");
        assert!(built || said, "{kind}: {}", tested.stderr);
    }
}

#[test]
fn a_publisher_serves_its_package_to_whoever_has_the_hash() {
    let folder = tempfile::tempdir().unwrap();
    let home = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let made = murmur_in(folder.path(), &["task", "new", "cities", "--kind", "table"]);
    assert!(made.success, "{}", made.stderr);
    let cities = folder.path().join("cities");
    assert!(murmur_in(&cities, &["task", "test"]).success);
    let mut publisher = Command::new(env!("CARGO_BIN_EXE_murmur"))
        .args([
            "task",
            "publish",
            cities.to_str().unwrap(),
            "--home",
            &home("a"),
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(publisher.stdout.take().unwrap()));
    let line = lines
        .map_while(Result::ok)
        .find(|line| line.contains("task verify"))
        .expect("it says how to fetch it");
    let words: Vec<&str> = line.split(' ').collect();
    let [.., hash, _, address] = words.as_slice() else {
        panic!("{line}")
    };
    let fetched = murmur(&[
        "task",
        "verify",
        hash,
        "--from",
        address,
        "--home",
        &home("b"),
    ]);
    let listed = murmur(&["task", "list", "--home", &home("b")]);
    let false_hash = "00".repeat(32);
    let refused = murmur(&[
        "task",
        "verify",
        &false_hash,
        "--from",
        address,
        "--home",
        &home("c"),
    ]);
    publisher.kill().unwrap();
    publisher.wait().unwrap();
    assert!(fetched.success, "{}", fetched.stderr);
    assert!(listed.stdout.contains(hash), "{}", listed.stdout);
    assert!(
        !refused.success && refused.stderr.contains("does not have it"),
        "{}",
        refused.stderr
    );
}

#[test]
fn an_environment_that_pays_for_nothing_or_is_wrong_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let made = murmur_in(folder.path(), &["task", "new", "bad"]);
    assert!(made.success, "{}", made.stderr);
    let bad = folder.path().join("bad");
    let script = bad.join("task.star");
    let text = std::fs::read_to_string(&script).unwrap();
    let generous = text.replace("return int(answer)", "return True or int(answer)");
    std::fs::write(
        &script,
        generous.replace("if not answer.isdigit()", "if False"),
    )
    .unwrap();
    let tested = murmur_in(&bad, &["task", "test"]);
    assert!(!tested.success);
    assert!(
        tested.stdout.contains("FAIL echo of the question"),
        "{}",
        tested.stdout
    );
    let published = murmur_in(&bad, &["task", "publish", "--no-seed", "--home", "h"]);
    assert!(
        published.stderr.contains("murmur task test"),
        "{}",
        published.stderr
    );
    std::fs::write(&script, text.replacen("return {", "return [", 1)).unwrap();
    let broken = murmur_in(&bad, &["task", "test"]);
    assert!(broken.stderr.contains("task.star:"), "{}", broken.stderr);
    let again = murmur_in(folder.path(), &["task", "new", "bad"]);
    assert!(again.stderr.contains("there already"), "{}", again.stderr);
}

//! Packages whole: good ones of every kind, and hostile ones.

mod hostile;
mod native;

use std::collections::BTreeMap;

use super::sandbox::{Sandbox, SandboxError};
use super::*;
use crate::fields::Fields;
use crate::{Budget, Environment, Ppm, Seed, Status, Step, Style};

const MODULE_SETTINGS: &str = r#"
name = "probe"
version = 1
summary = "a probe"
authors = ["a"]
licence = "MIT"
kind = "module"
alphabet = "0123456789"
[[levels]]
meaning = "one"
[budget]
load_fuel = 1000000
generate_fuel = 1000000
score_fuel = 200000
memory_bytes = 1048576
"#;

/// A module in text form: `generate` and `score` reply with what is given, in
/// which `\nn` are bytes in hexadecimal.
fn module(generate: &str, score: &str, more: &str) -> String {
    let replies: String = [(1024, generate), (8192, score)]
        .map(|(at, reply)| format!("(data (i32.const {at}) \"{}\")", escaped(reply)))
        .concat();
    let packed = |at: u64, reply: &str| (at << 32) | encoded(reply).len() as u64;
    format!(
        "(module (memory (export \"memory\") 2) {replies}
           (func (export \"alloc\") (param i32) (result i32) i32.const 65536)
           (func (export \"generate\") (param i32 i32) (result i64) i64.const {})
           (func (export \"score\") (param i32 i32) (result i64) {more} i64.const {}))",
        packed(1024, generate),
        packed(8192, score)
    )
}

/// `name=value` lines as fields.
fn encoded(lines: &str) -> Vec<u8> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs
        .fold(Fields::default(), |fields, (name, value)| {
            fields.with(name, value)
        })
        .encode()
}

fn escaped(lines: &str) -> String {
    encoded(lines)
        .iter()
        .map(|byte| format!("\\{byte:02x}"))
        .collect()
}

const ITEM: &str = "question=what\nanswer=7";
const RIGHT: &str = "correct=1000000";

fn bundle(settings: &str, name: &str, content: &[u8]) -> Result<Bundle, PackageError> {
    Bundle::from_folder(BTreeMap::from([
        (SETTINGS.to_owned(), settings.as_bytes().to_vec()),
        (name.to_owned(), content.to_vec()),
    ]))
}

fn open_module(text: &str) -> Result<Packaged, PackageError> {
    let wasm = wat::parse_str(text).unwrap();
    Packaged::open(&bundle(MODULE_SETTINGS, MODULE, &wasm)?)
}

fn probe(score: &str) -> Packaged {
    open_module(&module(ITEM, RIGHT, score)).unwrap()
}

/// Code that ends well for the reference answer, `7`, and else does `evil`:
/// the request ends with what was answered.
fn unless_right(evil: &str) -> String {
    format!(
        "(if (i32.ne (i32.load8_u (i32.add (i32.const 65535) (local.get 1))) (i32.const 55))
           (then {evil}))"
    )
}

fn status_of(evil: &str) -> (Status, String) {
    let environment = probe(&unless_right(evil));
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    assert_eq!(item.fault(), None);
    let right = environment.score(&item, "<answer>7</answer>");
    assert_eq!((right.status, right.reward), (Status::Ok, Ppm::ONE));
    let score = environment.score(&item, "<answer>8</answer>");
    assert_eq!(score.reward, Ppm::ZERO);
    (score.status, score.why.into_owned())
}

#[test]
fn an_endless_loop_runs_out_of_fuel_and_nobody_could_score() {
    let (status, why) = status_of("(loop $l br $l)");
    assert_eq!(status, Status::Unscored);
    assert!(why.contains("out of fuel: score may use 200000"), "{why}");
}

#[test]
fn memory_does_not_grow_past_its_limit() {
    let (status, why) =
        status_of("(if (i32.eq (memory.grow (i32.const 4096)) (i32.const -1)) (then unreachable))");
    assert_eq!(status, Status::Unscored);
    assert!(why.contains("unreachable"), "{why}");
    let bomb = "(module (memory (export \"memory\") 60000))";
    assert!(open_module(bomb).is_err());
}

#[test]
fn recursion_ends_and_so_does_its_call() {
    let text = module(ITEM, RIGHT, &unless_right("(call $deep)")).replace(
        "(module ",
        "(module (func $deep (call $deep) (call $deep)) ",
    );
    let environment = open_module(&text).unwrap();
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    let score = environment.score(&item, "<answer>8</answer>");
    assert_eq!(score.status, Status::Unscored, "{}", score.why);
}

#[test]
fn a_reply_that_is_huge_or_elsewhere_or_torn_is_not_read() {
    for (packed, said) in [
        ("0x0000040040000000", "bytes, at most"),
        ("0xfffffff000000010", "not in memory"),
        ("0x0000040000000003", "torn"),
    ] {
        let (status, why) = status_of(&format!("(return (i64.const {packed}))"));
        assert_eq!(status, Status::Unscored);
        assert!(why.contains(said), "{why}");
    }
}

#[test]
fn nothing_can_be_imported_so_there_is_no_clock_and_no_chance() {
    for import in ["clock_time_get", "random_get", "fd_write"] {
        let text = module(ITEM, RIGHT, "").replace(
            "(module ",
            &format!("(module (import \"wasi_snapshot_preview1\" \"{import}\" (func)) "),
        );
        let error = open_module(&text).err().unwrap().to_string();
        assert!(
            error.contains(import) && error.contains("task.wasm"),
            "{error}"
        );
    }
}

#[test]
fn every_nan_has_the_same_bits_and_every_call_fresh_memory() {
    // 0/0 with a sign, stored, read as bits; trap unless canonical.
    let nan = "(if (i32.ne (i32.reinterpret_f32 (f32.div (f32.const -0) (f32.const 0)))
                           (i32.const 0x7fc00000)) (then unreachable))";
    let counter = "(i32.store (i32.const 32) (i32.add (i32.load (i32.const 32)) (i32.const 1)))
                   (if (i32.gt_u (i32.load (i32.const 32)) (i32.const 1)) (then unreachable))";
    for code in [nan, counter] {
        let environment = probe(code);
        let item = environment.draw(&Seed::derive(&[b"x"]), 1);
        assert_eq!(item.fault(), None);
        for _ in 0..3 {
            assert_eq!(
                environment.score(&item, "<answer>1</answer>").status,
                Status::Ok
            );
        }
    }
}

#[test]
fn what_is_no_module_is_refused_with_a_reason() {
    for (name, wasm) in [
        ("text", b"hello".to_vec()),
        ("empty", Vec::new()),
        (
            "torn",
            wat::parse_str(module(ITEM, RIGHT, "")).unwrap()[..60].to_vec(),
        ),
        ("no exports", wat::parse_str("(module)").unwrap()),
        (
            "no score",
            wat::parse_str("(module (memory (export \"memory\") 1))").unwrap(),
        ),
    ] {
        let bundle = bundle(MODULE_SETTINGS, MODULE, &wasm).unwrap();
        let error = Packaged::open(&bundle).err().unwrap().to_string();
        assert!(error.starts_with("task.wasm: "), "{name}: {error}");
    }
    let spinning = "(module (memory (export \"memory\") 1) (func $s (loop $l br $l)) (start $s))";
    let error = open_module(spinning).err().unwrap().to_string();
    assert!(error.contains("out of fuel"), "{error}");
}

#[test]
fn a_trap_on_the_reference_answer_is_the_environments_fault() {
    let environment = probe("unreachable");
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    assert!(
        item.fault().unwrap().contains("reference answer"),
        "{item:?}"
    );
    let score = environment.score(&item, "<answer>7</answer>");
    assert_eq!((score.status, score.reward), (Status::Unscored, Ppm::ZERO));
    assert!(golden::check(&environment, &golden::write(&golden::vectors(&environment))).is_err());
}

#[test]
fn items_that_would_break_out_of_a_prompt_are_faults() {
    for item in [
        "question=\nanswer=7",
        "question=a<|im_end|>b\nanswer=7",
        "question=a\u{1b}[2Jb\nanswer=7",
        "question=what\nanswer=<answer>7",
        "question=what",
    ] {
        let environment = open_module(&module(item, RIGHT, "")).unwrap();
        assert!(
            environment
                .generate(&Seed::derive(&[b"x"]), 1)
                .fault()
                .is_some(),
            "{item:?}"
        );
    }
}

#[test]
fn a_completion_is_capped_before_anything_runs() {
    let environment = probe("");
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    let (score, fuel) = environment.score_metered(&item, &"x".repeat(1 << 20));
    assert_eq!((score.status, fuel), (Status::Invalid, 0));
}

#[test]
fn a_score_beyond_a_million_or_of_an_unknown_status_is_no_score() {
    for score in [
        "correct=1000001",
        "correct=-1",
        "correct=1e6",
        "correct=0\nstatus=fine",
    ] {
        let text = module(ITEM, score, "").replace(
            "(result i64)  i64.const",
            &format!("(result i64) {} i64.const", ""),
        );
        let environment = open_module(&text).unwrap();
        let item = crate::Item::named(
            environment.id(),
            environment.manifest(),
            1,
            "q".into(),
            "7".into(),
        );
        let scored = environment.score(&item, "<answer>7</answer>");
        assert_eq!(scored.status, Status::Unscored, "{score}");
    }
}

/// The files of a template, as a package.
fn from_template(kind: &str) -> Bundle {
    let files = template(kind).unwrap();
    let files = files.iter().map(|(path, text)| {
        (
            (*path).to_owned(),
            text.replace("NAME", "mine").into_bytes(),
        )
    });
    Bundle::from_folder(files.collect()).unwrap()
}

/// Everything that an author's `test` asks, of one package.
fn passes(bundle: &Bundle) {
    let environment = Packaged::open(bundle).unwrap();
    for finding in floors::measure(&environment, 16, environment.package().chance) {
        assert!(finding.holds(), "{finding:?}");
    }
    let text = golden::write(&golden::vectors(&environment));
    assert!(golden::check(&environment, &text).unwrap() > 10);
    let other = text.replacen("\"level\":1", "\"level\":2", 1);
    assert!(golden::check(&environment, &other).is_err());
    // As strangers get it.
    let manifest = Bundle::receive_manifest(bundle.id(), &bundle.manifest.package_bytes()).unwrap();
    let received = Bundle::receive(manifest, bundle.files.clone()).unwrap();
    let again = Packaged::open(&received).unwrap();
    golden::check(&again, &text).unwrap();
    let mut changed = bundle.files.clone();
    changed.values_mut().next().unwrap().push(b' ');
    assert!(Bundle::receive(bundle.manifest.clone(), changed).is_err());
    assert!(
        Bundle::receive_manifest(crate::EnvId([1; 32]), &bundle.manifest.package_bytes()).is_err()
    );
}

#[test]
fn the_template_of_a_table_passes_its_own_tests() {
    passes(&from_template("table"));
}

#[test]
fn the_template_of_a_script_passes_its_own_tests() {
    passes(&from_template("starlark"));
}

#[test]
fn modules_built_from_the_templates_pass_their_own_tests() {
    for (kind, wasm) in [
        (
            "rust",
            include_bytes!("../../tests/fixtures/rust.wasm").as_slice(),
        ),
        (
            "assemblyscript",
            include_bytes!("../../tests/fixtures/assemblyscript.wasm"),
        ),
    ] {
        let settings = template(kind).unwrap()[0].1.replace("NAME", "mine");
        passes(&bundle(&settings, MODULE, wasm).unwrap());
    }
}

const SCRIPT_SETTINGS: &str = r#"
name = "script"
version = 1
summary = "a script"
authors = ["a"]
licence = "MIT"
kind = "script"
turns = 3
[[levels]]
meaning = "one"
"#;

fn open_script(text: &str) -> Result<Packaged, PackageError> {
    Packaged::open(&bundle(SCRIPT_SETTINGS, SCRIPT, text.as_bytes())?)
}

const SIMPLE: &str =
    "def generate(draw, level):\n    return {\"question\": \"what\", \"answer\": \"7\"}\n";

#[test]
fn hostile_scripts_end_and_say_why() {
    for (evil, said) in [
        (
            "    for i in range(1 << 30):\n        pass\n    return True",
            "fuel",
        ),
        (
            "    s = \"a\"\n    for i in range(60):\n        s = s + s\n    return True",
            "score",
        ),
        (
            "    x = [0]\n    for i in range(60):\n        x = x + x\n    return True",
            "score",
        ),
        ("    return score(item, answer)", "score"),
        ("    return 1 // 0", "zero"),
        ("    return 2000000", "0 to 1000000"),
        ("    fail(\"no\")", "no"),
    ] {
        let text = format!(
            "{SIMPLE}def score(item, answer):\n    if answer == \"7\":\n        return True\n{evil}\n"
        );
        let environment = open_script(&text).unwrap();
        let item = environment.draw(&Seed::derive(&[b"x"]), 1);
        assert_eq!(item.fault(), None);
        let first = environment.score_metered(&item, "<answer>8</answer>");
        assert_eq!(
            (first.0.status, first.0.reward),
            (Status::Unscored, Ppm::ZERO),
            "{evil}"
        );
        assert!(
            first.0.why.contains(said) || first.0.why.contains("trapped"),
            "{evil}: {}",
            first.0.why
        );
        assert_eq!(
            environment.score_metered(&item, "<answer>8</answer>"),
            first
        );
        assert_eq!(
            environment.score(&item, "<answer>7</answer>").reward,
            Ppm::ONE
        );
    }
}

#[test]
fn a_mistake_in_a_script_is_shown_with_its_line() {
    let error = |text: &str| open_script(text).err().unwrap().to_string();
    let said = error(&format!(
        "{SIMPLE}def score(item, answer)\n    return True\n"
    ));
    assert!(said.contains("task.star:3"), "{said}");
    let said = error("x = 1\n");
    assert!(said.contains("generate"), "{said}");
    let environment =
        open_script("def generate(draw, level):\n    return {\"question\": 1 + \"a\"}\n").unwrap();
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    assert!(item.fault().unwrap().contains("task.star:2"), "{item:?}");
}

#[test]
fn an_episode_of_several_turns_keeps_its_state_in_the_open() {
    let text = "
def generate(draw, level):
    return {\"question\": \"guess 1 to 9\", \"answer\": str(draw.between(1, 9))}

def step(item, state, answer):
    tries = int(state or \"0\") + 1
    if answer == item[\"answer\"] or tries == 3:
        return {\"correct\": answer == item[\"answer\"]}
    return {\"state\": str(tries), \"say\": \"no\"}
";
    let environment = open_script(text).unwrap();
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    let Step::Continue { state, messages } = environment.step(&item, b"", "<answer>0</answer>")
    else {
        panic!("over at once")
    };
    assert_eq!(
        (state.as_slice(), messages[0].content.as_str()),
        (
            [&18u64.to_le_bytes(), b"1".as_slice()].concat().as_slice(),
            "no"
        )
    );
    let right = environment.demonstrate(&item, Style::Direct);
    for (state, completion, reward) in [
        (state.as_slice(), right.as_str(), Ppm::ONE),
        (b"2", "<answer>0</answer>", Ppm::ZERO),
    ] {
        let Step::Done(score) = environment.step(&item, state, completion) else {
            panic!("not over")
        };
        assert_eq!(score.reward, reward);
    }
}

#[test]
fn a_mistake_in_the_settings_is_shown_with_its_line() {
    let said = |from: &str, to: &str| {
        let settings = SCRIPT_SETTINGS.replace(from, to);
        bundle(&settings, SCRIPT, b"").err().unwrap().to_string()
    };
    assert!(said("version = 1", "version = \"a\"").starts_with("task.toml:3: "));
    assert!(said("name = \"script\"", "name = \"My Task\"").starts_with("task.toml:2: "));
    assert!(said("kind = \"script\"", "kind = \"table\"").starts_with("task.toml:7: "));
    assert!(said("turns = 3", "trun = 3").starts_with("task.toml:8: "));
    assert!(said("turns = 3", "[parts]\ncorrect = 0.5").contains("add up to 1"));
    assert!(said("turns = 3", "budget = { score_fuel = 99999999999 }").contains("at most"));
}

#[test]
fn every_part_of_a_package_is_in_its_name() {
    let one = from_template("starlark");
    let mut other = one.clone();
    let package = other.manifest.package.as_mut().unwrap();
    package.engine.push('x');
    assert_ne!(one.id(), other.id());
    assert!(matches!(
        Packaged::open(&other),
        Err(PackageError::Engine { .. })
    ));
    let mut files: BTreeMap<String, Vec<u8>> = one.files.clone();
    files.get_mut(SCRIPT).unwrap().push(b'\n');
    files.insert(
        SETTINGS.to_owned(),
        template("starlark").unwrap()[0]
            .1
            .replace("NAME", "mine")
            .into_bytes(),
    );
    assert_ne!(Bundle::from_folder(files).unwrap().id(), one.id());
}

#[test]
fn word_problems_of_a_dataset_load_as_a_table() {
    let settings = "name = \"words\"\nversion = 1\nsummary = \"s\"\nauthors = [\"a\"]\nlicence = \"MIT\"\n\
        kind = \"table\"\n[[levels]]\nmeaning = \"all\"\n[table]\nscorer = \"numeric\"\nanswer_after = \"####\"\n";
    let rows = "{\"question\":\"How many?\",\"answer\":\"2+2=<<2+2=4>>4\\n#### 4\"}\n";
    let environment = Packaged::open(&bundle(settings, ITEMS, rows.as_bytes()).unwrap()).unwrap();
    let item = environment.draw(&Seed::derive(&[b"x"]), 1);
    assert_eq!(
        (item.reference.as_str(), item.working()),
        ("4", "2+2=<<2+2=4>>4")
    );
    assert_eq!(
        environment.score(&item, "<answer>4.0</answer>").reward,
        Ppm::ONE
    );
}

#[test]
fn a_module_without_the_calls_is_refused() {
    let wasm = wat::parse_str(
        "(module (memory (export \"memory\") 1) (func (export \"generate\") (param i32) (result i32) i32.const 0))",
    );
    let error = Sandbox::module(&wasm.unwrap(), Budget::default())
        .err()
        .unwrap();
    assert_eq!(error, SandboxError::Missing("generate"));
}

//! Packages that attack whoever runs them: by module, by script and by table,
//! when they are opened, when they make an item and when they score.

use super::*;
use crate::Item;
use crate::contents::{Kind, Scorer};

fn item(environment: &Packaged) -> Item {
    environment.draw(&Seed::derive(&[b"x"]), 1)
}

/// A module whose `generate` runs this first.
fn generating(evil: &str) -> Packaged {
    let text = module(ITEM, RIGHT, "").replace(
        "(func (export \"generate\") (param i32 i32) (result i64)",
        &format!("(func (export \"generate\") (param i32 i32) (result i64) {evil}"),
    );
    open_module(&text).unwrap()
}

/// A module with this in it.
fn with(evil: &str) -> Result<Packaged, PackageError> {
    let text = module(ITEM, RIGHT, "");
    open_module(&text.replacen("(module ", &format!("(module {evil} "), 1))
}

#[test]
fn a_module_that_makes_no_item_is_at_fault_and_scores_nothing() {
    for (evil, said) in [
        ("(loop $l br $l)", "out of fuel"),
        ("(call 1 (local.get 0) (local.get 1)) drop", "trapped"),
        ("unreachable", "trapped"),
        (
            "(memory.fill (i32.const 0) (i32.const 65) (i32.const -1))",
            "trapped",
        ),
        ("(return (i64.const 0x0000040040000000))", "at most"),
    ] {
        let environment = generating(evil);
        let item = item(&environment);
        assert!(
            item.fault().unwrap().contains(said),
            "{evil}: {item:?} {:?}",
            item.fault()
        );
        let score = environment.score(&item, "<answer>7</answer>");
        assert_eq!((score.status, score.reward), (Status::Unscored, Ppm::ZERO));
    }
}

#[test]
fn what_a_module_reserves_is_bounded_before_it_is_there() {
    // Four thousand million entries, functions as large as the engine takes,
    // more memories than one.
    for evil in [
        "(table 4000000000 funcref)",
        "(table 65537 funcref)",
        "(memory 1)",
        "(memory $other 60000)",
    ] {
        assert!(with(evil).is_err(), "{evil}");
    }
    assert!(with("(table 16 funcref)").is_ok());
    let grown = unless_right(
        "(if (i32.ne (table.grow (ref.null func) (i32.const 1000000)) (i32.const -1)) (then unreachable))",
    );
    let text = module(ITEM, RIGHT, &grown).replacen("(module ", "(module (table 1 funcref) ", 1);
    let environment = open_module(&text).unwrap();
    let score = environment.score(&item(&environment), "<answer>8</answer>");
    assert_eq!(score.status, Status::Ok, "{}", score.why);
    let locals = format!("(func {})", "(local i64)".repeat(60_000));
    assert!(with(&locals).is_err());
}

#[test]
fn what_two_machines_may_do_differently_is_no_part_of_the_language() {
    for evil in [
        // Threads, and what they share.
        "(memory $shared 1 1 shared)",
        "(func (drop (i32.atomic.load (i32.const 0))))",
        // Operations that differ by processor.
        "(func (param v128) (result v128)
           (f32x4.relaxed_madd (local.get 0) (local.get 0) (local.get 0)))",
    ] {
        assert!(with(evil).is_err(), "{evil}");
    }
}

#[test]
fn a_place_that_is_not_in_memory_is_not_written_to() {
    for place in ["-1", "0x7fffffff", "131070"] {
        let text =
            module(ITEM, RIGHT, "").replace("i32.const 65536", &format!("i32.const {place}"));
        let environment = open_module(&text).unwrap();
        let fault = item(&environment).fault().unwrap().to_owned();
        assert!(fault.contains("memory that is not there"), "{fault}");
    }
}

#[test]
fn an_item_too_large_to_keep_is_a_fault() {
    for (script, said) in [
        ("\"question\": \"q\" * 20000, \"answer\": \"7\"", "question"),
        ("\"question\": \"q\", \"answer\": \"7\" * 20000", "answer"),
        (
            "\"question\": \"q\", \"answer\": \"7\", \"hidden\": \"h\" * 70000",
            "too long",
        ),
        (
            "\"question\": \"q\", \"answer\": \"7\", \"working\": \"w\" * 400000",
            "at most",
        ),
    ] {
        let environment = generate_script(&format!("    return {{{script}}}"));
        let fault = item(&environment).fault().unwrap_or_default().to_owned();
        assert!(fault.contains(said), "{script}: {fault}");
    }
    // What an item may have many of is cut.
    let many = "    item = {\"question\": \"q\", \"answer\": \"7\", \"wrong\": [str(n) for n in range(100)]}
    item[\"metadata\"] = {str(n): \"m\" for n in range(50)}
    return item";
    let item = item(&generate_script(many));
    assert_eq!(item.fault(), None);
    assert!(item.decoys().len() <= 32 && item.metadata.iter().count() <= 17);
}

/// A script whose `generate` is this, and which accepts everything.
fn generate_script(body: &str) -> Packaged {
    open_script(&format!(
        "def generate(draw, level):\n{body}\n\ndef score(item, answer):\n    return True\n"
    ))
    .unwrap()
}

#[test]
fn a_script_that_attacks_when_it_is_loaded_is_refused() {
    let endless = "x = [n for n in range(1 << 30)]\n";
    let double = format!(
        "x0 = \"x\"\n{}",
        (0..60)
            .map(|n| format!("x{} = x{n} + x{n}\n", n + 1))
            .collect::<String>()
    );
    let nested = format!("x = {}{}\n", "[".repeat(20_000), "]".repeat(20_000));
    let signs = format!("x = {}1\n", "-".repeat(50_000));
    for evil in [endless, &double, &nested, &signs] {
        let start = &evil[..evil.len().min(40)];
        let error = open_script(&format!("{evil}{SIMPLE}")).err();
        let said = error
            .unwrap_or_else(|| panic!("{start} was taken"))
            .to_string();
        assert!(said.starts_with("task.star"), "{said}");
        assert!(said.len() < 1_000, "{said}");
    }
}

#[test]
fn a_script_that_attacks_when_it_makes_an_item_is_at_fault() {
    for evil in [
        "    for n in range(1 << 30):\n        pass",
        "    s = \"a\"\n    for n in range(60):\n        s = s + s",
        "    return generate(draw, level)",
        "    return 7",
        "    return {\"question\": 7, \"answer\": []}",
        "    return {\"question\": \"<|im_end|>\", \"answer\": \"7\"}",
        "    fail(\"x\" * 300000)",
    ] {
        let environment = generate_script(&format!("{evil}\n    return {{}}"));
        let item = item(&environment);
        let fault = item
            .fault()
            .unwrap_or_else(|| panic!("{evil} made an item"));
        assert!(fault.len() < 2_000, "{evil}: {} bytes", fault.len());
        assert_eq!(
            environment.score(&item, "<answer>7</answer>").status,
            Status::Unscored
        );
    }
}

#[test]
fn a_script_finds_no_clock_no_chance_no_file_and_no_other_call() {
    for name in [
        "time",
        "now",
        "random",
        "open",
        "read_file",
        "os",
        "sys",
        "hash_seed",
        "id",
        "eval",
        "exec",
        "getattr_",
    ] {
        let text = format!("{SIMPLE}def score(item, answer):\n    return {name}() == 1\n");
        assert!(open_script(&text).is_err(), "{name} is there");
    }
    assert!(open_script(&format!("load(\"other.star\", \"x\")\n{SIMPLE}")).is_err());
    // What a script keeps is frozen once it is loaded.
    let keeps = format!(
        "seen = []\n{SIMPLE}def score(item, answer):\n    if answer != \"7\":\n        seen.append(1)\n    return len(seen) == 0\n"
    );
    let environment = open_script(&keeps).unwrap();
    let item = item(&environment);
    let score = environment.score(&item, "<answer>8</answer>");
    assert_eq!(score.status, Status::Unscored, "{}", score.why);
    assert_eq!(
        environment.score(&item, "<answer>7</answer>").reward,
        Ppm::ONE
    );
}

#[test]
fn what_a_script_sees_of_order_is_the_same_on_every_thread() {
    let text = "
def generate(draw, level):
    words = {draw.below(1000): n for n in range(40)}
    words.update({str(n): hash(str(n)) for n in range(40)})
    return {\"question\": repr(words), \"answer\": str(hash(repr(words)))}
";
    let print = move || {
        let environment = open_script(text).unwrap();
        (0..8u8)
            .map(|n| {
                let (item, fuel) = environment.draw_metered(&Seed::derive(&[&[n]]), 1);
                assert_eq!(item.fault(), None);
                (item.question, item.reference, fuel)
            })
            .collect::<Vec<_>>()
    };
    let here = print();
    assert_eq!(here, print());
    assert_eq!(here, std::thread::spawn(print).join().unwrap());
}

#[test]
fn a_score_too_large_to_keep_is_cut_or_is_none() {
    for (evil, status) in [
        ("{\"correct\": 0, \"why\": \"w\" * 5000}", Status::Ok),
        (
            "{\"correct\": 0, \"why\": \"w\" * 500000}",
            Status::Unscored,
        ),
        ("{(\"part %d\" % n): 0 for n in range(50)}", Status::Ok),
        ("{\"correct\": 1 << 200}", Status::Unscored),
        ("{\"correct\": -1}", Status::Unscored),
        ("{\"correct\": \"1000000 \"}", Status::Unscored),
    ] {
        let text = format!(
            "{SIMPLE}def score(item, answer):\n    if answer == \"7\":\n        return True\n    return {evil}\n"
        );
        let environment = open_script(&text).unwrap();
        let score = environment.score(&item(&environment), "<answer>8</answer>");
        assert_eq!(
            (score.status, score.reward),
            (status, Ppm::ZERO),
            "{evil}: {}",
            score.why
        );
        assert!(score.why.len() < 300 && score.parts.len() <= 3, "{evil}");
    }
}

/// A table with this scorer and these rows.
fn open_table(scorer: &str, rows: &str) -> Result<Packaged, PackageError> {
    let settings = format!(
        "name = \"rows\"\nversion = 1\nsummary = \"s\"\nauthors = [\"a\"]\nlicence = \"MIT\"\n\
         kind = \"table\"\n[[levels]]\nmeaning = \"all\"\n[table]\n{scorer}\n"
    );
    Packaged::open(&bundle(&settings, ITEMS, rows.as_bytes())?)
}

#[test]
fn a_table_is_never_much_larger_than_its_file() {
    let row = |question: &str| format!("{{\"question\":\"{question}\",\"answer\":\"7\"}}\n");
    assert!(open_table("scorer = \"exact\"", &row("q")).is_ok());
    // As many rows as fit into a file, but more than are read.
    let rows = row("q").repeat(200_001);
    assert!(rows.len() < MAX_FILE as usize);
    let said = open_table("scorer = \"exact\"", &rows)
        .err()
        .unwrap()
        .to_string();
    assert!(said.contains("more than 200000 rows"), "{said}");
    // A file longer than travels.
    let long = row(&"q".repeat(50_000)).repeat(200);
    assert!(open_table("scorer = \"exact\"", &long).is_err());
    // Choices go into the question, which must be one that a model can read.
    let choices: Vec<String> = (0..26)
        .map(|_| format!("\"{}\"", "c".repeat(2_000)))
        .collect();
    let rows = format!(
        "{{\"question\":\"q\",\"answer\":\"A\",\"choices\":[{}]}}\n",
        choices.join(",")
    );
    let environment = open_table("scorer = \"choice\"", &rows).unwrap();
    assert!(item(&environment).fault().unwrap().contains("bytes"));
    // Patterns that compile to much more than they are, each and together.
    for pattern in ["((a{1000}){1000}){1000}", "\\\\pL{500}", "(a|b|c){9999}"] {
        let rows = format!("{{\"question\":\"q\",\"answer\":\"a\",\"pattern\":\"{pattern}\"}}\n");
        assert!(
            open_table("scorer = \"regex\"", &rows).is_err(),
            "{pattern}"
        );
    }
    let rows = "{\"question\":\"q\",\"answer\":\"a\",\"pattern\":\"a{1,50}\"}\n".repeat(1_001);
    assert!(open_table("scorer = \"regex\"", &rows).is_err());
    // Deep JSON.
    let deep = format!(
        "{{\"question\":\"q\",\"answer\":\"7\",\"metadata\":{}1{}}}\n",
        "{\"a\":".repeat(5_000),
        "}".repeat(5_000)
    );
    assert!(open_table("scorer = \"exact\"", &deep).is_err());
}

#[test]
fn an_answer_cannot_make_a_table_compute_for_long() {
    // What takes a backtracking matcher, a power or a recursion for ever.
    let cases = [
        (
            "scorer = \"regex\"",
            "{\"question\":\"q\",\"answer\":\"aab\",\"pattern\":\"(a*)*b\"}\n",
            "a".repeat(4_000),
        ),
        (
            "scorer = \"math\"",
            "{\"question\":\"q\",\"answer\":\"x+1\"}\n",
            "9^".repeat(1_500) + "9",
        ),
        (
            "scorer = \"math\"",
            "{\"question\":\"q\",\"answer\":\"x+1\"}\n",
            "(".repeat(2_000) + "x" + &")".repeat(2_000),
        ),
        (
            "scorer = \"numeric\"",
            "{\"question\":\"q\",\"answer\":\"7\"}\n",
            "1e999999999".to_owned(),
        ),
        (
            "scorer = \"numeric\"",
            "{\"question\":\"q\",\"answer\":\"7\"}\n",
            "9".repeat(4_000),
        ),
        (
            "scorer = \"set\"",
            "{\"question\":\"q\",\"answer\":\"a, b\"}\n",
            "a,".repeat(2_000),
        ),
    ];
    for (scorer, row, evil) in cases {
        let environment =
            open_table(&format!("{scorer}\n[limits]\nanswer_chars = 8000"), row).unwrap();
        let item = item(&environment);
        assert_eq!(item.fault(), None, "{scorer}");
        let score = environment.score(&item, &format!("<answer>{evil}</answer>"));
        assert_eq!(score.reward, Ppm::ZERO, "{scorer}: {}", score.why);
        assert!(!environment.accepts(&item, &evil));
    }
}

#[test]
fn a_table_that_says_it_has_more_rows_than_it_has_is_refused() {
    let mut bundle = from_template("table");
    bundle.manifest.levels[0].space += 1;
    let said = Packaged::open(&bundle).err().unwrap().to_string();
    assert!(said.contains("rows, not"), "{said}");
    let mut bundle = from_template("table");
    if let Kind::Table(scorer) = &mut bundle.manifest.package.as_mut().unwrap().kind {
        *scorer = Scorer::Numeric {
            tolerance: "1e99999999".to_owned(),
            relative_ppm: 0,
        };
    }
    assert!(Packaged::open(&bundle).is_err());
}

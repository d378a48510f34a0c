//! Items and scores a CPU-second of the program's environments, and of one task
//! in its three forms. `benches/environments` asks for them and sets
//! reasoning-gym beside.
//!
//! A line of the input is a question, a line of the output its answer, in JSON:
//!
//! ```text
//! {"task":"gcd","step":2}     a library task: step 0 as upstream has it, else our level
//! {"form":"starlark"}         gcd as native code, a wasm module, or a script
//! ```
//!
//! Of our scores also how long one takes: half of them no longer than `p50_us`
//! microseconds by the clock, 99 of 100 no longer than `p99_us`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tasks::library::Upstream;
use tasks::package::{Bundle, MODULE, Packaged, SCRIPT, SETTINGS, template};
use tasks::{Environment, Item, Registry, Seed};

/// CPU-seconds for each figure.
const SPENT: f64 = 0.03;
/// Scores that are timed one by one.
const TIMED: usize = 3_000;
/// Items whose answers are scored.
const SCORED: u64 = 50;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SCRIPT_TEXT: &str = r#"
def gcd(one, other):
    for _ in range(64):
        if other == 0:
            return one
        one, other = other, one % other
    return one

def generate(draw, level):
    left, right = draw.between(1, 1000), draw.between(1, 1000)
    return {"question": "gcd %d %d" % (left, right), "answer": str(gcd(left, right))}

def score(item, answer):
    return answer.isdigit() and int(answer) == int(item["answer"])
"#;

/// The CPU time of this thread, or the time of day where it is not known.
fn seconds(start: Instant) -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or_else(|| start.elapsed().as_secs_f64(), |nanos| nanos as f64 / 1e9)
}

/// How often something can be done a CPU-second.
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
            return done as f64 / spent;
        }
        batch = batch.saturating_mul(2).min(1_000);
    }
}

/// How long one takes that half, and that 99 of 100, do not exceed.
fn percentiles(mut work: impl FnMut(usize)) -> [f64; 2] {
    let mut spent: Vec<f64> = (0..TIMED)
        .map(|index| {
            let start = Instant::now();
            work(index);
            start.elapsed().as_nanos() as f64 / 1e3
        })
        .collect();
    spent.sort_unstable_by(f64::total_cmp);
    [50, 99].map(|percent| spent[TIMED * percent / 100])
}

fn seed(index: u64) -> Seed {
    Seed::derive(&[b"bench", &index.to_le_bytes()])
}

/// Right answers, wrong ones and a bare number, in turn.
fn answer(items: &[Item], index: u64) -> (&Item, &str) {
    let at = index as usize % items.len();
    let other = &items[(at + 1) % items.len()];
    let answers = [items[at].reference.as_str(), &other.reference, "7"];
    (&items[at], answers[index as usize % 3])
}

fn measure(environment: &dyn Environment, level: u8) -> Value {
    let items = rate(|index| drop(black_box(environment.draw(&seed(index), level))));
    let drawn: Vec<Item> = (0..SCORED)
        .map(|index| environment.draw(&seed(index), level))
        .collect();
    let texts: Vec<(&Item, String)> = (0..3 * SCORED)
        .map(|index| answer(&drawn, index))
        .map(|(item, answer)| (item, format!("<answer>{answer}</answer>")))
        .collect();
    let score = |index: usize| {
        let (item, text) = &texts[index % texts.len()];
        black_box(environment.score(item, text));
    };
    let scores = rate(|index| score(index as usize));
    let [half, most] = percentiles(score);
    json!({"items": items, "scores": scores, "p50_us": half, "p99_us": most})
}

/// The same items and scores as upstream's, to the letter.
fn measure_upstream(task: &Upstream) -> Value {
    let items = rate(|index| drop(black_box(task.item(0, 0, index % 400))));
    let drawn: Vec<Item> = (0..SCORED).filter_map(|at| task.item(0, 0, at)).collect();
    let scores = rate(|index| {
        let (item, answer) = answer(&drawn, index);
        black_box(task.score_answer(item, answer));
    });
    json!({"items": items, "scores": scores})
}

fn package(name: &str, content: &[u8]) -> Result<Packaged> {
    let settings = template("rust").ok_or("there is no template")?[0]
        .1
        .replace("NAME", "gcd");
    let kind = if name == SCRIPT { "script" } else { "module" };
    let settings = settings.replace("kind = \"module\"", &format!("kind = \"{kind}\""));
    let files = BTreeMap::from([
        (SETTINGS.to_owned(), settings.into_bytes()),
        (name.to_owned(), content.to_vec()),
    ]);
    Ok(Packaged::open(&Bundle::from_folder(files)?)?)
}

fn main() -> Result<()> {
    let library = Registry::library();
    let wasm = include_bytes!("../tests/fixtures/rust.wasm");
    let (module, script) = (
        package(MODULE, wasm)?,
        package(SCRIPT, SCRIPT_TEXT.as_bytes())?,
    );
    let gcd = library.by_name("gcd").ok_or("gcd is not in the library")?;
    for line in std::io::stdin().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let text = |key: &str| asked.get(key).and_then(Value::as_str);
        let answer = if let Some(name) = text("task") {
            let level = asked.get("step").and_then(Value::as_u64).unwrap_or(0);
            match level {
                0 => {
                    let task = Upstream::all().find(|task| task.name() == name);
                    measure_upstream(&task.ok_or("no such task")?)
                }
                level => measure(
                    library.by_name(name).ok_or("no such task")?,
                    u8::try_from(level)?,
                ),
            }
        } else {
            match text("form").unwrap_or_default() {
                "native" => measure(gcd, 2),
                "wasm" => measure(&module, 2),
                "starlark" => measure(&script, 1),
                other => return Err(format!("there is no form {other:?}").into()),
            }
        };
        println!("{answer}");
    }
    Ok(())
}

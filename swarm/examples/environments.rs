//! Items and scores a CPU-second of one task in its three forms, and what a
//! score costs beside sampling the completion it scores. Prints one JSON
//! object a line; `benches/environments` runs it beside reasoning-gym.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use policy::Request;
use serde_json::json;
use swarm::base;
use swarm::model::Manner;
use tasks::package::{Bundle, MODULE, Packaged, SCRIPT, SETTINGS, template};
use tasks::{Environment, Registry, Seed, Style, dialogue::answer_prompt};

const SPAN: Duration = Duration::from_secs(1);

const SCRIPT_TEXT: &str = r#"
def gcd(one, other):
    for _ in range(64):
        if other == 0:
            return one
        one, other = other, one % other
    return one

def generate(draw, level):
    top = 9 if level == 1 else 99
    divisor = draw.between(2, 9)
    left, right = draw.between(2, top) * divisor, draw.between(2, top) * divisor
    return {"question": "gcd %d %d" % (left, right), "answer": str(gcd(left, right))}

def score(item, answer):
    return answer.isdigit() and int(answer) == int(item["answer"])
"#;

fn package(name: &str, content: &[u8]) -> Result<Packaged> {
    let settings = template("rust").context("there is a template")?[0]
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

fn rate(mut work: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < SPAN {
        work(count);
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn measure(form: &str, environment: &dyn Environment) -> f64 {
    let seed = |index: u64| Seed::derive(&[b"bench", &index.to_le_bytes()]);
    let items = rate(|index| {
        black_box(environment.draw(&seed(index), 2));
    });
    let item = environment.draw(&seed(0), 2);
    let completion = environment.demonstrate(&item, Style::Direct);
    let scores = rate(|_| {
        black_box(environment.score(&item, &completion));
    });
    println!(
        "{}",
        json!({"form": form, "items": items, "scores": scores})
    );
    scores
}

fn main() -> Result<()> {
    let registry = Registry::all();
    measure(
        "native",
        registry.by_name("gcd").context("gcd is in the library")?,
    );
    let wasm = include_bytes!("../../tasks/tests/fixtures/rust.wasm");
    let module = package(MODULE, wasm)?;
    let in_wasm = measure("wasm", &module);
    let in_starlark = measure("starlark", &package(SCRIPT, SCRIPT_TEXT.as_bytes())?);
    let policy = base::load()?;
    let item = module.draw(&Seed::derive(&[b"bench"]), 2);
    let requests: Vec<Request> = (0..8)
        .map(|seed| Request {
            messages: Manner::taught().chat(&answer_prompt(&item)),
            group: 8,
            seed,
            max_tokens: 64,
            temperature: 1.0,
            top_p: 1.0,
            top_k: None,
            stop: Vec::new(),
        })
        .collect();
    let mut completions = 0;
    let batches = rate(|_| {
        completions = policy
            .sample(&requests)
            .map_or(0, |groups| groups.iter().map(Vec::len).sum());
    });
    let sampled = batches * completions as f64;
    println!(
        "{}",
        json!({
            "sampled completions": sampled,
            "wasm score / sampling": sampled / in_wasm,
            "starlark score / sampling": sampled / in_starlark,
        })
    );
    Ok(())
}

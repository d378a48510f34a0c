//! What every environment of the program asks and pays, by hash: a change of
//! one of them is another environment, whose version must be raised with it.

use tasks::{Environment, Item, Registry, Seed, Style};

/// A line for each environment: its name, its name-by-hash, and the hash of
/// what it did.
const PINNED: &str = include_str!("pinned.txt");

/// Items of each level.
const ITEMS: u32 = 64;

/// Answers as somebody right, wrong, careless or hostile would give them.
fn completions(
    environment: &dyn Environment,
    item: &Item,
    other: &Item,
    seed: &Seed,
) -> Vec<String> {
    let right = &item.reference;
    let wrong = environment.distractor(item, seed);
    let mut texts: Vec<String> = [
        right.clone(),
        wrong,
        other.reference.clone(),
        right.to_uppercase(),
        right.to_lowercase(),
        right.replace(' ', "  "),
        right.chars().rev().collect(),
        format!("+{right}"),
        format!("0{right}"),
        format!("{right}.0"),
        format!("{right} and"),
        right.replace(',', " and "),
        item.question.clone(),
        "7".to_owned(),
        "\u{e9}\u{202e}".to_owned(),
    ]
    .map(|answer| format!("<answer>{answer}</answer>"))
    .to_vec();
    texts.extend([
        environment.demonstrate(item, Style::Think),
        format!(
            "<think>{}</think>\n<answer>{right}</answer> ",
            "x".repeat(3_000)
        ),
        format!("so <answer>{right}</answer>"),
        format!("<answer>{right}</answer>{}", "</answer><think>".repeat(9)),
        "<answer>".to_owned(),
        String::new(),
    ]);
    texts
}

fn print(environment: &dyn Environment) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |text: &str| {
        hasher.update(text.as_bytes());
        hasher.update(b"\0");
    };
    for level in 1..=environment.manifest().levels.len() as u8 {
        let seed = |index: u32| Seed::derive(&[b"pinned", &index.to_le_bytes()]);
        let items: Vec<Item> = (0..ITEMS)
            .map(|index| environment.draw(&seed(index), level))
            .collect();
        for (index, item) in items.iter().enumerate() {
            for text in [&item.question, &item.reference, item.fault().unwrap_or("")] {
                add(text);
            }
            add(item.working());
            for message in item.context.iter() {
                add(&message.content);
            }
            for (name, value) in item.metadata.iter() {
                add(name);
                add(value);
            }
            for other in 0..4 {
                add(&environment.distractor(item, &seed(other)));
            }
            let other = &items[(index + 1) % items.len()];
            for text in completions(environment, item, other, &seed(7)) {
                add(&serde_json::to_string(&environment.score(item, &text))
                    .expect("a score is plain data"));
                add(if environment.accepts(item, &text) {
                    "yes"
                } else {
                    "no"
                });
            }
        }
    }
    let hash = hasher.finalize().to_hex();
    let manifest = environment.manifest();
    format!("{} {} {}", manifest.name, manifest.id(), &hash[..16])
}

#[test]
fn what_is_asked_and_paid_is_what_it_was() {
    let registry = Registry::all();
    let here: Vec<String> = registry.iter().map(print).collect();
    let changed: Vec<&String> = here
        .iter()
        .filter(|line| !PINNED.lines().any(|pinned| pinned == *line))
        .collect();
    assert!(
        changed.is_empty() && PINNED.lines().count() == here.len(),
        "the lines of tests/pinned.txt would now be:\n{}\nof which these are new: {changed:#?}",
        here.join("\n")
    );
}

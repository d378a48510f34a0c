//! Every environment that runs natively is what its module is.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::sandbox::{Call, Sandbox};
use crate::fields::Fields;
use crate::{Budget, Environment, Item, Registry, Seed};

/// What stands in completions of noise.
const PIECES: [&str; 17] = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    "<verdict>",
    "<|im_end|>",
    "\n",
    " ",
    "7",
    "A",
    "=",
    "\u{e9}\u{202e}",
    "x x x x x x x x x x x x",
    "0",
    ",",
    "-1/3",
    "2.5e1",
];

/// Completions of an item.
const COMPLETIONS: u64 = 8;

/// A completion as an attacker, a learner or noise would write it.
fn fuzzed(environment: &dyn Environment, item: &Item, seed: &Seed, index: u64) -> String {
    let right = &item.reference;
    let named = Seed::derive(&[b"fuzz", &seed.0, &index.to_le_bytes()]);
    let mut draw = named.draw();
    let noise = |draw: &mut crate::Draw| PIECES[draw.index(PIECES.len())];
    match index % COMPLETIONS {
        0 => format!("<answer>{right}</answer>"),
        1 => format!(
            "<think>{}</think><answer>{right}</answer>",
            "1".repeat(draw.index(9_000))
        ),
        2 => format!("<answer>{}</answer>", draw.below(200)),
        3 => format!("<answer>{}</answer>", environment.distractor(item, &named)),
        // A right answer with one character lost, doubled, or beside another.
        4 | 5 => {
            let mut chars: Vec<char> = right.chars().collect();
            let at = draw.index(chars.len().max(1));
            match draw.below(3) {
                0 if !chars.is_empty() => drop(chars.remove(at)),
                1 if !chars.is_empty() => chars.insert(at, chars[at]),
                _ => chars
                    .splice(at.min(chars.len())..at, noise(&mut draw).chars())
                    .for_each(drop),
            }
            format!("<answer>{}</answer>", String::from_iter(chars))
        }
        6 => {
            let inside: String = (0..draw.below(5)).map(|_| noise(&mut draw)).collect();
            format!("<answer>{inside}</answer>")
        }
        _ => (0..draw.below(9)).map(|_| noise(&mut draw)).collect(),
    }
}

/// The canonical encoding, a character for each byte, as the module says it.
fn encoded(value: &impl Serialize) -> String {
    let bytes = postcard::to_allocvec(value).unwrap();
    bytes.into_iter().map(char::from).collect()
}

/// Items of every environment at every level, and fuzzed completions of each,
/// native and as a module. Nothing in the program is native and not in here.
fn native_equals_module(items_a_level: u64) {
    let wasm = include_bytes!("../../../runtimes/builtin.wasm");
    // The word lists are read anew for every call.
    let budget = Budget {
        generate_fuel: 1 << 40,
        score_fuel: 1 << 40,
        ..Budget::default()
    };
    let sandbox = Sandbox::module(wasm, budget).unwrap();
    let again = Sandbox::module(wasm, budget).unwrap();
    let registry = Registry::all();
    let (mut items, mut scores, mut wrong) = (0, 0, BTreeSet::new());
    for environment in registry.iter() {
        let (name, levels) = (&environment.manifest().name, &environment.manifest().levels);
        for (level, index) in (1..=levels.len() as u8)
            .flat_map(|level| (0..items_a_level).map(move |index| (level, index)))
        {
            let seed = Seed::derive(&[b"differential", &index.to_le_bytes()]);
            let item = environment.draw(&seed, level);
            let completions: Vec<String> = (0..COMPLETIONS)
                .map(|index| fuzzed(environment, &item, &seed, index))
                .collect();
            let request = completions.iter().fold(
                Fields::default()
                    .with("task", name)
                    .with("seed", seed.to_hex())
                    .with("level", level.to_string()),
                |request, completion| request.with("completion", completion),
            );
            let made = sandbox.call(Call::Generate, &request).unwrap().fields;
            let native = Fields::default()
                .with("item", encoded(&item))
                .with("answer", &*item.reference)
                .with("working", item.working())
                .with("distractor", environment.distractor(&item, &seed));
            if made != native {
                println!("{name} {level} {index}: {native:?}\nmodule {made:?}");
                wrong.insert(name);
            }
            let reply = sandbox.call(Call::Score, &request).unwrap();
            if index == 0 {
                let repeated = again.call(Call::Score, &request).unwrap();
                assert_eq!(repeated, reply, "fuel or score of {name} {level}");
            }
            let module: Vec<&str> = reply.fields.all("score").collect();
            assert_eq!(module.len(), completions.len());
            for (completion, module) in completions.iter().zip(module) {
                let score = environment.score(&item, completion);
                if encoded(&score) != module {
                    println!("{name} {level} {index} {completion:?}: {score:?}\nmodule {module:?}");
                    wrong.insert(name);
                }
                scores += 1;
            }
            items += 1;
        }
    }
    println!("{items} items, {scores} scores");
    assert!(wrong.is_empty(), "not what the module does: {wrong:?}");
}

#[test]
fn native_environments_are_what_their_module_is() {
    native_equals_module(3);
}

#[test]
#[ignore = "takes a minute or two, and is run by hand: tasks/README.md"]
fn native_environments_are_what_their_module_is_in_twenty_thousand_completions() {
    native_equals_module(14);
}

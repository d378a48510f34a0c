//! Prints an item of every built-in environment and library task, at each
//! level, with its reference completions for the three stages; with names, of
//! those only: `cargo run --release -p tasks --example show -- add countdown rg_gcd`.

use tasks::{
    Registry, Seed, Style,
    dialogue::{
        CritiqueStyle, critique_prompt, demonstrate_critique_as, demonstrate_resolve,
        resolve_prompt,
    },
    practice,
};

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for environment in Registry::all().iter() {
        let manifest = environment.manifest();
        let shown = if wanted.is_empty() {
            // What upstream asks is much the same.
            !manifest.name.starts_with("rg_")
        } else {
            wanted.contains(&manifest.name)
        };
        if !shown {
            continue;
        }
        println!(
            "\n{} {}: {}",
            manifest.name,
            manifest.id(),
            manifest.summary
        );
        for level in 1..=manifest.levels.len() as u8 {
            let seed = Seed::derive(&[b"show", manifest.name.as_bytes(), &[level]]);
            let item = environment.generate(&seed, level);
            let (proposal, _) = practice::proposal(environment, &item, &seed);
            let peers = practice::peers(environment, &item, &seed);
            println!("  level {level}: {}", item.question);
            println!("    {}", environment.demonstrate(&item, Style::Think));
            for message in critique_prompt(&item, &proposal) {
                println!("    {:?}", message.content);
            }
            for style in [CritiqueStyle::Compare, CritiqueStyle::WorkThenCompare] {
                let critique = demonstrate_critique_as(environment, &item, &proposal, style);
                println!("    {critique}");
            }
            for message in resolve_prompt(&item, &peers) {
                println!("    {:?}", message.content);
            }
            println!("    {}", demonstrate_resolve(environment, &item, &peers));
        }
    }
}

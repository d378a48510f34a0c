//! Prints an item of every environment and level, with its reference
//! completions for the three stages: `cargo run --release -p tasks --example show`.

use tasks::{
    Registry, Seed, Style,
    dialogue::{
        CritiqueStyle, critique_prompt, demonstrate_critique_as, demonstrate_resolve,
        resolve_prompt,
    },
    practice,
};

fn main() {
    for environment in Registry::builtin().iter() {
        let manifest = environment.manifest();
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

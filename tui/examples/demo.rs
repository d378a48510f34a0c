//! The screens on a recording that is made up: `cargo run --release -p tui --example demo`.
//! `… --example demo -- --write FILE` writes the recording instead.

#[path = "../tests/support/fixture.rs"]
mod fixture;

use std::error::Error;
use std::fs;

fn main() -> Result<(), Box<dyn Error>> {
    let records = fixture::run();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => tui::replay(records, Vec::new())?,
        ["--write", file] => {
            let mut lines = String::new();
            for record in &records {
                lines.push_str(&serde_json::to_string(record)?);
                lines.push('\n');
            }
            fs::write(file, lines)?;
        }
        _ => return Err("usage: demo [--write FILE]".into()),
    }
    Ok(())
}

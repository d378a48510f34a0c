//! Writing an environment, testing it, timing it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use tasks::package::floors::{self, Finding};
use tasks::package::{GOLDEN, Packaged, golden, template};
use tasks::{Ppm, Seed, Style};

use super::{BenchArgs, Found, Kind, NewArgs, TestArgs, find, read_folder};
use crate::home::write_atomic;

/// Writes a template into a folder of its own.
pub(super) fn new(args: &NewArgs) -> Result<String> {
    let name = &args.name;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
        bail!("{name:?} is no name: up to 32 small letters, digits and _");
    }
    let folder = Path::new(name);
    if folder.exists() {
        bail!(
            "{} is there already; choose another name, or remove it",
            folder.display()
        );
    }
    let (kind, next) = match args.kind {
        Kind::Table => ("table", ""),
        Kind::Starlark => ("starlark", ""),
        Kind::Game => ("game", ""),
        Kind::Rust => (
            "rust",
            "  cargo build --release --target wasm32-unknown-unknown\n  \
             cp target/wasm32-unknown-unknown/release/NAME.wasm task.wasm\n",
        ),
        Kind::Assemblyscript => ("assemblyscript", "  npm install && npm run build\n"),
    };
    let files = template(kind).context("every kind has a template")?;
    for (path, text) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("making {}", parent.display()))?;
        }
        write_atomic(&path, text.replace("NAME", name).as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let next = next.replace("NAME", name);
    let lacking = lacking(args.kind).unwrap_or_default();
    Ok(format!(
        "{name}: an environment of kind {kind}. Next:\n\n{lacking}  cd {name}\n{next}  murmur task test\n  \
         murmur task play\n"
    ))
}

/// What has to be installed before this kind can be built, if it is not there.
fn lacking(kind: Kind) -> Option<&'static str> {
    let said = |command: &str, args: &[&str]| {
        let output = Command::new(command).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    match kind {
        Kind::Table | Kind::Starlark | Kind::Game => None,
        Kind::Rust => {
            const TARGET: [&str; 4] = [
                "--print",
                "target-libdir",
                "--target",
                "wasm32-unknown-unknown",
            ];
            match said("rustc", &TARGET) {
                None => Some("  install Rust: https://rustup.rs\n"),
                Some(library) if !Path::new(&library).is_dir() => {
                    Some("  rustup target add wasm32-unknown-unknown\n")
                }
                Some(_) => None,
            }
        }
        Kind::Assemblyscript => match said("npm", &["--version"]) {
            None => Some("  install Node.js with npm: https://nodejs.org\n"),
            Some(_) => None,
        },
    }
}

/// Everything that `publish` and every stranger will hold it to.
pub(super) fn test(args: &TestArgs) -> Result<String> {
    let folder = Path::new(&args.which.task);
    let mut report = String::new();
    let found = find(&args.which)?;
    let environment = found.environment()?;
    let _ = writeln!(
        report,
        "{} {}: {}",
        environment.manifest().name,
        environment.manifest().version,
        environment.manifest().summary
    );
    if let Some(why) = environment.draw(&Seed::derive(&[b"test"]), 1).fault() {
        bail!("it makes no item: {why}");
    }
    let mut chance = Ppm::ZERO;
    let mut failures = 0;
    if let Found::Package(package) = &found {
        chance = package.package().chance;
        deterministic(package)?;
        let _ = writeln!(
            report,
            "  deterministic: twice, shuffled, in a second thread"
        );
    }
    let findings = floors::measure(environment, args.items, chance);
    failures += findings.iter().filter(|finding| !finding.holds()).count();
    report.push_str(&table(&findings));
    if failures > 0 {
        print!("{report}");
        let so = match found {
            Found::Package(_) => "golden vectors are not written",
            Found::Bridge(_) => {
                "the program pays so, and a model trained on it learns to be paid so"
            }
            Found::Builtin(..) => "it pays so",
        };
        bail!("{failures} of {} checks fail; {so}", findings.len());
    }
    if let (Found::Package(package), true) = (&found, folder.is_dir()) {
        report.push_str(&keep_golden(args, package, folder)?);
    }
    Ok(report)
}

/// Writes golden vectors where there are none; else holds them against it.
fn keep_golden(args: &TestArgs, package: &Packaged, folder: &Path) -> Result<String> {
    let path = folder.join(GOLDEN);
    let kept = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let said = match kept {
        Some(text) if !args.write => {
            let count = golden::check(package, &text).context(
                "the environment has changed. If that was meant, raise its version in task.toml \
                 and run `murmur task test --write`",
            )?;
            format!("  golden vectors: {count} hold\n")
        }
        _ => {
            let vectors = golden::vectors(package);
            write_atomic(&path, golden::write(&vectors).as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            format!(
                "  golden vectors: {} written to {}\n",
                vectors.len(),
                path.display()
            )
        }
    };
    let id = read_folder(folder)?.id();
    Ok(format!("{said}  hash: {}\n", id.to_hex()))
}

/// The same items and scores twice, in another order, and in another thread.
fn deterministic(package: &Packaged) -> Result<()> {
    let first = golden::vectors(package);
    let again = |order: &[usize]| -> Option<usize> {
        order.iter().copied().find(|index| {
            let one = &first[*index];
            golden::vector(package, one.seed, one.level, &one.completion) != *one
        })
    };
    let straight: Vec<usize> = (0..first.len()).collect();
    let mut shuffled = straight.clone();
    shuffled.shuffle(&mut rand::rngs::StdRng::seed_from_u64(1));
    let elsewhere = std::thread::scope(|scope| {
        let thread = scope.spawn(|| again(&shuffled));
        thread.join().unwrap_or(Some(0))
    });
    let found = again(&straight).or(elsewhere);
    match found.map(|index| &first[index]) {
        Some(vector) => bail!(
            "not deterministic: level {} at seed {} gave {:?}, and then something else",
            vector.level,
            vector.seed.to_hex(),
            vector.question
        ),
        None => Ok(()),
    }
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = if finding.holds() { "ok  " } else { "FAIL" };
        let bound = if finding.name == "reference" {
            "at least"
        } else {
            "at most"
        };
        let _ = writeln!(
            text,
            "  {mark} {:<42} {}  ({bound} {})",
            finding.name, finding.mean, finding.bound
        );
        if finding.unscored > 0 {
            let _ = writeln!(text, "         {} could not be scored", finding.unscored);
        }
        if let (false, Some((question, completion))) = (finding.holds(), &finding.worst) {
            let _ = writeln!(
                text,
                "         asked {question:?}\n         got   {completion:?}"
            );
        }
        if !finding.holds() {
            let _ = writeln!(text, "         {}", remedy(finding));
        }
    }
    text
}

/// What a check that fails says of the scorer, and what mends it.
fn remedy(finding: &Finding) -> &'static str {
    match finding.name {
        _ if finding.unscored > 0 => {
            "the scorer failed: what it cannot read must earn nothing, and not stop it"
        }
        "reference" => "the item's own answer is not paid in full: generate and score disagree",
        "every answer at once" | "the right answer, buried in talk" => {
            "paid for containing the right answer: compare the whole answer, not a part of it"
        }
        _ => {
            "paid without solving anything: pay only for the right answer, nothing for its form or size"
        }
    }
}

/// Items and scores a second.
pub(super) fn bench(args: &BenchArgs) -> Result<String> {
    let found = find(&args.which)?;
    let environment = found.environment()?;
    let seed = |index: u64| Seed::derive(&[b"bench", &index.to_le_bytes()]);
    let level = |index: u64| (index % environment.manifest().levels.len() as u64) as u8 + 1;
    if let Some(why) = environment.draw(&seed(0), 1).fault() {
        bail!("it makes no item: {why}");
    }
    let span = Duration::from_secs_f64(args.seconds.clamp(0.01, 60.0));
    let items = rate(span, |index| {
        black_box(environment.draw(&seed(index), level(index)));
    });
    let drawn: Vec<_> = (0..64)
        .map(|index| environment.draw(&seed(index), level(index)))
        .map(|item| (environment.demonstrate(&item, Style::Think), item))
        .collect();
    let scores = rate(span, |index| {
        let (completion, item) = &drawn[index as usize % drawn.len()];
        black_box(environment.score(item, completion));
    });
    Ok(format!(
        "{}: {items:.0} items/s, {scores:.0} scores/s on one thread\n",
        environment.manifest().name
    ))
}

fn rate(span: Duration, mut work: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed() < span {
        work(count);
        count += 1;
    }
    count as f64 / start.elapsed().as_secs_f64()
}

//! Publishing an environment, fetching one, listing those at hand.

use std::fmt::Write as _;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use data_encoding::BASE32_NOPAD;
use tasks::package::{GOLDEN, Packaged, floors};
use tasks::{EnvId, Environment, Registry};
use tokio_util::sync::CancellationToken;

use super::{HomeArgs, PYTHON, PublishArgs, VerifyArgs, read_folder};
use crate::home;
use crate::net::PeerAddr;
use crate::packages::{Store, fetch, trusted, visitor};

/// The topic on which nothing is said: publishing needs no swarm.
const QUIET: [u8; 32] = [0; 32];
/// How an address begins.
const ADDRESS: &str = "task1";
/// Items of each level for the floors that a stranger measures.
const ITEMS: u32 = 16;

/// Keeps a package in the home, and serves it until stopped.
pub(super) async fn publish(
    args: &PublishArgs,
    mut tell: impl FnMut(String),
    stop: CancellationToken,
) -> Result<String> {
    if args.folder.to_string_lossy().starts_with(PYTHON) {
        bail!("nobody else can recompute what a program of yours says: it cannot be published");
    }
    let bundle = read_folder(&args.folder)?;
    if !bundle.files.contains_key(GOLDEN) {
        bail!("there are no golden vectors yet: run `murmur task test` first");
    }
    let package = trusted(&bundle)?;
    let failing = floors::measure(&package, ITEMS, package.package().chance)
        .into_iter()
        .find(|finding| !finding.holds());
    if let Some(finding) = failing {
        bail!(
            "{:?} earns {}; `murmur task test` shows what is wrong",
            finding.name,
            finding.mean
        );
    }
    let store = Store::of(&home::resolve(args.home.as_deref())?);
    store.put(&bundle)?;
    let (id, name) = (bundle.id().to_hex(), &bundle.manifest.name);
    tell(format!("published {name} {}", bundle.manifest.version));
    tell(format!("hash {id}"));
    if args.no_seed {
        return Ok(String::new());
    }
    let net = visitor(QUIET, &[]).await?;
    for body in store.bodies(bundle.id())? {
        net.serve(body).await.context("serving the package")?;
    }
    tell(format!(
        "serving it; from elsewhere: murmur task verify {id} --from {}",
        address(&net.address())?
    ));
    tell("Ctrl-C ends".to_owned());
    stop.cancelled().await;
    net.shutdown().await;
    Ok(String::new())
}

fn address(peer: &PeerAddr) -> Result<String> {
    let bytes = postcard::to_stdvec(peer).context("writing the address")?;
    Ok(ADDRESS.to_owned() + &BASE32_NOPAD.encode(&bytes).to_lowercase())
}

fn parse_address(text: &str) -> Result<PeerAddr> {
    let decode = || {
        let body = text.trim().strip_prefix(ADDRESS)?;
        let bytes = BASE32_NOPAD.decode(body.to_uppercase().as_bytes()).ok()?;
        postcard::from_bytes(&bytes).ok()
    };
    decode().with_context(|| format!("{text:?} is no address; `murmur task publish` prints one"))
}

/// Fetches a package if need be, and checks it as its author did.
pub(super) async fn verify(args: &VerifyArgs) -> Result<String> {
    let id = EnvId::from_str(args.hash.trim())
        .with_context(|| format!("{:?} is no hash: 64 hexadecimal digits", args.hash))?;
    let store = Store::of(&home::resolve(args.home.as_deref())?);
    let (bundle, how) = match (store.get(id)?, &args.from) {
        (Some(bundle), _) => (bundle, "in the home"),
        (None, Some(from)) => {
            let from = parse_address(from)?;
            let net = visitor(QUIET, std::slice::from_ref(&from)).await?;
            let fetched = fetch(&net, id, std::slice::from_ref(&from)).await;
            net.shutdown().await;
            let bundle = fetched?;
            (bundle, "fetched")
        }
        (None, None) => bail!(
            "it is not in {}; say who has it with --from",
            store.folder().display()
        ),
    };
    let package = trusted(&bundle)?;
    let mut report = describe(&package);
    let _ = writeln!(
        report,
        "  {how}; every byte is what the hash names\n  golden vectors hold here"
    );
    let findings = floors::measure(&package, ITEMS, package.package().chance);
    let failing: Vec<_> = findings.iter().filter(|finding| !finding.holds()).collect();
    if !failing.is_empty() {
        for finding in failing {
            let _ = writeln!(report, "  FAIL {}: {}", finding.name, finding.mean);
        }
        print!("{report}");
        bail!("the environment pays for answers that solve nothing");
    }
    let _ = writeln!(report, "  {} floors hold", findings.len());
    store.put(&bundle)?;
    Ok(report)
}

fn describe(package: &Packaged) -> String {
    let manifest = package.manifest();
    let about = package.package();
    let mut text = format!(
        "{} {}: {}\n",
        manifest.name, manifest.version, manifest.summary
    );
    let _ = writeln!(text, "  hash {}", package.id().to_hex());
    let _ = writeln!(text, "  by {}; {}", about.authors.join(", "), about.licence);
    let _ = writeln!(text, "  runs on {}", about.engine);
    for (level, at) in manifest.levels.iter().zip(1..) {
        let _ = writeln!(
            text,
            "  level {at}: {} ({} questions)",
            level.meaning, level.space
        );
    }
    tui::text::clean_lines(&text).join("\n") + "\n"
}

/// Built-in environments, then packages.
pub(super) fn list(args: &HomeArgs) -> Result<String> {
    let mut text = String::new();
    for environment in Registry::all().iter() {
        let manifest = environment.manifest();
        let _ = writeln!(text, "{:<24} built in  {}", manifest.name, manifest.summary);
    }
    let store = Store::of(&home::resolve(args.home.as_deref())?);
    for id in store.list()? {
        match store.open(id) {
            Ok(Some(package)) => text.push_str(&describe(&package)),
            Ok(None) => {}
            Err(error) => {
                let _ = writeln!(text, "{}: {error:#}", id.to_hex());
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_and_other_text_is_not() {
        let peer = PeerAddr::of([7; 32]);
        assert_eq!(parse_address(&address(&peer).unwrap()).unwrap(), peer);
        assert!(parse_address("task1").is_err() && parse_address("x").is_err());
    }
}

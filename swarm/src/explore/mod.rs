//! `murmur explore`: reputation as a web page.
//!
//! The page (`page/`) is plain HTML, CSS and JavaScript, in the binary. It reads the
//! chain's JSON-RPC itself, so the same files work from any static host against any chain
//! ([`export`]). What the server beside it adds is on this machine only: the chain
//! without CORS or keys in URLs ([`server`]'s `/rpc`, for reading), and what follows from
//! the transcripts ([`answers`]).

mod answers;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::rep::args::Place;
use crate::rep::source::Source;
use answers::Answers;

/// `murmur explore`.
#[derive(Debug, Args)]
pub struct ExploreArgs {
    /// Where to look.
    #[command(flatten)]
    pub place: Place,
    /// The port on loopback to serve the page on; 0 for any free one
    #[arg(long, default_value_t = 7780, value_name = "PORT")]
    pub port: u16,
    /// Write the page's files into this folder instead, for any static host: it reads the
    /// chain that its address names (`?rpc=URL&ledger=ADDRESS`)
    #[arg(long, value_name = "DIR")]
    pub export: Option<PathBuf>,
}

/// The page's files: name, type, content.
const FILES: [(&str, &str, &[u8]); 7] = [
    (
        "index.html",
        "text/html; charset=utf-8",
        include_bytes!("page/index.html"),
    ),
    (
        "style.css",
        "text/css; charset=utf-8",
        include_bytes!("page/style.css"),
    ),
    (
        "app.js",
        "text/javascript; charset=utf-8",
        include_bytes!("page/app.js"),
    ),
    (
        "abi.js",
        "text/javascript; charset=utf-8",
        include_bytes!("page/abi.js"),
    ),
    (
        "chain.js",
        "text/javascript; charset=utf-8",
        include_bytes!("page/chain.js"),
    ),
    (
        "dom.js",
        "text/javascript; charset=utf-8",
        include_bytes!("page/dom.js"),
    ),
    ("icon.svg", "image/svg+xml", include_bytes!("page/icon.svg")),
];

/// What the page needs to know of the contracts, and of words: made from the artifacts
/// and the definitions themselves.
fn tables() -> [(&'static str, Vec<u8>); 2] {
    let bytes = |value: serde_json::Value| value.to_string().into_bytes();
    [
        ("contracts.json", bytes(rollup::interface())),
        ("words.json", bytes(json!(swarm_core::words::WORDS))),
    ]
}

/// Serves the page until `stop` is cancelled, or writes its files.
///
/// # Errors
/// The ledger can't be read, the port is taken, or the folder can't be written.
pub async fn run(args: &ExploreArgs, stop: CancellationToken) -> Result<()> {
    if let Some(folder) = &args.export {
        export(folder)?;
        println!(
            "the page is in {}; from any static host: \
             index.html?rpc=URL&ledger=ADDRESS (and &swarm=ID where there are several)",
            folder.display()
        );
        return Ok(());
    }
    let source = Source::open(&args.place).await?;
    let (listener, url) = server::listen(args.port).await?;
    println!("the explorer is at {url} (on this machine only; ctrl-c stops it)");
    let answers = Arc::new(Answers::new(source));
    server::serve(listener, &answers, stop).await;
    if let Some(answers) = Arc::into_inner(answers) {
        answers.close().await;
    }
    Ok(())
}

fn export(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
    };
    for (name, _, bytes) in FILES {
        write(name, bytes)?;
    }
    for (name, bytes) in tables() {
        write(name, &bytes)?;
    }
    Ok(())
}

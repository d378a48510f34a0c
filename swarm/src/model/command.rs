//! `murmur model`: what is on this machine, what it needs, and how to get more.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use policy::{DType, Device, Pretrained};
use serde_json::{Value, json};

use super::memory::{Needs, available, shown};
use super::{BASE, Model, fetch, is_plain};
use crate::base;
use crate::home::models_folder;

/// `murmur model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// The models on this machine, with size, licence and whether they fit
    List(ListArgs),
    /// Download a model from the hub, or go on with a download that was cut off
    Pull(PullArgs),
    /// What a model is, what it needs, and whether this machine has that
    Info(InfoArgs),
    /// Keep a folder's or a GGUF file's model under a name, as safetensors
    Import(ImportArgs),
}

/// `murmur model list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `murmur model pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Its name on the hub, like Qwen/Qwen2.5-0.5B-Instruct
    pub name: String,
}

/// `murmur model info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A name, a folder or a .gguf file
    pub model: String,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Ask nothing of the hub
    #[arg(long)]
    pub offline: bool,
}

/// `murmur model import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A folder or a .gguf file
    pub path: PathBuf,
    /// What to call it [default: the folder's or the file's name]
    #[arg(long)]
    pub name: Option<String>,
}

/// Carry out a command; returns what to print.
///
/// # Errors
/// The model can't be found, read or kept.
pub fn run(command: &ModelCommand) -> Result<String> {
    match command {
        ModelCommand::List(args) => list(args.json),
        ModelCommand::Pull(args) => pull(&args.name),
        ModelCommand::Info(args) => info(args),
        ModelCommand::Import(args) => import(args),
    }
}

/// Sequence lengths that are told apart, in tokens.
const LENGTHS: [usize; 3] = [512, 1024, 2048];

/// What there is to say of a model.
struct About {
    name: String,
    family: String,
    parameters: u64,
    context: usize,
    stored: String,
    bytes: u64,
    licence: Option<String>,
    template: &'static str,
    place: String,
    /// By sequence length: bytes to sample, and bytes to train.
    needs: Vec<(usize, Needs)>,
}

impl About {
    fn read(name: &str, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let policy = base::load()?;
            return Ok(Self::of(name, policy.decoder().config(), |about| Self {
                stored: "bf16".into(),
                bytes: base::WEIGHTS.len() as u64,
                licence: Some("MIT OR Apache-2.0".into()),
                template: "built in",
                place: "in this program".into(),
                ..about
            }));
        };
        let opened = Pretrained::open(path).with_context(|| format!("opening {name}"))?;
        let mut bytes = 0;
        for file in opened.files() {
            let found = std::fs::metadata(file);
            bytes += found
                .with_context(|| format!("reading {}", file.display()))?
                .len();
        }
        Ok(Self::of(name, opened.config(), |about| Self {
            stored: opened.stored().to_owned(),
            bytes,
            licence: opened.licence().map(str::to_owned),
            template: if opened.has_template() {
                "its own"
            } else {
                "ChatML"
            },
            place: path.display().to_string(),
            ..about
        }))
    }

    fn of(name: &str, config: &policy::Config, rest: impl FnOnce(Self) -> Self) -> Self {
        let context = config.max_position_embeddings;
        let needs = LENGTHS
            .into_iter()
            .filter(|length| *length == LENGTHS[0] || *length <= context)
            .map(|length| (length, Needs::of(config, length)))
            .collect();
        rest(Self {
            name: name.to_owned(),
            family: config.model_type.clone(),
            parameters: config.parameters(),
            context,
            stored: String::new(),
            bytes: 0,
            licence: None,
            template: "",
            place: String::new(),
            needs,
        })
    }

    fn licence(&self) -> &str {
        self.licence.as_deref().unwrap_or("not stated")
    }

    fn json(&self, available: u64) -> Value {
        let needs: Vec<Value> = self
            .needs
            .iter()
            .map(|(tokens, needs)| {
                json!({
                    "tokens": tokens,
                    "sampling_bytes": needs.sampling, "sampling_fits": needs.sampling <= available,
                    "training_bytes": needs.training, "training_fits": needs.training <= available,
                    "adapter_bytes": needs.adapter, "adapter_fits": needs.adapter <= available,
                })
            })
            .collect();
        json!({
            "name": self.name, "family": self.family, "parameters": self.parameters,
            "context": self.context, "stored": self.stored, "bytes": self.bytes,
            "licence": self.licence, "chat_template": self.template, "place": self.place,
            "needs": needs, "available_bytes": available,
        })
    }
}

/// Everything on this machine: the embedded model, imported ones, the hub's cache.
fn everything() -> Result<Vec<(String, Option<PathBuf>)>> {
    let mut found = vec![(BASE.to_owned(), None)];
    let mut imported: Vec<_> = std::fs::read_dir(models_folder()?)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, path)| is_plain(name) && path.is_dir())
        .collect();
    imported.sort();
    let all = imported.into_iter().chain(fetch::all_cached());
    found.extend(all.map(|(name, path)| (name, Some(path))));
    Ok(found)
}

fn list(as_json: bool) -> Result<String> {
    let available = available();
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, path) in everything()? {
        match About::read(&name, path.as_deref()) {
            Ok(about) => {
                all.push(about.json(available));
                let needs = about.needs[0].1;
                let (training, adapter) = (needs.training, needs.adapter);
                let (fits, training) = match training <= available {
                    true => ("yes", training),
                    false if adapter <= available => ("an adapter", adapter),
                    false => ("no", adapter.min(training)),
                };
                rows.push([
                    about.name.clone(),
                    about.family.clone(),
                    count(about.parameters),
                    shown(about.bytes),
                    about.licence().to_owned(),
                    format!("{fits} ({})", shown(training)),
                ]);
            }
            Err(error) => {
                all.push(json!({ "name": name, "error": format!("{error:#}") }));
                rows.push([
                    name,
                    format!("can't be used: {error:#}"),
                    String::new(),
                    String::new(),
                    String::new(),
                    String::new(),
                ]);
            }
        }
    }
    if as_json {
        return Ok(serde_json::to_string_pretty(&all).context("encoding")? + "\n");
    }
    let head = [
        "name",
        "family",
        "weights",
        "on disk",
        "licence",
        "trains here",
    ]
    .map(str::to_owned);
    let mut text = String::new();
    let table: Vec<_> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let cells = table.iter().filter(|row| !row[2].is_empty() || column == 0);
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    for row in &table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "\ntrains here: the memory one peer needs at {} tokens, of {} free",
        LENGTHS[0],
        shown(available)
    );
    Ok(text)
}

/// A number of weights for people.
fn count(parameters: u64) -> String {
    let millions = parameters as f64 / 1e6;
    match millions {
        ..10.0 => format!("{millions:.2}M"),
        ..1000.0 => format!("{millions:.0}M"),
        _ => format!("{:.2}B", millions / 1e3),
    }
}

fn pull(name: &str) -> Result<String> {
    if !fetch::is_name(name) {
        bail!("{name:?} is no name on the hub, which is like Qwen/Qwen2.5-0.5B-Instruct");
    }
    let folder = fetch::pull(name)?;
    let about = About::read(name, Some(&folder))?;
    Ok(text(&about, available()) + &format!("\nrun it: murmur run --model {name}\n"))
}

fn info(args: &InfoArgs) -> Result<String> {
    let model = Model::find(&args.model, args.offline)?;
    let about = About::read(&model.name, model.path.as_deref())?;
    let available = available();
    if args.json {
        let json = serde_json::to_string_pretty(&about.json(available)).context("encoding")?;
        return Ok(json + "\n");
    }
    Ok(text(&about, available))
}

fn text(about: &About, available: u64) -> String {
    let mut text = String::new();
    let fields = [
        ("model", about.name.clone()),
        ("family", about.family.clone()),
        ("weights", count(about.parameters)),
        ("context", format!("{} tokens", about.context)),
        (
            "stored",
            format!("{}, {}", about.stored, shown(about.bytes)),
        ),
        ("licence", about.licence().to_owned()),
        ("chat template", about.template.to_owned()),
        ("where", about.place.clone()),
    ];
    for (name, value) in fields {
        let _ = writeln!(text, "{name:<14} {value}");
    }
    let _ = writeln!(text, "\nmemory for one peer, of {} free:", shown(available));
    for (tokens, needs) in &about.needs {
        let fits = |bytes| {
            if bytes <= available {
                "fits"
            } else {
                "does not fit"
            }
        };
        let _ = writeln!(
            text,
            "  {tokens:>5} tokens   sample {:>8} ({})   train all weights {:>8} ({}), an adapter \
             {:>8} ({})",
            shown(needs.sampling),
            fits(needs.sampling),
            shown(needs.training),
            fits(needs.training),
            shown(needs.adapter),
            fits(needs.adapter)
        );
    }
    text
}

fn import(args: &ImportArgs) -> Result<String> {
    let stem = args.path.file_stem().and_then(|stem| stem.to_str());
    let name = match (&args.name, stem) {
        (Some(name), _) => name.as_str(),
        (None, Some(stem)) => stem,
        (None, None) => bail!("{} has no name; give one with --name", args.path.display()),
    };
    if !is_plain(name) || name == BASE {
        bail!("{name:?} can't be a model's name; give one of letters, digits, - _ . with --name");
    }
    let folder = models_folder()?.join(name);
    if folder.exists() {
        bail!(
            "there is a model {name} already, in {}; choose another --name, or remove it",
            folder.display()
        );
    }
    let opened = Pretrained::open(&args.path)?;
    let licence = opened.licence().map(str::to_owned);
    let policy = opened.load(&Device::Cpu)?;
    policy
        .export(&folder, DType::BF16, licence.as_deref())
        .with_context(|| format!("writing {}", folder.display()))?;
    let about = About::read(name, Some(&folder))?;
    Ok(text(&about, available()) + &format!("\nrun it: murmur run --model {name}\n"))
}

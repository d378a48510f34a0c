//! `murmur model`: what is on this machine, what it needs, how to get more, and how
//! to take away what a peer has become.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use policy::memory::{self, Method, shown};
use policy::{Config, DType, Device, LoraSettings, Pretrained};
use serde_json::{Value, json};

use super::{BASE, Model, fetch, is_plain};
use crate::base;
use crate::home::{Home, models_folder};
use crate::method::{self, LONGEST, TrainingArgs};

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
    /// Write what a peer has become into a folder: the model as Hugging Face
    /// lays it out, or the adapter as PEFT does
    Export(ExportArgs),
    /// All settings of GRPO as they usually are: a file to change for `run --grpo`
    Grpo,
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
    /// Keep numbers of 32 bits as they are; else they are rounded to bf16, which
    /// takes half the memory and is faster
    #[arg(long)]
    pub exact: bool,
}

/// `murmur model export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A folder that is not there yet
    pub folder: PathBuf,
    /// The home whose peer it is
    #[arg(long, env = "MURMUR_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Which of its peers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub peer: u16,
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
        ModelCommand::Export(args) => export(args),
        ModelCommand::Grpo => Ok(method::SETTINGS.to_owned()),
    }
}

/// Sequence lengths that are told apart, in tokens.
const LENGTHS: [usize; 3] = [LONGEST, 1024, 2048];
/// Ranks of adapters that are told apart.
const RANKS: [usize; 3] = [8, 16, 64];
/// Completions that are drawn at once.
const ROWS: usize = 32;

/// One way to use a model, and what it takes of the memory that can be had.
struct Setting {
    tokens: usize,
    /// `sample`, `full` or `lora`.
    purpose: &'static str,
    rank: Option<usize>,
    bytes: u64,
    /// How it fits, if it does.
    fits: Option<&'static str>,
}

impl Setting {
    fn sampling(config: &Config, kept_in: DType, tokens: usize, budget: u64) -> Self {
        let bytes = memory::sampling(config, kept_in, ROWS, tokens);
        Self {
            tokens,
            purpose: "sample",
            rank: None,
            bytes,
            fits: (bytes <= budget).then_some("fast"),
        }
    }

    /// By the plan that a run would make.
    fn training(
        config: &Config,
        kept_in: DType,
        method: Method<'_>,
        tokens: usize,
        budget: u64,
    ) -> Self {
        let load = method::load(config, kept_in, tokens);
        let (purpose, rank) = match method {
            Method::Full => ("full", None),
            Method::Lora(settings) => ("lora", Some(settings.rank)),
        };
        let (bytes, fits) = match method::plan(config, method, &load, budget) {
            Ok(plan) => {
                let how = match (plan.recompute, plan.bf16_gradients) {
                    (false, _) => "fast",
                    (true, false) => "recomputing",
                    (true, true) => "leanest",
                };
                (
                    memory::usage(config, method, &plan, &load).total(),
                    Some(how),
                )
            }
            Err(_) => (method::leanest(config, method, &load), None),
        };
        Self {
            tokens,
            purpose,
            rank,
            bytes,
            fits,
        }
    }

    fn label(&self) -> String {
        match (self.purpose, self.rank) {
            ("sample", _) => format!("sampling, {ROWS} at once"),
            (_, Some(rank)) => format!("training LoRA of rank {rank}"),
            _ => "training all weights".to_owned(),
        }
    }

    fn cell(&self) -> String {
        let bytes = shown(self.bytes);
        match self.fits {
            None => format!("{bytes}, does not fit"),
            Some("fast") => bytes,
            Some(how) => format!("{bytes}, {how}"),
        }
    }

    fn json(&self) -> Value {
        json!({
            "tokens": self.tokens, "use": self.purpose, "rank": self.rank,
            "bytes": self.bytes, "fits": self.fits.is_some(), "plan": self.fits,
        })
    }
}

/// Memory that could be had now; without end where that can't be told.
fn available() -> u64 {
    memory::spare().unwrap_or(u64::MAX)
}

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
    /// Memory that could be had when the settings were tried.
    available: u64,
    settings: Vec<Setting>,
    /// What a run would train, and what that takes; `None` if nothing fits.
    trains: (Option<String>, u64),
}

impl About {
    fn read(name: &str, path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let policy = base::load()?;
            let decoder = policy.decoder();
            return Ok(Self::of(name, decoder.config(), decoder.dtype(), |about| {
                Self {
                    stored: "bf16".into(),
                    bytes: base::WEIGHTS.len() as u64,
                    licence: Some("MIT OR Apache-2.0".into()),
                    template: "built in",
                    place: "in this program".into(),
                    ..about
                }
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
        Ok(Self::of(name, opened.config(), opened.kept_in(), |about| {
            Self {
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
            }
        }))
    }

    fn of(name: &str, config: &Config, kept_in: DType, rest: impl FnOnce(Self) -> Self) -> Self {
        let context = config.max_position_embeddings;
        let available = available();
        let loras = RANKS.map(LoraSettings::with_rank);
        let methods: Vec<Method<'_>> = std::iter::once(Method::Full)
            .chain(
                loras
                    .iter()
                    .filter(|lora| lora.check(config).is_ok())
                    .map(Method::Lora),
            )
            .collect();
        let lengths = LENGTHS.into_iter();
        let settings = lengths
            .filter(|length| *length == LONGEST || *length <= context)
            .flat_map(|length| {
                let training = |method: &Method<'_>| {
                    Setting::training(config, kept_in, *method, length, available)
                };
                std::iter::once(Setting::sampling(config, kept_in, length, available))
                    .chain(methods.iter().map(training))
                    .collect::<Vec<_>>()
            })
            .collect();
        let chosen = TrainingArgs::default().choose(config, kept_in, Some(available));
        let lora = chosen.as_ref().ok().and_then(|choice| choice.lora.as_ref());
        let method = lora.map_or(Method::Full, Method::Lora);
        let taken = Setting::training(config, kept_in, method, LONGEST, available).bytes;
        let trains = (chosen.is_ok().then(|| method.to_string()), taken);
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
            available,
            settings,
            trains,
        })
    }

    fn licence(&self) -> &str {
        self.licence.as_deref().unwrap_or("not stated")
    }

    fn json(&self) -> Value {
        let settings: Vec<Value> = self.settings.iter().map(Setting::json).collect();
        json!({
            "name": self.name, "family": self.family, "parameters": self.parameters,
            "context": self.context, "stored": self.stored, "bytes": self.bytes,
            "licence": self.licence, "chat_template": self.template, "place": self.place,
            "available_bytes": self.available, "settings": settings, "trains": self.trains.0,
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
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, path) in everything()? {
        match About::read(&name, path.as_deref()) {
            Ok(about) => {
                all.push(about.json());
                let (trains, bytes) = &about.trains;
                rows.push([
                    about.name.clone(),
                    about.family.clone(),
                    count(about.parameters),
                    shown(about.bytes),
                    about.licence().to_owned(),
                    format!("{} ({})", trains.as_deref().unwrap_or("no"), shown(*bytes)),
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
        "\ntrains here: by one peer, at {} tokens, in how much of the {} that can be had",
        LONGEST,
        shown(available())
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
    Ok(text(&about) + &format!("\nrun it: murmur run --model {name}\n"))
}

fn info(args: &InfoArgs) -> Result<String> {
    let model = Model::find(&args.model, args.offline)?;
    let about = About::read(&model.name, model.path.as_deref())?;
    if args.json {
        let json = serde_json::to_string_pretty(&about.json()).context("encoding")?;
        return Ok(json + "\n");
    }
    Ok(text(&about))
}

fn text(about: &About) -> String {
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
    let had = shown(about.available);
    let _ = writeln!(text, "\nmemory for one peer, of {had} that can be had:");
    let lengths: Vec<usize> = LENGTHS
        .into_iter()
        .filter(|&length| {
            about
                .settings
                .iter()
                .any(|setting| setting.tokens == length)
        })
        .collect();
    let mut table = vec![vec![String::new()]];
    table[0].extend(lengths.iter().map(|length| format!("{length} tokens")));
    for setting in &about.settings {
        let label = setting.label();
        match table.iter_mut().find(|row| row[0] == label) {
            Some(row) => row.push(setting.cell()),
            None => table.push(vec![label, setting.cell()]),
        }
    }
    for row in table {
        let mut line = format!("  {:<24}", row[0]);
        for cell in &row[1..] {
            let _ = write!(line, "  {cell:<22}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = match &about.trains.0 {
        Some(method) => writeln!(text, "\na run trains by {method} unless told otherwise"),
        None => writeln!(text, "\ntraining this model does not fit here"),
    };
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
    super::has_room(&opened, &args.path.display().to_string())?;
    let (licence, stored) = (
        opened.licence().map(str::to_owned),
        opened.stored().to_owned(),
    );
    let policy = opened.load(&Device::Cpu)?;
    let kept = match args.exact && stored != "bf16" {
        true => DType::F32,
        false => DType::BF16,
    };
    policy
        .export(&folder, kept, licence.as_deref())
        .with_context(|| format!("writing {}", folder.display()))?;
    let about = About::read(name, Some(&folder))?;
    let mut text = text(&about);
    if stored != about.stored && !args.exact {
        let _ = writeln!(
            text,
            "its numbers were {stored} and are rounded to bf16; --exact keeps them"
        );
    }
    let _ = writeln!(text, "\nrun it: murmur run --model {name}");
    Ok(text)
}

fn export(args: &ExportArgs) -> Result<String> {
    let home = Home::existing(args.home.as_deref())?;
    let home = home.context("no swarm has run here: name a home with --home")?;
    let named = args.peer.to_string();
    let peers = home.peers()?;
    let peer = peers.iter().find(|folder| folder.ends_with(&named));
    let checkpoint = peer
        .map(|folder| folder.join("checkpoint"))
        .filter(|checkpoint| checkpoint.exists())
        .with_context(|| {
            format!(
                "{} has no peer {named} that has trained; it has {} peers, counted from 0",
                home.path().display(),
                peers.len()
            )
        })?;
    let shown = args.folder.display();
    if args.folder.exists() {
        bail!("{shown} is there already; name a folder that is not");
    }
    let model = Model::of_home(&home)?;
    let resumed = model
        .resume(&checkpoint)
        .with_context(|| format!("reading {}", checkpoint.display()))?;
    let policy = resumed.policy;
    let writing = || format!("writing {shown}");
    let steps = policy.step();
    if policy.decoder().adapter().is_some() {
        let adapter = policy.export_adapter(&args.folder, model.name());
        adapter.with_context(writing)?;
        return Ok(format!(
            "{shown}: the adapter of peer {named} after {steps} updates, beside {}\n\
             begin with it: murmur run --model {} --adapter {shown} --home ANOTHER\n",
            model.name(),
            model.name(),
        ));
    }
    let opened = model.open()?;
    let licence = opened.as_ref().and_then(Pretrained::licence);
    let kept = policy.decoder().dtype();
    policy
        .export(&args.folder, kept, licence)
        .with_context(writing)?;
    Ok(format!(
        "{shown}: the model of peer {named} after {steps} updates\n\
         begin with it: murmur run --model {shown} --home ANOTHER\n"
    ))
}

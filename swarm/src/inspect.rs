//! `murmur eval`: held-out accuracy of a home's peers.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use policy::Policy;
use serde_json::json;
use swarm_core::event::EvalReport;
use swarm_core::manifest::Manifest;
use tasks::Registry;

use crate::cli::EvalArgs;
use crate::evaluate::{EvalPlan, evaluate};
use crate::home::Home;
use crate::model::{BASE, Model};
use crate::packages::Store;
use crate::process::LOCAL_PROFILE;

/// How often it is told how far a measurement is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// `murmur eval`: a table or JSON.
///
/// # Errors
/// No home, no checkpoint that can be read.
pub fn eval(args: &EvalArgs) -> Result<String> {
    let named = args.model.as_deref().or(args.base.then_some(BASE));
    let home = if named.is_some() {
        None
    } else {
        Home::existing(args.home.as_deref())?
    };
    let registry = match &home {
        Some(home) => Store::of(home.path()).registry()?.0,
        None => Registry::all(),
    };
    if let (Some(path), None, false) = (&args.home, &home, args.base) {
        bail!(
            "no swarm has run in {}; `--base` measures the base model alone",
            path.display()
        );
    }
    let manifest = match home.as_ref().map(Home::manifest).transpose()?.flatten() {
        Some(bytes) => Manifest::from_canonical(&bytes, &registry).context("swarm.bin")?,
        None => Manifest::from_toml(LOCAL_PROFILE, &registry).context("the local profile")?,
    };
    let model = match (named, &home) {
        (Some(name), _) => Model::find(name, args.offline)?,
        (None, Some(home)) => Model::of_home(home)?,
        (None, None) => Model::base(),
    };
    let plan = EvalPlan::of(&manifest, args.items, &model);
    let mut reports = vec![(
        model.name().to_owned(),
        measured(model.name(), &model.load()?, &registry, &plan)?,
    )];
    for folder in home
        .map(|home| home.peers())
        .transpose()?
        .unwrap_or_default()
    {
        let checkpoint = folder.join("checkpoint");
        if !checkpoint.exists() {
            continue;
        }
        let resumed = model
            .resume(&checkpoint)
            .with_context(|| format!("reading {}", checkpoint.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let label = format!("peer {name}, step {}", resumed.policy.step());
        let report = measured(&label, &resumed.policy, &registry, &plan)?;
        reports.push((label, report));
    }
    if args.json {
        let all: Vec<_> = reports
            .iter()
            .map(|(model, report)| json!({ "model": model, "eval": report }))
            .collect();
        return Ok(serde_json::to_string_pretty(&all).context("encoding")? + "\n");
    }
    Ok(eval_table(&reports))
}

/// Says on stderr how far it is: a large model takes minutes.
fn measured(
    name: &str,
    policy: &Policy,
    registry: &Registry,
    plan: &EvalPlan,
) -> Result<EvalReport> {
    let of = plan.entries.len();
    let mut told = Instant::now();
    let report = evaluate(policy, registry, plan, |behind| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("{name}: {behind} of {of} parts measured");
        }
        Ok(())
    })?;
    if report.too_long > 0 {
        eprintln!(
            "{name}: {} of {} questions are longer than its context of {} tokens, and count as \
             wrong",
            report.too_long,
            report.items,
            policy.decoder().config().max_position_embeddings
        );
    }
    Ok(report)
}

fn eval_table(reports: &[(String, EvalReport)]) -> String {
    let mut text =
        String::from("accuracy on held-out items, per cent (greedy / sampled / well formed)\n\n");
    let width = reports
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(20);
    let row = |text: &mut String, name: &str, items: u32, cells: &[(f64, f64, f64)]| {
        let _ = write!(text, "{name:<12} {items:>5}");
        for (greedy, sampled, formed) in cells {
            let cell = format!(
                "{:.0} / {:.0} / {:.0}",
                100.0 * greedy,
                100.0 * sampled,
                100.0 * formed
            );
            let _ = write!(text, "  {cell:<width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    let _ = write!(text, "{:<12} {:>5}", "", "items");
    for (name, _) in reports {
        let _ = write!(text, "  {name:<width$}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    let tasks: BTreeSet<&String> = reports
        .iter()
        .flat_map(|(_, report)| report.tasks.keys())
        .collect();
    for task in tasks {
        let cells: Vec<_> = reports
            .iter()
            .map(|(_, report)| {
                report.tasks.get(task).map_or((0.0, 0.0, 0.0), |eval| {
                    (eval.greedy, eval.sampled, eval.format_rate)
                })
            })
            .collect();
        let counts = reports
            .iter()
            .filter_map(|(_, report)| report.tasks.get(task));
        let items = counts.map(|eval| eval.items).max().unwrap_or(0);
        row(&mut text, task, items, &cells);
    }
    let all: Vec<_> = reports
        .iter()
        .map(|(_, report)| (report.greedy, report.sampled, report.format_rate))
        .collect();
    let items = reports.iter().map(|(_, report)| report.items).max();
    row(&mut text, "all", items.unwrap_or(0), &all);
    if reports.iter().all(|(_, report)| report.verdicts.is_none()) {
        text.push_str("\ngames are neither critiqued nor answered a second time\n");
        return text;
    }
    text.push_str(
        "\nafter simulated peers, sampled (verdicts on answers of which one in two is right)\n\n",
    );
    let mut after_peers = |name: &str, share: fn(&EvalReport) -> Option<f64>| {
        let _ = write!(text, "{name:<18}");
        for (_, report) in reports {
            let cell = share(report)
                .map_or_else(|| "-".to_owned(), |share| format!("{:.0}", 100.0 * share));
            let _ = write!(text, "  {cell:<width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    after_peers("verdicts right", |report| report.verdicts);
    after_peers("second right", |report| report.resolved);
    text
}

//! The binary: parse, start, run, exit code.

use std::io::{BufReader, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use swarm::cli::{Cli, Command, JoinArgs, ReplayArgs, RunArgs};
use swarm::explore::ExploreArgs;
use swarm::model::{self, Model};
use swarm::process::Minds;
use swarm::rep::args::RepCommand;
use swarm::{
    create, curriculum, doctor, experiment, explore, inspect, join, onchain, own, process, rep,
    sim, task, wallet,
};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    policy::memory::give_back_what_is_freed();
    let cli = Cli::parse();
    let command = cli
        .command
        .unwrap_or_else(|| Command::Run(RunArgs::default()));
    let result = match command {
        Command::Run(args) => run(args).map(|()| ExitCode::SUCCESS),
        Command::Create(args) => runtime()
            .and_then(|runtime| runtime.block_on(create::run(&args)))
            .map(|text| print(&text)),
        Command::Join(args) => join(args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => runtime()
            .and_then(|runtime| runtime.block_on(doctor::run(&args)))
            .map(|(text, code)| {
                print(&text);
                code
            }),
        Command::Replay(args) => replay(&args).map(|()| ExitCode::SUCCESS),
        Command::Eval(args) => inspect::eval(&args).map(|text| print(&text)),
        Command::Task(command) => runtime()
            .and_then(|runtime| task::run(command, &runtime))
            .map(|text| print(&text)),
        Command::Curriculum(command) => curriculum::run(&command).map(|text| print(&text)),
        Command::Rep(command) => reputation(&command),
        Command::Wallet(args) => runtime()
            .and_then(|runtime| runtime.block_on(wallet::run(&args)))
            .map(|text| print(&text)),
        Command::Chain(command) => runtime()
            .and_then(|runtime| runtime.block_on(onchain::run(&command)))
            .map(|text| print(&text)),
        Command::Own(args) => runtime()
            .and_then(|runtime| runtime.block_on(own::run(&args)))
            .map(|text| print(&text)),
        Command::Explore(args) => explore(&args).map(|()| ExitCode::SUCCESS),
        Command::Model(command) => model::command::run(&command).map(|text| print(&text)),
        Command::Sim(args) => sim::sim(&args).map(|text| print(&text)),
        Command::Experiment(command) => experiment::run(&command).map(|text| print(&text)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("murmur: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().context("starting the runtime")
}

fn print(text: &str) -> ExitCode {
    // A reader that closed early (`| head`) has what it wanted.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn reputation(command: &RepCommand) -> Result<ExitCode> {
    let (text, code) = runtime()?.block_on(rep::run(command))?;
    print(&text);
    Ok(code)
}

fn explore(args: &ExploreArgs) -> Result<()> {
    let runtime = runtime()?;
    let stop = CancellationToken::new();
    runtime.spawn(stop_on_signal(stop.clone()));
    trace_to_stderr();
    runtime.block_on(explore::run(args, stop))
}

fn join(
    JoinArgs {
        source,
        run: mut args,
    }: JoinArgs,
) -> Result<()> {
    args.join = source.or(args.join);
    if args.join.is_none() && !join::has_joined(args.home.as_deref())? {
        anyhow::bail!(
            "join what? A ticket, a file, a URL or chain:SWARM-ID; this home has joined no swarm yet"
        );
    }
    run(args)
}

fn run(mut args: RunArgs) -> Result<()> {
    args.profile = onchain::take_profile(args.chain.as_ref(), &mut args.rpc, &mut args.chain_id)?;
    // Before there is a screen: a download shows its progress.
    let model = Model::for_run(
        args.model.as_deref(),
        args.home.as_deref(),
        args.offline,
        process::peers(&args)?,
        &args.training,
    )?;
    let runtime = runtime()?;
    let stop = CancellationToken::new();
    runtime.spawn(stop_on_signal(stop.clone()));
    if args.headless {
        trace_to_stderr();
        return runtime.block_on(process::run(args, Minds::Model(model), None, stop));
    }
    let history = process::history(&args)?;
    let (feed, records) = tui::feed();
    let node = runtime.spawn(process::run(
        args,
        Minds::Model(model),
        Some(feed),
        stop.clone(),
    ));
    let shown = tui::resume(history, records, move || stop.cancel());
    let ran = runtime.block_on(node).context("the node panicked")?;
    shown.context("drawing on the terminal (is this a terminal? `--headless` needs none)")?;
    ran
}

async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
    // Who asks twice does not want to wait; a kill at any moment is survived.
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}

/// Libraries' warnings, and whatever `RUST_LOG` asks for.
fn trace_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

fn replay(args: &ReplayArgs) -> Result<()> {
    let file = std::fs::File::open(&args.file)
        .with_context(|| format!("opening {}", args.file.display()))?;
    let (records, problems) = tui::read_events(BufReader::new(file));
    tui::replay(records, problems).with_context(|| format!("replaying {}", args.file.display()))
}

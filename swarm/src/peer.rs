//! One peer: the shell around the round machine. It carries each effect to the
//! network, the policy, the chain or the disk, and reports back; it decides
//! nothing.

mod acts;
mod asking;
mod feed;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ed25519_dalek::SigningKey;
use policy::GrpoSettings;
use rollup::Outbox;
use serde::{Deserialize, Serialize};
use swarm_core::event::{EvalReport, Event, LogLevel, RoundSummary};
use swarm_core::ids::{Address, Hash, PeerId};
use swarm_core::manifest::Manifest;
use swarm_core::message::{Card, Plea};
use swarm_core::round::{Config, Effect, Input, Machine};
use tasks::{EnvId, Environment, Registry};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chain::{Chain, POLL, SettledTx};
use crate::curriculum::{Amendments, Asked, Seen};
use crate::evaluate::EvalPlan;
use crate::home;
use crate::hub::{Hub, now_ms};
use crate::net::{Finder, Net, NetEvents, PeerAddr};
use crate::packages::Store;
use crate::reach::Network;
use crate::transcripts::Transcripts;
use crate::worker::{Done, Mind, Worker};

/// Rounds whose settlement is still watched for: older ones were voided or
/// will be found in the ledger.
const WATCHED_ROUNDS: usize = 16;
/// The ledger opens no round further ahead than this: rounds that went on
/// without it for longer are not resumed.
const REACH: u64 = 4096;
/// Peers to join through after a restart: one that answers is enough.
const REMEMBERED: usize = 32;
/// Rounds before this start that are judged again, for what is asked next.
const REPLAYED: usize = 4;
/// How often links are reported to the Peers screen.
const LINKS_EVERY: Duration = Duration::from_secs(3);

/// Everything a peer is started with.
pub struct Setup {
    /// Its place among this process's peers; the first one tells of the ledger.
    pub index: u16,
    /// Its folder in the home.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// Its ed25519 secret key.
    pub iroh_secret: [u8; 32],
    /// Its address, who owns its reputation.
    pub address: Address,
    /// The ledger; `None` offline.
    pub chain: Option<Chain>,
    /// What it asks of others, if it is not on the ledger and can't pay.
    pub plea: Option<Box<Plea>>,
    /// Peers of this process.
    pub local: BTreeSet<PeerId>,
    /// Their addresses.
    pub local_addresses: BTreeSet<Address>,
    /// The swarm.
    pub manifest: Manifest,
    /// Its environments.
    pub registry: Arc<Registry>,
    /// Packages of the curriculum, as they are served to whoever lacks them.
    pub packages: Arc<Vec<Vec<u8>>>,
    /// Where packages that come later are kept.
    pub store: Store,
    /// The author's changes of the curriculum.
    pub amendments: Amendments,
    /// What answers and learns: the model, as resumed or fresh.
    pub mind: Box<dyn Mind>,
    /// How it is trained.
    pub grpo: GrpoSettings,
    /// How it is reached and finds others.
    pub network: Network,
    /// Peers to join through.
    pub bootstrap: Vec<PeerAddr>,
    /// Where the devnet of this process listens, for peers elsewhere.
    pub devnet: Option<std::net::SocketAddr>,
    /// How many others to hear from before the first round.
    pub expect: u16,
    /// How many rounds to take part in; `None`: until stopped.
    pub rounds: Option<u64>,
    /// Held-out items to measure before and after, and after every so many rounds.
    pub eval: EvalPlan,
    /// Whether each update is followed by a few held-out items.
    pub probe: bool,
    /// Rounds between evaluations; zero for none in between.
    pub eval_every: u64,
    /// Where what a round can be checked by is kept.
    pub transcripts: Transcripts,
    /// Where events go.
    pub hub: Hub,
}

/// What a peer came to.
#[derive(Debug)]
pub struct Outcome {
    /// Its id.
    pub id: PeerId,
    /// Its name.
    pub name: String,
    /// Held-out accuracy at the start.
    pub before: Option<EvalReport>,
    /// Held-out accuracy at the end.
    pub after: Option<EvalReport>,
    /// Every round it saw end.
    pub rounds: Vec<RoundSummary>,
    /// The share of a few held-out items that is right after each round's
    /// update, where that is looked at.
    pub held_out: BTreeMap<u64, f64>,
    /// Updates that were not made because a number in them was not finite.
    pub skipped_updates: u64,
    /// What was asked, whenever that changed.
    pub asked: Vec<Asked>,
    /// Where its time went, in seconds.
    pub time_s: BTreeMap<String, f64>,
    /// When its first round opened.
    pub first_round: Option<Instant>,
}

/// What must survive a kill: a round is answered once.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Progress {
    /// The last round begun.
    round: u64,
    /// Peers to join through next time.
    peers: Vec<PeerAddr>,
}

/// What a spawned piece of work came to.
enum Finished {
    /// Something for the machine.
    Inputs(Vec<Input>),
    /// A round is not open yet.
    NotOpen {
        round: u64,
        why: Option<anyhow::Error>,
    },
    /// What the chain says of rounds.
    Polled {
        news: Vec<Input>,
        settled: Vec<SettledTx>,
    },
    /// What the outbox sent, and the gas of each.
    Flushed(Result<Vec<(SettledTx, u64)>>),
    /// A stranger is on the ledger now, and this peer paid for it.
    Sponsored(PeerId),
    /// An environment that the curriculum names, or why it could not be had.
    Environment {
        env: EnvId,
        result: Result<Arc<dyn Environment>>,
    },
    /// It failed, and is tried again by whoever cares.
    Failed {
        what: &'static str,
        error: anyhow::Error,
    },
    /// Nothing to tell.
    Nothing,
}

/// A running peer.
struct Peer {
    setup: Slim,
    id: PeerId,
    key: SigningKey,
    machine: Machine,
    net: Net,
    worker: Worker,
    tasks: JoinSet<(&'static str, Duration, Finished)>,
    timer: Option<u64>,
    progress: Progress,
    last_round: Option<u64>,
    /// Samples and trainings under way, by tag.
    jobs: work::Jobs,
    /// Rounds that were opened and have not settled.
    unsettled: BTreeSet<u64>,
    /// Rounds whose scorecards' seals the chain was seen to hold.
    sealed: BTreeSet<u64>,
    /// Bodies of recent rounds in the store, by the round in which they came.
    bodies: BTreeMap<u64, Vec<Hash>>,
    /// Amendments that were looked at.
    seen: Seen,
    /// Strangers whose way onto the ledger this peer has paid for.
    sponsored: usize,
    /// Witnesses' cards of recent rounds, for voiding.
    cards: BTreeMap<u64, BTreeMap<Address, Card>>,
    polling: bool,
    flushing: bool,
    flush_again: bool,
    outcome: Outcome,
    done: bool,
}

/// The part of [`Setup`] that lives on.
struct Slim {
    index: u16,
    expect: u16,
    folder: PathBuf,
    chain: Option<Chain>,
    outbox: Outbox,
    local_addresses: BTreeSet<Address>,
    grpo: GrpoSettings,
    eval: EvalPlan,
    probe: bool,
    eval_every: u64,
    manifest: Manifest,
    store: Store,
    amendments: Amendments,
    transcripts: Transcripts,
    hub: Hub,
}

/// A peer whose network is up, so that others can be told where it is.
pub struct Ready {
    peer: Peer,
    events: NetEvents,
    done: mpsc::UnboundedReceiver<Done>,
    first_round: u64,
}

impl Ready {
    /// Where it can be reached.
    pub fn address(&self) -> PeerAddr {
        self.peer.net.address()
    }

    /// Gives this ticket to whoever asks for it by the swarm's id.
    pub fn offer_ticket(&self, ticket: String) {
        self.peer.net.offer_ticket(ticket);
    }
}

/// Bring a peer up: network, policy thread, machine. It takes part once [`run`].
///
/// # Errors
/// The network can't be opened, or its folder can't be read.
pub async fn start(setup: Setup) -> Result<Ready> {
    let key = SigningKey::from_bytes(&setup.iroh_secret);
    let id = PeerId(key.verifying_key().to_bytes());
    let progress = read_progress(&setup)?;
    let topic = setup.manifest.id().0;
    let mut config = setup.network.config(setup.iroh_secret, topic, setup.index);
    config.bootstrap = setup.bootstrap.clone();
    config.author = Some(feed::author_of);
    if setup.network.finds_by(Finder::Remembered) {
        config.remembered = progress.peers.clone();
    }
    let (net, events) = Net::start(config).await.context("opening the network")?;
    if let Some(devnet) = setup.devnet {
        net.open_chain(devnet);
    }
    for body in setup.packages.iter() {
        net.serve(body.clone()).await.context("serving a package")?;
    }
    let mut machine = Machine::new(Config {
        me: id,
        address: setup.address,
        name: setup.name.clone(),
        plea: setup.plea.clone(),
        secret: *blake3::keyed_hash(&setup.iroh_secret, b"commitments").as_bytes(),
        local: setup.local.clone(),
        manifest: setup.manifest.clone(),
        registry: Registry::clone(&setup.registry),
    });
    // Rounds that were kept are judged again.
    tokio::task::block_in_place(|| remember(&mut machine, &setup));
    let (done, finished) = mpsc::unbounded_channel();
    let worker = Worker::start(&setup.name, setup.mind, setup.registry, move |result| {
        // Nobody listens once the peer has stopped; the work is lost with it.
        let _ = done.send(result);
    })?;
    let outbox = Outbox::open(setup.folder.join("outbox"))?;
    let mut first_round = progress.round.saturating_add(1);
    if let Some(chain) = &setup.chain {
        chain.check_in().await?;
        let next = chain.next_round().await?;
        if first_round > next.saturating_add(REACH) {
            let text = format!(
                "this peer was last in round {}, the chain is at {next}; going by the chain",
                progress.round
            );
            setup.hub.log(LogLevel::Warn, "home", text);
            first_round = next;
        }
        first_round = first_round.max(next);
    }
    let peer = Peer {
        id,
        key,
        machine,
        net,
        worker,
        tasks: JoinSet::new(),
        timer: None,
        progress,
        last_round: setup
            .rounds
            .map(|rounds| first_round.saturating_add(rounds - 1)),
        jobs: work::Jobs::default(),
        sealed: BTreeSet::new(),
        unsettled: BTreeSet::new(),
        bodies: BTreeMap::new(),
        seen: Seen::new(),
        sponsored: 0,
        cards: BTreeMap::new(),
        polling: false,
        flushing: false,
        flush_again: false,
        outcome: Outcome {
            id,
            name: setup.name,
            before: None,
            after: None,
            rounds: Vec::new(),
            held_out: BTreeMap::new(),
            skipped_updates: 0,
            asked: Vec::new(),
            time_s: BTreeMap::new(),
            first_round: None,
        },
        done: false,
        setup: Slim {
            index: setup.index,
            expect: setup.expect,
            folder: setup.folder,
            chain: setup.chain,
            outbox,
            local_addresses: setup.local_addresses,
            grpo: setup.grpo,
            eval: setup.eval,
            probe: setup.probe,
            eval_every: setup.eval_every,
            manifest: setup.manifest,
            store: setup.store,
            amendments: setup.amendments,
            transcripts: setup.transcripts,
            hub: setup.hub,
        },
    };
    Ok(Ready {
        peer,
        events,
        done: finished,
        first_round,
    })
}

/// What is asked next follows from the rounds before: those that this home
/// kept save asking the others.
fn remember(machine: &mut Machine, setup: &Setup) {
    let kept = setup.transcripts.newest(&setup.manifest, REPLAYED);
    let told = kept.map(|kept| {
        for transcript in &kept {
            if let Err(why) = machine.remember(transcript) {
                let round = transcript.round;
                let text = format!("the transcript of round {round} is left out: {why}");
                setup.hub.log(LogLevel::Warn, "curriculum", text);
            }
        }
    });
    if let Err(error) = told {
        setup
            .hub
            .log(LogLevel::Warn, "curriculum", format!("{error:#}"));
    }
}

fn read_progress(setup: &Setup) -> Result<Progress> {
    let path = setup.folder.join("progress.json");
    let damaged = |why: String| {
        let text = format!("{} is damaged ({why}); going by the chain", path.display());
        setup.hub.log(LogLevel::Warn, "home", text);
        Progress::default()
    };
    match home::read_small(&path, home::SMALL) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)
            .unwrap_or_else(|error: serde_json::Error| damaged(error.to_string()))),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(damaged(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Progress::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Take part until the rounds are done and `stop` is cancelled; `finished` is
/// called once when the rounds are done.
///
/// # Errors
/// The policy's thread died, or the disk failed.
pub async fn run(
    ready: Ready,
    stop: CancellationToken,
    finished: impl FnOnce(),
) -> Result<Outcome> {
    let Ready {
        mut peer,
        mut events,
        done: mut worker_done,
        first_round,
    } = ready;
    let ended = peer
        .take_part(first_round, &mut events, &mut worker_done, &stop, finished)
        .await;
    match ended {
        Ok(()) => peer.leave(&mut worker_done).await,
        Err(error) => {
            // What failed was the disk or the policy; the others are told goodbye.
            peer.net.shutdown().await;
            Err(error)
        }
    }
}

impl Peer {
    /// Measure, then carry inputs to the machine and its effects out, until `stop`.
    async fn take_part(
        &mut self,
        first_round: u64,
        events: &mut NetEvents,
        worker_done: &mut mpsc::UnboundedReceiver<Done>,
        stop: &CancellationToken,
        finished: impl FnOnce(),
    ) -> Result<()> {
        let mut finished = Some(finished);
        self.measure(first_round.saturating_sub(1))?;
        while self.outcome.before.is_none() {
            let done = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                done = worker_done.recv() => done.context("the policy's thread is gone")?,
            };
            match done {
                Done::Evaluated {
                    round,
                    report,
                    took,
                } => self.outcome.before = Some(self.evaluated(round, report, took)),
                Done::Measuring { behind, of } => self.measuring(behind, of),
                Done::Failed { error, .. } => return Err(error),
                _ => {}
            }
        }

        // What an earlier run could not send.
        self.flush_outbox(Duration::ZERO);
        let mut inputs = VecDeque::from([Input::Start {
            first_round,
            expect: self.setup.expect,
            last_round: self.last_round,
        }]);
        inputs.extend(self.new_amendments());
        let mut poll = tokio::time::interval(POLL);
        let mut links = tokio::time::interval(LINKS_EVERY);
        loop {
            while let Some(input) = inputs.pop_front() {
                for effect in self.handle(input) {
                    inputs.extend(self.act(effect).await?);
                }
            }
            self.done = self.last_round.is_some() && self.machine.is_done();
            if self.done
                && let Some(finished) = finished.take()
            {
                finished();
            }
            let wait = self.timer.map_or(Duration::from_secs(1), |at| {
                Duration::from_millis(at.saturating_sub(now_ms()))
            });
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                event = events.next() => inputs.extend(self.heard(event)),
                Some(result) = worker_done.recv() => inputs.extend(self.worked(result)?),
                Some(result) = self.tasks.join_next() => inputs.extend(self.finished(result)),
                _ = poll.tick() => {
                    self.poll_chain();
                    // One of a home's peers looks; the others hear of it.
                    if self.setup.index == 0 {
                        inputs.extend(self.new_amendments());
                    }
                }
                _ = links.tick() => self.report_links(),
                () = tokio::time::sleep(wait) => {
                    self.timer = None;
                    inputs.push_back(Input::Tick);
                }
            }
        }
    }

    /// Takes an input to the machine. Some make items anew and score them, for
    /// hundreds of milliseconds, so the other work of this thread goes on
    /// elsewhere: connections, timers, and the other peers of this process.
    fn handle(&mut self, input: Input) -> Vec<Effect> {
        tokio::task::block_in_place(|| self.machine.handle(now_ms(), input))
    }

    fn spend(&mut self, on: &str, took: Duration) {
        *self.outcome.time_s.entry(on.to_owned()).or_default() += took.as_secs_f64();
    }

    fn save_progress(&mut self) -> Result<()> {
        self.progress.peers = self.net.known().into_iter().take(REMEMBERED).collect();
        let path = self.setup.folder.join("progress.json");
        let json = serde_json::to_vec(&self.progress).context("encoding progress")?;
        home::write_atomic(&path, &json).with_context(|| format!("writing {}", path.display()))
    }

    /// Say goodbye, measure once more, save, and end every task in order.
    async fn leave(mut self, done: &mut mpsc::UnboundedReceiver<Done>) -> Result<Outcome> {
        for effect in self.handle(Input::Stop) {
            // What a leaving peer starts anew nobody waits for.
            if matches!(effect, Effect::Publish(_) | Effect::Emit(_)) {
                self.act(effect).await?;
            }
        }
        // A settlement under way is worth its second.
        let grace = tokio::time::sleep(Duration::from_secs(2));
        tokio::pin!(grace);
        while !self.tasks.is_empty() {
            tokio::select! {
                Some(result) = self.tasks.join_next() => drop(self.finished(result)),
                () = &mut grace => break,
            }
        }
        self.tasks.shutdown().await;
        self.save_progress()?;
        let round = self.progress.round;
        self.checkpoint(round)?;
        if self.done {
            self.measure(round)?;
        } else {
            self.worker.measure_no_more();
        }
        let Self {
            worker,
            net,
            mut outcome,
            setup,
            ..
        } = self;
        let ended = tokio::task::spawn_blocking(move || worker.finish());
        net.shutdown().await;
        ended.await.context("joining the policy's thread")??;
        while let Ok(result) = done.try_recv() {
            match result {
                Done::Evaluated { round, report, .. } => {
                    setup.hub.emit(Event::Evaluated {
                        round,
                        report: report.clone(),
                    });
                    outcome.after = Some(report);
                }
                Done::Failed { error, .. } => {
                    setup
                        .hub
                        .log(LogLevel::Error, "policy", format!("{error:#}"));
                }
                _ => {}
            }
        }
        Ok(outcome)
    }
}

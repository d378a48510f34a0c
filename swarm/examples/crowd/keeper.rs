//! Starts the nodes, stops and restarts them, and writes down what they tell.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use swarm_core::ids::PeerId;

use crate::hostile::Kind;
use crate::measured::{self, Memory};
use crate::told::{Line, Told, now_us};

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) rounds: u64,
    pub(crate) length_s: Option<u64>,
    pub(crate) churn: bool,
    pub(crate) floods: Vec<Kind>,
    pub(crate) every: Duration,
    pub(crate) patience_s: u64,
    pub(crate) limit: Duration,
}

/// Between one start and the next: a swarm is not joined by all at once.
const START_GAP: Duration = Duration::from_millis(250);
/// How long a node that left stays away.
const AWAY: Duration = Duration::from_secs(15);
/// How long rounds that are over may take to settle, and nodes to end.
const GRACE: Duration = Duration::from_secs(30);

/// A node from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) spawned_ms: u64,
    pub(crate) peer: Option<PeerId>,
    pub(crate) met_ms: Option<u64>,
    pub(crate) opened_ms: Option<u64>,
    pub(crate) ended_ms: Option<u64>,
    cpu: f64,
    bytes: Option<u64>,
}

/// A round as the first node saw it.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) opened_ms: u64,
    pub(crate) committee: Vec<PeerId>,
    /// When its witnesses had spoken, or were waited for no longer.
    pub(crate) judged_ms: Option<u64>,
    pub(crate) settled: Option<bool>,
    pub(crate) why: Option<String>,
    pub(crate) included: u32,
    pub(crate) wall_s: f64,
    /// Stages that ran to their deadline.
    pub(crate) deadlines: u32,
}

/// A look at all nodes that are up.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) at_s: f64,
    pub(crate) round: u64,
    /// KiB that are a node's alone: the mean and the most of all but the first.
    pub(crate) own_mean: u64,
    pub(crate) own_most: u64,
    /// All that is resident, the mean.
    pub(crate) resident_mean: u64,
    /// Of the first, which holds the devnet.
    pub(crate) first: Memory,
    /// Bytes on disk by part, the mean of all but the first, and of the first.
    pub(crate) disk: BTreeMap<String, u64>,
    pub(crate) disk_first: BTreeMap<String, u64>,
    pub(crate) load: f64,
}

/// What was measured together.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) flood: Option<Kind>,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
    pub(crate) cpu: f64,
    pub(crate) bytes: u64,
    /// Rounds of nodes that the bytes are of.
    pub(crate) byte_rounds: u64,
    pub(crate) left: u32,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) warned: BTreeMap<String, u64>,
    pub(crate) samples: Vec<Sample>,
}

struct Node {
    home: PathBuf,
    child: Option<Child>,
    back_at: Option<Instant>,
}

/// All of a run.
pub(crate) struct Keeper {
    pub(crate) plan: Plan,
    pub(crate) homes: PathBuf,
    pub(crate) lives: Vec<Vec<Life>>,
    pub(crate) rounds: BTreeMap<u64, Round>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) complete: bool,
    nodes: Vec<Node>,
    lines: Receiver<(usize, usize, Line)>,
    sender: Sender<(usize, usize, Line)>,
    started: Instant,
    next_sample: Instant,
    next_leave: Option<Instant>,
    leaves: u32,
}

fn now_ms() -> u64 {
    now_us() / 1000
}

impl Keeper {
    /// Does what the plan says.
    pub(crate) fn run(plan: &Plan, homes: &Path) -> Result<Self> {
        fs::create_dir_all(homes).with_context(|| format!("making {}", homes.display()))?;
        let (sender, lines) = channel();
        let nodes = (0..plan.nodes).map(|index| Node {
            home: homes.join(index.to_string()),
            child: None,
            back_at: None,
        });
        let now = Instant::now();
        let mut keeper = Self {
            plan: plan.clone(),
            homes: homes.to_owned(),
            lives: (0..plan.nodes).map(|_| Vec::new()).collect(),
            rounds: BTreeMap::new(),
            phases: Vec::new(),
            complete: false,
            nodes: nodes.collect(),
            lines,
            sender,
            started: now,
            next_sample: now,
            next_leave: None,
            leaves: 0,
        };
        let ran = keeper.all_phases();
        keeper.end();
        ran.map(|complete| {
            keeper.complete = complete;
            keeper
        })
    }

    fn all_phases(&mut self) -> Result<bool> {
        self.gather()?;
        let floods = self.plan.floods.clone();
        let phases = std::iter::once(None).chain(floods.into_iter().map(Some));
        for flood in phases {
            let attacker = match flood {
                Some(kind) => Some(self.attack(kind)?),
                None => None,
            };
            let done = self.phase(flood);
            if let Some(mut attacker) = attacker {
                // It ends by its standard input; what is left of it is killed.
                drop(attacker.stdin.take());
                let until = Instant::now() + Duration::from_secs(5);
                while Instant::now() < until && attacker.try_wait()?.is_none() {
                    thread::sleep(Duration::from_millis(50));
                }
                attacker.kill().ok();
                attacker.wait().ok();
            }
            if !done? {
                return Ok(false);
            }
        }
        // What is open may still settle.
        let last = self.phases.last().map_or(0, |phase| phase.last);
        let until = Instant::now() + GRACE;
        while Instant::now() < until && self.open_until(last) {
            self.pump(Duration::from_millis(200))?;
        }
        Ok(true)
    }

    fn open_until(&self, last: u64) -> bool {
        let rounds = self.rounds.range(..=last);
        rounds.into_iter().any(|(_, round)| round.settled.is_none())
    }

    /// Starts every node, and waits until each has taken part.
    fn gather(&mut self) -> Result<()> {
        self.start(0)?;
        let ticket = self.nodes[0].home.join("ticket.txt");
        while !ticket.exists() {
            self.pump(Duration::from_millis(50))?;
        }
        for index in 1..self.plan.nodes {
            self.start(index)?;
            let next = Instant::now() + START_GAP;
            while Instant::now() < next {
                self.pump(START_GAP)?;
            }
        }
        let opened = |lives: &Vec<Life>| lives.last().is_some_and(|life| life.opened_ms.is_some());
        while !self.lives.iter().all(opened) {
            self.pump(Duration::from_millis(200))?;
        }
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<()> {
        let home = self.nodes[index].home.clone();
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.arg("node").arg("--home").arg(&home);
        if index == 0 {
            let manifest = self.homes.join("swarm.toml");
            fs::write(&manifest, self.manifest()).context("writing the manifest")?;
            command.arg("--manifest").arg(manifest);
        } else {
            command.arg("--join").arg(self.ticket()?);
        }
        let errors = fs::File::create(self.homes.join(format!("{index}.err")));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.context("opening a file for errors")?);
        let mut child = command.spawn().context("starting a node")?;
        let output = child.stdout.take().context("a node has no output")?;
        let (sender, life) = (self.sender.clone(), self.lives[index].len());
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line) {
                    let _ = sender.send((index, life, line));
                }
            }
        });
        self.lives[index].push(Life {
            spawned_ms: now_ms(),
            ..Life::default()
        });
        self.nodes[index].child = Some(child);
        self.nodes[index].back_at = None;
        Ok(())
    }

    fn ticket(&self) -> Result<String> {
        let path = self.nodes[0].home.join("ticket.txt");
        let ticket = fs::read_to_string(&path);
        Ok(ticket
            .with_context(|| format!("reading {}", path.display()))?
            .trim()
            .to_owned())
    }

    fn attack(&mut self, kind: Kind) -> Result<Child> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command
            .arg("hostile")
            .arg(kind.name())
            .arg("--ticket")
            .arg(self.ticket()?)
            .stdin(Stdio::piped());
        command.spawn().context("starting an attacker")
    }

    /// Small rounds: what is measured is how they come about.
    fn manifest(&self) -> String {
        let wait = self.plan.patience_s * 1000;
        let pace = match self.plan.length_s {
            None => "pace = \"eager\"".to_owned(),
            Some(seconds) => {
                let (genesis, length) = (now_ms(), seconds * 1000);
                format!("pace = {{ clock = {{ genesis_ms = {genesis}, length_ms = {length} }} }}")
            }
        };
        // By the clock, these are the shares of the stages.
        let windows = match self.plan.length_s {
            None => [wait; 6],
            Some(_) => [3, 2, 2, 2, 2, 1].map(|share| share * 1000),
        };
        let [answer, critique, reveal, resolve, judge, train] = windows;
        format!(
            r#"rules = {rules}
name = "crowd"
{pace}
[stages]
join_ms = 3000
open_ms = 10000
answer_ms = {answer}
critique_ms = {critique}
reveal_ms = {reveal}
resolve_ms = {resolve}
judge_ms = {judge}
train_ms = {train}
settle_ms = 20000
relay_ms = 700
repeat_ms = 1000
[answer]
size = 4
own = 2
common = 1
[critique]
groups = 2
size = 1
[resolve]
groups = 1
size = 4
read = 2
[training]
steps = 1
per_peer = 1
answers = {{ local = 2, external = 2 }}
critiques = {{ local = 1, external = 1 }}
resolutions = {{ local = 1, external = 1 }}
[limits]
peers = 64
body_bytes = 65536
completion_bytes = 128
messages = 2000
[[curriculum]]
env = "add"
level = 1
weight = 1
"#,
            rules = swarm_core::manifest::RULES,
        )
    }

    /// So many rounds, from the next one on that the first node opens.
    fn phase(&mut self, flood: Option<Kind>) -> Result<bool> {
        let newest = |keeper: &Self| keeper.rounds.keys().next_back().copied().unwrap_or(0);
        let before = newest(self);
        while newest(self) == before {
            self.pump(Duration::from_millis(100))?;
        }
        let first = newest(self);
        self.account();
        self.phases.push(Phase {
            flood,
            first,
            last: first + self.plan.rounds - 1,
            from_ms: now_ms(),
            until_ms: u64::MAX,
            cpu: 0.0,
            bytes: 0,
            byte_rounds: 0,
            left: 0,
            refused: BTreeMap::new(),
            warned: BTreeMap::new(),
            samples: Vec::new(),
        });
        self.next_leave = self.plan.churn.then(Instant::now);
        self.sample();
        let last = first + self.plan.rounds - 1;
        let mut complete = true;
        while newest(self) <= last {
            if self.started.elapsed() > self.plan.limit {
                complete = false;
                break;
            }
            self.pump(Duration::from_millis(100))?;
            self.churn()?;
            if Instant::now() >= self.next_sample {
                self.sample();
            }
        }
        self.sample();
        self.account();
        let end = newest(self);
        if let Some(phase) = self.phases.last_mut() {
            phase.until_ms = now_ms();
            phase.last = end.saturating_sub(1);
        }
        self.next_leave = None;
        Ok(complete)
    }

    /// Takes in what nodes tell, for so long at the most.
    fn pump(&mut self, patience: Duration) -> Result<()> {
        if self.started.elapsed() > self.plan.limit + GRACE {
            bail!("the nodes did not come together in time");
        }
        match self.lines.recv_timeout(patience) {
            Ok((index, life, line)) => self.hear(index, life, line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("nobody tells anything any more"),
        }
        while let Ok((index, life, line)) = self.lines.try_recv() {
            self.hear(index, life, line);
        }
        for index in 0..self.nodes.len() {
            if let Some(child) = &mut self.nodes[index].child
                && let Some(status) = child.try_wait().context("looking after a node")?
            {
                let errors = fs::read_to_string(self.homes.join(format!("{index}.err")));
                bail!(
                    "node {index} ended: {status}; {}",
                    errors.unwrap_or_default()
                );
            }
        }
        Ok(())
    }

    fn hear(&mut self, index: usize, life: usize, Line { at_ms, told }: Line) {
        let Some(life) = self.lives[index].get_mut(life) else {
            return;
        };
        let phase = self
            .phases
            .last_mut()
            .filter(|phase| phase.until_ms == u64::MAX);
        match told {
            Told::Up { peer } => life.peer = Some(peer),
            Told::Met => life.met_ms = Some(at_ms),
            Told::Opened { round, committee } => {
                life.opened_ms.get_or_insert(at_ms);
                if index == 0 {
                    let round = self.rounds.entry(round).or_default();
                    round.opened_ms = at_ms;
                    round.committee = committee;
                }
            }
            Told::Stage {
                round,
                stage,
                by_deadline,
                ..
            } if index == 0 => {
                let round = self.rounds.entry(round).or_default();
                round.deadlines += u32::from(by_deadline);
                if stage == swarm_core::event::Stage::Judge {
                    round.judged_ms = Some(at_ms);
                }
            }
            Told::Stage { .. } => {}
            Told::Ended {
                round,
                settled,
                included,
                wall_s,
                bytes,
                ..
            } => {
                let before = life.bytes.replace(bytes);
                if let (Some(before), Some(phase)) = (before, phase) {
                    phase.bytes += bytes.saturating_sub(before);
                    phase.byte_rounds += 1;
                }
                if index == 0 {
                    let round = self.rounds.entry(round).or_default();
                    round.settled = Some(settled);
                    round.included = included;
                    round.wall_s = wall_s;
                }
            }
            Told::Unsettled { round, why } => {
                if index == 0 {
                    self.rounds.entry(round).or_default().why = Some(why);
                }
            }
            Told::Refused { reason, count } => {
                if let Some(phase) = phase {
                    *phase.refused.entry(reason).or_default() += count;
                }
            }
            Told::Warned { target, text } => {
                if let Some(phase) = phase {
                    // Numbers apart, it is the same warning.
                    let text: String = text
                        .chars()
                        .map(|c| if c.is_ascii_digit() { '#' } else { c })
                        .collect();
                    let text: String = text.chars().take(160).collect();
                    *phase.warned.entry(format!("{target}: {text}")).or_default() += 1;
                }
            }
        }
    }

    /// One node leaves whenever it is time, and those return whose time has come.
    fn churn(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.next_leave.is_some_and(|at| at <= now) {
            let a_minute = (self.plan.nodes / 4).max(1);
            self.next_leave = Some(now + Duration::from_secs(60) / u32::try_from(a_minute)?);
            // Each in turn; the first one stays, it has the ledger.
            let others = self.plan.nodes - 1;
            let index = 1 + (self.leaves as usize * 7) % others.max(1);
            if self
                .nodes
                .get(index)
                .is_some_and(|node| node.child.is_some())
            {
                let kill = self.leaves % 2 == 1;
                self.stop(index, kill)?;
                self.nodes[index].back_at = Some(now + AWAY);
                if let Some(phase) = self.phases.last_mut() {
                    phase.left += 1;
                }
            }
            self.leaves += 1;
        }
        for index in 0..self.nodes.len() {
            if self.nodes[index].back_at.is_some_and(|at| at <= now) {
                self.start(index)?;
            }
        }
        Ok(())
    }

    /// Has a node end, with or without a goodbye; what it used so far is counted.
    fn stop(&mut self, index: usize, kill: bool) -> Result<()> {
        self.account();
        let Some(mut child) = self.nodes[index].child.take() else {
            return Ok(());
        };
        if let Some(life) = self.lives[index].last_mut() {
            life.ended_ms = Some(now_ms());
        }
        if kill {
            child.kill().context("killing a node")?;
            child.wait().context("waiting for a node")?;
        } else {
            drop(child.stdin.take());
            thread::spawn(move || child.wait());
        }
        Ok(())
    }

    /// Adds the CPU time since the last look to the phase.
    fn account(&mut self) {
        let mut used = 0.0;
        for (node, lives) in self.nodes.iter().zip(&mut self.lives) {
            if let (Some(child), Some(life)) = (&node.child, lives.last_mut()) {
                let cpu = measured::cpu(child.id()).max(life.cpu);
                used += cpu - std::mem::replace(&mut life.cpu, cpu);
            }
        }
        if let Some(phase) = self.phases.last_mut()
            && phase.until_ms == u64::MAX
        {
            phase.cpu += used;
        }
    }

    fn sample(&mut self) {
        self.next_sample = Instant::now() + self.plan.every;
        self.account();
        let mut own = Vec::new();
        let (mut resident, mut first) = (0, Memory::default());
        let mut disk: BTreeMap<String, u64> = BTreeMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(child) = &node.child else { continue };
            let memory = measured::memory(child.id());
            if index == 0 {
                first = memory;
                continue;
            }
            own.push(memory.own);
            resident += memory.resident;
            for (part, bytes) in measured::disk(&node.home) {
                *disk.entry(part).or_default() += bytes;
            }
        }
        let count = own.len().max(1) as u64;
        disk.values_mut().for_each(|bytes| *bytes /= count);
        let sample = Sample {
            at_s: self.started.elapsed().as_secs_f64(),
            round: self.rounds.keys().next_back().copied().unwrap_or(0),
            own_mean: own.iter().sum::<u64>() / count,
            own_most: own.iter().copied().max().unwrap_or(0),
            resident_mean: resident / count,
            first,
            disk,
            disk_first: measured::disk(&self.nodes[0].home),
            load: measured::load(),
        };
        eprintln!(
            "{:>7.0} s  round {:>5}  memory {} KiB a node ({} at most), {} the first  disk {} KiB a node, {} the first  load {:.1}",
            sample.at_s,
            sample.round,
            sample.own_mean,
            sample.own_most,
            sample.first.own,
            sample.disk.values().sum::<u64>() / 1024,
            sample.disk_first.values().sum::<u64>() / 1024,
            sample.load,
        );
        if let Some(phase) = self.phases.last_mut() {
            phase.samples.push(sample);
        }
    }

    /// Ends every node; the first last, since the others settle through it.
    fn end(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            if let Some(child) = &mut self.nodes[index].child {
                drop(child.stdin.take());
            }
        }
        let until = Instant::now() + GRACE;
        for node in &mut self.nodes {
            let Some(child) = &mut node.child else {
                continue;
            };
            while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(50));
            }
            child.kill().ok();
            child.wait().ok();
        }
    }
}

//! The policy's own thread: model work never blocks the runtime.
//!
//! One peer has one worker; jobs are done in the order they are sent. The
//! worker answers through a callback, on its own thread: once for each job, and
//! before that now and then where one takes long. What does the work is a [`Mind`]: a policy, but where the swarm itself is measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use policy::{GrpoSettings, Policy, Request, StepReport, TrainGroup};
use swarm_core::body::Completion;
use swarm_core::event::EvalReport;
use tasks::{Game, Registry};

use crate::evaluate::{EvalPlan, evaluate, probe};
use crate::model::Manner;
use crate::play::{self, Ask};

/// Something for the policy to do.
#[derive(Debug)]
pub enum Job {
    /// Sample a group for each request.
    Sample {
        /// Returned with the answer.
        tag: u64,
        /// What to sample.
        requests: Vec<Request>,
        /// Of each: the game it is of, if it is of any.
        games: Vec<Option<Game>>,
        /// How the policy is spoken to in a game's later turns.
        manner: Manner,
        /// Groups that are not whole by then are left empty.
        until: Option<Instant>,
    },
    /// One GRPO update for each batch of groups.
    Train {
        /// The round trained for.
        round: u64,
        /// The groups.
        groups: Vec<TrainGroup>,
        /// How.
        settings: GrpoSettings,
        /// Held-out items to answer before and after.
        probe: Option<EvalPlan>,
    },
    /// Write a checkpoint.
    Save {
        /// The round it follows, kept beside the weights.
        round: u64,
        /// Its folder.
        directory: PathBuf,
    },
    /// Measure held-out accuracy.
    Evaluate {
        /// After this round.
        round: u64,
        /// What to measure.
        plan: EvalPlan,
    },
}

/// What a job came to, and how long the policy worked on it.
#[derive(Debug)]
pub enum Done {
    /// Completions, by request.
    Sampled {
        /// The job's tag.
        tag: u64,
        /// `[requests][group]`; empty where there was no time or no room.
        groups: Vec<Vec<Completion>>,
        /// Why requests were not answered: prompts longer than the context.
        refused: Vec<String>,
        /// Time spent.
        took: Duration,
    },
    /// The update.
    Trained {
        /// The round trained for.
        round: u64,
        /// What it did.
        report: StepReport,
        /// Optimizer steps since the base model.
        step: u64,
        /// Held-out items that were right before and after, of how many.
        probed: Option<(u32, u32, u32)>,
        /// Time spent, that on held-out items not counted.
        took: Duration,
    },
    /// The checkpoint is on disk.
    Saved {
        /// The round it follows.
        round: u64,
        /// The hash of its weights.
        hash: [u8; 32],
        /// Optimizer steps.
        step: u64,
        /// Time spent.
        took: Duration,
    },
    /// Held-out accuracy is being measured, and may take a while yet.
    Measuring {
        /// Environments and levels that are behind.
        behind: usize,
        /// Of how many.
        of: usize,
    },
    /// Held-out accuracy.
    Evaluated {
        /// After this round.
        round: u64,
        /// The numbers.
        report: EvalReport,
        /// Time spent.
        took: Duration,
    },
    /// A job failed; the policy is as it was.
    Failed {
        /// Which.
        job: Failed,
        /// Why.
        error: anyhow::Error,
    },
}

/// A job that failed, and what the machine must hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The sampling with this tag.
    Sample(u64),
    /// The training for this round.
    Train(u64),
    /// A checkpoint: the disk refuses.
    Save,
    /// A measurement.
    Evaluate,
}

/// Told of the parts of a measurement.
pub type Part<'a> = &'a dyn Fn(usize, usize) -> Result<()>;

/// What does a peer's jobs, one after the other.
pub trait Mind: Send {
    /// Does one job. Before each part of a measurement it calls `part` with how
    /// many parts are behind, and of how many; that may put an end to it.
    ///
    /// # Errors
    /// It could not be done, and nothing has changed.
    fn work(&mut self, registry: &Registry, job: Job, part: Part<'_>) -> Result<Done>;
}

/// A policy that is sampled and trained.
pub struct Trained {
    policy: Policy,
    /// What the last update left right: nothing else changes the weights.
    probed: Option<u32>,
}

impl Trained {
    /// A mind of this policy.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            probed: None,
        }
    }
}

/// A handle on the thread.
#[derive(Debug)]
pub struct Worker {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    leaving: Arc<AtomicBool>,
}

impl Worker {
    /// Give `mind` a thread of its own; `done` is called there after each job.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        name: &str,
        mind: Box<dyn Mind>,
        registry: Arc<Registry>,
        done: impl Fn(Done) + Send + 'static,
    ) -> Result<Self> {
        let (jobs, queue) = channel();
        let leaving = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&leaving);
        let thread = std::thread::Builder::new()
            .name(format!("policy {name}"))
            .spawn(move || work(mind, &registry, &queue, &told, &done))
            .context("starting the policy's thread")?;
        Ok(Self {
            jobs,
            thread,
            leaving,
        })
    }

    /// Give up measurements, the one under way as well: nobody waits for them,
    /// and with a large model they take minutes.
    pub fn measure_no_more(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Add a job.
    ///
    /// # Errors
    /// The thread is gone: it panicked.
    pub fn send(&self, job: Job) -> Result<()> {
        self.jobs
            .send(job)
            .ok()
            .context("the policy's thread is gone")
    }

    /// Finish the jobs already sent, then end.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn finish(self) -> Result<()> {
        drop(self.jobs);
        self.thread
            .join()
            .ok()
            .context("the policy's thread panicked")
    }
}

fn work(
    mut mind: Box<dyn Mind>,
    registry: &Registry,
    queue: &Receiver<Job>,
    leaving: &AtomicBool,
    done: &impl Fn(Done),
) {
    let left = || leaving.load(Ordering::Relaxed);
    let part = |behind, of| {
        ensure!(!left(), "nobody waits for this measurement any more");
        done(Done::Measuring { behind, of });
        Ok(())
    };
    while let Ok(job) = queue.recv() {
        let failed = match &job {
            Job::Sample { tag, .. } => Failed::Sample(*tag),
            Job::Train { round, .. } => Failed::Train(*round),
            Job::Save { .. } => Failed::Save,
            Job::Evaluate { .. } => Failed::Evaluate,
        };
        let measures = matches!(job, Job::Evaluate { .. });
        let result = mind.work(registry, job, &part);
        if measures && left() {
            continue;
        }
        done(result.unwrap_or_else(|error| Done::Failed { job: failed, error }));
    }
}

impl Mind for Trained {
    fn work(&mut self, registry: &Registry, job: Job, part: Part<'_>) -> Result<Done> {
        let Self { policy, probed } = self;
        let mut start = Instant::now();
        Ok(match job {
            Job::Sample {
                tag,
                requests,
                games,
                manner,
                until,
            } => {
                let asks: Vec<Ask<'_>> = requests
                    .into_iter()
                    .zip(&games)
                    .map(|(request, game)| Ask {
                        request,
                        game: game.as_ref().map(play::parts),
                    })
                    .collect();
                let groups = play::sample(policy, &manner, &asks, until).context("sampling")?;
                let empty = asks.iter().zip(&groups);
                let empty = empty.filter(|(ask, group)| ask.request.group > group.len());
                let refused = empty
                    .filter_map(|(ask, _)| policy.room(&ask.request.messages).err())
                    .map(|why| why.to_string())
                    .collect();
                Done::Sampled {
                    tag,
                    groups,
                    refused,
                    took: start.elapsed(),
                }
            }
            Job::Train {
                round,
                groups,
                settings,
                probe: asked,
            } => {
                let before = match (&asked, *probed) {
                    (Some(plan), None) => Some(probe(policy, registry, plan)?.0),
                    (_, known) => known,
                };
                start = Instant::now();
                let report = policy.train(&groups, &settings).context("training")?;
                let took = start.elapsed();
                let after = asked
                    .map(|plan| probe(policy, registry, &plan))
                    .transpose()?;
                *probed = after.map(|(right, _)| right);
                Done::Trained {
                    round,
                    report,
                    step: policy.step(),
                    probed: before
                        .zip(after)
                        .map(|(before, (after, items))| (before, after, items)),
                    took,
                }
            }
            Job::Save { round, directory } => {
                let hash = policy
                    .save(&directory, &serde_json::json!({ "round": round }))
                    .with_context(|| format!("saving a checkpoint in {}", directory.display()))?;
                Done::Saved {
                    round,
                    hash,
                    step: policy.step(),
                    took: start.elapsed(),
                }
            }
            Job::Evaluate { round, plan } => {
                let of = plan.entries.len();
                let report = evaluate(policy, registry, &plan, |behind| part(behind, of))?;
                Done::Evaluated {
                    round,
                    report,
                    took: start.elapsed(),
                }
            }
        })
    }
}

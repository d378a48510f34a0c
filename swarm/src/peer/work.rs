//! The policy's work: what the machine asks to be sampled and trained, and
//! what came of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use policy::Request;
use swarm_core::body::Completion;
use swarm_core::event::{EvalReport, Event, LogLevel};
use swarm_core::ids::{Hash, PeerId};
use swarm_core::message::BodyKind;
use swarm_core::round::{Input, SampleRequest, TrainGroup};

use super::Peer;
use crate::hub::now_ms;
use crate::play;
use crate::worker::{Done, Failed, Job};

/// One part in so many of the time for a stage is left for handing over.
const HANDING_OVER: u64 = 10;
/// How long a measurement may go on without a word.
const MEASURING: Duration = Duration::from_secs(10);

/// What is under way.
#[derive(Default)]
pub(super) struct Jobs {
    next: u64,
    samples: BTreeMap<u64, (u64, BodyKind)>,
    training: Option<Training>,
    /// Since when a measurement has gone on without a word.
    silent: Option<Instant>,
}

/// A training, as far as the policy knows nothing of it.
struct Training {
    local: u32,
    external: BTreeMap<PeerId, u32>,
    dropped: u32,
    reward: f64,
}

impl Peer {
    pub(super) fn sample(
        &mut self,
        round: u64,
        kind: BodyKind,
        deadline_ms: u64,
        requests: &[SampleRequest],
    ) -> Result<()> {
        let left = deadline_ms.saturating_sub(now_ms());
        let until = Duration::from_millis(left - left / HANDING_OVER);
        let tag = self.jobs.next;
        self.jobs.next += 1;
        self.jobs.samples.insert(tag, (round, kind));
        let manner = &self.setup.eval.manner;
        let games = requests.iter().map(|asked| asked.game.clone()).collect();
        let requests = requests
            .iter()
            .map(|request| Request {
                messages: manner.chat(&request.messages),
                group: request.completions.into(),
                seed: request.seed,
                max_tokens: manner.max_tokens(),
                ..Request::default()
            })
            .collect();
        self.worker.send(Job::Sample {
            tag,
            requests,
            games,
            manner: manner.clone(),
            until: Instant::now().checked_add(until),
        })
    }

    /// Not all that was asked could be written in time.
    fn tell_late(&self, round: u64, kind: BodyKind, whole: usize, asked: usize, took: Duration) {
        let what = match kind {
            BodyKind::Answer => "answers",
            BodyKind::Critique => "critiques",
            BodyKind::Resolve => "second answers",
        };
        let seconds = took.as_secs_f64();
        let (level, text) = match whole {
            0 => (
                LogLevel::Warn,
                format!(
                    "round {round}: none of {asked} groups of {what} was whole after {seconds:.1} \
                     s, which is the time there is: this peer is left out of that stage. A smaller \
                     model or fewer --peers is faster; a swarm of your own can give more time \
                     (murmur run --manifest FILE)"
                ),
            ),
            whole => (
                LogLevel::Info,
                format!("round {round}: time for {whole} of {asked} groups of {what}"),
            ),
        };
        self.setup.hub.log(level, "policy", text);
    }

    pub(super) fn train(
        &mut self,
        round: u64,
        steps: u16,
        dropped: u32,
        groups: Vec<TrainGroup>,
    ) -> Result<()> {
        let mut training = Training {
            local: 0,
            external: BTreeMap::new(),
            dropped,
            reward: 0.0,
        };
        let (mut sum, mut count) = (0.0, 0.0);
        for group in &groups {
            if group.owner == self.id {
                training.local += 1;
            } else {
                *training.external.entry(group.owner).or_default() += 1;
            }
            sum += group
                .rewards
                .iter()
                .map(|reward| f64::from(*reward))
                .sum::<f64>()
                / 1e6;
            count += group.rewards.len() as f64;
        }
        training.reward = sum / f64::max(count, 1.0);
        self.jobs.training = Some(training);
        let manner = &self.setup.eval.manner;
        let groups = groups
            .into_iter()
            .enumerate()
            .map(|(index, group)| policy::TrainGroup {
                prompt: manner.chat(&group.messages),
                completions: group
                    .completions
                    .into_iter()
                    .map(|one| play::lesson(manner, group.game.as_ref().map(play::parts), one))
                    .collect(),
                rewards: group
                    .rewards
                    .iter()
                    .map(|reward| *reward as f32 / 1e6)
                    .collect(),
                origin: index as u64,
            })
            .collect();
        let mut settings = self.setup.grpo.clone();
        settings.epochs = u32::from(steps);
        self.worker.send(Job::Train {
            round,
            groups,
            settings,
            probe: self.setup.probe.then(|| self.setup.eval.clone()),
        })
    }

    pub(super) fn checkpoint(&self, round: u64) -> Result<()> {
        let directory = self.setup.folder.join("checkpoint");
        self.worker.send(Job::Save { round, directory })
    }

    pub(super) fn measure(&self, round: u64) -> Result<()> {
        self.worker.send(Job::Evaluate {
            round,
            plan: self.setup.eval.clone(),
        })
    }

    /// A job is done.
    pub(super) fn worked(&mut self, done: Done) -> Result<Option<Input>> {
        Ok(match done {
            Done::Sampled {
                tag,
                groups,
                refused,
                took,
            } => {
                let whole = groups.iter().filter(|group| !group.is_empty()).count();
                let late = groups.len() - whole - refused.len();
                for why in refused {
                    let text = format!("a question is left unanswered: {why}");
                    self.setup.hub.log(LogLevel::Warn, "policy", text);
                }
                self.spend("sampling", took);
                let Some((round, kind)) = self.jobs.samples.remove(&tag) else {
                    return Ok(None);
                };
                if late > 0 {
                    self.tell_late(round, kind, whole, groups.len(), took);
                }
                let limit = self.setup.manifest.limits.completion_bytes as usize;
                let groups = groups
                    .into_iter()
                    .map(|group| {
                        group
                            .into_iter()
                            .map(|completion| {
                                // Cut where the swarm cuts: a longer text would be refused.
                                let text = cut(completion.text, limit);
                                Completion {
                                    text,
                                    finished: completion.finished,
                                }
                            })
                            .collect()
                    })
                    .collect();
                Some(Input::Sampled {
                    round,
                    kind,
                    groups,
                })
            }
            Done::Trained {
                round,
                report,
                step,
                probed,
                took,
            } => {
                self.spend("training", took);
                if let Some(why) = &report.skipped {
                    self.outcome.skipped_updates += 1;
                    let count = self.outcome.skipped_updates;
                    let text = format!("update skipped, {count} so far: {why}");
                    self.setup.hub.log(LogLevel::Warn, "policy", text);
                }
                if let Some(why) = &report.unusable {
                    let text = format!("{} groups left out: {why}", report.dropped_unusable);
                    self.setup.hub.log(LogLevel::Warn, "policy", text);
                }
                if let Some(training) = self.jobs.training.take() {
                    self.setup.hub.emit(Event::Trained {
                        round,
                        step,
                        local_groups: training.local,
                        external_groups: training.external,
                        dropped_groups: training.dropped + report.dropped_zero_advantage as u32,
                        tokens: report.tokens as u32,
                        loss: report.loss.into(),
                        kl: self.setup.grpo.kl.map(|_| report.kl.into()),
                        clip_fraction: report.clip_fraction.into(),
                        entropy: report.entropy.into(),
                        grad_norm: report.grad_norm.into(),
                        reward: training.reward,
                        took_ms: took.as_millis() as u64,
                    });
                }
                if let Some((before, after, items)) = probed {
                    let share = |right: u32| f64::from(right) / f64::from(items.max(1));
                    self.outcome.held_out.insert(round, share(after));
                    self.setup.hub.emit(Event::Probed {
                        round,
                        step,
                        before: share(before),
                        after: share(after),
                        items,
                    });
                }
                self.checkpoint(round)?;
                if self.setup.eval_every > 0 && round.is_multiple_of(self.setup.eval_every) {
                    self.measure(round)?;
                }
                None
            }
            Done::Saved {
                round,
                hash,
                step,
                took,
            } => {
                self.spend("saving", took);
                let hash = Hash(hash);
                self.setup
                    .hub
                    .emit(Event::CheckpointSaved { round, step, hash });
                Some(Input::Trained {
                    round,
                    checkpoint: Some((hash, step)),
                })
            }
            Done::Measuring { behind, of } => {
                self.measuring(behind, of);
                None
            }
            Done::Evaluated {
                round,
                report,
                took,
            } => {
                self.evaluated(round, report, took);
                None
            }
            Done::Failed { job, error } => return self.failed(job, error),
        })
    }

    /// A job failed: nobody is to wait for what will not come.
    fn failed(&mut self, job: Failed, error: anyhow::Error) -> Result<Option<Input>> {
        let input = match job {
            // A node that can't keep what it learns ends, and says why.
            Failed::Save => return Err(error),
            Failed::Sample(tag) => self.jobs.samples.remove(&tag).map(|(round, kind)| {
                let groups = Vec::new();
                Input::Sampled {
                    round,
                    kind,
                    groups,
                }
            }),
            Failed::Train(round) => {
                self.jobs.training = None;
                let checkpoint = None;
                Some(Input::Trained { round, checkpoint })
            }
            Failed::Evaluate => None,
        };
        self.setup
            .hub
            .log(LogLevel::Error, "policy", format!("{error:#}"));
        Ok(input)
    }

    /// Says how far a measurement is, if it takes long.
    pub(super) fn measuring(&mut self, behind: usize, of: usize) {
        let since = self.jobs.silent.filter(|_| behind > 0);
        let since = *self.jobs.silent.insert(since.unwrap_or_else(Instant::now));
        if since.elapsed() >= MEASURING {
            self.jobs.silent = Some(Instant::now());
            let text = format!("held-out accuracy: {behind} of {of} parts measured");
            self.setup.hub.log(LogLevel::Info, "policy", text);
        }
    }

    pub(super) fn evaluated(
        &mut self,
        round: u64,
        report: EvalReport,
        took: Duration,
    ) -> EvalReport {
        self.spend("evaluating", took);
        if report.too_long > 0 {
            let text = format!(
                "{} of {} held-out questions are longer than the model's context and count as \
                 wrong",
                report.too_long, report.items
            );
            self.setup.hub.log(LogLevel::Warn, "policy", text);
        }
        self.setup.hub.emit(Event::Evaluated {
            round,
            report: report.clone(),
        });
        report
    }
}

/// At most `limit` bytes, at a character's border.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(cut("aé".to_owned(), 2), "a");
        assert_eq!(cut("abc".to_owned(), 3), "abc");
    }
}

//! What stands where the model does: it reads the question and works it out, right
//! most of the time, in no time. So what is measured is the swarm.

use std::time::Duration;

use anyhow::Result;
use policy::{Request, StepReport};
use swarm::worker::{Done, Job, Mind, Part};
use swarm_core::body::Completion;
use swarm_core::event::EvalReport;
use tasks::dialogue::Verdict;
use tasks::{Registry, Seed};

/// In how many cases of a hundred it is right.
const SKILL: u64 = 70;

/// The mind. It counts its updates and learns nothing.
#[derive(Debug, Default)]
pub(crate) struct Free {
    step: u64,
}

impl Mind for Free {
    fn work(&mut self, _: &Registry, job: Job, _: Part<'_>) -> Result<Done> {
        let took = Duration::ZERO;
        Ok(match job {
            Job::Sample { tag, requests, .. } => Done::Sampled {
                tag,
                groups: requests.iter().map(sample).collect(),
                refused: Vec::new(),
                took,
            },
            Job::Train { round, groups, .. } => {
                self.step += 1;
                let report = StepReport {
                    groups: groups.len(),
                    updates: 1,
                    ..StepReport::default()
                };
                Done::Trained {
                    round,
                    report,
                    step: self.step,
                    probed: None,
                    took,
                }
            }
            Job::Save { round, .. } => Done::Saved {
                round,
                hash: *blake3::hash(&self.step.to_le_bytes()).as_bytes(),
                step: self.step,
                took,
            },
            Job::Evaluate { round, .. } => Done::Evaluated {
                round,
                report: EvalReport::default(),
                took,
            },
        })
    }
}

/// A group of completions.
fn sample(request: &Request) -> Vec<Completion> {
    let prompt = request.messages.last().map_or("", |last| &last.content);
    let mut dice = Seed::derive(&[b"crowd", &request.seed.to_le_bytes()]).draw();
    let mut lines = prompt.lines();
    let sum = lines.next().and_then(sum);
    let proposal = lines.next().and_then(|line| line.strip_prefix("check "));
    (0..request.group)
        .map(|_| {
            let is_right = dice.percent(SKILL);
            let text = match (sum, proposal) {
                (Some(sum), Some(proposal)) => {
                    let truth = proposal == sum.to_string();
                    let said = Verdict::of(truth == is_right).as_str();
                    format!("<verdict>{said}</verdict>")
                }
                (Some(sum), None) if is_right => format!("<answer>{sum}</answer>"),
                (sum, _) => {
                    let wrong = sum.unwrap_or_default() + 1 + dice.next_u64() % 9;
                    format!("<answer>{wrong}</answer>")
                }
            };
            Completion {
                text,
                finished: true,
            }
        })
        .collect()
}

/// The sum that a question like `add 47+85` asks for.
fn sum(question: &str) -> Option<u64> {
    let (one, other) = question.strip_prefix("add ")?.split_once('+')?;
    Some(one.parse::<u64>().ok()? + other.parse::<u64>().ok()?)
}

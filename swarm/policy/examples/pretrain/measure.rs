//! What the base model can do before any RL, on held-out questions.

use std::collections::BTreeMap;

use anyhow::Result;
use policy::{Completion, Decoder, Request, SampleLimits, Tokenizer, sample};
use serde::Serialize;
use tasks::dialogue::{self, Message, PeerAnswer, Verdict};
use tasks::{Environment, Item, Registry, Seed, practice};

use crate::corpus::{Tallies, Tally, chat};

/// Longest completion, in tokens.
const MAX_TOKENS: usize = 64;
/// Completions sampled for each item.
const SAMPLES: usize = 4;

/// Everything that the model card says of accuracy.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// Greedy answers, by `environment level`.
    pub(crate) greedy: Tallies,
    /// Answers sampled at temperature 1, by `environment level`.
    pub(crate) sampled: Tallies,
    /// Sampled verdicts on right and wrong proposals, evenly, by environment.
    pub(crate) verdicts: Tallies,
    /// Sampled verdicts on the model's own sampled answers, where they are right.
    pub(crate) own_right: Tally,
    /// The same where they are wrong.
    pub(crate) own_wrong: Tally,
    /// Sampled resolutions that read four of the model's own answers and
    /// its own verdicts on them, by environment.
    pub(crate) resolutions: Tallies,
}

/// Measure on `items` held-out items for each environment and level.
pub(crate) fn measure(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    registry: &Registry,
    items: usize,
) -> Result<Measured> {
    let mut measured = Measured::default();
    let ask = |requests: &[Request]| sample(decoder, tokenizer, requests, &SampleLimits::default());
    for environment in registry.iter() {
        let name = environment.manifest().name.clone();
        for level in 1..=environment.manifest().levels.len() as u8 {
            let items: Vec<Item> = (0..items as u32)
                .map(|index| {
                    let seed = Seed::derive(&[b"card", &[level], &index.to_le_bytes()]);
                    environment.generate_held_out(&seed, level)
                })
                .collect();
            let key = format!("{name} {level}");
            let prompts: Vec<_> = items.iter().map(dialogue::answer_prompt).collect();
            let greedy = ask(&requests(&prompts, 1, 0.0))?;
            tally_answers(
                measured.greedy.entry(key.clone()).or_default(),
                environment,
                &items,
                &greedy,
            );
            let sampled = ask(&requests(&prompts, SAMPLES, 1.0))?;
            tally_answers(
                measured.sampled.entry(key).or_default(),
                environment,
                &items,
                &sampled,
            );

            let proposals: Vec<(Item, String, bool)> = items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let seed = Seed::derive(&[b"proposal", &(index as u32).to_le_bytes()]);
                    let (proposal, is_right) = practice::proposal(environment, item, &seed);
                    (item.clone(), proposal, is_right)
                })
                .collect();
            let verdicts = measured.verdicts.entry(name.clone()).or_default();
            for (is_right, verdict) in judge(&ask, &proposals)?.iter().flatten() {
                tally_verdict(verdicts, *is_right, *verdict);
            }

            // The stages as a round runs them, with the model as its own peers.
            let own: Vec<(Item, String, bool)> = items
                .iter()
                .zip(&sampled)
                .flat_map(|(item, group)| group.iter().map(move |completion| (item, completion)))
                .map(|(item, completion)| {
                    let answer = environment
                        .score(item, &completion.text)
                        .answer
                        .unwrap_or_default();
                    let is_right = environment.accepts(item, &answer);
                    (item.clone(), answer, is_right)
                })
                .collect();
            let votes = judge(&ask, &own)?;
            for (is_right, verdict) in votes.iter().flatten() {
                let tally = if *is_right {
                    &mut measured.own_right
                } else {
                    &mut measured.own_wrong
                };
                tally_verdict(tally, *is_right, *verdict);
            }
            let read: Vec<PeerAnswer> = own
                .iter()
                .zip(&votes)
                .map(|((_, answer, _), votes)| {
                    let count = |wanted| votes.iter().filter(|(_, given)| *given == wanted).count();
                    PeerAnswer {
                        answer: answer.clone(),
                        right: count(Verdict::Right) as u32,
                        wrong: count(Verdict::Wrong) as u32,
                    }
                })
                .collect();
            let prompts: Vec<_> = items
                .iter()
                .zip(read.chunks(SAMPLES))
                .map(|(item, peers)| dialogue::resolve_prompt(item, peers))
                .collect();
            let resolved = ask(&requests(&prompts, SAMPLES, 1.0))?;
            tally_answers(
                measured.resolutions.entry(name.clone()).or_default(),
                environment,
                &items,
                &resolved,
            );
        }
    }
    Ok(measured)
}

fn requests(prompts: &[Vec<Message>], group: usize, temperature: f32) -> Vec<Request> {
    prompts
        .iter()
        .enumerate()
        .map(|(index, messages)| Request {
            messages: chat(messages.clone()),
            group,
            seed: index as u64 + 1,
            max_tokens: MAX_TOKENS,
            temperature,
            ..Request::default()
        })
        .collect()
}

fn tally_answers(
    tally: &mut Tally,
    environment: &dyn Environment,
    items: &[Item],
    groups: &[Vec<Completion>],
) {
    for (item, group) in items.iter().zip(groups) {
        for completion in group {
            let score = environment.score(item, &completion.text);
            tally.add(score.is_right(), score.well_formed());
        }
    }
}

/// Two sampled verdicts on each proposal, beside the truth.
fn judge(
    ask: &impl Fn(&[Request]) -> policy::Result<Vec<Vec<Completion>>>,
    proposals: &[(Item, String, bool)],
) -> Result<Vec<Vec<(bool, Verdict)>>> {
    let prompts: Vec<_> = proposals
        .iter()
        .map(|(item, proposal, _)| dialogue::critique_prompt(item, proposal))
        .collect();
    let groups = ask(&requests(&prompts, 2, 1.0))?;
    Ok(proposals
        .iter()
        .zip(&groups)
        .map(|((_, _, is_right), group)| {
            group
                .iter()
                .map(|completion| (*is_right, dialogue::parse_verdict(&completion.text)))
                .collect()
        })
        .collect())
}

fn tally_verdict(tally: &mut Tally, is_right: bool, verdict: Verdict) {
    let wanted = if is_right {
        Verdict::Right
    } else {
        Verdict::Wrong
    };
    tally.add(verdict == wanted, verdict != Verdict::None);
}

/// All tallies as one.
pub(crate) fn total(tallies: &BTreeMap<String, Tally>) -> Tally {
    tallies.values().fold(Tally::default(), |mut sum, tally| {
        sum.tries += tally.tries;
        sum.right += tally.right;
        sum.formed += tally.formed;
        sum
    })
}

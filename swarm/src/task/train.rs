//! A short GRPO run on one environment alone, on this machine.

use anyhow::{Context, Result};
use policy::{GrpoSettings, Policy, Request, TrainGroup};
use swarm_core::body::Completion;
use tasks::{Environment, Item, Seed, dialogue::answer_prompt};

use super::{TrainArgs, find, has_level};
use crate::base;
use crate::model::Manner;
use crate::play::{self, Ask};

/// Cells of the bar that draws the curve.
const BAR: usize = 40;
/// Held-out items that tell learning from remembering.
const HELD_OUT: u32 = 32;

/// Trains, telling each step as it is made.
pub(super) fn train(args: &TrainArgs, mut tell: impl FnMut(String)) -> Result<String> {
    let found = find(&args.which)?;
    let environment = found.environment()?;
    has_level(environment, args.level)?;
    let mut policy = base::load()?;
    let settings = GrpoSettings {
        learning_rate: args.rate,
        ..Default::default()
    };
    let before = held_out(&policy, environment, args)?;
    tell(format!(
        "{} level {}: {} steps of {} items x {} completions",
        environment.manifest().name,
        args.level,
        args.steps,
        args.items,
        args.group
    ));
    tell(format!(
        "{:>5} {:>7} {:>6} {:>6}",
        "step", "reward", "right", "form"
    ));
    let mut unscored = 0;
    for step in 1..=args.steps {
        let items = draw(environment, args, step)?;
        let groups = sample(&policy, environment, &items, args, step)?;
        let (mut reward, mut right, mut formed, mut count) = (0.0, 0, 0, 0);
        let mut batch = Vec::new();
        for (index, (item, group)) in items.iter().zip(groups).enumerate() {
            let mut rewards = Vec::new();
            for completion in &group {
                let score = environment.score(item, &completion.text);
                unscored += u32::from(score.status == tasks::Status::Unscored);
                right += u32::from(score.well_formed() && score.is_right());
                formed += u32::from(score.well_formed());
                reward += score.reward.to_f64();
                count += 1;
                rewards.push(score.reward.to_f64() as f32);
            }
            let game = (environment.turns() > 1).then_some((environment, item));
            batch.push(TrainGroup {
                prompt: Manner::taught().chat(&answer_prompt(item)),
                completions: group
                    .into_iter()
                    .map(|one| play::lesson(&Manner::taught(), game, one))
                    .collect(),
                rewards,
                origin: index as u64,
            });
        }
        policy.train(&batch, &settings).context("training")?;
        let of = |part: u32| f64::from(part) / f64::from(count.max(1));
        let mean = reward / f64::from(count.max(1));
        let filled = (mean * BAR as f64).round() as usize;
        tell(format!(
            "{step:>5} {mean:>7.3} {:>5.0}% {:>5.0}%  {}",
            100.0 * of(right),
            100.0 * of(formed),
            "#".repeat(filled.min(BAR))
        ));
    }
    let after = held_out(&policy, environment, args)?;
    let mut said = match (before, after) {
        (Some(before), Some(after)) => format!(
            "held-out items right: {:.0}% before, {:.0}% after\n",
            100.0 * before,
            100.0 * after
        ),
        _ => "no held-out item at this level; more rows would give some\n".to_owned(),
    };
    if unscored > 0 {
        said.push_str(&format!(
            "{unscored} completions could not be scored; see `murmur task test`\n"
        ));
    }
    Ok(said)
}

fn draw(environment: &dyn Environment, args: &TrainArgs, step: u32) -> Result<Vec<Item>> {
    (0..args.items)
        .map(|index| {
            let parts = [args.seed.to_le_bytes(), u64::from(step).to_le_bytes()];
            let seed = Seed::derive(&[b"task train", &parts[0], &parts[1], &index.to_le_bytes()]);
            let item = environment.generate(&seed, args.level);
            match item.fault() {
                Some(why) => Err(anyhow::anyhow!("making an item: {why}")),
                None => Ok(item),
            }
        })
        .collect()
}

fn sample(
    policy: &Policy,
    environment: &dyn Environment,
    items: &[Item],
    args: &TrainArgs,
    step: u32,
) -> Result<Vec<Vec<Completion>>> {
    let asks: Vec<Ask<'_>> = items
        .iter()
        .zip(0u64..)
        .map(|(item, index)| {
            let request = Request {
                messages: Manner::taught().chat(&answer_prompt(item)),
                group: args.group as usize,
                seed: args.seed ^ (u64::from(step) << 32) ^ index,
                max_tokens: args.tokens as usize,
                ..Request::default()
            };
            Ask::of(environment, item, request)
        })
        .collect();
    drawn(policy, &asks).context("sampling")
}

/// Samples; refuses an item that leaves no room for an answer.
fn drawn(policy: &Policy, asks: &[Ask<'_>]) -> Result<Vec<Vec<Completion>>> {
    for (ask, index) in asks.iter().zip(1..) {
        policy
            .room(&ask.request.messages)
            .with_context(|| format!("item {index}"))?;
    }
    play::sample(policy, &Manner::taught(), asks, None)
}

/// The share of held-out items whose greedy answer is right; `None` if there
/// are no such items.
fn held_out(
    policy: &Policy,
    environment: &dyn Environment,
    args: &TrainArgs,
) -> Result<Option<f64>> {
    let items: Vec<Item> = (0..HELD_OUT)
        .map(|index| Seed::derive(&[b"task train held out", &index.to_le_bytes()]))
        .map(|seed| environment.generate_held_out(&seed, args.level))
        .filter(|item| item.fault().is_none())
        .collect();
    if items.is_empty() {
        return Ok(None);
    }
    let asks: Vec<Ask<'_>> = items
        .iter()
        .map(|item| {
            let request = Request {
                messages: Manner::taught().chat(&answer_prompt(item)),
                max_tokens: args.tokens as usize,
                temperature: 0.0,
                ..Request::default()
            };
            Ask::of(environment, item, request)
        })
        .collect();
    let groups = drawn(policy, &asks).context("sampling held-out items")?;
    let right = items
        .iter()
        .zip(&groups)
        .filter(|(item, group)| {
            let first = group.first().map_or("", |completion| &completion.text);
            let score = environment.score(item, first);
            score.well_formed() && score.is_right()
        })
        .count();
    Ok(Some(right as f64 / items.len() as f64))
}

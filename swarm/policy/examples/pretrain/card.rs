//! The model card: what it was made from, at which cost, and what it can do.

use std::fmt::Write;

use anyhow::Result;

use crate::corpus::{Mix, Tally};
use crate::measure::{Measured, total};
use crate::{Arguments, Cost};

/// The card as Markdown.
pub(crate) fn render(
    arguments: &Arguments,
    mix: &Mix,
    parameters: usize,
    bytes: usize,
    cost: &Cost,
    measured: &Measured,
) -> Result<String> {
    Ok(format!(
        "# The embedded base model

A Qwen2 decoder of {parameters} parameters ({bytes} bytes in bf16) with a byte-level
BPE tokenizer of its own. It is what a fresh peer starts from: it knows the
project's environments a little, writes critiques and resolutions in the right
form, and leaves reinforcement learning something to find.

Licence: MIT OR Apache-2.0, as the project. It was trained on nothing but text
that the project's own environments generate; it knows no language.

## How it was made

```sh
cargo run --release -p policy --example pretrain -- --seed {seed} --steps {steps} --batch {batch}
```

The same seed and build give the same bytes. {tokens} tokens, {wall:.0} s of wall
time on two cores; final loss {loss:.4} nats a completion token. Muon (peak
{muon}) for the matrices inside the layers, AdamW (peak {adamw}) for the rest.
Questions of the held-out slice (`tasks::held_out`) were never drawn.

Mix: {critique}% critiques of right and wrong proposals, evenly
({critique_think}% with the comparison written out), {resolve}% resolutions, the
rest answers, of which {untagged}% bare and {think}% of the others with the steps
written out; levels weighted {levels:?}.

## What it can do before any RL

{tables}",
        seed = arguments.seed,
        steps = arguments.steps,
        batch = arguments.batch,
        muon = arguments.muon_rate,
        adamw = arguments.adamw_rate,
        tokens = cost.tokens,
        wall = cost.wall_s,
        loss = cost.final_loss,
        critique = mix.critique,
        critique_think = mix.critique_think,
        resolve = mix.resolve,
        untagged = mix.untagged,
        think = mix.think,
        levels = mix.levels,
        tables = tables(measured),
    ))
}

fn percent(part: u32, tally: &Tally) -> String {
    format!(
        "{:.0}%",
        100.0 * f64::from(part) / f64::from(tally.tries.max(1))
    )
}

/// The tables alone.
pub(crate) fn tables(measured: &Measured) -> String {
    let mut text = String::from(
        "All on held-out questions; `sampled` at temperature 1.

| environment and level | greedy | sampled | well formed |
| --- | --- | --- | --- |
",
    );
    let none = Tally::default();
    let row = |name: &str, greedy: &Tally, sampled: &Tally| {
        format!(
            "| {name} | {} | {} | {} |\n",
            percent(greedy.right, greedy),
            percent(sampled.right, sampled),
            percent(sampled.formed, sampled)
        )
    };
    for (name, greedy) in &measured.greedy {
        text += &row(name, greedy, measured.sampled.get(name).unwrap_or(&none));
    }
    text += &row(
        "**all**",
        &total(&measured.greedy),
        &total(&measured.sampled),
    );
    text +=
        "\n| environment | verdicts on balanced proposals | resolutions |\n| --- | --- | --- |\n";
    for (name, verdicts) in &measured.verdicts {
        let resolved = measured.resolutions.get(name).unwrap_or(&none);
        let _ = writeln!(
            text,
            "| {name} | {} | {} |",
            percent(verdicts.right, verdicts),
            percent(resolved.right, resolved)
        );
    }
    let (verdicts, resolutions) = (total(&measured.verdicts), total(&measured.resolutions));
    let _ = writeln!(
        text,
        "| **all** | {} | {} |\n\nOn its own sampled answers: {} of verdicts on right ones and {} on wrong ones are right\n(balanced {:.0}%). A resolution reads four of the model's own answers and two of its\nown verdicts on each.",
        percent(verdicts.right, &verdicts),
        percent(resolutions.right, &resolutions),
        percent(measured.own_right.right, &measured.own_right),
        percent(measured.own_wrong.right, &measured.own_wrong),
        50.0 * (measured.own_right.accuracy() + measured.own_wrong.accuracy()),
    );
    text
}

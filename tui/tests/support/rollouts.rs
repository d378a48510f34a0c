//! The synthetic run's prompts, completions and critiques.

use swarm_core::event::{CompletionView, CritiqueView, Event, GroupView, Part, Stage};
use swarm_core::ids::PeerId;

use super::{Builder, ENVIRONMENTS, peers};

/// Completions in a group.
pub(super) const GROUP: usize = 8;

pub(super) fn groups(builder: &mut Builder, round: u64, at: u64, skill: f64) {
    let everyone = peers();
    for (stage, many) in [
        (Stage::Answer, 3),
        (Stage::Critique, 1),
        (Stage::Resolve, 1),
    ] {
        for owner in everyone {
            for slot in 0..many {
                let view = group(builder, round, stage, owner, slot, skill);
                builder.tell(at + 10 * slot, Some(everyone[0]), Event::GroupJudged(view));
            }
        }
    }
}

/// What a completion is made of.
struct Item {
    working: String,
    careless: String,
    answer: String,
}

fn group(
    builder: &mut Builder,
    round: u64,
    stage: Stage,
    owner: PeerId,
    slot: u64,
    skill: f64,
) -> GroupView {
    let (a, b) = (10 + builder.dice.below(90), 10 + builder.dice.below(90));
    let env = ENVIRONMENTS[(slot as usize * 7 + owner.0[0] as usize + round as usize) % 3 * 4 % 12];
    let word: String = (0..5)
        .map(|_| char::from(b'A' + builder.dice.below(6) as u8))
        .collect();
    let (question, answer) = match env {
        "add" => (format!("add {a}+{b}"), (a + b).to_string()),
        "reverse" => (format!("reverse {word}"), word.chars().rev().collect()),
        _ => (
            format!("chain {}+{}-{}", a / 10, b / 10, a % 9),
            (a / 10 + b / 10 - a % 9 % (a / 10 + b / 10)).to_string(),
        ),
    };
    let careless: String = match env {
        "add" => (a + b - 10).to_string(),
        "reverse" => word.clone(),
        _ => (a / 10 + b / 10 + 1).to_string(),
    };
    let working = match env {
        "add" => format!(
            "{}+{}={} {}+{}={}",
            a % 10,
            b % 10,
            a % 10 + b % 10,
            a / 10,
            b / 10,
            a / 10 + b / 10
        ),
        "reverse" => word
            .chars()
            .enumerate()
            .map(|(at, letter)| format!("{}{letter} ", at + 1))
            .collect(),
        _ => format!("{}+{}={}", a / 10, b / 10, a / 10 + b / 10),
    };
    let prompt = match stage {
        Stage::Critique => format!("{question}\ncheck {careless}"),
        Stage::Resolve => format!("{question}\npeers {answer}=2!1 {careless}=1!2"),
        _ => question,
    };
    let item = Item {
        working,
        careless,
        answer: answer.clone(),
    };
    let completions = (0..GROUP)
        .map(|_| completion(builder, stage, owner, &item, skill))
        .collect();
    GroupView {
        round,
        stage,
        owner,
        slot: if slot == 0 {
            "common 0".to_owned()
        } else {
            format!("own {slot}")
        },
        env: env.to_owned(),
        level: 1 + (round / 6 % 3) as u8,
        prompt,
        reference: answer,
        completions,
    }
}

fn completion(
    builder: &mut Builder,
    stage: Stage,
    owner: PeerId,
    item: &Item,
    skill: f64,
) -> CompletionView {
    let formed = builder.dice.unit() < 0.8 + 0.18 * skill;
    let right = formed && builder.dice.unit() < 0.38 + 0.35 * skill;
    let Item {
        working,
        careless,
        answer,
    } = item;
    let (tag, truth, lie) = match stage {
        Stage::Critique => ("verdict", "wrong", "right"),
        _ => ("answer", answer.as_str(), careless.as_str()),
    };
    let said = if right { truth } else { lie };
    let text = match formed {
        true => format!("<think>{working}</think><{tag}>{said}</{tag}>"),
        false => format!("<think>{working} {working}"),
    };
    let why = match (formed, right) {
        (false, _) => format!("no <{tag}>, so nothing else counts"),
        (true, true) => format!("{truth} is right"),
        (true, false) => format!("{said} is not {truth}"),
    };
    let brevity = if right {
        700_000 + builder.dice.below(300_000) as u32
    } else {
        0
    };
    let full = |is: bool| if is { 1_000_000 } else { 0 };
    CompletionView {
        text,
        reward_ppm: if right { 900_000 + brevity / 10 } else { 0 },
        parts: [
            ("format", full(formed)),
            ("correct", full(right)),
            ("brevity", brevity),
        ]
        .map(|(name, ppm)| Part {
            name: name.to_owned(),
            ppm,
        })
        .to_vec(),
        why,
        critiques: critiques(builder, stage, owner, (right, said, answer)),
    }
}

fn critiques(
    builder: &mut Builder,
    stage: Stage,
    owner: PeerId,
    (right, said, answer): (bool, &str, &str),
) -> Vec<CritiqueView> {
    if stage == Stage::Critique {
        return Vec::new();
    }
    let critics = peers()
        .into_iter()
        .filter(|critic| *critic != owner)
        .take(2);
    critics
        .map(|critic| {
            let share = if right {
                5 + builder.dice.below(4)
            } else {
                builder.dice.below(5)
            };
            let verdict = if share > 4 { "right" } else { "wrong" };
            let steps: Vec<String> = answer
                .chars()
                .zip(said.chars())
                .map(|(ours, theirs)| {
                    let sign = if ours == theirs { '=' } else { '!' };
                    format!("{ours}{sign}{theirs}")
                })
                .collect();
            CritiqueView {
                critic,
                right_ppm: share as u32 * 125_000,
                weight_ppm: 180_000 + builder.dice.below(500_000) as u32,
                text: format!(
                    "<think>{}</think><verdict>{verdict}</verdict>",
                    steps.join(" ")
                ),
            }
        })
        .collect()
}

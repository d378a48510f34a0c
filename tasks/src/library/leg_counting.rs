//! `leg_counting`.

use std::fmt::Write as _;

use super::{Ask, Puzzle, Random, Task, read};

pub(super) const LEG_COUNTING: Task = Task {
    name: "leg_counting",
    summary: "how many legs some animals have together",
    levels: [
        ("one or two kinds, up to five of each", 5_000),
        ("two to four kinds, up to ten of each", 1_000_000),
        ("four to eight kinds, up to twenty of each", 1_000_000_000),
    ],
    alphabet: "0123456789",
    answer_chars: 8,
    make: leg_counting,
    accepts: read::number,
    upstream: read::upstream_text,
};

const ANIMALS: [(&str, i64); 37] = [
    ("snake", 0),
    ("sea slug", 0),
    ("jellyfish", 0),
    ("flatworm", 0),
    ("leech", 0),
    ("chicken", 2),
    ("bird", 2),
    ("human", 2),
    ("duck", 2),
    ("dog", 4),
    ("cat", 4),
    ("cow", 4),
    ("horse", 4),
    ("lion", 4),
    ("elephant", 4),
    ("giraffe", 4),
    ("tiger", 4),
    ("deer", 4),
    ("sheep", 4),
    ("starfish", 5),
    ("insect", 6),
    ("ant", 6),
    ("butterfly", 6),
    ("beetle", 6),
    ("bee", 6),
    ("wasp", 6),
    ("grasshopper", 6),
    ("cricket", 6),
    ("cockroach", 6),
    ("praying mantis", 6),
    ("firefly", 6),
    ("spider", 8),
    ("scorpion", 8),
    ("crab", 10),
    ("lobster", 10),
    ("shrimp", 10),
    ("woodlouse", 14),
];

fn leg_counting(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    // kinds, of each
    const CONFIGURATIONS: [((usize, usize), i64); 4] =
        [((3, 10), 15), ((1, 2), 5), ((2, 4), 10), ((4, 8), 20)];
    let (kinds, most) = *ask.pick(&CONFIGURATIONS);
    let count = random.size(kinds);
    let (mut legs, mut shown, mut steps) = (0, String::new(), String::new());
    shown.reserve(count * 16);
    steps.reserve(count * 16);
    for at in random.sample(ANIMALS.len(), count) {
        let (animal, each) = ANIMALS[at];
        let number = random.int(1, most);
        let plural = if number > 1 { "s" } else { "" };
        if !steps.is_empty() {
            shown.push_str(", ");
            steps.push('\n');
        }
        // Writing to a text cannot fail.
        let _ = write!(shown, "{number} {animal}{plural}");
        let _ = write!(steps, "{number} * {each} = {}", number * each);
        legs += number * each;
    }
    let question = ask.say(
        || {
            format!(
                "Your task is to count how many legs there are in total when given a list of animals.\n\nNow, how many legs are there in total if you have {shown}?\n"
            )
        },
        || format!("How many legs have {shown} together?"),
    );
    Some(
        Puzzle::new(question, legs)
            .fact("animals", shown)
            .working(steps)
            .slips(|item| {
                let legs: i64 = item.reference.parse().unwrap_or(0);
                [legs + 2, legs + 4, (legs - 2).max(1)]
                    .map(|wrong| wrong.to_string())
                    .to_vec()
            }),
    )
}

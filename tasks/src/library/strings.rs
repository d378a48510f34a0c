//! `binary_alternation`, `string_insertion` and `string_splitting`.

use super::{Ask, Puzzle, Random, Task, read};
use crate::Ppm;

pub(super) const BINARY_ALTERNATION: Task = Task {
    name: "binary_alternation",
    summary: "how many swaps make bits alternate",
    levels: [
        ("six to ten bits", 500),
        ("ten to sixteen bits", 10_000),
        ("sixteen to thirty bits", 10_000_000),
    ],
    alphabet: "-0123456789",
    answer_chars: 8,
    make: binary_alternation,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const STRING_INSERTION: Task = Task {
    name: "string_insertion",
    summary: "letters inserted after certain groups of letters",
    levels: [
        ("five to eight letters", 1_000),
        ("eight to fourteen letters", 100_000),
        ("fourteen to twenty-four letters", 10_000_000),
    ],
    alphabet: "ABCDE",
    answer_chars: 40,
    make: string_insertion,
    accepts: read::text,
    upstream: |item, answer| {
        if answer == item.reference {
            return Ppm::ONE;
        }
        let joined = read::Literal::python(answer).and_then(|literal| match literal {
            read::Literal::Text(text) => Some(text),
            literal => literal
                .list()?
                .iter()
                .map(|part| match part {
                    read::Literal::Text(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
        });
        if joined.as_deref() == Some(&item.reference) {
            Ppm(100_000)
        } else {
            Ppm::ZERO
        }
    },
};

pub(super) const STRING_SPLITTING: Task = Task {
    name: "string_splitting",
    summary: "machines taken apart by rules until none applies",
    levels: [
        ("up to six of each machine", 340),
        ("up to nine of each machine", 997),
        ("up to twenty of each machine", 9_258),
    ],
    alphabet: "0123456789 ",
    answer_chars: 40,
    make: string_splitting,
    accepts: read::words,
    upstream: read::upstream_text,
};

fn binary_alternation(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let length = random.size(*ask.pick(&[(10, 30), (6, 10), (10, 16), (16, 30)]));
    let solvable = random.unit() < 0.8;
    let (mut ones, mut zeros) = (length / 2, length / 2);
    if length % 2 == 1 {
        if random.unit() < 0.5 {
            ones += 1;
        } else {
            zeros += 1;
        }
    }
    if !solvable {
        match ones.cmp(&zeros) {
            std::cmp::Ordering::Greater => ones += 1,
            std::cmp::Ordering::Less => zeros += 1,
            std::cmp::Ordering::Equal if random.unit() < 0.5 => ones += 2,
            std::cmp::Ordering::Equal => zeros += 2,
        }
    }
    let mut bits = [vec![1u8; ones], vec![0; zeros]].concat();
    random.shuffle(&mut bits);
    // Half of the places that differ from a pattern that begins with this bit.
    let swaps = |first: usize| {
        let differs = |(at, bit): &(usize, &u8)| usize::from(**bit) != (first + at) % 2;
        (bits.iter().enumerate().filter(differs).count() / 2) as i64
    };
    let answer = match ones.abs_diff(zeros) {
        0 => swaps(0).min(swaps(1)),
        1 => swaps(usize::from(ones > zeros)),
        _ => -1,
    };
    let shown: String = bits.iter().map(u8::to_string).collect();
    let question = ask.say(
        || {
            format!(
                "Given a binary string, return the minimum number of character swaps to make it alternating, or -1 if it is impossible.\n\nThe string is called alternating if no two adjacent characters are equal. For example, the strings \"010\" and \"1010\" are alternating, while the string \"0100\" is not.\n\nAny two characters may be swapped, even if they are not adjacent.\n\nNow, determine the minimum number of swaps to make the following binary string alternating: {shown}\n"
            )
        },
        || {
            format!(
                "A swap exchanges any two bits. How many swaps at least make 0 and 1 alternate in {shown}? Answer -1 if none do."
            )
        },
    );
    Some(Puzzle::new(question, answer).fact("string", shown).near())
}

const INSERTIONS: [(&str, char); 5] = [
    ("ABCD", 'A'),
    ("BCDE", 'B'),
    ("CDEA", 'C'),
    ("DEAB", 'D'),
    ("EABC", 'E'),
];

fn string_insertion(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let length = random.size(*ask.pick(&[(5, 20), (5, 8), (8, 14), (14, 24)]));
    let mut text = String::new();
    for _ in 0..length {
        text.push(*random.choice(&['A', 'B', 'C', 'D', 'E']));
    }
    if !ask.upstream && random.index(8) != 0 {
        // Letters at random hardly ever hold a group.
        let at = random.size((0, length - 4));
        text.replace_range(at..at + 4, random.choice(&INSERTIONS).0);
    }
    let (mut answer, mut rest) = (String::new(), text.as_str());
    while let Some(first) = rest.chars().next() {
        match INSERTIONS.iter().find(|(group, _)| rest.starts_with(group)) {
            Some((group, letter)) => {
                answer.push_str(group);
                answer.push(*letter);
                rest = &rest[group.len()..];
            }
            None => {
                answer.push(first);
                rest = &rest[1..];
            }
        }
    }
    let question = ask.say(
        || {
            format!(
                "Given a string consisting of characters A, B, C, D, and E, your job is to insert a character according to the following pattern:\n1. If there is a substring ABCD in the string, insert the character A after the substring.\n2. If there is a substring BCDE in the string, insert the character B after the substring.\n3. If there is a substring CDEA in the string, insert the character C after the substring.\n4. If there is a substring DEAB in the string, insert the character D after the substring.\n5. If there is a substring EABC in the string, insert the character E after the substring.\n\nOnce you have inserted a character, you have to skip over the substring and the inserted character and continue the search from the next character.\n\nYour output should be a string that has been modified according to the pattern.\n\nGiven the following string, provide the answer after inserting the characters according to the pattern: {text}\n"
            )
        },
        || {
            format!(
                "Read {text} from left to right. After ABCD insert A, after BCDE insert B, after CDEA insert C, after DEAB insert D, after EABC insert E, and go on behind the inserted letter. What comes out?"
            )
        },
    );
    Some(
        Puzzle::new(question, answer)
            .fact("string", &text)
            .copy(text),
    )
}

/// One rule, the first that applies; whether one did.
fn split_once(counts: &mut [u32; 6]) -> bool {
    let [a, b, c, x, y, z] = counts;
    if *a >= 1 {
        (*a, *x, *y) = (*a - 1, *x + 2, *y + 1);
    } else if *b >= 2 {
        (*b, *x) = (*b - 2, *x + 1);
    } else if *c >= 2 {
        (*c, *y) = (*c - 2, *y + 1);
    } else if *b >= 1 && *c >= 1 {
        (*a, *b, *c) = (*a + 1, *b - 1, *c - 1);
    } else if *x >= 1 && *y >= 1 {
        (*x, *y, *z) = (*x - 1, *y - 1, *z + 1);
    } else {
        return false;
    }
    true
}

fn string_splitting(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    // Below a thousand applications, which upstream stops at.
    let most = *ask.pick(&[5, 6, 9, 20]);
    let [a, b, c] = [(); 3].map(|()| random.int(0, most) as u32);
    let mut counts = [a, b, c, 0, 0, 0];
    let mut steps = vec![read::list(&counts, " ")];
    while split_once(&mut counts) {
        steps.push(read::list(&counts, " "));
    }
    let question = ask.say(
        || {
            format!(
                "There is a dismantling engineer who has old machines A, B, and C.\nHe discovered that he can obtain a batch of new parts X, Y, Z through the following rules:\n1. One unit of machine A can be dismanteled into two units of part X and one unit of part Y.\n2. Two units of machine B can be dismanteled into one unit of part X.\n3. Two units of machine C can be dismanteled into one unit of part Y.\n4. One unit of machine B and one unit of machine C can be combined into one unit of machine A.\n5. One unit of part X and one unit of part Y can be combined into one unit of part Z.\n\nGiven a certain number of initial machines, your job is to continuously cycle through the rules 1-5 above, exausting one rule at a time, until no more rules can be applied, or until a state (counts of each machine and part type) is repeated.\nAfter you make use of a rule, you should update the counts of each machine and part type accordingly, and then restart the process from rule 1.\n\nThe output should be the count of each machine and part type after the rules have been exhaustively applied in the following order: A B C X Y Z.\nFor example 1 0 1 5 4 3 means that you have 1 machine A, 0 machine B, 1 machine C, 5 part X, 4 part Y, and 3 part Z.\n\nNow, you have {a} machine A, {b} machine B, and {c} machine C. Provide the count of each machine and part type after applying the above rules.\nNote: Apply the rules at most 1000 times. If the rules cannot be applied anymore, or if you have reached the maximum number of iterations, stop and provide the current counts of each machine and part type.\n"
            )
        },
        || {
            format!(
                "You have {a} of A, {b} of B and {c} of C. Apply the first rule that can be applied, again and again, until none can:\n1. A becomes two X and one Y.\n2. Two B become one X.\n3. Two C become one Y.\n4. One B and one C become one A.\n5. One X and one Y become one Z.\nHow many of A B C X Y Z are there then? Answer with six numbers, spaces between."
            )
        },
    );
    let answer = steps.last().cloned().unwrap_or_default();
    Some(
        Puzzle::new(question, answer)
            .fact("initial_machines", read::list(&[a, b, c], " "))
            .working(steps.join("\n"))
            .copy(steps[0].clone()),
    )
}

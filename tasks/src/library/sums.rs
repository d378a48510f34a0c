//! `chain_sum` and `products`.

use std::fmt::Write as _;

use super::{Ask, Puzzle, Random, Task, read};

/// Terms and digits, each from and to.
type Configuration = ((usize, usize), (usize, usize));

pub(super) const CHAIN_SUM: Task = Task {
    name: "chain_sum",
    summary: "a chain of additions and subtractions",
    levels: [
        ("two or three numbers of one or two digits", 20_000),
        ("three to five of two or three digits", 1_000_000_000),
        ("five to eight of three to five digits", 1_000_000_000_000),
    ],
    alphabet: "-0123456789",
    answer_chars: 16,
    make: chain_sum,
    accepts: read::number,
    upstream: read::upstream_number,
};

pub(super) const PRODUCTS: Task = Task {
    name: "products",
    summary: "the product of two or three numbers",
    levels: [
        ("two numbers of one or two digits", 8_000),
        ("two of two or three digits", 800_000),
        ("two or three of three or four digits", 80_000_000),
    ],
    alphabet: "0123456789",
    answer_chars: 24,
    make: products,
    accepts: read::number,
    upstream: read::upstream_number,
};

/// Numbers of this many digits: from, to.
fn bounds(digits: usize) -> (i64, i64) {
    let power = |exponent: usize| 10i64.pow(u32::try_from(exponent).unwrap_or(0));
    let low = if digits == 1 { 0 } else { power(digits - 1) };
    (low, power(digits) - 1)
}

fn numbers(ask: &Ask, random: &mut Random, configurations: &[Configuration; 4]) -> Vec<i64> {
    let (terms, digits) = *ask.pick(configurations);
    let count = random.size(terms);
    let (low, high) = bounds(random.size(digits));
    (0..count).map(|_| random.int(low, high)).collect()
}

fn chain_sum(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((2, 6), (1, 4)),
        ((2, 3), (1, 2)),
        ((3, 5), (2, 3)),
        ((5, 8), (3, 5)),
    ];
    let numbers = numbers(ask, random, &CONFIGURATIONS);
    let signs: Vec<bool> = numbers[1..]
        .iter()
        .map(|_| *random.choice(&[true, false]))
        .collect();
    let (mut sum, mut shown, mut steps) = (numbers[0], String::new(), String::new());
    shown.reserve(numbers.len() * 8);
    steps.reserve(numbers.len() * 28);
    // Writing to a text cannot fail.
    let _ = write!(shown, "{sum}");
    for (number, plus) in numbers[1..].iter().zip(signs) {
        let sign = if plus { '+' } else { '-' };
        let next = if plus { sum + number } else { sum - number };
        let _ = write!(shown, " {sign} {number}");
        if !steps.is_empty() {
            steps.push('\n');
        }
        let _ = write!(steps, "{sum} {sign} {number} = {next}");
        sum = next;
    }
    let question = ask.say(
        || format!("State the final answer to the following arithmetic problem: {shown} ="),
        || format!("Calculate {shown}."),
    );
    Some(
        Puzzle::new(question, sum)
            .fact("expression", shown)
            .working(steps)
            .near(),
    )
}

fn products(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((2, 2), (1, 5)),
        ((2, 2), (1, 2)),
        ((2, 2), (2, 3)),
        ((2, 3), (3, 4)),
    ];
    let numbers = numbers(ask, random, &CONFIGURATIONS);
    let product: i128 = numbers.iter().map(|number| i128::from(*number)).product();
    let shown = read::list(&numbers, " * ");
    let question = ask.say(
        || format!("Solve the following multiplication: {shown}. Give only the result as your final answer."),
        || format!("Calculate {shown}."),
    );
    Some(
        Puzzle::new(question, product)
            .fact("expression", shown)
            .near(),
    )
}

//! `gcd`, `lcm`, `prime_factorization` and `count_primes`.

use std::sync::OnceLock;

use super::{Ask, Puzzle, Random, Task, fact, read};
use crate::{Item, Ppm};

const DIGITS: &str = "0123456789";

pub(super) const GCD: Task = Task {
    name: "gcd",
    summary: "the greatest common divisor of a few numbers",
    levels: [
        ("two numbers to 100", 5_000),
        ("two numbers to 1,000", 500_000),
        ("two to four numbers to 10,000", 50_000_000),
    ],
    alphabet: DIGITS,
    answer_chars: 16,
    make: gcd_puzzle,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const LCM: Task = Task {
    name: "lcm",
    summary: "the least common multiple of a few numbers",
    levels: [
        ("two numbers to 20", 300),
        ("two numbers to 100", 9_000),
        ("two or three numbers to 200", 30_000),
    ],
    alphabet: DIGITS,
    answer_chars: 16,
    make: lcm_puzzle,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const PRIME_FACTORIZATION: Task = Task {
    name: "prime_factorization",
    summary: "the prime factors of a number",
    levels: [
        ("2 to 500, not prime", 404),
        ("500 to 5,000, not prime", 3_500),
        ("5,000 to 100,000, not prime", 80_000),
    ],
    alphabet: "0123456789\u{d7} ",
    answer_chars: 80,
    make: prime_factorization,
    accepts: is_factorization,
    upstream: upstream_factorization,
};

pub(super) const COUNT_PRIMES: Task = Task {
    name: "count_primes",
    summary: "how many primes lie in an interval",
    levels: [
        ("up to 50", 1_275),
        ("up to 200", 20_100),
        ("up to 1,000", 500_500),
    ],
    alphabet: DIGITS,
    answer_chars: 8,
    make: count_primes,
    accepts: read::number,
    upstream: read::upstream_text,
};

/// How many numbers, and how large.
type Configuration = ((usize, usize), (i64, i64));

pub(super) fn gcd(left: i128, right: i128) -> i128 {
    let (mut left, mut right) = (left.abs(), right.abs());
    while right != 0 {
        if let (Ok(mut short), Ok(mut other)) = (u64::try_from(left), u64::try_from(right)) {
            // Many times as fast, and what most are from the beginning.
            while other != 0 {
                (short, other) = (other, short % other);
            }
            return short.into();
        }
        (left, right) = (right, left % right);
    }
    left
}

/// Numbers for which `good` holds of what `fold` makes of them: three tries,
/// and the last ones in any case.
fn numbers(
    configuration: &Configuration,
    random: &mut Random,
    fold: fn(i128, i128) -> i128,
    good: fn(&[i64], i128) -> bool,
) -> (Vec<i64>, i128) {
    let (count, (low, high)) = *configuration;
    let mut last = (Vec::new(), 0);
    for _ in 0..3 {
        let count = random.size(count);
        let numbers: Vec<i64> = (0..count).map(|_| random.int(low, high)).collect();
        let result = numbers
            .iter()
            .map(|n| i128::from(*n))
            .reduce(fold)
            .unwrap_or(0);
        let done = good(&numbers, result);
        last = (numbers, result);
        if done {
            break;
        }
    }
    last
}

fn gcd_puzzle(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((2, 2), (1, 1_000)),
        ((2, 2), (1, 100)),
        ((2, 2), (1, 1_000)),
        ((2, 4), (1, 10_000)),
    ];
    let (numbers, result) = numbers(ask.pick(&CONFIGURATIONS), random, gcd, |_, gcd| gcd > 1);
    let shown = read::list(&numbers, ", ");
    let question = ask.say(
        || format!("Find the Greatest Common Divisor (GCD) of these numbers: {shown}. Give only the GCD as your final answer."),
        || format!("Find the greatest common divisor of {shown}."),
    );
    Some(Puzzle::new(question, result).fact("numbers", shown).near())
}

fn lcm_puzzle(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [Configuration; 4] = [
        ((2, 2), (1, 100)),
        ((2, 2), (1, 20)),
        ((2, 2), (1, 100)),
        ((2, 3), (1, 200)),
    ];
    let fold = |left, right| left / gcd(left, right) * right;
    let good = |numbers: &[i64], lcm| lcm < numbers.iter().map(|n| i128::from(*n)).product();
    let (numbers, result) = numbers(ask.pick(&CONFIGURATIONS), random, fold, good);
    let shown = read::list(&numbers, ", ");
    let question = ask.say(
        || format!("Find the Least Common Multiple (LCM) of these numbers: {shown}"),
        || format!("Find the least common multiple of {shown}."),
    );
    Some(Puzzle::new(question, result).fact("numbers", shown).near())
}

fn factors(mut number: i64) -> Vec<i64> {
    let (mut factors, mut divisor) = (Vec::new(), 2);
    while divisor * divisor <= number {
        while number % divisor == 0 {
            factors.push(divisor);
            number /= divisor;
        }
        // After two, odd ones only.
        divisor += 1 + (divisor & 1);
    }
    if number > 1 {
        factors.push(number);
    }
    factors
}

fn prime_factorization(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const CONFIGURATIONS: [(i64, i64); 4] = [(2, 1_000), (2, 500), (500, 5_000), (5_000, 100_000)];
    let (low, high) = *ask.pick(&CONFIGURATIONS);
    let number = random.int(low, high);
    let factors = factors(number);
    if !ask.upstream && factors.len() == 1 {
        // The number itself is the answer to a prime one.
        return None;
    }
    let question = ask.say(
        || {
            format!(
                "Find the prime factorization of {number}. Write the factors separated by \u{d7} \
                 (Example: for 12 the answer would be: 2 \u{d7} 2 \u{d7} 3)"
            )
        },
        || format!("Find the prime factors of {number}. Write them with \u{d7} between, as 2 \u{d7} 2 \u{d7} 3 for 12."),
    );
    Some(
        Puzzle::new(question, read::list(&factors, " \u{d7} "))
            .fact("number", number)
            .slips(|item| {
                let number = fact(item, "number");
                vec![
                    format!("1 \u{d7} {number}"),
                    format!("2 \u{d7} {}", item.reference),
                    number.to_owned(),
                ]
            }),
    )
}

/// The factors of a product as they are written, in rising order.
fn read_factors(answer: &str, is_sign: fn(char) -> bool) -> Option<Vec<i128>> {
    let mut factors = answer
        .split(is_sign)
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(read::python_int)
        .collect::<Option<Vec<i128>>>()?;
    factors.sort_unstable();
    Some(factors)
}

fn is_sign(c: char) -> bool {
    c == '\u{d7}'
}

/// In any order; `*` and `x` are read as the sign of multiplication too.
fn is_factorization(item: &Item, answer: &str) -> bool {
    let is_any_sign = |c| matches!(c, '*' | 'x' | '\u{d7}');
    !answer.split(is_any_sign).any(|part| part.trim().is_empty())
        && read_factors(answer, is_any_sign) == read_factors(&item.reference, is_sign)
}

fn upstream_factorization(item: &Item, answer: &str) -> Ppm {
    // Upstream fails on what is no number; the answer is then worth nothing.
    let Some(factors) = read_factors(answer, is_sign) else {
        return Ppm::ZERO;
    };
    if Some(&factors) == read_factors(&item.reference, is_sign).as_ref() {
        return Ppm::ONE;
    }
    let product = factors
        .iter()
        .try_fold(1i128, |product, factor| product.checked_mul(*factor));
    if product == fact(item, "number").parse().ok() {
        Ppm(500_000)
    } else {
        Ppm(10_000)
    }
}

/// Whether each number up to ten thousand is prime, by sieve.
fn primes() -> &'static [bool] {
    const LIMIT: usize = 10_000;
    static LIST: OnceLock<Vec<bool>> = OnceLock::new();
    LIST.get_or_init(|| {
        let mut prime = vec![true; LIMIT + 1];
        prime[..2].fill(false);
        for number in 2..=100 {
            if prime[number] {
                for multiple in (number * number..=LIMIT).step_by(number) {
                    prime[multiple] = false;
                }
            }
        }
        prime
    })
}

fn count_primes(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let high = *ask.pick(&[10_000, 50, 200, 1_000]);
    let start = random.size((1, high));
    let end = random.size((start, high));
    let count = primes()[start..=end].iter().filter(|prime| **prime).count();
    let question = ask.say(
        || {
            format!(
                "Count how many prime numbers there are between {start} and {end} (inclusive) ?"
            )
        },
        || format!("How many primes are there from {start} to {end}, both included?"),
    );
    Some(
        Puzzle::new(question, count)
            .fact("start", start)
            .fact("end", end)
            .slips(read::miscounts),
    )
}

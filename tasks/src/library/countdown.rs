//! `countdown`: an expression of given numbers that comes to a target.

use super::{Ask, Puzzle, Random, Task, divisors::gcd, fact, read};
use crate::{Item, Ppm};

pub(super) const COUNTDOWN: Task = Task {
    name: "countdown",
    summary: "an expression of given numbers that comes to a target",
    levels: [
        ("three numbers to 20", 10_000),
        ("four numbers to 50", 1_000_000_000),
        ("four to six numbers to 100", 1_000_000_000_000),
    ],
    alphabet: "0123456789+-*/() ",
    answer_chars: 96,
    make: countdown,
    accepts: is_solution,
    upstream: upstream_score,
};

struct Configuration {
    numbers: (usize, usize),
    values: (i64, i64),
    targets: (i64, i64),
}

/// Upstream's tries for a target in range.
const TRIES: usize = 100;

fn countdown(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(numbers: (usize, usize), values: (i64, i64), targets: (i64, i64)) -> Configuration {
        Configuration {
            numbers,
            values,
            targets,
        }
    }
    const CONFIGURATIONS: [Configuration; 4] = [
        of((4, 6), (1, 100), (100, 999)),
        of((3, 3), (1, 20), (10, 100)),
        of((4, 4), (1, 50), (10, 500)),
        of((4, 6), (1, 100), (100, 999)),
    ];
    let configuration = ask.pick(&CONFIGURATIONS);
    let (low, high) = configuration.targets;
    let count = random.size(configuration.numbers);
    let (expression, mut numbers, target) = (0..TRIES).find_map(|_| {
        let drawn = expression(random, count, configuration.values)?;
        (low..=high).contains(&drawn.2).then_some(drawn)
    })?;
    random.shuffle(&mut numbers);
    let shown = read::list(&numbers, ", ");
    let question = if ask.upstream {
        let question = match random.index(3) {
            0 => format!(
                "Using all the numbers {shown}, create an expression that equals {target}.\nYou can only use each number once."
            ),
            1 => format!(
                "Find a way to make {target} using all of these numbers: {shown}.\nEach number can only be used once."
            ),
            _ => format!(
                "Calculate {target} using all of these numbers: {shown}.\nEach number may be used at most once."
            ),
        };
        format!(
            "{question}\n\nFinal answer format instructions:\n1. Provide your solution as a arithmetic expression (no '=' sign).\n2. Do not include the target number in the expression.\n3. Use '*' for multiplication.\n4. Use '/' for division.\n5. Do not include any other text or formatting.\n"
        )
    } else {
        format!(
            "Write an expression that equals {target}, with each of the numbers {shown} exactly once, and + - * / and brackets."
        )
    };
    let joined = |sign: &str| read::list(&numbers, sign);
    let puzzle = Puzzle::new(question, expression)
        .fact("numbers", &shown)
        .fact("target", target)
        .decoys(vec![joined(" + "), joined(" * ")]);
    Some(puzzle.copy(target.to_string()).copy(shown))
}

/// An expression from left to right, its numbers and its value.
fn expression(
    random: &mut Random,
    count: usize,
    (low, high): (i64, i64),
) -> Option<(String, Vec<i64>, i64)> {
    let mut numbers: Vec<i64> = (0..count).map(|_| random.int(low, high)).collect();
    let (mut value, mut shown) = (numbers[0], numbers[0].to_string());
    let mut is_sum = false;
    for at in 1..count {
        let mut sign = *random.choice(&['+', '-', '*', '/']);
        if sign == '/' {
            let mut rest = numbers[at..].to_vec();
            random.shuffle(&mut rest);
            match rest.iter().find(|divisor| value % **divisor == 0) {
                Some(divisor) => numbers[at] = *divisor,
                None => sign = '-',
            }
        }
        let number = numbers[at];
        value = match sign {
            '+' => value.checked_add(number)?,
            '-' => value.checked_sub(number)?,
            '*' => value.checked_mul(number)?,
            _ => value / number,
        };
        let binds = matches!(sign, '*' | '/');
        shown = if is_sum && binds {
            format!("({shown}) {sign} {number}")
        } else {
            format!("{shown} {sign} {number}")
        };
        is_sum = !binds;
    }
    Some((shown, numbers, value))
}

/// A fraction, the bottom not zero.
type Fraction = (i128, i128);

fn reduced((top, bottom): Fraction) -> Option<Fraction> {
    let common = gcd(top, bottom);
    (bottom != 0 && common != 0).then(|| (top / common, bottom / common))
}

/// How deep brackets may nest.
const DEPTH: usize = 32;

/// Reads an expression, keeps its numbers, and works out its value exactly.
struct Reader<'a> {
    rest: &'a str,
    numbers: Vec<i64>,
}

impl Reader<'_> {
    fn read(text: &str) -> Option<(Fraction, Vec<i64>)> {
        let mut reader = Reader {
            rest: text,
            numbers: Vec::new(),
        };
        let value = reader.sum(DEPTH)?;
        reader
            .rest
            .trim()
            .is_empty()
            .then_some((value, reader.numbers))
    }

    fn take(&mut self, signs: &[char]) -> Option<char> {
        self.rest = self.rest.trim_start();
        let sign = self.rest.chars().next().filter(|c| signs.contains(c))?;
        self.rest = &self.rest[sign.len_utf8()..];
        Some(sign)
    }

    fn sum(&mut self, depth: usize) -> Option<Fraction> {
        let (mut top, mut bottom) = self.product(depth)?;
        while let Some(sign) = self.take(&['+', '-', '\u{2212}']) {
            let other = self.product(depth)?;
            let added = other.0.checked_mul(bottom)?;
            let own = top.checked_mul(other.1)?;
            let sum = if sign == '+' {
                own.checked_add(added)?
            } else {
                own.checked_sub(added)?
            };
            (top, bottom) = reduced((sum, bottom.checked_mul(other.1)?))?;
        }
        Some((top, bottom))
    }

    fn product(&mut self, depth: usize) -> Option<Fraction> {
        let (mut top, mut bottom) = self.factor(depth)?;
        while let Some(sign) = self.take(&['*', '/', '\u{d7}', '\u{f7}']) {
            let (mut up, mut down) = self.factor(depth)?;
            if matches!(sign, '/' | '\u{f7}') {
                (up, down) = (down, up);
            }
            (top, bottom) = reduced((top.checked_mul(up)?, bottom.checked_mul(down)?))?;
        }
        Some((top, bottom))
    }

    fn factor(&mut self, depth: usize) -> Option<Fraction> {
        let deeper = depth.checked_sub(1)?;
        if self.take(&['-', '\u{2212}']).is_some() {
            let (top, bottom) = self.factor(deeper)?;
            return Some((top.checked_neg()?, bottom));
        }
        if self.take(&['+']).is_some() {
            return self.factor(deeper);
        }
        if self.take(&['(']).is_some() {
            let value = self.sum(deeper)?;
            return self.take(&[')']).map(|_| value);
        }
        self.rest = self.rest.trim_start();
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.starts_with('0') && !digits.trim_matches('0').is_empty() {
            return None;
        }
        let number: i64 = digits.parse().ok()?;
        self.numbers.push(number);
        Some((number.into(), 1))
    }
}

/// Whether an answer uses the numbers of the item, and comes to its target;
/// nothing where it is no expression.
fn judge(item: &Item, answer: &str) -> Option<(bool, bool)> {
    let ((top, bottom), mut used) = Reader::read(answer)?;
    let mut numbers: Vec<i64> = fact(item, "numbers")
        .split(", ")
        .filter_map(|number| number.parse().ok())
        .collect();
    let target: i128 = fact(item, "target").parse().ok()?;
    used.sort_unstable();
    numbers.sort_unstable();
    Some((used == numbers, target.checked_mul(bottom) == Some(top)))
}

fn is_solution(item: &Item, answer: &str) -> bool {
    judge(item, answer) == Some((true, true))
}

/// Upstream evaluates the answer with SymPy, code and all, and pays a little
/// for anything. Here it is read as an expression or not at all.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    match judge(item, answer) {
        Some((true, true)) => Ppm::ONE,
        Some(_) => Ppm(50_000),
        None => Ppm(10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_worked_out_exactly_and_bounded() {
        let read = |text: &str| Reader::read(text);
        assert_eq!(read("(1 + 2) * 3 / 4"), Some(((9, 4), vec![1, 2, 3, 4])));
        assert_eq!(read("1 / 3 * 3"), Some(((1, 1), vec![1, 3, 3])));
        assert_eq!(read("-(2 - 5)"), Some(((3, 1), vec![2, 5])));
        for none in [
            "",
            "1 +",
            "1 / (2 - 2)",
            "2 ** 3",
            "1 = 1",
            "(1",
            "x",
            "1 2",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(read(&"(".repeat(10_000)), None);
        assert_eq!(read(&"-".repeat(10_000)), None);
        let huge = ["9999999999999999999"; 1].concat();
        assert_eq!(read(&huge), None);
        assert_eq!(read(&["999999999999999999"; 9].join("*")), None);
    }
}

//! `basic_arithmetic`: sums, products and quotients with brackets.

use super::{Ask, Puzzle, Random, Task, divisors::gcd, read};

pub(super) const BASIC_ARITHMETIC: Task = Task {
    name: "basic_arithmetic",
    summary: "an expression with brackets",
    levels: [
        ("two or three terms of one digit", 3_000),
        ("two to four terms of one or two digits", 1_000_000),
        ("three to six terms of one to three digits", 1_000_000_000),
    ],
    alphabet: "-0123456789",
    answer_chars: 40,
    make: basic_arithmetic,
    accepts: read::number,
    upstream: read::upstream_text,
};

/// Upstream raises what this refuses: a division by zero.
fn basic_arithmetic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    // terms, digits
    const CONFIGURATIONS: [((usize, usize), (usize, usize)); 4] = [
        ((2, 6), (1, 4)),
        ((2, 3), (1, 1)),
        ((2, 4), (1, 2)),
        ((3, 6), (1, 3)),
    ];
    let (terms, digits) = *ask.pick(&CONFIGURATIONS);
    let count = random.size(terms);
    let high = 10i64.pow(u32::try_from(random.size(digits)).unwrap_or(0)) - 1;
    let parts = terms_of(random, count, high)?;
    let expression = parts.join(" ").replace("/ 0", "/ 1");
    let (value, exact) = evaluate(&expression)?;
    if !ask.upstream && !exact {
        // What a quotient rounds to, the question does not say.
        return None;
    }
    let question = ask.say(
        || format!("Calculate {expression}."),
        || format!("Calculate {expression}."),
    );
    Some(
        Puzzle::new(question, value)
            .fact("expression", expression)
            .near(),
    )
}

/// The divisors of the greatest common divisor, in upstream's order.
fn common_divisors(left: i128, right: i128) -> Vec<i128> {
    let common = gcd(left, right);
    let mut divisors = Vec::new();
    let mut divisor = 1;
    while divisor * divisor <= common {
        if common % divisor == 0 {
            divisors.push(divisor);
            if divisor * divisor != common {
                divisors.push(common / divisor);
            }
        }
        divisor += 1;
    }
    divisors
}

fn terms_of(random: &mut Random, remaining: usize, high: i64) -> Option<Vec<String>> {
    let left = random.size((1, remaining));
    let right = remaining - left;
    let mut parts: Vec<String> = Vec::new();
    if left > 1 && random.unit() > 0.5 {
        let open = if random.unit() > 0.5 { "-(" } else { "(" };
        parts.push(open.to_owned());
        parts.extend(terms_of(random, left, high)?);
        parts.push(")".to_owned());
    } else {
        for index in 0..left {
            parts.push(random.int(-high, high).to_string());
            if index + 1 < left {
                parts.push((*random.choice(&["+", "-", "*"])).to_owned());
            }
        }
    }
    if right == 0 {
        return Some(parts);
    }
    let sign = *random.choice(&["+", "-", "*", "/"]);
    if sign != "/" {
        parts.push(sign.to_owned());
        parts.extend(terms_of(random, right, high)?);
        return Some(parts);
    }
    let last = parts.last().map_or("", String::as_str);
    let dividend = if last == ")" {
        evaluate(&parts.concat())?.0
    } else {
        evaluate(last)?.0
    };
    parts.push(sign.to_owned());
    let divisor = |random: &mut Random| {
        if dividend == 0 {
            i128::from(random.int(1, high))
        } else {
            *random.choice(&common_divisors(dividend, 0))
        }
    };
    if right == 1 {
        parts.push(divisor(random).to_string());
        return Some(parts);
    }
    let mut rest = terms_of(random, right - 1, high)?;
    if rest.last().is_some_and(|last| last == ")") {
        let value = evaluate(&rest.concat())?.0;
        let correction = if value == 0 {
            1
        } else {
            *random.choice(&common_divisors(dividend, value)) - value
        };
        rest.pop();
        rest.extend(["+".to_owned(), correction.to_string(), ")".to_owned()]);
    } else {
        parts.push(divisor(random).to_string());
        parts.push("+".to_owned());
    }
    parts.extend(rest);
    Some(parts)
}

/// The value of an expression, quotients rounded down, and whether none needed
/// to be. Nothing where it divides by zero.
fn evaluate(text: &str) -> Option<(i128, bool)> {
    let mut parser = Parser {
        rest: text,
        exact: true,
    };
    let value = parser.sum()?;
    parser.skip();
    parser.rest.is_empty().then_some((value, parser.exact))
}

struct Parser<'a> {
    rest: &'a str,
    exact: bool,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, signs: [char; 2]) -> Option<char> {
        self.skip();
        let sign = self.rest.chars().next().filter(|c| signs.contains(c))?;
        self.rest = &self.rest[1..];
        Some(sign)
    }

    fn sum(&mut self) -> Option<i128> {
        let mut value = self.product()?;
        while let Some(sign) = self.take(['+', '-']) {
            let other = self.product()?;
            value = match sign {
                '+' => value.checked_add(other)?,
                _ => value.checked_sub(other)?,
            };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<i128> {
        let mut value = self.signed()?;
        while let Some(sign) = self.take(['*', '/']) {
            let other = self.signed()?;
            if sign == '*' {
                value = value.checked_mul(other)?;
            } else {
                let rest = value.checked_rem(other)?;
                self.exact &= rest == 0;
                let down = i128::from(rest != 0 && (rest < 0) != (other < 0));
                value = value.checked_div(other)? - down;
            }
        }
        Some(value)
    }

    fn signed(&mut self) -> Option<i128> {
        match self.take(['+', '-']) {
            Some('-') => self.signed()?.checked_neg(),
            Some(_) => self.signed(),
            None if self.take(['(', '(']).is_some() => {
                let value = self.sum()?;
                self.take([')', ')']).map(|_| value)
            }
            None => {
                let end = self
                    .rest
                    .find(|c: char| !c.is_ascii_digit())
                    .unwrap_or(self.rest.len());
                let (digits, rest) = self.rest.split_at(end);
                self.rest = rest;
                digits.parse().ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_rounded_down_and_said_to_be() {
        assert_eq!(evaluate("2 + 3 * -(4 - 6)"), Some((8, true)));
        assert_eq!(evaluate("-7/2"), Some((-4, false)));
        assert_eq!(evaluate("7 / -2 * 3"), Some((-12, false)));
        assert_eq!(evaluate("8 - -3--1"), Some((12, true)));
        assert_eq!(evaluate("1 / (2 - 2)"), None);
        assert_eq!(evaluate("1 +"), None);
    }
}

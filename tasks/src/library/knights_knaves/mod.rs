//! `knights_knaves`: who tells the truth, after
//! [mem-kk-logic](https://github.com/AlphaPav/mem-kk-logic).

mod pcg;

use super::{Ask, Puzzle, Random, Task, read};
use crate::{Item, Ppm};
use pcg::Pcg;

pub(super) const KNIGHTS_KNAVES: Task = Task {
    name: "knights_knaves",
    summary: "who tells the truth and who lies",
    levels: [
        ("two people", 1_000_000),
        ("three people", 1_000_000_000),
        ("four people, statements nested deeper", 1_000_000_000_000),
    ],
    alphabet: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ,. ",
    answer_chars: 200,
    make: knights_knaves,
    accepts: is_solution,
    upstream: upstream_score,
};

const NAMES: [&str; 51] = [
    "Emma",
    "Liam",
    "Olivia",
    "Noah",
    "Ava",
    "Ethan",
    "Sophia",
    "Mason",
    "Isabella",
    "William",
    "Mia",
    "James",
    "Charlotte",
    "Benjamin",
    "Amelia",
    "Lucas",
    "Harper",
    "Henry",
    "Evelyn",
    "Alexander",
    "Abigail",
    "Michael",
    "Emily",
    "Daniel",
    "Elizabeth",
    "Jacob",
    "Sofia",
    "Logan",
    "Avery",
    "Jackson",
    "Ella",
    "Sebastian",
    "Scarlett",
    "Jack",
    "Grace",
    "Aiden",
    "Chloe",
    "Owen",
    "Victoria",
    "Samuel",
    "Riley",
    "Matthew",
    "Aria",
    "Joseph",
    "Lily",
    "Luke",
    "Aurora",
    "David",
    "Zoey",
    "Oliver",
    "Penelope",
];

/// Who tells the truth, and who lies.
const ROLES: [(&str, &str); 7] = [
    ("a knight", "a knave"),
    ("a pioneer", "a laggard"),
    ("a saint", "a sinner"),
    ("a hero", "a villain"),
    ("an angel", "a devil"),
    ("an altruist", "an egoist"),
    ("a sage", "a fool"),
];

/// How a statement is told.
const TOLD: [&str; 18] = [
    "{name} said that {content}.",
    "{name} told you that {content}.",
    "{name} said, \"{content}.\"",
    "{name} stated, \"{content}\".",
    "According to {name}, \"{content}\".",
    "In {name}'s words: \"{content}\".",
    "{name} remarked, \"{content}\".",
    "\"{content},\" {name} declared.",
    "{name} was heard saying, \"{content}\".",
    "{name} expressed that {content}.",
    "\"{content}\" - {name}.",
    "As {name} put it, \"{content}\".",
    "{name} asserted: \"{content}\".",
    "\"{content},\" {name} mentioned.",
    "{name} commented, \"{content}\".",
    "In a statement by {name}: \"{content}\".",
    "{name} noted, \"{content}\".",
    "\"{content},\" {name} claimed.",
];

/// What somebody says. People are known by number.
#[derive(Clone, PartialEq)]
enum Statement {
    /// Somebody tells the truth, or does not.
    Tells(bool, usize),
    Not(Box<Statement>),
    All(Vec<Statement>),
    Any(Vec<Statement>),
    Implies(Box<[Statement; 2]>),
    Same(Box<[Statement; 2]>),
}

use Statement::{All, Any, Implies, Not, Same, Tells};

struct Configuration {
    people: usize,
    depth: usize,
    width: usize,
}

/// Upstream's tries for statements with one solution.
const TRIES: usize = 1_000;

fn statement(pcg: &mut Pcg, it: &Configuration, person: usize, depth: usize) -> Statement {
    let dice = pcg.below(6);
    if depth == 1 || dice == 0 {
        loop {
            let truth = *pcg.choice(&[true, false]);
            let other = pcg.below(it.people as u32);
            // Nobody says "I am lying".
            if truth || other != person {
                return Tells(truth, other);
            }
        }
    }
    if dice == 1 {
        return Not(Box::new(statement(pcg, it, person, depth - 1)));
    }
    let count = match dice {
        2 | 3 => 2 + pcg.below(it.width as u32 - 1),
        _ => 2,
    };
    let mut parts: Vec<Statement> = Vec::new();
    while parts.len() < count {
        let part = statement(pcg, it, person, depth - 1);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    let two = |parts: Vec<Statement>| match <[Statement; 2]>::try_from(parts) {
        Ok(two) => Box::new(two),
        Err(_) => unreachable!("these signs take two parts"),
    };
    match dice {
        2 => All(parts),
        3 => Any(parts),
        4 => Implies(two(parts)),
        _ => Same(two(parts)),
    }
}

impl Statement {
    /// Whether it is true where these people tell the truth, a bit each.
    fn holds(&self, truthful: u32) -> bool {
        match self {
            Tells(truth, person) => (truthful >> person & 1 == 1) == *truth,
            Not(inner) => !inner.holds(truthful),
            All(parts) => parts.iter().all(|part| part.holds(truthful)),
            Any(parts) => parts.iter().any(|part| part.holds(truthful)),
            Implies(parts) => !parts[0].holds(truthful) || parts[1].holds(truthful),
            Same(parts) => parts[0].holds(truthful) == parts[1].holds(truthful),
        }
    }

    fn told(&self, names: &[&str], roles: (&str, &str)) -> String {
        let part = |part: &Statement| {
            let told = part.told(names, roles);
            if matches!(part, Tells(..)) {
                told
            } else {
                format!("({told})")
            }
        };
        let joined =
            |parts: &[Statement], sign: &str| parts.iter().map(part).collect::<Vec<_>>().join(sign);
        match self {
            Tells(truth, person) => {
                let role = if *truth { roles.0 } else { roles.1 };
                format!("{} is {role}", names[*person])
            }
            Not(inner) => match inner.as_ref() {
                Tells(truth, person) => Tells(!truth, *person).told(names, roles),
                inner => format!("it is not the case that {}", part(inner)),
            },
            All(parts) => joined(parts, " and "),
            Any(parts) => joined(parts, " or "),
            Implies(parts) => format!("if {} then {}", part(&parts[0]), part(&parts[1])),
            Same(parts) => format!("{} if and only if {}", part(&parts[0]), part(&parts[1])),
        }
    }
}

/// Statements that fit one set of truthful people only, and that set.
fn statements(pcg: &mut Pcg, it: &Configuration) -> Option<(Vec<Statement>, u32)> {
    (0..TRIES).find_map(|_| {
        let said: Vec<Statement> = (0..it.people)
            .map(|person| statement(pcg, it, person, it.depth))
            .collect();
        let fits = |truthful: &u32| {
            let mut people = said.iter().enumerate();
            people.all(|(person, said)| (truthful >> person & 1 == 1) == said.holds(*truthful))
        };
        let mut solutions = (0..1u32 << it.people).filter(fits);
        let solution = solutions.next()?;
        solutions.next().is_none().then_some((said, solution))
    })
}

fn knights_knaves(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(people: usize, depth: usize, width: usize) -> Configuration {
        Configuration {
            people,
            depth,
            width,
        }
    }
    const CONFIGURATIONS: [Configuration; 4] = [of(2, 2, 2), of(2, 2, 2), of(3, 2, 2), of(4, 3, 3)];
    let it = ask.pick(&CONFIGURATIONS);
    let mut seed = || random.int(0, 1 << 32).unsigned_abs();
    let (said, solution) = statements(&mut Pcg::new(seed()), it)?;
    let mut pcg = Pcg::new(seed());
    let names: Vec<&str> = pcg
        .sample(NAMES.len() as u32, it.people as u32)
        .into_iter()
        .map(|at| NAMES[at])
        .collect();
    let roles = *pcg.choice(&ROLES);
    let bare = |role: &'static str| role.split(' ').next_back().unwrap_or(role);
    let (truthful, liar) = (bare(roles.0), bare(roles.1));
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    let listed = |parts: &[String]| {
        let (last, others) = parts
            .split_last()
            .map_or(("", &[][..]), |(l, o)| (l.as_str(), o));
        format!("{}, and {last}", others.join(", "))
    };
    let own: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut text = format!(
        "A very special island is inhabited only by {truthful}s and {liar}s. {}s always tell the truth, and {liar}s always lie. You meet {} inhabitants: {}.",
        capital(truthful),
        it.people,
        listed(&own)
    );
    for (person, said) in said.iter().enumerate() {
        let told = pcg.choice(&TOLD).replace("{name}", names[person]);
        text.push(' ');
        text.push_str(&told.replace("{content}", &said.told(&names, roles)));
    }
    text.push_str(&format!(" So who is {} and who is {}?", roles.0, roles.1));
    let question = ask.say(
        || {
            let form: Vec<String> = names
                .iter()
                .map(|name| format!("{name} is a {truthful}/{liar}"))
                .collect();
            format!("{text} (Format your answer like: \"{}\")", listed(&form))
        },
        || {
            format!(
                "{text} Answer with a sentence for each, commas between, as: Ann is {}, Bob is {}",
                roles.0, roles.1
            )
        },
    );
    let answer = |truthful: u32| {
        let of = |(person, name): (usize, &&str)| {
            let role = if truthful >> person & 1 == 1 {
                roles.0
            } else {
                roles.1
            };
            format!("{name} is {role}")
        };
        listed(&names.iter().enumerate().map(of).collect::<Vec<_>>()) + "."
    };
    let wrong = (0..1 << it.people)
        .filter(|other| *other != solution)
        .map(answer);
    Some(
        Puzzle::new(question, answer(solution))
            .fact("names", names.join(", "))
            .decoys(wrong.collect()),
    )
}

fn is_role(word: &str) -> bool {
    // Of each pair of roles, without its article.
    matches!(
        word,
        "knight"
            | "knave"
            | "pioneer"
            | "laggard"
            | "saint"
            | "sinner"
            | "hero"
            | "villain"
            | "angel"
            | "devil"
            | "altruist"
            | "egoist"
            | "sage"
            | "fool"
    )
}

/// An answer in small letters, without what stands between words.
fn plain(answer: &str) -> String {
    let plain = |c| {
        if matches!(c, '.' | ',' | '(' | ')') {
            ' '
        } else {
            c
        }
    };
    let mut text = String::with_capacity(answer.len());
    if answer.is_ascii() {
        let letters = answer.chars().map(|c| c.to_ascii_lowercase());
        text.extend(letters.map(plain));
    } else {
        text.extend(answer.to_lowercase().chars().map(plain));
    }
    if text.contains(" and ") {
        text = text.trim().replace(" and ", " ");
    }
    text
}

/// The words of a plain answer but for fillers.
fn words(plain: &str) -> impl Iterator<Item = &str> + Clone {
    let filler = |word: &&str| !matches!(*word, "is" | "a" | "an");
    plain.split_whitespace().filter(filler)
}

/// Who is said to be what: each role with the word before it, in order.
fn assignments<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let (mut found, mut name) = (Vec::new(), None);
    for word in words {
        if is_role(word) {
            found.extend(name.take().map(|name| (name, word)));
        } else {
            name = Some(word);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Every word must be a name of the item or a role, each said once.
fn is_solution(item: &Item, answer: &str) -> bool {
    if answer == item.reference {
        return true;
    }
    let (given, right) = (plain(answer), plain(&item.reference));
    let (given, right) = (words(&given), words(&right));
    let known = |word: &str| is_role(word) || right.clone().any(|other| other == word);
    given.clone().all(known)
        && given.clone().count() == right.clone().count()
        && assignments(given) == assignments(right)
}

/// Upstream pays three tenths and more for some of the names right.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let (given, right) = (plain(answer), plain(&item.reference));
    let (given, right) = (assignments(words(&given)), assignments(words(&right)));
    let same = given.iter().filter(|one| right.contains(one)).count();
    if given == right && !answer.is_empty() {
        Ppm::ONE
    } else if given.len() == right.len() && same > 0 {
        read::ppm(0.3 + 0.7 * same as f64 / right.len() as f64)
    } else {
        Ppm::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_known_without_its_article() {
        for role in ROLES.iter().flat_map(|(truthful, liar)| [truthful, liar]) {
            assert!(is_role(role.split_once(' ').unwrap().1), "{role}");
        }
    }
}

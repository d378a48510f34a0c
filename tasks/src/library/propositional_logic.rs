//! `propositional_logic`: a conclusion from premises.
//!
//! Upstream accepts whatever follows, so that a copied premise is worth as much
//! as a conclusion, and everything is where the premises contradict each other;
//! where it finds no conclusion it takes the first variable, right or not. Ours
//! asks for a conclusion of at most two letters that says something no single
//! premise says, and only asks where there is one.

use std::fmt::Write as _;

use super::{Ask, Puzzle, Random, Task, fact};
use crate::{Item, Ppm};

pub(super) const PROPOSITIONAL_LOGIC: Task = Task {
    name: "propositional_logic",
    summary: "a conclusion that no premise states alone",
    levels: [
        ("two or three premises of two variables", 2_000),
        ("two to four premises of three variables", 1_000_000),
        ("three to five premises of four variables", 1_000_000_000),
    ],
    alphabet: "PQRS\u{2227}\u{2228}\u{ac}\u{2192}\u{2194}() ",
    answer_chars: 64,
    make: propositional_logic,
    accepts: is_conclusion,
    upstream: upstream_score,
};

/// In upstream's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    And,
    Or,
    Not,
    Implies,
    Iff,
}

use Sign::{And, Iff, Implies, Not, Or};

const SIGNS: [Sign; 5] = [And, Or, Not, Implies, Iff];

impl Sign {
    fn symbol(self) -> char {
        match self {
            And => '\u{2227}',
            Or => '\u{2228}',
            Not => '\u{ac}',
            Implies => '\u{2192}',
            Iff => '\u{2194}',
        }
    }

    /// The worlds in which it holds of two formulas, from theirs.
    fn joins(self, left: u64, right: u64) -> u64 {
        match self {
            And => left & right,
            Or => left | right,
            Implies => !left | right,
            Iff | Not => !(left ^ right),
        }
    }
}

/// A formula over variables known by number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Formula {
    Variable(usize),
    Not(Box<Formula>),
    Two(Sign, Box<Formula>, Box<Formula>),
}

/// Which variables are true, a bit each.
type World = u32;

impl Formula {
    fn holds(&self, world: World) -> bool {
        match self {
            Formula::Variable(number) => world >> number & 1 == 1,
            Formula::Not(inner) => !inner.holds(world),
            Formula::Two(sign, left, right) => {
                let (left, right) = (left.holds(world), right.holds(world));
                match sign {
                    And => left && right,
                    Or => left || right,
                    Implies => !left || right,
                    Iff | Not => left == right,
                }
            }
        }
    }

    /// The numbers of variables, once for each time they are written.
    fn variables(&self, found: &mut Vec<usize>) {
        match self {
            Formula::Variable(number) => found.push(*number),
            Formula::Not(inner) => inner.variables(found),
            Formula::Two(_, left, right) => {
                left.variables(found);
                right.variables(found);
            }
        }
    }
}

fn not(inner: Formula) -> Formula {
    Formula::Not(Box::new(inner))
}

fn two(sign: Sign, left: Formula, right: Formula) -> Formula {
    Formula::Two(sign, Box::new(left), Box::new(right))
}

/// How a variable is written.
fn letter(number: usize) -> char {
    char::from(b'P'.saturating_add(number as u8))
}

impl std::fmt::Display for Formula {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Formula::Variable(number) => f.write_char(letter(*number)),
            Formula::Not(inner) => write!(f, "{}{inner}", Not.symbol()),
            Formula::Two(sign, left, right) => write!(f, "({left} {} {right})", sign.symbol()),
        }
    }
}

/// No item has more, nor any premise more signs and variables.
const MOST_PREMISES: usize = 5;
const MOST_NODES: usize = 7;

/// A premise as it is drawn: each sign before what it joins. Most are thrown
/// away again with the draws that made them, so they take no memory of their own.
#[derive(Clone, Copy)]
struct Drawn {
    nodes: [Node; MOST_NODES],
    count: usize,
}

#[derive(Clone, Copy)]
enum Node {
    Variable(usize),
    Sign(Sign),
}

impl Default for Drawn {
    fn default() -> Drawn {
        Drawn {
            nodes: [Node::Variable(0); MOST_NODES],
            count: 0,
        }
    }
}

impl Drawn {
    /// Adds a formula of at most three levels.
    fn draw(&mut self, random: &mut Random, variables: usize, depth: usize) {
        let node = if depth <= 1 {
            Node::Variable(random.index(variables))
        } else {
            Node::Sign(*random.choice(&SIGNS))
        };
        self.nodes[self.count] = node;
        self.count += 1;
        if let Node::Sign(sign) = node {
            for _ in 0..if sign == Not { 1 } else { 2 } {
                self.draw(random, variables, depth - 1);
            }
        }
    }

    /// The worlds in which it holds.
    fn table(&self) -> u64 {
        let (mut done, mut length) = ([0; MOST_NODES], 0);
        for node in self.nodes[..self.count].iter().rev() {
            done[length] = match node {
                Node::Variable(number) => TABLES.get(*number).copied().unwrap_or(0),
                Node::Sign(Not) => {
                    length -= 1;
                    !done[length]
                }
                Node::Sign(sign) => {
                    length -= 2;
                    sign.joins(done[length + 1], done[length])
                }
            };
            length += 1;
        }
        done[0]
    }

    fn write(&self, text: &mut String) {
        write_from(&mut self.nodes[..self.count].iter(), text);
    }
}

/// Writes the formula that begins at the next node.
fn write_from(nodes: &mut std::slice::Iter<Node>, text: &mut String) {
    match nodes.next() {
        Some(Node::Variable(number)) => text.push(letter(*number)),
        Some(Node::Sign(Not)) => {
            text.push(Not.symbol());
            write_from(nodes, text);
        }
        Some(Node::Sign(sign)) => {
            text.push('(');
            write_from(nodes, text);
            text.push(' ');
            text.push(sign.symbol());
            text.push(' ');
            write_from(nodes, text);
            text.push(')');
        }
        None => {}
    }
}

/// A conclusion as it is drawn: a sign and what it joins, one variable if it is
/// "not".
#[derive(Clone, Copy)]
struct Candidate {
    sign: Sign,
    variables: [usize; 2],
}

impl Candidate {
    /// Its variables, once for each time they are written.
    fn letters(&self) -> &[usize] {
        &self.variables[..if self.sign == Not { 1 } else { 2 }]
    }

    /// The worlds in which it holds.
    fn table(&self) -> u64 {
        let [left, right] = self
            .variables
            .map(|number| TABLES.get(number).copied().unwrap_or(0));
        match self.sign {
            Not => !left,
            sign => sign.joins(left, right),
        }
    }

    fn numbered(number: usize) -> Candidate {
        Candidate {
            sign: SIGNS[number / (MOST * MOST)],
            variables: [number / MOST % MOST, number % MOST],
        }
    }

    /// Upstream writes an implication as a disjunction.
    fn formula(&self) -> Formula {
        let [left, right] = self.variables.map(Formula::Variable);
        match self.sign {
            Not => not(left),
            Implies => two(Or, not(left), right),
            sign => two(sign, left, right),
        }
    }
}

/// The most variables of an item.
const MOST: usize = 4;
/// Every candidate has a number below this.
const CANDIDATES: usize = SIGNS.len() * MOST * MOST;

/// How candidates are drawn: `choice(SIGNS)`, then `index(variables)` for each
/// variable. Most premises allow no conclusion, and most of the time of an item
/// goes into candidates drawn in vain; so what the three highest bits of a word
/// lead to is looked up, with nothing for a processor to guess wrong. The first
/// rows are of candidates that are drawn, by number.
struct Steps([[u8; 8]; STEPS]);

/// The rows of each sign, then of each sign and its first variable, then the
/// one where nothing is drawn.
const SIGN: usize = CANDIDATES;
const PAIR: usize = SIGN + SIGNS.len();
const START: usize = PAIR + SIGNS.len() * MOST;
const STEPS: usize = START + 1;

impl Steps {
    const fn of(variables: usize) -> Steps {
        let mut rows = [[0; 8]; STEPS];
        // A word gives as many bits as the number of variables has.
        let unread = 3 - (usize::BITS - variables.leading_zeros());
        let mut row = 0;
        while row < STEPS {
            let mut bits = 0;
            while bits < 8 {
                let variable = bits >> unread;
                rows[row][bits] = if row < SIGN || row == START {
                    if bits < SIGNS.len() {
                        SIGN + bits
                    } else {
                        START
                    }
                } else if variable >= variables {
                    row
                } else if row >= PAIR {
                    (row - PAIR) * MOST + variable
                } else if matches!(SIGNS[row - SIGN], Not) {
                    ((row - SIGN) * MOST + variable) * MOST + variable
                } else {
                    PAIR + (row - SIGN) * MOST + variable
                } as u8;
                bits += 1;
            }
            row += 1;
        }
        Steps(rows)
    }
}

/// For each number of variables.
static BY_VARIABLES: [Steps; MOST] = [Steps::of(1), Steps::of(2), Steps::of(3), Steps::of(4)];

/// The first of so many drawn candidates that is good. None is looked at twice.
fn first_good(
    random: &mut Random,
    variables: usize,
    tries: usize,
    good: impl Fn(&Candidate) -> bool,
) -> Option<Candidate> {
    let steps = &BY_VARIABLES[variables - 1].0;
    let mut unseen = [false; STEPS];
    unseen[..CANDIDATES].fill(true);
    let (mut at, mut drawn) = (START, 0);
    while drawn < tries {
        at = usize::from(steps[at][random.word() as usize >> 29]);
        drawn += usize::from(at < CANDIDATES);
        if unseen[at] {
            let candidate = Candidate::numbered(at);
            if good(&candidate) {
                return Some(candidate);
            }
            unseen[at] = false;
        }
    }
    None
}

/// The worlds of up to six variables in which each of them is true, a bit each.
const TABLES: [u64; 6] = [
    0xaaaa_aaaa_aaaa_aaaa,
    0xcccc_cccc_cccc_cccc,
    0xf0f0_f0f0_f0f0_f0f0,
    0xff00_ff00_ff00_ff00,
    0xffff_0000_ffff_0000,
    0xffff_ffff_0000_0000,
];

impl Formula {
    /// The worlds in which it holds. Of variables that are not there, any.
    fn table(&self) -> u64 {
        match self {
            Formula::Variable(number) => TABLES.get(*number).copied().unwrap_or(0),
            Formula::Not(inner) => !inner.table(),
            Formula::Two(sign, left, right) => sign.joins(left.table(), right.table()),
        }
    }
}

/// Whether every world of the premises is one of the conclusion. For any number
/// of variables; it takes twice as long with each.
fn follows(premises: &[Formula], conclusion: &Formula, variables: usize) -> bool {
    (0..1 << variables).all(|world| {
        conclusion.holds(world) || !premises.iter().all(|premise| premise.holds(world))
    })
}

struct Configuration {
    variables: (usize, usize),
    premises: (usize, usize),
    depth: (usize, usize),
}

/// Upstream's tries for a conclusion.
const TRIES: usize = 100;

fn propositional_logic(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(
        variables: (usize, usize),
        premises: (usize, usize),
        depth: (usize, usize),
    ) -> Configuration {
        Configuration {
            variables,
            premises,
            depth,
        }
    }
    const CONFIGURATIONS: [Configuration; 4] = [
        of((2, 4), (2, 4), (1, 3)),
        of((2, 2), (2, 3), (1, 3)),
        of((3, 3), (2, 4), (2, 3)),
        of((4, 4), (3, 5), (2, 3)),
    ];
    let configuration = ask.pick(&CONFIGURATIONS);
    let variables = random.size(configuration.variables);
    let mut premises = [Drawn::default(); MOST_PREMISES];
    let premises = &mut premises[..random.size(configuration.premises)];
    for premise in &mut *premises {
        let depth = random.size(configuration.depth);
        premise.draw(random, variables, depth);
    }
    let mut tables = [0; MOST_PREMISES];
    let tables = &mut tables[..premises.len()];
    for (table, premise) in tables.iter_mut().zip(&*premises) {
        *table = premise.table();
    }
    let together = tables.iter().fold(u64::MAX, |all, table| all & table);
    let conclusion = first_good(random, variables, TRIES, |candidate| {
        let table = candidate.table();
        if ask.upstream {
            table != u64::MAX && together & !table == 0
        } else {
            is_new(tables, candidate.letters(), table)
        }
    });
    let conclusion = match conclusion {
        Some(conclusion) => conclusion.formula(),
        None if ask.upstream => Formula::Variable(0),
        None => return None,
    };
    let mut lines = String::with_capacity(64 * premises.len());
    for (at, premise) in premises.iter().enumerate() {
        if at > 0 {
            lines.push('\n');
        }
        premise.write(&mut lines);
    }
    let question = ask.say(
        || {
            let mut question = "The following question is a propositional logic reasoning question.\n\nIn the question we provide a list of premises. The task is to infer a correct conclusion from the premise.\n\nFORMAT INSTRUCTIONS:\n- Return the conclusion logic statement, as your final answer.\n- Use the following notation to denote symbols\n    - OR = \u{2228}\n    - AND = \u{2227}\n    - IMPLIES = \u{2192}\n    - IFF = \u{2194}\n    - NOT = \u{ac}\n\nHere is the question:\nGiven:\n".to_owned();
            for (index, premise) in lines.lines().enumerate() {
                question.push_str(&format!("{}. {premise}\n.", index + 1));
            }
            question + "What can we conclude from the above statements?"
        },
        || {
            format!(
                "Given:\n{lines}\n\nWhat follows from all of this together, and from no one line alone? Answer with a formula of at most two letters, using \u{ac} \u{2227} \u{2228} \u{2192} \u{2194}."
            )
        },
    );
    Some(
        Puzzle::new(question, conclusion.to_string())
            .fact("premises", lines)
            .fact("variables", variables)
            .slips(slips),
    )
}

/// The opposite, what is always true, the premises, and all of them together:
/// none of which says anything new.
fn slips(item: &Item) -> Vec<String> {
    let premises: Vec<&str> = fact(item, "premises").lines().collect();
    let mut slips = vec![
        format!("{}{}", Not.symbol(), item.reference),
        "P \u{2228} \u{ac}P".to_owned(),
        premises.join(" \u{2227} "),
    ];
    slips.extend(premises.into_iter().map(str::to_owned));
    slips
}

/// Whether a formula follows from the premises together, and says something
/// that none of them says: it implies a clause that follows from no single one.
/// So neither a premise, nor a weaker form of one, nor several of them joined by
/// "and", nor what is always true will do, nor anything at all where the
/// premises contradict each other. `letters` are the variables of the formula,
/// at most six, once for each time they are written.
fn is_new(premises: &[u64], letters: &[usize], table: u64) -> bool {
    let together = premises.iter().fold(u64::MAX, |all, premise| all & premise);
    if letters.len() > 2 || together == 0 || together & !table != 0 {
        return false;
    }
    let literals = |letter: usize| {
        let table = TABLES.get(letter).copied().unwrap_or(0);
        [table, !table]
    };
    let is_said = |clause: u64| {
        table & !clause == 0 && !premises.iter().any(|premise| premise & !clause == 0)
    };
    let alone = letters
        .iter()
        .any(|letter| literals(*letter).into_iter().any(is_said));
    alone
        || matches!(letters, [one, other] if literals(*one).into_iter().any(|left| {
            literals(*other).into_iter().any(|right| is_said(left | right))
        }))
}

/// How deep an answer may nest; two letters need no more than a few levels.
const DEPTH: usize = 32;

/// A formula by the usual precedence: not, and, or, implies, iff.
fn read_formula(text: &str) -> Option<Formula> {
    let tokens: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut reader = Reader {
        tokens: &tokens,
        at: 0,
    };
    let formula = reader.binary(0, DEPTH)?;
    (reader.at == tokens.len()).then_some(formula)
}

struct Reader<'a> {
    tokens: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, wanted: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn binary(&mut self, precedence: usize, depth: usize) -> Option<Formula> {
        const BY_PRECEDENCE: [Sign; 4] = [Iff, Implies, Or, And];
        let Some(sign) = BY_PRECEDENCE.get(precedence) else {
            return self.unary(depth);
        };
        let mut formula = self.binary(precedence + 1, depth)?;
        while self.take(sign.symbol()) {
            // An implication's right side is an implication again.
            let next = precedence + usize::from(*sign != Implies);
            let right = self.binary(next, depth.checked_sub(1)?)?;
            formula = two(*sign, formula, right);
        }
        Some(formula)
    }

    fn unary(&mut self, depth: usize) -> Option<Formula> {
        let deeper = depth.checked_sub(1)?;
        if self.take(Not.symbol()) {
            return Some(not(self.unary(deeper)?));
        }
        if self.take('(') {
            let inner = self.binary(0, deeper)?;
            return self.take(')').then_some(inner);
        }
        let letter = *self.tokens.get(self.at)?;
        self.at += 1;
        ('P'..='Z')
            .contains(&letter)
            .then(|| Formula::Variable(usize::try_from(u32::from(letter) - 80).unwrap_or(0)))
    }
}

/// The premises of an item and the number of its variables.
fn premises(item: &Item) -> (Vec<Formula>, usize) {
    let premises = fact(item, "premises")
        .lines()
        .filter_map(read_formula)
        .collect();
    (premises, fact(item, "variables").parse().unwrap_or(0))
}

fn is_conclusion(item: &Item, answer: &str) -> bool {
    let (premises, variables) = premises(item);
    let tables: Vec<u64> = premises.iter().map(Formula::table).collect();
    read_formula(answer).is_some_and(|conclusion| {
        let mut letters = Vec::new();
        conclusion.variables(&mut letters);
        letters.iter().all(|letter| *letter < variables)
            && is_new(&tables, &letters, conclusion.table())
    })
}

/// As upstream reads a formula: by splitting at the last sign of the lowest
/// precedence. What is left over is a variable, whatever it is; past the known
/// ones they are numbered as they come.
fn read_as_upstream(text: &str, names: &mut Vec<String>, depth: usize) -> Option<Formula> {
    let depth = depth.checked_sub(1)?;
    let chars: Vec<char> = text.trim().chars().collect();
    if chars.is_empty() {
        return None;
    }
    if let ['(', inner @ .., ')'] = chars.as_slice() {
        let mut level = 0i32;
        let enclosed = inner.iter().all(|c| {
            level += i32::from(*c == '(') - i32::from(*c == ')');
            level >= 0
        });
        if enclosed && level == 0 {
            return read_as_upstream(&inner.iter().collect::<String>(), names, depth);
        }
    }
    for sign in [Iff, Implies, Or, And] {
        let mut level = 0;
        for at in (0..chars.len()).rev() {
            match chars[at] {
                ')' => level += 1,
                '(' => level -= 1,
                c if level == 0 && c == sign.symbol() => {
                    let part = |part: &[char]| part.iter().collect::<String>();
                    let left = read_as_upstream(&part(&chars[..at]), names, depth)?;
                    let right = read_as_upstream(&part(&chars[at + 1..]), names, depth)?;
                    return Some(two(sign, left, right));
                }
                _ => {}
            }
        }
    }
    if chars[0] == Not.symbol() {
        let inner: String = chars[1..].iter().collect();
        return Some(not(read_as_upstream(&inner, names, depth)?));
    }
    let name: String = chars.iter().collect();
    let number = names
        .iter()
        .position(|known| *known == name)
        .unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
    Some(Formula::Variable(number))
}

/// How much of an answer is read in upstream's way, which takes time by the
/// square of the length and doubles it with every variable.
const UPSTREAM_CHARS: usize = 400;
const UPSTREAM_DEPTH: usize = 100;
const UPSTREAM_VARIABLES: usize = 12;

/// Upstream pays for any conclusion, a quarter for a trivial one, and a little
/// for any formula.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let (premises, variables) = premises(item);
    let known = |c: char| {
        (c as u32)
            .checked_sub(80)
            .is_some_and(|n| (n as usize) < variables)
    };
    let strange = |c: char| c.is_ascii_uppercase() && !known(c);
    if answer.chars().count() > UPSTREAM_CHARS || answer.contains(strange) {
        return Ppm::ZERO;
    }
    let mut names: Vec<String> = (0..variables)
        .map(|number| Formula::Variable(number).to_string())
        .collect();
    let Some(conclusion) = read_as_upstream(answer, &mut names, UPSTREAM_DEPTH) else {
        return Ppm::ZERO;
    };
    if names.len() > UPSTREAM_VARIABLES {
        return Ppm::ZERO;
    }
    if !follows(&premises, &conclusion, names.len()) {
        return Ppm(50_000);
    }
    let bare = matches!(conclusion, Formula::Variable(_));
    if bare || follows(&[], &conclusion, names.len()) {
        Ppm(250_000)
    } else {
        Ppm::ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(premises: &[&str], conclusion: &str) -> bool {
        let tables: Vec<u64> = premises
            .iter()
            .map(|text| read_formula(text).unwrap().table())
            .collect();
        let (conclusion, mut letters) = (read_formula(conclusion).unwrap(), Vec::new());
        conclusion.variables(&mut letters);
        is_new(&tables, &letters, conclusion.table())
    }

    #[test]
    fn a_conclusion_says_what_no_premise_says() {
        let premises = ["P", "(P \u{2192} Q)"];
        assert!(new(&premises, "Q"));
        assert!(new(&premises, "P \u{2227} Q"));
        assert!(new(&premises, "Q \u{2228} R"));
        // A premise, a weaker form of one, two joined, a tautology, a falsehood.
        for wrong in [
            "P",
            "P \u{2192} Q",
            "P \u{2228} R",
            "P \u{2227} (P \u{2228} Q)",
            "P \u{2228} \u{ac}P",
            "\u{ac}Q",
            "R",
        ] {
            assert!(!new(&premises, wrong), "{wrong}");
        }
        assert!(!new(&["P", "Q"], "P \u{2227} Q"));
        assert!(!new(&["P", "\u{ac}P"], "Q"));
    }

    #[test]
    fn formulas_are_read_by_precedence_and_depth_is_bounded() {
        let shown = |text: &str| read_formula(text).map(|formula| formula.to_string());
        assert_eq!(
            shown("P\u{2228}Q\u{2227}\u{ac}R").unwrap(),
            "(P \u{2228} (Q \u{2227} \u{ac}R))"
        );
        assert_eq!(
            shown("P\u{2192}Q\u{2192}R").unwrap(),
            "(P \u{2192} (Q \u{2192} R))"
        );
        for none in ["", "P Q", "P\u{2227}", "(P", "p", "\u{2228}P"] {
            assert_eq!(shown(none), None, "{none}");
        }
        assert_eq!(shown(&"(".repeat(10_000)), None);
        assert_eq!(shown(&"\u{ac}".repeat(10_000)), None);
    }
}

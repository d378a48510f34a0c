//! `bf`: what a Brainf*ck program prints.
//!
//! Upstream compiles small programs with BF-it, whose output for its three
//! templates is the same but for the literals; so the rest is written out here.

use super::{Ask, Puzzle, Random, Task, read, words};

pub(super) const BF: Task = Task {
    name: "bf",
    summary: "what a Brainf*ck program prints",
    levels: [
        ("a word of five letters", 2_315),
        ("a loop that adds two numbers", 1_132),
        ("a loop with a condition", 20_000),
    ],
    alphabet: "abcdefghijklmnopqrstuvwxyz0123456789",
    answer_chars: 16,
    make: bf,
    accepts: read::text,
    upstream: read::upstream_text,
};

/// Up to the literals of `target`, `x` and `y`.
const START: [&str; 3] = [
    ">>>>>[-]><>[-]<<<<<[-]>>>>[>+<<<<<+>>>>-]>[<+>-]<><[-]",
    "><>[-]<<<<[-]>>>[>+<<<<+>>>-]>[<+>-]<><[-]",
    "><>[-]<<<[-]>>[>+<<<+>>-]>[<+>-]<><[-]",
];
/// `while (acc < target) { acc = acc + x; acc = acc + y; } printint(acc);`
const ADD_BOTH: &str = "><>[-]<<[-]>[>+<<+>-]>[<+>-]<><[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-]<<>>[-]>[-]<<[>[-]<<[>>+>+<<<-]>>[<<+>>-]+>[[-]<-<<->>>]<<-]<[-]>>[<<+>>-]<<[[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<[>>>+>+<<<<-]>>>>[<<<<+>>>>-]<<>[<+>-]<>[-]<<<<<[-]>>>>[>+<<<<<+>>>>-]>[<+>-]<><[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<[>>+>+<<<-]>>>[<<<+>>>-]<<>[<+>-]<>[-]<<<<<[-]>>>>[>+<<<<<+>>>>-]>[<+>-]<><[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-]<<>>[-]>[-]<<[>[-]<<[>>+>+<<<-]>>[<<+>>-]+>[[-]<-<<->>>]<<-]<[-]>>[<<+>>-]<<][-]>[-]>[-]<<<<<<[>>>>>+>+<<<<<<-]>>>>>>[<<<<<<+>>>>>>-]<<>>[-]>[-]>[-]>[-]>[-]>[-]>[-]>[-]<<<<<<<<>++++++++++<[->-[>+>>]>[+[<+>-]>+>>]<<<<<]>[-]>>>++++++++++<[->-[>+>>]>[+[<+>-]>+>>]<<<<<]>[-]>>[>++++++[<++++++++>-]<.<<+>+>[-]]<[<[>-<-]++++++[>++++++++<-]>.[-]]<<++++++[<++++++++>-]<.[-]<<<><<<<<<";
/// `while (acc < target) { acc = acc + x; if (acc > `
const ADD_ONE: &str = "><>[-]<<[-]>[>+<<+>-]>[<+>-]<><[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-]<<>>[-]>[-]<<[>[-]<<[>>+>+<<<-]>>[<<+>>-]+>[[-]<-<<->>>]<<-]<[-]>>[<<+>>-]<<[[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<[>>>+>+<<<<-]>>>>[<<<<+>>>>-]<<>[<+>-]<>[-]<<<<<[-]>>>>[>+<<<<<+>>>>-]>[<+>-]<><[-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]";
/// `) { acc = acc + y; } } printint(acc);`
const ADD_OTHER: &str = "><<>>[-]>[-]<<<[>>[-]<[>+>+<<-]>[<+>-]+>[[-]<-<->>]<<<-]>>[<<+>>-]<<[>>[-]>[-]<<<<<<<[>>>>>>+>+<<<<<<<-]>>>>>>>[<<<<<<<+>>>>>>>-][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-]<<>[<+>-]<>[-]<<<<<<<[-]>>>>>>[>+<<<<<<<+>>>>>>-]>[<+>-]<><<<[-]][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-][-]>[-]<<<<<[>>>>+>+<<<<<-]>>>>>[<<<<<+>>>>>-]<<>>[-]>[-]<<[>[-]<<[>>+>+<<<-]>>[<<+>>-]+>[[-]<-<<->>>]<<-]<[-]>>[<<+>>-]<<][-]>[-]>[-]<<<<<<[>>>>>+>+<<<<<<-]>>>>>>[<<<<<<+>>>>>>-]<<>>[-]>[-]>[-]>[-]>[-]>[-]>[-]>[-]<<<<<<<<>++++++++++<[->-[>+>>]>[+[<+>-]>+>>]<<<<<]>[-]>>>++++++++++<[->-[>+>>]>[+[<+>-]>+>>]<<<<<]>[-]>>[>++++++[<++++++++>-]<.<<+>+>[-]]<[<[>-<-]++++++[>++++++++<-]>.[-]]<<++++++[<++++++++>-]<.[-]<<<><<<<<<";

/// Steps after which a program is taken to run for ever.
const STEPS: usize = 20_000_000;
/// The programs use a few dozen cells.
const CELLS: usize = 256;

fn bf(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let (program, largest) = match ask.pick(&[1, 1, 2, 3]) {
        1 => (print_word(random.choice::<&str>(words::wordle())), 0),
        2 => add_both(random),
        _ => add_conditionally(random),
    };
    if !ask.upstream && largest > 255 {
        // Cells hold eight bits: past that a loop runs on, or for ever.
        return None;
    }
    let output = run(&program)?;
    let question = if ask.upstream {
        match random.index(2) {
            0 => format!(
                "This is a BF (Brainf*ck) computer program. What is the output?\n\n{program}\n\nRespond only with the exact output of the program."
            ),
            _ => format!(
                "Consider the following BF (Brainf*ck) code. What would it output?\n\n{program}\n\nProvide only the exact output of the code."
            ),
        }
    } else {
        format!("What does this Brainf*ck program print? Its cells hold 8 bits.\n\n{program}")
    };
    let is_number = output.parse::<i128>().is_ok();
    let puzzle = Puzzle::new(question, output).fact("bf_program", program);
    Some(if is_number {
        puzzle.near()
    } else {
        let word = |_| (*random.choice::<&str>(words::wordle())).to_owned();
        puzzle.decoys((0..3).map(word).collect())
    })
}

/// Code that takes the cell from one value to another, as short as BF-it makes
/// it: sign by sign, or in a loop that counts in the next cell.
fn set(from: i64, to: i64, clear: bool) -> String {
    let offset = (to - from).abs();
    let sign = |up: bool, count: i64| {
        let sign = if up { "+" } else { "-" };
        sign.repeat(usize::try_from(count).unwrap_or(0))
    };
    let up = to > from;
    let naive = sign(up, offset);
    let (mut best, mut least) = ((offset, 1, 0), offset + 1);
    let (mut left, mut right) = (1, offset / 2 - 1);
    while right >= left {
        let (a, b) = (left + 1, right + 1);
        let rest = offset - a * b;
        let sum = a + b + rest.abs();
        if sum < least {
            (best, least) = ((a, b, rest), sum);
        }
        if a * b > offset {
            right -= 1;
        } else {
            left += 1;
        }
    }
    let (count, each, rest) = best;
    let looped = format!(
        ">{}{}[<{}>-]<{}",
        if clear { "[-]" } else { "" },
        sign(true, count),
        sign(up, each),
        sign((rest > 0) == up, rest.abs()),
    );
    if naive.len() > looped.len() {
        looped
    } else {
        naive
    }
}

fn print_word(word: &str) -> String {
    let (mut code, mut last) = (">[-]>[-]<".to_owned(), 0);
    for letter in word.bytes() {
        code.push_str(&set(last, letter.into(), false));
        code.push('.');
        last = letter.into();
    }
    code + "<"
}

/// The program's start, its literals written in.
fn start(literals: [i64; 3]) -> String {
    let mut code = String::new();
    for (part, literal) in START.iter().zip(literals) {
        code.push_str(part);
        code.push_str(&set(0, literal, true));
    }
    code
}

/// The program, and the largest number it comes to.
fn add_both(random: &mut Random) -> (String, i64) {
    let (x, y) = (random.int(1, 4), random.int(1, 5));
    let target = x * y * random.int(1, 9) + random.int(1, 9);
    let largest = (target + x + y - 1) / (x + y) * (x + y);
    (start([target, x, y]) + ADD_BOTH, largest)
}

fn add_conditionally(random: &mut Random) -> (String, i64) {
    let (x, y) = (random.int(1, 7), random.int(1, 9));
    let target = x * y * random.int(1, 9) + random.int(1, 9) + 50;
    let condition = target - random.int(1, 40);
    let code = start([target, x, y]) + ADD_ONE + &set(0, condition, true) + ADD_OTHER;
    (code, target + x + y)
}

/// Code in fewer steps: runs of one sign, and loops that move a cell's value.
enum Step {
    Move(isize),
    Add(u8),
    Print,
    /// Where the loop ends.
    Open(usize),
    /// Where it begins.
    Close(usize),
    /// Adds multiples of this cell to others, and clears it.
    Spread(Vec<(isize, u8)>),
}

fn compile(program: &str) -> Option<Vec<Step>> {
    let (mut steps, mut open) = (Vec::new(), Vec::new());
    for command in program.bytes() {
        match (command, steps.last_mut()) {
            (b'>', Some(Step::Move(by))) => *by += 1,
            (b'<', Some(Step::Move(by))) => *by -= 1,
            (b'+', Some(Step::Add(number))) => *number = number.wrapping_add(1),
            (b'-', Some(Step::Add(number))) => *number = number.wrapping_sub(1),
            (b'>', _) => steps.push(Step::Move(1)),
            (b'<', _) => steps.push(Step::Move(-1)),
            (b'+', _) => steps.push(Step::Add(1)),
            (b'-', _) => steps.push(Step::Add(255)),
            (b'.', _) => steps.push(Step::Print),
            (b'[', _) => {
                open.push(steps.len());
                steps.push(Step::Open(0));
            }
            (b']', _) => {
                let from = open.pop()?;
                if let Some(spread) = spread(&steps[from + 1..]) {
                    steps.truncate(from);
                    steps.push(spread);
                } else {
                    steps[from] = Step::Open(steps.len());
                    steps.push(Step::Close(from));
                }
            }
            _ => {}
        }
    }
    open.is_empty().then_some(steps)
}

/// A loop that takes one from its cell each time around and comes back to it.
fn spread(inside: &[Step]) -> Option<Step> {
    let (mut at, mut added) = (0, std::collections::BTreeMap::<isize, u8>::new());
    for step in inside {
        match step {
            Step::Move(by) => at += by,
            Step::Add(number) => {
                let sum = added.entry(at).or_default();
                *sum = sum.wrapping_add(*number);
            }
            _ => return None,
        }
    }
    let here = added.remove(&0);
    (at == 0 && here == Some(255)).then(|| Step::Spread(added.into_iter().collect()))
}

/// What a program prints; nothing where it does not end in time or leaves its cells.
fn run(program: &str) -> Option<String> {
    let steps = compile(program)?;
    let (mut cells, mut cell, mut at, mut output) = (vec![0u8; CELLS], 0usize, 0, Vec::new());
    for _ in 0..STEPS {
        match steps.get(at) {
            None => return String::from_utf8(output).ok(),
            Some(Step::Move(by)) => {
                cell = cell.checked_add_signed(*by).filter(|cell| *cell < CELLS)?;
            }
            Some(Step::Add(number)) => cells[cell] = cells[cell].wrapping_add(*number),
            Some(Step::Print) => output.push(cells[cell]),
            Some(Step::Open(end)) if cells[cell] == 0 => at = *end,
            Some(Step::Close(start)) if cells[cell] != 0 => at = *start,
            Some(Step::Spread(others)) => {
                let value = std::mem::take(&mut cells[cell]);
                for (offset, times) in others {
                    let other = cell.checked_add_signed(*offset)?;
                    let sum = cells.get_mut(other)?;
                    *sum = sum.wrapping_add(value.wrapping_mul(*times));
                }
            }
            Some(Step::Open(_) | Step::Close(_)) => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_print_and_endless_ones_end() {
        assert_eq!(run("++++++++[>++++++++<-]>+.+.").as_deref(), Some("AB"));
        assert_eq!(run("+[]"), None);
        assert_eq!(run("]"), None);
        assert_eq!(run(&print_word("crave")).as_deref(), Some("crave"));
    }

    #[test]
    fn a_value_is_set_as_bf_it_sets_it() {
        assert_eq!(set(0, 3, true), "+++");
        assert_eq!(set(97, 93, false), "----");
        assert_eq!(set(114, 97, false), ">++++[<---->-]<-");
    }
}

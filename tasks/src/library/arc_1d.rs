//! `arc_1d`: rows of colours and the rule that changes them, after Ilya
//! Sheprut's generators (<https://github.com/optozorax/arc_1d>) as
//! reasoning-gym has them.

use super::{Ask, Puzzle, Random, Task, read};

pub(super) const ARC_1D: Task = Task {
    name: "arc_1d",
    summary: "the rule that changes a row, from three examples",
    levels: [
        ("rows of 8 to 10", 1_000_000_000),
        ("rows of 10 to 20", 1_000_000_000_000),
        ("rows of 20 to 30", 1_000_000_000_000_000),
    ],
    alphabet: "0123456789 ",
    answer_chars: 80,
    make: arc_1d,
    accepts: read::words,
    upstream: read::upstream_text,
};

type Row = Vec<u8>;
/// A row and what the rule makes of it.
type Pair = (Row, Row);
/// Makes a pair of rows of this size; none where the draws do not fit.
type Rule = fn(&mut Random, usize, usize, bool) -> Option<Pair>;

/// What is done to a pair once it is made.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Keep,
    Mirror,
    Inverse,
}

use Turn::{Inverse, Keep, Mirror};

/// Every rule in upstream's order: how far it moves, whether in one colour.
const RULES: &[(&str, Rule, usize, bool, Turn)] = &[
    ("move_1pix_solid_right", shift, 1, true, Keep),
    ("move_2pix_solid_right", shift, 2, true, Keep),
    ("move_3pix_solid_right", shift, 3, true, Keep),
    ("move_4pix_solid_right", shift, 4, true, Keep),
    ("move_1pix_colorful_right", shift, 1, false, Keep),
    ("move_2pix_colorful_right", shift, 2, false, Keep),
    ("move_3pix_colorful_right", shift, 3, false, Keep),
    ("move_4pix_colorful_right", shift, 4, false, Keep),
    ("move_1pix_solid_left", shift, 1, true, Mirror),
    ("move_2pix_solid_left", shift, 2, true, Mirror),
    ("move_3pix_solid_left", shift, 3, true, Mirror),
    ("move_4pix_solid_left", shift, 4, true, Mirror),
    ("move_1pix_colorful_left", shift, 1, false, Mirror),
    ("move_2pix_colorful_left", shift, 2, false, Mirror),
    ("move_3pix_colorful_left", shift, 3, false, Mirror),
    ("move_4pix_colorful_left", shift, 4, false, Mirror),
    ("move_1pix_solid_wrapped_right", wrap, 1, true, Keep),
    ("move_2pix_solid_wrapped_right", wrap, 2, true, Keep),
    ("move_3pix_solid_wrapped_right", wrap, 3, true, Keep),
    ("move_4pix_solid_wrapped_right", wrap, 4, true, Keep),
    ("move_1pix_colorful_wrapped_right", wrap, 1, false, Keep),
    ("move_2pix_colorful_wrapped_right", wrap, 2, false, Keep),
    ("move_3pix_colorful_wrapped_right", wrap, 3, false, Keep),
    ("move_4pix_colorful_wrapped_right", wrap, 4, false, Keep),
    ("move_1pix_solid_wrapped_left", wrap, 1, true, Mirror),
    ("move_2pix_solid_wrapped_left", wrap, 2, true, Mirror),
    ("move_3pix_solid_wrapped_left", wrap, 3, true, Mirror),
    ("move_4pix_solid_wrapped_left", wrap, 4, true, Mirror),
    ("move_1pix_colorful_wrapped_left", wrap, 1, false, Mirror),
    ("move_2pix_colorful_wrapped_left", wrap, 2, false, Mirror),
    ("move_3pix_colorful_wrapped_left", wrap, 3, false, Mirror),
    ("move_4pix_colorful_wrapped_left", wrap, 4, false, Mirror),
    ("gravity_right", gravity, 0, false, Keep),
    ("gravity_counting_right", gravity_counting, 0, false, Keep),
    (
        "gravity_antigravity_right",
        gravity_antigravity,
        0,
        false,
        Keep,
    ),
    ("gravity_one_step_right", gravity_one_step, 0, false, Keep),
    (
        "gravity_weighted_colors_right",
        gravity_weighted,
        0,
        false,
        Keep,
    ),
    ("gravity_left", gravity, 0, false, Mirror),
    ("gravity_counting_left", gravity_counting, 0, false, Mirror),
    (
        "gravity_antigravity_left",
        gravity_antigravity,
        0,
        false,
        Mirror,
    ),
    ("gravity_one_step_left", gravity_one_step, 0, false, Mirror),
    (
        "gravity_weighted_colors_left",
        gravity_weighted,
        0,
        false,
        Mirror,
    ),
    ("block_touch_dot", touch_dot, 0, false, Keep),
    ("block_touch_dot_1pix", near_dot, 1, false, Keep),
    ("block_touch_dot_2pix", near_dot, 2, false, Keep),
    ("block_touch_dot_3pix", near_dot, 3, false, Keep),
    ("block_touch_dot_4pix", near_dot, 4, false, Keep),
    ("block_scale_to_dot", scale_to_dot, 0, false, Keep),
    ("block_and_noise_remove", remove_noise, 0, false, Keep),
    (
        "block_and_noise_remove_inside",
        remove_noise_inside,
        0,
        false,
        Keep,
    ),
    ("move_block_by_own_size", move_by_own_size, 0, false, Keep),
    ("two_points_and_fill", fill_between, 0, false, Keep),
    ("two_points_and_fill_inv", fill_between, 0, false, Inverse),
    ("copy_block_to_dots", copy_to_dots, 0, true, Keep),
    ("copy_block_to_dots_colors", copy_to_dots, 0, false, Keep),
    ("repeat_pattern_full", repeat_pattern, 0, false, Keep),
    (
        "reflect_block_with_border_pixel",
        reflect_block,
        0,
        true,
        Keep,
    ),
    ("reflect_block_random", reflect_block, 0, false, Keep),
    (
        "reflect_block_around_dot",
        reflect_around_dot,
        0,
        false,
        Keep,
    ),
    ("paint_biggest_block", paint_biggest, 0, false, Keep),
    ("recolor_blocks_by_size", recolor_by_size, 0, false, Keep),
    ("change_to_five", change_to_five, 0, false, Keep),
    (
        "recolor_blocks_from_palette",
        recolor_from_palette,
        0,
        false,
        Keep,
    ),
    ("color_left_half_blocks", color_left_half, 0, false, Keep),
    ("sort_blocks_by_size", sort_blocks, 0, false, Keep),
    ("sort_complete_sequence", sort_sequence, 0, false, Keep),
    (
        "duplicate_block_from_seeds",
        duplicate_from_seeds,
        0,
        false,
        Keep,
    ),
    ("fill_from_pixel", fill_from_pixel, 0, false, Keep),
    ("fill_until_collision", fill_until_collision, 0, false, Keep),
    ("mark_size_two_blocks", mark_size_two, 0, false, Keep),
];

/// Draws of one rule that may fail to fit before another puzzle is tried;
/// upstream tries for ever.
const TRIES: usize = 100_000;

fn arc_1d(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let (name, rule, by, solid, turn) = random.choice(RULES);
    let size = random.size(*ask.pick(&[(10, 30), (8, 10), (10, 20), (20, 30)]));
    let mut pair = || -> Option<Pair> {
        let (input, output) = (0..TRIES).find_map(|_| rule(random, size, *by, *solid))?;
        let reversed = |row: Row| row.into_iter().rev().collect();
        Some(match turn {
            Keep => (input, output),
            Mirror => (reversed(input), reversed(output)),
            Inverse => (output, input),
        })
    };
    let examples = [pair()?, pair()?, pair()?];
    let (input, output) = pair()?;
    let row = |row: &Row| read::list(row, " ");
    let mut shown = String::new();
    for (index, (input, output)) in examples.iter().enumerate() {
        shown.push_str(&format!(
            "Example {}:\nInput:  {}\nOutput: {}\n\n",
            index + 1,
            row(input),
            row(output)
        ));
    }
    let question = ask.say(
        || {
            format!(
                "Find the common rule that maps an input grid to an output grid, given the examples below.\n\n{shown}Below is a test input grid. Predict the corresponding output grid by applying the rule you found. Describe how you derived the rule and your overall reasoning process in detail before you submit your answer. Your final answer should be just the test output grid itself.\n\nInput:\n{}",
                row(&input)
            )
        },
        || {
            format!(
                "One rule makes each output of its input. What is the output of the last input?\n\n{shown}Input:  {}",
                row(&input)
            )
        },
    );
    let reversed: Row = output.iter().rev().copied().collect();
    Some(
        Puzzle::new(question, row(&output))
            .fact("task_name", *name)
            .fact("size", size)
            .decoys(vec![row(&reversed), row(&vec![0; size])])
            .copy(row(&input)),
    )
}

fn color(random: &mut Random, low: i64, high: i64) -> u8 {
    random.int(low, high) as u8
}

fn empty(size: usize) -> Row {
    vec![0; size]
}

fn write(row: &mut [u8], at: usize, block: &[u8]) {
    row[at..at + block.len()].copy_from_slice(block);
}

/// One colour throughout, or a colour each.
fn block(random: &mut Random, size: usize, solid: bool) -> Row {
    if solid {
        vec![color(random, 1, 9); size]
    } else {
        (0..size).map(|_| color(random, 1, 9)).collect()
    }
}

/// Colours up to `high`, or nothing, with equal chance.
fn scattered(random: &mut Random, size: usize, high: i64) -> Row {
    (0..size)
        .map(|_| {
            if random.unit() < 0.5 {
                color(random, 1, high)
            } else {
                0
            }
        })
        .collect()
}

fn shift(random: &mut Random, size: usize, by: usize, solid: bool) -> Option<Pair> {
    if size <= by + 1 {
        return None;
    }
    let length = random.size((1, size - by - 1));
    let at = random.size((0, size - length - by));
    let block = block(random, length, solid);
    let (mut input, mut output) = (empty(size), empty(size));
    write(&mut input, at, &block);
    write(&mut output, at + by, &block);
    Some((input, output))
}

fn wrap(random: &mut Random, size: usize, by: usize, solid: bool) -> Option<Pair> {
    let length = random.size((1, size));
    let at = random.size((0, size - 1));
    let (mut input, mut output) = (empty(size), empty(size));
    for (index, color) in block(random, length, solid).into_iter().enumerate() {
        input[(at + index) % size] = color;
        output[(at + by + index) % size] = color;
    }
    Some((input, output))
}

fn gravity(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 9);
    let mut output: Row = input.iter().copied().filter(|color| *color != 0).collect();
    output.resize(size, 0);
    Some((input, output))
}

fn gravity_counting(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 9);
    let count = input.iter().filter(|color| **color != 0).count();
    let mut output = vec![1; count];
    output.resize(size, 0);
    Some((input, output))
}

fn counts(input: &Row) -> (usize, usize) {
    let count = |wanted| input.iter().filter(|color| **color == wanted).count();
    (count(1), count(2))
}

fn gravity_antigravity(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 2);
    let (ones, twos) = counts(&input);
    let output = [vec![2; twos], vec![0; size - ones - twos], vec![1; ones]].concat();
    Some((input, output))
}

fn gravity_weighted(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 2);
    let (ones, twos) = counts(&input);
    let output = [vec![2; twos], vec![1; ones], vec![0; size - ones - twos]].concat();
    Some((input, output))
}

fn gravity_one_step(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 9);
    let mut output = input.clone();
    for at in 1..size {
        if output[at] != 0 && output[at - 1] == 0 {
            output.swap(at - 1, at);
        }
    }
    Some((input, output))
}

/// A block on one side of a dot.
struct BesideDot {
    dot: usize,
    length: usize,
    color: u8,
    left: bool,
    at: usize,
}

fn beside_dot(random: &mut Random, size: usize, lowest_color: i64) -> Option<BesideDot> {
    let color = color(random, lowest_color, 9);
    let length = random.size((1, size - 1));
    let dot = random.size((0, size - 1));
    let left = match (dot >= length, dot + length < size) {
        (false, false) => return None,
        (true, true) => *random.choice(&[true, false]),
        (left, _) => left,
    };
    let at = if left {
        random.size((0, dot - length))
    } else {
        random.size((dot + 1, size - length))
    };
    Some(BesideDot {
        dot,
        length,
        color,
        left,
        at,
    })
}

impl BesideDot {
    fn row(&self, size: usize, dot_color: u8, at: usize, length: usize) -> Row {
        let mut row = empty(size);
        row[self.dot] = dot_color;
        write(&mut row, at, &vec![self.color; length]);
        row
    }
}

fn touch_dot(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let it = beside_dot(random, size, 2)?;
    let to = if it.left {
        it.dot - it.length
    } else {
        it.dot + 1
    };
    Some((
        it.row(size, 1, it.at, it.length),
        it.row(size, 1, to, it.length),
    ))
}

fn near_dot(random: &mut Random, size: usize, by: usize, _: bool) -> Option<Pair> {
    let it = beside_dot(random, size, 3)?;
    let to = if it.left {
        it.at + by.min(it.dot - it.length - it.at)
    } else {
        it.at - by.min(it.at - it.dot - 1)
    };
    Some((
        it.row(size, 2, it.at, it.length),
        it.row(size, 2, to, it.length),
    ))
}

fn scale_to_dot(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let it = beside_dot(random, size, 3)?;
    let (to, length) = if it.left {
        (it.at, it.dot - it.at + 1)
    } else {
        (it.dot, it.at + it.length - it.dot)
    };
    Some((
        it.row(size, 2, it.at, it.length),
        it.row(size, 2, to, length),
    ))
}

fn fill_between(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let color = color(random, 1, 9);
    let (one, other) = (random.size((0, size - 1)), random.size((0, size - 1)));
    if one == other {
        return None;
    }
    let (low, high) = (one.min(other), one.max(other));
    let mut input = empty(size);
    (input[low], input[high]) = (color, color);
    let mut output = input.clone();
    output[low..=high].fill(color);
    Some((input, output))
}

/// With a pixel of its own at one end; one colour else, or many.
fn reflect_block(random: &mut Random, size: usize, _: usize, solid: bool) -> Option<Pair> {
    let length = random.size((2, size));
    let others = |color: u8| -> Row { (1..9).filter(|other| *other != color).collect() };
    let (mut block, end_color, left, at);
    if solid {
        let color = color(random, 1, 9);
        end_color = *random.choice(&others(color));
        left = random.unit() < 0.5;
        at = random.size((0, size - length));
        block = vec![color; length];
    } else {
        left = random.unit() < 0.5;
        at = random.size((0, size - length));
        end_color = color(random, 1, 9);
        let others = others(end_color);
        block = (0..length).map(|_| *random.choice(&others)).collect();
    }
    block[if left { 0 } else { length - 1 }] = end_color;
    let (mut input, mut output) = (empty(size), empty(size));
    write(&mut input, at, &block);
    block.reverse();
    write(&mut output, at, &block);
    Some((input, output))
}

fn reflect_around_dot(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let dot = random.size((0, size - 1));
    let length = random.size((1, size - 1));
    let at = random.size((0, size - length));
    let end = at + length - 1;
    if end >= dot && at <= dot {
        return None;
    }
    let color = color(random, 3, 9);
    if 2 * dot < end || 2 * dot - at >= size {
        return None;
    }
    let (mut input, mut output) = (empty(size), empty(size));
    write(&mut input, at, &vec![color; length]);
    (input[dot], output[dot]) = (2, 2);
    write(&mut output, 2 * dot - end, &vec![color; length]);
    Some((input, output))
}

fn remove_noise(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let length = random.size((2, size));
    let at = random.size((0, size - length));
    let color = color(random, 1, 9);
    let mut output = empty(size);
    output[at..at + length].fill(color);
    let mut input = output.clone();
    let mut forbidden = vec![false; size];
    let forbid = |forbidden: &mut Vec<bool>, from: usize, to: usize| {
        forbidden[from.saturating_sub(1)..(to + 1).min(size)].fill(true);
    };
    forbid(&mut forbidden, at, at + length);
    for _ in 0..random.size((1, 3)) {
        let allowed: Vec<usize> = (0..size).filter(|place| !forbidden[*place]).collect();
        if allowed.is_empty() {
            return None;
        }
        let place = *random.choice(&allowed);
        input[place] = color;
        forbid(&mut forbidden, place, place + 1);
    }
    Some((input, output))
}

fn remove_noise_inside(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    if size <= 6 {
        return None;
    }
    let length = random.size((6, size));
    let at = random.size((0, size - length));
    let base = color(random, 1, 9);
    let mut output = empty(size);
    output[at..at + length].fill(base);
    let mut input = output.clone();
    let count = random.size((1, (length / 2).saturating_sub(1).max(1)));
    let mut places: Vec<usize> = (0..length).collect();
    random.shuffle(&mut places);
    for place in &places[..count] {
        input[at + place] = loop {
            let noise = color(random, 1, 9);
            if noise != base {
                break noise;
            }
        };
    }
    Some((input, output))
}

/// All in one colour, or each dot in its own.
fn copy_to_dots(random: &mut Random, size: usize, _: usize, solid: bool) -> Option<Pair> {
    let length = if random.unit() < 0.5 { 3 } else { 5 };
    if length >= size {
        return None;
    }
    let base = color(random, 1, 9);
    let mut dots = Vec::new();
    let mut at = length + length / 2 + 1;
    while at <= size - length {
        if random.unit() < 0.5 {
            let own = if solid { base } else { color(random, 1, 9) };
            dots.push((at, own));
            at += length;
        }
        at += 1;
    }
    if dots.is_empty() {
        return None;
    }
    let mut input = empty(size);
    write(&mut input, 0, &vec![base; length]);
    let mut output = input.clone();
    for (at, color) in dots {
        input[at] = color;
        write(&mut output, at - length / 2, &vec![color; length]);
    }
    Some((input, output))
}

/// Writes blocks of one colour, each at its place.
fn blocks_row(size: usize, blocks: &[(usize, usize)], color: u8) -> Row {
    let mut row = empty(size);
    for (at, length) in blocks {
        row[*at..at + length].fill(color);
    }
    row
}

fn paint_biggest(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let color = color(random, 2, 9);
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < size {
        if random.unit() < 0.4 && size - at >= 2 {
            let length = random.size((2, (size - at).min(6)));
            blocks.push((at, length));
            at += length;
        }
        at += 1;
    }
    let biggest = blocks.iter().map(|(_, length)| *length).max()?;
    let mut of_that_size = blocks.iter().filter(|(_, length)| *length == biggest);
    let (at, length) = *of_that_size.next()?;
    if blocks.len() < 2 || of_that_size.next().is_some() {
        return None;
    }
    let input = blocks_row(size, &blocks, color);
    let mut output = input.clone();
    output[at..at + length].fill(1);
    Some((input, output))
}

fn sort_blocks(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let color = color(random, 1, 9);
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < size {
        if random.unit() < 0.4 && size - at >= 2 {
            let length = random.size((1, (size - at).min(6)));
            blocks.push((at, length));
            at += length + random.size((1, 4));
        } else {
            at += 1;
        }
    }
    if blocks.len() < 2 {
        return None;
    }
    let input = blocks_row(size, &blocks, color);
    blocks.sort_by_key(|(_, length)| *length);
    let mut next = 0;
    for (at, length) in &mut blocks {
        *at = next;
        next += *length + 1;
    }
    (next - 1 <= size).then(|| (input, blocks_row(size, &blocks, color)))
}

/// Blocks in this order, a gap of one between them.
fn in_order(size: usize, lengths: &[usize], color: u8) -> Row {
    let mut row = empty(size);
    let mut at = 0;
    for length in lengths {
        row[at..at + length].fill(color);
        at += length + 1;
    }
    row
}

fn sort_sequence(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let (mut longest, mut total) = (1, 0);
    while total + longest < size {
        total += longest + 1;
        longest += 1;
    }
    longest -= 1;
    if longest < 2 {
        return None;
    }
    let color = color(random, 1, 9);
    let sorted: Vec<usize> = (1..=longest).collect();
    let mut shuffled = sorted.clone();
    random.shuffle(&mut shuffled);
    Some((
        in_order(size, &shuffled, color),
        in_order(size, &sorted, color),
    ))
}

fn recolor_by_size(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let first = random.size((2, 8));
    let mut second = random.size((2, 8));
    while second == first {
        second = random.size((2, 8));
    }
    if first + second + 1 > size {
        return None;
    }
    let at = random.size((0, size - (first + second + 1)));
    let other = random.size((at + first + 1, size - second));
    let input = blocks_row(size, &[(at, first), (other, second)], 3);
    let (one, two) = if first > second { (1, 2) } else { (2, 1) };
    let mut output = empty(size);
    output[at..at + first].fill(one);
    output[other..other + second].fill(two);
    Some((input, output))
}

fn move_by_own_size(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let length = random.size((1, size / 2));
    let at = random.size((0, size - length * 2));
    let color = color(random, 1, 9);
    Some((
        blocks_row(size, &[(at, length)], color),
        blocks_row(size, &[(at + length, length)], color),
    ))
}

fn change_to_five(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let input = scattered(random, size, 9);
    let output = input
        .iter()
        .map(|color| if *color == 0 { 0 } else { 5 })
        .collect();
    Some((input, output))
}

fn recolor_from_palette(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let length = random.size((2, 4));
    let mut blocks = Vec::new();
    let mut at = 0;
    while at + length <= size {
        if random.unit() < 0.4 {
            blocks.push(at);
            at += length;
        }
        at += 1;
    }
    while blocks
        .last()
        .is_some_and(|last| last + length + blocks.len() + 1 >= size)
    {
        blocks.pop();
    }
    if blocks.is_empty() {
        return None;
    }
    let mut colors: Row = Vec::new();
    while colors.len() < blocks.len() {
        let color = color(random, 1, 9);
        if !colors.contains(&color) {
            colors.push(color);
        }
    }
    let mut input = empty(size);
    write(&mut input, 0, &colors);
    let mut output = input.clone();
    for (at, color) in blocks.iter().zip(&colors) {
        let at = at + colors.len() + 1;
        input[at..at + length].fill(5);
        output[at..at + length].fill(*color);
    }
    Some((input, output))
}

fn duplicate_from_seeds(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let length = random.size((2, 4));
    if size <= 3 + length {
        return None;
    }
    let at = random.size((2, size - length - 2));
    let (mut left, mut right) = (false, false);
    while !left && !right {
        left = random.unit() < 0.5;
        right = random.unit() < 0.5;
    }
    let mut input = blocks_row(size, &[(at, length)], 1);
    let mut output = input.clone();
    if left {
        let (seed, color) = (at - 2, color(random, 1, 9));
        input[seed] = color;
        // Blocks end at the seed and go on to the left, a gap between them.
        let mut end = seed + 1;
        loop {
            output[end.saturating_sub(length)..end].fill(color);
            if end <= length + 1 {
                break;
            }
            end -= length + 1;
        }
    }
    if right {
        let (seed, color) = (at + length + 1, color(random, 1, 9));
        input[seed] = color;
        for start in (seed..size).step_by(length + 1) {
            output[start..(start + length).min(size)].fill(color);
        }
    }
    Some((input, output))
}

fn fill_from_pixel(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    if size < 8 {
        return None;
    }
    let length = random.size((3, size - 5));
    let at = random.size((2, size - length - 2));
    let base = color(random, 1, 9);
    let mut seed = color(random, 1, 8);
    seed += u8::from(seed >= base);
    let mut input = blocks_row(size, &[(at, length)], base);
    let mut output = input.clone();
    if random.unit() < 0.5 {
        input[at - 1] = seed;
        output[..at].fill(seed);
    } else {
        input[at + length] = seed;
        output[at + length..].fill(seed);
    }
    Some((input, output))
}

fn mark_size_two(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    if size < 8 {
        return None;
    }
    let mut lengths = vec![2];
    let mut at = 4;
    while at < size {
        if random.unit() < 0.4 {
            let length = random.size((1, 3));
            if at + length <= size {
                lengths.push(length);
            }
            at += length + 2;
        } else {
            lengths.push(0);
            at += 1;
        }
    }
    random.shuffle(&mut lengths);
    let mut input = empty(size);
    let mut marks = Vec::new();
    at = 0;
    for length in lengths {
        if length == 0 {
            at += 1;
            continue;
        }
        let mut color = color(random, 1, 8);
        color += u8::from(color >= 3);
        input[at..at + length].fill(color);
        if length == 2 {
            marks.extend(at.checked_sub(1));
            marks.push(at + length);
        }
        at += length + 2;
    }
    let mut output = input.clone();
    for mark in marks.into_iter().filter(|mark| *mark < size) {
        output[mark] = 3;
    }
    Some((input, output))
}

fn fill_until_collision(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    if size < 4 {
        return None;
    }
    let left = random.unit() < 0.5;
    let wall = if left { 0 } else { size - 1 };
    let mut input = empty(size);
    input[wall] = 5;
    let count = random.size((2, 4));
    let mut places: Vec<usize> = Vec::new();
    while places.len() < count {
        let place = if left {
            random.size((1, size - 1))
        } else {
            random.size((0, size - 2))
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    for place in &places {
        let mut color = color(random, 1, 8);
        color += u8::from(color >= 5);
        input[*place] = color;
    }
    places.sort_unstable();
    let mut output = input.clone();
    let mut last = wall;
    if left {
        for place in places {
            output[last + 1..place].fill(input[place]);
            last = place;
        }
    } else {
        for place in places.into_iter().rev() {
            output[place + 1..last].fill(input[place]);
            last = place;
        }
    }
    Some((input, output))
}

fn repeat_pattern(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let length = random.size((2, 5));
    let pattern = block(random, length, false);
    if length * 2 >= size {
        return None;
    }
    let mut input = empty(size);
    write(&mut input, 0, &pattern);
    write(&mut input, length, &pattern);
    let output = (0..size).map(|at| pattern[at % length]).collect();
    Some((input, output))
}

fn color_left_half(random: &mut Random, size: usize, _: usize, _: bool) -> Option<Pair> {
    let mut blocks = Vec::new();
    let mut at = 0;
    while at < size {
        if random.unit() < 0.4 {
            let length = random.size((2, size / 2));
            if at + length > size {
                break;
            }
            blocks.push((at, length));
            at += length;
        }
        at += 1;
    }
    if blocks.len() < 2 {
        return None;
    }
    let input = blocks_row(size, &blocks, 2);
    let mut output = input.clone();
    for (at, length) in blocks {
        output[at..at + length / 2].fill(8);
    }
    Some((input, output))
}

//! `binary_matrix`, `rotate_matrix` and `spiral_matrix`.

use super::{Ask, Puzzle, Random, Task, read};
use crate::{Item, Ppm};

const CELLS: &str = "0123456789 ";

pub(super) const BINARY_MATRIX: Task = Task {
    name: "binary_matrix",
    summary: "how far each cell is from the nearest zero",
    levels: [
        ("3 by 3 or 4 by 4", 1_000),
        ("4 by 4 or 5 by 5", 10_000_000),
        ("6 by 6 to 8 by 8", 1_000_000_000_000),
    ],
    alphabet: CELLS,
    answer_chars: 320,
    make: binary_matrix,
    accepts: read::words,
    upstream: upstream_rows,
};

pub(super) const ROTATE_MATRIX: Task = Task {
    name: "rotate_matrix",
    summary: "a matrix turned clockwise",
    levels: [
        ("2 by 2 or 3 by 3", 1_000_000_000),
        ("3 by 3 to 5 by 5", 1_000_000_000_000),
        ("5 by 5 to 8 by 8", 1_000_000_000_000_000),
    ],
    alphabet: CELLS,
    answer_chars: 320,
    make: rotate_matrix,
    accepts: read::words,
    upstream: read::upstream_text,
};

pub(super) const SPIRAL_MATRIX: Task = Task {
    name: "spiral_matrix",
    summary: "the cells of a matrix along a spiral",
    levels: [
        ("2 by 2 or 3 by 3", 1_000_000_000),
        ("3 by 3 to 5 by 5", 1_000_000_000_000),
        ("5 by 5 to 8 by 8", 1_000_000_000_000_000),
    ],
    alphabet: CELLS,
    answer_chars: 320,
    make: spiral_matrix,
    accepts: read::words,
    upstream: |item, answer| {
        let trimmed = answer.trim();
        if answer.is_empty() {
            Ppm::ZERO
        } else if trimmed == item.reference {
            Ppm::ONE
        } else {
            let list = read::Literal::python(trimmed).and_then(|literal| row(&literal));
            tenth(list.as_deref() == Some(&item.reference))
        }
    },
};

/// What upstream pays for a list in place of rows.
fn tenth(right: bool) -> Ppm {
    if right { Ppm(100_000) } else { Ppm::ZERO }
}

fn row(literal: &read::Literal) -> Option<String> {
    let cells: Option<Vec<String>> = literal.list()?.iter().map(read::Literal::shown).collect();
    Some(cells?.join(" "))
}

fn upstream_rows(item: &Item, answer: &str) -> Ppm {
    if answer == item.reference {
        return Ppm::ONE;
    }
    let rows = read::Literal::python(answer).and_then(|literal| {
        let rows: Option<Vec<String>> = literal.list()?.iter().map(row).collect();
        Some(rows?.join("\n"))
    });
    tenth(rows.as_deref() == Some(&item.reference))
}

/// Rows of `size` cells.
fn rows<T: Copy>(cells: &[T], size: usize) -> Vec<Vec<T>> {
    cells.chunks(size).map(<[T]>::to_vec).collect()
}

fn binary_matrix(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let size = random.size(*ask.pick(&[(3, 10), (3, 4), (4, 5), (6, 8)]));
    let mut cells = vec![0u8];
    cells.extend((1..size * size).map(|_| u8::from(random.unit() >= 0.25)));
    random.shuffle(&mut cells);
    let zeros: Vec<(usize, usize)> = (0..size * size)
        .filter(|at| cells[*at] == 0)
        .map(|at| (at / size, at % size))
        .collect();
    let distances: Vec<usize> = (0..size * size)
        .map(|at| {
            let away =
                |zero: &(usize, usize)| zero.0.abs_diff(at / size) + zero.1.abs_diff(at % size);
            zeros.iter().map(away).min().unwrap_or(0)
        })
        .collect();
    let shown = read::grid(&rows(&cells, size));
    let question = ask.say(
        || {
            format!(
                "Given a square matrix, your job is to find the taxicab (Manhattan) distance of the nearest 0 for each cell.\n\nThe output should be a matrix of the same size as the input matrix, where each cell contains the distance to the nearest 0.\n\nFind the distance to the nearest 0 for each cell in the matrix below:\n{shown}\n"
            )
        },
        || {
            format!(
                "For each cell of this matrix, how many steps up, down, left or right is the nearest 0? Answer with a matrix of the same form.\n\n{shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, read::grid(&rows(&distances, size)))
            .fact("matrix", &shown)
            .copy(shown),
    )
}

fn rotate_matrix(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let size = random.size(*ask.pick(&[(2, 10), (2, 3), (3, 5), (5, 8)]));
    let cells: Vec<i64> = (0..size * size).map(|_| random.int(0, 9)).collect();
    let turns = random.size(*ask.pick(&[(0, 10), (1, 1), (1, 3), (1, 7)]));
    let matrix = rows(&cells, size);
    let mut turned = matrix.clone();
    for _ in 0..turns % 4 {
        turned = (0..size)
            .map(|column| turned.iter().rev().map(|row| row[column]).collect())
            .collect();
    }
    let (shown, degrees) = (read::grid(&matrix), turns * 90);
    let question = ask.say(
        || {
            format!(
                "Given a square matrix, your job is to rotate it clockwise.\n\nYour output should be a matrix in the same format as the input.\n\nRotate the matrix below by {degrees} degrees clockwise:\n{shown}\n"
            )
        },
        || {
            format!(
                "Turn this matrix clockwise by {degrees} degrees. Answer with a matrix of the same form.\n\n{shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, read::grid(&turned))
            .fact("num_rotations", turns)
            .copy(shown),
    )
}

/// The cells of a matrix along a spiral, clockwise and inward.
fn spiral(matrix: &[Vec<i64>]) -> Vec<i64> {
    let (mut top, mut left) = (0, 0);
    let (mut bottom, mut right) = (matrix.len(), matrix.first().map_or(0, Vec::len));
    let mut cells = Vec::new();
    while top < bottom && left < right {
        cells.extend(&matrix[top][left..right]);
        top += 1;
        cells.extend(matrix[top..bottom].iter().map(|row| row[right - 1]));
        right -= 1;
        if top < bottom && left < right {
            cells.extend(matrix[bottom - 1][left..right].iter().rev());
            bottom -= 1;
            cells.extend(matrix[top..bottom].iter().rev().map(|row| row[left]));
            left += 1;
        }
    }
    cells
}

fn spiral_matrix(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let size = random.size(*ask.pick(&[(2, 10), (2, 3), (3, 5), (5, 8)]));
    let mut cells: Vec<i64> = (0..size * size).map(|_| random.int(0, 9)).collect();
    random.shuffle(&mut cells);
    let matrix = rows(&cells, size);
    let shown = read::grid(&matrix);
    let question = ask.say(
        || {
            format!(
                "Given a matrix, your job is to generate a list of elements in spiral order, starting from the top-left element.\n\nThe spiral order is clockwise, starting from the top-left corner. More precisely:\n- Start from the top-left corner and move right along the top row.\n- Move down along the right column.\n- Move left along the bottom row.\n- Move up along the left column.\n- Repeat the steps for the inner elements of the matrix until every entry is visited.\n\nHint: Think of peeling the matrix layer by layer from the outside inward. Each layer forms a rectangular frame, and you traverse each frame clockwise starting from its top-left corner.\n\nYour output should be a space-separated list of integers, e.g. 1 2 3 4 5 6\n\nFor the matrix below, what is the list of elements in spiral order?\n{shown}\n"
            )
        },
        || {
            format!(
                "List the cells of this matrix along a spiral: from the top left corner, clockwise and inward, with spaces between.\n\n{shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, read::list(&spiral(&matrix), " "))
            .fact("n", size)
            .copy(read::list(&cells, " ")),
    )
}

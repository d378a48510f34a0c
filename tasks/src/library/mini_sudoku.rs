//! `mini_sudoku`: four by four.

use super::{Ask, Puzzle, Random, Task, read};
use crate::{Item, Ppm};

pub(super) const MINI_SUDOKU: Task = Task {
    name: "mini_sudoku",
    summary: "a sudoku of four by four",
    levels: [
        ("up to six empty cells", 100_000),
        ("six to nine empty cells", 1_000_000),
        ("nine to twelve empty cells", 500_000),
    ],
    alphabet: "1234 ",
    answer_chars: 64,
    make: mini_sudoku,
    accepts: read::words,
    upstream: upstream_score,
};

/// Rows of four, 0 for an empty cell.
type Board = [u8; 16];

fn fits(board: &Board, at: usize, number: u8) -> bool {
    let (row, column) = (at / 4, at % 4);
    !(0..16).any(|other| {
        let (r, c) = (other / 4, other % 4);
        board[other] == number
            && (r == row || c == column || (r / 2, c / 2) == (row / 2, column / 2))
    })
}

/// How many solutions there are, up to a limit; the board becomes the last one
/// found where the limit is reached.
fn solutions(board: &mut Board, limit: usize) -> usize {
    let Some(at) = board.iter().position(|cell| *cell == 0) else {
        return 1;
    };
    let mut count = 0;
    for number in 1..=4 {
        if fits(board, at, number) {
            board[at] = number;
            count += solutions(board, limit - count);
            if count >= limit {
                return count;
            }
            board[at] = 0;
        }
    }
    count
}

fn solved(random: &mut Random) -> Board {
    loop {
        let mut board = [0; 16];
        // The boxes on the diagonal do not touch each other.
        for corner in [0, 10] {
            let mut numbers = [1, 2, 3, 4];
            random.shuffle(&mut numbers);
            for (number, offset) in numbers.into_iter().zip([0, 1, 4, 5]) {
                board[corner + offset] = number;
            }
        }
        if solutions(&mut board, 1) == 1 {
            return board;
        }
    }
}

fn rows(board: &Board) -> String {
    let cell = |cell: &u8| {
        if *cell == 0 {
            "_".to_owned()
        } else {
            cell.to_string()
        }
    };
    let rows: Vec<Vec<String>> = board
        .chunks(4)
        .map(|row| row.iter().map(cell).collect())
        .collect();
    read::grid(&rows)
}

fn mini_sudoku(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let solution = solved(random);
    let wanted = random.size(*ask.pick(&[(8, 12), (3, 6), (6, 9), (9, 12)]));
    let mut puzzle = solution;
    let mut cells: Vec<usize> = (0..16).collect();
    random.shuffle(&mut cells);
    let mut removed = 0;
    for at in cells {
        puzzle[at] = 0;
        if solutions(&mut puzzle.clone(), 2) > 1 {
            puzzle[at] = solution[at];
            continue;
        }
        removed += 1;
        if removed == wanted {
            break;
        }
    }
    let shown = rows(&puzzle);
    let question = ask.say(
        || {
            format!(
                "In 4x4 Mini Sudoku:\n- Each row must contain each number from 1-4 exactly once\n- Each column must contain each number 1-4 exactly once\n- Each 2x2 subgrid must contain each number 1-4 exactly once\nSolve this 4x4 Mini Sudoku puzzle:\n{shown}\nFormat your response as the puzzle above, with spaces separating each number within a row, and newlines separating rows.\n"
            )
        },
        || {
            format!(
                "Fill the empty cells so that every row, every column and every quarter holds 1, 2, 3 and 4. Answer with the whole board in the same form.\n\n{shown}"
            )
        },
    );
    let filled = puzzle.map(|cell| cell.max(1));
    Some(
        Puzzle::new(question, rows(&solution))
            .fact("puzzle", shown)
            .copy(rows(&filled)),
    )
}

/// Upstream reads the digits of each line, pays nine tenths of a cell for each
/// that is right, and less for a text that is longer.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    let trimmed = |text: &str| -> Vec<String> {
        text.split('\n')
            .map(|line| line.trim_end().to_owned())
            .collect()
    };
    if answer.is_empty() {
        return Ppm::ZERO;
    }
    let exact = trimmed(answer) == trimmed(&item.reference);
    let digits =
        |line: &str| -> Vec<char> { line.chars().filter(|c| ('1'..='9').contains(c)).collect() };
    let given = answer
        .split('\n')
        .map(digits)
        .filter(|line| line.len() == 4);
    let matching: usize = given
        .zip(item.reference.lines().map(digits))
        .map(|(given, right)| given.iter().zip(&right).filter(|(a, b)| a == b).count())
        .sum();
    let share = if exact {
        1.0
    } else {
        matching as f64 / 16.0 * 0.9
    };
    let (length, right) = (answer.chars().count(), item.reference.chars().count());
    let longer = if length > right {
        right as f64 / length as f64
    } else {
        1.0
    };
    read::ppm(share * longer)
}

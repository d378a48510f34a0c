//! `game_of_life`.

use super::{Ask, Puzzle, Random, Task, read};
use crate::{Item, Ppm};

pub(super) const GAME_OF_LIFE: Task = Task {
    name: "game_of_life",
    summary: "a board of Conway's game of life some steps on",
    levels: [
        ("4 by 4, one step", 3_000),
        ("6 by 6, one step", 1_000_000_000),
        ("8 by 8, two steps", 1_000_000_000_000),
    ],
    alphabet: "01 ",
    answer_chars: 320,
    make: game_of_life,
    accepts: |item, answer| read::elements(answer).eq(read::elements(&item.reference)),
    upstream: upstream_score,
};

type Board = Vec<Vec<u8>>;

struct Configuration {
    size: usize,
    /// At most: a cell may be drawn twice.
    filled: usize,
    steps: usize,
}

/// One step on a board whose edges meet.
fn next(board: &Board) -> Board {
    let size = board.len();
    let neighbours = |row: usize, column: usize| {
        let around = [size - 1, 0, 1];
        let cells = around
            .iter()
            .flat_map(|down| around.iter().map(move |right| (down, right)));
        cells
            .filter(|(down, right)| **down != 0 || **right != 0)
            .map(|(down, right)| board[(row + down) % size][(column + right) % size])
            .sum::<u8>()
    };
    (0..size)
        .map(|row| {
            (0..size)
                .map(
                    |column| match (board[row][column], neighbours(row, column)) {
                        (1, 2 | 3) | (0, 3) => 1,
                        _ => 0,
                    },
                )
                .collect()
        })
        .collect()
}

fn game_of_life(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    const fn of(size: usize, filled: usize, steps: usize) -> Configuration {
        Configuration {
            size,
            filled,
            steps,
        }
    }
    const CONFIGURATIONS: [Configuration; 4] =
        [of(10, 10, 1), of(4, 6, 1), of(6, 12, 1), of(8, 24, 2)];
    let Configuration {
        size,
        filled,
        steps,
    } = *ask.pick(&CONFIGURATIONS);
    let mut board: Board = vec![vec![0; size]; size];
    for _ in 0..filled {
        let (row, column) = (random.index(size), random.index(size));
        board[row][column] = 1;
    }
    let mut last = board.clone();
    for _ in 0..steps {
        last = next(&last);
    }
    let empty = last.iter().flatten().all(|cell| *cell == 0);
    if !ask.upstream && empty {
        // Small boards die out more often than not: no answer of one kind.
        return None;
    }
    if ask.upstream {
        // One way to ask, and Python draws it.
        random.index(1);
    }
    let json = |board: &Board, separator: &str| {
        let rows: Vec<String> = board
            .iter()
            .map(|row| format!("[{}]", read::list(row, ",")))
            .collect();
        format!("[{}]", rows.join(separator))
    };
    let (question, answer) = if ask.upstream {
        let question = format!(
            "What will this Game of Life board look like after {steps} steps of simulation? Assume a Moore neighborhood and wrapping topology. Reply as array of arrays representing rows in the grid from top to bottom in JSON format. (An empty 3x3 grid would look like this: [[0,0,0],[0,0,0],[0,0,0]])\n\n{}.",
            json(&board, ",\n ")
        );
        (question, json(&last, ","))
    } else {
        let count = if steps == 1 {
            "one step".to_owned()
        } else {
            format!("{steps} steps")
        };
        let question = format!(
            "What does this board of Conway's game of life look like after {count}? Its edges meet: left and right, top and bottom. Answer with a board of the same form.\n\n{}",
            read::grid(&board)
        );
        (question, read::grid(&last))
    };
    Some(
        Puzzle::new(question, answer)
            .fact("simulation_steps", steps)
            .decoys(vec![
                read::grid(&next(&last)),
                read::grid(&vec![vec![0; size]; size]),
            ])
            .copy(read::grid(&board)),
    )
}

/// Upstream pays for every cell that is right; most are empty.
fn upstream_score(item: &Item, answer: &str) -> Ppm {
    if answer == item.reference {
        return Ppm::ONE;
    }
    let Some((answer, right)) =
        read::Literal::read(answer).zip(read::Literal::read(&item.reference))
    else {
        return Ppm::ZERO;
    };
    let (mut cells, mut same) = (0, 0);
    for (row, wanted) in right.list().unwrap_or(&[]).iter().enumerate() {
        let given = answer
            .list()
            .and_then(|rows| rows.get(row))
            .and_then(read::Literal::list);
        for (column, wanted) in wanted.list().unwrap_or(&[]).iter().enumerate() {
            cells += 1;
            same += u64::from(given.and_then(|row| row.get(column)) == Some(wanted));
        }
    }
    read::nearest(same, cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blinker_blinks_over_the_edge() {
        let mut board = vec![vec![0; 5]; 5];
        for column in [4, 0, 1] {
            board[0][column] = 1;
        }
        let turned = next(&board);
        let live: Vec<usize> = (0..5).filter(|row| turned[*row][0] == 1).collect();
        assert_eq!(live, [0, 1, 4]);
        assert_eq!(next(&turned), board);
    }
}

//! `largest_island`, `rotten_oranges` and `shortest_path`.

use std::collections::VecDeque;

use super::{Ask, Puzzle, Random, Task, fact, read};
use crate::{Item, Ppm};

const NUMBER: &str = "-0123456789";

pub(super) const LARGEST_ISLAND: Task = Task {
    name: "largest_island",
    summary: "the size of the largest group of ones",
    levels: [
        ("4 by 4 to 5 by 5", 10_000),
        ("5 by 5 to 7 by 7", 1_000_000),
        ("7 by 7 to 10 by 10", 1_000_000_000),
    ],
    alphabet: NUMBER,
    answer_chars: 8,
    make: largest_island,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const ROTTEN_ORANGES: Task = Task {
    name: "rotten_oranges",
    summary: "how long rot takes to spread over a grid",
    levels: [
        ("3 by 3 or 4 by 4", 10_000),
        ("5 by 5 or 6 by 6", 1_000_000_000),
        ("7 by 7 to 10 by 10", 1_000_000_000_000),
    ],
    alphabet: NUMBER,
    answer_chars: 8,
    make: rotten_oranges,
    accepts: read::number,
    upstream: read::upstream_text,
};

pub(super) const SHORTEST_PATH: Task = Task {
    name: "shortest_path",
    summary: "a shortest way through a grid",
    levels: [
        ("3 or 4 rows and columns", 10_000),
        ("5 to 6 rows and columns", 1_000_000_000),
        ("6 to 9 rows and columns", 1_000_000_000_000),
    ],
    alphabet: "abcdefghijklmnopqrstuvwxyz ",
    answer_chars: 320,
    make: shortest_path,
    accepts: is_shortest,
    upstream: upstream_path,
};

const UP: (isize, isize) = (-1, 0);
const DOWN: (isize, isize) = (1, 0);
const LEFT: (isize, isize) = (0, -1);
const RIGHT: (isize, isize) = (0, 1);

/// The cell one step away, where there is one.
fn step<T>(
    grid: &[Vec<T>],
    (row, column): (usize, usize),
    (down, right): (isize, isize),
) -> Option<(usize, usize)> {
    let (row, column) = (
        row.checked_add_signed(down)?,
        column.checked_add_signed(right)?,
    );
    grid.get(row)?.get(column).map(|_| (row, column))
}

/// How many steps each cell is from the nearest start, through open cells.
fn spread<T>(
    grid: &[Vec<T>],
    starts: &[(usize, usize)],
    open: impl Fn(&T) -> bool,
) -> Vec<Vec<Option<usize>>> {
    let mut distance: Vec<Vec<Option<usize>>> =
        grid.iter().map(|row| vec![None; row.len()]).collect();
    let mut queue: VecDeque<((usize, usize), usize)> = VecDeque::new();
    for start in starts {
        distance[start.0][start.1] = Some(0);
        queue.push_back((*start, 0));
    }
    while let Some((at, away)) = queue.pop_front() {
        for direction in [UP, DOWN, LEFT, RIGHT] {
            let Some(next) = step(grid, at, direction) else {
                continue;
            };
            if distance[next.0][next.1].is_none() && open(&grid[next.0][next.1]) {
                distance[next.0][next.1] = Some(away + 1);
                queue.push_back((next, away + 1));
            }
        }
    }
    distance
}

/// The places of the cells for which this holds.
fn places<T>(grid: &[Vec<T>], wanted: impl Fn(&T) -> bool) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (row, cells) in grid.iter().enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            if wanted(cell) {
                places.push((row, column));
            }
        }
    }
    places
}

fn largest_island(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    // sides, islands, their size
    type Configuration = ((usize, usize), (usize, usize), (usize, usize));
    const CONFIGURATIONS: [Configuration; 4] = [
        ((5, 10), (0, 5), (0, 10)),
        ((4, 5), (1, 3), (1, 5)),
        ((5, 7), (1, 4), (1, 8)),
        ((7, 10), (2, 6), (2, 12)),
    ];
    let (sides, islands, sizes) = *ask.pick(&CONFIGURATIONS);
    let (rows, columns) = (random.size(sides), random.size(sides));
    let mut grid = vec![vec![0u8; columns]; rows];
    let mut directions = [UP, DOWN, LEFT, RIGHT];
    for _ in 0..random.size(islands) {
        let mut at = (random.size((0, rows - 1)), random.size((0, columns - 1)));
        for _ in 0..random.size(sizes).min(rows * columns) {
            grid[at.0][at.1] = 1;
            random.shuffle(&mut directions);
            let free = |next: &(usize, usize)| grid[next.0][next.1] == 0;
            let next = directions
                .iter()
                .filter_map(|way| step(&grid, at, *way))
                .find(free);
            at = next.unwrap_or(at);
        }
    }
    let land = places(&grid, |cell| *cell == 1);
    let (mut largest, mut seen) = (0, vec![vec![false; columns]; rows]);
    for start in &land {
        let (mut area, mut next) = (0, vec![*start]);
        while let Some(at) = next.pop() {
            if grid[at.0][at.1] == 0 || std::mem::replace(&mut seen[at.0][at.1], true) {
                continue;
            }
            area += 1;
            next.extend(
                [UP, DOWN, LEFT, RIGHT]
                    .iter()
                    .filter_map(|way| step(&grid, at, *way)),
            );
        }
        largest = largest.max(area);
    }
    let shown = read::grid(&grid);
    let question = ask.say(
        || {
            format!(
                "You are given the following {rows} x {columns} binary matrix grid:\n{shown}\n\nAn island is a group of 1's (representing land) connected 4-directionally (horizontal or vertical).\nYou may assume all four edges of the grid are surrounded by water.\n\nThe area of an island is the number of cells with a value 1 in the island.\n\nReturn the maximum area of an island in grid. If there is no island, return 0.\n"
            )
        },
        || {
            format!(
                "An island is a group of ones joined up, down, left or right. How many ones has the largest island of this grid?\n\n{shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, largest)
            .fact("grid", shown)
            .decoys(vec![
                (largest + 1).to_string(),
                (largest + 2).to_string(),
                land.len().to_string(),
                (largest - 1).max(0).to_string(),
            ]),
    )
}

fn rotten_oranges(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let size = random.size(*ask.pick(&[(10, 30), (3, 4), (5, 6), (7, 10)]));
    let grid: Vec<Vec<u8>> = (0..size)
        .map(|_| {
            (0..size)
                .map(|_| {
                    let orange = random.unit() < 0.85;
                    u8::from(orange) + u8::from(orange && random.unit() < 0.1)
                })
                .collect()
        })
        .collect();
    let rotten = places(&grid, |cell| *cell == 2);
    let reached = spread(&grid, &rotten, |cell| *cell == 1);
    let spared = places(&grid, |cell| *cell == 1)
        .iter()
        .any(|(row, column)| reached[*row][*column].is_none());
    let minutes = reached
        .iter()
        .flatten()
        .flatten()
        .max()
        .copied()
        .unwrap_or(0);
    if !ask.upstream && (spared || minutes == 0) && random.index(4) != 0 {
        // On small grids most fresh oranges are out of reach: keep that a case
        // among others, or one answer would be right most of the time.
        return None;
    }
    let answer = if spared { -1 } else { minutes as i64 };
    let shown = read::grid(&grid);
    let question = ask.say(
        || {
            format!(
                "You are given an n x n grid where each cell can have one of three values:\n- 0 representing an empty cell\n- 1 representing a fresh orange\n- 2 representing a rotten orange\n\nEvery minute, any fresh orange that is 4-directionally adjacent to a rotten orange becomes rotten.\n\nYour task is determine the minimum number of minutes that must elapse until no cell has a fresh orange.\nIf this is impossible, return -1.\n\nNow, determine the minimum number of minutes that must elapse until no cell in the grid below has a fresh orange:\n{shown}\n"
            )
        },
        || {
            format!(
                "In this grid 0 is empty, 1 a fresh orange, 2 a rotten one. Each minute the fresh oranges up, down, left and right of a rotten one rot. After how many minutes is none fresh? Answer -1 if some stay fresh.\n\n{shown}"
            )
        },
    );
    Some(Puzzle::new(question, answer).fact("matrix", shown).near())
}

fn shortest_path(ask: &Ask, random: &mut Random) -> Option<Puzzle> {
    let sides = *ask.pick(&[(5, 8), (3, 4), (5, 6), (6, 9)]);
    let (rows, columns) = (random.size(sides), random.size(sides));
    let mut grid: Vec<Vec<char>> = (0..rows)
        .map(|_| {
            (0..columns)
                .map(|_| if random.unit() < 0.4 { 'X' } else { 'O' })
                .collect()
        })
        .collect();
    let mut place = || (random.size((0, rows - 1)), random.size((0, columns - 1)));
    let start = place();
    grid[start.0][start.1] = '*';
    let end = loop {
        let end = place();
        if end != start {
            break end;
        }
    };
    grid[end.0][end.1] = '#';
    let path = first_path(&grid, start);
    if !ask.upstream && path.is_none() && random.index(6) != 0 {
        // Most grids have no way; asked as often as they come, `infeasible`
        // would be right most of the time.
        return None;
    }
    let answer = path.map_or("infeasible".to_owned(), |path| path.join(" "));
    let shown = read::grid(&grid);
    let question = ask.say(
        || {
            format!(
                "Your task is to find the shortest path from the start to the destination point in a grid.\n\nThe grid is represented as a matrix with the following types of cells:\n- *: your starting point\n- #: your destination point\n- O: an open cell\n- X: a blocked cell\n\nTherefore, you need to find the shortest path from * to #, moving only through open cells.\n\nYou may only move in four directions: up, down, left, and right.\n\nIf there is no path from * to #, simply write \"infeasible\" (without quotes).\n\nYour output should be a sequence of directions that leads from * to #, e.g. right right down down up left\n\nNow, find the shortest path from * to # in the following grid:\n{shown}\n"
            )
        },
        || {
            format!(
                "Find a shortest way from * to # in this grid, through O and around X. Answer with steps, as: right right down left up. If there is no way, answer infeasible.\n\n{shown}"
            )
        },
    );
    Some(
        Puzzle::new(question, answer).fact("grid", shown).decoys(
            ["infeasible", "right", "down left", "up up right"]
                .map(str::to_owned)
                .to_vec(),
        ),
    )
}

/// The first of the shortest ways, in the order right, down, left, up.
fn first_path(grid: &[Vec<char>], start: (usize, usize)) -> Option<Vec<&'static str>> {
    const WAYS: [((isize, isize), &str); 4] =
        [(RIGHT, "right"), (DOWN, "down"), (LEFT, "left"), (UP, "up")];
    let mut visited: Vec<Vec<bool>> = grid.iter().map(|row| vec![false; row.len()]).collect();
    visited[start.0][start.1] = true;
    // Each cell that was reached: where from, and how.
    let mut reached = vec![(start, 0, "")];
    let mut next = 0;
    while next < reached.len() {
        for (direction, name) in WAYS {
            let Some(cell) = step(grid, reached[next].0, direction) else {
                continue;
            };
            if grid[cell.0][cell.1] == '#' {
                let (mut path, mut at) = (vec![name], next);
                while at != 0 {
                    path.push(reached[at].2);
                    at = reached[at].1;
                }
                path.reverse();
                return Some(path);
            }
            if grid[cell.0][cell.1] == 'O' && !visited[cell.0][cell.1] {
                visited[cell.0][cell.1] = true;
                reached.push((cell, next, name));
            }
        }
        next += 1;
    }
    None
}

/// Whether these steps lead from start to end; over both, as upstream walks.
fn leads(item: &Item, path: &[&str]) -> bool {
    let grid: Vec<Vec<char>> = fact(item, "grid")
        .lines()
        .map(|row| row.chars().filter(|c| *c != ' ').collect())
        .collect();
    let Some(mut at) = places(&grid, |cell| *cell == '*').first().copied() else {
        return false;
    };
    for direction in path {
        let direction = match *direction {
            "right" => RIGHT,
            "down" => DOWN,
            "left" => LEFT,
            "up" => UP,
            _ => return false,
        };
        match step(&grid, at, direction) {
            Some(next) if grid[next.0][next.1] != 'X' => at = next,
            _ => return false,
        }
    }
    grid[at.0][at.1] == '#'
}

fn is_shortest(item: &Item, answer: &str) -> bool {
    let path: Vec<&str> = answer.split_whitespace().collect();
    let wanted = item.reference.split_whitespace().count();
    answer == item.reference || (path.len() == wanted && leads(item, &path))
}

/// Upstream pays half for a way that is longer than it need be.
fn upstream_path(item: &Item, answer: &str) -> Ppm {
    if answer.is_empty() {
        return Ppm::ZERO;
    }
    let path: Vec<&str> = answer.split_whitespace().collect();
    if is_shortest(item, answer.trim()) {
        Ppm::ONE
    } else if leads(item, &path) {
        Ppm(500_000)
    } else {
        Ppm::ZERO
    }
}

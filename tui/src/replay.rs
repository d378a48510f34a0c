//! A recording: reading a file of events, and playing it.

use std::io::{self, BufRead};

use swarm_core::event::{Event, Record};

use crate::source::{Control, Source, Transport};
use crate::state::State;

/// Longest line read as a record. The largest groups are tens of kilobytes;
/// a line past this is damage, not data.
const LINE_LIMIT: usize = 4 << 20;
/// Problems told one by one; further ones are only counted, in the last line.
const PROBLEMS_TOLD: usize = 20;
/// Longest silence played, in milliseconds. A night between two runs is one
/// pause of this length.
pub const SILENCE_MS: u64 = 15_000;
/// Records between two kept states, at least: folding as many takes a few
/// milliseconds, so seeking back never feels slow.
const SNAPSHOT_RECORDS: usize = 4_096;
/// States kept; texts are shared between them.
const SNAPSHOTS_KEPT: usize = 16;
/// Speeds, in halves.
const HALF_SPEEDS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// Reads a file of events, one JSON object a line. A torn, corrupt or unknown
/// line is left out and told, with its number; reading goes on behind it.
pub fn read_events(mut from: impl BufRead) -> (Vec<Record>, Vec<String>) {
    let mut records = Vec::new();
    let mut problems = Vec::new();
    let mut count = 0_usize;
    let mut tell = |problem: String| {
        count += 1;
        if count <= PROBLEMS_TOLD {
            problems.push(problem);
        }
    };
    let mut number = 0_u64;
    loop {
        number += 1;
        match read_line(&mut from) {
            Ok(None) => break,
            Ok(Some(Line::TooLong)) => {
                tell(format!("line {number}: longer than {LINE_LIMIT} bytes"));
            }
            Ok(Some(Line::Whole(bytes))) if bytes.trim_ascii().is_empty() => {}
            Ok(Some(Line::Whole(bytes))) => match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => records.push(record),
                Err(error) => tell(format!("line {number}: {error}")),
            },
            Err(error) => {
                tell(format!("line {number}: {error}; nothing after it was read"));
                break;
            }
        }
    }
    if count > PROBLEMS_TOLD {
        problems.push(format!("and {} more", count - PROBLEMS_TOLD));
    }
    (records, problems)
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line without its end; what is past the limit is read and dropped.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    let mut any = false;
    loop {
        let chunk = match from.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = &chunk[..end.unwrap_or(chunk.len())];
        too_long |= line.len() + taken.len() > LINE_LIMIT;
        if !too_long {
            line.extend_from_slice(taken);
        }
        let used = taken.len() + usize::from(end.is_some());
        from.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (false, _) => None,
        (true, true) => Some(Line::TooLong),
        (true, false) => Some(Line::Whole(line)),
    })
}

/// Plays records at their own pace, or any other.
///
/// Time is passed in: [`Source::advance`] moves the position by the wall time
/// since the call before, times the speed. Seeking back folds again from the
/// nearest kept state.
#[derive(Debug)]
pub struct Player {
    records: Vec<Record>,
    /// When each record plays, in milliseconds from the start; never falls.
    plays_at: Vec<u64>,
    /// States kept, each with the number of records it holds.
    snapshots: Vec<(usize, State)>,
    spacing: usize,
    state: State,
    /// Records folded into the state.
    folded: usize,
    position_ms: u64,
    /// What is left over of a millisecond at half speed.
    remainder: u64,
    half_speeds: u32,
    paused: bool,
    problems: Vec<String>,
    wall_ms: Option<u64>,
    leaving: bool,
}

impl Player {
    /// A recording at its start, playing at life speed. `problems` are those
    /// of [`read_events`].
    pub fn new(records: Vec<Record>, problems: Vec<String>) -> Self {
        let mut plays_at = Vec::with_capacity(records.len());
        let mut position = 0;
        let mut newest = records.first().map_or(0, |record| record.at_ms);
        for record in &records {
            position += record.at_ms.saturating_sub(newest).min(SILENCE_MS);
            newest = newest.max(record.at_ms);
            plays_at.push(position);
        }
        let spacing = SNAPSHOT_RECORDS.max(records.len().div_ceil(SNAPSHOTS_KEPT));
        let mut player = Self {
            records,
            plays_at,
            snapshots: Vec::new(),
            spacing,
            state: State::default(),
            folded: 0,
            position_ms: 0,
            remainder: 0,
            half_speeds: 2,
            paused: false,
            problems,
            wall_ms: None,
            leaving: false,
        };
        player.seek(0);
        player
    }

    fn length_ms(&self) -> u64 {
        self.plays_at.last().copied().unwrap_or(0)
    }

    /// To a position; the state is that of all records that played by then.
    pub fn seek(&mut self, position_ms: u64) {
        self.position_ms = position_ms.min(self.length_ms());
        self.remainder = 0;
        let due = self
            .plays_at
            .partition_point(|plays_at| *plays_at <= self.position_ms);
        self.fold_to(due);
    }

    fn fold_to(&mut self, due: usize) {
        if due < self.folded {
            let nearest = self
                .snapshots
                .iter()
                .rev()
                .find(|(folded, _)| *folded <= due);
            (self.folded, self.state) = nearest.cloned().unwrap_or_default();
        }
        while self.folded < due {
            self.state.fold(&self.records[self.folded]);
            self.folded += 1;
            let newest = self.snapshots.last().map_or(0, |(folded, _)| *folded);
            if self.folded >= newest + self.spacing {
                self.snapshots.push((self.folded, self.state.clone()));
            }
        }
    }

    /// Where each round first opens, as positions.
    fn round_starts(&self) -> impl Iterator<Item = u64> + '_ {
        let mut newest = None;
        self.records
            .iter()
            .zip(&self.plays_at)
            .filter_map(move |(record, plays_at)| match &record.event {
                Event::RoundOpened { round, .. } if newest < Some(*round) => {
                    newest = Some(*round);
                    Some(*plays_at)
                }
                _ => None,
            })
    }
}

impl Source for Player {
    fn state(&self) -> &State {
        &self.state
    }

    fn advance(&mut self, wall_ms: u64) -> bool {
        let before = self.wall_ms.replace(wall_ms).unwrap_or(wall_ms);
        let elapsed = wall_ms.saturating_sub(before);
        if self.paused || elapsed == 0 || self.position_ms >= self.length_ms() {
            return false;
        }
        let halves = elapsed
            .saturating_mul(u64::from(self.half_speeds))
            .saturating_add(self.remainder);
        self.seek(self.position_ms.saturating_add(halves / 2));
        self.remainder = halves % 2;
        true
    }

    fn shown_ms(&self, _wall_ms: u64) -> u64 {
        // The time of the newest record, and what has played since.
        let since = self.folded.checked_sub(1).map_or(0, |index| {
            self.position_ms.saturating_sub(self.plays_at[index])
        });
        self.state.last_ms.saturating_add(since)
    }

    fn leave(&mut self) {
        self.leaving = true;
    }

    fn left(&self) -> bool {
        self.leaving
    }

    fn over(&self) -> bool {
        false
    }

    fn transport(&self) -> Option<Transport> {
        Some(Transport {
            paused: self.paused,
            half_speeds: self.half_speeds,
            position_ms: self.position_ms,
            length_ms: self.length_ms(),
            at_end: self.position_ms >= self.length_ms(),
            problems: self.problems.len(),
        })
    }

    fn control(&mut self, control: Control, wall_ms: u64) {
        // What has played until now, played at the old speed.
        self.advance(wall_ms);
        let speed = HALF_SPEEDS
            .iter()
            .position(|speed| *speed == self.half_speeds)
            .unwrap_or(1);
        match control {
            Control::TogglePause if self.position_ms >= self.length_ms() => {
                self.paused = false;
                self.seek(0);
            }
            Control::TogglePause => self.paused = !self.paused,
            Control::Faster => {
                self.half_speeds = HALF_SPEEDS[(speed + 1).min(HALF_SPEEDS.len() - 1)];
            }
            Control::Slower => self.half_speeds = HALF_SPEEDS[speed.saturating_sub(1)],
            Control::Skip(by_ms) => self.seek(self.position_ms.saturating_add_signed(by_ms)),
            Control::PreviousRound => {
                // Within its first second, a round counts as just reached.
                let here = self.position_ms.saturating_sub(1_000);
                let start = self.round_starts().take_while(|start| *start < here).last();
                self.seek(start.unwrap_or(0));
            }
            Control::NextRound => {
                let start = self.round_starts().find(|start| *start > self.position_ms);
                self.seek(start.unwrap_or(u64::MAX));
            }
            Control::Start => self.seek(0),
            Control::End => self.seek(u64::MAX),
        }
    }
}

//! Where the state comes from: a running node, or a recording.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use swarm_core::event::Record;

use crate::state::State;

/// Records that wait for the screen. A round of four local peers is a few
/// thousand; a screen that is a whole round behind may miss some.
pub const FEED_CAPACITY: usize = 16_384;
/// Records folded for one frame: about ten milliseconds of work.
pub const RECORDS_PER_FRAME: usize = 4_096;

/// The node's end of a feed: sending never waits.
#[derive(Debug, Clone)]
pub struct Feed {
    sender: SyncSender<Record>,
    skipped: Arc<AtomicU64>,
}

impl Feed {
    /// Hands a record to the screen. When the screen is gone or far behind,
    /// the record is dropped and counted; the file has it.
    pub fn send(&self, record: Record) {
        if self.sender.try_send(record).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The screen's end of a feed.
#[derive(Debug)]
pub struct Records {
    receiver: Receiver<Record>,
    skipped: Arc<AtomicU64>,
}

/// A bounded channel from the node to the screen.
pub fn feed() -> (Feed, Records) {
    let (sender, receiver) = sync_channel(FEED_CAPACITY);
    let skipped = Arc::new(AtomicU64::new(0));
    let feed = Feed {
        sender,
        skipped: skipped.clone(),
    };
    (feed, Records { receiver, skipped })
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = std::sync::mpsc::IntoIter<Record>;

    /// What comes, until the node has ended: for whoever watches without a screen.
    fn into_iter(self) -> Self::IntoIter {
        self.receiver.into_iter()
    }
}

impl From<Receiver<Record>> for Records {
    /// Any channel will do, for a node that counts for itself what it drops.
    fn from(receiver: Receiver<Record>) -> Self {
        Self {
            receiver,
            skipped: Arc::default(),
        }
    }
}

/// Where a recording stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    /// Whether it stands still.
    pub paused: bool,
    /// How fast it plays, in halves: 2 is life speed.
    pub half_speeds: u32,
    /// Milliseconds played.
    pub position_ms: u64,
    /// Milliseconds in all.
    pub length_ms: u64,
    /// Whether the end is reached.
    pub at_end: bool,
    /// Lines of the file that could not be read.
    pub problems: usize,
}

/// What the keys of a recording ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Play or stand still.
    TogglePause,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// Ahead (positive) or back by milliseconds.
    Skip(i64),
    /// To the start of the round before.
    PreviousRound,
    /// To the start of the next round.
    NextRound,
    /// To the start.
    Start,
    /// To the end.
    End,
}

/// Something that folds records into a state as time goes on.
pub trait Source {
    /// What is known.
    fn state(&self) -> &State;
    /// Takes what is due at `wall_ms`; says whether anything changed.
    fn advance(&mut self, wall_ms: u64) -> bool;
    /// The moment the screens show, given the time of day.
    fn shown_ms(&self, wall_ms: u64) -> u64;
    /// The user wants to leave: whoever must save something is told once.
    fn leave(&mut self);
    /// Whether nothing is left to wait for once the user wants to leave.
    fn left(&self) -> bool;
    /// Whether the node is gone or has said it stops.
    fn over(&self) -> bool;
    /// Records that never reached the screen.
    fn skipped(&self) -> u64 {
        0
    }
    /// Where a recording stands; `None` live.
    fn transport(&self) -> Option<Transport> {
        None
    }
    /// Steers a recording.
    fn control(&mut self, _control: Control, _wall_ms: u64) {}
}

/// A running node.
#[derive(Debug)]
pub struct Live<F> {
    state: State,
    records: Records,
    stop: Option<F>,
    disconnected: bool,
}

impl<F: FnOnce()> Live<F> {
    /// Reads `records`; `stop` is called once, when the user wants to leave.
    pub fn new(records: Records, stop: F) -> Self {
        Self {
            state: State::default(),
            records,
            stop: Some(stop),
            disconnected: false,
        }
    }

    /// Begins with what an earlier run told: a node that resumes still shows
    /// what it learned before.
    pub fn after(mut self, history: impl IntoIterator<Item = Record>) -> Self {
        for record in history {
            self.state.fold(&record);
        }
        // It was that run that stopped.
        self.state.stopped = false;
        self
    }
}

impl<F: FnOnce()> Source for Live<F> {
    fn state(&self) -> &State {
        &self.state
    }

    fn advance(&mut self, _wall_ms: u64) -> bool {
        for folded in 0..RECORDS_PER_FRAME {
            match self.records.receiver.try_recv() {
                Ok(record) => self.state.fold(&record),
                Err(TryRecvError::Empty) => return folded > 0,
                Err(TryRecvError::Disconnected) => {
                    let news = !self.disconnected;
                    self.disconnected = true;
                    return folded > 0 || news;
                }
            }
        }
        true
    }

    fn shown_ms(&self, wall_ms: u64) -> u64 {
        wall_ms
    }

    fn leave(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }

    fn left(&self) -> bool {
        self.stop.is_none() && self.over()
    }

    fn over(&self) -> bool {
        self.state.stopped || self.disconnected
    }

    fn skipped(&self) -> u64 {
        self.records.skipped.load(Ordering::Relaxed)
    }
}

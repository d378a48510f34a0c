//! Noticing that we hear nothing, and what to do about it.
//!
//! Now and then a node that has joined a gossip swarm and has neighbours
//! receives nothing: none of them counts it among *its* neighbours. Silence
//! alone proves nothing, a swarm may be quiet. So whoever has heard nothing
//! for a while asks, and one of those who hear it answers; the others, hearing
//! the answer, save theirs. A question a few seconds costs a handful of short
//! messages in the whole swarm, whatever its size, and none while it is busy.
//! Who hears no answer is deaf, and joins again.
//!
//! Pure: time and randomness come in, actions go out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Intervals of the watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Having heard nothing for this long, ask whether anyone is there.
    pub ask_after: Duration,
    /// Answer within this time, unless someone else does.
    pub answer_within: Duration,
    /// Having heard nothing for this long, join again.
    pub deaf_after: Duration,
    /// Without neighbours, join again this often.
    pub alone_retry: Duration,
    /// This often ask a remembered peer that is no neighbour to be one: two
    /// halves of a swarm that forgot each other find together again.
    pub bridge_every: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            ask_after: Duration::from_secs(5),
            answer_within: Duration::from_millis(1_500),
            deaf_after: Duration::from_secs(15),
            alone_retry: Duration::from_secs(3),
            bridge_every: Duration::from_secs(90),
        }
    }
}

/// What the watchdog wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask the swarm whether anyone is there.
    Ask,
    /// Answer the question with this nonce.
    Answer(u64),
    /// Join through remembered peers: there is no neighbour at all.
    Join,
    /// Join through neighbours and remembered peers: we hear nothing.
    Rejoin,
    /// Joining again did not help: close all gossip connections, then join.
    Restart,
    /// Ask one remembered peer that is no neighbour to become one.
    Bridge,
}

/// Questions waiting for an answer of ours. More at once means that someone
/// asks for sport.
const MAX_QUESTIONS: usize = 16;

#[derive(Debug)]
pub(super) struct Watchdog {
    watch: Watch,
    heard: Instant,
    asked: Option<Instant>,
    joined: Instant,
    bridged: Instant,
    strikes: u32,
    answers: BTreeMap<u64, Instant>,
}

impl Watchdog {
    pub(super) fn new(watch: Watch, now: Instant) -> Self {
        Self {
            watch,
            heard: now,
            asked: None,
            joined: now,
            bridged: now,
            strikes: 0,
            answers: BTreeMap::new(),
        }
    }

    /// Something arrived from the swarm, whatever it was.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
        self.strikes = 0;
    }

    /// Someone asks. `random` spreads the answers so that one is enough.
    pub(super) fn question(&mut self, nonce: u64, random: u64, now: Instant) {
        if self.answers.len() < MAX_QUESTIONS {
            let spread = self.watch.answer_within.as_micros().max(1) as u64;
            let due = now + Duration::from_micros(random % spread);
            self.answers.entry(nonce).or_insert(due);
        }
    }

    /// Someone answered: ours is not needed.
    pub(super) fn answered(&mut self, nonce: u64) {
        self.answers.remove(&nonce);
    }

    /// What is due at `now`, with this many neighbours.
    pub(super) fn poll(&mut self, neighbours: usize, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let due: Vec<u64> = self
            .answers
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(nonce, _)| *nonce)
            .collect();
        for nonce in due {
            self.answers.remove(&nonce);
            actions.push(Action::Answer(nonce));
        }
        if neighbours == 0 {
            // Alone is not deaf: the clock of silence starts with a neighbour.
            self.heard = now;
            self.asked = None;
            self.strikes = 0;
            if now >= self.joined + self.watch.alone_retry {
                self.joined = now;
                actions.push(Action::Join);
            }
            return actions;
        }
        if now >= self.bridged + self.watch.bridge_every {
            self.bridged = now;
            actions.push(Action::Bridge);
        }
        let silent_since = self.heard.max(self.joined_since_strike());
        if now >= silent_since + self.watch.deaf_after {
            self.strikes += 1;
            self.joined = now;
            actions.push(if self.strikes == 1 {
                Action::Rejoin
            } else {
                Action::Restart
            });
        } else if now >= self.asked.unwrap_or(self.heard) + self.watch.ask_after {
            self.asked = Some(now);
            actions.push(Action::Ask);
        }
        actions
    }

    /// After a strike the next counts from when we joined again.
    fn joined_since_strike(&self) -> Instant {
        if self.strikes == 0 {
            self.heard
        } else {
            self.joined
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Polls once a second and returns what was asked for, with its second.
    fn run(dog: &mut Watchdog, start: Instant, from: u64, to: u64) -> Vec<(u64, Action)> {
        (from..=to)
            .flat_map(|second| {
                dog.poll(3, start + seconds(second))
                    .into_iter()
                    .map(move |action| (second, action))
            })
            .collect()
    }

    #[test]
    fn silence_first_asks_then_rejoins_then_restarts() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        assert_eq!(
            run(&mut dog, start, 1, 45),
            [
                (5, Action::Ask),
                (10, Action::Ask),
                (15, Action::Rejoin),
                (16, Action::Ask),
                (21, Action::Ask),
                (26, Action::Ask),
                (30, Action::Restart),
                (31, Action::Ask),
                (36, Action::Ask),
                (41, Action::Ask),
                (45, Action::Restart),
            ]
        );
    }

    #[test]
    fn a_swarm_that_talks_is_never_asked() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        for second in 1..60 {
            let now = start + seconds(second);
            dog.heard(now);
            assert_eq!(dog.poll(1, now), []);
        }
    }

    #[test]
    fn an_answer_in_time_forgives_everything() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        run(&mut dog, start, 1, 20);
        dog.heard(start + seconds(20));
        assert_eq!(
            run(&mut dog, start, 21, 35),
            [(25, Action::Ask), (30, Action::Ask), (35, Action::Rejoin)]
        );
    }

    #[test]
    fn without_neighbours_it_keeps_trying_to_join() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        let joins: Vec<u64> = (1..=10)
            .filter(|second| dog.poll(0, start + seconds(*second)) == [Action::Join])
            .collect();
        assert_eq!(joins, [3, 6, 9]);
    }

    #[test]
    fn a_question_is_answered_once_unless_someone_else_was_faster() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        dog.question(7, 1_000_000, start);
        dog.question(8, 1_000_000, start);
        assert_eq!(dog.poll(1, start), []);
        dog.answered(8);
        assert_eq!(dog.poll(1, start + seconds(1)), [Action::Answer(7)]);
        assert_eq!(dog.poll(1, start + seconds(2)), []);
    }

    #[test]
    fn questions_cannot_pile_up() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        for nonce in 0..10_000 {
            dog.question(nonce, nonce, start);
        }
        assert_eq!(dog.poll(1, start + seconds(2)).len(), MAX_QUESTIONS);
    }

    #[test]
    fn halves_that_forgot_each_other_are_bridged_now_and_then() {
        let start = Instant::now();
        let mut dog = Watchdog::new(Watch::default(), start);
        let bridges: Vec<u64> = (1..=200)
            .filter(|second| {
                let now = start + seconds(*second);
                dog.heard(now);
                dog.poll(2, now) == [Action::Bridge]
            })
            .collect();
        assert_eq!(bridges, [90, 180]);
    }
}

//! Whether a group that is begun now can be whole in time, by what was seen of
//! this machine so far.

use std::time::{Duration, Instant};

/// How much of the last step's time goes into the mean, of which machines that
/// do other things beside make an unsteady sight.
const SHARE: f64 = 0.25;

/// What drawing takes.
#[derive(Debug)]
pub(crate) struct Pace {
    until: Instant,
    /// Seconds of a step and its rows, on average.
    step: Option<(f64, f64)>,
    /// Seconds of a prompt's token.
    prompt: f64,
    /// Tokens of the longest completion of any group that is whole.
    longest: Option<usize>,
}

/// A group that could be begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Tokens of its prompt.
    pub(crate) prompt: usize,
    /// Its rows.
    pub(crate) group: usize,
    /// The most tokens of a row.
    pub(crate) tokens: usize,
    /// Rows that would be drawn beside.
    pub(crate) beside: usize,
    /// Whether some of its rows would have to wait for a place.
    pub(crate) waits: bool,
}

impl Pace {
    pub(crate) fn new(until: Instant) -> Self {
        Self {
            until,
            step: None,
            prompt: 0.0,
            longest: None,
        }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// So many prompt tokens were computed in `took`.
    pub(crate) fn opened(&mut self, tokens: usize, took: Duration) {
        if tokens > 0 {
            self.prompt = took.as_secs_f64() / tokens as f64;
        }
    }

    /// A token was drawn for each of so many rows in `took`.
    pub(crate) fn stepped(&mut self, rows: usize, took: Duration) {
        let now = (took.as_secs_f64(), rows as f64);
        self.step = Some(self.step.map_or(now, |before| {
            let mean = |before, now: f64| before + SHARE * (now - before);
            (mean(before.0, now.0), mean(before.1, now.1))
        }));
    }

    /// A group is whole; its longest completion has so many tokens.
    pub(crate) fn ended(&mut self, longest: usize) {
        self.longest = self.longest.max(Some(longest));
    }

    /// Whether a group would be whole in time. The first is begun on trust, and
    /// alone; until one is whole, completions are taken to be as long as they may.
    /// Rows are taken to cost alike: that a step of many is cheaper by the row
    /// leaves some time over.
    pub(crate) fn allows(&self, candidate: &Candidate, now: Instant) -> bool {
        let Some((seconds, rows)) = self.step else {
            return candidate.beside == 0 && !self.is_over(now);
        };
        let longest = self.longest.unwrap_or(candidate.tokens);
        let more = (candidate.beside + candidate.group) as f64 / rows;
        let turns = if candidate.waits { 2.0 } else { 1.0 };
        let needed = self.prompt * candidate.prompt as f64
            + seconds * more.max(1.0) * longest as f64 * turns;
        needed <= self.until.saturating_duration_since(now).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Candidate = Candidate {
        prompt: 100,
        group: 8,
        tokens: 200,
        beside: 8,
        waits: false,
    };

    fn seconds(number: f64) -> Duration {
        Duration::from_secs_f64(number)
    }

    #[test]
    fn what_would_come_too_late_is_not_begun() {
        let start = Instant::now();
        let mut pace = Pace::new(start + seconds(10.0));
        let alone = Candidate { beside: 0, ..GROUP };
        assert!(pace.allows(&alone, start) && !pace.allows(&GROUP, start));
        assert!(!pace.allows(&alone, start + seconds(10.0)));
        // One second for a prompt, 20 ms for a step of 8: 40 ms for 16.
        pace.opened(100, seconds(1.0));
        pace.stepped(8, seconds(0.02));
        assert!(pace.allows(&GROUP, start + seconds(0.9)));
        assert!(!pace.allows(&GROUP, start + seconds(1.1)));
        // Completions prove to be a quarter as long: 1 + 2 seconds.
        pace.ended(50);
        assert!(pace.allows(&GROUP, start + seconds(6.9)));
        assert!(!pace.allows(&GROUP, start + seconds(7.1)));
        let waits = Candidate {
            waits: true,
            ..GROUP
        };
        assert!(!pace.allows(&waits, start + seconds(5.1)));
        assert!(pace.allows(&alone, start + seconds(7.9)));
    }

    #[test]
    fn one_slow_step_is_not_taken_for_the_rule() {
        let start = Instant::now();
        let mut pace = Pace::new(start + seconds(10.0));
        pace.stepped(8, seconds(0.01));
        pace.stepped(8, seconds(0.09));
        // 30 ms a step of 8, 60 of 16.
        let short = Candidate {
            tokens: 160,
            ..GROUP
        };
        assert!(pace.allows(&short, start));
        assert!(!pace.allows(&GROUP, start));
    }
}

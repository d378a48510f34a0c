//! What may come: a token bucket of messages and one of bytes.
//!
//! Pure: the time comes in.

use std::time::Duration;

use tokio::time::Instant;

/// Rates and bursts of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Messages a second, in the long run.
    pub messages_per_second: u64,
    /// Messages at once, after a silence.
    pub message_burst: u64,
    /// Bytes a second, in the long run.
    pub bytes_per_second: u64,
    /// Bytes at once, after a silence.
    pub byte_burst: u64,
}

impl Default for Budget {
    /// A neighbour's: it hands on the whole swarm's messages unread, a flood of
    /// somebody's among them, and must not be cut short for that. So this bounds
    /// what checking signatures may cost, a fifth of a core; what an author may
    /// say is bounded by the author.
    fn default() -> Self {
        Self {
            messages_per_second: 4_000,
            message_burst: 20_000,
            bytes_per_second: 64 * 1024 * 1024,
            byte_burst: 256 * 1024 * 1024,
        }
    }
}

/// One quantity's bucket. Counted in millionths, so that slow rates refill
/// exactly whatever the spacing of the calls.
#[derive(Debug, Clone)]
struct Bucket {
    level: u128,
    capacity: u128,
    per_second: u64,
}

const MILLIONTHS: u128 = 1_000_000;

impl Bucket {
    fn full(capacity: u64, per_second: u64) -> Self {
        let capacity = u128::from(capacity) * MILLIONTHS;
        Self {
            level: capacity,
            capacity,
            per_second,
        }
    }

    fn refill(&mut self, elapsed: Duration) {
        let gained = elapsed.as_micros() * u128::from(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.capacity);
    }

    fn holds(&self, amount: u64) -> bool {
        self.level >= u128::from(amount) * MILLIONTHS
    }

    fn take(&mut self, amount: u64) {
        self.level -= u128::from(amount) * MILLIONTHS;
    }
}

/// An account: what is left of a budget, and what was refused.
#[derive(Debug, Clone)]
pub(super) struct Account {
    messages: Bucket,
    bytes: Bucket,
    refilled: Instant,
    dropped: u64,
}

impl Account {
    pub(super) fn new(budget: Budget, now: Instant) -> Self {
        Self {
            messages: Bucket::full(budget.message_burst, budget.messages_per_second),
            bytes: Bucket::full(budget.byte_burst, budget.bytes_per_second),
            refilled: now,
            dropped: 0,
        }
    }

    /// Whether a message of `bytes` is within the budget. If it is, it is paid
    /// for; if not, it is counted as dropped and costs nothing.
    pub(super) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        self.refill(now);
        let bytes = bytes as u64;
        if self.messages.holds(1) && self.bytes.holds(bytes) {
            self.messages.take(1);
            self.bytes.take(bytes);
            true
        } else {
            self.refuse();
            false
        }
    }

    /// Counts a message as dropped.
    pub(super) fn refuse(&mut self) {
        self.dropped += 1;
    }

    /// The messages dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether forgetting this account would give nothing away.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.messages.level == self.messages.capacity && self.bytes.level == self.bytes.capacity
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled);
        self.refilled = now;
        self.messages.refill(elapsed);
        self.bytes.refill(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Budget = Budget {
        messages_per_second: 2,
        message_burst: 3,
        bytes_per_second: 100,
        byte_burst: 1_000,
    };

    #[test]
    fn a_burst_passes_and_the_next_message_is_dropped_and_counted() {
        let now = Instant::now();
        let mut account = Account::new(SMALL, now);
        assert!((0..3).all(|_| account.admit(10, now)));
        assert!(!account.admit(10, now));
        assert_eq!(account.take_dropped(), 1);
        assert_eq!(account.take_dropped(), 0);
    }

    #[test]
    fn bytes_run_out_before_messages_do() {
        let now = Instant::now();
        let mut account = Account::new(SMALL, now);
        assert!(account.admit(900, now));
        assert!(!account.admit(200, now));
        assert!(account.admit(100, now), "what was refused costs nothing");
    }

    #[test]
    fn time_refills_it_up_to_the_burst_and_no_further() {
        let start = Instant::now();
        let mut account = Account::new(SMALL, start);
        assert!((0..3).all(|_| account.admit(1, start)));
        let half = start + Duration::from_millis(500);
        assert!(account.admit(1, half));
        assert!(!account.admit(1, half));
        let later = start + Duration::from_secs(3_600);
        assert!(account.is_full(later));
        assert!((0..3).all(|_| account.admit(1, later)));
        assert!(!account.admit(1, later));
    }

    #[test]
    fn many_short_waits_refill_as_much_as_one_long_wait() {
        let start = Instant::now();
        let mut account = Account::new(SMALL, start);
        assert!((0..3).all(|_| account.admit(1, start)));
        for step in 1..500 {
            account.refill(start + Duration::from_millis(step));
        }
        assert!(!account.messages.holds(1));
        account.refill(start + Duration::from_millis(500));
        assert!(account.messages.holds(1));
    }
}

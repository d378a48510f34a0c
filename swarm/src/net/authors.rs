//! What one author may say, whoever passes it on.
//!
//! Gossip hands messages on before anybody has checked them, so a flood reaches
//! us through honest neighbours, and nothing but a signature says whose it is.
//! Hence budgets by author, once the signature holds: who floods uses up its own.
//! Anybody can say again what an author said, so only what is newer than all
//! that is known of the author uses up what its news needs.
//!
//! Pure: the time comes in.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::budget::{Account, Budget};
use super::limits::MAX_KNOWN_PEERS;

/// Whose a message is and which of its author's, by number, if it is well signed.
pub type AuthorOf = fn(message: &[u8], topic: &[u8; 32]) -> Option<([u8; 32], u64)>;

/// An author's news: a round of a tenth of a second has a dozen announcements.
const NEWS: Budget = Budget {
    messages_per_second: 150,
    message_burst: 1_000,
    bytes_per_second: 512 * 1024,
    byte_burst: 4 * 1024 * 1024,
};
/// What is not newer: messages overtake each other, and that is all.
const AGAIN: Budget = Budget {
    messages_per_second: 10,
    message_burst: 100,
    bytes_per_second: 64 * 1024,
    byte_burst: 1024 * 1024,
};
/// Authors never heard before, all together: a whole flock may join at once.
const NEWCOMERS: Budget = Budget {
    messages_per_second: 5,
    message_burst: 128,
    ..NEWS
};
/// What nobody signed, all together: enough to be counted with its reason.
const NOBODYS: Budget = Budget {
    messages_per_second: 20,
    message_burst: 200,
    ..AGAIN
};

/// What is no announcement, all together: who is where, who is deaf.
const SIGNALS: Budget = Budget {
    messages_per_second: 100,
    message_burst: 1_000,
    ..NEWS
};

#[derive(Debug)]
struct Author {
    newest: u64,
    news: Account,
    again: Account,
}

/// The accounts of all authors.
#[derive(Debug)]
pub(super) struct Authors {
    known: BTreeMap<[u8; 32], Author>,
    newcomers: Account,
    nobodys: Account,
    signals: Account,
}

impl Authors {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: BTreeMap::new(),
            newcomers: Account::new(NEWCOMERS, now),
            nobodys: Account::new(NOBODYS, now),
            signals: Account::new(SIGNALS, now),
        }
    }

    /// Whether one more frame of `bytes` that is no announcement is within what
    /// all may send of them.
    pub(super) fn admit_signal(&mut self, bytes: usize, now: Instant) -> bool {
        self.signals.admit(bytes, now)
    }

    /// Whether a message of `bytes` is within its author's budget.
    pub(super) fn admit(
        &mut self,
        author: Option<([u8; 32], u64)>,
        bytes: usize,
        now: Instant,
    ) -> bool {
        let Some((id, number)) = author else {
            return self.nobodys.admit(bytes, now);
        };
        if !self.known.contains_key(&id) {
            if self.known.len() >= MAX_KNOWN_PEERS {
                self.known.retain(|_, author| !author.news.is_full(now));
            }
            if self.known.len() >= MAX_KNOWN_PEERS || !self.newcomers.admit(bytes, now) {
                return false;
            }
        }
        let author = self.known.entry(id).or_insert_with(|| Author {
            newest: 0,
            news: Account::new(NEWS, now),
            again: Account::new(AGAIN, now),
        });
        if number <= author.newest {
            return author.again.admit(bytes, now);
        }
        author.newest = number;
        author.news.admit(bytes, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of `count` messages are let through, a millisecond apart.
    fn admitted(
        authors: &mut Authors,
        start: Instant,
        count: u64,
        of: impl Fn(u64) -> Option<([u8; 32], u64)>,
    ) -> usize {
        (0..count)
            .filter(|n| authors.admit(of(*n), 200, start + Duration::from_millis(*n)))
            .count()
    }

    #[test]
    fn who_floods_uses_up_its_own_budget() {
        let start = Instant::now();
        let mut authors = Authors::new(start);
        let flood = admitted(&mut authors, start, 10_000, |n| Some(([1; 32], n + 1)));
        assert!(flood < 2_600, "{flood}");
        let later = start + Duration::from_secs(10);
        let honest = admitted(&mut authors, later, 500, |n| Some(([2; 32], n + 1)));
        assert_eq!(honest, 500);
    }

    #[test]
    fn repeating_an_author_does_not_silence_it() {
        let start = Instant::now();
        let mut authors = Authors::new(start);
        assert!(authors.admit(Some(([1; 32], 50)), 200, start));
        let again = admitted(&mut authors, start, 10_000, |n| Some(([1; 32], n % 50)));
        assert!(again < 300, "{again}");
        let later = start + Duration::from_secs(10);
        assert!(authors.admit(Some(([1; 32], 51)), 200, later));
    }

    #[test]
    fn neither_forgeries_nor_invented_keys_keep_a_known_author_out() {
        let start = Instant::now();
        let mut authors = Authors::new(start);
        assert!(authors.admit(Some(([255; 32], 1)), 200, start));
        let forged = admitted(&mut authors, start, 10_000, |_| None);
        assert!(forged < 500, "{forged}");
        let invented = admitted(&mut authors, start, 10_000, |n| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            Some((key, 1))
        });
        assert!(invented < 300, "{invented}");
        let later = start + Duration::from_secs(10);
        assert!(authors.admit(Some(([255; 32], 2)), 200, later));
        assert!(authors.known.len() <= MAX_KNOWN_PEERS);
    }
}

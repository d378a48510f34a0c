//! What a peer did to us with its own hands, and whether we still deal with it.
//!
//! Only what is certainly its own doing counts: bodies that are something else
//! or come too slowly, connections beyond its share. What arrives by gossip does
//! not: an honest neighbour hands on other people's messages unread, and a
//! flood must not make honest peers cut each other off.
//!
//! Pure: the time comes in. Points fade, so that a slow machine that has
//! recovered is dealt with again.

use std::collections::BTreeMap;
use std::time::Duration;

use iroh::EndpointId;
use tokio::time::Instant;

use super::limits::MAX_KNOWN_PEERS;

/// Something that went wrong between us, by a peer's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It sent a body that its hash does not name.
    Corrupt,
    /// It let a transfer drip until the time was up.
    Slow,
    /// It opened more connections than one peer may have.
    Crowding,
}

impl Fault {
    /// Ten bodies that are something else, or slow, in a few minutes keep us from
    /// our stage. One or two prove nothing: a link may be bad, a machine busy.
    fn points(self) -> u32 {
        match self {
            Fault::Corrupt | Fault::Slow => 10,
            Fault::Crowding => 5,
        }
    }
}

/// From here on a peer is cut off.
const OUT: u32 = 100;
/// The most that is held against a peer: after ten minutes of good behaviour
/// the worst is dealt with again.
const WORST: u32 = 200;
/// A point fades in this time.
const FADE: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy)]
struct Record {
    points: u32,
    since: Instant,
}

impl Record {
    fn faded(self, now: Instant) -> u32 {
        let gone = now.saturating_duration_since(self.since).as_secs() / FADE.as_secs();
        self.points
            .saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX))
    }
}

/// The records of everyone who has one.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    records: BTreeMap<EndpointId, Record>,
}

impl Conduct {
    /// Notes a fault; says whether the peer is cut off by it, and was not before.
    pub(super) fn note(&mut self, peer: EndpointId, fault: Fault, now: Instant) -> bool {
        if self.records.len() >= MAX_KNOWN_PEERS && !self.records.contains_key(&peer) {
            self.records.retain(|_, record| record.faded(now) > 0);
            if self.records.len() >= MAX_KNOWN_PEERS {
                return false;
            }
        }
        let before = self
            .records
            .get(&peer)
            .map_or(0, |record| record.faded(now));
        let points = (before + fault.points()).min(WORST);
        let since = now;
        self.records.insert(peer, Record { points, since });
        before < OUT && points >= OUT
    }

    /// What is held against a peer now.
    pub(super) fn points(&self, peer: &EndpointId, now: Instant) -> u32 {
        self.records.get(peer).map_or(0, |record| record.faded(now))
    }

    /// Whether a peer is cut off.
    pub(super) fn is_out(&self, peer: &EndpointId, now: Instant) -> bool {
        self.points(peer, now) >= OUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> EndpointId {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_le_bytes());
        iroh::SecretKey::from_bytes(&seed).public()
    }

    #[test]
    fn ten_false_bodies_cut_a_peer_off_and_time_lets_it_back() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        for _ in 1..10 {
            assert!(!conduct.note(peer(1), Fault::Corrupt, start));
        }
        assert!(conduct.note(peer(1), Fault::Corrupt, start));
        assert!(!conduct.note(peer(1), Fault::Slow, start), "told once");
        assert!(conduct.is_out(&peer(1), start));
        assert!(!conduct.is_out(&peer(2), start));
        let later = start + 11 * FADE;
        assert!(!conduct.is_out(&peer(1), later));
    }

    #[test]
    fn a_machine_that_is_slow_now_and_then_is_dealt_with() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        for minute in 0..60 {
            let now = start + Duration::from_secs(60 * minute);
            assert!(!conduct.note(peer(1), Fault::Slow, now), "minute {minute}");
        }
    }

    #[test]
    fn the_worst_offender_is_back_after_ten_minutes() {
        let start = Instant::now();
        let mut conduct = Conduct::default();
        for _ in 0..1_000 {
            conduct.note(peer(1), Fault::Corrupt, start);
        }
        assert!(conduct.is_out(&peer(1), start + Duration::from_secs(590)));
        assert!(!conduct.is_out(&peer(1), start + Duration::from_secs(610)));
    }

    #[test]
    fn invented_keys_do_not_cost_memory() {
        let now = Instant::now();
        let mut conduct = Conduct::default();
        for n in 0..MAX_KNOWN_PEERS as u32 + 100 {
            conduct.note(peer(n), Fault::Crowding, now);
        }
        assert!(conduct.records.len() <= MAX_KNOWN_PEERS);
    }
}

//! Telling the swarm where we are, so that a body can be fetched from its
//! author by the author's id alone.
//!
//! Gossip knows the addresses of neighbours and forgets them after minutes; a
//! body is often fetched from a peer that never was a neighbour. So each peer
//! says where it is: when it has arrived, when someone new has, and now and
//! then. What it says is signed, or anyone could send the swarm to the wrong
//! door (and no further: whoever answers there must still prove its key).
//!
//! The schedule is pure: time and randomness come in.

use std::time::Duration;

use iroh::{PublicKey, SecretKey, Signature};
use tokio::time::Instant;

use super::address::PeerAddr;
use super::limits::MAX_ADDRESSES;

/// What a signature covers, before the topic and the address.
const DOMAIN: &[u8] = b"murmuration address v1";

/// Longest relay URL that is looked at.
const MAX_RELAY: usize = 256;

/// Say it again this often: a message may have been missed.
const REPEAT: Duration = Duration::from_secs(120);

/// Never say it more often than this, however many newcomers there are: a
/// swarm of n that starts at once would otherwise say it n times n.
const AT_MOST: Duration = Duration::from_secs(5);

/// Greet a newcomer within this time, each at its own moment.
const GREET_WITHIN: Duration = Duration::from_secs(2);

/// A signed address: the address in postcard, then 64 bytes of signature.
pub(super) fn seal(addr: &PeerAddr, topic: &[u8; 32], key: &SecretKey) -> Option<Vec<u8>> {
    let mut bytes = postcard::to_stdvec(addr).ok()?;
    let signature = key.sign(&covered(topic, &bytes));
    bytes.extend_from_slice(&signature.to_bytes());
    Some(bytes)
}

/// The address, if the peer it is about signed it for this topic.
pub(super) fn open(bytes: &[u8], topic: &[u8; 32]) -> Result<PeerAddr, &'static str> {
    let (body, signature) = bytes.split_last_chunk::<64>().ok_or("short address")?;
    let addr: PeerAddr = postcard::from_bytes(body).map_err(|_| "bad address")?;
    let relay = addr.relay.as_ref().map_or(0, String::len);
    if addr.sockets.len() > MAX_ADDRESSES || relay > MAX_RELAY {
        return Err("oversize address");
    }
    let key = PublicKey::from_bytes(&addr.id).map_err(|_| "bad address")?;
    key.verify(&covered(topic, body), &Signature::from_bytes(signature))
        .map_err(|_| "bad signature on an address")?;
    Ok(addr)
}

fn covered(topic: &[u8; 32], body: &[u8]) -> Vec<u8> {
    [DOMAIN, topic, body].concat()
}

/// When to say where we are.
#[derive(Debug)]
pub(super) struct Schedule {
    said: Option<Instant>,
    due: Option<Instant>,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self {
            said: None,
            due: None,
        }
    }

    /// We have a neighbour: someone can hear us.
    pub(super) fn arrived(&mut self, now: Instant) {
        if self.said.is_none() {
            self.sooner(now);
        }
    }

    /// A peer that we did not know has said where it is.
    pub(super) fn newcomer(&mut self, random: u64, now: Instant) {
        let spread = GREET_WITHIN.as_micros().max(1) as u64;
        let greeting = now + Duration::from_micros(random % spread);
        let earliest = self.said.map_or(now, |said| said + AT_MOST);
        self.sooner(greeting.max(earliest));
    }

    /// Whether to say it now; if so, it counts as said.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let repeat = self.said.map(|said| said + REPEAT);
        let is_due = self.due.is_some_and(|due| due <= now);
        let is_old = repeat.is_some_and(|at| at <= now);
        if is_due || is_old {
            self.said = Some(now);
            self.due = None;
        }
        is_due || is_old
    }

    fn sooner(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: [u8; 32] = [4; 32];

    fn address(key: &SecretKey) -> PeerAddr {
        PeerAddr {
            id: *key.public().as_bytes(),
            sockets: vec!["127.0.0.1:77".parse().unwrap()],
            relay: None,
        }
    }

    #[test]
    fn a_signed_address_reads_back_and_any_change_is_noticed() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let sealed = seal(&address(&key), &TOPIC, &key).unwrap();
        assert_eq!(open(&sealed, &TOPIC), Ok(address(&key)));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(open(&changed, &TOPIC).is_err(), "byte {index}");
        }
        for end in 0..sealed.len() {
            assert!(open(&sealed[..end], &TOPIC).is_err(), "cut at {end}");
        }
        assert!(open(&sealed, &[5; 32]).is_err(), "another swarm's");
    }

    #[test]
    fn nobody_can_say_where_someone_else_is() {
        let [victim, liar] = [[1; 32], [2; 32]].map(|seed| SecretKey::from_bytes(&seed));
        let sealed = seal(&address(&victim), &TOPIC, &liar).unwrap();
        assert_eq!(open(&sealed, &TOPIC), Err("bad signature on an address"));
    }

    #[test]
    fn a_list_of_a_thousand_doors_is_refused() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let mut many = address(&key);
        many.sockets = vec!["127.0.0.1:77".parse().unwrap(); MAX_ADDRESSES + 1];
        let sealed = seal(&many, &TOPIC, &key).unwrap();
        assert_eq!(open(&sealed, &TOPIC), Err("oversize address"));
    }

    #[test]
    fn it_is_said_on_arrival_to_newcomers_and_now_and_then() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::new();
        assert!(!schedule.poll(at(0)), "nobody would hear it");
        schedule.arrived(at(1));
        assert!(schedule.poll(at(1)));
        schedule.arrived(at(2));
        assert!(!schedule.poll(at(2)), "once is enough");
        schedule.newcomer(1_000_000, at(20));
        assert!(!schedule.poll(at(20)));
        assert!(schedule.poll(at(21)));
        for newcomer in 0..100 {
            schedule.newcomer(newcomer, at(22));
        }
        let said: Vec<u64> = (22..160).filter(|s| schedule.poll(at(*s))).collect();
        assert_eq!(said, [26, 146], "a crowd is greeted once");
    }
}

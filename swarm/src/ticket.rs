//! A ticket: one line of text that lets a stranger into a swarm.
//!
//! `murmur1` and base32 letters: the swarm's manifest, a few peers to join
//! through, and where the chain is. It holds no secret. It is short-lived in
//! so far as its addresses are; the manifest in it stays true.
//!
//! A ticket has a page of manifest in it, some fifteen hundred letters. The short
//! form, an [`Invite`] (`murmur2`), names the swarm and a few peers instead, fits
//! a QR code, and costs one question: the peers are asked for the ticket.
//!
//! Layout: `murmur1` ‖ base32(version-1 body ‖ first four bytes of BLAKE3(body)),
//! the body in postcard. Lower case, no padding; upper case and white space are
//! forgiven, because people copy tickets out of terminals.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use crate::net::PeerAddr;

/// What every ticket of this version begins with.
pub const PREFIX: &str = "murmur1";

/// What every invite of this version begins with.
pub const SHORT_PREFIX: &str = "murmur2";

/// Largest manifest a ticket carries: a manifest is a page of text.
pub const MAX_MANIFEST: usize = 8 * 1024;

/// Most peers a ticket carries. One that answers is enough.
pub const MAX_PEERS: usize = 8;

/// Longest chain address.
pub const MAX_RPC: usize = 512;

/// Longest relay address.
const MAX_RELAY: usize = 256;

/// Most sockets a ticket carries for one peer.
const MAX_SOCKETS: usize = crate::net::limits::MAX_ADDRESSES;

/// Longest text that is looked at: every limit above, in base32, with room for
/// line breaks.
const MAX_TEXT: usize = 64 * 1024;

/// Bytes of BLAKE3 after the body: against slips of the hand, not against
/// forgery.
const CHECKSUM: usize = 4;

/// What a ticket says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The canonical manifest; its hash is the swarm's id.
    pub manifest: Vec<u8>,
    /// Peers to join through.
    pub peers: Vec<PeerAddr>,
    /// The chain's JSON-RPC address, where the swarm settles.
    pub rpc: Option<String>,
}

/// A swarm's id and where to ask for its ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The hash of the manifest.
    pub swarm: [u8; 32],
    /// Peers to ask.
    pub peers: Vec<PeerAddr>,
}

impl Invite {
    /// The invite's text. Peers and sockets beyond the limits are left out.
    pub fn encode(&self) -> Result<String, TicketError> {
        let mut invite = self.clone();
        cut(&mut invite.peers);
        seal(SHORT_PREFIX, &invite)
    }

    /// Reads an invite's text.
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        let invite: Self = open(SHORT_PREFIX, text)?;
        check_peers(&invite.peers)?;
        Ok(invite)
    }
}

/// Why a text is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// It begins with something else.
    #[error("not a ticket: it must begin with \"{PREFIX}\"")]
    Prefix,
    /// It begins like a ticket of another version.
    #[error("a ticket of another version (\"{0}\"): this program reads \"{PREFIX}\"")]
    Version(String),
    /// Longer than any ticket.
    #[error("a ticket of {0} characters, the limit is {MAX_TEXT}")]
    TooLong(usize),
    /// A character that no ticket has.
    #[error("{found:?} at position {position} does not belong in a ticket")]
    Character {
        /// Which.
        found: char,
        /// Counted from one, white space left out.
        position: usize,
    },
    /// The checksum is wrong.
    #[error("the ticket is cut off or mistyped: its checksum is wrong")]
    Checksum,
    /// The checksum is right and the content is not.
    #[error("the ticket cannot be read: {0}")]
    Content(String),
    /// A part is larger than a ticket may carry.
    #[error("the ticket's {part} is {size}, the limit is {limit}")]
    Limit {
        /// Which part.
        part: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

impl Ticket {
    /// The ticket's text. Fails if a part is over its limit.
    pub fn encode(&self) -> Result<String, TicketError> {
        self.check()?;
        self.text()
    }

    fn text(&self) -> Result<String, TicketError> {
        seal(PREFIX, self)
    }

    /// Reads a ticket's text.
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        let ticket: Self = open(PREFIX, text)?;
        ticket.check()?;
        Ok(ticket)
    }

    fn check(&self) -> Result<(), TicketError> {
        at_most("manifest", self.manifest.len(), MAX_MANIFEST)?;
        at_most(
            "chain address",
            self.rpc.as_ref().map_or(0, String::len),
            MAX_RPC,
        )?;
        check_peers(&self.peers)
    }
}

fn at_most(part: &'static str, size: usize, limit: usize) -> Result<(), TicketError> {
    if size > limit {
        return Err(TicketError::Limit { part, size, limit });
    }
    Ok(())
}

fn check_peers(peers: &[PeerAddr]) -> Result<(), TicketError> {
    at_most("list of peers", peers.len(), MAX_PEERS)?;
    for peer in peers {
        at_most("list of sockets", peer.sockets.len(), MAX_SOCKETS)?;
        let relay = peer.relay.as_ref().map_or(0, String::len);
        at_most("relay address", relay, MAX_RELAY)?;
    }
    Ok(())
}

/// Leaves out what is over the limits.
fn cut(peers: &mut Vec<PeerAddr>) {
    peers.truncate(MAX_PEERS);
    for peer in peers {
        peer.sockets.truncate(MAX_SOCKETS);
    }
}

/// The text of something: prefix, letters, checksum.
fn seal(prefix: &str, content: &impl Serialize) -> Result<String, TicketError> {
    let mut bytes =
        postcard::to_stdvec(content).map_err(|error| TicketError::Content(error.to_string()))?;
    bytes.extend_from_slice(&checksum(&bytes));
    let letters = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
    Ok(format!("{prefix}{letters}"))
}

/// What a text of [`seal`]'s says.
fn open<T: serde::de::DeserializeOwned>(prefix: &str, text: &str) -> Result<T, TicketError> {
    if text.len() > MAX_TEXT {
        return Err(TicketError::TooLong(text.len()));
    }
    let text: String = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let Some(letters) = text.strip_prefix(prefix) else {
        return Err(wrong_prefix(&text));
    };
    let bytes = BASE32_NOPAD
        .decode(letters.to_ascii_uppercase().as_bytes())
        .map_err(|error| not_base32(letters, error))?;
    let (body, sum) = bytes
        .split_last_chunk::<CHECKSUM>()
        .ok_or(TicketError::Checksum)?;
    if *sum != checksum(body) {
        return Err(TicketError::Checksum);
    }
    let (content, rest) =
        postcard::take_from_bytes(body).map_err(|error| TicketError::Content(error.to_string()))?;
    if !rest.is_empty() {
        let more = format!("{} bytes too many", rest.len());
        return Err(TicketError::Content(more));
    }
    Ok(content)
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::decode(text)
    }
}

/// The whole text. Peers and sockets beyond the limits are left out, as one
/// that answers is enough; [`Ticket::encode`] says instead what is too large.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ticket = self.clone();
        cut(&mut ticket.peers);
        f.write_str(&ticket.text().map_err(|_| fmt::Error)?)
    }
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let hash = blake3::hash(body);
    let [a, b, c, d, ..] = *hash.as_bytes();
    [a, b, c, d]
}

fn wrong_prefix(text: &str) -> TicketError {
    let stem = PREFIX.trim_end_matches('1');
    match text.strip_prefix(stem) {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            TicketError::Version(text.chars().take(stem.len() + 1).collect())
        }
        _ => TicketError::Prefix,
    }
}

fn not_base32(letters: &str, error: data_encoding::DecodeError) -> TicketError {
    let outside = |c: &(usize, char)| !matches!(c.1, 'a'..='z' | '2'..='7');
    match letters.chars().enumerate().find(outside) {
        Some((index, found)) => TicketError::Character {
            found,
            position: PREFIX.len() + index + 1,
        },
        // Only letters of the alphabet: some at the end are missing.
        None => {
            tracing::debug!(%error, "a ticket of an impossible length");
            TicketError::Checksum
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            manifest: b"name = \"starlings\"\n".to_vec(),
            peers: vec![PeerAddr {
                id: [7; 32],
                sockets: vec!["127.0.0.1:4242".parse().unwrap()],
                relay: None,
            }],
            rpc: Some("http://127.0.0.1:8545".into()),
        }
    }

    #[test]
    fn a_ticket_reads_back() {
        let text = ticket().encode().unwrap();
        assert_eq!(text.parse::<Ticket>().unwrap(), ticket());
        assert_eq!(ticket().to_string(), text);
    }

    /// The layout is a promise to people who saved a ticket.
    #[test]
    fn the_text_of_a_ticket_is_fixed() {
        assert_eq!(
            ticket().encode().unwrap(),
            "murmur1cnxgc3lfea6saittorqxe3djnztxgiqkaedqobyha4dqobyha4dqobyha4dqoby\
             ha4dqobyha4dqobyha4dqoaiap4aaaamseeaacflior2haorpf4ytenzogaxdalrrhi4dknbvmrl2cqa"
        );
    }

    #[test]
    fn an_invite_reads_back_and_is_short_enough_for_a_qr_code() {
        let mut invite = Invite {
            swarm: [3; 32],
            peers: vec![PeerAddr {
                id: [7; 32],
                sockets: vec!["192.168.1.20:4242".parse().unwrap(); 3],
                relay: Some("https://euc1-1.relay.n0.iroh.link./".into()),
            }],
        };
        let text = invite.encode().unwrap();
        assert!(text.len() < 256, "{}", text.len());
        assert_eq!(Invite::decode(&text.to_uppercase()).unwrap(), invite);
        assert!(Ticket::decode(&text).is_err() && Invite::decode(&text[..40]).is_err());
        invite.peers = vec![PeerAddr::of([1; 32]); MAX_PEERS + 1];
        let cut = Invite::decode(&invite.encode().unwrap()).unwrap();
        assert_eq!(cut.peers.len(), MAX_PEERS);
    }

    #[test]
    fn line_breaks_and_upper_case_are_forgiven() {
        let text = ticket().encode().unwrap();
        let (first, second) = text.split_at(40);
        let pasted = format!("  {}\r\n  {second}\n", first.to_uppercase());
        assert_eq!(Ticket::decode(&pasted).unwrap(), ticket());
    }

    #[test]
    fn every_cut_and_every_wrong_letter_is_noticed() {
        let text = ticket().encode().unwrap();
        for end in 0..text.len() {
            assert!(Ticket::decode(&text[..end]).is_err(), "cut at {end}");
        }
        for index in PREFIX.len()..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[index] = if wrong[index] == b'q' { b'r' } else { b'q' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(
                Ticket::decode(&wrong),
                Err(TicketError::Checksum),
                "{index}"
            );
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!(Ticket::decode("hello"), Err(TicketError::Prefix));
        assert_eq!(Ticket::decode(""), Err(TicketError::Prefix));
        assert_eq!(
            Ticket::decode("murmur3abc"),
            Err(TicketError::Version("murmur3".into()))
        );
        assert_eq!(
            Ticket::decode("murmur1ab-c"),
            Err(TicketError::Character {
                found: '-',
                position: 10
            })
        );
        let long = format!("{PREFIX}{}", "a".repeat(MAX_TEXT));
        assert_eq!(Ticket::decode(&long), Err(TicketError::TooLong(long.len())));
        let rest = {
            let mut bytes = postcard::to_stdvec(&ticket()).unwrap();
            bytes.push(0);
            bytes.extend_from_slice(&checksum(&bytes));
            format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))
        };
        assert_eq!(
            Ticket::decode(&rest),
            Err(TicketError::Content("1 bytes too many".into()))
        );
    }

    #[test]
    fn a_part_over_its_limit_is_refused_both_ways() {
        let mut large = ticket();
        large.manifest = vec![0; MAX_MANIFEST + 1];
        let expected = TicketError::Limit {
            part: "manifest",
            size: MAX_MANIFEST + 1,
            limit: MAX_MANIFEST,
        };
        assert_eq!(large.encode(), Err(expected.clone()));
        let mut bytes = postcard::to_stdvec(&large).unwrap();
        bytes.extend_from_slice(&checksum(&bytes));
        let text = format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes));
        assert_eq!(Ticket::decode(&text), Err(expected));

        let mut crowded = ticket();
        crowded.peers = vec![PeerAddr::of([1; 32]); MAX_PEERS + 1];
        assert!(crowded.encode().is_err());
        let cut: Ticket = crowded.to_string().parse().unwrap();
        assert_eq!(
            cut.peers.len(),
            MAX_PEERS,
            "the shown text leaves the rest out"
        );
    }

    #[test]
    fn the_largest_ticket_fits_the_limit_on_text() {
        let largest = Ticket {
            manifest: vec![0xff; MAX_MANIFEST],
            peers: vec![
                PeerAddr {
                    id: [0xff; 32],
                    sockets: vec!["[ffff::1]:65535".parse().unwrap(); MAX_SOCKETS],
                    relay: Some("r".repeat(MAX_RELAY)),
                };
                MAX_PEERS
            ],
            rpc: Some("h".repeat(MAX_RPC)),
        };
        let text = largest.encode().unwrap();
        assert!(text.len() < MAX_TEXT / 2, "{}", text.len());
        assert_eq!(Ticket::decode(&text).unwrap(), largest);
    }
}

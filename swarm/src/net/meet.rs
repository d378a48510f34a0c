//! Meeting a stranger: whoever knows a peer's key and the swarm's id asks it
//! for a ticket, and needs nothing else to join.
//!
//! `/murmuration/meet/1`: one stream; 32 bytes of swarm id there, eight bytes
//! of clock (milliseconds since the Unix epoch, little endian) and the ticket's
//! text back. A peer of another swarm closes the connection.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use iroh::endpoint::{Connection, Endpoint, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh::{EndpointAddr, EndpointId};
use tokio::time::timeout;

use crate::hub::now_ms;

/// The protocol's name and version.
pub(super) const MEET_ALPN: &[u8] = b"/murmuration/meet/1";

/// Longest ticket that is read: twice the largest there can be.
const MAX_TICKET: usize = 64 * 1024;

/// Strangers served at once, each once: it gets a few kilobytes and is gone.
const MAX_STRANGERS: usize = 16;

/// Time for the stranger's side of it, and for ours: a lookup by key in DNS or
/// in the DHT, a handshake through a relay, a few kilobytes.
const PATIENCE: Duration = Duration::from_secs(15);

const CLOSE_DONE: VarInt = VarInt::from_u32(0);
const CLOSE_BUSY: VarInt = VarInt::from_u32(0x4d03);
const CLOSE_OTHER_SWARM: VarInt = VarInt::from_u32(0x4d04);

/// How far two clocks may be apart: rounds that follow wall time have windows of
/// seconds, and this much is lost at each of their edges.
pub const MAX_SKEW: Duration = Duration::from_secs(2);

/// What a stranger said, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A ticket's text.
    pub ticket: String,
    /// Its clock less ours, in milliseconds, give or take half the round trip.
    pub clock_offset_ms: i64,
}

/// Why a stranger gave no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MeetError {
    /// It can't be reached, or did not answer in time.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It is of another swarm, busy, or has no ticket to give yet.
    #[error("it gave no ticket: {0}")]
    Refused(String),
}

/// Where strangers are answered.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    swarm: [u8; 32],
    ticket: Arc<RwLock<Option<String>>>,
    served: Arc<Mutex<BTreeSet<EndpointId>>>,
}

/// A stranger's place at the desk, until it is dropped.
struct Place<'a> {
    desk: &'a Desk,
    stranger: EndpointId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.desk.served().remove(&self.stranger);
    }
}

impl Desk {
    pub(super) fn of(swarm: [u8; 32]) -> Self {
        Self {
            swarm,
            ticket: Arc::default(),
            served: Arc::default(),
        }
    }

    /// What to give from now on.
    pub(super) fn offer(&self, ticket: String) {
        *self.ticket.write().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
    }

    fn served(&self) -> MutexGuard<'_, BTreeSet<EndpointId>> {
        // A set of keys: whole after every statement.
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, stranger: EndpointId) -> Option<Place<'_>> {
        let mut served = self.served();
        let has_room = served.len() < MAX_STRANGERS && served.insert(stranger);
        has_room.then(|| Place {
            desk: self,
            stranger,
        })
    }

    fn ticket_to(&self, swarm: &[u8; 32]) -> Option<String> {
        let ticket = self.ticket.read().unwrap_or_else(PoisonError::into_inner);
        ticket.clone().filter(|_| *swarm == self.swarm)
    }

    async fn answer(&self, connection: &Connection) -> Option<()> {
        let (mut send, mut receive) = connection.accept_bi().await.ok()?;
        let mut wanted = [0; 32];
        receive.read_exact(&mut wanted).await.ok()?;
        let Some(ticket) = self.ticket_to(&wanted) else {
            connection.close(CLOSE_OTHER_SWARM, b"not of that swarm");
            return None;
        };
        send.write_all(&now_ms().to_le_bytes()).await.ok()?;
        send.write_all(ticket.as_bytes()).await.ok()?;
        send.finish().ok()?;
        // The stranger closes when it has read all.
        connection.closed().await;
        Some(())
    }
}

impl ProtocolHandler for Desk {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let Some(_place) = self.place(connection.remote_id()) else {
            connection.close(CLOSE_BUSY, b"busy");
            return Ok(());
        };
        if timeout(PATIENCE, self.answer(&connection)).await.is_err() {
            connection.close(CLOSE_DONE, b"too slow");
        }
        Ok(())
    }
}

/// Asks a peer for a ticket to a swarm. What it says is unchecked.
pub(super) async fn ask(
    endpoint: &Endpoint,
    peer: EndpointId,
    swarm: &[u8; 32],
) -> Result<Answer, MeetError> {
    let unreachable = |error: &dyn std::fmt::Display| MeetError::Unreachable(error.to_string());
    let asking = async {
        let connection = endpoint
            .connect(EndpointAddr::new(peer), MEET_ALPN)
            .await
            .map_err(|error| unreachable(&error))?;
        let refused = |error: &dyn std::fmt::Display| MeetError::Refused(error.to_string());
        let asked_ms = now_ms();
        let (mut send, mut receive) = connection.open_bi().await.map_err(|e| refused(&e))?;
        send.write_all(swarm).await.map_err(|e| refused(&e))?;
        send.finish().map_err(|e| refused(&e))?;
        let mut clock = [0; 8];
        let read = receive.read_exact(&mut clock).await;
        read.map_err(|e| refused(&e))?;
        let halfway_ms = asked_ms + now_ms().saturating_sub(asked_ms) / 2;
        let clock_offset_ms = u64::from_le_bytes(clock).wrapping_sub(halfway_ms) as i64;
        let bytes = receive.read_to_end(MAX_TICKET).await;
        let bytes = bytes.map_err(|e| refused(&e))?;
        connection.close(CLOSE_DONE, b"thanks");
        let ticket = String::from_utf8(bytes).map_err(|e| refused(&e))?;
        Ok(Answer {
            ticket,
            clock_offset_ms,
        })
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
        let text = format!("no answer in {} s", PATIENCE.as_secs());
        Err(MeetError::Unreachable(text))
    })
}

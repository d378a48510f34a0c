//! What reaches the machine from outside: announcements and links.

use swarm_core::event::{Event, LogLevel};
use swarm_core::ids::{PeerId, SwarmId};
use swarm_core::message::{Payload, verify};
use swarm_core::refusal::RejectReason;
use swarm_core::round::Input;

use super::Peer;
use crate::net::NetEvent;

/// Whose an announcement is, and which of its author's: for the network, whose
/// budgets go by author. Those that are within are verified once more when their
/// turn comes, and then for good.
pub(super) fn author_of(message: &[u8], topic: &[u8; 32]) -> Option<([u8; 32], u64)> {
    let announcement = verify(message, SwarmId(*topic)).ok()??;
    Some((announcement.peer.0, announcement.sequence))
}

impl Peer {
    /// Something from the network.
    pub(super) fn heard(&mut self, event: Option<NetEvent>) -> Option<Input> {
        let hub = &self.setup.hub;
        match event? {
            NetEvent::Message { bytes, .. } => self.announced(&bytes),
            // Counted by the machine, which shows a few a round: a flood of
            // refusals must not become a flood of events.
            NetEvent::OverBudget { neighbour, dropped } => Some(Input::Refused {
                from: Some(PeerId(neighbour)),
                reason: RejectReason::Flood(dropped),
            }),
            NetEvent::TurnedAway { peer, count } => Some(Input::Refused {
                from: Some(PeerId(peer)),
                reason: RejectReason::Crowd(count),
            }),
            NetEvent::Refused {
                from_neighbour,
                reason,
            } => Some(Input::Refused {
                from: Some(PeerId(from_neighbour)),
                reason: RejectReason::Frame(reason),
            }),
            NetEvent::Found { peer, by } => {
                hub.emit(Event::PeerFound {
                    who: PeerId(peer),
                    by: by.to_owned(),
                });
                None
            }
            NetEvent::FinderFailed { finder, why } => {
                let text = format!("peers can't be found by {finder} here: {why}");
                hub.log(LogLevel::Warn, "network", text);
                None
            }
            NetEvent::Lost(peer) => Some(Input::Lost { peer: PeerId(peer) }),
            NetEvent::Rejoining { peers } => {
                let text = format!("heard nothing for too long; joining again through {peers}");
                hub.log(LogLevel::Warn, "network", text);
                None
            }
            NetEvent::Lagged { missed } => {
                let text = format!("this node is too slow: {missed} messages were dropped");
                hub.log(LogLevel::Warn, "network", text);
                None
            }
            NetEvent::Ended(why) => {
                hub.log(LogLevel::Error, "network", format!("gossip ended: {why}"));
                None
            }
            _ => None,
        }
    }

    /// An announcement, believed only after its signatures were verified.
    fn announced(&mut self, bytes: &[u8]) -> Option<Input> {
        let announcement = match verify(bytes, self.machine.swarm()) {
            Ok(announcement) => announcement?,
            // The neighbour only passed it on: nobody is blamed.
            Err(reason) => return Some(Input::Refused { from: None, reason }),
        };
        if let Payload::Attestation(card) = &announcement.payload {
            let chain = self.setup.chain.as_ref()?;
            // Not a witness, or of a round not known yet: it is repeated.
            let witness = self
                .machine
                .witness(announcement.round, announcement.peer)?;
            if !chain.verifies(witness, announcement.round, card) {
                return Some(Input::Refused {
                    from: Some(announcement.peer),
                    reason: RejectReason::Signature,
                });
            }
            self.keep_card(announcement.round, witness, card.clone());
        }
        if let Payload::Sealed(seal) = &announcement.payload {
            let chain = self.setup.chain.as_ref()?;
            let witness = self
                .machine
                .witness(announcement.round, announcement.peer)?;
            if !chain.verifies_seal(witness, announcement.round, seal) {
                return Some(Input::Refused {
                    from: Some(announcement.peer),
                    reason: RejectReason::Signature,
                });
            }
        }
        Some(Input::Announcement(announcement))
    }

    /// For the Peers screen.
    pub(super) fn report_links(&self) {
        for link in self.net.links() {
            self.setup.hub.emit(Event::PeerLink {
                who: PeerId(link.peer),
                path: link.path.name().to_owned(),
                rtt_us: link.rtt_us,
                sent_bytes: link.sent,
                received_bytes: link.received,
            });
        }
    }
}

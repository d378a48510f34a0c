//! What liars do differently.

use super::Lie;
use super::chain::sign;
use super::world::World;
use crate::body::{self, Body};
use crate::message::{Announcement, BodyKind, BodyRef, Card, Payload};

impl World<'_> {
    /// What one peer tells another: the truth, unless it lies.
    pub(super) fn told(
        &mut self,
        peer: usize,
        to: usize,
        mut said: Announcement,
    ) -> Option<Announcement> {
        let Some(lie) = self.nodes[peer].lie else {
            return Some(said);
        };
        match (lie, &mut said.payload) {
            (Lie::TwoFaced, Payload::Have { body, .. }) => body.hash.0[0] ^= to as u8,
            (Lie::Withhold, Payload::Have { kind, .. }) if *kind == BodyKind::Critique => {
                return None;
            }
            (Lie::OnlyMine, Payload::Inclusion { entries }) => {
                entries.retain(|hash| self.nodes[peer].store.contains_key(hash));
            }
            (Lie::FarAhead, _) => said.at.round += 1_000,
            (Lie::FalsePlan, Payload::Plan { plan }) => plan.hash.0[0] ^= 1,
            (Lie::FalsePlan, Payload::Hello { curriculum, .. }) => *curriculum += 1_000,
            (Lie::FalseScores, Payload::Attestation(card)) => {
                self.falsify(peer, card);
            }
            (Lie::EasierItems, Payload::Have { body, kind }) if *kind == BodyKind::Answer => {
                *body = self.easier(peer, *body);
            }
            _ => {}
        }
        Some(said)
    }

    fn falsify(&self, peer: usize, card: &mut Card) {
        for (address, score) in &mut card.scores {
            if *address != self.addresses[peer] {
                *score = 999_999;
            }
        }
        card.signature = sign(self.addresses[peer], card.included, &card.scores);
    }

    /// The same batch, said to be of another level.
    fn easier(&mut self, peer: usize, body: BodyRef) -> BodyRef {
        let store = &mut self.nodes[peer].store;
        let Some(Ok(Body::Answer(mut batch))) = store
            .get(&body.hash)
            .map(|bytes| body::decode(bytes, u32::MAX))
        else {
            return body;
        };
        for group in &mut batch.groups {
            group.level += 1;
        }
        let (hash, bytes) = Body::Answer(batch).encode();
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        store.insert(hash, bytes);
        BodyRef { hash, bytes: size }
    }
}

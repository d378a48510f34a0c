//! What a settled round can be checked by: the bodies that its witnesses
//! included, as bytes.
//!
//! A transcript needs no signature of its own. The hash of its bodies is what
//! the witnesses signed and the ledger holds, and the scores follow from the
//! bodies: whoever has a transcript, from wherever, recomputes both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rewards::Scoreboard;
use serde::{Deserialize, Serialize};
use tasks::Registry;

use crate::body::{self, Body};
use crate::ids::{Address, Beacon, Hash, PeerId, SwarmId};
use crate::manifest::Manifest;
use crate::message::BodyKind;
use crate::plan::{Evidence, MAX_PLAN, Plan};
use crate::refusal::RejectReason;
use crate::round::{Decision, judge_bodies};
use crate::score;

/// The version of the format, its first byte.
pub const TRANSCRIPT_VERSION: u8 = 2;

/// Room for the numbers around each body.
const FRAME: usize = 64;

/// The included bodies of one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// The round.
    pub round: u64,
    /// The beacon its draws come from.
    pub beacon: Beacon,
    /// What was asked in it.
    pub plan: Plan,
    /// The bodies as they travelled, in the order of their hashes.
    pub bodies: Vec<Vec<u8>>,
}

/// What follows from a transcript.
#[derive(Debug, Clone)]
pub struct Recomputed {
    /// The name of the set, what witnesses sign.
    pub included: Hash,
    /// Every reward, with its reason.
    pub board: Scoreboard<PeerId>,
    /// Who is scored for whose bodies.
    pub addresses: BTreeMap<PeerId, Address>,
    /// Scores in ppm by address, as a witness signs them but for its own row.
    pub rows: BTreeMap<Address, u32>,
    /// What later rounds' plans follow from.
    pub evidence: Evidence,
}

/// A transcript's bodies, and the rules they were made by.
pub(crate) struct Bodies {
    pub(crate) rules: Manifest,
    pub(crate) bodies: BTreeMap<Hash, Arc<Body>>,
}

impl Transcript {
    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![TRANSCRIPT_VERSION])
            .expect("a transcript is plain data and a vector takes any length")
    }

    /// The most bytes that a transcript of this swarm has: one body of each
    /// kind from every peer.
    pub fn limit(manifest: &Manifest) -> usize {
        let bodies = usize::from(manifest.limits.peers) * BodyKind::ALL.len();
        MAX_PLAN as usize + (bodies + 1).saturating_mul(manifest.limits.body_bytes as usize + FRAME)
    }

    /// Reads what [`Transcript::encode`] wrote.
    ///
    /// # Errors
    /// [`RejectReason::Oversize`], [`RejectReason::Version`] or
    /// [`RejectReason::Malformed`].
    pub fn decode(bytes: &[u8], limit: usize) -> Result<Self, RejectReason> {
        if bytes.len() > limit {
            let bytes = bytes.len();
            return Err(RejectReason::Oversize { bytes, limit });
        }
        match bytes.split_first() {
            Some((&TRANSCRIPT_VERSION, rest)) => postcard::from_bytes(rest)
                .map_err(|error| RejectReason::Malformed(error.to_string())),
            Some((&version, _)) => Err(RejectReason::Version(version)),
            None => Err(RejectReason::Malformed("empty".into())),
        }
    }

    /// The name of its set of bodies.
    pub fn included(&self, swarm: SwarmId) -> Hash {
        let entries = self.bodies.iter().map(|bytes| Hash::of(bytes)).collect();
        included_hash(swarm, self.round, self.beacon, self.plan.hash(), &entries)
    }

    /// Judges the bodies again, from nothing but their bytes.
    ///
    /// # Errors
    /// A plan or a body that no honest witness would have signed for.
    pub fn recompute(
        &self,
        manifest: &Manifest,
        registry: &Registry,
    ) -> Result<Recomputed, RejectReason> {
        let Bodies { rules, bodies } = self.bodies(manifest)?;
        let Decision {
            board, addresses, ..
        } = judge_bodies(
            &rules,
            registry,
            self.beacon,
            &self.plan.critics,
            bodies.values(),
        );
        Ok(Recomputed {
            evidence: Evidence::of(&self.plan, manifest, registry, &board),
            included: self.included(manifest.id()),
            rows: score::rows(&board, &addresses),
            board,
            addresses,
        })
    }

    /// The bodies, each checked, and the manifest as the plan has it.
    pub(crate) fn bodies(&self, manifest: &Manifest) -> Result<Bodies, RejectReason> {
        self.plan.check(manifest)?;
        let rules = self.plan.applied(manifest);
        let plan = self.plan.hash();
        let mut bodies: BTreeMap<Hash, Arc<Body>> = BTreeMap::new();
        for bytes in &self.bodies {
            let body = body::decode(bytes, manifest.limits.body_bytes)?;
            let header = body.header();
            if (header.round, header.beacon) != (self.round, self.beacon) {
                return Err(RejectReason::Mismatch("a body of another round"));
            }
            if header.plan != plan {
                return Err(RejectReason::Mismatch("a body made by another plan"));
            }
            body.check(&rules)?;
            bodies.insert(Hash::of(bytes), Arc::new(body));
        }
        Ok(Bodies { rules, bodies })
    }
}

/// The name of a set of bodies of a round, and of the plan they were made by.
pub fn included_hash(
    swarm: SwarmId,
    round: u64,
    beacon: Beacon,
    plan: Hash,
    entries: &BTreeSet<Hash>,
) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("murmuration included v2");
    hasher.update(&swarm.0);
    hasher.update(&round.to_le_bytes());
    hasher.update(&beacon.0);
    hasher.update(&plan.0);
    for entry in entries {
        hasher.update(&entry.0);
    }
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_transcript_is_refused() {
        let transcript = Transcript {
            round: 3,
            beacon: Beacon([1; 32]),
            plan: Plan::first(&crate::sim::manifest()),
            bodies: vec![vec![1, 2, 3]],
        };
        let bytes = transcript.encode();
        assert_eq!(Transcript::decode(&bytes, 1_000), Ok(transcript));
        for cut in 0..bytes.len() {
            assert!(Transcript::decode(&bytes[..cut], 1_000).is_err(), "{cut}");
        }
        let oversize = Transcript::decode(&bytes, bytes.len() - 1);
        assert!(matches!(oversize, Err(RejectReason::Oversize { .. })));
        let mut newer = bytes;
        newer[0] = 9;
        let version = Transcript::decode(&newer, 1_000);
        assert_eq!(version, Err(RejectReason::Version(9)));
    }
}

//! What this peer asks its policy to write in each stage, and what becomes of
//! it: a body, served and announced, or committed first and then revealed.

use std::sync::Arc;

use super::gallery::Gallery;
use super::state::{Asked, Claim, Round};
use super::{Effect, Machine, SampleRequest};
use crate::body::{
    AnswerGroup, Batch, Body, Completion, CritiqueGroup, Header, ResolveGroup, Slot,
};
use crate::draw;
use crate::ids::Beacon;
use crate::message::{BodyKind, BodyRef, Payload, Phase};

impl Machine {
    /// What is on show to this peer in a round: every valid body it holds.
    fn gallery<'a>(&'a self, round: &'a Round, beacon: Beacon) -> Gallery<'a> {
        let rules = self.rules(round.number);
        let bodies = round.bodies.values();
        Gallery::new(rules, &self.config.registry, beacon, bodies)
    }

    /// Asks the policy for the groups of a stage.
    pub(super) fn ask(&mut self, kind: BodyKind) {
        let number = self.at.round;
        let me = self.config.me;
        let Some((round, opened)) = self
            .round()
            .and_then(|round| Some((round, round.opened.as_ref()?)))
        else {
            return;
        };
        let beacon = opened.beacon;
        let gallery = self.gallery(round, beacon);
        let manifest = self.rules(number);
        let (asked, prompts) = match kind {
            BodyKind::Answer => {
                let (slots, prompts): (Vec<Slot>, Vec<_>) = draw::slots(manifest)
                    .filter_map(|slot| {
                        let prompt = gallery.answer_prompt(me, slot)?;
                        let game = gallery.game(me, slot);
                        Some((slot, (slot.to_string(), prompt, game)))
                    })
                    .unzip();
                (Asked::Answers(slots), prompts)
            }
            BodyKind::Critique => {
                let read = draw::reading(manifest, beacon, me, gallery.on_show());
                let (targets, prompts): (Vec<_>, Vec<_>) = read
                    .into_iter()
                    .filter_map(|target| {
                        let prompt = gallery.critique_prompt(&target)?;
                        let label = format!("{} of {}", target.slot, target.peer.nickname());
                        Some((target, (label, prompt, None)))
                    })
                    .unzip();
                (Asked::Critiques(targets), prompts)
            }
            BodyKind::Resolve => {
                let (groups, prompts): (Vec<_>, Vec<_>) = draw::resolve_slots(manifest)
                    .into_iter()
                    .filter(|slot| gallery.answer_group(me, *slot).is_some())
                    .filter(|slot| !gallery.is_game(me, *slot))
                    .filter_map(|slot| {
                        let reads = gallery.reads(me, slot);
                        let prompt = gallery.resolve_prompt(me, slot, &reads)?;
                        Some(((slot, reads), (slot.to_string(), prompt, None)))
                    })
                    .unzip();
                (Asked::Resolutions(groups), prompts)
            }
        };
        let size = self.group_size(kind);
        let requests: Vec<SampleRequest> = prompts
            .into_iter()
            .enumerate()
            .map(|(index, (label, messages, game))| SampleRequest {
                label,
                messages,
                game,
                completions: size,
                seed: draw::sampling_seed(beacon, me, kind, index),
            })
            .collect();
        let nothing = requests.is_empty();
        self.round_mut(number).asked = Some(asked);
        if nothing {
            // Said all the same, so that nobody waits for it.
            self.sampled(number, kind, Vec::new());
        } else {
            self.effects.push(Effect::Sample {
                round: number,
                kind,
                deadline_ms: self.deadline,
                requests,
            });
        }
    }

    fn group_size(&self, kind: BodyKind) -> u16 {
        let manifest = &self.config.manifest;
        match kind {
            BodyKind::Answer => manifest.answer.size,
            BodyKind::Critique => manifest.critique.size,
            BodyKind::Resolve => manifest.resolve.size,
        }
    }

    /// The policy wrote what was asked; too late is too late.
    pub(super) fn sampled(&mut self, number: u64, kind: BodyKind, groups: Vec<Vec<Completion>>) {
        let asked_here = number == self.at.round
            && self
                .round()
                .and_then(|round| round.asked.as_ref())
                .is_some_and(|asked| asked.kind() == kind);
        if !asked_here {
            return;
        }
        let size = usize::from(self.group_size(kind));
        let limit = self.config.manifest.limits.completion_bytes as usize;
        let round = self.round_mut(number);
        let (Some(asked), Some(opened), Some((_, plan))) =
            (round.asked.take(), &round.opened, &round.plan)
        else {
            return;
        };
        let header = Header {
            round: number,
            beacon: opened.beacon,
            plan: *plan,
            peer: self.config.me,
            address: self.config.address,
        };
        let body = match asked {
            Asked::Answers(slots) => Body::Answer(Batch {
                header,
                salt: [0; 32],
                groups: whole(slots, groups, size, limit)
                    .filter_map(|(slot, completions)| {
                        let rules = self.rules(number);
                        let drawn = draw::item(rules, header.beacon, header.peer, slot)?;
                        Some(AnswerGroup {
                            slot,
                            env: drawn.env,
                            level: drawn.level,
                            completions,
                        })
                    })
                    .collect(),
            }),
            Asked::Critiques(targets) => Body::Critique(Batch {
                header,
                salt: salt(&self.config.secret, number),
                groups: whole(targets, groups, size, limit)
                    .map(|(target, completions)| CritiqueGroup {
                        target,
                        completions,
                    })
                    .collect(),
            }),
            Asked::Resolutions(reads) => Body::Resolve(Batch {
                header,
                salt: [0; 32],
                groups: whole(reads, groups, size, limit)
                    .map(|((slot, read), completions)| ResolveGroup {
                        slot,
                        read,
                        completions,
                    })
                    .collect(),
            }),
        };
        self.adopt(body);
    }

    /// Makes a body of this peer's own count, and tells the others.
    fn adopt(&mut self, body: Body) {
        let (me, number, kind) = (self.config.me, self.at.round, body.kind());
        let (hash, bytes) = body.encode();
        let reference = BodyRef {
            hash,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        let claim = Claim {
            body: reference,
            in_time: true,
        };
        let round = self.round_mut(number);
        round.claims.insert((me, kind), claim);
        round.bodies.insert(hash, Arc::new(body));
        if kind == BodyKind::Critique {
            round.commits.insert(me, claim);
            self.say(number, Phase::Commit, Payload::Commit { body: reference });
            return;
        }
        let phase = match kind {
            BodyKind::Answer => Phase::Answer,
            _ => Phase::Resolve,
        };
        self.serve(number, phase, kind, reference, bytes);
    }

    fn serve(&mut self, number: u64, phase: Phase, kind: BodyKind, body: BodyRef, bytes: Vec<u8>) {
        self.effects.push(Effect::Serve {
            hash: body.hash,
            bytes,
        });
        self.say(number, phase, Payload::Have { kind, body });
    }

    /// All have committed, or the time for it is over: shows the critiques.
    pub(super) fn reveal(&mut self) {
        let (me, number, kind) = (self.config.me, self.at.round, BodyKind::Critique);
        let Some((claim, body)) = self.round().and_then(|round| {
            let claim = *round.claims.get(&(me, kind))?;
            Some((claim, round.body(me, kind)?.clone()))
        }) else {
            return;
        };
        self.serve(number, Phase::Reveal, kind, claim.body, body.encode().1);
    }
}

/// The groups that are whole, each with what it was asked for. One that was
/// cut short is left out, not padded.
fn whole<T>(
    asked: Vec<T>,
    groups: Vec<Vec<Completion>>,
    size: usize,
    limit: usize,
) -> impl Iterator<Item = (T, Vec<Completion>)> {
    asked
        .into_iter()
        .zip(groups)
        .filter(move |(_, group)| group.len() == size)
        .map(move |(place, mut group)| {
            for completion in &mut group {
                clip(&mut completion.text, limit);
            }
            (place, group)
        })
}

/// What a commitment hides behind: nobody else can compute it.
fn salt(secret: &[u8; 32], round: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("murmuration critique salt v1");
    hasher.update(secret);
    hasher.update(&round.to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Cuts a text to a length, between characters.
fn clip(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let mut end = bytes;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

/// The order of a group's place in a batch, as the judge counts slots.
pub(crate) fn slot_number(slot: Slot) -> u32 {
    match slot {
        Slot::Common(k) => k.into(),
        Slot::Own(k) => 0x1_0000 + u32::from(k),
    }
}

/// The place of a slot number.
pub(super) fn slot_of(number: u32) -> Slot {
    let k = (number & 0xffff) as u16;
    if number < 0x1_0000 {
        Slot::Common(k)
    } else {
        Slot::Own(k)
    }
}

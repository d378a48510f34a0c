//! What is on show in a round: the peers' exhibits, the verdicts on them, and
//! the prompts that follow. Built from whatever bodies one has; a judge builds
//! it from the included ones, and so rebuilds what everyone could read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tasks::dialogue::{
    Message, PeerAnswer, SHOWN_TALLY, Verdict, answer_prompt, critique_prompt, parse_verdict,
    resolve_prompt,
};
use tasks::{Environment, Game, Item, Registry, Seed};

use crate::body::{AnswerGroup, Batch, Body, CritiqueGroup, Exhibit, Read, ResolveGroup, Slot};
use crate::draw;
use crate::ids::{Beacon, PeerId};
use crate::manifest::Manifest;

/// Of nine votes, as many as an answer needs to be read, unless it is the best.
const LEAST_VOTES: u16 = 2;
/// One vote, in parts that divide evenly enough.
const VOTE: u64 = 1_000;

pub(crate) struct Gallery<'a> {
    manifest: &'a Manifest,
    registry: &'a Registry,
    beacon: Beacon,
    pub(super) answers: BTreeMap<PeerId, &'a Batch<AnswerGroup>>,
    pub(super) critiques: BTreeMap<PeerId, &'a Batch<CritiqueGroup>>,
    pub(super) resolutions: BTreeMap<PeerId, &'a Batch<ResolveGroup>>,
    tallies: BTreeMap<Exhibit, (u16, u16)>,
    /// Items and answers that were made already: in a sandbox they take their
    /// time, and each is asked for again and again.
    items: RefCell<BTreeMap<Seed, Option<Item>>>,
    proposed: RefCell<BTreeMap<Exhibit, Option<String>>>,
}

impl<'a> Gallery<'a> {
    pub(crate) fn new(
        manifest: &'a Manifest,
        registry: &'a Registry,
        beacon: Beacon,
        bodies: impl IntoIterator<Item = &'a Arc<Body>>,
    ) -> Self {
        let mut gallery = Self {
            manifest,
            registry,
            beacon,
            answers: BTreeMap::new(),
            critiques: BTreeMap::new(),
            resolutions: BTreeMap::new(),
            tallies: BTreeMap::new(),
            items: RefCell::default(),
            proposed: RefCell::default(),
        };
        for body in bodies {
            let peer = body.header().peer;
            match body.as_ref() {
                Body::Answer(batch) => drop(gallery.answers.insert(peer, batch)),
                Body::Critique(batch) => drop(gallery.critiques.insert(peer, batch)),
                Body::Resolve(batch) => drop(gallery.resolutions.insert(peer, batch)),
            }
        }
        for batch in gallery.critiques.values() {
            for group in &batch.groups {
                let tally = gallery.tallies.entry(group.target).or_default();
                for completion in &group.completions {
                    match parse_verdict(&completion.text) {
                        Verdict::Right => tally.0 = tally.0.saturating_add(1),
                        Verdict::Wrong => tally.1 = tally.1.saturating_add(1),
                        Verdict::None => {}
                    }
                }
            }
        }
        gallery
    }

    /// The round's randomness.
    pub(super) fn beacon(&self) -> Beacon {
        self.beacon
    }

    /// The item in a peer's slot, made again from the beacon; `None` where its
    /// environment has nothing to ask.
    pub(super) fn item(&self, peer: PeerId, slot: Slot) -> Option<(Item, &'a dyn Environment)> {
        let drawn = draw::item(self.manifest, self.beacon, peer, slot)?;
        let environment = self.registry.get(&drawn.env)?;
        let mut items = self.items.borrow_mut();
        let made = items.entry(drawn.seed).or_insert_with(|| {
            let item = environment.generate(&drawn.seed, drawn.level);
            item.fault().is_none().then_some(item)
        });
        Some((made.clone()?, environment))
    }

    pub(super) fn answer_group(&self, peer: PeerId, slot: Slot) -> Option<&'a AnswerGroup> {
        let batch = self.answers.get(&peer)?;
        batch.groups.iter().find(|group| group.slot == slot)
    }

    pub(super) fn resolve_group(&self, peer: PeerId, slot: Slot) -> Option<&'a ResolveGroup> {
        let batch = self.resolutions.get(&peer)?;
        batch.groups.iter().find(|group| group.slot == slot)
    }

    pub(super) fn critique_group(
        &self,
        critic: PeerId,
        target: &Exhibit,
    ) -> Option<&'a CritiqueGroup> {
        let batch = self.critiques.get(&critic)?;
        batch.groups.iter().find(|group| group.target == *target)
    }

    /// The item in a peer's slot, where it takes several turns.
    pub(super) fn game(&self, peer: PeerId, slot: Slot) -> Option<Game> {
        let (item, environment) = self.item(peer, slot)?;
        if environment.turns() < 2 {
            return None;
        }
        let environment = self.registry.shared(&item.env)?;
        Some(Game { environment, item })
    }

    /// Whether an item takes several turns. Nobody judges an episode or plays
    /// it again: to read one is to know what wins.
    pub(super) fn is_game(&self, peer: PeerId, slot: Slot) -> bool {
        let item = self.item(peer, slot);
        item.is_some_and(|(_, environment)| environment.turns() > 1)
    }

    /// What a peer puts before the others in a slot, if it answered there.
    pub(super) fn exhibit(&self, peer: PeerId, slot: Slot) -> Option<Exhibit> {
        self.answer_group(peer, slot)?;
        Some(Exhibit {
            peer,
            slot,
            completion: draw::exhibit(self.manifest, self.beacon, peer, slot)?,
        })
    }

    /// The answer in an exhibit, if there is one to judge: of a game there is
    /// none.
    pub(crate) fn proposal(&self, exhibit: &Exhibit) -> Option<(Item, String)> {
        let group = self.answer_group(exhibit.peer, exhibit.slot)?;
        let text = &group.completions.get(usize::from(exhibit.completion))?.text;
        let (item, environment) = self.item(exhibit.peer, exhibit.slot)?;
        if environment.turns() > 1 {
            return None;
        }
        let mut proposed = self.proposed.borrow_mut();
        let answer = proposed
            .entry(*exhibit)
            .or_insert_with(|| environment.score(&item, text).answer);
        Some((item, answer.clone()?))
    }

    /// All that a peer answered in a slot, and in which completion.
    fn answers_of(&self, peer: PeerId, slot: Slot) -> Vec<(u16, String)> {
        let group = self.answer_group(peer, slot);
        let count = group.map_or(0, |group| group.completions.len());
        (0..u16::try_from(count).unwrap_or(u16::MAX))
            .filter_map(|completion| {
                let exhibit = Exhibit {
                    peer,
                    slot,
                    completion,
                };
                Some((completion, self.proposal(&exhibit)?.1))
            })
            .collect()
    }

    /// The slots of everyone in which there is something to judge.
    pub(crate) fn on_show(&self) -> BTreeMap<PeerId, Vec<Slot>> {
        let shown = |peer: PeerId, slot: &Slot| {
            let exhibit = self.exhibit(peer, *slot);
            exhibit.is_some_and(|exhibit| self.proposal(&exhibit).is_some())
        };
        let slots = |peer: PeerId| {
            draw::slots(self.manifest)
                .filter(|slot| shown(peer, slot))
                .collect()
        };
        let peers = self.answers.keys();
        peers.map(|peer| (*peer, slots(*peer))).collect()
    }

    /// What a peer reads before it answers an item again: of what a few others
    /// and it itself answered to a common item, or it alone to an item of its
    /// own, the answers with the most votes behind them, each once.
    pub(crate) fn reads(&self, reader: PeerId, slot: Slot) -> Vec<Read> {
        let most = usize::from(self.manifest.resolve.read);
        let mut heard = match slot {
            Slot::Own(_) => Vec::new(),
            Slot::Common(_) => {
                let others = self.answers.keys().copied().filter(|peer| *peer != reader);
                draw::ranked(b"resolving", self.beacon, Some(reader), others)
            }
        };
        heard.truncate(most);
        heard.push(reader);
        let said: Vec<(PeerId, Vec<(u16, String)>)> = heard
            .into_iter()
            .map(|peer| (peer, self.answers_of(peer, slot)))
            .collect();
        let mut met = BTreeSet::new();
        let mut reads = Vec::new();
        for (peer, answers) in &said {
            for (completion, answer) in answers {
                if met.insert(answer.as_str()) {
                    let (right, wrong) = self.regard(answer, slot, &said);
                    reads.push(Read {
                        peer: *peer,
                        completion: *completion,
                        right,
                        wrong,
                    });
                }
            }
        }
        // Stable: of equal votes whatever was met first.
        reads.sort_by_key(|read| std::cmp::Reverse(read.right));
        // What hardly anybody holds right only distracts; measured by `experiment stages`.
        let best = reads.first().map_or(0, |read| read.right);
        reads.retain(|read| read.right >= LEAST_VOTES.min(best));
        reads.truncate(most);
        reads
    }

    /// Of nine votes, how many are for an answer and how many against it. A
    /// peer votes with all its samples, and for two: to give an answer says
    /// more than to hold one right. A critic votes for one, by its verdicts.
    fn regard(
        &self,
        answer: &str,
        slot: Slot,
        said: &[(PeerId, Vec<(u16, String)>)],
    ) -> (u16, u16) {
        let (mut right, mut all) = (0u64, 0u64);
        let mut vote = |votes: u64, yes: usize, of: usize| {
            if of > 0 {
                right += votes * VOTE * yes as u64 / of as u64;
                all += votes * VOTE;
            }
        };
        for (peer, answers) in said {
            let same = answers.iter().filter(|(_, one)| one == answer);
            vote(2, same.count(), answers.len());
            let Some(exhibit) = self.exhibit(*peer, slot) else {
                continue;
            };
            let mut shown = answers.iter();
            if shown.any(|(at, one)| *at == exhibit.completion && one == answer) {
                let (yes, no) = self.tallies.get(&exhibit).copied().unwrap_or_default();
                let verdicts = usize::from(yes) + usize::from(no);
                let critics = verdicts.div_ceil(self.manifest.critique.size.max(1).into());
                vote(critics as u64, yes.into(), verdicts);
            }
        }
        let most = u64::from(SHOWN_TALLY);
        let right = (most * right + all / 2).checked_div(all).unwrap_or(0);
        let count = |votes: u64| u16::try_from(votes).unwrap_or(u16::MAX);
        (count(right), count(most - right))
    }

    /// What was read, as a prompt or a judge takes it.
    pub(crate) fn peer_answers(&self, slot: Slot, reads: &[Read]) -> Vec<PeerAnswer> {
        reads
            .iter()
            .filter_map(|read| {
                let (_, answer) = self.proposal(&Exhibit {
                    peer: read.peer,
                    slot,
                    completion: read.completion,
                })?;
                Some(PeerAnswer {
                    answer,
                    right: read.right.into(),
                    wrong: read.wrong.into(),
                })
            })
            .collect()
    }

    pub(super) fn answer_prompt(&self, peer: PeerId, slot: Slot) -> Option<Vec<Message>> {
        Some(answer_prompt(&self.item(peer, slot)?.0))
    }

    pub(super) fn critique_prompt(&self, target: &Exhibit) -> Option<Vec<Message>> {
        let (item, answer) = self.proposal(target)?;
        Some(critique_prompt(&item, &answer))
    }

    pub(super) fn resolve_prompt(
        &self,
        peer: PeerId,
        slot: Slot,
        reads: &[Read],
    ) -> Option<Vec<Message>> {
        let (item, _) = self.item(peer, slot)?;
        Some(resolve_prompt(&item, &self.peer_answers(slot, reads)))
    }
}

//! After the stages: cards gather, somebody relays them, the ledger confirms;
//! or the time for it is over, and the round says why it did not settle. All
//! of it goes on while later rounds run.

use std::collections::{BTreeMap, BTreeSet};

use super::stages::count;
use super::state::Round;
use super::{Effect, Machine, Settlement};
use crate::draw;
use crate::event::{BeaconSource, Event, LogLevel, RoundSummary};
use crate::ids::{Address, Hash, PeerId};
use crate::message::{Card, EvmSignature, Payload, Phase, Seal};
use crate::score;

/// Turns of relaying that a complete set of cards is waited for: a witness
/// whose card is left out counts as away on the ledger.
const GRACE_TURNS: u64 = 2;

impl Machine {
    /// The time for a round to settle begins now.
    pub(super) fn give_up_after(&mut self, number: u64) {
        let until = self.now + self.config.manifest.stages.settle_ms;
        let closing = &mut self.round_mut(number).closing;
        closing.until_ms.get_or_insert(until);
    }

    /// This peer's card is signed: it counts, and the others hear of it; where cards are
    /// sealed, that there is one.
    pub(super) fn card_signed(
        &mut self,
        number: u64,
        included: Hash,
        signature: EvmSignature,
        seal: Option<Seal>,
    ) {
        let me = self.config.me;
        let Some(address) = self.witness(number, me) else {
            return;
        };
        let Some(round) = self.rounds.get_mut(&number) else {
            return;
        };
        let Some(judged) = &round.judged else {
            return;
        };
        if judged.included != Some(included) || round.cards.contains_key(&me) {
            return;
        }
        let card = Card {
            included,
            scores: score::card(&judged.rows, address),
            signature,
        };
        round.cards.insert(me, card.clone());
        let said = match seal {
            Some(seal) => {
                round.seals.insert(me, seal);
                Payload::Sealed(seal)
            }
            None => Payload::Attestation(card),
        };
        self.say(number, Phase::Judge, said);
        self.show_card(number, me);
    }

    /// The ledger holds these witnesses' seals: what this peer sealed can be shown.
    pub(super) fn cards_sealed(&mut self, number: u64, witnesses: BTreeSet<Address>) {
        let me = self.config.me;
        let own = self.witness(number, me);
        let Some(round) = self.rounds.get_mut(&number) else {
            return;
        };
        let counts = own.is_some_and(|address| witnesses.contains(&address));
        let card = round.cards.get(&me).filter(|_| counts).cloned();
        let again = round.closing.sealed.replace(witnesses).is_some();
        if let (Some(card), false) = (card, again) {
            self.say(number, Phase::Judge, Payload::Attestation(card));
        }
    }

    /// Tells how a card compares with what this peer judged, once it has.
    pub(super) fn show_card(&mut self, number: u64, witness: PeerId) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        let (Some(opened), Some(judged), Some(card)) =
            (&round.opened, &round.judged, round.cards.get(&witness))
        else {
            return;
        };
        let Some(address) = opened.committee.get(&witness) else {
            return;
        };
        // What could not be scored here can't be held against anybody.
        let follows = || !judged.whole || score::card(&judged.rows, *address) == card.scores;
        let agrees = judged.included == Some(card.included) && follows();
        let matching = groups(round).remove(&terms(card)).unwrap_or_default();
        let needed = opened.needed();
        self.emit(Event::Attested {
            round: number,
            witness,
            agrees,
            signatures: count(matching.len()),
            needed: count(needed),
        });
    }

    /// Moves every judged round on toward the ledger, or ends it.
    pub(super) fn close_rounds(&mut self) {
        let numbers: Vec<u64> = self.rounds.keys().copied().collect();
        for number in numbers {
            self.reconsider(number);
            self.commit(number);
            self.relay(number);
            self.end_if_due(number);
        }
    }

    /// Lists that came late can make a quorum, or show that the quorum's set
    /// is another than the one judged here: then theirs is judged, and held
    /// against their scores.
    fn reconsider(&mut self, number: u64) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        if round.ended
            || round.closing.until_ms.is_none()
            || round.closing.differs
            || round.is_agreed()
        {
            return;
        }
        let Some(opened) = round.opened.as_ref() else {
            return;
        };
        if opened.source == BeaconSource::Offline {
            return;
        }
        let mine = round.judged.as_ref().and_then(|judged| judged.included);
        let quorum = quorum(round);
        let theirs = quorum.as_ref().map(|(included, _)| *included);
        if mine.is_some() && (theirs.is_none() || theirs == mine) {
            return;
        }
        let listed = round.listed();
        if listed.is_empty() || listed.iter().any(|hash| !round.bodies.contains_key(hash)) {
            return;
        }
        let here = round.included_hash(self.id, &listed);
        if theirs.is_some_and(|theirs| theirs != here) {
            return;
        }
        let differs = mine.is_some();
        let cards: Vec<(Address, Card)> = quorum.map_or_else(Vec::new, |(_, cards)| cards);
        let Some(judged) = self.judge_set(number, listed, true) else {
            return;
        };
        if differs {
            let false_cards = cards
                .iter()
                .filter(|_| judged.whole)
                .filter(|(witness, card)| score::card(&judged.rows, *witness) != card.scores)
                .count();
            self.round_mut(number).closing.differs = true;
            self.emit(Event::Log {
                level: if false_cards == 0 {
                    LogLevel::Warn
                } else {
                    LogLevel::Error
                },
                target: "judge".into(),
                message: format!(
                    "round {number}: the witnesses' quorum included another set than this peer \
                     saw; judged theirs, {false_cards} of {} scorecards do not follow from it",
                    cards.len()
                ),
            });
        }
        self.conclude(number, judged);
    }

    /// Commits the witnesses' seals when it is this peer's turn, where cards are sealed.
    fn commit(&mut self, number: u64) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        let enough = round.opened.as_ref().is_some_and(|opened| {
            let seals = round.seals.len() >= opened.needed();
            opened.source == BeaconSource::Chain && seals
        });
        if !self.is_sealing(round) || round.ended || round.closing.committed || !enough {
            return;
        }
        let seals = seals(round);
        if round.closing.seals_ms.is_none() {
            let (now, rank) = (self.now, self.relay_rank(round));
            let closing = &mut self.round_mut(number).closing;
            closing.seals_ms = Some(now);
            closing.rank = rank;
        }
        if self.relay_at(number).is_some_and(|at| at <= self.now) {
            self.round_mut(number).closing.committed = true;
            self.effects.push(Effect::CommitSeals {
                round: number,
                seals,
            });
        }
    }

    /// Whether cards are sealed, and the ledger does not hold the seals yet.
    fn is_sealing(&self, round: &Round) -> bool {
        self.config.manifest.seals_cards() && round.closing.sealed.is_none()
    }

    /// Relays a quorum's cards when it is this peer's turn.
    fn relay(&mut self, number: u64) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        if self.is_sealing(round) {
            return;
        }
        if round.ended || round.closing.sent || round.closing.tx.is_some() {
            return;
        }
        let Some((included, cards)) = quorum(round) else {
            return;
        };
        let (now, seals) = (self.now, seals(round));
        if round.closing.quorum_ms.is_none() {
            let rank = self.relay_rank(round);
            let closing = &mut self.round_mut(number).closing;
            closing.quorum_ms = Some(now);
            closing.rank = rank;
        }
        if self.relay_at(number).is_some_and(|at| at <= now) {
            self.round_mut(number).closing.sent = true;
            self.effects.push(Effect::Settle(Settlement {
                round: number,
                included,
                cards,
                seals,
            }));
        }
    }

    /// This peer's place in the order in which those here relay a round.
    fn relay_rank(&self, round: &Round) -> u64 {
        let beacon = round.opened.as_ref().map(|opened| opened.beacon);
        let me = self.config.me;
        let peers = self.roster.present().map(|(id, _)| id).chain([me]);
        let order = draw::ranked(b"relay", beacon.unwrap_or_default(), None, peers);
        order.iter().take_while(|peer| **peer != me).count() as u64
    }

    /// When it is this peer's turn to relay a round that has its quorum, or its seals.
    fn relay_at(&self, number: u64) -> Option<u64> {
        let round = self.rounds.get(&number)?;
        let opened = round.opened.as_ref()?;
        let closing = &round.closing;
        let sealing = self.is_sealing(round);
        let since = match sealing {
            true => closing.seals_ms.filter(|_| !closing.committed)?,
            false => closing.quorum_ms?,
        };
        let me = self.config.me;
        let here = |peer: &PeerId| {
            let known = self.roster.get(peer);
            *peer == me || known.is_some_and(|known| known.present)
        };
        let is_in = |(peer, address): (&PeerId, &Address)| match (sealing, &closing.sealed) {
            (true, _) => round.seals.contains_key(peer),
            // A card that is not sealed does not count any more.
            (false, Some(sealed)) => !sealed.contains(address) || round.cards.contains_key(peer),
            (false, None) => round.cards.contains_key(peer),
        };
        let mut waited_for = opened.committee.iter().filter(|(peer, _)| here(peer));
        let complete = waited_for.all(is_in);
        let turns = closing.rank + if complete { 0 } else { GRACE_TURNS };
        Some(since + turns * self.config.manifest.stages.relay_ms)
    }

    /// Ends a round that is settled, or that will not settle any more.
    fn end_if_due(&mut self, number: u64) {
        let Some(round) = self.rounds.get(&number) else {
            return;
        };
        let closing = &round.closing;
        let (Some(until), false, true) = (closing.until_ms, round.ended, round.over) else {
            return;
        };
        let chained = round
            .opened
            .as_ref()
            .is_some_and(|opened| opened.source == BeaconSource::Chain);
        let settled = closing.tx.is_some();
        if chained && !settled && self.now < until {
            return;
        }
        let why = (!settled).then(|| match &closing.why {
            Some(why) => why.clone(),
            None if self.is_sealing(round) && closing.committed => {
                "the ledger has not confirmed the scorecards' seals".to_owned()
            }
            None if self.is_sealing(round) => {
                let needed = round.opened.as_ref().map_or(0, |opened| opened.needed());
                let sealed = round.seals.len();
                format!("{sealed} scorecards are sealed, {needed} are needed")
            }
            None if closing.sent => "the ledger has not confirmed the settlement".to_owned(),
            None => {
                let needed = round.opened.as_ref().map_or(0, |opened| opened.needed());
                let most = groups(round).values().map(Vec::len).max().unwrap_or(0);
                format!("{most} scorecards agree, {needed} are needed")
            }
        });
        let summary = RoundSummary {
            settled,
            tx: closing.tx,
            ..round.summary.clone().unwrap_or(RoundSummary {
                round: number,
                ..RoundSummary::default()
            })
        };
        if let Some(why) = why {
            self.emit(Event::Unsettled { round: number, why });
        }
        self.round_mut(number).ended = true;
        self.emit(Event::RoundEnded(summary));
    }

    /// When a round that is closing has something to do.
    pub(super) fn closing_wakes_at(&self, round: &Round) -> u64 {
        if round.ended {
            return u64::MAX;
        }
        let relay = if round.closing.sent || round.closing.tx.is_some() {
            None
        } else {
            self.relay_at(round.number)
        };
        let until = if round.over {
            round.closing.until_ms
        } else {
            None
        };
        relay.unwrap_or(u64::MAX).min(until.unwrap_or(u64::MAX))
    }
}

/// What the ledger takes in one settlement: cards of one set and of the same
/// addresses. Scores may differ, it takes the median.
type Terms = (Hash, Vec<Address>);

fn terms(card: &Card) -> Terms {
    let addresses = card.scores.iter().map(|(address, _)| *address).collect();
    (card.included, addresses)
}

/// The cards of the committee by their terms.
fn groups(round: &Round) -> BTreeMap<Terms, Vec<(Address, Card)>> {
    let mut groups: BTreeMap<Terms, Vec<(Address, Card)>> = BTreeMap::new();
    if let Some(opened) = &round.opened {
        for (peer, card) in &round.cards {
            let sealed = round.closing.sealed.as_ref();
            let counts = |witness: &&Address| sealed.is_none_or(|all| all.contains(*witness));
            if let Some(witness) = opened.committee.get(peer).filter(counts) {
                let group = groups.entry(terms(card)).or_default();
                group.push((*witness, card.clone()));
            }
        }
    }
    groups
}

/// The cards that settle the round, sorted by witness, if more than two
/// thirds of the committee agree on their terms.
fn quorum(round: &Round) -> Option<(Hash, Vec<(Address, Card)>)> {
    let needed = round.opened.as_ref()?.needed();
    let (terms, mut cards) = groups(round)
        .into_iter()
        .find(|(_, cards)| cards.len() >= needed)?;
    cards.sort_unstable_by_key(|(witness, _)| *witness);
    Some((terms.0, cards))
}

/// The committee's seals, as the ledger takes them.
fn seals(round: &Round) -> Vec<(Address, Seal)> {
    let committee = round.opened.iter().flat_map(|opened| &opened.committee);
    let seal = |(peer, address): (&PeerId, &Address)| Some((*address, *round.seals.get(peer)?));
    committee.filter_map(seal).collect()
}

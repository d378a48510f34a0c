//! What is told of a swarm, a peer or a round, as JSON: the command line's `--json`, what
//! its tables are made from, and what `murmur explore` adds to its page.

use std::collections::BTreeMap;

use anyhow::Result;
use rollup::{Chronicle, Reputation, SettledRound, SignedScorecard, UNSCORED, checksummed};
use serde_json::{Value, json};
use swarm_core::ids::{Hash, PeerId};
use swarm_core::provenance::Lessons;
use swarm_core::transcript::Recomputed;

use super::find::Names;
use super::source::Source;

/// How many rounds back it is told who taught whom.
const TAUGHT_ROUNDS: usize = 64;

/// A 32-byte number, as the chain writes it.
pub fn word(bytes: [u8; 32]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A fraction of one.
pub fn fraction(ppm: u32) -> f64 {
    f64::from(ppm) / 1e6
}

/// A member's standing.
pub fn standing(rank: usize, member: &Reputation, chronicle: &Chronicle) -> Value {
    json!({
        "rank": rank,
        "name": member.name,
        "address": checksummed(member.address),
        "peer": member.iroh_key.map(PeerId),
        "score": fraction(member.score),
        "score_ppm": member.score,
        "uncertainty_ppm": member.uncertainty,
        "weight_ppm": member.weight,
        "rounds": member.rounds,
        "witness": if member.active { "eligible" } else { "away" },
        "missed": member.missed,
        "faults": member.faults,
        "last_round": rounds_of(chronicle, member.address).last().map(|(round, _)| round),
    })
}

/// The settled rounds that scored a peer, in order: number, and then the transaction's
/// round, its score, judges and the reputation after it.
pub fn rounds_of(
    chronicle: &Chronicle,
    address: [u8; 20],
) -> impl Iterator<Item = (u64, (&SettledRound, Option<u32>, u32, u32))> {
    chronicle.settlements().filter_map(move |(_, settled)| {
        let row = settled.scores.iter().find(|row| row.peer == address)?;
        Some((
            settled.round,
            (settled, row.score, row.judges, row.reputation),
        ))
    })
}

/// A peer: its standing and the rounds that scored it, the newest first.
pub fn peer(rank: usize, member: &Reputation, chronicle: &Chronicle) -> Value {
    let mut document = standing(rank, member, chronicle);
    let mut history: Vec<Value> = rounds_of(chronicle, member.address)
        .map(|(round, (settled, score, judges, reputation))| {
            json!({
                "round": round,
                "score_ppm": score,
                "judges": judges,
                "reputation_ppm": reputation,
                "tx": word(settled.tx),
                "block": settled.block,
            })
        })
        .collect();
    history.reverse();
    document["history"] = history.into();
    document
}

/// What the ledger says of a round, and its witnesses' cards where there are any.
pub fn round(
    chronicle: &Chronicle,
    number: u64,
    cards: Option<&[SignedScorecard]>,
    names: &Names,
) -> Option<Value> {
    let round = chronicle.rounds.get(&number)?;
    let named = |address: [u8; 20]| json!({ "address": checksummed(address), "name": names.of_address(address) });
    let status = match (&round.settled, round.voided_by) {
        (Some(_), _) => "settled",
        (None, Some(_)) => "voided",
        (None, None) => "open",
    };
    let committee: Vec<Value> = round
        .committee
        .iter()
        .map(|witness| {
            let signed = round
                .settled
                .as_ref()
                .is_some_and(|settled| settled.witnesses.contains(witness));
            let missed = round.missed.iter().find(|(who, _)| who == witness);
            let card = cards.and_then(|all| all.iter().find(|card| card.witness == *witness));
            let mut entry = named(*witness);
            entry["signed"] = signed.into();
            let weighed = round.weighed.iter().find(|(who, ..)| who == witness);
            entry["deviation_ppm"] = weighed.map(|(_, deviation, _)| *deviation).into();
            entry["weight_ppm"] = weighed.map(|(.., weight)| *weight).into();
            entry["missed_in_a_row"] = missed.map(|(_, count)| *count).into();
            entry["signature"] = card
                .map(|card| format!("0x{}", hex::encode(card.signature)))
                .into();
            entry
        })
        .collect();
    let mut document = json!({
        "round": number,
        "status": status,
        "beacon": word(round.beacon),
        "opened": { "tx": word(round.opened_tx), "block": round.opened_block },
        "committee": committee,
    });
    if let Some(settled) = &round.settled {
        let scores: Vec<Value> = settled
            .scores
            .iter()
            .map(|row| {
                let mut entry = named(row.peer);
                entry["score_ppm"] = row.score.into();
                entry["judges"] = row.judges.into();
                entry["reputation_ppm"] = row.reputation.into();
                entry["uncertainty_ppm"] = row.uncertainty.into();
                entry["given"] = given(row.peer, cards, names);
                entry
            })
            .collect();
        document["settled"] = json!({
            "tx": word(settled.tx),
            "block": settled.block,
            "relayer": named(settled.relayer),
            "included": Hash(settled.included),
            "scores_root": word(settled.scores_root),
            "root": word(settled.root),
            "scores": scores,
        });
    }
    Some(document)
}

/// What each witness said of a peer.
fn given(peer: [u8; 20], cards: Option<&[SignedScorecard]>, names: &Names) -> Value {
    let Some(cards) = cards else {
        return Value::Null;
    };
    cards
        .iter()
        .map(|signed| {
            let row = signed.card.scores.iter().find(|(of, _)| *of == peer);
            let score = row.map(|(_, score)| *score);
            json!({
                "witness": names.of_address(signed.witness),
                "score_ppm": score.filter(|score| *score != UNSCORED),
            })
        })
        .collect()
}

/// What follows from a round's transcript: each peer's parts, why, and what of its work
/// was not counted.
pub fn judged(recomputed: &Recomputed) -> Value {
    let uncounted = rewards::uncounted(&recomputed.board);
    let board = &recomputed.board;
    let peers: Vec<Value> = board
        .peers
        .iter()
        .map(|(peer, score)| {
            json!({
                "peer": peer,
                "address": recomputed.addresses.get(peer).map(|address| checksummed(address.0)),
                "score_ppm": score.contribution,
                "parts": {
                    "answers": score.parts.answers,
                    "critiques": score.parts.critiques,
                    "resolutions": score.parts.resolutions,
                },
                "why": score.why,
                "reward_ppm": score.reward,
                "right_ppm": score.accuracy,
                "form_ppm": score.format_rate,
                "brier_ppm": score.critique_brier,
                "weight_ppm": score.critique_weight,
                "useful_groups": score.work.useful,
                "groups": score.work.groups,
                "not_counted": uncounted.get(peer),
            })
        })
        .collect();
    json!({
        "included": recomputed.included,
        "right_ppm": board.answer_accuracy,
        "form_ppm": board.format_rate,
        "verdicts_right_ppm": board.judge_accuracy,
        "second_right_ppm": board.resolve_accuracy,
        "peers": peers,
    })
}

/// Whose groups a peer was given to train on and whom its own were given to, with how
/// many: as the beacon drew them, in the newest settled rounds whose transcripts are here;
/// and with whom it [stands together](rewards::favour). `None` where there are none.
///
/// # Errors
/// A transcript is there, and can't be read or judged.
pub fn provenance(source: &Source, chronicle: &Chronicle, peer: PeerId) -> Result<Option<Value>> {
    let (Some(manifest), Some(kept)) = (&source.manifest, &source.transcripts) else {
        return Ok(None);
    };
    let mut lessons = Lessons::new(manifest, &source.registry);
    let (mut taught_by, mut taught) = (BTreeMap::new(), BTreeMap::new());
    let mut rounds = 0;
    let settled: BTreeMap<u64, &SettledRound> = chronicle
        .settlements()
        .map(|(_, settled)| (settled.round, settled))
        .collect();
    let newest = settled.len().saturating_sub(TAUGHT_ROUNDS);
    for settled in settled.values().skip(newest) {
        let found = kept.find(manifest, settled.round, Hash(settled.included))?;
        let Some(transcript) = found else { continue };
        let drawn = lessons
            .follow(&transcript)
            .map_err(|reason| anyhow::anyhow!("the transcript kept here: {reason}"))?;
        rounds += 1;
        for (learner, owners) in drawn {
            for (owner, groups) in owners {
                let with = match (learner == peer, owner == peer) {
                    (true, _) => taught_by.entry(owner),
                    (false, true) => taught.entry(learner),
                    (false, false) => continue,
                };
                *with.or_insert(0u32) += groups;
            }
        }
    }
    let listed = |groups: BTreeMap<PeerId, u32>| -> Value {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(peer, count)| (std::cmp::Reverse(*count), *peer));
        let line = |(peer, groups)| json!({ "peer": peer, "groups": groups });
        groups.into_iter().map(line).collect()
    };
    let favours = lessons.favours();
    let together = favours.together().into_iter().filter_map(|(a, b)| {
        let other = match peer {
            _ if peer == a => b,
            _ if peer == b => a,
            _ => return None,
        };
        let (there, back) = (favours.of(peer, other), favours.of(other, peer));
        Some(json!({
            "peer": other,
            "favour_ppm": there.mean(),
            "favour_error_ppm": there.error(),
            "back_ppm": back.mean(),
            "back_error_ppm": back.error(),
            "answers": there.answers.min(back.answers),
        }))
    });
    let together: Vec<Value> = together.collect();
    Ok((rounds > 0).then(|| {
        json!({
            "rounds": rounds,
            "taught_by": listed(taught_by),
            "taught": listed(taught),
            "together": together,
        })
    }))
}

/// The judged transcript of a settled round, where one is kept here.
///
/// # Errors
/// It is there, and can't be read or judged.
pub fn judged_here(source: &Source, settled: &SettledRound) -> Result<Option<Recomputed>> {
    let (Some(manifest), Some(kept)) = (&source.manifest, &source.transcripts) else {
        return Ok(None);
    };
    let found = kept.find(manifest, settled.round, Hash(settled.included))?;
    found
        .map(|transcript| {
            transcript
                .recompute(manifest, &source.registry)
                .map_err(|reason| anyhow::anyhow!("the transcript kept here: {reason}"))
        })
        .transpose()
}

/// The swarm as a whole.
pub fn swarm(source: &Source, chronicle: &Chronicle, members: &[Reputation]) -> Value {
    let ledger = source.swarm.ledger();
    let addresses = ledger.addresses();
    let voided = chronicle.rounds.values();
    let voided = voided.filter(|round| round.settled.is_none() && round.voided_by.is_some());
    let newest = chronicle.settlements().last();
    json!({
        "swarm": word(source.swarm.id()),
        "name": source.manifest.as_ref().map(|manifest| &manifest.name),
        "manifest": source.manifest.as_ref().map(|manifest| manifest.id()),
        "chain_id": ledger.chain_id(),
        "rpc": crate::process::without_secrets(&source.rpc),
        "devnet": ledger.chain_id() == crate::process::DEVNET_CHAIN,
        "ledger": addresses.ledger.to_checksum(None),
        "registry": addresses.registry.to_checksum(None),
        "members": members.len(),
        "rounds": {
            "opened": chronicle.rounds.len(),
            "settled": chronicle.settlements().count(),
            "voided": voided.count(),
        },
        "root": newest.map(|(_, settled)| word(settled.root)),
        "newest_settled": newest.map(|(_, settled)| settled.round),
        "height": chronicle.height,
    })
}

/// Everything that the events say.
pub fn everything(source: &Source, chronicle: &Chronicle, members: &[Reputation]) -> Value {
    let names = Names::of(members);
    let peers: Vec<Value> = members
        .iter()
        .zip(1..)
        .map(|(member, rank)| standing(rank, member, chronicle))
        .collect();
    let rounds: Vec<Value> = chronicle
        .rounds
        .keys()
        .filter_map(|number| round(chronicle, *number, None, &names))
        .collect();
    json!({ "swarm": swarm(source, chronicle, members), "peers": peers, "rounds": rounds })
}

/// Parts and reasons by address, for pages of one peer.
pub fn by_address(recomputed: &Recomputed) -> BTreeMap<[u8; 20], Value> {
    let judged = judged(recomputed);
    let peers = judged["peers"].as_array().cloned().unwrap_or_default();
    recomputed
        .board
        .peers
        .keys()
        .zip(peers)
        .filter_map(|(peer, document)| Some((recomputed.addresses.get(peer)?.0, document)))
        .collect()
}

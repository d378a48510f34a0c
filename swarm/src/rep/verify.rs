//! `murmur rep verify`: a settled round, recomputed.
//!
//! Three things are held against each other: what the ledger's events claim, the cards
//! that its witnesses signed (the settling transaction's own bytes), and the bodies that
//! were judged (the transcript). From the bodies follow the included set and every score;
//! from the cards the medians; from those the reputations and the running root. What was
//! asked follows from the rounds that had settled before, and is recomputed from theirs.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rollup::audit::{Difference, Line, Replay};
use rollup::{Chronicle, Round, SettledRound, SignedScorecard, Step, UNSCORED, checksummed};
use serde_json::{Value, json};
use swarm_core::ids::{Address, Beacon, Hash};
use swarm_core::manifest::Manifest;
use swarm_core::plan::{self, Evidence, Plan, SettledSet};
use swarm_core::transcript::Transcript;
use tasks::Registry;

use super::find::Names;
use super::source::Source;

/// What came of checking a round.
#[derive(Debug)]
pub struct Checked {
    /// Its number.
    pub round: u64,
    /// Lines that differ; none is the good news.
    pub differences: Vec<Difference>,
    /// What could not be held against anything, and why.
    pub unchecked: Vec<String>,
    /// How many cards were checked.
    pub cards: usize,
    /// How many bodies were judged again.
    pub bodies: usize,
}

/// Checks settled rounds, in the order in which they settled: all of them, or one.
///
/// # Errors
/// The chain or a transcript can't be read, or the round has not settled.
pub async fn verify(
    source: &Source,
    chronicle: &Chronicle,
    only: Option<u64>,
    given: Option<&Transcript>,
) -> Result<Vec<Checked>> {
    if let Some(number) = only {
        settled(chronicle, number)?;
    }
    let domain = source.swarm.ledger().domain();
    let mut asking = Asking::new(source, chronicle);
    let mut replay = Replay::new(source.swarm.id());
    let mut checked = Vec::new();
    for step in &chronicle.steps {
        let number = match step {
            Step::Settled { round } if only.is_none_or(|only| only == *round) => *round,
            _ => {
                replay.follow(step, &chronicle.rounds);
                continue;
            }
        };
        let (round, settled) = self::settled(chronicle, number)?;
        let mut result = Checked {
            round: settled.round,
            differences: Vec::new(),
            unchecked: Vec::new(),
            cards: 0,
            bodies: 0,
        };
        let cards = source.swarm.cards(settled).await;
        let cards = cards.context("reading the settling transaction")?;
        match &cards {
            Some(cards) => {
                result.cards = cards.len();
                result.differences = replay.check(round, settled, cards, &domain);
            }
            None => {
                replay.follow(step, &chronicle.rounds);
                result.unchecked.push(
                    "signatures, medians and reputations: the settling transaction is no plain \
                     call of the ledger, its cards are not in it"
                        .to_owned(),
                );
            }
        }
        match evidence(source, settled, given) {
            Ok((manifest, transcript)) => {
                result.bodies = transcript.bodies.len();
                let cards = cards.unwrap_or_default();
                let (differences, evidence) = against_transcript(
                    (round, settled, &cards),
                    &transcript,
                    manifest,
                    &source.registry,
                );
                result.differences.extend(differences);
                asking.learn(settled, evidence);
                match asking.check(manifest, &transcript) {
                    Ok(difference) => result.differences.extend(difference),
                    Err(why) => result.unchecked.push(format!("what was asked: {why:#}")),
                }
            }
            Err(why) => result
                .unchecked
                .push(format!("the scores themselves: {why:#}")),
        }
        checked.push(result);
        if only.is_some() {
            break;
        }
    }
    Ok(checked)
}

/// A settled round by its number.
///
/// # Errors
/// It has not settled; says what is known of it.
pub fn settled(chronicle: &Chronicle, number: u64) -> Result<(&Round, &SettledRound)> {
    let Some(round) = chronicle.rounds.get(&number) else {
        bail!("round {number} was never opened; {}", newest(chronicle));
    };
    match (&round.settled, round.voided_by) {
        (Some(settled), _) => Ok((round, settled)),
        (None, Some(_)) => bail!(
            "round {number} was voided, it gathered no quorum; {}",
            newest(chronicle)
        ),
        (None, None) => bail!(
            "round {number} is open and not settled yet; {}",
            newest(chronicle)
        ),
    }
}

fn newest(chronicle: &Chronicle) -> String {
    match chronicle.newest() {
        Some(newest) => format!("the newest settled round is {newest}"),
        None => "no round has settled yet".to_owned(),
    }
}

/// The transcript of a settled round: the one given, or the home's.
fn evidence<'a>(
    source: &'a Source,
    settled: &SettledRound,
    given: Option<&Transcript>,
) -> Result<(&'a Manifest, Transcript)> {
    let manifest = source
        .manifest
        .as_ref()
        .context("what the swarm is, is not known here; name the home of one of its peers")?;
    if let Some(transcript) = given {
        if transcript.round != settled.round {
            bail!("the transcript given is of round {}", transcript.round);
        }
        return Ok((manifest, transcript.clone()));
    }
    let kept = source
        .transcripts
        .as_ref()
        .context("no home with transcripts; give one with --transcript")?;
    let found = kept.find(manifest, settled.round, Hash(settled.included))?;
    let transcript = found.context(
        "its transcript is not kept here (the oldest are collected, and a peer that was away \
         has none); ask another peer, --transcript reads its file",
    )?;
    Ok((manifest, transcript))
}

/// Rounds judged again, for the plans of those that follow from them.
struct Asking<'a> {
    source: &'a Source,
    chronicle: &'a Chronicle,
    steps: Vec<plan::Step>,
    known: BTreeMap<SettledSet, Evidence>,
}

impl<'a> Asking<'a> {
    fn new(source: &'a Source, chronicle: &'a Chronicle) -> Self {
        let set = |number: u64| {
            let settled = chronicle.rounds.get(&number)?.settled.as_ref()?;
            Some((number, Hash(settled.included)))
        };
        let steps = chronicle.steps.iter();
        let steps = steps.filter_map(|step| match step {
            Step::Opened { round } => Some(plan::Step::Opened(*round)),
            Step::Settled { round } => set(*round).map(plan::Step::Settled),
            _ => None,
        });
        Self {
            source,
            chronicle,
            steps: steps.collect(),
            known: BTreeMap::new(),
        }
    }

    /// A round that was judged anyhow.
    fn learn(&mut self, settled: &SettledRound, evidence: Option<Evidence>) {
        if let Some(evidence) = evidence {
            let set = (settled.round, Hash(settled.included));
            self.known.insert(set, evidence);
        }
    }

    /// Whether what was asked in a round is what follows from the rounds before.
    fn check(
        &mut self,
        manifest: &Manifest,
        transcript: &Transcript,
    ) -> Result<Option<Difference>> {
        let settled = plan::settled_before(&self.steps, transcript.round);
        for set in &settled {
            if !self.known.contains_key(set) {
                let (_, before) = self::settled(self.chronicle, set.0)?;
                let found = evidence(self.source, before, None);
                let (_, found) =
                    found.with_context(|| format!("it follows from round {}", set.0))?;
                match found.recompute(manifest, &self.source.registry) {
                    Ok(recomputed) => self.known.insert(*set, recomputed.evidence),
                    Err(why) => bail!("it follows from round {}: {why}", set.0),
                };
            }
        }
        let amendment = transcript.plan.amendment.as_deref();
        let holding = amendment.filter(|amendment| amendment.from <= transcript.round);
        let known = &self.known;
        let follows = plan::derive(
            manifest,
            &self.source.registry,
            &settled,
            |set| known.get(set),
            holding,
        );
        let Ok(follows) = follows else {
            bail!("an environment of a round before is not known here");
        };
        Ok(Difference::between(
            Line::Plan,
            told_plan(&transcript.plan),
            told_plan(&follows),
        ))
    }
}

/// A plan in a line.
fn told_plan(plan: &Plan) -> String {
    let levels: Vec<String> = plan
        .standings
        .iter()
        .map(|one| one.level.to_string())
        .collect();
    format!(
        "amendment {}, levels {} ({})",
        plan.number(),
        levels.join(" "),
        plan.hash()
    )
}

/// Holds a round's signed scores against what follows from its bodies; and what later
/// rounds' plans follow from, where the bodies are those that were signed for.
pub fn against_transcript(
    (round, settled, cards): (&Round, &SettledRound, &[SignedScorecard]),
    transcript: &Transcript,
    manifest: &Manifest,
    registry: &Registry,
) -> (Vec<Difference>, Option<Evidence>) {
    let mut found: Vec<Difference> = Difference::between(
        Line::Beacon,
        Beacon(round.beacon).to_hex(),
        transcript.beacon.to_hex(),
    )
    .into_iter()
    .collect();
    let included = transcript.included(manifest.id());
    let set = Difference::between(
        Line::Included,
        Hash(settled.included).to_hex(),
        included.to_hex(),
    );
    if set.is_some() {
        // Other bodies than the witnesses signed for: their scores say nothing.
        found.extend(set);
        return (found, None);
    }
    let recomputed = match transcript.recompute(manifest, registry) {
        Ok(recomputed) => recomputed,
        Err(reason) => {
            found.push(Difference {
                line: Line::Included,
                claimed: Hash(settled.included).to_hex(),
                recomputed: format!("a set that no honest witness includes: {reason}"),
            });
            return (found, None);
        }
    };
    let rows: BTreeMap<[u8; 20], u32> = recomputed
        .rows
        .iter()
        .map(|(Address(address), score)| (*address, *score))
        .collect();
    let list = |peers: &mut dyn Iterator<Item = [u8; 20]>| -> String {
        let names: Vec<String> = peers.map(checksummed).collect();
        names.join(", ")
    };
    found.extend(Difference::between(
        Line::Peers,
        list(&mut settled.scores.iter().map(|scored| scored.peer)),
        list(&mut rows.keys().copied()),
    ));
    for signed in cards {
        let witness = signed.witness;
        for (peer, score) in &signed.card.scores {
            let expected = match rows.get(peer) {
                Some(_) if *peer == witness => UNSCORED,
                Some(row) => *row,
                None => continue,
            };
            let line = Line::Score {
                witness,
                peer: *peer,
            };
            found.extend(Difference::between(line, say(*score), say(expected)));
        }
    }
    (found, Some(recomputed.evidence))
}

fn say(score: u32) -> String {
    match score {
        UNSCORED => "unscored".to_owned(),
        score => score.to_string(),
    }
}

/// A line as people read it.
pub fn told(line: &Line, names: &Names) -> String {
    let name = |address: &[u8; 20]| names.of_address(*address);
    match line {
        Line::Included => "included hash".to_owned(),
        Line::Beacon => "beacon".to_owned(),
        Line::Plan => "what was asked".to_owned(),
        Line::Witnesses => "witnesses that signed".to_owned(),
        Line::Signature { witness } => format!("signature of {}", name(witness)),
        Line::Quorum => "quorum".to_owned(),
        Line::Score { witness, peer } => format!("{}'s score of {}", name(witness), name(peer)),
        Line::Peers => "peers scored".to_owned(),
        Line::Median { peer } => format!("median of {}", name(peer)),
        Line::Judges { peer } => format!("judges of {}", name(peer)),
        Line::Reputation { peer } => format!("reputation of {}", name(peer)),
        Line::Uncertainty { peer } => format!("uncertainty of {}", name(peer)),
        Line::Weight { witness } => format!("weight of {}", name(witness)),
        Line::Scores => "root of the scores".to_owned(),
        Line::Root => "running root".to_owned(),
    }
}

/// What came of it, in lines.
pub fn lines(checked: &[Checked], names: &Names) -> String {
    let mut text = String::new();
    for result in checked {
        let Checked { round, .. } = result;
        if result.differences.is_empty() {
            let what = match (result.cards, result.bodies) {
                (0, 0) => "nothing could be checked".to_owned(),
                (cards, 0) => format!("{cards} signed cards agree with the ledger"),
                (cards, bodies) => {
                    format!("{cards} signed cards and {bodies} bodies agree with the ledger")
                }
            };
            text.push_str(&format!("round {round}: {what}\n"));
        }
        for difference in &result.differences {
            text.push_str(&format!(
                "round {round} DIFFERS: {}: claimed {}, recomputed {}\n",
                told(&difference.line, names),
                difference.claimed,
                difference.recomputed
            ));
        }
        for why in &result.unchecked {
            text.push_str(&format!("round {round}: not checked: {why}\n"));
        }
    }
    if let [_, _, ..] = checked {
        let bad = checked.iter().filter(|one| !one.differences.is_empty());
        let whole = checked.iter().filter(|one| one.unchecked.is_empty());
        text.push_str(&format!(
            "\n{} rounds: {} with differences, {} held against every completion\n",
            checked.len(),
            bad.count(),
            whole.count()
        ));
    }
    text
}

/// What came of a round, for scripts and the page.
pub fn document(result: &Checked, names: &Names) -> Value {
    let differences: Vec<Value> = result
        .differences
        .iter()
        .map(|difference| {
            json!({
                "line": told(&difference.line, names),
                "claimed": difference.claimed,
                "recomputed": difference.recomputed,
            })
        })
        .collect();
    json!({
        "round": result.round,
        "agrees": result.differences.is_empty(),
        "differences": differences,
        "unchecked": result.unchecked,
        "cards": result.cards,
        "bodies": result.bodies,
    })
}

//! What settled rounds showed of the critics, carried from plan to plan: how
//! well each is calibrated, and how many of the items that they decide are
//! verified all the same.
//!
//! A round holds few answers of known truth for each critic, too few to tell
//! a good one from a lucky one. So observations are carried over and fade by
//! an eighth a round: about eight rounds count.
//!
//! Of the items of judged environments that have a right answer, some are
//! *twins*: they look like all others, and which they are is drawn from the
//! salts of the critiques, so nobody knows it before every critique is
//! committed. On them critics are held against the verifier. Where critics
//! call answers right that are not, a policy learns to please them; then the
//! share of twins rises by half a round, until all is verified, and falls
//! back as slowly as the critics' past fades.

use std::collections::BTreeMap;

use rewards::{Calibration, Scoreboard, Twins};
use serde::{Deserialize, Serialize};
use tasks::{Item, Ppm, Seed};

use crate::body::{Batch, CritiqueGroup};
use crate::bounded::at_most;
use crate::ids::{Beacon, PeerId};

/// Critics that are carried, at most: those with the most observations.
pub const MAX_CRITICS: usize = 256;
/// The share of twins in a quiet swarm, and the least there is.
pub const LEAST_TWINS: Ppm = Ppm(250_000);
/// What a round leaves of an observation, and of the share above the least.
const KEEP: Ppm = Ppm(875_000);
/// How far what critics say may stand above what is right.
const APART: Ppm = Ppm(100_000);
/// Judged twins that say anything of it.
const ENOUGH: u64 = 16;

/// The critics, as far as a plan tells of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Critics {
    /// The share of twins among the items that could be.
    pub twins: Ppm,
    /// By peer, in order, each once.
    #[serde(deserialize_with = "at_most::<_, _, MAX_CRITICS>")]
    known: Vec<(PeerId, Calibration)>,
}

impl Default for Critics {
    fn default() -> Self {
        Self {
            twins: LEAST_TWINS,
            known: Vec::new(),
        }
    }
}

/// What one round showed of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hearings {
    calibrations: BTreeMap<PeerId, Calibration>,
    twins: Twins,
}

impl Hearings {
    /// What a scoreboard shows.
    pub fn of(board: &Scoreboard<PeerId>) -> Self {
        let critics = board.peers.iter();
        Self {
            calibrations: critics
                .filter(|(_, score)| score.calibration.observations() > 0)
                .map(|(peer, score)| (*peer, score.calibration))
                .collect(),
            twins: board.twins,
        }
    }
}

impl Critics {
    /// What is known of each critic, as a judge takes it.
    pub fn history(&self) -> BTreeMap<PeerId, Calibration> {
        self.known.iter().copied().collect()
    }

    /// Takes in a settled round.
    pub fn learn(&mut self, heard: &Hearings) {
        let known = self.known.drain(..);
        let mut all: BTreeMap<PeerId, Calibration> = known
            .map(|(peer, calibration)| (peer, calibration.faded(KEEP)))
            .filter(|(_, calibration)| calibration.observations() > 0)
            .collect();
        for (peer, calibration) in &heard.calibrations {
            let before = all.get(peer).copied().unwrap_or_default();
            all.insert(*peer, before.with(*calibration));
        }
        let mut kept: Vec<(PeerId, Calibration)> = all.into_iter().collect();
        if kept.len() > MAX_CRITICS {
            kept.sort_by_key(|(peer, calibration)| (u64::MAX - calibration.observations(), *peer));
            kept.truncate(MAX_CRITICS);
            kept.sort_by_key(|(peer, _)| *peer);
        }
        self.known = kept;
        self.twins = twins_after(self.twins, &heard.twins);
    }

    /// Whether this could follow from anything.
    pub fn is_sound(&self) -> bool {
        let ordered = self.known.is_sorted_by(|(a, _), (b, _)| a < b);
        ordered && (LEAST_TWINS..=Ppm::ONE).contains(&self.twins)
    }
}

/// Whether critics reward what is not right, as far as a round shows.
pub fn part(twins: &Twins) -> bool {
    twins.answers >= ENOUGH && twins.critics > twins.verifier.saturating_add(APART)
}

fn twins_after(share: Ppm, seen: &Twins) -> Ppm {
    if part(seen) {
        Ppm((share.0 + share.0 / 2).min(Ppm::ONE.0))
    } else {
        let above = u64::from(share.saturating_sub(LEAST_TWINS).0) * u64::from(KEEP.0);
        let above = u32::try_from(above / 1_000_000).unwrap_or(0);
        LEAST_TWINS.saturating_add(Ppm(above))
    }
}

/// Which items are twins in a round. Their critics' salts decide it, and each
/// salt is known to its owner alone until all critiques are committed.
pub(crate) struct Lottery {
    seed: Seed,
    share: Ppm,
}

impl Lottery {
    /// The lottery of a round, from the critiques that were included.
    pub(crate) fn of<'a>(
        beacon: Beacon,
        critiques: impl Iterator<Item = &'a Batch<CritiqueGroup>>,
        share: Ppm,
    ) -> Self {
        let mut salts: Vec<[u8; 32]> = critiques.map(|batch| batch.salt).collect();
        salts.sort_unstable();
        let seed = Seed::derive(&[b"twins", &beacon.0, &salts.concat()]);
        Self { seed, share }
    }

    /// Whether an item that has a right answer is a twin.
    pub(crate) fn draws(&self, item: &Item) -> bool {
        let question = item.question.as_bytes();
        let seed = Seed::derive(&[b"twin", &self.seed.0, &item.env.0, &[item.level], question]);
        seed.draw().below(Ppm::ONE.0.into()) < u64::from(self.share.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rewards::JudgeSettings;

    fn seen(answers: u64, critics: u32, verifier: u32) -> Twins {
        Twins {
            answers,
            critics: Ppm(critics),
            verifier: Ppm(verifier),
        }
    }

    fn hearings(peers: impl Iterator<Item = u16>) -> Hearings {
        let mut observed = Calibration::default();
        observed.observe(true, 4, 4, &JudgeSettings::default());
        observed.observe(false, 0, 4, &JudgeSettings::default());
        let peer = |index: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&index.to_be_bytes());
            PeerId(id)
        };
        Hearings {
            calibrations: peers.map(|index| (peer(index), observed)).collect(),
            twins: Twins::default(),
        }
    }

    #[test]
    fn the_share_of_twins_rises_while_critics_and_verifier_part_and_falls_back() {
        let mut critics = Critics::default();
        let mut shares = Vec::new();
        for _ in 0..5 {
            critics.learn(&Hearings {
                twins: seen(40, 700_000, 400_000),
                ..Hearings::default()
            });
            shares.push(critics.twins);
        }
        assert_eq!(
            shares,
            [375_000, 562_500, 843_750, 1_000_000, 1_000_000].map(Ppm)
        );
        for _ in 0..40 {
            let before = critics.twins;
            critics.learn(&Hearings {
                twins: seen(40, 450_000, 400_000),
                ..Hearings::default()
            });
            assert!(critics.twins < before && critics.is_sound());
        }
        assert!(critics.twins < Ppm(260_000));
    }

    #[test]
    fn few_twins_or_critics_too_strict_raise_nothing() {
        for twins in [seen(15, 900_000, 100_000), seen(40, 100_000, 900_000)] {
            assert_eq!(twins_after(LEAST_TWINS, &twins), LEAST_TWINS);
        }
    }

    #[test]
    fn what_is_known_of_critics_grows_with_rounds_and_is_bounded() {
        let settings = JudgeSettings::default();
        let mut critics = Critics::default();
        let mut weight = Ppm::ZERO;
        for _ in 0..6 {
            critics.learn(&hearings(0..3));
            let now = critics.history().values().next().unwrap().weight(&settings);
            assert!(now > weight);
            weight = now;
        }
        critics.learn(&hearings(0..400));
        assert_eq!(critics.known.len(), MAX_CRITICS);
        assert!(critics.is_sound());
        // Who was observed longer stays.
        let first: Vec<u64> = critics
            .history()
            .values()
            .take(4)
            .map(Calibration::observations)
            .collect();
        assert!(
            first[..3].iter().all(|count| *count > first[3]),
            "{first:?}"
        );
        for _ in 0..30 {
            critics.learn(&Hearings::default());
        }
        assert_eq!(critics, Critics::default());
    }

    #[test]
    fn a_critic_that_withholds_its_salt_only_draws_again() {
        let batch = |salt: u8| Batch {
            header: crate::body::Header {
                round: 1,
                beacon: Beacon([1; 32]),
                plan: crate::ids::Hash::default(),
                peer: PeerId([salt; 32]),
                address: crate::ids::Address::default(),
            },
            salt: [salt; 32],
            groups: Vec::new(),
        };
        let all: Vec<Batch<CritiqueGroup>> = (1..=8).map(batch).collect();
        let environment = tasks::Registry::builtin();
        let add = environment.by_name("add").unwrap();
        let items: Vec<Item> = (0u32..400)
            .map(|index| add.generate(&Seed::derive(&[&index.to_le_bytes()]), 2))
            .collect();
        let drawn = |batches: &[Batch<CritiqueGroup>]| -> Vec<bool> {
            let lottery = Lottery::of(Beacon([1; 32]), batches.iter(), LEAST_TWINS);
            items.iter().map(|item| lottery.draws(item)).collect()
        };
        let (whole, without) = (drawn(&all), drawn(&all[1..]));
        for one in [&whole, &without] {
            // 100 of 400, give or take five sigma.
            let count = one.iter().filter(|twin| **twin).count();
            assert!((57..143).contains(&count), "{count}");
        }
        assert_ne!(whole, without);
        let reversed: Vec<_> = all.into_iter().rev().collect();
        assert_eq!(drawn(&reversed), whole);
    }
}

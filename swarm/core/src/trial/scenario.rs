//! What is tried, as a TOML file says it.

use serde::{Deserialize, Serialize};

use super::{Behaviour, Recorded};
use crate::manifest::{AnswerPlan, CritiquePlan, Manifest, ResolvePlan};
use crate::sim;

/// A trial. Machines are honest but for a share of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// A name for people.
    pub name: String,
    /// Everything that is random follows from it.
    pub seed: u64,
    /// How many rounds.
    pub rounds: u64,
    /// How many machines, cheats included.
    pub machines: u16,
    /// How many of the honest machines are [slow](Behaviour::Slow).
    pub slow: u16,
    /// What the cheats do.
    pub behaviour: Behaviour,
    /// Machines that cheat, in per cent of all.
    pub cheats: u8,
    /// Whether critics decide the rewards of answers, and not the verifier.
    pub judged: bool,
    /// Items of judged environments whose truth is known and whose critics do
    /// not know it, in per cent.
    pub known: u8,
    /// The chance that a completion is right, at the worst and the best
    /// machine, in per cent.
    pub skill: (u8, u8),
    /// The chance that a critic sees an answer for what it is, at the worst
    /// and the best machine, in per cent.
    pub sight: (u8, u8),
    /// Policies as they were seen in settled rounds, in turn for the machines;
    /// without any, `skill` and `sight` say what machines are able to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<Recorded>,
    /// The answer stage.
    pub answer: AnswerPlan,
    /// The critique stage.
    pub critique: CritiquePlan,
    /// The resolve stage.
    pub resolve: ResolvePlan,
}

/// Why a scenario can't be tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// Not TOML, or a key unknown or of another type.
    #[error("{0}")]
    Toml(String),
    /// A recorded policy that nothing can be drawn from.
    #[error("[[recorded]] {name:?}: {key} needs numbers from 0 to 100, at least one")]
    Recorded {
        /// Whose.
        name: String,
        /// Which list.
        key: &'static str,
    },
    /// A value that cannot be.
    #[error("{key} must be {expected}, is {value}")]
    Invalid {
        /// Which key.
        key: &'static str,
        /// What would be right.
        expected: String,
        /// What it is.
        value: u64,
    },
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "trial".into(),
            seed: 7,
            rounds: 200,
            machines: 24,
            slow: 0,
            behaviour: Behaviour::Honest,
            cheats: 0,
            judged: false,
            known: 25,
            skill: (35, 65),
            sight: (70, 85),
            recorded: Vec::new(),
            answer: AnswerPlan {
                size: 8,
                own: 4,
                common: 2,
            },
            critique: CritiquePlan {
                groups: 12,
                size: 4,
            },
            resolve: ResolvePlan {
                groups: 3,
                size: 4,
                read: 4,
            },
        }
    }
}

impl Scenario {
    /// The usual swarm with this share of cheats, in per cent.
    pub fn of(behaviour: Behaviour, cheats: u8) -> Self {
        Self {
            name: format!("{cheats}% {behaviour}"),
            behaviour,
            cheats,
            ..Self::default()
        }
    }

    /// Reads a scenario; what it does not say is as in [`Scenario::default`].
    ///
    /// # Errors
    /// Not TOML, unknown keys, or values that cannot be.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self =
            toml::from_str(text).map_err(|error| ScenarioError::Toml(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// How many machines cheat.
    pub fn cheating(&self) -> u16 {
        let cheating = u32::from(self.machines) * u32::from(self.cheats) / 100;
        u16::try_from(cheating).unwrap_or(self.machines)
    }

    /// # Errors
    /// A value that cannot be, with what would be right.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let within = |key, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            let expected = format!("{low} to {high}");
            Err(ScenarioError::Invalid {
                key,
                expected,
                value,
            })
        };
        within("rounds", self.rounds, 1, 1_000_000)?;
        within("machines", self.machines.into(), 2, 256)?;
        within("cheats", self.cheats.into(), 0, 90)?;
        let honest = self.machines - self.cheating();
        within("slow", self.slow.into(), 0, u64::from(honest) - 1)?;
        within("known", self.known.into(), 0, 100)?;
        for (key, (low, high)) in [("skill", self.skill), ("sight", self.sight)] {
            within(key, high.into(), low.into(), 100)?;
        }
        for policy in &self.recorded {
            if let Some(key) = policy.lacks() {
                let name = policy.name.chars().take(40).collect();
                return Err(ScenarioError::Recorded { name, key });
            }
        }
        within("answer.size", self.answer.size.into(), 2, 64)?;
        within("answer.own", self.answer.own.into(), 0, 64)?;
        within("answer.common", self.answer.common.into(), 0, 64)?;
        let items = u64::from(self.answer.own) + u64::from(self.answer.common);
        within("answer.own + answer.common", items, 1, 64)?;
        within("critique.groups", self.critique.groups.into(), 0, 64)?;
        within("critique.size", self.critique.size.into(), 1, 64)?;
        within("resolve.groups", self.resolve.groups.into(), 0, items)?;
        within("resolve.size", self.resolve.size.into(), 1, 64)?;
        within("resolve.read", self.resolve.read.into(), 1, 16)
    }

    /// The swarm's manifest: all built-in environments, and this scenario's sizes.
    pub(super) fn manifest(&self) -> Manifest {
        Manifest {
            answer: self.answer,
            critique: self.critique,
            resolve: self.resolve,
            ..sim::manifest()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_says_only_what_differs() {
        let text = "behaviour = \"gold-spotter\"\ncheats = 33\njudged = true\n";
        let scenario = Scenario::from_toml(text).unwrap();
        assert_eq!(scenario.behaviour, Behaviour::GoldSpotter);
        assert_eq!((scenario.cheating(), scenario.rounds), (7, 200));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let error = |text: &str| Scenario::from_toml(text).unwrap_err().to_string();
        assert!(error("cheat = 3").contains("cheat"));
        assert_eq!(error("cheats = 95"), "cheats must be 0 to 90, is 95");
        assert_eq!(error("machines = 1"), "machines must be 2 to 256, is 1");
        assert!(error("skill = [80, 20]").starts_with("skill must be 80 to 100"));
        let empty = "[[recorded]]\nname = \"a\"\nanswers = [50]\non_right = []\non_wrong = [7]\n";
        assert!(error(empty).contains("\"a\": on_right needs numbers"));
    }
}

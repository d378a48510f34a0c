//! The ways to cheat, and what each does differently.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a machine does. Everything that is not named it does as an honest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// Answers, judges and resolves as well as it can.
    Honest,
    /// Honest, on a machine that is too slow for half of the rounds.
    Slow,
    /// Submits the best answers it saw of others where it can, word for word.
    Copier,
    /// Says the same thing to every question and "right" to every answer.
    Lazy,
    /// Says the opposite of what it finds of every answer.
    Liar,
    /// One of a group that calls its own answers right and all others wrong,
    /// and signs cards that say so.
    Ring,
    /// Honest for the first half of the rounds, then one of a ring.
    Sleeper,
    /// Divides one machine's work among four identities.
    Splitter,
    /// Submits the work of the round before.
    Stale,
    /// Commits critiques and never reveals them.
    Withholder,
    /// Answers with text that tells the judge what to think.
    JudgeHacker,
    /// One of a ring that is honest wherever it knows the truth to be known.
    GoldSpotter,
    /// A liar that begins again under a new name every twenty rounds.
    Whitewasher,
}

impl Behaviour {
    /// All that are not honest, in order.
    pub const CHEATS: [Behaviour; 11] = [
        Behaviour::Copier,
        Behaviour::Lazy,
        Behaviour::Liar,
        Behaviour::Ring,
        Behaviour::Sleeper,
        Behaviour::Splitter,
        Behaviour::Stale,
        Behaviour::Withholder,
        Behaviour::JudgeHacker,
        Behaviour::GoldSpotter,
        Behaviour::Whitewasher,
    ];

    /// What it is in this round: sleepers wake.
    pub(super) fn at(self, round: u64, rounds: u64) -> Behaviour {
        match self {
            Behaviour::Sleeper if 2 * round <= rounds => Behaviour::Honest,
            Behaviour::Sleeper => Behaviour::Ring,
            other => other,
        }
    }

    /// Whether it is of a ring, in this round.
    pub(super) fn colludes(self) -> bool {
        matches!(self, Behaviour::Ring | Behaviour::GoldSpotter)
    }

    /// How many identities one machine has at a time.
    pub(super) fn identities(self) -> u16 {
        if self == Behaviour::Splitter { 4 } else { 1 }
    }

    /// Which name a machine goes by in a round.
    pub(super) fn name(self, round: u64) -> u64 {
        if self == Behaviour::Whitewasher {
            round.saturating_sub(1) / 20
        } else {
            0
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Behaviour::Honest => "honest",
            Behaviour::Slow => "slow",
            Behaviour::Copier => "copier",
            Behaviour::Lazy => "lazy",
            Behaviour::Liar => "liar",
            Behaviour::Ring => "ring",
            Behaviour::Sleeper => "sleeper",
            Behaviour::Splitter => "splitter",
            Behaviour::Stale => "stale",
            Behaviour::Withholder => "withholder",
            Behaviour::JudgeHacker => "judge-hacker",
            Behaviour::GoldSpotter => "gold-spotter",
            Behaviour::Whitewasher => "whitewasher",
        })
    }
}

/// Why a word is no behaviour.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no behaviour; there are honest, slow, {all}", all = Behaviour::CHEATS.map(|b| b.to_string()).join(", "))]
pub struct ParseBehaviourError(String);

impl std::str::FromStr for Behaviour {
    type Err = ParseBehaviourError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Behaviour::Honest, Behaviour::Slow]
            .into_iter()
            .chain(Behaviour::CHEATS)
            .find(|behaviour| behaviour.to_string() == text)
            .ok_or_else(|| ParseBehaviourError(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_is_read_as_it_is_written() {
        for behaviour in Behaviour::CHEATS {
            let word = behaviour.to_string();
            assert_eq!(word.parse(), Ok(behaviour));
            assert_eq!(
                serde_json::to_string(&behaviour).unwrap(),
                format!("{word:?}")
            );
        }
        assert!("saint".parse::<Behaviour>().is_err());
    }
}

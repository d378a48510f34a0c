//! Who holds whose answers right more often than others do: what a ring shows
//! of itself.
//!
//! Members of a ring call each other's answers right and others' wrong. One
//! verdict says nothing, but over rounds each member stands above the other
//! critics of the same answers, on the answers of its own, and they do so in
//! turn. Nothing is judged by this: it is a statistic to look at, of public
//! data, and it needs no truth.
//!
//! The favour of `a` for `b` is the mean, over answers of `b` that `a` and at
//! least two more judged, of `a`'s share of "right" less the mean share of the
//! other critics of that answer. Two peers *stand together* where each favours
//! the other by more than [`PLAIN`] with three standard errors to spare, over
//! at least [`ENOUGH`] answers each way.

use std::collections::BTreeMap;

use crate::Scoreboard;

/// Answers that say anything, each way.
pub const ENOUGH: u64 = 12;
/// The favour that is nothing unusual, in ppm.
pub const PLAIN: i64 = 100_000;
/// Critics of an answer, of whom one is held against the others.
const CRITICS: usize = 3;

/// How one peer judges another's answers beside how others judge them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Favour {
    /// Answers that both it and enough others judged.
    pub answers: u64,
    /// Sum and sum of squares of what its share of "right" is above theirs, in ppm.
    sum: i64,
    squares: u128,
}

impl Favour {
    fn add(&mut self, above: i64) {
        self.answers += 1;
        self.sum = self.sum.saturating_add(above);
        let square = u128::from(above.unsigned_abs()).pow(2);
        self.squares = self.squares.saturating_add(square);
    }

    /// How far it stands above the others, in ppm: from minus to plus one million.
    #[must_use]
    pub fn mean(&self) -> i64 {
        self.sum / i64::try_from(self.answers.max(1)).unwrap_or(i64::MAX)
    }

    /// The standard error of the mean, in ppm, rounded down.
    #[must_use]
    pub fn error(&self) -> i64 {
        let count = u128::from(self.answers);
        if count < 2 {
            return 1_000_000;
        }
        let sum = u128::from(self.sum.unsigned_abs());
        let spread = self.squares.saturating_sub(sum * sum / count);
        i64::try_from((spread / (count - 1) / count).isqrt()).unwrap_or(i64::MAX)
    }

    /// Whether it is beyond what is usual.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.answers < ENOUGH || self.mean() - 3 * self.error() <= PLAIN
    }
}

/// Favours of all for all, gathered over rounds.
#[derive(Clone, Debug)]
pub struct Favours<K>(BTreeMap<(K, K), Favour>);

impl<K> Default for Favours<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Favours<K> {
    /// Takes in a round.
    pub fn learn(&mut self, board: &Scoreboard<K>) {
        for group in &board.answers {
            for completion in &group.completions {
                let views = &completion.critiques;
                if views.len() < CRITICS {
                    continue;
                }
                let all: i64 = views.iter().map(|view| i64::from(view.right_ppm.0)).sum();
                let others = i64::try_from(views.len() - 1).unwrap_or(i64::MAX);
                for view in views {
                    let own = i64::from(view.right_ppm.0);
                    let above = own - (all - own) / others;
                    self.0
                        .entry((view.critic, group.owner))
                        .or_default()
                        .add(above);
                }
            }
        }
    }

    /// How `critic` judges the answers of `owner`.
    #[must_use]
    pub fn of(&self, critic: K, owner: K) -> Favour {
        self.0.get(&(critic, owner)).copied().unwrap_or_default()
    }

    /// The pairs that stand together, each once.
    #[must_use]
    pub fn together(&self) -> Vec<(K, K)> {
        let pairs = self.0.keys().filter(|(a, b)| a < b);
        let both =
            pairs.filter(|(a, b)| !self.of(*a, *b).is_plain() && !self.of(*b, *a).is_plain());
        both.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn favour(values: &[i64]) -> Favour {
        let mut favour = Favour::default();
        for value in values {
            favour.add(*value);
        }
        favour
    }

    #[test]
    fn the_error_is_that_of_a_mean() {
        // Of 1, 2, 3, 4, 5: variance 2.5, over 5 is 0.5.
        let five = favour(&[1_000, 2_000, 3_000, 4_000, 5_000]);
        assert_eq!((five.answers, five.mean(), five.error()), (5, 3_000, 707));
        assert_eq!(favour(&[7]).error(), 1_000_000);
        assert_eq!(favour(&[-500_000; 20]).mean(), -500_000);
    }

    #[test]
    fn much_and_often_is_not_plain_and_little_or_seldom_is() {
        assert!(!favour(&[400_000; 12]).is_plain());
        assert!(favour(&[400_000; 11]).is_plain());
        assert!(favour(&[100_000; 40]).is_plain());
        let noisy: Vec<i64> = (0..12)
            .map(|i| if i % 2 == 0 { 900_000 } else { -500_000 })
            .collect();
        assert!(favour(&noisy).is_plain());
    }
}

//! The learning rate as a function of the update's number.

use serde::{Deserialize, Serialize};

/// A linear warm-up, a plateau, and a linear decay.
///
/// Updates are counted from zero. With `total` at `None` the plateau never
/// ends, which is what a node that trains for as long as it lives wants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The learning rate of the plateau.
    pub peak: f32,
    /// Updates over which the rate climbs to the peak; the first of them
    /// already has `peak / warmup`, never zero.
    pub warmup: u64,
    /// Updates over which the rate falls to the floor, at the end of `total`.
    pub decay: u64,
    /// All updates of the run, or `None` for a run without an end.
    pub total: Option<u64>,
    /// What the decay ends at, as a share of the peak.
    pub floor: f32,
}

impl Schedule {
    /// The same rate for ever.
    pub fn constant(rate: f32) -> Self {
        Self {
            peak: rate,
            warmup: 0,
            decay: 0,
            total: None,
            floor: 1.0,
        }
    }

    /// The learning rate of update number `update`.
    pub fn at(&self, update: u64) -> f32 {
        let climbed = if update < self.warmup {
            (update + 1) as f64 / self.warmup as f64
        } else {
            1.0
        };
        let fallen = match self.total {
            Some(total) if self.decay > 0 => {
                let left = total.saturating_sub(update).min(self.decay);
                let share = left as f64 / self.decay as f64;
                f64::from(self.floor) + (1.0 - f64::from(self.floor)) * share
            }
            _ => 1.0,
        };
        (f64::from(self.peak) * climbed * fallen) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_schedule_never_changes() {
        let schedule = Schedule::constant(0.25);
        assert!(
            [0, 1, 10, u64::MAX]
                .iter()
                .all(|&update| schedule.at(update) == 0.25)
        );
    }

    #[test]
    fn the_rate_climbs_stays_and_falls_to_the_floor() {
        let schedule = Schedule {
            peak: 1.0,
            warmup: 4,
            decay: 10,
            total: Some(100),
            floor: 0.1,
        };
        let rates: Vec<f32> = (0..5).map(|update| schedule.at(update)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert_eq!(schedule.at(90), 1.0);
        assert!((schedule.at(95) - 0.55).abs() < 1e-6);
        assert!((schedule.at(100) - 0.1).abs() < 1e-6);
        assert!((schedule.at(1_000) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn the_plateau_has_no_end_without_a_total() {
        let schedule = Schedule {
            peak: 2.0,
            warmup: 2,
            decay: 5,
            total: None,
            floor: 0.0,
        };
        assert_eq!(schedule.at(u64::MAX), 2.0);
    }
}

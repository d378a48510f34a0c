//! Learning curves: what each arm came to round by round, over its seeds, as a
//! file for programs and as lines for people.

use std::fmt::Write as _;

use super::Estimate;

/// One arm: of each seed, the mean reward of answers in each round. Seeds and
/// rounds are the same in every arm.
pub(super) struct Curve<'a> {
    pub(super) arm: &'a str,
    pub(super) seeds: Vec<&'a [f64]>,
}

impl Curve<'_> {
    fn rounds(&self) -> usize {
        self.seeds.first().map_or(0, |rewards| rewards.len())
    }

    /// The reward of a round.
    fn reward(&self, round: usize) -> Estimate {
        let rewards = self.seeds.iter().map(|rewards| rewards[round]);
        Estimate::of(&rewards.collect::<Vec<f64>>())
    }

    /// All rewards up to a round, by seed.
    fn cumulative(&self, round: usize) -> Vec<f64> {
        let upto = |rewards: &&[f64]| rewards[..=round].iter().sum();
        self.seeds.iter().map(upto).collect()
    }

    /// How much more that is than another arm's, seed by seed.
    fn lead(&self, other: &Self, round: usize) -> Estimate {
        let own = self.cumulative(round).into_iter();
        let pairs = own.zip(other.cumulative(round));
        Estimate::of(&pairs.map(|(own, other)| own - other).collect::<Vec<f64>>())
    }
}

/// A line for each arm and round: reward, reward up to there, and by how much
/// that is ahead of the first arm's; each a mean with its 95% interval's half.
pub(super) fn csv(curves: &[Curve<'_>]) -> String {
    let mut text =
        String::from("arm,round,reward,reward_half,cumulative,cumulative_half,lead,lead_half\n");
    for curve in curves {
        for round in 0..curve.rounds() {
            let reward = curve.reward(round);
            let cumulative = Estimate::of(&curve.cumulative(round));
            let lead = curve.lead(&curves[0], round);
            let _ = write!(text, "{},{}", curve.arm, round + 1);
            for estimate in [reward, cumulative, lead] {
                let _ = write!(text, ",{:.6},{:.6}", estimate.mean, estimate.half);
            }
            text.push('\n');
        }
    }
    text
}

/// For each arm its reward over the rounds as bars of eight heights, from the
/// lowest of all arms to the highest, and its lead on the way.
pub(super) fn plot(curves: &[Curve<'_>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    /// Columns, at the most: of more rounds each column shows the mean of some.
    const WIDTH: usize = 48;
    let Some(first) = curves.first().filter(|curve| curve.rounds() > 0) else {
        return String::new();
    };
    let rounds = first.rounds();
    let width = WIDTH.min(rounds);
    let columns = |curve: &Curve<'_>| -> Vec<f64> {
        (0..width)
            .map(|column| {
                let span = column * rounds / width..(column + 1) * rounds / width;
                let count = span.len() as f64;
                span.map(|round| curve.reward(round).mean).sum::<f64>() / count
            })
            .collect()
    };
    let all: Vec<Vec<f64>> = curves.iter().map(columns).collect();
    let values = || all.iter().flatten().copied();
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let step = ((high - low) / 8.0).max(f64::EPSILON);
    // Where the lead is told: a third of the way, two thirds, and the end.
    let stops = [1, 2, 3].map(|third| (third * rounds / 3).max(1));
    let mut text = format!(
        "{:<14}{:<width$}  ahead of {} after {}, {}, {}\n",
        "", "", first.arm, stops[0], stops[1], stops[2]
    );
    for (curve, columns) in curves.iter().zip(&all) {
        let bar = |value: &f64| BARS[(((value - low) / step) as usize).min(7)];
        let bars: String = columns.iter().map(bar).collect();
        let leads = stops.map(|stop| format!("{:+.2}", curve.lead(first, stop - 1).mean));
        let _ = writeln!(text, "{:<14}{bars}  {}", curve.arm, leads.join("  "));
    }
    let _ = writeln!(
        text,
        "{:<14}rounds 1 to {rounds}; the lowest bar is {low:.2}, the highest {high:.2}",
        ""
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_tell_rewards_their_sums_and_who_is_ahead() {
        let alone = Curve {
            arm: "8/0",
            seeds: vec![&[0.2, 0.4, 0.6], &[0.4, 0.6, 0.8]],
        };
        let shared = Curve {
            arm: "4/4",
            seeds: vec![&[0.2, 0.5, 0.8], &[0.4, 0.7, 1.0]],
        };
        let text = csv(&[alone, shared]);
        let last = text.lines().last().unwrap();
        let fields: Vec<&str> = last.split(',').collect();
        assert_eq!(fields[..3], ["4/4", "3", "0.900000"]);
        assert_eq!(fields[4], "1.800000");
        // Each seed is 0.3 ahead: nothing is uncertain about it.
        assert_eq!(fields[6..], ["0.300000", "0.000000"]);
        assert_eq!(text.lines().count(), 1 + 2 * 3);
    }

    #[test]
    fn a_plot_goes_from_the_lowest_to_the_highest() {
        let rising: Vec<f64> = (0..96).map(|round| f64::from(round) / 100.0).collect();
        let flat = vec![0.0; 96];
        let curves = [("8/0", &flat), ("4/4", &rising)].map(|(arm, rewards)| Curve {
            arm,
            seeds: vec![rewards, rewards],
        });
        let text = plot(&curves);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].ends_with("ahead of 8/0 after 32, 64, 96"),
            "{text}"
        );
        assert!(lines[1].contains(&"▁".repeat(48)), "{text}");
        assert!(lines[1].ends_with("+0.00  +0.00  +0.00"), "{text}");
        assert!(lines[2].contains("▁▁▁▁▁▁▂"), "{text}");
        assert!(lines[2].contains('█'), "{text}");
        assert!(plot(&[]).is_empty());
    }
}

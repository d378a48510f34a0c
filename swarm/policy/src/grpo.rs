//! Group-relative policy optimisation: advantages and the token loss.
//!
//! Pure functions of numbers; `train` brings the log-probabilities. The loss
//! of a token depends on the weights through its log-probability alone, so its
//! slope there is worked out here in closed form, in f64, and handed to the
//! backward pass as a constant: the whole loss adds one multiplication to the
//! graph, and can be checked without a model.

use serde::{Deserialize, Serialize};

/// Added to the standard deviation, as TRL does.
const STD_EPSILON: f64 = 1e-4;

/// How rewards of one group become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageKind {
    /// Centred, and divided by the group's standard deviation (n - 1).
    #[default]
    Std,
    /// Centred only (Dr. GRPO): groups of near agreement move less.
    NoStd,
}

/// The advantage of each member of a group.
///
/// A group whose rewards are all equal, or of fewer than two, or with a reward
/// that is not finite, teaches nothing: its advantages are exactly zero.
pub fn advantages(rewards: &[f32], kind: AdvantageKind) -> Vec<f32> {
    let nothing = vec![0.0; rewards.len()];
    let Some((&head, rest)) = rewards.split_first() else {
        return nothing;
    };
    if rewards.iter().any(|reward| !reward.is_finite()) || rest.iter().all(|&reward| reward == head)
    {
        return nothing;
    }
    let count = rewards.len() as f64;
    let mean = rewards.iter().map(|&reward| f64::from(reward)).sum::<f64>() / count;
    let centred = rewards.iter().map(|&reward| f64::from(reward) - mean);
    let scale = match kind {
        AdvantageKind::NoStd => 1.0,
        AdvantageKind::Std => {
            let squares: f64 = centred.clone().map(|distance| distance * distance).sum();
            (squares / (count - 1.0)).sqrt() + STD_EPSILON
        }
    };
    centred.map(|distance| (distance / scale) as f32).collect()
}

/// Where the loss of a token stops to follow the ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// The ratio may fall by this much before a bad token stops to push.
    pub low: f32,
    /// The ratio may rise by this much before a good token stops to pull.
    pub high: f32,
    /// The largest ratio that counts against a token of negative advantage.
    pub negative_ratio_cap: f32,
}

/// The log-probabilities of one token, under three sets of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogProbs {
    /// Under the weights as they are.
    pub new: f32,
    /// Under the weights before the first update on this batch.
    pub old: f32,
    /// Under the frozen reference, where there is one.
    pub reference: Option<f32>,
}

/// The loss of one token and what there is to say about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLoss {
    /// To be minimised.
    pub loss: f64,
    /// Its derivative by the new log-probability.
    pub slope: f64,
    /// New probability over old.
    pub ratio: f64,
    /// Whether a clip or the cap holds the policy's part of the slope at zero.
    pub clipped: bool,
    /// Schulman's k3 estimate of the divergence from the reference, or zero.
    pub kl: f64,
}

/// Whose probabilities the ratio of new to old compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Each token's own (GRPO), with the mean loss taken over tokens.
    #[default]
    Token,
    /// The geometric mean over a completion (GSPO; Zheng et al., 2025), with
    /// the mean loss taken over completions. Such ratios stay much nearer to
    /// one: clip at a few times 1e-4.
    Sequence,
}

/// The loss of one token: with ratio `r` and advantage `A`,
/// `-min(min(r, cap) A, clamp(r, 1 - low, 1 + high) A) + kl_weight * k3`,
/// where `k3 = exp(reference - new) - (reference - new) - 1`.
pub fn token_loss(
    log_probs: TokenLogProbs,
    advantage: f32,
    clip: &Clip,
    kl_weight: Option<f32>,
) -> TokenLoss {
    let log_ratio = f64::from(log_probs.new) - f64::from(log_probs.old);
    let distance = log_probs
        .reference
        .map(|reference| f64::from(reference) - f64::from(log_probs.new));
    loss_at(log_ratio, distance, advantage, clip, kl_weight)
}

/// [`token_loss`] of a token whose ratio is the exponential of `log_ratio`, be
/// it its own or its completion's, and from which the reference is `distance`
/// away.
pub(crate) fn loss_at(
    log_ratio: f64,
    distance: Option<f64>,
    advantage: f32,
    clip: &Clip,
    kl_weight: Option<f32>,
) -> TokenLoss {
    let advantage = f64::from(advantage);
    // e^60 is far beyond every clip, and still a number.
    let ratio = log_ratio.min(60.0).exp();
    let (low, high) = (1.0 - f64::from(clip.low), 1.0 + f64::from(clip.high));
    let clipped = if advantage > 0.0 {
        ratio > high
    } else {
        ratio < low || ratio > f64::from(clip.negative_ratio_cap)
    };
    let effective = if advantage > 0.0 {
        ratio.min(high)
    } else {
        ratio.max(low).min(f64::from(clip.negative_ratio_cap))
    };
    let mut loss = -effective * advantage;
    let mut slope = if clipped { 0.0 } else { -ratio * advantage };
    let mut kl = 0.0;
    if let (Some(distance), Some(weight)) = (distance, kl_weight) {
        let distance = distance.min(60.0);
        kl = distance.exp() - distance - 1.0;
        loss += f64::from(weight) * kl;
        slope += f64::from(weight) * (1.0 - distance.exp());
    }
    TokenLoss {
        loss,
        slope,
        ratio,
        clipped: clipped && advantage != 0.0,
        kl,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: Clip = Clip {
        low: 0.2,
        high: 0.28,
        negative_ratio_cap: 4.0,
    };

    fn assert_close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!(
                (actual - expected).abs() < 1e-6,
                "{actual} is not {expected}"
            );
        }
    }

    // r = torch.tensor([1.0, 0.1, 0.0, 1.0, 0.0, 0.1, 0.0, 0.0])
    // (r - r.mean()) / (r.std() + 1e-4), r - r.mean()       # as TRL's GRPOTrainer
    #[test]
    fn advantages_agree_with_pytorch() {
        let rewards = [1.0, 0.1, 0.0, 1.0, 0.0, 0.1, 0.0, 0.0];
        let (a, b, c) = (1.612_175_2, -0.389_145_7, -0.611_514_7);
        assert_close(
            &advantages(&rewards, AdvantageKind::Std),
            &[a, b, c, a, c, b, c, c],
        );
        let (a, b, c) = (0.725, -0.175, -0.275);
        assert_close(
            &advantages(&rewards, AdvantageKind::NoStd),
            &[a, b, c, a, c, b, c, c],
        );
    }

    #[test]
    fn groups_that_teach_nothing_have_zero_advantages() {
        for kind in [AdvantageKind::Std, AdvantageKind::NoStd] {
            assert!(advantages(&[], kind).is_empty());
            assert_eq!(advantages(&[0.7], kind), [0.0]);
            // Three times 0.1 does not sum to 0.3: equality is exact, not by the mean.
            assert_eq!(advantages(&[0.1; 3], kind), [0.0; 3]);
            assert_eq!(advantages(&[1.0, f32::NAN], kind), [0.0; 2]);
            assert_eq!(advantages(&[f32::INFINITY, 0.0], kind), [0.0; 2]);
        }
    }

    // The token loss of TRL's GRPOTrainer with delta=4, in f64 (PyTorch 2.15):
    //
    // new = torch.tensor([-1.0, -0.5, -2.0, -0.2, -3.0, -1.0, -1.0, -0.7], requires_grad=True)
    // old = torch.tensor([-1.0, -1.0, -1.0, -0.9, -5.0, -1.2, -0.4, -0.7])
    // ref = torch.tensor([-1.1, -0.4, -1.0, -1.2, -2.5, -1.0, -0.2, -3.0])
    // adv = torch.tensor([ 0.8,  0.8,  0.8, -1.1, -1.1, -1.1, -1.1,  1.5])
    // coef_1 = torch.exp(new - old)
    // coef_2 = torch.clamp(coef_1, 1 - 0.2, 1 + 0.28)
    // coef_1 = torch.clamp(coef_1, max=4.0)
    // kl = torch.exp(ref - new) - (ref - new) - 1
    // loss = -torch.min(coef_1 * adv, coef_2 * adv) + 0.04 * kl
    // loss.sum().backward()
    // print(loss, new.grad, kl)
    #[test]
    fn losses_and_slopes_agree_with_pytorch() {
        let new = [-1.0, -0.5, -2.0, -0.2, -3.0, -1.0, -1.0, -0.7];
        let old = [-1.0, -1.0, -1.0, -0.9, -5.0, -1.2, -0.4, -0.7];
        let reference = [-1.1, -0.4, -1.0, -1.2, -2.5, -1.0, -0.2, -3.0];
        let advantages = [0.8, 0.8, 0.8, -1.1, -1.1, -1.1, -1.1, 1.5];
        let losses = [
            -0.7998065033,
            -1.0237931633,
            -0.2655722798,
            2.2298431559,
            4.4059488508,
            1.3435430340,
            0.8970216371,
            -1.4439896463,
        ];
        let slopes = [
            -0.7961934967,
            -0.0042068367,
            -0.3630348261,
            2.2404128006,
            -0.0259488508,
            1.3435430340,
            -0.0490216371,
            -1.4640103537,
        ];
        let divergences = [
            0.0048374180,
            0.0051709181,
            0.7182818285,
            0.3678794412,
            0.1487212707,
            0.0,
            0.4255409285,
            1.4002588437,
        ];
        let clipped = [false, true, false, false, true, false, true, false];
        for token in 0..8 {
            let log_probs = TokenLogProbs {
                new: new[token],
                old: old[token],
                reference: Some(reference[token]),
            };
            let found = token_loss(log_probs, advantages[token], &CLIP, Some(0.04));
            // The inputs are f32 here and f64 there.
            for (found, expected) in [
                (found.loss, losses[token]),
                (found.slope, slopes[token]),
                (found.kl, divergences[token]),
            ] {
                let expected: f64 = expected;
                assert!(
                    (found - expected).abs() < 2e-6,
                    "token {token}: {found} is not {expected}"
                );
            }
            assert_eq!(found.clipped, clipped[token], "token {token}");
        }
    }

    #[test]
    fn the_slope_is_the_derivative_of_the_loss() {
        let mut checked = 0;
        for new in [-6.0_f32, -3.1, -1.3, -1.0, -0.9, -0.4, -0.1] {
            for (old, reference, advantage) in [
                (-1.0_f32, -0.5_f32, 0.9_f32),
                (-1.0, -2.0, -0.7),
                (-2.5, -2.0, -1.5),
            ] {
                let at = |new| {
                    let log_probs = TokenLogProbs {
                        new,
                        old,
                        reference: Some(reference),
                    };
                    token_loss(log_probs, advantage, &CLIP, Some(0.1))
                };
                // A power of two, so that the sums are exact in f32.
                let nudge = 2.0_f32.powi(-12);
                let (below, here, above) = (at(new - nudge), at(new), at(new + nudge));
                if below.clipped != above.clipped {
                    continue; // the kink
                }
                let measured = (above.loss - below.loss) / f64::from(2.0 * nudge);
                let scale = here.slope.abs().max(1.0);
                assert!(
                    (measured - here.slope).abs() / scale < 1e-4,
                    "at {new}: {measured} is not {}",
                    here.slope
                );
                checked += 1;
            }
        }
        assert!(checked > 15);
    }

    #[test]
    fn each_clip_stops_only_what_it_should() {
        let slope = |ratio: f32, advantage| {
            let log_probs = TokenLogProbs {
                new: ratio.ln() - 8.0,
                old: -8.0,
                reference: None,
            };
            token_loss(log_probs, advantage, &CLIP, None).slope
        };
        // A good token that has become likely enough is left alone; one that
        // has become unlikely is still pulled.
        assert_eq!(slope(1.3, 1.0), 0.0);
        assert!(slope(1.27, 1.0) < 0.0);
        assert!(slope(0.1, 1.0) < 0.0);
        // A bad token that has become unlikely enough is left alone; one that
        // has become likely is pushed, up to the cap.
        assert_eq!(slope(0.79, -1.0), 0.0);
        assert!(slope(0.81, -1.0) > 0.0);
        assert!(slope(3.9, -1.0) > 0.0);
        assert_eq!(slope(4.1, -1.0), 0.0);
    }

    #[test]
    fn extreme_log_probabilities_stay_finite() {
        for (new, old) in [(0.0, -1e30), (-1e30, 0.0), (-200.0, -1.0), (-1.0, -200.0)] {
            for advantage in [1.5, -1.5, 0.0] {
                let log_probs = TokenLogProbs {
                    new,
                    old,
                    reference: Some(old),
                };
                let found = token_loss(log_probs, advantage, &CLIP, Some(0.04));
                assert!(
                    found.loss.is_finite() && found.slope.is_finite() && found.ratio.is_finite()
                );
            }
        }
    }
}

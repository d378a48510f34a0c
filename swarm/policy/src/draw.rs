//! One token from a row of logits.

use crate::random::uniform;
use crate::slices::{exp, exponentiate, vectorized};

/// How to choose among tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Zero takes the likeliest token.
    pub(crate) temperature: f32,
    /// Keep the likeliest tokens that hold this share of the probability.
    pub(crate) top_p: f32,
}

/// Working memory, kept between draws.
#[derive(Default)]
pub(crate) struct Drawer {
    weights: Vec<f32>,
    order: Vec<u32>,
}

impl Drawer {
    /// The token drawn for `key`, and its log-probability under the logits
    /// themselves (neither tempered nor cut); `None` if these are not finite.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        choice: Choice,
        key: &[u64],
    ) -> Option<(u32, f32)> {
        let weights = &mut self.weights;
        weights.clear();
        weights.extend_from_slice(logits);
        let total = vectorized(
            #[inline(always)]
            || exponentiate(weights),
        );
        let (likeliest, &largest) = logits
            .iter()
            .enumerate()
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        // A sum that is not a number, or an infinite logit, is a broken model.
        if !(total.is_finite() && largest.is_finite()) || logits.iter().any(|logit| logit.is_nan())
        {
            return None;
        }
        let log_total = largest + total.ln();
        let log_prob = |token: usize| logits[token] - log_total;
        if choice.temperature == 0.0 {
            return Some((likeliest as u32, log_prob(likeliest)));
        }
        if choice.temperature != 1.0 {
            let inverse = 1.0 / choice.temperature;
            vectorized(
                #[inline(always)]
                || {
                    for (weight, &logit) in weights.iter_mut().zip(logits) {
                        *weight = exp((logit - largest) * inverse);
                    }
                },
            );
        }
        let point = uniform(key);
        let token = if choice.top_p < 1.0 {
            let weights = &self.weights;
            let order = &mut self.order;
            order.clear();
            order.extend(0..weights.len() as u32);
            // Ties are broken by the token, so that the order is one.
            order.sort_unstable_by(|&left, &right| {
                weights[right as usize]
                    .total_cmp(&weights[left as usize])
                    .then(left.cmp(&right))
            });
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let goal = total * f64::from(choice.top_p);
            let mut held = 0.0;
            let kept = order
                .iter()
                .position(|&token| {
                    held += f64::from(weights[token as usize]);
                    held >= goal
                })
                .map_or(order.len(), |last| last + 1);
            pick(&order[..kept], weights, point) as usize
        } else {
            pick_any(&self.weights, point)
        };
        Some((token as u32, log_prob(token)))
    }
}

/// The token of `tokens` at `point` of their cumulative weight.
fn pick(tokens: &[u32], weights: &[f32], point: f64) -> u32 {
    let weight = |&token: &u32| f64::from(weights[token as usize]);
    let mut left = point * tokens.iter().map(weight).sum::<f64>();
    for token in tokens {
        left -= weight(token);
        if left < 0.0 {
            return *token;
        }
    }
    tokens[0] // rounding alone leads here
}

fn pick_any(weights: &[f32], point: f64) -> usize {
    let mut left = point * weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
    for (token, &weight) in weights.iter().enumerate() {
        left -= f64::from(weight);
        if left < 0.0 {
            return token;
        }
    }
    weights
        .iter()
        .rposition(|&weight| weight > 0.0)
        .unwrap_or(0) // rounding alone leads here
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -30.0, 2.0];

    fn shares(choice: Choice) -> [f64; 5] {
        let mut drawer = Drawer::default();
        let mut counts = [0.0; 5];
        for step in 0..40_000u64 {
            let (token, _) = drawer.draw(&LOGITS, choice, &[3, 1, step]).unwrap();
            counts[token as usize] += 1.0 / 40_000.0;
        }
        counts
    }

    fn assert_near(shares: [f64; 5], weights: [f64; 5]) {
        let total: f64 = weights.iter().sum();
        for (share, weight) in shares.iter().zip(weights) {
            assert!(
                (share - weight / total).abs() < 0.01,
                "{shares:?} against {weights:?}"
            );
        }
    }

    #[test]
    fn draws_follow_the_distribution() {
        let e = std::f64::consts::E;
        let plain = Choice {
            temperature: 1.0,
            top_p: 1.0,
        };
        assert_near(shares(plain), [1.0, e * e, e, 0.0, e * e]);
        assert_near(
            shares(Choice {
                temperature: 2.0,
                ..plain
            }),
            [1.0, e, e.sqrt(), 0.0, e],
        );
        // Two tokens hold 80%, three 95%.
        assert_near(
            shares(Choice {
                top_p: 0.75,
                ..plain
            }),
            [0.0, 1.0, 0.0, 0.0, 1.0],
        );
        assert_near(
            shares(Choice {
                top_p: 0.9,
                ..plain
            }),
            [0.0, e, 1.0, 0.0, e],
        );
        assert_near(
            shares(Choice {
                top_p: 1e-6,
                ..plain
            }),
            [0.0, 1.0, 0.0, 0.0, 0.0],
        );
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest_and_reports_plain_log_probs() {
        let mut drawer = Drawer::default();
        for temperature in [0.0, 0.3, 1.0, 5.0] {
            let choice = Choice {
                temperature,
                top_p: 1.0,
            };
            let (token, log_prob) = drawer.draw(&LOGITS, choice, &[9]).unwrap();
            let total: f32 = LOGITS.iter().map(|logit| logit.exp()).sum();
            assert!((log_prob - (LOGITS[token as usize] - total.ln())).abs() < 1e-6);
            assert!(temperature > 0.0 || token == 1);
        }
    }

    #[test]
    fn broken_logits_are_noticed() {
        let mut drawer = Drawer::default();
        let choice = Choice {
            temperature: 1.0,
            top_p: 1.0,
        };
        for bad in [f32::NAN, f32::INFINITY] {
            let mut logits = LOGITS;
            logits[2] = bad;
            assert!(drawer.draw(&logits, choice, &[1]).is_none());
        }
        assert!(drawer.draw(&[], choice, &[1]).is_none());
    }
}

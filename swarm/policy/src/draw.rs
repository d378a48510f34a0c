//! One token from a row of logits.

use crate::random::uniform;
use crate::slices::{exp, maximum, sum_map, vectorized};

/// How to choose among tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Zero takes the likeliest token.
    pub(crate) temperature: f32,
    /// Keep so many of the likeliest tokens.
    pub(crate) top_k: Option<usize>,
    /// Of those, keep the likeliest that hold this share of their probability.
    pub(crate) top_p: f32,
}

/// Tokens whose weights are summed together: a draw first finds the block and
/// then the token, and so computes hardly a weight twice.
const BLOCK: usize = 256;

/// Working memory, kept between draws.
#[derive(Default)]
pub(crate) struct Drawer {
    sums: Vec<f64>, // of blocks
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
        let largest = vectorized(
            #[inline(always)]
            || maximum(logits),
        );
        let total = self.weigh(logits, largest, 1.0);
        // A sum that is not a number, or an infinite logit, is a broken model.
        if !(total.is_finite() && largest.is_finite()) {
            return None;
        }
        let log_total = largest + total.ln() as f32;
        let token = if choice.temperature == 0.0 {
            logits.iter().position(|&logit| logit == largest)?
        } else {
            let sharpness = 1.0 / choice.temperature;
            let point = uniform(key);
            if choice.top_k.is_some() || choice.top_p < 1.0 {
                self.pick_kept(logits, largest, sharpness, choice, point)
            } else {
                let total = match sharpness {
                    1.0 => total,
                    _ => self.weigh(logits, largest, sharpness),
                };
                self.pick(logits, largest, sharpness, point * total)
            }
        };
        Some((token as u32, logits[token] - log_total))
    }

    /// Sums the weights of each block; returns their total.
    fn weigh(&mut self, logits: &[f32], largest: f32, sharpness: f32) -> f64 {
        self.sums.clear();
        let sums = &mut self.sums;
        vectorized(
            #[inline(always)]
            || {
                for block in logits.chunks(BLOCK) {
                    let sum = sum_map(block, |logit| exp((logit - largest) * sharpness));
                    sums.push(f64::from(sum));
                }
            },
        );
        self.sums.iter().sum()
    }

    /// The token at `point` of the cumulative weight, given the blocks' sums.
    fn pick(&self, logits: &[f32], largest: f32, sharpness: f32, point: f64) -> usize {
        let mut left = point;
        let block = self.sums.iter().position(|sum| {
            let here = left < *sum;
            if !here {
                left -= sum;
            }
            here
        });
        // Rounding alone leads to the end, of all blocks or of one.
        let block = block.unwrap_or(self.sums.len() - 1) * BLOCK;
        let end = logits.len().min(block + BLOCK);
        let mut last = block;
        for (token, &logit) in logits[..end].iter().enumerate().skip(block) {
            let weight = exp((logit - largest) * sharpness);
            if weight > 0.0 {
                last = token;
            }
            left -= f64::from(weight);
            if left < 0.0 {
                return token;
            }
        }
        last
    }

    /// A token among the likeliest, at `point` of their cumulative weight in
    /// the order of tokens.
    fn pick_kept(
        &mut self,
        logits: &[f32],
        largest: f32,
        sharpness: f32,
        choice: Choice,
        point: f64,
    ) -> usize {
        let weights = &mut self.weights;
        weights.clear();
        weights.extend_from_slice(logits);
        vectorized(
            #[inline(always)]
            || {
                for weight in weights.iter_mut() {
                    *weight = exp((*weight - largest) * sharpness);
                }
            },
        );
        let weights = &self.weights;
        let order = &mut self.order;
        order.clear();
        order.extend(0..weights.len() as u32);
        if let Some(count) = choice.top_k.filter(|&count| count < order.len()) {
            order.select_nth_unstable_by(count - 1, |left, right| likelier(weights, left, right));
            order.truncate(count);
        }
        if choice.top_p < 1.0 {
            keep_share(order, weights, f64::from(choice.top_p));
        }
        order.sort_unstable();
        let weight = |&token: &u32| f64::from(weights[token as usize]);
        let mut left = point * order.iter().map(weight).sum::<f64>();
        for token in order.iter() {
            left -= weight(token);
            if left < 0.0 {
                return *token as usize;
            }
        }
        order[order.len() - 1] as usize // rounding alone leads here
    }
}

/// The likelier token first; ties are broken by the token, so that the order
/// is one.
fn likelier(weights: &[f32], left: &u32, right: &u32) -> std::cmp::Ordering {
    weights[*right as usize]
        .total_cmp(&weights[*left as usize])
        .then(left.cmp(right))
}

/// Keeps the fewest of the likeliest tokens that hold `share` of the weight.
/// Halves what is undecided until it is one token: sorting it all would cost
/// more than the model's own arithmetic.
fn keep_share(order: &mut Vec<u32>, weights: &[f32], share: f64) {
    let weigh = |tokens: &[u32]| -> f64 {
        let weight = |&token: &u32| f64::from(weights[token as usize]);
        tokens.iter().map(weight).sum()
    };
    let mut goal = share * weigh(order);
    // Those below the mean share of what is to be cut can't be among the kept:
    // together they hold less than it.
    let least = (weigh(order) - goal) / order.len() as f64;
    order.retain(|&token| f64::from(weights[token as usize]) >= least);
    let (mut kept, mut end) = (0, order.len());
    while end - kept > 1 {
        let undecided = &mut order[kept..end];
        let middle = undecided.len() / 2;
        undecided.select_nth_unstable_by(middle, |left, right| likelier(weights, left, right));
        undecided[..middle].sort_unstable(); // so that its sum has one order
        let upper = weigh(&undecided[..middle]);
        if upper >= goal {
            end = kept + middle;
        } else {
            goal -= upper;
            kept += middle;
        }
    }
    order.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::normals;

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
            top_k: None,
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
        // The first of two equals; then a share of the three likeliest.
        let few = |top_k, top_p| Choice {
            top_k: Some(top_k),
            top_p,
            ..plain
        };
        assert_near(shares(few(1, 1.0)), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_near(shares(few(3, 1.0)), [0.0, e, 1.0, 0.0, e]);
        assert_near(shares(few(3, 0.8)), [0.0, 1.0, 0.0, 0.0, 1.0]);
        assert_near(shares(few(9, 1.0)), [1.0, e * e, e, 0.0, e * e]);
    }

    #[test]
    fn what_is_kept_is_the_shortest_sorted_prefix_that_holds_the_share() {
        for seed in 0..40 {
            let size = 1 + (seed as usize * 37) % 600;
            let logits: Vec<f32> = normals(seed, 1, size)
                .iter()
                .map(|draw| (draw * 8.0).round() / 4.0) // with ties
                .collect();
            let weights: Vec<f32> = logits.iter().map(|logit| logit.exp()).collect();
            let mut sorted: Vec<u32> = (0..size as u32).collect();
            sorted.sort_by(|left, right| likelier(&weights, left, right));
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for share in [1e-9, 0.1, 0.5, 0.9, 0.999] {
                let mut kept: Vec<u32> = (0..size as u32).collect();
                keep_share(&mut kept, &weights, share);
                kept.sort_by(|left, right| likelier(&weights, left, right));
                assert_eq!(kept, sorted[..kept.len()], "seed {seed}, share {share}");
                let mass = |tokens: &[u32]| -> f64 {
                    tokens
                        .iter()
                        .map(|&at| f64::from(weights[at as usize]))
                        .sum()
                };
                assert!(mass(&kept) >= share * total * (1.0 - 1e-12));
                assert!(mass(&kept[..kept.len() - 1]) < share * total * (1.0 + 1e-12));
            }
        }
    }

    #[test]
    fn draws_from_many_tokens_find_their_block() {
        let logits: Vec<f32> = (0..1000)
            .map(|at| ((at * 7919) % 97) as f32 / 20.0)
            .collect();
        let plain = Choice {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
        };
        // Everything kept, through the other path.
        let kept = Choice {
            top_k: Some(1000),
            ..plain
        };
        let mut drawer = Drawer::default();
        for step in 0..2_000u64 {
            let (token, log_prob) = drawer.draw(&logits, plain, &[step]).unwrap();
            assert_eq!(
                (token, log_prob),
                drawer.draw(&logits, kept, &[step]).unwrap()
            );
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest_and_reports_plain_log_probs() {
        let mut drawer = Drawer::default();
        for temperature in [0.0, 0.3, 1.0, 5.0] {
            let choice = Choice {
                temperature,
                top_k: None,
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
            top_k: None,
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

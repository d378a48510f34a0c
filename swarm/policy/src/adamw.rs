//! AdamW as `torch.optim.AdamW` has it: in one loop over memory on a CPU, with
//! tensor operations elsewhere.

use crate::error::Result;
use crate::slices::vectorized;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor, Var};
use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::ops::Range;

/// What AdamW can be told, with PyTorch's defaults except that nothing decays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// How slowly the mean of the gradient forgets.
    pub beta1: f32,
    /// How slowly the mean of its square forgets.
    pub beta2: f32,
    /// Added to the denominator.
    pub epsilon: f32,
    /// Share of a matrix that is taken away per unit of learning rate.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// The numbers of one AdamW update, worked out once for a whole variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coefficients {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    gradient_scale: f32,
    /// What is left of a weight after its decay.
    kept: f32,
    /// The learning rate over the first moment's bias correction.
    step_size: f32,
    /// The root of the second moment's bias correction.
    second_root: f32,
}

impl Coefficients {
    pub(crate) fn new(
        adamw: &AdamW,
        decay: f32,
        rate: f32,
        gradient_scale: f32,
        update: u64,
    ) -> Self {
        // In f64: 1 - 0.999^t loses half of an f32's digits at first.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(update as f64);
        Self {
            beta1: adamw.beta1,
            beta2: adamw.beta2,
            epsilon: adamw.epsilon,
            gradient_scale,
            kept: 1.0 - rate * decay,
            step_size: (f64::from(rate) / correction(adamw.beta1)) as f32,
            second_root: correction(adamw.beta2).sqrt() as f32,
        }
    }

    /// One pass over slices of equal length, whose weights come in blocks,
    /// shared among threads.
    fn update_slices<W, G>(
        &self,
        weights: impl IndexedParallelIterator<Item = W>,
        gradient: &[G],
        moments: &mut Moments<'_>,
        widen: impl Fn(G) -> f32 + Sync + Copy,
    ) where
        W: IntoIterator<Item: Weight> + Send,
        G: Copy + Sync,
    {
        let (first, second) = moments;
        weights
            .zip(gradient.par_chunks(BLOCK))
            .zip(first.par_chunks_mut(BLOCK))
            .zip(second.par_chunks_mut(BLOCK))
            .for_each(|(((weights, gradient), first), second)| {
                vectorized(
                    #[inline(always)]
                    || self.update_block(weights, gradient, first, second, widen),
                );
            });
    }

    #[inline(always)]
    fn update_block<G: Copy>(
        &self,
        weights: impl IntoIterator<Item: Weight>,
        gradient: &[G],
        first: &mut [f32],
        second: &mut [f32],
        widen: impl Fn(G) -> f32,
    ) {
        let (forget1, forget2) = (1.0 - self.beta1, 1.0 - self.beta2);
        for (((mut weight, &slope), first), second) in
            weights.into_iter().zip(gradient).zip(first).zip(second)
        {
            let slope = widen(slope) * self.gradient_scale;
            *first = self.beta1 * *first + forget1 * slope;
            *second = self.beta2 * *second + forget2 * slope * slope;
            let denominator = second.sqrt() / self.second_root + self.epsilon;
            weight.write(weight.read() * self.kept - self.step_size * (*first / denominator));
        }
    }

    /// The same with tensors, for devices whose memory is not ours to walk.
    pub(crate) fn update_tensors(
        &self,
        variable: &Var,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
    ) -> Result<()> {
        let slope = (gradient.to_dtype(DType::F32)? * f64::from(self.gradient_scale))?;
        let blend = |old: &Tensor, new: Tensor, beta: f32| -> Result<Tensor> {
            Ok(((old * f64::from(beta))? + (new * f64::from(1.0 - beta))?)?)
        };
        *second = blend(second, slope.sqr()?, self.beta2)?;
        *first = blend(first, slope, self.beta1)?;
        let denominator =
            ((second.sqrt()? / f64::from(self.second_root))? + f64::from(self.epsilon))?;
        let moved = ((variable.as_detached_tensor() * f64::from(self.kept))?
            - ((&*first / denominator)? * f64::from(self.step_size))?)?;
        Ok(variable.set(&moved)?)
    }

    /// One pass over a variable's own storage, which is on the CPU: in f32, or
    /// in bf16 with the `rest` of each weight beside it.
    pub(crate) fn update_in_place(
        &self,
        variable: &Var,
        gradient: &Tensor,
        moments: Moments<'_>,
        rest: &mut [i16],
    ) -> Result<()> {
        let in_place = InPlace {
            coefficients: *self,
            memory: RefCell::new((moments, rest)),
        };
        Ok(variable.inplace_op2(gradient, &in_place)?)
    }
}

/// The first and the second moment of each weight of a variable.
pub(crate) type Moments<'a> = (&'a mut [f32], &'a mut [f32]);

/// Weights that are updated together by one thread.
const BLOCK: usize = 1 << 16;

/// A weight as the update reads and writes it.
trait Weight {
    fn read(&self) -> f32;
    fn write(&mut self, exact: f32);
}

impl Weight for &mut f32 {
    #[inline(always)]
    fn read(&self) -> f32 {
        **self
    }

    #[inline(always)]
    fn write(&mut self, exact: f32) {
        **self = exact;
    }
}

impl Weight for (&mut bf16, &mut i16) {
    #[inline(always)]
    fn read(&self) -> f32 {
        join(*self.0, *self.1)
    }

    #[inline(always)]
    fn write(&mut self, exact: f32) {
        (*self.0, *self.1) = split(exact);
    }
}

/// A number as the nearest bf16 and what is missing: its lower sixteen bits,
/// negative where it was rounded up. A weight in bf16 so has its master in f32
/// for two bytes more, not four (Split-SGD, Kalamkar et al., 2019).
#[inline(always)]
pub(crate) fn split(exact: f32) -> (bf16, i16) {
    let bits = exact.to_bits();
    let upper = bits.wrapping_add(0x8000) >> 16;
    (bf16::from_bits(upper as u16), bits as i16)
}

/// The number that was [`split`].
#[inline(always)]
pub(crate) fn join(nearest: bf16, rest: i16) -> f32 {
    let upper = u32::from(nearest.to_bits()) << 16;
    f32::from_bits(upper.wrapping_add_signed(rest.into()))
}

/// Gives the update a variable's own storage to write in.
struct InPlace<'a> {
    coefficients: Coefficients,
    memory: RefCell<(Moments<'a>, &'a mut [i16])>,
}

impl InplaceOp2 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weights: &mut CpuStorage,
        weights_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<()> {
        let (Some((start, end)), Some((from, to))) = (
            weights_layout.contiguous_offsets(),
            gradient_layout.contiguous_offsets(),
        ) else {
            candle_core::bail!("adamw in place needs contiguous weights and gradients");
        };
        let (moments, rest) = &mut *self.memory.borrow_mut();
        let (count, gradients, known) = (end - start, to - from, moments.0.len());
        if gradients != count || known != count {
            candle_core::bail!("adamw: {count} weights, {gradients} gradients, {known} moments");
        }
        match weights {
            CpuStorage::F32(weights) => {
                let blocks = weights[start..end].par_chunks_mut(BLOCK);
                self.update(blocks, gradient, from..to, moments)
            }
            CpuStorage::BF16(weights) if rest.len() == count => {
                let blocks = weights[start..end]
                    .par_chunks_mut(BLOCK)
                    .zip(rest.par_chunks_mut(BLOCK))
                    .map(|(nearest, rest)| nearest.iter_mut().zip(rest));
                self.update(blocks, gradient, from..to, moments)
            }
            _ => candle_core::bail!("adamw in place takes weights in f32 or, with a rest, in bf16"),
        }
    }
}

impl InPlace<'_> {
    fn update<W: IntoIterator<Item: Weight> + Send>(
        &self,
        weights: impl IndexedParallelIterator<Item = W>,
        gradient: &CpuStorage,
        range: Range<usize>,
        moments: &mut Moments<'_>,
    ) -> candle_core::Result<()> {
        let coefficients = &self.coefficients;
        match gradient {
            CpuStorage::F32(gradient) => {
                coefficients.update_slices(weights, &gradient[range], moments, |slope| slope);
            }
            CpuStorage::BF16(gradient) => {
                coefficients.update_slices(weights, &gradient[range], moments, bf16::to_f32);
            }
            _ => candle_core::bail!("adamw in place takes gradients in f32 or bf16"),
        }
        Ok(())
    }
}

//! AdamW as `torch.optim.AdamW` has it: in one loop over memory on a CPU, with
//! tensor operations elsewhere.

use crate::error::Result;
use crate::slices::vectorized;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

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

    /// One pass over slices of equal length, shared among threads.
    fn update_slices<G: Copy + Sync>(
        &self,
        weights: &mut [f32],
        gradient: &[G],
        first: &mut [f32],
        second: &mut [f32],
        widen: impl Fn(G) -> f32 + Sync + Copy,
    ) {
        const BLOCK: usize = 1 << 16;
        weights
            .par_chunks_mut(BLOCK)
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
        weights: &mut [f32],
        gradient: &[G],
        first: &mut [f32],
        second: &mut [f32],
        widen: impl Fn(G) -> f32,
    ) {
        let (forget1, forget2) = (1.0 - self.beta1, 1.0 - self.beta2);
        for (((weight, &slope), first), second) in
            weights.iter_mut().zip(gradient).zip(first).zip(second)
        {
            let slope = widen(slope) * self.gradient_scale;
            *first = self.beta1 * *first + forget1 * slope;
            *second = self.beta2 * *second + forget2 * slope * slope;
            let denominator = second.sqrt() / self.second_root + self.epsilon;
            *weight = *weight * self.kept - self.step_size * (*first / denominator);
        }
    }

    /// The same with tensors, for devices whose memory is not ours to walk.
    /// A variable that is not f32 follows its `master`, which is.
    pub(crate) fn update_tensors(
        &self,
        variable: &Var,
        gradient: &Tensor,
        first: &mut Tensor,
        second: &mut Tensor,
        master: Option<&mut Tensor>,
    ) -> Result<()> {
        let slope = (gradient.to_dtype(DType::F32)? * f64::from(self.gradient_scale))?;
        let blend = |old: &Tensor, new: Tensor, beta: f32| -> Result<Tensor> {
            Ok(((old * f64::from(beta))? + (new * f64::from(1.0 - beta))?)?)
        };
        *second = blend(second, slope.sqr()?, self.beta2)?;
        *first = blend(first, slope, self.beta1)?;
        let denominator =
            ((second.sqrt()? / f64::from(self.second_root))? + f64::from(self.epsilon))?;
        let weight = match &master {
            Some(master) => (**master).clone(),
            None => variable.as_detached_tensor(),
        };
        let moved = ((weight * f64::from(self.kept))?
            - ((&*first / denominator)? * f64::from(self.step_size))?)?;
        variable.set(&moved.to_dtype(variable.dtype())?)?;
        if let Some(master) = master {
            *master = moved;
        }
        Ok(())
    }

    /// One pass over a variable's own storage, which must be f32 on the CPU.
    pub(crate) fn update_in_place(
        &self,
        variable: &Var,
        gradient: &Tensor,
        first: &mut [f32],
        second: &mut [f32],
    ) -> Result<()> {
        let moments = RefCell::new((first, second));
        let coefficients = *self;
        Ok(variable.inplace_op2(
            gradient,
            &InPlace {
                coefficients,
                moments,
            },
        )?)
    }
}

/// Gives the update a variable's own storage to write in.
struct InPlace<'a> {
    coefficients: Coefficients,
    moments: RefCell<(&'a mut [f32], &'a mut [f32])>,
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
        let CpuStorage::F32(weights) = weights else {
            candle_core::bail!("adamw in place is for f32");
        };
        let (Some((start, end)), Some((from, to))) = (
            weights_layout.contiguous_offsets(),
            gradient_layout.contiguous_offsets(),
        ) else {
            candle_core::bail!("adamw in place needs contiguous weights and gradients");
        };
        let weights = &mut weights[start..end];
        let (first, second) = &mut *self.moments.borrow_mut();
        if to - from != weights.len() || first.len() != weights.len() {
            candle_core::bail!(
                "adamw: {} weights, {} gradients, {} moments",
                weights.len(),
                to - from,
                first.len()
            );
        }
        let coefficients = &self.coefficients;
        match gradient {
            CpuStorage::F32(gradient) => {
                coefficients.update_slices(weights, &gradient[from..to], first, second, |x| x);
            }
            CpuStorage::BF16(gradient) => {
                let widen = half::bf16::to_f32;
                coefficients.update_slices(weights, &gradient[from..to], first, second, widen);
            }
            _ => candle_core::bail!("adamw in place takes gradients in f32 or bf16"),
        }
        Ok(())
    }
}

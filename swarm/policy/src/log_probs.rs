//! Log-probabilities of targets without their logits.
//!
//! `[rows, vocab]` is the largest tensor of a language model's training step.
//! Neither pass holds it: forward keeps one number a row, backward computes
//! the logits again, and both go by chunks of rows. For candle's graph the
//! whole is one operation with a gradient of its own:
//! `d log p(t) / d logits = onehot(t) - p`.

use crate::frozen::known;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, D, DType, Layout, MetalStorage, Result, Shape, Tensor,
};
use candle_nn::ops;

/// Log-probability (differentiable in `hidden` and `output`) and entropy
/// (detached) of each row: `hidden` is `[rows, hidden]`, `output` is
/// `[vocab, hidden]`, `targets` is `[rows]`, and there is at least one row.
/// The output has a gradient only if it `is_trained`.
pub(crate) fn log_probs(
    hidden: &Tensor,
    output: &Tensor,
    is_trained: bool,
    targets: &Tensor,
    chunk: usize,
) -> Result<(Tensor, Tensor)> {
    let rows = hidden.dim(0)?;
    let (still, fixed) = (hidden.detach(), output.detach());
    let (mut log_probs, mut entropies) = (Vec::new(), Vec::new());
    for (start, count) in chunks(rows, chunk) {
        let logits = still.narrow(0, start, count)?.matmul(&fixed.t()?)?; // [count, vocab]
        let all = ops::log_softmax(&logits, D::Minus1)?;
        let target = targets
            .narrow(0, start, count)?
            .unsqueeze(1)?
            .contiguous()?;
        log_probs.push(all.gather(&target, 1)?.squeeze(1)?);
        entropies.push((all.exp()? * all)?.sum(1)?.neg()?);
    }
    let value = Tensor::cat(&log_probs, 0)?;
    let operation = Picked {
        value,
        targets: targets.clone(),
        is_trained,
        chunk,
    };
    Ok((
        hidden.apply_op2(output, operation)?,
        Tensor::cat(&entropies, 0)?,
    ))
}

fn chunks(rows: usize, chunk: usize) -> impl Iterator<Item = (usize, usize)> {
    let chunk = chunk.max(1);
    (0..rows)
        .step_by(chunk)
        .map(move |start| (start, chunk.min(rows - start)))
}

/// The operation as the graph sees it: its value is known beforehand.
struct Picked {
    value: Tensor,   // [rows]
    targets: Tensor, // [rows]
    is_trained: bool,
    chunk: usize,
}

impl CustomOp2 for Picked {
    fn name(&self) -> &'static str {
        "log-probs"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        known::on_cpu(&self.value)
    }

    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        known::on_cuda(&self.value)
    }

    fn metal_fwd(
        &self,
        _: &MetalStorage,
        _: &Layout,
        _: &MetalStorage,
        _: &Layout,
    ) -> Result<(MetalStorage, Shape)> {
        known::on_metal(&self.value)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        output: &Tensor,
        _: &Tensor,
        slope: &Tensor, // [rows]
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (hidden, output, slope) = (hidden.detach(), output.detach(), slope.detach());
        let vocab = output.dim(0)?;
        let tokens = Tensor::arange(0u32, vocab as u32, hidden.device())?.unsqueeze(0)?;
        let mut d_hidden = Vec::new();
        let mut d_output: Option<Tensor> = None;
        for (start, count) in chunks(hidden.dim(0)?, self.chunk) {
            let rows = hidden.narrow(0, start, count)?;
            let probability = ops::softmax(&rows.matmul(&output.t()?)?, D::Minus1)?;
            let target = self.targets.narrow(0, start, count)?.unsqueeze(1)?;
            let d_logits = (target.broadcast_eq(&tokens)?.to_dtype(DType::F32)? - probability)?
                .broadcast_mul(&slope.narrow(0, start, count)?.unsqueeze(1)?)?;
            d_hidden.push(d_logits.matmul(&output)?);
            if !self.is_trained {
                continue;
            }
            let share = d_logits.t()?.matmul(&rows)?;
            d_output = Some(match d_output {
                Some(sum) => (sum + share)?,
                None => share,
            });
        }
        Ok((Some(Tensor::cat(&d_hidden, 0)?), d_output))
    }
}

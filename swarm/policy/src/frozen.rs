//! Products with weights that are not trained, for candle's graph.
//!
//! candle computes the gradients of both factors of a product and drops what
//! nobody asked for, after it has taken its memory. Here the product is made
//! outside of the graph and enters it as an operation whose value is known and
//! whose gradient is the rows' alone.

use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, MetalStorage, Result, Shape, Tensor,
};

/// `rows * weightᵀ`, differentiable in `rows`, `[rows, inputs]`; `weight` is
/// `[outputs, inputs]`.
pub(crate) fn project(rows: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let weight = weight.detach();
    let value = rows.detach().matmul(&weight.t()?)?;
    rows.apply_op1(Project { value, weight })
}

struct Project {
    value: Tensor,
    weight: Tensor,
}

impl CustomOp1 for Project {
    fn name(&self) -> &'static str {
        "frozen-projection"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        known::on_cpu(&self.value)
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        known::on_cuda(&self.value)
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        known::on_metal(&self.value)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(slope.detach().matmul(&self.weight)?))
    }
}

/// The storage of a value that was computed before its operation.
pub(crate) mod known {
    use candle_core::backend::BackendStorage;
    use candle_core::{
        CpuStorage, CudaStorage, MetalStorage, Result, Shape, Storage, Tensor, bail,
    };

    pub(crate) fn on_cpu(value: &Tensor) -> Result<(CpuStorage, Shape)> {
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Cpu(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("a value was computed on another device than its operation"),
        }
    }

    pub(crate) fn on_cuda(value: &Tensor) -> Result<(CudaStorage, Shape)> {
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Cuda(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("a value was computed on another device than its operation"),
        }
    }

    pub(crate) fn on_metal(value: &Tensor) -> Result<(MetalStorage, Shape)> {
        let (storage, layout) = value.storage_and_layout();
        match &*storage {
            Storage::Metal(storage) => Ok((storage.try_clone(layout)?, layout.shape().clone())),
            _ => bail!("a value was computed on another device than its operation"),
        }
    }
}

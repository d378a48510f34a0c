//! A decoder's variables as slices, where they lie.

use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::linear::{Matrix, Values};
use candle_core::{CpuStorage, Device, Storage, Tensor};
use std::collections::BTreeMap;

/// Every variable of a decoder by its name, and of its adapter.
pub(crate) struct Weights<'a> {
    slices: BTreeMap<&'a str, (Values<'a>, &'a [usize])>,
}

/// Lends `work` the weights of `decoder`, which nothing can write meanwhile.
/// What is not on the CPU is copied there for the time.
///
/// # Errors
/// Those of `work`; weights of a type that is neither f32 nor bf16.
pub(crate) fn with_weights<R>(
    decoder: &Decoder,
    work: impl FnOnce(&Weights<'_>) -> Result<R>,
) -> Result<R> {
    let mut tensors: Vec<(&str, Tensor)> = decoder
        .vars()
        .iter()
        .map(|(name, variable)| {
            let tensor = variable.as_detached_tensor().to_device(&Device::Cpu)?;
            Ok((name.as_str(), tensor.contiguous()?))
        })
        .collect::<Result<_>>()?;
    let scale = decoder
        .adapter()
        .map_or(1.0, |adapter| f64::from(adapter.scale()));
    let pairs = decoder
        .adapter()
        .into_iter()
        .flat_map(|adapter| adapter.vars());
    for (name, variable) in pairs {
        let mut tensor = variable.as_detached_tensor().to_device(&Device::Cpu)?;
        if name.contains(".lora_B.") {
            tensor = (tensor * scale)?;
        }
        tensors.push((name.as_str(), tensor.contiguous()?));
    }
    let guards: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor.dims(), tensor.storage_and_layout()))
        .collect();
    let mut slices = BTreeMap::new();
    for (name, shape, (storage, layout)) in &guards {
        let start = layout.start_offset();
        let range = start..start + layout.shape().elem_count();
        let values = match &**storage {
            Storage::Cpu(CpuStorage::F32(values)) => Values::F32(&values[range]),
            Storage::Cpu(CpuStorage::BF16(values)) => Values::Bf16(&values[range]),
            _ => {
                return Err(Error::Weights(format!(
                    "{name} is neither f32 nor bf16: sampling computes with those"
                )));
            }
        };
        slices.insert(*name, (values, *shape));
    }
    work(&Weights { slices })
}

impl<'a> Weights<'a> {
    fn get(&self, name: &str) -> Result<(Values<'a>, &'a [usize])> {
        self.slices
            .get(name)
            .copied()
            .ok_or_else(|| Error::Weights(format!("tensor {name} is missing")))
    }

    /// A matrix, where it lies.
    pub(crate) fn matrix(&self, name: &str) -> Result<Matrix<'a>> {
        match self.get(name)? {
            (values, &[outs, ins]) => Ok(Matrix::new(values, outs, ins)),
            (_, shape) => Err(Error::Weights(format!(
                "tensor {name} is {shape:?}, expected a matrix"
            ))),
        }
    }

    /// The pair of matrices beside a linear map, if it has an adapter: `A`, and
    /// `B` times its scale.
    pub(crate) fn pair(&self, map: &str) -> Result<Option<(Matrix<'a>, Matrix<'a>)>> {
        let [down, up] = ["A", "B"].map(|side| format!("{map}.lora_{side}.weight"));
        match self.slices.contains_key(down.as_str()) {
            true => Ok(Some((self.matrix(&down)?, self.matrix(&up)?))),
            false => Ok(None),
        }
    }

    /// A vector: a copy, for vectors are short.
    pub(crate) fn vector(&self, name: &str) -> Result<Vec<f32>> {
        let values = self.get(name)?.0;
        let mut vector = vec![0.0; values.len()];
        values.widen(&mut vector);
        Ok(vector)
    }
}

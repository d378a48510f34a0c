//! The gradients in the making: in f32, or the matrices among them in bf16
//! where memory is short.

use super::rows::add;
use candle_core::{Device, Tensor};
use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use std::collections::BTreeMap;

/// Gradients by the name of their variable, dense.
pub(super) struct Slopes {
    exact: BTreeMap<String, Vec<f32>>,
    /// Matrices, if they are to be in bf16: rounded whenever a layer is done
    /// with, added to in f32.
    rounded: Option<BTreeMap<String, Vec<bf16>>>,
}

impl Slopes {
    pub(super) fn new(rounds: bool) -> Self {
        Self {
            exact: BTreeMap::new(),
            rounded: rounds.then(BTreeMap::new),
        }
    }

    /// A matrix's gradient so far, `length` numbers, to be added to and put
    /// back.
    pub(super) fn take(&mut self, name: &str, length: usize) -> Vec<f32> {
        let exact = self.exact.remove(name);
        let mut values = exact.unwrap_or_else(|| vec![0.0; length]);
        if let Some(half) = self.rounded.as_ref().and_then(|all| all.get(name)) {
            half.convert_to_f32_slice(&mut values);
        }
        values
    }

    pub(super) fn put(&mut self, name: &str, values: Vec<f32>) {
        match &mut self.rounded {
            None => {
                self.exact.insert(name.to_owned(), values);
            }
            Some(all) => all
                .entry(name.to_owned())
                .or_insert_with(|| vec![bf16::ZERO; values.len()])
                .convert_from_f32_slice(&values),
        }
    }

    /// Adds to a vector's gradient.
    pub(super) fn add(&mut self, name: &str, values: &[f32]) {
        match self.exact.get_mut(name) {
            Some(sum) => add(sum, values),
            None => {
                self.exact.insert(name.to_owned(), values.to_vec());
            }
        }
    }

    /// Adds to some rows of a matrix of `length` numbers.
    pub(super) fn add_rows(&mut self, name: &str, length: usize, rows: &BTreeMap<usize, Vec<f32>>) {
        if let Some(all) = &mut self.rounded {
            let zeros = || vec![bf16::ZERO; length];
            let all = all.entry(name.to_owned()).or_insert_with(zeros);
            for (row, values) in rows {
                for (sum, value) in all[row * values.len()..].iter_mut().zip(values) {
                    *sum = bf16::from_f32(sum.to_f32() + value);
                }
            }
            return;
        }
        let zeros = || vec![0.0; length];
        let all = self.exact.entry(name.to_owned()).or_insert_with(zeros);
        for (row, values) in rows {
            add(&mut all[row * values.len()..], values);
        }
    }

    /// A gradient as a tensor, of zeros if nothing was added to it.
    pub(super) fn remove(
        &mut self,
        name: &str,
        shape: &candle_core::Shape,
    ) -> candle_core::Result<Tensor> {
        if let Some(values) = self.rounded.as_mut().and_then(|all| all.remove(name)) {
            return Tensor::from_vec(values, shape, &Device::Cpu);
        }
        let exact = self.exact.remove(name);
        let values = exact.unwrap_or_else(|| vec![0.0; shape.elem_count()]);
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

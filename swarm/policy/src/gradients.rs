//! Gradients by the name of their variable: collected, summed, measured.

use crate::error::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Storage, Tensor, Var};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// One gradient for each variable, by name, in f32 or bf16.
#[derive(Debug)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Takes the gradient of every variable out of a backward pass.
    ///
    /// A variable without a gradient is an error: an operation without a
    /// backward pass cuts the graph silently, and the model would only seem
    /// to train.
    pub fn collect(variables: &BTreeMap<String, Var>, store: &mut GradStore) -> Result<Self> {
        let mut gradients = BTreeMap::new();
        for (name, variable) in variables {
            let gradient = store.remove(variable).ok_or_else(|| {
                Error::Input(format!(
                    "no gradient reached {name}: the graph is cut before it"
                ))
            })?;
            let gradient = gradient.detach().to_dtype(DType::F32)?.contiguous()?;
            gradients.insert(name.clone(), gradient);
        }
        Ok(Self(gradients))
    }

    /// Takes up gradients from elsewhere, for instance from
    /// [`differentiate`](crate::kernel::differentiate).
    pub fn from_tensors(gradients: BTreeMap<String, Tensor>) -> Self {
        Self(gradients)
    }

    /// Adds another backward pass over the same variables.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        for (name, sum) in &mut self.0 {
            let part = other.0.get(name).ok_or_else(|| {
                Error::Input(format!(
                    "cannot add gradients: {name} is missing from one of them"
                ))
            })?;
            *sum = sum.add(part)?;
        }
        Ok(())
    }

    /// The gradient of one variable.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// All gradients in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.0.iter()
    }

    /// The Euclidean norm over all of them together; not finite exactly when
    /// one of their numbers is not.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.0.values() {
            sum += sum_of_squares(gradient)?;
        }
        Ok(sum.sqrt())
    }
}

/// The factor that brings a gradient of this norm down to `limit` (with
/// PyTorch's slack of 1e-6); 1 when it is there already.
pub fn clip_factor(norm: f64, limit: Option<f32>) -> f32 {
    match limit {
        Some(limit) => (f64::from(limit) / (norm + 1e-6)).min(1.0) as f32,
        None => 1.0,
    }
}

/// In f64, so that neither the size of a model nor the order of its
/// variables shows in the result.
fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            return Ok(squares(&values[start..end], f64::from));
        }
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) => {
            return Ok(squares(&values[start..end], f64::from));
        }
        _ => {}
    }
    drop(storage);
    Ok(tensor
        .to_dtype(DType::F64)?
        .sqr()?
        .sum_all()?
        .to_scalar::<f64>()?)
}

/// Blocks are shared among threads and added in their order.
fn squares<T: Copy + Sync>(values: &[T], widen: impl Fn(T) -> f64 + Sync) -> f64 {
    let blocks: Vec<f64> = values
        .par_chunks(1 << 18)
        .map(|block| {
            // Eight lanes: a single chain of additions would wait on itself.
            let mut lanes = [0.0_f64; 8];
            for chunk in block.chunks(8) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    let x = widen(x);
                    *lane += x * x;
                }
            }
            lanes.iter().sum()
        })
        .collect();
    blocks.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn variables() -> BTreeMap<String, Var> {
        let device = Device::Cpu;
        BTreeMap::from([
            (
                "a".to_owned(),
                Var::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &device).unwrap(),
            ),
            ("b".to_owned(), Var::new(&[0.5_f32; 11], &device).unwrap()),
        ])
    }

    fn gradients(variables: &BTreeMap<String, Var>) -> Gradients {
        let loss = (variables["a"].sqr().unwrap().sum_all().unwrap()
            + variables["b"].sqr().unwrap().sum_all().unwrap())
        .unwrap();
        Gradients::collect(variables, &mut loss.backward().unwrap()).unwrap()
    }

    #[test]
    fn the_norm_is_taken_over_all_variables_together() {
        let gradients = gradients(&variables());
        // (2, 4, 6, 8) and eleven times 1.
        assert!((gradients.norm().unwrap() - (120.0_f64 + 11.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn sums_add_up() {
        let variables = variables();
        let mut sum = gradients(&variables);
        sum.add(&gradients(&variables)).unwrap();
        assert_eq!(
            sum.get("a").unwrap().to_vec2::<f32>().unwrap(),
            [[4.0, 8.0], [12.0, 16.0]]
        );
    }

    #[test]
    fn a_variable_that_no_gradient_reaches_is_named() {
        let variables = variables();
        let loss = variables["a"].sum_all().unwrap();
        let error = Gradients::collect(&variables, &mut loss.backward().unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("no gradient reached b"),
            "{error}"
        );
    }

    #[test]
    fn one_bad_number_makes_the_norm_not_finite() {
        for bad in [f32::NAN, f32::INFINITY] {
            let variable = Var::new(&[1.0_f32, bad], &Device::Cpu).unwrap();
            let loss = variable.sqr().unwrap().sum_all().unwrap();
            let variables = BTreeMap::from([("v".to_owned(), variable)]);
            let gradients = Gradients::collect(&variables, &mut loss.backward().unwrap()).unwrap();
            assert!(!gradients.norm().unwrap().is_finite());
        }
    }

    #[test]
    fn clipping_only_ever_shrinks() {
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(1e9, None), 1.0);
    }
}

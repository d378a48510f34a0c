//! A linear map of a layer, with what may be trained in it: its weight and
//! bias, or a low-rank adapter beside them (LoRA, Hu et al., 2021).

use super::matrix::{Maths, View, product_into};
use super::rows::{add_bias, add_column_sums, fit};
use crate::linear::Values;

/// `y = x Wᵀ + b + s (x Aᵀ) Bᵀ`
pub(super) struct Linear<'a> {
    pub(super) weight: Matrix<'a>, // [outputs, inputs]
    pub(super) bias: Option<Vector<'a>>,
    pub(super) adapter: Option<Adapter<'a>>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// A tensor of the model.
pub(super) struct Parameter<V> {
    pub(super) name: String,
    pub(super) values: V,
    /// Whether its gradient is asked for.
    pub(super) is_trained: bool,
}

/// A weight of a linear map, or of an embedding.
pub(super) type Matrix<'a> = Parameter<Values<'a>>;
/// A weight of a norm, or a bias.
pub(super) type Vector<'a> = Parameter<&'a [f32]>;

pub(super) struct Adapter<'a> {
    pub(super) down: Matrix<'a>, // A, [rank, inputs]
    pub(super) up: Matrix<'a>,   // B, [outputs, rank]
    pub(super) rank: usize,
    pub(super) scale: f32,
}

/// Part of the gradient of one matrix: `scale * leftᵀ * right`.
pub(super) struct Product<'a> {
    pub(super) name: &'a str,
    pub(super) left: &'a [f32],  // [tokens, rows]
    pub(super) right: &'a [f32], // [tokens, columns]
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) scale: f32,
}

/// Gradients of norms and biases: small, and summed by each piece on its own.
pub(super) type Vectors = Vec<(String, Vec<f32>)>;

impl Linear<'_> {
    /// `out` is `[tokens, outputs]`, to which is added if `keep`; `low` is what
    /// the adapter makes of the input, `[tokens, rank]`.
    pub(super) fn forward(
        &self,
        maths: Maths,
        input: &[f32],
        out: &mut [f32],
        keep: bool,
        low: &mut Vec<f32>,
    ) {
        let tokens = input.len() / self.inputs;
        let input = View::new(input, tokens, self.inputs);
        let weight = View::weights(self.weight.values, self.outputs, self.inputs);
        product_into(maths, out, self.outputs, input, weight.t(), keep, 1.0);
        if let Some(bias) = &self.bias {
            add_bias(out, bias.values);
        }
        if let Some(Adapter {
            down,
            up,
            rank,
            scale,
        }) = &self.adapter
        {
            let low = fit(low, tokens * rank);
            let down = View::weights(down.values, *rank, self.inputs);
            product_into(maths, low, *rank, input, down.t(), false, 1.0);
            let up = View::weights(up.values, self.outputs, *rank);
            let low = View::new(low, tokens, *rank);
            product_into(maths, out, self.outputs, low, up.t(), true, *scale);
        }
    }

    /// The input's gradient, added to `d_input` if `keep`; `d_low` is that of
    /// the adapter's middle.
    pub(super) fn backward(
        &self,
        maths: Maths,
        d_out: &[f32],
        d_input: &mut [f32],
        keep: bool,
        d_low: &mut Vec<f32>,
    ) {
        let tokens = d_out.len() / self.outputs;
        let d_out = View::new(d_out, tokens, self.outputs);
        let weight = View::weights(self.weight.values, self.outputs, self.inputs);
        product_into(maths, d_input, self.inputs, d_out, weight, keep, 1.0);
        if let Some(Adapter {
            down,
            up,
            rank,
            scale,
        }) = &self.adapter
        {
            let d_low = fit(d_low, tokens * rank);
            let up = View::weights(up.values, self.outputs, *rank);
            product_into(maths, d_low, *rank, d_out, up, false, *scale);
            let down = View::weights(down.values, *rank, self.inputs);
            let d_low = View::new(d_low, tokens, *rank);
            product_into(maths, d_input, self.inputs, d_low, down, true, 1.0);
        }
    }

    /// The products that its matrices' gradients are sums of.
    pub(super) fn products<'s>(
        &'s self,
        d_out: &'s [f32],
        input: &'s [f32],
        (low, d_low): (&'s [f32], &'s [f32]),
        products: &mut Vec<Product<'s>>,
    ) {
        if self.weight.is_trained {
            products.push(Product {
                name: &self.weight.name,
                left: d_out,
                right: input,
                rows: self.outputs,
                columns: self.inputs,
                scale: 1.0,
            });
        }
        if let Some(adapter) = &self.adapter {
            products.push(Product {
                name: &adapter.down.name,
                left: d_low,
                right: input,
                rows: adapter.rank,
                columns: self.inputs,
                scale: 1.0,
            });
            products.push(Product {
                name: &adapter.up.name,
                left: d_out,
                right: low,
                rows: self.outputs,
                columns: adapter.rank,
                scale: adapter.scale,
            });
        }
    }

    /// Adds its bias's gradient to the piece's vectors.
    pub(super) fn bias_gradient(&self, d_out: &[f32], vectors: &mut Vectors) {
        if let Some(bias) = self.bias.as_ref().filter(|bias| bias.is_trained) {
            let mut sums = vec![0.0; self.outputs];
            add_column_sums(&mut sums, d_out);
            vectors.push((bias.name.clone(), sums));
        }
    }
}

/// The gradient of a norm's weight, computed by `backward` and kept if asked for.
pub(super) fn norm_gradient(
    norm: &Vector<'_>,
    vectors: &mut Vectors,
    backward: impl FnOnce(&mut [f32]),
) {
    let mut d_weight = vec![0.0; norm.values.len()];
    backward(&mut d_weight);
    if norm.is_trained {
        vectors.push((norm.name.clone(), d_weight));
    }
}

/// Operations of one part of a gradient, small enough to balance threads and
/// large enough to pay for packing.
const PART: usize = 1 << 28;

/// Adds what the pieces of a wave contribute to one matrix's gradient, in the
/// order of the pieces; rows are shared among threads.
pub(super) fn accumulate(maths: Maths, out: &mut [f32], products: &[&Product<'_>]) {
    use rayon::prelude::*;
    let Some(&&Product { rows, columns, .. }) = products.first() else {
        return;
    };
    let height = (PART / (1024 * columns)).max(12).next_multiple_of(12);
    out.par_chunks_mut(height * columns)
        .enumerate()
        .for_each(|(index, part)| {
            let (first, height) = (index * height, part.len() / columns);
            for product in products {
                let tokens = product.left.len() / rows;
                if tokens == 0 {
                    continue;
                }
                let left = View::strided(&product.left[first..], tokens, height, rows).t();
                let right = View::new(product.right, tokens, columns);
                product_into(maths, part, columns, left, right, true, product.scale);
            }
        });
}

/// Names and values of everything the kernel reads.
pub(super) struct Weights<'a> {
    pub(super) values: std::collections::BTreeMap<&'a str, Values<'a>>,
    /// Rank and scale of the adapters, where the model has them; then nothing
    /// else is trained.
    pub(super) adapter: Option<(usize, f32)>,
}

const COMPLETE: &str = "a decoder has every tensor of its configuration";

impl<'a> Weights<'a> {
    /// A matrix that every architecture has.
    pub(super) fn matrix(&self, name: &str) -> Matrix<'a> {
        self.find(name).expect(COMPLETE)
    }

    /// A vector that every architecture has.
    pub(super) fn vector(&self, name: &str) -> Vector<'a> {
        self.find_vector(name).expect(COMPLETE)
    }

    /// A vector that only some have.
    pub(super) fn find_vector(&self, name: &str) -> Option<Vector<'a>> {
        let found = self.find(name)?;
        let Values::F32(values) = found.values else {
            unreachable!("only matrices are taken in bf16");
        };
        Some(Parameter {
            name: found.name,
            values,
            is_trained: found.is_trained,
        })
    }

    fn find(&self, name: &str) -> Option<Matrix<'a>> {
        self.values.get(name).map(|&values| Parameter {
            name: name.to_owned(),
            values,
            is_trained: self.adapter.is_none() || name.contains(".lora_"),
        })
    }

    /// A linear map, with its bias and its adapter if there are any.
    pub(super) fn linear(&self, name: &str, inputs: usize) -> Linear<'a> {
        let weight = self.matrix(&format!("{name}.weight"));
        let adapter = self.adapter.and_then(|(rank, scale)| {
            Some(Adapter {
                down: self.find(&format!("{name}.lora_A.weight"))?,
                up: self.find(&format!("{name}.lora_B.weight"))?,
                rank,
                scale,
            })
        });
        Linear {
            outputs: weight.values.len() / inputs,
            weight,
            bias: self.find_vector(&format!("{name}.bias")),
            adapter,
            inputs,
        }
    }
}

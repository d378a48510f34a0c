//! One decoder layer, forward and backward.

use super::Shape;
use super::attention::{self, attend, attend_backward, rotate};
use super::layout::Layout;
use super::linear::{Linear, Product, Vector, Vectors, Weights, norm_gradient};
use super::rows::{copy, fit, rms_norm, rms_norm_backward, zeros};
use crate::slices::{exp, vectorized};

/// The weights of a layer.
pub(super) struct Layer<'a> {
    input_norm: Vector<'a>,
    query: Linear<'a>,
    key: Linear<'a>,
    value: Linear<'a>,
    /// Of each head of queries and of keys.
    head_norms: Option<(Vector<'a>, Vector<'a>)>,
    attention_out: Linear<'a>,
    inner_norm: Vector<'a>,
    gate: Linear<'a>,
    up: Linear<'a>,
    down: Linear<'a>,
}

/// What the backward pass reads of the forward pass, besides the layer's input.
#[derive(Default)]
pub(super) struct Tape {
    input_inverse: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    query_head: NormTape,
    key_head: NormTape,
    attention: Vec<f32>,
    mixed: Vec<f32>,
    middle: Vec<f32>,
    inner_inverse: Vec<f32>,
    inner: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
    /// What adapters make of the inputs of the linear maps, in their order.
    low: [Vec<f32>; 7],
}

/// The rows that a norm of heads was given, and the inverse of each one's root
/// mean square.
#[derive(Default)]
struct NormTape {
    rows: Vec<f32>,
    inverse: Vec<f32>,
}

/// What the backward pass leaves for the gradients of the weights.
#[derive(Default)]
pub(super) struct Trace {
    d_out: Vec<f32>,
    d_gate: Vec<f32>,
    d_up: Vec<f32>,
    d_middle: Vec<f32>,
    d_query: Vec<f32>,
    d_key: Vec<f32>,
    d_value: Vec<f32>,
    d_low: [Vec<f32>; 7],
    /// Of norms and biases.
    pub(super) vectors: Vectors,
    temporary: Vec<f32>,
    attention: attention::Scratch,
}

impl<'a> Layer<'a> {
    pub(super) fn new(weights: &Weights<'a>, index: usize, shape: &Shape) -> Self {
        let named = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, inputs: usize| weights.linear(&named(part), inputs);
        let find = |part: &str| weights.find_vector(&named(part));
        let up = linear("mlp.up_proj", shape.hidden);
        Self {
            input_norm: weights.vector(&named("input_layernorm.weight")),
            query: linear("self_attn.q_proj", shape.hidden),
            key: linear("self_attn.k_proj", shape.hidden),
            value: linear("self_attn.v_proj", shape.hidden),
            head_norms: find("self_attn.q_norm.weight").zip(find("self_attn.k_norm.weight")),
            attention_out: linear("self_attn.o_proj", shape.query_width()),
            inner_norm: weights.vector(&named("post_attention_layernorm.weight")),
            gate: linear("mlp.gate_proj", shape.hidden),
            down: linear("mlp.down_proj", up.outputs),
            up,
        }
    }

    /// From `stream` to `out`, both `[tokens, hidden]`.
    pub(super) fn forward(
        &self,
        stream: &[f32],
        out: &mut Vec<f32>,
        tape: &mut Tape,
        shape: &Shape,
        layout: &Layout<'_>,
    ) {
        let maths = shape.maths;
        let tokens = layout.tokens.len();
        let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = &mut tape.low;
        let epsilon = shape.epsilon;
        rms_norm(
            stream,
            self.input_norm.values,
            epsilon,
            &mut tape.normed,
            &mut tape.input_inverse,
        );
        for (linear, out, low) in [
            (&self.query, &mut tape.query, low_q),
            (&self.key, &mut tape.key, low_k),
            (&self.value, &mut tape.value, low_v),
        ] {
            let out = fit(out, tokens * linear.outputs);
            linear.forward(maths, &tape.normed, out, false, low);
        }
        if let Some((query_norm, key_norm)) = &self.head_norms {
            for (rows, norm, tape) in [
                (&mut tape.query, query_norm, &mut tape.query_head),
                (&mut tape.key, key_norm, &mut tape.key_head),
            ] {
                std::mem::swap(rows, &mut tape.rows);
                rms_norm(&tape.rows, norm.values, epsilon, rows, &mut tape.inverse);
            }
        }
        rotate(&mut tape.query, shape.heads, shape, layout, 1.0);
        rotate(&mut tape.key, shape.key_heads, shape, layout, 1.0);
        let inputs = (&tape.query[..], &tape.key[..], &tape.value[..]);
        attend(inputs, shape, layout, &mut tape.mixed, &mut tape.attention);
        let middle = copy(&mut tape.middle, stream);
        self.attention_out
            .forward(maths, &tape.mixed, middle, true, low_o);

        rms_norm(
            &tape.middle,
            self.inner_norm.values,
            epsilon,
            &mut tape.inner,
            &mut tape.inner_inverse,
        );
        let width = self.gate.outputs;
        let gate = fit(&mut tape.gate, tokens * width);
        self.gate.forward(maths, &tape.inner, gate, false, low_gate);
        let up = fit(&mut tape.up, tokens * width);
        self.up.forward(maths, &tape.inner, up, false, low_up);
        let gated = fit(&mut tape.gated, tokens * width);
        vectorized(
            #[inline(always)]
            || {
                for ((gated, &gate), &up) in gated.iter_mut().zip(&tape.gate).zip(&tape.up) {
                    *gated = gate * sigmoid(gate) * up;
                }
            },
        );
        let out = copy(out, &tape.middle);
        self.down.forward(maths, &tape.gated, out, true, low_down);
    }

    /// Turns the gradient of what came out, in `d_stream`, into that of what
    /// went in, and leaves in `trace` what the weights' gradients are made of.
    pub(super) fn backward(
        &self,
        stream: &[f32],
        tape: &Tape,
        d_stream: &mut Vec<f32>,
        trace: &mut Trace,
        shape: &Shape,
        layout: &Layout<'_>,
    ) {
        let maths = shape.maths;
        let tokens = layout.tokens.len();
        let Trace {
            d_out,
            d_gate,
            d_up,
            d_middle,
            d_query,
            d_key,
            d_value,
            d_low,
            vectors,
            temporary,
            attention,
        } = trace;
        let [low_q, low_k, low_v, low_o, low_gate, low_up, low_down] = d_low;
        vectors.clear();
        let d_out = copy(d_out, d_stream);

        // What is in `d_gate` first is the gradient of their product.
        let d_gate = fit(d_gate, tape.gated.len());
        self.down.backward(maths, d_out, d_gate, false, low_down);
        let d_up = fit(d_up, tape.up.len());
        vectorized(
            #[inline(always)]
            || {
                for (((d_gate, d_up), &gate), &up) in d_gate
                    .iter_mut()
                    .zip(d_up.iter_mut())
                    .zip(&tape.gate)
                    .zip(&tape.up)
                {
                    let (d_gated, share) = (*d_gate, sigmoid(gate));
                    *d_gate = d_gated * up * share * (1.0 + gate * (1.0 - share));
                    *d_up = d_gated * gate * share;
                }
            },
        );
        let d_inner = fit(temporary, tokens * shape.hidden);
        self.gate.backward(maths, d_gate, d_inner, false, low_gate);
        self.up.backward(maths, d_up, d_inner, true, low_up);
        let d_middle = copy(d_middle, d_out);
        norm_gradient(&self.inner_norm, vectors, |d_weight| {
            let (inverse, weight) = (&tape.inner_inverse, self.inner_norm.values);
            rms_norm_backward(d_middle, d_weight, d_inner, &tape.middle, inverse, weight);
        });

        let d_mixed = fit(temporary, tape.mixed.len());
        self.attention_out
            .backward(maths, d_middle, d_mixed, false, low_o);
        attend_backward(
            d_mixed,
            &tape.attention,
            (&tape.query, &tape.key, &tape.value),
            shape,
            layout,
            (d_query, d_key, d_value),
            attention,
        );
        rotate(d_query, shape.heads, shape, layout, -1.0);
        rotate(d_key, shape.key_heads, shape, layout, -1.0);
        if let Some((query_norm, key_norm)) = &self.head_norms {
            for (norm, d_rows, tape) in [
                (query_norm, &mut *d_query, &tape.query_head),
                (key_norm, &mut *d_key, &tape.key_head),
            ] {
                let d_normed = copy(temporary, d_rows);
                zeros(d_rows, tape.rows.len());
                norm_gradient(norm, vectors, |d_weight| {
                    let (rows, inverse) = (&tape.rows, &tape.inverse);
                    rms_norm_backward(d_rows, d_weight, d_normed, rows, inverse, norm.values);
                });
            }
        }
        let d_normed = fit(temporary, tokens * shape.hidden);
        for (index, (linear, d_out, d_low)) in [
            (&self.query, &*d_query, low_q),
            (&self.key, &*d_key, low_k),
            (&self.value, &*d_value, low_v),
        ]
        .into_iter()
        .enumerate()
        {
            linear.backward(maths, d_out, d_normed, index > 0, d_low);
            linear.bias_gradient(d_out, vectors);
        }
        let d_stream = copy(d_stream, d_middle);
        norm_gradient(&self.input_norm, vectors, |d_weight| {
            let (inverse, weight) = (&tape.input_inverse, self.input_norm.values);
            rms_norm_backward(d_stream, d_weight, d_normed, stream, inverse, weight);
        });
    }

    /// The products that the gradients of its matrices are sums of.
    pub(super) fn products<'s>(&'s self, tape: &'s Tape, trace: &'s Trace) -> Vec<Product<'s>> {
        let mut products = Vec::new();
        for (index, (linear, d_out, input)) in [
            (&self.query, &trace.d_query, &tape.normed),
            (&self.key, &trace.d_key, &tape.normed),
            (&self.value, &trace.d_value, &tape.normed),
            (&self.attention_out, &trace.d_middle, &tape.mixed),
            (&self.gate, &trace.d_gate, &tape.inner),
            (&self.up, &trace.d_up, &tape.inner),
            (&self.down, &trace.d_out, &tape.gated),
        ]
        .into_iter()
        .enumerate()
        {
            let lows = (&tape.low[index][..], &trace.d_low[index][..]);
            linear.products(d_out, input, lows, &mut products);
        }
        products
    }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

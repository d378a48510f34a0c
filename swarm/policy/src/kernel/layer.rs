//! One decoder layer, forward and backward.

use super::attention::{attend, attend_backward, rotate};
use super::layout::Layout;
use super::matrix::{
    View, accumulate, add, add_bias, add_column_sums, product, rms_norm, rms_norm_backward,
};
use super::{Shape, Slopes, Weights, slope};
use crate::slices::{exp, vectorized};

/// The weights of a layer, and what they are called.
pub(super) struct Layer<'a> {
    index: usize,
    input_norm: &'a [f32],
    query: Projection<'a>,
    key: Projection<'a>,
    value: Projection<'a>,
    /// Of each head of queries and of keys.
    head_norms: Option<(&'a [f32], &'a [f32])>,
    attention_out: &'a [f32],
    inner_norm: &'a [f32],
    gate: &'a [f32],
    up: &'a [f32],
    down: &'a [f32],
}

/// A projection's weight, and its bias if it has one.
type Projection<'a> = (&'a [f32], Option<&'a [f32]>);

/// The rows that a norm of heads was given, and the inverse of each one's root
/// mean square.
type NormTape = (Vec<f32>, Vec<f32>);

/// What the backward pass reads of the forward pass.
pub(super) struct LayerTape {
    stream: Vec<f32>,
    input_inverse: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    head_norms: Option<(NormTape, NormTape)>,
    attention: Vec<f32>,
    mixed: Vec<f32>,
    middle: Vec<f32>,
    inner_inverse: Vec<f32>,
    inner: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    gated: Vec<f32>,
}

impl<'a> Layer<'a> {
    pub(super) fn new(weights: &Weights<'a>, index: usize) -> Self {
        let get = |part: &str| weights.get(&name(index, part));
        let find = |part: &str| weights.find(&name(index, part));
        let biased = |part: &str| {
            (
                get(&format!("{part}.weight")),
                find(&format!("{part}.bias")),
            )
        };
        Self {
            index,
            input_norm: get("input_layernorm.weight"),
            query: biased("self_attn.q_proj"),
            key: biased("self_attn.k_proj"),
            value: biased("self_attn.v_proj"),
            head_norms: find("self_attn.q_norm.weight").zip(find("self_attn.k_norm.weight")),
            attention_out: get("self_attn.o_proj.weight"),
            inner_norm: get("post_attention_layernorm.weight"),
            gate: get("mlp.gate_proj.weight"),
            up: get("mlp.up_proj.weight"),
            down: get("mlp.down_proj.weight"),
        }
    }

    /// `stream` is `[tokens, hidden]`; so is what comes out.
    pub(super) fn forward(
        &self,
        stream: Vec<f32>,
        shape: &Shape,
        layout: &Layout<'_>,
    ) -> (Vec<f32>, LayerTape) {
        let width = shape.hidden;
        let tokens = stream.len() / width;
        let (normed, input_inverse) = rms_norm(&stream, self.input_norm, shape.epsilon);
        let project = |(weight, bias): Projection<'_>| {
            let mut out = product(
                View::new(&normed, tokens, width),
                View::new(weight, weight.len() / width, width).t(),
            );
            if let Some(bias) = bias {
                add_bias(&mut out, bias);
            }
            out
        };
        let (mut query, mut key, value) =
            (project(self.query), project(self.key), project(self.value));
        let head_norms = self.head_norms.map(|(query_norm, key_norm)| {
            let norm = |rows: &mut Vec<f32>, weight| {
                let (normed, inverse) = rms_norm(rows, weight, shape.epsilon);
                (std::mem::replace(rows, normed), inverse)
            };
            (norm(&mut query, query_norm), norm(&mut key, key_norm))
        });
        rotate(&mut query, shape.heads, shape, layout, 1.0);
        rotate(&mut key, shape.key_heads, shape, layout, 1.0);
        let (mixed, attention) = attend(&query, &key, &value, shape, layout);
        let mut middle = stream.clone();
        accumulate(
            &mut middle,
            View::new(&mixed, tokens, shape.query_width()),
            View::new(self.attention_out, width, shape.query_width()).t(),
        );

        let (inner, inner_inverse) = rms_norm(&middle, self.inner_norm, shape.epsilon);
        let inner_width = self.gate.len() / width;
        let inner_view = View::new(&inner, tokens, width);
        let gate = product(inner_view, View::new(self.gate, inner_width, width).t());
        let up = product(inner_view, View::new(self.up, inner_width, width).t());
        let mut gated = gate.clone();
        vectorized(
            #[inline(always)]
            || {
                for (gated, &up) in gated.iter_mut().zip(&up) {
                    *gated *= sigmoid(*gated) * up;
                }
            },
        );
        let mut out = middle.clone();
        accumulate(
            &mut out,
            View::new(&gated, tokens, inner_width),
            View::new(self.down, width, inner_width).t(),
        );
        let tape = LayerTape {
            stream,
            input_inverse,
            normed,
            query,
            key,
            value,
            head_norms,
            attention,
            mixed,
            middle,
            inner_inverse,
            inner,
            gate,
            up,
            gated,
        };
        (out, tape)
    }

    /// From the gradient of what came out to that of what went in; the
    /// weights' gradients are added to `slopes`.
    pub(super) fn backward(
        &self,
        d_out: Vec<f32>,
        tape: &LayerTape,
        shape: &Shape,
        layout: &Layout<'_>,
        slopes: &mut Slopes,
    ) -> Vec<f32> {
        let width = shape.hidden;
        let tokens = d_out.len() / width;
        let inner_width = self.gate.len() / width;
        let named = |part: &str| name(self.index, part);

        let d_out_view = View::new(&d_out, tokens, width);
        accumulate(
            slope(slopes, &named("mlp.down_proj.weight")),
            d_out_view.t(),
            View::new(&tape.gated, tokens, inner_width),
        );
        // d_gated, which becomes d_gate in place.
        let mut d_gate = product(d_out_view, View::new(self.down, width, inner_width));
        let mut d_up = tape.up.clone();
        vectorized(
            #[inline(always)]
            || {
                for ((d_gated, &gate), up) in d_gate.iter_mut().zip(&tape.gate).zip(&mut d_up) {
                    let share = sigmoid(gate);
                    let d_gate = *d_gated * *up * share * (1.0 + gate * (1.0 - share));
                    *up = *d_gated * gate * share;
                    *d_gated = d_gate;
                }
            },
        );
        let inner = View::new(&tape.inner, tokens, width);
        let d_gate = View::new(&d_gate, tokens, inner_width);
        let d_up = View::new(&d_up, tokens, inner_width);
        accumulate(
            slope(slopes, &named("mlp.gate_proj.weight")),
            d_gate.t(),
            inner,
        );
        accumulate(slope(slopes, &named("mlp.up_proj.weight")), d_up.t(), inner);
        let mut d_inner = product(d_gate, View::new(self.gate, inner_width, width));
        accumulate(&mut d_inner, d_up, View::new(self.up, inner_width, width));
        let mut d_middle = d_out;
        rms_norm_backward(
            &mut d_middle,
            slope(slopes, &named("post_attention_layernorm.weight")),
            &d_inner,
            &tape.middle,
            &tape.inner_inverse,
            self.inner_norm,
        );

        let query_width = shape.query_width();
        let d_middle_view = View::new(&d_middle, tokens, width);
        accumulate(
            slope(slopes, &named("self_attn.o_proj.weight")),
            d_middle_view.t(),
            View::new(&tape.mixed, tokens, query_width),
        );
        let d_mixed = product(
            d_middle_view,
            View::new(self.attention_out, width, query_width),
        );
        let (mut d_query, mut d_key, d_value) = attend_backward(
            &d_mixed,
            &tape.attention,
            (&tape.query, &tape.key, &tape.value),
            shape,
            layout,
        );
        rotate(&mut d_query, shape.heads, shape, layout, -1.0);
        rotate(&mut d_key, shape.key_heads, shape, layout, -1.0);
        if let Some(((query_norm, key_norm), (query, key))) =
            self.head_norms.zip(tape.head_norms.as_ref())
        {
            for (part, d_rows, weight, (rows, inverse)) in [
                ("self_attn.q_norm.weight", &mut d_query, query_norm, query),
                ("self_attn.k_norm.weight", &mut d_key, key_norm, key),
            ] {
                let d_normed = std::mem::replace(d_rows, vec![0.0; rows.len()]);
                let slope = slope(slopes, &named(part));
                rms_norm_backward(d_rows, slope, &d_normed, rows, inverse, weight);
            }
        }
        let normed = View::new(&tape.normed, tokens, width);
        let mut d_normed = vec![0.0; tokens * width];
        for (part, slopes_out, (weight, bias)) in [
            ("self_attn.q_proj", &d_query, self.query),
            ("self_attn.k_proj", &d_key, self.key),
            ("self_attn.v_proj", &d_value, self.value),
        ] {
            let size = weight.len() / width;
            let view = View::new(slopes_out, tokens, size);
            accumulate(
                slope(slopes, &named(&format!("{part}.weight"))),
                view.t(),
                normed,
            );
            if bias.is_some() {
                add_column_sums(slope(slopes, &named(&format!("{part}.bias"))), slopes_out);
            }
            accumulate(&mut d_normed, view, View::new(weight, size, width));
        }
        let mut d_stream = vec![0.0; tokens * width];
        rms_norm_backward(
            &mut d_stream,
            slope(slopes, &named("input_layernorm.weight")),
            &d_normed,
            &tape.stream,
            &tape.input_inverse,
            self.input_norm,
        );
        add(&mut d_stream, &d_middle);
        d_stream
    }
}

fn name(index: usize, part: &str) -> String {
    format!("model.layers.{index}.{part}")
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

//! The forward pass for sampling: no graph, no padding, no tensors.
//!
//! The batch is a list of rows, each a token at a position of a sequence;
//! prompts and single steps of sequences of any length go through the same
//! code together. Each layer is four matrix products and plain loops between
//! them, over buffers that are kept. Weights are read where training wrote
//! them: nothing is laid out anew, and a model takes its memory once.
//!
//! A row's result is the same bits beside any other rows, for any number of
//! threads and for vectors of any width.

use crate::attention::{Attention, Row, Sizes, Span};
use crate::config::Config;
use crate::error::Result;
use crate::kernel::Precision;
use crate::lanes::Aligned;
use crate::linear::{Matrix, Onto, Rows, multiply, worthwhile};
use crate::rope::Rotary;
use crate::slices::{rms_norm, rms_norm_in_place, rotate, swiglu, vectorized};
use crate::storage::Weights;
use rayon::prelude::*;

struct Layer<'a> {
    input_norm: Vec<f32>,
    projections: [(Matrix<'a>, usize); 3], // of queries, keys and values, with their columns
    biases: Option<Vec<f32>>,              // [query + key + value]
    head_norms: Option<(Vec<f32>, Vec<f32>)>, // of queries and keys, [head_dim]
    attention_out: Matrix<'a>,             // [hidden, query]
    feed_forward_norm: Vec<f32>,
    gate_up: [(Matrix<'a>, usize); 2], // [inner, hidden], with their columns
    down: Matrix<'a>,                  // [hidden, inner]
    pairs: Pairs<'a>,
}

/// A linear map's adapter: what it adds begins at a column.
struct Pair<'a> {
    low: Matrix<'a>,  // A, [rank, in]
    high: Matrix<'a>, // B, scaled, [out, rank]
    column: usize,
}

/// The adapters beside a layer's four products.
struct Pairs<'a> {
    projections: Vec<Pair<'a>>,
    attention_out: Vec<Pair<'a>>,
    gate_up: Vec<Pair<'a>>,
    down: Vec<Pair<'a>>,
}

/// Adds what adapters make of `rows` to `out`, whose rows are `stride` apart.
fn adapt(out: &mut [f32], stride: usize, rows: Rows<'_>, pairs: &[Pair<'_>], threads: usize) {
    for pair in pairs {
        let rank = pair.low.outs();
        let mut middle = vec![0.0; rows.count * rank];
        multiply(
            &mut middle,
            rank,
            Onto::Place,
            rows,
            &[(pair.low, 0)],
            threads,
        );
        let middle = dense(&middle, rank);
        multiply(
            out,
            stride,
            Onto::Sum,
            middle,
            &[(pair.high, pair.column)],
            threads,
        );
    }
}

/// A decoder's weights as sampling reads them, and its working memory.
pub(crate) struct Inference<'a> {
    config: Config,
    threads: usize,
    precision: Precision,
    embedding: Matrix<'a>, // [vocab, hidden]
    layers: Vec<Layer<'a>>,
    final_norm: Vec<f32>,
    output: Matrix<'a>, // [vocab, hidden]
    rotary: Rotary,
    stream: Aligned,    // [rows, hidden]
    normed: Aligned,    // [rows, hidden]
    mixed: Aligned,     // [rows, query]
    projected: Aligned, // [rows, query + key + value]
    inner: Aligned,     // [rows, gate + up]
    scores: Vec<f32>,
}

impl<'a> Inference<'a> {
    /// Over borrowed weights. What is worth more than one thread uses at most
    /// `threads` of the current rayon pool.
    pub(crate) fn new(config: &Config, weights: &Weights<'a>, threads: usize) -> Result<Self> {
        let (query, narrow) = (config.query_size(), config.key_value_size());
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let matrix = |part: &str| weights.matrix(&name(part));
            let vector = |part: &str| weights.vector(&name(part));
            let biases = match config.has_biases() {
                true => {
                    let mut biases = vector("self_attn.q_proj.bias")?;
                    biases.extend(vector("self_attn.k_proj.bias")?);
                    biases.extend(vector("self_attn.v_proj.bias")?);
                    Some(biases)
                }
                false => None,
            };
            let head_norms = match config.has_head_norms() {
                true => Some((
                    vector("self_attn.q_norm.weight")?,
                    vector("self_attn.k_norm.weight")?,
                )),
                false => None,
            };
            let pairs = |maps: &[(&str, usize)]| -> Result<Vec<Pair<'a>>> {
                let mut pairs = Vec::new();
                for &(map, column) in maps {
                    if let Some((low, high)) = weights.pair(&name(map))? {
                        pairs.push(Pair { low, high, column });
                    }
                }
                Ok(pairs)
            };
            layers.push(Layer {
                pairs: Pairs {
                    projections: pairs(&[
                        ("self_attn.q_proj", 0),
                        ("self_attn.k_proj", query),
                        ("self_attn.v_proj", query + narrow),
                    ])?,
                    attention_out: pairs(&[("self_attn.o_proj", 0)])?,
                    gate_up: pairs(&[
                        ("mlp.gate_proj", 0),
                        ("mlp.up_proj", config.intermediate_size),
                    ])?,
                    down: pairs(&[("mlp.down_proj", 0)])?,
                },
                input_norm: vector("input_layernorm.weight")?,
                projections: [
                    (matrix("self_attn.q_proj.weight")?, 0),
                    (matrix("self_attn.k_proj.weight")?, query),
                    (matrix("self_attn.v_proj.weight")?, query + narrow),
                ],
                biases,
                head_norms,
                attention_out: matrix("self_attn.o_proj.weight")?,
                feed_forward_norm: vector("post_attention_layernorm.weight")?,
                gate_up: [
                    (matrix("mlp.gate_proj.weight")?, 0),
                    (matrix("mlp.up_proj.weight")?, config.intermediate_size),
                ],
                down: matrix("mlp.down_proj.weight")?,
            });
        }
        let embedding = weights.matrix("model.embed_tokens.weight")?;
        Ok(Self {
            threads,
            precision: Precision::F32,
            layers,
            final_norm: weights.vector("model.norm.weight")?,
            output: match config.tie_word_embeddings {
                true => embedding,
                false => weights.matrix("lm_head.weight")?,
            },
            embedding,
            rotary: Rotary::new(config),
            stream: Aligned::default(),
            normed: Aligned::default(),
            mixed: Aligned::default(),
            projected: Aligned::default(),
            inner: Aligned::default(),
            scores: Vec::new(),
            config: config.clone(),
        })
    }

    /// Computes `rows` and appends their keys and values to their spans; in the
    /// products with the layers' matrices they are rounded to `precision`.
    /// Their last hidden states stay here for [`Inference::logits`].
    pub(crate) fn forward(&mut self, rows: &[Row], spans: &mut [Span], precision: Precision) {
        self.precision = precision;
        let count = rows.len();
        let sizes = Sizes::new(&self.config);
        let hidden = self.config.hidden_size;
        let inner = self.config.intermediate_size;
        self.stream.fit(count * hidden);
        self.normed.fit(count * hidden);
        self.mixed.fit(count * sizes.query());
        self.projected.fit(count * sizes.projected());
        self.inner.fit(count * 2 * inner);
        for (stream, row) in self.stream.chunks_exact_mut(hidden).zip(rows) {
            self.embedding.copy_row(row.token as usize, stream);
        }
        for row in rows {
            let span = &mut spans[row.span];
            debug_assert_eq!(row.position, span.end(), "rows of a sequence are in order");
            span.extend();
        }
        let positions = rows.iter().map(|row| row.position + 1).max();
        self.rotary.reach(positions.unwrap_or(0));
        let layers = std::mem::take(&mut self.layers);
        for (index, layer) in layers.iter().enumerate() {
            self.attention(index, layer, rows, spans);
            self.feed_forward(layer);
        }
        self.layers = layers;
    }

    /// Adds what a layer's attention says to the stream.
    fn attention(&mut self, index: usize, layer: &Layer<'_>, rows: &[Row], spans: &mut [Span]) {
        let sizes = Sizes::new(&self.config);
        let hidden = self.config.hidden_size;
        self.norm(&layer.input_norm);
        let onto = match &layer.biases {
            Some(biases) => {
                for row in self.projected.chunks_exact_mut(biases.len()) {
                    row.copy_from_slice(biases);
                }
                Onto::Sum
            }
            None => Onto::Place,
        };
        multiply(
            &mut self.projected,
            sizes.projected(),
            onto,
            dense(&self.normed, hidden),
            &layer.projections.map(at(self.precision)),
            self.threads,
        );
        adapt(
            &mut self.projected,
            sizes.projected(),
            dense(&self.normed, hidden),
            &layer.pairs.projections,
            self.threads,
        );
        vectorized(
            #[inline(always)]
            || self.place(index, layer, rows, spans),
        );
        let attention = Attention {
            sizes,
            layer: index,
            rows,
            spans,
            projected: &self.projected,
            mixed: &mut self.mixed,
            scores: &mut self.scores,
        };
        attention.compute(self.threads);
        multiply(
            &mut self.stream,
            hidden,
            Onto::Sum,
            dense(&self.mixed, sizes.query()),
            &[(layer.attention_out, 0)].map(at(self.precision)),
            self.threads,
        );
        adapt(
            &mut self.stream,
            hidden,
            dense(&self.mixed, sizes.query()),
            &layer.pairs.attention_out,
            self.threads,
        );
    }

    /// Norms and rotates queries and keys, and stores keys and values.
    #[inline(always)]
    fn place(&mut self, index: usize, layer: &Layer<'_>, rows: &[Row], spans: &mut [Span]) {
        let sizes = Sizes::new(&self.config);
        let (width, narrow) = (sizes.width, self.config.key_value_size());
        let epsilon = self.config.rms_norm_eps as f32;
        let scale = 1.0 / (width as f32).sqrt();
        let projected = self.projected.chunks_exact_mut(sizes.projected());
        for (row, projected) in rows.iter().zip(projected) {
            let (queries, rest) = projected.split_at_mut(sizes.query());
            let (keys, values) = rest.split_at_mut(narrow);
            if let Some((query_norm, key_norm)) = &layer.head_norms {
                for (heads, norm) in [(&mut *queries, query_norm), (&mut *keys, key_norm)] {
                    for head in heads.chunks_exact_mut(width) {
                        rms_norm_in_place(head, norm, epsilon);
                    }
                }
            }
            let (cosines, sines) = self.rotary.at(row.position);
            for heads in [&mut *queries, &mut *keys] {
                for head in heads.chunks_exact_mut(width) {
                    rotate(head, cosines, sines);
                }
            }
            for query in queries {
                *query *= scale;
            }
            spans[row.span].store(sizes, index, row.position, keys, values);
        }
    }

    /// Adds what a layer's feed-forward network says to the stream.
    fn feed_forward(&mut self, layer: &Layer<'_>) {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        self.norm(&layer.feed_forward_norm);
        multiply(
            &mut self.inner,
            2 * inner,
            Onto::Place,
            dense(&self.normed, hidden),
            &layer.gate_up.map(at(self.precision)),
            self.threads,
        );
        adapt(
            &mut self.inner,
            2 * inner,
            dense(&self.normed, hidden),
            &layer.pairs.gate_up,
            self.threads,
        );
        let gate = |rows: &mut [f32]| {
            vectorized(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(2 * inner) {
                        let (gate, up) = row.split_at_mut(inner);
                        swiglu(gate, up);
                    }
                },
            );
        };
        // A sigmoid costs about as much as these multiplications.
        match worthwhile(self.threads, self.inner.len() * 8) {
            0 | 1 => gate(&mut self.inner),
            threads => {
                let share = (self.inner.len() / (2 * inner)).div_ceil(4 * threads);
                self.inner.par_chunks_mut(share * 2 * inner).for_each(gate);
            }
        }
        let gated = Rows {
            values: &self.inner,
            stride: 2 * inner,
            count: self.inner.len() / (2 * inner),
        };
        multiply(
            &mut self.stream,
            hidden,
            Onto::Sum,
            gated,
            &[(layer.down, 0)].map(at(self.precision)),
            self.threads,
        );
        adapt(
            &mut self.stream,
            hidden,
            gated,
            &layer.pairs.down,
            self.threads,
        );
    }

    /// The logits of some of the rows last computed, into `out` as
    /// `[rows, vocab]`.
    pub(crate) fn logits(&mut self, rows: &[usize], out: &mut Vec<f32>) {
        let (hidden, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let epsilon = self.config.rms_norm_eps as f32;
        self.normed.fit(rows.len() * hidden);
        let (stream, normed, weight) = (&self.stream, &mut self.normed, &self.final_norm);
        vectorized(
            #[inline(always)]
            || {
                for (&row, normed) in rows.iter().zip(normed.chunks_exact_mut(hidden)) {
                    rms_norm(&stream[row * hidden..][..hidden], weight, epsilon, normed);
                }
            },
        );
        out.resize(rows.len() * vocab, 0.0);
        multiply(
            out,
            vocab,
            Onto::Place,
            dense(&self.normed, hidden),
            &[(self.output, 0)],
            self.threads,
        );
    }

    /// The stream, normed.
    fn norm(&mut self, weight: &[f32]) {
        let (hidden, epsilon) = (self.config.hidden_size, self.config.rms_norm_eps as f32);
        let (stream, normed) = (&self.stream, &mut self.normed);
        vectorized(
            #[inline(always)]
            || {
                for (x, out) in stream
                    .chunks_exact(hidden)
                    .zip(normed.chunks_exact_mut(hidden))
                {
                    rms_norm(x, weight, epsilon, out);
                }
            },
        );
    }
}

/// Matrices whose products round to `precision`.
fn at<'a>(precision: Precision) -> impl Fn((Matrix<'a>, usize)) -> (Matrix<'a>, usize) {
    move |(matrix, column)| (matrix.at(precision), column)
}

/// Rows that lie side by side.
fn dense(values: &[f32], width: usize) -> Rows<'_> {
    Rows {
        values,
        stride: width,
        count: values.len() / width,
    }
}

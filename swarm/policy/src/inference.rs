//! The forward pass for sampling: no graph, no padding, no tensors.
//!
//! The batch is a list of rows, each a token at a position of a sequence;
//! prompts and single steps of sequences of any length go through the same
//! code together. At half a million parameters the cost of a tensor operation
//! is its overhead, not its arithmetic, so each layer is four matrix products
//! and plain loops between them, over buffers that are kept.
//!
//! Weights are copied from the variables once per call of `sample`, laid out
//! `[in, out]`, projections of the same input side by side.

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::rope::Rotary;
use crate::slices::{
    add_scaled, exponentiate, rms_norm, rms_norm_in_place, rotate, swiglu, vectorized,
};
use candle_core::Tensor;
use gemm::Parallelism;

/// Fewer rows would take another kernel of the matrix product, which rounds
/// differently; a row's result must not depend on the batch.
const LEAST_ROWS: usize = 3;

/// Positions whose keys lie together and whose scores are summed together.
/// Capacities are multiples of it.
const BLOCK: usize = 16;

/// Keys and values of consecutive positions of one sequence, in all layers.
pub(crate) struct Span {
    first: usize,     // the position of the first entry
    length: usize,    // entries in use
    capacity: usize,  // entries allocated
    keys: Vec<f32>,   // [layers, key heads, blocks, head_dim, BLOCK]
    values: Vec<f32>, // [layers, key heads, capacity, head_dim]
}

impl Span {
    /// Room for `capacity` positions from `first` on.
    pub(crate) fn new(config: &Config, first: usize, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(BLOCK);
        let size = config.num_hidden_layers * config.key_value_size() * capacity;
        Self {
            first,
            length: 0,
            capacity,
            keys: vec![0.0; size],
            values: vec![0.0; size],
        }
    }

    /// Forgets its content and starts again at `first`.
    pub(crate) fn restart(&mut self, first: usize) {
        (self.first, self.length) = (first, 0);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The position after the last.
    pub(crate) fn end(&self) -> usize {
        self.first + self.length
    }
}

/// One token to compute. Rows of one sequence come in the order of positions.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) token: u32,
    pub(crate) position: usize,
    /// The span that this token's key and value are appended to.
    pub(crate) span: usize,
    /// A span of earlier positions, shared by a group.
    pub(crate) prefix: Option<usize>,
}

struct Layer {
    input_norm: Vec<f32>,
    projections: Vec<f32>,                    // [hidden, query + key + value]
    biases: Option<Vec<f32>>,                 // [query + key + value]
    head_norms: Option<(Vec<f32>, Vec<f32>)>, // of queries and keys, [head_dim]
    attention_out: Vec<f32>,                  // [query, hidden]
    feed_forward_norm: Vec<f32>,
    gate_up: Vec<f32>, // [hidden, gate + up]
    down: Vec<f32>,    // [inner, hidden]
}

/// A copy of a decoder's weights for sampling, and its working memory.
pub(crate) struct Inference {
    config: Config,
    parallelism: Parallelism,
    embedding: Vec<f32>, // [vocab, hidden]
    layers: Vec<Layer>,
    final_norm: Vec<f32>,
    output: Vec<f32>, // [hidden, vocab]
    rotary: Rotary,
    stream: Vec<f32>,    // [rows, hidden]
    normed: Vec<f32>,    // [rows, hidden]
    mixed: Vec<f32>,     // [rows, query]
    projected: Vec<f32>, // [rows, query + key + value]
    inner: Vec<f32>,     // [rows, gate + up]
    scores: Vec<f32>,    // [positions]
}

/// The values of `[out, in]` matrices, side by side as `[in, sum of outs]`.
fn beside(matrices: &[Tensor]) -> Result<Vec<f32>> {
    let stacked = Tensor::cat(matrices, 0)?;
    Ok(stacked.t()?.flatten_all()?.to_vec1::<f32>()?)
}

impl Inference {
    /// Copies the weights. Matrix products use `threads` threads of the
    /// current rayon pool if that is more than one.
    pub(crate) fn new(decoder: &Decoder, threads: usize) -> Result<Self> {
        let config = decoder.config().clone();
        let tensor = |name: &str| decoder.vars()[name].as_detached_tensor();
        let flat = |name: &str| -> Result<Vec<f32>> { Ok(tensor(name).flatten_all()?.to_vec1()?) };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let several = |parts: &[&str]| -> Vec<Tensor> {
                parts.iter().map(|part| tensor(&name(part))).collect()
            };
            let projections = ["q_proj", "k_proj", "v_proj"];
            let weights = projections.map(|part| format!("self_attn.{part}.weight"));
            let biases = projections.map(|part| format!("self_attn.{part}.bias"));
            let biases = match config.has_biases() {
                true => Some(
                    Tensor::cat(&several(&biases.each_ref().map(String::as_str)), 0)?.to_vec1()?,
                ),
                false => None,
            };
            let head_norms = match config.has_head_norms() {
                true => Some((
                    flat(&name("self_attn.q_norm.weight"))?,
                    flat(&name("self_attn.k_norm.weight"))?,
                )),
                false => None,
            };
            layers.push(Layer {
                input_norm: flat(&name("input_layernorm.weight"))?,
                projections: beside(&several(&weights.each_ref().map(String::as_str)))?,
                biases,
                head_norms,
                attention_out: beside(&several(&["self_attn.o_proj.weight"]))?,
                feed_forward_norm: flat(&name("post_attention_layernorm.weight"))?,
                gate_up: beside(&several(&["mlp.gate_proj.weight", "mlp.up_proj.weight"]))?,
                down: beside(&several(&["mlp.down_proj.weight"]))?,
            });
        }
        Ok(Self {
            parallelism: match threads {
                0 | 1 => Parallelism::None,
                threads => Parallelism::Rayon(threads),
            },
            embedding: flat("model.embed_tokens.weight")?,
            layers,
            final_norm: flat("model.norm.weight")?,
            output: beside(&[decoder.output().detach()])?,
            rotary: Rotary::new(&config),
            stream: Vec::new(),
            normed: Vec::new(),
            mixed: Vec::new(),
            projected: Vec::new(),
            inner: Vec::new(),
            scores: vec![0.0; config.max_position_embeddings],
            config,
        })
    }

    /// Computes `rows` and appends their keys and values to their spans.
    /// Their last hidden states stay here for [`Inference::logits`].
    pub(crate) fn forward(&mut self, rows: &[Row], spans: &mut [Span]) {
        let hidden = self.config.hidden_size;
        let count = rows.len().max(LEAST_ROWS);
        let query = self.config.query_size();
        let projected = query + 2 * self.config.key_value_size();
        let inner = self.config.intermediate_size;
        // What padding rows hold does not matter, but it must be finite.
        self.stream.clear();
        self.stream.resize(count * hidden, 0.0);
        self.normed.resize(count * hidden, 0.0);
        self.mixed.resize(count * query, 0.0);
        self.projected.resize(count * projected, 0.0);
        self.inner.resize(count * 2 * inner, 0.0);
        for (stream, row) in self.stream.chunks_exact_mut(hidden).zip(rows) {
            let token = row.token as usize * hidden;
            stream.copy_from_slice(&self.embedding[token..token + hidden]);
        }
        for row in rows {
            let span = &mut spans[row.span];
            debug_assert_eq!(row.position, span.end(), "rows of a sequence are in order");
            span.length += 1;
        }
        let positions = rows.iter().map(|row| row.position + 1).max();
        self.rotary.reach(positions.unwrap_or(0));
        let layers = std::mem::take(&mut self.layers);
        for (index, layer) in layers.iter().enumerate() {
            self.norm_rows(&layer.input_norm);
            let parallelism = self.parallelism;
            let into = Into::Sum;
            if let Some(biases) = &layer.biases {
                for row in self.projected.chunks_exact_mut(projected) {
                    row.copy_from_slice(biases);
                }
            }
            product(
                &mut self.projected,
                layer.biases.as_ref().map_or(Into::Place, |_| Into::Sum),
                &self.normed,
                hidden,
                &layer.projections,
                projected,
                parallelism,
            );
            vectorized(
                #[inline(always)]
                || self.attend(index, layer, rows, spans),
            );
            product(
                &mut self.stream,
                into,
                &self.mixed,
                query,
                &layer.attention_out,
                hidden,
                parallelism,
            );
            self.norm_rows(&layer.feed_forward_norm);
            product(
                &mut self.inner,
                Into::Place,
                &self.normed,
                hidden,
                &layer.gate_up,
                2 * inner,
                parallelism,
            );
            let both = &mut self.inner;
            vectorized(
                #[inline(always)]
                || {
                    for row in both.chunks_exact_mut(2 * inner) {
                        let (gate, up) = row.split_at_mut(inner);
                        swiglu(gate, up);
                    }
                },
            );
            product(
                &mut self.stream,
                into,
                &self.inner,
                2 * inner,
                &layer.down,
                hidden,
                parallelism,
            );
        }
        self.layers = layers;
    }

    /// The logits of some of the rows last computed, into `out` as
    /// `[rows, vocab]`.
    pub(crate) fn logits(&mut self, rows: &[usize], out: &mut Vec<f32>) {
        let (hidden, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let epsilon = self.config.rms_norm_eps as f32;
        let count = rows.len().max(LEAST_ROWS);
        self.normed.resize(count * hidden, 0.0);
        let (stream, normed, weight) = (&self.stream, &mut self.normed, &self.final_norm);
        vectorized(
            #[inline(always)]
            || {
                for (&row, normed) in rows.iter().zip(normed.chunks_exact_mut(hidden)) {
                    rms_norm(&stream[row * hidden..][..hidden], weight, epsilon, normed);
                }
            },
        );
        out.resize(count * vocab, 0.0);
        product(
            out,
            Into::Place,
            &self.normed,
            hidden,
            &self.output,
            vocab,
            self.parallelism,
        );
        out.truncate(rows.len() * vocab);
    }

    fn norm_rows(&mut self, weight: &[f32]) {
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

    /// Rotates queries and keys, stores keys and values, and attends: from
    /// `projected` to `mixed`.
    #[inline(always)]
    fn attend(&mut self, index: usize, layer: &Layer, rows: &[Row], spans: &mut [Span]) {
        let config = &self.config;
        let (queries, width) = (config.query_size(), config.head_dim());
        let epsilon = config.rms_norm_eps as f32;
        let (heads, shared) = (config.num_attention_heads, config.num_key_value_heads);
        let narrow = config.key_value_size();
        let stride = queries + 2 * narrow;
        let scale = 1.0 / (width as f32).sqrt();
        for (row, projected) in rows.iter().zip(self.projected.chunks_exact_mut(stride)) {
            let (cosines, sines) = self.rotary.at(row.position);
            let (rotated, values) = projected.split_at_mut(queries + narrow);
            if let Some((query_norm, key_norm)) = &layer.head_norms {
                let (queries, keys) = rotated.split_at_mut(queries);
                for (heads, norm) in [(queries, query_norm), (keys, key_norm)] {
                    for head in heads.chunks_exact_mut(width) {
                        rms_norm_in_place(head, norm, epsilon);
                    }
                }
            }
            for head in rotated.chunks_exact_mut(width) {
                rotate(head, cosines, sines);
            }
            for query in &mut rotated[..queries] {
                *query *= scale;
            }
            let span = &mut spans[row.span];
            let (capacity, at) = (span.capacity, row.position - span.first);
            let keys = &mut span.keys[index * narrow * capacity..][..narrow * capacity];
            for (keys, key) in keys
                .chunks_exact_mut(capacity * width)
                .zip(rotated[queries..].chunks_exact(width))
            {
                let block = &mut keys[at / BLOCK * BLOCK * width..][..BLOCK * width];
                for (keys, &key) in block.chunks_exact_mut(BLOCK).zip(key) {
                    keys[at % BLOCK] = key;
                }
            }
            let stored = &mut span.values[index * narrow * capacity..][..narrow * capacity];
            for (stored, value) in stored
                .chunks_exact_mut(capacity * width)
                .zip(values.chunks_exact(width))
            {
                stored[at * width..][..width].copy_from_slice(value);
            }
        }
        let group = heads / shared;
        for ((row, projected), mixed) in rows
            .iter()
            .zip(self.projected.chunks_exact(stride))
            .zip(self.mixed.chunks_exact_mut(queries))
        {
            let own = &spans[row.span];
            let own_length = row.position + 1 - own.first;
            let prefix = row.prefix.map(|prefix| &spans[prefix]);
            for (head, (query, mixed)) in projected[..queries]
                .chunks_exact(width)
                .zip(mixed.chunks_exact_mut(width))
                .enumerate()
            {
                let place = index * shared + head / group;
                let seen = prefix.map_or(0, |prefix| prefix.length);
                let scores = &mut self.scores[..seen + own_length];
                let (early, late) = scores.split_at_mut(seen);
                if let Some(prefix) = prefix {
                    score(query, prefix, place, early);
                }
                score(query, own, place, late);
                let total = exponentiate(scores);
                let (early, late) = scores.split_at_mut(seen);
                mixed.fill(0.0);
                if let Some(prefix) = prefix {
                    mix(early, prefix, place, mixed);
                }
                mix(late, own, place, mixed);
                let inverse = 1.0 / total;
                for value in mixed {
                    *value *= inverse;
                }
            }
        }
    }
}

/// The products of `query` with the first keys of a span, a block of positions
/// at a time in registers. What the last block holds beyond the positions
/// asked for is computed and dropped.
#[inline(always)]
fn score(query: &[f32], span: &Span, place: usize, scores: &mut [f32]) {
    let size = query.len() * span.capacity;
    let blocks = span.keys[place * size..][..size].chunks_exact(query.len() * BLOCK);
    for (scores, keys) in scores.chunks_mut(BLOCK).zip(blocks) {
        let mut sums = [0f32; BLOCK];
        for (&query, keys) in query.iter().zip(keys.chunks_exact(BLOCK)) {
            add_scaled(&mut sums, query, keys);
        }
        scores.copy_from_slice(&sums[..scores.len()]);
    }
}

/// Adds the first values of a span, weighted by `weights`, to `mixed`.
#[inline(always)]
fn mix(weights: &[f32], span: &Span, place: usize, mixed: &mut [f32]) {
    let size = mixed.len() * span.capacity;
    let values = &span.values[place * size..][..size];
    // Common widths are compiled on their own, to keep the sums in registers.
    match mixed.len() {
        16 => mix_wide::<2>(weights, values, mixed),
        24 => mix_wide::<3>(weights, values, mixed),
        32 => mix_wide::<4>(weights, values, mixed),
        64 => mix_wide::<8>(weights, values, mixed),
        width => {
            for (&weight, value) in weights.iter().zip(values.chunks_exact(width)) {
                add_scaled(mixed, weight, value);
            }
        }
    }
}

/// [`mix`] for a width of `PARTS` times eight.
#[inline(always)]
fn mix_wide<const PARTS: usize>(weights: &[f32], values: &[f32], mixed: &mut [f32]) {
    let add = |sums: &mut [[f32; 8]; PARTS], weight: f32, value: &[f32]| {
        for (sums, value) in sums.iter_mut().zip(value.chunks_exact(8)) {
            for lane in 0..8 {
                sums[lane] += weight * value[lane];
            }
        }
    };
    // Even and odd positions apart: two chains of additions are half as long.
    let (mut even, mut odd) = ([[0f32; 8]; PARTS], [[0f32; 8]; PARTS]);
    let pairs = values.chunks_exact(2 * 8 * PARTS);
    for (pair, value) in weights.chunks(2).zip(pairs) {
        let (first, second) = value.split_at(8 * PARTS);
        add(&mut even, pair[0], first);
        if let Some(&weight) = pair.get(1) {
            add(&mut odd, weight, second);
        }
    }
    for ((mixed, even), odd) in mixed.chunks_exact_mut(8).zip(even).zip(odd) {
        for lane in 0..8 {
            mixed[lane] += even[lane] + odd[lane];
        }
    }
}

/// What a matrix product does with what is in its destination.
#[derive(Clone, Copy, PartialEq)]
enum Into {
    /// Adds to it.
    Sum,
    /// Overwrites it.
    Place,
}

/// `out (+)= left * right`, where `left` is `[rows, in]` with rows `stride`
/// apart and `right` is `[in, columns]`.
fn product(
    out: &mut [f32],
    into: Into,
    left: &[f32],
    stride: usize,
    right: &[f32],
    columns: usize,
    parallelism: Parallelism,
) {
    let (rows, inner) = (out.len() / columns, right.len() / columns);
    assert!(
        rows > 0 && stride >= inner,
        "a product of no rows or overlapping rows"
    );
    assert!(
        left.len() >= (rows - 1) * stride + inner,
        "the left factor has too few rows"
    );
    // SAFETY: by the assertions above all of `left` [rows, inner], `right`
    // [inner, columns] and `out` [rows, columns] lie within their slices at
    // the strides given, and `out` is borrowed mutably, so aliases nothing.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns as isize,
            into == Into::Sum,
            left.as_ptr(),
            1,
            stride as isize,
            right.as_ptr(),
            1,
            columns as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

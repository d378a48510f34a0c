//! The weights, and the forward pass that is differentiable in each of them.
//!
//! Stock model code cannot be trained: its fused kernels cut the graph
//! without an error. Only differentiable operations are used here; the stock
//! model serves as the oracle of the parity tests.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::frozen;
use crate::log_probs;
use crate::lora::Adapter;
use crate::rope::Rotary;
use crate::settings::LARGE;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops;
use std::collections::BTreeMap;

/// A decoder: named variables, and the forward pass over them. They are in f32,
/// or on a CPU their matrices in bf16.
///
/// The variables are shared, not copied: whoever writes one in place
/// ([`Var::set`]) changes what this decoder computes next.
pub struct Decoder {
    config: Config,
    device: Device,
    vars: BTreeMap<String, Var>,
    adapter: Option<Adapter>,
    layers: Vec<Layer>,
    embedding: Tensor,  // [vocab, hidden]
    final_norm: Tensor, // [hidden]
    output: Tensor,     // [vocab, hidden]; the embedding itself when tied
}

/// The variables of one layer, in the order in which they are used.
struct Layer {
    input_norm: Tensor,
    query: Map,                           // [query, hidden]
    key: Map,                             // [key_value, hidden]
    value: Map,                           // [key_value, hidden]
    head_norms: Option<(Tensor, Tensor)>, // of queries and keys, [head_dim]
    attention_out: Map,                   // [hidden, query]
    feed_forward_norm: Tensor,
    gate: Map, // [inner, hidden]
    up: Map,   // [inner, hidden]
    down: Map, // [hidden, inner]
}

/// A linear map: `x Wᵀ + b`, and beside it `s (x Aᵀ) Bᵀ` if it has an adapter.
struct Map {
    weight: Tensor, // [outputs, inputs]
    bias: Option<Tensor>,
    pair: Option<(Tensor, Tensor, f64)>, // [rank, inputs], [outputs, rank]
    /// Whether the weight is trained.
    is_trained: bool,
}

impl Map {
    /// `rows` is `[rows, inputs]`.
    fn apply(&self, rows: &Tensor) -> Result<Tensor> {
        let weight = self.weight.to_dtype(rows.dtype())?;
        let mut out = match self.is_trained {
            true => rows.matmul(&weight.t()?)?,
            false => frozen::project(rows, &weight)?,
        };
        if let Some(bias) = &self.bias {
            out = out.broadcast_add(bias)?;
        }
        if let Some((down, up, scale)) = &self.pair {
            let low = rows.matmul(&down.t()?)?;
            out = (out + (low.matmul(&up.t()?)? * *scale)?)?;
        }
        Ok(out)
    }
}

impl Decoder {
    /// Takes variables that are known to fit `config`.
    pub(crate) fn from_vars(
        config: Config,
        vars: BTreeMap<String, Var>,
        device: &Device,
    ) -> Result<Self> {
        Self::assemble(config, vars, None, device)
    }

    /// With an adapter nothing else is trained.
    fn assemble(
        config: Config,
        vars: BTreeMap<String, Var>,
        adapter: Option<Adapter>,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        let is_trained = adapter.is_none();
        let var = |name: &str| -> Result<Tensor> {
            match vars.get(name) {
                Some(var) if is_trained => Ok(var.as_tensor().clone()),
                Some(var) => Ok(var.as_detached_tensor()),
                None => Err(Error::Weights(format!("tensor {name} is missing"))),
            }
        };
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for index in 0..config.num_hidden_layers {
            let part = |name: &str| var(&format!("model.layers.{index}.{name}"));
            let map = |name: &str, is_biased: bool| -> Result<Map> {
                let pair = adapter.as_ref().and_then(|adapter| {
                    let (down, up) = adapter.pair(&format!("model.layers.{index}.{name}"))?;
                    let tensor = |var: &Var| var.as_tensor().clone();
                    Some((tensor(down), tensor(up), f64::from(adapter.scale())))
                });
                let bias = is_biased.then(|| part(&format!("{name}.bias")));
                Ok(Map {
                    weight: part(&format!("{name}.weight"))?,
                    bias: bias.transpose()?,
                    pair,
                    is_trained,
                })
            };
            let is_biased = config.has_biases();
            let head_norms = match config.has_head_norms() {
                true => Some((
                    part("self_attn.q_norm.weight")?,
                    part("self_attn.k_norm.weight")?,
                )),
                false => None,
            };
            layers.push(Layer {
                input_norm: part("input_layernorm.weight")?,
                query: map("self_attn.q_proj", is_biased)?,
                key: map("self_attn.k_proj", is_biased)?,
                value: map("self_attn.v_proj", is_biased)?,
                head_norms,
                attention_out: map("self_attn.o_proj", false)?,
                feed_forward_norm: part("post_attention_layernorm.weight")?,
                gate: map("mlp.gate_proj", false)?,
                up: map("mlp.up_proj", false)?,
                down: map("mlp.down_proj", false)?,
            });
        }
        let embedding = var("model.embed_tokens.weight")?;
        let output = match config.tie_word_embeddings {
            true => embedding.clone(),
            false => var("lm_head.weight")?,
        };
        let final_norm = var("model.norm.weight")?;
        Ok(Self {
            device: device.clone(),
            layers,
            embedding,
            final_norm,
            output,
            vars,
            adapter,
            config,
        })
    }

    /// The architecture.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the weights live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every variable by its Hugging Face name.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// The adapter, if one is trained instead of the model's own variables.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The same variables, shared, with another adapter or with none.
    ///
    /// # Errors
    /// A tensor can't be shared.
    pub fn with_adapter(&self, adapter: Option<Adapter>) -> Result<Self> {
        Self::assemble(
            self.config.clone(),
            self.vars.clone(),
            adapter,
            &self.device,
        )
    }

    /// A copy whose matrices are kept in `dtype`, f32 or bf16; to the latter
    /// they are rounded, unless they come from it.
    ///
    /// # Errors
    /// There is no room.
    pub fn kept_in(&self, dtype: DType) -> Result<Self> {
        let kept = |(name, var): (&String, &Var)| {
            let tensor = var.as_detached_tensor();
            let tensor = match var.rank() {
                2 => tensor.to_dtype(dtype)?,
                _ => tensor,
            };
            Ok((name.clone(), Var::from_tensor(&tensor.copy()?)?))
        };
        let vars = self.vars.iter().map(kept).collect::<Result<_>>()?;
        let (config, adapter) = (self.config.clone(), self.adapter.clone());
        Self::assemble(config, vars, adapter, &self.device)
    }

    /// What its matrices are kept in.
    pub fn dtype(&self) -> DType {
        self.embedding.dtype()
    }

    /// A copy on `device`, adapter and all, in f32: what computes there has no
    /// products of bf16 with f32.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        let adapter = self.adapter.as_ref().map(|adapter| adapter.on(device));
        let vars = moved(&self.vars, device)?;
        Self::assemble(self.config.clone(), vars, adapter.transpose()?, device)
    }

    /// The variables that training moves: the adapter's, or all.
    pub fn trained(&self) -> &BTreeMap<String, Var> {
        self.adapter.as_ref().map_or(&self.vars, Adapter::vars)
    }

    /// The last hidden states, after the final norm: `[batch, tokens, hidden]`.
    ///
    /// `tokens` is `[batch, tokens]` of u32. Attention is causal, so rows
    /// padded on the right are right at every real token; what comes out at
    /// padding is meaningless. Differentiable in every variable.
    pub fn hidden(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, length) = self.check_tokens(tokens)?;
        let hidden_size = self.config.hidden_size;
        let mask = causal_mask(length, &self.device)?;
        let rotary = rotary_tables(&self.config, length, &self.device)?;
        let stream = self.embedding.index_select(&tokens.flatten_all()?, 0)?; // [batch * tokens, hidden]
        let mut stream = stream.to_dtype(DType::F32)?;
        for layer in &self.layers {
            let normed = self.norm(&stream, &layer.input_norm)?;
            let mixed = self.attend(layer, &normed, (batch, length), &rotary, &mask)?;
            stream = (stream + mixed)?;
            let normed = self.norm(&stream, &layer.feed_forward_norm)?;
            let gate = ops::silu(&layer.gate.apply(&normed)?)?;
            let up = layer.up.apply(&normed)?;
            stream = (stream + layer.down.apply(&(gate * up)?)?)?;
        }
        Ok(self
            .norm(&stream, &self.final_norm)?
            .reshape((batch, length, hidden_size))?)
    }

    fn norm(&self, stream: &Tensor, weight: &Tensor) -> Result<Tensor> {
        Ok(ops::rms_norm_slow(
            stream,
            weight,
            self.config.rms_norm_eps as f32,
        )?)
    }

    /// Self-attention over `[batch * tokens, hidden]`, projections included.
    fn attend(
        &self,
        layer: &Layer,
        normed: &Tensor,
        (batch, length): (usize, usize),
        (cosines, sines): &(Tensor, Tensor),
        mask: &Tensor,
    ) -> Result<Tensor> {
        let config = &self.config;
        let (heads, shared, width) = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim(),
        );
        // [batch * tokens, heads * width] -> [batch, heads, tokens, width]
        let project = |map: &Map, heads: usize| -> Result<Tensor> {
            Ok(map
                .apply(normed)?
                .reshape((batch, length, heads, width))?
                .transpose(1, 2)?
                .contiguous()?)
        };
        let (mut query, mut key) = (project(&layer.query, heads)?, project(&layer.key, shared)?);
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = self.norm(&query, query_norm)?;
            key = self.norm(&key, key_norm)?;
        }
        let rotate = |x: &Tensor| candle_nn::rotary_emb::rope_slow(x, cosines, sines);
        let (query, key) = (rotate(&query)?, rotate(&key)?);
        let value = project(&layer.value, shared)?;
        // The query heads that share a key head are stacked along the tokens,
        // so that keys and values are never repeated.
        let group = heads / shared;
        let query = query.reshape((batch, shared, group * length, width))?;
        let scores = (query.matmul(&key.transpose(2, 3)?)? * (1.0 / (width as f64).sqrt()))?;
        let scores = scores
            .reshape((batch, heads, length, length))?
            .broadcast_add(mask)?;
        let weights = ops::softmax(&scores, D::Minus1)?;
        let mixed = weights
            .reshape((batch, shared, group * length, length))?
            .matmul(&value)?
            .reshape((batch, heads, length, width))?
            .transpose(1, 2)?
            .reshape((batch * length, heads * width))?;
        layer.attention_out.apply(&mixed)
    }

    /// The log-probability of each target and the entropy of each
    /// distribution, given rows of [`Decoder::hidden`].
    ///
    /// `hidden` is `[rows, hidden]`, `targets` is `[rows]` of u32; both
    /// results are `[rows]`. The first is differentiable in `hidden` and in
    /// the output weights, the second is detached. Logits exist for at most
    /// `chunk` rows at a time, forward and backward.
    pub fn log_probs(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        chunk: usize,
    ) -> Result<(Tensor, Tensor)> {
        let (rows, _) = hidden.dims2()?;
        if targets.dims() != [rows] || targets.dtype() != DType::U32 {
            return Err(Error::Input(format!(
                "targets are {:?} of {:?}, expected [{rows}] of u32",
                targets.dims(),
                targets.dtype()
            )));
        }
        self.check_range(targets)?;
        if rows == 0 {
            let empty = Tensor::zeros(0, DType::F32, &self.device)?;
            return Ok((empty.clone(), empty));
        }
        let is_trained = self.adapter.is_none();
        Ok(log_probs::log_probs(
            hidden,
            &self.output.to_dtype(hidden.dtype())?,
            is_trained,
            targets,
            chunk,
        )?)
    }

    fn check_tokens(&self, tokens: &Tensor) -> Result<(usize, usize)> {
        let &[batch, length] = tokens.dims() else {
            return Err(Error::Input(format!(
                "tokens are {:?}, expected [batch, tokens]",
                tokens.dims()
            )));
        };
        if tokens.dtype() != DType::U32 {
            return Err(Error::Input(format!(
                "tokens are {:?}, expected u32",
                tokens.dtype()
            )));
        }
        if batch == 0 || length == 0 {
            return Err(Error::Input("there are no tokens".into()));
        }
        if length > self.config.max_position_embeddings {
            return Err(Error::Input(format!(
                "{length} tokens are more than the model's {} positions",
                self.config.max_position_embeddings
            )));
        }
        self.check_range(tokens)?;
        Ok((batch, length))
    }

    /// Refuses token ids outside the vocabulary: on some devices an index
    /// out of range is not an error but a read of foreign memory.
    fn check_range(&self, tokens: &Tensor) -> Result<()> {
        let tokens = tokens.flatten_all()?.to_vec1::<u32>()?;
        match tokens
            .iter()
            .find(|&&token| token as usize >= self.config.vocab_size)
        {
            None => Ok(()),
            Some(token) => Err(Error::Input(format!(
                "token {token} is outside the vocabulary of {}",
                self.config.vocab_size
            ))),
        }
    }
}

/// Cosines and sines of the first positions' angles, `[positions, head_dim / 2]`.
fn rotary_tables(config: &Config, positions: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut rotary = Rotary::new(config);
    rotary.reach(positions);
    let (cosines, sines) = rotary.into_tables();
    let shape = (positions, config.head_dim() / 2);
    Ok((
        Tensor::from_vec(cosines, shape, device)?,
        Tensor::from_vec(sines, shape, device)?,
    ))
}

/// Copies of variables on `device`, in f32.
pub(crate) fn moved(
    vars: &BTreeMap<String, Var>,
    device: &Device,
) -> Result<BTreeMap<String, Var>> {
    vars.iter()
        .map(|(name, var)| {
            let tensor = var.as_detached_tensor().to_device(device)?;
            Ok((
                name.clone(),
                Var::from_tensor(&tensor.to_dtype(DType::F32)?)?,
            ))
        })
        .collect()
}

/// The device that a model of so many weights is best trained on: small ones on
/// the CPU, whose kernel beats the overhead of any other, large ones on the GPU
/// that this build is for, if it is for one.
///
/// # Errors
/// The build is for a GPU, and there is none that works.
pub fn best_device(parameters: u64) -> Result<Device> {
    if parameters < LARGE {
        return Ok(Device::Cpu);
    }
    #[cfg(feature = "cuda")]
    return Ok(Device::new_cuda(0)?);
    #[cfg(all(feature = "metal", not(feature = "cuda")))]
    return Ok(Device::new_metal(0)?);
    #[cfg(not(any(feature = "cuda", feature = "metal")))]
    Ok(Device::Cpu)
}

/// Zero where a query may look and minus infinity where it may not.
fn causal_mask(length: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..length)
        .flat_map(|query| {
            (0..length).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (length, length), device)?)
}

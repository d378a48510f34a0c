//! Weights from randomness, and from and to safetensors.

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::pretrained::{Numbers, Safetensors, Tensors, fit};
use crate::random::normals;
use crate::settings::LARGE;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;

impl Decoder {
    /// A decoder with random weights that depend on `seed` alone.
    ///
    /// Matrices are normal with a deviation of `1 / sqrt(3 * fan_in)`, those
    /// that write to the residual stream are smaller by `sqrt(2 * layers)`,
    /// the embedding has a deviation of 0.02, norms are one, biases zero.
    pub fn random(config: Config, seed: u64, device: &Device) -> Result<Self> {
        config.check()?;
        let depth = (2.0 * config.num_hidden_layers as f32).sqrt();
        let mut vars = BTreeMap::new();
        for (stream, (name, shape)) in config.shapes().into_iter().enumerate() {
            let tensor = match shape[..] {
                [_] if name.ends_with("bias") => Tensor::zeros(&shape[..], DType::F32, device)?,
                [_] => Tensor::ones(&shape[..], DType::F32, device)?,
                _ => {
                    let deviation = match name.as_str() {
                        "model.embed_tokens.weight" | "lm_head.weight" => 0.02,
                        _ => {
                            let fan_in = (3.0 * shape[1] as f32).sqrt();
                            let writes = name.contains("o_proj") || name.contains("down_proj");
                            1.0 / if writes { fan_in * depth } else { fan_in }
                        }
                    };
                    let mut values = normals(seed, stream as u64, shape.iter().product());
                    values.iter_mut().for_each(|value| *value *= deviation);
                    Tensor::from_vec(values, &shape[..], device)?
                }
            };
            vars.insert(name, Var::from_tensor(&tensor)?);
        }
        Self::from_vars(config, vars, device)
    }

    /// Reads weights in f32, f16 or bf16, and keeps them in f32; matrices that
    /// are in bf16 stay so in models of ten million weights or more on a CPU,
    /// where reading them from memory is what takes the time.
    ///
    /// The file must hold exactly the tensors of the configuration, each in
    /// its shape and finite. A tied model may repeat its embedding as
    /// `lm_head.weight`, as some writers do.
    pub fn from_safetensors(config: Config, bytes: &[u8], device: &Device) -> Result<Self> {
        Self::from_tensors(config, &mut Safetensors::of_bytes(bytes)?, device)
    }

    /// Reads weights one tensor at a time, so that none is in memory twice.
    pub(crate) fn from_tensors(
        config: Config,
        tensors: &mut dyn Tensors,
        device: &Device,
    ) -> Result<Self> {
        config.check()?;
        fit(&config, tensors)?;
        let keeps_halves = config.parameters() >= LARGE && device.is_cpu();
        let mut vars = BTreeMap::new();
        for (name, shape) in config.shapes() {
            let values = tensors.read(&name)?;
            if !values.are_finite() {
                let place = tensors.place(&name).map(|place| format!("{place}: "));
                return Err(Error::Weights(format!(
                    "{}tensor {name} holds values that are not finite",
                    place.unwrap_or_default()
                )));
            }
            let var = match values {
                Numbers::Bf16(values) if keeps_halves && shape.len() == 2 => {
                    Var::from_vec(values, shape, device)
                }
                values => Var::from_vec(values.widened(), shape, device),
            };
            vars.insert(name, var?);
        }
        if config.tie_word_embeddings && tensors.shapes().contains_key("lm_head.weight") {
            let head = tensors.read("lm_head.weight")?.widened();
            if head != tensors.read("model.embed_tokens.weight")?.widened() {
                return Err(Error::Weights(
                    "tensor lm_head.weight has no place in the model: the configuration says it \
                     is the embedding (tie_word_embeddings), and it is not"
                        .into(),
                ));
            }
        }
        Self::from_vars(config, vars, device)
    }

    /// Writes every variable as `dtype` (f32, f16 or bf16), in an order of
    /// its own: the same weights give the same bytes.
    pub fn to_safetensors(&self, dtype: DType) -> Result<Vec<u8>> {
        self.written(Some(dtype))
    }

    /// Writes every variable as it is kept.
    pub(crate) fn to_safetensors_as_kept(&self) -> Result<Vec<u8>> {
        self.written(None)
    }

    fn written(&self, dtype: Option<DType>) -> Result<Vec<u8>> {
        if let Some(other) = dtype.filter(|&dtype| !WRITTEN.contains(&dtype)) {
            return Err(Error::Input(format!(
                "weights cannot be written as {other:?}"
            )));
        }
        // What needs no conversion is not copied but into the file.
        let tensors = self.vars().iter().map(|(name, var)| {
            let tensor = var.as_detached_tensor().to_device(&Device::Cpu)?;
            let tensor = tensor.to_dtype(dtype.unwrap_or(var.dtype()))?;
            Ok((name.as_str(), tensor))
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        safetensors::serialize(tensors, None).map_err(|error| Error::Weights(error.to_string()))
    }
}

/// What weights can be written as.
const WRITTEN: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

//! Weights from randomness, and from and to safetensors.

use crate::adamw::join;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::pretrained::{Numbers, Safetensors, Tensors, fit};
use crate::random::normals;
use crate::settings::LARGE;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor, Var};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

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
        let mut bytes = Vec::new();
        self.write_safetensors(Some(dtype), &mut bytes)
            .map_err(|error| Error::Weights(error.to_string()))?;
        Ok(bytes)
    }

    /// [`Decoder::to_safetensors`] a piece at a time, or each variable as it is
    /// kept.
    pub(crate) fn write_safetensors(
        &self,
        dtype: Option<DType>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let tensors = self.vars().iter();
        let tensors = tensors.map(|(name, var)| (name.as_str(), Lying::Tensor(var.as_tensor())));
        write_tensors(tensors, dtype, out)
    }
}

/// Numbers as they lie, to be written without a copy of them all.
#[derive(Clone, Copy)]
pub(crate) enum Lying<'a> {
    Tensor(&'a Tensor),
    /// Numbers of this shape.
    Slice(&'a [f32], &'a [usize]),
    /// Weights in bf16 on the CPU, each with what it lacks of f32.
    Halves(&'a Tensor, &'a [i16]),
}

impl Lying<'_> {
    fn dims(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) | Self::Halves(tensor, _) => tensor.dims(),
            Self::Slice(_, dims) => dims,
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Self::Tensor(tensor) => tensor.dtype(),
            Self::Slice(..) | Self::Halves(..) => DType::F32,
        }
    }

    /// A copy.
    pub(crate) fn to_tensor(self) -> candle_core::Result<Tensor> {
        match self {
            Self::Tensor(tensor) => tensor.detach().copy(),
            Self::Slice(values, dims) => Tensor::from_slice(values, dims, &Device::Cpu),
            Self::Halves(nearest, rests) => {
                let mut values = Vec::with_capacity(rests.len());
                halves(nearest, rests, |joined| values.extend(joined))?;
                Tensor::from_vec(values, nearest.dims(), &Device::Cpu)
            }
        }
    }

    fn write(&self, dtype: DType, out: &mut dyn Write) -> candle_core::Result<()> {
        let mut result = Ok(());
        match self {
            Self::Slice(values, _) => result = write_numbers(values.iter().copied(), dtype, out),
            Self::Halves(nearest, rests) => halves(nearest, rests, |joined| {
                result = write_numbers(joined, dtype, out);
            })?,
            Self::Tensor(tensor) => {
                let tensor = tensor.detach().to_device(&Device::Cpu)?.contiguous()?;
                let (storage, layout) = tensor.storage_and_layout();
                let start = layout.start_offset();
                let range = start..start + tensor.elem_count();
                result = match &*storage {
                    Storage::Cpu(CpuStorage::F32(values)) => {
                        write_numbers(values[range].iter().copied(), dtype, out)
                    }
                    Storage::Cpu(CpuStorage::BF16(values)) => {
                        let values = values[range].iter().map(|value| value.to_f32());
                        write_numbers(values, dtype, out)
                    }
                    _ => candle_core::bail!("weights in {:?} cannot be written", tensor.dtype()),
                };
            }
        }
        Ok(result?)
    }
}

/// Lends `work` the exact weights of which `nearest` holds one half.
fn halves<'a>(
    nearest: &'a Tensor,
    rests: &'a [i16],
    work: impl FnOnce(&mut dyn Iterator<Item = f32>),
) -> candle_core::Result<()> {
    let (storage, layout) = nearest.storage_and_layout();
    let (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) =
        (&*storage, layout.contiguous_offsets())
    else {
        candle_core::bail!("halves of weights that are not in bf16 on the CPU");
    };
    let pairs = values[start..end].iter().zip(rests);
    work(&mut pairs.map(|(&near, &rest)| join(near, rest)));
    Ok(())
}

/// Writes tensors as `dtype`, or each as it is, in safetensors' format, one after
/// the other: the format's own library wants all of them in memory once more.
pub(crate) fn write_tensors<'a>(
    tensors: impl Iterator<Item = (&'a str, Lying<'a>)>,
    dtype: Option<DType>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut tensors: Vec<(&str, Lying<'_>, DType)> = tensors
        .map(|(name, lying)| {
            let dtype = dtype.unwrap_or(lying.dtype());
            (name, lying, dtype)
        })
        .collect();
    // The widest first, so that each begins at a multiple of its width.
    tensors.sort_by_key(|(name, _, dtype)| (Reverse(dtype.size_in_bytes()), *name));
    let mut end = 0;
    let mut places = Vec::new();
    for (name, lying, dtype) in &tensors {
        let start = end;
        end += lying.dims().iter().product::<usize>() * dtype.size_in_bytes();
        let info = TensorInfo {
            dtype: match dtype {
                DType::F32 => Dtype::F32,
                DType::F16 => Dtype::F16,
                DType::BF16 => Dtype::BF16,
                other => {
                    let why = format!("weights cannot be written as {other:?}");
                    return Err(io::Error::other(why));
                }
            },
            shape: lying.dims().to_vec(),
            data_offsets: (start, end),
        };
        places.push(((*name).to_owned(), info));
    }
    let metadata = Metadata::new(None, places).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (_, lying, dtype) in tensors {
        lying.write(dtype, out).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Bytes that are written at a time.
const CHUNK: usize = 1 << 18;

fn write_numbers(
    values: impl Iterator<Item = f32>,
    dtype: DType,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK);
    for value in values {
        match dtype {
            DType::F32 => bytes.extend(value.to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f32(value).to_le_bytes()),
            _ => bytes.extend(half::bf16::from_f32(value).to_le_bytes()),
        }
        if bytes.len() >= CHUNK {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn tensors_are_written_as_the_format_s_own_library_does() {
        let tensors = BTreeMap::from([
            ("a".to_owned(), Tensor::arange(0f32, 70_000.0, &Device::Cpu)),
            (
                "b.weight".to_owned(),
                Tensor::full(0.1f32, (3, 5), &Device::Cpu),
            ),
            ("c".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu)),
        ]);
        let tensors: BTreeMap<String, Tensor> = tensors
            .into_iter()
            .map(|(name, tensor)| (name, tensor.unwrap()))
            .collect();
        for (dtype, stored) in [
            (DType::F32, Dtype::F32),
            (DType::F16, Dtype::F16),
            (DType::BF16, Dtype::BF16),
        ] {
            let mut ours = Vec::new();
            let named = tensors.iter();
            let named = named.map(|(name, tensor)| (name.as_str(), Lying::Tensor(tensor)));
            write_tensors(named, Some(dtype), &mut ours).unwrap();
            let theirs: BTreeMap<&str, (Vec<usize>, Vec<u8>)> = tensors
                .iter()
                .map(|(name, tensor)| {
                    let tensor = tensor.to_dtype(dtype).unwrap().flatten_all().unwrap();
                    let bytes = match dtype {
                        DType::F32 => bytes(&tensor.to_vec1::<f32>().unwrap(), |v| {
                            v.to_le_bytes().to_vec()
                        }),
                        DType::F16 => bytes(&tensor.to_vec1::<half::f16>().unwrap(), |v| {
                            v.to_le_bytes().to_vec()
                        }),
                        _ => bytes(&tensor.to_vec1::<half::bf16>().unwrap(), |v| {
                            v.to_le_bytes().to_vec()
                        }),
                    };
                    (name.as_str(), (tensors[name].dims().to_vec(), bytes))
                })
                .collect();
            let views = theirs.iter().map(|(name, (shape, bytes))| {
                (
                    *name,
                    TensorView::new(stored, shape.clone(), bytes).unwrap(),
                )
            });
            assert_eq!(
                ours,
                safetensors::serialize(views, None).unwrap(),
                "{dtype:?}"
            );
        }
    }

    fn bytes<T>(values: &[T], write: impl Fn(&T) -> Vec<u8>) -> Vec<u8> {
        values.iter().flat_map(write).collect()
    }
}

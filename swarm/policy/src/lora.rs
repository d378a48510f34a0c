//! Low-rank adapters (LoRA; Hu et al., 2021): a small matrix pair beside each
//! of some linear maps, trained while the model itself stays as it is.
//!
//! `y = x Wᵀ + (alpha / rank) (x Aᵀ) Bᵀ`, with `A` random and `B` zero at
//! first, so that a fresh adapter changes nothing.

use crate::config::Config;
use crate::decoder::moved;
use crate::error::{Error, Result};
use crate::random::normals;
use candle_core::{DType, Device, Tensor, Var};
use safetensors::tensor::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The linear maps of a layer that can have an adapter, by their parents.
pub(crate) const TARGETS: [(&str, &str); 7] = [
    ("self_attn", "q_proj"),
    ("self_attn", "k_proj"),
    ("self_attn", "v_proj"),
    ("self_attn", "o_proj"),
    ("mlp", "gate_proj"),
    ("mlp", "up_proj"),
    ("mlp", "down_proj"),
];

/// What adapters are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// Width of the pair's middle.
    pub rank: usize,
    /// What the pair's product is multiplied by, times the rank.
    pub alpha: f32,
    /// Which linear maps of each layer get a pair, by their last names.
    pub targets: BTreeSet<String>,
}

impl Default for LoraSettings {
    /// Rank 16 on every linear map, as strong as `2 B A`.
    fn default() -> Self {
        Self::with_rank(16)
    }
}

impl LoraSettings {
    /// This rank on every linear map, with twice its `alpha`.
    pub fn with_rank(rank: usize) -> Self {
        Self {
            rank,
            alpha: 2.0 * rank as f32,
            targets: TARGETS.iter().map(|(_, name)| (*name).to_owned()).collect(),
        }
    }

    /// Refuses settings that no adapter can be made with.
    pub fn check(&self, config: &Config) -> Result<()> {
        let most = config.hidden_size.min(config.key_value_size());
        if self.rank == 0 || self.rank > most {
            return Err(Error::Input(format!(
                "a LoRA rank of {} is not between 1 and {most}, the model's narrowest matrix",
                self.rank
            )));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(Error::Input(format!("lora alpha cannot be {}", self.alpha)));
        }
        let known = |target: &&String| TARGETS.iter().any(|(_, name)| name == *target);
        match self.targets.iter().find(|target| !known(target)) {
            None if !self.targets.is_empty() => Ok(()),
            unknown => Err(Error::Input(format!(
                "LoRA on {}: expected some of {}",
                unknown.map_or("nothing", |name| name),
                TARGETS.map(|(_, name)| name).join(", ")
            ))),
        }
    }
}

/// A pair of matrices for each linear map that has one: the variables that are
/// trained instead of the model's.
#[derive(Debug, Clone)]
pub struct Adapter {
    settings: LoraSettings,
    vars: BTreeMap<String, Var>,
}

impl Adapter {
    /// A fresh adapter, which changes nothing yet: as PEFT has it, `A` is
    /// random with a deviation of `1 / sqrt(3 inputs)` and `B` zero. Depends on
    /// `seed` alone.
    ///
    /// # Errors
    /// Settings that don't fit the model.
    pub fn new(
        config: &Config,
        settings: LoraSettings,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        settings.check(config)?;
        let mut vars = BTreeMap::new();
        for (stream, (name, [rows, columns])) in shapes(config, &settings).into_iter().enumerate() {
            let tensor = if name.ends_with("lora_B.weight") {
                Tensor::zeros((rows, columns), DType::F32, device)?
            } else {
                let deviation = 1.0 / (3.0 * columns as f32).sqrt();
                let mut values = normals(seed, stream as u64, rows * columns);
                values.iter_mut().for_each(|value| *value *= deviation);
                Tensor::from_vec(values, (rows, columns), device)?
            };
            vars.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self { settings, vars })
    }

    /// What it was made of.
    pub fn settings(&self) -> &LoraSettings {
        &self.settings
    }

    /// Its variables: `model.layers.0.mlp.up_proj.lora_A.weight` and so on.
    pub fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Width of each pair's middle.
    pub fn rank(&self) -> usize {
        self.settings.rank
    }

    /// What each pair's product is multiplied by.
    pub fn scale(&self) -> f32 {
        self.settings.alpha / self.settings.rank as f32
    }

    /// A copy on `device`.
    pub(crate) fn on(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            settings: self.settings.clone(),
            vars: moved(&self.vars, device)?,
        })
    }

    /// The pair beside the linear map `name`, if it has one: `A` and `B`.
    pub(crate) fn pair(&self, name: &str) -> Option<(&Var, &Var)> {
        let var = |side: &str| self.vars.get(&format!("{name}.lora_{side}.weight"));
        var("A").zip(var("B"))
    }

    /// `weight` of the linear map `name` as it works with its pair: `W + s B A`.
    ///
    /// # Errors
    /// The shapes don't fit: it is another model's.
    pub fn merged(&self, name: &str, weight: &Tensor) -> Result<Tensor> {
        let Some((down, up)) = self.pair(name) else {
            return Ok(weight.clone());
        };
        let product = up.as_detached_tensor().matmul(&down.as_detached_tensor())?;
        Ok((weight + (product * f64::from(self.scale()))?)?)
    }
}

/// PEFT's names of an adapter's files.
pub(crate) const PEFT_WEIGHTS: &str = "adapter_model.safetensors";
pub(crate) const PEFT_CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the names of a causal language model's tensors.
const PEFT_PREFIX: &str = "base_model.model.";

impl Adapter {
    /// As PEFT writes it: `adapter_model.safetensors` and
    /// `adapter_config.json`, for the base model called `base`.
    ///
    /// # Errors
    /// The tensors can't be copied from their device.
    pub fn to_peft(&self, base: &str) -> Result<(Vec<u8>, Vec<u8>)> {
        let unfit = |error: &dyn std::fmt::Display| {
            Error::Weights(format!("writing {PEFT_WEIGHTS}: {error}"))
        };
        let tensors = self
            .vars
            .iter()
            .map(|(name, var)| {
                let tensor = var.as_detached_tensor().to_device(&Device::Cpu)?;
                Ok((format!("{PEFT_PREFIX}{name}"), tensor))
            })
            .collect::<Result<BTreeMap<_, _>>>()?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let weights =
            safetensors::serialize(&tensors, Some(metadata)).map_err(|error| unfit(&error))?;
        let config = serde_json::json!({
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "lora_alpha": self.settings.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self.settings.rank,
            "target_modules": self.settings.targets,
            "task_type": "CAUSAL_LM",
            "use_rslora": false,
        });
        let config = serde_json::to_vec_pretty(&config).map_err(|error| unfit(&error))?;
        Ok((weights, config))
    }

    /// Reads what PEFT wrote for a model of this architecture.
    ///
    /// # Errors
    /// It is no LoRA that is a pair of matrices beside linear maps of this
    /// model: says what is different.
    pub fn from_peft(
        config: &Config,
        weights: &[u8],
        peft: &[u8],
        device: &Device,
    ) -> Result<Self> {
        let (scale, rank) = Peft::read(peft)?;
        let file = SafeTensors::deserialize(weights)
            .map_err(|error| Error::Weights(format!("{PEFT_WEIGHTS}: {error}")))?;
        let refuse = |why: String| Err(Error::Weights(format!("{PEFT_WEIGHTS}: {why}")));
        let everywhere = shapes(config, &LoraSettings::with_rank(rank));
        let (mut vars, mut targets) = (BTreeMap::new(), BTreeSet::new());
        let mut views: Vec<_> = file.iter().collect();
        views.sort_by_key(|(name, _)| *name);
        for (peft_name, view) in views {
            let name = peft_name.strip_prefix(PEFT_PREFIX).unwrap_or(peft_name);
            let Some(shape) = everywhere.get(name) else {
                return refuse(format!("tensor {peft_name} has no place in the model"));
            };
            if view.shape() != shape {
                let found = view.shape();
                return refuse(format!(
                    "tensor {peft_name} is {found:?}, expected {shape:?}"
                ));
            }
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                other => return refuse(format!("tensor {peft_name} is of type {other:?}")),
            };
            let tensor = Tensor::from_raw_buffer(view.data(), dtype, shape, &Device::Cpu)?
                .to_dtype(DType::F32)?;
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            if !values.iter().all(|value| value.is_finite()) {
                return refuse(format!(
                    "tensor {peft_name} holds values that are not finite"
                ));
            }
            let map = name.split(".lora_").next().unwrap_or(name);
            targets.extend(map.rsplit('.').next().map(str::to_owned));
            vars.insert(
                name.to_owned(),
                Var::from_tensor(&tensor.to_device(device)?)?,
            );
        }
        for name in vars.keys() {
            let other = match name.split_once(".lora_A.") {
                Some((map, end)) => format!("{map}.lora_B.{end}"),
                None => name.replace(".lora_B.", ".lora_A."),
            };
            if !vars.contains_key(&other) {
                return refuse(format!("{name} is there and {other} is missing"));
            }
        }
        let settings = LoraSettings {
            rank,
            alpha: scale * rank as f32,
            targets,
        };
        settings.check(config)?;
        Ok(Self { settings, vars })
    }
}

/// What of an `adapter_config.json` changes what an adapter computes.
#[derive(Deserialize)]
struct Peft {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

impl Peft {
    /// The scale and the rank, of a kind of adapter that is ours too.
    fn read(bytes: &[u8]) -> Result<(f32, usize)> {
        let refuse = |why: String| Error::Config(format!("{PEFT_CONFIG}: {why}"));
        let peft: Self =
            serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        if peft.peft_type != "LORA" {
            return Err(refuse(format!(
                "peft_type is {:?}, expected \"LORA\"",
                peft.peft_type
            )));
        }
        // Each of these computes something else than `W + s B A`.
        for key in [
            "use_dora",
            "fan_in_fan_out",
            "lora_bias",
            "modules_to_save",
            "rank_pattern",
            "alpha_pattern",
            "trainable_token_indices",
        ] {
            let is_set = match peft.rest.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(Value::Object(map)) => !map.is_empty(),
                Some(Value::Array(list)) => !list.is_empty(),
                Some(_) => true,
            };
            if is_set {
                return Err(refuse(format!("{key} is set, which is not supported")));
            }
        }
        let bias = peft.rest.get("bias").and_then(Value::as_str);
        if bias.is_some_and(|bias| bias != "none") {
            return Err(refuse(format!("bias is {bias:?}, expected \"none\"")));
        }
        if peft.r == 0 || peft.r > 1 << 16 {
            return Err(refuse(format!("r is {}", peft.r)));
        }
        let rank = peft.r as f32;
        let divisor = if peft.use_rslora { rank.sqrt() } else { rank };
        Ok((peft.lora_alpha / divisor, peft.r))
    }
}

/// The names and shapes of an adapter's matrices.
pub(crate) fn shapes(config: &Config, settings: &LoraSettings) -> BTreeMap<String, [usize; 2]> {
    let mut shapes = BTreeMap::new();
    for (name, shape) in config.shapes() {
        let Some(map) = name.strip_suffix(".weight") else {
            continue;
        };
        let is_target = map.rsplit_once('.').is_some_and(|(parent, last)| {
            settings.targets.contains(last) && parent.contains(".layers.")
        });
        if let (true, [outputs, inputs]) = (is_target, &shape[..]) {
            shapes.insert(format!("{map}.lora_A.weight"), [settings.rank, *inputs]);
            shapes.insert(format!("{map}.lora_B.weight"), [*outputs, settings.rank]);
        }
    }
    shapes
}

//! AdamW in one pass over memory, and Muon for matrices.
//!
//! An [`Optimizer`] remembers moments for each variable and writes the
//! variables in place: on a CPU in one loop over the storage, where the weight,
//! its gradient and both moments are read and written once; on other devices
//! with tensor operations. Both follow `torch.optim.AdamW`. A matrix in bf16
//! follows an exact weight in f32, of which it holds one half and the optimizer
//! the other.
//!
//! Weight decay is for matrices; norms and biases are never decayed.

use crate::adamw::{AdamW, Coefficients, split};
use crate::error::{Error, Result};
use crate::gradients::Gradients;
use crate::muon::{self, Muon};
use crate::pretrained::{Numbers, Tensors};
use crate::weights::Lying;
use candle_core::{DType, Tensor, Var};
use half::bf16;
use std::collections::BTreeMap;

/// The learning rates of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// For variables under AdamW.
    pub adamw: f32,
    /// For variables under Muon; unused when there are none.
    pub muon: f32,
}

/// Moments of every variable, and the number of updates they have seen. They
/// take no memory before the first update.
#[derive(Debug)]
pub struct Optimizer {
    memory: BTreeMap<String, Memory>,
    updates: u64,
    /// The rule of the matrices inside the layers, if that is not AdamW.
    muon: Option<Muon>,
}

/// What one variable's rule remembers between updates.
#[derive(Debug)]
enum Memory {
    /// AdamW on the CPU. The weights of a variable in bf16 are exact with the
    /// `rest` of each; otherwise there is none.
    Slices {
        first: Vec<f32>,
        second: Vec<f32>,
        rest: Vec<i16>,
    },
    /// AdamW elsewhere.
    Tensors { first: Tensor, second: Tensor },
    /// Muon, anywhere.
    Momentum(Tensor),
}

/// The kinds of [`Memory`].
enum Kind {
    Slices { is_half: bool },
    Tensors,
    Momentum,
}

impl Optimizer {
    /// AdamW for every variable.
    pub fn adamw() -> Self {
        Self {
            memory: BTreeMap::new(),
            updates: 0,
            muon: None,
        }
    }

    /// Muon for the matrices inside the layers; AdamW for embeddings, the
    /// output projection, norms and biases.
    pub fn muon(muon: Muon) -> Self {
        Self {
            muon: Some(muon),
            ..Self::adamw()
        }
    }

    /// Whether its moments already take memory.
    pub(crate) fn has_moments(&self) -> bool {
        !self.memory.is_empty()
    }

    /// Which rule a variable has.
    fn kind(&self, name: &str, variable: &Var) -> Kind {
        if self.muon.is_some() && variable.rank() == 2 && name.contains(".layers.") {
            return Kind::Momentum;
        }
        match is_ours_to_walk(variable) {
            true => Kind::Slices {
                is_half: variable.dtype() == DType::BF16,
            },
            false => Kind::Tensors,
        }
    }

    /// What a variable's rule remembers at first.
    fn fresh(&self, name: &str, variable: &Var) -> Result<Memory> {
        let zeros = || Tensor::zeros(variable.shape(), DType::F32, variable.device());
        let count = variable.elem_count();
        Ok(match self.kind(name, variable) {
            Kind::Momentum => Memory::Momentum(zeros()?),
            Kind::Slices { is_half } => Memory::Slices {
                first: vec![0.0; count],
                second: vec![0.0; count],
                rest: vec![0; if is_half { count } else { 0 }],
            },
            Kind::Tensors => Memory::Tensors {
                first: zeros()?,
                second: zeros()?,
            },
        })
    }

    /// How many updates have been made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Moves every variable against its gradient times `gradient_scale` (the
    /// clip factor, applied here to spare a pass over the gradients).
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &Gradients,
        gradient_scale: f32,
        rates: Rates,
        adamw: &AdamW,
    ) -> Result<()> {
        self.updates += 1;
        let muon = self.muon.unwrap_or_default();
        for (name, variable) in variables {
            if !self.memory.contains_key(name) {
                let fresh = self.fresh(name, variable)?;
                self.memory.insert(name.clone(), fresh);
            }
            let (Some(memory), Some(gradient)) = (self.memory.get_mut(name), gradients.get(name))
            else {
                return Err(Error::Input(format!("there is no gradient for {name}")));
            };
            let decay = if variable.rank() >= 2 {
                adamw.weight_decay
            } else {
                0.0
            };
            let coefficients =
                Coefficients::new(adamw, decay, rates.adamw, gradient_scale, self.updates);
            match memory {
                Memory::Slices {
                    first,
                    second,
                    rest,
                } => {
                    coefficients.update_in_place(variable, gradient, (first, second), rest)?;
                }
                Memory::Tensors { first, second } => {
                    coefficients.update_tensors(variable, gradient, first, second)?;
                }
                Memory::Momentum(momentum) => {
                    let gradient = (gradient * f64::from(gradient_scale))?;
                    muon::update(variable, &gradient, momentum, rates.muon, &muon)?;
                }
            }
        }
        Ok(())
    }

    /// The moments by `first.NAME`, `second.NAME` and `momentum.NAME`, and the
    /// exact weights of variables in bf16 by `master.NAME`: copies.
    pub fn tensors(&self, variables: &BTreeMap<String, Var>) -> Result<BTreeMap<String, Tensor>> {
        let lying = self.lying(variables)?.into_iter();
        lying
            .map(|(name, lying)| Ok((name, lying.to_tensor()?)))
            .collect()
    }

    /// The same where they lie, for a checkpoint: together they are larger than
    /// the model.
    pub(crate) fn lying<'a>(
        &'a self,
        variables: &'a BTreeMap<String, Var>,
    ) -> Result<Vec<(String, Lying<'a>)>> {
        let mut all = Vec::new();
        for (name, memory) in &self.memory {
            let variable = variables.get(name).ok_or_else(|| {
                Error::Input(format!(
                    "the optimizer remembers {name}, which the model lacks"
                ))
            })?;
            let mut put = |kind: &str, lying| all.push((format!("{kind}.{name}"), lying));
            match memory {
                Memory::Slices {
                    first,
                    second,
                    rest,
                } => {
                    put("first", Lying::Slice(first, variable.dims()));
                    put("second", Lying::Slice(second, variable.dims()));
                    if !rest.is_empty() {
                        put("master", Lying::Halves(variable.as_tensor(), rest));
                    }
                }
                Memory::Tensors { first, second } => {
                    put("first", Lying::Tensor(first));
                    put("second", Lying::Tensor(second));
                }
                Memory::Momentum(momentum) => put("momentum", Lying::Tensor(momentum)),
            }
        }
        Ok(all)
    }

    /// Takes up moments that [`Optimizer::tensors`] gave, after `updates`
    /// updates; refuses a set that does not fit, and is unchanged then.
    pub fn restore(
        &mut self,
        variables: &BTreeMap<String, Var>,
        tensors: &BTreeMap<String, Tensor>,
        updates: u64,
    ) -> Result<()> {
        self.read(variables, &mut Held(tensors), updates)
    }

    /// [`Optimizer::restore`], one tensor at a time.
    pub(crate) fn read(
        &mut self,
        variables: &BTreeMap<String, Var>,
        tensors: &mut dyn Tensors,
        updates: u64,
    ) -> Result<()> {
        let mut restored = BTreeMap::new();
        let shapes = tensors.shapes();
        // Before the first update there are none.
        let variables = variables.iter().filter(|_| !shapes.is_empty());
        for (name, variable) in variables {
            let mut take = |kind: &str| -> Result<Vec<f32>> {
                let key = format!("{kind}.{name}");
                let shape = shapes
                    .get(&key)
                    .ok_or_else(|| Error::Checkpoint(format!("the optimizer lacks {key}")))?;
                if shape != variable.dims() {
                    return Err(Error::Checkpoint(format!(
                        "{key} has shape {shape:?}, expected {:?}",
                        variable.shape()
                    )));
                }
                Ok(tensors.read(&key)?.widened())
            };
            let tensor =
                |values| Tensor::from_vec(values, variable.shape().clone(), variable.device());
            let slot = match self.kind(name, variable) {
                Kind::Slices { is_half } => Memory::Slices {
                    first: take("first")?,
                    second: take("second")?,
                    rest: match is_half {
                        false => Vec::new(),
                        true => rests(name, variable, &take("master")?)?,
                    },
                },
                Kind::Tensors => Memory::Tensors {
                    first: tensor(take("first")?)?,
                    second: tensor(take("second")?)?,
                },
                Kind::Momentum => Memory::Momentum(tensor(take("momentum")?)?),
            };
            restored.insert(name.clone(), slot);
        }
        if shapes.len() != restored.values().map(Memory::tensor_count).sum::<usize>() {
            return Err(Error::Checkpoint(
                "the optimizer holds moments of unknown variables".into(),
            ));
        }
        self.memory = restored;
        self.updates = updates;
        Ok(())
    }
}

/// Tensors that are in memory already.
struct Held<'a>(&'a BTreeMap<String, Tensor>);

impl Tensors for Held<'_> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let shape = |(name, tensor): (&String, &Tensor)| (name.clone(), tensor.dims().to_vec());
        self.0.iter().map(shape).collect()
    }

    fn read(&mut self, name: &str) -> Result<Numbers> {
        let tensor = self.0[name].to_dtype(DType::F32)?;
        Ok(Numbers::F32(tensor.flatten_all()?.to_vec1()?))
    }

    fn place(&self, _: &str) -> Option<String> {
        None
    }
}

impl Memory {
    fn tensor_count(&self) -> usize {
        match self {
            Self::Slices { rest, .. } => 2 + usize::from(!rest.is_empty()),
            Self::Tensors { .. } => 2,
            Self::Momentum(_) => 1,
        }
    }
}

fn is_ours_to_walk(variable: &Var) -> bool {
    variable.device().is_cpu()
        && matches!(variable.dtype(), DType::F32 | DType::BF16)
        && variable.is_contiguous()
}

/// What is missing to the weights of `variable`, which are in bf16.
fn rests(name: &str, variable: &Var, masters: &[f32]) -> Result<Vec<i16>> {
    let nearest = variable.flatten_all()?.to_vec1::<bf16>()?;
    let pairs = masters.iter().zip(nearest);
    let rests = pairs.map(|(&master, nearest)| {
        let (expected, rest) = split(master);
        (expected == nearest).then_some(rest)
    });
    rests.collect::<Option<_>>().ok_or_else(|| {
        Error::Checkpoint(format!("master.{name} is not what {name} was rounded from"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adamw::join;
    use candle_core::Device;

    /// Two variables, their squared error on four rows, and its gradient.
    fn variables() -> BTreeMap<String, Var> {
        let weight = [[0.5_f32, -1.25, 2.0], [0.0, 3.0, -0.75]];
        BTreeMap::from([
            (
                "weight".to_owned(),
                Var::new(&weight, &Device::Cpu).unwrap(),
            ),
            (
                "bias".to_owned(),
                Var::new(&[0.1_f32, -0.2, 0.3], &Device::Cpu).unwrap(),
            ),
        ])
    }

    fn gradients(variables: &BTreeMap<String, Var>) -> Gradients {
        let x = [[1.0_f32, -2.0], [0.5, 0.25], [-1.5, 3.0], [2.0, 1.0]];
        let y = [
            [1.0_f32, 0.0, -1.0],
            [2.0, 1.0, 0.5],
            [0.0, -2.0, 1.0],
            [1.0, 1.0, 1.0],
        ];
        let (x, y) = (
            Tensor::new(&x, &Device::Cpu).unwrap(),
            Tensor::new(&y, &Device::Cpu).unwrap(),
        );
        let loss = x
            .matmul(&variables["weight"])
            .and_then(|rows| rows.broadcast_add(&variables["bias"]))
            .and_then(|rows| (rows - y)?.sqr()?.mean_all())
            .unwrap();
        Gradients::collect(variables, &mut loss.backward().unwrap()).unwrap()
    }

    const ADAMW: AdamW = AdamW {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
    };
    const RATES: Rates = Rates {
        adamw: 0.01,
        muon: 0.0,
    };

    fn step(variables: &BTreeMap<String, Var>, optimizer: &mut Optimizer) {
        let gradients = gradients(variables);
        let scale = crate::gradients::clip_factor(gradients.norm().unwrap(), Some(1.0));
        optimizer
            .step(variables, &gradients, scale, RATES, &ADAMW)
            .unwrap();
    }

    fn values(variables: &BTreeMap<String, Var>, name: &str) -> Vec<f32> {
        variables[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(actual.len(), expected.len());
        for (&actual, &expected) in actual.iter().zip(expected) {
            assert!(
                (actual - expected).abs() <= tolerance,
                "{actual} is not {expected}"
            );
        }
    }

    // What PyTorch 2.15 makes of five clipped steps, in f32:
    //
    // w = torch.nn.Parameter(torch.tensor([[0.5, -1.25, 2.0], [0.0, 3.0, -0.75]]))
    // b = torch.nn.Parameter(torch.tensor([0.1, -0.2, 0.3]))
    // x = torch.tensor([[1.0, -2.0], [0.5, 0.25], [-1.5, 3.0], [2.0, 1.0]])
    // y = torch.tensor([[1.0, 0.0, -1.0], [2.0, 1.0, 0.5], [0.0, -2.0, 1.0], [1.0, 1.0, 1.0]])
    // opt = torch.optim.AdamW([{"params": [w], "weight_decay": 0.1},
    //                          {"params": [b], "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.99))
    // for _ in range(5):
    //     opt.zero_grad()
    //     ((x @ w + b - y) ** 2).mean().backward()
    //     torch.nn.utils.clip_grad_norm_([w, b], 1.0)
    //     opt.step()
    const WEIGHT: [f32; 6] = [
        0.518_615_25,
        -1.193_857_4,
        1.940_131_2,
        0.049_257_09,
        2.935_127_5,
        -0.696_364_94,
    ];
    const BIAS: [f32; 3] = [0.149_892_08, -0.249_965_65, 0.250_063_6];

    #[test]
    fn five_steps_in_place_agree_with_pytorch() {
        let variables = variables();
        let mut optimizer = Optimizer::adamw();
        (0..5).for_each(|_| step(&variables, &mut optimizer));
        // A few units in the last place of numbers near 2.
        assert_close(&values(&variables, "weight"), &WEIGHT, 1e-6);
        assert_close(&values(&variables, "bias"), &BIAS, 1e-6);
        assert_eq!(optimizer.updates(), 5);
    }

    #[test]
    fn the_path_for_other_devices_agrees_with_pytorch_too() {
        let variables = variables();
        let mut optimizer = Optimizer::adamw();
        for (name, variable) in &variables {
            let zeros = || Tensor::zeros(variable.shape(), DType::F32, &Device::Cpu).unwrap();
            let memory = Memory::Tensors {
                first: zeros(),
                second: zeros(),
            };
            optimizer.memory.insert(name.clone(), memory);
        }
        (0..5).for_each(|_| step(&variables, &mut optimizer));
        assert_close(&values(&variables, "weight"), &WEIGHT, 1e-6);
        assert_close(&values(&variables, "bias"), &BIAS, 1e-6);
    }

    #[test]
    fn restored_moments_continue_bit_for_bit() {
        let straight = variables();
        let mut optimizer = Optimizer::adamw();
        (0..3).for_each(|_| step(&straight, &mut optimizer));
        let moments = optimizer.tensors(&straight).unwrap();

        let resumed = variables();
        for (name, variable) in &resumed {
            variable
                .set(&straight[name].as_detached_tensor().copy().unwrap())
                .unwrap();
        }
        let mut second = Optimizer::adamw();
        second
            .restore(&resumed, &moments, optimizer.updates())
            .unwrap();
        for _ in 0..2 {
            step(&straight, &mut optimizer);
            step(&resumed, &mut second);
        }
        assert_eq!(values(&straight, "weight"), values(&resumed, "weight"));
        assert_eq!(values(&straight, "bias"), values(&resumed, "bias"));
    }

    #[test]
    fn moments_that_do_not_fit_are_refused() {
        let variables = variables();
        let mut optimizer = Optimizer::adamw();
        step(&variables, &mut optimizer);
        let good = optimizer.tensors(&variables).unwrap();

        let mut missing = good.clone();
        missing.remove("second.bias");
        let mut foreign = good.clone();
        foreign.insert("first.other".into(), good["first.bias"].clone());
        let mut misshapen = good.clone();
        misshapen.insert("first.bias".into(), good["first.weight"].clone());
        for bad in [missing, foreign, misshapen] {
            assert!(matches!(
                optimizer.restore(&variables, &bad, 9),
                Err(Error::Checkpoint(_))
            ));
            assert_eq!(optimizer.updates(), 1);
        }
    }

    #[test]
    fn muon_takes_the_hidden_matrices_and_nothing_else() {
        let matrix = || Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let variables = BTreeMap::from([
            ("model.embed_tokens.weight".to_owned(), matrix()),
            ("model.layers.0.mlp.up_proj.weight".to_owned(), matrix()),
            (
                "model.layers.0.input_layernorm.weight".to_owned(),
                Var::zeros(3, DType::F32, &Device::Cpu).unwrap(),
            ),
        ]);
        let mut optimizer = Optimizer::muon(Muon::default());
        assert!(optimizer.tensors(&variables).unwrap().is_empty());
        let ones = variables.iter().map(|(name, variable)| {
            let ones = Tensor::ones(variable.shape(), DType::F32, &Device::Cpu).unwrap();
            (name.clone(), ones)
        });
        let gradients = Gradients::from_tensors(ones.collect());
        optimizer
            .step(&variables, &gradients, 1.0, RATES, &ADAMW)
            .unwrap();
        let tensors = optimizer.tensors(&variables).unwrap();
        let momenta: Vec<&String> = tensors
            .keys()
            .filter(|key| key.starts_with("momentum."))
            .collect();
        assert_eq!(momenta, ["momentum.model.layers.0.mlp.up_proj.weight"]);
        assert_eq!(tensors.len(), 5);
    }

    // What a bf16 number can't show, its master keeps: 256 steps of 1e-3 from 2
    // are 0.256, though bf16 has only 2 and 1.992 there.
    #[test]
    fn a_bf16_variable_follows_its_exact_master() {
        let start = Tensor::new(&[2.0_f32; 3], &Device::Cpu).unwrap();
        let variable = Var::from_tensor(&start.to_dtype(DType::BF16).unwrap()).unwrap();
        let variables = BTreeMap::from([("bias".to_owned(), variable)]);
        let mut optimizer = Optimizer::adamw();
        let ones = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
        let gradients = Gradients::from_tensors(BTreeMap::from([("bias".to_owned(), ones)]));
        let rates = Rates {
            adamw: 1e-3,
            muon: 0.0,
        };
        for _ in 0..256 {
            optimizer
                .step(&variables, &gradients, 1.0, rates, &ADAMW)
                .unwrap();
        }
        let found = variables["bias"].to_dtype(DType::F32).unwrap();
        // The rounding of a bf16 between 1 and 2.
        assert_close(&found.to_vec1().unwrap(), &[2.0 - 0.256; 3], 0.004);
        let moments = optimizer.tensors(&variables).unwrap();
        assert_close(
            &moments["master.bias"].to_vec1().unwrap(),
            &[2.0 - 0.256; 3],
            1e-4,
        );
        // What was saved continues bit for bit.
        let resumed = BTreeMap::from([(
            "bias".to_owned(),
            Var::from_tensor(&variables["bias"].copy().unwrap()).unwrap(),
        )]);
        let mut second = Optimizer::adamw();
        second
            .restore(&resumed, &moments, optimizer.updates())
            .unwrap();
        for (optimizer, variables) in [(&mut optimizer, &variables), (&mut second, &resumed)] {
            optimizer
                .step(variables, &gradients, 1.0, rates, &ADAMW)
                .unwrap();
        }
        let masters = [
            optimizer.tensors(&variables).unwrap(),
            second.tensors(&resumed).unwrap(),
        ]
        .map(|tensors| tensors["master.bias"].to_vec1::<f32>().unwrap());
        assert_eq!(masters[0], masters[1]);
        // Masters of other weights are refused.
        let foreign = BTreeMap::from([(
            "bias".to_owned(),
            Var::from_tensor(&start.to_dtype(DType::BF16).unwrap()).unwrap(),
        )]);
        let error = second
            .restore(&foreign, &moments, 1)
            .unwrap_err()
            .to_string();
        assert!(error.contains("rounded from"), "{error}");
    }

    #[test]
    fn a_number_and_its_halves_are_the_same() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let exact = f32::from_bits(bits);
            if exact.is_finite() && exact.abs() < f32::MAX / 2.0 {
                let (nearest, rest) = split(exact);
                assert_eq!(join(nearest, rest).to_bits(), bits);
                assert!(
                    (nearest.to_f32() - exact).abs() <= exact.abs() / 256.0 + f32::MIN_POSITIVE
                );
            }
        }
        // What has no rest has none.
        assert_eq!(split(-1.5), (half::bf16::from_f32(-1.5), 0));
    }
}

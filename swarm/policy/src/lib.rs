//! The policy: the language model a node trains.
//!
//! This crate knows tokens and tensors; it knows nothing of tasks, peers or
//! rounds. One set of weights ([`Decoder`]) is trained in place and sampled
//! from where it lies: no copy, and always the latest.
//!
//! | module | story |
//! | --- | --- |
//! | `config` | the architecture, as Hugging Face's `config.json` writes it |
//! | `rope` | rotary positions and their scaling |
//! | `decoder` | the weights and the differentiable forward pass |
//! | `log_probs` | log-probabilities of targets without their logits |
//! | `frozen` | products with weights that are not trained |
//! | `weights` | weights from randomness, from and to safetensors |
//! | `pretrained` | published checkpoints: folders of safetensors, GGUF files |
//! | `tokenizer` | text to tokens and back, conversations to tokens |
//! | `template` | a checkpoint's chat template, around text it never sees |
//! | `sample` | what can be asked of sampling, and what it answers |
//! | `rows` | the rows that are drawn together: admitted, stepped, ended |
//! | `pace` | whether a group that is begun now can be whole in time |
//! | `inference` | the forward pass for sampling, on weights where they lie |
//! | `attention` | keys and values of sequences being drawn; attention |
//! | `linear` | products of rows with weight matrices |
//! | `lanes` | sixteen numbers at a time, the same bits on any machine |
//! | `storage` | a decoder's variables as slices |
//! | `draw` | one token from a row of logits |
//! | `slices` | arithmetic on slices of f32 |
//! | `random` | randomness by counter |
//! | [`kernel`] | log-probabilities and gradients on a CPU, without a graph |
//! | `policy` | a model with all that belongs to it |
//! | `batch` | scored groups of text to sequences with advantages |
//! | `settings`, `report` | what GRPO can be told, and what it tells |
//! | `train` | the engine: epochs, guards, what each group did |
//! | `graph` | the engine's gradients by autograd, off the CPU |
//! | `grpo` | advantages, and the loss of a token in closed form |
//! | `gradients` | gradients by name: summed, measured, clipped |
//! | `optimizer` | what is remembered of each variable between updates |
//! | `adamw`, `muon` | AdamW in one pass, in place; Muon for pre-training |
//! | `lora` | low-rank adapters, and PEFT's files of them |
//! | [`memory`] | what training takes, before it is tried |
//! | `schedule` | the learning rate by update |
//! | `checkpoint` | named files that appear together or not at all |
//! | `error` | everything that can go wrong |
//!
//! Invariants:
//! - Weights carry the names, shapes and layout of a Hugging Face checkpoint.
//! - Sums are in f32, whatever factors are rounded to.
//! - Randomness is drawn by counter from seeds that are passed in, so that
//!   neither batching nor threads change a result.
//!
//! Threads: what is large enough to gain from it spreads over the current
//! rayon pool, in [`sample`] at most [`SampleLimits::threads`]. The training
//! [`kernel`] and the optimizer spread over all of it; whoever runs several
//! policies side by side calls them inside a pool of the size each may use
//! (`ThreadPool::install`). candle's own operations, used off the CPU and as
//! the oracle of the tests, obey `RAYON_NUM_THREADS`.
//!
//! Matrices are kept in f32, or in bf16 where a model of ten million weights or
//! more was published so: frozen ones as they are, trained ones as the nearest to
//! an exact weight whose other half the optimizer keeps. What computes with them
//! is exact or rounds, and says which:
//!
//! | path | weights in bf16 | activations |
//! | --- | --- | --- |
//! | sampling | widened, exactly | f32 |
//! | prompts, in models of ten million weights or more that are kept in bf16 | taken as they are | rounded to bf16 in products |
//! | training, [`kernel::Precision::F32`] | widened, exactly | f32 |
//! | training, [`kernel::Precision::Bf16`] | taken as they are | rounded to bf16 in products |
//!
//! Determinism. Sampling gives the same bits for any number of threads, beside
//! any other rows, whenever a row is admitted, whatever memory it may use and
//! whether the same weights are kept in f32 or in bf16; with AVX-512, with AVX2
//! and without either. Only the prompts of models that are large and kept in bf16
//! are rounded where the machine has AVX512-BF16 ([`SampleLimits::prompts`]), with
//! bits of that kind of machine, and sampled log-probabilities of a tiny model are
//! within 0.03 then. Training gives the same bits for any number of threads and
//! any [`kernel::Plan`] of one precision, on one kind of machine; on another, in
//! f32, its log-probabilities are within 1e-4. The training pass in f32 finds the
//! sampled log-probabilities again within 1e-4 where prompts are not rounded. What is not bit-exact anywhere: candle's
//! graph, which trains on other devices than the CPU.
//!
//! `MURMUR_VECTORS=avx2` (or `none`) makes this crate's own kernels compute as on
//! a machine that has no more.

mod adamw;
mod attention;
mod batch;
mod checkpoint;
mod config;
mod decoder;
mod draw;
mod error;
mod frozen;
mod gradients;
mod graph;
mod grpo;
mod inference;
pub mod kernel;
mod lanes;
mod linear;
mod log_probs;
mod lora;
pub mod memory;
mod muon;
mod optimizer;
mod pace;
mod policy;
mod pretrained;
mod random;
mod report;
mod rope;
mod rows;
mod sample;
mod schedule;
mod settings;
mod slices;
mod storage;
mod template;
mod tokenizer;
mod train;
mod weights;

pub use adamw::AdamW;
pub use batch::{TrainCompletion, TrainGroup, TrainTurn};
pub use candle_core::{DType, Device};
pub use checkpoint::Rejected;
pub use config::Config;
pub use decoder::{Decoder, best_device};
pub use error::{Error, Result};
pub use gradients::{Gradients, clip_factor};
pub use grpo::{AdvantageKind, Clip, RatioLevel, TokenLogProbs, TokenLoss, advantages, token_loss};
pub use lora::{Adapter, LoraSettings};
pub use muon::{Muon, orthogonalize};
pub use optimizer::{Optimizer, Rates};
pub use policy::{Policy, Resumed};
pub use pretrained::Pretrained;
pub use report::{Contribution, StepReport};
pub use rope::RopeScaling;
pub use sample::{Completion, Request, SampleLimits, sample, sample_as_it_comes};
pub use schedule::Schedule;
pub use settings::GrpoSettings;
pub use tokenizer::{ChatMessage, Tokenizer};

//! The embedded base model: what a fresh peer starts from.

use anyhow::{Context, Result};
use policy::Policy;

/// Its `config.json`.
pub const CONFIG: &[u8] = include_bytes!("../../assets/base/config.json");
/// Its `tokenizer.json`.
pub const TOKENIZER: &[u8] = include_bytes!("../../assets/base/tokenizer.json");
/// Its weights, bf16.
pub const WEIGHTS: &[u8] = include_bytes!("../../assets/base/model.safetensors");

/// The base model, on the CPU.
pub fn load() -> Result<Policy> {
    Policy::from_parts(CONFIG, TOKENIZER, WEIGHTS, &policy::Device::Cpu)
        .context("reading the embedded base model")
}

//! Environments that are not part of the program: a folder that is named by
//! its hash, travels between strangers and runs in a sandbox.
//!
//! ```text
//! task.toml + items.jsonl | task.star | task.wasm  (+ golden.jsonl)
//!      |
//!      v  Bundle::from_folder, or Bundle::receive of what a peer sent
//! Bundle { manifest, files }   its id: the hash of the manifest, which hashes the files
//!      |
//!      v  Packaged::open, then golden::check
//! Packaged: Environment
//! ```
//!
//! A table needs no code; a script is Starlark, interpreted by a module that
//! comes with the program; a module is WebAssembly of any language, with no
//! imports. What a package does wrong is said with its file and line.

mod bundle;
mod environment;
mod file;
pub mod floors;
pub mod golden;
mod sandbox;
mod table;
mod templates;

pub use bundle::{
    Bundle, GOLDEN, ITEMS, MAX_FILE, MAX_MANIFEST, MODULE, PackageError, SCRIPT, SETTINGS,
};
pub use environment::Packaged;
pub use sandbox::SandboxError;
pub use templates::template;

#[cfg(test)]
mod tests;

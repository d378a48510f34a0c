//! Environments that are not part of the program: a folder that is named by
//! its hash, travels between strangers and runs in a sandbox.

mod contents;

pub use contents::{Budget, FileRef, Form, Judge, Kind, Package, Scorer};

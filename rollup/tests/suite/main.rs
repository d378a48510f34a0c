//! The client against real chains: the embedded devnet always, anvil where it is.

// A test that cannot go on fails; helpers outside `#[test]` functions count as such too.
#![allow(clippy::unwrap_used)]

mod anvil;
mod attacks;
mod client;
mod devnet;
mod ownership;
mod sealed;
mod state;
mod support;

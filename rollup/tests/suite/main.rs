//! The client against real chains: the embedded devnet always, anvil where it is.

mod anvil;
mod client;
mod devnet;
mod support;

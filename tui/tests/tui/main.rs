//! The screens from the outside: what they show, how they take keys, how they
//! replay, and that nothing a peer writes harms them.

#[path = "../support/fixture.rs"]
mod fixture;

mod fold;
mod hostile;
mod keys;
mod looping;
mod play;
mod player;
mod screens;
mod support;

//! The terminal screens: a fold of the event stream, and nothing else.
//!
//! The node writes [`Record`](swarm_core::event::Record)s; these screens read
//! them, live from a channel or later from a file, and show the same.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`state`] | what the screens know: the pure fold of the events, of bounded size |
//! | [`app`] | what the user looks at: screen, selection, filters; keys in, commands out |
//! | [`view`] | drawing state and app into a buffer |
//! | [`source`] | where the state comes from: [`source::Live`] or [`replay::Player`] |
//! | [`replay`] | reading a file of events; pause, speed, seek |
//! | [`driver`] | the event loop, over any backend, input and clock |
//! | [`terminal`] | the real terminal, restored whatever happens |
//! | [`play`] | one environment, played by a person |
//! | [`screenshot`] | a finished frame as SVG |
//! | [`text`], [`theme`] | harmless text and numbers; colours |
//!
//! Invariants:
//! - The node never waits for the screen: [`source::feed`] drops what does not
//!   fit and counts it.
//! - Text of other peers reaches the terminal only through [`text`]; what was
//!   missed is scrubbed from the finished frame.
//! - No colour carries what a word or symbol does not; `NO_COLOR` is honoured.
//! - Only [`driver::wall_clock`] reads a clock; time is passed to everything else.
//!
//! ```no_run
//! # fn main() -> Result<(), tui::Error> {
//! let (feed, records) = tui::source::feed();
//! std::thread::spawn(move || { /* the node: feed.send(record), never blocking */ drop(feed) });
//! tui::live(records, || { /* ask the node to save and stop */ })?;
//! # Ok(())
//! # }
//! ```

pub mod app;
pub mod driver;
pub mod play;
pub mod replay;
pub mod screenshot;
pub mod source;
pub mod state;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod view;

pub use driver::{Error, live, replay, resume};
pub use replay::read_events;
pub use source::{Feed, Records, feed};

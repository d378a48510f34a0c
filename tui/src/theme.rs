//! Colours: one accent, dim chrome, three colours that mean something.
//!
//! Colour only repeats what a symbol or a word beside it already says, so
//! that nothing is lost without it ([`NO_COLOR`](https://no-color.org)).
//! The colours are of the 256-colour palette, which every terminal of today
//! has, and readable on dark and on light.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    colour: bool,
}

impl Theme {
    /// With or without colour.
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// Without colour when `NO_COLOR` is set to anything, with it otherwise.
    pub fn from_environment() -> Self {
        Self::new(std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()))
    }

    fn paint(self, index: u8) -> Style {
        if self.colour {
            Style::new().fg(Color::Indexed(index))
        } else {
            Style::new()
        }
    }

    /// Body text.
    pub fn plain(self) -> Style {
        Style::new()
    }

    /// Text that matters more than its neighbours.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The accent: where you are, what is chosen, what is measured.
    pub fn accent(self) -> Style {
        self.paint(79)
    }

    /// The accent, louder.
    pub fn accent_strong(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// Labels and units.
    pub fn dim(self) -> Style {
        self.paint(246)
    }

    /// Rules and axes.
    pub fn faint(self) -> Style {
        self.paint(240)
    }

    /// Right, done, risen.
    pub fn good(self) -> Style {
        self.paint(114)
    }

    /// Off, but coped with.
    pub fn warn(self) -> Style {
        self.paint(179)
    }

    /// Wrong, failed, refused.
    pub fn bad(self) -> Style {
        self.paint(203)
    }

    /// A second line in a chart.
    pub fn second(self) -> Style {
        self.paint(147)
    }

    /// A row of a table that is chosen (it also carries `▸`). No background:
    /// it would swallow the text on a terminal of the other brightness.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The style of a share from 0 to 1: good, middling or bad.
    pub fn graded(self, share: f64) -> Style {
        match share {
            share if share >= 0.66 => self.good(),
            share if share >= 0.33 => self.warn(),
            _ => self.bad(),
        }
    }
}

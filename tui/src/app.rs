//! What the user looks at: screen, selection, filters. Keys in, commands out.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use swarm_core::event::{LogLevel, Stage};
use swarm_core::ids::PeerId;

use crate::source::Control;
use crate::state::State;
use crate::state::groups::{Group, GroupKey};
use crate::theme::Theme;

/// How far the arrow keys move a recording.
const SKIP_MS: i64 = 10_000;

/// The screens, in the order of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Screen {
    /// The round, the stages, what was learned, the chain.
    Swarm,
    /// Prompts, completions, rewards and why, critiques.
    Rollouts,
    /// Optimizer steps, and who taught whom.
    Training,
    /// Who is there and how they are reached.
    Peers,
    /// Who contributed what.
    Reputation,
    /// What the node says.
    Logs,
}

impl Screen {
    /// All screens, in order.
    pub const ALL: [Screen; 6] = [
        Screen::Swarm,
        Screen::Rollouts,
        Screen::Training,
        Screen::Peers,
        Screen::Reputation,
        Screen::Logs,
    ];

    /// Its name, as on the tab.
    pub fn name(self) -> &'static str {
        match self {
            Screen::Swarm => "Swarm",
            Screen::Rollouts => "Rollouts",
            Screen::Training => "Training",
            Screen::Peers => "Peers",
            Screen::Reputation => "Reputation",
            Screen::Logs => "Logs",
        }
    }

    fn step(self, by: usize) -> Self {
        let index = Self::ALL.iter().position(|screen| *screen == self);
        Self::ALL[(index.unwrap_or(0) + by) % Self::ALL.len()]
    }
}

/// What a key asks of the loop; what it asks of the screens is already done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Leave once everything is saved.
    Leave,
    /// Leave the screen at once.
    LeaveNow,
    /// Steer the recording.
    Control(Control),
    /// Draw everything anew.
    Redraw,
}

/// A chosen row of a list, and how many rows a page has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pick {
    /// The row.
    pub index: usize,
    /// Rows that were visible when it was last drawn.
    pub page: usize,
}

impl Pick {
    /// Keeps the row inside a list of `len` rows of which `page` are visible,
    /// and returns the first visible one.
    pub fn settle(&mut self, len: usize, page: usize) -> usize {
        self.page = page;
        self.index = self.index.min(len.saturating_sub(1));
        // The chosen row stays in the middle of a list that does not fit.
        self.index
            .saturating_sub(page / 2)
            .min(len.saturating_sub(page))
    }

    fn step(&mut self, step: Step) {
        self.index = step.apply(self.index, self.page);
    }
}

/// A movement in a list or a text.
#[derive(Debug, Clone, Copy)]
enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    Top,
    Bottom,
}

impl Step {
    /// The new index; what lies behind the end is settled when drawn.
    fn apply(self, index: usize, page: usize) -> usize {
        let page = page.saturating_sub(1).max(1);
        match self {
            Step::Up => index.saturating_sub(1),
            Step::Down => index.saturating_add(1),
            Step::PageUp => index.saturating_sub(page),
            Step::PageDown => index.saturating_add(page),
            Step::Top => 0,
            Step::Bottom => usize::MAX,
        }
    }
}

/// Which groups the Rollouts screen lists.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this stage.
    pub stage: Option<Stage>,
    /// Only this owner.
    pub peer: Option<PeerId>,
    /// Only this environment.
    pub env: Option<String>,
}

impl Filter {
    /// Whether a group passes.
    pub fn admits(&self, group: &Group) -> bool {
        let view = &group.view;
        self.stage.is_none_or(|stage| stage == view.stage)
            && self.peer.is_none_or(|peer| peer == view.owner)
            && self.env.as_ref().is_none_or(|env| *env == view.env)
    }

    /// Whether everything passes.
    pub fn is_open(&self) -> bool {
        self.stage.is_none() && self.peer.is_none() && self.env.is_none()
    }
}

/// The Rollouts screen.
#[derive(Debug, Clone, Default)]
pub struct Rollouts {
    /// What is listed.
    pub filter: Filter,
    /// The chosen group; `None` follows the newest.
    pub chosen: Option<GroupKey>,
    /// Whether the group fills the screen.
    pub open: bool,
    /// First visible line of the group, and lines of a page.
    pub scroll: Pick,
    /// Rows of the list that were visible.
    pub page: usize,
}

impl Rollouts {
    /// The listed groups, newest first, and the index of the chosen one.
    pub fn listed<'a>(&self, state: &'a State) -> (Vec<&'a Group>, usize) {
        let listed: Vec<&Group> = state
            .groups
            .newest_first()
            .map(|group| &**group)
            .filter(|group| self.filter.admits(group))
            .collect();
        let index = self
            .chosen
            .as_ref()
            .and_then(|chosen| listed.iter().position(|group| group.key() == *chosen));
        (listed, index.unwrap_or(0))
    }

    fn step(&mut self, step: Step, state: &State) {
        let (listed, index) = self.listed(state);
        let index = step.apply(index, self.page);
        // At the top, the newest is followed.
        self.chosen = match index.min(listed.len().saturating_sub(1)) {
            0 => None,
            index => Some(listed[index].key()),
        };
        self.scroll.index = 0;
    }

    fn refilter(&mut self) {
        self.chosen = None;
        self.scroll.index = 0;
    }
}

/// The Logs screen.
#[derive(Debug, Clone, Copy)]
pub struct LogView {
    /// The least grave level that is shown.
    pub least: LogLevel,
    /// Lines above the newest; 0 follows.
    pub back: usize,
    /// Lines of a page.
    pub page: usize,
}

/// What the user looks at.
#[derive(Debug, Clone)]
pub struct App {
    /// The colours.
    pub theme: Theme,
    /// The screen.
    pub screen: Screen,
    /// Whether help is open, and its first visible line.
    pub help: Option<Pick>,
    /// The Rollouts screen.
    pub rollouts: Rollouts,
    /// The chosen peer on the Training screen.
    pub training: Pick,
    /// The chosen peer on the Peers screen.
    pub peers: Pick,
    /// The chosen peer on the Reputation screen.
    pub reputation: Pick,
    /// The Logs screen.
    pub logs: LogView,
    leaving: bool,
}

impl App {
    /// The first screen.
    pub fn new(theme: Theme) -> Self {
        Self {
            theme,
            screen: Screen::Swarm,
            help: None,
            rollouts: Rollouts::default(),
            training: Pick::default(),
            peers: Pick::default(),
            reputation: Pick::default(),
            logs: LogView {
                least: LogLevel::Info,
                back: 0,
                page: 0,
            },
            leaving: false,
        }
    }

    /// Whether the user wants to leave.
    pub fn leaving(&self) -> bool {
        self.leaving
    }

    /// Takes a key. `replay` says whether a recording plays, whose keys then
    /// go first.
    pub fn key(&mut self, key: KeyEvent, state: &State, replay: bool) -> Option<Command> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') if self.leaving => Some(Command::LeaveNow),
                KeyCode::Char('c') => self.leave(),
                KeyCode::Char('l') => Some(Command::Redraw),
                _ => None,
            };
        }
        if key.code == KeyCode::Char('q') {
            return self.leave();
        }
        if replay && let Some(control) = control(key.code) {
            return Some(Command::Control(control));
        }
        match key.code {
            KeyCode::Char('?') => {
                self.help = match self.help {
                    Some(_) => None,
                    None => Some(Pick::default()),
                };
            }
            KeyCode::Char(digit @ '1'..='6') => {
                let index = usize::from(digit as u8 - b'1');
                self.show(Screen::ALL[index]);
            }
            KeyCode::Tab | KeyCode::Right => self.show(self.screen.step(1)),
            KeyCode::BackTab | KeyCode::Left => {
                self.show(self.screen.step(Screen::ALL.len() - 1));
            }
            KeyCode::Esc => self.back(),
            code => {
                if let Some(step) = step(code) {
                    self.step(step, state);
                } else if self.help.is_none() {
                    self.screen_key(code, state);
                }
            }
        }
        None
    }

    fn leave(&mut self) -> Option<Command> {
        if self.leaving {
            return None;
        }
        self.leaving = true;
        Some(Command::Leave)
    }

    fn show(&mut self, screen: Screen) {
        self.help = None;
        self.screen = screen;
    }

    fn back(&mut self) {
        if self.help.take().is_none() && self.screen == Screen::Rollouts {
            self.rollouts.open = false;
        }
    }

    fn step(&mut self, step: Step, state: &State) {
        if let Some(help) = &mut self.help {
            help.step(step);
            return;
        }
        match self.screen {
            Screen::Swarm => {}
            Screen::Rollouts if self.rollouts.open => self.rollouts.scroll.step(step),
            Screen::Rollouts => self.rollouts.step(step, state),
            Screen::Training => self.training.step(step),
            Screen::Peers => self.peers.step(step),
            Screen::Reputation => self.reputation.step(step),
            Screen::Logs => {
                // The log stands on its newest line, so up is further back.
                let step = match step {
                    Step::Up => Step::Down,
                    Step::Down => Step::Up,
                    Step::PageUp => Step::PageDown,
                    Step::PageDown => Step::PageUp,
                    Step::Top => Step::Bottom,
                    Step::Bottom => Step::Top,
                };
                self.logs.back = step.apply(self.logs.back, self.logs.page);
            }
        }
    }

    fn screen_key(&mut self, code: KeyCode, state: &State) {
        match (self.screen, code) {
            (Screen::Rollouts, code) => self.rollouts_key(code, state),
            (Screen::Logs, KeyCode::Char('l')) => {
                self.logs.least = match self.logs.least {
                    LogLevel::Info => LogLevel::Warn,
                    LogLevel::Warn => LogLevel::Error,
                    LogLevel::Error => LogLevel::Info,
                };
                self.logs.back = 0;
            }
            _ => {}
        }
    }

    fn rollouts_key(&mut self, code: KeyCode, state: &State) {
        let rollouts = &mut self.rollouts;
        match code {
            KeyCode::Enter => {
                rollouts.open = !rollouts.open;
                rollouts.scroll.index = 0;
                // An open group stays, whatever arrives.
                let (listed, index) = rollouts.listed(state);
                if rollouts.open
                    && let Some(group) = listed.get(index)
                {
                    rollouts.chosen = Some(group.key());
                }
            }
            KeyCode::Char('n') => rollouts.step(Step::Down, state),
            KeyCode::Char('N') => rollouts.step(Step::Up, state),
            KeyCode::Char('s') => {
                let stages = [Stage::Answer, Stage::Critique, Stage::Resolve];
                rollouts.filter.stage = next(&stages, rollouts.filter.stage.as_ref());
                rollouts.refilter();
            }
            KeyCode::Char('p') => {
                let owners = facet(state, |group| group.view.owner);
                rollouts.filter.peer = next(&owners, rollouts.filter.peer.as_ref());
                rollouts.refilter();
            }
            KeyCode::Char('e') => {
                let envs = facet(state, |group| group.view.env.clone());
                rollouts.filter.env = next(&envs, rollouts.filter.env.as_ref());
                rollouts.refilter();
            }
            KeyCode::Char('x') => {
                rollouts.filter = Filter::default();
                rollouts.refilter();
            }
            _ => {}
        }
    }
}

/// The different values that kept groups have, in order.
fn facet<T: Ord>(state: &State, of: impl Fn(&Group) -> T) -> Vec<T> {
    let all: std::collections::BTreeSet<T> =
        state.groups.newest_first().map(|group| of(group)).collect();
    all.into_iter().collect()
}

/// The value after `current`; after the last one, none.
fn next<T: Clone + Ord>(values: &[T], current: Option<&T>) -> Option<T> {
    match current {
        None => values.first().cloned(),
        Some(current) => values.iter().find(|value| *value > current).cloned(),
    }
}

fn step(code: KeyCode) -> Option<Step> {
    Some(match code {
        KeyCode::Char('j') | KeyCode::Down => Step::Down,
        KeyCode::Char('k') | KeyCode::Up => Step::Up,
        KeyCode::PageDown => Step::PageDown,
        KeyCode::PageUp => Step::PageUp,
        KeyCode::Char('g') | KeyCode::Home => Step::Top,
        KeyCode::Char('G') | KeyCode::End => Step::Bottom,
        _ => return None,
    })
}

fn control(code: KeyCode) -> Option<Control> {
    Some(match code {
        KeyCode::Char(' ') => Control::TogglePause,
        KeyCode::Char('+' | '=') => Control::Faster,
        KeyCode::Char('-' | '_') => Control::Slower,
        KeyCode::Left => Control::Skip(-SKIP_MS),
        KeyCode::Right => Control::Skip(SKIP_MS),
        KeyCode::Char('[') => Control::PreviousRound,
        KeyCode::Char(']') => Control::NextRound,
        KeyCode::Home => Control::Start,
        KeyCode::End => Control::End,
        _ => return None,
    })
}

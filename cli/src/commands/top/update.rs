//! What a key, a new view, or an answer makes of a state: no I/O, no clock.

mod commands;

use funicular_dashboard::watch::view::View;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::rows::{self, SessionRow};
use super::state::{Action, Focus, Mode, Said, SessionKey, State};

/// So far goes a page.
const PAGE: isize = 10;
/// What is said to a key that needs a node.
const NO_NODE: &str = "choose a node first";

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody pressed a key.
    Key(KeyEvent),
    /// Somebody pasted text.
    Pasted(String),
    /// There is a new view.
    View,
    /// A call has ended.
    Done(Said),
    /// The screen has another size.
    Resized,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Tell a node.
    Act(Action),
    /// End.
    Quit,
}

/// The state after an event, and what is to be done.
pub(super) fn update(mut state: State, view: &View, event: Event) -> (State, Vec<Effect>) {
    let filter = state.filter.clone();
    let effects = match event {
        Event::Key(key) => state.key(view, key),
        Event::Pasted(text) => {
            if let Mode::Filter { .. } = state.mode {
                state.filter.extend(text.chars().filter(|letter| !letter.is_control()));
            }
            Vec::new()
        }
        Event::Done(said) => {
            state.calls = state.calls.saturating_sub(1);
            state.said = Some(said);
            Vec::new()
        }
        Event::View | Event::Resized => Vec::new(),
    };
    let typed = state.filter != filter;
    state.settle(view, typed);
    (state, effects)
}

impl State {
    fn key(&mut self, view: &View, key: KeyEvent) -> Vec<Effect> {
        // A shell's or an editor's keys shall not move anything by mistake.
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            let control = key.modifiers == KeyModifiers::CONTROL;
            let quits = control && key.code == KeyCode::Char('c');
            return if quits { vec![Effect::Quit] } else { Vec::new() };
        }
        match std::mem::take(&mut self.mode) {
            Mode::Normal => return self.normal(view, key.code),
            Mode::Help => {}
            Mode::Filter { before } => self.typed(key.code, before),
            Mode::Confirm(action) => return self.answered(key.code, action),
            Mode::Pick { actions, chosen } => return self.picked(key.code, actions, chosen),
            Mode::History { session, from } => {
                return self.in_history(view, key.code, session, from);
            }
        }
        Vec::new()
    }

    fn normal(&mut self, view: &View, key: KeyCode) -> Vec<Effect> {
        match key {
            KeyCode::Char('q') => return vec![Effect::Quit],
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter { before: self.filter.clone() },
            KeyCode::Char('f') => self.next_function(view),
            KeyCode::Char('s') => match self.focus {
                Focus::Nodes => self.nodes_by = self.nodes_by.next(),
                Focus::Sessions => self.sessions_by = self.sessions_by.next(),
            },
            KeyCode::Tab | KeyCode::BackTab => match self.focus {
                Focus::Nodes => self.enter(view),
                Focus::Sessions => self.focus = Focus::Nodes,
            },
            KeyCode::Right | KeyCode::Char('l') => self.enter(view),
            KeyCode::Left | KeyCode::Char('h') => self.focus = Focus::Nodes,
            KeyCode::Enter => match (self.focus, self.session.clone()) {
                (Focus::Nodes, _) => self.enter(view),
                (Focus::Sessions, Some(session)) => {
                    self.mode = Mode::History { session, from: 0 };
                }
                (Focus::Sessions, None) => self.said = Some(Said::bad("choose a session first")),
            },
            KeyCode::Esc => match self.focus {
                Focus::Sessions => self.focus = Focus::Nodes,
                Focus::Nodes => self.filter.clear(),
            },
            KeyCode::Char(letter @ ('o' | 'n' | 'a' | 'r' | 'd')) => {
                return self.command(view, letter);
            }
            other => {
                if let Some(by) = steps(other) {
                    self.go(view, by);
                }
            }
        }
        Vec::new()
    }

    fn typed(&mut self, key: KeyCode, before: String) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter = before;
                return;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.mode = Mode::Filter { before };
    }

    fn answered(&mut self, key: KeyCode, action: Action) -> Vec<Effect> {
        match key {
            KeyCode::Char('y' | 'Y') => self.act(action),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.said = Some(Said::good("nothing was done"));
                Vec::new()
            }
            _ => {
                self.mode = Mode::Confirm(action);
                Vec::new()
            }
        }
    }

    fn picked(&mut self, key: KeyCode, actions: Vec<Action>, chosen: usize) -> Vec<Effect> {
        match key {
            KeyCode::Enter => {
                let action = actions.into_iter().nth(chosen);
                return action.map(|action| self.act(action)).unwrap_or_default();
            }
            KeyCode::Esc | KeyCode::Char('q') => return Vec::new(),
            _ => {}
        }
        let chosen = moved(chosen, steps(key).unwrap_or_default(), actions.len());
        self.mode = Mode::Pick { actions, chosen };
        Vec::new()
    }

    fn in_history(
        &mut self,
        view: &View,
        key: KeyCode,
        session: SessionKey,
        from: usize,
    ) -> Vec<Effect> {
        match key {
            KeyCode::Enter | KeyCode::Esc | KeyCode::Char('q' | 'h') | KeyCode::Left => {
                return Vec::new();
            }
            _ => {}
        }
        let lines = rows::history(view, &session).len();
        let from = moved(from, steps(key).unwrap_or_default(), lines);
        let effects = match key {
            KeyCode::Char(letter @ ('o' | 'n')) => self.for_session(view, letter, &session),
            _ => Vec::new(),
        };
        self.mode = Mode::History { session, from };
        effects
    }

    fn enter(&mut self, view: &View) {
        let Some(node) = self.node(view) else {
            self.said = Some(Said::bad(NO_NODE));
            return;
        };
        let rows = rows::sessions(node, self);
        let Some(first) = rows.first() else {
            let why = match node.load.sessions {
                Some(_) => "no session is listed there",
                None => "nobody knows its sessions",
            };
            self.said = Some(Said::bad(why));
            return;
        };
        if self.session(view).is_none() {
            self.session = Some(first.key());
        }
        self.focus = Focus::Sessions;
    }

    fn go(&mut self, view: &View, by: isize) {
        match self.focus {
            Focus::Nodes => {
                let rows = rows::nodes(view, self);
                let here = rows.iter().position(|row| Some(&row.node.name) == self.node.as_ref());
                let next = here.map_or(0, |here| moved(here, by, rows.len()));
                if let Some(row) = rows.get(next) {
                    self.node = Some(row.node.name.clone());
                }
            }
            Focus::Sessions => {
                let Some(node) = self.node(view) else { return };
                let rows = rows::sessions(node, self);
                let here = rows.iter().position(|row| Some(row.key()) == self.session);
                let next = here.map_or(0, |here| moved(here, by, rows.len()));
                self.session = rows.get(next).map(SessionRow::key);
            }
        }
    }

    fn next_function(&mut self, view: &View) {
        let all = rows::all_functions(view);
        let here = self.function.as_ref().and_then(|here| all.iter().position(|it| *it == here));
        let next = match (&self.function, here) {
            (None, _) => 0,
            (Some(_), here) => here.map_or(all.len(), |here| here + 1),
        };
        self.function = all.get(next).map(|name| (*name).clone());
    }

    /// Nodes and sessions that are shown no more are not chosen either, though a node is again
    /// once it is back. No other one takes the place of one that went by itself: a key would
    /// mean the wrong one. Only who has just `typed` a filter finds its first node chosen.
    fn settle(&mut self, view: &View, typed: bool) {
        let chooses = self.node.is_none() || typed && self.node(view).is_none();
        if chooses && let Some(first) = rows::nodes(view, self).first() {
            self.node = Some(first.node.name.clone());
        }
        if self.node(view).is_none() {
            self.focus = Focus::Nodes;
        }
        if self.session(view).is_none() {
            self.session = None;
        }
    }
}

/// How far a key leads down.
fn steps(key: KeyCode) -> Option<isize> {
    Some(match key {
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::PageDown => PAGE,
        KeyCode::PageUp => -PAGE,
        KeyCode::Home | KeyCode::Char('g') => isize::MIN,
        KeyCode::End | KeyCode::Char('G') => isize::MAX,
        _ => return None,
    })
}

fn moved(here: usize, by: isize, rows: usize) -> usize {
    here.saturating_add_signed(by).min(rows.saturating_sub(1))
}

//! The chosen node: how it is, its functions, its sessions.

use funicular_dashboard::watch::view::{FunctionView, NodeView, Reach};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::{
    FAINT, HEAD, PLAIN, Scene, bar, cell, chosen as style_of_chosen, styled, window, wrapped,
};
use crate::commands::top::rows::{self, SessionRow};
use crate::commands::top::state::Focus;
use crate::commands::top::words::{
    UNKNOWN, age, drain, known, latency, moves, moving, number, oracle, percent, rate, silent, sum,
};
use crate::output::size;

/// So many lines are kept for sessions.
const SESSIONS: usize = 4;
const MARK: usize = 2;
/// Widths of the columns beside a session's name, and those that need a wide screen.
const RATE: usize = 5;
const SIZE: usize = 7;
const IDLE: usize = 5;
const FUNCTION: usize = 10;
const HOME: usize = 14;
const NAME: usize = 12;

pub(super) fn draw(frame: &mut Frame<'_>, scene: Scene<'_>, area: Rect) {
    let Some(node) = scene.state.node(scene.view) else { return };
    let width = usize::from(area.width);
    let mut lines = about(scene, node, width);
    lines.truncate(usize::from(area.height).saturating_sub(SESSIONS));
    let rest = usize::from(area.height) - lines.len();
    lines.extend(sessions(scene, node, width, rest));
    frame.render_widget(Paragraph::new(lines), area);
}

fn about(scene: Scene<'_>, node: &NodeView, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let load = rows::load(node, scene.state.function.as_ref());
    let entry = if node.entry { ", entry" } else { "" };
    let mut lines = vec![Line::from(vec![
        Span::styled(node.name.to_string(), HEAD),
        Span::styled(format!("  {}{entry}", node.level), FAINT),
    ])];
    if let Some(why) = silent(node, scene.view.at_ms) {
        lines.extend(styled(&why, width, 5, theme.bad()));
    }
    let flight = number(load.in_flight);
    lines.push(Line::raw(format!("in flight {flight}  moves {}", moves(&load))));
    let (p50, p99) = (latency(&load, load.latency_p50_us), latency(&load, load.latency_p99_us));
    lines.push(Line::raw(format!("p50 {p50}  p99 {p99}")));
    let queue = latency(&load, load.queue_wait_p99_us);
    lines.push(Line::raw(format!("waiting for a turn, p99 {queue}")));
    let memory = bar(load.memory, 10);
    lines.push(Line::raw(match load.memory {
        Some(_) => format!("memory {memory} {}", percent(load.memory)),
        None => format!("memory {UNKNOWN}"),
    }));
    lines.push(match (&node.oracle.reach, &node.oracle.mode) {
        (Reach::Answers, Some(mode)) => Line::raw(format!("oracle {mode}: {}", oracle(node))),
        _ => Line::styled(format!("oracle {UNKNOWN}"), FAINT),
    });
    let mut functions = rows::functions(node, scene.state.function.as_ref()).peekable();
    if functions.peek().is_some() {
        let figures = function_line("TAKES", "SESS", "SIZE");
        let called = cell("FUNCTION", width.saturating_sub(figures.chars().count()), false);
        lines.push(Line::styled(format!("{called}{figures}"), HEAD));
    }
    for function in functions {
        lines.extend(about_function(scene, node, function, width));
    }
    lines
}

/// A function in a line, and what is out of the ordinary about it below.
fn about_function(
    scene: Scene<'_>,
    node: &NodeView,
    function: &FunctionView,
    width: usize,
) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let name = &function.name;
    let takes = function.status.map(|status| format!("{status:?}").to_lowercase());
    let takes = takes.unwrap_or_else(|| UNKNOWN.to_owned());
    let sessions = number(function.load.sessions);
    let bytes = known(function.load.bytes, size);
    let figures = function_line(&takes, &sessions, &bytes);
    let called = cell(name.as_str(), width.saturating_sub(figures.chars().count()), false);
    let mut lines = vec![Line::raw(format!("{called}{figures}"))];
    let mut more = |text: String, style| {
        for line in wrapped(&text, width.saturating_sub(MARK), 2) {
            lines.push(Line::styled(format!("{}{line}", " ".repeat(MARK)), style));
        }
    };
    if let Reach::Silent { why, .. } = &function.reach {
        more(why.clone(), theme.bad());
    }
    if let Some(store) = function.store.as_ref().filter(|store| *store != "ok") {
        more(format!("its store: {store}"), theme.bad());
    }
    if function.restoring {
        more("it is being restored and serves nothing".to_owned(), theme.bad());
    }
    if let Some(far) = &function.drain {
        more(drain(far), theme.going());
    }
    if let Some(pending) = function.pending.filter(|pending| *pending > 0) {
        more(format!("{pending} not settled"), theme.going());
    }
    let stand = node.oracle.functions.iter().find(|stand| stand.function == *name);
    if let Some(stand) = stand.filter(|stand| stand.phase != "calm") {
        more(format!("{}: {}", stand.phase, stand.why), theme.going());
    }
    lines
}

fn function_line(takes: &str, sessions: &str, bytes: &str) -> String {
    format!(" {} {} {}", cell(takes, 6, false), cell(sessions, 5, true), cell(bytes, SIZE, true))
}

/// Heads, and as many sessions as there is room for.
fn sessions(scene: Scene<'_>, node: &NodeView, width: usize, height: usize) -> Vec<Line<'static>> {
    let (state, theme) = (scene.state, scene.theme);
    let rows = rows::sessions(node, state);
    let only = state.function.as_ref();
    if rows.is_empty() {
        let all = rows::functions(node, only).all(|function| function.listed_all);
        let none = if all && node.reach.answers() { "no session is here" } else { "sessions ?" };
        return vec![Line::styled(none, FAINT)];
    }
    let columns = Columns::fit(width, &rows);
    let mut lines = vec![Line::styled(columns.heads(), HEAD)];
    let not_listed = not_listed(rows::functions(node, only));
    let chosen = rows.iter().position(|row| Some(row.key()) == state.session);
    let room = height.saturating_sub(1 + usize::from(not_listed.is_some()));
    for index in window(rows.len(), room, chosen) {
        let is_chosen = chosen == Some(index);
        let style = match (is_chosen, &rows[index].session.moving) {
            (true, _) => style_of_chosen(state.focus == Focus::Sessions),
            (false, Some(_)) => theme.going(),
            (false, None) => PLAIN,
        };
        let mark = if is_chosen { "▸ " } else { "  " };
        lines.push(Line::styled(format!("{mark}{}", columns.row(&rows[index])), style));
    }
    if let Some(more) = not_listed {
        lines.push(Line::styled(format!("  and {more} more"), FAINT));
    }
    lines
}

/// How many sessions are here beside those that are listed; none if there are none.
fn not_listed<'a>(functions: impl Iterator<Item = &'a FunctionView>) -> Option<String> {
    let more = functions.filter(|function| !function.listed_all).map(|function| {
        let listed = function.listed.as_ref().map_or(0, Vec::len) as u64;
        function.load.sessions.map(|all| all.saturating_sub(listed))
    });
    let more: Vec<_> = more.filter(|more| *more != Some(0)).collect();
    (!more.is_empty()).then(|| sum(more.iter().copied(), |more| more.to_string()))
}

/// Columns that a narrow screen has no room for: width, and whether they stand right.
const MORE: [(usize, bool); 3] = [(IDLE, true), (FUNCTION, false), (HOME, false)];

/// Which columns there is room for.
struct Columns {
    /// The width of the name.
    name: usize,
    /// How many of [`MORE`] there are.
    more: usize,
    /// Sessions of several functions, and no column for that.
    mixed: bool,
}

impl Columns {
    fn fit(width: usize, rows: &[SessionRow<'_>]) -> Self {
        let mut left = width.saturating_sub(MARK + NAME + 1 + RATE + 1 + SIZE);
        let mut more = 0;
        while more < MORE.len() && left > MORE[more].0 {
            left -= MORE[more].0 + 1;
            more += 1;
        }
        let mixed = more < 2 && rows.iter().any(|row| row.function != rows[0].function);
        Self { name: NAME + left, more, mixed }
    }

    fn heads(&self) -> String {
        let figures = format!("{} {}", cell("REQ/S", RATE, true), cell("SIZE", SIZE, true));
        let line = self.line("SESSION", &figures, ["IDLE", "FUNCTION", "HOME"]);
        format!("{}{line}", " ".repeat(MARK))
    }

    fn row(&self, row: &SessionRow<'_>) -> String {
        let session = row.session;
        let name = match self.mixed {
            true => format!("{}/{}", row.function, session.id),
            false => session.id.to_string(),
        };
        let figures = match &session.moving {
            Some(far) => cell(&moving(far), RATE + 1 + SIZE, false),
            None => format!(
                "{} {}",
                cell(&rate(session.rate), RATE, true),
                cell(&size(session.bytes), SIZE, true)
            ),
        };
        let idle = age(session.idle_ms);
        self.line(&name, &figures, [&idle, row.function.as_str(), session.home.as_str()])
    }

    fn line(&self, name: &str, figures: &str, more: [&str; 3]) -> String {
        let mut cells = vec![cell(name, self.name, false), figures.to_owned()];
        let more = more.iter().zip(MORE).take(self.more);
        cells.extend(more.map(|(text, (width, right))| cell(text, width, right)));
        cells.join(" ")
    }
}

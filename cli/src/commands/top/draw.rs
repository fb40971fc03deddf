//! The screen: a pure function of a view and a state.

mod details;
mod nodes;
mod overlay;

use std::fmt::Write;

use funicular_dashboard::watch::view::{Reach, View, What};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::rows::{self, News};
use super::state::{Focus, Mode, NodesBy, State, Tone};
use super::words;

/// A smaller screen shows nothing but that, in columns and lines.
const SMALLEST: (u16, u16) = (40, 10);
/// A narrower one has the nodes or the sessions, not both.
const BOTH: u16 = 70;
/// So much is left for the details beside the nodes.
const DETAILS: u16 = 30;

/// So many lines of what was said are shown.
const SAID: u16 = 3;

const KEYS: &str = "o offload  n onload  a accept  r reject  d drain  / filter  ? help  q quit";

const PLAIN: Style = Style::new();
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Theme {
    pub(super) colour: bool,
}

impl Theme {
    fn with(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.with(Color::Green)
    }

    fn going(self) -> Style {
        self.with(Color::Yellow)
    }

    fn bad(self) -> Style {
        self.with(Color::Red)
    }

    fn of(self, tone: Tone) -> Style {
        match tone {
            Tone::Going => self.going(),
            Tone::Good => self.good(),
            Tone::Bad => self.bad(),
        }
    }
}

/// Of a row that is chosen, where the arrows go or elsewhere.
fn chosen(here: bool) -> Style {
    if here { CHOSEN } else { HEAD }
}

/// What all parts of the screen are drawn from.
#[derive(Clone, Copy)]
struct Scene<'a> {
    view: &'a View,
    state: &'a State,
    theme: Theme,
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, state: &State, theme: Theme) {
    let scene = Scene { view, state, theme };
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        frame.render_widget(format!("needs {width}x{height}; q quits"), area);
        return;
    }
    let news = (area.height / 4).clamp(3, 12);
    let told = scene.said(usize::from(area.width));
    let said = u16::try_from(told.len()).unwrap_or(1).clamp(1, SAID);
    let parts = [1, 0, news, said, 1].map(|lines| match lines {
        0 => Constraint::Min(5),
        lines => Constraint::Length(lines),
    });
    let [head, body, news, said, keys] = Layout::vertical(parts).areas(area);
    frame.render_widget(scene.head(), head);
    scene.body(frame, body);
    scene.news(frame, news);
    frame.render_widget(Paragraph::new(told), said);
    frame.render_widget(Line::styled(KEYS, FAINT), keys);
    overlay::draw(frame, scene);
}

impl Scene<'_> {
    /// The whole tree in a line.
    fn head(self) -> Line<'static> {
        let Self { view, state, theme } = self;
        let is = |wanted: fn(&Reach) -> bool| {
            view.nodes.iter().filter(|node| wanted(&node.reach)).count()
        };
        let silent = is(|reach| matches!(reach, Reach::Silent { .. }));
        let unheard = is(|reach| *reach == Reach::NotAsked);
        let mut parts = vec![Span::styled("funicular top", HEAD)];
        let mut part = |text: String, style: Style| {
            parts.push(Span::raw("  "));
            parts.push(Span::styled(text, style));
        };
        part(format!("{} nodes", view.nodes.len()), PLAIN);
        if silent > 0 {
            part(format!("{silent} silent"), theme.bad());
        }
        if unheard > 0 {
            part(format!("{unheard} unknown"), FAINT);
        }
        let only = state.function.as_ref();
        let loads: Vec<_> = view.nodes.iter().map(|node| rows::load(node, only)).collect();
        let sessions = words::sum(loads.iter().map(|load| load.sessions), |sum| sum.to_string());
        let word = if sessions == "1" { "session" } else { "sessions" };
        part(format!("{sessions} {word}"), PLAIN);
        let rates =
            words::sum(loads.iter().map(|load| load.requests_per_s), |sum| words::rate(Some(sum)));
        part(format!("{rates} req/s"), PLAIN);
        let moving = rows::moving(view, only).len();
        if moving > 0 {
            part(format!("{moving} moving"), theme.going());
        }
        if let Some(function) = only {
            part(format!("only {function}"), theme.going());
        }
        if state.nodes_by != NodesBy::Tree {
            part(format!("by {}", state.nodes_by), theme.going());
        }
        if !state.filter.is_empty() {
            part(format!("/{}", state.filter), theme.going());
        }
        Line::from(parts)
    }

    fn body(self, frame: &mut Frame<'_>, area: Rect) {
        if area.width < BOTH {
            match self.state.focus {
                Focus::Nodes => nodes::draw(frame, self, area),
                Focus::Sessions => details::draw(frame, self, area),
            }
            return;
        }
        let left = nodes::width(self).min(area.width - DETAILS);
        let [left, right] =
            Layout::horizontal([Constraint::Length(left), Constraint::Min(DETAILS)]).areas(area);
        nodes::draw(frame, self, left);
        let border = Block::new().borders(Borders::LEFT).border_style(FAINT);
        details::draw(frame, self, border.inner(right));
        frame.render_widget(border, right);
    }

    /// What happened, the latest first.
    fn news(self, frame: &mut Frame<'_>, area: Rect) {
        let title = Block::new().borders(Borders::TOP).border_style(FAINT);
        let title = title.title(Line::styled(" Moves and decisions ", HEAD));
        let news = rows::news(self.view, self.state.function.as_ref());
        let mut lines: Vec<_> =
            news.iter().take(area.height.into()).map(|it| self.line(it)).collect();
        if lines.is_empty() {
            lines.push(Line::styled("none yet", FAINT));
        }
        frame.render_widget(Paragraph::new(lines).block(title), area);
    }

    fn line(self, news: &News<'_>) -> Line<'static> {
        let age = words::age(self.view.at_ms.saturating_sub(news.at_ms()));
        let style = match news {
            News::Move(_) => self.theme.good(),
            News::Decision(decision) if decision.outcome == "failed" => self.theme.bad(),
            News::Decision(_) => self.theme.going(),
            News::Reach(event) if matches!(event.what, What::Back { .. }) => self.theme.good(),
            News::Reach(_) => self.theme.bad(),
        };
        let age = Span::styled(format!("{age:>4} "), FAINT);
        Line::from(vec![age, Span::styled(words::news(self.view, news), style)])
    }

    /// What was said last, or what is typed.
    fn said(self, width: usize) -> Vec<Line<'static>> {
        let Self { state, theme, .. } = self;
        let (mut text, style) = match (&state.mode, &state.said) {
            (Mode::Filter { .. }, _) => {
                let text = format!("/{}_   Enter keeps it, Esc takes it back", state.filter);
                (text, theme.going())
            }
            (_, Some(said)) => (said.text.clone(), theme.of(said.tone)),
            (_, None) => return Vec::new(),
        };
        let going = state.said.as_ref().is_some_and(|said| said.tone == Tone::Going);
        let more = state.calls.saturating_sub(usize::from(going));
        if more > 0 {
            let _ = write!(text, "  ({more} more under way)");
        }
        styled(&text, width, SAID.into(), style)
    }
}

/// Text in lines of so many columns, at most so many lines.
fn styled(text: &str, width: usize, most: usize, style: Style) -> Vec<Line<'static>> {
    wrapped(text, width, most).into_iter().map(|line| Line::styled(line, style)).collect()
}

/// Which rows of so many are shown, so that the chosen one is among them.
fn window(rows: usize, height: usize, chosen: Option<usize>) -> std::ops::Range<usize> {
    let last = rows.saturating_sub(height);
    let first = chosen.map_or(0, |chosen| chosen.saturating_sub(height / 2)).min(last);
    first..rows.min(first + height)
}

/// Text in so many columns: cut at its end, or filled up on one side.
fn cell(text: &str, width: usize, right: bool) -> String {
    let length = text.chars().count();
    if length > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{kept}…");
    }
    let fill = " ".repeat(width - length);
    if right { format!("{fill}{text}") } else { format!("{text}{fill}") }
}

/// A share of 1 as a bar.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1")]
#[expect(clippy::cast_precision_loss, reason = "a screen's width")]
fn bar(share: Option<f64>, width: usize) -> String {
    let Some(share) = share else { return words::UNKNOWN.to_owned() };
    let filled = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    // What is not nothing is seen.
    let filled = if share > 0.0 { filled.max(1) } else { 0 };
    format!("{}{}", "█".repeat(filled), "░".repeat(width - filled))
}

/// Words in lines of so many columns, at most so many lines.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push('…');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_row_is_always_shown() {
        assert_eq!(window(3, 5, None), 0..3);
        assert_eq!(window(10, 4, Some(0)), 0..4);
        assert_eq!(window(10, 4, Some(5)), 3..7);
        assert_eq!(window(10, 4, Some(9)), 6..10);
    }

    #[test]
    fn cells_are_as_wide_as_they_are_told() {
        assert_eq!((cell("ab", 4, true), cell("ab", 4, false)), ("  ab".into(), "ab  ".into()));
        assert_eq!(cell("trastevere", 5, false), "tras…");
    }

    #[test]
    fn a_bar_shows_a_little_and_does_not_show_the_unknown_as_nothing() {
        assert_eq!((bar(Some(0.0), 4), bar(None, 4)), ("░░░░".into(), "?".into()));
        assert_eq!((bar(Some(0.01), 4), bar(Some(7.0), 4)), ("█░░░".into(), "████".into()));
    }
}

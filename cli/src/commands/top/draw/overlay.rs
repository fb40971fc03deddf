//! What is shown above everything else: help, questions, a session's history.

use std::fmt::Write;

use funicular::peers::messages::DrainAction;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::{FAINT, HEAD, PLAIN, Scene, chosen as style_of_chosen, styled, wrapped};
use crate::commands::top::rows;
use crate::commands::top::state::{Action, Mode, SessionKey, What};
use crate::commands::top::words::{age, moving, news, rate};
use crate::output::{count, size};

const HELP: &[&str] = &[
    "up down j k     choose; PgUp PgDn g G go further",
    "Tab left right  to the node's sessions, and back",
    "Enter           a session's history",
    "o  offload      the session, or one the node chooses, goes up",
    "n  onload       it comes home, or one comes down to the node",
    "a r             accept, reject sessions from below",
    "d  drain        out of work, or back; asks first",
    "/  filter       nodes by name or level, sessions by id or hash",
    "f  function     one alone, the next, all again",
    "s  sort         by the next column",
    "Esc             back; without the filter",
    "q Ctrl-C        quit",
    "LOAD: requests; the busiest node's bar is full.",
    "MEM: as the oracle sees it. MOVES: +coming -leaving.",
    "A figure that nobody knows is a ?.",
];

pub(super) fn draw(frame: &mut Frame<'_>, scene: Scene<'_>) {
    let screen = frame.area();
    let inside = usize::from(screen.width).saturating_sub(4);
    let (title, lines) = match &scene.state.mode {
        Mode::Normal | Mode::Filter { .. } => return,
        Mode::Help => (" Keys ".to_owned(), HELP.iter().map(|line| Line::raw(*line)).collect()),
        Mode::Confirm(action) => (" Sure? ".to_owned(), question(scene, action, inside.min(60))),
        Mode::Pick { actions, chosen } => (" Which function? ".to_owned(), pick(actions, *chosen)),
        Mode::History { session, from } => {
            let title = format!(" {} of {} ", id(scene, session), session.function);
            (title, history(scene, session, *from, inside))
        }
    };
    let wide = lines.iter().map(Line::width).chain([title.chars().count()]).max().unwrap_or(0);
    let width = u16::try_from(wide + 4).unwrap_or(u16::MAX).min(screen.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(screen.height);
    let area =
        Rect { x: (screen.width - width) / 2, y: (screen.height - height) / 2, width, height };
    let block = Block::bordered().title(Line::styled(title, HEAD));
    let block = block.padding(ratatui::widgets::Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn question(scene: Scene<'_>, action: &Action, width: usize) -> Vec<Line<'static>> {
    let mut sentence = action.to_string();
    if let Some(first) = sentence.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let sessions = scene.view.node(&action.node).map(|node| {
        let functions = rows::functions(node, scene.state.function.as_ref());
        functions.map(|function| function.load.sessions).sum::<Option<u64>>()
    });
    let sessions = match sessions.flatten() {
        Some(number) => {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            format!("Its {}", count(number, "session"))
        }
        None => "Its sessions, nobody knows how many,".to_owned(),
    };
    let what = match &action.what {
        What::Drain { action: DrainAction::Stop, .. } => {
            "No more sessions move away, and it takes sessions from below again.".to_owned()
        }
        _ => format!("{sessions} will move to the nodes above, until you take it back."),
    };
    let text = format!("{sentence}? {what}");
    let mut lines: Vec<_> = styled(&text, width, 6, PLAIN);
    lines.push(Line::default());
    lines.push(Line::styled("y yes   n no", HEAD));
    lines
}

fn pick(actions: &[Action], chosen: usize) -> Vec<Line<'static>> {
    let line = |(index, action): (usize, &Action)| {
        let is_chosen = index == chosen;
        let mark = if is_chosen { "▸" } else { " " };
        let function = action.function().map(ToString::to_string).unwrap_or_default();
        let style = if is_chosen { style_of_chosen(true) } else { PLAIN };
        Line::styled(format!("{mark} {function}"), style)
    };
    actions.iter().enumerate().map(line).collect()
}

fn id(scene: Scene<'_>, session: &SessionKey) -> String {
    let id = scene.view.id_of(&session.function, &session.hash);
    id.map_or_else(|| session.hash.clone(), ToString::to_string)
}

fn history(
    scene: Scene<'_>,
    session: &SessionKey,
    from: usize,
    width: usize,
) -> Vec<Line<'static>> {
    let view = scene.view;
    let mut lines = match view.session(&session.function, &session.hash) {
        None => vec![Line::styled("no node lists it now", FAINT)],
        Some((node, found)) => {
            let mut text = format!(
                "at {}, home {}, {}, {} req/s, idle {}",
                node.name,
                found.home,
                size(found.bytes),
                rate(found.rate),
                age(found.idle_ms)
            );
            if let Some(far) = &found.moving {
                let _ = write!(text, ", {}", moving(far));
            }
            styled(&text, width, 3, PLAIN)
        }
    };
    lines.push(Line::styled(format!("hash {}", session.hash), FAINT));
    lines.push(Line::default());
    let news_of = rows::history(view, session);
    if news_of.is_empty() {
        lines.push(Line::styled("no move and no decision was seen", FAINT));
    }
    for one in news_of.iter().skip(from) {
        let ago = age(view.at_ms.saturating_sub(one.at_ms()));
        let text = wrapped(&news(view, one), width.saturating_sub(5), 4);
        for (index, part) in text.into_iter().enumerate() {
            let before = if index == 0 { format!("{ago:>4} ") } else { " ".repeat(5) };
            lines.push(Line::raw(format!("{before}{part}")));
        }
    }
    lines
}

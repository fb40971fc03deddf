//! What is drawn, against text in files. `FUNICULAR_GOLDEN=write` writes them anew.

use std::path::Path;

use funicular_dashboard::watch::view::View;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::keys::{chose, press};
use super::*;
use crate::commands::top::draw::{Theme, draw};
use crate::commands::top::once;
use crate::commands::top::state::State;
use crate::commands::top::update::{Event, update};

fn drawn(view: &View, state: &State, colour: bool, size: (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, view, state, Theme { colour })).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned() + "\n"
    };
    buffer.content.chunks(width).map(line).collect()
}

#[track_caller]
fn same(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/commands/top/tests/screens")
        .join(name)
        .with_extension("txt");
    if std::env::var_os("FUNICULAR_GOLDEN").is_some_and(|what| what == "write") {
        std::fs::write(&path, shown).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert!(shown == wanted, "{name} shows\n{shown}instead of\n{wanted}");
}

#[track_caller]
fn shows(name: &str, state: &State, size: (u16, u16)) {
    same(name, &text(&drawn(&view(), state, true, size)));
}

fn begun(view: &View) -> State {
    update(State::default(), view, Event::View).0
}

#[test]
fn the_whole_tree_fits_a_small_screen() {
    shows("normal", &chose("navigli"), (80, 24));
}

#[test]
fn a_large_screen_has_every_column() {
    shows("large", &press(&chose("navigli"), "l"), (150, 40));
}

#[test]
fn a_node_that_is_away_is_shown_with_the_reason_and_not_with_zeros() {
    shows("away", &chose("rome"), (80, 24));
}

#[test]
fn a_node_that_was_not_asked_yet_is_unknown() {
    shows("unknown", &chose("trastevere"), (80, 24));
}

#[test]
fn sessions_of_a_function_that_is_silent_are_unknown_whatever_another_says() {
    let shown = |at: &str, cart: Value| {
        let topology = Arc::new(Topology::parse(TREE).unwrap());
        let all = topology.nodes().map(|node| node.name.clone()).collect();
        let mut memory = Memory::new(topology, all);
        let mut answer = says(at, cart, json!({}));
        for function in answer.functions.iter_mut().flatten().skip(1) {
            function.status = Err("connection refused".to_owned());
        }
        memory.take(answer);
        text(&drawn(&memory.view(NOW), &chose(at), true, (80, 24)))
    };
    let none = shown("milan", json!({}));
    assert!(none.contains("│sessions ?") && !none.contains("no session is here"), "{none}");
    let one = shown("milan", json!({ "sessions": 1, "listed": [session("ada", "milan", 1, 1)] }));
    assert!(one.contains("│  and ? more"), "{one}");
    let many = shown("milan", json!({ "sessions": 9, "listed": [session("ada", "milan", 1, 1)] }));
    assert!(many.contains("│  and ≥8 more"), "{many}");
    // Of functions that all answer it is known.
    let brera = text(&drawn(&view(), &chose("brera"), true, (80, 24)));
    assert!(brera.contains("│no session is here"), "{brera}");
}

#[test]
fn a_narrow_screen_has_nodes_or_sessions() {
    let state = chose("navigli");
    shows("narrow-nodes", &state, (44, 16));
    shows("narrow-sessions", &press(&state, "l"), (44, 16));
}

#[test]
fn the_smallest_screen_says_what_it_needs() {
    shows("tiny", &chose("navigli"), (30, 8));
}

#[test]
fn help_question_choice_and_history_lie_above_the_rest() {
    let state = chose("navigli");
    shows("help", &press(&state, "?"), (80, 24));
    shows("question", &press(&state, "d"), (80, 24));
    shows("choice", &press(&state, "o"), (80, 24));
    shows("history", &press(&chose("milan"), "l\n"), (80, 24));
}

#[test]
fn a_filter_is_seen_while_it_is_typed() {
    shows("filter", &press(&chose("navigli"), "/car"), (80, 24));
}

#[test]
fn every_size_can_be_drawn() {
    let view = view();
    for keys in ["", "?", "d", "o", "l", "l\n", "/x", "sss"] {
        let state = press(&chose("navigli"), keys);
        for (width, height) in [(1, 1), (40, 10), (41, 50), (69, 11), (70, 10), (77, 13), (200, 12)]
        {
            drawn(&view, &state, true, (width, height));
        }
    }
}

#[test]
fn before_anybody_answers_there_is_the_tree() {
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let all = topology.nodes().map(|node| node.name.clone()).collect();
    let view = Memory::new(topology, all).view(NOW);
    same("begin", &text(&drawn(&view, &begun(&view), true, (80, 24))));
}

#[test]
fn without_colours_there_are_none() {
    let state = press(&chose("rome"), "");
    let colours = |colour| {
        let buffer = drawn(&view(), &state, colour, (80, 24));
        buffer.content.iter().filter(|cell| cell.fg != Color::Reset).count()
    };
    assert_eq!(colours(false), 0);
    assert!(colours(true) > 0);
    // What is chosen can be seen all the same.
    let buffer = drawn(&view(), &state, false, (80, 24));
    assert!(buffer.content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn once_is_text() {
    same("once", &(once::text(&view()) + "\n"));
}

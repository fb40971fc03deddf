//! What keys, views and answers make of a state.

use funicular::peers::messages::{DrainAction, OffloadStatus};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::commands::top::rows;
use crate::commands::top::state::{Action, Focus, Mode, NodesBy, Said, State, What};
use crate::commands::top::update::{Effect, Event, update};

fn key(letter: char) -> Event {
    let code = match letter {
        '\n' => KeyCode::Enter,
        '\t' => KeyCode::Tab,
        '\u{1b}' => KeyCode::Esc,
        '\u{8}' => KeyCode::Backspace,
        other => KeyCode::Char(other),
    };
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// The state after these keys, and what the last of them leads to.
fn typed(view: &View, state: &State, keys: &str) -> (State, Vec<Effect>) {
    let mut now = (state.clone(), Vec::new());
    for letter in keys.chars() {
        now = update(now.0, view, key(letter));
    }
    now
}

/// The state after these keys, in the tree of all tests.
pub(super) fn press(state: &State, keys: &str) -> State {
    typed(&view(), state, keys).0
}

/// With a node chosen.
pub(super) fn chose(name: &str) -> State {
    let state = State { node: Some(node(name)), ..State::default() };
    update(state, &view(), Event::View).0
}

fn effects(state: &State, keys: &str) -> Vec<Effect> {
    typed(&view(), state, keys).1
}

fn act(name: &str, what: What) -> Vec<Effect> {
    vec![Effect::Act(Action { node: node(name), what })]
}

fn said(state: &State) -> &str {
    state.said.as_ref().map_or("", |said| &said.text)
}

fn names(state: &State) -> Vec<String> {
    let view = view();
    rows::nodes(&view, state).iter().map(|row| row.node.name.to_string()).collect()
}

fn cart() -> FunctionName {
    function("cart")
}

fn id(session: &str) -> Option<SessionId> {
    SessionId::new(session).ok()
}

#[test]
fn the_root_is_chosen_first_and_arrows_follow_the_tree() {
    let view = view();
    let begun = update(State::default(), &view, Event::View).0;
    assert_eq!(begun.node, Some(node("italy")));
    let at = |keys| typed(&view, &begun, keys).0.node.unwrap().to_string();
    assert_eq!(
        (at("j"), at("jj"), at("jjk"), at("k")),
        ("milan".into(), "navigli".into(), "milan".into(), "italy".into())
    );
    assert_eq!(
        (at("G"), at("Gj"), at("Gg")),
        ("trastevere".into(), "trastevere".into(), "italy".into())
    );
}

#[test]
fn q_and_control_c_quit_from_wherever_they_can() {
    let view = view();
    assert_eq!(effects(&chose("milan"), "q"), [Effect::Quit]);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for keys in ["", "?", "/", "d", "l\n"] {
        let state = press(&chose("navigli"), keys);
        assert_eq!(update(state, &view, Event::Key(control_c)).1, [Effect::Quit], "{keys:?}");
    }
    assert_eq!(effects(&chose("milan"), "?q"), []);
    let alt_r = KeyEvent::new(KeyCode::Char('r'), KeyModifiers::ALT);
    assert_eq!(update(chose("milan"), &view, Event::Key(alt_r)).1, []);
    // A letter is a letter while a filter is typed.
    assert_eq!(typed(&view, &chose("milan"), "/q").0.filter, "q");
}

#[test]
fn a_session_is_offloaded_and_the_answer_is_told() {
    let view = view();
    // By requests: carla, bob, video, dora.
    let state = press(&chose("navigli"), "l");
    assert_eq!(state.focus, Focus::Sessions);
    let (state, effects) = typed(&view, &state, "o");
    assert_eq!(effects, act("navigli", What::Offload { function: cart(), session: id("carla") }));
    assert_eq!((state.calls, said(&state)), (1, "offload carla of cart from navigli …"));
    let done = Event::Done(Said::good("carla moved from `navigli` to `milan`"));
    let (state, effects) = update(state, &view, done);
    assert_eq!(
        (state.calls, said(&state), effects),
        (0, "carla moved from `navigli` to `milan`", vec![])
    );
}

#[test]
fn a_session_comes_back_to_its_home() {
    let state = press(&chose("milan"), "l");
    let home = What::Onload { function: cart(), session: id("ada") };
    assert_eq!(effects(&state, "n"), act("navigli", home.clone()));
    // From its history too.
    assert_eq!(effects(&state, "\nn"), act("navigli", home));
    let there = press(&chose("navigli"), "ln");
    assert_eq!(said(&there), "it is at its home");
}

#[test]
fn a_node_moves_a_session_of_the_function_that_is_picked() {
    let state = chose("navigli");
    let (picking, effects_of) = typed(&view(), &state, "o");
    assert!(matches!(picking.mode, Mode::Pick { ref actions, .. } if actions.len() == 2));
    assert_eq!(effects_of, []);
    let of = |name| What::Offload { function: function(name), session: None };
    assert_eq!(effects(&state, "o\n"), act("navigli", of("cart")));
    assert_eq!(effects(&state, "oj\n"), act("navigli", of("cdn")));
    assert_eq!(effects(&state, "o\u{1b}"), []);
    // Of the one that is looked at without a question; there is one session above navigli.
    assert_eq!(effects(&state, "ffo"), act("navigli", of("cdn")));
    let onload = What::Onload { function: cart(), session: None };
    assert_eq!(effects(&state, "n"), act("navigli", onload));
    assert_eq!(said(&press(&chose("brera"), "o")), "brera has no session");
    assert_eq!(said(&press(&chose("milan"), "n")), "no node above milan has a session");
}

#[test]
fn a_node_accepts_and_rejects_for_all_functions_or_one() {
    let both = || vec![cart(), function("cdn")];
    let status = |functions, status| What::Status { functions, status };
    let state = chose("milan");
    assert_eq!(effects(&state, "r"), act("milan", status(both(), OffloadStatus::Reject)));
    assert_eq!(effects(&state, "a"), act("milan", status(both(), OffloadStatus::Accept)));
    assert_eq!(effects(&state, "fr"), act("milan", status(vec![cart()], OffloadStatus::Reject)));
    assert_eq!(effects(&state, "fffr"), act("milan", status(both(), OffloadStatus::Reject)));
}

#[test]
fn a_drain_begins_with_a_yes_alone() {
    let state = chose("milan");
    assert_eq!(effects(&state, "d"), []);
    assert_eq!(effects(&state, "dx"), []);
    assert_eq!(effects(&state, "dn"), []);
    let functions = vec![cart(), function("cdn")];
    let drain = What::Drain { functions, action: DrainAction::Start };
    assert_eq!(effects(&state, "dy"), act("milan", drain.clone()));
    // Another key asks on.
    assert_eq!(effects(&state, "dxy"), act("milan", drain));
    assert_eq!(said(&press(&state, "dn")), "nothing was done");
}

#[test]
fn a_node_that_is_drained_is_taken_back() {
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let all = topology.nodes().map(|node| node.name.clone()).collect();
    let mut memory = Memory::new(topology, all);
    let drained = json!({ "drain": { "state": "empty", "moved": 3, "left": 0, "failing": 0 } });
    memory.take(says("milan", drained, json!({})));
    let view = memory.view(NOW);
    let (_, effects) = typed(&view, &chose("milan"), "dy");
    let functions = vec![cart(), function("cdn")];
    let action = DrainAction::Stop;
    assert_eq!(effects, act("milan", What::Drain { functions, action }));
}

#[test]
fn what_the_root_cannot_do_is_said_before_it_is_asked() {
    let state = chose("italy");
    for keys in ["o", "n", "r", "d"] {
        assert_eq!(effects(&state, keys), [], "{keys}");
        assert!(said(&press(&state, keys)).starts_with("italy is the root"), "{keys}");
    }
}

#[test]
fn of_a_node_that_nobody_hears_nothing_is_guessed() {
    let state = chose("rome");
    for keys in ["a", "r", "d"] {
        assert_eq!(said(&press(&state, keys)), "no function of rome is known");
    }
    assert_eq!(said(&press(&state, "l")), "nobody knows its sessions");
}

#[test]
fn a_filter_finds_nodes_levels_and_sessions() {
    let found = |keys: &str| names(&press(&chose("italy"), keys));
    assert_eq!(found("/nav\n"), ["navigli"]);
    assert_eq!(found("/city\n"), ["milan", "rome"]);
    assert_eq!(found("/carla\n"), ["navigli"]);
    assert_eq!(found(&format!("/{}\n", &hash("ada")[..8])), ["milan"]);
    assert_eq!(found("/nav\u{1b}").len(), 6);
    assert_eq!(found("/nav\n\u{1b}").len(), 6);
    // What is hidden is not chosen, and no key means it.
    let state = press(&chose("italy"), "/carla\n");
    assert_eq!(state.node, Some(node("navigli")));
    let offload = What::Offload { function: cart(), session: id("carla") };
    assert_eq!(effects(&state, "lo"), act("navigli", offload));
    assert_eq!(press(&state, "/\u{8}\u{8}").filter, "car");
}

#[test]
fn what_is_pasted_is_a_filters_text_and_no_keys() {
    let view = view();
    let pasted = || Event::Pasted("ord\n".to_owned());
    let (state, effects) = update(press(&chose("navigli"), "l"), &view, pasted());
    assert_eq!((effects, state.mode), (vec![], Mode::Normal));
    let (state, effects) = update(press(&chose("navigli"), "/"), &view, pasted());
    assert_eq!((effects, state.filter.as_str()), (vec![], "ord"));
}

#[test]
fn sorted_the_largest_come_first_and_the_unknown_last() {
    let sorted = press(&chose("italy"), "s");
    assert_eq!(sorted.nodes_by, NodesBy::Requests);
    assert_eq!(names(&sorted), ["navigli", "milan", "italy", "brera", "rome", "trastevere"]);
    let sessions = |keys: &str| {
        let view = view();
        let state = press(&chose("navigli"), keys);
        let rows = rows::sessions(state.node(&view).unwrap(), &state);
        rows.iter().map(|row| row.session.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(sessions("l"), ["carla", "bob", "video", "dora"]);
    assert_eq!(sessions("ls"), ["video", "carla", "dora", "bob"]);
    assert_eq!(sessions("lsss"), ["bob", "carla", "dora", "video"]);
    assert_eq!(press(&chose("italy"), "ssssss").nodes_by, NodesBy::Tree);
}

#[test]
fn when_the_chosen_session_has_gone_no_other_one_takes_its_place() {
    let state = press(&chose("milan"), "l");
    assert_eq!(state.session.as_ref().map(|it| it.hash.clone()), Some(hash("ada")));
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let all = topology.nodes().map(|node| node.name.clone()).collect();
    let mut memory = Memory::new(topology, all);
    let other = json!({ "sessions": 1, "listed": [session("eve", "navigli", 1, 1)] });
    memory.take(says("milan", other, json!({})));
    let view = memory.view(NOW);
    let (state, _) = update(state, &view, Event::View);
    let (state, effects) = typed(&view, &state, "o");
    assert_eq!((effects, said(&state)), (vec![], "choose a session first"));
    let (_, effects) = typed(&view, &state, "jo");
    assert_eq!(effects, act("milan", What::Offload { function: cart(), session: id("eve") }));
}

#[test]
fn when_the_chosen_node_is_shown_no_more_no_other_one_takes_its_place() {
    let state = press(&chose("italy"), "/carla\n");
    assert_eq!(state.node, Some(node("navigli")));
    // carla moves to milan, and that is the only one to be shown.
    let topology = Arc::new(Topology::parse(TREE).unwrap());
    let all = topology.nodes().map(|node| node.name.clone()).collect();
    let mut memory = Memory::new(topology, all);
    let has = |id| json!({ "sessions": 1, "listed": [session(id, "navigli", 1, 1)] });
    memory.take(says("navigli", has("bob"), json!({})));
    memory.take(says("milan", has("carla"), json!({})));
    let moved = memory.view(NOW);
    let focused = press(&state, "l");
    for begun in [state, focused] {
        let (now, _) = update(begun, &moved, Event::View);
        assert_eq!(rows::nodes(&moved, &now).len(), 1);
        assert!(now.node(&moved).is_none(), "{:?}", now.node);
        for keys in ["o", "n", "a", "r", "d", "l", "\t", "\n"] {
            let (refused, effects) = typed(&moved, &now, keys);
            assert_eq!((effects, said(&refused)), (vec![], "choose a node first"), "{keys:?}");
            assert_eq!(refused.mode, Mode::Normal);
        }
        // An arrow chooses it, also one that leads further.
        let reject = |name, keys| {
            let functions = vec![cart(), function("cdn")];
            let what = What::Status { functions, status: OffloadStatus::Reject };
            assert_eq!(typed(&moved, &now, keys).1, act(name, what), "{keys:?}");
        };
        for keys in ["jr", "kr", "Gr"] {
            reject("milan", keys);
        }
        // So does another filter, and without one the node is there that was chosen.
        reject("milan", "/\u{8}\nr");
        reject("navigli", "\u{1b}r");
    }
}

#[test]
fn a_history_scrolls_and_closes() {
    let state = press(&chose("milan"), "l\n");
    assert!(matches!(state.mode, Mode::History { from: 0, .. }));
    assert!(matches!(press(&state, "j").mode, Mode::History { from: 1, .. }));
    assert!(matches!(press(&state, "jjj").mode, Mode::History { from: 1, .. }));
    assert_eq!(press(&state, "\n").mode, Mode::Normal);
}

//! What pages say, and what they never do.

use serde_json::json;

use super::testing::{NASTY, view};
use super::*;
use crate::watch::view::{FunctionView, SessionView};

const OPERATOR: Viewer = Viewer { operator: true, may_sign_in: true };
const GUEST: Viewer = Viewer { operator: false, may_sign_in: true };

fn hash(id: &str) -> String {
    id.parse::<SessionId>().unwrap().log_hash()
}

fn pages() -> [Page; 3] {
    let node = Page::Node("navigli".parse().unwrap());
    [Page::Tree, node, Page::Session("cart".parse().unwrap(), hash(NASTY))]
}

fn shown(page: &Page, viewer: Viewer) -> String {
    let notice = Notice { good: false, text: format!("{NASTY} is not there") };
    document(Shown { page, view: &view(), viewer, words: None }, Some(&notice))
}

#[test]
fn g8_what_comes_from_elsewhere_is_text() {
    for page in pages() {
        for viewer in [OPERATOR, GUEST] {
            let html = shown(&page, viewer);
            assert!(!html.contains("<script>alert"), "{html}");
            assert!(!html.contains("<gone>") && !html.contains("<is>"), "{html}");
            assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt; is not there"));
        }
    }
}

#[test]
fn g8_a_guest_sees_hashes_and_no_buttons() {
    for page in pages() {
        let html = shown(&page, GUEST);
        let body = html.split_once("<main").unwrap().1;
        assert!(!body.contains("ada<") && !body.contains("alert"), "{body}");
        assert!(!body.contains("<form") && !body.contains("<button"), "{body}");
        assert!(html.contains("Operators' key"), "{html}");
        assert!(!html.contains("peer"), "{html}");
    }
}

#[test]
fn an_operator_sees_ids_and_acts() {
    let html = shown(&Page::Tree, OPERATOR);
    assert!(html.contains(">ada</a>") && html.contains("Act on navigli"), "{html}");
    // Nothing goes up from the root, and nobody acts on a node of which no function is known.
    assert!(!html.contains("Act on italy") && !html.contains("Act on milan"), "{html}");
    let node = shown(&pages()[1], OPERATOR);
    assert!(node.contains("aria-label=\"Offload session ada from navigli\""), "{node}");
}

#[test]
fn a_function_in_the_form_keeps_its_place() {
    let html = shown(&Page::Tree, OPERATOR);
    let form = html.split_once("<select").unwrap().1.split_once("</select>").unwrap().0;
    for function in ["cart", "*"] {
        assert!(form.contains(&format!("<option data-key=\"{function}\"")), "{form}");
    }
}

#[test]
fn a_quiet_functions_session_is_shown_beside_many_of_another() {
    let mut view = view();
    let navigli = view.nodes.iter_mut().find(|node| node.name.as_str() == "navigli").unwrap();
    let cart = &mut navigli.functions[0];
    let of = |session: &SessionView, id: &str| SessionView {
        id: id.parse().unwrap(),
        hash: hash(id),
        ..session.clone()
    };
    let ada = cart.listed.as_ref().unwrap()[0].clone();
    let many = (0..20).map(|number| of(&ada, &format!("cart-{number:02}"))).collect();
    let zebra = FunctionView {
        name: "zebra".parse().unwrap(),
        listed: Some(vec![of(&ada, "quiet")]),
        ..cart.clone()
    };
    cart.listed = Some(many);
    navigli.functions.push(zebra);
    navigli.load.sessions = Some(21);
    let html =
        document(Shown { page: &Page::Tree, view: &view, viewer: OPERATOR, words: None }, None);
    assert!(html.contains(">quiet</a>") && html.contains(">cart-10</a>"), "{html}");
    assert!(!html.contains(">cart-11</a>") && html.contains("9 more"), "{html}");
}

#[test]
fn what_is_unknown_says_so() {
    let html = shown(&Page::Tree, GUEST);
    let milan = html.split_once("name-of-milan").unwrap().1.split_once("</article>").unwrap().0;
    assert!(milan.contains("silent since") && milan.contains("01:02:03"), "{milan}");
    assert!(milan.contains("unknown") && !milan.contains("<meter") && !milan.contains("0/s"));
    assert!(html.contains("sessions unknown"), "{html}");
    assert!(html.contains("1 of 3 nodes answers"), "{html}");
}

#[test]
fn while_a_store_does_not_answer_its_functions_row_has_no_zeros() {
    let mut view = view();
    let navigli = view.nodes.iter_mut().find(|node| node.name.as_str() == "navigli").unwrap();
    let cart = &mut navigli.functions[0];
    let drain = json!({"moved": 3, "failing": 0, "reasons": []});
    cart.drain = serde_json::from_value(drain).unwrap();
    (cart.status, cart.pending, cart.store) = (None, None, Some("it does not answer".into()));
    let html = document(Shown { page: &pages()[1], view: &view, viewer: GUEST, words: None }, None);
    let row = html.split_once("function-cart").unwrap().1.split_once("</tr>").unwrap().0;
    assert!(row.contains("unknown, drain unknown: 3 moved, left unknown<"), "{row}");
    assert!(!row.contains("accepts") && !row.contains(">0<"), "{row}");
}

#[test]
fn no_session_is_here_only_if_every_function_says_so() {
    let sessions = |change: fn(&mut FunctionView)| {
        let mut view = view();
        let navigli = view.nodes.iter_mut().find(|node| node.name.as_str() == "navigli").unwrap();
        navigli.functions[0].listed = Some(Vec::new());
        let mut cdn = FunctionView { name: "cdn".parse().unwrap(), ..navigli.functions[0].clone() };
        change(&mut cdn);
        navigli.functions.push(cdn);
        let page = &pages()[1];
        let html = document(Shown { page, view: &view, viewer: GUEST, words: None }, None);
        html.split_once("sessions-title").unwrap().1.split_once("</p>").unwrap().0.to_owned()
    };
    assert!(sessions(|_| {}).contains("None is here."));
    let silent = sessions(|cdn| (cdn.listed, cdn.listed_all) = (None, false));
    assert!(silent.contains("Which are here is unknown."), "{silent}");
    // It has some, and those that it listed have left.
    let some = sessions(|cdn| cdn.listed_all = false);
    assert!(some.contains("Which are here is unknown."), "{some}");
}

#[test]
fn the_tree_is_a_nested_list() {
    let html = shown(&Page::Tree, GUEST);
    let at = |text: &str| html.find(text).unwrap_or_else(|| panic!("{text}: {html}"));
    assert!(at("node-italy") < at("node-milan") && at("node-milan") < at("node-navigli"));
    let between = &html[at("node-italy")..at("node-navigli")];
    assert_eq!(between.matches("<ul class=\"nodes\"").count(), 2, "{between}");
}

#[test]
fn a_move_says_who_asked_for_it_and_why() {
    let html = shown(&Page::Tree, GUEST);
    let moves = html.split_once("id=\"moves\"").unwrap().1;
    assert!(moves.contains("the oracle of") && moves.contains("cpu &lt;is&gt; 0.1"), "{moves}");
    assert!(moves.contains(&format!("/session/cart/{}", hash(NASTY))), "{moves}");
}

#[test]
fn paths_name_pages_and_nothing_else() {
    for page in pages() {
        assert_eq!(Page::at(&page.path()), Some(page));
    }
    for bad in [
        "/node",
        "/node/A B",
        "/session/cart/ada",
        "/../x",
        "//evil.example",
        "/node/a/b",
        "https://x",
    ] {
        assert_eq!(Page::at(bad), None, "{bad}");
    }
}

#[test]
fn every_fragment_is_one_element_with_its_id() {
    for page in pages() {
        let view = view();
        let all = fragments(Shown { page: &page, view: &view, viewer: OPERATOR, words: None });
        for Fragment { id, html } in all {
            let opening = html.split_once('>').unwrap().0;
            assert!(opening.contains(&format!("id=\"{id}\"")), "{opening}");
        }
    }
}

#[test]
fn whoever_does_not_see_the_page_is_told_when_it_is_live_no_more() {
    assert!(shown(&Page::Tree, GUEST).contains("<p id=\"connection\" role=\"status\""));
}

#[test]
fn nothing_is_inline() {
    for page in pages() {
        let html = shown(&page, OPERATOR);
        for forbidden in [" style=", "<style", " onclick", "javascript:", "http-equiv"] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert_eq!(html.matches("<script").count(), 1);
    }
}

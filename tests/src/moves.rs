//! What goes on while a move is held open.

use std::cell::Cell;

use crate::tree::{Plan, Tree, until};

/// Settings under which a step may be held for a while: nobody gives up waiting,
/// and nobody asks about the move.
#[must_use]
pub fn patient(plan: Plan) -> Plan {
    plan.set("session_wait", "20s").set("recovery_interval", "30s").set("peer_timeout", "10s")
}

/// Holds `step` of `node` open once `moving` comes to it, makes `request` there,
/// and lets the step go when the request waits somewhere, or has ended.
pub async fn during<M, R>(
    tree: &Tree,
    (node, step): (&str, &str),
    moving: impl Future<Output = M>,
    request: impl Future<Output = R>,
) -> (M, R) {
    let held = tree.hold(node, step);
    let ended = Cell::new(false);
    let meanwhile = async {
        held.reached().await;
        let request = async {
            let answer = request.await;
            ended.set(true);
            answer
        };
        let releasing = async {
            until("the request waits", async || ended.get() || waits(tree).await).await;
            held.release();
        };
        tokio::join!(request, releasing).0
    };
    tokio::join!(moving, meanwhile)
}

/// Whether a request is at work or waits at any node.
pub async fn waits(tree: &Tree) -> bool {
    let operator = tree.operator();
    for node in tree.nodes() {
        if operator.status(node).await.in_flight > 0 {
            return true;
        }
    }
    false
}

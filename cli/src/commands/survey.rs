//! Asking many nodes at once.

use std::future::Future;

use funicular::session::FunctionName;
use funicular::topology::Node;
use futures_util::{StreamExt, stream};

use crate::client::{CallError, Client};

/// So many calls are open at once.
const AT_ONCE: usize = 32;

/// A function at a node, and what came of asking it. Without a function, the
/// node could not even say which functions it has.
pub(super) struct Place<'a, T> {
    pub(super) node: &'a Node,
    pub(super) function: Option<FunctionName>,
    pub(super) said: Result<T, CallError>,
}

/// Asks a function, or else every function of each node, at the given nodes;
/// answers come in their order.
pub(super) async fn everywhere<'a, T, F>(
    client: &Client,
    nodes: impl Iterator<Item = &'a Node>,
    function: Option<&FunctionName>,
    ask: impl Fn(&'a Node, FunctionName) -> F,
) -> Vec<Place<'a, T>>
where
    F: Future<Output = Result<T, CallError>>,
{
    let at_node = |node: &'a Node| {
        let ask = &ask;
        async move {
            let functions = match function {
                Some(function) => Ok(vec![function.clone()]),
                None => client.functions(node).await,
            };
            let mut places = Vec::new();
            match functions {
                Ok(functions) => {
                    for function in functions {
                        let said = ask(node, function.clone()).await;
                        places.push(Place { node, function: Some(function), said });
                    }
                }
                Err(error) => places.push(Place { node, function: None, said: Err(error) }),
            }
            places
        }
    };
    let found: Vec<_> = stream::iter(nodes).map(at_node).buffered(AT_ONCE).collect().await;
    found.into_iter().flatten().collect()
}

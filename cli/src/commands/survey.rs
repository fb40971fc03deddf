//! Asking many nodes at once, and which functions there are to ask.

use std::collections::BTreeSet;
use std::future::Future;

use anyhow::{Context, Result};
use funicular::session::FunctionName;
use funicular::topology::Node;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use crate::client::{CallError, Client};
use crate::output::note;

/// So many calls are open at once.
const AT_ONCE: usize = 32;

/// A function at a node, and what came of asking it. Without a function, the
/// node could not even say which functions it has.
pub(super) struct Place<'a, T> {
    pub(super) node: &'a Node,
    pub(super) function: Option<FunctionName>,
    pub(super) said: Result<T, CallError>,
}

/// What came of asking everywhere.
pub(super) struct Survey<'a, T> {
    pub(super) places: Vec<Place<'a, T>>,
    /// They are listed, and none of Funicular's: nobody asked them.
    pub(super) others: BTreeSet<FunctionName>,
}

/// The functions that a node's gateway lists.
pub(super) struct Listed {
    /// Those that are Funicular's, and those that may be and are silent, with why.
    pub(super) ours: Vec<(FunctionName, Result<(), CallError>)>,
    /// Those that are not.
    pub(super) others: BTreeSet<FunctionName>,
}

impl Listed {
    /// Asks the gateway, then each function for its status: a question is all that one of
    /// somebody else's is sent.
    pub(super) async fn ask(client: &Client, node: &Node) -> Result<Self, CallError> {
        let listed = client.functions(node).await?;
        let known = listed.iter().map(|function| client.get(node, function, "status", &[]));
        let known = join_all(known).await;
        let mut found = Self { ours: Vec::new(), others: BTreeSet::new() };
        for (function, known) in listed.into_iter().zip(known) {
            match known.map(drop) {
                Err(error) if error.is_of_another() => {
                    found.others.insert(function);
                }
                known => found.ours.push((function, known)),
            }
        }
        Ok(found)
    }

    /// The names of Funicular's; an error if one is silent that may be.
    fn certain(self) -> Result<Vec<FunctionName>> {
        let certain = self.ours.into_iter().map(|(function, known)| match known {
            Ok(()) => Ok(function),
            Err(error) => Err(error).with_context(|| {
                format!(
                    "`{function}` may be a function of Funicular, and is silent (--function \
                     names those that are meant)"
                )
            }),
        });
        certain.collect()
    }
}

/// The functions of a node that are meant: those that are named, else all of Funicular's.
pub(super) async fn functions(
    client: &Client,
    node: &Node,
    named: &[FunctionName],
) -> Result<Vec<FunctionName>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let listed = Listed::ask(client, node).await?;
    say_left_out(&listed.others);
    listed.certain()
}

/// Names those that nobody asks.
pub(super) fn say_left_out<'a>(others: impl IntoIterator<Item = &'a FunctionName>) {
    for function in others {
        note(left_out(function));
    }
}

fn left_out(function: &FunctionName) -> String {
    format!("{function} is no function of Funicular: left out")
}

/// Asks a function, or else every function of Funicular's, at the given nodes; answers
/// come in their order.
pub(super) async fn everywhere<'a, T, F>(
    client: &Client,
    nodes: impl Iterator<Item = &'a Node>,
    function: Option<&FunctionName>,
    ask: impl Fn(&'a Node, FunctionName) -> F,
) -> Survey<'a, T>
where
    F: Future<Output = Result<T, CallError>>,
{
    let at_node = |node: &'a Node| {
        let ask = &ask;
        async move {
            let listed = match function {
                Some(function) => {
                    Ok(Listed { ours: vec![(function.clone(), Ok(()))], others: BTreeSet::new() })
                }
                None => Listed::ask(client, node).await,
            };
            let Listed { ours, others } = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    let places = vec![Place { node, function: None, said: Err(error) }];
                    return Survey { places, others: BTreeSet::new() };
                }
            };
            let mut places = Vec::new();
            for (function, known) in ours {
                let said = match known {
                    Ok(()) => ask(node, function.clone()).await,
                    Err(error) => Err(error),
                };
                places.push(Place { node, function: Some(function), said });
            }
            Survey { places, others }
        }
    };
    let found: Vec<_> = stream::iter(nodes).map(at_node).buffered(AT_ONCE).collect().await;
    let mut all = Survey { places: Vec::new(), others: BTreeSet::new() };
    for at_node in found {
        all.places.extend(at_node.places);
        all.others.extend(at_node.others);
    }
    all
}

#[cfg(test)]
mod tests;

//! What an operator asks for, done through the functions' own endpoints.

use funicular::peers::messages::{
    DrainAction, DrainCall, DrainStatus, ForceCall, MoveReport, OnloadReport, StatusChange,
};
use funicular::peers::operator::{CallError, OperatorClient};
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular::topology::Node;
use serde_json::json;

use crate::pages::{ALL, Notice};
use crate::watch::view::View;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Offload,
    Onload,
    Accept,
    Reject,
    Drain,
    Undrain,
}

impl Action {
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "offload" => Self::Offload,
            "onload" => Self::Onload,
            "accept" => Self::Accept,
            "reject" => Self::Reject,
            "drain" => Self::Drain,
            "undrain" => Self::Undrain,
            _ => return None,
        })
    }

    /// Whether it moves a session.
    fn moves(self) -> bool {
        matches!(self, Self::Offload | Self::Onload)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) action: Action,
    pub(super) node: NodeName,
    pub(super) functions: Vec<FunctionName>,
    pub(super) session: Option<SessionId>,
}

impl Wish {
    /// Reads a form; the error is a sentence.
    pub(super) fn read(form: &[(String, String)], view: &View) -> Result<Self, String> {
        let field = |name: &str| {
            let found = form.iter().find(|(field, _)| field == name);
            found.map(|(_, value)| value.as_str()).ok_or_else(|| format!("`{name}` is missing"))
        };
        let action = field("action")?;
        let action = Action::named(action).ok_or("there is no such action")?;
        let node: NodeName = field("node")?.parse().map_err(|bad| format!("the node: {bad}"))?;
        let known = view.node(&node).filter(|node| node.watched);
        let known =
            known.ok_or_else(|| format!("`{node}` is no node that is watched from here"))?;
        let functions = match field("function")? {
            ALL => known.functions.iter().map(|function| function.name.clone()).collect(),
            name => vec![name.parse().map_err(|bad| format!("the function: {bad}"))?],
        };
        let session = match (field("session"), &functions[..]) {
            (Ok(hash), [function]) => {
                let id = view.id_of(function, hash);
                Some(id.cloned().ok_or("that session was not seen of late; look where it is")?)
            }
            (Ok(_), _) => return Err("name the session's function".to_owned()),
            (Err(_), _) => None,
        };
        Ok(Self { action, node, functions, session })
    }

    /// Does it for each function. Where it is for all, those without a session to move are
    /// no failure.
    pub(super) async fn perform(&self, client: &OperatorClient, at: &Node) -> Notice {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for function in &self.functions {
            match self.one(client, at, function).await {
                Ok(sentence) => done.push(sentence),
                Err(error) => failed.push(error),
            }
        }
        let none_there = |error: &CallError| error.code() == Some("no-such-session");
        if self.action.moves() && !done.is_empty() {
            failed.retain(|error| !none_there(error));
        }
        let good = failed.is_empty() && !done.is_empty();
        done.extend(failed.iter().map(ToString::to_string));
        if done.is_empty() {
            done.push(format!("{} has no function", self.node));
        }
        Notice { good, text: done.join(" · ") }
    }

    async fn one(
        &self,
        client: &OperatorClient,
        at: &Node,
        function: &FunctionName,
    ) -> Result<String, CallError> {
        let node = &self.node;
        let call = ForceCall { session: self.session.clone(), max_sessions: None };
        match self.action {
            Action::Offload => {
                let answer = client.post(at, function, "force-offload", &call).await?;
                if answer.status == 202 {
                    return Ok(format!("a session of {function} is on its way up from {node}"));
                }
                Ok(moved(function, &answer.read()?))
            }
            Action::Onload => {
                let report: OnloadReport =
                    client.post(at, function, "force-onload", &call).await?.read()?;
                let mut sentences: Vec<_> =
                    report.moved.iter().map(|report| moved(function, report)).collect();
                sentences.extend(report.failed);
                if sentences.is_empty() {
                    sentences.push(format!("nothing of {function} is away from {node}"));
                }
                Ok(sentences.join("; "))
            }
            Action::Accept | Action::Reject => {
                let status = if self.action == Action::Accept { "accept" } else { "reject" };
                let body = json!({ "status": status });
                let change: StatusChange =
                    client.post(at, function, "set-offload-status", &body).await?.read()?;
                let (new, old) = (format!("{:?}", change.new), format!("{:?}", change.old));
                Ok(format!("{function} at {node}: {new} after {old}").to_lowercase())
            }
            Action::Drain | Action::Undrain => {
                let action = if self.action == Action::Drain {
                    DrainAction::Start
                } else {
                    DrainAction::Stop
                };
                let call = DrainCall { action };
                let drain: DrainStatus = client.post(at, function, "drain", &call).await?.read()?;
                Ok(match action {
                    DrainAction::Stop => format!("{function} at {node} is back at work"),
                    DrainAction::Start => {
                        format!("{function} at {node} is being drained: {} left", drain.left)
                    }
                })
            }
        }
    }
}

fn moved(function: &FunctionName, report: &MoveReport) -> String {
    format!(
        "session {} of {function} is at {} now; it took {:.1} ms, and writes waited {:.1} ms at most",
        report.token.session, report.accepted_by, report.took_ms, report.downtime_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::testing::view;

    fn read(pairs: &[(&str, &str)]) -> Result<Wish, String> {
        let form: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wish::read(&form, &view())
    }

    #[test]
    fn a_form_is_read_and_a_wrong_one_says_what_is_wrong() {
        let hash = SessionId::new("ada").unwrap().log_hash();
        let node = ("node", "navigli");
        let wish = read(&[node, ("action", "offload"), ("function", "cart"), ("session", &hash)]);
        let wish = wish.unwrap();
        assert_eq!((wish.action, wish.session.unwrap().as_str()), (Action::Offload, "ada"));
        let all = read(&[node, ("action", "drain"), ("function", ALL)]).unwrap();
        assert_eq!((all.functions.len(), all.session), (1, None));
        for (form, why) in [
            (&[node, ("function", "cart")][..], "`action` is missing"),
            (&[node, ("action", "explode"), ("function", "cart")], "no such action"),
            (&[("node", "atlantis"), ("action", "drain"), ("function", "cart")], "no node"),
            (&[("node", "../x"), ("action", "drain"), ("function", "cart")], "the node"),
            (
                &[node, ("action", "offload"), ("function", "cart"), ("session", "0")],
                "not seen of late",
            ),
        ] {
            let error = read(form).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

//! Keys that tell a node something.

use funicular::peers::messages::{DrainAction, OffloadStatus};
use funicular::session::FunctionName;
use funicular_dashboard::watch::view::{FunctionView, NodeView, View};

use super::{Effect, NO_NODE};
use crate::commands::top::rows;
use crate::commands::top::state::{Action, Focus, Mode, Said, SessionKey, State, What};

impl State {
    /// What `o`, `n`, `a`, `r` or `d` leads to.
    pub(super) fn command(&mut self, view: &View, letter: char) -> Vec<Effect> {
        let Some(node) = self.node(view) else {
            return self.refuse(NO_NODE);
        };
        match (letter, self.focus) {
            ('o' | 'n', Focus::Sessions) => match self.session.clone() {
                Some(session) => self.for_session(view, letter, &session),
                None => self.refuse("choose a session first"),
            },
            ('o' | 'n', Focus::Nodes) => self.for_node(view, node, letter),
            _ => self.for_functions(node, letter),
        }
    }

    /// Begins a call.
    pub(super) fn act(&mut self, action: Action) -> Vec<Effect> {
        self.calls += 1;
        self.said = Some(Said::going(format!("{action} …")));
        vec![Effect::Act(action)]
    }

    /// Moves one session, wherever it is.
    pub(super) fn for_session(
        &mut self,
        view: &View,
        letter: char,
        key: &SessionKey,
    ) -> Vec<Effect> {
        let Some((node, session)) = view.session(&key.function, &key.hash) else {
            return self.refuse("nobody lists this session any more");
        };
        let (function, id) = (key.function.clone(), Some(session.id.clone()));
        match letter {
            'o' if node.parent.is_none() => {
                self.refuse(format!("{} is the root: no node is above it", node.name))
            }
            'o' => {
                let what = What::Offload { function, session: id };
                self.act(Action { node: node.name.clone(), what })
            }
            _ if session.home == node.name => self.refuse("it is at its home"),
            _ => {
                let what = What::Onload { function, session: id };
                self.act(Action { node: session.home.clone(), what })
            }
        }
    }

    /// Moves a session that the nodes choose; a person says of which function, if several
    /// have some.
    fn for_node(&mut self, view: &View, node: &NodeView, letter: char) -> Vec<Effect> {
        if node.parent.is_none() {
            return self.refuse(format!("{} is the root: no node is above it", node.name));
        }
        let only = self.function.clone();
        let functions: Vec<_> = rows::functions(node, only.as_ref())
            .filter(|function| match letter {
                'o' => has_some(Some(function)),
                _ => rows::above(view, node).any(|above| has_some(above.function(&function.name))),
            })
            .collect();
        let mut actions = functions.into_iter().map(|function| {
            let (function, session) = (function.name.clone(), None);
            let what = match letter {
                'o' => What::Offload { function, session },
                _ => What::Onload { function, session },
            };
            Action { node: node.name.clone(), what }
        });
        match (actions.next(), actions.next()) {
            (None, _) if letter == 'o' => self.refuse(format!("{} has no session", node.name)),
            (None, _) => self.refuse(format!("no node above {} has a session", node.name)),
            (Some(action), None) => self.act(action),
            (Some(one), Some(other)) => {
                let actions = [one, other].into_iter().chain(actions).collect();
                self.mode = Mode::Pick { actions, chosen: 0 };
                Vec::new()
            }
        }
    }

    fn for_functions(&mut self, node: &NodeView, letter: char) -> Vec<Effect> {
        let only = self.function.clone();
        let here: Vec<_> = rows::functions(node, only.as_ref()).collect();
        let functions: Vec<FunctionName> = here.iter().map(|one| one.name.clone()).collect();
        if functions.is_empty() {
            return self.refuse(format!("no function of {} is known", node.name));
        }
        let root = node.parent.is_none();
        let of_node = |what| Action { node: node.name.clone(), what };
        let status = |status| What::Status { functions: functions.clone(), status };
        match letter {
            'a' => self.act(of_node(status(OffloadStatus::Accept))),
            'r' if root => {
                self.refuse(format!("{} is the root: who else should take sessions?", node.name))
            }
            'r' => self.act(of_node(status(OffloadStatus::Reject))),
            _ if root => self.refuse(format!("{} is the root: no node is above it", node.name)),
            _ => {
                let drained = here.iter().any(|function| function.drain.is_some());
                let action = if drained { DrainAction::Stop } else { DrainAction::Start };
                self.mode = Mode::Confirm(of_node(What::Drain { functions, action }));
                Vec::new()
            }
        }
    }

    fn refuse(&mut self, why: impl Into<String>) -> Vec<Effect> {
        self.said = Some(Said::bad(why));
        Vec::new()
    }
}

/// Whether a function may have sessions: what nobody knows may be.
fn has_some(function: Option<&FunctionView>) -> bool {
    function.is_some_and(|function| function.load.sessions != Some(0))
}

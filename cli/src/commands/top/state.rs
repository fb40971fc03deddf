//! What a person has chosen and is about to do: plain data.

use std::fmt::{Display, Formatter};

use funicular::peers::messages::{DrainAction, OffloadStatus};
use funicular::session::{FunctionName, NodeName, SessionId};
use funicular_dashboard::watch::view::{NodeView, SessionView, View};

use super::rows;

/// Everything about the screen that is not the tree's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Where the arrows go.
    pub(super) focus: Focus,
    /// The node that was chosen last; it counts while it is shown.
    pub(super) node: Option<NodeName>,
    /// The chosen session.
    pub(super) session: Option<SessionKey>,
    /// Only this function; none: all of them.
    pub(super) function: Option<FunctionName>,
    /// The order of the nodes.
    pub(super) nodes_by: NodesBy,
    /// The order of the sessions.
    pub(super) sessions_by: SessionsBy,
    /// What a node or a session has to contain.
    pub(super) filter: String,
    /// What keys mean right now.
    pub(super) mode: Mode,
    /// The last thing that was said.
    pub(super) said: Option<Said>,
    /// Calls that are under way.
    pub(super) calls: usize,
}

/// Where the arrows go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Focus {
    /// To the nodes.
    #[default]
    Nodes,
    /// To the sessions of the chosen node.
    Sessions,
}

/// Names a session for as long as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionKey {
    /// Its function.
    pub(super) function: FunctionName,
    /// Its hash.
    pub(super) hash: String,
}

/// The order of the nodes: of the tree, or the largest figure first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum NodesBy {
    #[default]
    Tree,
    Requests,
    Latency,
    Sessions,
    Memory,
    InFlight,
}

/// The order of the sessions: the largest figure first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SessionsBy {
    #[default]
    Requests,
    Bytes,
    /// The one that was used last first.
    Used,
    Name,
}

/// What keys mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// What the help says.
    #[default]
    Normal,
    /// They make up the filter, which was this before.
    Filter { before: String },
    /// The help is shown.
    Help,
    /// A question that `y` says yes to.
    Confirm(Action),
    /// Which function it is for.
    Pick { actions: Vec<Action>, chosen: usize },
    /// A session's history is shown, from this line on.
    History { session: SessionKey, from: usize },
}

/// Something that a node is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Action {
    /// Who.
    pub(super) node: NodeName,
    /// What.
    pub(super) what: What,
}

/// What a node is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// Give a session to a node above; without one, the node chooses.
    Offload { function: FunctionName, session: Option<SessionId> },
    /// Take a session from a node above; without one, they choose.
    Onload { function: FunctionName, session: Option<SessionId> },
    /// Take sessions from below, or not.
    Status { functions: Vec<FunctionName>, status: OffloadStatus },
    /// Get out of work, or back.
    Drain { functions: Vec<FunctionName>, action: DrainAction },
}

/// What was said last, and how it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) tone: Tone,
    pub(super) text: String,
}

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// It goes on.
    Going,
    /// It is done.
    Good,
    /// It is not.
    Bad,
}

impl State {
    /// The chosen node, if it is among those that are shown.
    pub(super) fn node<'a>(&self, view: &'a View) -> Option<&'a NodeView> {
        let wanted = self.node.as_ref()?;
        rows::nodes(view, self).into_iter().map(|row| row.node).find(|node| node.name == *wanted)
    }

    /// The chosen session, if it is among those that are shown.
    pub(super) fn session<'a>(
        &self,
        view: &'a View,
    ) -> Option<(&'a NodeView, SessionKey, &'a SessionView)> {
        let (node, wanted) = (self.node(view)?, self.session.as_ref()?);
        let rows = rows::sessions(node, self);
        let row = rows.into_iter().find(|row| row.key() == *wanted)?;
        Some((node, row.key(), row.session))
    }
}

impl NodesBy {
    /// The next order.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Tree => Self::Requests,
            Self::Requests => Self::Latency,
            Self::Latency => Self::Sessions,
            Self::Sessions => Self::Memory,
            Self::Memory => Self::InFlight,
            Self::InFlight => Self::Tree,
        }
    }
}

impl Display for NodesBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tree => "tree",
            Self::Requests => "req/s",
            Self::Latency => "p99",
            Self::Sessions => "sessions",
            Self::Memory => "memory",
            Self::InFlight => "in flight",
        })
    }
}

impl SessionsBy {
    /// The next order.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Requests => Self::Bytes,
            Self::Bytes => Self::Used,
            Self::Used => Self::Name,
            Self::Name => Self::Requests,
        }
    }
}

impl Display for SessionsBy {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Requests => "req/s",
            Self::Bytes => "size",
            Self::Used => "last use",
            Self::Name => "name",
        })
    }
}

impl Action {
    /// The function, if it is for one alone.
    pub(super) fn function(&self) -> Option<&FunctionName> {
        match &self.what {
            What::Offload { function, .. } | What::Onload { function, .. } => Some(function),
            What::Status { .. } | What::Drain { .. } => None,
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let node = &self.node;
        let which = |session: &Option<SessionId>| {
            session.as_ref().map_or("a session".to_owned(), ToString::to_string)
        };
        match &self.what {
            What::Offload { function, session } => {
                write!(f, "offload {} of {function} from {node}", which(session))
            }
            What::Onload { function, session } => {
                write!(f, "onload {} of {function} to {node}", which(session))
            }
            What::Status { functions, status: OffloadStatus::Accept } => {
                write!(f, "let {node} accept for {}", list(functions))
            }
            What::Status { functions, status: OffloadStatus::Reject } => {
                write!(f, "let {node} reject for {}", list(functions))
            }
            What::Drain { functions, action: DrainAction::Start } => {
                write!(f, "drain {node} of {}", list(functions))
            }
            What::Drain { functions, action: DrainAction::Stop } => {
                write!(f, "take {node} back into work for {}", list(functions))
            }
        }
    }
}

/// Functions as a sentence names them.
pub(super) fn list(functions: &[FunctionName]) -> String {
    functions.iter().map(FunctionName::as_str).collect::<Vec<_>>().join(", ")
}

impl Said {
    pub(super) fn going(text: impl Into<String>) -> Self {
        Self { tone: Tone::Going, text: text.into() }
    }

    pub(super) fn good(text: impl Into<String>) -> Self {
        Self { tone: Tone::Good, text: text.into() }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { tone: Tone::Bad, text: text.into() }
    }
}

//! A session's data in a handler's hands: [`ReadDb`] reads, [`EdgeDb`] also
//! writes. Both are lent for one request.
//!
//! - `read`: values, lists and keys, and where the session is
//! - `write`: what a request changes, gathered until it commits
//! - `source`: from where the data comes: all of a small session at once, of a
//!   large one what is asked for
//! - `overlay`: what the request has changed so far, so that it reads its own
//!   writes
//! - `value`: what may be stored
//! - `hierarchy`: the other nodes, and calls to them

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::SetOnce;

use crate::function::{Request, Response, Result};
use crate::session::fields::FieldMap;
use crate::session::{FunctionName, NodeName, RequestId, SessionId};
use crate::store::{ReadGuard, SessionStore};
use crate::topology::Topology;

mod hierarchy;
mod overlay;
mod read;
mod source;
#[cfg(test)]
pub(crate) mod tests;
mod value;
mod write;

pub use hierarchy::Hierarchy;
pub use read::ReadDb;
pub use value::IntoValue;
pub use write::EdgeDb;

/// From where a request's data comes.
pub(crate) struct Reader {
    /// The store that holds the session.
    pub store: Arc<dyn SessionStore>,
    /// Which session.
    pub session: SessionId,
    /// Under which condition a read counts.
    pub guard: ReadGuard,
    /// All of the data, if it came along: then the store is not asked.
    pub inline: Option<Arc<FieldMap>>,
}

/// Where a request runs.
#[derive(Clone)]
pub(crate) struct Place {
    /// The node it runs at.
    pub here: NodeName,
    /// The node where the session was created.
    pub home: NodeName,
    /// The function.
    pub function: FunctionName,
    /// The session.
    pub session: SessionId,
    /// The tree of nodes.
    pub topology: Arc<Topology>,
    /// The way to other nodes, if there is one.
    pub caller: Option<Arc<dyn Caller>>,
    /// Chance, for calls of a request without an id.
    pub machine: Arc<dyn crate::node::Machine>,
    /// The request's own id, if it has one.
    pub request: Option<RequestId>,
    /// Calls wait until this is set: until the request holds the lease.
    pub gate: Option<Arc<SetOnce<()>>>,
}

/// The way to the functions of other nodes.
#[async_trait]
pub trait Caller: Send + Sync {
    /// Sends `request` to a session at `node`, or where it lives now. An answer
    /// of any status is a response; an error says why there is none.
    async fn invoke(
        &self,
        node: &NodeName,
        function: &FunctionName,
        session: &SessionId,
        request: Request,
        request_id: RequestId,
    ) -> Result<Response>;
}

//! The HTTP surface.
//!
//! - `router`: from the socket to an endpoint or the handler
//! - `processes`: functions that another process serves
//! - `client_call`, `forward`: clients' requests, redirects, `X-session-forward`
//! - `endpoints`: everything under `/_/`, one file each
//! - [`problem`]: errors as `application/problem+json`; `failure` says which
//! - [`signature`]: who may make internal calls, and whose answers count

mod client_call;
mod digest;
mod endpoints;
mod failure;
mod forward;
pub mod problem;
mod processes;
mod router;
mod service;
pub mod signature;

pub(crate) use failure::problem as problem_of;
pub use processes::Processes;
pub use router::{Single, gateway};
pub use service::Service;

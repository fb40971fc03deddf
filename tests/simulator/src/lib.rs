//! A whole tree in virtual time: the real nodes, the real protocol, the real shell with
//! its repeats and time limits, on a network, stores and a clock that a seed decides.
//!
//! - `plan`: what a seed stands for
//! - `world`: sites, processes, stores
//! - `network`: messages, and how they go astray
//! - `store`: stores that take time, and forget what was not on disk
//! - `mishaps`, `moves`: what happens to the tree
//! - `client`, `function`: who asks, and what for
//! - `shadow`: looks at every change; `judge`: the verdict over every answer
//! - `chance`, `trace`, `reasons`: where chance comes from, what happened, and why
//! - `run`: one seed from beginning to end

pub mod chance;
pub mod client;
pub mod function;
pub mod judge;
pub mod mishaps;
pub mod moves;
pub mod network;
pub mod plan;
pub mod reasons;
pub mod run;
pub mod shadow;
pub mod store;
pub mod trace;
pub mod world;

pub use run::{Report, run};

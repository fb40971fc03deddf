//! A day of load on a tree of thousands of nodes, in minutes: what the oracle's policy makes of
//! it, and what other policies do.
//!
//! The policy and its smoothing are the oracle's own, and every move goes through the
//! protocol's own transitions. Machines, networks and clients are a model.
//! `docs/simulation.md` says what is in it and what is not.
//!
//! | what is played | |
//! |---|---|
//! | [`scenario`] | tree, workload, settings, policies; [`scenario::Scenario::play`] |
//! | [`workload`] | who calls what, when, from where: made up, or from a CSV |
//! | [`report`], [`draw`](mod@draw) | what came of it |
//!
//! | the model, without I/O, repeatable from its seed | |
//! |---|---|
//! | `run`, `moving` | one policy's run, second by second; moves from beginning to end |
//! | `oracles`, [`watch`] | each node's oracle, asked when something can change |
//! | `random` | the policy that moves anybody |
//! | [`ledger`] | records of sessions that have moved |
//! | [`node`] | the sessions and the backlog of a node |
//! | [`queue`], [`carry`] | how long requests and moves take |
//! | [`tree`], [`settings`] | how far, how much |
//! | [`tally`], [`histogram`] | counts |

// A model: counts become rates, and rates counts.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

pub mod carry;
pub mod draw;
pub mod histogram;
pub mod ledger;
mod moving;
pub mod node;
mod oracles;
pub mod queue;
mod random;
pub mod report;
mod run;
pub mod scenario;
pub mod settings;
pub mod tally;
pub mod tree;
pub mod watch;
pub mod workload;

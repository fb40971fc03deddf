//! Watches one node of a tree, decides which sessions move, and says why.
//!
//! Arrows only point down.
//!
//! | the process | |
//! |---|---|
//! | [`run`] | settings, port, oracle, until it is told to end |
//! | [`assemble`](mod@assemble) | its parts, from its settings |
//! | [`daemon`] | the loop, and what it tells of itself |
//! | [`dashboard`] | its node, as people look at it |
//!
//! | the rim | |
//! |---|---|
//! | [`sources`] | where signals come from, one file each |
//! | [`actions`] | what is decided, done through the functions' endpoints |
//! | [`lease`] | one oracle at a time |
//! | [`settings`] | environment, secrets, one file |
//!
//! | the core, without I/O | |
//! |---|---|
//! | [`trace`] | what was seen, played through the policy once more |
//! | [`policy`] | signals and sessions in, decisions out |
//! | [`signals`] | what is known: smoothed, combined, forgotten when it gets old |
//! | [`duration`] | lengths of time as the settings write them |
//!
//! `docs/oracle.md` tells how it decides, with each setting.

pub mod actions;
pub mod assemble;
pub mod daemon;
pub mod dashboard;
pub mod duration;
pub mod lease;
mod metrics;
pub mod policy;
pub mod run;
pub mod settings;
pub mod signals;
pub mod sources;
#[cfg(test)]
mod testing;
pub mod trace;

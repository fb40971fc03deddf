//! Watches one node of a tree, decides which sessions move, and says why.
//!
//! | the core, without I/O | |
//! |---|---|
//! | [`signals`] | what is known: smoothed, combined, forgotten when it gets old |
//! | [`policy`] | signals and sessions in, decisions out |
//! | [`duration`] | lengths of time as the settings write them |
//!
//! `docs/oracle.md` tells how it decides, with each setting.

pub mod duration;
pub mod policy;
pub mod signals;

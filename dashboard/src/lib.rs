//! A tree as people think of it: its nodes with their load, sessions as they are and as they
//! move, what oracles decide and why.
//!
//! Arrows only point down.
//!
//! | | |
//! |---|---|
//! | [`web`] | pages over HTTP, what changes on them, and what operators do |
//! | [`pages`] | from a view to pages, on the server |
//! | [`watch`] | asks nodes and oracles, and makes one [`watch::view::View`] of what they say |
//!
//! `docs/dashboard.md` tells what is shown, and to whom.

pub mod pages;
pub mod watch;
pub mod web;

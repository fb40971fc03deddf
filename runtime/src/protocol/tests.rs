//! The rules one by one, and everything at once at random.
//!
//! - `rules`: each rule of `docs/protocol.md`, by number
//! - `world`: three nodes, stores that forget, messages that come late, twice or never
//! - `delivery`: what a node does with a message, as `node/` does it
//! - `judge`: what must hold of the whole world after each step
//! - `restore`: what of a restored store holds
//! - `random`: random histories of that world, and pinned ones that found something

mod delivery;
mod judge;
mod random;
mod restore;
mod rules;
mod world;

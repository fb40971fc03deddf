//! What every store must do. Each check is a function on a [`Bench`]; its name
//! carries the guarantee it belongs to.
//!
//! [`Bench`]: crate::bench::Bench

pub mod at_once;
pub mod copies;
pub mod data;
pub mod index;
pub mod moves;
pub mod recovery;
pub mod requests;
pub mod window;

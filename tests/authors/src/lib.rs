//! Functions as authors write them, one a module, each with its tests.
//!
//! - [`cart`]: routes that read and routes that write
//! - [`files`]: upload and download in one function
//! - [`sensor`]: readings that go up to every ancestor
//! - [`votes`]: a session that invokes another one on its parent

pub mod cart;
pub mod files;
pub mod sensor;
pub mod votes;

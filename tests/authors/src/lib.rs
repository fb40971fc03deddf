//! Functions as authors write them, one a module, each with its tests.
//!
//! - [`cart`]: routes that read and routes that write
//! - [`files`]: upload and download in one function
//! - [`greet`]: what `faas-cli new --lang rust-offloadable` begins with
//! - [`sensor`]: readings that go up to every ancestor
//! - [`votes`]: a session that invokes another one on its parent

pub mod cart;
pub mod files;
#[path = "../../../templates/rust-offloadable/function/src/lib.rs"]
pub mod greet;
pub mod sensor;
pub mod votes;

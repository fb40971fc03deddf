//! How a test reaches a tree, whatever that is made of: processes or containers.

use std::path::PathBuf;

/// A tree from outside.
pub trait Reach: std::fmt::Debug + Sync {
    /// The names of all nodes.
    fn names(&self) -> Vec<&'static str>;
    /// The URL of a node, without a slash at the end.
    fn base(&self, node: &str) -> String;
    /// The name of the function under test.
    fn function(&self) -> &str;
    /// The directory with the secrets.
    fn secrets(&self) -> PathBuf;

    /// The URL of the function at a node, without a slash at the end.
    fn gateway(&self, node: &str) -> String {
        format!("{}/function/{}", self.base(node), self.function())
    }
}

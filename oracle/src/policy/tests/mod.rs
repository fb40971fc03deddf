//! What the policy promises, on examples and on any history.

mod examples;
mod properties;
mod world;

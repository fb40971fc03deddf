//! What the suites share.
//!
//! - [`redis`]: a private Redis server for a test, with crashes and power loss
//! - [`cluster`]: the same as a cluster of three
//! - [`mod@bench`]: a store on the bench: how a test writes to a session in one line
//! - [`conformance`]: the checks that every store must pass
//! - [`tree`]: a tree of real processes, each node with its own Redis or memory
//! - [`process`]: signals to processes
//! - [`ports`]: ports that belong to one test at a time
//! - [`client`]: a client as people write them: follows 307, repeats safely
//! - [`people`]: curl and Python's requests
//! - [`browser`]: a Chromium, which a test drives
//! - [`moves`]: what goes on while a move is held open
//! - [`command_line`]: `funicular` as it is typed
//! - [`screen`]: a program in a terminal: keys, and what is shown
//! - [`probe`]: a function that does whatever a test has to provoke
//! - [`containers`]: functions in containers, and a tree of them
//! - [`operator`]: signed calls, right ones and wrong ones
//! - [`oracle`]: the oracle of a node of a tree
//! - [`prometheus`]: a Prometheus of a test's own
//! - [`reach`]: how a test reaches a tree, whatever that is made of
//! - [`traffic`]: clients that go on through whatever happens, and what they saw
//! - [`judge`]: whether a session's history can be true
//! - [`crowd`]: clients who keep a node busy
//! - [`load`]: clients that write and read without a pause

pub mod bench;
pub mod browser;
pub mod client;
pub mod cluster;
pub mod command_line;
pub mod conformance;
pub mod containers;
pub mod crowd;
pub mod judge;
pub mod link;
pub mod load;
pub mod moves;
pub mod operator;
pub mod oracle;
pub mod people;
pub mod ports;
pub mod probe;
pub mod process;
pub mod prometheus;
pub mod reach;
pub mod redis;
pub mod screen;
pub mod traffic;
pub mod tree;

//! Functions under test: real nodes in this process, no server, no Redis.
//!
//! ```
//! use funicular::prelude::*;
//! # use serde::{Deserialize, Serialize};
//! #
//! # #[derive(Serialize, Deserialize, PartialEq, Debug)]
//! # struct Item { sku: String }
//! # struct Cart;
//! # impl Cart {
//! #     async fn list(&self, _req: Request, db: &ReadDb) -> Result<Response> {
//! #         Response::json(&db.get_list_json::<Item>("items").await?)
//! #     }
//! #     async fn add(&self, req: Request, db: &mut EdgeDb) -> Result<Response> {
//! #         db.add_to_list_json("items", &req.json::<Item>()?)?;
//! #         Ok(Response::status(StatusCode::CREATED))
//! #     }
//! # }
//! # fn function() -> Function {
//! #     Function::routes(Cart).on("GET /items", Cart::list).on("POST /items", Cart::add).into()
//! # }
//! use funicular::testing;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cart = testing::session(function()).await;
//! assert_eq!(cart.post("/items", json!({"sku": "apple"})).await.status(), 201);
//!
//! cart.offload().await; // to the parent; requests follow it there
//! let items: Vec<Item> = cart.get("/items").await.json();
//! assert_eq!(items, [Item { sku: "apple".into() }]);
//! # }
//! ```
//!
//! What is wrong with the test itself (a tree that does not read, a node that is
//! not in it) panics with a sentence; what a function answers never does.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::edge_db::IntoValue;
use crate::function::{Function, Request};
use crate::session::{FunctionName, NodeName, SessionId};

mod network;
mod world;

pub use network::answer;
use world::{Asked, World};

/// The tree of a test that says nothing else: an edge, its parent, the root.
const SMALL_TREE: &str = "
levels: [cloud, region, edge]
root:
  name: cloud
  gateway: http://cloud.test
  children:
    - name: region
      gateway: http://region.test
      children:
        - name: edge
          gateway: http://edge.test
";

/// How long [`Session::settled`] waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts a function to work on a tree of nodes (`edge`, `region`, `cloud`, unless
/// [`Setup::tree`] gives another), and awaited, hands out a session at the first
/// entry node. Needs a Tokio runtime: `#[tokio::test]`.
pub fn session(function: Function) -> Setup {
    Setup {
        functions: vec![("function".to_owned(), function)],
        tree: SMALL_TREE.to_owned(),
        id: "test-session".to_owned(),
    }
}

/// What a test starts from; `.await` starts it.
#[derive(Debug, Clone)]
#[must_use = "await it to get a session"]
pub struct Setup {
    /// The function under test, then the others.
    functions: Vec<(String, Function)>,
    tree: String,
    id: String,
}

impl Setup {
    /// Gives the function under test a name (else `function`), for functions
    /// that propagate to or invoke themselves.
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.functions[0].0);
        self
    }

    /// Adds another function, at every node.
    pub fn with(mut self, name: &str, function: Function) -> Self {
        self.functions.push((name.to_owned(), function));
        self
    }

    /// Replaces the tree of nodes, by one in the topology's YAML.
    pub fn tree(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.tree);
        self
    }

    /// Names the session (else `test-session`).
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }
}

impl IntoFuture for Setup {
    type Output = Session;
    type IntoFuture = Pin<Box<dyn Future<Output = Session> + Send>>;

    /// # Panics
    /// If the tree does not read, a name is not one, or a function has faults.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let function = or_panic(FunctionName::new(&self.functions[0].0));
            let id = or_panic(SessionId::new(&self.id));
            let world = World::start(&self.tree, self.functions);
            let node = world.first_entry();
            Session { world, node, function, id }
        })
    }
}

/// A session of the function under test, as a client at one node sees it.
/// Clones see the same session.
#[derive(Debug, Clone)]
pub struct Session {
    world: Arc<World>,
    node: NodeName,
    function: FunctionName,
    id: SessionId,
}

impl Session {
    /// The same session, asked at another node.
    ///
    /// # Panics
    /// If the tree has no such node.
    #[must_use]
    pub fn node(&self, name: &str) -> Self {
        let node = or_panic(NodeName::new(name));
        assert!(self.world.has(&node, &self.function), "the tree has no node `{node}`");
        Self { node, ..self.clone() }
    }

    /// The session of the same id in another function of the test.
    ///
    /// # Panics
    /// If the test has no such function.
    #[must_use]
    pub fn function(&self, name: &str) -> Self {
        let function = or_panic(FunctionName::new(name));
        assert!(self.world.has(&self.node, &function), "the test has no function `{function}`");
        Self { function, ..self.clone() }
    }

    /// Another session of the same function.
    ///
    /// # Panics
    /// If `id` is not a session id.
    #[must_use]
    pub fn session(&self, id: &str) -> Self {
        Self { id: or_panic(SessionId::new(id)), ..self.clone() }
    }

    /// Sends a request; follows redirects to where the session lives.
    pub async fn request(&self, request: impl Into<Request>) -> Reply {
        let request = request.into();
        Reply(self.world.ask(&self.node, &self.function, &self.id, request).await)
    }

    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Reply {
        self.request(Request::get(path)).await
    }

    /// Sends a POST request with a JSON body.
    ///
    /// # Panics
    /// If `body` has no JSON form.
    pub async fn post(&self, path: &str, body: impl Serialize) -> Reply {
        self.request(or_panic(Request::post(path).json(&body))).await
    }

    /// Sends a PUT request with a JSON body.
    ///
    /// # Panics
    /// If `body` has no JSON form.
    pub async fn put(&self, path: &str, body: impl Serialize) -> Reply {
        self.request(or_panic(Request::put(path).json(&body))).await
    }

    /// Sends a PATCH request with a JSON body.
    ///
    /// # Panics
    /// If `body` has no JSON form.
    pub async fn patch(&self, path: &str, body: impl Serialize) -> Reply {
        self.request(or_panic(Request::patch(path).json(&body))).await
    }

    /// Sends a DELETE request.
    pub async fn delete(&self, path: &str) -> Reply {
        self.request(Request::delete(path)).await
    }

    /// Delivers a value as if the session of this id had propagated it from a
    /// node below (at a leaf: from the parent). 200 if the function took it.
    pub async fn propagated(&self, value: impl IntoValue) -> Reply {
        let value = value.into_value();
        Reply(self.world.propagate(&self.node, &self.function, &self.id, value).await)
    }

    /// Moves the session to the parent of the node where it is, as a loaded node
    /// would; says where it is now.
    ///
    /// # Panics
    /// If there is no such session, or it does not move.
    pub async fn offload(&self) -> String {
        self.world.offload(&self.node, &self.function, &self.id).await
    }

    /// The node where the session is.
    ///
    /// # Panics
    /// If this node knows no such session.
    pub async fn location(&self) -> String {
        self.world.location(&self.node, &self.function, &self.id).await.to_string()
    }

    /// Waits until everything that was propagated, anywhere in the tree, has been
    /// taken, and no move is in doubt.
    ///
    /// # Panics
    /// If that takes more than 10 seconds: a receiver keeps failing.
    pub async fn settled(&self) {
        self.world.settled(PATIENCE).await;
    }
}

/// A function's answer.
#[derive(Debug, Clone)]
pub struct Reply(Asked);

impl Reply {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// A header, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.get(name)?.to_str().ok()
    }

    /// All headers of the handler's response.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// The body as text; of an error, its sentence.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        match serde_json::from_slice(&self.0.body) {
            Ok(value) => value,
            Err(error) => panic!(
                "the answer ({}) is not the JSON that is expected: {error}; it is {:?}",
                self.0.status,
                self.text()
            ),
        }
    }

    /// The node that answered.
    pub fn node(&self) -> &str {
        self.0.node.as_str()
    }

    /// Whether this is the first answer to a repeated request id, kept.
    pub fn replayed(&self) -> bool {
        self.0.replayed
    }
}

/// For mistakes in the test itself.
#[track_caller]
fn or_panic<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

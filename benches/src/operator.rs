//! Whoever moves sessions: signed calls to the edge.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use funicular::http::signature::{Call, Caller, FunctionKeys, Keys, Role, SIGNATURE_HEADER};
use funicular::peers::messages::{MoveReport, OnloadReport};
use funicular::session::{FunctionName, NodeName, Nonce};
use http::{HeaderValue, Method};

use crate::http::{self as client, Client};
use crate::serve::FUNCTION;
use crate::site::{EDGE, path};

/// Which way a session goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the edge to the root.
    Up,
    /// Back to the edge.
    Down,
}

/// An operator, who asks the edge for everything.
#[derive(Debug)]
pub(crate) struct Operator {
    keys: FunctionKeys,
    edge: SocketAddr,
    target: NodeName,
    name: NodeName,
}

impl Operator {
    /// With the keys in `secrets`.
    pub(crate) fn new(secrets: &Path, edge: SocketAddr) -> Result<Self> {
        Ok(Self {
            keys: Keys::from_dir(secrets)?.for_function(&FunctionName::new(FUNCTION)?),
            edge,
            target: NodeName::new(EDGE)?,
            name: NodeName::new("bench")?,
        })
    }

    /// Moves a session and says how it went.
    pub(crate) async fn shift(&self, session: &str, way: Way) -> Result<MoveReport> {
        let endpoint = match way {
            Way::Up => "/_/force-offload",
            Way::Down => "/_/force-onload",
        };
        let body = serde_json::json!({"session": session}).to_string();
        let call = Call {
            method: "POST",
            path: endpoint,
            body: body.as_bytes(),
            ..Call::to(&self.target)
        };
        let caller = Caller { role: Role::Operator, name: self.name.clone() };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let signed = self.keys.sign(&caller, &call, u64::try_from(now)?, Nonce(rand::random()))?;
        let mut request =
            client::request(Method::POST, &path(endpoint), Bytes::from(body.clone()))?;
        let headers = request.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(signed.header())?);
        let answer = Client::open(self.edge).await?.send(request).await?;
        let said = String::from_utf8_lossy(answer.body()).into_owned();
        if answer.status() != http::StatusCode::OK {
            bail!("{endpoint}: {} {said}", answer.status());
        }
        match way {
            Way::Up => serde_json::from_str(&said).context(said),
            Way::Down => {
                let mut report: OnloadReport = serde_json::from_str(&said)?;
                report.moved.pop().with_context(|| format!("nothing came down: {said}"))
            }
        }
    }
}

//! A client on one connection, kept open.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    host: HeaderValue,
}

impl Client {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, driver, host: HeaderValue::from_str(&address.to_string())? })
    }

    /// Sends a request and reads the answer to its end.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>> {
        request.headers_mut().insert(HOST, self.host.clone());
        self.sender.ready().await.context("the connection is gone")?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    /// `GET` without more.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Response<Bytes>> {
        self.send(request(Method::GET, path, Bytes::new())?).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A request with a body.
pub(crate) fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
    Ok(Request::builder().method(method).uri(path).body(Full::new(body))?)
}

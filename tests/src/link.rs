//! What is between the nodes of a tree, and how it fails.
//!
//! With [`Plan::with_links`](crate::tree::Plan::with_links) every node is called by the
//! others through a proxy of its own, which can be cut, slowed down, or swallow what goes
//! there or what comes back. Clients go past it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ports::Port;

/// How the way to a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As it should be.
    Open,
    /// Connections break, and new ones are closed at once.
    Cut,
    /// Everything takes so much longer, each way.
    Slow(Duration),
    /// What is sent there never arrives, and nobody says so.
    SwallowsCalls,
    /// What is called arrives, and the answers never come back.
    SwallowsAnswers,
}

/// The way to one node.
#[derive(Debug)]
pub struct Link {
    port: Port,
    way: Arc<watch::Sender<Way>>,
    accepts: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    There,
    Back,
}

impl Link {
    /// A way to a port of this machine. Needs a runtime.
    pub async fn to(to: u16) -> Self {
        let port = Port::free();
        let listener = TcpListener::bind(("127.0.0.1", port.number())).await.expect("a free port");
        let (sender, _) = watch::channel(Way::Open);
        let way = Arc::new(sender);
        let accepts = tokio::spawn(accept(listener, to, Arc::clone(&way)));
        Self { port, way, accepts }
    }

    /// The port at this end.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Breaks all connections; new ones break at once.
    pub fn cut(&self) {
        self.set(Way::Cut);
    }

    /// Lets new connections pass.
    pub fn mend(&self) {
        self.set(Way::Open);
    }

    /// From now on the way is like this.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn accept(listener: TcpListener, to: u16, way: Arc<watch::Sender<Way>>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        if *way.borrow() != Way::Cut {
            tokio::spawn(carry(near, to, way.subscribe()));
        }
    }
}

/// Carries one connection, until either side closes it or it is cut.
async fn carry(near: TcpStream, to: u16, way: watch::Receiver<Way>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    let mut cut = way.clone();
    tokio::select! {
        () = pump(near_reads, far_writes, Direction::There, way.clone()) => {}
        () = pump(far_reads, near_writes, Direction::Back, way) => {}
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    way: watch::Receiver<Way>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let now = *way.borrow();
        match (now, direction) {
            (Way::SwallowsCalls, Direction::There) | (Way::SwallowsAnswers, Direction::Back) => {
                // A connection that lost something is of no use any more, and nobody
                // learns it: both sides wait until they give up.
                std::future::pending::<()>().await;
            }
            (Way::Slow(by), _) => tokio::time::sleep(by).await,
            _ => {}
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

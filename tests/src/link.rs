//! The way between two nodes, which a test may cut.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes connections on, until it is cut.
#[derive(Debug)]
pub struct Link {
    port: u16,
    whole: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Link {
    /// A way to a port of this machine. Needs a runtime.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let own = listener.local_addr().expect("its address").port();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.subscribe();
                tokio::spawn(async move {
                    // What comes while it is cut is closed again, as is what is open.
                    let passing = async {
                        let mut far = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                        near.set_nodelay(true).ok()?;
                        far.set_nodelay(true).ok()?;
                        copy_bidirectional(&mut near, &mut far).await.ok()
                    };
                    tokio::select! {
                        _ = passing => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { port: own, whole, task }
    }

    /// The port at this end.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks all connections; new ones break at once.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets new connections pass.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

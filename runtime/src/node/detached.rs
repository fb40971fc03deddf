//! Work that runs to its end, whether or not anybody still waits for it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// Runs in the task of whoever awaits it, and goes on in one of its own when that
/// one is dropped: the common case costs no second task. A panic is an error.
pub(super) struct Detached<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = Outcome<T>> + Send>>>,
}

impl<T: Send + 'static> Detached<T> {
    /// `tracker` counts it until its end.
    pub(super) fn new(
        tracker: &TaskTracker,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let tracked = tracker.track_future(AssertUnwindSafe(work).catch_unwind());
        Self { work: Some(Box::pin(tracked)) }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and leases run out.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_nobody_waits_and_is_counted_until_its_end() {
        let (tracker, gate) = (TaskTracker::new(), Arc::new(Notify::new()));
        let held = Arc::clone(&gate);
        let mut work = Box::pin(Detached::new(&tracker, async move { held.notified().await }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        assert_eq!(tracker.len(), 1);
        gate.notify_one();
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let tracker = TaskTracker::new();
        assert_eq!(Detached::new(&tracker, async { 7 }).await.ok(), Some(7));
        assert!(Detached::new(&tracker, async { panic!("as planned") }).await.is_err());
        assert!(tracker.is_empty());
    }
}

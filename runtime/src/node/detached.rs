//! Work that runs to its end, whether or not anybody still waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::trace;

type Outcome<T> = Result<T, Box<dyn Any + Send>>;

/// Runs in the task of whoever awaits it, and goes on in one of its own when that
/// one is dropped: the common case costs no second task. A panic is an error.
pub(super) struct Detached<T: Send + 'static> {
    work: Option<Work<T>>,
}

/// What runs. It is boxed as it is, since each wrapper around it would move all of it.
struct Work<T> {
    future: Pin<Box<dyn Future<Output = T> + Send>>,
    tracked: TaskTrackerToken,
}

impl<T: Send + 'static> Detached<T> {
    /// `tracker` counts it until its end.
    pub(super) fn new(
        tracker: &TaskTracker,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { work: Some(Work { future: Box::pin(work), tracked: tracker.token() }) }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
    type Output = Outcome<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| work.future.as_mut().poll(context)));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(panic),
        };
        self.work = None;
        Poll::Ready(outcome)
    }
}

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        // Without a runtime the process ends, and leases run out.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(trace::carried(async move {
                // Until its end, which may be a panic: nobody hears of that any more.
                let _tracked = work.tracked;
                work.future.await;
            }));
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
    async fn work_stays_in_its_trace_when_nobody_waits() {
        let seen = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = http::HeaderMap::new();
        headers.insert("traceparent", seen.parse().unwrap());
        let (tracker, gate) = (TaskTracker::new(), Arc::new(Notify::new()));
        let (held, (tell, told)) = (Arc::clone(&gate), tokio::sync::oneshot::channel());
        let work = async move {
            held.notified().await;
            let mut sent = http::HeaderMap::new();
            trace::pass_on(&mut sent);
            let _ = tell.send(sent);
        };
        let span = trace::Span::server("request", &headers);
        let waits = span.within(Detached::new(&tracker, work));
        let mut waits = Box::pin(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(waits);
        gate.notify_one();
        assert_eq!(told.await.unwrap(), headers);
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let tracker = TaskTracker::new();
        assert_eq!(Detached::new(&tracker, async { 7 }).await.ok(), Some(7));
        assert!(Detached::new(&tracker, async { panic!("as planned") }).await.is_err());
        assert!(tracker.is_empty());
    }
}

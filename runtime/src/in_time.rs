//! Limits of time that cost nothing when they are not needed.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What `work` returns, or `None` if that takes longer than `limit`. Work that ends
/// without waiting for anything needs no timer.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
    match first {
        Poll::Ready(done) => Some(done),
        Poll::Pending => tokio::time::timeout(limit, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_bounded_once_it_waits() {
        let second = Duration::from_secs(1);
        assert_eq!(within(Duration::ZERO, async { 7 }).await, Some(7));
        assert_eq!(within(second * 2, tokio::time::sleep(second)).await, Some(()));
        assert_eq!(within(second, tokio::time::sleep(second * 2)).await, None);
    }
}

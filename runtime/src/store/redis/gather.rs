//! Many who ask at the same time share one call.
//!
//! While calls are under way the next questions gather, so that nobody waits for more to
//! come, and the busier the store is the more share one call.

use parking_lot::Mutex;

/// Questions that wait for the next call.
#[derive(Debug)]
pub(super) struct Gather<Q> {
    state: Mutex<State<Q>>,
    /// How many calls may be under way.
    most: usize,
}

#[derive(Debug)]
struct State<Q> {
    waiting: Vec<Q>,
    askers: usize,
}

/// Somebody asks for those who wait. When the last one ends before its time, those who
/// wait are dropped, and the next one to come asks again: nobody waits in vain.
#[derive(Debug)]
pub(super) struct Asker<'a, Q> {
    gather: &'a Gather<Q>,
    asking: bool,
}

impl<Q> Gather<Q> {
    /// `most` calls may be under way.
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), askers: 0 }), most }
    }

    /// Adds a question. `true`: the caller has to see that one more [`Gather::asker`] is
    /// at work.
    #[must_use]
    pub(super) fn join(&self, question: Q) -> bool {
        let mut state = self.state.lock();
        state.waiting.push(question);
        let more = state.askers < self.most;
        state.askers += usize::from(more);
        more
    }

    /// Whoever was told by [`Gather::join`] asks with this.
    pub(super) fn asker(&self) -> Asker<'_, Q> {
        Asker { gather: self, asking: true }
    }
}

impl<Q> Asker<'_, Q> {
    /// The first of those who wait, as many as fit into one call and at least one; `None`
    /// if nobody waits any more.
    pub(super) async fn next(&mut self, mut fits: impl FnMut(&Q) -> bool) -> Option<Vec<Q>> {
        // Whoever is about to ask joins in; alone, this takes no time.
        tokio::task::yield_now().await;
        let mut state = self.gather.state.lock();
        if state.waiting.is_empty() {
            state.askers -= 1;
            self.asking = false;
            return None;
        }
        let count = state.waiting.iter().take_while(|question| fits(question)).count().max(1);
        let left = state.waiting.split_off(count);
        Some(std::mem::replace(&mut state.waiting, left))
    }

    /// All who wait, when a call has shown that the next one would fare no better.
    pub(super) fn rest(&self) -> Vec<Q> {
        std::mem::take(&mut self.gather.state.lock().waiting)
    }
}

impl<Q> Drop for Asker<'_, Q> {
    fn drop(&mut self) {
        if self.asking {
            let mut state = self.gather.state.lock();
            state.askers -= 1;
            if state.askers == 0 {
                state.waiting.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_comes_while_enough_ask_waits_for_the_next_call() {
        let gather = Gather::new(2);
        assert!(gather.join(1));
        assert!(gather.join(2));
        assert!(!gather.join(3));
        let (mut first, mut second) = (gather.asker(), gather.asker());
        assert_eq!(first.next(|_| true).await, Some(vec![1, 2, 3]));
        assert_eq!(second.next(|_| true).await, None);
        // One has ended: there is room for another.
        assert!(gather.join(4));
        assert!(!gather.join(5));
        assert_eq!(first.rest(), [4, 5]);
        assert_eq!(first.next(|_| true).await, None);
    }

    #[tokio::test]
    async fn a_call_takes_what_fits_and_at_least_one() {
        let gather = Gather::new(1);
        assert!(gather.join(9));
        for question in [1, 2, 9] {
            assert!(!gather.join(question));
        }
        let mut asker = gather.asker();
        assert_eq!(asker.next(|question| *question < 9).await, Some(vec![9]));
        assert_eq!(asker.next(|question| *question < 9).await, Some(vec![1, 2]));
        assert_eq!(asker.next(|question| *question < 9).await, Some(vec![9]));
    }

    #[tokio::test]
    async fn nobody_waits_for_an_asker_that_has_ended() {
        let gather = Gather::new(1);
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        assert!(gather.join(sender));
        drop(gather.asker());
        assert!(receiver.await.is_err());
        let (sender, _receiver) = tokio::sync::oneshot::channel();
        assert!(gather.join(sender));
    }
}

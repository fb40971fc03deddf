//! So many handlers run at once at a node (`max_running`), and the others' requests wait for
//! a seat: whoever came first gets the next one that becomes free.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// When a request came, among those that need a seat.
pub(super) type Ticket = u64;

/// The seats of a node.
#[derive(Debug)]
pub(super) struct Seats(Option<Arc<Mutex<Taken>>>);

#[derive(Debug)]
struct Taken {
    /// Only while nobody waits.
    free: usize,
    next: Ticket,
    waiting: BTreeMap<Ticket, oneshot::Sender<Seat>>,
}

/// A handler may run, until this is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Mutex<Taken>>);

/// A place in the line for a seat, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    taken: Arc<Mutex<Taken>>,
    ticket: Ticket,
    seat: oneshot::Receiver<Seat>,
}

impl Seats {
    /// So many; zero means no limit.
    pub(super) fn new(count: usize) -> Self {
        let taken = Taken { free: count, next: 0, waiting: BTreeMap::new() };
        Self((count > 0).then(|| Arc::new(Mutex::new(taken))))
    }

    /// A place in the order in which requests came, kept until they are answered. `None`:
    /// there is no limit.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        let mut taken = self.0.as_ref()?.lock();
        taken.next += 1;
        Some(taken.next)
    }

    /// A seat that is free now.
    pub(super) fn try_take(&self) -> Option<Seat> {
        let seats = self.0.as_ref()?;
        let mut taken = seats.lock();
        taken.free = taken.free.checked_sub(1)?;
        Some(Seat(Arc::clone(seats)))
    }

    /// Steps into the line for the next seat, with each ticket once at a time. `None`: there
    /// is no limit.
    pub(super) fn wait(&self, ticket: Ticket) -> Option<Waiting> {
        let seats = self.0.as_ref()?;
        let (granted, seat) = oneshot::channel();
        let mut taken = seats.lock();
        match taken.free.checked_sub(1) {
            // It has become free just now; nobody hears but the one who waits.
            Some(free) => {
                taken.free = free;
                let _ = granted.send(Seat(Arc::clone(seats)));
            }
            None => drop(taken.waiting.insert(ticket, granted)),
        }
        Some(Waiting { taken: Arc::clone(seats), ticket, seat })
    }
}

impl Waiting {
    /// Waits for the seat.
    pub(super) async fn seat(&mut self) -> Option<Seat> {
        (&mut self.seat).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.taken.lock().waiting.remove(&self.ticket);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let next = {
            let mut taken = self.0.lock();
            let next = taken.waiting.pop_first();
            taken.free += usize::from(next.is_none());
            next
        };
        // Whoever went away meanwhile drops the seat again.
        if let Some((_, granted)) = next {
            let _ = granted.send(Seat(Arc::clone(&self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn seats_go_to_who_came_first_and_none_is_lost() {
        assert!(Seats::new(0).ticket().is_none());
        let seats = Seats::new(1);
        let [first, second, third] = [(); 3].map(|()| seats.ticket().unwrap());
        let seat = seats.try_take().unwrap();
        assert!(seats.try_take().is_none());
        let mut late = seats.wait(third).unwrap();
        let gone = seats.wait(first).unwrap();
        let mut next = seats.wait(second).unwrap();
        // Granted, and not taken.
        drop(seat);
        drop(gone);
        let seat = next.seat().await.unwrap();
        assert!(futures_util::poll!(Box::pin(late.seat())).is_pending());
        drop((next, seat));
        drop(late.seat().await.unwrap());
        drop(late);
        let mut alone = seats.wait(first).unwrap();
        let seat = alone.seat().await.unwrap();
        assert!(seats.try_take().is_none());
        drop((alone, seat));
        assert!(seats.try_take().is_some());
    }
}

//! What was decided is done on the side: of each function a few at once, in the order of the
//! decisions.

use std::sync::Arc;
use std::time::Duration;

use funicular::session::FunctionName;
use funicular::trace;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lines::{Limits, Lines, Next, Waiting};
use super::told::Told;
use crate::actions::{Actions, Done};
use crate::metrics;
use crate::policy::Direction;
use crate::policy::decision::Decision;

/// The work, and how it stands.
pub(super) struct Acting {
    work: Arc<Work>,
    task: JoinHandle<()>,
}

struct Work {
    actions: Actions,
    limits: Limits,
    state: Mutex<State>,
    told: Arc<Mutex<Told>>,
    /// Something joined a line, or the oracle ends.
    changed: Notify,
}

struct State {
    lines: Lines,
    failures: Vec<(FunctionName, Direction)>,
    ending: bool,
}

/// What became of a decision.
enum End {
    Performed(Done),
    Failed(String),
    /// It was not begun, and will not be.
    Dropped(String),
}

impl Acting {
    pub(super) fn start(actions: Actions, limits: Limits, told: Arc<Mutex<Told>>) -> Self {
        let state = State { lines: Lines::new(limits), failures: Vec::new(), ending: false };
        let (state, changed) = (Mutex::new(state), Notify::new());
        let work = Arc::new(Work { actions, limits, state, told, changed });
        let works = Arc::clone(&work);
        Self { work, task: tokio::spawn(async move { works.go_on().await }) }
    }

    /// Has something done. What finds no room to wait is dropped, and told as that.
    pub(super) fn perform(&self, id: u64, decision: Decision) {
        let waiting = Waiting { id, decision, since: Instant::now() };
        // A name of its own: what is told needs the lock again.
        let refused = self.work.state.lock().lines.join(waiting);
        match refused {
            None => self.work.changed.notify_one(),
            Some(waiting) => {
                let most = self.work.limits.waiting;
                self.work.dropped(&waiting, format!("{most} of its decisions are waiting already"));
            }
        }
    }

    /// How many actions of each function are not done yet.
    pub(super) fn under_way(&self) -> Vec<(FunctionName, usize)> {
        self.work.state.lock().lines.not_done()
    }

    /// Moves that failed or were dropped since the last time.
    pub(super) fn failures(&self) -> Vec<(FunctionName, Direction)> {
        std::mem::take(&mut self.work.state.lock().failures)
    }

    /// Waits a while for what is under way.
    pub(super) async fn end(mut self, patience: Duration) {
        self.work.state.lock().ending = true;
        self.work.changed.notify_one();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Work {
    /// Begins whatever has a place, until the oracle ends.
    async fn go_on(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while let Some(waiting) = self.next() {
                under_way.push(self.one(waiting));
            }
            if under_way.is_empty() && self.state.lock().ending {
                return;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                Some(()) = under_way.next() => {}
            }
        }
    }

    /// The next decision that is to be begun; those that grew too old are told on the way.
    fn next(&self) -> Option<Waiting> {
        loop {
            let next = {
                let mut state = self.state.lock();
                // What has not begun when the oracle ends is left to the next one.
                if state.ending { None } else { state.lines.next(Instant::now()) }
            };
            match next? {
                Next::Begins(waiting) => return Some(waiting),
                Next::TooOld(waiting) => {
                    let patience = self.limits.patience;
                    self.dropped(&waiting, format!("it could not begin within {patience:?}"));
                }
            }
        }
    }

    async fn one(&self, waiting: Waiting) {
        let Waiting { decision, since, .. } = &waiting;
        let patience = self.limits.patience.saturating_sub(since.elapsed());
        let doing = self.actions.perform(decision, patience);
        let end = match trace::step(decision.action.name(), doing).await {
            Ok(done) => End::Performed(done),
            Err(error) => End::Failed(error.to_string()),
        };
        self.tell(&waiting, &end);
        let failed = matches!(end, End::Failed(_));
        let dropped = {
            let mut state = self.state.lock();
            if failed {
                state.failures.extend(failure(decision));
            }
            state.lines.ended(decision, failed)
        };
        for waiting in dropped {
            let action = decision.action.name();
            self.dropped(&waiting, format!("an {action} of its function failed before its turn"));
        }
    }

    /// Tells that something will not be begun.
    fn dropped(&self, waiting: &Waiting, why: String) {
        self.tell(waiting, &End::Dropped(why));
        self.state.lock().failures.extend(failure(&waiting.decision));
    }

    fn tell(&self, Waiting { id, decision, .. }: &Waiting, end: &End) {
        let (word, sentence) = match end {
            End::Performed(Done::Done(sentence)) => ("done", sentence),
            End::Performed(Done::GoesOn(sentence)) => ("goes-on", sentence),
            End::Failed(error) => ("failed", error),
            End::Dropped(why) => ("dropped", why),
        };
        let node = self.told.lock().outcome(*id, word, sentence.clone());
        metrics::acted(&node, decision, word);
        let (function, action) = (&decision.function, decision.action.name());
        let session = decision.action.moves().map(|(session, _)| session.log_hash());
        let session = session.unwrap_or_default();
        match end {
            End::Performed(_) => tracing::info!(%node, %function, session, action, "{sentence}"),
            End::Failed(error) => {
                tracing::warn!(%node, %function, session, action, %error, "not done");
            }
            End::Dropped(why) => {
                tracing::warn!(%node, %function, session, action, %why, "not begun");
            }
        }
    }
}

/// What did not go which way, if it was a move.
fn failure(decision: &Decision) -> Option<(FunctionName, Direction)> {
    Some((decision.function.clone(), decision.action.direction()?))
}

#[cfg(test)]
mod tests {
    use funicular::peers::messages::OffloadStatus;
    use funicular::session::NodeName;
    use wiremock::matchers::path;
    use wiremock::{Mock, ResponseTemplate};

    use super::super::Mode;
    use super::*;
    use crate::lease::Lease;
    use crate::policy::decision::Action;
    use crate::settings::ActionSettings;
    use crate::testing::{Site, client, decision, offload, until};

    const LIMITS: Limits = Limits { at_once: 4, waiting: 64, patience: Duration::from_secs(60) };
    /// What a call may take: longer than a test, and not.
    const HANGS: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_secs(1);
    const CART: &str = "/function/cart/_/force-offload";
    const CDN: &str = "/function/cdn/_/set-offload-status";

    /// A node where `cart`'s parent hangs, and what acts there.
    struct Scene {
        site: Site,
        told: Arc<Mutex<Told>>,
        acting: Acting,
    }

    impl Scene {
        async fn start(timeout: Duration, limits: Limits) -> Self {
            let site = Site::start().await;
            let hangs = ResponseTemplate::new(200).set_delay(HANGS);
            Mock::given(path(CART)).respond_with(hangs).mount(&site.server).await;
            let settings = ActionSettings { tries: 1, ..ActionSettings::default() };
            let (client, here) = (client(timeout), site.node());
            let actions = Actions::new(client, here, Lease::Alone, settings);
            let told = Arc::new(Mutex::new(Told::new(NodeName::new("milan").unwrap())));
            let acting = Acting::start(actions, limits, Arc::clone(&told));
            Self { site, told, acting }
        }

        fn perform(&self, decision: Decision) {
            let id = self.told.lock().record(&decision, Mode::Acting);
            self.acting.perform(id, decision);
        }

        fn outcomes(&self, word: &str) -> usize {
            let told = self.told.lock().explanation();
            told.decisions.iter().filter(|recorded| recorded.outcome == word).count()
        }
    }

    #[tokio::test]
    async fn a_parent_that_hangs_holds_up_no_other_function() {
        let scene = Scene::start(HANGS, LIMITS).await;
        for _ in 0..64 {
            scene.perform(offload("cart"));
        }
        scene.perform(decision("cdn", Action::SetStatus { status: OffloadStatus::Reject }));
        until("the status of cdn arrives", async || scene.site.asked(CDN).await == 1).await;
        // That it arrived is heard a moment later.
        until("only cart's wait", async || scene.outcomes("waiting") == 64).await;
    }

    #[tokio::test]
    async fn what_waits_behind_a_move_that_failed_is_dropped_and_told() {
        let scene = Scene::start(SHORT, LIMITS).await;
        for _ in 0..20 {
            scene.perform(offload("cart"));
        }
        until("nothing waits", async || scene.outcomes("waiting") == 0).await;
        assert_eq!((scene.outcomes("failed"), scene.outcomes("dropped")), (4, 16));
        assert_eq!((scene.site.asked(CART).await, scene.acting.under_way()), (4, Vec::new()));
        let told = scene.told.lock().explanation();
        assert_eq!(told.decisions[0].detail, "an offload of its function failed before its turn");
        // What failed and what was dropped holds back the next ones alike.
        let failures = scene.acting.failures();
        assert!(failures.iter().all(|it| *it == ("cart".parse().unwrap(), Direction::Up)));
        assert_eq!(failures.len(), 20);
    }

    #[tokio::test]
    async fn what_grew_too_old_is_not_done_though_its_turn_comes() {
        let limits = Limits { patience: Duration::ZERO, ..LIMITS };
        let scene = Scene::start(SHORT, limits).await;
        scene.perform(offload("cart"));
        until("nothing waits", async || scene.outcomes("waiting") == 0).await;
        assert_eq!((scene.outcomes("dropped"), scene.site.asked(CART).await), (1, 0));
        assert_eq!(scene.acting.failures(), [("cart".parse().unwrap(), Direction::Up)]);
    }

    #[tokio::test]
    async fn what_finds_no_room_to_wait_is_told_as_dropped() {
        let limits = Limits { at_once: 1, waiting: 1, ..LIMITS };
        let scene = Scene::start(HANGS, limits).await;
        scene.perform(offload("cart"));
        until("one is under way", async || scene.site.asked(CART).await == 1).await;
        scene.perform(offload("cart"));
        scene.perform(offload("cart"));
        assert_eq!((scene.outcomes("waiting"), scene.outcomes("dropped")), (2, 1));
        assert_eq!(scene.acting.under_way(), [("cart".parse().unwrap(), 2)]);
        assert_eq!(scene.acting.failures(), [("cart".parse().unwrap(), Direction::Up)]);
    }
}

//! Sessions whose changes the server tells of, so that a read asks whether anything has
//! changed, and not what is there (ADR 0027).
//!
//! Over one connection of its own (`CLIENT TRACKING`) a process looks at a session, and
//! from then on hears there of the next change of it. It hears late; but whatever the
//! server has to say goes out in the order in which it happened. So a read sends a `PING`
//! after it has arrived, together with all others that wait: when that is answered and
//! nothing was said of the session before, the session was at that moment as it was looked
//! at. What was said is noted before the next answer is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, PushInfo, PushKind, Value};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::Core;
use super::encode::{owned, short};
use super::gather::Gather;
use super::link::Tie;
use super::recent::Seen;
use super::reply;
use super::servers::Servers;
use super::shard::Shard;
use crate::session::SessionId;
use crate::store::{Session, StoreError, StoreResult};

/// How long after a failure the connection is not tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// At most so many sessions are looked at in one call.
const MOST: usize = 64;

/// Which connection, of one after the other.
type Line = u64;

/// What is known of changes of a remembered state. It begins with nothing.
#[derive(Debug, Default)]
pub(super) struct Watch(AtomicU64);

/// It was read: the next time it is worth watching.
const READ: u64 = 1;
/// Set in front of the line over which a change would be heard. Without it, and above
/// [`READ`], the number names a look that is under way.
const WATCHED: u64 = 1 << 63;

impl Watch {
    /// Notes a read, and says whether it is not the first.
    fn read_again(&self) -> bool {
        self.0.compare_exchange(0, READ, Ordering::AcqRel, Ordering::Acquire).is_err()
    }

    fn line(&self) -> Option<Line> {
        let state = self.0.load(Ordering::Acquire);
        (state & WATCHED != 0).then_some(state & !WATCHED)
    }

    fn look(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    /// The look has found the state. It is watched, unless a change was heard of
    /// meanwhile, or another look has begun.
    fn found(&self, number: u64, line: Line) {
        let _ =
            self.0.compare_exchange(number, WATCHED | line, Ordering::AcqRel, Ordering::Acquire);
    }

    /// It has changed, or may have.
    fn changed(&self) {
        self.0.store(READ, Ordering::Release);
    }
}

/// What is asked; the answer comes with the line over which it came.
#[derive(Debug)]
enum Question {
    /// Was anything said before this is answered?
    Said(oneshot::Sender<Line>),
    /// Is the session as it is remembered?
    Look {
        cmd: Cmd,
        /// The record and who committed last, as they are remembered.
        named: [String; 2],
        asker: oneshot::Sender<(bool, Line)>,
    },
}

impl Question {
    fn look(&self) -> Option<&Cmd> {
        match self {
            Self::Said(_) => None,
            Self::Look { cmd, .. } => Some(cmd),
        }
    }
}

/// The connection over which changes are heard.
#[derive(Debug, Default)]
enum Connection {
    #[default]
    None,
    Opening,
    Open(Line, Tie),
    Failed(Instant),
}

/// Asks for many at once, over a connection of its own.
#[derive(Debug)]
pub(super) struct Watcher {
    asking: Gather<Question>,
    connection: Mutex<Connection>,
    /// Of looks and of lines.
    numbers: AtomicU64,
}

impl Default for Watcher {
    fn default() -> Self {
        let numbers = AtomicU64::new(READ + 1);
        Self { asking: Gather::new(1), connection: Mutex::default(), numbers }
    }
}

impl Watcher {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self) -> Option<(Line, Tie)> {
        match &*self.connection.lock() {
            Connection::Open(line, tie) => Some((*line, tie.clone())),
            _ => None,
        }
    }

    fn is_open(&self, line: Line) -> bool {
        matches!(&*self.connection.lock(), Connection::Open(open, _) if *open == line)
    }

    /// Nothing of this line counts any more.
    fn ended(&self, line: Line) {
        let mut connection = self.connection.lock();
        if matches!(&*connection, Connection::Open(open, _) if *open == line) {
            *connection = Connection::Failed(Instant::now());
        }
    }
}

impl Core {
    /// Whether a remembered state is what the store has at some moment after this call;
    /// `None` if it cannot be learned in this way.
    pub(super) async fn watched(&self, session: &SessionId, seen: &Arc<Seen>) -> Option<bool> {
        // A state that is read only once is not worth it.
        if !seen.watch.read_again() || !self.hears() {
            return None;
        }
        let Some(line) = seen.watch.line() else { return self.look_at(session, seen).await };
        let answered = self.ask_for_changes().await;
        // What is forgotten here is not told of its changes any more.
        let held = || self.recent.peek(session).is_some_and(|held| Arc::ptr_eq(&held, seen));
        match answered {
            Some(by) if by == line => Some(seen.watch.line() == Some(line) && held()),
            // Watched over a connection that is gone.
            Some(_) => self.look_at(session, seen).await,
            None => None,
        }
    }

    /// Looks at a session, whose changes are heard of from then on.
    async fn look_at(&self, session: &SessionId, seen: &Seen) -> Option<bool> {
        let number = self.watcher.number();
        seen.watch.look(number);
        let (asker, receiver) = oneshot::channel();
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.session(session).meta()).arg("r").arg("e");
        self.gather(Question::Look { cmd, named: named(&seen.session), asker });
        let (same, line) = receiver.await.ok()?;
        if same {
            seen.watch.found(number, line);
        }
        Some(same)
    }

    /// The line over which an answer came that was asked for after this call.
    async fn ask_for_changes(&self) -> Option<Line> {
        let (asker, receiver) = oneshot::channel();
        self.gather(Question::Said(asker));
        receiver.await.ok()
    }

    fn gather(&self, question: Question) {
        if self.watcher.asking.join(question)
            && let Some(core) = self.this.upgrade()
        {
            tokio::spawn(async move { core.answer().await });
        }
    }

    /// Asks until nobody waits. Who is not answered is dropped, and goes another way.
    async fn answer(&self) {
        let mut asker = self.watcher.asking.asker();
        while let Some(questions) = asker.next(fits()).await {
            let Some((line, tie)) = self.watcher.open() else { continue };
            let looks = questions.iter().filter_map(Question::look);
            let mut pipe = Pipeline::new();
            for cmd in looks {
                pipe.add_command(cmd.clone());
            }
            // Last: it answers all who want to know what was said. A store that is closed to
            // requests knows no script, and a server that is no master any more refuses
            // this one.
            pipe.add_command(self.together_call(std::iter::empty()));
            let answered = tie.pipe(&pipe).await.and_then(|mut answers| {
                answers.pop().unwrap_or_else(|| Err(reply::corrupt("no answer")))?;
                Ok(answers)
            });
            let mut answers = match answered {
                Ok(answers) => answers.into_iter(),
                Err(error) => {
                    tracing::debug!(%error, "changes of sessions are not heard of any more");
                    self.watcher.ended(line);
                    continue;
                }
            };
            // All keys may be gone, which is said of no session.
            if !self.watcher.is_open(line) {
                continue;
            }
            for question in questions {
                match question {
                    Question::Said(asker) => drop(asker.send(line)),
                    Question::Look { named, asker, .. } => {
                        if let Some(Ok(answer)) = answers.next() {
                            let _ = asker.send((is(&answer, &named), line));
                        }
                    }
                }
            }
        }
    }

    /// Whether changes can be heard of. If not, it is seen to.
    fn hears(&self) -> bool {
        let Servers::One(shard) = &self.servers else { return false };
        let mut connection = self.watcher.connection.lock();
        match &*connection {
            Connection::Open(..) => return true,
            Connection::Opening => return false,
            Connection::Failed(when) if when.elapsed() < PAUSE => return false,
            Connection::None | Connection::Failed(_) => {}
        }
        *connection = Connection::Opening;
        if let Some(core) = self.this.upgrade() {
            let shard = Arc::clone(shard);
            tokio::spawn(async move {
                let line = core.watcher.number();
                let opened = core.listen(&shard, line).await;
                *core.watcher.connection.lock() = match opened {
                    Ok(tie) => Connection::Open(line, tie),
                    Err(error) => {
                        tracing::debug!(%error, "changes of sessions are not heard of");
                        Connection::Failed(Instant::now())
                    }
                };
            });
        }
        false
    }

    async fn listen(&self, shard: &Shard, line: Line) -> StoreResult<Tie> {
        let this = self.this.clone();
        let said = move |said: PushInfo| {
            if let Some(core) = this.upgrade() {
                core.heard(line, &said);
            }
            Ok::<(), ()>(())
        };
        let tie = Tie::watching(&shard.client, &self.options, said).await?;
        // It leads to one process of Redis, which must not be one that has forgotten
        // anything.
        match self.loaded(&tie).await? {
            true => Ok(tie),
            false => Err(StoreError::Restarted),
        }
    }

    fn heard(&self, line: Line, said: &PushInfo) {
        match (&said.kind, said.data.first()) {
            (PushKind::Invalidate, Some(Value::Array(keys))) => {
                for key in keys {
                    let session = match key {
                        Value::BulkString(key) => self.keys.session_of(key),
                        _ => None,
                    };
                    if let Some(seen) = session.and_then(|session| self.recent.peek(&session)) {
                        seen.watch.changed();
                    }
                }
            }
            // All keys are gone, or the connection is.
            (PushKind::Invalidate | PushKind::Disconnection, _) => self.watcher.ended(line),
            _ => {}
        }
    }
}

/// The record and who committed last, as the store has them.
fn named(session: &Session) -> [String; 2] {
    let last = session.last.map_or_else(String::new, |last| short(last.0).to_string());
    [owned(session.epoch, session.life.incarnation).to_string(), last]
}

fn is(answer: &Value, named: &[String; 2]) -> bool {
    let Value::Array(found) = answer else { return false };
    let same = |(found, named): (&Value, &String)| match found {
        Value::Nil => named.is_empty(),
        Value::BulkString(found) => found == named.as_bytes(),
        _ => false,
    };
    found.len() == named.len() && found.iter().zip(named).all(same)
}

/// Counts what goes into one call.
fn fits() -> impl FnMut(&Question) -> bool {
    let mut looks = 0;
    move |question| {
        looks += usize::from(question.look().is_some());
        looks <= MOST
    }
}

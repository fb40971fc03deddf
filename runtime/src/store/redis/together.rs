//! Requests whose process knows the data ask the store whether it still holds, all
//! that arrive at the same time in one call. In a cluster sessions lie in different
//! slots, and each asks alone.

use std::sync::Arc;

use redis::Cmd;
use tokio::sync::oneshot;

use super::Core;
use super::gather::Gather;
use super::keys::SessionKeys;
use super::reply::{self, Parts};
use super::requests::millis;
use super::scripts::Script;
use super::servers::Servers;
use super::shard::Shard;
use crate::session::SessionId;
use crate::store::{StoreError, StoreResult};

/// At most so many in one call, which holds up the store's other callers.
const MOST: usize = 64;
/// At most so many calls are under way.
const MOST_CALLS: usize = 2;
/// And about so many bytes.
const MOST_BYTES: usize = 256 * 1024;

/// What `lua/together.lua` says to one question.
pub(super) type Said = i64;

/// One request's question: its keys and its part of the arguments.
#[derive(Debug)]
pub(super) struct Question {
    keys: SessionKeys,
    letters: &'static str,
    /// All arguments in a row, and where each ends.
    args: Vec<u8>,
    ends: Vec<usize>,
}

/// A question, and who wants to know.
type Asked = (Question, oneshot::Sender<StoreResult<Said>>);

/// Lets many ask together.
#[derive(Debug)]
pub(super) struct Together(Gather<Asked>);

impl Default for Together {
    fn default() -> Self {
        Self(Gather::new(MOST_CALLS))
    }
}

impl Question {
    /// `size` is about how many bytes of arguments follow.
    pub(super) fn new(keys: SessionKeys, letters: &'static str, size: usize) -> Self {
        Self { keys, letters, args: Vec::with_capacity(size), ends: Vec::with_capacity(16) }
    }

    pub(super) fn arg(&mut self, arg: impl AsRef<[u8]>) -> &mut Self {
        self.args.extend_from_slice(arg.as_ref());
        self.ends.push(self.args.len());
        self
    }

    pub(super) fn text(&mut self, text: impl std::fmt::Display) -> &mut Self {
        use std::io::Write as _;
        // A vector takes all there is.
        let _ = write!(self.args, "{text}");
        self.arg("")
    }

    fn bytes(&self) -> usize {
        self.args.len() + self.ends.len() * 8 + 256
    }

    fn push(&self, cmd: &mut Cmd) {
        let mut start = 0;
        for end in &self.ends {
            cmd.arg(&self.args[start..*end]);
            start = *end;
        }
    }
}

impl Core {
    /// Asks one question, in a call with others if there are any. The question is handed
    /// on right away: what waits for the answer holds little.
    pub(super) fn ask<'a>(
        &'a self,
        session: &'a SessionId,
        question: Question,
    ) -> impl Future<Output = StoreResult<Said>> + Send + 'a {
        let asked = match &self.servers {
            Servers::One(shard) => Ok(self.join(shard, question)),
            Servers::Cluster(_) => Err(Box::pin(self.ask_alone(session, question))),
        };
        // Each call is bounded in time, and whoever makes it leaves nobody waiting.
        let ended = |_| StoreError::Unavailable("the process is ending".to_owned());
        async move {
            match asked {
                Ok(receiver) => receiver.await.map_err(ended)?,
                Err(alone) => alone.await,
            }
        }
    }

    fn join(&self, shard: &Arc<Shard>, question: Question) -> oneshot::Receiver<StoreResult<Said>> {
        let (sender, receiver) = oneshot::channel();
        if self.together.0.join((question, sender))
            && let Some(core) = self.this.upgrade()
        {
            let shard = Arc::clone(shard);
            tokio::spawn(async move { core.ask_together(&shard).await });
        }
        receiver
    }

    async fn ask_alone(&self, session: &SessionId, question: Question) -> StoreResult<Said> {
        let call = self.together_call(std::iter::once(&question));
        said(self.at(session).call(&call).await?)?.pop().ok_or_else(no_answer)
    }

    /// Asks until nobody waits.
    async fn ask_together(&self, shard: &Shard) {
        let mut asker = self.together.0.asker();
        while let Some(asked) = asker.next(fits()).await {
            let call = self.together_call(asked.iter().map(|(question, _)| question));
            match shard.link.call(&call).await.and_then(said) {
                Ok(said) if said.len() == asked.len() => {
                    for ((_, asker), said) in asked.into_iter().zip(said) {
                        let _ = asker.send(Ok(said));
                    }
                }
                answer => {
                    let error = answer.err().unwrap_or_else(no_answer);
                    // Who waits for the next call waited as long.
                    for (_, asker) in asked.into_iter().chain(asker.rest()) {
                        let _ = asker.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Of nobody it is a question that says nothing and is answered by a master alone.
    pub(super) fn together_call<'a>(
        &self,
        asked: impl Iterator<Item = &'a Question> + Clone,
    ) -> Cmd {
        let keys = asked.clone().map(|question| question.letters.len()).sum();
        let size = asked.clone().map(Question::bytes).sum();
        let mut cmd = self.scripts.start(Script::Together, keys, size);
        for question in asked.clone() {
            question.keys.push(&mut cmd, question.letters);
        }
        cmd.arg(self.scope.window.entries).arg(millis(self.scope.window.age));
        for question in asked {
            question.push(&mut cmd);
        }
        cmd
    }
}

/// Counts what goes into one call.
fn fits() -> impl FnMut(&Asked) -> bool {
    let (mut count, mut bytes) = (0, 0);
    move |(question, _)| {
        count += 1;
        bytes += question.bytes();
        count <= MOST && bytes <= MOST_BYTES
    }
}

fn said(answer: redis::Value) -> StoreResult<Vec<Said>> {
    Parts::new(answer)?.map(reply::signed).collect()
}

fn no_answer() -> StoreError {
    reply::corrupt("not as many answers as questions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::FunctionName;
    use crate::store::redis::keys::Keys;

    fn question(bytes: usize) -> Question {
        let keys = Keys::new("f", &FunctionName::new("cart").unwrap());
        let mut question = Question::new(keys.session(&SessionId::new("s").unwrap()), "m", 0);
        question.arg(vec![7; bytes]);
        question
    }

    #[tokio::test]
    async fn a_call_is_bounded_in_number_and_bytes_and_takes_at_least_one() {
        let gather = Gather::new(1);
        let mut receivers = Vec::new();
        let sizes = [MOST_BYTES * 2, 10, MOST_BYTES].into_iter().chain(vec![10; MOST + 1]);
        for bytes in sizes {
            let (sender, receiver) = oneshot::channel();
            let _ = gather.join((question(bytes), sender));
            receivers.push(receiver);
        }
        let mut counts = Vec::new();
        let mut asker = gather.asker();
        while let Some(asked) = asker.next(fits()).await {
            counts.push(asked.len());
        }
        assert_eq!(counts, [1, 1, 1, MOST, 1]);
    }
}

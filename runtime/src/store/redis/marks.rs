//! A session is marked as pending before it is: a crash in between leaves a mark too
//! many, never one too few.

use redis::{Cmd, Pipeline, Value};

use super::Core;
use super::servers::Servers;
use super::shard::Witness;
use super::sync::Run;
use crate::session::SessionId;
use crate::store::StoreResult;

/// A command that changes a session, with what the index has to hear of it.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) cmd: Cmd,
    /// Whether it may make the session pending.
    pub(super) marks: bool,
    /// What the index is told; it may lag, and what it misses is mended.
    pub(super) index: Vec<Cmd>,
    /// Whether to name the server's run, to wait for its disk.
    pub(super) witness: bool,
}

impl Core {
    /// Runs it; one round trip where one server has the index too.
    pub(super) async fn change(
        &self,
        session: &SessionId,
        change: Change,
    ) -> StoreResult<(Value, Option<Witness>)> {
        match &self.servers {
            Servers::One(shard) => {
                let mark = change.marks.then(|| self.mark(session));
                let told = change.index.len();
                let mut pipe = Pipeline::with_capacity(told + 3);
                for cmd in mark.into_iter().chain([change.cmd]).chain(change.index) {
                    pipe.add_command(cmd);
                }
                if change.witness {
                    Run::ask(&mut pipe);
                }
                let mut answers = shard.link.pipe(&pipe).await?.into_iter();
                let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
                let marked = !change.marks || next().is_ok();
                let value = next()?;
                (0..told).for_each(|_| drop(next()));
                let run = if change.witness { Some(Run::read(next()?)?) } else { None };
                if !marked {
                    shard.link.call(&self.mark(session)).await?;
                }
                Ok((value, run.map(|run| Witness { shard: shard.clone(), run })))
            }
            // The index is on another connection and on another disk: the mark has
            // to be answered before the change is sent.
            Servers::Cluster(_) => {
                if change.marks {
                    self.index().call(&self.mark(session)).await?;
                }
                let door = self.at(session);
                let answer = match change.witness {
                    true => door.witnessed(&change.cmd).await?,
                    false => (door.call(&change.cmd).await?, None),
                };
                let mut pipe = Pipeline::with_capacity(change.index.len());
                change.index.into_iter().for_each(|cmd| {
                    pipe.add_command(cmd);
                });
                let _ = self.index().pipe(&pipe).await;
                Ok(answer)
            }
        }
    }
}

//! Where commands go: the one server of a store, or the masters of a cluster.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::cluster::{Cluster, Member};
use super::shard::{Shard, Witness};
use super::slots::slot_of;
use super::sync::Run;
use crate::store::{Promise, StoreResult};

/// The servers of one store.
#[derive(Debug)]
pub(super) enum Servers {
    /// One has everything.
    One(Arc<Shard>),
    /// Each master of a cluster has some slots.
    Cluster(Arc<Cluster>),
}

/// The way to all keys that share a hash tag.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door<'a> {
    One(&'a Arc<Shard>),
    Slot(&'a Cluster, u16),
}

impl Servers {
    /// What the weakest of them promises.
    pub(super) fn promise(&self) -> Promise {
        match self {
            Self::One(shard) => shard.promise(),
            Self::Cluster(cluster) => cluster.promise(),
        }
    }

    /// Whether what must be durable has to be waited for.
    pub(super) fn waits(&self) -> bool {
        match self {
            Self::One(shard) => shard.promise() == Promise::WaitAof,
            Self::Cluster(cluster) => cluster.waits(),
        }
    }

    /// Several commands on keys of anywhere, in one round trip a server; each has its
    /// own outcome.
    pub(super) async fn spread(
        &self,
        cmds: Vec<(String, Cmd)>,
    ) -> StoreResult<Vec<StoreResult<Value>>> {
        match self {
            Self::One(shard) => {
                let mut pipe = Pipeline::with_capacity(cmds.len());
                for (_, cmd) in cmds {
                    pipe.add_command(cmd);
                }
                shard.link.pipe(&pipe).await
            }
            Self::Cluster(cluster) => {
                let cmds: Vec<_> =
                    cmds.into_iter().map(|(key, cmd)| (slot_of(&key), cmd)).collect();
                Ok(Box::pin(cluster.spread(&cmds)).await)
            }
        }
    }

    /// Each server in turn, in an order that stays; `None` for one that is away.
    pub(super) async fn each(&self) -> Vec<(String, Option<Arc<Shard>>)> {
        match self {
            Self::One(shard) => vec![(String::new(), Some(Arc::clone(shard)))],
            Self::Cluster(cluster) => {
                let masters = cluster.masters();
                let open = async |master: &Arc<Member>| {
                    (master.address.to_string(), cluster.open_member(master).await.ok())
                };
                futures_util::future::join_all(masters.iter().map(open)).await
            }
        }
    }
}

impl Door<'_> {
    /// One command.
    pub(super) async fn call(&self, cmd: &Cmd) -> StoreResult<Value> {
        match self {
            Self::One(shard) => shard.link.call(cmd).await,
            Self::Slot(cluster, slot) => {
                Ok(Box::pin(cluster.follow(*slot, cmd, false)).await?.value)
            }
        }
    }

    /// One command, and who has run it.
    pub(super) async fn witnessed(&self, cmd: &Cmd) -> StoreResult<(Value, Option<Witness>)> {
        match self {
            Self::One(shard) => {
                let mut pipe = Pipeline::with_capacity(2);
                pipe.add_command(cmd.clone());
                Run::ask(&mut pipe);
                let mut answers = shard.link.pipe(&pipe).await?.into_iter();
                let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
                let value = next()?;
                let run = Run::read(next()?)?;
                Ok((value, Some(Witness { shard: Arc::clone(shard), run })))
            }
            Self::Slot(cluster, slot) => {
                let answer = Box::pin(cluster.follow(*slot, cmd, true)).await?;
                Ok((answer.value, answer.witness))
            }
        }
    }

    /// Several commands in one round trip; each has its own outcome.
    pub(super) async fn pipe(&self, pipe: &Pipeline) -> StoreResult<Vec<StoreResult<Value>>> {
        match self {
            Self::One(shard) => shard.link.pipe(pipe).await,
            Self::Slot(cluster, slot) => {
                let cmds: Vec<_> = pipe.cmd_iter().map(|cmd| (*slot, cmd.clone())).collect();
                Ok(Box::pin(cluster.spread(&cmds)).await)
            }
        }
    }
}

//! The right to act at a node: one oracle at a time.
//!
//! It is kept in the node's Redis, renewed while its holder lives, and counted: whoever gets
//! it anew gets a higher number. Every action asks there whether its number still is the
//! right one, and takes its move off the budget in the same step, so that two oracles that
//! both think they may act move no more together than one. What they move is safe anyhow:
//! a session's moves have their own protocol.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::Script;
use tokio::time::Instant;

use crate::duration::Span;
use crate::sources::SourceError;
use crate::sources::redis::{Redis, failed};

/// Takes the right, or keeps it. KEYS: holder, number. ARGV: who, for how long in ms.
/// Returns the number, 0 if somebody else has it.
const HOLD: &str = "
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if not holder then redis.call('INCR', KEYS[2]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[2]))
";

/// Allows an action. KEYS: holder, number, moves. ARGV: who, which number, 1 for a move,
/// most moves, in how many ms. Returns 0: allowed, 1: somebody else has the right, 2: the
/// budget is used up.
const PERMIT: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 1
end
if ARGV[3] == '1' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[5])
  if redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[4]) then return 2 end
  redis.call('ZADD', KEYS[3], now, time[1] .. ':' .. time[2])
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end
return 0
";

/// Gives the right back.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
";

/// So many servers of a cluster are asked for the one that has the keys.
const REDIRECTS: usize = 2;

/// Why an action is not allowed now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// Another oracle acts at this node.
    #[error("another oracle acts at this node")]
    Another,
    /// The node's Redis does not say.
    #[error("whether this oracle may act is not known: {0}")]
    Unknown(String),
    /// The moves of this interval are used up, and stay so.
    #[error("the moves of this interval are used up")]
    UsedUp,
}

/// How many moves there may be, all oracles of a node together.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Most moves.
    pub moves: usize,
    /// In this time.
    pub interval: Span,
}

/// The right to act. Cheap to clone.
#[derive(Clone)]
pub enum Lease {
    /// There is no other: the node is one process with its oracle.
    Alone,
    /// In the node's Redis.
    Shared(Arc<SharedLease>),
}

/// The right to act, in a Redis.
pub struct SharedLease {
    redis: Redis,
    keys: [String; 3],
    who: String,
    ttl: Duration,
    allowance: Allowance,
    held: Mutex<Option<Held>>,
}

#[derive(Clone, Copy)]
struct Held {
    number: u64,
    until: Instant,
}

impl Lease {
    /// In the Redis of a URL, below a prefix. The error says what is wrong with the URL.
    pub fn shared(
        url: &str,
        prefix: &str,
        ttl: Duration,
        allowance: Allowance,
    ) -> Result<Self, String> {
        let key = |name: &str| format!("{prefix}:{{oracle/}}:{name}");
        Ok(Self::Shared(Arc::new(SharedLease {
            redis: Redis::new(url, Duration::from_secs(1))?,
            keys: [key("holder"), key("number"), key("moves")],
            who: format!("{:032x}", rand::random::<u128>()),
            ttl,
            allowance,
            held: Mutex::default(),
        })))
    }

    /// Takes the right or keeps it; says whether this oracle may act.
    pub async fn hold(&self) -> Result<bool, SourceError> {
        match self {
            Self::Alone => Ok(true),
            Self::Shared(lease) => lease.hold().await,
        }
    }

    /// Whether this oracle may act, as far as it knows without asking.
    pub fn is_held(&self) -> bool {
        match self {
            Self::Alone => true,
            Self::Shared(lease) => lease.number().is_some(),
        }
    }

    /// Waits until an action is allowed, and no longer than `patience`; a move takes one off
    /// the budget of the interval.
    pub async fn permit(&self, is_move: bool, patience: Duration) -> Result<(), NoPermit> {
        match self {
            Self::Alone => Ok(()),
            Self::Shared(lease) => lease.permit(is_move, patience).await,
        }
    }

    /// Lets another one act at once.
    pub async fn release(&self) {
        if let Self::Shared(lease) = self {
            lease.release().await;
        }
    }
}

impl SharedLease {
    /// The number, while the right lasts by this process's own clock.
    fn number(&self) -> Option<u64> {
        let held = (*self.held.lock())?;
        (Instant::now() < held.until).then_some(held.number)
    }

    async fn call(&self, script: &str, args: &[String]) -> Result<u64, SourceError> {
        let script = Script::new(script);
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        for arg in args {
            call.arg(arg);
        }
        let mut redirects = REDIRECTS;
        loop {
            let mut connection = self.redis.connected().await?;
            let error = match call.invoke_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.redis.disconnect();
            // In a cluster the keys are with one of the servers.
            match error.redirect_node().map(|(to, _)| to.to_owned()) {
                Some(to) if redirects > 0 => self.redis.redirect(&to),
                _ => return Err(failed(error)),
            }
            redirects -= 1;
        }
    }

    async fn hold(&self) -> Result<bool, SourceError> {
        // Counted from before the call: Redis counts from later on.
        let began = Instant::now();
        let number = self.call(HOLD, &[self.who.clone(), self.ttl.as_millis().to_string()]).await?;
        let held = (number > 0).then(|| Held { number, until: began + self.ttl });
        *self.held.lock() = held;
        Ok(held.is_some())
    }

    async fn permit(&self, is_move: bool, patience: Duration) -> Result<(), NoPermit> {
        let began = Instant::now();
        let patience = patience.min(self.allowance.interval.0);
        loop {
            let number = self.number().ok_or(NoPermit::Another)?;
            let args = [
                self.who.clone(),
                number.to_string(),
                u8::from(is_move).to_string(),
                self.allowance.moves.to_string(),
                self.allowance.interval.as_millis().to_string(),
            ];
            let answer = self.call(PERMIT, &args).await;
            match answer.map_err(|error| NoPermit::Unknown(error.to_string()))? {
                0 => return Ok(()),
                1 => return Err(NoPermit::Another),
                // Moves of the interval before were done later than they were decided.
                _ if began.elapsed() < patience => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                _ => return Err(NoPermit::UsedUp),
            }
        }
    }

    async fn release(&self) {
        *self.held.lock() = None;
        if let Err(error) = self.call(RELEASE, std::slice::from_ref(&self.who)).await {
            tracing::debug!(%error, "the right to act was not given back; it ends by itself");
        }
    }
}

//! How to reach Redis, and what it has to be.

use std::time::Duration;

use crate::metrics::StoreMeter;
use crate::store::Promise;

/// How the store talks to its Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// A call without an answer for this long is [`Unavailable`]. Default 2 s.
    ///
    /// [`Unavailable`]: crate::store::StoreError::Unavailable
    pub response_timeout: Duration,
    /// An attempt to connect gives up after this long. Default 1 s.
    pub connect_timeout: Duration,
    /// How long to wait until a write is on disk, where it has to be. Default 5 s.
    pub sync_timeout: Duration,
    /// What all keys begin with: letters, digits and hyphens. Default `f`.
    pub prefix: String,
    /// What counts its calls; a store that is opened has its own.
    #[doc(hidden)]
    pub meter: StoreMeter,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            sync_timeout: Duration::from_secs(5),
            prefix: "f".to_owned(),
            meter: StoreMeter::default(),
        }
    }
}

/// Why a store cannot be opened; each says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// The URL does not read.
    #[error(
        "the Redis URL does not read ({0}): write redis://host:port/db, redis+unix:///path or, \
         for a cluster, redis+cluster://host:port,host:port"
    )]
    Url(String),
    /// The key prefix would be misread.
    #[error("the key prefix {0:?} is not 1 to 63 letters, digits and hyphens: choose another")]
    Prefix(String),
    /// No connection.
    #[error("Redis cannot be reached ({0}): start it, or correct the URL")]
    Unreachable(String),
    /// The server is older than what the scripts need.
    #[error("this Redis is version {0}: version 7.0 or newer is needed, or any Valkey")]
    TooOld(String),
    /// Sessions could be evicted.
    #[error(
        "Redis may throw sessions away (maxmemory-policy is {0}): \
         run `redis-cli config set maxmemory-policy noeviction` and write it into redis.conf"
    )]
    Evicts(String),
    /// It has only some of the slots.
    #[error("this Redis is part of a cluster: write redis+cluster:// instead of redis://")]
    IsCluster,
    /// It has no slots.
    #[error("this Redis is no cluster: write redis:// instead of redis+cluster://")]
    NotCluster,
    /// Some sessions would have no place.
    #[error("{0} slots of the cluster have no master: finish it (`redis-cli --cluster fix`)")]
    Uncovered(usize),
}

/// What was found out about a server when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// What it is and which version, for the log.
    pub(super) name: String,
    pub(super) promise: Promise,
    /// Whether it is a master of a cluster.
    pub(super) clustered: bool,
    /// Whether it stops serving when another master of its cluster fails.
    pub(super) all_or_nothing: bool,
}

/// How the server syncs its append-only file, as far as it says.
#[derive(Debug, Clone, Default)]
pub(super) struct Sync {
    /// `always`, `everysec` or `no`; `None` where `CONFIG` is forbidden.
    pub(super) appendfsync: Option<String>,
    /// Nothing is synced while the file is rewritten (`no-appendfsync-on-rewrite`).
    pub(super) pauses: bool,
}

/// One line's value in the text that `INFO` answers.
pub(super) fn info<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Who it says it is; a Valkey names a version of Redis too.
fn name(text: &str, version: &str) -> String {
    match info(text, "valkey_version") {
        Some(valkey) => format!("Valkey {valkey}"),
        None => format!("Redis {version}"),
    }
}

impl Judged {
    /// Judges what the server says of itself: the texts of `INFO`, what it may be
    /// asked of its configuration, and whether it knows `WAITAOF`.
    pub(super) fn judge(text: &str, sync: &Sync, waitaof: bool) -> Result<Self, ConnectError> {
        let version = info(text, "redis_version").unwrap_or("unknown");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Err(ConnectError::TooOld(version.to_owned()));
        }
        let policy = info(text, "maxmemory_policy").unwrap_or("unknown");
        if policy != "noeviction" {
            return Err(ConnectError::Evicts(policy.to_owned()));
        }
        let promise = match (info(text, "aof_enabled"), sync.appendfsync.as_deref()) {
            (Some("1"), Some("always")) if !sync.pauses => Promise::Always,
            // Nobody ever syncs: there is nothing to wait for.
            (Some("1"), Some("no")) => Promise::Everysec,
            (Some("1"), _) if waitaof => Promise::WaitAof,
            (Some("1"), _) => Promise::Everysec,
            _ => Promise::None,
        };
        Ok(Self {
            name: name(text, version),
            promise,
            // A Valkey says its mode under another name than a Redis.
            clustered: info(text, "cluster_enabled") == Some("1"),
            all_or_nothing: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, policy: &str, aof: u8) -> String {
        format!("redis_version:{version}\r\nmaxmemory_policy:{policy}\r\naof_enabled:{aof}\r\n")
    }

    #[test]
    fn g2_the_promise_is_what_the_server_keeps() {
        let text = server("7.2.5", "noeviction", 1);
        let promise = |fsync: Option<&str>, wait| {
            let sync = Sync { appendfsync: fsync.map(str::to_owned), pauses: false };
            Judged::judge(&text, &sync, wait).unwrap().promise
        };
        assert_eq!(promise(Some("always"), true), Promise::Always);
        assert_eq!(promise(Some("everysec"), true), Promise::WaitAof);
        assert_eq!(promise(Some("everysec"), false), Promise::Everysec);
        assert_eq!(promise(Some("no"), true), Promise::Everysec);
        assert_eq!(promise(None, false), Promise::Everysec);
        let off = server("7.2.5", "noeviction", 0);
        let always = Sync { appendfsync: Some("always".to_owned()), pauses: false };
        assert_eq!(Judged::judge(&off, &always, true).unwrap().promise, Promise::None);
        let pausing = Sync { pauses: true, ..always };
        let weaker = |wait| Judged::judge(&text, &pausing, wait).unwrap().promise;
        assert_eq!((weaker(true), weaker(false)), (Promise::WaitAof, Promise::Everysec));
    }

    #[test]
    fn a_master_of_a_cluster_is_known_whatever_it_calls_its_mode() {
        for mode in ["redis_mode", "server_mode"] {
            let judge = |mode: &str, enabled: u8| {
                let about = server("7.2.4", "noeviction", 1);
                let text = format!("{about}{mode}:cluster\r\ncluster_enabled:{enabled}\r\n");
                Judged::judge(&text, &Sync::default(), false).unwrap().clustered
            };
            assert!(judge(mode, 1) && !judge(mode, 0));
        }
    }

    #[test]
    fn a_server_that_will_not_do_is_refused() {
        let judge = |text: &str| Judged::judge(text, &Sync::default(), false);
        assert!(matches!(judge(&server("6.2.1", "noeviction", 1)), Err(ConnectError::TooOld(_))));
        assert!(matches!(judge(&server("7.0.0", "allkeys-lru", 1)), Err(ConnectError::Evicts(_))));
        assert!(matches!(judge(""), Err(ConnectError::TooOld(_))));
    }
}

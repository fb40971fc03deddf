//! The node's Redis: `INFO memory`, and `MEMORY USAGE` of a sample of its keys.
//!
//! Signals of the node: `redis-memory`, its memory as a share of `maxmemory` (without one
//! there is no share, and nothing is said), `redis-bytes`, the same in bytes, and
//! `redis-key-bytes`, the mean of what a key takes, its name and Redis's own part included.

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};

use super::{Source, SourceError, share, signal};
use crate::signals::Sample;

/// So many keys are looked at.
const KEYS: usize = 8;

/// A Redis server.
pub struct Redis {
    url: String,
    /// Another of the cluster's servers, which has the keys that are asked for.
    client: Mutex<Client>,
    patience: Duration,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    /// The server of a URL; a cluster's first one. The error says what is wrong with it.
    pub fn new(url: &str, patience: Duration) -> Result<Self, String> {
        let one = single(url);
        let client = Client::open(one.as_str())
            // Not the URL: it may hold a password.
            .map_err(|error| format!("that is no URL of a Redis: {error}"))?;
        Ok(Self { url: one, client: Mutex::new(client), patience, connection: Mutex::default() })
    }

    /// From now on the server at `host:port` is asked, with the same credentials.
    pub(crate) fn redirect(&self, to: &str) {
        let place = reqwest::Url::parse(&self.url).ok().and_then(|mut url| {
            let (host, port) = to.rsplit_once(':')?;
            // Without a host it is the one that redirects.
            if !host.is_empty() {
                url.set_host(Some(host)).ok()?;
            }
            url.set_port(Some(port.parse().ok()?)).ok()?;
            Client::open(url.as_str()).ok()
        });
        if let Some(client) = place {
            *self.client.lock() = client;
            self.disconnect();
        }
    }

    /// A connection; the one that was lent last, as long as nothing went wrong with it.
    pub(crate) async fn connected(&self) -> Result<MultiplexedConnection, SourceError> {
        if let Some(connection) = self.connection.lock().clone() {
            return Ok(connection);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience))
            .set_response_timeout(Some(self.patience));
        let client = self.client.lock().clone();
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connection.map_err(|error| {
            // Whom the cluster named may be gone: the next attempt asks anew.
            if let Ok(first) = Client::open(self.url.as_str()) {
                *self.client.lock() = first;
            }
            SourceError::Unreachable(error.to_string())
        })?;
        *self.connection.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// The next one is on a connection of its own.
    pub(crate) fn disconnect(&self) {
        *self.connection.lock() = None;
    }

    async fn told(&self) -> Result<Vec<Sample>, SourceError> {
        let mut connection = self.connected().await?;
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut connection).await.map_err(failed)?;
        let mut samples = read_info(&info)?;
        if let Some(bytes) = mean_of_keys(&mut connection).await? {
            samples.push(Sample::of_node(&signal("redis-key-bytes")?, bytes));
        }
        Ok(samples)
    }
}

async fn mean_of_keys(connection: &mut MultiplexedConnection) -> Result<Option<f64>, SourceError> {
    let mut pipe = redis::pipe();
    for _ in 0..KEYS {
        pipe.cmd("RANDOMKEY");
    }
    let keys: Vec<Option<Vec<u8>>> = pipe.query_async(connection).await.map_err(failed)?;
    let mut pipe = redis::pipe();
    for key in keys.iter().flatten() {
        // A few elements of a nested value are enough for a mean.
        pipe.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(5);
    }
    if keys.iter().flatten().next().is_none() {
        return Ok(None);
    }
    let sizes: Vec<Option<f64>> = pipe.query_async(connection).await.map_err(failed)?;
    let sizes: Vec<f64> = sizes.into_iter().flatten().collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful of keys")]
    let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
    Ok((!sizes.is_empty()).then_some(mean))
}

#[async_trait]
impl Source for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn read(&self) -> Result<Vec<Sample>, SourceError> {
        let told = self.told().await;
        if told.is_err() {
            self.disconnect();
        }
        told
    }
}

/// The URL of one server of those that a store's URL names.
pub(crate) fn single(url: &str) -> String {
    for (cluster, one) in [
        ("redis+cluster://", "redis://"),
        ("redis-cluster://", "redis://"),
        ("rediss+cluster://", "rediss://"),
        ("rediss-cluster://", "rediss://"),
    ] {
        if let Some(rest) = url.strip_prefix(cluster) {
            return format!("{one}{}", rest.split(',').next().unwrap_or(rest));
        }
    }
    url.to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(crate) fn failed(error: redis::RedisError) -> SourceError {
    match error.kind() {
        redis::ErrorKind::Server(_) => SourceError::Refused(error.to_string()),
        redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse => {
            SourceError::Nonsense(error.to_string())
        }
        _ => SourceError::Unreachable(error.to_string()),
    }
}

fn read_info(info: &str) -> Result<Vec<Sample>, SourceError> {
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line?.trim().parse::<f64>().ok()
    };
    let used = number("used_memory")
        .ok_or_else(|| SourceError::Nonsense("INFO memory names no used_memory".to_owned()))?;
    let mut samples = vec![Sample::of_node(&signal("redis-bytes")?, used)];
    if let Some(share) = share(used, number("maxmemory").unwrap_or(0.0)) {
        samples.push(Sample::of_node(&signal("redis-memory")?, share));
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_where_there_is_a_limit() {
        let info = "# Memory\r\nused_memory_human:1K\r\nused_memory:1000\r\nmaxmemory:4000\r\n";
        let samples = read_info(info).unwrap();
        let told: Vec<_> = samples.iter().map(|s| (s.signal.as_str(), s.value)).collect();
        assert_eq!(told, [("redis-bytes", 1000.0), ("redis-memory", 0.25)]);
        let without = read_info("used_memory:1000\r\nmaxmemory:0\r\n").unwrap();
        assert_eq!(without.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_no_value() {
        for bad in ["", "used_memory:lots", "maxmemory:5"] {
            assert!(matches!(read_info(bad), Err(SourceError::Nonsense(_))), "{bad}");
        }
    }

    #[test]
    fn of_a_cluster_one_is_asked() {
        assert_eq!(single("redis+cluster://u:p@a:1,b:2"), "redis://u:p@a:1");
        assert_eq!(single("redis://a:1/0"), "redis://a:1/0");
        assert!(Redis::new("nonsense", Duration::from_secs(1)).is_err());
    }
}

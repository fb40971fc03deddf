//! The connection to Redis: one, shared by all requests, mended when it breaks.

use std::time::Duration;

use redis::aio::{
    AsyncPushSender, ConnectionLike, ConnectionManager, ConnectionManagerConfig,
    MultiplexedConnection,
};
use redis::{Client, Cmd, Pipeline, ProtocolVersion, RedisError, RedisResult, Value};

use super::options::RedisOptions;
use crate::metrics::StoreMeter;
use crate::store::{StoreError, StoreResult};

/// A connection whose calls end in time, one way or the other.
#[derive(Debug, Clone)]
pub(super) struct Link {
    manager: ConnectionManager,
    timeout: Duration,
    meter: StoreMeter,
}

impl Link {
    /// Connects; later the connection comes back by itself, at the first call
    /// after Redis does.
    pub(super) async fn open(client: Client, options: &RedisOptions) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            // Calls fail fast while Redis is away, and each tries to connect again.
            .set_number_of_retries(0)
            .set_connection_timeout(Some(options.connect_timeout))
            // `call` bounds connecting, sending and waiting together.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(1024);
        let manager = client.get_connection_manager_with_config(config).await?;
        Ok(Self { manager, timeout: options.response_timeout, meter: options.meter.clone() })
    }

    /// The same connection with another time limit, for calls that are not counted: they wait
    /// for something.
    pub(super) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { manager: self.manager.clone(), timeout, meter: StoreMeter::default() }
    }

    /// How long a call may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// One command.
    pub(super) async fn call(&self, cmd: &Cmd) -> StoreResult<Value> {
        counted(&self.meter, in_time(self.timeout, self.send(cmd))).await
    }

    /// Several commands in one round trip; each has its own outcome.
    pub(super) async fn pipe(&self, pipe: &Pipeline) -> StoreResult<Vec<StoreResult<Value>>> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let values = counted(&self.meter, in_time(self.timeout, self.send_all(pipe))).await?;
        let answers: Vec<_> = values.into_iter().map(outcome).collect();
        // Once a round trip, however many of its commands failed.
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            self.meter.failed(error);
        }
        Ok(answers)
    }

    /// One command, without a limit of time: the error is Redis's own.
    pub(super) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let mut manager = self.manager.clone();
        let answer = match manager.req_packed_command(cmd).await {
            // Nothing was sent: the last attempt to connect had failed.
            Err(error) if error.is_connection_refusal() => manager.req_packed_command(cmd).await,
            answer => answer,
        };
        answer?.extract_error()
    }

    /// Several commands in the same way; errors are among the answers.
    pub(super) async fn send_all(&self, pipe: &Pipeline) -> RedisResult<Vec<Value>> {
        let mut manager = self.manager.clone();
        let count = pipe.len();
        match manager.req_packed_commands(pipe, 0, count).await {
            Err(error) if error.is_connection_refusal() => {
                manager.req_packed_commands(pipe, 0, count).await
            }
            answer => answer,
        }
    }
}

/// A connection to one process of Redis: when that ends, so does this.
#[derive(Debug, Clone)]
pub(super) struct Tie {
    connection: MultiplexedConnection,
    timeout: Duration,
    /// Whether it is a master of a cluster.
    clustered: bool,
}

impl Tie {
    pub(super) async fn open(
        client: &Client,
        options: &RedisOptions,
        clustered: bool,
    ) -> StoreResult<Self> {
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(None);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        // The handshake is part of it: a server that hangs accepts and says nothing.
        let connection = in_time(options.connect_timeout * 2, opening).await?;
        Ok(Self { connection, timeout: options.sync_timeout, clustered })
    }

    /// One over which the server says what has changed of what was read over it
    /// (`CLIENT TRACKING`). `said` hears that before any answer that came later.
    pub(super) async fn watching(
        client: &Client,
        options: &RedisOptions,
        said: impl AsyncPushSender,
    ) -> StoreResult<Self> {
        let address = client.get_connection_info().clone();
        let settings = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(address.set_redis_settings(settings));
        let client = client.map_err(|error| failure(&error))?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(None)
            .set_push_sender(said);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        let connection = in_time(options.connect_timeout * 2, opening).await?;
        let tie = Self { connection, timeout: options.response_timeout, clustered: false };
        let mut tracking = redis::cmd("CLIENT");
        tie.call(tracking.arg("TRACKING").arg("ON")).await?;
        Ok(tie)
    }

    pub(super) fn is_clustered(&self) -> bool {
        self.clustered
    }

    pub(super) async fn call(&self, cmd: &Cmd) -> StoreResult<Value> {
        let mut pipe = Pipeline::with_capacity(1);
        pipe.add_command(cmd.clone());
        self.pipe(&pipe).await?.pop().unwrap_or(Ok(Value::Nil))
    }

    /// Several commands in one round trip. In a cluster they are about what this
    /// master has, also of a slot that it is just taking over; of a key that has
    /// left it is answered nothing.
    pub(super) async fn pipe(&self, pipe: &Pipeline) -> StoreResult<Vec<StoreResult<Value>>> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection.clone();
        if !self.clustered {
            let answer = connection.req_packed_commands(pipe, 0, pipe.len());
            return Ok(in_time(self.timeout, answer).await?.into_iter().map(outcome).collect());
        }
        let mut asking = Pipeline::with_capacity(pipe.len() * 2);
        for cmd in pipe.cmd_iter() {
            asking.cmd("ASKING").add_command(cmd.clone());
        }
        let answer = connection.req_packed_commands(&asking, 0, asking.len());
        let answers = in_time(self.timeout, answer).await?.into_iter().skip(1).step_by(2);
        let here = |answer: Value| match answer.extract_error() {
            Err(error) if error.redirect_node().is_some() => Ok(Value::Nil),
            answer => answer.map_err(|error| failure(&error)),
        };
        Ok(answers.map(here).collect())
    }
}

/// Counts a round trip.
pub(super) async fn counted<T>(
    meter: &StoreMeter,
    trip: impl Future<Output = StoreResult<T>>,
) -> StoreResult<T> {
    let began = tokio::time::Instant::now();
    let outcome = trip.await;
    meter.ended(began.elapsed(), &outcome);
    outcome
}

fn outcome(value: Value) -> StoreResult<Value> {
    value.extract_error().map_err(|error| failure(&error))
}

pub(super) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RedisError>>,
) -> StoreResult<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| failure(&error)),
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer from Redis within {} ms",
            limit.as_millis()
        ))),
    }
}

/// What an error of Redis or of its connection means for the node.
pub(super) fn failure(error: &RedisError) -> StoreError {
    let in_script = || error.detail().is_some_and(|detail| detail.contains("user_script"));
    match error.code() {
        Some("NOSCRIPT") => StoreError::Restarted,
        Some("OOM") => StoreError::Full,
        // A script met something that it did not expect.
        Some("WRONGTYPE") => StoreError::Corrupt(error.to_string()),
        Some("ERR") if in_script() => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

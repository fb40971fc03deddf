//! Where signals come from: one trait, one file each.
//!
//! | source | says | file |
//! |---|---|---|
//! | `status` | the functions themselves, by `/_/status` | [`status`] |
//! | `redis` | the node's Redis, by `INFO` and `MEMORY USAGE` | [`redis`] |
//! | `machine` | cgroup, v1 or v2, and `/proc` | [`machine`] |
//! | `prometheus` | queries of one's own | [`prometheus`] |
//! | `metrics-server` | pods and nodes of Kubernetes | `metrics_server` |
//!
//! A source says what it knows and leaves out what it does not; it never says zero for
//! that. It is asked with [`ask`], so that one that hangs is only late.

pub mod machine;
#[cfg(feature = "kubernetes")]
pub mod metrics_server;
pub mod prometheus;
pub mod redis;
pub mod status;

use std::time::Duration;

use async_trait::async_trait;

use crate::signals::{Sample, SignalName};

/// Why a source says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody answers.
    #[error("it does not answer: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("it did not answer within {0:?}")]
    Late(Duration),
    /// It answers that it will not.
    #[error("it refuses: {0}")]
    Refused(String),
    /// Its answer makes no sense.
    #[error("its answer does not read: {0}")]
    Nonsense(String),
}

/// Something that knows signals of this node.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Its name, for logs and metrics.
    fn name(&self) -> &'static str;

    /// What it knows now.
    async fn read(&self) -> Result<Vec<Sample>, SourceError>;
}

/// Asks a source, and waits no longer than `patience`.
pub async fn ask(source: &dyn Source, patience: Duration) -> Result<Vec<Sample>, SourceError> {
    match tokio::time::timeout(patience, source.read()).await {
        Ok(said) => said,
        Err(_) => Err(SourceError::Late(patience)),
    }
}

/// A signal whose name is part of this program.
fn signal(name: &'static str) -> Result<SignalName, SourceError> {
    SignalName::new(name).map_err(SourceError::Nonsense)
}

/// A part of a whole, if there is a whole.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0 && part >= 0.0 && part.is_finite() && whole.is_finite()).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hangs;

    #[async_trait]
    impl Source for Hangs {
        fn name(&self) -> &'static str {
            "hangs"
        }

        async fn read(&self) -> Result<Vec<Sample>, SourceError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_is_late() {
        let patience = Duration::from_secs(2);
        assert_eq!(ask(&Hangs, patience).await, Err(SourceError::Late(patience)));
    }

    #[test]
    fn without_a_whole_there_is_no_share() {
        assert_eq!(share(1.0, 4.0), Some(0.25));
        for (part, whole) in [(1.0, 0.0), (-1.0, 4.0), (f64::NAN, 4.0), (1.0, f64::INFINITY)] {
            assert_eq!(share(part, whole), None);
        }
    }
}

//! Sources, each asked at its own pace: one that hangs is late by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::duration::Span;
use crate::signals::Sample;
use crate::sources::{Source, SourceError, ask};

/// A source and how often it is asked.
#[derive(Clone)]
pub struct Paced {
    /// The source.
    pub source: Arc<dyn Source>,
    /// From one question to the next.
    pub every: Span,
    /// How long its answer may take.
    pub timeout: Span,
}

/// What a source said.
pub(super) struct Said {
    pub(super) source: &'static str,
    pub(super) what: Result<Vec<Sample>, SourceError>,
}

/// The tasks that ask.
pub(super) struct Gathering(Vec<AbortHandle>);

impl Gathering {
    pub(super) fn abort_all(&self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

pub(super) fn start(sources: &[Paced], to: &mpsc::Sender<Said>) -> Gathering {
    let tasks = sources.iter().map(|paced| {
        let (paced, to) = (paced.clone(), to.clone());
        tokio::spawn(async move { ask_forever(&paced, &to).await }).abort_handle()
    });
    Gathering(tasks.collect())
}

async fn ask_forever(paced: &Paced, to: &mpsc::Sender<Said>) {
    let source = paced.source.name();
    let mut clock = tokio::time::interval(paced.every.0.max(Duration::from_millis(10)));
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut silent = false;
    loop {
        clock.tick().await;
        let what = ask(paced.source.as_ref(), paced.timeout.0).await;
        match &what {
            Ok(_) if silent => tracing::info!(source, "it speaks again"),
            Err(error) if !silent => tracing::warn!(source, %error, "a source says nothing"),
            _ => {}
        }
        silent = what.is_err();
        if to.send(Said { source, what }).await.is_err() {
            return;
        }
    }
}

//! What was decided, done: calls to the function's own endpoints, and nothing else.
//!
//! A call is tried a few times, each for a while, and only with the right to act at that
//! moment. A repeated move is harmless: the node answers that the session has gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use funicular::peers::messages::{ForceCall, MoveReport, OnloadReport, StatusChange};
use funicular::peers::operator::{Answer, CallError, OperatorClient};
use funicular::session::FunctionName;
use funicular::topology::Node;
use serde_json::json;

use crate::lease::{Lease, NoPermit};
use crate::policy::decision::{Action, Decision};
use crate::settings::ActionSettings;

/// What came of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was done; a sentence about it.
    Done(String),
    /// It takes longer than a call may; it goes on.
    GoesOn(String),
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// This oracle may not act now.
    #[error(transparent)]
    NoPermit(#[from] NoPermit),
    /// The node says no, or nothing.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The node did what it could, which was nothing.
    #[error("nothing came: {0}")]
    Nothing(String),
}

impl ActionError {
    /// Whether nobody may have heard the call.
    fn unheard(&self) -> bool {
        matches!(self, Self::Call(error) if !error.says_no())
    }
}

/// Acts at one node.
pub struct Actions {
    client: OperatorClient,
    here: Node,
    lease: Lease,
    settings: ActionSettings,
}

impl Actions {
    /// Acts at `here` as long as the lease allows.
    pub fn new(client: OperatorClient, here: Node, lease: Lease, settings: ActionSettings) -> Self {
        Self { client, here, lease, settings }
    }

    /// Does what was decided. A move waits no longer than `patience` for its budget.
    pub async fn perform(
        &self,
        decision: &Decision,
        patience: Duration,
    ) -> Result<Done, ActionError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(self.settings.tries.saturating_sub(1));
        let tries = AtomicUsize::new(0);
        let once = || async {
            // A repeat may come after the lease has ended; it is the same move.
            let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
            self.lease.permit(first && decision.action.moves().is_some(), patience).await?;
            self.once(decision).await
        };
        once.retry(backoff).when(ActionError::unheard).await
    }

    async fn once(&self, decision: &Decision) -> Result<Done, ActionError> {
        let function = &decision.function;
        match &decision.action {
            Action::SetStatus { status } => {
                let body = json!({ "status": status });
                let answer = self.call(function, "set-offload-status", &body).await?;
                let change: StatusChange = answer.read()?;
                Ok(Done::Done(format!("{:?} after {:?}", change.new, change.old).to_lowercase()))
            }
            Action::Offload { session, .. } => {
                let call = ForceCall { session: Some(session.clone()), max_sessions: None };
                let answer = match self.call(function, "force-offload", &call).await {
                    // It has gone, with a call before this one or without us.
                    Err(CallError::Refused { code, .. }) if code == "not-owner" => {
                        return Ok(Done::Done("it has gone already".to_owned()));
                    }
                    answer => answer?,
                };
                if answer.status == 202 {
                    return Ok(Done::GoesOn("the move goes on".to_owned()));
                }
                let report: MoveReport = answer.read()?;
                Ok(Done::Done(sentence(&report)))
            }
            Action::Onload { session, .. } => {
                let call = ForceCall { session: Some(session.clone()), max_sessions: None };
                let report: OnloadReport =
                    self.call(function, "force-onload", &call).await?.read()?;
                match report.moved.first() {
                    Some(moved) => Ok(Done::Done(sentence(moved))),
                    None => Err(ActionError::Nothing(report.failed.join("; "))),
                }
            }
        }
    }

    async fn call(
        &self,
        function: &FunctionName,
        endpoint: &str,
        body: &impl serde::Serialize,
    ) -> Result<Answer, CallError> {
        self.client.post(&self.here, function, endpoint, body).await
    }
}

fn sentence(report: &MoveReport) -> String {
    format!(
        "now at {}: {} bytes in {:.1} ms, writes waited {:.1} ms at most",
        report.accepted_by, report.bytes, report.took_ms, report.downtime_ms
    )
}

#[cfg(test)]
mod tests {
    use funicular::http::signature::{Keys, Secret};
    use funicular::peers::messages::OffloadStatus;
    use funicular::topology::Topology;
    use wiremock::matchers::method;
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::duration::Span;
    use crate::testing::decision;

    async fn tried(answer: ResponseTemplate) -> (ActionError, usize) {
        let server = MockServer::start().await;
        Mock::given(method("POST")).respond_with(answer).mount(&server).await;
        let tree = format!("{{levels: [a], root: {{name: italy, gateway: '{}'}}}}", server.uri());
        let here = Topology::parse(&tree).unwrap().root().clone();
        let operator = Secret::new(b"the operators' own secret").ok();
        let keys = Keys { peer: None, operator };
        let settings = ActionSettings { timeout: Span::millis(200), ..ActionSettings::default() };
        let client = OperatorClient::new(keys, "oracle".parse().unwrap(), settings.timeout.0);
        let actions = Actions::new(client.unwrap(), here, Lease::Alone, settings);
        let decision = decision("cart", Action::SetStatus { status: OffloadStatus::Reject });
        let error = actions.perform(&decision, Duration::from_secs(60)).await.unwrap_err();
        (error, server.received_requests().await.unwrap().len())
    }

    #[tokio::test]
    async fn an_endpoint_that_hangs_is_given_up_after_a_few_tries() {
        let hangs = ResponseTemplate::new(200).set_delay(Duration::from_secs(60));
        let (error, tries) = tried(hangs).await;
        assert!(error.unheard(), "{error}");
        assert_eq!(tries, ActionSettings::default().tries);
    }

    #[tokio::test]
    async fn a_no_is_not_asked_again() {
        let (error, tries) = tried(ResponseTemplate::new(404)).await;
        assert!(matches!(error, ActionError::Call(CallError::NoFunction { .. })), "{error}");
        assert_eq!(tries, 1);
    }
}

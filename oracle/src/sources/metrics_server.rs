//! Pods and nodes of Kubernetes, as its metrics-server tells them
//! (`metrics.k8s.io/v1beta1`).
//!
//! Of each function, by the label `faas_function`, the mean over its pods: `pod-cpu` in CPUs
//! and `pod-memory` in bytes; with the limits of a pod given, `cpu` and `memory` as shares of
//! them. Of the node, if its name and size are given, `cpu` and `memory` as shares.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use funicular::session::FunctionName;
use k8s_metrics::v1beta1::{NodeMetrics, PodMetrics};
use kube::api::{Api, ListParams};
use kube::{Client, Config};

use super::{Source, SourceError, share, signal};
use crate::settings::{MetricsServer, Size};
use crate::signals::Sample;

const LABEL: &str = "faas_function";

/// The source.
pub struct MetricsServerSource {
    settings: MetricsServer,
    client: Client,
}

impl MetricsServerSource {
    /// The API server that the environment names: the cluster's own, or that of the
    /// kubeconfig.
    pub async fn infer(settings: MetricsServer, patience: Duration) -> Result<Self, String> {
        install_crypto();
        let config = Config::infer().await;
        let config = config.map_err(|error| format!("no Kubernetes API is known here: {error}"))?;
        Self::with(settings, config, patience)
    }

    /// A certain API server.
    pub fn with(
        settings: MetricsServer,
        mut config: Config,
        patience: Duration,
    ) -> Result<Self, String> {
        install_crypto();
        config.connect_timeout = Some(patience);
        config.read_timeout = Some(patience);
        let client = Client::try_from(config)
            .map_err(|error| format!("the client of the Kubernetes API: {error}"))?;
        Ok(Self { settings, client })
    }

    async fn pods(&self) -> Result<Vec<Sample>, SourceError> {
        let api: Api<PodMetrics> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let pods = api.list(&ListParams::default().labels(LABEL)).await.map_err(failed)?;
        let mut by_function: BTreeMap<FunctionName, Vec<Size>> = BTreeMap::new();
        for pod in pods.items {
            let labels = pod.metadata.labels.as_ref();
            let name = labels.and_then(|labels| labels.get(LABEL));
            let name = name.and_then(|name| FunctionName::new(name).ok());
            // A pod that was just started has no containers yet.
            if let (Some(name), Some(size)) = (name, size_of_pod(&pod)) {
                by_function.entry(name).or_default().push(size);
            }
        }
        let mut samples = Vec::new();
        for (function, sizes) in by_function {
            let mean = mean(&sizes);
            samples.push(Sample::of(&function, &signal("pod-cpu")?, mean.cpus));
            samples.push(Sample::of(&function, &signal("pod-memory")?, mean.memory));
            if let Some(limit) = self.settings.pod {
                for (name, share) in shares(mean, limit) {
                    samples.push(Sample::of(&function, &signal(name)?, share));
                }
            }
        }
        Ok(samples)
    }

    async fn node(&self) -> Result<Vec<Sample>, SourceError> {
        let Some(node) = &self.settings.node else { return Ok(Vec::new()) };
        let api: Api<NodeMetrics> = Api::all(self.client.clone());
        let usage = api.get(&node.name).await.map_err(failed)?.usage;
        let cpus = usage.cpu().map_err(nonsense)?;
        #[expect(clippy::cast_precision_loss, reason = "a share is wanted")]
        let memory = usage.memory().map_err(nonsense)? as f64;
        let mut samples = Vec::new();
        for (name, share) in shares(Size { cpus, memory }, node.size) {
            samples.push(Sample::of_node(&signal(name)?, share));
        }
        Ok(samples)
    }
}

#[async_trait]
impl Source for MetricsServerSource {
    fn name(&self) -> &'static str {
        "metrics-server"
    }

    async fn read(&self) -> Result<Vec<Sample>, SourceError> {
        match futures_util::future::join(self.pods(), self.node()).await {
            (Ok(mut pods), Ok(node)) => {
                pods.extend(node);
                Ok(pods)
            }
            // What one of them says counts, as long as it says anything.
            (Ok(said), Err(error)) | (Err(error), Ok(said)) if !said.is_empty() => {
                tracing::warn!(source = "metrics-server", %error, "a part brought nothing");
                Ok(said)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

/// What a rustls that was built without a provider needs, once a process.
fn install_crypto() {
    // Fails if somebody was first, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// All containers together; `None` where one of them does not tell.
fn size_of_pod(pod: &PodMetrics) -> Option<Size> {
    if pod.containers.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share is wanted")]
    let memory = pod.memory().ok()? as f64;
    Some(Size { cpus: pod.cpu().ok()?, memory })
}

#[expect(clippy::cast_precision_loss, reason = "a handful of pods")]
fn mean(sizes: &[Size]) -> Size {
    let count = sizes.len().max(1) as f64;
    Size {
        cpus: sizes.iter().map(|size| size.cpus).sum::<f64>() / count,
        memory: sizes.iter().map(|size| size.memory).sum::<f64>() / count,
    }
}

fn shares(used: Size, whole: Size) -> Vec<(&'static str, f64)> {
    let both =
        [("cpu", share(used.cpus, whole.cpus)), ("memory", share(used.memory, whole.memory))];
    both.into_iter().filter_map(|(name, share)| Some((name, share?))).collect()
}

fn nonsense(error: impl std::fmt::Display) -> SourceError {
    SourceError::Nonsense(error.to_string())
}

fn failed(error: kube::Error) -> SourceError {
    match error {
        kube::Error::Api(status) => SourceError::Refused(match status.code {
            403 => format!(
                "{}: give this account the Role of topology/kubernetes/base/oracle.yaml",
                status.message
            ),
            404 => format!("{}: is metrics-server installed?", status.message),
            code => format!("status {code}: {}", status.message),
        }),
        kube::Error::SerdeError(error) => nonsense(error),
        other => SourceError::Unreachable(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wiremock::matchers::{method, path, query_param};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::settings::KubernetesNode;

    const PODS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/openfaas-fn/pods";
    const NODE: &str = "/apis/metrics.k8s.io/v1beta1/nodes/worker-1";

    fn pod(name: &str, labels: &Value, containers: &Value) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "openfaas-fn",
                "creationTimestamp": "2026-01-01T10:00:00Z", "labels": labels},
            "timestamp": "2026-01-01T09:59:50Z", "window": "15.067s", "containers": containers,
        })
    }

    fn container(cpu: &str, memory: &str) -> Value {
        json!({"name": "cart", "usage": {"cpu": cpu, "memory": memory}})
    }

    fn pods(items: &Value) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(json!({
            "kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {},
            "items": items,
        }))
    }

    fn status(code: u16, reason: &str, message: &str) -> ResponseTemplate {
        ResponseTemplate::new(code).set_body_json(json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code,
        }))
    }

    async fn server(answer: ResponseTemplate) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path(PODS))
            .and(query_param("labelSelector", "faas_function"))
            .respond_with(answer)
            .mount(&server)
            .await;
        server
    }

    fn source(server: &MockServer, settings: MetricsServer) -> MetricsServerSource {
        let config = Config::new(server.uri().parse().unwrap());
        MetricsServerSource::with(settings, config, Duration::from_millis(400)).unwrap()
    }

    /// Function, signal, value in thousandths.
    fn told(samples: &[Sample]) -> Vec<(String, &str, i64)> {
        let function =
            |s: &Sample| s.function.as_ref().map_or_else(String::new, ToString::to_string);
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let told = |s| (function(s), s.signal.as_str(), (s.value * 1000.0).round() as i64);
        samples.iter().map(told).collect()
    }

    fn cart() -> Value {
        json!({"faas_function": "cart"})
    }

    #[tokio::test]
    async fn pods_are_told_by_function_and_as_shares_of_their_limits() {
        let items = json!([
            pod("cart-1", &cart(), &json!([container("250000000n", "64Mi")])),
            pod("cart-2", &cart(), &json!([container("750m", "131072Ki")])),
            // Partial: just started, without a label, with a usage of another world.
            pod("cart-3", &cart(), &json!([])),
            pod("x", &json!({}), &json!([container("1", "1Mi")])),
            pod("cart-4", &cart(), &json!([container("much", "1Mi")])),
        ]);
        let server = server(pods(&items)).await;
        let pod = Some(Size { cpus: 1.0, memory: 201_326_592.0 });
        let source = source(&server, MetricsServer { pod, ..MetricsServer::default() });
        let said = source.read().await.unwrap();
        let cart = || "cart".to_owned();
        assert_eq!(
            told(&said),
            [
                (cart(), "pod-cpu", 500),
                (cart(), "pod-memory", 100_663_296_000),
                (cart(), "cpu", 500),
                (cart(), "memory", 500),
            ]
        );
    }

    #[tokio::test]
    async fn the_node_is_told_against_its_size() {
        let server = server(pods(&json!([]))).await;
        let answer = ResponseTemplate::new(200).set_body_json(json!({
            "kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "worker-1", "creationTimestamp": "2026-01-01T10:00:00Z"},
            "timestamp": "2026-01-01T09:59:50Z", "window": "10s",
            "usage": {"cpu": "1500m", "memory": "1048576Ki"},
        }));
        Mock::given(path(NODE)).respond_with(answer).mount(&server).await;
        let size = Size { cpus: 2.0, memory: 4_294_967_296.0 };
        let node = Some(KubernetesNode { name: "worker-1".to_owned(), size });
        let source = source(&server, MetricsServer { node, ..MetricsServer::default() });
        let said = source.read().await.unwrap();
        assert_eq!(told(&said), [(String::new(), "cpu", 750), (String::new(), "memory", 250)]);
    }

    #[tokio::test]
    async fn no_pods_are_no_values() {
        let server = server(pods(&json!([]))).await;
        assert_eq!(source(&server, MetricsServer::default()).read().await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn refusals_say_what_to_do() {
        let forbidden = "pods.metrics.k8s.io is forbidden: User \"x\" cannot list resource";
        let refused = server(status(403, "Forbidden", forbidden)).await;
        let said = source(&refused, MetricsServer::default()).read().await.unwrap_err();
        assert!(
            matches!(&said, SourceError::Refused(why) if why.contains("oracle.yaml")),
            "{said}"
        );
        let missing = "the server could not find the requested resource";
        let absent = server(status(404, "NotFound", missing)).await;
        let said = source(&absent, MetricsServer::default()).read().await.unwrap_err();
        assert!(said.to_string().contains("metrics-server installed"), "{said}");
    }

    #[tokio::test]
    async fn what_hangs_or_makes_no_sense_is_no_value() {
        let hangs = server(pods(&json!([])).set_delay(Duration::from_secs(9))).await;
        let said = source(&hangs, MetricsServer::default()).read().await;
        assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
        let nonsense = server(ResponseTemplate::new(200).set_body_string("{\"items\": 7}")).await;
        let said = source(&nonsense, MetricsServer::default()).read().await;
        assert!(matches!(said, Err(SourceError::Nonsense(_))), "{said:?}");
    }
}

//! Queries of a Prometheus, of one's own choice.
//!
//! Each query gives one signal: of the node, or where `function_label` names a label of the
//! result, of the function that the label says. Several results without that label are too
//! many, and none is none: then nothing is said.

use std::time::Duration;

use async_trait::async_trait;
use funicular::session::FunctionName;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Source, SourceError};
use crate::signals::{Sample, SignalName};

/// Larger answers are not read.
const LARGEST_ANSWER: usize = 4 << 20;

/// One signal from Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The signal.
    pub signal: SignalName,
    /// The query, in Prometheus's language.
    pub query: String,
    /// The label of the result that names the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_label: Option<String>,
}

/// A Prometheus server.
#[derive(Debug)]
pub struct Prometheus {
    http: reqwest::Client,
    url: Url,
    queries: Vec<Query>,
}

impl Prometheus {
    /// The server at a URL. The error says what is wrong with it.
    pub fn new(url: &str, queries: Vec<Query>, patience: Duration) -> Result<Self, String> {
        let base = url.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/api/v1/query"))
            .ok()
            .filter(|url| url.scheme() == "http" && url.has_host())
            .ok_or("that is no URL of a Prometheus: give http://host:9090")?;
        let http = reqwest::Client::builder()
            .timeout(patience)
            .no_proxy()
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {error}"))?;
        Ok(Self { http, url, queries })
    }

    async fn one(&self, query: &Query) -> Result<Vec<Sample>, SourceError> {
        let unreachable = |error: reqwest::Error| match error.is_timeout() {
            true => SourceError::Unreachable("it did not answer in time".to_owned()),
            false => SourceError::Unreachable(error.without_url().to_string()),
        };
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("query", &query.query);
        let mut answer = self.http.get(url).send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(SourceError::Nonsense("it is too large".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(value) if value["status"] == "error" => {
                let why = value["error"].as_str().unwrap_or("it does not say why");
                Err(SourceError::Refused(format!("{}: {why}", query.signal)))
            }
            _ if !status.is_success() => {
                Err(SourceError::Refused(format!("{}: status {status}", query.signal)))
            }
            Ok(value) => read(query, &value),
            Err(error) => Err(SourceError::Nonsense(error.to_string())),
        }
    }
}

#[async_trait]
impl Source for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    async fn read(&self) -> Result<Vec<Sample>, SourceError> {
        let all = self.queries.iter().map(|query| self.one(query));
        let mut samples = Vec::new();
        let mut failure = None;
        for said in futures_util::future::join_all(all).await {
            match said {
                Ok(said) => samples.extend(said),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if samples.is_empty() => Err(error),
            // What the other queries say counts.
            Some(error) => {
                tracing::warn!(source = "prometheus", %error, "a query brought nothing");
                Ok(samples)
            }
            None => Ok(samples),
        }
    }
}

fn read(query: &Query, answer: &Value) -> Result<Vec<Sample>, SourceError> {
    let nonsense = |why: &str| SourceError::Nonsense(format!("{}: {why}", query.signal));
    let data = &answer["data"];
    let results: Vec<(&Value, &Value)> = match data["resultType"].as_str() {
        Some("scalar") => vec![(&Value::Null, &data["result"])],
        Some("vector") => {
            let results = data["result"].as_array().ok_or_else(|| nonsense("no result"))?;
            results.iter().map(|one| (&one["metric"], &one["value"])).collect()
        }
        _ => return Err(nonsense("it is neither a vector nor a scalar; ask for one value")),
    };
    if query.function_label.is_none() && results.len() > 1 {
        return Err(nonsense("it has several results; sum them up, or name the function_label"));
    }
    let mut samples = Vec::new();
    for (metric, value) in results {
        // Time, and the value as a text; NaN where something was divided by nothing.
        let value = value[1].as_str().and_then(|text| text.parse::<f64>().ok());
        let value = value.ok_or_else(|| nonsense("a value that is no number"))?;
        let function = match &query.function_label {
            None => None,
            Some(label) => {
                let name = metric[label].as_str().and_then(|name| FunctionName::new(name).ok());
                // Something else than a function has that label.
                let Some(name) = name else { continue };
                Some(name)
            }
        };
        if value.is_finite() {
            samples.push(Sample { signal: query.signal.clone(), function, value });
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wiremock::matchers::{method, path, query_param};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    fn query(function_label: Option<&str>) -> Query {
        Query {
            signal: SignalName::new("load").unwrap(),
            query: "sum(x)".to_owned(),
            function_label: function_label.map(str::to_owned),
        }
    }

    fn vector(results: &Value) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": results}})
    }

    async fn says(
        answer: ResponseTemplate,
        label: Option<&str>,
    ) -> Result<Vec<Sample>, SourceError> {
        let server = MockServer::start().await;
        Mock::given(method("GET"))
            .and(path("/api/v1/query"))
            .and(query_param("query", "sum(x)"))
            .respond_with(answer)
            .mount(&server)
            .await;
        let patience = Duration::from_millis(300);
        Prometheus::new(&server.uri(), vec![query(label)], patience).unwrap().read().await
    }

    fn ok(value: &Value) -> ResponseTemplate {
        ResponseTemplate::new(200).set_body_json(value)
    }

    #[tokio::test]
    async fn one_value_is_the_nodes_and_a_label_names_functions() {
        let one = vector(&json!([{"metric": {}, "value": [1_700_000_000.1, "0.25"]}]));
        let said = says(ok(&one), None).await.unwrap();
        assert_eq!(said, [Sample::of_node(&SignalName::new("load").unwrap(), 0.25)]);
        let many = vector(&json!([
            {"metric": {"function_name": "cart"}, "value": [1.0, "3"]},
            {"metric": {"function_name": "not a function"}, "value": [1.0, "4"]},
            {"metric": {"function_name": "cdn"}, "value": [1.0, "NaN"]},
        ]));
        let said = says(ok(&many), Some("function_name")).await.unwrap();
        let cart = FunctionName::new("cart").unwrap();
        assert_eq!(said, [Sample::of(&cart, &SignalName::new("load").unwrap(), 3.0)]);
        assert!(matches!(says(ok(&many), None).await, Err(SourceError::Nonsense(_))));
        let scalar = json!({"status": "success",
            "data": {"resultType": "scalar", "result": [1.0, "7"]}});
        assert_eq!(says(ok(&scalar), None).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_nothing() {
        assert_eq!(says(ok(&vector(&json!([]))), None).await, Ok(Vec::new()));
    }

    #[tokio::test]
    async fn errors_hangs_and_nonsense_are_told_apart() {
        let refused = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        let said = says(ResponseTemplate::new(400).set_body_json(&refused), None).await;
        assert_eq!(said, Err(SourceError::Refused("load: parse error".to_owned())));
        let said = says(ResponseTemplate::new(503), None).await;
        assert!(matches!(said, Err(SourceError::Refused(_))), "{said:?}");
        let late = ok(&vector(&json!([]))).set_delay(Duration::from_secs(5));
        let said = says(late, None).await;
        assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
        for nonsense in [
            json!({"status": "success", "data": {"resultType": "matrix", "result": []}}),
            vector(&json!([{"metric": {}, "value": [1.0, "many"]}])),
            json!([]),
        ] {
            let said = says(ok(&nonsense), None).await;
            assert!(matches!(said, Err(SourceError::Nonsense(_))), "{said:?}");
        }
        let said = says(ResponseTemplate::new(200).set_body_string("<html>"), None).await;
        assert!(matches!(said, Err(SourceError::Nonsense(_))), "{said:?}");
        let second = Duration::from_secs(1);
        let nobody = Prometheus::new("http://127.0.0.1:1", vec![query(None)], second).unwrap();
        let said = nobody.read().await;
        assert!(matches!(said, Err(SourceError::Unreachable(_))), "{said:?}");
        assert!(Prometheus::new("ftp://x", Vec::new(), second).is_err());
    }
}

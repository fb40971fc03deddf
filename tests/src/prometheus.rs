//! A Prometheus of a test's own, started as it is installed.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::ports::Port;
use crate::tree::until;

/// A running Prometheus; it ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Child,
    port: Port,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one with this `prometheus.yml`; `rules` are beside it as `rules.yaml`.
    pub async fn start(config: &str, rules: &str) -> Self {
        let (port, dir) = (Port::free(), tempfile::tempdir().expect("a directory"));
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, config).expect("its settings");
        std::fs::write(dir.path().join("rules.yaml"), rules).expect("its rules");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is no prometheus here: run scripts/setup-tests.sh");
        let server = Self { process, port, _dir: dir };
        until("Prometheus is ready", async || {
            let answer = reqwest::get(format!("{}/-/ready", server.url())).await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        server
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url()), query);
        let answer = reqwest::get(url.expect("a URL")).await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// What an expression is now; the error is Prometheus's own.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let data = self.get("/api/v1/alerts", &[]).await.expect("alerts");
        let alerts = data["alerts"].as_array().expect("a list");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }

    /// The names of all metrics that it has seen.
    pub async fn names(&self) -> BTreeSet<String> {
        let data = self.get("/api/v1/label/__name__/values", &[]).await.expect("names");
        let names = data.as_array().expect("a list").iter();
        names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

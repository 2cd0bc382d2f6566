//! A real Prometheus that scrapes a real cluster by the configuration in `deploy/prometheus`, only
//! faster, and answers questions.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{
    dashboards::deploy,
    process::{LOOK, PATIENCE},
    promql::quicker,
};

/// Labels and a value, or what was asked of a range: labels and all values.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels, the name among them.
    pub labels: BTreeMap<String, String>,
    /// Its values, oldest first.
    pub values: Vec<f64>,
}

impl Series {
    /// A label, empty where it has none.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The newest value.
    ///
    /// # Panics
    /// Never: a series without values is none.
    #[must_use]
    pub fn last(&self) -> f64 {
        *self.values.last().expect("a value")
    }
}

/// A rule as it was evaluated.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The alert, or what is recorded.
    pub name: String,
    /// What it asks.
    pub expression: String,
    /// `ok`, or what went wrong.
    pub health: String,
    /// Whether it is an alert.
    pub alert: bool,
}

/// The process. Ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    // Ends with this.
    _child: Child,
    address: String,
    _home: TempDir,
}

impl Prometheus {
    /// Starts it. `nodes` and `workers` are addresses; all are of the cluster `test`. Time runs `times`
    /// as fast as in the files: each interval, window and waiting time is so much shorter.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(nodes: &[String], workers: &[String], times: u64) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let from = deploy().join("prometheus");
        for file in ["prometheus.yml", "rules/recording.yml", "rules/alerts.yml"] {
            let text = fs::read_to_string(from.join(file)).expect("a file");
            write(&home.path().join(file), &quicker(&text, times));
        }
        for (file, targets) in [("nodes.yml", nodes), ("workers.yml", workers)] {
            // JSON is YAML.
            let groups = json!([{ "targets": targets, "labels": { "cluster": "test" } }]);
            write(&home.path().join("targets").join(file), &groups.to_string());
        }
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let address = format!("127.0.0.1:{port}");
        let log = fs::File::create(home.path().join("log")).expect("a file");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", home.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        let child = command.spawn().expect("prometheus: run tests/install.sh");
        let started = Self { _child: child, address, _home: home };
        let mut look = tokio::time::interval(LOOK);
        let ready = async {
            while started.get("/-/ready", &[]).await.is_none() {
                look.tick().await;
            }
        };
        if timeout(PATIENCE, ready).await.is_err() {
            let log = fs::read_to_string(started._home.path().join("log")).unwrap_or_default();
            panic!("Prometheus does not become ready:\n{log}");
        }
        started
    }

    /// What an expression is at a time.
    ///
    /// # Errors
    /// What Prometheus says of the expression.
    pub async fn query(&self, expression: &str, at: SystemTime) -> Result<Vec<Series>, String> {
        let at = format!("time={:.3}", seconds(at));
        self.ask("query", &[&format!("query={expression}"), &at]).await
    }

    /// What it is every second from one time to another.
    ///
    /// # Errors
    /// What Prometheus says of the expression.
    pub async fn range(
        &self,
        expression: &str,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Vec<Series>, String> {
        let (from, to) = (format!("start={:.3}", seconds(from)), format!("end={:.3}", seconds(to)));
        self.ask("query_range", &[&format!("query={expression}"), &from, &to, "step=1"]).await
    }

    async fn ask(&self, what: &str, fields: &[&str]) -> Result<Vec<Series>, String> {
        let answer = self.api(what, fields).await?;
        let result = answer["result"].as_array().ok_or("no result")?;
        let number = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok());
        let series = |found: &Value| {
            let labels = serde_json::from_value(found["metric"].clone()).ok()?;
            let values: Option<Vec<f64>> = match found["values"].as_array() {
                Some(values) => values.iter().map(number).collect(),
                None => Some(vec![number(&found["value"])?]),
            };
            Some(Series { labels, values: values? })
        };
        result.iter().map(|found| series(found).ok_or(format!("{found}"))).collect()
    }

    /// All rules.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn rules(&self) -> Vec<Rule> {
        let answer = self.api("rules", &[]).await.expect("rules");
        let groups = answer["groups"].as_array().expect("groups").iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rule = |rule: &Value| Rule {
            name: text(&rule["name"]),
            expression: text(&rule["query"]),
            health: format!("{}{}", text(&rule["health"]), text(&rule["lastError"])),
            alert: rule["type"] == "alerting",
        };
        rules.map(rule).collect()
    }

    async fn api(&self, what: &str, fields: &[&str]) -> Result<Value, String> {
        let answer = self.get(&format!("/api/v1/{what}"), fields).await.ok_or("no answer")?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            Ok(answer["data"].clone())
        } else {
            Err(answer["error"].as_str().unwrap_or("an error").to_owned())
        }
    }

    /// `None` where nobody answers, or nothing but a refusal.
    async fn get(&self, path: &str, fields: &[&str]) -> Option<Vec<u8>> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--get", "--max-time", "10"]);
        for field in fields {
            command.args(["--data-urlencode", field]);
        }
        if !path.starts_with("/api/") {
            command.arg("--fail");
        }
        command.arg(format!("http://{}{path}", self.address));
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().await.ok()?;
        output.status.success().then_some(output.stdout)
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

//! Grafana's dashboards as they are committed: panels, their queries, and what fills the lists of
//! variables.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// The files of `deploy/`.
///
/// # Panics
/// When this does not run in the workspace.
#[must_use]
pub fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy")
}

/// One query of a panel.
#[derive(Debug, Clone)]
pub struct Query {
    /// With Grafana's variables in it.
    pub expression: String,
    /// What its series are called.
    pub legend: String,
    /// Asked for now, and not over the time range.
    pub instant: bool,
}

/// A panel.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Its heading.
    pub title: String,
    /// What to make of it.
    pub description: String,
    /// Of the numbers.
    pub unit: String,
    /// What it shows.
    pub queries: Vec<Query>,
}

/// A dashboard.
#[derive(Debug, Clone)]
pub struct Dashboard {
    /// Its address in Grafana.
    pub uid: String,
    /// What it shows, rows left aside.
    pub panels: Vec<Panel>,
    /// Variables that are asked for, with the series and the label that fill them.
    pub variables: Vec<(String, String, String)>,
    /// What marks times in all panels.
    pub annotations: Vec<String>,
    /// Addresses in Grafana that it leads to.
    pub links: Vec<String>,
}

impl Dashboard {
    /// All there are, by the names of their files.
    ///
    /// # Panics
    /// When a file is not a dashboard.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let files = fs::read_dir(deploy().join("grafana/dashboards")).expect("a directory");
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        files.iter().map(|file| Self::read(file)).collect()
    }

    fn read(file: &Path) -> Self {
        let json = fs::read(file).expect("a file");
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        let panels = list(&json["panels"]).iter().filter(|panel| panel["type"] != "row");
        let variables = list(&json["templating"]["list"]).iter().filter_map(|variable| {
            let (name, query) = (text(&variable["name"]), variable["query"].as_str()?);
            let inside = query.strip_prefix("label_values(")?.strip_suffix(')')?;
            let (series, label) = inside.rsplit_once(", ")?;
            Some((name, series.to_owned(), label.to_owned()))
        });
        let annotations = list(&json["annotations"]["list"]).iter();
        Self {
            uid: text(&json["uid"]),
            panels: panels.map(panel).collect(),
            variables: variables.collect(),
            annotations: annotations.map(|annotation| text(&annotation["expr"])).collect(),
            links: links(&json),
        }
    }

    /// The panel with this heading.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn panel(&self, title: &str) -> &Panel {
        let found = self.panels.iter().find(|panel| panel.title == title);
        found.unwrap_or_else(|| panic!("{} has no panel {title:?}", self.uid))
    }
}

impl Panel {
    /// The query whose series are called so.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn query(&self, legend: &str) -> &Query {
        let found = self.queries.iter().find(|query| query.legend == legend);
        found.unwrap_or_else(|| panic!("{:?} has no query {legend:?}", self.title))
    }
}

fn panel(json: &Value) -> Panel {
    let query = |target: &Value| Query {
        expression: text(&target["expr"]),
        legend: target["legendFormat"].as_str().unwrap_or_default().to_owned(),
        instant: target["instant"] == true,
    };
    Panel {
        title: text(&json["title"]),
        description: json["description"].as_str().unwrap_or_default().to_owned(),
        unit: json["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default().to_owned(),
        queries: list(&json["targets"]).iter().map(query).collect(),
    }
}

/// Every `url` of a dashboard of Grafana's, wherever it stands.
fn links(json: &Value) -> Vec<String> {
    match json {
        Value::Array(values) => values.iter().flat_map(links).collect(),
        Value::Object(fields) => {
            let own = fields.get("url").and_then(Value::as_str);
            let own = own.and_then(|url| url.strip_prefix("/d/")?.split('?').next());
            own.map(ToOwned::to_owned).into_iter().chain(fields.values().flat_map(links)).collect()
        }
        _ => Vec::new(),
    }
}

fn list(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Value) -> String {
    json.as_str().unwrap_or_else(|| panic!("{json} is not a text")).to_owned()
}

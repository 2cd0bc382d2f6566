//! What is in `deploy/prometheus` and `deploy/grafana` holds together: Prometheus takes it, each alert
//! is tested and has a runbook, each metric that is asked for exists, and the dashboards are what
//! their code makes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rota_tests::{
    dashboards::{Dashboard, deploy},
    process::tool,
    promql::selectors,
};

const RULES: [&str; 2] = ["rules/recording.yml", "rules/alerts.yml"];
/// Where the pages are that alerts lead to.
const REPOSITORY: &str = "https://github.com/rota-project/rota/blob/main/";
/// What Prometheus makes by itself, and the blackbox exporter for certificates.
const OTHERS: [&str; 3] = ["up", "ALERTS", "probe_ssl_earliest_cert_expiry"];

fn prometheus() -> PathBuf {
    deploy().join("prometheus")
}

fn read(file: &str) -> String {
    fs::read_to_string(prometheus().join(file)).unwrap()
}

#[track_caller]
fn promtool(home: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(home).stdin(Stdio::null());
    let output = command.output().expect("promtool: run tests/install.sh");
    let said = String::from_utf8(output.stdout).unwrap();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}{complained}");
    said
}

/// An alert, as far as its text tells.
#[derive(Debug)]
struct Alert {
    name: String,
    text: String,
}

fn alerts() -> Vec<Alert> {
    let text = read("rules/alerts.yml");
    let alert = |text: &str| {
        let name = text.lines().next().unwrap().to_owned();
        Alert { name, text: text.to_owned() }
    };
    text.split("- alert: ").skip(1).map(alert).collect()
}

/// The expressions of all rules; a block of lines counts as one.
fn expressions(rules: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = rules.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((indent, expression)) = line.split_once("expr: ") else { continue };
        let mut expression = expression.to_owned();
        if expression == "|" {
            while let Some(line) = lines.next_if(|line| {
                line.trim().is_empty() || line.len() - line.trim_start().len() > indent.len()
            }) {
                expression += line;
            }
        }
        found.push(expression);
    }
    found
}

#[test]
fn prometheus_takes_the_configuration_and_the_rules() {
    promtool(&prometheus(), &["check", "config", "prometheus.yml"]);
    promtool(&prometheus(), &["check", "config", "static.yml"]);
    promtool(&prometheus(), &["check", "rules", RULES[0], RULES[1]]);
}

/// What the containers get, laid out as they see it.
#[test]
fn prometheus_takes_the_configuration_of_its_container() {
    let home = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(deploy().join("docker/prometheus.yml")).unwrap();
    let token = home.path().join("metrics-token");
    let text = text.replace("/run/secrets/metrics-token", &token.display().to_string());
    fs::write(home.path().join("prometheus.yml"), text).unwrap();
    fs::write(token, "secret").unwrap();
    fs::create_dir(home.path().join("rules")).unwrap();
    for file in RULES {
        fs::copy(prometheus().join(file), home.path().join(file)).unwrap();
    }
    promtool(home.path(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn rules_do_what_their_tests_say() {
    promtool(
        &prometheus(),
        &["test", "rules", "tests/recording_test.yml", "tests/alerts_test.yml"],
    );
}

#[test]
fn each_alert_is_tested_to_fire_and_not_to_fire() {
    let tests = read("tests/alerts_test.yml");
    for Alert { name, .. } in alerts() {
        let quiet = format!("alertname: {name}, eval_time");
        let silent = tests.lines().any(|line| line.contains(&quiet) && line.contains("[]"));
        let fires = tests.lines().any(|line| line.trim() == format!("- alertname: {name}"));
        assert!(fires, "{name} is never tested to fire");
        assert!(silent, "{name} is never tested not to fire");
    }
}

#[test]
fn each_alert_says_what_it_means_and_where_to_read_on() {
    let alerts = alerts();
    assert!(alerts.len() >= 10, "{alerts:?}");
    let mut pages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for Alert { name, text } in &alerts {
        let severity = text.contains("severity: critical") || text.contains("severity: warning");
        assert!(severity, "{name} has no severity");
        assert!(
            text.contains("summary: ") && text.contains("description: "),
            "{name} says nothing"
        );
        let url = text.lines().find_map(|line| line.trim().strip_prefix("runbook_url: ")).unwrap();
        let (page, anchor) = url.strip_prefix(REPOSITORY).unwrap().split_once('#').unwrap();
        assert_eq!(anchor, name.to_lowercase());
        let headings = pages.entry(page.to_owned()).or_insert_with(|| {
            let root = deploy().parent().unwrap().to_owned();
            let text = fs::read_to_string(root.join(page)).unwrap();
            let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
            headings.map(ToOwned::to_owned).collect()
        });
        assert!(headings.contains(name), "{page} has no section {name}");
    }
    let written: BTreeSet<_> = pages.into_values().flatten().collect();
    let written = written.iter().filter(|heading| heading.starts_with("Rota"));
    let known: BTreeSet<_> = alerts.iter().map(|alert| &alert.name).collect();
    let gone: Vec<_> = written.filter(|heading| !known.contains(heading)).collect();
    assert!(gone.is_empty(), "there are sections on alerts that do not exist: {gone:?}");
}

/// Alertmanager is not among what the tests install, so this looks at what it would be told.
#[test]
fn one_alarm_holds_back_only_alarms_that_there_are() {
    let known: BTreeSet<_> = alerts().into_iter().map(|alert| alert.name).collect();
    let sample = read("alertmanager.yml");
    let matchers = sample.lines().filter(|line| line.contains("alertname=")).map(str::trim);
    let names = matchers.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()));
    let named: BTreeSet<_> =
        names.filter(|name| name.len() > 4 && name.starts_with("Rota")).collect();
    assert!(named.len() > 10, "{named:?}");
    let gone: Vec<_> = named.iter().filter(|name| !known.contains(**name)).collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn the_table_of_alerts_has_each_with_its_severity() {
    let page = deploy().parent().unwrap().join("docs/monitoring.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [Rota"));
    let rows: BTreeMap<_, _> = rows.map(|row| row.split_once(']').unwrap()).collect();
    for Alert { name, text } in &alerts() {
        let row = rows.get(name.strip_prefix("Rota").unwrap());
        let severity = if text.contains("severity: critical") { "critical" } else { "warning" };
        assert!(row.is_some_and(|row| row.contains(&format!("| {severity} |"))), "{name}: {row:?}");
    }
    assert_eq!(rows.len(), alerts().len(), "{rows:?}");
}

#[test]
fn all_that_is_asked_for_exists() {
    let page = deploy().parent().unwrap().join("docs/reference/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let metrics: BTreeSet<_> = rows.collect();
    let recording = read(RULES[0]);
    let recorded = recording.lines().filter_map(|line| line.trim().strip_prefix("- record: "));
    let recorded: BTreeSet<_> = recorded.collect();
    let mut asked: Vec<(String, String)> = Vec::new();
    for file in RULES {
        asked.extend(expressions(&read(file)).into_iter().map(|found| (file.to_owned(), found)));
    }
    for board in Dashboard::all() {
        let place = |panel: &str| format!("{}: {panel}", board.uid);
        for panel in &board.panels {
            let queries = panel.queries.iter();
            asked.extend(queries.map(|query| (place(&panel.title), query.expression.clone())));
        }
        asked.extend(board.annotations.iter().map(|found| (place("annotation"), found.clone())));
        asked.extend(board.variables.iter().map(|(name, series, _)| (place(name), series.clone())));
    }
    let (mut shown, mut used) = (BTreeSet::new(), BTreeSet::new());
    for (place, expression) in &asked {
        let found = selectors(expression);
        assert!(!found.is_empty(), "{place} asks for nothing: {expression}");
        for selector in found {
            let (name, metric) = (selector.name.as_str(), selector.metric().to_owned());
            let known = if selector.is_recorded() {
                recorded.contains(name)
            } else {
                metrics.contains(metric.as_str())
                    || metrics.contains(name)
                    || OTHERS.contains(&name)
            };
            assert!(known, "{place} asks for {name}, which does not exist");
            used.insert(name.to_owned());
            shown.insert(metric);
            shown.insert(name.to_owned());
        }
    }
    let hidden: Vec<_> = metrics.iter().filter(|metric| !shown.contains(**metric)).collect();
    assert!(hidden.is_empty(), "nothing shows these: {hidden:?}");
    let idle: Vec<_> = recorded.iter().filter(|name| !used.contains(**name)).collect();
    assert!(idle.is_empty(), "nothing uses these: {idle:?}");
}

#[test]
fn dashboards_explain_themselves_and_lead_to_each_other() {
    let boards = Dashboard::all();
    let uids: BTreeSet<_> = boards.iter().map(|board| board.uid.clone()).collect();
    let expected =
        ["rota-cluster", "rota-overview", "rota-queues", "rota-schedules", "rota-workers"];
    assert_eq!(uids, expected.map(ToOwned::to_owned).into());
    for board in &boards {
        assert!(board.variables.iter().any(|(name, ..)| name == "cluster"), "{}", board.uid);
        assert_eq!(board.annotations.len(), 1, "{}", board.uid);
        let strange = board.links.iter().find(|uid| !uids.contains(*uid));
        assert_eq!(strange, None, "{} leads nowhere", board.uid);
        for panel in &board.panels {
            let place = format!("{}: {}", board.uid, panel.title);
            assert!(panel.description.ends_with('.'), "{place} is not described");
            assert!(!panel.unit.is_empty() && !panel.queries.is_empty(), "{place}");
        }
    }
}

#[test]
fn dashboards_are_what_their_code_makes() {
    let mut python = Command::new(tool("grafana/bin/python"));
    python.args(["-B", "-m", "rota_dashboards", "--check", "dashboards"]);
    let output = python.current_dir(deploy().join("grafana")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Debian's Prometheus is built without Kubernetes, so its pods come from a file here, and take the
/// way through the very rules that are in the configuration.
#[test]
fn pods_become_targets_by_their_annotations() {
    let home = tempfile::tempdir().unwrap();
    let text = read("kubernetes.yml");
    let (mut config, mut skipped) = (String::new(), 0);
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with("kubernetes_sd_configs:") {
            config += "    file_sd_configs: [{files: [pods.json]}]\n";
            skipped = 1;
        } else if skipped == 0 || indent <= 4 {
            skipped = 0;
            config += line;
            config += "\n";
        }
    }
    let config = config.replace("rules/", &format!("{}/rules/", prometheus().display()));
    fs::write(home.path().join("kubernetes.yml"), config).unwrap();
    let pod = |name: &str, ip: &str, component: &str, scrape: &str, port: &str, phase: &str| {
        serde_json::json!({
            "targets": ["10.0.0.1:1"],
            "labels": {
                "__meta_kubernetes_namespace": "jobs",
                "__meta_kubernetes_pod_name": name,
                "__meta_kubernetes_pod_ip": ip,
                "__meta_kubernetes_pod_phase": phase,
                "__meta_kubernetes_pod_annotation_prometheus_io_scrape": scrape,
                "__meta_kubernetes_pod_annotation_prometheus_io_port": port,
                "__meta_kubernetes_pod_label_app_kubernetes_io_instance": "production",
                "__meta_kubernetes_pod_label_app_kubernetes_io_component": component,
            },
        })
    };
    let mut elsewhere = pod("worker-2", "10.0.0.2", "worker", "true", "7421", "Running");
    let labels = &mut elsewhere["labels"];
    labels["__meta_kubernetes_namespace"] = "mail".into();
    labels["__meta_kubernetes_pod_annotation_rota_cluster"] = "jobs/production".into();
    let pods = serde_json::json!([
        pod("rota-0", "10.0.0.1", "node", "true", "7420", "Running"),
        pod("rota-1", "10.0.0.1", "node", "false", "7420", "Running"),
        pod("worker-0", "fd00::17", "worker", "true", "7421", "Running"),
        pod("worker-1", "10.0.0.1", "worker", "true", "7421", "Failed"),
        elsewhere,
    ]);
    fs::write(home.path().join("pods.json"), pods.to_string()).unwrap();
    promtool(home.path(), &["check", "config", "kubernetes.yml"]);
    let rows = [
        ("rota-nodes", &[("rota-0", "10.0.0.1:7420", "jobs")][..]),
        (
            "rota-workers",
            &[("worker-0", "[fd00::17]:7421", "jobs"), ("worker-2", "10.0.0.2:7421", "mail")],
        ),
    ];
    for (job, expected) in rows {
        let check = ["check", "service-discovery", "--timeout=2s", "kubernetes.yml", job];
        let found: serde_json::Value =
            serde_json::from_str(&promtool(home.path(), &check)).unwrap();
        let labels = found.as_array().unwrap().iter().map(|found| &found["labels"]);
        let mut kept: Vec<_> = labels.filter(|labels| labels["instance"].is_string()).collect();
        // promtool lists them in no order of its own.
        kept.sort_by_key(|labels| labels["instance"].to_string());
        assert_eq!(kept.len(), expected.len(), "{job}: {found}");
        for (kept, (instance, address, namespace)) in kept.iter().zip(expected) {
            assert_eq!(kept["__address__"], *address);
            assert_eq!(kept["instance"], *instance);
            assert_eq!(
                (&kept["cluster"], &kept["namespace"]),
                (&"jobs/production".into(), &(*namespace).into())
            );
            assert_eq!(
                (&kept["job"], &kept["__metrics_path__"]),
                (&job.into(), &"/metrics".into())
            );
        }
    }
}

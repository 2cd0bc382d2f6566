//! `rota doctor`: whether a server can be used, and what to do if not. It checks one thing after the other and says what it
//! found of each.

use std::time::{Duration, Instant};

use rota_client::v1;
use rota_proto::Date;
use serde::Serialize;

use crate::{
    config::{Settings, Source},
    exit::{Exit, Failure},
    manage::cluster::{size, warnings},
    output::{self, Column, Format, Table},
    serve, token,
};

/// Difference of the clocks that matters: `--run-at` and `--since` are times of this machine.
const SKEW: Duration = Duration::from_secs(2);
/// Part of the store's space from which it is nearly full, in percent.
const FULL: u64 = 80;

/// What was found of one thing.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Warning,
    Error,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The findings so far, and the exit code of the first error.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
    exit: Option<Exit>,
}

impl Report {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        let found = found.into();
        self.findings.push(Finding { check, state: State::Ok, found, action: None });
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, action: &str) {
        let action = Some(action.to_owned());
        let found = found.into();
        self.findings.push(Finding { check, state: State::Warning, found, action });
    }

    fn fail(&mut self, check: &'static str, failure: &Failure) {
        self.exit.get_or_insert(failure.exit);
        let (found, action) = failure.parts();
        self.findings.push(Finding {
            check,
            state: State::Error,
            found: found.to_owned(),
            action: action.map(str::to_owned),
        });
    }
}

/// Checks, and prints what was found.
pub(crate) async fn run(settings: &Settings, format: Format) -> Result<(), Failure> {
    let mut report = Report::default();
    examine(settings, &mut report).await;
    print(&report, format)?;
    match report.exit {
        None => Ok(()),
        Some(exit) => Err(Failure::new(exit, "a check failed")),
    }
}

async fn examine(settings: &Settings, report: &mut Report) {
    let (url, source) = (settings.text("url"), settings.source("url"));
    report.ok("settings", format!("server {url} ({source})"));
    let client = match serve::client(settings) {
        Ok(client) => client.with_patience(Duration::ZERO),
        Err(failure) => return report.fail("settings", &failure),
    };
    reach(settings, report).await;
    let asked = Instant::now();
    let info = match client.get_server_info(v1::GetServerInfoRequest {}).await {
        Ok(info) => info,
        Err(error) => {
            let failure = Failure::from(error);
            let check = if failure.exit == Exit::Denied { "token" } else { "server" };
            return report.fail(check, &failure);
        }
    };
    let took = asked.elapsed();
    report.ok("server", format!("node {} answers within {} ms", info.node, took.as_millis()));
    match token_source(settings) {
        None => report.ok("token", "the server needs none"),
        Some(source) => report.ok("token", format!("the server takes it ({source})")),
    }
    server(&info, took, report);
    match client.get_cluster(v1::GetClusterRequest {}).await {
        Ok(cluster) => nodes(&cluster, report),
        Err(error) => report.fail("cluster", &Failure::from(error)),
    }
    limits(&info, report);
    match client.all_workers().await {
        Ok(all) => workers(&all.workers, report),
        Err(error) => report.fail("workers", &Failure::from(error)),
    }
}

fn token_source(settings: &Settings) -> Option<&Source> {
    // It was read before, for the client.
    token::of(settings).ok().flatten()?;
    ["token_file", "token"]
        .into_iter()
        .filter(|key| !settings.text(key).is_empty())
        .map(|key| settings.source(key))
        .next()
}

/// Whether each of several addresses answers.
async fn reach(settings: &Settings, report: &mut Report) {
    let addresses = settings.list("url");
    if addresses.len() < 2 {
        return;
    }
    for address in addresses {
        let one = serve::client_of(settings, vec![address.clone()]);
        let asked = async {
            let client = one?.with_patience(Duration::ZERO);
            client.get_server_info(v1::GetServerInfoRequest {}).await.map_err(Failure::from)
        };
        match asked.await {
            Ok(info) => report.ok("address", format!("{address} is node {}", info.node)),
            // The others serve, so it is no error for a client.
            Err(failure) => report.warn(
                "address",
                failure.parts().0.to_owned(),
                "start this node, or take its address out of url",
            ),
        }
    }
}

/// The node, its version and its clock.
fn server(info: &v1::ServerInfo, took: Duration, report: &mut Report) {
    let own = env!("CARGO_PKG_VERSION");
    if info.version == own {
        report.ok("version", format!("{own} on both sides"));
    } else {
        report.warn(
            "version",
            format!("the server has {}, this program {own}", info.version),
            "use the same version; fields that one side does not know are left out",
        );
    }
    let now = Date::from(jiff::Timestamp::now());
    let (theirs, ours) = (info.now.unwrap_or_default().timestamp(), now.timestamp());
    // The answer was on its way for about half of the time.
    let behind = ours.duration_since(theirs).unsigned_abs().saturating_sub(took);
    if behind > SKEW {
        report.warn(
            "clock",
            format!("the clocks differ by {}", output::coarse(behind)),
            "set both clocks by NTP; times such as --run-at and --since are computed on this machine",
        );
    } else {
        report.ok("clock", "agrees with that of the server");
    }
    match (&info.problem, &info.leader) {
        (Some(problem), _) => report.fail(
            "ready",
            &Failure::new(Exit::Unavailable, problem.clone())
                .hint(format!("see the log of node {} and its /readyz", info.node)),
        ),
        (None, None) => report.fail(
            "ready",
            &Failure::new(Exit::Unavailable, "there is no leader")
                .hint("wait some seconds; if it stays so, check the store"),
        ),
        (None, Some(leader)) => report.ok("ready", format!("node {leader} leads")),
    }
}

/// The nodes and the store.
fn nodes(cluster: &v1::Cluster, report: &mut Report) {
    let down: Vec<_> =
        cluster.nodes.iter().filter(|node| !node.ready).map(|node| node.name.as_str()).collect();
    if down.is_empty() {
        report.ok(
            "cluster",
            format!("{} of {} nodes ready", cluster.nodes.len(), cluster.nodes.len()),
        );
    } else {
        report.warn("cluster", format!("not ready: {}", down.join(", ")), "see `rota cluster`");
    }
    let store = cluster.store.clone().unwrap_or_default();
    let told = format!(
        "{} {}, {}",
        store.backend,
        store.location,
        size(store.bytes_used, store.bytes_max)
    );
    let used = store.bytes_used.zip(store.bytes_max).filter(|(_, max)| *max > 0);
    let percent = used.map_or(0, |(used, max)| used.saturating_mul(100) / max);
    let warned = warnings(store.lost, store.weakness.as_deref());
    match store.problem {
        Some(problem) => report.fail(
            "store",
            &Failure::new(Exit::Unavailable, format!("{told}: {problem}"))
                .hint("see docs/operating.md for the store"),
        ),
        None if percent >= FULL => report.warn(
            "store",
            format!("{told}: {percent} % full"),
            "delete ended tasks with `rota task delete`, shorten the retention, or give the store more room",
        ),
        None => report.ok("store", told),
    }
    for line in warned.lines() {
        let line = line.trim_start_matches("warning: ");
        report.warn("store", line, "see docs/stores.md");
    }
}

fn limits(info: &v1::ServerInfo, report: &mut Report) {
    let limit = |name: &str| info.limits.get(name).map_or_else(|| "-".to_owned(), u64::to_string);
    report.ok(
        "limits",
        format!(
            "payload {} bytes, {} tasks in a request, {} tasks in a queue",
            limit("payload_bytes"),
            limit("batch"),
            limit("queue_length")
        ),
    );
}

fn workers(workers: &[v1::Worker], report: &mut Report) {
    let active: Vec<_> = workers.iter().filter(|worker| !worker.draining).collect();
    let slots: u64 = active.iter().map(|worker| u64::from(worker.slots)).sum();
    let used: u64 = active.iter().map(|worker| u64::from(worker.slots_used)).sum();
    if active.is_empty() {
        report.warn(
            "workers",
            "none is connected, so no task runs",
            "start one with `rota worker`",
        );
    } else if used >= slots {
        report.warn(
            "workers",
            format!("all {slots} slots of {} workers are in use", active.len()),
            "start more workers, or raise --slots, if tasks wait",
        );
    } else {
        report.ok("workers", format!("{} connected, {used} of {slots} slots in use", active.len()));
    }
}

fn print(report: &Report, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        return output::list(&serde_json::json!({ "checks": report.findings }), "checks", format);
    }
    let mut table = Table::new([
        Column::new("CHECK").rank(0),
        Column::new("STATE").state(),
        Column::new("FOUND").end(),
    ]);
    for finding in &report.findings {
        table.row([
            finding.check.to_owned(),
            finding.state.word().to_owned(),
            finding.found.clone(),
        ]);
    }
    table.print()?;
    let actions: Vec<_> = report
        .findings
        .iter()
        .filter_map(|finding| Some((finding.check, finding.action.as_deref()?)))
        .collect();
    if actions.is_empty() {
        return Ok(());
    }
    output::line("\nWhat to do:")?;
    let mut seen = std::collections::HashSet::new();
    for (check, action) in actions {
        if seen.insert(action) {
            output::line(&format!("  {check}: {action}"))?;
        }
    }
    Ok(())
}

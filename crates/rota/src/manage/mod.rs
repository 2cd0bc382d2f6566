//! Commands that call the API of a server: tasks, queues, workers, cluster, server.

mod bulk;
pub(crate) mod cluster;
pub(crate) mod create;
mod failures;
mod follow;
mod ids;
mod import;
mod lines;
mod list;
mod logs;
pub(crate) mod queue;
mod retry;
mod show;
pub(crate) mod task;
mod update;
pub(crate) mod wait;
mod wait_all;
pub(crate) mod work;
pub(crate) mod workers;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, Hasher as _, RandomState},
};

use rota_client::{
    Client, ClientError, ErrorKind, Reason, RetryHint, node_v1,
    v1::{self, Task, TaskStatus},
};

use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Whether a retry can succeed: no server is reachable, or the server cannot answer now.
pub(crate) fn is_passing(error: &ClientError) -> bool {
    match error.reason().map(Reason::retry) {
        Some(retry) => {
            matches!(retry, RetryHint::Elsewhere | RetryHint::Soon | RetryHint::IfRepeatable)
        }
        None => matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
    }
}

/// Whether a task has ended.
fn is_ended(task: &Task) -> bool {
    match task.status() {
        TaskStatus::Scheduled
        | TaskStatus::Pending
        | TaskStatus::Assigned
        | TaskStatus::Running => false,
        TaskStatus::Completed
        | TaskStatus::Failed
        | TaskStatus::Cancelled
        | TaskStatus::Expired => true,
        TaskStatus::Unspecified => task.finished_at.is_some(),
    }
}

/// An idempotency key that nobody else has. With it the client may send a task again whose answer was
/// lost, as when a node fails or leadership changes.
pub(crate) fn fresh_key() -> String {
    // Keyed by the system's randomness, unlike a generator that is seeded from the time.
    let random = RandomState::new().build_hasher().finish();
    format!("cli-{}-{random:016x}", jiff::Timestamp::now().as_millisecond())
}

/// Parses labels. Each name can occur once.
pub(crate) fn labels(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut labels = BTreeMap::new();
    for flag in flags {
        let (name, value) = flag.split_once('=').ok_or_else(|| {
            Failure::usage(format!("invalid value {flag:?} for --label: must be NAME=VALUE"))
        })?;
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!(
                "invalid value {flag:?} for --label: the label {name} is given twice"
            )));
        }
    }
    Ok(labels)
}

/// `rota info`.
pub(crate) async fn info(client: &Client, format: Format) -> Result<(), Failure> {
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await?;
    if format.is_data() {
        return output::data(&info, format);
    }
    let mut table = Table::pairs("Version", &info.version);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("Node", info.node);
    row("Leader", info.leader.unwrap_or_else(|| "none".to_owned()));
    row("Epoch", info.epoch.to_string());
    row("Store", info.store);
    row("Started", output::time_and_distance(info.started_at.unwrap_or_default()));
    row("Live tasks", info.live_tasks.to_string());
    let (known, used) = (info.feature_level, info.cluster_feature_level);
    row("Feature level", format!("{used} (this node supports {known})"));
    row("Ready", info.problem.unwrap_or_else(|| "yes".to_owned()));
    for (name, value) in info.limits {
        row(&format!("Limit {name}"), value.to_string());
    }
    let warnings = cluster::warnings(info.store_lost, info.store_weakness.as_deref());
    table.print()?;
    output::text(&warnings)
}

/// `rota log`: sets the log filter if one is given, and shows the filter in force.
pub(crate) async fn log_filter(
    filter: Option<String>,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let now = match filter {
        Some(filter) => client.set_log_filter(node_v1::SetLogFilterRequest { filter }).await?,
        None => client.get_log_filter(node_v1::GetLogFilterRequest {}).await?,
    };
    if format.is_data() {
        return output::data(&now, format);
    }
    let mut table = Table::new([Column::new("NODE").keep(), Column::new("LOG").end()]);
    table.row([now.node, now.filter]);
    table.print()
}

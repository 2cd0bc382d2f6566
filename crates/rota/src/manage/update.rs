//! `rota task update`: changes parts of a waiting task.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, Date, FieldMask, TimeSpan,
    v1::{Task, TaskChange, UpdateTaskRequest},
};

use super::{
    labels,
    retry::{self, RetryArgs},
    work::payload_of,
};
use crate::{dates, exit::Failure};

/// The new values.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Task id.
    #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
    id: String,
    /// Description for people, up to 256 characters. An empty text removes it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Payload for the handler: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// Label to set. Can be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Label to remove. Can be repeated.
    #[arg(long = "remove-label", value_name = "NAME")]
    remove_labels: Vec<String>,
    /// Priority, 0 to 9. Tasks with a higher priority run first.
    #[arg(long)]
    priority: Option<u32>,
    /// Delay before the task is due, such as 30s or 2h.
    #[arg(long, value_name = "TIME", conflicts_with = "run_at")]
    delay: Option<TimeSpan>,
    /// Earliest start time, such as 2026-01-31T12:00:00Z, "tomorrow 09:00" or "in 3h".
    #[arg(long, value_name = "DATE", value_parser = dates::coming)]
    run_at: Option<Date>,
    /// Start deadline. The task expires if it has not started by then.
    #[arg(long, value_name = "DATE", conflicts_with = "never_expires", value_parser = dates::coming)]
    expires_at: Option<Date>,
    /// Remove the start deadline.
    #[arg(long)]
    never_expires: bool,
    /// Maximum duration of one attempt.
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
    #[command(flatten)]
    retry: RetryArgs,
    /// Time to keep the task after it has ended.
    #[arg(long, value_name = "TIME")]
    retention: Option<TimeSpan>,
    /// Change the task only if it has this version.
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
}

/// Changes the task.
pub(crate) async fn run(args: UpdateArgs, client: &Client) -> Result<Task, Failure> {
    let mut parts: Vec<String> = Vec::new();
    let mut names = |part: &str, is_set: bool| {
        if is_set {
            parts.push(part.to_owned());
        }
    };
    names("description", args.description.is_some());
    names("payload", args.payload.is_some());
    names("priority", args.priority.is_some());
    names("delay", args.delay.is_some());
    names("run_at", args.run_at.is_some());
    names("expires_at", args.expires_at.is_some() || args.never_expires);
    names("timeout", args.timeout.is_some());
    names("retention", args.retention.is_some());
    let retry = args.retry.policy();
    parts.extend(retry.iter().flat_map(retry::paths).map(str::to_owned));
    let labels = labels(&args.labels)?;
    parts.extend(labels.keys().chain(&args.remove_labels).map(|name| format!("labels.{name}")));
    if parts.is_empty() {
        return Err(Failure::usage(
            "nothing to change; name at least one part, such as --priority 7",
        ));
    }
    let payload = args.payload.map(payload_of).transpose()?;
    let change = TaskChange {
        description: args.description.filter(|text| !text.is_empty()),
        payload: payload.unwrap_or_default(),
        labels,
        priority: args.priority,
        run_at: args.run_at,
        delay: args.delay,
        expires_at: args.expires_at,
        timeout: args.timeout,
        retry: Some(retry.unwrap_or_default()),
        retention: args.retention,
    };
    let request = UpdateTaskRequest {
        id: args.id,
        change: Some(change),
        update_mask: Some(FieldMask { paths: parts }),
        expected_version: args.if_version,
    };
    Ok(client.update_task(request).await?)
}

//! `rota task list`, and the filters of tasks.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError, Date, EventFilter,
    v1::{
        ListTasksRequest, ListTasksResponse, Task, TaskFilter, TaskStatus, TimeRange,
        WatchEventsRequest,
    },
};
use rota_proto::json::Words as _;

use super::labels;
use crate::{
    dates,
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Selects tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only tasks in this queue.
    #[arg(long, value_parser = Text::new(), add = crate::complete::queues())]
    queue: Option<String>,
    /// Only tasks with one of these statuses, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = parse_status, add = crate::complete::statuses())]
    status: Vec<TaskStatus>,
    /// Only tasks of this kind.
    #[arg(long, value_parser = Text::new(), add = crate::complete::kinds())]
    kind: Option<String>,
    /// Only tasks with this label. Can be repeated; all labels must match.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Only tasks of this schedule.
    #[arg(long, value_name = "NAME", value_parser = Text::new(), add = crate::complete::schedules())]
    schedule: Option<String>,
    /// Only tasks created at this time or later, such as 1h, "2 days ago", yesterday or 2026-12-24T17:00.
    #[arg(long, visible_alias = "since", value_name = "DATE", value_parser = dates::since)]
    created_from: Option<Date>,
    /// Only tasks created before this time. A day such as yesterday is included.
    #[arg(long, visible_alias = "until", value_name = "DATE", value_parser = dates::until)]
    created_to: Option<Date>,
    /// Only tasks due at this time or later, such as "1h ago" or "in 1h".
    #[arg(long, value_name = "DATE", value_parser = dates::from_either)]
    run_at_from: Option<Date>,
    /// Only tasks due before this time. A day such as tomorrow is included.
    #[arg(long, value_name = "DATE", value_parser = dates::to_either)]
    run_at_to: Option<Date>,
    /// Only tasks whose error has this fingerprint, as in `rota task failures`.
    #[arg(long, value_name = "FINGERPRINT", value_parser = Text::new())]
    error_fingerprint: Option<String>,
}

/// The flags of [`FilterArgs`].
pub(super) const FILTERS: [&str; 10] = [
    "queue",
    "status",
    "kind",
    "labels",
    "schedule",
    "created_from",
    "created_to",
    "run_at_from",
    "run_at_to",
    "error_fingerprint",
];

fn parse_status(word: &str) -> Result<TaskStatus, String> {
    TaskStatus::of_word(word).map_err(|_: serde::de::value::Error| {
        "must be scheduled, pending, assigned, running, completed, failed, cancelled or expired"
            .to_owned()
    })
}

pub(super) fn filter(args: &FilterArgs) -> Result<TaskFilter, Failure> {
    Ok(TaskFilter {
        queue: args.queue.clone(),
        statuses: args.status.iter().map(|status| (*status).into()).collect(),
        kind: args.kind.clone(),
        labels: labels(&args.labels)?,
        created: Some(TimeRange { from: args.created_from, to: args.created_to }),
        run_at: Some(TimeRange { from: args.run_at_from, to: args.run_at_to }),
        schedule: args.schedule.clone(),
        error_fingerprint: args.error_fingerprint.clone(),
    })
}

/// The events that can change the list. A task that leaves the list has another status, due time or error than the
/// filter.
pub(super) fn changes(filter: &TaskFilter) -> EventFilter {
    let filter = TaskFilter {
        statuses: Vec::new(),
        run_at: None,
        error_fingerprint: None,
        ..filter.clone()
    };
    let types = vec!["task".to_owned()];
    WatchEventsRequest { filter: Some(filter), types, ..WatchEventsRequest::default() }.into()
}

/// Lists tasks, newest first.
pub(super) async fn list(
    client: &Client,
    filter: TaskFilter,
    limit: u32,
    format: Format,
) -> Result<(), Failure> {
    let all = read(client, &filter, limit).await?;
    if format.is_data() {
        output::list(&all, "tasks", format)?;
    } else {
        table(&all.tasks).print()?;
        if all.tasks.is_empty() {
            output::note("no tasks");
        }
    }
    if all.next_page_token.is_some() {
        let told = format!("showing the first {limit} tasks; use --limit to see more");
        output::more(&told, format);
    }
    Ok(())
}

/// Reads tasks page by page. The answer has a cursor if there are more.
pub(super) async fn read(
    client: &Client,
    filter: &TaskFilter,
    limit: u32,
) -> Result<ListTasksResponse, Failure> {
    let mut all = ListTasksResponse::default();
    let mut page_token = String::new();
    let mut page_size_max = 1000;
    loop {
        let left = limit.saturating_sub(u32::try_from(all.tasks.len()).unwrap_or(limit));
        if left == 0 {
            break;
        }
        let size = left.min(page_size_max);
        let ask = |page_size| {
            let (filter, page_token) = (Some(filter.clone()), page_token.clone());
            client.list_tasks(ListTasksRequest { filter, page_size, page_token })
        };
        let page = match ask(size).await {
            // The server's limit is lower: ask for a page of its default size.
            Err(error) if is_about(&error, "page_size") => {
                let page = ask(0).await?;
                page_size_max = u32::try_from(page.tasks.len()).unwrap_or(1).max(1);
                page
            }
            page => page?,
        };
        all.tasks.extend(page.tasks);
        all.next_page_token.clone_from(&page.next_page_token);
        match page.next_page_token {
            // A cursor that does not move would make this loop endless.
            Some(next) if next != page_token => page_token = next,
            _ => break,
        }
    }
    Ok(all)
}

/// Tasks as a table.
pub(super) fn table(tasks: &[Task]) -> Table {
    let mut table = Table::new([
        Column::new("ID").keep(),
        Column::new("KIND").rank(3).middle(),
        Column::new("QUEUE").rank(4).middle(),
        Column::new("STATUS").state(),
        Column::new("ATTEMPT").rank(5),
        Column::new("CREATED").rank(2),
        Column::new("DUE").wide(),
        Column::new("PRIORITY").wide(),
        Column::new("WORKER").wide(),
        Column::new("LABELS").wide(),
        Column::new("NOTE").end(),
    ]);
    for task in tasks {
        let labels: Vec<_> =
            task.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        table.row([
            task.id.clone(),
            task.kind.clone(),
            task.queue.clone(),
            task.status().word().to_owned(),
            attempt(task),
            output::when(task.created_at.unwrap_or_default()),
            output::when(task.run_at.unwrap_or_default()),
            task.priority.to_string(),
            or_dash(task.worker.clone().unwrap_or_default()),
            or_dash(labels.join(",")),
            note(task),
        ]);
    }
    table
}

/// The number of the attempt, of how many. A retried task can have more attempts than its budget, which begins anew.
fn attempt(task: &Task) -> String {
    let max = task.retry.unwrap_or_default().max_attempts();
    if task.attempt <= max { format!("{}/{max}", task.attempt) } else { task.attempt.to_string() }
}

/// Whether a request was refused because of this field.
fn is_about(error: &ClientError, name: &str) -> bool {
    match error {
        ClientError::Refused { violations, .. } => {
            violations.iter().any(|wrong| wrong.field == name)
        }
        _ => false,
    }
}

/// The column NOTE: why the task waits, its error or its progress.
fn note(task: &Task) -> String {
    let text = match (&task.waiting, &task.error, &task.progress) {
        (Some(waiting), ..) => waiting.message.as_str(),
        (None, Some(error), _) => error.message.as_str(),
        (None, None, Some(progress)) => progress.as_str(),
        (None, None, None) => "",
    };
    text.lines().next().unwrap_or_default().to_owned()
}

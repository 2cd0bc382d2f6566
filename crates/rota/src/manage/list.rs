//! `rota task list`, and the filters of tasks.

use std::time::Duration;

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError, Date, EventFilter, TimeSpan,
    v1::{
        ListTasksRequest, ListTasksResponse, Task, TaskFilter, TaskStatus, TimeRange,
        WatchEventsRequest,
    },
};
use rota_proto::json::Words as _;
use tokio::time::Instant;

use super::labels;
use crate::{
    dates,
    exit::{Exit, Failure},
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
    /// Only tasks with this text in an id, the last error, the payload, the description or the value of a label.
    /// Ignores the case of ASCII letters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new(), allow_hyphen_values = true)]
    search: Option<String>,
    /// Only tasks whose current or last attempt this worker runs or ran.
    #[arg(long, value_name = "NAME", value_parser = Text::new(), add = crate::complete::workers())]
    worker: Option<String>,
    /// Only tasks with one of these priorities, 0 to 9, separated by commas.
    #[arg(long = "priority", value_name = "N", value_delimiter = ',')]
    priorities: Vec<u32>,
}

/// How much `rota task list` shows.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListArgs {
    /// Maximum number of tasks to show.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Time after which to stop looking for more tasks [default: 10s with --search, otherwise no limit].
    #[arg(long, value_name = "TIME")]
    time_limit: Option<TimeSpan>,
}

/// Time after which a search stops. It can have to look at every task that is kept.
const SEARCH_TIME: Duration = Duration::from_secs(10);

/// The flags of [`FilterArgs`].
pub(super) const FILTERS: [&str; 13] = [
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
    "search",
    "worker",
    "priorities",
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
        search: args.search.clone(),
        worker: args.worker.clone(),
        priorities: args.priorities.clone(),
    })
}

/// The events that can change the list. A task that leaves the list has another status, due time, error, worker or
/// priority than the filter, and events cannot be searched.
pub(super) fn changes(filter: &TaskFilter) -> EventFilter {
    let filter = TaskFilter {
        statuses: Vec::new(),
        run_at: None,
        error_fingerprint: None,
        search: None,
        worker: None,
        priorities: Vec::new(),
        ..filter.clone()
    };
    let types = vec!["task".to_owned()];
    WatchEventsRequest { filter: Some(filter), types, ..WatchEventsRequest::default() }.into()
}

/// Lists tasks, newest first.
pub(super) async fn list(
    client: &Client,
    filter: TaskFilter,
    args: ListArgs,
    format: Format,
) -> Result<(), Failure> {
    let ListArgs { limit, time_limit } = args;
    let time_limit = match time_limit {
        Some(given) => Some(given.duration()),
        None => filter.search.as_ref().map(|_| SEARCH_TIME),
    };
    let all = read_within(client, &filter, limit, time_limit).await?;
    if format.is_data() {
        output::list(&all, "tasks", format)?;
    } else {
        table(&all.tasks).print()?;
        if all.tasks.is_empty() {
            output::note("no tasks");
        }
    }
    if all.next_page_token.is_some() {
        let told = if all.tasks.len() < limit as usize {
            format!("{}; use --time-limit to look further", looked_at(&all))
        } else {
            {
                let tasks = output::counted(limit.into(), "task", "tasks");
                format!("showing the first {tasks}; use --limit to see more")
            }
        };
        output::more(&told, format);
    }
    Ok(())
}

/// How far a list has looked.
fn looked_at(list: &ListTasksResponse) -> String {
    let examined = list.examined;
    match list.examined_back_to {
        Some(date) => format!("looked at {examined} tasks, back to {}", output::time(date)),
        None => format!("looked at {examined} tasks"),
    }
}

/// Reads tasks page by page. The answer has a cursor if there are more.
pub(super) async fn read(
    client: &Client,
    filter: &TaskFilter,
    limit: u32,
) -> Result<ListTasksResponse, Failure> {
    read_within(client, filter, limit, None).await
}

/// As [`read`], until the time is over.
async fn read_within(
    client: &Client,
    filter: &TaskFilter,
    limit: u32,
    time_limit: Option<Duration>,
) -> Result<ListTasksResponse, Failure> {
    let until = time_limit.map(|limit| Instant::now() + limit);
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
            let page = ListTasksRequest { filter, page_size, page_token, time_limit: None };
            client.list_tasks(page)
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
        if is_new(Some(filter)) {
            known(&page)?;
        }
        all.tasks.extend(page.tasks);
        all.next_page_token.clone_from(&page.next_page_token);
        all.examined = all.examined.saturating_add(page.examined);
        all.examined_back_to = page.examined_back_to;
        if until.is_some_and(|until| until <= Instant::now()) {
            break;
        }
        match page.next_page_token {
            // A cursor that does not move would make this loop endless.
            Some(next) if next != page_token => page_token = next,
            _ => break,
        }
    }
    Ok(all)
}

/// Checks that the server knows the properties of the filter. An older one ignores those that it does not know, and
/// would change more tasks than the filter selects.
///
/// # Errors
/// When it does not know them, or gives no answer.
pub(super) async fn check_known(client: &Client, filter: &TaskFilter) -> Result<(), Failure> {
    let time_limit = Some(TimeSpan::from(Duration::from_millis(100)));
    let filter = Some(filter.clone());
    let request = ListTasksRequest { filter, page_size: 1, time_limit, ..Default::default() };
    if is_new(request.filter.as_ref()) {
        known(&client.list_tasks(request).await?)?;
    }
    Ok(())
}

/// Whether the filter has properties that older servers do not know.
fn is_new(filter: Option<&TaskFilter>) -> bool {
    filter.is_some_and(|filter| {
        filter.search.is_some() || filter.worker.is_some() || !filter.priorities.is_empty()
    })
}

/// A server that knows the properties says how many tasks it examined.
fn known(page: &ListTasksResponse) -> Result<(), Failure> {
    if page.examined == 0 && !page.tasks.is_empty() {
        let why = "the server is too old to select tasks by text, worker or priority";
        return Err(Failure::new(Exit::Failure, why).hint("upgrade the server"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_ignores_the_search_is_noticed() {
        let filter = TaskFilter { search: Some("x".to_owned()), ..TaskFilter::default() };
        assert!(is_new(Some(&filter)));
        let filter = TaskFilter { priorities: vec![1], ..TaskFilter::default() };
        assert!(is_new(Some(&filter)));
        assert!(!is_new(Some(&TaskFilter::default())));
        let page = |examined, tasks| ListTasksResponse { examined, tasks, ..Default::default() };
        assert!(known(&page(0, vec![Task::default()])).is_err());
        assert!(known(&page(1, vec![Task::default()])).is_ok());
        assert!(known(&page(0, Vec::new())).is_ok());
    }
}

//! `rota task cancel`, `retry` and `delete`, for tasks by id or for all tasks that match a filter.

use std::collections::BTreeMap;

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError,
    v1::{self, BulkAction, Task, TaskFilter, TaskStatus},
};
use rota_proto::json::{BulkResult, Words};
use serde::Serialize;
use serde_json::json;

use super::{
    ids::{self, Failed},
    list::{self, FILTERS, FilterArgs, filter},
    show::show,
};
use crate::{
    ask::{self, Count},
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Tasks that `--dry-run` shows.
const SHOWN: u32 = 20;

/// Selects tasks by id, or the tasks of a filter.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Task id. Several can be given; - reads them from standard input, one on each line.
    #[arg(value_name = "ID", value_parser = Text::new(), required_unless_present_any = FILTERS.into_iter().chain(["all"]), conflicts_with_all = FILTERS, add = crate::complete::tasks())]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Select all tasks.
    #[arg(long, conflicts_with = "ids", conflicts_with_all = FILTERS)]
    all: bool,
    /// Show the tasks that would change and their number, and change nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

/// Applies an action to tasks.
pub(super) async fn change(
    client: &Client,
    which: Which,
    action: BulkAction,
    format: Format,
) -> Result<(), Failure> {
    if !which.ids.is_empty() && which.dry_run {
        return dry_run_of_each(client, which.ids, action, format).await;
    }
    if !which.ids.is_empty() {
        return each(client, which.ids, action, format).await;
    }
    let verb = action.word();
    let mut filter = filter(&which.filter)?;
    // Tasks of other states would only be skipped, one by one.
    if filter.statuses.is_empty() {
        filter.statuses = changeable(action).iter().map(|status| (*status).into()).collect();
    }
    list::check_known(client, &filter).await?;
    if which.dry_run {
        return dry_run(client, &filter, verb, format).await;
    }
    if !which.yes {
        ask::needs_terminal(verb, "tasks")?;
        let count = count(client, &filter).await?;
        if count == Count::Exactly(0) {
            output::note("no task matches");
        } else if !output::confirm(&format!("{verb} {}?", count.of("task")))? {
            return Err(Failure::new(Exit::Failure, "no task was changed"));
        }
    }
    let request = v1::BulkTasksRequest {
        action: action.into(),
        filter: Some(filter),
        limit: None,
        page_token: None,
        all: false,
        dry_run: false,
    };
    let ask = async |request| client.bulk_tasks(request).await;
    let (total, stopped) = page_by_page(request, ask).await;
    tell(&total, stopped, verb, format)
}

/// The states in which an action changes a task.
fn changeable(action: BulkAction) -> &'static [TaskStatus] {
    use TaskStatus::{
        Assigned, Cancelled, Completed, Expired, Failed, Pending, Running, Scheduled,
    };
    match action {
        BulkAction::Cancel => &[Scheduled, Pending, Assigned, Running],
        BulkAction::Retry => &[Failed, Cancelled, Expired],
        BulkAction::Delete | BulkAction::Unspecified => &[Completed, Failed, Cancelled, Expired],
    }
}

/// What became of a task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Done {
    Task(Box<Task>),
    Deleted { id: String, deleted: bool },
}

/// Applies the action to one task after the other.
async fn each(
    client: &Client,
    ids: Vec<String>,
    action: BulkAction,
    format: Format,
) -> Result<(), Failure> {
    let named = ids::read(ids)?;
    let mut failed = Failed::default();
    let (mut done, mut stopped) = (Vec::new(), Ok(()));
    for id in &named.ids {
        let changed = match action {
            BulkAction::Cancel => client.cancel_task(id).await.map(Some),
            BulkAction::Retry => client.retry_task(id).await.map(Some),
            BulkAction::Delete | BulkAction::Unspecified => {
                client.delete_task(id).await.map(|()| None)
            }
        };
        match changed {
            Err(error) => {
                stopped = failed.tell(id, error.into(), &named, format);
                if stopped.is_err() {
                    break;
                }
            }
            Ok(Some(task)) if named.is_one || !format.is_data() => show(&task, format)?,
            Ok(None) if !format.is_data() => output::line(&format!("{id} deleted"))?,
            Ok(Some(task)) => done.push(Done::Task(Box::new(task))),
            Ok(None) => done.push(Done::Deleted { id: id.clone(), deleted: true }),
        }
    }
    match done.pop() {
        Some(only) if named.is_one => output::data(&only, format)?,
        last if format.is_data() && !named.is_one => {
            done.extend(last);
            output::list(&BTreeMap::from([("tasks", done)]), "tasks", format)?;
        }
        _ => {}
    }
    stopped?;
    failed.end(&named)
}

/// Shows what the action would change.
async fn dry_run(
    client: &Client,
    filter: &TaskFilter,
    verb: &str,
    format: Format,
) -> Result<(), Failure> {
    let count = count(client, filter).await?;
    let first = list::read(client, filter, SHOWN).await?;
    would_change(&first.tasks, count, verb, format)
}

/// Shows which of these tasks the action would change.
async fn dry_run_of_each(
    client: &Client,
    ids: Vec<String>,
    action: BulkAction,
    format: Format,
) -> Result<(), Failure> {
    let named = ids::read(ids)?;
    let mut failed = Failed::default();
    let mut tasks = Vec::new();
    for id in &named.ids {
        match client.get_task(id).await {
            Ok(task) if changeable(action).contains(&task.status()) => tasks.push(task),
            Ok(task) if format.is_data() => drop(task),
            Ok(task) => output::note(&format!("{id} would stay {}", task.status().word())),
            Err(error) => failed.tell(id, error.into(), &named, format)?,
        }
    }
    let count = Count::Exactly(tasks.len());
    tasks.truncate(SHOWN as usize);
    would_change(&tasks, count, action.word(), format)?;
    failed.end(&named)
}

/// Shows what a change would do: the first of its tasks, and their number.
fn would_change(first: &[Task], count: Count, verb: &str, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        let (number, exact) = count.parts();
        return output::data(
            &json!({ "dry_run": true, "action": verb, "count": number, "exact": exact }),
            format,
        );
    }
    if !first.is_empty() {
        list::table(first).print()?;
        output::line("")?;
    }
    output::line(&format!("would {verb} {}; nothing was changed", count.of("task")))
}

/// How many tasks match.
async fn count(client: &Client, filter: &TaskFilter) -> Result<Count, Failure> {
    let found = list::read(client, filter, ask::COUNTED).await?;
    Ok(Count::new(found.tasks.len(), found.next_page_token.is_some()))
}

/// Changes page after page. Returns the counts, and the failure that stopped it before the last page.
async fn page_by_page(
    mut request: v1::BulkTasksRequest,
    ask: impl AsyncFn(v1::BulkTasksRequest) -> Result<v1::BulkTasksResponse, ClientError>,
) -> (BulkResult, Option<Failure>) {
    let mut total = BulkResult::default();
    loop {
        let result = match ask(request.clone()).await {
            Ok(result) => BulkResult::from(result),
            Err(error) => return (total, Some(error.into())),
        };
        total.changed += result.changed;
        total.skipped += result.skipped;
        total.refused += result.refused;
        total.examined = total.examined.saturating_add(result.examined);
        total.refusal = total.refusal.or(result.refusal);
        total.next_cursor.clone_from(&result.next_cursor);
        match result.next_cursor {
            None => return (total, None),
            Some(next) if request.page_token.as_ref() != Some(&next) => {
                request.page_token = Some(next);
            }
            Some(_) => {
                let why = "the server cannot change the next task now";
                return (total, Some(Failure::new(Exit::Refused, why).hint("try again later")));
            }
        }
    }
}

/// Prints what was changed, also after a failure.
fn tell(
    total: &BulkResult,
    stopped: Option<Failure>,
    verb: &str,
    format: Format,
) -> Result<(), Failure> {
    let stopped = match stopped {
        Some(failure) if total.changed + total.skipped + total.refused == 0 => return Err(failure),
        stopped => stopped,
    };
    if format.is_data() {
        output::data(total, format)?;
    } else {
        let mut line = format!("{} changed", total.changed);
        if total.skipped > 0 {
            line.push_str(&format!(", {} skipped because of their status", total.skipped));
        }
        if let Some(refusal) = &total.refusal {
            let more = format!(", {} refused: {}", total.refused, refusal.message);
            line.push_str(&more);
        }
        output::line(&line)?;
    }
    match stopped {
        // The command made progress, and the counts are printed: not a failure.
        None if total.changed > 0 || total.refused == 0 => Ok(()),
        None => Err(Failure::new(Exit::Refused, "no task was changed").hint("try again later")),
        Some(failure) => Err(failure.after(&format!("{verb} stopped early"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rota_client::ErrorKind;

    use super::*;

    type Answer = Result<(u32, &'static str), ErrorKind>;

    /// The outcome of these answers, and the cursors of the requests.
    async fn after(answers: &[Answer]) -> (BulkResult, Option<Failure>, Vec<String>) {
        let asked = Mutex::new(Vec::new());
        let ask = async |request: v1::BulkTasksRequest| {
            let mut asked = asked.lock().unwrap();
            asked.push(request.page_token.unwrap_or_default());
            let answer = answers[asked.len() - 1];
            answer
                .map(|(changed, next)| v1::BulkTasksResponse {
                    changed,
                    skipped: 1,
                    next_page_token: Some(next.to_owned()).filter(|next| !next.is_empty()),
                    ..Default::default()
                })
                .map_err(|kind| ClientError::Refused {
                    kind,
                    message: "queue mail is full".to_owned(),
                    reason: String::new(),
                    violations: Vec::new(),
                    retry_after: None,
                })
        };
        let (total, stopped) = page_by_page(v1::BulkTasksRequest::default(), ask).await;
        (total, stopped, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn pages_are_followed_to_the_last() {
        let (total, stopped, asked) = after(&[Ok((1000, "a")), Ok((5, "b")), Ok((0, ""))]).await;
        assert_eq!((total.changed, total.skipped, total.next_cursor), (1005, 3, None));
        assert!(stopped.is_none());
        assert_eq!(asked, ["", "a", "b"]);
    }

    #[tokio::test]
    async fn what_was_changed_before_a_refusal_is_kept() {
        let (total, stopped, _) = after(&[Ok((5, "a")), Err(ErrorKind::ResourceExhausted)]).await;
        assert_eq!((total.changed, total.next_cursor.as_deref()), (5, Some("a")));
        assert_eq!(stopped.as_ref().map(|failure| failure.exit), Some(Exit::Refused));
        let told = tell(&total, stopped, "retry", Format::Table).expect_err("it is not all");
        let told = told.to_string();
        assert!(told.starts_with("retry stopped early: queue mail is full"), "{told}");
        // No task was changed: only the refusal is printed.
        let (total, stopped, _) = after(&[Err(ErrorKind::ResourceExhausted)]).await;
        let told = tell(&total, stopped, "retry", Format::Table).expect_err("refused");
        assert!(told.to_string().starts_with("queue mail is full"), "{told}");
    }

    #[test]
    fn a_command_that_changed_nothing_because_it_was_refused_fails() {
        for (changed, refused, fails) in [(5, 5, false), (0, 0, false), (0, 5, true)] {
            let total = BulkResult { changed, refused, ..BulkResult::default() };
            assert_eq!(tell(&total, None, "retry", Format::Table).is_err(), fails);
        }
    }

    #[tokio::test]
    async fn a_cursor_that_does_not_move_is_the_end() {
        let (total, stopped, asked) = after(&[Ok((5, "a")), Ok((0, "a"))]).await;
        assert_eq!((total.changed, asked.len()), (5, 2));
        assert!(stopped.is_some());
    }
}

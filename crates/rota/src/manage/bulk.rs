//! `rota task cancel`, `retry` and `delete`, for one task or for all tasks that match a filter.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError,
    v1::{self, BulkAction},
};
use rota_proto::json::{BulkResult, Words};

use super::task::{FILTERS, FilterArgs, filter, show};
use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Selects one task, or the tasks of a filter.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Task id.
    #[arg(value_parser = Text::new(), required_unless_present_any = FILTERS.into_iter().chain(["all"]), conflicts_with_all = FILTERS)]
    id: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Select all tasks.
    #[arg(long, conflicts_with = "id", conflicts_with_all = FILTERS)]
    all: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

/// Applies an action to one task or to the tasks of a filter.
pub(super) async fn change(
    client: &Client,
    which: Which,
    action: BulkAction,
    format: Format,
) -> Result<(), Failure> {
    if let Some(id) = which.id {
        return match action {
            BulkAction::Cancel => show(&client.cancel_task(&id).await?, format),
            BulkAction::Retry => show(&client.retry_task(&id).await?, format),
            BulkAction::Delete | BulkAction::Unspecified => {
                client.delete_task(&id).await?;
                if format == Format::Json {
                    output::json(&serde_json::json!({ "id": id, "deleted": true }))
                } else {
                    output::line(&format!("{id} deleted"))
                }
            }
        };
    }
    let verb = action.word();
    let filter = filter(&which.filter)?;
    if !which.yes {
        if !output::is_interactive() {
            return Err(Failure::usage(format!(
                "cannot ask for confirmation without a terminal; add --yes to {verb} many tasks"
            )));
        }
        let which = if which.all { "" } else { " that match the filter" };
        if !output::confirm(&format!("{verb} all tasks{which}?"))? {
            return Err(Failure::new(Exit::Failure, "no task was changed"));
        }
    }
    let request = v1::BulkTasksRequest {
        action: action.into(),
        filter: Some(filter),
        limit: None,
        page_token: None,
        all: which.all,
    };
    let ask = async |request| client.bulk_tasks(request).await;
    let (total, stopped) = page_by_page(request, ask).await;
    tell(&total, stopped, verb, format)
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
    match format {
        Format::Json => output::json(total)?,
        Format::Table => {
            let mut line = format!(
                "{} changed, {} skipped because of their status",
                total.changed, total.skipped
            );
            if let Some(refusal) = &total.refusal {
                let more = format!(", {} refused: {}", total.refused, refusal.message);
                line.push_str(&more);
            }
            output::line(&line)?;
        }
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

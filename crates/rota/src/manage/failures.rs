//! `rota task failures` and `rota task count`.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, Date,
    v1::{
        CountTasksRequest, FailureState, ListFailuresRequest, ListFailuresResponse, TaskFilter,
        TimeRange,
    },
};

use crate::{
    dates,
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Selects failures.
#[derive(Debug, Args)]
pub(crate) struct FailuresArgs {
    /// Only tasks in this queue.
    #[arg(long, value_parser = Text::new(), add = crate::complete::queues())]
    queue: Option<String>,
    /// Only tasks of this kind.
    #[arg(long, value_parser = Text::new(), add = crate::complete::kinds())]
    kind: Option<String>,
    /// Only failures at this time or later, such as 1h, "2 days ago", yesterday or 2026-12-24T17:00.
    #[arg(long, visible_alias = "since", value_name = "DATE", value_parser = dates::since)]
    failed_from: Option<Date>,
    /// Only failures before this time. A day such as yesterday is included.
    #[arg(long, visible_alias = "until", value_name = "DATE", value_parser = dates::until)]
    failed_to: Option<Date>,
    /// Group tasks that wait for another attempt instead of failed tasks.
    #[arg(long)]
    retrying: bool,
    /// Maximum number of groups to show, 1 to 1000 [default: 50].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

/// Lists groups of failures.
pub(super) async fn list(
    client: &Client,
    args: FailuresArgs,
    format: Format,
) -> Result<(), Failure> {
    let state = if args.retrying { FailureState::Retrying } else { FailureState::Failed };
    let request = ListFailuresRequest {
        queue: args.queue,
        kind: args.kind,
        failed: Some(TimeRange { from: args.failed_from, to: args.failed_to }),
        state: state.into(),
        limit: args.limit,
        time_limit: None,
    };
    let found = client.list_failures(request).await?;
    if format.is_data() {
        output::list(&found, "groups", format)?;
    } else {
        table(&found).print()?;
        if found.groups.is_empty() {
            output::note("no failures");
        }
    }
    if found.other > 0 {
        let told = format!("{} tasks are in other groups; use --limit to see more", found.other);
        output::more(&told, format);
    }
    if !found.complete {
        let told = format!(
            "examined only the newest {} tasks; use --queue or --kind to see older failures",
            found.examined
        );
        output::more(&told, format);
    }
    Ok(())
}

fn table(found: &ListFailuresResponse) -> Table {
    let mut table = Table::new([
        Column::new("KIND").middle(),
        Column::new("MESSAGE").rank(0).end(),
        Column::new("COUNT"),
        Column::new("FIRST").wide(),
        Column::new("LAST").rank(2),
        Column::new("QUEUES").wide(),
        Column::new("TASKS").wide(),
        Column::new("FINGERPRINT").keep(),
    ]);
    for group in &found.groups {
        table.row([
            group.kind.clone(),
            group.message.clone(),
            group.count.to_string(),
            output::when(group.first_at.unwrap_or_default()),
            output::when(group.last_at.unwrap_or_default()),
            group.queues.join(","),
            group.tasks.join(","),
            group.error_fingerprint.clone(),
        ]);
    }
    table
}

/// Counts tasks.
pub(super) async fn count(
    client: &Client,
    filter: TaskFilter,
    format: Format,
) -> Result<(), Failure> {
    let request = CountTasksRequest { filter: Some(filter), time_limit: None };
    let counted = client.count_tasks(request).await?;
    if format.is_data() {
        return output::data(&counted, format);
    }
    let at_least = if counted.at_least { "at least " } else { "" };
    output::line(&format!("{at_least}{}", counted.count))
}

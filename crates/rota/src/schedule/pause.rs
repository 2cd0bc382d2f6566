//! `rota schedule pause` and `resume`, for one schedule or for all that match a filter.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client,
    v1::{
        BulkSchedulesResponse, PauseScheduleRequest, PauseSchedulesRequest, ResumeSchedulesRequest,
        Schedule, ScheduleRequest,
    },
};
use serde_json::json;

use super::{
    select::{FILTERS, SelectArgs},
    show::{page, state, table},
};
use crate::{
    ask::{self, Count},
    author::AuthorArgs,
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Schedules to change in one request.
const LIMIT: u32 = 1000;
/// Schedules that `--dry-run` shows.
const SHOWN: usize = 20;

/// Selects one schedule, or the schedules of a filter.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Name of the schedule.
    #[arg(value_parser = Text::new(), required_unless_present_any = FILTERS.into_iter().chain(["all"]), conflicts_with_all = FILTERS, add = crate::complete::schedules())]
    name: Option<String>,
    #[command(flatten)]
    select: SelectArgs,
    /// Select all schedules.
    #[arg(long, conflicts_with = "name", conflicts_with_all = FILTERS)]
    all: bool,
    /// Show the schedules that would change and their number, and change nothing.
    #[arg(long, conflicts_with_all = ["name", "yes"])]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

/// What to pause, who does it, and why.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    author: AuthorArgs,
}

/// Pauses schedules.
pub(super) async fn pause(args: PauseArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let PauseArgs { which, author } = args;
    let (note, by) = author.note_and_author();
    if let Some(name) = which.name {
        let schedule = client.pause_schedule(PauseScheduleRequest { name, note, by }).await?;
        return if format.is_data() {
            output::data(&schedule, format)
        } else {
            output::line(&format!("{} {}", schedule.name, state(&schedule)))
        };
    }
    let is_running = |schedule: &Schedule| schedule.pause.is_none();
    if !confirmed(&which, "pause", is_running, client, format).await? {
        return Ok(());
    }
    let request = PauseSchedulesRequest {
        filter: Some(which.select.filter()?),
        all: which.all,
        limit: Some(LIMIT),
        note,
        by,
    };
    let ask = async || client.pause_schedules(request.clone()).await;
    page_by_page(ask, "paused", format).await
}

/// Resumes schedules.
pub(super) async fn resume(which: Which, client: &Client, format: Format) -> Result<(), Failure> {
    if let Some(name) = which.name {
        let schedule = client.resume_schedule(ScheduleRequest { name }).await?;
        return if format.is_data() {
            output::data(&schedule, format)
        } else {
            output::line(&format!("{} {}", schedule.name, state(&schedule)))
        };
    }
    let is_paused = |schedule: &Schedule| schedule.pause.is_some();
    if !confirmed(&which, "resume", is_paused, client, format).await? {
        return Ok(());
    }
    let request = ResumeSchedulesRequest {
        filter: Some(which.select.filter()?),
        all: which.all,
        limit: Some(LIMIT),
    };
    let ask = async || client.resume_schedules(request.clone()).await;
    page_by_page(ask, "resumed", format).await
}

/// Asks, or shows the schedules that would change for `--dry-run`. Returns whether to go on.
async fn confirmed(
    which: &Which,
    verb: &str,
    would_change: impl Fn(&Schedule) -> bool,
    client: &Client,
    format: Format,
) -> Result<bool, Failure> {
    if which.yes {
        return Ok(true);
    }
    if !which.dry_run {
        ask::needs_terminal(verb, "schedules")?;
    }
    let mut found = page(client, &which.select, ask::COUNTED).await?;
    found.schedules.retain(would_change);
    let count = Count::new(found.schedules.len(), found.next_page_token.is_some());
    let told = count.of("schedule");
    if which.dry_run {
        if format.is_data() {
            let (number, exact) = count.parts();
            let told = json!({ "dry_run": true, "action": verb, "count": number, "exact": exact });
            output::data(&told, format)?;
        } else {
            found.schedules.truncate(SHOWN);
            if !found.schedules.is_empty() {
                table(&found.schedules).print()?;
                output::line("")?;
            }
            output::line(&format!("would {verb} {told}; nothing was changed"))?;
        }
        return Ok(false);
    }
    if output::confirm(&format!("{verb} {told}?"))? {
        Ok(true)
    } else {
        Err(Failure::new(Exit::Failure, "no schedule was changed"))
    }
}

/// Repeats the request until it changes less than its limit.
async fn page_by_page(
    ask: impl AsyncFn() -> Result<BulkSchedulesResponse, rota_client::ClientError>,
    done: &str,
    format: Format,
) -> Result<(), Failure> {
    let mut total = 0_u64;
    let stopped = loop {
        match ask().await {
            Ok(BulkSchedulesResponse { changed }) => {
                total += u64::from(changed);
                // Those that were changed are not selected again.
                if changed < LIMIT {
                    break None;
                }
            }
            Err(error) => break Some(Failure::from(error)),
        }
    };
    match stopped {
        Some(failure) if total == 0 => return Err(failure),
        _ => {
            if format.is_data() {
                output::data(&json!({ "changed": total }), format)?;
            } else {
                output::line(&format!("{total} {done}"))?;
            }
        }
    }
    stopped.map_or(Ok(()), |failure| Err(failure.after("stopped early")))
}

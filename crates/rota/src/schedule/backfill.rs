//! `rota schedule backfill`: the tasks of past ticks.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, TimeSpan,
    v1::{
        BackfillOrder, BackfillScheduleRequest, BackfillScheduleResponse, BackfillScope,
        ScheduleRequest,
    },
};

use super::dates;
use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
};

/// The range of a backfill, and how its tasks are created.
#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// Name of the schedule.
    #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
    name: String,
    /// First nominal time, such as 2026-03-01 or 2026-03-01T12:00. A local time is in the time zone of the schedule.
    #[arg(long, value_name = "DATE", value_parser = Text::new(), required_unless_present = "cancel")]
    from: Option<String>,
    /// Last nominal time. A day means all of it, and today its part until now [default: now].
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    to: Option<String>,
    /// Count the ticks, and create nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Run the tasks beside each other. Without it, each task is created when the one before it has ended.
    #[arg(long)]
    parallel: bool,
    /// Minimum time between two tasks [default: 0s].
    #[arg(long, value_name = "TIME")]
    interval: Option<TimeSpan>,
    /// Priority of the tasks, 0 to 9 [default: that of the schedule].
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<u32>,
    /// Also create tasks for ticks that have one. Without it, only for those without a task.
    #[arg(long)]
    all: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
    /// Cancel the backfill that is under way. Its tasks stay.
    #[arg(long, conflicts_with_all = ["from", "to", "dry_run", "parallel", "interval", "priority", "all", "yes"])]
    cancel: bool,
}

/// Begins, counts or cancels a backfill.
pub(super) async fn run(
    args: BackfillArgs,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    if args.cancel {
        let schedule = client.cancel_backfill(ScheduleRequest { name: args.name }).await?;
        return if format.is_data() {
            output::data(&schedule, format)
        } else {
            output::line(&format!("{} backfill cancelled", schedule.name))
        };
    }
    let zone = dates::zone_of(client, &args.name).await?;
    let from = args.from.as_deref().map(|text| dates::begin("--from", text, &zone)).transpose()?;
    let to = args.to.as_deref().map(|text| dates::past_end("--to", text, &zone)).transpose()?;
    let mut request = BackfillScheduleRequest {
        name: args.name,
        from,
        to: to.flatten(),
        order: args.parallel.then(|| BackfillOrder::Parallel.into()),
        priority: args.priority,
        interval: args.interval,
        scope: args.all.then(|| BackfillScope::All.into()),
        dry_run: true,
    };
    if args.dry_run || !args.yes {
        let count = client.backfill_schedule(request.clone()).await?;
        if args.dry_run {
            return if format.is_data() {
                output::data(&count, format)
            } else {
                output::line(&counted(&count))
            };
        }
        ask(&count)?;
    }
    request.dry_run = false;
    let begun = client.backfill_schedule(request).await?;
    if format.is_data() {
        return output::data(&begun, format);
    }
    output::line(&counted(&begun))?;
    let name = begun.schedule.map(|schedule| schedule.name).unwrap_or_default();
    output::line(&format!("{name} backfill begun; `rota schedule get {name}` shows its progress"))
}

fn ask(count: &BackfillScheduleResponse) -> Result<(), Failure> {
    if !output::is_interactive() {
        let why = "cannot ask for confirmation without a terminal; add --yes to begin the backfill";
        return Err(Failure::usage(why).hint(counted(count)));
    }
    output::note(&counted(count));
    if output::confirm("begin the backfill?")? {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failure, "no task was created"))
    }
}

fn counted(count: &BackfillScheduleResponse) -> String {
    let BackfillScheduleResponse { occurrences, present, missing, to_create, more, .. } = count;
    let more = if *more { " The range has more ticks than were counted." } else { "" };
    format!(
        "{occurrences} ticks, {present} have a task, {missing} have none (never had one, or it was removed after its \
         retention): {to_create} tasks to create.{more}"
    )
}

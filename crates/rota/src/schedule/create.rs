//! `rota schedule create`: a schedule from flags.

use std::time::Duration;

use clap::{ArgGroup, Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, Reason, TimeSpan,
    v1::{
        CalendarRule, CatchUp, Exclusions, Fold, Gap, Interval, OnHoliday, Overlap,
        PutScheduleRequest, PutScheduleResponse, ScheduleDefinition, TaskTemplate,
    },
};
use rota_proto::json::Words as _;

use super::{args::interval, times, words};
use crate::{
    exit::Failure,
    manage::{
        labels,
        work::{Work, WorkArgs},
    },
    output::{self, Format},
};

/// A schedule.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("runs").required(true).multiple(true).args(["cron", "every", "at"]))]
#[command(group = ArgGroup::new("task").required(true).multiple(true).args(["kind", "command", "http"]))]
pub(crate) struct CreateArgs {
    /// Name of the schedule, up to 90 characters.
    #[arg(value_parser = Text::new())]
    name: String,
    /// Cron expression in quotes, such as '30 2 * * *'. Can be repeated.
    #[arg(long, value_name = "EXPRESSION", value_parser = Text::new())]
    cron: Vec<String>,
    /// Interval, counted from 1970-01-01T00:00:00Z, with an optional shift: 90m or 90m/10m. Can be repeated.
    #[arg(long, value_name = "EVERY[/SHIFT]", value_parser = every)]
    every: Vec<Interval>,
    /// Single date with a time, such as 2026-12-24T18:00. Can be repeated.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    at: Vec<String>,
    /// IANA name of the time zone [default: CRON_TZ= of an expression, else UTC].
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    time_zone: Option<String>,
    /// Runs of fixed times that a clock set forward jumps over: once at the end of the gap, not at all, or later by
    /// the length of the gap [default: end].
    #[arg(long, value_parser = words::<Gap>())]
    gap: Option<Gap>,
    /// Runs of fixed times that a clock set back shows twice [default: first].
    #[arg(long, value_parser = words::<Fold>())]
    fold: Option<Fold>,
    /// Day (2026-12-25), range with its last day (2026-12-24..2026-12-26) or date with a time to exclude. Can be
    /// repeated.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    exclude_date: Vec<String>,
    /// Cron expression to exclude, such as '* * * * SAT,SUN'. Can be repeated.
    #[arg(long, value_name = "EXPRESSION", value_parser = Text::new())]
    exclude: Vec<String>,
    /// Calendar on the server, and what happens to runs on its days: skip them, or move them to the nearest free day
    /// before or after [default: skip]. Can be repeated.
    #[arg(long, value_name = "NAME[=skip|before|after]", value_parser = calendar)]
    calendar: Vec<CalendarRule>,
    /// First date that counts.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    start: Option<String>,
    /// Last date that counts.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    end: Option<String>,
    /// Maximum delay of each run, to spread load. The delay of a run is always the same [default: 0s].
    #[arg(long, value_name = "TIME")]
    tick_jitter: Option<TimeSpan>,
    /// What happens to a tick while the task of an earlier tick has not ended [default: skip].
    #[arg(long, value_parser = words::<Overlap>())]
    overlap: Option<Overlap>,
    /// Ticks to run that could not be decided in time [default: last].
    #[arg(long, value_parser = words::<CatchUp>())]
    catch_up: Option<CatchUp>,
    /// Age at which a tick is missed [default: 1d].
    #[arg(long, value_name = "TIME")]
    catch_up_window: Option<TimeSpan>,
    /// Maximum number of late ticks that create tasks with --catch-up all [default: 100].
    #[arg(long, value_name = "N")]
    catch_up_max: Option<u32>,
    /// Pause the schedule after this number of failed tasks in a row [default: never].
    #[arg(long, value_name = "N")]
    pause_on_failure: Option<u32>,
    /// Complete the schedule after this number of tasks [default: never].
    #[arg(long, value_name = "N")]
    max_runs: Option<u64>,
    /// Label of the schedule. Can be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Description of the schedule for people, up to 256 characters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new())]
    description: Option<String>,
    #[command(flatten)]
    work: WorkArgs,
    /// Start deadline of each task, as time after its nominal time [default: none].
    #[arg(long, value_name = "TIME")]
    expires_after: Option<TimeSpan>,
    /// Label of the tasks. Can be repeated.
    #[arg(long = "task-label", value_name = "NAME=VALUE")]
    task_labels: Vec<String>,
    /// Description of the tasks for people, up to 256 characters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new())]
    task_description: Option<String>,
    /// Replace the schedule if it exists.
    #[arg(long)]
    replace: bool,
}

fn every(text: &str) -> Result<Interval, String> {
    let spec = interval(text)?;
    let phase = (spec.phase > Duration::ZERO).then(|| spec.phase.into());
    Ok(Interval { every: Some(spec.every.into()), phase })
}

fn calendar(text: &str) -> Result<CalendarRule, String> {
    let (name, rule) = text.split_once('=').unwrap_or((text, "skip"));
    if name.is_empty() {
        return Err("the name of the calendar is missing; use NAME=skip".to_owned());
    }
    let rule = OnHoliday::of_word(rule).map_err(|_: serde::de::value::Error| {
        format!("{rule:?} is not a rule for holidays; use skip, before or after")
    })?;
    Ok(CalendarRule { name: name.to_owned(), on_holiday: Some(rule.into()) })
}

/// Creates the schedule, and tells its next run.
pub(super) async fn run(args: CreateArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let expected_version = (!args.replace).then_some(0);
    let definition = Some(definition(args)?);
    let put = client.put_schedule(PutScheduleRequest { definition, expected_version }).await;
    let PutScheduleResponse { schedule, created, changed } = put.map_err(|error| {
        let exists = error.reason() == Some(Reason::VersionConflict);
        let failure = Failure::from(error);
        if exists {
            failure.hint("use --replace to replace the schedule that exists")
        } else {
            failure
        }
    })?;
    let schedule = schedule.unwrap_or_default();
    if format.is_data() {
        return output::data(&schedule, format);
    }
    let what = match (created, changed) {
        (true, _) => "created",
        (false, true) => "replaced",
        (false, false) => "unchanged",
    };
    output::line(&format!("{} {what}", schedule.name))?;
    output::line(&schedule.sentence)?;
    let next = schedule.next_time.map_or_else(|| "none".to_owned(), times::coming);
    output::line(&format!("Next run: {next}"))?;
    schedule.warnings.iter().try_for_each(|text| output::line(&format!("warning: {text}")))
}

fn definition(args: CreateArgs) -> Result<ScheduleDefinition, Failure> {
    let Work { kind, payload, queue, priority, timeout, retry, retention } = args.work.read()?;
    let exclude = Exclusions {
        expressions: args.exclude,
        dates: args.exclude_date,
        calendars: args.calendar,
    };
    let template = TaskTemplate {
        queue,
        kind,
        payload,
        labels: labels_of("--task-label", &args.task_labels)?,
        priority,
        expires_after: args.expires_after,
        timeout,
        retry,
        retention,
        description: args.task_description,
    };
    Ok(ScheduleDefinition {
        name: Some(args.name),
        expressions: args.cron,
        intervals: args.every,
        dates: args.at,
        exclude: (exclude != Exclusions::default()).then_some(exclude),
        start: args.start,
        end: args.end,
        time_zone: args.time_zone,
        gap: args.gap.map(Into::into),
        fold: args.fold.map(Into::into),
        jitter: args.tick_jitter,
        overlap: args.overlap.map(Into::into),
        catch_up: args.catch_up.map(Into::into),
        catch_up_window: args.catch_up_window,
        catch_up_max: args.catch_up_max,
        pause_on_failure: args.pause_on_failure,
        max_runs: args.max_runs,
        labels: labels(&args.labels)?,
        description: args.description,
        template: Some(template),
    })
}

/// Labels of a flag with another name.
fn labels_of(
    flag: &str,
    values: &[String],
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    labels(values).map_err(|failure| failure.after(flag))
}

//! `rota schedule why`: why a schedule does what it does: its next run, what holds it up, and what happened last.

use rota_client::{
    Client, Reason,
    v1::{
        Overlap, PreviewScheduleRequest, Schedule, ScheduleDefinition, ScheduleRequest,
        ScheduleState, Task, Tick, TickOutcome, TimeRange, UpcomingRun,
    },
};
use rota_proto::json::Words as _;
use serde_json::json;

use super::{
    apply::known,
    show::state,
    ticks,
    times::{coming, progress, time},
};
use crate::{
    exit::Failure,
    output::{self, Format},
};

/// Number of ticks to show.
const TICKS: u32 = 10;
/// Number of coming runs to read. The first of them can be skipped.
const RUNS: u32 = 5;

/// All that is known.
struct Known {
    schedule: Schedule,
    upcoming: Vec<UpcomingRun>,
    ticks: Vec<Tick>,
    running: Option<Task>,
}

/// Explains a schedule.
pub(super) async fn run(name: &str, client: &Client, format: Format) -> Result<(), Failure> {
    let schedule = client.get_schedule(ScheduleRequest { name: name.to_owned() }).await?;
    let request = PreviewScheduleRequest { name: name.to_owned(), count: Some(RUNS), from: None };
    let upcoming = client.preview_schedule(request).await?.upcoming;
    let ticks = ticks::read(client, name, TimeRange::default(), TICKS).await?.ticks;
    let running = match &schedule.running_task {
        Some(id) => known(client.get_task(id).await, Reason::UnknownTask)?,
        None => None,
    };
    let known = Known { schedule, upcoming, ticks, running };
    if format.is_data() {
        let Known { schedule, upcoming, ticks, running } = known;
        return output::data(
            &json!({
                "schedule": schedule, "upcoming": upcoming, "ticks": ticks, "running_task": running,
            }),
            format,
        );
    }
    sentences(&known).iter().try_for_each(|line| output::line(line))?;
    if !known.ticks.is_empty() {
        output::line("\nLast ticks:")?;
        ticks::table(&known.ticks).print()?;
    }
    Ok(())
}

fn sentences(known: &Known) -> Vec<String> {
    let Known { schedule, upcoming, ticks, running } = known;
    let mut lines = vec![
        format!("{} is {}", schedule.name, state(schedule)),
        format!("Runs: {}", schedule.sentence),
    ];
    let next = upcoming.iter().find(|run| run.fires);
    lines.push(match (schedule.state(), next) {
        (ScheduleState::Completed, _) | (ScheduleState::Active, None) => {
            "Next run: none; no time remains".to_owned()
        }
        (ScheduleState::Active, Some(run)) => next_run(run),
        _ => format!("Next run: none while it is paused; `rota schedule resume {}`", schedule.name),
    });
    let skipped = upcoming.iter().take_while(|run| !run.fires);
    lines.extend(skipped.map(|run| {
        let reason = run.skip_reason.as_deref().unwrap_or("skipped");
        format!("Skipped before that: {} ({reason})", run.local_time)
    }));
    if let Some(task) = running {
        lines.push(held_up(schedule, task));
    } else if let Some(id) = &schedule.running_task {
        lines.push(format!("Running task: {id}"));
    }
    for at in &schedule.queued_times {
        lines.push(format!("Waiting for its turn: the tick of {}", time(*at)));
    }
    if let Some(backfill) = &schedule.backfill {
        lines.push(format!("Backfill: {}", progress(backfill)));
    }
    if schedule.failures_in_a_row > 0 {
        let failures = schedule.failures_in_a_row;
        lines.push(format!("Failed tasks in a row: {failures}"));
    }
    let last = schedule.last_success_time.map_or_else(|| "never".to_owned(), coming);
    lines.push(format!("Last success: {last}"));
    if ticks.is_empty() {
        lines.push("No tick was decided yet.".to_owned());
    } else if let Some(bad) = ticks.iter().find(|tick| is_bad(tick)) {
        let at = time(bad.last_nominal_time.or(bad.nominal_time).unwrap_or_default());
        lines.push(format!("Last tick without a task: {at}, {}", ticks::outcome(bad)));
    }
    lines
}

/// The next run in the time zone of the schedule, and in UTC if that is another.
fn next_run(run: &UpcomingRun) -> String {
    let nominal = coming(run.nominal_time.unwrap_or_default());
    if run.local_time.ends_with("+00:00") {
        return format!("Next run: {nominal}");
    }
    format!("Next run: {} is {nominal}", run.local_time)
}

fn is_bad(tick: &Tick) -> bool {
    !matches!(tick.outcome(), TickOutcome::Fired | TickOutcome::Queued)
}

/// The task that later ticks wait for, and what it does.
fn held_up(schedule: &Schedule, task: &Task) -> String {
    let waiting = task.waiting.as_ref().map(|waiting| format!(": {}", waiting.message));
    let on = task.worker.as_ref().map(|worker| format!(" on {worker}"));
    let since = task.started_at.map(|at| format!(", started {}", output::relative(at)));
    let overlap = schedule.definition.as_ref().map_or(Overlap::Skip, ScheduleDefinition::overlap);
    let effect = match overlap {
        Overlap::QueueOne => "one tick waits for its end, others are skipped",
        Overlap::QueueAll => "ticks wait for its end",
        Overlap::CancelRunning => "the next tick cancels it",
        Overlap::Allow => "ticks do not wait for it",
        Overlap::Skip | Overlap::Unspecified => "ticks are skipped until it ends",
    };
    format!(
        "Running task: {} is {}{}{}{} ({effect})",
        task.id,
        task.status().word(),
        on.unwrap_or_default(),
        since.unwrap_or_default(),
        waiting.unwrap_or_default()
    )
}

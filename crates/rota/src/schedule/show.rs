//! `rota schedule get` and `list`: schedules as tables.

use rota_client::{
    Client,
    v1::{self, ListSchedulesRequest, ListSchedulesResponse, Schedule, ScheduleState},
};
use rota_proto::json::Words as _;

use super::{
    normal,
    select::SelectArgs,
    ticks,
    times::{coming, progress, time},
    upcoming,
};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Number of coming runs that `get` shows.
const RUNS: u32 = 3;
/// Largest page of a server with its default settings.
const PAGE: u32 = 1000;

/// Shows one schedule.
pub(super) async fn get(client: &Client, name: &str, format: Format) -> Result<(), Failure> {
    let schedule = client.get_schedule(v1::ScheduleRequest { name: name.to_owned() }).await?;
    if format.is_data() {
        return output::data(&schedule, format);
    }
    let request =
        v1::PreviewScheduleRequest { name: name.to_owned(), count: Some(RUNS), from: None };
    let preview = client.preview_schedule(request).await?;
    describe(&schedule).print()?;
    if !preview.upcoming.is_empty() {
        output::line("")?;
        upcoming::table(&preview.upcoming).print()?;
    }
    output::line("\nDefinition:")?;
    let definition = normal::yaml(schedule.definition.unwrap_or_default())?;
    definition.lines().try_for_each(|line| output::line(&format!("  {line}")))
}

fn describe(schedule: &Schedule) -> Table {
    let mut table = Table::pairs("Schedule", &schedule.name);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("State", state(schedule));
    row("Runs", schedule.sentence.clone());
    let definition = schedule.definition.clone().unwrap_or_default();
    if let Some(description) = definition.description {
        row("Description", description);
    }
    for (name, value) in &definition.labels {
        row("Label", format!("{name}={value}"));
    }
    let last = schedule.last_fired_time.map_or_else(|| "never".to_owned(), coming);
    row("Last run", last);
    let success = schedule.last_success_time.map_or_else(|| "never".to_owned(), coming);
    row("Last success", success);
    if let Some(missed) = &schedule.last_missed {
        row("Last missed", ticks::missed(missed));
    }
    if let Some(task) = &schedule.running_task {
        row("Running task", task.clone());
    }
    if schedule.failures_in_a_row > 0 {
        row("Failures", format!("{} in a row", schedule.failures_in_a_row));
    }
    if let Some(left) = schedule.remaining_runs {
        row("Runs left", left.to_string());
    }
    for at in &schedule.queued_times {
        row("Queued", time(*at));
    }
    for at in &schedule.skip_times {
        row("Skips", coming(*at));
    }
    if let Some(backfill) = &schedule.backfill {
        row("Backfill", progress(backfill));
    }
    row("Version", schedule.version.to_string());
    table
}

/// The state, and who paused it.
pub(super) fn state(schedule: &Schedule) -> String {
    let word = schedule.state().word();
    let Some(pause) = &schedule.pause else { return word.to_owned() };
    let by = match (pause.on_failure, pause.by.as_str()) {
        (true, _) => " because its tasks failed".to_owned(),
        (false, "") => String::new(),
        (false, by) => format!(" by {by}"),
    };
    let at = output::relative(pause.at.unwrap_or_default());
    let note = if pause.note.is_empty() { String::new() } else { format!(": {}", pause.note) };
    format!("{word}{by} {at}{note}")
}

/// Lists schedules.
pub(super) async fn list(
    client: &Client,
    select: &SelectArgs,
    limit: u32,
    format: Format,
) -> Result<(), Failure> {
    let all = page(client, select, limit).await?;
    if format.is_data() {
        output::list(&all, "schedules", format)?;
    } else {
        table(&all.schedules).print()?;
        if all.schedules.is_empty() {
            output::note("no schedules");
        }
    }
    if all.next_page_token.is_some() {
        let schedules = output::counted(limit.into(), "schedule", "schedules");
        let told = format!("showing the first {schedules}; use --limit to see more");
        output::more(&told, format);
    }
    Ok(())
}

/// Schedules, one in each row.
pub(super) fn table(schedules: &[Schedule]) -> Table {
    let mut table = Table::new([
        Column::new("NAME").keep(),
        Column::new("STATE").state(),
        Column::new("NEXT RUN"),
        Column::new("LAST RUN").rank(3),
        Column::new("RUNS").rank(2).end(),
    ]);
    for schedule in schedules {
        let next = match (schedule.state(), schedule.next_time) {
            (ScheduleState::Active, Some(next)) => output::when(next),
            _ => "-".to_owned(),
        };
        let last = schedule.last_fired_time.map_or_else(|| "never".to_owned(), output::when);
        let cells = [schedule.name.clone(), schedule.state().word().to_owned(), next, last];
        table.row(cells.into_iter().chain([schedule.sentence.clone()]));
    }
    table
}

/// Reads schedules page by page. The answer has a cursor if there are more.
pub(super) async fn page(
    client: &Client,
    select: &SelectArgs,
    limit: u32,
) -> Result<ListSchedulesResponse, Failure> {
    let filter = select.filter()?;
    let mut all = ListSchedulesResponse::default();
    let mut page_token = String::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(all.schedules.len()).unwrap_or(limit));
        if left == 0 {
            return Ok(all);
        }
        let request = ListSchedulesRequest {
            filter: Some(filter.clone()),
            page_size: left.min(PAGE),
            page_token: page_token.clone(),
        };
        let page = client.list_schedules(request).await?;
        all.schedules.extend(page.schedules);
        all.next_page_token.clone_from(&page.next_page_token);
        match page.next_page_token {
            // A cursor that does not move would make this loop endless.
            Some(next) if next != page_token => page_token = next,
            _ => return Ok(all),
        }
    }
}

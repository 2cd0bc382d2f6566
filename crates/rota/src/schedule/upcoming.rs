//! Previews of the server: `rota schedule preview NAME`.

use rota_client::{
    Client,
    v1::{PreviewScheduleRequest, SchedulePreview, UpcomingRun},
};

use super::{args::PreviewArgs, dates, times::time};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Most runs that a server shows.
const COUNT: u16 = 100;

/// The next runs of a schedule on the server.
pub(super) async fn preview(
    args: &PreviewArgs,
    name: &str,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    if args.count > COUNT {
        let why = format!("--count: a server shows at most {COUNT} runs of a schedule");
        return Err(Failure::usage(why));
    }
    let from = match args.from.as_deref() {
        None => None,
        Some(from) => {
            let zone = dates::zone_of(client, name).await?;
            let at = dates::just_before(dates::from(Some(from), &zone)?);
            Some(dates::date(at))
        }
    };
    let request =
        PreviewScheduleRequest { name: name.to_owned(), count: Some(args.count.into()), from };
    let preview = client.preview_schedule(request).await?;
    if format.is_data() { output::data(&preview, format) } else { print(&preview) }
}

fn print(preview: &SchedulePreview) -> Result<(), Failure> {
    output::line(&preview.sentence)?;
    output::line(&format!("Normal form: {}", preview.normal_form))?;
    output::line("")?;
    if preview.upcoming.is_empty() {
        output::line("No further run.")?;
    } else {
        table(&preview.upcoming).print()?;
    }
    if !preview.warnings.is_empty() {
        output::line("")?;
    }
    preview.warnings.iter().try_for_each(|text| output::line(&format!("warning: {text}")))
}

/// The runs, as the preview of an expression shows them.
pub(super) fn table(upcoming: &[UpcomingRun]) -> Table {
    let mut table = Table::new([
        Column::new("LOCAL TIME").rank(0),
        Column::new("DAY").rank(2),
        Column::new("UTC").rank(3),
        Column::new("NOTE").end(),
    ]);
    for run in upcoming {
        let nominal = run.nominal_time.unwrap_or_default();
        let moved = run.moved_from.iter().map(|date| format!("moved from {date}"));
        let skipped = run.skip_reason.iter().map(|reason| format!("skipped: {reason}"));
        let due = run.due_time.iter().map(|due| format!("task created at {}", time(*due)));
        let note: Vec<String> = moved.chain(skipped).chain(due).collect();
        let day = dates::weekday_of(&run.local_time);
        table.row([run.local_time.clone(), day.to_owned(), time(nominal), note.join("; ")]);
    }
    table
}

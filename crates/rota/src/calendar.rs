//! `rota calendar`: sets of days that schedules share.

use std::path::PathBuf;

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client,
    v1::{
        Calendar, CalendarEntry, CalendarRequest, DeleteCalendarRequest, ListCalendarsResponse,
        PutCalendarRequest, PutCalendarResponse,
    },
};
use rota_cron::calendar::MAX_ICS;
use serde_json::json;

use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
    schedule,
};

/// Commands for calendars.
#[derive(Debug, Subcommand)]
pub(crate) enum CalendarVerb {
    /// List all calendars.
    #[command(visible_alias = "ls")]
    List,
    /// Show a calendar with its days.
    Get {
        /// Name of the calendar.
        #[arg(value_parser = Text::new())]
        name: String,
    },
    /// Create a calendar from days, or replace its days.
    #[command(after_help = "Examples:\n  \
        rota calendar put closing 2026-12-24..2026-12-26=Christmas 01-01=\"New Year\"\n  \
        rota schedule apply -f calendars.yaml")]
    Put {
        /// Name of the calendar.
        #[arg(value_parser = Text::new())]
        name: String,
        /// Day (2026-12-25), range with its last day (2026-12-24..2026-12-26) or day of every year (12-25), with an
        /// optional note.
        #[arg(required = true, value_name = "DAYS[=NOTE]", value_parser = entry)]
        entries: Vec<CalendarEntry>,
        /// Description for people, up to 256 characters.
        #[arg(long, value_name = "TEXT", value_parser = Text::new())]
        description: Option<String>,
    },
    /// Create a calendar from an iCalendar file (.ics), or replace its days.
    ImportIcs {
        /// Name of the calendar.
        #[arg(value_parser = Text::new())]
        name: String,
        /// iCalendar file, or - for standard input.
        file: PathBuf,
        /// Description for people, up to 256 characters.
        #[arg(long, value_name = "TEXT", value_parser = Text::new())]
        description: Option<String>,
    },
    /// Delete a calendar that no schedule uses.
    Delete {
        /// Name of the calendar.
        #[arg(value_parser = Text::new())]
        name: String,
    },
}

fn entry(text: &str) -> Result<CalendarEntry, String> {
    let (days, note) = text.split_once('=').unwrap_or((text, ""));
    if days.is_empty() {
        return Err("the days are missing; use 2026-12-25=Christmas".to_owned());
    }
    let note = (!note.is_empty()).then(|| note.to_owned());
    Ok(CalendarEntry { days: days.to_owned(), note })
}

/// Runs the command.
pub(crate) async fn run(
    verb: CalendarVerb,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    match verb {
        CalendarVerb::List => list(client.all_calendars().await?, format),
        CalendarVerb::Get { name } => {
            let calendar = client.get_calendar(CalendarRequest { name }).await?;
            if format.is_data() { output::data(&calendar, format) } else { show(&calendar) }
        }
        CalendarVerb::Put { name, entries, description } => {
            let request =
                PutCalendarRequest { name, entries, description, ..PutCalendarRequest::default() };
            put(client, request, format).await
        }
        CalendarVerb::ImportIcs { name, file, description } => {
            let text = schedule::text_of(&file, MAX_ICS)?;
            if text.len() > MAX_ICS {
                let limit = MAX_ICS >> 10;
                return Err(Failure::usage(format!("{}: longer than {limit} KiB", file.display())));
            }
            let ics = Some(text);
            let request =
                PutCalendarRequest { name, description, ics, ..PutCalendarRequest::default() };
            put(client, request, format).await
        }
        CalendarVerb::Delete { name } => {
            let request = DeleteCalendarRequest { name: name.clone(), expected_version: None };
            client.delete_calendar(request).await?;
            if format.is_data() {
                output::data(&json!({ "name": name, "deleted": true }), format)
            } else {
                output::line(&format!("{name} deleted"))
            }
        }
    }
}

async fn put(client: &Client, request: PutCalendarRequest, format: Format) -> Result<(), Failure> {
    let PutCalendarResponse { calendar, created, changed } = client.put_calendar(request).await?;
    let calendar = calendar.unwrap_or_default();
    if format.is_data() {
        return output::data(&calendar, format);
    }
    let what = match (created, changed) {
        (true, _) => "created",
        (false, true) => "replaced",
        (false, false) => "unchanged",
    };
    let entries = output::counted(calendar.entry_count.into(), "entry", "entries");
    output::line(&format!("{} {what}, {entries}", calendar.name))
}

fn list(calendars: Vec<Calendar>, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        return output::list(
            &ListCalendarsResponse { calendars, next_page_token: None },
            "calendars",
            format,
        );
    }
    let empty = calendars.is_empty();
    let mut table = Table::new([
        Column::new("NAME").keep(),
        Column::new("ENTRIES").rank(2),
        Column::new("CHANGED"),
        Column::new("DESCRIPTION").end(),
    ]);
    for calendar in calendars {
        table.row([
            calendar.name,
            calendar.entry_count.to_string(),
            output::when(calendar.updated_at.unwrap_or_default()),
            calendar.description.unwrap_or_default(),
        ]);
    }
    table.print()?;
    if empty {
        output::note("no calendars");
    }
    Ok(())
}

fn show(calendar: &Calendar) -> Result<(), Failure> {
    let mut table = Table::pairs("Calendar", &calendar.name);
    if let Some(description) = &calendar.description {
        table.row(["Description".to_owned(), description.clone()]);
    }
    table.row(["Version".to_owned(), calendar.version.to_string()]);
    table.print()?;
    output::line("")?;
    let mut table = Table::new([Column::new("DAYS").keep(), Column::new("NOTE").end()]);
    for entry in &calendar.entries {
        table.row([entry.days.clone(), entry.note.clone().unwrap_or_default()]);
    }
    table.print()
}

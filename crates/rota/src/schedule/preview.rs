//! `rota schedule preview`: when a recurrence runs.

use std::collections::BTreeMap;

use rota_cron::{
    Calendar, CalendarRule, ExcludedBy, ExclusionSpec, Kind, Recurrence, RecurrenceError,
    RecurrenceSpec, Skip, Upcoming, Zone, calendar::MAX_ICS, rules_version,
};
use serde::Serialize;

use super::{
    args::{EXAMPLE, PreviewArgs},
    dates, refused,
};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// What the command prints.
#[derive(Serialize)]
struct Preview {
    description: String,
    normal_form: String,
    #[serde(skip)]
    is_normal: bool,
    time_zone: String,
    /// The release of the time zone database.
    time_zone_rules: &'static str,
    from: String,
    upcoming: Vec<Row>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// An instant that runs or is skipped.
#[derive(Serialize)]
struct Row {
    at: String,
    local: String,
    weekday: &'static str,
    runs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
}

pub(super) fn run(args: &PreviewArgs, format: Format) -> Result<(), Failure> {
    let preview = preview(args)?;
    if format.is_data() { output::data(&preview, format) } else { print(&preview) }
}

fn preview(args: &PreviewArgs) -> Result<Preview, Failure> {
    let calendars = calendars(args)?;
    let spec = spec(args);
    let name = args.name.as_deref().unwrap_or(EXAMPLE);
    let recurrence = Recurrence::new(&spec, name).map_err(|error| refusal(args, &error))?;
    let from = dates::from(args.from.as_deref(), recurrence.zone())?;
    let before = dates::just_before(from);
    let count = usize::from(args.count);
    let upcoming = recurrence.upcoming(before, count, &calendars);
    let normal_form = recurrence.normal_form();
    let zone = recurrence.zone().to_string();
    let written = format!("{}; zone {zone}; gap end; fold first", args.expressions.join("; "));
    Ok(Preview {
        description: recurrence.describe(),
        is_normal: normal_form == written,
        normal_form,
        time_zone: zone,
        time_zone_rules: rules_version(),
        from: from.to_string(),
        notes: notes(args, name, &upcoming),
        upcoming: upcoming.iter().map(row).collect(),
        warnings: recurrence.warnings(before, &calendars).iter().map(ToString::to_string).collect(),
    })
}

fn spec(args: &PreviewArgs) -> RecurrenceSpec {
    let rule = |calendar: &super::args::Holidays| CalendarRule {
        name: calendar.file.display().to_string(),
        on_holiday: calendar.on_holiday,
    };
    RecurrenceSpec {
        expressions: args.expressions.clone(),
        intervals: args.every.clone(),
        dates: args.at.clone(),
        exclude: ExclusionSpec {
            expressions: args.exclude.clone(),
            dates: args.exclude_date.clone(),
            calendars: args.calendar.iter().map(rule).collect(),
        },
        start: args.start.clone(),
        end: args.end.clone(),
        time_zone: args.time_zone.clone(),
        gap: args.gap.into(),
        fold: args.fold.into(),
    }
}

fn calendars(args: &PreviewArgs) -> Result<BTreeMap<String, Calendar>, Failure> {
    let mut calendars = BTreeMap::new();
    for holidays in &args.calendar {
        let name = holidays.file.display().to_string();
        let text = dates::text_of(&holidays.file, MAX_ICS)
            .map_err(|failure| failure.after("--calendar"))?;
        let calendar = Calendar::from_ics(&text)
            .map_err(|error| Failure::usage(format!("--calendar: {name}: {error}")))?;
        calendars.insert(name, calendar);
    }
    Ok(calendars)
}

fn refusal(args: &PreviewArgs, error: &RecurrenceError) -> Failure {
    let failure = refused::recurrence(error);
    let is_field = |text: &String| !text.contains(char::is_whitespace) && !text.starts_with('@');
    let of_expressions = match error {
        RecurrenceError::Expression { field, .. } | RecurrenceError::TooMany { field, .. } => {
            *field == "expressions"
        }
        _ => false,
    };
    // The shell has split an expression without quotes, and has put file names for `*`.
    if of_expressions && args.expressions.len() > 1 && args.expressions.iter().any(is_field) {
        return failure.hint("put each expression in quotes: rota schedule preview '30 2 * * *'");
    }
    let zone = args.time_zone.as_deref();
    match error {
        RecurrenceError::Zone(_) if zone.is_some_and(|name| Zone::find(name).is_err()) => {
            failure.after("--time-zone")
        }
        _ => failure,
    }
}

fn notes(args: &PreviewArgs, name: &str, upcoming: &[Upcoming]) -> Vec<String> {
    let mut notes = Vec::new();
    let expressions = args.expressions.iter().chain(&args.exclude);
    // No name of a month or day begins with H.
    if expressions
        .flat_map(|text| text.split([' ', '\t', ',']))
        .any(|item| item.starts_with(['H', 'h']))
    {
        let hint =
            if args.name.is_some() { "" } else { "; use --name for the name of your schedule" };
        notes.push(format!("H is resolved for the name {name:?}{hint}"));
    }
    let runs = upcoming.iter().filter(|one| one.occurrence.kind == Kind::Fires).count();
    let count = usize::from(args.count);
    if runs < count && upcoming.len() >= count * 10 {
        notes.push("the list ends here because nearly all times are skipped".to_owned());
    } else if runs < count && runs > 0 {
        notes.push("no further run follows".to_owned());
    }
    notes
}

fn row(upcoming: &Upcoming) -> Row {
    let occurrence = &upcoming.occurrence;
    let (skipped_by, reason) = match &occurrence.kind {
        Kind::Fires => (None, None),
        Kind::Skipped(Skip::Gap { local }) => {
            (Some("gap"), Some(format!("the clock jumps over {local}")))
        }
        Kind::Skipped(Skip::Excluded { by }) => {
            let kind = match by {
                ExcludedBy::Date(_) => "date",
                ExcludedBy::Expression(_) => "expression",
                ExcludedBy::Calendar(_) => "calendar",
            };
            (Some(kind), Some(format!("excluded by {by}")))
        }
    };
    Row {
        at: occurrence.at.to_string(),
        local: upcoming.to_string(),
        weekday: dates::weekday(upcoming.local.date()),
        runs: skipped_by.is_none(),
        skipped_by,
        reason,
        moved_from: occurrence.moved_from.map(|date| date.to_string()),
    }
}

fn print(preview: &Preview) -> Result<(), Failure> {
    output::line(&preview.description)?;
    if !preview.is_normal {
        output::line(&format!("Normal form: {}", preview.normal_form))?;
    }
    if !preview.upcoming.is_empty() {
        let mut table = Table::new([
            Column::new("LOCAL TIME").rank(0),
            Column::new("DAY").rank(2),
            Column::new("UTC").rank(3),
            Column::new("NOTE").end(),
        ]);
        for row in &preview.upcoming {
            let skipped = row.reason.iter().map(|reason| format!("skipped: {reason}"));
            let moved = row.moved_from.iter().map(|date| format!("moved from {date}"));
            let note: Vec<String> = moved.chain(skipped).collect();
            let (local, at) = (row.local.clone(), row.at.clone());
            table.row([local, row.weekday.to_owned(), at, note.join("; ")]);
        }
        output::line("")?;
        table.print()?;
    }
    if !preview.notes.is_empty() || !preview.warnings.is_empty() {
        output::line("")?;
    }
    for note in &preview.notes {
        output::line(&format!("note: {note}"))?;
    }
    for warning in &preview.warnings {
        output::line(&format!("warning: {warning}"))?;
    }
    Ok(())
}

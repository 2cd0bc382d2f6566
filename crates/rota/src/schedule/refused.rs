//! Errors of `rota-cron` in the words of the command line: they name the flag instead of the field.

use rota_cron::RecurrenceError;

use crate::exit::Failure;

/// A recurrence that is refused.
pub(super) fn recurrence(error: &RecurrenceError) -> Failure {
    let message = match error {
        RecurrenceError::Empty => {
            "a recurrence needs at least one EXPRESSION, --every or --at".to_owned()
        }
        RecurrenceError::TooMany { field, count, limit } => {
            format!("{}: {count} values; at most {limit} are allowed", flag(field))
        }
        RecurrenceError::Expression { field, error, .. } => format!("{}: {error}", flag(field)),
        RecurrenceError::ExcludedInterval { .. } => {
            "--exclude: an interval cannot be excluded; use a cron expression".to_owned()
        }
        RecurrenceError::Interval { error, .. } => format!("--every: {error}"),
        RecurrenceError::Date { field, .. } => {
            let text = error.to_string();
            let rest = text.strip_prefix(field.as_str()).unwrap_or(&text);
            format!("{}{rest}", flag(field))
        }
        RecurrenceError::Zone(error) => error.to_string(),
        RecurrenceError::TwoZones { other, zone, .. } => format!(
            "EXPRESSION: it names the time zone {other:?} beside {zone:?}; a schedule has one time zone"
        ),
        RecurrenceError::EndBeforeStart => "--end must be after --start".to_owned(),
        RecurrenceError::Calendar { reason, .. } => format!("--calendar: {reason}"),
    };
    Failure::usage(message)
}

/// The flag for a field, which may have its place in a list behind it.
fn flag(field: &str) -> &str {
    match field.split('[').next().unwrap_or(field) {
        "expressions" => "EXPRESSION",
        "intervals" => "--every",
        "dates" => "--at",
        "exclude.expressions" => "--exclude",
        "exclude.dates" => "--exclude-date",
        "exclude.calendars" => "--calendar",
        "start" => "--start",
        "end" => "--end",
        _ => field,
    }
}

//! Dates of `rota schedule`: `--from`, weekdays, and files that are read whole.

use std::{
    io::{self, Read},
    path::Path,
};

use rota_cron::{LocalDate, Recurrence, RecurrenceError, RecurrenceSpec, Timestamp, Zone};

use super::refused;
use crate::exit::Failure;

/// The instant of `--from`, or now.
pub(super) fn from(text: Option<&str>, zone: &Zone) -> Result<Timestamp, Failure> {
    let Some(text) = text else {
        return Ok(Timestamp(jiff::Timestamp::now().as_millisecond()));
    };
    // A start is the same kind of date, so the same reader serves both.
    let spec = RecurrenceSpec {
        expressions: vec!["* * * * *".to_owned()],
        time_zone: Some(zone.name().to_owned()),
        start: Some(text.to_owned()),
        ..RecurrenceSpec::default()
    };
    match Recurrence::new(&spec, "") {
        Ok(recurrence) => Ok(recurrence.start().unwrap_or_default()),
        Err(error @ RecurrenceError::Date { .. }) => {
            let text = error.to_string();
            Err(Failure::usage(format!("--from{}", text.strip_prefix("start").unwrap_or(&text))))
        }
        Err(error) => Err(refused::recurrence(&error)),
    }
}

/// The instant before this one, because a search gives what comes after.
pub(super) fn just_before(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - 1)
}

pub(super) fn weekday(date: LocalDate) -> &'static str {
    const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    NAMES[date.weekday() as usize % 7]
}

/// The text of a file, or of standard input for `-`. Reads one byte beyond the limit, so that the caller sees an excess.
pub(super) fn text_of(file: &Path, limit: usize) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    // A crontab of a host can be in any encoding; the times are ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

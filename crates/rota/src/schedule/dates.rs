//! Dates of `rota schedule`: `--from`, weekdays, and files that are read whole.

use std::{
    io::{self, Read},
    path::Path,
};

use rota_client::{Client, Date, v1};
use rota_cron::{LocalDate, Timestamp, Zone};

use crate::{
    dates::{self, Moment, Toward},
    exit::Failure,
    input,
};

/// The instant of `--from`, or now.
pub(super) fn from(text: Option<&str>, zone: &Zone) -> Result<Timestamp, Failure> {
    match text {
        None => Ok(dates::now()),
        Some(text) => moment("--from", text, zone),
    }
}

/// A date with a time or the begin of a day, as a local time in the zone or with an offset.
pub(super) fn moment(flag: &str, text: &str, zone: &Zone) -> Result<Timestamp, Failure> {
    read(flag, text, zone)?.begin(zone).map_err(|why| wrong(flag, text, &why))
}

/// The begin of a range: a date with a time, or the begin of a day.
pub(super) fn begin(flag: &str, text: &str, zone: &Zone) -> Result<Date, Failure> {
    moment(flag, text, zone).map(date)
}

/// The end of a range, which is in it: a date with a time, or the last second of a day.
pub(super) fn end(flag: &str, text: &str, zone: &Zone) -> Result<Date, Failure> {
    let moment = read(flag, text, zone)?;
    let end = moment.end(zone).map_err(|why| wrong(flag, text, &why))?;
    Ok(date(match moment {
        Moment::Instant(_) => end,
        Moment::Day(_) => Timestamp(end.0 - 1000),
    }))
}

/// The end of a range of the past, which is in it. `None` for today: its rest has not come yet.
pub(super) fn past_end(flag: &str, text: &str, zone: &Zone) -> Result<Option<Date>, Failure> {
    let end = end(flag, text, zone)?;
    let is_day = matches!(read(flag, text, zone)?, Moment::Day(_));
    let is_today = is_day && moment(flag, text, zone)? <= dates::now() && date(dates::now()) < end;
    Ok(Some(end).filter(|_| !is_today))
}

fn read(flag: &str, text: &str, zone: &Zone) -> Result<Moment, Failure> {
    dates::read(text, Toward::Unsaid, dates::now(), zone).map_err(|why| wrong(flag, text, &why))
}

fn wrong(flag: &str, text: &str, why: &str) -> Failure {
    Failure::usage(format!("invalid value {text:?} for {flag}: {why}"))
}

/// The same instant for the API.
pub(super) fn date(at: Timestamp) -> Date {
    dates::to_date(at)
}

/// The time zone of a schedule on the server.
pub(super) async fn zone_of(client: &Client, name: &str) -> Result<Zone, Failure> {
    let schedule = client.get_schedule(v1::ScheduleRequest { name: name.to_owned() }).await?;
    // A newer server may know zones that this program does not know.
    Zone::find(&schedule.time_zone).map_err(|error| {
        Failure::usage(format!("the time zone of the schedule: {error}"))
            .hint("use dates with an offset, such as 2026-12-24T17:00:00Z")
    })
}

/// The instant before this one, because a search gives what comes after.
pub(super) fn just_before(at: Timestamp) -> Timestamp {
    Timestamp(at.0 - 1)
}

pub(super) fn weekday(date: LocalDate) -> &'static str {
    const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    NAMES[date.weekday() as usize % 7]
}

/// The weekday of a local time such as `2026-03-08T03:00:00-04:00`. Empty for another text.
pub(super) fn weekday_of(local: &str) -> &'static str {
    let date = || {
        let mut parts = local.split('T').next()?.splitn(3, '-');
        let year = parts.next()?.parse().ok()?;
        LocalDate::new(year, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?)
    };
    date().map_or("", weekday)
}

/// The text of a file, or of standard input for `-`. Reads one byte beyond the limit, so that the caller sees an excess.
pub(crate) fn text_of(file: &Path, limit: usize) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut bytes = Vec::new();
    let most = limit as u64 + 1;
    if file == Path::new("-") {
        input::claim("-")?;
        io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let opened = std::fs::File::open(file).map_err(failed)?;
        opened.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    // A crontab of a host can be in any encoding; the times are ASCII.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

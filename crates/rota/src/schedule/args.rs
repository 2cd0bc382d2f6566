//! The arguments of the verbs of `rota schedule` that need no server.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser as Text, value_parser};
use rota_cron::{IntervalSpec, MAX_UPCOMING, OnHoliday};
use rota_proto::TimeSpan;

/// The name that `H` is resolved for when none is given.
pub(super) const EXAMPLE: &str = "example";

/// A recurrence, and how much of it to show.
#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// Cron expression in quotes, such as '30 2 * * *'. Several are joined. A name shows a schedule of the server.
    #[arg(value_name = "EXPRESSION", value_parser = Text::new())]
    pub(super) expressions: Vec<String>,
    /// IANA name of the time zone [default: CRON_TZ= of an expression, else UTC].
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    pub(super) time_zone: Option<String>,
    /// Runs of fixed times that a clock set forward jumps over: once at the end of the gap, not at all, or later by
    /// the length of the gap.
    #[arg(long, value_enum, default_value_t)]
    pub(super) gap: Gap,
    /// Runs of fixed times that a clock set back shows twice.
    #[arg(long, value_enum, default_value_t)]
    pub(super) fold: Fold,
    /// Interval, counted from 1970-01-01T00:00:00Z, with an optional shift: 90m or 90m/10m. Can be repeated.
    #[arg(long, value_name = "EVERY[/SHIFT]", value_parser = interval)]
    pub(super) every: Vec<IntervalSpec>,
    /// Single date with a time. Can be repeated.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) at: Vec<String>,
    /// Day (2026-12-25), range with its last day (2026-12-24..2026-12-26) or date with a time to exclude. Can be
    /// repeated.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) exclude_date: Vec<String>,
    /// Cron expression to exclude, such as '* * * * SAT,SUN'. Can be repeated.
    #[arg(long, value_name = "EXPRESSION", value_parser = Text::new())]
    pub(super) exclude: Vec<String>,
    /// iCalendar file with holidays, and what happens to runs on them: skip them, or move them to the nearest free
    /// day before or after [default: skip]. Can be repeated.
    #[arg(long, value_name = "FILE[=skip|before|after]", value_parser = calendar)]
    pub(super) calendar: Vec<Holidays>,
    /// First date that counts.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) start: Option<String>,
    /// Last date that counts.
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) end: Option<String>,
    /// Date from which to show runs [default: now].
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) from: Option<String>,
    /// Number of runs to show, at most 1000. Skipped ones do not count.
    #[arg(short = 'n', long, default_value_t = 5, value_parser = value_parser!(u16).range(1..=MAX_UPCOMING as i64))]
    pub(super) count: u16,
    /// Name that H is resolved for [default: example].
    #[arg(long, value_parser = Text::new())]
    pub(super) name: Option<String>,
}

impl PreviewArgs {
    /// The name of a schedule on the server, if that is all that is given. No expression of one word looks like it.
    pub(super) fn name_on_server(&self) -> Option<&str> {
        let [name] = self.expressions.as_slice() else { return None };
        let is_letter = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        let is_alone = self.time_zone.is_none()
            && self.every.is_empty()
            && self.at.is_empty()
            && self.exclude.is_empty()
            && self.exclude_date.is_empty()
            && self.calendar.is_empty()
            && self.start.is_none()
            && self.end.is_none()
            && self.name.is_none();
        (is_alone && name.chars().all(is_letter)).then_some(name)
    }
}

/// A crontab, and the host it is from.
#[derive(Debug, Args)]
pub(crate) struct CrontabArgs {
    /// Crontab to read, or `-` for standard input.
    pub(super) file: PathBuf,
    /// Lines name a user behind the times, as in /etc/crontab and /etc/cron.d.
    #[arg(long)]
    pub(super) system: bool,
    /// Time zone of the host of this crontab. CRON_TZ in the file has precedence.
    #[arg(long, value_name = "NAME", default_value = "UTC", value_parser = Text::new())]
    pub(super) time_zone: String,
    /// Date from which to show runs and changes of the clock [default: now].
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    pub(super) from: Option<String>,
}

/// As [`rota_cron::Gap`].
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Gap {
    #[default]
    End,
    Skip,
    Shift,
}

impl From<Gap> for rota_cron::Gap {
    fn from(gap: Gap) -> Self {
        match gap {
            Gap::End => Self::End,
            Gap::Skip => Self::Skip,
            Gap::Shift => Self::Shift,
        }
    }
}

/// As [`rota_cron::Fold`].
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Fold {
    #[default]
    First,
    Second,
    Both,
}

impl From<Fold> for rota_cron::Fold {
    fn from(fold: Fold) -> Self {
        match fold {
            Fold::First => Self::First,
            Fold::Second => Self::Second,
            Fold::Both => Self::Both,
        }
    }
}

/// An iCalendar file, and what happens to runs on its days.
#[derive(Debug, Clone)]
pub(super) struct Holidays {
    pub(super) file: PathBuf,
    pub(super) on_holiday: OnHoliday,
}

fn calendar(text: &str) -> Result<Holidays, String> {
    let (file, on_holiday) = match text.rsplit_once('=') {
        Some((file, "skip")) => (file, OnHoliday::Skip),
        Some((file, "before")) => (file, OnHoliday::Before),
        Some((file, "after")) => (file, OnHoliday::After),
        // The name of a file can have a `=`, but then it has an ending behind it.
        Some((_, word)) if !word.contains('.') => {
            return Err(format!("{word:?} is not a rule for holidays; use skip, before or after"));
        }
        _ => (text, OnHoliday::Skip),
    };
    if file.is_empty() {
        return Err("the name of the file is missing; use FILE.ics=skip".to_owned());
    }
    Ok(Holidays { file: file.into(), on_holiday })
}

pub(super) fn interval(text: &str) -> Result<IntervalSpec, String> {
    let read = |text: &str| {
        text.parse::<TimeSpan>().map(TimeSpan::duration).map_err(|error| error.to_string())
    };
    Ok(match text.split_once('/') {
        None => IntervalSpec { every: read(text)?, phase: Duration::ZERO },
        Some((every, phase)) => IntervalSpec { every: read(every)?, phase: read(phase)? },
    })
}

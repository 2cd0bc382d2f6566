//! From the text of an expression to its bits.

use std::time::Duration;

use super::{
    BITS_OF_A_WEEKDAY, EVERY_DAY, EVERY_ONE, EVERY_WEEKDAY, Expression, LAST_ONE,
    field::{Field, Refused, Values, digits, number, quoted, read, refused},
};
use crate::{
    civil::LocalDate,
    interval::{Interval, parse_duration},
};

/// The longest text that is read, in bytes.
pub(crate) const MAX_LENGTH: usize = 512;

/// An expression that cannot be read or that never matches.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid cron expression {}: {}{reason}", quoted(.expression), place(*.field, .text))]
pub struct ExpressionError {
    /// The expression, at most [`MAX_LENGTH`] bytes of it.
    expression: String,
    /// The field with the fault, such as `day of month`.
    pub field: Option<&'static str>,
    /// The offending text.
    pub text: String,
    /// Why it is refused, and what to write instead.
    pub reason: String,
}

fn place(field: Option<&str>, text: &str) -> String {
    match field {
        Some(field) => format!("{field} {}: ", quoted(text)),
        None => String::new(),
    }
}

/// What a line says: a time zone in front, and an expression or an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The name behind `TZ=` or `CRON_TZ=`. Not checked here.
    pub zone: Option<String>,
    /// The rule itself.
    pub rule: Rule,
    /// Whether the seconds were given.
    pub(crate) has_seconds: bool,
}

/// A rule for instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Local times that match an expression.
    Expression(Expression),
    /// Instants at equal distances (`@every 90m/10m`).
    Interval(Interval),
}

/// Reads an expression, an `@` shorthand or `@every`, with an optional time zone in front.
///
/// `hash_seed` is the name of the schedule: `H` depends on it.
///
/// # Errors
///
/// [`ExpressionError`] names the field, the offending text and what is allowed.
pub fn parse(text: &str, hash_seed: &str) -> Result<Parsed, ExpressionError> {
    let fail = |field: Option<Field>, refused: Refused| ExpressionError {
        expression: text.chars().take(64).collect(),
        field: field.map(Field::name),
        text: refused.text.chars().take(64).collect(),
        reason: refused.reason,
    };
    if text.len() > MAX_LENGTH {
        let reason = format!("longer than {MAX_LENGTH} bytes");
        return Err(fail(None, refused(text, reason)));
    }
    let mut rest = text.trim();
    let mut zone = None;
    if let Some(named) = rest.strip_prefix("CRON_TZ=").or_else(|| rest.strip_prefix("TZ=")) {
        let end = named.find(char::is_whitespace).unwrap_or(named.len());
        zone = Some(named[..end].trim_matches('"').to_owned());
        rest = named[end..].trim_start();
    }
    if let Some(every) = rest.strip_prefix("@every") {
        let interval = read_every(every).map_err(|refused| fail(None, refused))?;
        return Ok(Parsed { zone, rule: Rule::Interval(interval), has_seconds: true });
    }
    let expanded = shorthand(rest).map_err(|refused| fail(None, refused))?;
    let fields: Vec<String> =
        expanded.split_ascii_whitespace().map(str::to_ascii_uppercase).collect();
    let expression =
        read_fields(&fields, hash_seed).map_err(|(field, refused)| fail(field, refused))?;
    let has_seconds = fields.len() > 5;
    Ok(Parsed { zone, rule: Rule::Expression(expression), has_seconds })
}

impl Expression {
    /// Reads an expression without a time zone in front.
    ///
    /// # Errors
    ///
    /// As [`parse`], and for `@every` and a time zone.
    pub fn parse(text: &str, hash_seed: &str) -> Result<Self, ExpressionError> {
        let fail = |reason: &str| ExpressionError {
            expression: text.chars().take(64).collect(),
            field: None,
            text: text.chars().take(64).collect(),
            reason: reason.to_owned(),
        };
        match parse(text, hash_seed)? {
            Parsed { zone: Some(_), .. } => Err(fail("a time zone is not allowed here")),
            Parsed { rule: Rule::Interval(_), .. } => Err(fail("an interval is not allowed here")),
            Parsed { rule: Rule::Expression(expression), .. } => Ok(expression),
        }
    }
}

fn shorthand(text: &str) -> Result<&str, Refused> {
    let known = match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        "@reboot" => {
            let reason = "a cluster has no reboot to wait for; submit a task when the host starts, \
                          for example from a systemd unit";
            return Err(refused(text, format!("@reboot is not a time: {reason}")));
        }
        other if other.starts_with('@') => {
            let reason = "unknown shorthand; use @yearly, @monthly, @weekly, @daily, @hourly or \
                          `@every 90m`";
            return Err(refused(text, reason));
        }
        _ => text,
    };
    Ok(known)
}

fn read_every(text: &str) -> Result<Interval, Refused> {
    let (every, phase) = match text.split_once('/') {
        None => (text, None),
        Some((every, phase)) => (every, Some(phase)),
    };
    let duration = |text: &str| {
        parse_duration(text.trim()).ok_or_else(|| {
            let reason =
                format!("{} is not a duration; use one such as 90m or 1h30m", quoted(text.trim()));
            refused(text, reason)
        })
    };
    let phase = phase.map_or(Ok(Duration::ZERO), duration)?;
    Interval::new(duration(every)?, phase).map_err(|error| refused(text, error.to_string()))
}

type FieldFault = (Option<Field>, Refused);

fn read_fields(fields: &[String], seed: &str) -> Result<Expression, FieldFault> {
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let (second, five, year) = match fields.as_slice() {
        five @ [_, _, _, _, _] => ("0", five, None),
        [second, five @ ..] if five.len() == 5 => (*second, five, None),
        [second, five @ .., year] if five.len() == 5 => (*second, five, Some(*year)),
        other => {
            let reason = format!(
                "{} fields; use 5 (minute hour day-of-month month day-of-week), 6 (seconds first) \
                 or 7 (year last)",
                other.len()
            );
            return Err((None, refused("", reason)));
        }
    };
    let plain = |field: Field, text: &str| {
        read(field, text, seed, |_| Ok(false)).map_err(|refused| (Some(field), refused))
    };
    let [minute, hour, day, month, weekday] = five else {
        return Err((None, refused("", "five fields are missing")));
    };
    let minutes = plain(Field::Minute, minute)?;
    let hours = plain(Field::Hour, hour)?;
    let months = plain(Field::Month, month)?;
    let days = read_days(day, seed).map_err(|refused| (Some(Field::DayOfMonth), refused))?;
    let weekdays =
        read_weekdays(weekday, seed).map_err(|refused| (Some(Field::DayOfWeek), refused))?;
    let years = match year {
        None | Some("*") => None,
        Some(year) => Some(Box::new(plain(Field::Year, year)?.bits)),
    };
    let mut expression = Expression {
        seconds: plain(Field::Second, second)?.bits[0],
        minutes: minutes.bits[0],
        weekdays: weekdays.bits,
        years,
        hours: low(hours),
        days: low(days.values),
        from_last: days.from_last,
        near: days.near,
        months: u16::try_from(low(months)).unwrap_or(0),
        both: days.values.begins_with_star || weekdays.unrestricted || weekdays.and,
        fixed: !(minutes.repeats || hours.repeats),
    };
    expression.settle();
    expression.check_possible(day, year).map_err(|(field, refused)| (Some(field), refused))?;
    Ok(expression)
}

fn low(values: Values) -> u32 {
    u32::try_from(values.bits[0] & u64::from(u32::MAX)).unwrap_or(0)
}

struct Days {
    values: Values,
    from_last: u32,
    near: u32,
}

fn read_days(text: &str, seed: &str) -> Result<Days, Refused> {
    let (mut from_last, mut near) = (0, 0);
    let values = read(Field::DayOfMonth, text, seed, |item| {
        if item == "LW" || item == "WL" {
            near |= 1;
        } else if item == "L" {
            from_last |= 1;
        } else if let Some(days) = item.strip_prefix("L-") {
            match digits(days) {
                Some(days @ 0..=30) => from_last |= 1 << days,
                _ => return Err(refused(item, "use L-0 to L-30: days before the last one")),
            }
        } else if let Some(day) = item.strip_suffix('W') {
            near |= 1 << number(Field::DayOfMonth, item, day)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    })?;
    Ok(Days { values, from_last, near })
}

struct Weekdays {
    bits: u64,
    unrestricted: bool,
    and: bool,
}

fn read_weekdays(text: &str, seed: &str) -> Result<Weekdays, Refused> {
    let (and, text) = match text.strip_prefix('+') {
        None => (false, text),
        Some(rest) => (true, rest),
    };
    let mut bits = 0;
    let mut add = |item: &str, weekday: &str, wanted: u64| {
        let weekday = number(Field::DayOfWeek, item, weekday)? % 7;
        bits |= wanted << (weekday * BITS_OF_A_WEEKDAY);
        Ok(true)
    };
    let values = read(Field::DayOfWeek, text, seed, |item| {
        if item == "L" {
            return Err(refused(item, "name the day: `FRIL` or `5L` is the last Friday"));
        }
        if let Some((weekday, nth)) = item.split_once('#') {
            return match (nth, digits(nth)) {
                ("L", _) => add(item, weekday, LAST_ONE),
                (_, Some(nth @ 1..=5)) => add(item, weekday, 1 << (nth - 1)),
                _ => Err(refused(item, "use #1 to #5, or #L for the last of the month")),
            };
        }
        match item.strip_suffix('L') {
            Some(weekday) => add(item, weekday, LAST_ONE),
            None => Ok(false),
        }
    })?;
    for weekday in 0..7_u32 {
        if values.bits[0] >> weekday & 1 == 1 {
            bits |= EVERY_ONE << (weekday * BITS_OF_A_WEEKDAY);
        }
    }
    Ok(Weekdays { bits, unrestricted: values.begins_with_star, and })
}

impl Expression {
    /// Brings expressions with one meaning to one form.
    fn settle(&mut self) {
        if self.days == EVERY_DAY {
            (self.from_last, self.near) = (0, 0);
        }
        for weekday in 0..7 {
            let shift = weekday * BITS_OF_A_WEEKDAY;
            if self.weekdays >> shift & EVERY_ONE == EVERY_ONE {
                self.weekdays &= !(LAST_ONE << shift);
            }
        }
        let one_is_free = self.days == EVERY_DAY || self.weekdays == EVERY_WEEKDAY;
        if one_is_free && !self.both {
            (self.days, self.weekdays) = (EVERY_DAY, EVERY_WEEKDAY);
            (self.from_last, self.near) = (0, 0);
        }
        self.both |= one_is_free;
    }

    /// Refuses what no date matches. All kinds of years come within 28 years.
    fn check_possible(&self, day: &str, year: Option<&str>) -> Result<(), (Field, Refused)> {
        if self.next_date(LocalDate::valid(1970, 1, 1)).is_some() {
            return Ok(());
        }
        let any_year = Self { years: None, ..self.clone() };
        match year {
            Some(year) if any_year.next_date(LocalDate::valid(1970, 1, 1)).is_some() => Err((
                Field::Year,
                refused(year, "never matches: the days do not exist in these years"),
            )),
            _ => {
                Err((Field::DayOfMonth, refused(day, "never matches: no such day in these months")))
            }
        }
    }
}

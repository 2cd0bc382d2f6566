//! One field of an expression: lists, ranges, steps, names and `H`.

use super::{FIRST_NAMED_YEAR, hash};
use crate::civil::{MONTHS, WEEKDAYS};

/// The fields in the order in which their hashes are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::DayOfWeek => "day of week",
            Self::Year => "year",
        }
    }

    fn range(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
            Self::Year => (FIRST_NAMED_YEAR.cast_unsigned(), 2199),
        }
    }

    /// The last value that `*` and an open range stand for: Sunday is counted once.
    fn last(self) -> u32 {
        if self == Self::DayOfWeek { 6 } else { self.range().1 }
    }

    fn hash_range(self) -> (u32, u32) {
        match self {
            // As in Jenkins: every month has a 28th.
            Self::DayOfMonth => (1, 28),
            _ => (self.range().0, self.last()),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }

    /// What may stand in the field, for errors.
    fn allowed(self) -> String {
        let (first, last) = self.range();
        match self {
            Self::Month => "use 1 to 12, or JAN to DEC".to_owned(),
            Self::DayOfWeek => "use 0 to 7 (Sunday is 0 and 7), or SUN to SAT".to_owned(),
            _ => format!("use {first} to {last}"),
        }
    }
}

/// The values of a field as bits, and how they were written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Values {
    /// Bit n is value n, but for years it is the year 1970 + n.
    pub(super) bits: [u64; 4],
    /// It begins with `*` or is `?`: cron then calls it unrestricted.
    pub(super) begins_with_star: bool,
    /// It has a `*` or a step, and so follows real time.
    pub(super) repeats: bool,
}

/// A refusal: the offending text and the reason.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) text: String,
    pub(super) reason: String,
}

pub(super) fn refused(text: &str, reason: impl Into<String>) -> Refused {
    Refused { text: text.to_owned(), reason: reason.into() }
}

/// Reads a field in upper case. `special` takes the items that only this field has.
pub(super) fn read(
    field: Field,
    text: &str,
    seed: &str,
    mut special: impl FnMut(&str) -> Result<bool, Refused>,
) -> Result<Values, Refused> {
    let mut values = Values { begins_with_star: text.starts_with('*'), ..Values::default() };
    if text == "?" {
        if !matches!(field, Field::DayOfMonth | Field::DayOfWeek) {
            return Err(refused(text, "only the days of month and week can be `?`; use `*`"));
        }
        values.begins_with_star = true;
        fill(&mut values, field, field.range().0, field.last(), 1);
        return Ok(values);
    }
    for (index, item) in (0_u8..).zip(text.split(',')) {
        if item.is_empty() {
            return Err(refused(text, "an item of the list is empty"));
        }
        if !special(item)? {
            read_item(&mut values, field, item, seed, index)?;
        }
    }
    Ok(values)
}

fn read_item(
    values: &mut Values,
    field: Field,
    item: &str,
    seed: &str,
    index: u8,
) -> Result<(), Refused> {
    let (base, step) = match item.split_once('/') {
        None => (item, None),
        Some((base, step)) => (base, Some(read_step(field, item, step)?)),
    };
    values.repeats |= step.is_some() || base == "*";
    let (first, last) = if base == "*" {
        (field.range().0, field.last())
    } else if let Some(range) = base.strip_prefix('H') {
        let (first, last) = hash_range(field, item, range)?;
        let size = last - first + 1;
        let span = step.map_or(size, |step| step.min(size));
        let first = first + hash::place(seed, field as u8, index, span);
        (first, if step.is_some() { last } else { first })
    } else if let Some((first, last)) = base.split_once('-') {
        range(field, item, first, last)?
    } else {
        let first = number(field, item, base)?;
        (first, if step.is_some() { field.last().max(first) } else { first })
    };
    fill(values, field, first, last, step.unwrap_or(1));
    Ok(())
}

fn read_step(field: Field, item: &str, text: &str) -> Result<u32, Refused> {
    let (first, _) = field.range();
    let most = field.last() - first + 1;
    match digits(text) {
        None => Err(refused(
            item,
            format!("the step {} is not a number; use 1 to {most}", quoted(text)),
        )),
        Some(0) => Err(refused(item, "a step of 0 never ends")),
        Some(step) if step > most => {
            let hint = if matches!(field, Field::Second | Field::Minute | Field::Hour) {
                "; for longer steps use an interval such as `@every 90m`"
            } else {
                ""
            };
            Err(refused(item, format!("the step is larger than the field: use 1 to {most}{hint}")))
        }
        Some(step) => Ok(step),
    }
}

/// The range in the parentheses of `H(a-b)`, or that of the field.
fn hash_range(field: Field, item: &str, text: &str) -> Result<(u32, u32), Refused> {
    if field == Field::Year {
        return Err(refused(item, "the year cannot be hashed"));
    }
    if text.is_empty() {
        return Ok(field.hash_range());
    }
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    match inner.and_then(|inner| inner.split_once('-')) {
        Some((first, last)) => range(field, item, first, last),
        None => Err(refused(item, "use `H`, `H(0-29)`, `H/15` or `H(0-29)/10`")),
    }
}

fn range(field: Field, item: &str, first: &str, last: &str) -> Result<(u32, u32), Refused> {
    let (mut first, mut last) = (number(field, item, first)?, number(field, item, last)?);
    if field == Field::DayOfWeek {
        // Sunday ends a week as 7 and begins it as 0.
        if last == 0 && first != 0 {
            last = 7;
        } else if first == 7 && last != 7 {
            first = 0;
        }
    }
    if first > last {
        let hint = "the range ends before it begins; split it, such as `22-23,0-5` for `22-5`";
        return Err(refused(item, hint));
    }
    Ok((first, last))
}

/// A number or a name within the field's range.
pub(super) fn number(field: Field, item: &str, text: &str) -> Result<u32, Refused> {
    let (first, last) = field.range();
    if let Some(value) = named(field, text) {
        return Ok(value);
    }
    match digits(text) {
        Some(value) if (first..=last).contains(&value) => Ok(value),
        Some(_) => Err(refused(item, format!("out of range: {}", field.allowed()))),
        None => {
            let what = if text.is_empty() {
                "a value is missing".to_owned()
            } else {
                format!("{} is not a value of this field", quoted(text))
            };
            Err(refused(item, format!("{what}: {}", field.allowed())))
        }
    }
}

/// A name of a month or a day: its first three letters, or the whole.
fn named(field: Field, text: &str) -> Option<u32> {
    let known = |name: &&str| {
        text.eq_ignore_ascii_case(name)
            || name.get(..3).is_some_and(|three| text.eq_ignore_ascii_case(three))
    };
    let index = field.names().iter().position(known)?;
    Some(field.range().0 + u32::try_from(index).unwrap_or(0))
}

/// A number of at most nine digits, without a sign.
pub(super) fn digits(text: &str) -> Option<u32> {
    let well_formed = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if well_formed { text.parse().ok() } else { None }
}

pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(32).collect::<String>())
}

fn fill(values: &mut Values, field: Field, first: u32, last: u32, step: u32) {
    let offset = if field == Field::Year { FIRST_NAMED_YEAR.cast_unsigned() } else { 0 };
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    for value in (first..=last).step_by(step) {
        let value = if field == Field::DayOfWeek { value % 7 } else { value - offset };
        values.bits[(value / 64) as usize] |= 1 << (value % 64);
    }
}

//! Validates requests for both protocols, and maps them to types of the engine.
//!
//! This file has the shared checks, and `choices` those of enumerations. `filter`, `page`, `schedule` and `worker` have
//! those of one subject, and the module `definition` those of a task.

pub(crate) mod choices;
mod events;
mod failures;
mod filter;
mod page;
mod schedule;
mod worker;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use rota_core::{Millis, Name, Priority, SessionId, TaskId, WallTime};
use rota_engine::{Cursor, RunAt, TaskRef};
use rota_proto::{Date, TimeSpan, json::has_lone_surrogate};
use serde::de::IgnoredAny;

use crate::{
    failure::{Failure, LimitName, Violation},
    limits::{DELAY, Limits, millis},
};

pub(crate) use events::{output, watch};
pub(crate) use failures::failures;
pub(crate) use filter::{filter, selection, time_limit};
pub(crate) use page::{ListPage, name_place, worker_place, worker_token};
pub(crate) use schedule::{
    backfill, calendar, nominal_time, pause, preview, schedule_filter, schedule_name,
    schedule_selection, tick_place, tick_range, tick_token, version,
};
pub(crate) use worker::{hello, lease, lease_request, report, reported_lease, reports_size};

/// The error of JSON with a lone surrogate.
const LONE_SURROGATE: &str = "has a lone surrogate (\\ud800 to \\udfff without its other half), which many JSON parsers \
 refuse";
/// Maximum number of errors in one answer.
const VIOLATIONS: usize = 20;

/// A place in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldPrefix {
    /// At the top level.
    Top,
    /// In the task at this index.
    Task(usize),
    /// In the filter.
    Filter,
    /// In a part of the request: its name and a dot.
    Within(&'static str),
}

impl fmt::Display for FieldPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Task(at) => write!(f, "tasks[{at}]."),
            Self::Filter => f.write_str("filter."),
            Self::Within(part) => f.write_str(part),
        }
    }
}

/// Collects the errors of a request, so that a client sees all at once.
pub(crate) struct Check {
    prefix: FieldPrefix,
    /// Maximum characters of a name.
    name_max: usize,
    violations: Vec<Violation>,
}

impl Check {
    pub(crate) fn new() -> Self {
        Self::at(FieldPrefix::Top)
    }

    pub(crate) fn at(prefix: FieldPrefix) -> Self {
        Self { prefix, name_max: Name::LEN_MAX, violations: Vec::new() }
    }

    /// With the limit for new names.
    pub(crate) fn naming(self, limits: &Limits) -> Self {
        Self { name_max: limits.name_characters.min(Name::LEN_MAX), ..self }
    }

    pub(crate) fn wrong(&mut self, field: impl fmt::Display, message: impl fmt::Display) {
        self.add(field, message, None);
    }

    fn add(
        &mut self,
        field: impl fmt::Display,
        message: impl fmt::Display,
        limit: Option<LimitName>,
    ) {
        if self.violations.len() < VIOLATIONS {
            let field = format!("{}{field}", self.prefix);
            self.violations.push(Violation { field, message: message.to_string(), limit });
        }
    }

    /// Takes over the errors of a part that was checked by itself.
    pub(crate) fn also<T>(&mut self, part: Result<T, Failure>) -> Option<T> {
        part.map_err(|failure| {
            let room = VIOLATIONS.saturating_sub(self.violations.len());
            self.violations.extend(failure.violations.into_iter().take(room));
        })
        .ok()
    }

    /// Checks valid JSON that is stored unchanged.
    pub(crate) fn json(&mut self, field: &str, json: &[u8], limits: &Limits) {
        let max = limits.json_depth;
        if is_deeper(json, max) {
            let limit = LimitName { name: "json_depth", max: max as u64 };
            self.add(field, format_args!("is nested deeper than {max} levels"), Some(limit));
        }
        if has_lone_surrogate(json) {
            self.wrong(field, LONE_SURROGATE);
        }
    }

    /// Labels by name, sorted.
    pub(crate) fn labels(
        &mut self,
        given: BTreeMap<String, String>,
        limits: &Limits,
    ) -> Vec<(Name, Box<str>)> {
        if !self.at_most("labels", "labels", given.len(), ("labels", limits.labels)) {
            return Vec::new();
        }
        let mut labels = Vec::with_capacity(given.len());
        for (name, value) in given {
            // An invalid name can be long.
            let place = format_args!("labels.{name:.32}");
            let limit = ("label_value_bytes", limits.label_value_bytes);
            self.at_most(place, "bytes", value.len(), limit);
            if value.contains('\0') {
                self.wrong(place, "must not contain NUL");
            }
            if let Some(name) = self.name(place, &name) {
                labels.push((name, value.into_boxed_str()));
            }
        }
        labels.sort_unstable();
        labels
    }

    fn ok<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.wrong(field, error)).ok()
    }

    /// Checks a maximum.
    pub(crate) fn at_most(
        &mut self,
        field: impl fmt::Display,
        what: &str,
        found: usize,
        (name, max): (&'static str, usize),
    ) -> bool {
        if found > max {
            let message = format!("has {found} {what}; the limit is {max}");
            self.add(field, message, Some(LimitName { name, max: max as u64 }));
        }
        found <= max
    }

    /// An optional text that must not be empty.
    pub(crate) fn given(&mut self, field: &str, text: Option<String>) -> Option<String> {
        if text.as_deref() == Some("") {
            self.wrong(field, "must not be empty");
        }
        text.filter(|text| !text.is_empty())
    }

    fn name(&mut self, field: impl fmt::Display, text: &str) -> Option<Name> {
        if !self.at_most(&field, "characters", text.len(), ("name_characters", self.name_max)) {
            return None;
        }
        Name::new(text).map_err(|error| self.wrong(field, error)).ok()
    }

    /// A name that can also be in paths, which cannot have a part of only dots.
    pub(crate) fn name_in_path(&mut self, field: &str, text: &str) -> Option<Name> {
        if !text.is_empty() && text.bytes().all(|c| c == b'.') {
            self.wrong(field, "must not consist of dots only");
            return None;
        }
        self.name(field, text)
    }

    pub(crate) fn date(&mut self, field: &str, at: Option<Date>) -> Option<WallTime> {
        let at = at?;
        let nanos_ok = (0..1_000_000_000).contains(&at.nanos);
        let millis = at.seconds.checked_mul(1000);
        let millis = millis.and_then(|millis| millis.checked_add((at.nanos / 1_000_000).into()));
        match millis {
            Some(millis) if nanos_ok && (0..=WallTime::MAX.0).contains(&millis) => {
                Some(WallTime(millis))
            }
            _ => {
                self.wrong(field, "is out of range: dates are from 1970 to the end of 2499");
                None
            }
        }
    }

    pub(crate) fn span(
        &mut self,
        field: &str,
        span: Option<TimeSpan>,
        (least, most): (Duration, Duration),
    ) -> Option<Millis> {
        let span = span?;
        // Not `Duration::try_from`, which panics for the smallest integer.
        let secs = u64::try_from(span.seconds).ok();
        let nanos = u32::try_from(span.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        match secs.zip(nanos).map(|(secs, nanos)| Duration::new(secs, nanos)) {
            Some(span) if least <= span && span <= most => Some(Millis::from_duration(span)),
            _ => {
                let most = TimeSpan::from(most);
                let least = TimeSpan::from(least);
                self.wrong(field, format_args!("must be from {least} to {most}"));
                None
            }
        }
    }

    /// A time from zero to a named limit.
    fn span_within(
        &mut self,
        field: &str,
        span: Option<TimeSpan>,
        (name, most): (&'static str, Duration),
    ) -> Option<Millis> {
        let before = self.violations.len();
        let seconds = span.and_then(|span| u64::try_from(span.seconds).ok());
        let checked = self.span(field, span, (Duration::ZERO, most));
        if seconds.is_some_and(|seconds| seconds >= most.as_secs()) {
            self.limited(before, LimitName { name, max: millis(most) });
        }
        checked
    }

    pub(crate) fn number(
        &mut self,
        field: &str,
        given: Option<u32>,
        default: u32,
        range: (u32, u32),
    ) -> u32 {
        match given {
            None => default,
            Some(number) if range.0 <= number && number <= range.1 => number,
            Some(number) => {
                let (least, most) = range;
                let message = format_args!("is {number}; it must be from {least} to {most}");
                self.wrong(field, message);
                default
            }
        }
    }

    /// A number from 1 to a named limit.
    fn number_within(
        &mut self,
        field: &str,
        given: Option<u32>,
        default: u32,
        (name, most): (&'static str, u32),
    ) -> u32 {
        let before = self.violations.len();
        let number = self.number(field, given, default, (1, most));
        if given.is_some_and(|given| given > most) {
            self.limited(before, LimitName { name, max: most.into() });
        }
        number
    }

    /// Adds the limit to the errors found since.
    fn limited(&mut self, since: usize, limit: LimitName) {
        self.violations.iter_mut().skip(since).for_each(|wrong| wrong.limit = Some(limit));
    }

    pub(crate) fn run_at(&mut self, at: Option<Date>, delay: Option<TimeSpan>) -> RunAt {
        self.time("run_at", at, delay)
    }

    /// A time in this field, or a delay instead.
    pub(crate) fn time(
        &mut self,
        field: &'static str,
        at: Option<Date>,
        delay: Option<TimeSpan>,
    ) -> RunAt {
        if at.is_some() && delay.is_some() {
            self.wrong("delay", format_args!("cannot be combined with {field}"));
        }
        let delay = self.span("delay", delay, (Duration::ZERO, DELAY));
        match (self.date(field, at), delay) {
            (Some(at), _) => RunAt::At(at),
            (None, Some(delay)) => RunAt::After(delay),
            (None, None) => RunAt::Now,
        }
    }

    pub(crate) fn priority(&mut self, level: u32) -> Option<Priority> {
        let priority = Priority::new(level);
        if priority.is_none() {
            self.wrong("priority", format_args!("is {level}; it must be from 0 to 9"));
        }
        priority
    }

    /// The result, if there are no errors.
    pub(crate) fn finish<T>(self, made: Option<T>) -> Result<T, Failure> {
        match made {
            Some(made) if self.violations.is_empty() => Ok(made),
            _ => Err(Failure::invalid(self.violations)),
        }
    }
}

/// Checks the number of tasks in a request.
pub(crate) fn batch_size(count: usize, limits: &Limits) -> Result<(), Failure> {
    let mut check = Check::new();
    if count == 0 {
        check.wrong("tasks", "must not be empty");
    }
    check.at_most("tasks", "tasks", count, ("batch", limits.batch));
    check.finish(Some(()))
}

/// Parses the id of a task.
pub(crate) fn task_ref(text: &str) -> Result<TaskRef, Failure> {
    match text.parse::<TaskId>() {
        Ok(id) => Ok(TaskRef::Id(id)),
        Err(_) => name("id", text).map(TaskRef::Named),
    }
}

/// Checks a name, such as that of a queue.
pub(crate) fn name(field: &str, text: &str) -> Result<Name, Failure> {
    let mut check = Check::new();
    let name = check.name(field, text);
    check.finish(name)
}

/// Checks the name of a queue or worker that need not exist yet. Paths must be able to contain it.
pub(crate) fn name_in_path(field: &str, text: &str, limits: &Limits) -> Result<Name, Failure> {
    let mut check = Check::new().naming(limits);
    let name = check.name_in_path(field, text);
    check.finish(name)
}

/// Checks the new time of a task.
pub(crate) fn reschedule(at: Option<Date>, delay: Option<TimeSpan>) -> Result<RunAt, Failure> {
    let mut check = Check::new();
    if at.is_none() && delay.is_none() {
        check.wrong("run_at", "is missing; set run_at or delay");
    }
    let run_at = check.run_at(at, delay);
    check.finish(Some(run_at))
}

/// Checks that a task that gets this time can start before it expires.
pub(crate) fn before_expiry(
    run_at: RunAt,
    expires_at: Option<WallTime>,
    now: WallTime,
) -> Result<(), Failure> {
    let mut check = Check::new();
    let (field, due) = match run_at {
        RunAt::Now => return Ok(()),
        RunAt::At(date) => ("run_at", date),
        RunAt::After(delay) => ("delay", now + delay),
    };
    if let Some(expires) = expires_at.filter(|expires| *expires <= due) {
        let expires = crate::wire::date(expires);
        check.wrong(
            field,
            format_args!(
                "must be before expires_at, which is {expires}; otherwise the task expires before it can run"
            ),
        );
    }
    check.finish(Some(()))
}

/// Checks a priority.
pub(crate) fn priority(level: u32) -> Result<Priority, Failure> {
    let mut check = Check::new();
    let priority = check.priority(level);
    check.finish(priority)
}

/// Checks a wait.
pub(crate) fn wait(wait: Option<TimeSpan>, limits: &Limits) -> Result<Option<Duration>, Failure> {
    let mut check = Check::new();
    let wait = check.span_within("wait", wait, ("wait_ms", limits.wait));
    check.finish(Some(wait.map(Millis::as_duration)))
}

/// Checks the size of a page. Zero means the default.
pub(crate) fn page_size(given: u32, default: u32, limits: &Limits) -> Result<usize, Failure> {
    up_to_a_page("page_size", (given > 0).then_some(given), default, limits)
}

/// Checks the maximum number of tasks to change.
pub(crate) fn bulk_limit(given: Option<u32>, limits: &Limits) -> Result<usize, Failure> {
    up_to_a_page("limit", given, 1000, limits)
}

fn up_to_a_page(
    field: &str,
    given: Option<u32>,
    default: u32,
    limits: &Limits,
) -> Result<usize, Failure> {
    let mut check = Check::new();
    let most = u32::try_from(limits.page_size).unwrap_or(u32::MAX);
    let size = check.number_within(field, given, default.min(most), ("page_size", most));
    check.finish(Some(size as usize))
}

/// Checks the cursor of a list.
pub(crate) fn cursor(text: &str) -> Result<Option<Cursor>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let before = TaskId::from_str(text).map_err(|_| {
        Failure::field("page_token", "is not a valid cursor; use the one from the previous page")
    })?;
    Ok(Some(Cursor { before }))
}

/// Parses a session id.
pub(crate) fn session(text: &str) -> Result<SessionId, Failure> {
    SessionId::from_str(text).map_err(|error| Failure::field("session", error.to_string()))
}

/// Checks JSON that is stored unchanged: every parser must accept it, so nesting is limited and lone
/// surrogates are refused.
pub(crate) fn json(field: &str, json: &[u8], limits: &Limits) -> Result<(), Failure> {
    let mut check = Check::new();
    check.json(field, json, limits);
    check.finish(Some(()))
}

/// Whether these bytes are JSON, however deeply nested.
fn is_json(bytes: &[u8]) -> bool {
    // `IgnoredAny` keeps nothing, so it does not recurse. It does not check UTF-8 either.
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

/// Whether these bytes are JSON that some parsers refuse. Parses them only if they can be.
pub(crate) fn is_odd_json(bytes: &[u8], limits: &Limits) -> bool {
    (is_deeper(bytes, limits.json_depth) || has_lone_surrogate(bytes)) && is_json(bytes)
}

/// Whether JSON is nested deeper than this. For other bytes, the result means nothing.
fn is_deeper(json: &[u8], max: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(within) = bytes.next() {
                    match within {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_lists_and_objects_outside_of_texts() {
        for (json, depth) in [
            ("1", 0),
            ("[]", 1),
            (r#"[[],{"a":[1]}]"#, 3),
            (r#""[[[[""#, 0),
            (r#"["\"[[", {"[":"\\"}, "]]"]"#, 2),
            (r#"[[1],[2],[3]]"#, 2),
        ] {
            assert!(!is_deeper(json.as_bytes(), depth), "{json}");
            assert!(depth == 0 || is_deeper(json.as_bytes(), depth - 1), "{json}");
        }
    }

    #[test]
    fn json_is_told_from_other_bytes_at_any_depth() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes();
        for (bytes, json, odd) in [
            (br#"{"a":1}"#.to_vec(), true, false),
            (nested(64), true, false),
            (nested(65), true, true),
            (nested(100_000), true, true),
            ("[".repeat(100).into_bytes(), false, false),
            (b"}}}}".to_vec(), false, false),
            (b"[\"\xff\"]".to_vec(), false, false),
            (br#""\ud83d""#.to_vec(), true, true),
            (br#"\ud83d"#.to_vec(), false, false),
            (b"1 2".to_vec(), false, false),
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            assert_eq!(is_json(&bytes), json, "{shown}");
            assert_eq!(is_odd_json(&bytes, &Limits::default()), odd, "{shown}");
        }
    }

    #[test]
    fn an_answer_names_a_bounded_number_of_violations() {
        let mut check = Check::at(FieldPrefix::Task(3));
        for at in 0..10_000 {
            check.wrong(format_args!("labels.{at}"), "is wrong");
        }
        let failure = check.finish(Some(())).unwrap_err();
        assert_eq!(failure.violations.len(), VIOLATIONS);
        assert_eq!(failure.violations[0].field, "tasks[3].labels.0");
    }

    #[test]
    fn dates_have_a_range() {
        let date = |seconds, nanos| {
            let mut check = Check::new();
            let date = check.date("at", Some(Date { seconds, nanos }));
            check.finish(date)
        };
        assert_eq!(date(1, 999_999_999), Ok(WallTime(1999)));
        assert_eq!(date(WallTime::MAX.0 / 1000, 0), Ok(WallTime::MAX));
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (0, 1_000_000_000),
            (WallTime::MAX.0 / 1000, 1_000_000),
            (i64::MAX, 0),
            (i64::MIN, i32::MIN),
        ] {
            assert!(date(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn spans_have_a_range() {
        let span = |seconds, nanos| {
            let mut check = Check::new();
            let range = (Duration::from_millis(1), Duration::from_secs(60));
            let span = check.span("wait", Some(TimeSpan { seconds, nanos }), range);
            check.finish(span)
        };
        assert_eq!(span(60, 0), Ok(Millis(60_000)));
        assert_eq!(span(0, 1_000_001), Ok(Millis(2)), "rounded up");
        for (seconds, nanos) in
            [(0, 0), (0, 999_999), (60, 1), (-1, 0), (i64::MAX, i32::MAX), (i64::MIN, i32::MIN)]
        {
            assert!(span(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }
}

//! Maps the definition of a schedule from the wire to the core, with all checks, and back.
//!
//! Both directions destructure each type exhaustively, so a new field does not compile until this file handles
//! it. `rota-cron` checks the nominal times; this file gives its errors the names of fields.

use std::{sync::Arc, time::Duration};

use rota_core::{Millis, Name, SCHEDULE_NAME_LEN_MAX, ScheduleDefinition, Template, TickRules};
use rota_cron::{
    CalendarRule, ExclusionSpec, IntervalSpec, Recurrence, RecurrenceError, RecurrenceSpec, Zone,
};
use rota_proto::{TimeSpan, v1};

use super::{description_of, template, texts};
use crate::{
    failure::Failure,
    limits::{CATCH_UP_WINDOW, INTERVAL, JITTER, Limits, SCHEDULE_BYTES},
    validate::{Check, FieldPrefix, choices},
    wire::span,
};

/// Names that would collide with REST paths.
const RESERVED: [&str; 3] = ["pause", "preview", "resume"];
/// Stands for the name in the preview of a definition without one.
const UNNAMED: &str = "example";

/// A definition whose next runs a client wants to know.
#[derive(Debug)]
pub(crate) struct Planned {
    /// The name of the schedule, or [`UNNAMED`].
    pub(crate) name: String,
    pub(crate) is_named: bool,
    pub(crate) times: Arc<RecurrenceSpec>,
    pub(crate) recurrence: Arc<Recurrence>,
    pub(crate) jitter: Millis,
}

/// The parts of a definition that could be read.
struct Parts {
    name: Option<Name>,
    times: RecurrenceSpec,
    recurrence: Option<Recurrence>,
    rules: TickRules,
    template: Option<Template>,
    labels: Vec<(Name, Box<str>)>,
    description: Option<Box<str>>,
    max_runs: Option<u64>,
}

/// Checks the definition of a schedule to create or replace.
pub(crate) fn schedule(
    definition: v1::ScheduleDefinition,
    limits: &Limits,
) -> Result<(Name, ScheduleDefinition), Failure> {
    let mut check = Check::new().naming(limits);
    for (field, is_missing) in
        [("name", definition.name.is_none()), ("template", definition.template.is_none())]
    {
        if is_missing {
            check.wrong(field, "is missing");
        }
    }
    let template = FieldPrefix::Within("template.");
    let Parts { name, times, recurrence, rules, template, labels, description, max_runs } =
        parts(&mut check, definition, template, limits);
    let made = name.zip(recurrence).zip(template).map(|((name, recurrence), template)| {
        let (times, recurrence) = (Arc::new(times), Arc::new(recurrence));
        let template = Arc::new(template);
        let definition = ScheduleDefinition {
            times,
            recurrence,
            rules,
            template,
            labels,
            description,
            max_runs,
        };
        (name, definition)
    });
    check.finish(made)
}

/// Checks a definition whose next runs a client wants to know. Name and template can be absent.
pub(crate) fn planned(
    definition: v1::ScheduleDefinition,
    limits: &Limits,
) -> Result<Planned, Failure> {
    let mut check = Check::at(FieldPrefix::Within("definition.")).naming(limits);
    let template = FieldPrefix::Within("definition.template.");
    let Parts { name, times, recurrence, rules, .. } =
        parts(&mut check, definition, template, limits);
    let is_named = name.is_some();
    let name = name.map_or_else(|| UNNAMED.to_owned(), |name| name.to_string());
    check.finish(recurrence.map(|recurrence| Planned {
        name,
        is_named,
        times: Arc::new(times),
        recurrence: Arc::new(recurrence),
        jitter: rules.jitter,
    }))
}

fn parts(
    check: &mut Check,
    definition: v1::ScheduleDefinition,
    of_template: FieldPrefix,
    limits: &Limits,
) -> Parts {
    let v1::ScheduleDefinition {
        name,
        expressions,
        intervals,
        dates,
        exclude,
        start,
        end,
        time_zone,
        gap,
        fold,
        jitter,
        overlap,
        catch_up,
        catch_up_window,
        catch_up_max,
        pause_on_failure,
        max_runs,
        labels,
        description,
        template,
    } = definition;
    let name = name.and_then(|name| name_of(check, &name));
    let intervals = intervals_of(check, intervals);
    let are_read = intervals.is_some();
    let times = RecurrenceSpec {
        expressions,
        intervals: intervals.unwrap_or_default(),
        dates,
        exclude: exclusions(check, exclude.unwrap_or_default()),
        start: check.given("start", start),
        end: check.given("end", end),
        time_zone: check.given("time_zone", time_zone),
        gap: choices::gap(check, "gap", gap),
        fold: choices::fold(check, "fold", fold),
    };
    let seed = name.as_deref().unwrap_or(UNNAMED);
    let recurrence = if are_read { recurrence(check, &times, seed) } else { None };
    let default = TickRules::default();
    let window = check.span("catch_up_window", catch_up_window, CATCH_UP_WINDOW);
    let rules = TickRules {
        overlap: choices::overlap(check, "overlap", overlap),
        catch_up: choices::catch_up(check, "catch_up", catch_up),
        catch_up_window: window.unwrap_or(default.catch_up_window),
        catch_up_max: check.number("catch_up_max", catch_up_max, default.catch_up_max, (1, 1000)),
        jitter: check.span("jitter", jitter, (Duration::ZERO, JITTER)).unwrap_or(default.jitter),
        pause_on_failure: check.number("pause_on_failure", pause_on_failure, 0, (0, 1000)),
    };
    if max_runs == Some(0) {
        check.wrong("max_runs", "is 0; it must be at least 1, or absent for no limit");
    }
    let labels = check.labels(labels, limits);
    let description = description_of(check, description);
    let template =
        template.and_then(|template| check.also(template::template(template, of_template, limits)));
    let expires = template.as_ref().and_then(|template| template.expires_after);
    if expires.is_some_and(|expires| expires <= rules.jitter) {
        let wrong = "must be longer than jitter; otherwise tasks can expire before they start";
        check.wrong("template.expires_after", wrong);
    }
    Parts { name, times, recurrence, rules, template, labels, description, max_runs }
}

fn name_of(check: &mut Check, name: &str) -> Option<Name> {
    if RESERVED.contains(&name) {
        check.wrong("name", "is reserved for paths of the API; choose another name");
        return None;
    }
    let limit = ("schedule_name_characters", SCHEDULE_NAME_LEN_MAX);
    if !check.at_most("name", "characters", name.len(), limit) {
        return None;
    }
    check.name_in_path("name", name)
}

/// The intervals, if all of them can be read.
fn intervals_of(check: &mut Check, intervals: Vec<v1::Interval>) -> Option<Vec<IntervalSpec>> {
    let count = intervals.len();
    let mut read = Vec::with_capacity(count);
    for (at, v1::Interval { every, phase }) in intervals.into_iter().enumerate() {
        let mut duration = |part: &str, span: Option<TimeSpan>| {
            // The interval checks its limits itself. This one keeps the time within its type.
            let range = (Duration::ZERO, INTERVAL);
            let field = format!("intervals[{at}].{part}");
            let exact = span.is_none_or(|span| span.nanos % 1_000_000 == 0);
            if !exact {
                check.wrong(&field, "must be a whole number of seconds");
            }
            check.span(&field, span, range).map(Millis::as_duration)
        };
        let (every_read, phase) = (duration("every", every), duration("phase", phase));
        if every.is_none() {
            check.wrong(format_args!("intervals[{at}].every"), "is missing");
        }
        if let Some(every) = every_read {
            read.push(IntervalSpec { every, phase: phase.unwrap_or_default() });
        }
    }
    (read.len() == count).then_some(read)
}

fn exclusions(check: &mut Check, exclude: v1::Exclusions) -> ExclusionSpec {
    let v1::Exclusions { expressions, dates, calendars } = exclude;
    let mut rules = Vec::with_capacity(calendars.len());
    for (at, v1::CalendarRule { name, on_holiday }) in calendars.into_iter().enumerate() {
        let field = format!("exclude.calendars[{at}].on_holiday");
        let on_holiday = choices::on_holiday(check, &field, on_holiday);
        check.name_in_path(&format!("exclude.calendars[{at}].name"), &name);
        rules.push(CalendarRule { name, on_holiday });
    }
    ExclusionSpec { expressions, dates, calendars: rules }
}

fn recurrence(check: &mut Check, times: &RecurrenceSpec, seed: &str) -> Option<Recurrence> {
    let exclude = &times.exclude;
    let lists = [&times.expressions, &times.dates, &exclude.expressions, &exclude.dates];
    let bytes: usize = lists.into_iter().flatten().map(String::len).sum();
    let limit = ("schedule_bytes", SCHEDULE_BYTES);
    if !check.at_most("expressions", "bytes with all dates and exclusions", bytes, limit) {
        return None;
    }
    let made = Recurrence::new(times, seed);
    made.map_err(|error| {
        let (field, message) = fault(times, &error);
        check.wrong(field, message);
    })
    .ok()
}

/// The field at fault, and the message without it.
fn fault(times: &RecurrenceSpec, error: &RecurrenceError) -> (String, String) {
    use RecurrenceError as E;
    match error {
        E::Empty => {
            let message = "is missing; a schedule needs at least one expression, interval or date";
            ("expressions".to_owned(), message.to_owned())
        }
        E::TooMany { field, count, limit } => {
            ((*field).to_owned(), format!("has {count} items; the limit is {limit}"))
        }
        E::Expression { field, index, error } => (format!("{field}[{index}]"), error.to_string()),
        E::ExcludedInterval { index } => {
            let message = "is an interval, which cannot be excluded; use a cron expression";
            (format!("exclude.expressions[{index}]"), message.to_owned())
        }
        E::Interval { index, error } => (format!("intervals[{index}]"), error.to_string()),
        E::Date { field, .. } => {
            let text = error.to_string();
            let message = text.strip_prefix(field.as_str()).unwrap_or(&text);
            (field.clone(), message.trim_start_matches([':', ' ']).to_owned())
        }
        E::Zone(unknown) => {
            // An expression can name a zone as well.
            let is_own = times.time_zone.as_ref().is_some_and(|name| Zone::find(name).is_err());
            let field = if is_own { "time_zone" } else { "expressions" };
            (field.to_owned(), unknown.to_string())
        }
        E::TwoZones { index, other, zone } => {
            let message = format!(
                "names the time zone {other:?} beside {zone:?}; a schedule has one time zone"
            );
            (format!("expressions[{index}]"), message)
        }
        E::EndBeforeStart => ("end".to_owned(), "must be after start".to_owned()),
        E::Calendar { index, reason } => {
            (format!("exclude.calendars[{index}]"), (*reason).to_owned())
        }
    }
}

/// Maps a definition to the wire.
pub(super) fn shown(name: &Name, definition: &ScheduleDefinition) -> v1::ScheduleDefinition {
    // The recurrence is the same as the times.
    let ScheduleDefinition { times, recurrence: _, rules, template, labels, description, max_runs } =
        definition;
    let TickRules { overlap, catch_up, catch_up_window, catch_up_max, jitter, pause_on_failure } =
        *rules;
    let RecurrenceSpec { expressions, intervals, dates, exclude, start, end, time_zone, gap, fold } =
        times.as_ref();
    let interval = |IntervalSpec { every, phase }: &IntervalSpec| v1::Interval {
        every: Some((*every).into()),
        phase: (!phase.is_zero()).then(|| (*phase).into()),
    };
    v1::ScheduleDefinition {
        name: Some(name.to_string()),
        expressions: expressions.clone(),
        intervals: intervals.iter().map(interval).collect(),
        dates: dates.clone(),
        exclude: (*exclude != ExclusionSpec::default()).then(|| shown_exclusions(exclude)),
        start: start.clone(),
        end: end.clone(),
        time_zone: time_zone.clone(),
        gap: Some(choices::show_gap(*gap)),
        fold: Some(choices::show_fold(*fold)),
        jitter: Some(span(jitter)),
        overlap: Some(choices::show_overlap(overlap)),
        catch_up: Some(choices::show_catch_up(catch_up)),
        catch_up_window: Some(span(catch_up_window)),
        catch_up_max: Some(catch_up_max),
        pause_on_failure: Some(pause_on_failure),
        max_runs: *max_runs,
        labels: texts(labels),
        description: description.as_deref().map(str::to_owned),
        template: Some(template::shown(template)),
    }
}

fn shown_exclusions(exclude: &ExclusionSpec) -> v1::Exclusions {
    let ExclusionSpec { expressions, dates, calendars } = exclude;
    let rule = |CalendarRule { name, on_holiday }: &CalendarRule| v1::CalendarRule {
        name: name.clone(),
        on_holiday: Some(choices::show_on_holiday(*on_holiday)),
    };
    v1::Exclusions {
        expressions: expressions.clone(),
        dates: dates.clone(),
        calendars: calendars.iter().map(rule).collect(),
    }
}

#[cfg(test)]
mod tests {
    use rota_core::{CatchUp, Overlap};

    use super::*;

    fn minutes(minutes: i64) -> Option<TimeSpan> {
        Some(TimeSpan { seconds: minutes * 60, nanos: 0 })
    }

    fn full() -> v1::ScheduleDefinition {
        let on_holiday = Some(v1::OnHoliday::Before.into());
        v1::ScheduleDefinition {
            name: Some("team/nightly".to_owned()),
            expressions: vec!["30 2 * * *".to_owned(), "H 9 * * 1-5".to_owned()],
            intervals: vec![v1::Interval { every: minutes(90), phase: minutes(10) }],
            dates: vec!["2030-12-24T18:00".to_owned()],
            exclude: Some(v1::Exclusions {
                expressions: vec!["* 2 1 * *".to_owned()],
                dates: vec!["2030-12-24..2030-12-26".to_owned()],
                calendars: vec![v1::CalendarRule { name: "holidays".to_owned(), on_holiday }],
            }),
            start: Some("2030-01-01T00:00:00Z".to_owned()),
            end: Some("2031-01-01T00:00".to_owned()),
            time_zone: Some("America/New_York".to_owned()),
            gap: Some(v1::Gap::Shift.into()),
            fold: Some(v1::Fold::Both.into()),
            jitter: minutes(5),
            overlap: Some(v1::Overlap::CancelRunning.into()),
            catch_up: Some(v1::CatchUp::All.into()),
            catch_up_window: minutes(600),
            catch_up_max: Some(7),
            pause_on_failure: Some(3),
            max_runs: Some(1000),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            description: Some("d".to_owned()),
            template: Some(v1::TaskTemplate {
                queue: Some("q".to_owned()),
                kind: "k".to_owned(),
                payload: r#"{"a": 1}"#.into(),
                labels: [("l".to_owned(), "v".to_owned())].into(),
                priority: Some(7),
                expires_after: minutes(60),
                timeout: minutes(1),
                retry: Some(v1::RetryPolicy {
                    max_attempts: Some(3),
                    initial: minutes(1),
                    multiplier: Some(1.5),
                    max: minutes(2),
                    jitter: Some(v1::Jitter::None.into()),
                    max_lost: Some(1),
                    max_snoozes: Some(2),
                }),
                retention: minutes(9),
                description: Some("t".to_owned()),
            }),
        }
    }

    fn read(definition: v1::ScheduleDefinition) -> (Name, ScheduleDefinition) {
        schedule(definition, &Limits::default()).expect("a definition")
    }

    #[test]
    fn each_field_comes_back_as_it_was_said() {
        let (name, definition) = read(full());
        assert_eq!(shown(&name, &definition), full());
        assert_eq!(definition.rules.overlap, Overlap::CancelRunning);
        assert_eq!(definition.rules.catch_up, CatchUp::All);
        assert_eq!(definition.template.expires_after, Some(Millis::from_secs(3600)));
        assert_eq!(definition.template.definition.expires_at, None);
    }

    #[test]
    fn what_is_absent_has_its_default_and_says_the_same_when_it_is_written() {
        let given = v1::ScheduleDefinition {
            name: Some("s".to_owned()),
            expressions: vec!["CRON_TZ=Asia/Tokyo 0 9 * * *".to_owned()],
            template: Some(v1::TaskTemplate { kind: "k".to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let (name, definition) = read(given);
        assert_eq!(definition.rules, TickRules::default());
        assert_eq!(definition.recurrence.zone().name(), "Asia/Tokyo");
        assert_eq!(read(shown(&name, &definition)), (name, definition));
    }

    #[test]
    fn a_preview_needs_neither_name_nor_template() {
        let definition =
            v1::ScheduleDefinition { expressions: vec!["@daily".to_owned()], ..Default::default() };
        let planned = planned(definition, &Limits::default()).expect("a plan");
        assert_eq!((planned.name.as_str(), planned.is_named), (UNNAMED, false));
    }

    #[test]
    fn times_that_only_protobuf_can_say_are_refused() {
        let interval = |seconds, nanos| {
            let every = Some(TimeSpan { seconds, nanos });
            let intervals = vec![v1::Interval { every, phase: None }];
            let given = v1::ScheduleDefinition { intervals, ..full() };
            let refused = schedule(given, &Limits::default()).expect_err("a wrong interval");
            refused.violations[0].field.clone()
        };
        assert_eq!(interval(i64::MAX, 0), "intervals[0].every");
        assert_eq!(interval(-1, 0), "intervals[0].every");
        assert_eq!(interval(60, i32::MIN), "intervals[0].every");
        assert_eq!(interval(60, 1), "intervals[0].every");
        assert_eq!(interval(60, 1_000_000), "intervals[0]");
        assert_eq!(interval(3660 * 86_400 + 1, 0), "intervals[0].every");
    }
}

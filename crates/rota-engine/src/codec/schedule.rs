//! The records of the definitions of schedules.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message;
use rota_core::{
    CatchUp, Millis, Name, Overlap, ScheduleDefinition, ScheduleFingerprints, ScheduleRecord,
    Template, TickRules, WallTime,
};
use rota_cron::{
    CalendarRule, ExclusionSpec, Fold, Gap, IntervalSpec, OnHoliday, Recurrence, RecurrenceSpec,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    CodecError, Decoded, bad, bytes_of, name, parse, priority,
    spec::{SpecMessage, definition, definition_message},
};

#[derive(Clone, PartialEq, Message)]
struct TimesMessage {
    #[prost(string, repeated, tag = "1")]
    expressions: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    intervals: Vec<IntervalMessage>,
    #[prost(string, repeated, tag = "3")]
    dates: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    excluded_expressions: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    excluded_dates: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    calendars: Vec<CalendarRuleMessage>,
    #[prost(string, optional, tag = "7")]
    start: Option<String>,
    #[prost(string, optional, tag = "8")]
    end: Option<String>,
    #[prost(string, optional, tag = "9")]
    time_zone: Option<String>,
    #[prost(uint32, tag = "10")]
    gap: u32,
    #[prost(uint32, tag = "11")]
    fold: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct IntervalMessage {
    #[prost(uint64, tag = "1")]
    every_ms: u64,
    #[prost(uint64, tag = "2")]
    phase_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CalendarRuleMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    on_holiday: u32,
}

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ScheduleMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    times: Option<TimesMessage>,
    #[prost(uint32, tag = "3")]
    overlap: u32,
    #[prost(uint32, tag = "4")]
    catch_up: u32,
    #[prost(uint64, tag = "5")]
    catch_up_window_ms: u64,
    #[prost(uint32, tag = "6")]
    catch_up_max: u32,
    #[prost(uint64, tag = "7")]
    jitter_ms: u64,
    #[prost(uint32, tag = "8")]
    pause_on_failure: u32,
    #[prost(message, optional, tag = "9")]
    template: Option<SpecMessage>,
    #[prost(uint32, tag = "10")]
    priority: u32,
    #[prost(uint64, optional, tag = "11")]
    expires_after_ms: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    labels: Vec<LabelMessage>,
    #[prost(string, optional, tag = "13")]
    description: Option<String>,
    #[prost(uint64, optional, tag = "14")]
    max_runs: Option<u64>,
    #[prost(int64, tag = "15")]
    created_at_ms: i64,
    #[prost(int64, tag = "16")]
    updated_at_ms: i64,
    #[prost(uint32, tag = "17")]
    version: u32,
    #[prost(fixed64, tag = "18")]
    whole: u64,
    #[prost(fixed64, tag = "19")]
    same_times: u64,
}

// The numbers of these words in the store are their places. Never change an order.
const OVERLAPS: [Overlap; 5] =
    [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll, Overlap::CancelRunning, Overlap::Allow];
const CATCH_UPS: [CatchUp; 3] = [CatchUp::Last, CatchUp::All, CatchUp::None];
const GAPS: [Gap; 3] = [Gap::End, Gap::Skip, Gap::Shift];
const FOLDS: [Fold; 3] = [Fold::First, Fold::Second, Fold::Both];
const HOLIDAYS: [OnHoliday; 3] = [OnHoliday::Skip, OnHoliday::Before, OnHoliday::After];

fn number<T: PartialEq>(words: &[T], word: &T) -> u32 {
    let place = words.iter().position(|other| other == word);
    place.and_then(|place| u32::try_from(place).ok()).expect("the table has each word")
}

fn word<T: Copy>(words: &[T], number: u32, what: &str) -> Decoded<T> {
    words.get(number as usize).copied().ok_or_else(|| bad(what))
}

fn times_message(times: &RecurrenceSpec) -> TimesMessage {
    let RecurrenceSpec { expressions, intervals, dates, exclude, start, end, time_zone, gap, fold } =
        times;
    let ExclusionSpec { expressions: excluded, dates: excluded_dates, calendars } = exclude;
    let interval = |IntervalSpec { every, phase }: &IntervalSpec| IntervalMessage {
        every_ms: Millis::from_duration(*every).0,
        phase_ms: Millis::from_duration(*phase).0,
    };
    let rule = |CalendarRule { name, on_holiday }: &CalendarRule| CalendarRuleMessage {
        name: name.clone(),
        on_holiday: number(&HOLIDAYS, on_holiday),
    };
    TimesMessage {
        expressions: expressions.clone(),
        intervals: intervals.iter().map(interval).collect(),
        dates: dates.clone(),
        excluded_expressions: excluded.clone(),
        excluded_dates: excluded_dates.clone(),
        calendars: calendars.iter().map(rule).collect(),
        start: start.clone(),
        end: end.clone(),
        time_zone: time_zone.clone(),
        gap: number(&GAPS, gap),
        fold: number(&FOLDS, fold),
    }
}

fn times(message: TimesMessage) -> Decoded<RecurrenceSpec> {
    let interval = |IntervalMessage { every_ms, phase_ms }| IntervalSpec {
        every: Duration::from_millis(every_ms),
        phase: Duration::from_millis(phase_ms),
    };
    let rule = |CalendarRuleMessage { name, on_holiday }| {
        let on_holiday = word(&HOLIDAYS, on_holiday, "unknown rule for holidays")?;
        Ok(CalendarRule { name, on_holiday })
    };
    Ok(RecurrenceSpec {
        expressions: message.expressions,
        intervals: message.intervals.into_iter().map(interval).collect(),
        dates: message.dates,
        exclude: ExclusionSpec {
            expressions: message.excluded_expressions,
            dates: message.excluded_dates,
            calendars: message.calendars.into_iter().map(rule).collect::<Decoded<_>>()?,
        },
        start: message.start,
        end: message.end,
        time_zone: message.time_zone,
        gap: word(&GAPS, message.gap, "unknown rule for gaps")?,
        fold: word(&FOLDS, message.fold, "unknown rule for folds")?,
    })
}

/// The fields of a definition. Those of the record are empty.
fn schedule_message(schedule: &ScheduleDefinition) -> ScheduleMessage {
    let ScheduleDefinition { times, recurrence: _, rules, template, labels, description, max_runs } =
        schedule;
    let TickRules { overlap, catch_up, catch_up_window, catch_up_max, jitter, pause_on_failure } =
        rules;
    let Template { definition, priority, expires_after } = template.as_ref();
    let label = |(name, value): &(Name, Box<str>)| LabelMessage {
        name: name.to_string(),
        value: value.to_string(),
    };
    ScheduleMessage {
        times: Some(times_message(times)),
        overlap: number(&OVERLAPS, overlap),
        catch_up: number(&CATCH_UPS, catch_up),
        catch_up_window_ms: catch_up_window.0,
        catch_up_max: *catch_up_max,
        jitter_ms: jitter.0,
        pause_on_failure: *pause_on_failure,
        template: Some(definition_message(definition)),
        priority: priority.level().into(),
        expires_after_ms: expires_after.map(|after| after.0),
        labels: labels.iter().map(label).collect(),
        description: description.as_deref().map(str::to_owned),
        max_runs: *max_runs,
        ..ScheduleMessage::default()
    }
}

/// The hashes of a definition. They are stored, so they must be the same in every version of Rota: a new field
/// must be absent from the message if it has its default.
pub(crate) fn fingerprints(schedule: &ScheduleDefinition) -> ScheduleFingerprints {
    let mut message = schedule_message(schedule);
    let times = message.times.as_ref().map(TimesMessage::encode_to_vec).unwrap_or_default();
    if let Some(template) = &mut message.template {
        // A repeat can have another trace context.
        template.leave_out_trace();
    }
    ScheduleFingerprints { whole: xxh3_64(&message.encode_to_vec()), times: xxh3_64(&times) }
}

pub(crate) fn encode_schedule(record: &ScheduleRecord) -> Bytes {
    let ScheduleRecord { name, definition, created_at, updated_at, version, fingerprints } = record;
    bytes_of(&ScheduleMessage {
        name: name.to_string(),
        created_at_ms: created_at.0,
        updated_at_ms: updated_at.0,
        version: *version,
        whole: fingerprints.whole,
        same_times: fingerprints.times,
        ..schedule_message(definition)
    })
}

/// Decodes the record of this schedule. A record of another one is damaged.
pub(crate) fn decode_schedule_of(schedule: &Name, bytes: &Bytes) -> Decoded<ScheduleRecord> {
    let record = decode_schedule(bytes)?;
    if record.name != *schedule {
        return Err(bad("the record belongs to another schedule"));
    }
    Ok(record)
}

fn decode_schedule(bytes: &Bytes) -> Decoded<ScheduleRecord> {
    let message: ScheduleMessage = parse(bytes)?;
    let name = name(&message.name)?;
    let times = times(message.times.ok_or_else(|| bad("the times are missing"))?)?;
    let recurrence = Recurrence::new(&times, &name)
        .map_err(|error| CodecError::Unknown(format!("times: {error}")))?;
    let label = |label: LabelMessage| Ok((super::name(&label.name)?, label.value.into()));
    let template = message.template.ok_or_else(|| bad("the template is missing"))?;
    let mut template = definition(template)?;
    // The machine keeps it, and the rest of the record not.
    template.payload = Bytes::copy_from_slice(&template.payload);
    Ok(ScheduleRecord {
        name,
        definition: ScheduleDefinition {
            times: Arc::new(times),
            recurrence: Arc::new(recurrence),
            rules: TickRules {
                overlap: word(&OVERLAPS, message.overlap, "unknown overlap policy")?,
                catch_up: word(&CATCH_UPS, message.catch_up, "unknown catch-up policy")?,
                catch_up_window: Millis(message.catch_up_window_ms),
                catch_up_max: message.catch_up_max,
                jitter: Millis(message.jitter_ms),
                pause_on_failure: message.pause_on_failure,
            },
            template: Arc::new(Template {
                definition: template,
                priority: priority(message.priority)?,
                expires_after: message.expires_after_ms.map(Millis),
            }),
            labels: message.labels.into_iter().map(label).collect::<Decoded<_>>()?,
            description: message.description.map(String::into_boxed_str),
            max_runs: message.max_runs,
        },
        created_at: WallTime(message.created_at_ms),
        updated_at: WallTime(message.updated_at_ms),
        version: message.version,
        fingerprints: ScheduleFingerprints { whole: message.whole, times: message.same_times },
    })
}

#[cfg(test)]
mod tests {
    use rota_core::{Definition, Priority};

    use super::*;

    fn named(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn record() -> ScheduleRecord {
        let times = RecurrenceSpec {
            expressions: vec!["0 9 * * MON-FRI".to_owned()],
            intervals: vec![IntervalSpec {
                every: Duration::from_secs(3600),
                phase: Duration::from_secs(60),
            }],
            dates: vec!["2026-12-24T18:00".to_owned()],
            exclude: ExclusionSpec {
                expressions: vec!["* * 25 12 *".to_owned()],
                dates: vec!["2026-12-26".to_owned()],
                calendars: vec![CalendarRule {
                    name: "holidays".to_owned(),
                    on_holiday: OnHoliday::After,
                }],
            },
            start: Some("2026-01-01T00:00".to_owned()),
            end: Some("2030-01-01T00:00".to_owned()),
            time_zone: Some("Europe/Berlin".to_owned()),
            gap: Gap::Shift,
            fold: Fold::Both,
        };
        let definition = ScheduleDefinition {
            recurrence: Arc::new(Recurrence::new(&times, "nightly").unwrap()),
            times: Arc::new(times),
            rules: TickRules {
                overlap: Overlap::CancelRunning,
                catch_up: CatchUp::None,
                catch_up_window: Millis(1),
                catch_up_max: 2,
                jitter: Millis(3),
                pause_on_failure: 4,
            },
            template: Arc::new(Template {
                definition: Definition {
                    payload: Bytes::from_static(b"{}"),
                    ..Definition::new(named("q"), named("k"))
                },
                priority: Priority::MAX,
                expires_after: Some(Millis(5)),
            }),
            labels: vec![(named("team"), "a".into())],
            description: Some("d".into()),
            max_runs: Some(6),
        };
        ScheduleRecord {
            name: named("nightly"),
            fingerprints: fingerprints(&definition),
            definition,
            created_at: WallTime(7),
            updated_at: WallTime(8),
            version: 9,
        }
    }

    #[test]
    fn a_definition_that_was_written_is_read() {
        let record = record();
        assert_eq!(decode_schedule(&encode_schedule(&record)).unwrap(), record);
    }

    /// They are in stores, so they may never change.
    #[test]
    fn fingerprints_are_as_they_always_were() {
        let ScheduleFingerprints { whole, times } = record().fingerprints;
        assert_eq!(format!("{whole:016x} {times:016x}"), "c47ae13dfe2fd153 aa772e8f08a7aa69");
    }

    #[test]
    fn a_recurrence_that_this_version_does_not_know_is_of_a_newer_one() {
        let mut message = schedule_message(&record().definition);
        message.name = "nightly".to_owned();
        message.times.as_mut().unwrap().time_zone = Some("Mars/Olympus_Mons".to_owned());
        let error = decode_schedule(&bytes_of(&message)).unwrap_err();
        assert!(matches!(error, CodecError::Unknown(_)), "{error}");
    }
}

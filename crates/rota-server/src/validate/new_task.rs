//! New tasks.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use rota_core::{Binds, Definition, Jitter, Name, Policy, Priority, RetryPolicy, TaskId, WallTime};
use rota_engine::{LeftOut, LeftOutOfRetry, NewTask, RunAt};
use rota_proto::v1;

use super::{Check, Place, is_odd_json};
use crate::{
    failure::Failure,
    limits::{BACKOFF, Limits, RETENTION, TIMEOUT},
};

/// Ids that the paths of REST use themselves.
const RESERVED: [&str; 2] = ["batch", "bulk"];

/// A new task, and where it stands in its request. Also what its client left out of it.
pub(crate) fn new_task(
    task: v1::NewTask,
    place: Place,
    limits: &Limits,
    now: impl Fn() -> WallTime,
) -> Result<(NewTask, LeftOut), Failure> {
    let left_out = left_out(&task);
    Ok((checked(task, place, limits, now)?, left_out))
}

fn left_out(task: &v1::NewTask) -> LeftOut {
    let retry = task.retry.unwrap_or_default();
    LeftOut {
        queue: task.queue.is_empty(),
        priority: task.priority.is_none(),
        timeout: task.timeout.is_none(),
        retry: LeftOutOfRetry {
            max_attempts: retry.max_attempts.is_none(),
            initial: retry.initial.is_none(),
            multiplier: retry.multiplier.is_none(),
            max: retry.max.is_none(),
            jitter: retry.jitter() == v1::Jitter::Unspecified,
            max_lost: retry.max_lost.is_none(),
        },
    }
}

fn checked(
    task: v1::NewTask,
    place: Place,
    limits: &Limits,
    now: impl Fn() -> WallTime,
) -> Result<NewTask, Failure> {
    let mut check = Check::at(place).naming(limits);
    let queue = if task.queue.is_empty() { "default" } else { &task.queue };
    let queue = check.name_in_path("queue", queue);
    let kind = check.name_in_path("kind", &task.kind);
    let payload_limit = ("payload_bytes", limits.payload_bytes);
    check.at_most("payload", "bytes", task.payload.len(), payload_limit);
    // What is not JSON is shown in base 64, and may be anything.
    if is_odd_json(&task.payload, limits) {
        check.json("payload", &task.payload, limits);
    }
    let labels = labels(&mut check, task.labels, limits);
    let binds = binds(&mut check, &task.id, task.idempotency_key, limits);
    let priority = match task.priority {
        Some(level) => check.priority(level),
        None => Some(Priority::default()),
    };
    let run_at = check.run_at(task.run_at, task.delay);
    let expires_at = check.date("expires_at", task.expires_at);
    let due = match run_at {
        // One that names itself may repeat a task that was in time when it came. The engine knows.
        _ if !binds.is_empty() || expires_at.is_none() => None,
        RunAt::Now => Some((now(), "the present")),
        RunAt::At(date) => Some((date.max(now()), "run_at and the present")),
        RunAt::After(delay) => Some((now() + delay, "the end of delay")),
    };
    if let (Some((due, what)), Some(expires)) = (due, expires_at)
        && expires <= due
    {
        let message =
            format_args!("is not after {what}: the task would expire before it could run");
        check.wrong("expires_at", message);
    }
    let timeout = check.span("timeout", task.timeout, (Duration::from_millis(1), TIMEOUT));
    let retention = check.span("retention", task.retention, (Duration::ZERO, RETENTION));
    let retry = retry(&mut check, task.retry.unwrap_or_default());
    let defaults = Policy::default();
    let policy = Policy { retry, timeout: timeout.unwrap_or(defaults.timeout), retention };
    let made = queue.zip(kind).zip(priority).map(|((queue, kind), priority)| {
        let payload = task.payload;
        let trace = None;
        let definition = Definition { queue, kind, payload, labels, expires_at, policy, trace };
        NewTask { binds, definition, priority, run_at }
    });
    check.finish(made)
}

/// Labels by name, sorted.
pub(super) fn labels(
    check: &mut Check,
    given: BTreeMap<String, String>,
    limits: &Limits,
) -> Vec<(Name, Box<str>)> {
    if !check.at_most("labels", "labels", given.len(), ("labels", limits.labels)) {
        return Vec::new();
    }
    let mut labels = Vec::with_capacity(given.len());
    // In an order of their own, so that the same request gets the same answer.
    for (name, value) in given.into_iter().collect::<BTreeMap<_, _>>() {
        // A name that is wrong may be long as well.
        let place = format_args!("labels.{name:.32}");
        let limit = ("label_value_bytes", limits.label_value_bytes);
        check.at_most(place, "bytes", value.len(), limit);
        if value.contains('\0') {
            check.wrong(place, "must not contain NUL");
        }
        if let Some(name) = check.name(place, &name) {
            labels.push((name, value.into_boxed_str()));
        }
    }
    labels.sort_unstable();
    labels
}

fn binds(check: &mut Check, id: &str, key: String, limits: &Limits) -> Binds {
    let id = if id.is_empty() {
        None
    } else if TaskId::from_str(id).is_ok() || looks_generated(id) {
        check.wrong("id", "looks like an id that Rota generates; choose one of another form");
        None
    } else if RESERVED.contains(&id) {
        check.wrong("id", "is a word that paths of the API use; choose another one");
        None
    } else {
        check.name_in_path("id", id)
    };
    let limit = ("idempotency_key_bytes", limits.idempotency_key_bytes);
    check.at_most("idempotency_key", "bytes", key.len(), limit);
    if key.chars().any(char::is_control) {
        check.wrong("idempotency_key", "must not contain control characters");
    }
    Binds { id, key: (!key.is_empty()).then(|| key.into()) }
}

/// Whether an id has the form of those that Rota generates. No task has the one of zeros alone, but
/// nobody could tell.
fn looks_generated(id: &str) -> bool {
    let digits = id.strip_prefix("t_").unwrap_or_default().as_bytes();
    let is_digit = |c: &u8| {
        c.is_ascii_digit() || c.is_ascii_lowercase() && !matches!(c, b'i' | b'l' | b'o' | b'u')
    };
    digits.len() == 13 && digits[0].is_ascii_hexdigit() && digits.iter().all(is_digit)
}

fn retry(check: &mut Check, given: v1::RetryPolicy) -> RetryPolicy {
    let default = RetryPolicy::default();
    let jitter = match v1::Jitter::try_from(given.jitter) {
        Ok(v1::Jitter::None) => Jitter::None,
        Ok(v1::Jitter::Full | v1::Jitter::Unspecified) => Jitter::Full,
        Err(_) => {
            check.wrong("retry.jitter", format_args!("is {}, which is not a jitter", given.jitter));
            Jitter::Full
        }
    };
    let range = (Duration::ZERO, BACKOFF);
    let initial = check.span("retry.initial", given.initial, range);
    let max = check.span("retry.max", given.max, range);
    let longest = max.unwrap_or(default.max);
    if initial.is_some_and(|initial| initial > longest) {
        let longest = rota_proto::json::Span(longest.as_duration());
        check.wrong("retry.initial", format_args!("is above retry.max, which is {longest}"));
    }
    let multiplier = given.multiplier.unwrap_or(default.multiplier);
    if !(1.0..=100.0).contains(&multiplier) {
        let message = format_args!("is {multiplier}; it must be from 1 to 100");
        check.wrong("retry.multiplier", message);
    }
    let attempts = ("retry.max_attempts", given.max_attempts, default.max_attempts);
    let lost = ("retry.max_lost", given.max_lost, default.max_lost);
    RetryPolicy {
        max_attempts: check.number(attempts.0, attempts.1, attempts.2, (1, 1000)),
        initial: initial.unwrap_or(default.initial),
        multiplier,
        max: longest,
        jitter,
        max_lost: check.number(lost.0, lost.1, lost.2, (0, 1000)),
    }
}

#[cfg(test)]
mod tests {
    use rota_core::Millis;

    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn made(task: v1::NewTask) -> Result<NewTask, Vec<String>> {
        let task = v1::NewTask { kind: "k".to_owned(), ..task };
        new_task(task, Place::Top, &Limits::default(), || NOW)
            .map(|(task, _)| task)
            .map_err(|failure| failure.violations.into_iter().map(|wrong| wrong.field).collect())
    }

    fn wrong(task: v1::NewTask) -> Vec<String> {
        made(task).expect_err("something is wrong with it")
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let task = made(v1::NewTask::default()).unwrap();
        assert_eq!((&*task.definition.queue, &*task.definition.kind), ("default", "k"));
        assert_eq!(task.priority, Priority::default());
        assert_eq!(task.run_at, RunAt::Now);
        assert_eq!(task.definition.policy, Policy::default());
        assert!(task.binds.is_empty());
    }

    #[test]
    fn numbers_that_only_protobuf_can_say_are_checked() {
        let retry = |retry| v1::NewTask { retry: Some(retry), ..v1::NewTask::default() };
        for multiplier in [f64::NAN, f64::INFINITY, -0.0, 100.1] {
            let given = v1::RetryPolicy { multiplier: Some(multiplier), ..Default::default() };
            assert_eq!(wrong(retry(given)), ["retry.multiplier"], "{multiplier}");
        }
        let given = v1::RetryPolicy { jitter: 7, ..Default::default() };
        assert_eq!(wrong(retry(given)), ["retry.jitter"]);
        let delay = |seconds, nanos| v1::NewTask {
            delay: Some(prost_types::Duration { seconds, nanos }),
            ..v1::NewTask::default()
        };
        assert_eq!(made(delay(1, 500_000_000)).unwrap().run_at, RunAt::After(Millis(1500)));
        assert_eq!(wrong(delay(i64::MAX, 0)), ["delay"]);
        assert_eq!(wrong(delay(0, i32::MIN)), ["delay"]);
    }

    #[test]
    fn a_task_must_be_due_before_it_expires() {
        let task = |seconds: i64| v1::NewTask {
            delay: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            expires_at: Some(crate::wire::date(WallTime(NOW.0 + seconds * 1000))),
            ..v1::NewTask::default()
        };
        assert!(made(task(61)).is_ok());
        assert_eq!(wrong(task(60)), ["expires_at"]);
        let now = |seconds| v1::NewTask { delay: None, ..task(seconds) };
        assert!(made(now(1)).is_ok());
        assert_eq!(wrong(now(0)), ["expires_at"]);
        let past = |seconds: i64| v1::NewTask {
            run_at: Some(crate::wire::date(WallTime(NOW.0 - 60_000))),
            ..now(seconds)
        };
        assert!(made(past(1)).is_ok());
        assert_eq!(wrong(past(-30)), ["expires_at"], "due now, and over since half a minute");
        // It may be a repeat of a task that the engine knows.
        let keyed = |seconds| v1::NewTask { idempotency_key: "k".to_owned(), ..task(seconds) };
        assert!(made(keyed(59)).is_ok());
        let named = |seconds| v1::NewTask { id: "mine".to_owned(), ..task(seconds) };
        assert!(made(named(-3600)).is_ok());
    }

    #[test]
    fn bytes_that_are_nearly_json_are_refused_and_others_are_not_looked_at() {
        let payload = |payload: &'static [u8]| v1::NewTask {
            payload: bytes::Bytes::from_static(payload),
            ..v1::NewTask::default()
        };
        assert_eq!(wrong(payload(br#"["\ud83d"]"#)), ["payload"]);
        assert!(made(payload(br#"["\ud83d\ude00"]"#)).is_ok());
        assert!(made(payload(br"\ud83d is no JSON")).is_ok());
    }

    #[test]
    fn ids_of_the_generated_form_are_refused() {
        let id = |id: &str| v1::NewTask { id: id.to_owned(), ..v1::NewTask::default() };
        for taken in ["t_0000000000000", "t_0123456789abc", "t_fzzzzzzzzzzzz"] {
            assert_eq!(wrong(id(taken)), ["id"], "{taken}");
        }
        for free in ["t_000000000000", "t_00000000000000", "t_g000000000000", "t_000000000000i"] {
            assert!(made(id(free)).is_ok(), "{free}");
        }
    }

    #[test]
    fn labels_are_sorted_and_too_many_are_not_looked_at() {
        let labels = |count| v1::NewTask {
            labels: (0..count).map(|n| (format!("l{n:02}"), n.to_string())).collect(),
            ..v1::NewTask::default()
        };
        let task = made(labels(32)).unwrap();
        assert!(task.definition.labels.is_sorted());
        assert_eq!(task.definition.labels.len(), 32);
        assert_eq!(wrong(labels(100_000)), ["labels"]);
    }

    #[test]
    fn a_violation_names_its_limit() {
        let payload = bytes::Bytes::from(vec![0; (1 << 20) + 1]);
        let task = v1::NewTask { payload, ..v1::NewTask::default() };
        let failure = new_task(task, Place::Task(7), &Limits::default(), || NOW).unwrap_err();
        let payload = &failure.violations[1];
        assert_eq!(payload.field, "tasks[7].payload");
        assert_eq!(payload.message, "has 1048577 bytes; the limit is 1048576");
        assert_eq!(payload.limit.map(|limit| limit.name), Some("payload_bytes"));
    }
}

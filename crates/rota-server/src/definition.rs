//! Maps the definition of a task from the wire to the engine, with all checks, and back.
//!
//! Both directions destructure each type exhaustively, so a new field does not compile until this file
//! handles it. `schedule` and `template` do the same for schedules. `validate` has the checks that other requests
//! share; `wire` maps the state of a task.

mod schedule;
mod schedule_view;
mod template;

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use rota_core::{
    ClientKeys, Definition, Jitter, Name, Policy, Priority, RetryPolicy, TaskId, TaskSpec, WallTime,
};
use rota_engine::{Dispatched, LeftOut, LeftOutOfRetry, NewTask, RunAt, TaskEdit, TaskView};
use rota_proto::v1;

use crate::{
    failure::Failure,
    limits::{BACKOFF, Limits, RETENTION, TIMEOUT},
    validate::{Check, FieldPrefix, is_odd_json},
    wire::{date, failure, span, status, tick, waiting},
};

pub(crate) use schedule::{Planned, planned, schedule};
pub(crate) use schedule_view::shown_schedule;

/// Ids that would collide with REST paths.
const RESERVED: [&str; 2] = ["batch", "bulk"];

/// Checks a new task. `place` is its place in the request.
pub(crate) fn new_task(
    task: v1::NewTask,
    prefix: FieldPrefix,
    limits: &Limits,
    now: impl Fn() -> WallTime,
) -> Result<(NewTask, LeftOut), Failure> {
    let left_out = left_out(&task);
    Ok((checked(task, prefix, limits, now)?, left_out))
}

fn left_out(task: &v1::NewTask) -> LeftOut {
    let retry = task.retry.unwrap_or_default();
    LeftOut {
        queue: task.queue.is_none(),
        priority: task.priority.is_none(),
        timeout: task.timeout.is_none(),
        retry: LeftOutOfRetry {
            max_attempts: retry.max_attempts.is_none(),
            initial: retry.initial.is_none(),
            multiplier: retry.multiplier.is_none(),
            max: retry.max.is_none(),
            jitter: retry.jitter() == v1::Jitter::Unspecified,
            max_lost: retry.max_lost.is_none(),
            max_snoozes: retry.max_snoozes.is_none(),
        },
    }
}

fn checked(
    task: v1::NewTask,
    prefix: FieldPrefix,
    limits: &Limits,
    now: impl Fn() -> WallTime,
) -> Result<NewTask, Failure> {
    let v1::NewTask {
        id,
        queue,
        kind,
        payload,
        labels,
        description,
        priority,
        run_at,
        delay,
        expires_at,
        timeout,
        retry,
        idempotency_key,
        retention,
    } = task;
    let mut check = Check::at(prefix).naming(limits);
    let queue = match check.given("queue", queue) {
        Some(queue) => check.name_in_path("queue", &queue),
        None => check.name_in_path("queue", "default"),
    };
    let kind = check.name_in_path("kind", &kind);
    check.at_most("payload", "bytes", payload.len(), ("payload_bytes", limits.payload_bytes));
    // Other bytes are shown in base64, and need no check.
    if is_odd_json(&payload, limits) {
        check.json("payload", &payload, limits);
    }
    let labels = check.labels(labels, limits);
    let description = description_of(&mut check, description);
    let client_keys = client_keys(&mut check, id, idempotency_key, limits);
    let priority = match priority {
        Some(level) => check.priority(level),
        None => Some(Priority::default()),
    };
    let run_at = check.run_at(run_at, delay);
    let expires_at = check.date("expires_at", expires_at);
    // A task with an id or key can repeat a submission that was in time. The engine checks it.
    if client_keys.is_empty() {
        due_before_expiry(&mut check, run_at, expires_at, now);
    }
    let timeout = check.span("timeout", timeout, (Duration::from_millis(1), TIMEOUT));
    let retention = check.span("retention", retention, (Duration::ZERO, RETENTION));
    let retry = checked_retry(&mut check, retry.unwrap_or_default());
    let timeout = timeout.unwrap_or(Policy::default().timeout);
    let policy = Policy { retry, timeout, retention };
    let made = queue.zip(kind).zip(priority).map(|((queue, kind), priority)| {
        let trace = None;
        let definition =
            Definition { queue, kind, payload, labels, description, expires_at, policy, trace };
        NewTask { client_keys, definition, priority, run_at }
    });
    check.finish(made)
}

/// Applies a change to a waiting task: the parts that the mask names.
pub(crate) fn edit(
    view: &TaskView,
    change: &v1::TaskChange,
    mask: &[String],
    limits: &Limits,
    now: impl Fn() -> WallTime,
) -> Result<TaskEdit, Failure> {
    let mask = if mask.is_empty() { &parts_of(change) } else { mask };
    let mut new = as_new(view);
    for part in mask {
        replace(&mut new, change, part)?;
    }
    let names = |part: &str| mask.iter().any(|named| named == part);
    let (has_priority, has_time) = (names("priority"), names("run_at") || names("delay"));
    let NewTask { definition, priority, run_at, .. } = checked(new, FieldPrefix::Top, limits, now)?;
    let mut spec = TaskSpec::clone(&view.spec);
    let trace = spec.definition.trace.take();
    spec.definition = Definition { trace, ..definition };
    Ok(TaskEdit {
        spec,
        edits: view.edits,
        priority: has_priority.then_some(priority),
        run_at: has_time.then_some(run_at),
    })
}

/// The parts that a change sets, for a request without a mask.
fn parts_of(change: &v1::TaskChange) -> Vec<String> {
    let v1::TaskChange {
        description,
        payload,
        labels,
        priority,
        run_at,
        delay,
        expires_at,
        timeout,
        retry,
        retention,
    } = change;
    let parts = [
        ("description", description.is_some()),
        ("payload", !payload.is_empty()),
        ("labels", !labels.is_empty()),
        ("priority", priority.is_some()),
        ("run_at", run_at.is_some()),
        ("delay", delay.is_some()),
        ("expires_at", expires_at.is_some()),
        ("timeout", timeout.is_some()),
        ("retry", retry.is_some()),
        ("retention", retention.is_some()),
    ];
    parts.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned()).collect()
}

/// The task as a submission, without its id, key and time.
fn as_new(view: &TaskView) -> v1::NewTask {
    let task = task(view);
    v1::NewTask {
        id: None,
        queue: Some(task.queue),
        kind: task.kind,
        payload: task.payload,
        labels: task.labels,
        description: task.description,
        priority: None,
        run_at: None,
        delay: None,
        expires_at: task.expires_at,
        timeout: task.timeout,
        retry: task.retry,
        idempotency_key: None,
        retention: task.retention,
    }
}

/// Copies a part from a change. If the change does not set it, resets it to its default.
fn replace(new: &mut v1::NewTask, change: &v1::TaskChange, part: &str) -> Result<(), Failure> {
    match part {
        "description" => new.description.clone_from(&change.description),
        "payload" => new.payload = change.payload.clone(),
        "labels" => new.labels.clone_from(&change.labels),
        "priority" => new.priority = change.priority,
        "run_at" => new.run_at = change.run_at,
        "delay" => new.delay = change.delay,
        "expires_at" => new.expires_at = change.expires_at,
        "timeout" => new.timeout = change.timeout,
        "retry" => new.retry = change.retry,
        "retention" => new.retention = change.retention,
        _ => {
            if let Some(name) = part.strip_prefix("labels.") {
                match change.labels.get(name) {
                    Some(value) => new.labels.insert(name.to_owned(), value.clone()),
                    None => new.labels.remove(name),
                };
                return Ok(());
            }
            let retry = new.retry.get_or_insert_default();
            let given = change.retry.unwrap_or_default();
            match part.strip_prefix("retry.").unwrap_or_default() {
                "max_attempts" => retry.max_attempts = given.max_attempts,
                "initial" => retry.initial = given.initial,
                "multiplier" => retry.multiplier = given.multiplier,
                "max" => retry.max = given.max,
                "jitter" => retry.jitter = given.jitter,
                "max_lost" => retry.max_lost = given.max_lost,
                "max_snoozes" => retry.max_snoozes = given.max_snoozes,
                _ => {
                    return Err(Failure::field(part, "is not a changeable part of a task"));
                }
            }
        }
    }
    Ok(())
}

fn description_of(check: &mut Check, given: Option<String>) -> Option<Box<str>> {
    let text = check.given("description", given)?;
    let (count, most) = (text.chars().count(), Definition::DESCRIPTION_CHARS_MAX);
    if count > most {
        check.wrong("description", format_args!("has {count} characters; the limit is {most}"));
    }
    if text.contains('\0') {
        check.wrong("description", "must not contain NUL");
    }
    Some(text.into_boxed_str())
}

fn due_before_expiry(
    check: &mut Check,
    run_at: RunAt,
    expires_at: Option<WallTime>,
    now: impl Fn() -> WallTime,
) {
    let Some(expires) = expires_at else { return };
    let (due, what) = match run_at {
        RunAt::Now => (now(), "now"),
        RunAt::At(date) => (date.max(now()), "run_at and now"),
        RunAt::After(delay) => (now() + delay, "the end of delay"),
    };
    if expires <= due {
        let message =
            format_args!("must be after {what}; otherwise the task expires before it can run");
        check.wrong("expires_at", message);
    }
}

fn client_keys(
    check: &mut Check,
    id: Option<String>,
    key: Option<String>,
    limits: &Limits,
) -> ClientKeys {
    let id = check.given("id", id).and_then(|id| {
        if TaskId::from_str(&id).is_ok() || looks_generated(&id) {
            check.wrong("id", "has the form of generated ids (t_…); choose another id");
            None
        } else if RESERVED.contains(&id.as_str()) {
            check.wrong("id", "is reserved for paths of the API; choose another id");
            None
        } else {
            check.name_in_path("id", &id)
        }
    });
    let Some(key) = check.given("idempotency_key", key) else {
        return ClientKeys { id, key: None };
    };
    let limit = ("idempotency_key_bytes", limits.idempotency_key_bytes);
    check.at_most("idempotency_key", "bytes", key.len(), limit);
    if key.chars().any(char::is_control) {
        check.wrong("idempotency_key", "must not contain control characters");
    }
    ClientKeys { id, key: Some(key.into()) }
}

/// Whether an id has the form of generated ids.
fn looks_generated(id: &str) -> bool {
    let digits = id.strip_prefix("t_").unwrap_or_default().as_bytes();
    let is_digit = |c: &u8| {
        c.is_ascii_digit() || c.is_ascii_lowercase() && !matches!(c, b'i' | b'l' | b'o' | b'u')
    };
    digits.len() == 13 && digits[0].is_ascii_hexdigit() && digits.iter().all(is_digit)
}

fn checked_retry(check: &mut Check, given: v1::RetryPolicy) -> RetryPolicy {
    let v1::RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        given;
    let default = RetryPolicy::default();
    let number = jitter.unwrap_or_default();
    let jitter = match v1::Jitter::try_from(number) {
        Ok(v1::Jitter::None) => Jitter::None,
        Ok(v1::Jitter::Full | v1::Jitter::Unspecified) => Jitter::Full,
        Err(_) => {
            check.wrong(
                "retry.jitter",
                format_args!("is {number}; it must be a value of the enum Jitter"),
            );
            Jitter::Full
        }
    };
    let range = (Duration::ZERO, BACKOFF);
    let initial = check.span("retry.initial", initial, range);
    let max = check.span("retry.max", max, range).unwrap_or(default.max);
    if initial.is_some_and(|initial| initial > max) {
        let longest = span(max);
        check.wrong(
            "retry.initial",
            format_args!("must not be above retry.max, which is {longest}"),
        );
    }
    let multiplier = multiplier.unwrap_or(default.multiplier);
    if !(1.0..=100.0).contains(&multiplier) {
        let message = format_args!("is {multiplier}; it must be from 1 to 100");
        check.wrong("retry.multiplier", message);
    }
    let attempts = default.max_attempts;
    RetryPolicy {
        max_attempts: check.number("retry.max_attempts", max_attempts, attempts, (1, 1000)),
        initial: initial.unwrap_or(default.initial),
        multiplier,
        max,
        jitter,
        max_lost: check.number("retry.max_lost", max_lost, default.max_lost, (0, 1000)),
        max_snoozes: check.number(
            "retry.max_snoozes",
            max_snoozes,
            default.max_snoozes,
            (0, 10_000),
        ),
    }
}

fn retry(policy: &RetryPolicy) -> v1::RetryPolicy {
    let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        policy;
    let jitter = match jitter {
        Jitter::Full => v1::Jitter::Full,
        Jitter::None => v1::Jitter::None,
    };
    v1::RetryPolicy {
        max_attempts: Some(*max_attempts),
        initial: Some(span(*initial)),
        multiplier: Some(*multiplier),
        max: Some(span(*max)),
        jitter: Some(jitter.into()),
        max_lost: Some(*max_lost),
        max_snoozes: Some(*max_snoozes),
    }
}

fn texts(labels: &[(Name, Box<str>)]) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Maps a task to the wire.
pub(crate) fn task(view: &TaskView) -> v1::Task {
    let spec = &view.spec;
    let Definition { queue, kind, payload, labels, description, expires_at, policy, trace } =
        &spec.definition;
    let Policy { retry: retries, timeout, retention } = policy;
    v1::Task {
        id: spec.shown_id(),
        queue: queue.to_string(),
        kind: kind.to_string(),
        status: status(view.status).into(),
        payload: payload.clone(),
        labels: texts(labels),
        description: description.as_deref().map(str::to_owned),
        priority: view.priority.level().into(),
        created_at: Some(date(spec.created_at)),
        run_at: Some(date(view.run_at)),
        expires_at: expires_at.map(date),
        timeout: Some(span(*timeout)),
        retry: Some(retry(retries)),
        idempotency_key: spec.client_keys.key.as_deref().map(str::to_owned),
        retention: retention.map(span),
        attempt: view.attempt,
        lost: view.lost,
        failures: view.failures,
        snoozes: view.snoozes,
        version: u64::from(view.edits) + 1,
        worker: view.worker.as_ref().map(ToString::to_string),
        started_at: view.started_at.map(date),
        finished_at: view.finished_at.map(date),
        error: view.failure.as_ref().map(failure),
        waiting: view.waiting.map(|reason| waiting(reason, view)),
        lease_token: view.lease_token.map(|token| token.0),
        cancel_requested: view.cancel_requested,
        progress: view.progress.as_deref().map(str::to_owned),
        has_result: view.has_result,
        tick: spec.tick.as_deref().map(tick),
        // Only workers get the whole context, to continue it.
        trace_id: trace.as_ref().and_then(|trace| trace.id()).map(str::to_owned),
    }
}

/// Maps a task for a worker. Reports use the id that Rota gave the task.
pub(crate) fn dispatch(task: Dispatched) -> v1::Dispatch {
    let spec = task.spec;
    // A worker needs only the parts of the policy that concern its attempt. A started task does not expire.
    let Definition { queue, kind, payload, labels, description, expires_at: _, policy, trace } =
        &spec.definition;
    let Policy { retry, timeout, retention: _ } = policy;
    let trace = trace.as_deref();
    v1::Dispatch {
        task_id: spec.id.to_string(),
        lease_token: task.token.0,
        queue: queue.to_string(),
        kind: kind.to_string(),
        payload: payload.clone(),
        attempt: task.attempt,
        max_attempts: retry.max_attempts,
        timeout: Some(span(*timeout)),
        labels: texts(labels),
        description: description.as_deref().map(str::to_owned),
        created_at: Some(date(spec.created_at)),
        run_at: Some(date(task.run_at)),
        shown_id: spec.shown_id(),
        traceparent: trace.map(|trace| trace.parent.to_string()),
        tracestate: trace.map(|trace| trace.state.to_string()).filter(|state| !state.is_empty()),
        tick: spec.tick.as_deref().map(tick),
    }
}

#[cfg(test)]
mod tests {
    use rota_core::Millis;

    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn made(task: v1::NewTask) -> Result<NewTask, Vec<String>> {
        let task = v1::NewTask { kind: "k".to_owned(), ..task };
        new_task(task, FieldPrefix::Top, &Limits::default(), || NOW)
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
        assert!(task.client_keys.is_empty());
    }

    #[test]
    fn numbers_that_only_protobuf_can_say_are_checked() {
        let retry = |retry| v1::NewTask { retry: Some(retry), ..v1::NewTask::default() };
        for multiplier in [f64::NAN, f64::INFINITY, -0.0, 100.1] {
            let given = v1::RetryPolicy { multiplier: Some(multiplier), ..Default::default() };
            assert_eq!(wrong(retry(given)), ["retry.multiplier"], "{multiplier}");
        }
        let given = v1::RetryPolicy { jitter: Some(7), ..Default::default() };
        assert_eq!(wrong(retry(given)), ["retry.jitter"]);
        let delay = |seconds, nanos| v1::NewTask {
            delay: Some(rota_proto::TimeSpan { seconds, nanos }),
            ..v1::NewTask::default()
        };
        assert_eq!(made(delay(1, 500_000_000)).unwrap().run_at, RunAt::After(Millis(1500)));
        assert_eq!(wrong(delay(i64::MAX, 0)), ["delay"]);
        assert_eq!(wrong(delay(0, i32::MIN)), ["delay"]);
    }

    #[test]
    fn a_task_must_be_due_before_it_expires() {
        let task = |seconds: i64| v1::NewTask {
            delay: Some(rota_proto::TimeSpan { seconds: 60, nanos: 0 }),
            expires_at: Some(date(WallTime(NOW.0 + seconds * 1000))),
            ..v1::NewTask::default()
        };
        assert!(made(task(61)).is_ok());
        assert_eq!(wrong(task(60)), ["expires_at"]);
        let now = |seconds| v1::NewTask { delay: None, ..task(seconds) };
        assert!(made(now(1)).is_ok());
        assert_eq!(wrong(now(0)), ["expires_at"]);
        let past = |seconds: i64| v1::NewTask {
            run_at: Some(date(WallTime(NOW.0 - 60_000))),
            ..now(seconds)
        };
        assert!(made(past(1)).is_ok());
        assert_eq!(wrong(past(-30)), ["expires_at"], "due now, and over since half a minute");
        // It may be a repeat of a task that the engine knows.
        let keyed =
            |seconds| v1::NewTask { idempotency_key: Some("k".to_owned()), ..task(seconds) };
        assert!(made(keyed(59)).is_ok());
        let named = |seconds| v1::NewTask { id: Some("mine".to_owned()), ..task(seconds) };
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
        let id = |id: &str| v1::NewTask { id: Some(id.to_owned()), ..v1::NewTask::default() };
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
        let failure = new_task(task, FieldPrefix::Task(7), &Limits::default(), || NOW).unwrap_err();
        let payload = &failure.violations[1];
        assert_eq!(payload.field, "tasks[7].payload");
        assert_eq!(payload.message, "has 1048577 bytes; the limit is 1048576");
        assert_eq!(payload.limit.map(|limit| limit.name), Some("payload_bytes"));
    }
}

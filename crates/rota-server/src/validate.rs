//! From the wire to the engine: every check of what a client sends, for both protocols.

use std::{collections::HashMap, fmt::Display, str::FromStr, time::Duration};

use bytes::Bytes;
use rota_core::{
    Binds, Failure as TaskFailure, FailureReason, HeldLease, Jitter, LeaseToken, Millis, Name,
    Outcome, Policy, Priority, Report, RetryPolicy, SessionId, Status, TaskId, WallTime,
};
use rota_engine::{Cursor, NewTask, RunAt, SessionRequest, TaskFilter, TaskRef, TimeRange};
use rota_proto::v1;

use crate::{
    failure::{Failure, Reason, Violation},
    limits::{
        BACKOFF, IDEMPOTENCY_KEY_BYTES, Limits, PROGRESS_BYTES, REPORTS, RETENTION, SERVED_NAMES,
        TIMEOUT,
    },
};

/// Collects what is wrong with a request, so that a client learns of all at once.
pub(crate) struct Check {
    prefix: String,
    violations: Vec<Violation>,
}

impl Check {
    pub(crate) fn new() -> Self {
        Self { prefix: String::new(), violations: Vec::new() }
    }

    fn within(prefix: &str) -> Self {
        Self { prefix: format!("{prefix}."), violations: Vec::new() }
    }

    fn wrong(&mut self, field: &str, message: impl Display) {
        let field = format!("{}{field}", self.prefix);
        self.violations.push(Violation { field, message: message.to_string() });
    }

    fn ok<T, E: Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.wrong(field, error)).ok()
    }

    fn at_most(&mut self, field: &str, what: &str, found: usize, limit: usize) {
        if found > limit {
            self.wrong(field, format!("has {found} {what}; the limit is {limit}"));
        }
    }

    fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        self.ok(field, Name::new(text))
    }

    fn date(&mut self, field: &str, at: Option<prost_types::Timestamp>) -> Option<WallTime> {
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

    fn span(
        &mut self,
        field: &str,
        span: Option<prost_types::Duration>,
        range: (Duration, Duration),
    ) -> Option<Millis> {
        let span = span?;
        let (least, most) = range;
        match Duration::try_from(span) {
            Ok(span) if least <= span && span <= most => Some(Millis::from_duration(span)),
            _ => {
                let most = rota_proto::json::Span(most);
                let least = rota_proto::json::Span(least);
                self.wrong(field, format!("must be from {least} to {most}"));
                None
            }
        }
    }

    fn number(&mut self, field: &str, given: Option<u32>, default: u32, range: (u32, u32)) -> u32 {
        match given {
            None => default,
            Some(number) if range.0 <= number && number <= range.1 => number,
            Some(number) => {
                self.wrong(
                    field,
                    format!("is {number}; it must be from {} to {}", range.0, range.1),
                );
                default
            }
        }
    }

    /// What was made of the request, if nothing is wrong with it.
    fn finish<T>(self, made: Option<T>) -> Result<T, Failure> {
        match made {
            Some(made) if self.violations.is_empty() => Ok(made),
            _ => Err(Failure::invalid(self.violations)),
        }
    }
}

/// A new task. `field` is where it stands in the request, for errors; empty at the top.
pub(crate) fn new_task(
    task: v1::NewTask,
    field: &str,
    limits: &Limits,
) -> Result<NewTask, Failure> {
    let mut check = if field.is_empty() { Check::new() } else { Check::within(field) };
    let queue = if task.queue.is_empty() { "default" } else { &task.queue };
    let queue = check.name("queue", queue);
    let kind = check.name("kind", &task.kind);
    check.at_most("payload", "bytes", task.payload.len(), limits.payload_bytes);
    let labels = labels(&mut check, "labels", task.labels, limits);
    let binds = binds(&mut check, &task.id, task.idempotency_key);
    let priority = task.priority.unwrap_or_else(|| Priority::default().level().into());
    let priority = Priority::new(priority).or_else(|| {
        check.wrong("priority", format!("is {priority}; it must be from 0 to 9"));
        None
    });
    let run_at = run_at(&mut check, task.run_at, task.delay);
    let expires_at = check.date("expires_at", task.expires_at);
    let most = Duration::from_millis(1);
    let timeout = check.span("timeout", task.timeout, (most, TIMEOUT));
    let retention = check.span("retention", task.retention, (Duration::ZERO, RETENTION));
    let retry = retry(&mut check, task.retry.unwrap_or_default());
    let defaults = Policy::default();
    let policy = Policy { retry, timeout: timeout.unwrap_or(defaults.timeout), retention };
    let made = queue.zip(kind).zip(priority).map(|((queue, kind), priority)| NewTask {
        binds,
        queue,
        kind,
        payload: task.payload,
        labels,
        priority,
        run_at,
        expires_at,
        policy,
    });
    check.finish(made)
}

fn labels(
    check: &mut Check,
    field: &str,
    given: HashMap<String, String>,
    limits: &Limits,
) -> Vec<(Name, Box<str>)> {
    check.at_most(field, "labels", given.len(), limits.labels);
    let mut labels = Vec::with_capacity(given.len());
    for (name, value) in given {
        let place = format!("{field}.{}", name.chars().take(32).collect::<String>());
        check.at_most(&place, "bytes", value.len(), limits.label_value_bytes);
        if value.contains('\0') {
            check.wrong(&place, "must not contain NUL");
        }
        if let Some(name) = check.name(&place, &name) {
            labels.push((name, value.into_boxed_str()));
        }
    }
    labels.sort_unstable();
    labels
}

fn binds(check: &mut Check, id: &str, key: String) -> Binds {
    let id = if id.is_empty() {
        None
    } else if TaskId::from_str(id).is_ok() {
        check.wrong("id", "looks like an id that Rota generates; choose one of another form");
        None
    } else {
        check.name("id", id)
    };
    check.at_most("idempotency_key", "bytes", key.len(), IDEMPOTENCY_KEY_BYTES);
    if key.chars().any(char::is_control) {
        check.wrong("idempotency_key", "must not contain control characters");
    }
    Binds { id, key: (!key.is_empty()).then(|| key.into()) }
}

fn run_at(
    check: &mut Check,
    at: Option<prost_types::Timestamp>,
    delay: Option<prost_types::Duration>,
) -> RunAt {
    if at.is_some() && delay.is_some() {
        check.wrong("delay", "cannot be given together with run_at");
    }
    let longest = Duration::from_secs(400 * 366 * 24 * 3600);
    let delay = check.span("delay", delay, (Duration::ZERO, longest));
    match (check.date("run_at", at), delay) {
        (Some(at), _) => RunAt::At(at),
        (None, Some(delay)) => RunAt::After(delay),
        (None, None) => RunAt::Now,
    }
}

fn retry(check: &mut Check, given: v1::RetryPolicy) -> RetryPolicy {
    let default = RetryPolicy::default();
    let jitter = match v1::Jitter::try_from(given.jitter) {
        Ok(v1::Jitter::None) => Jitter::None,
        Ok(_) => Jitter::Full,
        Err(_) => {
            check.wrong("retry.jitter", format!("is {}, which is not a jitter", given.jitter));
            Jitter::Full
        }
    };
    let range = (Duration::ZERO, BACKOFF);
    let initial = check.span("retry.initial", given.initial, range);
    let max = check.span("retry.max", given.max, range);
    let multiplier = given.multiplier.unwrap_or(default.multiplier);
    if !(1.0..=100.0).contains(&multiplier) {
        check.wrong("retry.multiplier", format!("is {multiplier}; it must be from 1 to 100"));
    }
    RetryPolicy {
        max_attempts: check.number(
            "retry.max_attempts",
            given.max_attempts,
            default.max_attempts,
            (1, 1000),
        ),
        initial: initial.unwrap_or(default.initial),
        multiplier,
        max: max.unwrap_or(default.max),
        jitter,
        max_lost: check.number("retry.max_lost", given.max_lost, default.max_lost, (0, 1000)),
    }
}

/// How many tasks come in one request.
pub(crate) fn batch_size(count: usize, limits: &Limits) -> Result<(), Failure> {
    let mut check = Check::new();
    if count == 0 {
        check.wrong("tasks", "must not be empty");
    }
    check.at_most("tasks", "tasks", count, limits.batch);
    check.finish(Some(()))
}

/// A task's id, as a client gives it.
pub(crate) fn task_ref(field: &str, text: &str) -> Result<TaskRef, Failure> {
    let mut check = Check::new();
    let task = check.ok(field, TaskRef::from_str(text));
    check.finish(task)
}

/// A name, such as that of a queue.
pub(crate) fn name(field: &str, text: &str) -> Result<Name, Failure> {
    let mut check = Check::new();
    let name = check.name(field, text);
    check.finish(name)
}

/// Another time for a task.
pub(crate) fn reschedule(
    at: Option<prost_types::Timestamp>,
    delay: Option<prost_types::Duration>,
) -> Result<RunAt, Failure> {
    let mut check = Check::new();
    if at.is_none() && delay.is_none() {
        check.wrong("run_at", "is missing: give run_at or delay");
    }
    let run_at = run_at(&mut check, at, delay);
    check.finish(Some(run_at))
}

/// A priority.
pub(crate) fn priority(level: u32) -> Result<Priority, Failure> {
    Priority::new(level)
        .ok_or_else(|| Failure::field("priority", format!("is {level}; it must be from 0 to 9")))
}

/// How long to wait.
pub(crate) fn wait(
    field: &str,
    wait: Option<prost_types::Duration>,
    limits: &Limits,
) -> Result<Option<Duration>, Failure> {
    let mut check = Check::new();
    let wait = check.span(field, wait, (Duration::ZERO, limits.wait));
    check.finish(Some(wait.map(Millis::as_duration)))
}

/// How many on a page.
pub(crate) fn page_size(
    field: &str,
    given: Option<u32>,
    default: u32,
    limits: &Limits,
) -> Result<usize, Failure> {
    let mut check = Check::new();
    let most = u32::try_from(limits.page_size).unwrap_or(u32::MAX);
    let size = check.number(field, given, default.min(most), (1, most));
    check.finish(Some(size as usize))
}

/// Where a list goes on.
pub(crate) fn cursor(field: &str, text: &str) -> Result<Option<Cursor>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let before = TaskId::from_str(text)
        .map_err(|_| Failure::field(field, "is not a cursor that this server gave out"))?;
    Ok(Some(Cursor { before }))
}

/// Which tasks are meant.
pub(crate) fn filter(filter: v1::TaskFilter, limits: &Limits) -> Result<TaskFilter, Failure> {
    let mut check = Check::new();
    let optional = |check: &mut Check, field: &str, text: &str| {
        (!text.is_empty()).then(|| check.name(field, text)).flatten()
    };
    let queue = optional(&mut check, "queue", &filter.queue);
    let kind = optional(&mut check, "kind", &filter.kind);
    let labels = labels(&mut check, "labels", filter.labels, limits);
    let mut statuses = Vec::new();
    for number in filter.statuses {
        match v1::TaskStatus::try_from(number).ok().and_then(status) {
            Some(status) => statuses.push(status),
            None => check.wrong("statuses", format!("has {number}, which is not a status")),
        }
    }
    let mut range = |field: &str, range: Option<v1::TimeRange>| {
        let range = range.unwrap_or_default();
        TimeRange {
            from: check.date(&format!("{field}_from"), range.from),
            to: check.date(&format!("{field}_to"), range.to),
        }
    };
    let created = range("created", filter.created);
    let run_at = range("run_at", filter.run_at);
    check.finish(Some(TaskFilter { queue, statuses, kind, labels, created, run_at }))
}

fn status(status: v1::TaskStatus) -> Option<Status> {
    Some(match status {
        v1::TaskStatus::Unspecified => return None,
        v1::TaskStatus::Scheduled => Status::Scheduled,
        v1::TaskStatus::Pending => Status::Pending,
        v1::TaskStatus::Assigned => Status::Assigned,
        v1::TaskStatus::Running => Status::Running,
        v1::TaskStatus::Completed => Status::Completed,
        v1::TaskStatus::Failed => Status::Failed,
        v1::TaskStatus::Cancelled => Status::Cancelled,
        v1::TaskStatus::Expired => Status::Expired,
    })
}

/// The names that a worker serves.
pub(crate) fn served(field: &str, names: &[String]) -> Result<Vec<Name>, Failure> {
    let mut check = Check::new();
    check.at_most(field, "names", names.len(), SERVED_NAMES);
    let names = names
        .iter()
        .enumerate()
        .filter_map(|(at, text)| check.name(&format!("{field}[{at}]"), text))
        .collect();
    check.finish(Some(names))
}

/// A session, as a worker names it.
pub(crate) fn session(field: &str, text: &str) -> Result<SessionId, Failure> {
    SessionId::from_str(text).map_err(|error| Failure::field(field, error.to_string()))
}

/// A worker's first words.
pub(crate) fn hello(hello: &v1::Hello, limits: &Limits) -> Result<SessionRequest, Failure> {
    let mut check = Check::new();
    let slots = check.number("slots", Some(hello.slots), 1, (1, limits.worker_slots));
    let worker = check.name("name", &hello.name);
    let known = (!hello.session.is_empty()).then_some(hello.session.as_str());
    let known = known.and_then(|text| check.ok("session", SessionId::from_str(text)));
    check.at_most("held", "leases", hello.held.len(), limits.worker_slots as usize);
    // A name that is no id names no lease of ours: it comes back as revoked.
    let worker = check.finish(worker)?;
    Ok(SessionRequest {
        session: known,
        worker,
        queues: served("queues", &hello.queues)?,
        kinds: served("kinds", &hello.kinds)?,
        slots,
        held: hello
            .held
            .iter()
            .filter_map(|lease| held(&lease.task_id, lease.lease_token))
            .collect(),
    })
}

/// A lease as workers name it: by the id that Rota gave the task.
pub(crate) fn held(task: &str, token: u64) -> Option<HeldLease> {
    Some(HeldLease { task: task.parse().ok()?, token: LeaseToken(token) })
}

/// A worker's reports.
pub(crate) fn reports_size(count: usize) -> Result<(), Failure> {
    let mut check = Check::new();
    check.at_most("reports", "reports", count, REPORTS);
    check.finish(Some(()))
}

/// The end of what a handler printed: too much is cut at its front.
pub(crate) fn output_tail(output: &Bytes, limits: &Limits) -> Bytes {
    let start = output.len().saturating_sub(limits.output_tail_bytes);
    output.slice(start..)
}

/// One report.
pub(crate) fn report(report: v1::Report, limits: &Limits) -> Result<(HeldLease, Report), Failure> {
    use v1::report::Outcome as Wire;
    let lease = held(&report.task_id, report.lease_token)
        .ok_or_else(|| Failure::new(Reason::UnknownTask, "no such task"))?;
    let mut check = Check::new();
    let started_at = check.date("started_at", report.started_at);
    let output_tail = output_tail(&report.output_tail, limits);
    let ended = |outcome| Report::Ended { started_at, output_tail, outcome };
    let made = match report.outcome {
        None => {
            check.wrong("outcome", "is missing");
            None
        }
        Some(Wire::Started(_)) => Some(Report::Started { at: started_at.unwrap_or_default() }),
        Some(Wire::Progress(progress)) => {
            check.at_most("progress", "bytes", progress.message.len(), PROGRESS_BYTES);
            Some(Report::Progress { message: progress.message.into() })
        }
        Some(Wire::Completed(done)) => {
            check.at_most("result", "bytes", done.result.len(), limits.result_bytes);
            Some(ended(Outcome::Completed { result: done.result }))
        }
        Some(Wire::Failed(failed)) => {
            let reason = match failed.reason() {
                v1::FailureReason::Permanent => FailureReason::Permanent,
                v1::FailureReason::Timeout => FailureReason::Timeout,
                _ => FailureReason::Error,
            };
            let retry_at = check.date("retry_at", failed.retry_at);
            let failure = TaskFailure::new(reason, &failed.message);
            Some(ended(Outcome::Failed { failure, retry_at }))
        }
        Some(Wire::Released(_)) => Some(Report::Released),
        Some(Wire::Cancelled(_)) => Some(ended(Outcome::Cancelled)),
    };
    Ok((lease, check.finish(made)?))
}

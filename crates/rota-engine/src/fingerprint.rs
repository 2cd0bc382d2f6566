//! Fingerprints: hashes of submissions and reports, to distinguish a repeat from a conflict. They are stored,
//! so they must be the same in every version of Rota.

mod canonical;
mod scalar;

use rota_core::{
    AttemptOutcome, ClientKeys, Definition, Jitter, Millis, Policy, Report, RetryPolicy, RunAt,
    WallTime,
};
use xxhash_rust::xxh3::Xxh3;

use self::canonical::Scalars;
use crate::api::{LeftOut, NewTask};

fn add(hash: &mut Xxh3, field: &[u8]) {
    hash.update(&(field.len() as u64).to_le_bytes());
    hash.update(field);
}

fn date(date: Option<WallTime>) -> [u8; 8] {
    date.map_or(i64::MIN, |date| date.0).to_le_bytes()
}

/// A time of a request: a date, or a delay.
fn said(run_at: RunAt) -> (Option<WallTime>, u64) {
    match run_at {
        RunAt::Now => (None, u64::MAX),
        RunAt::At(at) => (Some(at), u64::MAX),
        RunAt::After(delay) => (None, delay.0),
    }
}

/// The hash of a report that ends an attempt. It is stored with the ended lease, to distinguish a repeated
/// report from another. Other reports are never compared.
pub(crate) fn of_report(report: &Report) -> u64 {
    let Report::Ended { started_at, output_tail, outcome } = report else { return 0 };
    let mut hash = Xxh3::new();
    let mut field = |bytes: &[u8]| add(&mut hash, bytes);
    field(&date(*started_at));
    field(output_tail);
    match outcome {
        AttemptOutcome::Completed { result } => {
            field(b"completed");
            field(result);
        }
        AttemptOutcome::Failed { failure, retry_at } => {
            field(b"failed");
            field(failure.reason.as_str().as_bytes());
            field(failure.message.as_bytes());
            field(&date(*retry_at));
        }
        AttemptOutcome::Snoozed { until } => {
            let (until, delay) = said(*until);
            field(b"snoozed");
            field(&date(until));
            field(&delay.to_le_bytes());
        }
        AttemptOutcome::Cancelled => field(b"cancelled"),
    }
    hash.digest()
}

/// The fingerprints of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// The hash of the submission. It is stored with the task.
    pub(crate) kept: u64,
    /// The hashes of earlier versions: of the unchanged payload with the server's defaults filled in, and of
    /// the payload with only its keys sorted.
    pub(crate) former: [u64; 2],
}

/// The values that are hashed for omitted fields: the defaults of the first version. They never change, even
/// if the defaults do, so that a repeat stays a repeat.
fn first_defaults() -> (&'static str, u8, Policy) {
    let retry = RetryPolicy {
        max_attempts: 25,
        initial: Millis(1_000),
        multiplier: 2.0,
        max: Millis(3_600_000),
        jitter: Jitter::Full,
        max_lost: 3,
        max_snoozes: 1000,
    };
    ("default", 5, Policy { retry, timeout: Millis(1_800_000), retention: None })
}

/// The fingerprint of a task with omitted fields. Tasks without names are never compared.
pub(crate) fn of_task(task: &NewTask, left_out: LeftOut) -> Fingerprint {
    if task.client_keys.is_empty() {
        return Fingerprint { kept: 0, former: [0; 2] };
    }
    let given = &task.definition.payload;
    let as_written = hash_of(task, given, LeftOut::default());
    let hashed = |scalars| match canonical::canonical(given, scalars) {
        Some(payload) if payload != *given => hash_of(task, &payload, left_out),
        _ if left_out == LeftOut::default() => as_written,
        _ => hash_of(task, given, left_out),
    };
    let ordered = hashed(Scalars::AsWritten);
    Fingerprint { kept: hashed(Scalars::ByValue), former: [as_written, ordered] }
}

/// Destructures the types exhaustively, so that a new field must be handled here.
fn hash_of(task: &NewTask, payload: &[u8], left_out: LeftOut) -> u64 {
    let NewTask { client_keys: ClientKeys { id, key }, definition, priority, run_at } = task;
    let Definition {
        queue,
        kind,
        payload: _,
        labels,
        description,
        expires_at,
        policy: Policy { retry, timeout, retention },
        // A repeat can have another trace context.
        trace: _,
    } = definition;
    let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        retry;
    let LeftOut { queue: no_queue, priority: no_priority, timeout: no_timeout, retry: no } =
        left_out;
    let (first_queue, first_priority, first) = first_defaults();
    let either = |is_left_out: bool, first: Millis, given: Millis| {
        if is_left_out { first.0 } else { given.0 }.to_le_bytes()
    };
    let mut hash = Xxh3::new();
    let mut field = |bytes: &[u8]| add(&mut hash, bytes);
    field(id.as_deref().unwrap_or_default().as_bytes());
    field(key.as_deref().unwrap_or_default().as_bytes());
    field(if no_queue { first_queue } else { queue }.as_bytes());
    field(kind.as_bytes());
    field(payload);
    for (name, value) in labels {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    let (run_at, delay) = said(*run_at);
    field(&[if no_priority { first_priority } else { priority.level() }]);
    field(&date(run_at));
    field(&delay.to_le_bytes());
    field(&date(*expires_at));
    let max_attempts = if no.max_attempts { first.retry.max_attempts } else { *max_attempts };
    field(&max_attempts.to_le_bytes());
    field(&if no.max_lost { first.retry.max_lost } else { *max_lost }.to_le_bytes());
    field(&either(no.initial, first.retry.initial, *initial));
    field(&either(no.max, first.retry.max, *max));
    field(&if no.multiplier { first.retry.multiplier } else { *multiplier }.to_le_bytes());
    field(&[u8::from(if no.jitter { first.retry.jitter } else { *jitter } == Jitter::None)]);
    field(&either(no_timeout, first.timeout, *timeout));
    field(&retention.map_or(u64::MAX, |retention| retention.0).to_le_bytes());
    // Fields that the first version did not have are hashed after their name, and only if present, so that
    // stored fingerprints stay valid.
    if let Some(description) = description {
        field(b"description");
        field(description.as_bytes());
    }
    if !no.max_snoozes && *max_snoozes != first.retry.max_snoozes {
        field(b"max_snoozes");
        field(&max_snoozes.to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rota_core::{Failure, FailureReason, Name, Priority};

    use super::*;
    use crate::api::LeftOutOfRetry;

    const GOLDEN_NAMED: u64 = 21_084_112_229_816_145;
    const GOLDEN_DELAYED: u64 = 11_498_619_682_732_640_432;

    fn ended(started_at: i64, output: &'static str, outcome: AttemptOutcome) -> Report {
        let output_tail = Bytes::from_static(output.as_bytes());
        Report::Ended { started_at: Some(WallTime(started_at)), output_tail, outcome }
    }

    fn completed(result: &'static str) -> AttemptOutcome {
        AttemptOutcome::Completed { result: Bytes::from_static(result.as_bytes()) }
    }

    fn failed(reason: FailureReason, message: &str, retry_at: Option<WallTime>) -> AttemptOutcome {
        AttemptOutcome::Failed { failure: Failure::new(reason, message), retry_at }
    }

    #[test]
    fn all_that_a_report_says_counts() {
        let said = [
            ended(1, "", completed("")),
            ended(2, "", completed("")),
            ended(1, "out", completed("")),
            ended(1, "", completed("1")),
            ended(1, "", completed("2")),
            ended(1, "", failed(FailureReason::Error, "no", None)),
            ended(1, "", failed(FailureReason::Permanent, "no", None)),
            ended(1, "", failed(FailureReason::Error, "no, and why", None)),
            ended(1, "", failed(FailureReason::Error, "no", Some(WallTime(5)))),
            ended(1, "", AttemptOutcome::Snoozed { until: RunAt::At(WallTime(5)) }),
            ended(1, "", AttemptOutcome::Snoozed { until: RunAt::After(Millis(5)) }),
            ended(1, "", AttemptOutcome::Cancelled),
        ];
        for (at, report) in said.iter().enumerate() {
            for (other_at, other) in said.iter().enumerate() {
                let same = of_report(report) == of_report(&other.clone());
                assert_eq!(same, at == other_at, "{report:?} {other:?}");
            }
        }
    }

    #[test]
    fn it_is_kept_so_it_never_changes() {
        let report = ended(1, "out", completed("42"));
        assert_eq!(of_report(&report), 14_849_851_649_460_963_706);
    }

    fn named() -> NewTask {
        let name = |text| Name::new(text).expect("a name");
        let definition = Definition {
            payload: Bytes::from_static(br#"{"a":1,"b":[2]}"#),
            labels: vec![(name("team"), "a".into())],
            expires_at: Some(WallTime(1_800_000_000_000)),
            policy: Policy { retention: Some(Millis(1)), ..first_defaults().2 },
            ..Definition::new(name("default"), name("mail"))
        };
        NewTask {
            client_keys: ClientKeys { id: Some(name("order-1")), key: Some("key".into()) },
            definition,
            priority: Priority::default(),
            run_at: RunAt::At(WallTime(1_700_000_000_000)),
        }
    }

    fn changed(change: impl FnOnce(&mut Definition)) -> NewTask {
        let mut task = named();
        change(&mut task.definition);
        task
    }

    fn kept(task: &NewTask) -> u64 {
        of_task(task, LeftOut::default()).kept
    }

    #[test]
    fn that_of_a_task_is_kept_so_it_never_changes() {
        assert_eq!(kept(&named()), GOLDEN_NAMED);
        let delayed = changed(|it| it.expires_at = None);
        let delayed = NewTask { run_at: RunAt::After(Millis(5)), ..delayed };
        assert_eq!(kept(&delayed), GOLDEN_DELAYED);
        let bare = NewTask { client_keys: ClientKeys::default(), ..named() };
        assert_eq!(kept(&bare), 0);
    }

    #[test]
    fn all_that_a_client_asks_for_counts() {
        let (name, base) = (|text| Name::new(text).expect("a name"), named());
        let policy = |change: fn(&mut Policy)| changed(|it| change(&mut it.policy));
        let others = [
            NewTask { client_keys: ClientKeys { id: None, ..base.client_keys.clone() }, ..named() },
            NewTask {
                client_keys: ClientKeys { key: None, ..base.client_keys.clone() },
                ..named()
            },
            changed(|it| it.queue = name("q")),
            changed(|it| it.kind = name("k")),
            changed(|it| it.payload = Bytes::from_static(br#"{"a":1,"b":[3]}"#)),
            changed(|it| it.labels = Vec::new()),
            changed(|it| it.description = Some("the order of 7 May".into())),
            NewTask { priority: Priority::MAX, ..named() },
            NewTask { run_at: RunAt::Now, ..named() },
            changed(|it| it.expires_at = None),
            policy(|policy| policy.retry.max_attempts += 1),
            policy(|policy| policy.retry.max_lost += 1),
            policy(|policy| policy.retry.max_snoozes += 1),
            policy(|policy| policy.retry.initial.0 += 1),
            policy(|policy| policy.retry.max.0 += 1),
            policy(|policy| policy.retry.multiplier += 0.5),
            policy(|policy| policy.retry.jitter = Jitter::None),
            policy(|policy| policy.timeout.0 += 1),
            policy(|policy| policy.retention = None),
        ];
        let mut seen: Vec<_> = others.iter().chain([&base]).map(kept).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), others.len() + 1);
    }

    #[test]
    fn a_repeat_stays_one_when_the_defaults_change_or_json_is_written_otherwise() {
        let left_out = LeftOut {
            queue: true,
            priority: true,
            timeout: true,
            retry: LeftOutOfRetry {
                max_attempts: true,
                initial: true,
                multiplier: true,
                max: true,
                jitter: true,
                max_lost: true,
                max_snoozes: true,
            },
        };
        let retry = RetryPolicy {
            max_attempts: 7,
            initial: Millis(1),
            multiplier: 3.0,
            max: Millis(2),
            jitter: Jitter::None,
            max_lost: 9,
            max_snoozes: 8,
        };
        let policy = Policy { retry, timeout: Millis(4), retention: Some(Millis(1)) };
        let queue = Name::new("other").expect("a name");
        let later = changed(|it| (it.queue, it.policy) = (queue, policy));
        let later = NewTask { priority: Priority::MAX, ..later };
        assert_eq!(of_task(&later, left_out).kept, kept(&named()));
        let payload = Bytes::from_static(br#"{ "b": [2], "a": 1 }"#);
        let otherwise = changed(|it| it.payload = payload);
        assert_eq!(kept(&otherwise), kept(&named()));
        assert_ne!(of_task(&otherwise, LeftOut::default()).former[0], kept(&named()));
    }

    #[test]
    fn what_earlier_versions_kept_is_known() {
        let payload = Bytes::from_static(br#"{"b": 2.50, "a": "\u0061"}"#);
        let task = changed(|it| it.payload = payload);
        let ordered = Bytes::from_static(br#"{"a":"\u0061","b":2.50}"#);
        let as_kept = |payload: &[u8]| hash_of(&task, payload, LeftOut::default());
        let now = of_task(&task, LeftOut::default());
        assert_eq!(now.kept, as_kept(br#"{"a":"a","b":2.5}"#));
        assert_eq!(now.former, [as_kept(&task.definition.payload), as_kept(&ordered)]);
    }
}

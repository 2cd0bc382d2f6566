//! Records as JSON, for people. Exact bytes are beside them where they matter, so these forms can round.
//!
//! Each function destructures its record without `..`, so that a new field does not compile until it is shown.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rota_core::{
    AttemptRecord, ClientKeys, Definition, DoneRecord, EndKind, Failure, Jitter, KeyOwner,
    LeaseEnd, LeaseRecord, LiveRecord, Name, Pause, Policy, QueueRecord, RetryPolicy, TaskId,
    TaskSpec, TickContext, Trace, WallTime,
};
use rota_metrics::{COUNTS, Counts};
use serde_json::{Map, Value, json};

use crate::{codec::Expiring, layout};

/// The names of the totals, by their number.
const COUNT_NAMES: [&str; COUNTS] = [
    "submitted",
    "revived",
    "started",
    "released",
    "retried",
    "lost",
    "completed",
    "failed_error",
    "failed_permanent",
    "failed_timeout",
    "failed_worker_lost",
    "cancelled",
    "expired",
    "snoozed",
];

/// A date as text, or its milliseconds if no calendar has it.
pub(super) fn date(at: WallTime) -> Value {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(date) => date.to_string().into(),
        Err(_) => at.0.into(),
    }
}

/// Bytes as text. Bytes that are not UTF-8 are shown as `\xff`.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A payload or a result: its JSON, else its text, else its bytes in base 64.
pub(super) fn content(bytes: &[u8]) -> Value {
    if bytes.is_empty() {
        return Value::Null;
    }
    match (serde_json::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(json), _) => json,
        (Err(_), Ok(text)) => text.into(),
        _ => json!({ "base64": BASE64.encode(bytes) }),
    }
}

/// An object without the fields that have nothing to say.
pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let says = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let fields = fields.into_iter().filter(|(_, value)| says(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

pub(super) fn newer_fields(bytes: usize) -> Value {
    if bytes == 0 { Value::Null } else { bytes.into() }
}

pub(super) fn live(record: LiveRecord) -> Value {
    let LiveRecord {
        id,
        queue,
        kind,
        status,
        priority,
        run_at,
        expires_at,
        attempt,
        lost,
        failures,
        snoozes,
        edits,
        backing_off,
        snoozed,
        lease,
        cancel_requested,
        last_end,
        policy,
        client_keys,
        nominal,
        unknown,
    } = record;
    object([
        ("id", id.to_string().into()),
        ("queue", queue.as_str().into()),
        ("kind", kind.as_str().into()),
        ("status", status.as_str().into()),
        ("priority", priority.level().into()),
        ("run_at", date(run_at)),
        ("expires_at", expires_at.map_or(Value::Null, date)),
        ("attempt", attempt.into()),
        ("lost", lost.into()),
        ("failures", failures.into()),
        ("snoozes", snoozes.into()),
        ("edits", edits.into()),
        ("backing_off", backing_off.into()),
        ("snoozed", snoozed.into()),
        ("lease", lease.map_or(Value::Null, lease_json)),
        ("cancel_requested", cancel_requested.into()),
        ("last_end", last_end.map_or(Value::Null, end)),
        ("policy", policy_json(policy)),
        ("client_keys", keys(client_keys)),
        ("nominal_time", nominal.map_or(Value::Null, date)),
        ("has_newer_fields", unknown.is_some().into()),
    ])
}

pub(super) fn done(record: DoneRecord) -> Value {
    let DoneRecord {
        id,
        queue,
        kind,
        status,
        priority,
        run_at,
        attempt: attempts,
        lost,
        failures,
        snoozes,
        edits,
        finished_at,
        retain_until,
        last,
        failure,
        last_end,
        has_result,
        has_output,
        client_keys,
        nominal,
        unknown,
    } = record;
    object([
        ("id", id.to_string().into()),
        ("queue", queue.as_str().into()),
        ("kind", kind.as_str().into()),
        ("status", status.as_str().into()),
        ("priority", priority.level().into()),
        ("run_at", date(run_at)),
        ("attempt", attempts.into()),
        ("lost", lost.into()),
        ("failures", failures.into()),
        ("snoozes", snoozes.into()),
        ("edits", edits.into()),
        ("finished_at", date(finished_at)),
        ("retain_until", date(retain_until)),
        ("last_attempt", last.map_or(Value::Null, attempt)),
        ("failure", failure.map_or(Value::Null, failed)),
        ("last_end", last_end.map_or(Value::Null, end)),
        ("has_result", has_result.into()),
        ("has_output", has_output.into()),
        ("client_keys", keys(client_keys)),
        ("nominal_time", nominal.map_or(Value::Null, date)),
        ("has_newer_fields", unknown.is_some().into()),
    ])
}

pub(super) fn spec(record: &TaskSpec) -> Value {
    let TaskSpec {
        id,
        definition,
        created_at,
        client_keys,
        fingerprint,
        tick,
        unknown,
        unknown_policy,
    } = record;
    let Definition { queue, kind, payload, labels, description, expires_at, policy, trace } =
        definition;
    let labels: Map<_, _> =
        labels.iter().map(|(name, value)| (name.to_string(), (**value).into())).collect();
    let trace = trace.as_deref().map(|Trace { parent, state }| {
        object([("parent", (**parent).into()), ("state", (**state).into())])
    });
    object([
        ("id", id.to_string().into()),
        ("queue", queue.as_str().into()),
        ("kind", kind.as_str().into()),
        ("payload", content(payload)),
        ("labels", if labels.is_empty() { Value::Null } else { labels.into() }),
        ("description", description.as_deref().map_or(Value::Null, Value::from)),
        ("created_at", date(*created_at)),
        ("expires_at", expires_at.map_or(Value::Null, date)),
        ("policy", policy_json(*policy)),
        ("trace", trace.unwrap_or(Value::Null)),
        ("client_keys", keys(client_keys.clone())),
        ("fingerprint", format!("{fingerprint:016x}").into()),
        ("tick", tick.as_deref().map_or(Value::Null, tick_context)),
        ("newer_fields_bytes", newer_fields(unknown.len() + unknown_policy.len())),
    ])
}

fn tick_context(context: &TickContext) -> Value {
    let TickContext { schedule, nominal, previous, last_success } = context;
    object([
        ("schedule", schedule.as_str().into()),
        ("nominal_time", nominal.map_or(Value::Null, date)),
        ("previous_time", previous.map_or(Value::Null, date)),
        ("last_success_time", last_success.map_or(Value::Null, date)),
    ])
}

pub(super) fn attempt(record: AttemptRecord) -> Value {
    let AttemptRecord {
        attempt,
        token,
        worker,
        assigned_at,
        started_at,
        ended_at,
        failure,
        snoozed_until,
        output_tail,
        unknown,
    } = record;
    object([
        ("attempt", attempt.into()),
        ("token", token.0.into()),
        ("worker", worker.as_str().into()),
        ("assigned_at", date(assigned_at)),
        ("started_at", started_at.map_or(Value::Null, date)),
        ("ended_at", ended_at.map_or(Value::Null, date)),
        ("failure", failure.map_or(Value::Null, failed)),
        ("snoozed_until", snoozed_until.map_or(Value::Null, date)),
        ("output", content(&output_tail)),
        ("newer_fields_bytes", newer_fields(unknown.len())),
    ])
}

pub(super) fn owner(record: KeyOwner) -> Value {
    let KeyOwner { task, fingerprint } = record;
    json!({ "task": task.to_string(), "fingerprint": format!("{fingerprint:016x}") })
}

pub(super) fn pause_json(Pause { at, by, note, on_failure }: &Pause) -> Value {
    json!({ "at": date(*at), "by": by, "note": note, "on_failure": on_failure })
}

pub(super) fn queue(record: QueueRecord) -> Value {
    let QueueRecord { paused, pause, unknown } = record;
    let mut queue = json!({ "paused": paused });
    if let Some(pause) = pause {
        queue["pause"] = pause_json(&pause);
    }
    if !unknown.is_empty() {
        queue["newer_fields_bytes"] = unknown.len().into();
    }
    queue
}

pub(super) fn retain(Expiring { tasks, ticks }: &Expiring) -> Value {
    let mut expiring = json!({ "tasks": tasks.iter().map(TaskId::to_string).collect::<Vec<_>>() });
    if !ticks.is_empty() {
        let key = |(schedule, first): &(Name, WallTime)| layout::tick_text(schedule, *first);
        expiring["ticks"] = ticks.iter().map(key).collect();
    }
    expiring
}

pub(super) fn total(counts: &Counts) -> Value {
    let counts = COUNT_NAMES.iter().zip(counts).filter(|(_, count)| **count > 0);
    Value::Object(counts.map(|(name, count)| ((*name).to_owned(), (*count).into())).collect())
}

fn lease_json(lease: LeaseRecord) -> Value {
    let LeaseRecord { session, token, worker, assigned_at, session_ttl } = lease;
    object([
        ("session", session.to_string().into()),
        ("token", token.0.into()),
        ("worker", worker.as_str().into()),
        ("assigned_at", date(assigned_at)),
        ("session_ttl_ms", session_ttl.0.into()),
    ])
}

fn end(LeaseEnd { token, kind, fingerprint }: LeaseEnd) -> Value {
    let kind = match kind {
        EndKind::Completed => "completed",
        EndKind::Failed => "failed",
        EndKind::Cancelled => "cancelled",
        EndKind::Released => "released",
    };
    json!({ "token": token.0, "kind": kind, "fingerprint": format!("{fingerprint:016x}") })
}

fn failed(Failure { reason, message }: Failure) -> Value {
    json!({ "reason": reason.as_str(), "message": &*message })
}

fn keys(ClientKeys { id, key }: ClientKeys) -> Value {
    if id.is_none() && key.is_none() {
        return Value::Null;
    }
    object([
        ("id", id.map_or(Value::Null, |id| id.as_str().into())),
        ("idempotency_key", key.map_or(Value::Null, |key| (*key).into())),
    ])
}

pub(super) fn policy_json(Policy { retry, timeout, retention }: Policy) -> Value {
    let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
        retry;
    object([
        ("max_attempts", max_attempts.into()),
        ("backoff_initial_ms", initial.0.into()),
        ("backoff_multiplier", multiplier.into()),
        ("backoff_max_ms", max.0.into()),
        ("jitter", (jitter == Jitter::Full).into()),
        ("max_lost", max_lost.into()),
        ("max_snoozes", max_snoozes.into()),
        ("timeout_ms", timeout.0.into()),
        ("retention_ms", retention.map_or(Value::Null, |retention| retention.0.into())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_shown_as_json_text_or_bytes() {
        assert_eq!(content(b""), Value::Null);
        assert_eq!(content(b"{\"a\": [1]}"), json!({ "a": [1] }));
        assert_eq!(content(b"plain words"), json!("plain words"));
        assert_eq!(content(b"\xff\x00"), json!({ "base64": "/wA=" }));
        assert_eq!(text(b"a\xffb"), "a\\xffb");
        assert_eq!(date(WallTime(0)), json!("1970-01-01T00:00:00Z"));
        assert_eq!(date(WallTime(i64::MAX)), json!(i64::MAX));
        assert_eq!((newer_fields(0), newer_fields(3)), (Value::Null, json!(3)));
    }

    #[test]
    fn names_are_shown_if_a_client_gave_any_and_failures_with_their_reason() {
        let id = Name::new("mine").expect("a name");
        let named = ClientKeys { id: Some(id.clone()), key: None };
        assert_eq!(keys(named), json!({ "id": "mine" }));
        let both = ClientKeys { id: Some(id), key: Some("once".into()) };
        assert_eq!(keys(both), json!({ "id": "mine", "idempotency_key": "once" }));
        assert_eq!(keys(ClientKeys::default()), Value::Null);
        let broken = Failure::new(rota_core::FailureReason::Permanent, "broken");
        assert_eq!(failed(broken), json!({ "reason": "permanent", "message": "broken" }));
    }
}

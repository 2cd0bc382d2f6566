//! Encodes records as protobuf messages, so that fields can be added later and any protobuf tool can read a
//! store. These messages are private to the store, and separate from the wire contract.
//!
//! Unknown fields are kept (`unknown`) when a record is rewritten. For this to work across versions, a new
//! field of `LiveMessage` or `DoneMessage` must have a number that neither of them uses, and the same meaning
//! in both: an older node copies it from one to the other by its number.

mod calendar;
mod entries;
mod schedule;
mod schedule_state;
mod spec;
mod tick;
mod unknown;

use bytes::Bytes;
use prost::Message;
use rota_core::{
    AttemptRecord, ClientKeys, DoneRecord, EndKind, Failure, FailureReason, Jitter, LeaseEnd,
    LeaseRecord, LeaseToken, LiveRecord, Millis, Name, Policy, Priority, RetryPolicy, SessionId,
    Status, TaskId, WallTime,
};

pub(crate) use self::calendar::{decode_calendar_of, encode_calendar};
pub(crate) use self::entries::{
    Expiring, ForeignCounts, decode_key_owner, decode_queue, decode_retain, decode_total,
    encode_key_owner, encode_queue, encode_retain, encode_total,
};
pub(crate) use self::schedule::{decode_schedule_of, encode_schedule, fingerprints};
pub(crate) use self::schedule_state::{decode_schedule_state, encode_schedule_state};
pub(crate) use self::spec::{decode_spec, encode_spec};
pub(crate) use self::tick::{decode_tick, encode_tick};
use self::unknown::{Known, Places};

/// The bytes of a record cannot be decoded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CodecError {
    /// They are not a valid message.
    #[error("record: {0}")]
    Damaged(String),
    /// They are a message with a value that this version does not know, probably from a newer version.
    #[error("record: {0}")]
    Unknown(String),
}

type Decoded<T> = Result<T, CodecError>;

fn bad(what: &str) -> CodecError {
    CodecError::Unknown(what.to_owned())
}

#[derive(Clone, PartialEq, Message)]
struct PolicyMessage {
    #[prost(uint32, tag = "1")]
    max_attempts: u32,
    #[prost(uint64, tag = "2")]
    initial_ms: u64,
    #[prost(double, tag = "3")]
    multiplier: f64,
    #[prost(uint64, tag = "4")]
    max_ms: u64,
    #[prost(bool, tag = "5")]
    no_jitter: bool,
    #[prost(uint32, tag = "6")]
    max_lost: u32,
    #[prost(uint64, tag = "7")]
    timeout_ms: u64,
    #[prost(uint64, optional, tag = "8")]
    retention_ms: Option<u64>,
    #[prost(uint32, optional, tag = "9")]
    max_snoozes: Option<u32>,
}

impl Known for PolicyMessage {
    const LAST: u32 = 9;
}

#[derive(Clone, PartialEq, Message)]
struct LeaseMessage {
    #[prost(fixed64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    token: u64,
    #[prost(string, tag = "3")]
    worker: String,
    #[prost(int64, tag = "4")]
    assigned_at_ms: i64,
    #[prost(uint64, tag = "5")]
    session_ttl_ms: u64,
}

impl Known for LeaseMessage {
    const LAST: u32 = 5;
}

#[derive(Clone, Copy, PartialEq, Message)]
struct EndMessage {
    #[prost(uint64, tag = "1")]
    token: u64,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(fixed64, optional, tag = "3")]
    fingerprint: Option<u64>,
}

impl Known for EndMessage {
    const LAST: u32 = 3;
}

#[derive(Clone, PartialEq, Message)]
struct LiveMessage {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    queue: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(uint32, tag = "4")]
    status: u32,
    #[prost(uint32, tag = "5")]
    priority: u32,
    #[prost(int64, tag = "6")]
    run_at_ms: i64,
    #[prost(int64, optional, tag = "7")]
    expires_at_ms: Option<i64>,
    #[prost(uint32, tag = "8")]
    attempt: u32,
    #[prost(uint32, tag = "9")]
    lost: u32,
    #[prost(uint32, tag = "10")]
    failures: u32,
    #[prost(bool, tag = "11")]
    backing_off: bool,
    #[prost(message, optional, tag = "12")]
    lease: Option<LeaseMessage>,
    #[prost(bool, tag = "13")]
    cancel_requested: bool,
    #[prost(message, optional, tag = "14")]
    policy: Option<PolicyMessage>,
    #[prost(string, optional, tag = "15")]
    client_id: Option<String>,
    #[prost(string, optional, tag = "16")]
    idempotency_key: Option<String>,
    #[prost(message, optional, tag = "17")]
    last_end: Option<EndMessage>,
    #[prost(uint32, tag = "18")]
    snoozes: u32,
    #[prost(bool, tag = "19")]
    snoozed: bool,
    #[prost(uint32, tag = "21")]
    edits: u32,
    #[prost(int64, optional, tag = "22")]
    nominal_ms: Option<i64>,
}

impl Known for LiveMessage {
    const LAST: u32 = 22;
}

#[derive(Clone, PartialEq, Message)]
struct FailureMessage {
    #[prost(uint32, tag = "1")]
    reason: u32,
    #[prost(string, tag = "2")]
    message: String,
}

impl Known for FailureMessage {
    const LAST: u32 = 2;
}

#[derive(Clone, PartialEq, Message)]
struct AttemptMessage {
    #[prost(uint32, tag = "1")]
    attempt: u32,
    #[prost(uint64, tag = "2")]
    token: u64,
    #[prost(string, tag = "3")]
    worker: String,
    #[prost(int64, tag = "4")]
    assigned_at_ms: i64,
    #[prost(int64, optional, tag = "5")]
    started_at_ms: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    ended_at_ms: Option<i64>,
    #[prost(message, optional, tag = "7")]
    failure: Option<FailureMessage>,
    #[prost(bytes = "bytes", tag = "8")]
    output_tail: Bytes,
    #[prost(int64, optional, tag = "9")]
    snoozed_until_ms: Option<i64>,
}

impl Known for AttemptMessage {
    const LAST: u32 = 9;
}

#[derive(Clone, PartialEq, Message)]
struct DoneMessage {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    queue: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(uint32, tag = "4")]
    status: u32,
    #[prost(uint32, tag = "5")]
    priority: u32,
    #[prost(int64, tag = "6")]
    run_at_ms: i64,
    #[prost(uint32, tag = "7")]
    attempt: u32,
    #[prost(uint32, tag = "8")]
    lost: u32,
    #[prost(int64, tag = "9")]
    finished_at_ms: i64,
    #[prost(int64, tag = "10")]
    retain_until_ms: i64,
    #[prost(message, optional, tag = "11")]
    last: Option<AttemptMessage>,
    #[prost(message, optional, tag = "12")]
    failure: Option<FailureMessage>,
    #[prost(bool, tag = "13")]
    has_result: bool,
    #[prost(string, optional, tag = "14")]
    client_id: Option<String>,
    #[prost(string, optional, tag = "15")]
    idempotency_key: Option<String>,
    #[prost(message, optional, tag = "16")]
    last_end: Option<EndMessage>,
    #[prost(bool, tag = "17")]
    has_output: bool,
    #[prost(uint32, tag = "18")]
    snoozes: u32,
    #[prost(uint32, tag = "20")]
    failures: u32,
    #[prost(uint32, tag = "21")]
    edits: u32,
    #[prost(int64, optional, tag = "22")]
    nominal_ms: Option<i64>,
}

impl Known for DoneMessage {
    const LAST: u32 = 22;
}

fn bytes_of(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn parse<M: Message + Default>(bytes: &Bytes) -> Decoded<M> {
    M::decode(bytes.clone()).map_err(|error| CodecError::Damaged(error.to_string()))
}

fn name(text: &str) -> Decoded<Name> {
    Name::new(text).map_err(|error| CodecError::Unknown(format!("name {error}")))
}

fn task_id(number: u64) -> Decoded<TaskId> {
    TaskId::from_u64(number).ok_or_else(|| bad("task id 0"))
}

/// The numbers of statuses in the store. Never change one.
fn status_number(status: Status) -> u32 {
    match status {
        Status::Scheduled => 1,
        Status::Pending => 2,
        Status::Assigned | Status::Running => 3,
        Status::Completed => 4,
        Status::Failed => 5,
        Status::Cancelled => 6,
        Status::Expired => 7,
    }
}

fn status(number: u32) -> Decoded<Status> {
    let found = Status::ALL.into_iter().find(|status| status_number(*status) == number);
    found.ok_or_else(|| bad("unknown status"))
}

fn reason_number(reason: FailureReason) -> u32 {
    match reason {
        FailureReason::Error => 1,
        FailureReason::Permanent => 2,
        FailureReason::Timeout => 3,
        FailureReason::WorkerLost => 4,
        FailureReason::Cancelled => 5,
        FailureReason::Expired => 6,
    }
}

fn end_number(kind: EndKind) -> u32 {
    match kind {
        EndKind::Completed => 1,
        EndKind::Failed => 2,
        EndKind::Cancelled => 3,
        EndKind::Released => 4,
    }
}

fn priority(level: u32) -> Decoded<Priority> {
    Priority::new(level).ok_or_else(|| bad("priority out of range"))
}

/// `max_snoozes` of a stored policy without this field. Never change it.
const SNOOZES_UNSAID: u32 = 1000;

impl From<&Policy> for PolicyMessage {
    fn from(policy: &Policy) -> Self {
        Self {
            max_attempts: policy.retry.max_attempts,
            initial_ms: policy.retry.initial.0,
            multiplier: policy.retry.multiplier,
            max_ms: policy.retry.max.0,
            no_jitter: policy.retry.jitter == Jitter::None,
            max_lost: policy.retry.max_lost,
            timeout_ms: policy.timeout.0,
            retention_ms: policy.retention.map(|retention| retention.0),
            max_snoozes: Some(policy.retry.max_snoozes).filter(|most| *most != SNOOZES_UNSAID),
        }
    }
}

fn policy(message: Option<PolicyMessage>) -> Decoded<Policy> {
    let message = message.ok_or_else(|| bad("the policy is missing"))?;
    Ok(Policy {
        retry: RetryPolicy {
            max_attempts: message.max_attempts,
            initial: Millis(message.initial_ms),
            multiplier: message.multiplier,
            max: Millis(message.max_ms),
            jitter: if message.no_jitter { Jitter::None } else { Jitter::Full },
            max_lost: message.max_lost,
            max_snoozes: message.max_snoozes.unwrap_or(SNOOZES_UNSAID),
        },
        timeout: Millis(message.timeout_ms),
        retention: message.retention_ms.map(Millis),
    })
}

fn client_id(client_keys: &ClientKeys) -> Option<String> {
    client_keys.id.as_ref().map(|id| id.as_str().to_owned())
}

fn idempotency_key(client_keys: &ClientKeys) -> Option<String> {
    client_keys.key.as_ref().map(ToString::to_string)
}

fn client_keys(id: Option<String>, key: Option<String>) -> Decoded<ClientKeys> {
    Ok(ClientKeys { id: id.map(|id| name(&id)).transpose()?, key: key.map(Into::into) })
}

fn end_message(end: LeaseEnd) -> EndMessage {
    let fingerprint = (end.kind != EndKind::Released).then_some(end.fingerprint);
    EndMessage { token: end.token.0, kind: end_number(end.kind), fingerprint }
}

fn end(message: EndMessage) -> Decoded<LeaseEnd> {
    let kinds = [EndKind::Completed, EndKind::Failed, EndKind::Cancelled, EndKind::Released];
    let kind = kinds.into_iter().find(|kind| end_number(*kind) == message.kind);
    let kind = kind.ok_or_else(|| bad("unknown end of a lease"))?;
    let token = LeaseToken(message.token);
    match (kind, message.fingerprint) {
        (EndKind::Released, None) => Ok(LeaseEnd::released(token)),
        (EndKind::Released, Some(_)) => Err(bad("the end of a returned lease has a fingerprint")),
        (_, Some(fingerprint)) => Ok(LeaseEnd { token, kind, fingerprint }),
        (_, None) => Err(bad("the end of a lease has no fingerprint")),
    }
}

fn failure_message(failure: &Failure) -> FailureMessage {
    FailureMessage { reason: reason_number(failure.reason), message: failure.message.to_string() }
}

fn failure(message: &FailureMessage) -> Decoded<Failure> {
    let reason =
        FailureReason::ALL.into_iter().find(|reason| reason_number(*reason) == message.reason);
    let reason = reason.ok_or_else(|| bad("unknown reason of a failure"))?;
    Ok(Failure::new(reason, &message.message))
}

fn attempt_message(attempt: &AttemptRecord) -> AttemptMessage {
    AttemptMessage {
        attempt: attempt.attempt,
        token: attempt.token.0,
        worker: attempt.worker.as_str().to_owned(),
        assigned_at_ms: attempt.assigned_at.0,
        started_at_ms: attempt.started_at.map(|at| at.0),
        ended_at_ms: attempt.ended_at.map(|at| at.0),
        failure: attempt.failure.as_ref().map(failure_message),
        output_tail: attempt.output_tail.clone(),
        snoozed_until_ms: attempt.snoozed_until.map(|until| until.0),
    }
}

/// Reads an attempt from its message and the bytes that the message was read from.
fn attempt(message: AttemptMessage, bytes: &[u8]) -> Decoded<AttemptRecord> {
    let mut unknown = unknown::of::<AttemptMessage>(bytes).to_vec();
    let of_failure = unknown::of::<FailureMessage>(&unknown::content(bytes, 7));
    unknown::put_within(&mut unknown, 7, &of_failure);
    Ok(AttemptRecord {
        attempt: message.attempt,
        token: LeaseToken(message.token),
        worker: name(&message.worker)?,
        assigned_at: WallTime(message.assigned_at_ms),
        started_at: message.started_at_ms.map(WallTime),
        ended_at: message.ended_at_ms.map(WallTime),
        failure: message.failure.as_ref().map(failure).transpose()?,
        output_tail: message.output_tail,
        snoozed_until: message.snoozed_until_ms.map(WallTime),
        unknown: unknown.into(),
    })
}

pub(crate) fn encode_live(record: &LiveRecord) -> Bytes {
    let message = LiveMessage {
        id: record.id.as_u64(),
        queue: record.queue.as_str().to_owned(),
        kind: record.kind.as_str().to_owned(),
        status: status_number(record.status),
        priority: record.priority.level().into(),
        run_at_ms: record.run_at.0,
        expires_at_ms: record.expires_at.map(|at| at.0),
        attempt: record.attempt,
        lost: record.lost,
        failures: record.failures,
        backing_off: record.backing_off,
        lease: record.lease.as_ref().map(|lease| LeaseMessage {
            session: lease.session.0,
            token: lease.token.0,
            worker: lease.worker.as_str().to_owned(),
            assigned_at_ms: lease.assigned_at.0,
            session_ttl_ms: lease.session_ttl.0,
        }),
        cancel_requested: record.cancel_requested,
        policy: Some((&record.policy).into()),
        client_id: client_id(&record.client_keys),
        idempotency_key: idempotency_key(&record.client_keys),
        last_end: record.last_end.map(end_message),
        snoozes: record.snoozes,
        edits: record.edits,
        snoozed: record.snoozed,
        nominal_ms: record.nominal.map(|at| at.0),
    };
    let mut bytes = message.encode_to_vec();
    if let Some(unknown) = &record.unknown {
        unknown::put_of_task(&mut bytes, unknown, &live_places(record));
    }
    bytes.into()
}

fn live_places(record: &LiveRecord) -> Places {
    Places {
        policy: Some(14),
        lease: record.lease.as_ref().map(|lease| (12, lease.token)),
        last_end: record.last_end.map(|end| (17, end.token)),
    }
}

pub(crate) fn decode_live(bytes: &Bytes) -> Decoded<LiveRecord> {
    let message: LiveMessage = parse(bytes)?;
    let lease = |lease: LeaseMessage| {
        Ok(LeaseRecord {
            session: SessionId(lease.session),
            token: LeaseToken(lease.token),
            worker: name(&lease.worker)?,
            assigned_at: WallTime(lease.assigned_at_ms),
            session_ttl: Millis(lease.session_ttl_ms),
        })
    };
    let mut record = LiveRecord {
        id: task_id(message.id)?,
        queue: name(&message.queue)?,
        kind: name(&message.kind)?,
        status: status(message.status)?,
        priority: priority(message.priority)?,
        run_at: WallTime(message.run_at_ms),
        expires_at: message.expires_at_ms.map(WallTime),
        attempt: message.attempt,
        lost: message.lost,
        failures: message.failures,
        snoozes: message.snoozes,
        edits: message.edits,
        backing_off: message.backing_off,
        snoozed: message.snoozed,
        lease: message.lease.map(lease).transpose()?,
        cancel_requested: message.cancel_requested,
        last_end: message.last_end.map(end).transpose()?,
        policy: policy(message.policy)?,
        client_keys: client_keys(message.client_id, message.idempotency_key)?,
        nominal: message.nominal_ms.map(WallTime),
        unknown: None,
    };
    record.unknown = unknown::of_task::<LiveMessage>(bytes, &live_places(&record));
    Ok(record)
}

/// Decodes the record of this live task. A record of another task or of an ended one is damaged.
pub(crate) fn decode_live_of(task: TaskId, bytes: &Bytes) -> Decoded<LiveRecord> {
    let record = decode_live(bytes)?;
    if record.id != task {
        return Err(bad("the record belongs to another task"));
    }
    if record.status.is_terminal() {
        return Err(bad("the record of a live task has the status of an ended one"));
    }
    if record.lease.is_some() && record.attempt == 0 {
        return Err(bad("the record has a lease without an attempt"));
    }
    Ok(record)
}

/// The queue of a live task, from a record whose other fields cannot be read.
pub(crate) fn queue_of_live(bytes: &Bytes) -> Option<Name> {
    let message: LiveMessage = parse(bytes).ok()?;
    Name::new(&message.queue).ok()
}

pub(crate) fn encode_done(record: &DoneRecord) -> Bytes {
    let message = DoneMessage {
        id: record.id.as_u64(),
        queue: record.queue.as_str().to_owned(),
        kind: record.kind.as_str().to_owned(),
        status: status_number(record.status),
        priority: record.priority.level().into(),
        run_at_ms: record.run_at.0,
        attempt: record.attempt,
        lost: record.lost,
        finished_at_ms: record.finished_at.0,
        retain_until_ms: record.retain_until.0,
        last: record.last.as_ref().map(attempt_message),
        failure: record.failure.as_ref().map(failure_message),
        has_result: record.has_result,
        client_id: client_id(&record.client_keys),
        idempotency_key: idempotency_key(&record.client_keys),
        last_end: record.last_end.map(end_message),
        has_output: record.has_output,
        snoozes: record.snoozes,
        edits: record.edits,
        failures: record.failures,
        nominal_ms: record.nominal.map(|at| at.0),
    };
    let mut bytes = message.encode_to_vec();
    if let Some(unknown) = &record.unknown {
        unknown::put_of_task(&mut bytes, unknown, &done_places(record));
    }
    bytes.into()
}

/// The record of an ended task has no policy and no lease.
fn done_places(record: &DoneRecord) -> Places {
    let last_end = record.last_end.map(|end| (16, end.token));
    Places { last_end, ..Places::default() }
}

pub(crate) fn decode_done(bytes: &Bytes) -> Decoded<DoneRecord> {
    let message: DoneMessage = parse(bytes)?;
    let last = |last| attempt(last, &unknown::content(bytes, 11));
    let mut record = DoneRecord {
        id: task_id(message.id)?,
        queue: name(&message.queue)?,
        kind: name(&message.kind)?,
        status: status(message.status)?,
        priority: priority(message.priority)?,
        run_at: WallTime(message.run_at_ms),
        attempt: message.attempt,
        lost: message.lost,
        failures: message.failures,
        snoozes: message.snoozes,
        edits: message.edits,
        finished_at: WallTime(message.finished_at_ms),
        retain_until: WallTime(message.retain_until_ms),
        last: message.last.map(last).transpose()?,
        failure: message.failure.as_ref().map(failure).transpose()?,
        last_end: message.last_end.map(end).transpose()?,
        has_result: message.has_result,
        has_output: message.has_output,
        client_keys: client_keys(message.client_id, message.idempotency_key)?,
        nominal: message.nominal_ms.map(WallTime),
        unknown: None,
    };
    record.unknown = unknown::of_task::<DoneMessage>(bytes, &done_places(&record));
    Ok(record)
}

pub(crate) fn encode_attempt(record: &AttemptRecord) -> Bytes {
    let mut bytes = attempt_message(record).encode_to_vec();
    bytes.extend_from_slice(&record.unknown);
    bytes.into()
}

pub(crate) fn decode_attempt(bytes: &Bytes) -> Decoded<AttemptRecord> {
    attempt(parse(bytes)?, bytes)
}

//! A task's definition: written once, and never again.

use bytes::Bytes;
use prost::Message;
use rota_core::{Definition, Name, TaskSpec, Trace, WallTime};

use super::{
    Decoded, PolicyMessage, binds, bytes_of, client_id, idempotency_key, name, parse, policy,
    task_id, unknown,
};

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpecMessage {
    #[prost(fixed64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    queue: String,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(bytes = "bytes", tag = "4")]
    payload: Bytes,
    #[prost(message, repeated, tag = "5")]
    labels: Vec<LabelMessage>,
    #[prost(int64, tag = "6")]
    created_at_ms: i64,
    #[prost(int64, optional, tag = "7")]
    expires_at_ms: Option<i64>,
    #[prost(message, optional, tag = "8")]
    policy: Option<PolicyMessage>,
    #[prost(string, optional, tag = "9")]
    client_id: Option<String>,
    #[prost(string, optional, tag = "10")]
    idempotency_key: Option<String>,
    #[prost(fixed64, tag = "11")]
    fingerprint: u64,
    #[prost(message, optional, tag = "12")]
    trace: Option<TraceMessage>,
    #[prost(string, optional, tag = "13")]
    description: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceMessage {
    #[prost(string, tag = "1")]
    parent: String,
    #[prost(string, tag = "2")]
    state: String,
}

pub(crate) fn encode_spec(spec: &TaskSpec) -> Bytes {
    let label = |(name, value): &(Name, Box<str>)| LabelMessage {
        name: name.to_string(),
        value: value.to_string(),
    };
    let trace_message = |trace: &Trace| TraceMessage {
        parent: trace.parent.to_string(),
        state: trace.state.to_string(),
    };
    let TaskSpec { id, definition, created_at, binds, fingerprint, unknown_policy: _ } = spec;
    let Definition { queue, kind, payload, labels, description, expires_at, policy, trace } =
        definition;
    bytes_of(&SpecMessage {
        id: id.as_u64(),
        queue: queue.to_string(),
        kind: kind.to_string(),
        payload: payload.clone(),
        labels: labels.iter().map(label).collect(),
        created_at_ms: created_at.0,
        expires_at_ms: expires_at.map(|at| at.0),
        policy: Some(policy.into()),
        client_id: client_id(binds),
        idempotency_key: idempotency_key(binds),
        fingerprint: *fingerprint,
        trace: trace.as_deref().map(trace_message),
        description: description.as_deref().map(str::to_owned),
    })
}

pub(crate) fn decode_spec(bytes: &Bytes) -> Decoded<TaskSpec> {
    let message: SpecMessage = parse(bytes)?;
    let label = |label: LabelMessage| Ok((name(&label.name)?, label.value.into_boxed_str()));
    let trace = |trace: TraceMessage| {
        Box::new(Trace { parent: trace.parent.into(), state: trace.state.into() })
    };
    let definition = Definition {
        queue: name(&message.queue)?,
        kind: name(&message.kind)?,
        payload: message.payload,
        labels: message.labels.into_iter().map(label).collect::<Decoded<_>>()?,
        description: message.description.map(String::into_boxed_str),
        expires_at: message.expires_at_ms.map(WallTime),
        policy: policy(message.policy)?,
        trace: message.trace.map(trace),
    };
    Ok(TaskSpec {
        id: task_id(message.id)?,
        definition,
        created_at: WallTime(message.created_at_ms),
        binds: binds(message.client_id, message.idempotency_key)?,
        fingerprint: message.fingerprint,
        unknown_policy: unknown::of::<PolicyMessage>(&unknown::content(bytes, 8)),
    })
}

//! The record of a task's definition, written once, and again when a client changes it.

use bytes::Bytes;
use prost::Message;
use rota_core::{Definition, Name, TaskSpec, TickContext, Trace, WallTime};

use super::{
    Decoded, PolicyMessage, client_id, client_keys, idempotency_key, name, parse, policy, task_id,
    unknown::{self, Known},
};

#[derive(Clone, PartialEq, Message)]
struct LabelMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SpecMessage {
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
    #[prost(message, optional, tag = "14")]
    tick: Option<TickMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct TickMessage {
    #[prost(string, tag = "1")]
    schedule: String,
    #[prost(int64, optional, tag = "2")]
    nominal_ms: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    previous_ms: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    last_success_ms: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceMessage {
    #[prost(string, tag = "1")]
    parent: String,
    #[prost(string, tag = "2")]
    state: String,
}

impl SpecMessage {
    pub(super) fn leave_out_trace(&mut self) {
        self.trace = None;
    }
}

impl Known for SpecMessage {
    const LAST: u32 = 14;
}

impl Known for TraceMessage {
    const LAST: u32 = 2;
}

impl Known for TickMessage {
    const LAST: u32 = 4;
}

fn tick_message(tick: &TickContext) -> TickMessage {
    let TickContext { schedule, nominal, previous, last_success } = tick;
    TickMessage {
        schedule: schedule.as_str().to_owned(),
        nominal_ms: nominal.map(|at| at.0),
        previous_ms: previous.map(|at| at.0),
        last_success_ms: last_success.map(|at| at.0),
    }
}

fn tick(message: &TickMessage) -> Decoded<Box<TickContext>> {
    Ok(Box::new(TickContext {
        schedule: name(&message.schedule)?,
        nominal: message.nominal_ms.map(WallTime),
        previous: message.previous_ms.map(WallTime),
        last_success: message.last_success_ms.map(WallTime),
    }))
}

/// The fields of a definition. Those of a task are empty.
pub(super) fn definition_message(definition: &Definition) -> SpecMessage {
    let label = |(name, value): &(Name, Box<str>)| LabelMessage {
        name: name.to_string(),
        value: value.to_string(),
    };
    let trace_message = |trace: &Trace| TraceMessage {
        parent: trace.parent.to_string(),
        state: trace.state.to_string(),
    };
    let Definition { queue, kind, payload, labels, description, expires_at, policy, trace } =
        definition;
    SpecMessage {
        queue: queue.as_str().to_owned(),
        kind: kind.as_str().to_owned(),
        payload: payload.clone(),
        labels: labels.iter().map(label).collect(),
        expires_at_ms: expires_at.map(|at| at.0),
        policy: Some(policy.into()),
        trace: trace.as_deref().map(trace_message),
        description: description.as_deref().map(str::to_owned),
        ..SpecMessage::default()
    }
}

/// The definition in the fields of a message.
pub(super) fn definition(message: SpecMessage) -> Decoded<Definition> {
    let label = |label: LabelMessage| Ok((name(&label.name)?, label.value.into_boxed_str()));
    let trace = |trace: TraceMessage| {
        Box::new(Trace { parent: trace.parent.into(), state: trace.state.into() })
    };
    Ok(Definition {
        queue: name(&message.queue)?,
        kind: name(&message.kind)?,
        payload: message.payload,
        labels: message.labels.into_iter().map(label).collect::<Decoded<_>>()?,
        description: message.description.map(String::into_boxed_str),
        expires_at: message.expires_at_ms.map(WallTime),
        policy: policy(message.policy)?,
        trace: message.trace.map(trace),
    })
}

pub(crate) fn encode_spec(spec: &TaskSpec) -> Bytes {
    let TaskSpec {
        id,
        definition,
        created_at,
        client_keys,
        fingerprint,
        tick,
        unknown,
        unknown_policy,
    } = spec;
    let message = SpecMessage {
        id: id.as_u64(),
        created_at_ms: created_at.0,
        client_id: client_id(client_keys),
        idempotency_key: idempotency_key(client_keys),
        fingerprint: *fingerprint,
        tick: tick.as_deref().map(tick_message),
        ..definition_message(definition)
    };
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(unknown);
    unknown::put_within(&mut bytes, 8, unknown_policy);
    bytes.into()
}

pub(crate) fn decode_spec(bytes: &Bytes) -> Decoded<TaskSpec> {
    let mut message: SpecMessage = parse(bytes)?;
    let mut unknown = unknown::of::<SpecMessage>(bytes).to_vec();
    for (number, of) in [
        (12, unknown::of::<TraceMessage>(&unknown::content(bytes, 12))),
        (14, unknown::of::<TickMessage>(&unknown::content(bytes, 14))),
    ] {
        unknown::put_within(&mut unknown, number, &of);
    }
    Ok(TaskSpec {
        id: task_id(message.id)?,
        created_at: WallTime(message.created_at_ms),
        client_keys: client_keys(message.client_id.take(), message.idempotency_key.take())?,
        fingerprint: message.fingerprint,
        tick: message.tick.as_ref().map(tick).transpose()?,
        definition: definition(message)?,
        unknown: unknown.into(),
        unknown_policy: unknown::of::<PolicyMessage>(&unknown::content(bytes, 8)),
    })
}

#[cfg(test)]
mod tests {
    use rota_core::TaskId;

    use super::*;

    fn spec() -> TaskSpec {
        let name = |text| Name::new(text).expect("a name");
        let id = TaskId::from_u64(7).expect("not 0");
        let trace = Trace { parent: "00-1-2-01".into(), state: "s".into() };
        let definition = Definition {
            payload: Bytes::from_static(b"{}"),
            labels: vec![(name("a"), "b".into())],
            description: Some("d".into()),
            expires_at: Some(WallTime(9)),
            trace: Some(Box::new(trace)),
            ..Definition::new(name("q"), name("k"))
        };
        let tick = TickContext {
            schedule: name("s"),
            nominal: Some(WallTime(4)),
            previous: Some(WallTime(5)),
            last_success: Some(WallTime(6)),
        };
        let tick = Some(Box::new(tick));
        TaskSpec { fingerprint: 3, tick, ..TaskSpec::new(id, definition, WallTime(1)) }
    }

    /// A field that was added without raising `LAST` would be taken for a newer version's.
    #[test]
    fn a_definition_of_this_version_has_no_unknown_fields() {
        let read = decode_spec(&encode_spec(&spec())).expect("it can be read");
        assert_eq!(read, spec());
    }

    #[test]
    fn what_a_newer_version_wrote_stays_with_a_definition_that_is_changed() {
        // Fields 1000 of the definition, of its policy, of its trace and of its tick.
        let field = [0xC2, 0x3E, 1, b'x'];
        let mut newer = encode_spec(&spec()).to_vec();
        newer.extend_from_slice(&field);
        for number in [8, 12, 14] {
            unknown::put_within(&mut newer, number, &Bytes::copy_from_slice(&field));
        }
        let mut read = decode_spec(&newer.into()).expect("it can be read");
        assert_eq!(read.unknown_policy, field.as_slice());
        read.definition.payload = Bytes::from_static(b"[1]");
        let again = decode_spec(&encode_spec(&read)).expect("it can be read");
        assert_eq!(again, read);
        assert!(again.unknown.starts_with(&field) && again.unknown.len() > field.len());
    }
}

//! The keys of the table `[limits]`.

use std::time::Duration;

use rota_core::Name;
use rota_engine::{EventLimits, IDEMPOTENCY_KEY_BYTES_MAX, OutputLimits};

use super::keys::{DefaultValue, Key, Scope::Limits, number, time};

const LIMITS: rota_server::Limits = rota_server::Limits::DEFAULT;
const EVENTS: EventLimits = EventLimits::DEFAULT;
const OUTPUT: OutputLimits = OutputLimits::DEFAULT;

/// A limit on requests of clients. Its default is `rota_server::Limits::DEFAULT`.
const fn limit(
    name: &'static str,
    default: usize,
    value_name: &'static str,
    range: (u64, u64),
    help: &'static str,
) -> Key {
    Key {
        default: DefaultValue::Number(default as u64),
        ..number(Limits, name, "", value_name, range, help)
    }
}

/// The same for a duration.
const fn limit_time(
    name: &'static str,
    default: Duration,
    range: (&'static str, &'static str),
    help: &'static str,
) -> Key {
    Key { default: DefaultValue::Time(default), ..time(Limits, name, "", range, help) }
}

/// The limits of a server.
pub(super) const LIMIT_KEYS: &[Key] = &[
    number(
        Limits,
        "limits.queue_length",
        "20000000",
        "N",
        (1, 1_000_000_000),
        "Maximum number of live tasks in one queue",
    ),
    number(Limits, "limits.queues", "100000", "N", (1, 10_000_000), "Maximum number of queues"),
    number(Limits, "limits.kinds", "100000", "N", (1, 10_000_000), "Maximum number of kinds"),
    number(
        Limits,
        "limits.sessions",
        "10000",
        "N",
        (1, 1_000_000),
        "Maximum number of connected workers",
    ),
    number(
        Limits,
        "limits.schedules",
        "2000000",
        "N",
        (1, 10_000_000),
        "Maximum number of schedules",
    ),
    number(Limits, "limits.calendars", "1000", "N", (1, 100_000), "Maximum number of calendars"),
    limit(
        "limits.payload_bytes",
        LIMITS.payload_bytes,
        "BYTES",
        (1, 1 << 30),
        "Maximum size of a payload",
    ),
    limit(
        "limits.result_bytes",
        LIMITS.result_bytes,
        "BYTES",
        (1, 1 << 30),
        "Maximum size of a result",
    ),
    limit(
        "limits.output_tail_bytes",
        LIMITS.output_tail_bytes,
        "BYTES",
        (0, 1 << 30),
        "Size of the end of an attempt's output that is kept",
    ),
    limit(
        "limits.batch",
        LIMITS.batch,
        "N",
        (1, 100_000),
        "Maximum number of tasks in one request",
    ),
    limit(
        "limits.request_bytes",
        LIMITS.request_bytes,
        "BYTES",
        (1024, 1 << 30),
        "Maximum size of a request",
    ),
    limit(
        "limits.bodies_in_flight_bytes",
        LIMITS.bodies_in_flight_bytes,
        "BYTES",
        (1 << 20, 1 << 40),
        "Maximum memory for the bodies of all requests in progress",
    ),
    limit(
        "limits.answers_in_flight_bytes",
        LIMITS.answers_in_flight_bytes,
        "BYTES",
        (1 << 20, 1 << 40),
        "Maximum memory for all large answers that clients have not read yet",
    ),
    limit("limits.labels", LIMITS.labels, "N", (0, 1000), "Maximum number of labels of a task"),
    limit(
        "limits.label_value_bytes",
        LIMITS.label_value_bytes,
        "BYTES",
        (0, 65_536),
        "Maximum size of a label's value",
    ),
    limit(
        "limits.page_size",
        LIMITS.page_size,
        "N",
        (1, 10_000),
        "Maximum number of tasks on a page",
    ),
    limit_time("limits.wait", LIMITS.wait, ("0s", "1h"), "Maximum duration of a long poll"),
    limit_time(
        "limits.header_timeout",
        LIMITS.header_timeout,
        ("100ms", "1h"),
        "Time within which the headers of a request must arrive",
    ),
    limit_time(
        "limits.body_timeout",
        LIMITS.body_timeout,
        ("100ms", "1h"),
        "Time within which the body of a request must arrive",
    ),
    limit(
        "limits.connections",
        LIMITS.connections,
        "N",
        (1, 1_000_000),
        "Maximum number of open connections",
    ),
    limit(
        "limits.json_depth",
        LIMITS.json_depth,
        "N",
        (1, 127),
        "Maximum depth of nested lists and objects in a payload or result",
    ),
    limit(
        "limits.name_characters",
        LIMITS.name_characters,
        "N",
        (1, Name::LEN_MAX as u64),
        "Maximum length in characters of a new name of a queue, kind, label, worker or task",
    ),
    limit(
        "limits.idempotency_key_bytes",
        LIMITS.idempotency_key_bytes,
        "BYTES",
        (1, IDEMPOTENCY_KEY_BYTES_MAX as u64),
        "Maximum size of an idempotency key",
    ),
    limit(
        "limits.streams_per_connection",
        LIMITS.streams_per_connection as usize,
        "N",
        (1, 1_000_000),
        "Maximum number of concurrent requests on one HTTP/2 connection",
    ),
    limit(
        "limits.worker_slots",
        LIMITS.worker_slots as usize,
        "N",
        (1, 1_000_000),
        "Maximum number of slots of a worker",
    ),
    limit(
        "limits.event_listeners",
        EVENTS.listeners,
        "N",
        (1, 1_000_000),
        "Maximum number of listeners to events, of all nodes together",
    ),
    limit(
        "limits.event_buffer_bytes",
        EVENTS.ring_bytes,
        "BYTES",
        (64 << 10, 1 << 40),
        "Maximum memory for recent events, from which slow listeners read and others resume",
    ),
    limit_time(
        "limits.event_keep",
        EVENTS.keep,
        ("0s", "1d"),
        "Time for which recent events are kept after the last listener left",
    ),
    limit(
        "limits.output_listeners",
        OUTPUT.listeners,
        "N",
        (1, 1_000_000),
        "Maximum number of listeners to the output of running tasks, of all nodes together",
    ),
    limit(
        "limits.output_listeners_per_task",
        OUTPUT.task_listeners,
        "N",
        (1, 1_000_000),
        "Maximum number of listeners to the output of one task",
    ),
    limit(
        "limits.output_buffer_bytes",
        OUTPUT.task_bytes,
        "BYTES",
        (64 << 10, 1 << 30),
        "Maximum memory for the recent output of each task with a listener",
    ),
];

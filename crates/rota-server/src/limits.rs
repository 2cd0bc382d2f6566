//! Limits on requests of clients. Each has a name, which its error mentions.

use std::time::Duration;

/// Limits on requests of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum bytes of a payload.
    pub payload_bytes: usize,
    /// Maximum bytes of a result.
    pub result_bytes: usize,
    /// Bytes of output that are kept for an attempt. Longer output loses its beginning.
    pub output_tail_bytes: usize,
    /// Maximum number of tasks in one request.
    pub batch: usize,
    /// Maximum bytes of one request.
    pub request_bytes: usize,
    /// Maximum bytes of all request bodies that the server holds at once.
    pub bodies_in_flight_bytes: usize,
    /// Maximum bytes of all large answers that the server holds at once.
    pub answers_in_flight_bytes: usize,
    /// Maximum depth of nested lists and objects in a payload or result that is JSON.
    pub json_depth: usize,
    /// Maximum number of labels of a task.
    pub labels: usize,
    /// Maximum bytes of a label's value.
    pub label_value_bytes: usize,
    /// Maximum number of tasks on one page.
    pub page_size: usize,
    /// Maximum wait of a long poll.
    pub wait: Duration,
    /// Time for the headers of a request to arrive. An idle HTTP/1 connection is closed after the same time.
    pub header_timeout: Duration,
    /// Time for the body of a request to arrive.
    pub body_timeout: Duration,
    /// Maximum number of open connections.
    pub connections: usize,
    /// Maximum number of concurrent streams of an HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Maximum number of slots of a worker.
    pub worker_slots: u32,
    /// Maximum characters of a new name, up to [`rota_core::Name::LEN_MAX`].
    pub name_characters: usize,
    /// Maximum bytes of an idempotency key.
    pub idempotency_key_bytes: usize,
}

/// Time for the engine to answer a call, beyond the time for the body and the requested wait.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);
/// Maximum bytes of a progress message.
pub(crate) const PROGRESS_BYTES: usize = 1024;
/// Maximum number of queues, and of kinds, that a worker names.
pub(crate) const SERVED_NAMES: usize = 1000;
/// Maximum number of reports in one message of a worker.
pub(crate) const REPORTS: usize = 10_000;
/// Maximum timeout of an attempt.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum delay between attempts.
pub(crate) const BACKOFF: Duration = Duration::from_secs(30 * 24 * 3600);
/// Maximum delay of the first attempt.
pub(crate) const DELAY: Duration = Duration::from_secs(400 * 366 * 24 * 3600);
/// Maximum retention.
pub(crate) const RETENTION: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Maximum start deadline of the tasks of a schedule, after their nominal time.
pub(crate) const EXPIRES_AFTER: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Maximum interval of a schedule.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3660 * 24 * 3600);
/// Maximum jitter of a schedule.
pub(crate) const JITTER: Duration = Duration::from_secs(24 * 3600);
/// Age at which ticks are missed. A shorter time than the minimum would miss ticks at each change of leader.
pub(crate) const CATCH_UP_WINDOW: (Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(366 * 24 * 3600));
/// Maximum bytes of the expressions, dates and exclusions of a schedule.
pub(crate) const SCHEDULE_BYTES: usize = 64 << 10;
/// Maximum time between two tasks of a backfill.
pub(crate) const BACKFILL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Maximum characters of a note.
pub(crate) const NOTE_CHARS: usize = 256;
/// Maximum characters of the author of a pause.
pub(crate) const AUTHOR_CHARS: usize = 128;
/// Maximum number of runs in a preview.
pub(crate) const PREVIEW_RUNS: u32 = 100;

/// Maximum characters of a text to search for.
pub(crate) const SEARCH_CHARS: usize = 256;
/// Minimum and maximum time of one call that lists tasks. The maximum is the default.
pub(crate) const LIST_TIME: (Duration, Duration) =
    (Duration::from_millis(10), Duration::from_secs(2));

/// Bytes of output that workers keep of each attempt.
pub(crate) const OUTPUT_KEPT_BYTES: usize = 64 << 10;
/// Maximum number of tasks that a listener to events names.
pub(crate) const EVENT_TASKS: usize = 100;
/// Maximum number of types that a listener to events names.
pub(crate) const EVENT_TYPES: usize = 64;

/// Bytes of a task's records without the parts that have limits: names, policy, error messages.
const RECORD_BYTES: usize = 32 << 10;

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// The default limits, also of the settings of the `rota` binary.
    pub const DEFAULT: Self = Self {
        payload_bytes: 1 << 20,
        result_bytes: 1 << 20,
        output_tail_bytes: 64 << 10,
        batch: 1000,
        request_bytes: 16 << 20,
        bodies_in_flight_bytes: 256 << 20,
        answers_in_flight_bytes: 128 << 20,
        json_depth: 64,
        labels: 32,
        label_value_bytes: 1024,
        page_size: 1000,
        wait: Duration::from_secs(60),
        header_timeout: Duration::from_secs(10),
        body_timeout: Duration::from_secs(30),
        connections: 10_000,
        streams_per_connection: 1000,
        worker_slots: 100_000,
        name_characters: rota_core::Name::LEN_MAX,
        idempotency_key_bytes: 256,
    };

    /// Maximum bytes of one step of one task under these limits.
    pub(crate) fn task_bytes(&self) -> usize {
        let label = rota_core::Name::LEN_MAX.saturating_add(self.label_value_bytes);
        let given = self.payload_bytes.saturating_add(self.labels.saturating_mul(label));
        let made = self.result_bytes.saturating_add(self.output_tail_bytes);
        given.max(made).saturating_add(RECORD_BYTES)
    }

    /// The limits by name, for `GET /v1/info`.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("payload_bytes", self.payload_bytes as u64),
            ("result_bytes", self.result_bytes as u64),
            ("output_tail_bytes", self.output_tail_bytes as u64),
            ("batch", self.batch as u64),
            ("request_bytes", self.request_bytes as u64),
            ("bodies_in_flight_bytes", self.bodies_in_flight_bytes as u64),
            ("answers_in_flight_bytes", self.answers_in_flight_bytes as u64),
            ("json_depth", self.json_depth as u64),
            ("labels", self.labels as u64),
            ("label_value_bytes", self.label_value_bytes as u64),
            ("page_size", self.page_size as u64),
            ("wait_ms", millis(self.wait)),
            ("header_timeout_ms", millis(self.header_timeout)),
            ("body_timeout_ms", millis(self.body_timeout)),
            ("connections", self.connections as u64),
            ("streams_per_connection", self.streams_per_connection.into()),
            ("worker_slots", self.worker_slots.into()),
            ("idempotency_key_bytes", self.idempotency_key_bytes as u64),
            ("name_characters", self.name_characters as u64),
            ("progress_bytes", PROGRESS_BYTES as u64),
            ("served_names", SERVED_NAMES as u64),
            ("reports", REPORTS as u64),
            ("schedule_name_characters", rota_core::SCHEDULE_NAME_LEN_MAX as u64),
            ("schedule_bytes", SCHEDULE_BYTES as u64),
            ("preview_runs", PREVIEW_RUNS.into()),
            ("event_tasks", EVENT_TASKS as u64),
            ("event_types", EVENT_TYPES as u64),
            ("calendar_entries", rota_cron::calendar::MAX_ENTRIES as u64),
        ]
    }
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! The table of keys.

use std::{borrow::Cow, time::Duration};

use rota_core::Name;
use rota_engine::IDEMPOTENCY_KEY_BYTES_MAX;

/// Which processes and commands a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Common,
    Server,
    Limits,
    Client,
    Worker,
}

/// A setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in the file; a dot stands for a table.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) default: DefaultValue,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    /// Which values it takes.
    pub(crate) takes: Takes,
    /// Never shown.
    pub(crate) secret: bool,
}

/// The value of a key that is not set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DefaultValue {
    /// As one would write it.
    Text(&'static str),
    Number(u64),
    Time(Duration),
}

/// Which values a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Any text; who uses it knows more.
    Text,
    /// A name, or names separated by commas; or nothing.
    Names,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A host's address and a port; or nothing, where that is the default.
    Address,
    /// A whole number from the first to the last.
    Number(u64, u64),
    /// A time from the first to the last.
    Time(&'static str, &'static str),
}

impl Key {
    pub(crate) fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    pub(crate) fn variable(&self) -> String {
        format!("ROTA_{}", self.name.replace(['.', '-'], "_").to_uppercase())
    }

    /// The value where it is not set, as one would write it.
    pub(crate) fn default(&self) -> Cow<'static, str> {
        match self.default {
            DefaultValue::Text(text) => text.into(),
            DefaultValue::Number(number) => number.to_string().into(),
            DefaultValue::Time(time) => format!("{time:?}").into(),
        }
    }

    /// Whether its flag needs no value.
    pub(crate) fn is_switch(&self) -> bool {
        matches!(self.default, DefaultValue::Text("false"))
    }
}

const fn key(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    value_name: &'static str,
    takes: Takes,
    help: &'static str,
) -> Key {
    Key {
        name,
        scope,
        default: DefaultValue::Text(default),
        value_name,
        help,
        takes,
        secret: false,
    }
}

const fn number(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    value_name: &'static str,
    (least, most): (u64, u64),
    help: &'static str,
) -> Key {
    key(scope, name, default, value_name, Takes::Number(least, most), help)
}

const fn time(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    (least, most): (&'static str, &'static str),
    help: &'static str,
) -> Key {
    key(scope, name, default, "TIME", Takes::Time(least, most), help)
}

/// A limit on what clients send, whose default the server has.
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

/// The same, for a time.
const fn limit_time(
    name: &'static str,
    default: Duration,
    range: (&'static str, &'static str),
    help: &'static str,
) -> Key {
    Key { default: DefaultValue::Time(default), ..time(Limits, name, "", range, help) }
}

const fn switch(scope: Scope, name: &'static str, help: &'static str) -> Key {
    key(scope, name, "false", "", Takes::OneOf(&["true", "false"]), help)
}

const fn address(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Key {
    key(scope, name, default, "ADDRESS", Takes::Address, help)
}

const fn secret(scope: Scope, name: &'static str, help: &'static str) -> Key {
    let takes = Takes::Text;
    let default = DefaultValue::Text("");
    Key { name, scope, default, value_name: "TOKEN", help, takes, secret: true }
}

use Scope::{Client, Common, Limits, Server, Worker};

const LIMITS: rota_server::Limits = rota_server::Limits::DEFAULT;

/// Every key.
pub(crate) const KEYS: &[Key] = &[
    key(
        Common,
        "log",
        "info",
        "FILTER",
        Takes::Text,
        "What to log: error, warn, info, debug, or per module (rota_engine=debug)",
    ),
    key(
        Common,
        "log_format",
        "auto",
        "FORMAT",
        Takes::OneOf(&["auto", "text", "json"]),
        "auto (text on a terminal, else json), text or json",
    ),
    key(
        Common,
        "otlp_endpoint",
        "",
        "URL",
        Takes::Text,
        "Where to send traces, by OTLP over gRPC, such as http://127.0.0.1:4317; by default what \
         OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere",
    ),
    key(
        Server,
        "node",
        "",
        "NAME",
        Takes::Names,
        "This node's name, unique in its cluster; by default the host's with etcd, else rota",
    ),
    key(
        Server,
        "advertise",
        "",
        "URL",
        Takes::Text,
        "Where other nodes reach this one; with etcd by default http:// and where it listens",
    ),
    address(Server, "listen", "127.0.0.1:7420", "Where to listen, for REST, gRPC, health and docs"),
    key(
        Server,
        "store",
        "file:./rota-data",
        "URL",
        Takes::Text,
        "Where state is kept: file:DIRECTORY, or etcd://HOST:PORT,HOST:PORT/PREFIX",
    ),
    key(
        Server,
        "store_user",
        "",
        "NAME",
        Takes::Text,
        "The user at etcd; its password is store_password",
    ),
    secret(Server, "store_password", "The password at etcd"),
    switch(Server, "store_tls", "Speak TLS with etcd, also without any of the files"),
    key(
        Server,
        "store_ca_file",
        "",
        "FILE",
        Takes::Text,
        "Who may have signed etcd's certificates (PEM)",
    ),
    key(
        Server,
        "store_cert_file",
        "",
        "FILE",
        Takes::Text,
        "This node's certificate for etcd (PEM)",
    ),
    key(Server, "store_key_file", "", "FILE", Takes::Text, "The key of that certificate (PEM)"),
    number(
        Server,
        "store_txn_ops_max",
        "128",
        "N",
        (8, 100_000),
        "Operations in one transaction: etcd's --max-txn-ops",
    ),
    number(
        Server,
        "store_request_bytes_max",
        "1572864",
        "BYTES",
        (64 << 10, 1 << 30),
        "One request: etcd's --max-request-bytes",
    ),
    number(
        Server,
        "store_quota_bytes",
        "2147483648",
        "BYTES",
        (16 << 20, 1 << 50),
        "Size of etcd's database: its --quota-backend-bytes. New work is refused before it is full",
    ),
    time(
        Server,
        "store_history",
        "10m",
        ("1s", "30d"),
        "How long etcd keeps old revisions before the leader has it compact them",
    ),
    time(
        Server,
        "leader_ttl",
        "5s",
        ("1s", "1h"),
        "A leader that is silent for so long is replaced by another node",
    ),
    secret(
        Server,
        "api_tokens",
        "Tokens that open the API, separated by commas; none: everybody who reaches it may use it",
    ),
    switch(
        Server,
        "insecure_no_auth",
        "Listen beyond this machine without any token. Everybody who reaches the port can run tasks",
    ),
    secret(
        Server,
        "metrics_tokens",
        "Tokens that open /metrics and nothing else, separated by commas",
    ),
    switch(
        Server,
        "metrics_open",
        "Let everybody who reaches the port read /metrics, whatever tokens there are",
    ),
    number(
        Server,
        "metrics_names",
        "200",
        "N",
        (0, 100_000),
        "Queues, kinds and workers that metrics name; all further ones are counted as other",
    ),
    time(
        Server,
        "session_ttl",
        "10s",
        ("1s", "1h"),
        "A worker that is silent for so long is taken for gone",
    ),
    time(Server, "retention_completed", "1d", ("0s", "3660d"), "How long completed tasks are kept"),
    time(
        Server,
        "retention_other",
        "7d",
        ("0s", "3660d"),
        "How long failed, cancelled and expired tasks are kept",
    ),
    time(
        Server,
        "retention_clock_grace",
        "1h",
        ("0s", "30d"),
        "How long no finished task is removed after the wall clock jumped forward",
    ),
    number(
        Server,
        "payload_cache_bytes",
        "67108864",
        "BYTES",
        (0, 1 << 50),
        "Memory for payloads of tasks about to run",
    ),
    number(
        Server,
        "store_cache_bytes",
        "67108864",
        "BYTES",
        (0, 1 << 50),
        "Memory for data read from the embedded store",
    ),
    number(
        Server,
        "store_reserve_bytes",
        "268435456",
        "BYTES",
        (0, 1 << 50),
        "Disk space to keep free; new tasks are refused below twice as much, all changes below this",
    ),
    number(
        Limits,
        "limits.queue_length",
        "20000000",
        "N",
        (1, 1_000_000_000),
        "Live tasks in one queue",
    ),
    number(Limits, "limits.queues", "100000", "N", (1, 10_000_000), "Different queues"),
    number(Limits, "limits.kinds", "100000", "N", (1, 10_000_000), "Different kinds"),
    number(Limits, "limits.sessions", "10000", "N", (1, 1_000_000), "Connected workers"),
    limit("limits.payload_bytes", LIMITS.payload_bytes, "BYTES", (1, 1 << 30), "A task's payload"),
    limit("limits.result_bytes", LIMITS.result_bytes, "BYTES", (1, 1 << 30), "A task's result"),
    limit(
        "limits.output_tail_bytes",
        LIMITS.output_tail_bytes,
        "BYTES",
        (0, 1 << 30),
        "Output kept of an attempt",
    ),
    limit("limits.batch", LIMITS.batch, "N", (1, 100_000), "Tasks in one request"),
    limit("limits.request_bytes", LIMITS.request_bytes, "BYTES", (1024, 1 << 30), "One request"),
    limit(
        "limits.bodies_in_flight_bytes",
        LIMITS.bodies_in_flight_bytes,
        "BYTES",
        (1 << 20, 1 << 40),
        "Memory for the bodies of all requests that the server works on",
    ),
    limit(
        "limits.answers_in_flight_bytes",
        LIMITS.answers_in_flight_bytes,
        "BYTES",
        (1 << 20, 1 << 40),
        "Memory for all large answers that clients have not read yet",
    ),
    limit("limits.labels", LIMITS.labels, "N", (0, 1000), "Labels of a task"),
    limit(
        "limits.label_value_bytes",
        LIMITS.label_value_bytes,
        "BYTES",
        (0, 65_536),
        "A label's value",
    ),
    limit("limits.page_size", LIMITS.page_size, "N", (1, 10_000), "Tasks on one page"),
    limit_time("limits.wait", LIMITS.wait, ("0s", "1h"), "A long poll"),
    limit_time(
        "limits.header_timeout",
        LIMITS.header_timeout,
        ("100ms", "1h"),
        "The head of a request must arrive within",
    ),
    limit_time(
        "limits.body_timeout",
        LIMITS.body_timeout,
        ("100ms", "1h"),
        "The body of a request must arrive within",
    ),
    limit("limits.connections", LIMITS.connections, "N", (1, 1_000_000), "Open connections"),
    limit(
        "limits.json_depth",
        LIMITS.json_depth,
        "N",
        (1, 127),
        "Levels of lists and objects in a payload or result",
    ),
    limit(
        "limits.name_characters",
        LIMITS.name_characters,
        "N",
        (1, Name::LEN_MAX as u64),
        "Characters of a new name: of a queue, kind, label, worker or task",
    ),
    limit(
        "limits.idempotency_key_bytes",
        LIMITS.idempotency_key_bytes,
        "BYTES",
        (1, IDEMPOTENCY_KEY_BYTES_MAX as u64),
        "An idempotency key",
    ),
    limit(
        "limits.streams_per_connection",
        LIMITS.streams_per_connection as usize,
        "N",
        (1, 1_000_000),
        "Requests at once over one connection of HTTP/2",
    ),
    limit(
        "limits.worker_slots",
        LIMITS.worker_slots as usize,
        "N",
        (1, 1_000_000),
        "Slots of a worker",
    ),
    key(
        Client,
        "url",
        "http://127.0.0.1:7420",
        "URL",
        Takes::Text,
        "The server; several, separated by commas, for failover",
    ),
    secret(Client, "token", "The token for the API"),
    key(
        Worker,
        "name",
        "",
        "NAME",
        Takes::Names,
        "The worker's name; by default the host's and the process's number",
    ),
    key(
        Worker,
        "queues",
        "",
        "NAMES",
        Takes::Names,
        "Served queues, separated by commas; by default all",
    ),
    number(Worker, "slots", "10", "N", (1, 1_000_000), "Tasks run at once"),
    time(
        Worker,
        "drain_timeout",
        "30s",
        ("0s", "7d"),
        "How long running tasks may go on after SIGTERM",
    ),
    address(
        Worker,
        "metrics_listen",
        "",
        "Where the worker shows /metrics, /healthz and /readyz, such as 127.0.0.1:7421; by default \
         nowhere",
    ),
    switch(Worker, "allow_command", "Run programs that tasks ask for (kind command)"),
    key(
        Worker,
        "allowed_programs",
        "",
        "NAMES",
        Takes::Text,
        "The only programs that may be run, separated by commas: names, or absolute paths; by default all",
    ),
    key(
        Worker,
        "allowed_env",
        "",
        "NAMES",
        Takes::Text,
        "The only variables that tasks may set for programs, separated by commas; by default all, or \
         none if allowed_programs is set",
    ),
    key(
        Worker,
        "command_user",
        "",
        "NAME",
        Takes::Text,
        "The user that programs run as, for a worker that runs as root; by default the worker's",
    ),
    switch(
        Worker,
        "http_allow_private",
        "Let tasks of kind http reach private, loopback and link-local addresses",
    ),
    key(
        Worker,
        "http_allowed_hosts",
        "",
        "HOSTS",
        Takes::Text,
        "Hosts that tasks of kind http may reach whatever their address, separated by commas",
    ),
];

//! The table of keys.

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
    pub(crate) default: &'static str,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    /// Never shown.
    pub(crate) secret: bool,
}

impl Key {
    pub(crate) fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    pub(crate) fn variable(&self) -> String {
        format!("ROTA_{}", self.name.replace(['.', '-'], "_").to_uppercase())
    }

    /// Whether its flag needs no value.
    pub(crate) fn is_switch(&self) -> bool {
        self.default == "false"
    }
}

const fn key(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    value_name: &'static str,
    help: &'static str,
) -> Key {
    Key { name, scope, default, value_name, help, secret: false }
}

const fn secret(scope: Scope, name: &'static str, help: &'static str) -> Key {
    Key { name, scope, default: "", value_name: "TOKEN", help, secret: true }
}

use Scope::{Client, Common, Limits, Server, Worker};

/// Every key.
pub(crate) const KEYS: &[Key] = &[
    key(
        Common,
        "log",
        "info",
        "FILTER",
        "What to log: error, warn, info, debug, or per module (rota_engine=debug)",
    ),
    key(
        Common,
        "log_format",
        "auto",
        "FORMAT",
        "auto (text on a terminal, else json), text or json",
    ),
    key(
        Common,
        "otlp_endpoint",
        "",
        "URL",
        "Where to send traces, by OTLP over gRPC, such as http://127.0.0.1:4317; by default what \
         OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere",
    ),
    key(
        Server,
        "node",
        "",
        "NAME",
        "This node's name, unique in its cluster; by default the host's with etcd, else rota",
    ),
    key(
        Server,
        "advertise",
        "",
        "URL",
        "Where other nodes reach this one; with etcd by default http:// and where it listens",
    ),
    key(
        Server,
        "listen",
        "127.0.0.1:7420",
        "ADDRESS",
        "Where to listen, for REST, gRPC, health and docs",
    ),
    key(
        Server,
        "store",
        "file:./rota-data",
        "URL",
        "Where state is kept: file:DIRECTORY, or etcd://HOST:PORT,HOST:PORT/PREFIX",
    ),
    key(Server, "store_user", "", "NAME", "The user at etcd; its password is store_password"),
    secret(Server, "store_password", "The password at etcd"),
    key(Server, "store_tls", "false", "", "Speak TLS with etcd, also without any of the files"),
    key(Server, "store_ca_file", "", "FILE", "Who may have signed etcd's certificates (PEM)"),
    key(Server, "store_cert_file", "", "FILE", "This node's certificate for etcd (PEM)"),
    key(Server, "store_key_file", "", "FILE", "The key of that certificate (PEM)"),
    key(
        Server,
        "store_txn_ops_max",
        "128",
        "N",
        "Operations in one transaction: etcd's --max-txn-ops",
    ),
    key(
        Server,
        "store_request_bytes_max",
        "1572864",
        "BYTES",
        "One request: etcd's --max-request-bytes",
    ),
    key(
        Server,
        "store_quota_bytes",
        "2147483648",
        "BYTES",
        "Size of etcd's database: its --quota-backend-bytes. New work is refused before it is full",
    ),
    key(
        Server,
        "store_history",
        "10m",
        "TIME",
        "How long etcd keeps old revisions before the leader has it compact them",
    ),
    key(
        Server,
        "leader_ttl",
        "5s",
        "TIME",
        "A leader that is silent for so long is replaced by another node",
    ),
    secret(
        Server,
        "api_tokens",
        "Tokens that open the API, separated by commas; none: everybody who reaches it may use it",
    ),
    key(
        Server,
        "insecure_no_auth",
        "false",
        "",
        "Listen beyond this machine without any token. Everybody who reaches the port can run tasks",
    ),
    secret(
        Server,
        "metrics_tokens",
        "Tokens that open /metrics and nothing else, separated by commas",
    ),
    key(
        Server,
        "metrics_open",
        "false",
        "",
        "Let everybody who reaches the port read /metrics, whatever tokens there are",
    ),
    key(
        Server,
        "metrics_names",
        "200",
        "N",
        "Queues, kinds and workers that metrics name; all further ones are counted as other",
    ),
    key(
        Server,
        "session_ttl",
        "10s",
        "TIME",
        "A worker that is silent for so long is taken for gone",
    ),
    key(Server, "retention_completed", "1d", "TIME", "How long completed tasks are kept"),
    key(
        Server,
        "retention_other",
        "7d",
        "TIME",
        "How long failed, cancelled and expired tasks are kept",
    ),
    key(
        Server,
        "payload_cache_bytes",
        "67108864",
        "BYTES",
        "Memory for payloads of tasks about to run",
    ),
    key(
        Server,
        "store_cache_bytes",
        "67108864",
        "BYTES",
        "Memory for data read from the embedded store",
    ),
    key(
        Server,
        "store_reserve_bytes",
        "268435456",
        "BYTES",
        "Free disk space below which new work is refused",
    ),
    key(Limits, "limits.queue_length", "20000000", "N", "Live tasks in one queue"),
    key(Limits, "limits.queues", "100000", "N", "Different queues"),
    key(Limits, "limits.kinds", "100000", "N", "Different kinds"),
    key(Limits, "limits.sessions", "10000", "N", "Connected workers"),
    key(Limits, "limits.payload_bytes", "1048576", "BYTES", "A task's payload"),
    key(Limits, "limits.result_bytes", "1048576", "BYTES", "A task's result"),
    key(Limits, "limits.output_tail_bytes", "65536", "BYTES", "Output kept of an attempt"),
    key(Limits, "limits.batch", "1000", "N", "Tasks in one request"),
    key(Limits, "limits.request_bytes", "16777216", "BYTES", "One request"),
    key(Limits, "limits.labels", "32", "N", "Labels of a task"),
    key(Limits, "limits.label_value_bytes", "1024", "BYTES", "A label's value"),
    key(Limits, "limits.page_size", "1000", "N", "Tasks on one page"),
    key(Limits, "limits.wait", "60s", "TIME", "A long poll"),
    key(Limits, "limits.header_timeout", "10s", "TIME", "The head of a request must arrive within"),
    key(Limits, "limits.body_timeout", "30s", "TIME", "The body of a request must arrive within"),
    key(Limits, "limits.connections", "10000", "N", "Open connections"),
    key(Limits, "limits.worker_slots", "100000", "N", "Slots of a worker"),
    key(
        Client,
        "url",
        "http://127.0.0.1:7420",
        "URL",
        "The server; several, separated by commas, for failover",
    ),
    secret(Client, "token", "The token for the API"),
    key(
        Worker,
        "name",
        "",
        "NAME",
        "The worker's name; by default the host's and the process's number",
    ),
    key(Worker, "queues", "", "NAMES", "Served queues, separated by commas; by default all"),
    key(Worker, "slots", "10", "N", "Tasks run at once"),
    key(Worker, "drain_timeout", "30s", "TIME", "How long running tasks may go on after SIGTERM"),
    key(
        Worker,
        "metrics_listen",
        "",
        "ADDRESS",
        "Where the worker shows /metrics, /healthz and /readyz, such as 127.0.0.1:7421; by default \
         nowhere",
    ),
    key(Worker, "allow_command", "false", "", "Run programs that tasks ask for (kind command)"),
    key(
        Worker,
        "allowed_programs",
        "",
        "NAMES",
        "The only programs that may be run, separated by commas; by default all",
    ),
    key(
        Worker,
        "http_allow_private",
        "false",
        "",
        "Let tasks of kind http reach private, loopback and link-local addresses",
    ),
    key(
        Worker,
        "http_allowed_hosts",
        "",
        "HOSTS",
        "Hosts that tasks of kind http may reach whatever their address, separated by commas",
    ),
];

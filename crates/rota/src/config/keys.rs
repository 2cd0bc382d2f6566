//! The table of settings: name, default, allowed values and help text of each.

use std::{borrow::Cow, time::Duration};

/// The processes and commands that use a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Common,
    Server,
    /// The store, for servers and for commands that work on stores themselves.
    Store,
    Limits,
    Client,
    /// Whom to trust, for clients and for nodes among themselves.
    Trust,
    Worker,
}

/// A setting.
#[derive(Debug)]
pub(crate) struct Key {
    /// Name in the file. A dot separates the table from the key.
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) default: DefaultValue,
    pub(crate) value_name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) takes: Takes,
    /// Whether the value is a secret, which is never shown.
    pub(crate) secret: bool,
    /// Its name in earlier versions, which goes on working with a warning.
    pub(crate) formerly: Option<&'static str>,
}

/// The value of a setting that is not set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DefaultValue {
    /// In the form in which users write it.
    Text(&'static str),
    Number(u64),
    Time(Duration),
}

/// The allowed values of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Any text. The code that uses the setting checks it.
    Text,
    /// Names separated by commas, or empty.
    Names,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An IP address and a port, or empty if that is the default.
    Address,
    /// A whole number within these bounds.
    Number(u64, u64),
    /// A duration within these bounds.
    Time(&'static str, &'static str),
}

impl Key {
    pub(crate) fn flag(&self) -> String {
        flag_of(self.name)
    }

    pub(crate) fn variable(&self) -> String {
        variable_of(self.name)
    }

    /// The same key, which had that name in earlier versions.
    pub(super) const fn formerly(self, name: &'static str) -> Self {
        Self { formerly: Some(name), ..self }
    }

    /// The default, in the form in which users write it.
    pub(crate) fn default(&self) -> Cow<'static, str> {
        match self.default {
            DefaultValue::Text(text) => text.into(),
            DefaultValue::Number(number) => number.to_string().into(),
            DefaultValue::Time(time) => format!("{time:?}").into(),
        }
    }

    /// Whether the flag can stand without a value.
    pub(crate) fn is_switch(&self) -> bool {
        matches!(self.default, DefaultValue::Text("false"))
    }
}

/// The flag of the key with that name.
pub(super) fn flag_of(name: &str) -> String {
    name.replace(['.', '_'], "-")
}

/// The variable of the key with that name.
pub(crate) fn variable_of(name: &str) -> String {
    format!("ROTA_{}", name.replace(['.', '-'], "_").to_uppercase())
}

pub(super) const fn key(
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
        formerly: None,
    }
}

pub(super) const fn number(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    value_name: &'static str,
    (least, most): (u64, u64),
    help: &'static str,
) -> Key {
    key(scope, name, default, value_name, Takes::Number(least, most), help)
}

pub(super) const fn time(
    scope: Scope,
    name: &'static str,
    default: &'static str,
    (least, most): (&'static str, &'static str),
    help: &'static str,
) -> Key {
    key(scope, name, default, "TIME", Takes::Time(least, most), help)
}

pub(super) const fn switch(scope: Scope, name: &'static str, help: &'static str) -> Key {
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

pub(super) const fn secret(scope: Scope, name: &'static str, help: &'static str) -> Key {
    let takes = Takes::Text;
    let default = DefaultValue::Text("");
    Key { name, scope, default, value_name: "TOKEN", help, takes, secret: true, formerly: None }
}

use Scope::{Client, Common, Server, Store, Trust, Worker};

/// What comes before the tables of stores.
pub(super) const BEFORE_STORES: &[Key] = &[
    key(
        Common,
        "log",
        "info",
        "FILTER",
        Takes::Text,
        "Log filter: error, warn, info or debug, or a level per module (rota_engine=debug)",
    ),
    key(
        Common,
        "log_format",
        "auto",
        "FORMAT",
        Takes::OneOf(&["auto", "text", "json"]),
        "Log format: text, json, or auto (text on a terminal, otherwise json)",
    ),
    key(
        Common,
        "otlp_endpoint",
        "",
        "URL",
        Takes::Text,
        "Collector for traces, by OTLP over gRPC, such as http://127.0.0.1:4317. Default: the value \
                 of OTEL_EXPORTER_OTLP_ENDPOINT; if that is not set, no traces are sent",
    ),
    key(
        Server,
        "node",
        "",
        "NAME",
        Takes::Names,
        "Name of this node, unique in the cluster. Default: the host name with etcd, otherwise rota",
    ),
    key(
        Server,
        "advertise",
        "",
        "URL",
        Takes::Text,
        "URL at which other nodes reach this one. Default with a shared store: the listen address, with https:// if the \
                 node serves TLS, or else http://",
    ),
    address(
        Server,
        "listen",
        "127.0.0.1:7420",
        "Address to listen on for REST, gRPC, health checks and docs",
    ),
    key(
        Store,
        "store",
        "file:./rota-data",
        "URL",
        Takes::Text,
        "Store for all state: file:DIRECTORY, etcd://HOST:PORT,HOST:PORT/PREFIX, redis://HOST:PORT/DATABASE, \
         redis+sentinel://HOST:PORT,HOST:PORT/MASTER or consul://HOST:PORT/PREFIX",
    ),
];

/// What comes after them.
pub(super) const AFTER_STORES: &[Key] = &[
    time(
        Store,
        "leader_ttl",
        "5s",
        ("1s", "1h"),
        "Silence of a leader after which another node replaces it",
    ),
    secret(
        Server,
        "api_tokens",
        "API tokens, separated by commas. Without any, everyone who reaches the port can use the API",
    ),
    switch(
        Server,
        "insecure_no_auth",
        "Listen beyond this machine without an API token. Everyone who reaches the port can run tasks",
    ),
    key(
        Server,
        "public_url",
        "",
        "URL",
        Takes::Text,
        "URL by which browsers reach the dashboard, if a proxy changes the host of requests. Default: the host that the \
                 browser asks for",
    ),
    key(
        Server,
        "trace_url",
        "",
        "URL",
        Takes::Text,
        "URL of a trace, with {trace_id} for its id, for links in the dashboard: \
                 https://tempo.example.com/trace/{trace_id}. Default: no links",
    ),
    secret(
        Server,
        "metrics_tokens",
        "Tokens that give access to /metrics only, separated by commas",
    ),
    switch(Server, "metrics_open", "Serve /metrics without a token"),
    number(
        Server,
        "metrics_names",
        "200",
        "N",
        (0, 100_000),
        "Maximum number of queues, of kinds and of workers that metrics name. Further ones count as other",
    ),
    key(
        Server,
        "tls_cert_file",
        "",
        "FILE",
        Takes::Text,
        "Certificate to serve TLS with, and its chain, in PEM format. The node reads it anew when it changes. \
                 Default: no TLS",
    ),
    key(Server, "tls_key_file", "", "FILE", Takes::Text, "Key of the certificate, in PEM format"),
    key(
        Server,
        "tls_client_ca_file",
        "",
        "FILE",
        Takes::Text,
        "Authorities of the certificates of clients, in PEM format. If set, every client, worker and other \
                 node must present a certificate",
    ),
    switch(
        Server,
        "tls_self_signed",
        "Serve TLS with a self-signed certificate, for a first try. It is kept in ./rota-tls",
    ),
    time(
        Server,
        "session_ttl",
        "10s",
        ("1s", "1h"),
        "Silence of a worker after which it counts as lost",
    ),
    time(Server, "retention_completed", "1d", ("0s", "3660d"), "Time to keep completed tasks"),
    time(
        Server,
        "retention_other",
        "7d",
        ("0s", "3660d"),
        "Time to keep failed, cancelled and expired tasks",
    ),
    time(
        Server,
        "retention_clock_grace",
        "1h",
        ("0s", "30d"),
        "Time without removal of ended tasks after the wall clock has jumped forward",
    ),
    number(
        Server,
        "payload_cache_bytes",
        "67108864",
        "BYTES",
        (0, 1 << 50),
        "Memory to cache payloads of tasks that will run soon",
    ),
];

/// What comes after the limits.
pub(super) const AFTER_LIMITS: &[Key] = &[
    key(
        Client,
        "url",
        "http://127.0.0.1:7420",
        "URL",
        Takes::Text,
        "Server URL, or several separated by commas for failover",
    ),
    secret(Client, "token", "API token"),
    key(
        Client,
        "token_file",
        "",
        "FILE",
        Takes::Text,
        "File with the API token, or - for standard input",
    ),
    key(
        Trust,
        "ca_file",
        "",
        "FILE",
        Takes::Text,
        "Authorities to trust for https:// addresses, in PEM format. Default: the authorities of the system",
    ),
    key(
        Client,
        "cert_file",
        "",
        "FILE",
        Takes::Text,
        "Certificate for servers that demand one of their clients, in PEM format",
    ),
    key(
        Client,
        "key_file",
        "",
        "FILE",
        Takes::Text,
        "Key of the client's certificate, in PEM format",
    ),
    key(
        Worker,
        "name",
        "",
        "NAME",
        Takes::Names,
        "Name of the worker. Default: the host name and the process id",
    ),
    key(
        Worker,
        "queues",
        "",
        "NAMES",
        Takes::Names,
        "Queues to serve, separated by commas. Default: all",
    ),
    number(Worker, "slots", "10", "N", (1, 1_000_000), "Number of tasks to run at once"),
    time(
        Worker,
        "drain_timeout",
        "30s",
        ("0s", "7d"),
        "Time that running tasks have to finish after SIGTERM",
    ),
    address(
        Worker,
        "metrics_listen",
        "",
        "Address to serve /metrics, /healthz and /readyz on, such as 127.0.0.1:7421. Default: not served",
    ),
    switch(Worker, "allow_command", "Let tasks of kind command run programs on this machine"),
    key(
        Worker,
        "allowed_programs",
        "",
        "NAMES",
        Takes::Text,
        "Programs that tasks can run, separated by commas: names or absolute paths. Default: all",
    ),
    key(
        Worker,
        "allowed_env",
        "",
        "NAMES",
        Takes::Text,
        "Environment variables that tasks can set for programs, separated by commas. Default: all, or \
                 none if allowed_programs is set",
    ),
    key(
        Worker,
        "command_user",
        "",
        "NAME",
        Takes::Text,
        "User to run programs as; the worker must run as root. Default: the worker's user",
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
        "Hosts that tasks of kind http can reach at any address, separated by commas",
    ),
];

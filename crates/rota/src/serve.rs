//! The processes: `rota server`, `rota worker`, `rota dev`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rota_client::Client;
use rota_core::{MachineLimits, Millis, Retention};
use rota_engine::{Engine, EngineOptions, EventLimits, Host, OutputLimits, TickTraces};
use rota_metrics::NodeMetrics;
use rota_server::{Limits, ServeError, Server, ServerOptions, TickSpans, Tokens};
use rota_store::Store;
use rota_trace::Tracer;
use rota_worker::{
    Drain, Worker, WorkerError,
    executor::{command, http},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    banner,
    config::{self, Key, Settings, Source},
    exit::{Exit, Failure},
    log::Log,
    store, tls, token,
    trace::{self, Traces},
};

/// Resolves at the first SIGTERM or SIGINT, and then at the second.
struct Signals {
    first: CancellationToken,
    second: CancellationToken,
}

fn signals() -> Result<Signals, Failure> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let (one, two) = (first.clone(), second.clone());
    tokio::spawn(async move {
        for token in [one, two] {
            tokio::select! {
                biased;
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            token.cancel();
        }
    });
    Ok(Signals { first, second })
}

/// A server and the parts below it.
struct Node {
    store: Arc<dyn Store>,
    engine: Engine,
    server: Server,
    stop: CancellationToken,
    stop_engine: CancellationToken,
    traces: Traces,
    tls: Option<tls::NodeTls>,
}

impl Node {
    async fn start(settings: &Settings, log: Log) -> Result<Self, Failure> {
        let store = store::open(settings).await?;
        let started = Self::start_on(store.clone(), settings, log).await;
        if started.is_err() {
            store.close().await;
        }
        started
    }

    async fn start_on(
        store: Arc<dyn Store>,
        settings: &Settings,
        log: Log,
    ) -> Result<Self, Failure> {
        let name = node_name(settings, store.is_shared())?;
        log.write_as("node", &name);
        let traces = trace::start(settings, "rota-node", &name)?;
        let tls = tls::node(settings)?;
        let options = ServerOptions {
            log: Some(Arc::new(log)),
            tracer: traces.tracer(),
            tls: tls.as_ref().map(|tls| tls.port.clone()),
            peer_tls: tls::peers(settings, tls.as_ref()),
            ..server_options(settings)?
        };
        let tick_spans = TickSpans::new(traces.tracer());
        let engine_options = EngineOptions {
            tick_traces: tick_spans.map(|spans| Arc::new(spans) as Arc<dyn TickTraces>),
            ..engine_options(settings, store.is_shared())?
        };
        let (stop, stop_engine) = (CancellationToken::new(), CancellationToken::new());
        let engine =
            Engine::start(Host::system(), store.clone(), engine_options, stop_engine.clone());
        let server = match Server::bind(engine.clone(), options).await {
            Ok(server) => server,
            Err(error) => {
                stop_engine.cancel();
                engine.stopped().await;
                let exit = match error {
                    ServeError::Bind { .. } | ServeError::Setup(_) => Exit::Failure,
                    ServeError::Unprotected(_)
                    | ServeError::LimitsTooLarge { .. }
                    | ServeError::KeysTooLong(_)
                    | ServeError::Tls(_) => Exit::Usage,
                };
                let hint = match error {
                    ServeError::Unprotected(_) => {
                        "set ROTA_API_TOKENS or --tls-client-ca-file, or add --insecure-no-auth, or listen on \
                         127.0.0.1"
                    }
                    ServeError::LimitsTooLarge { .. } => {
                        "lower these limits; with etcd, you can instead raise its --max-request-bytes and \
                                                  --store-etcd-request-bytes-max here"
                    }
                    ServeError::KeysTooLong(_) => "lower --limits-idempotency-key-bytes",
                    ServeError::Tls(_) => "correct --ca-file",
                    ServeError::Bind { .. } | ServeError::Setup(_) => {
                        "choose another address with --listen"
                    }
                };
                return Err(Failure::new(exit, error.to_string()).hint(hint));
            }
        };
        Ok(Self { store, engine, server, stop, stop_engine, traces, tls })
    }

    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.server.local_addr())
    }

    /// Serves until it is told to stop. Then it ends requests, the engine and the store, in this order. A
    /// node with peers gives up leadership first, and forwards remaining requests to the new leader.
    async fn run(self) -> Result<(), Failure> {
        let stop_server = CancellationToken::new();
        let (engine, stop_engine) = (self.engine.clone(), self.stop_engine.clone());
        let stopping = async {
            self.stop.cancelled().await;
            if engine.has_peers() {
                stop_engine.cancel();
                engine.stopped().await;
            }
            stop_server.cancel();
        };
        let (served, ()) = tokio::join!(self.server.run(stop_server.clone()), stopping);
        self.stop_engine.cancel();
        self.engine.stopped().await;
        self.store.close().await;
        self.traces.end().await;
        served.map_err(Failure::failed)
    }
}

/// The name of this node.
fn node_name(settings: &Settings, is_shared: bool) -> Result<String, Failure> {
    match settings.text("node") {
        "" if is_shared => {
            let host = nix::unistd::gethostname().map_err(Failure::failed)?;
            Ok(host.to_string_lossy().into_owned())
        }
        "" => Ok("rota".to_owned()),
        name => Ok(name.to_owned()),
    }
}

/// The URL at which other nodes reach this one, if the store can be shared.
fn address(settings: &Settings, is_shared: bool) -> Result<Option<String>, Failure> {
    if !is_shared {
        return Ok(None);
    }
    let listen: SocketAddr = settings.get("listen")?;
    let scheme = tls::scheme(settings)?;
    match settings.text("advertise") {
        "" if listen.ip().is_unspecified() => Err(Failure::usage(format!(
            "other nodes cannot reach this one at the listen address {listen}"
        ))
        .hint(format!("set the URL of this node with --advertise {scheme}://HOST:PORT"))),
        "" => Ok(Some(format!("{scheme}://{listen}"))),
        url if ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) => {
            if !url.starts_with(&format!("{scheme}://")) {
                warn!(
                    advertise = url,
                    "other nodes reach this one by another scheme than {scheme}, which it serves"
                );
            }
            Ok(Some(url.to_owned()))
        }
        url => {
            Err(Failure::usage(format!("advertise = {url:?} must begin with http:// or https://")))
        }
    }
}

fn engine_options(settings: &Settings, is_shared: bool) -> Result<EngineOptions, Failure> {
    let millis = |key: &str| settings.span(key).map(Millis::from_duration);
    Ok(EngineOptions {
        node: node_name(settings, is_shared)?,
        address: address(settings, is_shared)?,
        machine: MachineLimits {
            queue_length_max: settings.get("limits.queue_length")?,
            queues_max: settings.get("limits.queues")?,
            kinds_max: settings.get("limits.kinds")?,
            sessions_max: settings.get("limits.sessions")?,
            schedules_max: settings.get("limits.schedules")?,
            calendars_max: settings.get("limits.calendars")?,
        },
        session_ttl: settings.span("session_ttl")?,
        retention: Retention {
            completed: millis("retention_completed")?,
            other: millis("retention_other")?,
        },
        clock_grace: settings.span("retention_clock_grace")?,
        payload_cache_bytes: settings.get("payload_cache_bytes")?,
        metrics: NodeMetrics::new(env!("CARGO_PKG_VERSION"), settings.get("metrics_names")?),
        events: EventLimits {
            ring_bytes: settings.get("limits.event_buffer_bytes")?,
            listeners: settings.get("limits.event_listeners")?,
            keep: settings.span("limits.event_keep")?,
        },
        output: OutputLimits {
            task_bytes: settings.get("limits.output_buffer_bytes")?,
            listeners: settings.get("limits.output_listeners")?,
            task_listeners: settings.get("limits.output_listeners_per_task")?,
        },
        ..EngineOptions::default()
    })
}

fn server_options(settings: &Settings) -> Result<ServerOptions, Failure> {
    let limits = Limits {
        payload_bytes: settings.get("limits.payload_bytes")?,
        result_bytes: settings.get("limits.result_bytes")?,
        output_tail_bytes: settings.get("limits.output_tail_bytes")?,
        batch: settings.get("limits.batch")?,
        request_bytes: settings.get("limits.request_bytes")?,
        bodies_in_flight_bytes: settings.get("limits.bodies_in_flight_bytes")?,
        answers_in_flight_bytes: settings.get("limits.answers_in_flight_bytes")?,
        labels: settings.get("limits.labels")?,
        label_value_bytes: settings.get("limits.label_value_bytes")?,
        page_size: settings.get("limits.page_size")?,
        wait: settings.span("limits.wait")?,
        header_timeout: settings.span("limits.header_timeout")?,
        body_timeout: settings.span("limits.body_timeout")?,
        connections: settings.get("limits.connections")?,
        worker_slots: settings.get("limits.worker_slots")?,
        json_depth: settings.get("limits.json_depth")?,
        name_characters: settings.get("limits.name_characters")?,
        idempotency_key_bytes: settings.get("limits.idempotency_key_bytes")?,
        streams_per_connection: settings.get("limits.streams_per_connection")?,
    };
    let tokens = Tokens::new(settings.list("api_tokens"))
        .map_err(|error| Failure::usage(format!("api_tokens: {error}")))?;
    Ok(ServerOptions {
        listen: settings.get("listen")?,
        limits,
        tokens,
        insecure_no_auth: settings.get("insecure_no_auth")?,
        log: None,
        tracer: Tracer::default(),
        metrics_tokens: Tokens::new(settings.list("metrics_tokens"))
            .map_err(|error| Failure::usage(format!("metrics_tokens: {error}")))?,
        metrics_open: settings.get("metrics_open")?,
        public_origin: config::origin(settings.text("public_url")),
        trace_url: Some(settings.text("trace_url"))
            .filter(|url| !url.is_empty())
            .map(str::to_owned),
        ..ServerOptions::default()
    })
}

/// Builds a client from the settings. It continues the trace in `TRACEPARENT` and `TRACESTATE`, which a
/// worker sets for the programs that it runs.
///
/// # Errors
/// When an address is invalid.
pub(crate) fn client(settings: &Settings) -> Result<Client, Failure> {
    let client = client_of(settings, settings.list("url"))?;
    let set = |variable: &str| std::env::var(variable).unwrap_or_default();
    Ok(client.traced(&set("TRACEPARENT"), &set("TRACESTATE")))
}

/// A client of these addresses.
pub(crate) fn client_of(settings: &Settings, addresses: Vec<String>) -> Result<Client, Failure> {
    let mut builder = tls::client(Client::builder(addresses), settings)?;
    if let Some(token) = token::of(settings)? {
        builder = builder.token(&token);
    }
    Ok(builder.patience(Duration::from_secs(3)).build()?)
}

/// The addresses that HTTP tasks can reach.
fn address_policy(settings: &Settings) -> Result<http::AddressPolicy, Failure> {
    Ok(http::AddressPolicy {
        allow_private: settings.get("http_allow_private")?,
        allowed_hosts: settings.list("http_allowed_hosts"),
        ..http::AddressPolicy::default()
    })
}

fn worker(
    settings: &Settings,
    client: Client,
    policy: http::AddressPolicy,
) -> Result<Worker, Failure> {
    let executor = http::HttpExecutor::new(policy).map_err(Failure::failed)?;
    let mut builder = Worker::builder(client)
        .slots(settings.get("slots")?)
        .drain_timeout(settings.span("drain_timeout")?)
        .raw_handler(http::KIND, move |context, payload| executor.clone().run(context, payload));
    if let Some(queues) = settings.list_if_set("queues") {
        builder = builder.queues(queues);
    }
    if settings.get("allow_command")? {
        let policy = Arc::new(command_policy(settings)?);
        builder = builder.raw_handler(command::KIND, move |context, payload| {
            command::run(policy.clone(), context, payload)
        });
    }
    if !settings.text("metrics_listen").is_empty() {
        builder = builder.metrics_listen(settings.get("metrics_listen")?);
    }
    if !settings.text("name").is_empty() {
        builder = builder.name(settings.text("name"));
    }
    builder.build().map_err(Failure::failed)
}

/// The policy for programs. Warns of secrets that programs can read.
fn command_policy(settings: &Settings) -> Result<command::CommandPolicy, Failure> {
    let user = match settings.text("command_user") {
        "" if matches!(settings.source("command_user"), Source::Default) => None,
        // A variable that lost its value must not make programs run as the worker's user.
        "" => {
            let source = settings.source("command_user");
            return Err(Failure::usage(format!(
                "command_user is empty ({source}); name a user, or unset it to run programs as the \
                 worker's user"
            )));
        }
        name => Some(command::CommandUser::named(name).map_err(|error| {
            let source = settings.source("command_user");
            Failure::usage(format!("command_user = {name:?} ({source}): {error}"))
        })?),
    };
    let in_file = |key: &&Key| matches!(settings.source(key.name), Source::File(_)) && key.secret;
    if user.is_none()
        && let Some(key) = config::keys().find(in_file)
    {
        warn!(
            place = %settings.source(key.name),
            "programs of tasks can read {} in the configuration file; set the variable {} instead, \
             or command_user",
            key.name,
            key.variable()
        );
    }
    if user.is_none() && !matches!(settings.text("token_file"), "" | "-") {
        warn!(
            place = %settings.source("token_file"),
            "programs of tasks can read the file in token_file; set the variable ROTA_TOKEN or command_user instead"
        );
    }
    if user.is_none() && !settings.text("key_file").is_empty() {
        warn!("programs of tasks can read the worker's key_file; set command_user");
    }
    Ok(command::CommandPolicy {
        allowed_programs: settings.list_if_set("allowed_programs"),
        allowed_env: settings.list_if_set("allowed_env"),
        user,
    })
}

/// The failure for a worker's error. A refusal keeps its exit code.
fn ended_badly(error: WorkerError) -> Failure {
    match error {
        WorkerError::Refused(error) => error.into(),
        error => Failure::failed(error),
    }
}

/// `rota server`.
///
/// # Errors
/// When the server cannot start, or serving fails.
pub(crate) async fn server(settings: &Settings, log: Log) -> Result<(), Failure> {
    let signals = signals()?;
    let node = Node::start(settings, log).await?;
    announce(&node.url(), settings);
    stop_with(&signals.first, &node.stop);
    node.run().await
}

/// `rota worker`.
///
/// # Errors
/// When the worker cannot start, or the server refuses it.
pub(crate) async fn run_worker(settings: &Settings, log: Log) -> Result<(), Failure> {
    let signals = signals()?;
    // Workers keep their connections. Each starts with a random node, so that they spread.
    let mut addresses = settings.list("url");
    fastrand::shuffle(&mut addresses);
    let client = client_of(settings, addresses)?;
    let worker = worker(settings, client, address_policy(settings)?)?;
    log.write_as("worker", worker.name());
    let traces = trace::start(settings, "rota-worker", worker.name())?;
    info!("starting worker");
    drain_with(&signals, worker.drain());
    let ended = worker.traced(traces.tracer()).run().await;
    traces.end().await;
    ended.map_err(ended_badly)
}

/// `rota dev`: a server and a worker in one process.
///
/// # Errors
/// When one of them cannot start.
pub(crate) async fn dev(settings: &Settings, log: Log) -> Result<(), Failure> {
    let signals = signals()?;
    let node = Node::start(settings, log).await?;
    let url = node.url();
    announce(&url, settings);
    let mut builder = tls::own_client(Client::builder([url.clone()]), settings, node.tls.as_ref());
    if let Some(token) = settings.list("api_tokens").first() {
        builder = builder.token(token);
    }
    // The service that a developer works on usually listens on this machine.
    let policy = http::AddressPolicy { allow_loopback: true, ..address_policy(settings)? };
    let worker = worker(settings, builder.build()?, policy)?.traced(node.traces.tracer());
    banner::print(settings, &url)?;
    drain_with(&signals, worker.drain());
    let stop = node.stop.clone();
    // The server stops after the worker, which needs it to return its tasks.
    let work = async {
        let ended = worker.run().await;
        if ended.is_ok() && !signals.first.is_cancelled() {
            // A client drained this worker, as it can drain any worker.
            info!(
                "the worker has drained; the server continues; start another worker with `rota worker`"
            );
            signals.first.cancelled().await;
        }
        stop.cancel();
        ended
    };
    let (served, worked) = tokio::join!(node.run(), work);
    served?;
    worked.map_err(ended_badly)
}

fn announce(url: &str, settings: &Settings) {
    info!(
        url,
        store = settings.text("store"),
        dashboard = format!("{url}/"),
        docs = format!("{url}/docs"),
        "serving"
    );
    let exposed: bool = settings.get("insecure_no_auth").unwrap_or(false);
    if exposed && settings.text("api_tokens").is_empty() {
        warn!("no API token is set; everyone who reaches this port can run tasks");
    }
}

fn stop_with(signal: &CancellationToken, stop: &CancellationToken) {
    let (signal, stop) = (signal.clone(), stop.clone());
    tokio::spawn(async move {
        signal.cancelled().await;
        info!("stopping");
        stop.cancel();
    });
}

fn drain_with(signals: &Signals, drain: Drain) {
    let (first, second) = (signals.first.clone(), signals.second.clone());
    tokio::spawn(async move {
        first.cancelled().await;
        drain.start();
        second.cancelled().await;
        drain.now();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigFile, Scope, flags};

    #[test]
    fn without_settings_the_parts_have_their_own_defaults() {
        let command =
            clap::Command::new("rota").args(flags(&[Scope::Server, Scope::Store, Scope::Limits]));
        let matches = command.get_matches_from(["rota"]);
        let settings = Settings::resolve(&matches, |_| None, None, &ConfigFile::default());
        let settings = settings.expect("no contradiction");
        let server = server_options(&settings).expect("options");
        assert_eq!(server.limits, Limits::DEFAULT);
        let (engine, own) =
            (engine_options(&settings, false).expect("options"), EngineOptions::default());
        assert_eq!(engine.machine, own.machine);
        assert_eq!(engine.session_ttl, own.session_ttl);
        assert_eq!(engine.payload_cache_bytes, own.payload_cache_bytes);
        assert_eq!(engine.clock_grace, own.clock_grace);
    }
}

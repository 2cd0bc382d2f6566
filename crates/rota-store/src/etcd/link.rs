//! A connection to one member of etcd at a time, with failover to the next member.
//!
//! Each purpose has its own link (commits, reads, the lease, each watch), so that none waits behind another's
//! data. All links leave a member that one of them finds silent (`members`).

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    answer::{self, Heard, Missing, Patience, Pulse},
    fault::{self, Fault},
    members::Members,
    options::{EtcdOptions, EtcdTls, EtcdUser},
    wire::{
        AuthClient, AuthenticateRequest, KvClient, LeaseClient, MaintenanceClient, StatusRequest,
        WatchClient,
    },
};

/// Interval of pings. etcd refuses more than one every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);

/// Maximum bytes of an answer. Requests aim far below it. A request whose answer exceeds it is divided.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Windows of a stream and of a connection. They are small, so that a large answer does not block a slow
/// network for long, which lease renewals use, too.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Whether a retry could carry out a request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// A read or an idempotent request. Retried after any temporary fault.
    Harmless,
    /// A read of a variable amount. As `Harmless`, but after a timeout the caller requests less.
    Portion,
    /// Retried only after faults that certainly had no effect.
    Once,
}

/// The connection of a stream.
pub(super) struct Used(Arc<Connection>);

/// See the module.
pub(super) struct Link {
    purpose: &'static str,
    options: Arc<EtcdOptions>,
    members: Arc<Members>,
    /// Default timeout of one attempt.
    patience: Duration,
    /// Whether requests are so small that a missing answer shows that the member is silent. Otherwise the
    /// member is checked first.
    small: bool,
    /// Whether it always stays with its member.
    fixed: bool,
    current: Mutex<Arc<Connection>>,
}

/// A connection for requests.
#[derive(Clone)]
pub(super) struct Client {
    heard: Heard,
    stamp: Stamp,
}

type Stamped = InterceptedService<Heard, Stamp>;

impl Client {
    fn stamped(&self) -> Stamped {
        InterceptedService::new(self.heard.clone(), self.stamp.clone())
    }

    pub(super) fn kv(&self) -> KvClient<Stamped> {
        KvClient::new(self.stamped()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn watch(&self) -> WatchClient<Stamped> {
        WatchClient::new(self.stamped()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn lease(&self) -> LeaseClient<Stamped> {
        LeaseClient::new(self.stamped())
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient<Stamped> {
        MaintenanceClient::new(self.stamped())
    }

    /// The same, reporting received bytes to this pulse.
    fn heard_by(&self, pulse: Pulse) -> Self {
        let channel = self.heard.channel.clone();
        Self { heard: Heard { channel, pulse }, stamp: self.stamp.clone() }
    }
}

/// The metadata of each request: the token, and that a member without a leader must refuse at once.
#[derive(Clone)]
pub(super) struct Stamp {
    token: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        Ok(request)
    }
}

/// A connection, opened on first use.
struct Connection {
    endpoint: usize,
    since: Instant,
    client: OnceCell<Client>,
}

impl Connection {
    fn to(endpoint: usize) -> Arc<Self> {
        Arc::new(Self { endpoint, since: Instant::now(), client: OnceCell::new() })
    }
}

impl Link {
    /// A link that connects on first use, in the runtime of that use.
    pub(super) fn new(
        purpose: &'static str,
        options: &Arc<EtcdOptions>,
        members: &Arc<Members>,
    ) -> Self {
        Self {
            purpose,
            options: Arc::clone(options),
            members: Arc::clone(members),
            patience: options.timeout,
            small: false,
            fixed: false,
            current: Mutex::new(Connection::to(0)),
        }
    }

    /// The same link for small requests only, with this timeout for each attempt. A member that takes longer
    /// counts as silent.
    pub(super) fn for_small_requests(self, patience: Duration) -> Self {
        Self { patience, small: true, ..self }
    }

    /// The same link, only to this member.
    pub(super) fn fixed_to(self, member: usize) -> Self {
        Self { fixed: true, current: Mutex::new(Connection::to(member)), ..self }
    }

    /// Makes a request, with the link's timeout for each attempt.
    pub(super) async fn call<T, F>(
        &self,
        effect: Effect,
        request: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.call_within(Patience::brief(self.patience), effect, request).await
    }

    /// Makes a request, with this timeout for each attempt.
    pub(super) async fn call_within<T, F>(
        &self,
        patience: Patience,
        effect: Effect,
        request: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        self.open(patience, effect, request).await.map(|(answer, _)| answer)
    }

    /// Replaces the connection after a failure of a stream on it.
    pub(super) fn renew(&self, used: &Used, fault: &Fault) {
        if matches!(fault, Fault::Silent(_)) {
            self.members.found_silent(used.0.endpoint);
        }
        self.replace(&used.0, fault);
    }

    /// Resolves when any link finds the member of a stream silent. Cancel safe.
    pub(super) async fn suspected(&self, used: &Used) {
        self.members.suspected(used.0.endpoint, used.0.since).await;
    }

    /// Makes a request that opens a stream, with this timeout for each attempt. Also returns its connection,
    /// for [`renew`](Self::renew). There is one attempt for each member and at least two, but none after two
    /// that timed out.
    pub(super) async fn open<T, F>(
        &self,
        patience: Patience,
        effect: Effect,
        request: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<(T, Used), Fault>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let attempts = if self.fixed { 1 } else { self.members.count().max(2) };
        let mut waits = 0;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let connection = self.trusted();
            let fault = match Box::pin(self.attempt(&connection, patience, &request)).await {
                Ok(answer) => return Ok((answer, Used(connection))),
                Err(fault) => fault,
            };
            if matches!(fault, Fault::Silent(_)) {
                self.members.found_silent(connection.endpoint);
            }
            if !fault.is_passing() {
                return Err(fault);
            }
            self.replace(&connection, &fault);
            waits += usize::from(matches!(fault, Fault::Silent(_) | Fault::Slow(_)));
            let safe = match effect {
                Effect::Harmless => true,
                Effect::Portion => !matches!(fault, Fault::Slow(_)),
                Effect::Once => !fault.may_have_had_effect(),
            };
            if !safe || attempt >= attempts || waits >= 2 {
                return Err(fault);
            }
        }
    }

    /// Makes a request once, on this connection. Its futures are boxed, because nested they would exceed the
    /// stack of a thread.
    async fn attempt<T, F>(
        &self,
        connection: &Connection,
        patience: Patience,
        request: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let connecting = patience.all.min(self.options.timeout);
        let no_connection = || {
            self.members.found_silent(connection.endpoint);
            Fault::Refused(format!("no connection within {connecting:?}"))
        };
        if self.small {
            let attempt = Box::pin(async {
                let client = self.client(connection).await?;
                Ok(request(client.clone()).await?.into_inner())
            });
            let answer = answer::within(patience.all, attempt).await;
            return answer.unwrap_or_else(|| {
                let is_connected = connection.client.initialized();
                Err(if is_connected { Fault::Silent(patience.all) } else { no_connection() })
            });
        }
        let client = answer::within(connecting, self.client(connection)).await;
        let client = client.unwrap_or_else(|| Err(no_connection()))?;
        let began = Instant::now();
        let pulse = Pulse::default();
        let answer = Box::pin(request(client.heard_by(pulse.clone())));
        let (endpoint, timeout) = (connection.endpoint, self.options.timeout);
        let lives = || Box::pin(self.members.lives(endpoint, self.answers(endpoint)));
        let received = answer::receive(answer, &pulse, patience, timeout, lives);
        let received = tokio::select! {
            biased;
            received = received => received,
            () = self.members.suspected(endpoint, connection.since) => Err(Missing::Silent),
        };
        match received {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(Missing::Silent) => Err(Fault::Silent(timeout)),
            Err(Missing::Slow) => Err(Fault::Slow(began.elapsed())),
        }
    }

    /// The client of this connection, created on first use.
    async fn client<'a>(&self, connection: &'a Connection) -> Result<&'a Client, Fault> {
        let connected = connection.client.get_or_try_init(|| Box::pin(self.connect(connection)));
        let connected = connected.await;
        // A request that was never sent had no effect.
        connected.map_err(|fault| match fault {
            fault if fault.may_have_had_effect() => Fault::Refused(fault.reason()),
            fault => fault,
        })
    }

    /// Whether this member answers a small request at all.
    async fn answers(&self, endpoint: usize) -> bool {
        let Ok(channel) = self.channel(endpoint).await else { return false };
        match MaintenanceClient::new(channel).status(StatusRequest {}).await {
            Ok(_) => true,
            // An answer of etcd, even if it is a refusal.
            Err(status) => !matches!(Fault::from(status), Fault::Unknown(_) | Fault::Refused(_)),
        }
    }

    /// Changes to a new connection: to the next member, or to the same one if only the authentication failed.
    /// Does nothing if this was already done.
    fn replace(&self, failed: &Arc<Connection>, fault: &Fault) {
        let mut current = self.current();
        if !Arc::ptr_eq(&current, failed) {
            return;
        }
        let endpoint = match fault {
            _ if self.fixed => failed.endpoint,
            Fault::Stranger(_) => failed.endpoint,
            _ => self.members.after(failed.endpoint),
        };
        *current = Connection::to(endpoint);
        tracing::debug!(
            purpose = self.purpose,
            from = self.options.endpoints[failed.endpoint],
            to = self.options.endpoints[endpoint],
            reason = fault.reason(),
            "reconnecting to etcd"
        );
    }

    /// The connection to use now, not to a member that was found silent since the connection was opened.
    fn trusted(&self) -> Arc<Connection> {
        let mut current = self.current();
        if !self.fixed && self.members.is_suspect(current.endpoint, current.since) {
            *current = Connection::to(self.members.after(current.endpoint));
        }
        Arc::clone(&current)
    }

    async fn connect(&self, connection: &Connection) -> Result<Client, Fault> {
        let channel = self.channel(connection.endpoint).await?;
        let token = match &self.options.user {
            Some(user) => Some(authenticate(channel.clone(), user).await?),
            None => None,
        };
        let heard = Heard { channel, pulse: Pulse::default() };
        Ok(Client { heard, stamp: Stamp { token } })
    }

    async fn channel(&self, endpoint: usize) -> Result<Channel, Fault> {
        let address = &self.options.endpoints[endpoint];
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        let invalid = |error: tonic::transport::Error| {
            Fault::Refused(format!("{address}: {}", fault::chain(&error)))
        };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(invalid)?
            // Less than the timeout of a request, to distinguish a missing connection from a missing answer.
            .connect_timeout(self.options.timeout / 2)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // etcd closes connections that ping without a stream.
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(self.options.timeout)
            .keep_alive_while_idle(false);
        if let Some(tls) = &self.options.tls {
            endpoint = endpoint.tls_config(read_tls(tls).await?).map_err(invalid)?;
        }
        endpoint.connect().await.map_err(invalid)
    }

    fn current(&self) -> MutexGuard<'_, Arc<Connection>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gets a token for this user. etcd forgets it after a while without use, and at a restart.
async fn authenticate(channel: Channel, user: &EtcdUser) -> Result<MetadataValue<Ascii>, Fault> {
    let request = AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
    let answer = AuthClient::new(channel).authenticate(request).await?.into_inner();
    let unusable =
        |_| Fault::Refused("etcd returned a token that is not valid in a header".to_owned());
    answer.token.parse().map_err(unusable)
}

async fn read_tls(tls: &EtcdTls) -> Result<ClientTlsConfig, Fault> {
    let mut options = ClientTlsConfig::new();
    options = match &tls.ca_file {
        Some(file) => options.ca_certificate(Certificate::from_pem(read_file(file).await?)),
        None => options.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
        options =
            options.identity(Identity::from_pem(read_file(cert).await?, read_file(key).await?));
    }
    Ok(options)
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, Fault> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| Fault::Refused(format!("cannot read {}: {error}", path.display())))
}

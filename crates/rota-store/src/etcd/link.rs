//! A connection to one member of etcd at a time, replaced by one to the next member when it fails.
//!
//! Each purpose has a link of its own (commits, reads, the lease, each watch), so that none waits
//! behind another's data. All of them leave a member that one of them finds silent (`members`).

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

/// etcd refuses pings that come more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(6);

/// The most bytes that one answer may have. Requests aim far below it; one that meets it is divided.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes that a member may send ahead on one stream, and on one connection. Small, so that a large
/// answer does not fill a slow line for long: renewals of the lease use the same line.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// Whether trying again could do something twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reads, or doing it twice is the same as once: tried again after any passing fault.
    Harmless,
    /// It reads as much as it was told to: as `Harmless`, but when it was too slow, less is asked for
    /// instead of the same again.
    Portion,
    /// It is tried again only after faults that surely had no effect.
    Once,
}

/// The connection that a stream is on.
pub(super) struct Used(Arc<Connection>);

/// See the module.
pub(super) struct Link {
    purpose: &'static str,
    options: Arc<EtcdOptions>,
    members: Arc<Members>,
    /// The time for one attempt, unless a call says otherwise.
    patience: Duration,
    /// Whether requests are so small that one without an answer shows that the member is silent.
    /// Otherwise the member is asked before it is called so.
    small: bool,
    /// Whether it stays with its member, whatever happens.
    fixed: bool,
    current: Mutex<Arc<Connection>>,
}

/// A connection that is there, as requests use it.
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

    /// The same, telling that pulse of what arrives.
    fn heard_by(&self, pulse: Pulse) -> Self {
        let channel = self.heard.channel.clone();
        Self { heard: Heard { channel, pulse }, stamp: self.stamp.clone() }
    }
}

/// What goes with each request: who we are, and that a member without a leader is to say so at once
/// rather than let us wait.
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

/// One connection, made when it is first used.
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
    /// A link that connects when it is first used, in the runtime that uses it then.
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

    /// The same link for small requests only, with that much time for each attempt. A member that
    /// takes longer is called silent.
    pub(super) fn for_small_requests(self, patience: Duration) -> Self {
        Self { patience, small: true, ..self }
    }

    /// The same link, to that member alone.
    pub(super) fn fixed_to(self, member: usize) -> Self {
        Self { fixed: true, current: Mutex::new(Connection::to(member)), ..self }
    }

    /// Makes a request, with the link's time for each attempt.
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

    /// Makes a request, with that much time for each attempt.
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

    /// Replaces the connection after something went wrong with a stream on it.
    pub(super) fn renew(&self, used: &Used, fault: &Fault) {
        if matches!(fault, Fault::Silent(_)) {
            self.members.found_silent(used.0.endpoint);
        }
        self.replace(&used.0, fault);
    }

    /// Resolves when the member that a stream is on was found silent by somebody. Cancel safe.
    pub(super) async fn suspected(&self, used: &Used) {
        self.members.suspected(used.0.endpoint, used.0.since).await;
    }

    /// Makes a request that opens a stream, with that much time for each attempt; also tells on which
    /// connection it is, for [`renew`](Self::renew). There is one attempt for each member and at
    /// least two, but no further one after two that took their time.
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

    /// Makes a request once, on that connection. What it awaits is boxed: nested as they are, these
    /// futures would come to more than the stack of a thread.
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

    /// The client of that connection, which is made when it is first used.
    async fn client<'a>(&self, connection: &'a Connection) -> Result<&'a Client, Fault> {
        let connected = connection.client.get_or_try_init(|| Box::pin(self.connect(connection)));
        let connected = connected.await;
        // A request that was never sent had no effect, whatever connecting had.
        connected.map_err(|fault| match fault {
            fault if fault.may_have_had_effect() => Fault::Refused(fault.reason()),
            fault => fault,
        })
    }

    /// Whether that member answers a small question at all.
    async fn answers(&self, endpoint: usize) -> bool {
        let Ok(channel) = self.channel(endpoint).await else { return false };
        match MaintenanceClient::new(channel).status(StatusRequest {}).await {
            Ok(_) => true,
            // Words of etcd's, even if they are a refusal.
            Err(status) => !matches!(Fault::from(status), Fault::Unknown(_) | Fault::Refused(_)),
        }
    }

    /// Goes on with a new connection: to the next member, or to the same one where only the
    /// authentication is to blame. Nothing happens if that was done already.
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
            "connects to etcd anew"
        );
    }

    /// The connection to use now: not one to a member that was found silent since it was made.
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
            // Less than a request has, so that not having connected is told from having no answer.
            .connect_timeout(self.options.timeout / 2)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // etcd closes connections that ping without having a stream.
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

/// A token for this user. etcd forgets it after a while without use, and when it is started anew.
async fn authenticate(channel: Channel, user: &EtcdUser) -> Result<MetadataValue<Ascii>, Fault> {
    let request = AuthenticateRequest { name: user.name.clone(), password: user.password.clone() };
    let answer = AuthClient::new(channel).authenticate(request).await?.into_inner();
    let unusable = |_| Fault::Refused("etcd gave a token that cannot be sent".to_owned());
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

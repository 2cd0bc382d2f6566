//! HTTP requests to Consul: which agent they go to, how long an answer may take, and what it means when
//! none comes.
//!
//! All requests go to one agent until it fails; then they go to the next. A request that may have had an
//! effect is never sent again from here.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, ClientBuilder, Identity, Method,
    header::{HeaderMap, HeaderValue},
};

use super::{
    fault::{Fault, chain},
    options::{ConsulOptions, ConsulTls},
};
use crate::store::StoreError;

/// How long making a connection may take.
const CONNECTING: Duration = Duration::from_secs(2);

/// The slowest connection for which large requests and answers get enough time, in bytes per second.
const SLOWEST_LINE: u64 = 256 * 1024;

/// Whether a request can be sent a second time when the first may have been carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Harmless,
    Once,
}

/// Connections to the agents. Used within one runtime only.
#[derive(Clone)]
pub(super) struct Link {
    /// Made anew when an agent was silent: the idle connections to it would be silent one after another.
    client: Arc<Mutex<Client>>,
    make: Arc<dyn Fn() -> Result<Client, String> + Send + Sync>,
    agents: Arc<Vec<String>>,
    /// How often an agent was left.
    left: Arc<AtomicUsize>,
    scheme: &'static str,
    /// What every request's query says of datacenter and namespace.
    query: String,
    timeout: Duration,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Behind `/v1/`.
    pub(super) path: String,
    /// Without `?`.
    pub(super) query: String,
    pub(super) body: Bytes,
    pub(super) effect: Effect,
    /// Beyond the usual timeout.
    pub(super) longer: Duration,
}

impl Request {
    pub(super) fn get(path: impl Into<String>, query: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: query.into(),
            body: Bytes::new(),
            effect: Effect::Harmless,
            longer: Duration::ZERO,
        }
    }

    pub(super) fn put(path: impl Into<String>, body: impl Into<Bytes>, effect: Effect) -> Self {
        let body = body.into();
        let longer = Self::time_for(body.len());
        Self { method: Method::PUT, body, effect, longer, ..Self::get(path, "") }
    }

    /// Gives the answer as much longer as so many bytes may take.
    pub(super) fn with_answer_of(mut self, bytes: usize) -> Self {
        self.longer += Self::time_for(bytes);
        self
    }

    fn time_for(bytes: usize) -> Duration {
        Duration::from_millis(bytes as u64 * 1000 / SLOWEST_LINE)
    }
}

/// What Consul answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The index for the next blocking query.
    pub(super) index: u64,
    pub(super) body: Bytes,
}

impl Answer {
    /// The answer, if its status is one of these.
    pub(super) fn with(self, statuses: &[u16]) -> Result<Self, Fault> {
        if statuses.contains(&self.status) {
            Ok(self)
        } else {
            Err(Fault::of_answer(self.status, &self.body))
        }
    }
}

impl Link {
    pub(super) fn new(options: &ConsulOptions) -> Result<Self, StoreError> {
        // Another part of the program may have chosen a provider already: fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let refused =
            |why: String| StoreError::Open(format!("Consul at {}: {why}", options.location()));
        let mut headers = HeaderMap::new();
        if let Some(token) = &options.token {
            let mut token = HeaderValue::from_str(&token.0)
                .map_err(|_| refused("the token has characters that no token has".to_owned()))?;
            token.set_sensitive(true);
            headers.insert("x-consul-token", token);
        }
        let tls = options.tls.as_ref().map(Tls::read).transpose().map_err(refused)?;
        let make = move || {
            let mut builder = Client::builder()
                .connect_timeout(CONNECTING)
                .tcp_nodelay(true)
                .no_proxy()
                .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .default_headers(headers.clone());
            if let Some(tls) = &tls {
                builder = tls.secure(builder);
            }
            builder.build().map_err(|error| chain(&error))
        };
        let client = make().map_err(refused)?;
        let pair = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("&{key}={value}")).unwrap_or_default()
        };
        let query = pair("dc", &options.datacenter) + &pair("ns", &options.namespace);
        Ok(Self {
            client: Arc::new(Mutex::new(client)),
            make: Arc::new(make),
            agents: Arc::new(options.agents.clone()),
            left: Arc::default(),
            scheme: if options.tls.is_some() { "https" } else { "http" },
            query,
            timeout: options.timeout,
        })
    }

    /// The same with another timeout.
    pub(super) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Sends it, a second time if that does no harm and may help.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, Fault> {
        let again = || async {
            match self.send(&request).await {
                // Said by an agent that has no way to the servers; another may have one.
                Ok(answer) if answer.status >= 500 => {
                    Err(Fault::of_answer(answer.status, &answer.body))
                }
                answer => answer,
            }
        };
        let fault = match again().await {
            Err(fault) if fault.is_passing() => fault,
            answer => return answer,
        };
        let may_repeat = request.effect == Effect::Harmless || !fault.may_have_had_effect();
        if may_repeat && self.agents.len() > 1 { again().await } else { Err(fault) }
    }

    async fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let left = self.left.load(Ordering::Relaxed);
        let agent = &self.agents[left % self.agents.len()];
        let Request { path, query, .. } = request;
        let url = format!("{}://{agent}/v1/{path}?{query}{}", self.scheme, self.query);
        let patience = self.timeout + request.longer;
        let sending = self
            .client()
            .request(request.method.clone(), url)
            .timeout(patience)
            .body(request.body.clone())
            .send();
        let received = async {
            let answer = sending.await?;
            let status = answer.status().as_u16();
            let index = answer.headers().get("x-consul-index");
            let index = index.and_then(|index| index.to_str().ok()?.parse().ok());
            let body = answer.bytes().await?;
            Ok(Answer { status, index: index.unwrap_or(0), body })
        };
        let fault = match received.await {
            Ok(answer) if answer.status < 500 => return Ok(answer),
            Ok(answer) => {
                self.leave(left);
                return Ok(answer);
            }
            Err(error) => of_transport(&error, patience),
        };
        self.leave(left);
        if matches!(fault, Fault::Silent(_)) {
            match (self.make)() {
                Ok(client) => *self.client_slot() = client,
                Err(why) => tracing::warn!(why, "could not make new connections to Consul"),
            }
        }
        Err(fault)
    }

    fn client(&self) -> Client {
        self.client_slot().clone()
    }

    fn client_slot(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on to the next agent, unless another request has already done so.
    fn leave(&self, left: usize) {
        let next = left.wrapping_add(1);
        let _ = self.left.compare_exchange(left, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

fn of_transport(error: &reqwest::Error, patience: Duration) -> Fault {
    // Without the address: it adds nothing that the location does not say.
    if error.is_connect() {
        Fault::Refused(format!("cannot reach Consul: {}", chain(error)))
    } else if error.is_timeout() {
        Fault::Silent(patience)
    } else {
        Fault::Unknown(format!("no answer from Consul: {}", chain(error)))
    }
}

/// What the options' files hold.
struct Tls {
    authorities: Option<Vec<Certificate>>,
    identity: Option<Identity>,
}

impl Tls {
    fn read(options: &ConsulTls) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let in_file =
            |path: &Path, error: &reqwest::Error| format!("{}: {}", path.display(), chain(error));
        let mut tls = Self { authorities: None, identity: None };
        if let Some(path) = &options.ca_file {
            let found = Certificate::from_pem_bundle(&read(path)?);
            tls.authorities = Some(found.map_err(|error| in_file(path, &error))?);
        }
        if let (Some(cert), Some(key)) = (&options.cert_file, &options.key_file) {
            let identity = Identity::from_pem(&[read(cert)?, b"\n".to_vec(), read(key)?].concat());
            tls.identity = Some(identity.map_err(|error| in_file(cert, &error))?);
        }
        Ok(tls)
    }

    fn secure(&self, mut builder: ClientBuilder) -> ClientBuilder {
        if let Some(authorities) = &self.authorities {
            builder = builder.tls_certs_only(authorities.iter().cloned());
        }
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        builder
    }
}

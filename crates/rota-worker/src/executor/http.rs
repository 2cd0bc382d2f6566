//! Makes HTTP requests.
//!
//! The payload says which:
//!
//! ```json
//! {"method": "POST", "url": "https://example.org/hook", "headers": {"x-key": "v"}, "body": {"any": "JSON"}}
//! ```
//!
//! - `method` is `GET` by default, or `POST` with a body. A body that is a text is sent as it is,
//!   anything else as JSON.
//! - The request carries `Rota-Task-Id`, `Rota-Attempt`, `Rota-Lease-Token` (the fencing token) and,
//!   unless set, `Idempotency-Key` with the task's id, and `traceparent` and `tracestate` for a task
//!   that belongs to a trace.
//! - 2xx is done. 408, 429 and 5xx are tried again, at the time that `Retry-After` names if it does.
//!   Every other answer fails the task for good, and so does an address that is refused.
//! - The result is `{"status": 200, "headers": {…}, "body": "…", "body_truncated": false}`.
//! - Addresses that are private, loopback, link-local or otherwise not public are refused when the
//!   connection is made, redirects included, unless the worker allows them.

mod address;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, Serialize};

pub use address::AddressPolicy;

use crate::{
    context::TaskContext,
    handler::{Done, HandlerError},
};

/// The kind of task that this executor runs.
pub const KIND: &str = "http";
/// Redirects followed.
const REDIRECTS: usize = 5;
/// Bytes of the answer's body kept in the result: as JSON they may become six times as many, and the
/// whole is to stay below what servers take by default (1 MiB).
const BODY_BYTES: usize = 160 << 10;
/// Time for a connection to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Headers of the answer kept in the result.
const KEPT_HEADERS: [&str; 5] = ["content-type", "content-length", "etag", "location", "date"];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct HttpResult {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    body_truncated: bool,
}

/// Makes the requests that tasks ask for.
#[derive(Debug, Clone)]
pub struct HttpExecutor {
    client: reqwest::Client,
    policy: Arc<AddressPolicy>,
}

/// Headers that say where a request ends, or what its connection is used for: they follow from the rest,
/// and wrong ones would let a task speak for others on the same connection.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpExecutor {
    /// An executor that reaches what the policy allows.
    ///
    /// # Errors
    /// When the machine's root certificates cannot be loaded.
    pub fn new(policy: AddressPolicy) -> Result<Self, reqwest::Error> {
        // Another part of the program may have chosen a provider already: fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let on_redirect = policy.clone();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(address::Resolver::new(policy.clone()))
            .redirect(redirect::Policy::custom(move |attempt| {
                if attempt.previous().len() > REDIRECTS {
                    return attempt.error(address::Refused::redirects(REDIRECTS));
                }
                match on_redirect.check_url(attempt.url()) {
                    Ok(()) => attempt.follow(),
                    Err(refused) => attempt.error(refused),
                }
            }))
            .build()?;
        Ok(Self { client, policy })
    }

    /// Makes the request that a task asks for.
    ///
    /// # Errors
    /// When the answer is not 2xx, or there is none.
    pub async fn run(self, context: TaskContext, payload: Bytes) -> Result<Done, HandlerError> {
        let payload: Payload = serde_json::from_slice(&payload).map_err(|error| {
            HandlerError::permanent(format!("the payload is not an HTTP request: {error}"))
        })?;
        let request = self.request(&context, payload)?;
        let exchange = async {
            let answer = self.client.execute(request).await.map_err(|error| refine(&error))?;
            finish(answer).await
        };
        tokio::select! {
            done = exchange => done,
            _ = context.stopped() => Err(HandlerError::new("the request was given up")),
        }
    }

    fn request(
        &self,
        context: &TaskContext,
        payload: Payload,
    ) -> Result<reqwest::Request, HandlerError> {
        let wrong = |what: &str, error: &dyn std::fmt::Display| {
            HandlerError::permanent(format!("{what}: {error}"))
        };
        let url = Url::parse(&payload.url).map_err(|error| wrong("url", &error))?;
        self.policy.check_url(&url).map_err(|refused| wrong("url", &refused))?;
        let default = if payload.body.is_some() { "POST" } else { "GET" };
        let method = payload.method.as_deref().unwrap_or(default).to_ascii_uppercase();
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| wrong("method", &e))?;
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| -> Result<(), HandlerError> {
            let name: HeaderName = name.parse().map_err(|error| wrong("header", &error))?;
            let value = HeaderValue::from_str(value).map_err(|error| wrong("header", &error))?;
            headers.insert(name, value);
            Ok(())
        };
        add("idempotency-key", context.task_id())?;
        // A place of the task's own stands by itself: ours must not be mixed into it.
        let own = payload.headers.keys().any(|name| name.eq_ignore_ascii_case("traceparent"));
        if let Some(trace) = context.trace().filter(|_| !own) {
            add("traceparent", &trace.traceparent())?;
            if !trace.tracestate().is_empty() {
                add("tracestate", trace.tracestate())?;
            }
        }
        if payload.body.as_ref().is_some_and(|body| !body.is_string()) {
            add("content-type", "application/json")?;
        }
        for (name, value) in &payload.headers {
            if FRAMING.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                let why = "it belongs to the connection, not to the task";
                return Err(wrong("header", &format_args!("{name}: {why}")));
            }
            add(name, value)?;
        }
        add("rota-task-id", context.task_id())?;
        add("rota-attempt", &context.attempt().to_string())?;
        add("rota-lease-token", &context.lease_token().to_string())?;
        let mut request = self.client.request(method, url).headers(headers);
        request = match payload.body {
            None => request,
            Some(serde_json::Value::String(text)) => request.body(text),
            Some(json) => request.body(json.to_string()),
        };
        request.build().map_err(|error| wrong("request", &error))
    }
}

/// What an answer comes to.
async fn finish(answer: Response) -> Result<Done, HandlerError> {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = answer.headers().get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    let headers = kept.collect();
    let (body, body_truncated) = read_body(answer).await?;
    if status.is_success() {
        let result = HttpResult { status: status.as_u16(), headers, body, body_truncated };
        let json = serde_json::to_vec(&result).map_err(HandlerError::from)?;
        return Ok(Done { result: json.into(), output_tail: Bytes::new() });
    }
    let message = format!("the answer was {status}");
    let again = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let error = match (again, retry_after) {
        (false, _) => HandlerError::permanent(message),
        (true, Some(after)) => HandlerError::retry_after(message, after),
        (true, None) => HandlerError::new(message),
    };
    Err(error.with_output(body.into()))
}

async fn read_body(answer: Response) -> Result<(String, bool), HandlerError> {
    let mut chunks = answer.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| refine(&error))?;
        let room = BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((String::from_utf8_lossy(&body).into_owned(), true));
        }
    }
    Ok((String::from_utf8_lossy(&body).into_owned(), false))
}

/// How long the server asks to wait: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(SystemTime::now())
            .unwrap_or_default(),
    };
    Some(after.min(RETRY_AFTER_MAX))
}

/// An error with its causes in words; a refused address is not tried again.
fn refine(error: &reqwest::Error) -> HandlerError {
    let mut message = error.to_string();
    let mut refused = false;
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        refused |= error.is::<address::Refused>();
        message = format!("{message}: {error}");
        cause = error.source();
    }
    if refused { HandlerError::permanent(message) } else { HandlerError::new(message) }
}

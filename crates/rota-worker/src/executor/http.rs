//! Makes HTTP requests.
//!
//! The payload describes the request:
//!
//! ```json
//! {"method": "POST", "url": "https://example.org/hook", "headers": {"x-key": "v"}, "body": {"any": "JSON"}}
//! ```
//!
//! - `method` is `GET` by default, or `POST` with a body. Of a body that is a string, its text is sent, anything else as
//!   the JSON that is written there.
//! - The request has the headers `Rota-Task-Id`, `Rota-Attempt`, `Rota-Lease-Token` (the fencing token) and,
//!   unless set, `Idempotency-Key` with the task's id, and `traceparent` and `tracestate` for a task
//!   that belongs to a trace. For a task of a schedule, it also has `Rota-Schedule`, `Rota-Nominal-Time`,
//!   `Rota-Previous-Time`, `Rota-Last-Success-Time` and `Rota-Actual-Time` (the start of the attempt). A header without a
//!   value is left out.
//! - In the payload of a task of a schedule, `{{schedule}}`, `{{nominal_time}}`, `{{previous_time}}`,
//!   `{{last_success_time}}` and `{{actual_time}}` stand for the same values, or for nothing if there is none. Other text
//!   in braces stays as it is.
//! - 2xx is success. 408, 429 and 5xx are retried, at the time in `Retry-After` if it is present. Every other
//!   status, and an address that is not allowed, fails the task for good.
//! - The result is `{"status": 200, "headers": {…}, "body": "…", "body_truncated": false}`, with
//!   `"body_encoding": "base64"` if the body is not UTF-8. A compressed body stays compressed; the headers
//!   include `content-encoding`.
//! - Up to five redirects are followed. The headers, body and lease token go only to the origin of the task's
//!   `url`. A redirect to another scheme, host or port drops them from a `GET` or `HEAD`, and fails every
//!   other request.
//! - Private, loopback, link-local and other non-public addresses are refused when the connection is opened,
//!   also for redirects, unless the worker allows them.

mod address;
mod redirect;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use address::AddressPolicy;

use super::{keep::keep, names::distinct, template::fill};
use crate::{
    context::TaskContext,
    handler::{Done, HandlerError},
    tick::Tick,
};

/// The kind of task that this executor runs.
pub const KIND: &str = "http";
/// Maximum number of redirects.
const REDIRECTS: usize = 5;
/// Maximum bytes of the body in the result. As JSON they can become six times as many, and the result must
/// stay below the default limit of servers (1 MiB).
const BODY_BYTES: usize = 160 << 10;
/// Timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Headers of the answer that the result includes.
const KEPT_HEADERS: [&str; 6] =
    ["content-type", "content-encoding", "content-length", "etag", "location", "date"];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    url: String,
    method: Option<String>,
    #[serde(default, deserialize_with = "distinct")]
    headers: BTreeMap<String, String>,
    /// As written, because numbers of JSON can have more digits than any type here.
    body: Option<Box<RawValue>>,
}

/// What is sent.
enum Body {
    Text(String),
    Json(String),
}

impl Body {
    fn of(written: &RawValue) -> Result<Self, serde_json::Error> {
        let json = written.get();
        if json.starts_with('"') {
            return serde_json::from_str(json).map(Self::Text);
        }
        Ok(Self::Json(json.to_owned()))
    }
}

#[derive(Debug, Serialize)]
struct HttpResult {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_encoding: Option<&'static str>,
    body_truncated: bool,
}

/// Makes the requests of tasks.
#[derive(Debug, Clone)]
pub struct HttpExecutor {
    client: reqwest::Client,
    policy: Arc<AddressPolicy>,
}

/// Headers that determine the end of a request or the use of its connection. Tasks cannot set them, because
/// wrong ones could affect other requests on the same connection.
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
    /// An executor for the addresses that the policy allows.
    ///
    /// # Errors
    /// When the machine's root certificates cannot be loaded.
    pub fn new(policy: AddressPolicy) -> Result<Self, reqwest::Error> {
        // Another part of the program may already have chosen a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = Arc::new(policy);
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(address::Resolver::new(policy.clone()))
            // `redirect` decides what a redirected request can include.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, policy })
    }

    /// Makes the request of a task.
    ///
    /// # Errors
    /// When the answer is not 2xx, or there is no answer.
    pub async fn run(self, context: TaskContext, payload: Bytes) -> Result<Done, HandlerError> {
        let payload = fill(&context, payload);
        let payload: Payload = serde_json::from_slice(&payload).map_err(|error| {
            HandlerError::permanent(format!("the payload is not an HTTP request: {error}"))
        })?;
        let request = self.request(&context, &payload)?;
        let exchange = async {
            let answer = self.follow(request).await?;
            finish(answer).await
        };
        tokio::select! {
            biased;
            done = exchange => done,
            _ = context.stopped() => Err(HandlerError::new("the request was stopped")),
        }
    }

    /// Makes a request, and follows redirects.
    async fn follow(&self, mut request: reqwest::Request) -> Result<Response, HandlerError> {
        for _ in 0..=REDIRECTS {
            let again = request.try_clone();
            let answer = self.client.execute(request).await.map_err(|error| refine(&error))?;
            let Some(to) = redirect::target(&answer) else { return Ok(answer) };
            let refused = |refused| HandlerError::permanent(format!("redirect: {refused}"));
            self.policy.check_url(&to).map_err(refused)?;
            // The body is in memory, so the request can be cloned.
            let Some(before) = again else { return Ok(answer) };
            request = redirect::next(before, answer.status(), to)?;
        }
        Err(HandlerError::permanent(address::Refused::redirects(REDIRECTS)))
    }

    fn request(
        &self,
        context: &TaskContext,
        payload: &Payload,
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
        // A trace context of the task must not be mixed with the worker's.
        let own = payload.headers.keys().any(|name| name.eq_ignore_ascii_case("traceparent"));
        if let Some(trace) = context.trace().filter(|_| !own) {
            add("traceparent", &trace.traceparent())?;
            if !trace.tracestate().is_empty() {
                add("tracestate", trace.tracestate())?;
            }
        }
        let body = payload.body.as_deref().map(Body::of).transpose();
        let body = body.map_err(|error| wrong("body", &error))?;
        if matches!(body, Some(Body::Json(_))) {
            add("content-type", "application/json")?;
        }
        let mut own = HashSet::new();
        for (name, value) in &payload.headers {
            if !own.insert(name.to_ascii_lowercase()) {
                return Err(wrong("header", &format_args!("{name} is given twice")));
            }
            if FRAMING.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                let why = "tasks cannot set headers of the connection";
                return Err(wrong("header", &format_args!("{name}: {why}")));
            }
            add(name, value)?;
        }
        add("rota-task-id", context.task_id())?;
        add("rota-attempt", &context.attempt().to_string())?;
        add("rota-lease-token", &context.lease_token().to_string())?;
        for (part, value) in context.tick().into_iter().flat_map(Tick::parts) {
            if let Some(value) = value {
                add(part.header, &value)?;
            }
        }
        let mut request = self.client.request(method, url).headers(headers);
        request = match body {
            None => request,
            Some(Body::Text(text) | Body::Json(text)) => request.body(text),
        };
        request.build().map_err(|error| wrong("request", &error))
    }
}

/// The outcome of an answer.
async fn finish(answer: Response) -> Result<Done, HandlerError> {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    let kept = KEPT_HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), text_of(answer.headers().get(*name)?))));
    let headers = kept.collect();
    let (body, body_truncated) = read_body(answer).await?;
    if status.is_success() {
        let (body, body_encoding) = keep(body, body_truncated);
        let status = status.as_u16();
        let result = HttpResult { status, headers, body, body_encoding, body_truncated };
        let json = serde_json::to_vec(&result).map_err(HandlerError::from)?;
        return Ok(Done { result: json.into(), output_tail: Bytes::new() });
    }
    let message = format!("the answer has the status {status}");
    let again = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    let error = match (again, retry_after) {
        (false, _) => HandlerError::permanent(message),
        (true, Some(after)) => HandlerError::retry_after(message, after),
        (true, None) => HandlerError::new(message),
    };
    Err(error.with_output(body.into()))
}

/// The value of a header. A value that is not UTF-8 is read as ISO 8859-1, as HTTP defines.
fn text_of(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let latin = || bytes.iter().map(|byte| char::from(*byte)).collect();
    std::str::from_utf8(bytes).map_or_else(|_| latin(), str::to_owned)
}

async fn read_body(answer: Response) -> Result<(Vec<u8>, bool), HandlerError> {
    let mut chunks = answer.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| refine(&error))?;
        let room = BODY_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

/// Parses `Retry-After`: seconds or a date.
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

/// An error with its causes. A refused address is not retried.
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

//! The flags that say what a task does and how often it is tried: for `rota task create` and `rota schedule create`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{TimeSpan, v1::RetryPolicy};
use serde::Serialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{lines::BYTE_ORDER_MARK, retry::RetryArgs};
use crate::{exit::Failure, input};

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Kind of the task. Workers with a handler for this kind run it.
    #[arg(long, value_parser = Text::new(), add = crate::complete::kinds())]
    kind: Option<String>,
    /// Queue of the task [default: default].
    #[arg(long, value_parser = Text::new(), add = crate::complete::queues())]
    queue: Option<String>,
    /// Payload for the handler: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["command", "http"])]
    payload: Option<String>,
    /// Run a program. Everything after -- is the program and its arguments, so put the options of this
    /// command before it.
    #[arg(long, conflicts_with = "http", requires = "argv")]
    command: bool,
    /// Request a URL.
    #[arg(long, value_name = "URL", help = "Request a URL, such as https://example.org", value_parser = parse_url, conflicts_with = "argv")]
    http: Option<String>,
    /// Method of the request [default: GET, or POST with a body].
    #[arg(long, value_name = "METHOD", requires = "http", value_parser = parse_method)]
    method: Option<String>,
    /// Header of the request, such as 'accept: application/json'. Can be repeated.
    #[arg(long = "header", value_name = "NAME:VALUE", requires = "http", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Body of the request: JSON or other text, @FILE, or - for standard input. The value of a JSON body is sent
    /// without its spaces.
    #[arg(long, value_name = "TEXT", requires = "http")]
    body: Option<String>,
    /// Program and its arguments.
    #[arg(last = true, value_name = "ARGV", requires = "command")]
    argv: Vec<String>,
    /// Priority, 0 to 9. Tasks with a higher priority run first [default: 5].
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<u32>,
    /// Maximum duration of one attempt [default: 30m].
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
    #[command(flatten)]
    retry: RetryArgs,
    /// Time to keep the task after it has ended.
    #[arg(long, value_name = "TIME")]
    retention: Option<TimeSpan>,
}

/// Ids of the flags, but those of the retry policy.
pub(super) const FLAGS: [&str; 12] = [
    "kind",
    "queue",
    "payload",
    "command",
    "http",
    "method",
    "headers",
    "body",
    "argv",
    "priority",
    "timeout",
    "retention",
];

/// What the flags say.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) kind: String,
    pub(crate) payload: Bytes,
    pub(crate) queue: Option<String>,
    pub(crate) priority: Option<u32>,
    pub(crate) timeout: Option<TimeSpan>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) retention: Option<TimeSpan>,
}

impl WorkArgs {
    /// Reads the payload. The kind is empty if no flag names one.
    pub(crate) fn read(self) -> Result<Work, Failure> {
        let (kind, payload) = if self.command {
            ("command".to_owned(), Some(json!({ "argv": self.argv }).to_string()))
        } else if let Some(url) = self.http {
            let body = self.body.map(|body| text_of("--body", body)).transpose()?;
            let request = request(url, self.method, self.headers, body)?;
            let payload = to_raw_value(&request).expect("its texts are JSON");
            ("http".to_owned(), Some(payload.get().to_owned()))
        } else {
            (String::new(), self.payload.map(|payload| text_of("--payload", payload)).transpose()?)
        };
        let payload = payload.as_deref().map(json_of).transpose()?.unwrap_or_default();
        Ok(Work {
            kind: self.kind.unwrap_or(kind),
            payload,
            queue: self.queue,
            priority: self.priority,
            timeout: self.timeout,
            retry: self.retry.policy(),
            retention: self.retention,
        })
    }
}

/// Checks a URL as the executor will, so that a mistake is found now and not in each attempt. Text in double braces
/// stands for a value of the run.
fn parse_url(text: &str) -> Result<String, String> {
    let has_scheme = ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    });
    if !has_scheme {
        return Err("must begin with http:// or https://".to_owned());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain spaces; write a space as %20".to_owned());
    }
    match url::Url::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("not a URL: {error}")),
    }
}

fn is_token(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_letter)
}

fn parse_method(text: &str) -> Result<String, String> {
    if is_token(text) {
        Ok(text.to_ascii_uppercase())
    } else {
        Err("must be a method such as GET, POST or DELETE".to_owned())
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME:VALUE")?;
    let value = value.trim();
    if !is_token(name) {
        return Err(format!("{name:?} is not the name of a header"));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("the value must not contain line breaks".to_owned());
    }
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}

/// A task of the HTTP executor.
#[derive(Serialize)]
struct Request {
    /// As written, because numbers of JSON can have more digits than any type here.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    url: String,
}

/// The payload of a request. JSON in the body stays JSON, so that it can be read in the task.
fn request(
    url: String,
    method: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<String>,
) -> Result<Request, Failure> {
    if let Some(method) = method.as_deref().filter(|method| matches!(*method, "GET" | "HEAD"))
        && body.is_some()
    {
        return Err(Failure::usage(format!("a {method} request has no body"))
            .hint("leave --method out to send the body with POST"));
    }
    let mut named = BTreeMap::new();
    for (name, value) in headers {
        if named.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("--header: the header {name} is given twice"))
                .hint("join the values with a comma"));
        }
    }
    let written = |body: String| {
        let is_string = body.trim_start().starts_with('"');
        match serde_json::from_str::<Box<RawValue>>(&body) {
            // The executor sends a string without its quotes, so one in quotes must stay a text.
            Ok(json) if !is_string => json,
            _ => to_raw_value(&body).expect("a text is JSON"),
        }
    };
    Ok(Request { body: body.map(written), headers: named, method, url })
}

/// The text of a flag, of its file, or of standard input.
fn text_of(flag: &str, text: String) -> Result<String, Failure> {
    match text.strip_prefix('@') {
        // As curl has it.
        _ if matches!(&*text, "-" | "@-") => {
            input::claim(&format!("{flag} -"))?;
            read_all(io::stdin()).map_err(|error| Failure::usage(format!("{flag} -: {error}")))
        }
        Some(path) => {
            let named = |error| Failure::usage(format!("{flag} @{path}: {error}"));
            File::open(path).and_then(read_all).map_err(named)
        }
        None => Ok(text),
    }
}

fn json_of(text: &str) -> Result<Bytes, Failure> {
    let json: &RawValue = serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("--payload is not JSON: {error}"))
            .hint("put a string in double quotes: --payload '\"text\"'")
    })?;
    Ok(Bytes::copy_from_slice(json.get().as_bytes()))
}

/// The payload of `--payload`.
pub(super) fn payload_of(payload: String) -> Result<Bytes, Failure> {
    json_of(&text_of("--payload", payload)?)
}

fn read_all(mut input: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("not UTF-8 at byte {at}"))
    })
}

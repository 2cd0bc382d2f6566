//! The flags that say what a task does and how often it is tried: for `rota task create` and `rota schedule create`.

use std::{
    fs::File,
    io::{self, Read},
};

use bytes::Bytes;
use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{TimeSpan, v1::RetryPolicy};
use serde_json::{json, value::RawValue};

use super::{lines::BYTE_ORDER_MARK, retry::RetryArgs};
use crate::exit::Failure;

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Kind of the task. Workers with a handler for this kind run it.
    #[arg(long, value_parser = Text::new())]
    kind: Option<String>,
    /// Queue of the task [default: default].
    #[arg(long, value_parser = Text::new())]
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
pub(super) const FLAGS: [&str; 9] =
    ["kind", "queue", "payload", "command", "http", "argv", "priority", "timeout", "retention"];

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
            ("http".to_owned(), Some(json!({ "url": url }).to_string()))
        } else {
            (String::new(), self.payload.map(text_of).transpose()?)
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

fn parse_url(text: &str) -> Result<String, String> {
    let is_one = ["http://", "https://"].iter().any(|scheme| {
        let rest = text.get(scheme.len()..).filter(|rest| !rest.is_empty());
        rest.is_some() && text[..scheme.len()].eq_ignore_ascii_case(scheme)
    });
    if is_one { Ok(text.to_owned()) } else { Err("must begin with http:// or https://".to_owned()) }
}

/// The text of `--payload`, of its file, or of standard input.
fn text_of(payload: String) -> Result<String, Failure> {
    match payload.strip_prefix('@') {
        _ if payload == "-" => {
            read_all(io::stdin()).map_err(|error| Failure::usage(format!("--payload -: {error}")))
        }
        Some(path) => {
            let named = |error| Failure::usage(format!("--payload @{path}: {error}"));
            File::open(path).and_then(read_all).map_err(named)
        }
        None => Ok(payload),
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
    json_of(&text_of(payload)?)
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

//! `rota task create`: creates one task from flags. The module `import` creates many.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use bytes::Bytes;
use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError, Date, NewTask, TimeSpan,
    v1::{self, Task},
};
use serde_json::{json, value::RawValue};

use super::{
    fresh_key, import, labels,
    lines::BYTE_ORDER_MARK,
    retry::{self, RetryArgs},
};
use crate::{exit::Failure, output::Format};

/// The flags of a task.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Kind of the task. Workers with a handler for this kind run it.
    #[arg(long, value_parser = Text::new(), required_unless_present_any = ["file", "command", "http"])]
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
    /// Task id [default: chosen by the server].
    #[arg(long, value_parser = Text::new())]
    id: Option<String>,
    /// Key that makes a repeat safe: with the same key and content, you get the same task [default: a random
    /// key, unless --id is given]. With --file, each line without a key or id gets this key and its line number.
    #[arg(long, value_name = "KEY", value_parser = Text::new())]
    idempotency_key: Option<String>,
    /// Label of the task. Can be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Description for people, up to 256 characters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new())]
    description: Option<String>,
    /// Priority, 0 to 9. Tasks with a higher priority run first [default: 5].
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<u32>,
    /// Delay before the task is due, such as 30s or 2h.
    #[arg(long, value_name = "TIME", conflicts_with = "run_at")]
    delay: Option<TimeSpan>,
    /// Earliest start time, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "DATE")]
    run_at: Option<Date>,
    /// Start deadline. The task expires if it has not started by then.
    #[arg(long, value_name = "DATE")]
    expires_at: Option<Date>,
    /// Maximum duration of one attempt [default: 30m].
    #[arg(long, value_name = "TIME")]
    timeout: Option<TimeSpan>,
    #[command(flatten)]
    retry: RetryArgs,
    /// Time to keep the task after it has ended.
    #[arg(long, value_name = "TIME")]
    retention: Option<TimeSpan>,
    /// Wait until the task has ended, and print its output and result.
    #[arg(long, conflicts_with = "file")]
    pub(crate) wait: bool,
    /// Create many tasks from a file with one task in JSON on each line, or from standard input with -. Of the
    /// other flags for tasks, only --idempotency-key can be combined with it.
    #[arg(long, value_name = "FILE", conflicts_with_all = one_task())]
    file: Option<PathBuf>,
}

/// The flags that describe one task.
fn one_task() -> Vec<&'static str> {
    let own = [
        "kind",
        "queue",
        "payload",
        "command",
        "http",
        "argv",
        "id",
        "labels",
        "description",
        "priority",
        "delay",
        "run_at",
        "expires_at",
        "timeout",
        "retention",
    ];
    own.into_iter().chain(retry::FLAGS).collect()
}

fn parse_url(text: &str) -> Result<String, String> {
    let is_one = ["http://", "https://"].iter().any(|scheme| {
        let rest = text.get(scheme.len()..).filter(|rest| !rest.is_empty());
        rest.is_some() && text[..scheme.len()].eq_ignore_ascii_case(scheme)
    });
    if is_one { Ok(text.to_owned()) } else { Err("must begin with http:// or https://".to_owned()) }
}

/// Creates what the flags describe. Returns the task if it was a single one.
pub(crate) async fn run(
    args: CreateArgs,
    client: &Client,
    format: Format,
) -> Result<Option<Task>, Failure> {
    if let Some(file) = &args.file {
        import::run(file, args.idempotency_key.clone(), client, format).await?;
        return Ok(None);
    }
    let task = from_flags(args)?;
    let key = task.idempotency_key.clone();
    match (client.create_task(NewTask::from(task)).await, key) {
        (Ok(created), _) => Ok(Some(created)),
        (Err(error @ ClientError::OutcomeUnknown { .. }), Some(key)) => {
            let again = "repeat the command with this key; you get the same task if it was created";
            Err(Failure::from(error).hint(format!("{again}: --idempotency-key {key}")))
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn from_flags(args: CreateArgs) -> Result<v1::NewTask, Failure> {
    let (kind, payload) = if args.command {
        ("command".to_owned(), Some(json!({ "argv": args.argv }).to_string()))
    } else if let Some(url) = args.http {
        ("http".to_owned(), Some(json!({ "url": url }).to_string()))
    } else {
        (String::new(), args.payload.map(text_of).transpose()?)
    };
    let kind = args.kind.unwrap_or(kind);
    let idempotency_key = match args.idempotency_key {
        None if args.id.is_none() => Some(fresh_key()),
        given => given,
    };
    let payload = payload.as_deref().map(json_of).transpose()?.unwrap_or_default();
    Ok(v1::NewTask {
        id: args.id,
        queue: args.queue,
        kind,
        payload,
        labels: labels(&args.labels)?,
        description: args.description,
        priority: args.priority,
        run_at: args.run_at,
        delay: args.delay,
        expires_at: args.expires_at,
        timeout: args.timeout,
        retry: args.retry.policy(),
        idempotency_key,
        retention: args.retention,
    })
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn key(flags: &[&str]) -> Option<String> {
        let line = ["create", "--kind", "mail"].iter().chain(flags);
        from_flags(Cli::parse_from(line).args).expect("the flags are sound").idempotency_key
    }

    #[test]
    fn a_task_without_a_name_gets_a_key_of_its_own_and_any_other_keeps_its_name() {
        let (one, other) = (key(&[]), key(&[]));
        assert!(one.is_some() && other.is_some());
        assert_ne!(one, other, "each run creates a task of its own");
        assert_eq!(key(&["--id", "invoice-7"]), None);
        assert_eq!(key(&["--idempotency-key", "mine"]).as_deref(), Some("mine"));
    }
}

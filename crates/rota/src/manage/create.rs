//! `rota task create`: one task from flags, or many from a file.

use std::{
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rota_client::{Client, NewTask, v1};
use rota_proto::json::{self, Date, FieldError, Span, Task};
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
};

/// Tasks sent to the server at a time.
const PORTION: usize = 1000;

/// A task in flags.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Which handler runs it.
    #[arg(long, required_unless_present_any = ["file", "command", "http"])]
    kind: Option<String>,
    /// Where it waits [default: default].
    #[arg(long)]
    queue: Option<String>,
    /// Parameters: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON", conflicts_with_all = ["command", "http"])]
    payload: Option<String>,
    /// Run a program: put it and its arguments behind --. What is behind -- is the program's, so options
    /// of this command go before it.
    #[arg(long, conflicts_with = "http", requires = "argv")]
    command: bool,
    /// Request a URL.
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// The program and its arguments.
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
    /// A name of your own for the task.
    #[arg(long)]
    id: Option<String>,
    /// A repeat with the same key and body returns the same task [default: one of its own, unless there is
    /// an --id].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// A label; may be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// 0 to 9, higher first [default: 5].
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<u32>,
    /// Not before that long from now, such as 30s or 2h.
    #[arg(long, value_name = "TIME", conflicts_with = "run_at")]
    delay: Option<Span>,
    /// Not before that date, such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "DATE")]
    run_at: Option<Date>,
    /// Not started by then: it expires.
    #[arg(long, value_name = "DATE")]
    expires_at: Option<Date>,
    /// Longest time for one attempt [default: 30m].
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,
    /// Attempts before it fails for good [default: 25].
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Times it may lose its worker [default: 3].
    #[arg(long, value_name = "N")]
    max_lost: Option<u32>,
    /// Delay after the first failure [default: 1s].
    #[arg(long, value_name = "TIME")]
    backoff_initial: Option<Span>,
    /// Growth of the delay with each failure, 1 to 100 [default: 2].
    #[arg(long, value_name = "FACTOR")]
    backoff_multiplier: Option<f64>,
    /// Longest delay [default: 1h].
    #[arg(long, value_name = "TIME")]
    backoff_max: Option<Span>,
    /// Wait for the whole delay; by default for a part of it, drawn at random.
    #[arg(long)]
    no_jitter: bool,
    /// How long it is kept when it has ended.
    #[arg(long, value_name = "TIME")]
    retention: Option<Span>,
    /// Wait until it has ended.
    #[arg(long, conflicts_with = "file")]
    pub(crate) wait: bool,
    /// Many tasks: a file with one task in JSON on each line, or - for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "payload", "command", "http"])]
    file: Option<PathBuf>,
}

fn wrong(error: &FieldError) -> Failure {
    Failure::usage(format!("{} {}", error.field, error.message))
}

/// Creates what the flags say. The task, where it was one.
pub(crate) async fn run(
    args: CreateArgs,
    client: &Client,
    format: Format,
) -> Result<Option<Task>, Failure> {
    if let Some(file) = &args.file {
        create_many(file, client, format).await?;
        return Ok(None);
    }
    let task: v1::NewTask = from_flags(args)?.try_into().map_err(|error| wrong(&error))?;
    let created = client.create_task(NewTask::from(task)).await?;
    Ok(Some(created.into()))
}

fn from_flags(args: CreateArgs) -> Result<json::NewTask, Failure> {
    let retry = retry(&args);
    let (kind, payload) = if args.command {
        ("command".to_owned(), Some(json!({ "argv": args.argv }).to_string()))
    } else if let Some(url) = args.http {
        ("http".to_owned(), Some(json!({ "url": url }).to_string()))
    } else {
        let payload = args.payload.map(|payload| match payload.strip_prefix('@') {
            _ if payload == "-" => Ok(read_all(io::stdin())?),
            Some(path) => {
                let named = |error| Failure::usage(format!("--payload @{path}: {error}"));
                File::open(path).and_then(read_all).map_err(named)
            }
            None => Ok(payload),
        });
        (String::new(), payload.transpose()?)
    };
    let kind = args.kind.unwrap_or(kind);
    let idempotency_key = match args.idempotency_key {
        None if args.id.is_none() => Some(fresh_key()),
        given => given,
    };
    let not_json = |error| {
        Failure::usage(format!("--payload is not JSON: {error}"))
            .hint("texts need quotes of their own: --payload '\"text\"'")
    };
    let payload = payload.map(|text| serde_json::from_str(&text)).transpose().map_err(not_json)?;
    let label = |label: &String| {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--label {label}: must be NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    Ok(json::NewTask {
        id: args.id,
        queue: args.queue,
        kind,
        payload,
        payload_base64: None,
        labels: args.labels.iter().map(label).collect::<Result<_, Failure>>()?,
        priority: args.priority,
        run_at: args.run_at,
        delay: args.delay,
        expires_at: args.expires_at,
        timeout: args.timeout,
        retry,
        idempotency_key,
        retention: args.retention,
    })
}

/// When to try again, if anything is said of it.
fn retry(args: &CreateArgs) -> Option<json::RetryPolicyInput> {
    let policy = json::RetryPolicyInput {
        max_attempts: args.max_attempts,
        initial: args.backoff_initial,
        multiplier: args.backoff_multiplier,
        max: args.backoff_max,
        jitter: args.no_jitter.then_some(json::Jitter::None),
        max_lost: args.max_lost,
    };
    (policy != json::RetryPolicyInput::default()).then_some(policy)
}

/// An idempotency key that nobody else has. With it the client may send a task again whose answer was
/// lost, as when a node fails or leadership changes.
pub(crate) fn fresh_key() -> String {
    // Keyed by the system's randomness, unlike a generator that is seeded from the time.
    let random = RandomState::new().build_hasher().finish();
    format!("cli-{}-{random:016x}", jiff::Timestamp::now().as_millisecond())
}

fn read_all(mut input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    Ok(text)
}

/// What became of the tasks of a file.
#[derive(Debug, Default, serde::Serialize)]
struct Summary {
    created: u64,
    existed: u64,
    refused: u64,
}

/// Creates a task for each line. A line that is refused is reported and the rest goes on.
async fn create_many(file: &Path, client: &Client, format: Format) -> Result<(), Failure> {
    let is_stdin = file.as_os_str() == "-";
    let named = |error| Failure::usage(format!("{}: {error}", file.display()));
    let (input, bytes): (Box<dyn Read>, u64) = if is_stdin {
        (Box::new(io::stdin()), 0)
    } else {
        let opened = File::open(file).map_err(named)?;
        let bytes = opened.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(opened), bytes)
    };
    let bar = progress(bytes);
    let mut summary = Summary::default();
    let mut portion = Vec::with_capacity(PORTION);
    let key = fresh_key();
    for (at, line) in BufReader::new(input).lines().enumerate() {
        let line = line?;
        bar.inc(line.len() as u64 + 1);
        if line.trim().is_empty() {
            continue;
        }
        match read_task(&line) {
            Ok(mut task) => {
                if task.id.is_empty() && task.idempotency_key.is_empty() {
                    task.idempotency_key = format!("{key}-{}", at + 1);
                }
                portion.push((at + 1, task));
            }
            Err(message) => {
                summary.refused += 1;
                bar.suspend(|| output::note(&format!("line {}: {message}", at + 1)));
            }
        }
        if portion.len() == PORTION {
            send(client, &mut portion, &mut summary, &bar).await?;
        }
    }
    send(client, &mut portion, &mut summary, &bar).await?;
    bar.finish_and_clear();
    match format {
        Format::Json => output::json(&summary)?,
        Format::Table => output::line(&format!(
            "{} created, {} existed already, {} refused",
            summary.created, summary.existed, summary.refused
        ))?,
    }
    if summary.refused > 0 {
        return Err(Failure::new(Exit::Refused, format!("{} lines were refused", summary.refused)));
    }
    Ok(())
}

fn progress(bytes: u64) -> ProgressBar {
    let style = "{bar:40} {bytes}/{total_bytes}, {eta} left";
    let bar = if bytes > 0 { ProgressBar::new(bytes) } else { ProgressBar::new_spinner() };
    // The template is a constant, and sound.
    match ProgressStyle::with_template(style) {
        Ok(style) if bytes > 0 => bar.with_style(style),
        _ => bar,
    }
}

fn read_task(line: &str) -> Result<v1::NewTask, String> {
    let task: json::NewTask = serde_json::from_str(line).map_err(|error| {
        // The line is known better outside.
        error.to_string().replace(" at line 1 column ", ", at column ")
    })?;
    task.try_into().map_err(|error: FieldError| format!("{} {}", error.field, error.message))
}

async fn send(
    client: &Client,
    portion: &mut Vec<(usize, v1::NewTask)>,
    summary: &mut Summary,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    use v1::create_tasks_response::result::Result as Item;
    if portion.is_empty() {
        return Ok(());
    }
    let (lines, tasks): (Vec<_>, Vec<_>) = portion.drain(..).unzip();
    let results = client.create_tasks(tasks.into_iter().map(NewTask::from).collect()).await?;
    for (line, result) in lines.into_iter().zip(results) {
        match result.result {
            Some(Item::Task(task)) if task.created => summary.created += 1,
            Some(Item::Task(_)) => summary.existed += 1,
            Some(Item::Error(error)) => {
                summary.refused += 1;
                // The place in the request is of no interest: the line is.
                let message = match error.message.strip_prefix("tasks[") {
                    Some(rest) => rest.split_once("].").map_or(rest, |(_, field)| field),
                    None => &error.message,
                };
                bar.suspend(|| output::note(&format!("line {line}: {message}")));
            }
            None => summary.refused += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn key(flags: &[&str]) -> Option<String> {
        let line = ["create", "--kind", "mail"].iter().chain(flags);
        from_flags(Line::parse_from(line).args).expect("the flags are sound").idempotency_key
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

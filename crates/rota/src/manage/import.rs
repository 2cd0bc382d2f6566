//! `rota task create --file`: creates a task for each line, retries while servers are unavailable, and always
//! prints a summary at the end.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use rota_client::{Client, ClientError, Created, ErrorKind, NewTask, RetryHint, v1};
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    fresh_key, is_passing,
    lines::{self, Chunk},
};
use crate::{
    exit::{Exit, Failure},
    input,
    output::{self, Format},
};

/// How long servers can be unavailable before an import gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between retries.
const PAUSE: Duration = Duration::from_millis(200);

/// Counts of the lines by result.
#[derive(Debug, Default, serde::Serialize)]
struct Summary {
    created: u64,
    existed: u64,
    refused: u64,
    /// The tasks exist, but an answer was lost: this import or an earlier one created them.
    unclear: u64,
    /// Sent to a server that did not answer, so they may exist or not.
    unknown: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { created, existed, refused, unclear, unknown } = self;
        write!(f, "{created} created, {existed} already existed, {refused} refused")?;
        if *unclear > 0 {
            write!(f, ", {unclear} created now or earlier (an answer was lost)")?;
        }
        if *unknown > 0 {
            write!(f, ", {unknown} unknown (sent, but not answered)")?;
        }
        Ok(())
    }
}

/// Creates a task for each line of a file, or of standard input for `-`. Tasks without an id or key get an
/// idempotency key that begins with `key`. A refused line is reported, and the import continues.
///
/// # Errors
/// When lines were refused, or the import ended early. The summary is printed first.
pub(super) async fn run(
    file: &Path,
    key: Option<String>,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let (input, bytes) = open(file)?;
    let mut stop = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, mut chunks) = mpsc::channel(1);
    let fresh_key = key.is_none().then(fresh_key);
    let key = key.or_else(|| fresh_key.clone()).unwrap_or_default();
    let prefix = key.clone();
    // Ends with the input or with this function. It is not joined, because standard input may stay silent.
    std::thread::spawn(move || lines::read(BufReader::new(input), &prefix, &sender));
    let mut import = Import {
        // This module retries itself, to know the lines without an answer.
        client: client.with_patience(Duration::ZERO),
        summary: Summary::default(),
        bar: progress(bytes),
        format,
        fresh_key,
        next_line: 1,
        in_doubt: 0,
    };
    let ended = tokio::select! {
        biased;
        _ = stop.0.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        _ = stop.1.recv() => Err(Failure::new(Exit::Interrupted, "interrupted")),
        ended = import.all(&mut chunks) => ended,
    };
    import.bar.finish_and_clear();
    import.summary.unknown = import.in_doubt;
    if format.is_data() {
        output::data(&import.summary, format)?;
    } else {
        output::line(&import.summary.to_string())?;
    }
    let done = match import.next_line {
        1 => String::new(),
        line => format!("lines before {line} are done; "),
    };
    let again = format!(
        "{done}repeat the command with --idempotency-key {key}, and no task is created twice"
    );
    ended.map_err(|failure| failure.and_hint(&again))?;
    match import.summary.refused {
        0 => Ok(()),
        count => Err(refused_lines(count)),
    }
}

/// Reads the lines of a file, and says which are not tasks.
///
/// # Errors
/// When some are not, or the file cannot be read to its end.
pub(super) async fn dry_run(file: &Path, format: Format) -> Result<(), Failure> {
    let (input, _) = open(file)?;
    let (sender, mut chunks) = mpsc::channel(1);
    // As in `run`.
    std::thread::spawn(move || lines::read(BufReader::new(input), "dry-run", &sender));
    let (mut tasks, mut refused, mut broken) = (0, 0, None);
    while let Some(chunk) = chunks.recv().await {
        tasks += chunk.tasks.len();
        refused += chunk.refused.len();
        chunk.refused.iter().for_each(|(line, why)| tell(*line, why, format));
        broken = chunk.broken;
    }
    if format.is_data() {
        output::data(&json!({ "dry_run": true, "tasks": tasks, "refused": refused }), format)?;
    } else {
        output::line(&format!(
            "would create {tasks} tasks, {refused} refused; nothing was created"
        ))?;
    }
    match (broken, refused) {
        (Some(why), _) => Err(Failure::usage(why)),
        (None, 0) => Ok(()),
        (None, _) => Err(refused_lines(refused as u64)),
    }
}

fn refused_lines(count: u64) -> Failure {
    let lines = if count == 1 { "1 line was".to_owned() } else { format!("{count} lines were") };
    Failure::new(Exit::Refused, format!("{lines} refused"))
}

/// Tells why a line was refused.
fn tell(line: usize, why: &str, format: Format) {
    if format.notes_are_json() {
        output::json_note(&json!({ "line": line, "error": why }));
    } else {
        output::note(&format!("line {line}: {why}"));
    }
}

/// The input and its size, 0 if unknown.
fn open(file: &Path) -> Result<(Box<dyn Read + Send>, u64), Failure> {
    if file.as_os_str() == "-" {
        input::claim("--file -")?;
        return Ok((Box::new(io::stdin()), 0));
    }
    let named = |error| Failure::usage(format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(named)?;
    let metadata = opened.metadata().map_err(named)?;
    if metadata.is_dir() {
        return Err(named(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(opened), metadata.len()))
}

fn progress(bytes: u64) -> ProgressBar {
    let style = "{bar:40} {bytes}/{total_bytes}, {eta} left";
    let bar = if bytes > 0 { ProgressBar::new(bytes) } else { ProgressBar::new_spinner() };
    // The template is a valid constant.
    match ProgressStyle::with_template(style) {
        Ok(style) if bytes > 0 => bar.with_style(style),
        _ => bar,
    }
}

type Tasks = Vec<(usize, v1::NewTask)>;

struct Import {
    client: Client,
    summary: Summary,
    bar: ProgressBar,
    format: Format,
    /// The unique prefix of the keys of this import, unless the user chose a key.
    fresh_key: Option<String>,
    /// Lines before this one are done.
    next_line: usize,
    /// Lines that were sent to a server without an answer yet.
    in_doubt: u64,
}

impl Import {
    async fn all(&mut self, chunks: &mut mpsc::Receiver<Chunk>) -> Result<(), Failure> {
        while let Some(chunk) = chunks.recv().await {
            let first = |line: Option<usize>| line.unwrap_or(usize::MAX);
            let tasks = first(chunk.tasks.first().map(|(line, _)| *line));
            let refused = first(chunk.refused.first().map(|(line, _)| *line));
            let next = chunk.tasks.last().map(|(line, _)| *line);
            let next = next.max(chunk.refused.last().map(|(line, _)| *line));
            if tasks.min(refused) < usize::MAX {
                self.next_line = tasks.min(refused);
            }
            for (line, why) in chunk.refused {
                self.refuse(line, &why);
            }
            self.send(chunk.tasks).await?;
            self.next_line = next.map_or(self.next_line, |line| line + 1);
            self.bar.inc(chunk.bytes);
            if let Some(why) = chunk.broken {
                return Err(Failure::usage(why));
            }
        }
        Ok(())
    }

    /// Whether a task has a key that only this import uses.
    fn is_ours(&self, task: &v1::NewTask) -> bool {
        let key = task.idempotency_key();
        self.fresh_key.as_deref().is_some_and(|fresh| task.id.is_none() && key.starts_with(fresh))
    }

    fn refuse(&mut self, line: usize, why: &str) {
        self.summary.refused += 1;
        self.bar.suspend(|| tell(line, why, self.format));
    }

    /// Sends tasks. If a server refuses a request as a whole, sends its halves, so that one oversized task,
    /// or a batch over the limit, does not fail other tasks.
    async fn send(&mut self, tasks: Tasks) -> Result<(), Failure> {
        let mut parts = vec![tasks];
        while let Some(mut part) = parts.pop() {
            let Some(&(line, _)) = part.first() else { continue };
            match self.create(&mut part).await {
                Ok(()) => {}
                Err(error) if is_of_the_request(&error) && part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
                Err(error) if is_of_the_request(&error) => {
                    self.in_doubt = 0;
                    self.refuse(line, without_place(&error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Creates tasks in one request, and retries those that the server could not take yet, until all are
    /// answered. Each has an id or a key, so a retry creates nothing twice.
    async fn create(&mut self, tasks: &mut Tasks) -> Result<(), ClientError> {
        let mut outage = None;
        let mut repeated = false;
        loop {
            self.in_doubt = tasks.len() as u64;
            let before = tasks.len();
            let sent = tasks.iter().map(|(_, task)| NewTask::from(task.clone())).collect();
            let error = match self.client.create_tasks(sent).await {
                Err(error) => error,
                Ok(answers) => match self.count(tasks, answers, repeated) {
                    Some(error) => error,
                    None => {
                        self.in_doubt = 0;
                        return Ok(());
                    }
                },
            };
            repeated |= leaves_open(&error);
            self.in_doubt = if repeated { tasks.len() as u64 } else { 0 };
            if !is_passing(&error) {
                return Err(error);
            }
            if tasks.len() < before {
                outage = None;
            }
            let since = *outage.get_or_insert_with(|| {
                let told = format!("{error}; retrying for {} s", PATIENCE.as_secs());
                self.bar.suspend(|| {
                    if self.format.notes_are_json() {
                        output::json_note(&json!({ "note": told }));
                    } else {
                        output::note(&told);
                    }
                });
                Instant::now()
            });
            if since.elapsed() >= PATIENCE {
                return Err(error);
            }
            sleep(PAUSE).await;
        }
    }

    /// Counts the answers. Tasks that the server could not take yet stay in the list; their error is
    /// returned.
    fn count(
        &mut self,
        tasks: &mut Tasks,
        answers: Vec<Result<Created, ClientError>>,
        repeated: bool,
    ) -> Option<ClientError> {
        let mut later = None;
        let mut answers = answers.into_iter();
        for (line, task) in std::mem::take(tasks) {
            match answers.next() {
                Some(Ok(answered)) if answered.created => self.summary.created += 1,
                // Nobody else has this key, so an earlier try created the task.
                Some(Ok(_)) if repeated && self.is_ours(&task) => self.summary.created += 1,
                Some(Ok(_)) if repeated => self.summary.unclear += 1,
                Some(Ok(_)) => self.summary.existed += 1,
                Some(Err(error)) if is_passing(&error) => {
                    tasks.push((line, task));
                    later = Some(error);
                }
                Some(Err(error)) => self.refuse(line, without_place(&error.to_string())),
                None => self.refuse(line, "the server's answer does not include this task"),
            }
        }
        later
    }
}

/// Whether the request may have taken effect despite the error.
fn leaves_open(error: &ClientError) -> bool {
    matches!(error, ClientError::OutcomeUnknown { .. })
        || error.reason().is_some_and(|reason| reason.retry() == RetryHint::IfRepeatable)
}

/// Whether a request was refused for its content or size. A part of it may be accepted.
fn is_of_the_request(error: &ClientError) -> bool {
    matches!(error.kind(), ErrorKind::InvalidRequest | ErrorKind::TooLarge)
}

/// The message without the index in the request; the line number replaces it.
fn without_place(message: &str) -> &str {
    match message.strip_prefix("tasks[") {
        Some(rest) => rest.split_once("].").map_or(rest, |(_, field)| field),
        None => message,
    }
}

//! `rota task logs`: prints the output of a task, also while it runs.

use std::time::Duration;

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{Client, ErrorKind, TaskOutput, TaskStatus, v1::Task};
use tokio::time::sleep;

use super::{
    follow::Follower,
    is_passing,
    wait::{self, Wait, news},
};
use crate::{
    exit::Failure,
    output::{self, Format},
};

/// Maximum time between looks at a task that is followed.
const LOOK: Duration = Duration::from_secs(60);
/// Pause between looks while no server is reachable.
const PAUSE: Duration = Duration::from_millis(500);
/// Maximum bytes of earlier output that are held for `--tail`. Servers send less.
const HELD_BYTES: usize = 1 << 20;

/// The output to print.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Task id.
    #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
    id: String,
    /// Print later output as it comes, until the task has ended. Fails if the task did not complete.
    #[arg(long, short)]
    follow: bool,
    /// Number of lines of earlier output to print [default: all that is kept].
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

/// Prints the output of the last attempt. With `--follow`, also what comes later.
///
/// # Errors
/// When there is no such task, no server can be reached, or a followed task did not complete.
pub(crate) async fn run(args: LogsArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let LogsArgs { id, follow, tail } = args;
    let mut outputs = client.output(&id, follow);
    let mut follower = Follower::new(client, &id);
    let mut printer = Printer::new(format, tail);
    let (mut is_known, mut told) = (false, None);
    loop {
        let message = tokio::select! {
            biased;
            message = outputs.next() => message,
            look = follower.look(LOOK), if follow && is_known && !format.is_data() => {
                match look {
                    Ok(task) => {
                        let news = news(&task);
                        if news.is_some() && news != told {
                            news.iter().for_each(|news| output::note(&news.text));
                            told = news;
                        }
                    }
                    // The stream says what is wrong.
                    Err(_) => sleep(PAUSE).await,
                }
                continue;
            }
        };
        match message {
            Some(Ok(message)) => {
                is_known = true;
                if !printer.print(&message)? {
                    return Ok(());
                }
                if follow && message.r#type == "end" {
                    return result(client, &id, message.status()).await;
                }
            }
            Some(Err(error)) if error.kind() == ErrorKind::Unsupported => {
                return kept(client, &id, follow, &mut printer).await;
            }
            Some(Err(error)) if is_known && is_passing(&error) => {
                if !format.is_data() {
                    output::note(&format!("{error}; retrying"));
                }
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Ok(()),
        }
    }
}

/// Fails if the task that was followed did not complete.
async fn result(client: &Client, id: &str, status: TaskStatus) -> Result<(), Failure> {
    if status == TaskStatus::Completed {
        return Ok(());
    }
    // The end is known, even if the task was deleted meanwhile.
    let task = match client.get_task(id).await {
        Ok(task) if task.status() == status => task,
        _ => Task { id: id.to_owned(), status: status.into(), ..Task::default() },
    };
    wait::outcome(id, &task)
}

/// Prints what a server keeps that cannot stream output.
async fn kept(
    client: &Client,
    id: &str,
    follow: bool,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut ended = None;
    if follow {
        output::note("the server is too old to send output while a task runs");
        let wait = Wait { id: id.to_owned(), timeout: None, known: true };
        ended = Some(wait::ended(client, wait, printer.format).await?);
    }
    let last = client.list_attempts(id).await?.pop().unwrap_or_default();
    let message = |r#type: &str| TaskOutput {
        r#type: r#type.to_owned(),
        attempt: last.attempt,
        ..TaskOutput::default()
    };
    let output = TaskOutput { output: last.output_tail.clone(), ..message("output") };
    for message in [output, message("end")] {
        if !printer.print(&message)? {
            return Ok(());
        }
    }
    ended.map_or(Ok(()), |task| wait::outcome(id, &task))
}

/// Prints messages of a stream of output.
struct Printer {
    format: Format,
    /// Maximum number of lines of earlier output.
    tail: Option<usize>,
    /// Earlier output, until it is known which lines are the last.
    held: Vec<u8>,
    /// Number of the last attempt.
    attempt: u32,
}

impl Printer {
    fn new(format: Format, tail: Option<usize>) -> Self {
        Self { format, tail, held: Vec::new(), attempt: 0 }
    }

    /// Prints a message. Returns whether somebody still reads.
    fn print(&mut self, message: &TaskOutput) -> Result<bool, Failure> {
        if self.format.is_data() {
            return output::next(message, self.format);
        }
        match message.r#type.as_str() {
            "output" if self.tail.is_some() => {
                self.held.extend_from_slice(&message.output);
                let over = self.held.len().saturating_sub(HELD_BYTES);
                self.held.drain(..over);
            }
            "output" => return output::piece(&message.output),
            "ready" | "end" => {
                if let Some(lines) = self.tail.take() {
                    return output::piece(last_lines(&std::mem::take(&mut self.held), lines));
                }
            }
            "attempt" => {
                if message.attempt > 1 || self.attempt > 0 {
                    let on = message.worker.as_ref().map(|worker| format!(" on {worker}"));
                    let on = on.unwrap_or_default();
                    output::note(&format!("attempt {}{on}", message.attempt));
                }
                self.attempt = message.attempt;
            }
            "gap" => output::note(&missing(message)),
            "at_end" => output::note("this worker sends output only at the end of an attempt"),
            _ => {}
        }
        Ok(true)
    }
}

fn missing(gap: &TaskOutput) -> String {
    match (gap.missing_bytes, gap.reason()) {
        (_, "not_kept") => "only the end of the output was kept".to_owned(),
        (Some(bytes), _) => format!("{bytes} bytes of output are missing: they came too fast"),
        (None, _) => "some output is missing: it came too fast".to_owned(),
    }
}

/// The last lines of a text. A line break at the end begins no line.
fn last_lines(text: &[u8], count: usize) -> &[u8] {
    if count == 0 {
        return &[];
    }
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let begin = breaks.map(|(at, _)| at + 1).nth(count - 1);
    &text[begin.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_lines() {
        for (text, count, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n\n", 1, "\n"),
            ("a\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text.as_bytes(), count), last.as_bytes(), "{text:?} {count}");
        }
    }

    #[test]
    fn a_gap_is_said_with_its_size() {
        let gap = |missing_bytes, reason: &str| {
            let reason = Some(reason.to_owned());
            missing(&TaskOutput { missing_bytes, reason, ..TaskOutput::default() })
        };
        assert!(gap(Some(7), "too_slow").starts_with("7 bytes"));
        assert!(gap(None, "too_slow").starts_with("some output"));
        assert_eq!(gap(None, "not_kept"), "only the end of the output was kept");
    }
}

//! Waiting for a task's end, and what there is to say meanwhile and then.

use std::time::{Duration, Instant};

use rota_client::Client;
use rota_proto::json::{Attempt, Span, Task, TaskStatus, WaitingReason};

use super::task::{last_lines, show, word};
use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
};

/// How often it is looked whether there is something to say.
const LOOK: Duration = Duration::from_secs(1);
/// Characters of a result that are printed; `rota task result` prints all.
const RESULT: usize = 2000;

/// Waits until a task has ended, and prints what it said. Fails when it did not complete.
pub(super) async fn until_ended(
    client: &Client,
    id: &str,
    timeout: Option<Duration>,
    format: Format,
) -> Result<(), Failure> {
    let task = ended(client, id, timeout, format).await?;
    let (status, error) = (task.status, task.error.clone());
    show(&task, format)?;
    if format == Format::Table {
        output::raw(said(client, &task).await?.as_bytes())?;
    }
    if status == TaskStatus::Completed {
        return Ok(());
    }
    let why = error.map(|error| format!(": {}", error.message)).unwrap_or_default();
    Err(Failure::new(Exit::TaskFailed, format!("{id} {}{why}", word(status)))
        .hint(format!("see its attempts with `rota task get {id}`")))
}

/// The task once it has ended. Meanwhile, what keeps it is told on standard error.
async fn ended(
    client: &Client,
    id: &str,
    timeout: Option<Duration>,
    format: Format,
) -> Result<Task, Failure> {
    let began = Instant::now();
    let mut told = None;
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
        let wait = left.map_or(LOOK, |left| left.min(LOOK));
        let task = Task::from(client.wait_task_for(id, wait).await?);
        if is_ended(task.status) {
            return Ok(task);
        }
        let news = news(&task);
        if format == Format::Table && news.is_some() && news != told {
            news.iter().for_each(|news| output::note(&news.text));
            told = news;
        }
        if let Some(timeout) = timeout.filter(|timeout| *timeout <= began.elapsed()) {
            let waited = Span(timeout);
            let message = format!("{id} had not ended after {waited}");
            return Err(Failure::new(Exit::TimedOut, message)
                .hint(format!("see why with `rota task get {id}`")));
        }
    }
}

fn is_ended(status: TaskStatus) -> bool {
    !matches!(
        status,
        TaskStatus::Scheduled | TaskStatus::Pending | TaskStatus::Assigned | TaskStatus::Running
    )
}

/// Why it does not run, in words; the same reason of the same attempt is the same news.
fn news(task: &Task) -> Option<News> {
    let waiting = task.waiting.as_ref()?;
    let error = task.error.as_ref().filter(|_| waiting.reason == WaitingReason::BackingOff);
    let why = error.map(|error| format!(" ({})", output::printable(&error.message)));
    let text = format!("{}: {}{}", task.id, waiting.message, why.unwrap_or_default());
    Some(News { attempt: task.attempt, reason: waiting.reason, text })
}

/// What there is to say.
#[derive(Debug, Clone)]
struct News {
    attempt: u32,
    reason: WaitingReason,
    text: String,
}

impl PartialEq for News {
    fn eq(&self, other: &Self) -> bool {
        (self.attempt, self.reason) == (other.attempt, other.reason)
    }
}

/// What an ended task printed and returned.
async fn said(client: &Client, task: &Task) -> Result<String, Failure> {
    let attempts = client.list_attempts(&task.id).await?;
    let last = attempts.into_iter().last().map(Attempt::from);
    let tail = last.and_then(|attempt| attempt.output_tail);
    let mut text = tail.map(|tail| format!("Output:\n{}", last_lines(&tail))).unwrap_or_default();
    // A program's result is its output once more.
    if task.has_result && task.kind != "command" {
        let result = client.get_result(&task.id).await?;
        let result = String::from_utf8_lossy(&result);
        let short: String = output::printable(&result).chars().take(RESULT).collect();
        let more = if result.chars().count() > RESULT { "…" } else { "" };
        text.push_str(&format!("Result:\n  {short}{more}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rota_proto::json::{TaskError, Waiting};

    use super::*;

    fn waits(attempt: u32, message: &str) -> Task {
        let mut task = Task::from(rota_client::v1::Task::default());
        task.id = "t".to_owned();
        task.attempt = attempt;
        task.error =
            Some(TaskError { reason: "error".to_owned(), message: "exit code 3".to_owned() });
        let reason = WaitingReason::BackingOff;
        let message = message.to_owned();
        task.waiting = Some(Waiting { reason, until: None, attempt: None, ahead: None, message });
        task
    }

    #[test]
    fn each_failed_attempt_is_news_once() {
        let first = news(&waits(1, "attempt 1 failed; tried again at noon")).expect("news");
        assert_eq!(first.text, "t: attempt 1 failed; tried again at noon (exit code 3)");
        assert_eq!(Some(first.clone()), news(&waits(1, "attempt 1 failed; tried again later")));
        assert_ne!(Some(first), news(&waits(2, "attempt 2 failed")));
        let mut running = waits(1, "");
        running.waiting = None;
        assert_eq!(news(&running), None);
    }
}

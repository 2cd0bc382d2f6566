//! Waits for the end of a task. Prints why it waits, and at the end its output and result.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rota_client::{
    Client, ClientError, TimeSpan,
    v1::{Task, TaskStatus, waiting},
};
use rota_proto::json::Words as _;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    follow::Follower,
    is_ended, is_passing,
    show::{last_lines, show},
};
use crate::{
    exit::{Exit, Failure},
    output::{self, Format},
    text,
};

/// Maximum time between checks for news.
const LOOK: Duration = Duration::from_secs(60);
/// Maximum number of characters of a result to print. `rota task result` prints all.
const RESULT: usize = 2000;

/// Maximum number of tasks of one command for which it tells why they wait.
const REASONS: usize = 20;

/// How long an answer can take beyond the timeout of the wait.
const GRACE: Duration = Duration::from_secs(1);
/// Pause between retries while no server is reachable.
const PAUSE: Duration = Duration::from_millis(500);

/// The task to wait for, and for how long.
pub(crate) struct Wait {
    pub(crate) id: String,
    pub(crate) timeout: Option<Duration>,
    /// Whether a server has answered for this task before. If not, and without a timeout, an unreachable
    /// server is more likely a wrong address than an outage.
    pub(crate) known: bool,
}

/// Waits until a task has ended, and prints its output and result.
///
/// # Errors
/// When the task did not complete, or the wait timed out.
pub(crate) async fn until_ended(
    client: &Client,
    wait: Wait,
    format: Format,
) -> Result<(), Failure> {
    let id = wait.id.clone();
    let task = ended(client, wait, format).await?;
    print(client, &task, format).await?;
    outcome(&id, &task)
}

/// Prints a task that has ended, with its output and result.
pub(super) async fn print(client: &Client, task: &Task, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        return show(task, format);
    }
    // Read before anything is printed, so that the lines of several tasks do not mix.
    let said = said(client, task).await;
    show(task, format)?;
    match said {
        Ok(said) => output::text(&said),
        // The status of the task is known, and decides the exit code.
        Err(error) => {
            output::note(&format!("cannot read the output of the task: {error}"));
            Ok(())
        }
    }
}

/// Fails if the task did not complete.
pub(super) fn outcome(id: &str, task: &Task) -> Result<(), Failure> {
    let status = task.status();
    if status == TaskStatus::Completed {
        return Ok(());
    }
    let why = task.error.as_ref().map(|error| format!(": {}", error.message)).unwrap_or_default();
    Err(Failure::new(Exit::TaskFailed, format!("{id} {}{why}", status.word()))
        .hint(format!("see the attempts with `rota task get {id}`")))
}

/// Returns the task once it has ended. Prints to standard error why it waits.
pub(super) async fn ended(client: &Client, wait: Wait, format: Format) -> Result<Task, Failure> {
    let id = wait.id.clone();
    followed(Follower::new(client, &id), wait, Instant::now(), &Notes::new(format, 1)).await
}

/// The same with a follower, for a wait that began at this time.
pub(super) async fn followed(
    mut follower: Follower<'_>,
    wait: Wait,
    since: Instant,
    notes: &Notes,
) -> Result<Task, Failure> {
    let Wait { id, timeout, mut known } = wait;
    let until = timeout.map(|timeout| since + timeout);
    let mut told = None;
    let mut away: Option<ClientError> = None;
    loop {
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()));
        let asked = follower.look(left);
        let answer = match until {
            Some(until) => timeout_at(until + GRACE, asked).await.ok(),
            None => Some(asked.await),
        };
        match answer {
            Some(Ok(task)) => {
                if is_ended(&task) {
                    return Ok(task);
                }
                (known, away) = (true, None);
                notes.server_is_back();
                let news = news(&task);
                if news.is_some() && news != told {
                    news.iter().for_each(|news| notes.tell(news));
                    told = news;
                }
            }
            Some(Err(error)) => {
                let goes_on = is_passing(&error) && (known || until.is_some());
                if !goes_on {
                    return Err(error.into());
                }
                notes.server_is_away(&error);
                away = Some(error);
                sleep(left.min(PAUSE)).await;
            }
            None => {}
        }
        if let Some(timeout) =
            timeout.filter(|_| until.is_some_and(|until| until <= Instant::now()))
        {
            return Err(over(&id, timeout, known, away));
        }
    }
}

/// What waits tell on standard error.
pub(super) struct Notes {
    /// Whether nothing is told, because the output is for programs.
    is_quiet: bool,
    /// Whether the reasons why tasks wait are told. Those of many tasks would hide everything else.
    gives_reasons: bool,
    /// Whether it was told that no server answers. Several waits see the same outage.
    is_away: AtomicBool,
}

impl Notes {
    /// For waits for so many tasks.
    pub(super) fn new(format: Format, tasks: usize) -> Self {
        let gives_reasons = tasks <= REASONS;
        let notes =
            Self { is_quiet: format.is_data(), gives_reasons, is_away: AtomicBool::new(false) };
        if !gives_reasons && !notes.is_quiet {
            output::note(&format!("waiting for {tasks} tasks"));
        }
        notes
    }

    fn tell(&self, news: &News) {
        if self.gives_reasons && !self.is_quiet {
            output::note(&news.text);
        }
    }

    fn server_is_away(&self, error: &ClientError) {
        if !self.is_away.swap(true, Ordering::Relaxed) && !self.is_quiet {
            output::note(&format!("{error}; retrying"));
        }
    }

    fn server_is_back(&self) {
        self.is_away.store(false, Ordering::Relaxed);
    }
}

/// The error of a wait that timed out. If no server ever answered, the server is the problem.
fn over(id: &str, timeout: Duration, known: bool, away: Option<ClientError>) -> Failure {
    let waited = TimeSpan::from(timeout);
    match away {
        Some(error) if !known => error.into(),
        None if !known => Failure::new(Exit::Unavailable, format!("no answer within {waited}")),
        away => {
            let why = away.map(|error| format!("; {error}")).unwrap_or_default();
            Failure::new(Exit::TimedOut, format!("{id} had not ended after {waited}{why}"))
                .hint(format!("see why with `rota task get {id}`"))
        }
    }
}

/// Why the task does not run. The same reason of the same attempt counts as the same news.
pub(super) fn news(task: &Task) -> Option<News> {
    let waiting = task.waiting.as_ref()?;
    let error = task.error.as_ref().filter(|_| waiting.reason() == waiting::Reason::BackingOff);
    let why = error.map(|error| format!(" ({})", text::line(&error.message)));
    let why = why.or_else(|| remedy(task, waiting.reason()));
    let text = format!("{}: {}{}", task.id, waiting.message, why.unwrap_or_default());
    Some(News { attempt: task.attempt, reason: waiting.reason(), text })
}

/// How to get a worker for a kind that Rota itself can run.
fn remedy(task: &Task, reason: waiting::Reason) -> Option<String> {
    let command = match (reason, task.kind.as_str()) {
        (waiting::Reason::NoWorker, "command") => "rota worker --allow-command",
        (waiting::Reason::NoWorker, "http") => "rota worker",
        _ => return None,
    };
    Some(format!(" (`{command}` starts one)"))
}

/// A line to print.
#[derive(Debug, Clone)]
pub(super) struct News {
    attempt: u32,
    reason: waiting::Reason,
    pub(super) text: String,
}

impl PartialEq for News {
    fn eq(&self, other: &Self) -> bool {
        (self.attempt, self.reason) == (other.attempt, other.reason)
    }
}

/// The output and result of an ended task.
async fn said(client: &Client, task: &Task) -> Result<String, Failure> {
    let attempts = client.list_attempts(&task.id).await?;
    let tail = attempts.last().map(|attempt| text::of_bytes(&attempt.output_tail));
    let tail = tail.filter(|tail| !tail.is_empty());
    let mut text = tail.map(|tail| format!("Output:\n{}", last_lines(&tail))).unwrap_or_default();
    // The result of a command is its output, which is printed already.
    if task.has_result && task.kind != "command" {
        let result = client.get_result(&task.id).await?;
        let result = text::of_bytes(&result);
        let short = text::line(&result.chars().take(RESULT).collect::<String>());
        let more = if result.chars().count() > RESULT { "…" } else { "" };
        text.push_str(&format!("Result:\n  {short}{more}\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rota_client::v1::{FailureReason, TaskError, Waiting};

    use super::*;

    fn waits(attempt: u32, message: &str) -> Task {
        let reason = FailureReason::Error.into();
        let error = TaskError { reason, message: "exit code 3".to_owned() };
        let reason = waiting::Reason::BackingOff.into();
        let waiting = Waiting { reason, message: message.to_owned(), ..Waiting::default() };
        Task {
            id: "t".to_owned(),
            attempt,
            error: Some(error),
            waiting: Some(waiting),
            ..Task::default()
        }
    }

    #[test]
    fn each_failed_attempt_is_news_once() {
        let first = news(&waits(1, "attempt 1 failed; next attempt at noon")).expect("news");
        assert_eq!(first.text, "t: attempt 1 failed; next attempt at noon (exit code 3)");
        assert_eq!(Some(first.clone()), news(&waits(1, "attempt 1 failed; next attempt later")));
        assert_ne!(Some(first), news(&waits(2, "attempt 2 failed")));
        let mut unserved = waits(0, "no worker");
        unserved.kind = "command".to_owned();
        unserved.waiting.as_mut().expect("it waits").set_reason(waiting::Reason::NoWorker);
        let first = news(&unserved).expect("news");
        assert_eq!(first.text, "t: no worker (`rota worker --allow-command` starts one)");
        let mut running = waits(1, "");
        running.waiting = None;
        assert_eq!(news(&running), None);
    }
}

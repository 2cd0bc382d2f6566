//! Shows tasks: in a line, whole, and their attempts.

use std::time::Duration;

use rota_client::{
    Client, Date,
    v1::{Attempt, FailureReason, ListTasksResponse, Task, TaskError},
};
use rota_proto::json::{Content, Words};

use super::{
    ids::{self, Failed},
    is_ended,
};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
    text,
};

/// Shows tasks whole.
pub(super) async fn get(client: &Client, ids: Vec<String>, format: Format) -> Result<(), Failure> {
    let named = ids::read(ids)?;
    let mut failed = Failed::default();
    let mut tasks = Vec::new();
    for (at, id) in named.ids.iter().enumerate() {
        let told = match client.get_task(id).await {
            Ok(task) if format.is_data() => {
                tasks.push(task);
                Ok(())
            }
            Ok(task) => {
                if at > 0 {
                    output::line("")?;
                }
                whole(client, &task).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(failure) = told {
            failed.tell(id, failure, &named, format)?;
        }
    }
    if format.is_data() {
        match tasks.pop() {
            Some(task) if named.is_one => output::data(&task, format)?,
            task => {
                tasks.extend(task);
                let all = ListTasksResponse { tasks, ..ListTasksResponse::default() };
                output::list(&all, "tasks", format)?;
            }
        }
    }
    failed.end(&named)
}

/// A task with its attempts and the end of its output.
async fn whole(client: &Client, task: &Task) -> Result<(), Failure> {
    let all = client.list_attempts(&task.id).await?;
    describe(task).print()?;
    if !all.is_empty() {
        output::line("")?;
        attempts(&all).print()?;
    }
    let tail = all.last().map(|attempt| text::of_bytes(&attempt.output_tail));
    match tail.filter(|tail| !tail.is_empty()) {
        Some(tail) => output::text(&format!("\nOutput:\n{}", last_lines(&tail))),
        None => Ok(()),
    }
}

/// A result as JSON. One that is not JSON is a text.
pub(super) fn result(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| text::of_bytes(bytes).into())
}

/// The last lines of an output, indented.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().map(|line| format!("  {}\n", text::line(line))).collect()
}

fn describe(task: &Task) -> Table {
    let mut table = Table::pairs("Task", &task.id);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let date = |date: Date| output::time_and_distance(date);
    row("Status", task.status().word().to_owned());
    if let Some(waiting) = &task.waiting {
        row("Not running", waiting.message.clone());
    }
    if task.cancel_requested {
        row("Cancel", "requested".to_owned());
    }
    row("Kind", task.kind.clone());
    row("Queue", format!("{} (priority {})", task.queue, task.priority));
    if let Some(tick) = &task.tick {
        let nominal = tick.nominal_time.map(|at| format!(" at {}", at.timestamp()));
        let nominal = nominal.unwrap_or_else(|| " (triggered)".to_owned());
        row("Schedule", format!("{}{nominal}", tick.schedule));
    }
    let retry = task.retry.unwrap_or_default();
    row("Attempt", task.attempt.to_string());
    // Of the budget since the last retry, unlike the number of the attempt.
    row("Failures", format!("{} of {} allowed", task.failures, retry.max_attempts()));
    if let Some(description) = &task.description {
        row("Description", description.clone());
    }
    if task.lost > 0 {
        row("Lost workers", format!("{} of {} allowed", task.lost, retry.max_lost()));
    }
    if task.snoozes > 0 {
        row("Snoozes", format!("{} of {} allowed", task.snoozes, retry.max_snoozes()));
    }
    row("Created", date(task.created_at.unwrap_or_default()));
    row("Due", date(task.run_at.unwrap_or_default()));
    for (name, at) in
        [("Expires", task.expires_at), ("Started", task.started_at), ("Finished", task.finished_at)]
    {
        if let Some(at) = at {
            row(name, date(at));
        }
    }
    if let Some(worker) = &task.worker {
        row("Worker", worker.clone());
    }
    if let Some(progress) = &task.progress {
        row("Progress", progress.clone());
    }
    if let Some(error) = &task.error {
        row("Error", fault(error));
    }
    if let Some(trace) = &task.trace_id {
        row("Trace", trace.clone());
    }
    for (name, value) in &task.labels {
        row("Label", format!("{name}={value}"));
    }
    match Content::of(&task.payload) {
        None => {}
        Some(Content::Json(payload)) => {
            let text = payload.get();
            let short: String = text.chars().take(200).collect();
            row("Payload", if short.len() < text.len() { format!("{short}…") } else { short });
        }
        Some(Content::Bytes(_)) => {
            row("Payload", "not JSON; use -o json to see it as base64".to_owned());
        }
    }
    row(
        "Result",
        if task.has_result { format!("rota task result {}", task.id) } else { "none".to_owned() },
    );
    table
}

/// The error message, with its reason if that adds something.
fn fault(error: &TaskError) -> String {
    let message = error.message.as_str();
    let reason = error.reason();
    if reason == FailureReason::Error || reason.word() == message {
        message.to_owned()
    } else {
        format!("{}: {message}", reason.word())
    }
}

/// Attempts as a table.
pub(super) fn attempts(attempts: &[Attempt]) -> Table {
    let mut table = Table::new([
        Column::new("ATTEMPT").rank(0),
        Column::new("WORKER").rank(2).middle(),
        Column::new("STARTED"),
        Column::new("TOOK"),
        Column::new("OUTCOME").state().end(),
    ]);
    for attempt in attempts {
        let began = attempt.started_at.or(attempt.assigned_at).unwrap_or_default();
        let took = attempt.ended_at.map(|ended| {
            let took = ended.timestamp().duration_since(began.timestamp());
            output::coarse(Duration::try_from(took).unwrap_or_default())
        });
        let outcome = match (&attempt.error, attempt.ended_at) {
            (Some(error), _) if error.reason().word() == error.message => error.message.clone(),
            (Some(error), _) => format!("failed: {}", fault(error)),
            (None, Some(_)) => match attempt.until {
                Some(until) => format!("snoozed until {until}"),
                None => "completed".to_owned(),
            },
            (None, None) => "running".to_owned(),
        };
        table.row([
            attempt.attempt.to_string(),
            attempt.worker.clone(),
            output::when(began),
            took.unwrap_or_else(|| "-".to_owned()),
            outcome,
        ]);
    }
    table
}

/// Shows a task in a line.
pub(super) fn show(task: &Task, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        output::data(task, format)
    } else {
        let asked = task.cancel_requested && !is_ended(task);
        let more = if asked { ", cancel requested" } else { "" };
        output::line(&format!("{} {}{more}", task.id, task.status().word()))
    }
}

//! `rota task`.

use std::time::Duration;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError, Date, TimeSpan,
    v1::{
        self, Attempt, BulkAction, FailureReason, ListAttemptsResponse, ListTasksResponse, Task,
        TaskError, TaskFilter, TaskStatus, TimeRange,
    },
};
use rota_proto::json::{Content, Words};

use super::{
    bulk::{self, Which},
    create, labels, update,
    wait::{self, Wait},
};
use crate::{
    exit::Failure,
    output::{self, Format, Table},
    text,
};

/// Commands for tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// Create a task from flags, or many from a file.
    #[command(after_help = "Examples:\n  \
        rota task create --kind resize --payload '{\"image\": \"cat.png\"}'\n  \
        rota task create --command --wait -- sh -c 'echo hello'\n  \
        rota task create --http https://example.org --delay 30s\n  \
        rota task create --file tasks.jsonl")]
    Create(Box<create::CreateArgs>),
    /// List tasks, newest first.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Maximum number of tasks to show.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show a task: its status, why it is not running, and its attempts.
    Get {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
    },
    /// Wait until a task has ended, and print its output and result. Fails if the task did not complete.
    Wait {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
        /// Time to wait before giving up, such as 30s [default: no limit].
        #[arg(long, value_name = "TIME")]
        timeout: Option<TimeSpan>,
    },
    /// Print the result that the handler returned.
    Result {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
    },
    /// List the attempts of a task.
    Attempts {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
    },
    /// Cancel one task, or all tasks that match a filter.
    Cancel(Which),
    /// Run one ended task again, or all ended tasks that match a filter.
    Retry(Which),
    /// Delete one ended task, or all ended tasks that match a filter.
    Delete(Which),
    /// Change the earliest start time of a waiting task.
    Reschedule {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
        /// Delay from now before the task is due, such as 30s or 2h.
        #[arg(long, value_name = "TIME", required_unless_present = "run_at")]
        delay: Option<TimeSpan>,
        /// Earliest start time, such as 2026-01-31T12:00:00Z.
        #[arg(long, value_name = "DATE", conflicts_with = "delay")]
        run_at: Option<Date>,
    },
    /// Change parts of a waiting task. Parts that you do not name stay unchanged.
    Update(Box<update::UpdateArgs>),
    /// Change the priority of a waiting task.
    Priority {
        /// Task id.
        #[arg(value_parser = Text::new())]
        id: String,
        /// New priority, 0 to 9. Tasks with a higher priority run first.
        priority: u32,
    },
}

/// Selects tasks.
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArgs {
    /// Only tasks in this queue.
    #[arg(long, value_parser = Text::new())]
    queue: Option<String>,
    /// Only tasks with one of these statuses, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = parse_status)]
    status: Vec<TaskStatus>,
    /// Only tasks of this kind.
    #[arg(long, value_parser = Text::new())]
    kind: Option<String>,
    /// Only tasks with this label. Can be repeated; all labels must match.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Only tasks of this schedule.
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    schedule: Option<String>,
    /// Only tasks created at this time or later.
    #[arg(long, value_name = "DATE")]
    created_from: Option<Date>,
    /// Only tasks created before this time.
    #[arg(long, value_name = "DATE")]
    created_to: Option<Date>,
    /// Only tasks due at this time or later.
    #[arg(long, value_name = "DATE")]
    run_at_from: Option<Date>,
    /// Only tasks due before this time.
    #[arg(long, value_name = "DATE")]
    run_at_to: Option<Date>,
}

/// The flags of [`FilterArgs`].
pub(super) const FILTERS: [&str; 9] = [
    "queue",
    "status",
    "kind",
    "labels",
    "schedule",
    "created_from",
    "created_to",
    "run_at_from",
    "run_at_to",
];

fn parse_status(word: &str) -> Result<TaskStatus, String> {
    TaskStatus::of_word(word).map_err(|_: serde::de::value::Error| {
        "must be scheduled, pending, assigned, running, completed, failed, cancelled or expired"
            .to_owned()
    })
}

pub(super) fn filter(args: &FilterArgs) -> Result<TaskFilter, Failure> {
    Ok(TaskFilter {
        queue: args.queue.clone(),
        statuses: args.status.iter().map(|status| (*status).into()).collect(),
        kind: args.kind.clone(),
        labels: labels(&args.labels)?,
        created: Some(TimeRange { from: args.created_from, to: args.created_to }),
        run_at: Some(TimeRange { from: args.run_at_from, to: args.run_at_to }),
        schedule: args.schedule.clone(),
    })
}

/// Runs the command.
pub(crate) async fn run(verb: TaskVerb, client: &Client, format: Format) -> Result<(), Failure> {
    match verb {
        TaskVerb::Create(args) => {
            let wait = args.wait;
            match create::run(*args, client, format).await? {
                Some(task) if wait => {
                    // Before the wait: the task goes on if the user interrupts the wait.
                    match format {
                        Format::Table => output::note(&task.id),
                        Format::Json => output::json_note(&serde_json::json!({ "id": task.id })),
                    }
                    let wait = Wait { id: task.id, timeout: None, known: true };
                    wait::until_ended(client, wait, format).await
                }
                Some(task) if format == Format::Json => output::json(&task),
                Some(task) => output::line(&task.id),
                None => Ok(()),
            }
        }
        TaskVerb::List { filter: args, limit } => list(client, filter(&args)?, limit, format).await,
        TaskVerb::Get { id } => get(client, &id, format).await,
        TaskVerb::Wait { id, timeout } => {
            let wait = Wait { id, timeout: timeout.map(TimeSpan::duration), known: false };
            wait::until_ended(client, wait, format).await
        }
        TaskVerb::Result { id } => {
            let result = client.get_result(&id).await?;
            match format {
                Format::Json if result.is_empty() => output::json(&serde_json::Value::Null),
                // Unchanged, because a program reads it. Most results are JSON.
                Format::Json => output::result(&result),
                Format::Table if result.is_empty() => {
                    output::note(&format!("{id} has no result"));
                    Ok(())
                }
                Format::Table => output::result(&result),
            }
        }
        TaskVerb::Attempts { id } => {
            let attempts = client.list_attempts(&id).await?;
            if format == Format::Json {
                output::json(&ListAttemptsResponse { attempts })
            } else {
                attempts_table(&attempts).print()
            }
        }
        TaskVerb::Cancel(which) => bulk::change(client, which, BulkAction::Cancel, format).await,
        TaskVerb::Retry(which) => bulk::change(client, which, BulkAction::Retry, format).await,
        TaskVerb::Delete(which) => bulk::change(client, which, BulkAction::Delete, format).await,
        TaskVerb::Reschedule { id, delay, run_at } => {
            let request = v1::RescheduleTaskRequest { id, run_at, delay };
            show(&client.reschedule_task(request).await?, format)
        }
        TaskVerb::Update(args) => show(&update::run(*args, client).await?, format),
        TaskVerb::Priority { id, priority } => {
            let request = v1::SetTaskPriorityRequest { id, priority };
            show(&client.set_task_priority(request).await?, format)
        }
    }
}

async fn list(
    client: &Client,
    filter: TaskFilter,
    limit: u32,
    format: Format,
) -> Result<(), Failure> {
    let mut all = ListTasksResponse::default();
    let mut page_token = String::new();
    let mut page_size_max = 1000;
    loop {
        let left = limit.saturating_sub(u32::try_from(all.tasks.len()).unwrap_or(limit));
        if left == 0 {
            break;
        }
        let size = left.min(page_size_max);
        let ask = |page_size| {
            let (filter, page_token) = (Some(filter.clone()), page_token.clone());
            client.list_tasks(v1::ListTasksRequest { filter, page_size, page_token })
        };
        let page = match ask(size).await {
            // The server's limit is lower: ask for a page of its default size.
            Err(error) if is_about(&error, "page_size") => {
                let page = ask(0).await?;
                page_size_max = u32::try_from(page.tasks.len()).unwrap_or(1).max(1);
                page
            }
            page => page?,
        };
        all.tasks.extend(page.tasks);
        all.next_page_token.clone_from(&page.next_page_token);
        match page.next_page_token {
            // A cursor that does not move would make this loop endless.
            Some(next) if next != page_token => page_token = next,
            _ => break,
        }
    }
    if format == Format::Json {
        return output::json(&all);
    }
    let empty = all.tasks.is_empty();
    let mut table = Table::new(&["ID", "KIND", "QUEUE", "STATUS", "ATTEMPT", "CREATED", "NOTE"]);
    for task in all.tasks {
        let (note, status) = (note(&task), task.status().word());
        table.row([
            task.id,
            task.kind,
            task.queue,
            status.to_owned(),
            format!("{}/{}", task.attempt, task.retry.unwrap_or_default().max_attempts()),
            output::relative(task.created_at.unwrap_or_default()),
            note,
        ]);
    }
    table.print()?;
    if empty {
        output::note("no tasks");
    }
    if all.next_page_token.is_some() {
        output::note(&format!("showing the first {limit} tasks; use --limit to see more"));
    }
    Ok(())
}

/// Whether a request was refused because of this field.
fn is_about(error: &ClientError, name: &str) -> bool {
    match error {
        ClientError::Refused { violations, .. } => {
            violations.iter().any(|wrong| wrong.field == name)
        }
        _ => false,
    }
}

/// The column NOTE: why the task waits, its error or its progress.
fn note(task: &Task) -> String {
    let text = match (&task.waiting, &task.error, &task.progress) {
        (Some(waiting), ..) => waiting.message.clone(),
        (None, Some(error), _) => error.message.clone(),
        (None, None, Some(progress)) => progress.clone(),
        (None, None, None) => String::new(),
    };
    let first = text.lines().next().unwrap_or_default();
    if first.chars().count() > 70 {
        first.chars().take(69).chain(['…']).collect()
    } else {
        first.to_owned()
    }
}

async fn get(client: &Client, id: &str, format: Format) -> Result<(), Failure> {
    let task = client.get_task(id).await?;
    if format == Format::Json {
        return output::json(&task);
    }
    let attempts = client.list_attempts(id).await?;
    let tail = attempts.last().map(|attempt| text::of_bytes(&attempt.output_tail));
    let mut text = describe(&task);
    if !attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts_table(&attempts).text());
    }
    if let Some(tail) = tail.filter(|tail| !tail.is_empty()) {
        text.push_str("\nOutput:\n");
        text.push_str(&last_lines(&tail));
    }
    output::text(&text)
}

/// The last lines of an output, indented.
pub(super) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().map(|line| format!("  {}\n", text::line(line))).collect()
}

fn describe(task: &Task) -> String {
    let mut table = Table::new(&["Task", &task.id]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    let date = |date: Date| format!("{date} ({})", output::relative(date));
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
    row("Attempt", format!("{} of {}", task.attempt, retry.max_attempts()));
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
    table.text()
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

fn attempts_table(attempts: &[Attempt]) -> Table {
    let mut table = Table::new(&["ATTEMPT", "WORKER", "STARTED", "TOOK", "OUTCOME"]);
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
            output::relative(began),
            took.unwrap_or_else(|| "-".to_owned()),
            outcome,
        ]);
    }
    table
}

pub(super) fn show(task: &Task, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::json(task),
        Format::Table => {
            let asked = task.cancel_requested && !wait::is_ended(task);
            let more = if asked { ", cancel requested" } else { "" };
            output::line(&format!("{} {}{more}", task.id, task.status().word()))
        }
    }
}

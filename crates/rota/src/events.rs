//! `rota events`: prints changes as they become durable, one line for each.

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{Client, ErrorKind, Event, EventFilter, TaskStatus};
use rota_proto::{
    json::Words as _,
    v1::{ScheduleEvent, TaskEvent, TaskFilter, WatchEventsRequest},
};

use crate::{
    exit::Failure,
    manage::{is_passing, labels},
    output::{self, Format},
    text,
};

/// Events to print. All given properties must match.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only events of this task. Can be repeated.
    #[arg(long = "task", value_name = "ID", value_parser = Text::new())]
    tasks: Vec<String>,
    /// Only events of tasks whose id begins like this.
    #[arg(long, value_name = "PREFIX", value_parser = Text::new())]
    task_prefix: Option<String>,
    /// Only events of this queue and its tasks.
    #[arg(long, value_parser = Text::new(), add = crate::complete::queues())]
    queue: Option<String>,
    /// Only events of tasks of this kind.
    #[arg(long, value_parser = Text::new(), add = crate::complete::kinds())]
    kind: Option<String>,
    /// Only events of tasks with this label. Can be repeated; all labels must match.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Only events of tasks with one of these statuses after the change, separated by commas.
    #[arg(long, value_delimiter = ',', value_parser = parse_status)]
    status: Vec<TaskStatus>,
    /// Only events of this schedule and its tasks.
    #[arg(long, value_name = "NAME", value_parser = Text::new(), add = crate::complete::schedules())]
    schedule: Option<String>,
    /// Only events of tasks with one of these priorities, 0 to 9, separated by commas.
    #[arg(long = "priority", value_name = "N", value_delimiter = ',')]
    priorities: Vec<u32>,
    /// Only events of this worker and of attempts that it runs.
    #[arg(long, value_name = "NAME", value_parser = Text::new(), add = crate::complete::workers())]
    worker: Option<String>,
    /// Only events of these types (task.completed) or groups of types (task, queue, worker, schedule), separated
    /// by commas.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = Text::new())]
    types: Vec<String>,
    /// Continue after the event with this id [default: begin now].
    #[arg(long, value_name = "ID", value_parser = Text::new())]
    after: Option<String>,
}

fn parse_status(word: &str) -> Result<TaskStatus, String> {
    TaskStatus::of_word(word).map_err(|error: serde::de::value::Error| error.to_string())
}

/// Runs the command, until it is interrupted or nobody reads its output.
///
/// # Errors
/// When no server can be reached at first, or the server refuses the request.
pub(crate) async fn run(args: EventsArgs, client: &Client, format: Format) -> Result<(), Failure> {
    let request = WatchEventsRequest {
        filter: Some(TaskFilter {
            queue: args.queue,
            statuses: args.status.into_iter().map(Into::into).collect(),
            kind: args.kind,
            labels: labels(&args.labels)?,
            schedule: args.schedule,
            priorities: args.priorities,
            ..TaskFilter::default()
        }),
        tasks: args.tasks,
        task_prefix: args.task_prefix,
        worker: args.worker,
        types: args.types,
        last_event_id: args.after,
        // A client that loses its connection comes back for what it missed.
        brief: false,
    };
    let mut events = client.events(EventFilter::from(request));
    let mut was_connected = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                was_connected = true;
                if !print(&event, format)? {
                    return Ok(());
                }
            }
            Err(error) if was_connected && is_passing(&error) => {
                output::note(&format!("{error}; retrying"));
            }
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                return Err(Failure::from(error).hint("the server is too old to send events"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints one event. Returns whether somebody still reads.
fn print(event: &Event, format: Format) -> Result<bool, Failure> {
    if format.is_data() {
        return output::next(event, format);
    }
    match event.r#type.as_str() {
        "ready" => {
            output::note("waiting for events; stop with Ctrl-C");
            Ok(true)
        }
        "reset" => {
            let reason = event.reason.as_deref().unwrap_or_default();
            output::note(&format!("some events were missed ({reason})"));
            Ok(true)
        }
        _ => output::stream(format!("{}\n", text::line(&line(event))).as_bytes()),
    }
}

/// The time, the type, what changed, and how.
fn line(event: &Event) -> String {
    let what = if let Some(task) = &event.task {
        of_task(task)
    } else if let Some(queue) = &event.queue {
        queue.name.clone()
    } else if let Some(worker) = &event.worker {
        match worker.tasks {
            Some(held) if held > 0 => {
                format!("{}  {}  held {held} tasks", worker.name, worker.session)
            }
            _ => format!("{}  {}", worker.name, worker.session),
        }
    } else if let Some(schedule) = &event.schedule {
        of_schedule(schedule)
    } else {
        String::new()
    };
    let time = event.time.unwrap_or_default();
    format!("{time}  {:<19}  {what}", event.r#type).trim_end().to_owned()
}

fn of_task(task: &TaskEvent) -> String {
    let mut text = format!("{}  {}/{}", task.id, task.queue, task.kind);
    if task.attempt > 0 {
        text.push_str(&format!("  attempt {}", task.attempt));
    }
    if let Some(worker) = &task.worker {
        text.push_str(&format!(" on {worker}"));
    }
    if let Some(error) = &task.error {
        text.push_str(&format!("  {}", error.message));
    }
    text
}

fn of_schedule(schedule: &ScheduleEvent) -> String {
    let mut text = schedule.name.clone();
    if let Some(nominal) = schedule.nominal_time {
        text.push_str(&format!("  {nominal}"));
    }
    if schedule.outcome.is_some() {
        text.push_str(&format!("  {}", schedule.outcome().word()));
    }
    if schedule.reason.is_some() {
        text.push_str(&format!(" ({})", schedule.reason().word()));
    }
    if let Some(task) = &schedule.task_id {
        text.push_str(&format!("  {task}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use rota_client::TaskError;

    use super::*;

    #[test]
    fn a_line_says_what_changed() {
        let task = TaskEvent {
            id: "order-7".to_owned(),
            queue: "q".to_owned(),
            kind: "k".to_owned(),
            attempt: 2,
            worker: Some("w".to_owned()),
            error: Some(TaskError { message: "exit code 3".to_owned(), ..TaskError::default() }),
            ..TaskEvent::default()
        };
        let event =
            Event { r#type: "task.retrying".to_owned(), task: Some(task), ..Event::default() };
        let expected = "1970-01-01T00:00:00.000Z  task.retrying        order-7  q/k  attempt 2 on w  exit code 3";
        assert_eq!(line(&event), expected);
    }
}

//! The rows of the list.

use maud::{Markup, html};
use rota_proto::{
    TimeSpan,
    v1::{Task, TaskStatus, Waiting, waiting::Reason},
};

use crate::{
    link,
    parts::{duration, id, name, status_of, when},
};

/// A table of tasks. Other pages show their tasks with it as well.
pub(crate) fn table(tasks: &[Task]) -> Markup {
    of_rows(tasks, false)
}

/// The same, and each row has a box that belongs to the form of the changes.
pub(super) fn selectable(tasks: &[Task]) -> Markup {
    of_rows(tasks, true)
}

fn of_rows(tasks: &[Task], has_boxes: bool) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        @if has_boxes {
                            th.check scope="col" {
                                input.scripted type="checkbox" data-all="bulk" aria-label="Select all on this page";
                            }
                        }
                        th scope="col" { "Status" }
                        th scope="col" { "Task" }
                        th.wide scope="col" { "Queue" }
                        th.number.wide scope="col" { "Attempt" }
                        th.wide scope="col" { "Created" }
                        th.wide scope="col" { "Now" }
                    }
                }
                tbody { @for task in tasks { (row(task, has_boxes)) } }
            }
        }
    }
}

fn row(task: &Task, has_box: bool) -> Markup {
    html! {
        tr {
            @if has_box {
                td.check {
                    input type="checkbox" name="id" value=(task.id) form="bulk" autocomplete="off"
                        aria-label=(format!("Select {}", task.id));
                }
            }
            td { (status_of(task)) }
            td.task {
                span.kind {
                    a href=(link::to("tasks", [("kind", &task.kind)])) { (name(&task.kind)) }
                }
                (id(&task.id))
                // In a narrow window, it stands here.
                span.narrow { (now(task)) }
            }
            td.short.wide { a.plain href=(link::to("tasks", [("queue", &task.queue)])) { (name(&task.queue)) } }
            td.number.wide { (attempts(task)) }
            td.wide { (when(task.created_at)) }
            td.now.wide { (now(task)) }
        }
    }
}

/// The attempts so far, and how many there can be.
fn attempts(task: &Task) -> Markup {
    let most = task.retry.as_ref().and_then(|retry| retry.max_attempts);
    html! {
        @if task.attempt == 0 { span.none { "—" } } @else {
            (task.attempt)
            @if let Some(most) = most { span.of { "/" (most) } }
        }
    }
}

/// What there is to say about a task now: why it waits, where it runs, or how it ended.
fn now(task: &Task) -> Markup {
    html! {
        @match task.status() {
            TaskStatus::Scheduled | TaskStatus::Pending => {
                @match &task.waiting {
                    Some(waiting) => (waits(waiting)),
                    None => (when(task.run_at)),
                }
            }
            TaskStatus::Assigned | TaskStatus::Running => {
                span.why {
                    @if let Some(worker) = &task.worker { "on " (name(worker)) }
                    @if let Some(progress) = &task.progress { ": " bdi { (progress) } }
                    @if task.cancel_requested { " (asked to stop)" }
                }
            }
            TaskStatus::Completed => span.why { (when(task.finished_at)) (took(task)) },
            _ => {
                @match &task.error {
                    Some(error) => span.why.error title=(error.message) { bdi { (error.message) } },
                    None => (when(task.finished_at)),
                }
            }
        }
    }
}

/// Why a task waits. A time is shown as the reader chose, which the sentence of the API cannot be.
fn waits(waiting: &Waiting) -> Markup {
    let until = waiting.until;
    html! {
        span.why title=(waiting.message) {
            @match waiting.reason() {
                Reason::DueLater => { "due " (when(until)) }
                Reason::BackingOff => {
                    @if let Some(attempt) = waiting.attempt { "attempt " (attempt) " failed, " }
                    "next " (when(until))
                }
                Reason::Snoozed => { "snoozed, next " (when(until)) }
                _ => bdi { (waiting.message) },
            }
        }
    }
}

/// The time that the last attempt took.
fn took(task: &Task) -> Markup {
    let times = task.started_at.zip(task.finished_at);
    let took = times.and_then(|(start, end)| {
        std::time::Duration::try_from(end.timestamp().duration_since(start.timestamp())).ok()
    });
    html! { @if let Some(took) = took { span.took { ", took " (duration(TimeSpan::from(took))) } } }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TaskError;

    use super::*;
    use crate::apart::assert_apart;

    #[test]
    fn hostile_tasks_stay_text() {
        let hostile = "</td><script>alert(1)</script>\u{202e}";
        let task = Task {
            id: "nightly/2026-01-31T02:30:00Z".to_owned(),
            kind: "a&b".to_owned(),
            queue: "q/1".to_owned(),
            status: TaskStatus::Failed.into(),
            error: Some(TaskError { message: hostile.to_owned(), ..TaskError::default() }),
            ..Task::default()
        };
        let html = table(std::slice::from_ref(&task)).into_string();
        assert!(!html.contains("<script"), "{html}");
        assert_apart(&html);
        let running = Task {
            kind: hostile.to_owned(),
            status: TaskStatus::Running.into(),
            error: None,
            worker: Some(hostile.to_owned()),
            progress: Some(hostile.to_owned()),
            ..task
        };
        assert_apart(&table(std::slice::from_ref(&running)).into_string());
        let waiting = Waiting { message: hostile.to_owned(), ..Waiting::default() };
        let waits = Task { status: TaskStatus::Pending.into(), waiting: Some(waiting), ..running };
        assert_apart(&table(&[waits]).into_string());
        assert!(html.contains("href=\"task?id=nightly%2F2026-01-31T02%3A30%3A00Z\""), "{html}");
        assert!(
            html.contains("href=\"tasks?kind=a%26b\"")
                && html.contains("href=\"tasks?queue=q%2F1\"")
        );
    }
}

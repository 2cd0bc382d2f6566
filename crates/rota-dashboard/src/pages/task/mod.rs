//! One task: what it is, why it waits, what became of its attempts, its payload and its result.

mod actions;
mod edit;
mod line;
mod waiting;

use maud::{Markup, html};
use rota_proto::{
    TimeSpan,
    json::Words,
    v1::{
        Attempt, FailureReason, GetTaskRequest, ListWorkersRequest, RetryPolicy, Task, TaskError,
        TaskRequest, TaskStatus, Worker,
    },
};
use tonic::{Code, Response, Status};

use crate::{
    layout::{Shown, View},
    link,
    parts::{self, copy, duration, facts, failed, labels, name, status_of, time, trouble_panel},
    trouble::Trouble,
    visit::Visit,
};

pub(super) use edit::{act as edit, show as show_edit};

/// The link to the page of a task.
fn page_of(id: &str) -> String {
    link::to("task", [("id", id)])
}

/// The task that a parameter names.
pub(super) async fn read(visit: &Visit, id: &str) -> Result<Task, Trouble> {
    let request = GetTaskRequest { id: id.to_owned(), wait: None };
    Ok(visit.api.tasks().get_task(request).await?.into_inner())
}

/// Whether the task has ended.
fn is_ended(task: &Task) -> bool {
    use TaskStatus::{Cancelled, Completed, Expired, Failed};
    matches!(task.status(), Completed | Failed | Cancelled | Expired)
}

/// What the API says about a task. Parts but the task can fail.
struct Seen {
    task: Task,
    attempts: Result<Vec<Attempt>, Status>,
    result: Result<bytes::Bytes, Status>,
    /// Sessions of workers, where the wait depends on them.
    workers: Option<Vec<Worker>>,
}

pub(super) async fn show(visit: &Visit) -> Result<Shown, Trouble> {
    let id = visit.pairs.need("id")?;
    Ok(page(visit, id, None).await?.into())
}

/// Makes the change that a button of the page asks for.
pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let id = visit.pairs.need("id")?;
    match actions::act(visit, id).await {
        Ok(shown) => Ok(shown),
        Err(Trouble::SignIn) => Err(Trouble::SignIn),
        // The task with the error above it says more than the error alone. If it is gone, the error is that.
        Err(trouble) => match page(visit, id, Some(&trouble)).await {
            Ok(view) => Ok(view.into()),
            Err(_) => Err(trouble),
        },
    }
}

/// The payload or the result of a task, as a file.
pub(super) async fn content(visit: &Visit) -> Result<Shown, Trouble> {
    let id = visit.pairs.need("id")?;
    let is_json = |bytes: &[u8]| {
        let content = rota_proto::json::Content::of(bytes);
        matches!(content, Some(rota_proto::json::Content::Json(_)))
    };
    let (content, names) = match visit.page.as_str() {
        "payload" => (read(visit, id).await?.payload, ["payload.json", "payload.bin"]),
        _ => (result(visit, id).await?, ["result.json", "result.bin"]),
    };
    let name = names[usize::from(!is_json(&content))];
    Ok(Shown::File { name, content })
}

async fn result(visit: &Visit, id: &str) -> Result<bytes::Bytes, Status> {
    let request = TaskRequest { id: id.to_owned() };
    Ok(visit.api.tasks().get_result(request).await?.into_inner().result)
}

async fn page(visit: &Visit, id: &str, trouble: Option<&Trouble>) -> Result<View, Trouble> {
    let request = TaskRequest { id: id.to_owned() };
    let mut tasks = visit.api.tasks();
    let (task, attempts) = tokio::join!(read(visit, id), tasks.list_attempts(request));
    let task = task?;
    let result =
        async { if task.has_result { result(visit, id).await } else { Ok(bytes::Bytes::new()) } };
    let workers = async {
        if !task.waiting.as_ref().is_some_and(waiting::needs_workers) {
            return None;
        }
        let list = visit.api.workers().list_workers(ListWorkersRequest::default()).await;
        list.ok().map(|list| list.into_inner().workers)
    };
    let (result, workers) = tokio::join!(result, workers);
    let attempts = attempts.map(Response::into_inner).map(|list| list.attempts);
    let seen = Seen { task, attempts, result, workers };
    let title = format!("{} {}", seen.task.kind, parts::cut(&seen.task.id));
    Ok(View::new(title, "tasks", body(visit, &seen, trouble)))
}

fn body(visit: &Visit, seen: &Seen, trouble: Option<&Trouble>) -> Markup {
    let task = &seen.task;
    html! {
        @if let Some(trouble) = trouble { (trouble_panel(trouble)) }
        div #head.task-head data-live="tasks" data-stamp=(stamp(task)) {
            div.head {
                h1 { (name(&task.kind)) }
                (status_of(task))
                @if task.cancel_requested && !is_ended(task) { span.note { "asked to stop" } }
            }
            p.id.whole { bdi { (task.id) } (copy(&task.id, "Copy the id")) }
            @if let Some(description) = &task.description { p { bdi { (description) } } }
            (actions::bar(task))
        }
        div #now data-live="tasks workers queues" { (now(seen)) }
        div.columns {
            section aria-labelledby="line-title" {
                h2 #line-title { "Time line" }
                @match &seen.attempts {
                    Err(status) => (failed(status.clone())),
                    Ok(attempts) => (line::line(task, attempts)),
                }
            }
            section aria-labelledby="facts-title" {
                h2 #facts-title { "Properties" }
                div #facts.card data-live="tasks" { (properties(visit, task)) }
            }
        }
        (payload(task))
        (result_of(task, &seen.result))
    }
}

/// What the head shows, so that a page that is read is not replaced by the same.
fn stamp(task: &Task) -> String {
    format!("{}.{}.{}.{}", task.version, task.status, task.attempt, task.cancel_requested)
}

/// What there is to say now: why the task waits, how far it is, or how it ended.
fn now(seen: &Seen) -> Markup {
    let task = &seen.task;
    html! {
        @if let Some(waiting) = &task.waiting {
            (waiting::why(task, waiting, seen.workers.as_deref()))
        }
        @if let Some(progress) = task.progress.as_ref().filter(|_| !is_ended(task)) {
            p.card { span.note { "Progress: " } bdi { (progress) } }
        }
        @if let Some(error) = &task.error {
            div.trouble {
                p.what { (what_failed(task, error)) }
                pre tabindex="0" { bdi { (error.message) } }
            }
        }
    }
}

fn what_failed(task: &Task, error: &TaskError) -> String {
    let reason = error.reason().word().replace('_', " ");
    match (is_ended(task), error.reason()) {
        (true, FailureReason::Error) => "The task failed".to_owned(),
        (true, _) => format!("The task ended: {reason}"),
        (false, FailureReason::Error) => "The last attempt failed".to_owned(),
        (false, _) => format!("The last attempt failed: {reason}"),
    }
}

fn properties(visit: &Visit, task: &Task) -> Markup {
    let retry = task.retry.unwrap_or_default();
    let text = |text: String| html! { (text) };
    let of = |number: u32, most: Option<u32>| {
        (number > 0).then(|| text(format!("{number} of {} allowed", most.unwrap_or_default())))
    };
    let to = |page: &str, named: &str| html! { a.plain href=(link::to(page, [("name", named)])) { (name(named)) } };
    html! {
        (facts([
            ("Queue", Some(to("queue", &task.queue))),
            ("Kind", Some(html! { a.plain href=(link::to("tasks", [("kind", &task.kind)])) { (name(&task.kind)) } })),
            ("Priority", Some(text(task.priority.to_string()))),
            ("Labels", (!task.labels.is_empty()).then(|| labels(&task.labels))),
            ("Schedule", task.tick.as_ref().map(|tick| to("schedule", &tick.schedule))),
            ("Nominal time", task.tick.as_ref().map(|tick| match tick.nominal_time {
                Some(at) => time(at),
                None => html! { "triggered by a client" },
            })),
            ("Tick before", task.tick.as_ref().and_then(|tick| tick.previous_time).map(time)),
            ("Last success", task.tick.as_ref().and_then(|tick| tick.last_success_time).map(time)),
            ("Created", task.created_at.map(time)),
            ("Due", task.run_at.map(time)),
            ("Expires", task.expires_at.map(time)),
            ("Started", task.started_at.map(time)),
            ("Ended", task.finished_at.map(time)),
            ("Worker", task.worker.as_deref().map(|worker| to("workers", worker))),
            ("Attempts", Some(text(task.attempt.to_string()))),
            ("Failures", of(task.failures, retry.max_attempts)),
            ("Lost workers", of(task.lost, retry.max_lost)),
            ("Snoozes", of(task.snoozes, retry.max_snoozes)),
            ("Timeout", task.timeout.map(|span| text(duration(span)))),
            ("Retries", task.retry.as_ref().map(|retry| text(policy(retry)))),
            ("Kept after its end", task.retention.map(|span| text(duration(span)))),
            ("Lease token", task.lease_token.map(|token| html! { code { (token) } })),
            ("Version", Some(text(task.version.to_string()))),
            ("Idempotency key", task.idempotency_key.as_ref().map(|key| html! { code { bdi { (key) } } (copy(key, "Copy the key")) })),
            ("Trace", task.trace_id.as_ref().map(|id| trace(visit, id))),
        ]))
    }
}

/// The id of a trace, as a link where the operator said where traces are.
fn trace(visit: &Visit, id: &str) -> Markup {
    html! {
        @match visit.memory.trace(id) {
            Some(url) => { a href=(url) rel="external" { code { (id) } } },
            None => { code { (id) } },
        }
        (copy(id, "Copy the id of the trace"))
    }
}

/// A retry policy in words.
fn policy(retry: &RetryPolicy) -> String {
    let span = |span: Option<TimeSpan>| duration(span.unwrap_or_default());
    format!(
        "up to {}, after {} growing by {} to at most {}{}",
        parts::plural(retry.max_attempts().into(), "attempt", "attempts"),
        span(retry.initial),
        retry.multiplier(),
        span(retry.max),
        if retry.jitter() == rota_proto::v1::Jitter::None { "" } else { ", with jitter" },
    )
}

fn payload(task: &Task) -> Markup {
    section(
        "payload",
        "Payload",
        &task.id,
        &task.payload,
        "This task has no payload.",
        task.version,
    )
}

fn result_of(task: &Task, result: &Result<bytes::Bytes, Status>) -> Markup {
    let none =
        if is_ended(task) { "The handler returned no result." } else { "There is no result yet." };
    match result {
        // Removed between two calls.
        Err(status) if status.code() == Code::NotFound => html! {},
        Err(status) => failed(status.clone()),
        Ok(result) => {
            let version = u64::from(task.has_result) << 32 | u64::from(task.attempt);
            section("result", "Result", &task.id, result, none, version)
        }
    }
}

fn section(page: &str, title: &str, id: &str, content: &[u8], none: &str, version: u64) -> Markup {
    let label = format!("{page}-title");
    html! {
        section aria-labelledby=(label) {
            h2 id=(label) { (title) }
            div.card id=(page) data-live="tasks" data-stamp=(format!("{version}.{}", content.len())) {
                @match parts::tree(content) {
                    None => p.note { (none) },
                    Some(tree) => {
                        (tree.shown)
                        (parts::rest(&tree, content.len(), &link::to(page, [("id", id)])))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

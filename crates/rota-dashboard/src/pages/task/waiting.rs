//! Why a task waits, in words, with links to what it waits for.

use maud::{Markup, html};
use rota_proto::v1::{Task, Waiting, Worker, waiting::Reason};

use crate::{
    link,
    parts::{copy, count, name, plural, time},
};

/// Workers that are named.
const NAMED: usize = 8;

/// Whether the sentence needs to know the workers.
pub(super) fn needs_workers(waiting: &Waiting) -> bool {
    matches!(waiting.reason(), Reason::NoWorker | Reason::SlotsBusy | Reason::NotAsked)
}

pub(super) fn why(task: &Task, waiting: &Waiting, workers: Option<&[Worker]>) -> Markup {
    let until = |words: &str| html! { (words) @if let Some(at) = waiting.until { " " (time(at)) } };
    html! {
        div.waiting {
            p.what { "Why it waits" }
            @match waiting.reason() {
                Reason::DueLater => p { (until("It is due")) },
                Reason::BackingOff => p {
                    @match waiting.attempt {
                        Some(attempt) => { "Its " a href=(format!("#attempt-{attempt}")) { "attempt " (attempt) } " failed. " }
                        None => { "Its last attempt failed. " }
                    }
                    (until("The next is due"))
                },
                Reason::Snoozed => p {
                    "Its handler put it off" @if let Some(attempt) = waiting.attempt { " in attempt " (attempt) } ". "
                    (until("It is due again"))
                },
                Reason::QueuePaused => p {
                    "Its queue " (queue(task)) " is paused. It starts after the queue is resumed."
                },
                Reason::NoWorker => (no_worker(task, workers)),
                Reason::SlotsBusy => {
                    p {
                        "All slots of the workers that serve it are in use. " (ahead(task, waiting))
                        " See what is " (running(task)) "."
                    }
                    (serving(task, workers))
                }
                Reason::NotAsked => {
                    p { "The workers that serve it have not asked for a task. " (ahead(task, waiting)) }
                    (serving(task, workers))
                }
                Reason::Unspecified => p { bdi { (waiting.message) } },
            }
        }
    }
}

fn queue(task: &Task) -> Markup {
    html! { a href=(link::to("queue", [("name", &task.queue)])) { (name(&task.queue)) } }
}

fn running(task: &Task) -> Markup {
    let filter = [("status", "assigned,running"), ("queue", &task.queue)];
    html! { a href=(link::to("tasks", filter)) { "running in this queue" } }
}

/// The tasks that start first.
fn ahead(task: &Task, waiting: &Waiting) -> Markup {
    let filter = [("status", "pending"), ("queue", &task.queue)];
    html! {
        @match waiting.ahead {
            None => {}
            Some(0) => "It is the next.",
            Some(ahead) => {
                a href=(link::to("tasks", filter)) { (plural(ahead, "task", "tasks")) }
                @if ahead == 1 { " starts" } @else { " start" } " before it."
            }
        }
    }
}

fn no_worker(task: &Task, workers: Option<&[Worker]>) -> Markup {
    // Other kinds have handlers in programs of their users.
    let command = match task.kind.as_str() {
        "command" => Some(format!("rota worker --queues {} --allow-command", task.queue)),
        "http" => Some(format!("rota worker --queues {}", task.queue)),
        _ => None,
    };
    html! {
        p {
            "No connected worker serves the queue " (queue(task)) " and the kind " (name(&task.kind)) ". "
            @match workers {
                Some([]) => "No worker is connected.",
                Some(all) => {
                    "The " a href="workers" { (plural(all.len() as u64, "connected worker", "connected workers")) }
                    @if all.len() == 1 { " serves" } @else { " serve" } " other queues or kinds."
                }
                None => {}
            }
        }
        @match command {
            None => p.note { "It starts as soon as a worker with a handler for this kind connects." },
            Some(command) => {
                p.note { "It starts as soon as such a worker connects:" }
                p.command { code { (command) } (copy(&command, "Copy the command")) }
            }
        }
    }
}

/// The workers that serve the task, with their slots.
fn serving(task: &Task, workers: Option<&[Worker]>) -> Markup {
    let takes = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    let serves = |worker: &&Worker| {
        takes(&worker.queues, &task.queue) && takes(&worker.kinds, &task.kind) && !worker.draining
    };
    let found: Vec<_> = workers.unwrap_or_default().iter().filter(serves).collect();
    let left = found.len().saturating_sub(NAMED);
    html! {
        @if !found.is_empty() {
            ul.serving {
                @for worker in found.iter().take(NAMED) {
                    li {
                        a href=(link::to("workers", [("name", &worker.name)])) { (name(&worker.name)) }
                        " " span.note { (worker.slots_used) " of " (plural(worker.slots.into(), "slot", "slots")) " in use" }
                    }
                }
                @if left > 0 { li.note { "and " (count(left as u64)) " more" } }
            }
        }
    }
}

//! The buttons of a task, and what they do. A button is there only if the state allows it.

use maud::{Markup, html};
use rota_proto::v1::{
    RescheduleTaskRequest, SetTaskPriorityRequest, Task, TaskRequest, TaskStatus,
};

use super::{is_ended, page_of};
use crate::{
    flash,
    layout::Shown,
    link,
    pages::{confirm, draft},
    parts::icon,
    trouble::Trouble,
    visit::Visit,
};

/// Name, words of the button, and the question before it.
const ASKED: [(&str, &str, &str); 3] = [
    ("cancel", "Cancel", "Cancel this task?"),
    ("retry", "Retry", "Run this task again?"),
    ("delete", "Delete", "Delete this task with its attempts, its output and its result?"),
];

/// Whether a task can be changed by an action of this name.
fn can(action: &str, task: &Task) -> bool {
    use TaskStatus::{Cancelled, Expired, Failed};
    match action {
        "cancel" => !is_ended(task) && !task.cancel_requested,
        "retry" => matches!(task.status(), Failed | Cancelled | Expired),
        _ => is_ended(task),
    }
}

/// Whether the definition of the task can be changed.
fn waits(task: &Task) -> bool {
    matches!(task.status(), TaskStatus::Scheduled | TaskStatus::Pending)
}

pub(super) fn bar(task: &Task) -> Markup {
    let named = |name: &str| ASKED.iter().find(|(known, _, _)| *known == name);
    let button = |action: &str| {
        html! {
            @if let Some((action, words, question)) = named(action).filter(|_| can(action, task)) {
                form action="task" method="post" data-confirm=(question) {
                    (hidden(task, action))
                    button type="submit" { (words) }
                }
            }
        }
    };
    html! {
        div.actions {
            (button("retry"))
            (button("cancel"))
            @if waits(task) {
                (reschedule(task))
                (priority(task))
                a.button href=(link::to("edit", [("id", &task.id)])) { "Edit" }
            }
            a.button href=(link::to("new", [("from", &task.id)])) { (icon("new")) "Run as a new task" }
            (button("delete"))
        }
    }
}

fn hidden(task: &Task, action: &str) -> Markup {
    html! {
        input type="hidden" name="id" value=(task.id);
        input type="hidden" name="action" value=(action);
    }
}

fn reschedule(task: &Task) -> Markup {
    let now = task.run_at.map(|at| at.to_string()).unwrap_or_default();
    html! {
        details.menu.drop {
            summary.button { "Reschedule" }
            form.sheet action="task" method="post" {
                (hidden(task, "reschedule"))
                label { "After" input dir="auto" type="text" name="delay" placeholder="10m" maxlength="64" autocomplete="off"; }
                label { "or at (UTC)" input dir="auto" type="text" name="run_at" placeholder=(now) maxlength="64" autocomplete="off"; }
                button type="submit" { "Reschedule" }
            }
        }
    }
}

fn priority(task: &Task) -> Markup {
    html! {
        details.menu.drop {
            summary.button { "Priority" }
            form.sheet action="task" method="post" {
                (hidden(task, "priority"))
                label { "From 0 to 9; 9 runs first"
                    input type="number" name="priority" min="0" max="9" value=(task.priority) required;
                }
                button type="submit" { "Set" }
            }
        }
    }
}

/// Carries out an action.
pub(super) async fn act(visit: &Visit, id: &str) -> Result<Shown, Trouble> {
    let action = visit.pairs.need("action")?;
    if let Some((_, words, question)) = ASKED.iter().find(|(known, _, _)| *known == action)
        && !visit.is_confirmed()
    {
        let about = html! { p.id.whole { bdi { (id) } } };
        let go = format!("{words} the task");
        let asked = confirm::Question { title: question, about, go: &go, back: &page_of(id) };
        return Ok(confirm::ask_about(visit, "tasks", &asked).into());
    }
    let mut tasks = visit.api.tasks();
    let task = || TaskRequest { id: id.to_owned() };
    let done = match action {
        "cancel" => tasks.cancel_task(task()).await.map(|_| "cancelled")?,
        "retry" => tasks.retry_task(task()).await.map(|_| "retried")?,
        "delete" => {
            tasks.delete_task(task()).await?;
            return Ok(Shown::See(link::to("tasks", [flash::pair("deleted")])));
        }
        "reschedule" => {
            let delay = visit.pairs.get("delay").map(draft::span).transpose();
            let run_at = visit.pairs.get("run_at").map(draft::date).transpose();
            let request = RescheduleTaskRequest {
                id: id.to_owned(),
                run_at: run_at.map_err(|why| wrong("run_at", why))?,
                delay: delay.map_err(|why| wrong("delay", why))?,
            };
            tasks.reschedule_task(request).await.map(|_| "rescheduled")?
        }
        "priority" => {
            let priority = visit.pairs.need("priority")?.trim().parse();
            let priority =
                priority.map_err(|_| wrong("priority", "must be from 0 to 9".to_owned()))?;
            let request = SetTaskPriorityRequest { id: id.to_owned(), priority };
            tasks.set_task_priority(request).await.map(|_| "changed")?
        }
        _ => return Err(Trouble::Form("It names no action.")),
    };
    Ok(Shown::See(link::to("task", [("id", id.to_owned()), flash::pair(done)])))
}

fn wrong(name: &'static str, message: String) -> Trouble {
    Trouble::Field { name, message }
}

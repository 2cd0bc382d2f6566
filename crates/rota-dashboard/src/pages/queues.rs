//! The list of queues, and the forms that pause and resume one.

use maud::{Markup, html};
use rota_proto::v1::{ListQueuesRequest, ListQueuesResponse, Queue, QueueRequest};

use super::confirm;
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{Pager, count, empty, name, pager, span, state},
    trouble::Trouble,
    visit::Visit,
};

/// Queues on a page.
const PAGE: u32 = 100;

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let request = ListQueuesRequest {
        page_size: PAGE,
        page_token: visit.pairs.get("cursor").unwrap_or_default().to_owned(),
    };
    let list = visit.api.queues().list_queues(request).await?.into_inner();
    let body = html! {
        div.head { h1 { "Queues" } }
        div #list data-live="tasks queues" {
            (table(&list))
            (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "First" }))
        }
    };
    Ok(View::new("Queues", "queues", body))
}

fn table(list: &ListQueuesResponse) -> Markup {
    if list.queues.is_empty() {
        return empty(
            "There are no queues yet.",
            "A queue exists as soon as a task names it. Create one:",
            Some("rota task create --queue default --command -- echo hello"),
        );
    }
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Queue" }
                        th.number scope="col" { "Pending" }
                        th.number scope="col" { "Running" }
                        th.number.wide scope="col" { "Scheduled" }
                        th.number.wide scope="col" { "Oldest" }
                        th.number.wide scope="col" { "Completed" }
                        th.number.wide scope="col" { "Failed" }
                        th scope="col" { span.sr { "Actions" } }
                    }
                }
                tbody { @for queue in &list.queues { (row(queue)) } }
            }
        }
    }
}

fn row(queue: &Queue) -> Markup {
    let tasks = |status: &str, number: u64| {
        let filter = [("status", status), ("queue", queue.name.as_str())];
        html! { a.plain href=(link::to("tasks", filter)) { (count(number)) } }
    };
    html! {
        tr {
            td {
                a href=(link::to("queue", [("name", &queue.name)])) { (name(&queue.name)) }
                @if queue.paused { " " (state("paused")) }
            }
            td.number { (tasks("pending", queue.pending)) }
            td.number { (tasks("assigned,running", queue.running)) }
            td.number.wide { (tasks("scheduled", queue.scheduled)) }
            td.number.wide { (span(queue.oldest_pending_age)) }
            td.number.wide { (tasks("completed", queue.completed_total)) }
            td.number.wide { (tasks("failed", queue.failed_total)) }
            td.number { (switch(queue)) }
        }
    }
}

/// The form that pauses or resumes a queue.
fn switch(queue: &Queue) -> Markup {
    let question = (!queue.paused).then(|| question(&queue.name));
    html! {
        form action="queues" method="post" data-confirm=[question] {
            input type="hidden" name="name" value=(queue.name);
            @if queue.paused {
                button.small type="submit" name="do" value="resume" { "Resume" }
            } @else {
                button.small type="submit" name="do" value="pause" { "Pause" }
            }
        }
    }
}

fn question(name: &str) -> String {
    format!(
        "Pause the queue {name}? None of its tasks starts until you resume it. Running tasks continue."
    )
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let queue = visit.pairs.need("name")?.to_owned();
    let request = QueueRequest { queue: queue.clone() };
    let said = match visit.pairs.need("do")? {
        "pause" if !visit.is_confirmed() => {
            return Ok(confirm::ask(visit, "queues", &question(&queue)).into());
        }
        "pause" => {
            visit.api.queues().pause_queue(request).await?;
            "queue-paused"
        }
        "resume" => {
            visit.api.queues().resume_queue(request).await?;
            "queue-resumed"
        }
        _ => return Err(Trouble::Form("It asks for nothing that can be done with a queue.")),
    };
    Ok(Shown::See(link::to("queues", [flash::pair(said)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_form_with_a_question_and_hostile_names_stay_text() {
        let queue = Queue { name: "\"><b>/%".to_owned(), pending: 3, ..Queue::default() };
        let list =
            ListQueuesResponse { queues: vec![queue.clone()], ..ListQueuesResponse::default() };
        let html = table(&list).into_string();
        assert!(
            html.contains("value=\"pause\"") && html.contains("data-confirm=\"Pause the queue"),
            "{html}"
        );
        assert!(!html.contains("<b>") && html.contains("queue?name=%22%3E%3Cb%3E%2F%25"), "{html}");
        let html = switch(&Queue { paused: true, ..queue }).into_string();
        assert!(html.contains("value=\"resume\"") && !html.contains("data-confirm"), "{html}");
    }
}

//! The queues: how much of each waits and runs, and whether anybody serves it.

use maud::{Markup, html};
use rota_proto::v1::{ListQueuesRequest, ListQueuesResponse, ListWorkersRequest, Queue, Worker};
use tonic::Status;

use super::{change::Change, workers::serves};
use crate::{
    layout::View,
    link,
    parts::{Pager, count, empty, name, pager, plural, span, state, time},
    trouble::Trouble,
    visit::Visit,
};

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let request = ListQueuesRequest {
        page_token: visit.pairs.get("cursor").unwrap_or_default().to_owned(),
        ..ListQueuesRequest::default()
    };
    let (mut queues, workers) = (visit.api.queues(), workers(visit));
    let (list, workers) = tokio::join!(queues.list_queues(request), workers);
    // Without the workers, the queues are still worth seeing.
    let workers = workers.ok();
    Ok(View::new("Queues", "queues", page(visit, &list?.into_inner(), workers.as_deref())))
}

/// All workers, up to a page of them.
pub(super) async fn workers(visit: &Visit) -> Result<Vec<Worker>, Status> {
    let list = visit.api.workers().list_workers(ListWorkersRequest::default()).await;
    list.map(|list| list.into_inner().workers)
}

fn page(visit: &Visit, list: &ListQueuesResponse, workers: Option<&[Worker]>) -> Markup {
    html! {
        div.head { h1 { "Queues" } }
        div #queues data-live="tasks queues workers" {
            @if let Some(at) = list.as_of {
                p.note.gap { "The store accepts no changes. The numbers are from " (time(at)) "." }
            }
            @if list.queues.is_empty() {
                (empty(
                    "There are no queues yet.",
                    "A queue exists as soon as a task names it. Create one:",
                    Some("rota task create --queue default --command -- echo hello"),
                ))
            } @else {
                (table(&list.queues, workers))
                p.note.gap { "Completed and failed tasks are counted since the leader took over." }
            }
            (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "First" }))
        }
    }
}

fn table(queues: &[Queue], workers: Option<&[Worker]>) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Queue" }
                        th.number scope="col" { "Pending" }
                        th.number scope="col" { "Running" }
                        th.number.wide scope="col" { "Scheduled" }
                        th.number.wide scope="col" { "Oldest due" }
                        th.number.wide scope="col" { "Completed" }
                        th.number.wide scope="col" { "Failed" }
                        th.number.wide scope="col" { "Workers" }
                        th scope="col" { span.sr { "Actions" } }
                    }
                }
                tbody { @for queue in queues { (row(queue, workers)) } }
            }
        }
    }
}

fn row(queue: &Queue, workers: Option<&[Worker]>) -> Markup {
    let number = |status: &str, number: u64| {
        let href = link::to("tasks", [("queue", queue.name.as_str()), ("status", status)]);
        html! { a.plain href=(href) { (count(number)) } }
    };
    html! {
        tr {
            td {
                a href=(link::to("queue", [("name", &queue.name)])) { (name(&queue.name)) }
                @if queue.paused { " " (state("paused")) }
            }
            td.number { (number("pending", queue.pending)) }
            td.number { (number("assigned,running", queue.running)) }
            td.number.wide { (number("scheduled", queue.scheduled)) }
            td.number.wide { (span(queue.oldest_pending_age)) }
            td.number.wide { (number("completed", queue.completed_total)) }
            td.number.wide { (number("failed", queue.failed_total)) }
            td.number.wide { (hands(queue, workers)) }
            td.number { (switch(queue, "queues", "small")) }
        }
    }
}

/// The number of workers that serve the queue.
fn hands(queue: &Queue, workers: Option<&[Worker]>) -> Markup {
    let Some(workers) = workers else { return html! { span.none { "—" } } };
    let serving = workers.iter().filter(|one| !one.draining && serves(one, &queue.name)).count();
    html! {
        @if serving == 0 && queue.pending > 0 { span.bad { "none" } } @else { (count(serving as u64)) }
    }
}

/// The question before a pause.
pub(super) fn pause_question(queue: &Queue) -> String {
    let waiting = plural(queue.pending, "due task waits", "due tasks wait");
    let later = plural(queue.scheduled, "task is", "tasks are");
    format!(
        "Pause the queue {}? Its running tasks continue and no other starts: {waiting} now, and {later} due later.",
        queue.name
    )
}

/// The button that pauses or resumes, on this page.
pub(super) fn switch(queue: &Queue, page: &str, class: &str) -> Markup {
    let (word, label) = if queue.paused { ("resume", "Resume") } else { ("pause", "Pause") };
    let change = Change {
        page,
        fields: &[("name", &queue.name), ("do", word)],
        label,
        question: (!queue.paused).then(|| pause_question(queue)),
        class,
        title: Some(format!("{label} {}", queue.name)),
    };
    change.form()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    const HOSTILE: &str = "a/b\"><script>alert(1)</script>\u{202e}";

    fn queue() -> Queue {
        Queue { name: HOSTILE.to_owned(), pending: 1234, scheduled: 1, ..Queue::default() }
    }

    #[test]
    fn hostile_queues_stay_text_and_a_pause_says_how_many_wait() {
        let list = ListQueuesResponse { queues: vec![queue()], ..Default::default() };
        let html = page(&Fake::default().visit("queues", ""), &list, Some(&[])).into_string();
        assert!(!html.contains("<script"), "{html}");
        crate::apart::assert_apart(&html);
        assert!(html.contains("1,234 due tasks wait now, and 1 task is due later"), "{html}");
        assert!(html.contains("queue?name=a%2Fb%22"), "{html}");
        assert!(html.contains("<span class=\"bad\">none</span>"), "nobody serves it: {html}");
    }

    #[test]
    fn a_paused_queue_is_resumed_without_a_question() {
        let html = switch(&Queue { paused: true, ..queue() }, "queues", "").into_string();
        assert!(html.contains("value=\"resume\"") && !html.contains("data-confirm"), "{html}");
    }

    #[tokio::test]
    async fn queues_are_shown_without_their_workers() {
        let list = ListQueuesResponse { queues: vec![queue()], ..Default::default() };
        let fake = Fake::default().with("ListQueues", &list);
        let view = show(&fake.visit("queues", "cursor=c")).await.expect("a page");
        assert!(view.body.into_string().contains("1,234"));
        let calls: Vec<ListQueuesRequest> = fake.calls("ListQueues");
        assert_eq!(calls[0].page_token, "c");
    }
}

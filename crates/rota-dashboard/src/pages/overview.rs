//! The first page: what needs attention, how much of everything there is, and the busiest queues.

use std::time::SystemTime;

use maud::{Markup, html};
use rota_proto::v1::{
    GetClusterRequest, ListQueuesRequest, ListQueuesResponse, ListWorkersRequest,
    ListWorkersResponse, Queue,
};
use tonic::{Code, Response, Status};

use super::{
    attention::{self, Seen},
    failures, schedules,
};
use crate::{
    layout::View,
    link,
    parts::{
        attention as attention_list, count, curves, empty, failed, name, plural, share, span,
        state, tile,
    },
    pulse::Beat,
    trouble::Trouble,
    visit::Visit,
};

/// Queues on this page. The page of queues has all.
const QUEUES: usize = 8;

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let (mut queues, mut workers, mut server) =
        (visit.api.queues(), visit.api.workers(), visit.api.server());
    let (queues, workers, cluster, schedules, failures) = tokio::join!(
        queues.list_queues(ListQueuesRequest::default()),
        workers.list_workers(ListWorkersRequest::default()),
        server.get_cluster(GetClusterRequest {}),
        schedules::attention::read(visit),
        failures::recent(visit),
    );
    let seen = Seen {
        queues: queues.map(Response::into_inner),
        workers: workers.map(Response::into_inner),
        cluster: cluster.map(Response::into_inner),
        schedules,
        failures,
    };
    if let Err(status) = &seen.queues
        && status.code() == Code::Unauthenticated
    {
        return Err(Trouble::SignIn);
    }
    Ok(View::new("Overview", "", page(&seen, &visit.memory.pulse.look())))
}

fn page(seen: &Seen, beats: &[Beat]) -> Markup {
    html! {
        div.head { h1 { "Overview" } }
        section aria-labelledby="attention-title" {
            h2 #attention-title { "Needs attention" }
            (attention_of(seen))
        }
        @match &seen.queues {
            // Said above already.
            Err(_) => {}
            Ok(list) => {
                section aria-labelledby="tasks-title" {
                    h2 #tasks-title { "Tasks" }
                    div #totals.tiles data-live="tasks queues" { (totals(list)) }
                }
                section aria-labelledby="pulse-title" {
                    h2 #pulse-title { "Curves" }
                    div #pulse.curves data-live="queues cluster" { (curves(beats, SystemTime::now())) }
                }
                div.columns {
                    section aria-labelledby="queues-title" {
                        div.section-head {
                            h2 #queues-title { "Queues" }
                            a href="queues" { "All queues" }
                        }
                        div #queues data-live="tasks queues" { (busiest(list)) }
                    }
                    section aria-labelledby="workers-title" {
                        div.section-head {
                            h2 #workers-title { "Workers" }
                            a href="workers" { "All workers" }
                        }
                        div #workers data-live="tasks workers" { (hands(&seen.workers)) }
                    }
                }
            }
        }
    }
}

/// What needs attention. Where a part is not known, nobody can say that all is well.
fn attention_of(seen: &Seen) -> Markup {
    let found = attention::find(seen);
    let has_found = !found.is_empty();
    html! {
        div #attention data-live="tasks queues workers cluster schedules" {
            @match seen.unread() {
                // An open page keeps the list that it has.
                Some(status) if !has_found => (failed(status.clone())),
                _ => (attention_list(found)),
            }
            @if let Some(number) = seen.schedules.as_ref().ok().and_then(|schedules| schedules.only) {
                p.note {
                    "Looked at the first " (count(number as u64)) " schedules by name. "
                    a href="schedules" { "All schedules" }
                }
            }
        }
        @if let Some(status) = seen.unread() && has_found { (failed(status.clone())) }
    }
}

fn totals(list: &ListQueuesResponse) -> Markup {
    let sum = |of: fn(&Queue) -> u64| count(list.queues.iter().map(of).sum::<u64>());
    let to = |status: &str| link::to("tasks", [("status", status)]);
    let since = "since the leader took over";
    html! {
        (tile("Scheduled", &sum(|queue| queue.scheduled), "wait for their time", &to("scheduled"), "scheduled"))
        (tile("Pending", &sum(|queue| queue.pending), "wait for a worker", &to("pending"), "pending"))
        (tile("Running", &sum(|queue| queue.running), "assigned or running", &to("assigned,running"), "running"))
        (tile("Completed", &sum(|queue| queue.completed_total), since, &to("completed"), "completed"))
        (tile("Failed", &sum(|queue| queue.failed_total), since, &to("failed"), "failed"))
    }
}

/// The queues with most waiting tasks.
fn busiest(list: &ListQueuesResponse) -> Markup {
    let mut queues: Vec<_> = list.queues.iter().collect();
    queues.sort_by_key(|queue| std::cmp::Reverse((queue.pending, queue.running, queue.scheduled)));
    html! {
        @if queues.is_empty() {
            (empty(
                "There are no queues yet.",
                "A queue exists as soon as a task names it. Create one:",
                Some("rota task create --queue default --command -- echo hello"),
            ))
        } @else {
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Queue" }
                            th.number scope="col" { "Pending" }
                            th.number scope="col" { "Running" }
                            th.number.wide scope="col" { "Scheduled" }
                            th.number.wide scope="col" { "Oldest" }
                        }
                    }
                    tbody {
                        @for queue in queues.iter().take(QUEUES) {
                            tr {
                                td {
                                    a href=(link::to("queue", [("name", &queue.name)])) { (name(&queue.name)) }
                                    @if queue.paused { " " (state("paused")) }
                                }
                                td.number { (count(queue.pending)) }
                                td.number { (count(queue.running)) }
                                td.number.wide { (count(queue.scheduled)) }
                                td.number.wide { (span(queue.oldest_pending_age)) }
                            }
                        }
                    }
                }
            }
            @if queues.len() > QUEUES {
                p.note { "and " (plural((queues.len() - QUEUES) as u64, "more queue", "more queues")) }
            }
        }
    }
}

fn hands(workers: &Result<ListWorkersResponse, Status>) -> Markup {
    let list = match workers {
        Ok(list) => &list.workers,
        Err(status) => return failed(status.clone()),
    };
    let used: u64 = list.iter().map(|worker| u64::from(worker.slots_used)).sum();
    let slots: u64 = list.iter().map(|worker| u64::from(worker.slots)).sum();
    let draining = list.iter().filter(|worker| worker.draining).count();
    html! {
        @if list.is_empty() {
            (empty("No worker is connected.", "Tasks wait until one is. Start one:", Some("rota worker --allow-command")))
        } @else {
            p.big {
                strong { (plural(list.len() as u64, "worker", "workers")) }
                @if draining > 0 { " · " (count(draining as u64)) " draining" }
            }
            (share(used, slots, "Slots in use"))
            p.note { (count(used)) " of " (plural(slots, "slot", "slots")) " in use" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_fails_leaves_the_others() {
        let queue = Queue { name: "a/b&<i>".to_owned(), pending: 1234, ..Queue::default() };
        let seen = Seen {
            queues: Ok(ListQueuesResponse { queues: vec![queue], ..ListQueuesResponse::default() }),
            workers: Err(Status::unavailable("no leader")),
            cluster: Err(Status::unavailable("no leader")),
            schedules: Ok(std::sync::Arc::default()),
            failures: Ok(Vec::new()),
        };
        let html = page(&seen, &[]).into_string();
        assert!(
            html.contains("data-passing") && !html.contains("Nothing needs attention"),
            "{html}"
        );
        assert!(html.contains("1,234") && html.contains("no leader"), "{html}");
        assert!(html.contains("queue?name=a%2Fb%26%3Ci%3E") && !html.contains("<i>"), "{html}");
    }
}

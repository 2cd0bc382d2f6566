//! Finds what needs attention in what the API says about queues, workers and the cluster.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use maud::{Markup, html};
use rota_proto::{
    TimeSpan,
    v1::{Cluster, FailureGroup, ListQueuesResponse, ListWorkersResponse, NodeRole, Queue, Worker},
};
use tonic::Status;

use super::{change::paused_by, failures, schedules};
use crate::{
    link,
    memory::SchedulesSeen,
    parts::{Attention, Weight, duration, name, plural},
};

/// Age of a due task from which somebody should know of it.
const OLD: Duration = Duration::from_secs(60);
/// Silence of a worker from which somebody should know of it.
const SILENT: Duration = Duration::from_secs(20);
/// Share of the store's bytes from which somebody should know of it, in hundredths.
const FULL: u64 = 80;
/// Entries of one kind. The page of the kind has all.
const EACH: usize = 5;

/// What the API says. A part can fail while others are there.
pub(super) struct Seen {
    pub(super) queues: Result<ListQueuesResponse, Status>,
    pub(super) workers: Result<ListWorkersResponse, Status>,
    pub(super) cluster: Result<Cluster, Status>,
    pub(super) schedules: Result<Arc<SchedulesSeen>, Status>,
    /// Groups of the last failures.
    pub(super) failures: Result<Vec<FailureGroup>, Status>,
}

impl Seen {
    /// Why a part is not known, if so. Then nobody can say that nothing needs attention.
    pub(super) fn unread(&self) -> Option<&Status> {
        let errors = [
            self.queues.as_ref().err(),
            self.workers.as_ref().err(),
            self.cluster.as_ref().err(),
            self.schedules.as_ref().err(),
            self.failures.as_ref().err(),
        ];
        errors.into_iter().flatten().next()
    }
}

pub(super) fn find(seen: &Seen) -> Vec<Attention> {
    let mut found = Vec::new();
    if let Ok(cluster) = &seen.cluster {
        found.extend(of_cluster(cluster));
    }
    if let Ok(schedules) = &seen.schedules {
        found.extend(schedules::attention::find(&schedules.found, SystemTime::now()));
    }
    found.extend(seen.failures.iter().flatten().map(failures::attention));
    let queues = seen.queues.as_ref().map(|list| list.queues.as_slice()).unwrap_or_default();
    if let Ok(workers) = &seen.workers {
        let unserved = queues.iter().filter(|queue| !queue.paused && queue.pending > 0);
        let unserved = unserved.filter(|queue| !is_served(queue, &workers.workers));
        found.extend(unserved.take(EACH).map(of_unserved));
        let silent = workers.workers.iter().filter(|worker| age(worker.heartbeat_age) >= SILENT);
        found.extend(silent.take(EACH).map(of_silent));
    }
    let paused = queues.iter().filter(|queue| queue.paused && queue.pending > 0);
    found.extend(paused.take(EACH).map(of_paused));
    let running = queues.iter().filter(|queue| !queue.paused);
    found.extend(running.max_by_key(|queue| age(queue.oldest_pending_age)).and_then(of_oldest));
    found.extend(queues.iter().filter(|queue| queue.unreadable > 0).take(EACH).map(of_unreadable));
    found
}

fn age(span: Option<TimeSpan>) -> Duration {
    span.map(TimeSpan::duration).unwrap_or_default()
}

/// Whether a worker takes tasks of the queue, of whatever kind.
fn is_served(queue: &Queue, workers: &[Worker]) -> bool {
    let serves = |worker: &Worker| worker.queues.is_empty() || worker.queues.contains(&queue.name);
    workers.iter().any(|worker| !worker.draining && serves(worker))
}

fn to_queue(queue: &Queue) -> String {
    link::to("queue", [("name", &queue.name)])
}

fn of_unserved(queue: &Queue) -> Attention {
    Attention {
        weight: Weight::Bad,
        what: html! { "No worker serves the queue " (name(&queue.name)) },
        why: html! { (plural(queue.pending, "task waits", "tasks wait")) },
        href: to_queue(queue),
        go: "Queue",
    }
}

fn of_paused(queue: &Queue) -> Attention {
    Attention {
        weight: Weight::Warning,
        what: html! { "The queue " (name(&queue.name)) " is paused" },
        why: html! {
            (plural(queue.pending, "due task waits", "due tasks wait"))
            @if let Some(pause) = &queue.pause { ", paused" (paused_by(&pause.by, pause.at, &pause.note)) }
        },
        href: to_queue(queue),
        go: "Queue",
    }
}

fn of_oldest(queue: &Queue) -> Option<Attention> {
    let oldest = queue.oldest_pending_age.filter(|oldest| oldest.duration() >= OLD)?;
    let filter = [("status", "pending"), ("queue", &queue.name)];
    Some(Attention {
        weight: Weight::Warning,
        what: html! { "The oldest due task has waited for " (duration(oldest)) },
        why: html! { "in the queue " (name(&queue.name)) },
        href: link::to("tasks", filter),
        go: "Tasks",
    })
}

fn of_unreadable(queue: &Queue) -> Attention {
    Attention {
        weight: Weight::Warning,
        what: html! {
            (plural(queue.unreadable, "task", "tasks")) " of the queue " (name(&queue.name)) " cannot be read"
        },
        why: html! { "The records are damaged or from a newer version." },
        href: to_queue(queue),
        go: "Queue",
    }
}

fn of_silent(worker: &Worker) -> Attention {
    Attention {
        weight: Weight::Warning,
        what: html! { "The worker " (name(&worker.name)) " is silent" },
        why: html! {
            "for " (duration(worker.heartbeat_age.unwrap_or_default())) ", with "
            (plural(worker.slots_used.into(), "task", "tasks"))
        },
        href: link::to("workers", [("name", &worker.name)]),
        go: "Worker",
    }
}

fn of_cluster(cluster: &Cluster) -> Vec<Attention> {
    let entry = |weight, what: Markup, why: Markup| Attention {
        weight,
        what,
        why,
        href: "cluster".to_owned(),
        go: "Cluster",
    };
    let mut found = Vec::new();
    if cluster.leader.is_none() {
        found.push(entry(
            Weight::Bad,
            html! { "There is no leader" },
            html! { "No task starts and no change is accepted." },
        ));
    }
    for node in &cluster.nodes {
        if node.role() == NodeRole::Unreachable {
            let why = html! { "It does not answer." };
            found.push(entry(
                Weight::Bad,
                html! { "The node " (name(&node.name)) " is unreachable" },
                why,
            ));
        } else if let Some(problem) = &node.problem {
            let why = html! { bdi { (problem) } };
            found.push(entry(
                Weight::Bad,
                html! { "The node " (name(&node.name)) " cannot serve" },
                why,
            ));
        }
    }
    let Some(store) = &cluster.store else { return found };
    if let Some(problem) = &store.problem {
        found.push(entry(
            Weight::Bad,
            html! { "The store has a problem" },
            html! { bdi { (problem) } },
        ));
    }
    if let Some(lost) = &store.lost {
        let why = match lost.batches {
            Some(batches) => html! { (plural(batches, "batch of changes", "batches of changes")) },
            None => html! { "Nobody knows how many." },
        };
        found.push(entry(Weight::Bad, html! { "The store has lost acknowledged changes" }, why));
    }
    if let (Some(used), Some(most)) = (store.bytes_used, store.bytes_max)
        && let Some(percent) = used.saturating_mul(100).checked_div(most)
        && percent >= FULL
    {
        let why = html! { (percent) " % of its space is used." };
        found.push(entry(Weight::Bad, html! { "The store is almost full" }, why));
    }
    found
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{Node, QueuePause, StoreState};

    use super::*;
    use crate::apart::{TURN, assert_apart};

    fn queue(name: &str, pending: u64) -> Queue {
        Queue { name: name.to_owned(), pending, ..Queue::default() }
    }

    fn worker(name: &str, queues: &[&str], silence: &str) -> Worker {
        Worker {
            name: name.to_owned(),
            queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
            heartbeat_age: Some(silence.parse().expect("a duration")),
            ..Worker::default()
        }
    }

    fn found(queues: Vec<Queue>, workers: Vec<Worker>, cluster: Cluster) -> Vec<String> {
        find(&seen(queues, workers, cluster)).into_iter().map(|one| one.href).collect()
    }

    fn seen(queues: Vec<Queue>, workers: Vec<Worker>, cluster: Cluster) -> Seen {
        Seen {
            queues: Ok(ListQueuesResponse { queues, ..ListQueuesResponse::default() }),
            workers: Ok(ListWorkersResponse { workers, ..ListWorkersResponse::default() }),
            cluster: Ok(cluster),
            schedules: Ok(Arc::default()),
            failures: Ok(Vec::new()),
        }
    }

    fn healthy() -> Cluster {
        Cluster { leader: Some("n1".to_owned()), ..Cluster::default() }
    }

    #[test]
    fn nothing_is_found_where_all_is_well() {
        let queues = vec![queue("a", 5), queue("b", 0)];
        assert_eq!(found(queues, vec![worker("w", &["a"], "1s")], healthy()), [""; 0]);
        assert_eq!(found(Vec::new(), Vec::new(), healthy()), [""; 0]);
    }

    #[test]
    fn queues_that_stand_still_are_found() {
        let paused = Queue { paused: true, ..queue("p", 2) };
        let old =
            Queue { oldest_pending_age: Some("2m".parse().expect("a span")), ..queue("a", 1) };
        let queues =
            vec![queue("nobody", 3), paused, old, Queue { paused: true, ..queue("idle", 0) }];
        let workers =
            vec![worker("w", &["a"], "1s"), Worker { draining: true, ..worker("d", &[], "1s") }];
        assert_eq!(
            found(queues, workers, healthy()),
            ["queue?name=nobody", "queue?name=p", "tasks?status=pending&queue=a"]
        );
    }

    #[test]
    fn the_cluster_and_the_store_are_looked_at() {
        let unreachable = Node { role: NodeRole::Unreachable.into(), ..Node::default() };
        let store = StoreState {
            problem: Some("full".to_owned()),
            bytes_used: Some(u64::MAX),
            bytes_max: Some(u64::MAX),
            ..StoreState::default()
        };
        let cluster = Cluster {
            nodes: vec![unreachable],
            store: Some(store),
            leader: None,
            ..Cluster::default()
        };
        assert_eq!(found(Vec::new(), vec![worker("w", &[], "1m")], cluster).len(), 4);
    }

    #[test]
    fn names_and_reasons_stand_apart() {
        let text = "a\u{202e}";
        let paused = |name: &str| Queue {
            paused: true,
            oldest_pending_age: Some("2m".parse().expect("a span")),
            unreadable: 1,
            pause: Some(QueuePause {
                by: text.to_owned(),
                note: text.to_owned(),
                ..QueuePause::default()
            }),
            ..queue(name, 2)
        };
        let node = |role: NodeRole| Node {
            name: text.to_owned(),
            role: role.into(),
            problem: Some(text.to_owned()),
            ..Node::default()
        };
        let store = StoreState { problem: Some(text.to_owned()), ..StoreState::default() };
        let cluster = Cluster {
            nodes: vec![node(NodeRole::Unreachable), node(NodeRole::Follower)],
            store: Some(store),
            ..healthy()
        };
        let queues = vec![paused(text), Queue { paused: false, ..paused(text) }];
        let group = FailureGroup {
            kind: text.to_owned(),
            message: text.to_owned(),
            ..FailureGroup::default()
        };
        let seen = seen(queues, vec![worker(text, &["other"], "1m")], cluster);
        let found = find(&Seen { failures: Ok(vec![group]), ..seen });
        assert_eq!(found.len(), 10);
        for one in found.iter().filter(|one| one.why.0.contains(TURN)) {
            assert_apart(&one.why.0);
        }
        for one in found.iter().filter(|one| one.what.0.contains(TURN)) {
            assert_apart(&one.what.0);
        }
    }
}

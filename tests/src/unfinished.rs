//! Why work does not come to its end: the tasks that are left, who has them, and how each node finds the store.
//!
//! A run that waits for the end of all work and waits too long says this, because nobody can ask the cluster afterwards.

use std::{fmt::Write, time::Duration};

use rota_client::{
    ClientError,
    v1::{GetClusterRequest, ListQueuesRequest, ListTasksRequest, Task, TaskFilter, TaskStatus},
};
use tokio::time::timeout;

use crate::{cluster::Cluster, load::settle};

/// At most so many tasks are shown.
const SHOWN: usize = 10;
/// How long somebody has to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Waits until nothing is left to be done, for that long.
///
/// # Errors
/// What is left after that.
pub async fn settled(cluster: &Cluster, first: usize, within: Duration) -> Result<(), String> {
    match timeout(within, settle(&cluster.client(first))).await {
        Ok(()) => Ok(()),
        Err(_) => Err(left(cluster, first).await),
    }
}

/// What is left to be done, as this node and then the others tell it.
pub async fn left(cluster: &Cluster, first: usize) -> String {
    let (client, mut text) = (cluster.client(first), String::new());
    for node in 0..cluster.nodes.len() {
        let view = cluster.client_of(node).get_cluster(GetClusterRequest {}).await;
        let view = view.map(|view| (view.leader, view.epoch, view.store.and_then(|s| s.problem)));
        line(
            &mut text,
            format_args!("node {node}: leader, epoch and problem of the store: {view:?}"),
        );
    }
    let queues = answer(client.list_queues(ListQueuesRequest::default())).await;
    let queues = queues.map(|answer| {
        let count = |q: rota_client::v1::Queue| (q.name, q.scheduled, q.pending, q.running);
        answer.queues.into_iter().map(count).collect::<Vec<_>>()
    });
    line(&mut text, format_args!("queues: scheduled, pending and running: {queues:?}"));
    match answer(client.all_workers()).await {
        Ok(answer) => {
            for worker in answer.workers {
                let silent = worker.heartbeat_age.map(|age| age.seconds);
                let (name, session, used) = (worker.name, worker.session, worker.slots_used);
                let draining = worker.draining;
                line(
                    &mut text,
                    format_args!(
                        "worker {name}: session {session}, slots used {used}, draining {draining}, \
                         seconds since its heartbeat {silent:?}, some of its tasks {:?}",
                        worker.tasks.iter().take(SHOWN).collect::<Vec<_>>()
                    ),
                );
            }
        }
        Err(error) => line(&mut text, format_args!("workers: {error}")),
    }
    match answer(client.list_tasks(living())).await {
        Ok(page) => {
            line(&mut text, format_args!("{} tasks live, at least:", page.tasks.len()));
            for task in page.tasks.iter().take(SHOWN) {
                line(&mut text, format_args!("{}", described(task)));
                let attempts = answer(client.list_attempts(&task.id)).await;
                line(&mut text, format_args!("  attempts: {attempts:?}"));
            }
        }
        Err(error) => line(&mut text, format_args!("tasks: {error}")),
    }
    text
}

fn living() -> ListTasksRequest {
    let alive =
        [TaskStatus::Scheduled, TaskStatus::Pending, TaskStatus::Assigned, TaskStatus::Running];
    let statuses = alive.map(i32::from).to_vec();
    let filter = TaskFilter { statuses, ..TaskFilter::default() };
    ListTasksRequest { filter: Some(filter), page_size: 1000, ..ListTasksRequest::default() }
}

fn described(task: &Task) -> String {
    format!(
        "task {}: kind {}, {:?}, attempt {}, lost {}, worker {:?}, lease {:?}, cancel requested {}, started {:?}, \
         waiting {:?}",
        task.id,
        task.kind,
        task.status(),
        task.attempt,
        task.lost,
        task.worker,
        task.lease_token,
        task.cancel_requested,
        task.started_at,
        task.waiting
    )
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("text takes all");
}

async fn answer<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match timeout(ANSWERS_WITHIN, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {ANSWERS_WITHIN:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_left_is_told_with_who_has_it() {
        let task = Task {
            id: "cancelled-7".to_owned(),
            kind: "linger".to_owned(),
            status: TaskStatus::Running.into(),
            attempt: 2,
            worker: Some("w3".to_owned()),
            lease_token: Some(77),
            cancel_requested: true,
            ..Task::default()
        };
        let told = described(&task);
        for part in ["cancelled-7", "linger", "Running", "w3", "77", "cancel requested true"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }
}

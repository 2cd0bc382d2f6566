//! Samples: the answers of the API at one time, and the rates between two samples.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rota_client::{
    Client, ClientError,
    v1::{self, Cluster, Queue, Schedule, Task, Worker},
};
use tokio::time::timeout;

/// Time after which an answer counts as missing. A client would wait longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The answers at one time.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) cluster: Cluster,
    pub(super) queues: Vec<Queue>,
    pub(super) workers: Vec<Worker>,
    /// The newest failed tasks. Requested only while their pane is shown.
    pub(super) failures: Option<Vec<Task>>,
    /// The first schedules by name. Requested only while their pane is shown.
    pub(super) schedules: Option<Vec<Schedule>>,
    /// Whether there are more schedules.
    pub(super) has_more_schedules: bool,
}

/// What is requested for one pane only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extra {
    Nothing,
    Failures,
    Schedules,
}

/// Why the sample is incomplete, and the part that there is. Each node can describe the cluster, even when no
/// leader can describe the tasks.
#[derive(Debug, Clone)]
pub(super) struct Missing {
    pub(super) reason: String,
    pub(super) cluster: Option<Box<Cluster>>,
}

impl Sample {
    /// Requests everything that is shown. Takes at most [`PATIENCE`].
    pub(super) async fn take(client: &Client, extra: Extra) -> Result<Self, Missing> {
        let filter = v1::TaskFilter {
            statuses: vec![v1::TaskStatus::Failed.into()],
            ..v1::TaskFilter::default()
        };
        // A page of the server's default size: 50, or its limit if that is lower.
        let page = v1::ListTasksRequest { filter: Some(filter), ..v1::ListTasksRequest::default() };
        let failed = async {
            if extra != Extra::Failures {
                return Ok(None);
            }
            client.list_tasks(page).await.map(Some)
        };
        let schedules = async {
            if extra != Extra::Schedules {
                return Ok(None);
            }
            client.list_schedules(v1::ListSchedulesRequest::default()).await.map(Some)
        };
        let tasks = async {
            tokio::try_join!(client.all_queues(), client.all_workers(), failed, schedules)
        };
        let (cluster, tasks) =
            tokio::join!(within(client.get_cluster(v1::GetClusterRequest {})), within(tasks),);
        let (cluster, (queues, workers, failed, schedules)) = match (cluster, tasks) {
            (Ok(cluster), Ok(tasks)) => (cluster, tasks),
            (Ok(cluster), Err(reason)) => {
                return Err(Missing { reason, cluster: Some(Box::new(cluster)) });
            }
            (Err(reason), _) => return Err(Missing { reason, cluster: None }),
        };
        Ok(Self {
            at: Instant::now(),
            cluster,
            queues: queues.queues,
            workers: workers.workers,
            failures: failed.map(|page| page.tasks),
            has_more_schedules: schedules
                .as_ref()
                .is_some_and(|page| page.next_page_token.is_some()),
            schedules: schedules.map(|page| page.schedules),
        })
    }

    pub(super) fn sum(&self, count: impl Fn(&Queue) -> u64) -> u64 {
        self.queues.iter().map(count).sum()
    }
}

/// The answer, or why it is missing.
async fn within<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Tasks that ended, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) completed: f64,
    pub(super) failed: f64,
}

/// Rates between two samples, by queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    queues: BTreeMap<String, Rate>,
}

impl Rates {
    /// `None` if another node became the leader, because its totals start again.
    pub(super) fn between(before: &Sample, after: &Sample) -> Option<Self> {
        let seconds = after.at.saturating_duration_since(before.at).as_secs_f64();
        if before.cluster.epoch != after.cluster.epoch || seconds <= 0.0 {
            return None;
        }
        let known: BTreeMap<_, _> = before.queues.iter().map(|one| (&one.name, one)).collect();
        let rate = |queue: &Queue| {
            let was = known.get(&queue.name);
            #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
            let a_second = |now: u64, was: u64| now.saturating_sub(was) as f64 / seconds;
            Rate {
                completed: a_second(
                    queue.completed_total,
                    was.map_or(0, |was| was.completed_total),
                ),
                failed: a_second(queue.failed_total, was.map_or(0, |was| was.failed_total)),
            }
        };
        let rates = after.queues.iter().map(|queue| (queue.name.clone(), rate(queue)));
        Some(Self { queues: rates.collect() })
    }

    pub(super) fn of(&self, queue: &str) -> Rate {
        self.queues.get(queue).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> Rate {
        self.queues.values().fold(Rate::default(), |sum, rate| Rate {
            completed: sum.completed + rate.completed,
            failed: sum.failed + rate.failed,
        })
    }
}

//! How etcd is, asked when somebody wants to know.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use super::{
    Shared,
    answer::Patience,
    fault::Fault,
    layout,
    link::{Client, Effect, Link},
    wire::{StatusRequest, StatusResponse},
};
use crate::store::StoreStatus;

/// How long one member of etcd has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long who wants to know waits. The question goes on without them, so that a connection that
/// takes longer to make is there for the next one.
const LIMIT: Duration = Duration::from_millis(900);

/// The database is said to be full to its last free page when its file is so near to the quota:
/// then pages that are free within it no longer help.
const FILE_RESERVE: u64 = 16 * 1024 * 1024;

pub(super) async fn status(shared: &Arc<Shared>) -> StoreStatus {
    let mut status = StoreStatus {
        backend: "etcd",
        location: shared.options.location(),
        epoch: shared.epoch(),
        revision: shared.revision(),
        bytes_max: Some(shared.options.quota_bytes),
        ..StoreStatus::default()
    };
    if let Err(error) = shared.check_open() {
        status.problem = Some(error.to_string());
        return status;
    }
    let mut answer = shared.inquiry.put(shared);
    let answer = match timeout(LIMIT, answer.wait_for(Option::is_some)).await {
        Ok(Ok(answer)) => answer.clone(),
        // Nobody asks any more, or it takes too long.
        Ok(Err(_)) | Err(_) => None,
    };
    status.problem = match answer {
        Some(Ok(answer)) => {
            let quota = match layout::unsigned(answer.db_size_quota) {
                0 => shared.options.quota_bytes,
                told => told,
            };
            status.bytes_max = Some(quota);
            let used = bytes_used(&answer, quota);
            status.bytes_used = Some(used);
            status.pressure = (used >= quota / 5 * 4).then(|| {
                format!("etcd's database is near its quota: {used} of {quota} bytes are used")
            });
            problem(&answer).or_else(|| shared.trouble())
        }
        Some(Err(fault)) => Some(fault.reason()),
        None => Some(format!("etcd did not answer within {LIMIT:?}")),
    };
    status
}

/// The question that is being asked, which all share who want to know meanwhile.
#[derive(Default)]
pub(super) struct Inquiry(Mutex<Option<watch::Receiver<Answer>>>);

type Answer = Option<Result<StatusResponse, Fault>>;

impl Inquiry {
    fn put(&self, shared: &Arc<Shared>) -> watch::Receiver<Answer> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = |asked: &watch::Receiver<Answer>| {
            asked.borrow().is_none() && asked.has_changed().is_ok()
        };
        if let Some(asked) = current.as_ref().filter(|asked| pending(asked)) {
            return asked.clone();
        }
        let (answer, asked) = watch::channel(None);
        *current = Some(asked.clone());
        let shared = Arc::clone(shared);
        shared.clone().tasks.spawn(async move {
            let told = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                told = ask(&shared.status, PATIENCE) => told,
            };
            answer.send_replace(Some(told));
        });
        asked
    }
}

/// What the member says of itself to which the link goes.
pub(super) async fn ask(link: &Link, patience: Duration) -> Result<StatusResponse, Fault> {
    let request =
        |client: Client| async move { client.maintenance().status(StatusRequest {}).await };
    link.call_within(Patience::brief(patience), Effect::Harmless, request).await
}

/// Bytes of the database that count towards its quota.
pub(super) fn bytes_used(status: &StatusResponse, quota: u64) -> u64 {
    let file = layout::unsigned(status.db_size);
    let in_use = match layout::unsigned(status.db_size_in_use) {
        0 => file,
        told => told,
    };
    let full = file.saturating_add(FILE_RESERVE) >= quota && file >= quota / 2;
    if full { file.min(quota) } else { in_use.min(quota) }
}

fn problem(status: &StatusResponse) -> Option<String> {
    let errors = &status.errors;
    if errors.iter().any(|error| error.contains("NOSPACE")) {
        Some(
            "etcd is full (alarm NOSPACE): compact and defragment it or raise its quota, then \
             `etcdctl alarm disarm`"
                .to_owned(),
        )
    } else if !errors.is_empty() {
        Some(format!("etcd: {}", errors.join("; ")))
    } else if status.leader == 0 {
        Some("etcd has no leader".to_owned())
    } else {
        None
    }
}

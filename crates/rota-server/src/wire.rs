//! Maps types of the engine to the wire, except the definition of a task, which `definition` maps in both
//! directions, as well as the state of schedules. `schedule` has ticks and calendars.

mod event;
mod schedule;

use rota_core::{
    AttemptRecord, Failure, FailureReason, LeaseId, Millis, Name, Pause, QueueCounts, SessionView,
    Status, StopReason, Waiting, WallTime,
};
use rota_engine::{
    BulkOutcome, FailureGroup, Health, Info, LostBatches, StopOrder, StoreStatus, TaskView,
};
use rota_proto::{Date, TimeSpan, v1};

use crate::{failure::Failure as Refused, limits::Limits};

pub(crate) use event::{event, stream_message};
pub(crate) use schedule::{calendar, calendar_in_list, outcome_of, tick, tick_record};

pub(crate) fn date(at: WallTime) -> Date {
    Date {
        seconds: at.0.div_euclid(1000),
        nanos: i32::try_from(at.0.rem_euclid(1000) * 1_000_000).expect("below a second"),
    }
}

pub(crate) fn span(span: Millis) -> TimeSpan {
    span.as_duration().into()
}

pub(crate) fn bulk_outcome(outcome: BulkOutcome) -> v1::BulkTasksResponse {
    let refusal = outcome.refusal.map(Refused::from);
    let refusal = refusal.map(|refused| (refused.reason.to_string(), refused.detail));
    let (refusal_reason, refusal_message) = refusal.unzip();
    v1::BulkTasksResponse {
        changed: outcome.changed,
        skipped: outcome.skipped,
        refused: outcome.refused,
        refusal_reason,
        refusal_message,
        next_page_token: outcome.next.map(|next| next.before.to_string()),
        examined: u32::try_from(outcome.examined).unwrap_or(u32::MAX),
    }
}

pub(crate) fn status(status: Status) -> v1::TaskStatus {
    match status {
        Status::Scheduled => v1::TaskStatus::Scheduled,
        Status::Pending => v1::TaskStatus::Pending,
        Status::Assigned => v1::TaskStatus::Assigned,
        Status::Running => v1::TaskStatus::Running,
        Status::Completed => v1::TaskStatus::Completed,
        Status::Failed => v1::TaskStatus::Failed,
        Status::Cancelled => v1::TaskStatus::Cancelled,
        Status::Expired => v1::TaskStatus::Expired,
    }
}

pub(crate) fn failure(failure: &Failure) -> v1::TaskError {
    let reason = match failure.reason {
        FailureReason::Error => v1::FailureReason::Error,
        FailureReason::Permanent => v1::FailureReason::Permanent,
        FailureReason::Timeout => v1::FailureReason::Timeout,
        FailureReason::WorkerLost => v1::FailureReason::WorkerLost,
        FailureReason::Cancelled => v1::FailureReason::Cancelled,
        FailureReason::Expired => v1::FailureReason::Expired,
    };
    v1::TaskError { reason: reason.into(), message: failure.message.to_string() }
}

pub(crate) fn failure_group(group: FailureGroup) -> v1::FailureGroup {
    v1::FailureGroup {
        kind: group.kind.to_string(),
        error_fingerprint: group.fingerprint.to_string(),
        message: group.folded,
        sample: Some(failure(&group.sample)),
        queues: group.queues.iter().map(ToString::to_string).collect(),
        count: group.count,
        first_at: Some(date(group.first_at)),
        last_at: Some(date(group.last_at)),
        tasks: group.tasks,
    }
}

/// The number of tasks that start first, in words.
fn place(ahead: u64) -> String {
    match ahead {
        0 => "this task is next".to_owned(),
        1 => "1 task is ahead".to_owned(),
        more => format!("{more} tasks are ahead"),
    }
}

pub(crate) fn waiting(waiting: Waiting, view: &TaskView) -> v1::Waiting {
    use v1::waiting::Reason;
    let (queue, kind) = (&view.spec.definition.queue, &view.spec.definition.kind);
    let mut wire = v1::Waiting::default();
    let (reason, message) = match waiting {
        Waiting::DueLater { until: at } => {
            wire.until = Some(date(at));
            (Reason::DueLater, format!("due at {}", date(at)))
        }
        Waiting::BackingOff { attempt, until: at } => {
            wire.until = Some(date(at));
            wire.attempt = Some(attempt);
            let at = date(at);
            (Reason::BackingOff, format!("attempt {attempt} failed; next attempt at {at}"))
        }
        Waiting::Snoozed { attempt, until: at } => {
            wire.until = Some(date(at));
            wire.attempt = Some(attempt);
            let at = date(at);
            (Reason::Snoozed, format!("attempt {attempt} snoozed the task until {at}"))
        }
        Waiting::QueuePaused => (Reason::QueuePaused, format!("queue {queue} is paused")),
        Waiting::NoWorker => {
            let message = format!("no connected worker serves kind {kind} in queue {queue}");
            (Reason::NoWorker, message)
        }
        Waiting::SlotsBusy { ahead } => {
            wire.ahead = Some(ahead);
            let message = format!(
                "all slots of the workers that serve kind {kind} in queue {queue} are busy; {}",
                place(ahead)
            );
            (Reason::SlotsBusy, message)
        }
        Waiting::NotAsked { ahead } => {
            wire.ahead = Some(ahead);
            let message = format!(
                "workers that serve kind {kind} in queue {queue} have free slots but have not asked for \
                 tasks; {}",
                place(ahead)
            );
            (Reason::NotAsked, message)
        }
    };
    wire.reason = reason.into();
    wire.message = message;
    wire
}

fn attempt_outcome(record: &AttemptRecord) -> v1::AttemptOutcome {
    match record.failure.as_ref().map(|failure| failure.reason) {
        _ if record.ended_at.is_none() => v1::AttemptOutcome::Running,
        _ if record.snoozed_until.is_some() => v1::AttemptOutcome::Snoozed,
        None => v1::AttemptOutcome::Completed,
        Some(FailureReason::WorkerLost) => v1::AttemptOutcome::Lost,
        Some(FailureReason::Cancelled) => v1::AttemptOutcome::Cancelled,
        Some(
            FailureReason::Error
            | FailureReason::Permanent
            | FailureReason::Timeout
            | FailureReason::Expired,
        ) => v1::AttemptOutcome::Failed,
    }
}

pub(crate) fn attempt(record: AttemptRecord) -> v1::Attempt {
    v1::Attempt {
        outcome: attempt_outcome(&record).into(),
        until: record.snoozed_until.map(date),
        attempt: record.attempt,
        worker: record.worker.to_string(),
        assigned_at: Some(date(record.assigned_at)),
        started_at: record.started_at.map(date),
        ended_at: record.ended_at.map(date),
        error: record.failure.as_ref().map(failure),
        output_tail: record.output_tail,
        lease_token: record.token.0,
    }
}

pub(crate) fn queue(counts: &QueueCounts, now: WallTime) -> v1::Queue {
    v1::Queue {
        name: counts.name.to_string(),
        paused: counts.paused,
        scheduled: counts.scheduled,
        pending: counts.pending,
        running: counts.leased,
        created_total: counts.created_total,
        pause: counts.pause.as_deref().map(queue_pause),
        completed_total: counts.completed_total,
        failed_total: counts.failed_total,
        unreadable: counts.unreadable,
        oldest_pending_age: counts.oldest_pending.map(|since| span(now.since(since))),
    }
}

fn queue_pause(Pause { at, by, note, on_failure: _ }: &Pause) -> v1::QueuePause {
    v1::QueuePause { at: Some(date(*at)), by: by.to_string(), note: note.to_string() }
}

pub(crate) fn worker(view: &SessionView) -> v1::Worker {
    let names = |names: &[Name]| names.iter().map(ToString::to_string).collect();
    let task =
        |(id, client_keys): &(rota_core::TaskId, rota_core::ClientKeys)| match &client_keys.id {
            Some(name) => name.to_string(),
            None => id.to_string(),
        };
    v1::Worker {
        session: view.id.to_string(),
        name: view.worker.to_string(),
        slots: view.slots,
        slots_used: view.held,
        queues: names(&view.queues),
        kinds: names(&view.kinds),
        connected_at: Some(date(view.opened_at)),
        heartbeat_age: Some(span(view.heartbeat_age)),
        draining: view.draining,
        tasks: view.tasks.iter().map(task).collect(),
    }
}

pub(crate) fn lease(lease: &LeaseId) -> v1::Lease {
    v1::Lease { task_id: lease.task.to_string(), lease_token: lease.token.0 }
}

pub(crate) fn stop_reason(reason: StopReason) -> v1::stop::Reason {
    match reason {
        StopReason::Cancelled => v1::stop::Reason::Cancelled,
        StopReason::LeaseLost => v1::stop::Reason::LeaseLost,
        StopReason::Timeout => v1::stop::Reason::Timeout,
    }
}

/// An attempt that a worker without a stream must stop.
pub(crate) fn stop(order: StopOrder) -> v1::Stop {
    v1::Stop {
        task_id: order.task.to_string(),
        lease_token: order.token.0,
        reason: stop_reason(order.reason).into(),
        shown_id: order.shown_id,
    }
}

/// All problems on one line.
pub(crate) fn problem(health: &Health) -> Option<String> {
    let problems: Vec<String> = health
        .checks
        .iter()
        .filter_map(|check| Some(format!("{}: {}", check.name, check.problem.as_ref()?)))
        .collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

pub(crate) fn info(
    info: Info,
    store: StoreStatus,
    lost: Option<&LostBatches>,
    health: &Health,
    limits: &Limits,
) -> v1::ServerInfo {
    let named = limits.named().into_iter().chain(info.limits);
    v1::ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: info.node,
        leader: info.leader,
        epoch: info.epoch,
        store: store.backend.to_owned(),
        started_at: Some(date(info.started_at)),
        now: Some(date(info.now)),
        live_tasks: info.live_tasks,
        ready: health.is_ready(),
        problem: problem(health),
        feature_level: info.feature_level,
        cluster_feature_level: info.cluster_feature_level,
        limits: named.map(|(name, value)| (name.to_owned(), value)).collect(),
        store_weakness: store.weakness,
        store_lost: lost.map(loss),
        time_zone_rules: rota_cron::rules_version().to_owned(),
    }
}

pub(crate) fn loss(lost: &LostBatches) -> v1::StoreLoss {
    v1::StoreLoss {
        batches: lost.batches,
        since: lost.since.map(Into::into),
        maybe_more: lost.maybe_more,
    }
}

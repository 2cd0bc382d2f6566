//! Maps events to the wire.

use rota_core::WallTime;
use rota_engine::{Event, ScheduleFacts, Subject, TaskFacts, WorkerFacts};
use rota_proto::v1;

use super::{date, failure, schedule::outcome_of, status};

/// Maps an event.
pub(crate) fn event(event: &Event) -> v1::Event {
    let mut wire = v1::Event {
        id: event.id.to_string(),
        r#type: event.kind.as_str().to_owned(),
        time: Some(date(event.at)),
        ..v1::Event::default()
    };
    match &event.subject {
        Subject::Task(facts) => wire.task = Some(task(facts)),
        Subject::Queue(facts) => {
            wire.queue = Some(v1::QueueEvent { name: facts.queue.to_string() });
        }
        Subject::Worker(WorkerFacts { worker, session, tasks }) => {
            wire.worker = Some(v1::WorkerEvent {
                name: worker.to_string(),
                session: session.to_string(),
                tasks: *tasks,
            });
        }
        Subject::Schedule(facts) => wire.schedule = Some(schedule(facts)),
    }
    wire
}

/// A message about the stream itself.
pub(crate) fn stream_message(
    id: String,
    kind: &str,
    reason: Option<&str>,
    now: WallTime,
) -> v1::Event {
    v1::Event {
        id,
        r#type: kind.to_owned(),
        time: Some(date(now)),
        reason: reason.map(ToOwned::to_owned),
        ..v1::Event::default()
    }
}

fn task(facts: &TaskFacts) -> v1::TaskEvent {
    let labels = facts.spec.iter().flat_map(|spec| &spec.labels);
    v1::TaskEvent {
        id: facts.shown_id(),
        queue: facts.queue.to_string(),
        kind: facts.kind.to_string(),
        status: status(facts.status).into(),
        priority: facts.priority.into(),
        attempt: facts.attempt,
        run_at: Some(date(facts.run_at)),
        worker: facts.worker.as_ref().map(ToString::to_string),
        finished_at: facts.finished_at.map(date),
        error: facts.failure.as_ref().map(failure),
        has_result: facts.has_result,
        schedule: facts.schedule().map(ToOwned::to_owned),
        labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

fn schedule(facts: &ScheduleFacts) -> v1::ScheduleEvent {
    let ScheduleFacts { schedule, version, tick } = facts;
    let mut wire = v1::ScheduleEvent {
        name: schedule.to_string(),
        version: *version,
        ..v1::ScheduleEvent::default()
    };
    if let Some(tick) = tick {
        let (outcome, reason) = outcome_of(tick.outcome);
        wire.nominal_time = Some(date(tick.nominal));
        wire.outcome = Some(outcome.into());
        wire.reason = reason.map(Into::into);
        wire.task_id = tick.task.as_ref().map(ToString::to_string);
    }
    wire
}

//! One attempt: runs a handler, and ends it when it must end.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt;
use rota_proto::v1::{self, report::Outcome as Wire};
use rota_trace::{Role, Span, TraceContext, Tracer};
use tokio::sync::mpsc;
use tracing::{debug, field::debug, info};

use crate::{
    context::{StopReason, TaskContext},
    event::Event,
    handler::{Again, Handler, HandlerError, HandlerResult},
};

/// A handler that is told to stop gets so long to do so before it is dropped. Shorter than what the
/// server grants the worker.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);

/// Runs the handler and says how it went.
pub(crate) async fn run(
    handler: Handler,
    context: TaskContext,
    payload: Bytes,
    events: mpsc::UnboundedSender<Event>,
    span: Option<Span>,
    started_at: SystemTime,
) {
    let _guard = ReportOnDrop { context: &context, started_at, events: &events };
    let (task, queue, attempt) = (context.task_id(), context.queue(), context.attempt());
    debug!(task, queue, kind = context.kind(), attempt, "started");
    let outcome = supervise(handler, &context, payload).await;
    if let Some(span) = span {
        end(span, &outcome, context.stop_reason());
    }
    say(&context, started_at, outcome, &events);
}

fn say(
    context: &TaskContext,
    started_at: SystemTime,
    outcome: HandlerResult,
    events: &mpsc::UnboundedSender<Event>,
) {
    note(context, &outcome);
    let (outcome, output_tail) = report(outcome, context.stop_reason());
    let dispatch = context.dispatch();
    let report = v1::Report {
        task_id: dispatch.task_id.clone(),
        lease_token: dispatch.lease_token,
        outcome,
        started_at: Some(started_at.into()),
        output_tail,
    };
    // The session outlives its attempts, unless the worker was dropped.
    let _ = events.send(Event::Ended(report));
}

/// A handler can panic where nobody catches it: when it is dropped. Without a word of its end it
/// would hold its slot for ever.
struct ReportOnDrop<'a> {
    context: &'a TaskContext,
    started_at: SystemTime,
    events: &'a mpsc::UnboundedSender<Event>,
}

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        // Dropped without a panic: the runtime ends, and the worker with it.
        if std::thread::panicking() {
            let error = HandlerError::new("the handler panicked when it was dropped");
            say(self.context, self.started_at, Err(error), self.events);
        }
    }
}

/// One line of the log on how it went.
fn note(context: &TaskContext, outcome: &HandlerResult) {
    let (task, queue, attempt) = (context.task_id(), context.queue(), context.attempt());
    let kind = context.kind();
    match outcome {
        Ok(_) => debug!(task, queue, kind, attempt, "done"),
        Err(error) => {
            let (error, stopped) = (&error.message, context.stop_reason().map(debug));
            info!(task, queue, kind, attempt, stopped, error, "an attempt did not succeed");
        }
    }
}

/// Begins the span of an attempt, and says what the handler belongs under. Only for a task that
/// belongs to a trace: nobody asked to see the others.
pub(crate) fn span(
    tracer: &Tracer,
    task: &v1::Dispatch,
    worker: &str,
) -> (Option<TraceContext>, Option<Span>) {
    let Some(parent) = TraceContext::parse(task.traceparent(), task.tracestate()) else {
        return (None, None);
    };
    let Some(mut span) = tracer.start("attempt", Role::Attempt, Some(&parent), SystemTime::now())
    else {
        return (Some(parent), None);
    };
    span.note_task(Some(&task.shown_id), &task.queue, &task.kind);
    span.note("rota.worker", worker);
    span.note_number("rota.attempt", task.attempt.into());
    (Some(span.context()), Some(span))
}

fn end(mut span: Span, outcome: &HandlerResult, stopped: Option<StopReason>) {
    if let Some(reason) = stopped {
        span.note("rota.stopped", &format!("{reason:?}"));
    }
    match (outcome, stopped) {
        // Neither is a mistake of the handler's, nor of anybody's.
        (Ok(_), _) | (Err(_), Some(StopReason::Cancelled | StopReason::Draining)) => {}
        (Err(_), Some(StopReason::Timeout)) => {
            span.fail("timeout", "it took longer than its timeout");
        }
        (Err(_), Some(StopReason::LeaseLost)) => {
            span.fail("lease_lost", "its lease was lost");
        }
        (Err(error), None) => {
            let sort = if error.again == Again::Never { "permanent" } else { "error" };
            span.fail(sort, &error.message);
        }
    }
    span.end();
}

/// Drives the handler to its end, at the latest a grace after it was told to stop.
async fn supervise(handler: Handler, context: &TaskContext, payload: Bytes) -> HandlerResult {
    let timeout = context.timeout();
    let call = std::panic::catch_unwind(AssertUnwindSafe(|| handler(context.clone(), payload)));
    let Ok(call) = call else { return Err(HandlerError::new("the handler panicked")) };
    let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
    let ended = tokio::select! {
        biased;
        // Done is done, though it should have stopped.
        ended = &mut call => Some(ended),
        _ = context.stopped() => None,
        () = tokio::time::sleep(timeout) => {
            context.stop(StopReason::Timeout);
            None
        }
    };
    let ended = match ended {
        Some(ended) => Some(ended),
        None => tokio::time::timeout(STOP_GRACE, call).await.ok(),
    };
    match ended {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => Err(HandlerError::new(panic_message(panic.as_ref()))),
        None => Err(HandlerError::new("the handler did not stop when told to and was dropped")),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the handler panicked: {}", words.unwrap_or("without words"))
}

/// What the server is told; `None`: nothing, for the lease is over.
fn report(outcome: HandlerResult, stopped: Option<StopReason>) -> (Option<Wire>, Bytes) {
    if stopped == Some(StopReason::LeaseLost) {
        return (None, Bytes::new());
    }
    let error = match outcome {
        // It was done before it noticed that it should stop: done is done.
        Ok(done) => {
            return (
                Some(Wire::Completed(v1::Completed { result: done.result })),
                done.output_tail,
            );
        }
        Err(error) => error,
    };
    let failed = |reason: v1::FailureReason, message: String, again: Again| {
        let retry_at = if let Again::At(at) = again { Some(at.into()) } else { None };
        Wire::Failed(v1::Failed { reason: reason.into(), message, retry_at })
    };
    let wire = match stopped {
        Some(StopReason::Cancelled) => Wire::Cancelled(v1::Cancelled {}),
        Some(StopReason::Draining) => Wire::Released(v1::Released {}),
        Some(StopReason::Timeout) => {
            let message = format!("the attempt took longer than its timeout ({})", error.message);
            failed(v1::FailureReason::Timeout, message, Again::ByPolicy)
        }
        Some(StopReason::LeaseLost) | None => {
            let reason = match error.again {
                Again::Snoozed(delay) => {
                    let snoozed = v1::Snoozed { until: None, delay: Some(delay.into()) };
                    return (Some(Wire::Snoozed(snoozed)), error.output_tail);
                }
                Again::Never => v1::FailureReason::Permanent,
                Again::ByPolicy | Again::At(_) => v1::FailureReason::Error,
            };
            failed(reason, error.message, error.again)
        }
    };
    (Some(wire), error.output_tail)
}

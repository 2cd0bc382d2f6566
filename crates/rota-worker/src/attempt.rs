//! Runs a handler for one attempt, and ends it at a timeout or a request to stop.

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

/// Time for a handler to stop before it is dropped. Shorter than the time that the server grants the worker.
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(8);

/// Runs the handler, and returns the outcome.
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
    debug!(task, queue, kind = context.kind(), attempt, "attempt started");
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
    let (outcome, own) = report(outcome, context.stop_reason());
    let (output_tail, output_bytes) = output_of(context, own);
    let dispatch = context.dispatch();
    let report = v1::Report {
        task_id: dispatch.task_id.clone(),
        lease_token: dispatch.lease_token,
        outcome,
        started_at: Some(started_at.into()),
        output_tail,
        output_bytes,
    };
    // The session outlives its attempts, unless the worker was dropped.
    let _ = events.send(Event::Ended(report));
}

/// The end of the output of an attempt, and the number of bytes that were written. `own` is what the handler
/// returned: the end of the output that it has logged, or something that follows it.
fn output_of(context: &TaskContext, own: Bytes) -> (Bytes, Option<u64>) {
    let logged = context.output();
    if logged.written() == 0 {
        return (own, None);
    }
    if !own.is_empty() && own != logged.tail() {
        logged.add(&own);
    }
    (logged.tail(), Some(logged.written()))
}

/// Reports the end of an attempt whose handler panics when it is dropped. Nothing catches that panic, and
/// without a report the attempt would hold its slot forever.
struct ReportOnDrop<'a> {
    context: &'a TaskContext,
    started_at: SystemTime,
    events: &'a mpsc::UnboundedSender<Event>,
}

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        // Dropped without a panic: the runtime is shutting down, and so is the worker.
        if std::thread::panicking() {
            let error = HandlerError::new("the handler panicked when it was dropped");
            say(self.context, self.started_at, Err(error), self.events);
        }
    }
}

/// Logs the outcome.
fn note(context: &TaskContext, outcome: &HandlerResult) {
    let (task, queue, attempt) = (context.task_id(), context.queue(), context.attempt());
    let kind = context.kind();
    match outcome {
        Ok(_) => debug!(task, queue, kind, attempt, "done"),
        Err(error) => {
            let (error, stopped) = (&error.message, context.stop_reason().map(debug));
            info!(task, queue, kind, attempt, stopped, error, "attempt failed");
        }
    }
}

/// Begins the span of an attempt, and returns the trace context for the handler. Only for tasks that belong
/// to a trace.
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
        // Neither of these is an error.
        (Ok(_), _) | (Err(_), Some(StopReason::Cancelled | StopReason::Draining)) => {}
        (Err(_), Some(StopReason::Timeout)) => {
            span.fail("timeout", "the attempt exceeded its timeout");
        }
        (Err(_), Some(StopReason::LeaseLost)) => {
            span.fail("lease_lost", "the lease was lost");
        }
        (Err(error), None) => {
            let sort = if error.again == Again::Never { "permanent" } else { "error" };
            span.fail(sort, &error.message);
        }
    }
    span.end();
}

/// Runs the handler to its end, or until a grace period after a request to stop.
async fn supervise(handler: Handler, context: &TaskContext, payload: Bytes) -> HandlerResult {
    let timeout = context.timeout();
    let call = std::panic::catch_unwind(AssertUnwindSafe(|| handler(context.clone(), payload)));
    let Ok(call) = call else { return Err(HandlerError::new("the handler panicked")) };
    let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
    let ended = tokio::select! {
        biased;
        // The handler finished although it should have stopped. Its outcome counts.
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
        None => Err(HandlerError::new(
            "the handler did not stop within the grace period and was dropped",
        )),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the handler panicked: {}", words.unwrap_or("no message"))
}

/// The report to the server. `None` if the lease has ended.
fn report(outcome: HandlerResult, stopped: Option<StopReason>) -> (Option<Wire>, Bytes) {
    if stopped == Some(StopReason::LeaseLost) {
        return (None, Bytes::new());
    }
    let error = match outcome {
        // It finished before it noticed the request to stop. Its outcome counts.
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
            let message = format!("the attempt exceeded its timeout ({})", error.message);
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

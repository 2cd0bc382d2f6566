//! Traces: reads the trace context of requests, which is stored with the task, and writes the spans of a
//! node: `submit` for each submission, `tick` for each task that a schedule creates, `wait` for each wait for a
//! worker.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use rota_core::{TaskSpec, Trace, WallTime, nominal_text};
use rota_engine::{Dispatched, LeftOut, NewTask, TickTraces};
use rota_trace::{Role, Span, TraceContext, Tracer};

/// The trace context of a request.
pub(crate) fn of_headers(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get("traceparent")?.to_str().ok()?;
    let states = headers.get_all("tracestate").iter().filter_map(as_text);
    TraceContext::parse(parent, &states.collect::<Vec<_>>().join(","))
}

fn as_text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// A trace context in its stored form.
pub(crate) fn kept(trace: &TraceContext) -> Box<Trace> {
    Box::new(Trace { parent: trace.traceparent().into(), state: trace.tracestate().into() })
}

/// Begins the traces of tasks that schedules create.
#[derive(Debug)]
pub struct TickSpans(Tracer);

impl TickSpans {
    /// `None` if the tracer writes no spans. Then such tasks belong to no trace.
    #[must_use]
    pub fn new(tracer: Tracer) -> Option<Self> {
        tracer.is_on().then_some(Self(tracer))
    }
}

impl TickTraces for TickSpans {
    fn begin(&self, task: &TaskSpec) -> Option<(Trace, Box<dyn FnOnce() + Send>)> {
        let tick = task.tick.as_deref()?;
        let mut span = self.0.start("tick", Role::Submit, None, date(task.created_at))?;
        span.note_task(Some(&task.shown_id()), &task.definition.queue, &task.definition.kind);
        span.note("rota.schedule", &tick.schedule);
        if let Some(nominal) = tick.nominal {
            span.note("rota.nominal_time", &nominal_text(nominal));
        }
        let trace = kept(&span.context());
        let span = UntilDurable(Some(span));
        Some((*trace, Box::new(move || span.end())))
    }
}

/// A span that has failed unless it is ended.
struct UntilDurable(Option<Span>);

impl UntilDurable {
    fn end(mut self) {
        if let Some(span) = self.0.take() {
            span.end();
        }
    }
}

impl Drop for UntilDurable {
    fn drop(&mut self) {
        if let Some(mut span) = self.0.take() {
            span.fail(
                "leadership_lost",
                "the leader was lost before the task was known to be durable",
            );
            span.end();
        }
    }
}

/// Adds the submitted tasks to the span of a submission.
pub(crate) fn describe(span: &mut Span, tasks: &[(NewTask, LeftOut)]) {
    span.note_number("rota.tasks", tasks.len() as u64);
    if let Some((first, _)) = tasks.first() {
        span.note_task(None, &first.definition.queue, &first.definition.kind);
    }
}

/// Writes the span of a wait for a worker: from the due time until the dispatch, which is now.
pub(crate) fn waited(tracer: &Tracer, task: &Dispatched) {
    let Some(trace) = task.spec.definition.trace.as_deref().filter(|_| tracer.is_on()) else {
        return;
    };
    let Some(above) = TraceContext::parse(&trace.parent, &trace.state) else { return };
    // A due time before the creation counts from the creation.
    let since = date(task.run_at.max(task.spec.created_at));
    let Some(mut span) = tracer.start("wait", Role::Internal, Some(&above), since) else { return };
    span.note_task(
        Some(&task.spec.shown_id()),
        &task.spec.definition.queue,
        &task.spec.definition.kind,
    );
    span.note_number("rota.attempt", task.attempt.into());
    span.end();
}

fn date(at: WallTime) -> SystemTime {
    let since = u64::try_from(at.0).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_says_nothing_readable_belongs_nowhere() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = |parent: &[u8], states: &[&'static str]| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_bytes(parent).unwrap());
            for state in states {
                headers.append("tracestate", HeaderValue::from_static(state));
            }
            headers
        };
        let context = of_headers(&headers(parent.as_bytes(), &["a=1", "b=2"])).unwrap();
        assert_eq!((context.traceparent(), context.tracestate()), (parent.to_owned(), "a=1,b=2"));
        assert!(of_headers(&HeaderMap::new()).is_none());
        assert!(of_headers(&headers(b"\xff", &[])).is_none());
        assert!(of_headers(&headers(b"nonsense", &[])).is_none());
    }
}

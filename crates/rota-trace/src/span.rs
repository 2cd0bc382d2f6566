//! Spans, if they are collected.

use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    global::{BoxedSpan, BoxedTracer},
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
        TraceId, TraceState, Tracer as _,
    },
};

use crate::{
    Role, TraceContext,
    context::{FLAGS_KNOWN, checked},
};

/// Writes spans. Off by default; then it costs only the check of a pointer.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<BoxedTracer>>);

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// A tracer that writes spans.
    #[must_use]
    pub fn new(tracer: BoxedTracer) -> Self {
        Self(Some(Arc::new(tracer)))
    }

    /// Whether it writes spans.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span at this time, under `parent` or as the root of a trace. `None` if it would not be
    /// recorded, because this is off or the trace is not sampled.
    #[must_use]
    pub fn start(
        &self,
        name: &'static str,
        role: Role,
        parent: Option<&TraceContext>,
        at: SystemTime,
    ) -> Option<Span> {
        let tracer = self.0.as_deref()?;
        let kind = match role {
            Role::Submit => SpanKind::Producer,
            Role::Internal => SpanKind::Internal,
            Role::Attempt => SpanKind::Consumer,
        };
        let above = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.remote()),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_start_time(at);
        let mut span = tracer.build_with_context(builder, &above);
        let operation = match role {
            Role::Submit => Some("send"),
            Role::Internal => None,
            Role::Attempt => Some("process"),
        };
        if let Some(operation) = operation {
            span.set_attribute(KeyValue::new("messaging.operation.type", operation));
        }
        span.is_recording().then(|| Span(span))
    }
}

/// A started span. It ends when it is dropped, at the latest.
pub struct Span(BoxedSpan);

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context()).finish()
    }
}

impl Span {
    /// The trace context for child spans.
    #[must_use]
    pub fn context(&self) -> TraceContext {
        TraceContext::of(self.0.span_context())
    }

    /// Sets the attributes of the task, in Rota's names and those of OpenTelemetry's conventions for
    /// messaging. A span of several tasks has no id.
    pub fn note_task(&mut self, id: Option<&str>, queue: &str, kind: &str) {
        self.note("rota.queue", queue);
        self.note("rota.kind", kind);
        self.note("messaging.system", "rota");
        self.note("messaging.destination.name", queue);
        if let Some(id) = id {
            self.note("rota.task.id", id);
            self.note("messaging.message.id", id);
        }
    }

    /// Sets an attribute.
    pub fn note(&mut self, key: &'static str, value: &str) {
        self.0.set_attribute(KeyValue::new(key, value.to_owned()));
    }

    /// Sets a numeric attribute.
    pub fn note_number(&mut self, key: &'static str, value: u64) {
        self.0.set_attribute(KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX)));
    }

    /// Marks it as failed, with the type of the error and its message.
    pub fn fail(&mut self, sort: &'static str, reason: &str) {
        self.note("error.type", sort);
        self.0.set_status(Status::error(reason.to_owned()));
    }

    /// Ends it now.
    pub fn end(mut self) {
        self.0.end();
    }
}

/// The same context in types of OpenTelemetry.
impl TraceContext {
    pub(crate) fn of(span: &SpanContext) -> Self {
        Self {
            trace: u128::from_be_bytes(span.trace_id().to_bytes()),
            span: u64::from_be_bytes(span.span_id().to_bytes()),
            flags: span.trace_flags().to_u8() & FLAGS_KNOWN,
            state: checked(&span.trace_state().header()),
        }
    }

    pub(crate) fn remote(&self) -> SpanContext {
        SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::from_str(&self.state).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    use super::*;

    fn rig() -> (InMemorySpanExporter, Tracer) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        (exporter, Tracer::new(BoxedTracer::new(Box::new(provider.tracer("rota")))))
    }

    fn parent(flags: &str) -> TraceContext {
        let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        TraceContext::parse(&text, "k=v").expect("a context")
    }

    #[test]
    fn a_span_is_written_under_its_parent_and_names_the_next() {
        let (exporter, tracer) = rig();
        let parent = parent("01");
        let mut span = tracer
            .start("wait", Role::Internal, Some(&parent), SystemTime::now())
            .expect("sampled");
        span.note("rota.queue", "q");
        span.fail("sort", "why");
        let context = span.context();
        span.end();
        let [written] = &exporter.get_finished_spans().expect("spans")[..] else {
            panic!("one span")
        };
        assert_eq!(written.parent_span_id.to_string(), "b7ad6b7169203331");
        let next =
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", written.span_context.span_id());
        assert_eq!((context.traceparent(), context.tracestate()), (next, "k=v"));
        assert_eq!(written.status, Status::error("why"));
    }

    #[test]
    fn what_is_off_or_not_sampled_writes_nothing() {
        let (exporter, tracer) = rig();
        let now = SystemTime::now();
        assert!(tracer.start("wait", Role::Internal, Some(&parent("00")), now).is_none());
        assert!(Tracer::default().start("wait", Role::Submit, None, now).is_none());
        assert!(exporter.get_finished_spans().expect("spans").is_empty());
        assert!(tracer.start("submit", Role::Submit, None, now).is_some(), "a trace of its own");
    }
}

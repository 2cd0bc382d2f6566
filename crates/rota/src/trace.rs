//! Sends spans to a collector by OTLP, if one is configured.
//!
//! It follows the standard variables of OpenTelemetry: `OTEL_EXPORTER_OTLP_ENDPOINT` and the related ones set
//! the collector and the protocol, `OTEL_TRACES_SAMPLER` the sampling, `OTEL_SERVICE_NAME` and
//! `OTEL_RESOURCE_ATTRIBUTES` the resource; `OTEL_SDK_DISABLED` and `OTEL_TRACES_EXPORTER` turn it off.

use std::time::Duration;

use opentelemetry::{KeyValue, global::BoxedTracer, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use rota_trace::Tracer;
use tracing::{info, warn};

use crate::{config::Settings, exit::Failure};

const PLAIN: &str = "http://";

/// Time to send the remaining spans when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(5);

/// The traces of this process. Call [`Traces::end`] to send the last spans.
pub(crate) struct Traces {
    provider: Option<SdkTracerProvider>,
}

/// Starts sending spans if the settings or the environment name a collector. `service` is `rota-node` or
/// `rota-worker`, `name` the name of the node or worker. Connects with the first spans. Needs a tokio
/// runtime.
///
/// # Errors
/// When the address is invalid.
pub(crate) fn start(
    settings: &Settings,
    service: &'static str,
    name: &str,
) -> Result<Traces, Failure> {
    let set = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let configured = Some(settings.text("otlp_endpoint")).filter(|endpoint| !endpoint.is_empty());
    let standard =
        set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    let disabled = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value != "otlp");
    // The environment is meant for all programs, so an unusable value is not an error.
    let standard = standard.filter(|endpoint| {
        let protocol = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let protocol = protocol.into_iter().find_map(set).unwrap_or_else(|| "grpc".to_owned());
        let usable = protocol == "grpc" && endpoint.starts_with(PLAIN);
        if !usable && configured.is_none() && !disabled {
            warn!(
                endpoint,
                protocol,
                "not sending traces: only the protocol grpc to an http:// endpoint is supported"
            );
        }
        usable
    });
    let Some(endpoint) = configured.map(str::to_owned).or(standard).filter(|_| !disabled) else {
        return Ok(Traces { provider: None });
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("otlp_endpoint = {endpoint:?}: {error}"))
            .hint("use the gRPC port of a collector, such as http://127.0.0.1:4317")
    };
    if !endpoint.starts_with(PLAIN) {
        return Err(wrong(&"must begin with http://"));
    }
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint.clone()).build();
    let exporter = exporter.map_err(|error| wrong(&error))?;
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.instance.id", name.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    if set("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service);
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    info!(endpoint, "sending traces");
    Ok(Traces { provider: Some(provider) })
}

impl Traces {
    /// The tracer. It does nothing without a collector.
    pub(crate) fn tracer(&self) -> Tracer {
        self.provider.as_ref().map_or_else(Tracer::default, |provider| {
            Tracer::new(BoxedTracer::new(Box::new(provider.tracer("rota"))))
        })
    }

    /// Sends the remaining spans. Waits up to 5 s.
    pub(crate) async fn end(self) {
        let Some(provider) = self.provider else { return };
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS)).await;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the last spans may not have been sent"),
            Err(error) => warn!(%error, "sending the last spans failed"),
        }
    }
}

//! The exposition formats of metrics.

use prometheus_client::{
    encoding::{prometheus_protobuf, text},
    registry::Registry,
};

/// An exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics text, which people can read, too.
    Text,
    /// Protobuf messages of Prometheus, the only format with native histograms.
    Protobuf,
}

/// Exposed metrics.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// Value of the header `content-type`.
    pub content_type: &'static str,
    /// Body of the answer.
    pub body: Vec<u8>,
}

impl Format {
    /// The format for a client with this header `accept`: protobuf if it is listed first, as Prometheus does
    /// if it stores native histograms; otherwise text.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let first = accept.and_then(|accept| accept.split(',').next()).unwrap_or_default();
        let mut parts = first.split(';').map(str::trim);
        let protobuf = parts.next() == Some("application/vnd.google.protobuf")
            && parts.any(|part| part == "proto=io.prometheus.client.MetricFamily");
        if protobuf { Self::Protobuf } else { Self::Text }
    }
}

/// Writes all metrics of a registry. Writing to memory fails only if a metric does not match its type; then
/// the answer is empty.
pub(crate) fn write(registry: &Registry, format: Format) -> Exposition {
    match format {
        Format::Text => {
            let mut body = String::new();
            let written = text::encode(&mut body, registry);
            debug_assert!(written.is_ok(), "every metric can be written");
            Exposition {
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body: body.into_bytes(),
            }
        }
        Format::Protobuf => Exposition {
            content_type: "application/vnd.google.protobuf; \
                           proto=io.prometheus.client.MetricFamily; encoding=delimited",
            body: prometheus_protobuf::encode_to_vec(registry).unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_only_where_it_is_asked_for_first() {
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                      encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8";
        assert_eq!(Format::accepted(Some(native)), Format::Protobuf);
        let text = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        for accept in [None, Some(""), Some("*/*"), Some(text)] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept:?}");
        }
        assert_eq!(Format::accepted(Some("application/vnd.google.protobuf")), Format::Text);
    }
}

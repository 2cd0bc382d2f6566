//! The formats in which metrics are shown.

use prometheus_client::{
    encoding::{prometheus_protobuf, text},
    registry::Registry,
};

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics text, which people can read too.
    Text,
    /// Prometheus' protobuf messages: the only format that carries native histograms.
    Protobuf,
}

/// Metrics as they were.
#[derive(Debug, Clone)]
pub struct Exposition {
    /// The value of the header `content-type`.
    pub content_type: &'static str,
    /// What it announces.
    pub body: Vec<u8>,
}

impl Format {
    /// The format for a client that sends this header `accept`: protobuf where it is named first,
    /// as Prometheus does when it is to store native histograms; else text.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let first = accept.and_then(|accept| accept.split(',').next()).unwrap_or_default();
        let mut parts = first.split(';').map(str::trim);
        let protobuf = parts.next() == Some("application/vnd.google.protobuf")
            && parts.any(|part| part == "proto=io.prometheus.client.MetricFamily");
        if protobuf { Self::Protobuf } else { Self::Text }
    }
}

/// Writes all that a registry holds. Writing to memory fails only where a metric is not what its
/// type says; then the answer is empty.
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

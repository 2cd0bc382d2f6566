//! Counts requests by route and code. The number of label values is bounded: routes come from the table of
//! operations, and everything else is `other`.

use std::time::Duration;

use axum::body::Body;
use http::{HeaderMap, Response};
use rota_metrics::{ApiCall, NodeMetrics};
use tonic::Code;

use crate::protocol::Asked;

/// Counts the answer to a request.
pub(crate) fn record(
    metrics: &NodeMetrics,
    asked: &Asked,
    response: &Response<Body>,
    took: Duration,
) {
    let status = response.status();
    let code = if asked.is_grpc { grpc_code(response.headers()) } else { String::new() };
    metrics.answered(ApiCall {
        protocol: if asked.is_grpc { "grpc" } else { "rest" },
        route: asked.template,
        code: if asked.is_grpc { &code } else { status.as_str() },
        took: (!asked.is_stream()).then_some(took),
    });
}

/// The gRPC code from the headers of an answer. An answer without a status there has not failed.
fn grpc_code(headers: &HeaderMap) -> String {
    let code =
        headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names() {
        let mut headers = HeaderMap::new();
        assert_eq!(grpc_code(&headers), "Ok");
        headers.insert("grpc-status", "5".parse().expect("a value"));
        assert_eq!(grpc_code(&headers), "NotFound");
        headers.insert("grpc-status", "made up".parse().expect("a value"));
        assert_eq!(grpc_code(&headers), "Unknown");
    }
}

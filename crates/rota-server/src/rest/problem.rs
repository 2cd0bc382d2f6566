//! Errors as RFC 9457 problem documents.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rota_proto::json::ExceededLimit;
use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::{Failure, LEADER_LOST, LimitName, Reason, Violation, leader_lost};

/// A problem document (RFC 9457), `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Type of the problem: `urn:rota:problem:` and the reason.
    #[serde(rename = "type")]
    #[schema(example = "urn:rota:problem:invalid")]
    kind: String,
    /// Title of the type, for people.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// Description of this error, for people.
    detail: String,
    /// Stable reason, for programs.
    #[schema(example = "invalid")]
    reason: &'static str,
    /// Fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
}

/// An error of a field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// Path of the field in the request.
    #[schema(example = "retry.max_attempts")]
    field: String,
    /// Error message, for people.
    message: String,
    /// Limit that the field exceeds, if it exceeds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<ExceededLimit>,
}

impl From<LimitName> for ExceededLimit {
    fn from(LimitName { name, max }: LimitName) -> Self {
        Self { name: name.into(), max }
    }
}

impl From<Violation> for FieldProblem {
    fn from(violation: Violation) -> Self {
        let limit = violation.limit.map(Into::into);
        Self { field: violation.field, message: violation.message, limit }
    }
}

/// The problem document of a failure, as JSON.
fn document(failure: Failure) -> Vec<u8> {
    let reason = failure.reason;
    let problem = Problem {
        kind: format!("urn:rota:problem:{reason}"),
        title: reason.title(),
        status: reason.status(),
        detail: failure.detail,
        reason: reason.as_str(),
        errors: failure.violations.into_iter().map(Into::into).collect(),
    };
    serde_json::to_vec(&problem).expect("a problem document is valid JSON")
}

fn response(failure: Failure) -> Response {
    let (reason, retry) = (failure.reason, failure.retry_seconds());
    let status = StatusCode::from_u16(reason.status()).expect("a status from the table");
    let mut response = (status, document(failure)).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, kind);
    if let Some(seconds) = retry {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(lost) = leader_lost(reason) {
        headers.insert(LEADER_LOST, HeaderValue::from_static(lost));
    }
    if reason == Reason::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The complete answer for a connection beyond the limit, as bytes to write.
pub(crate) fn too_many_connections(max: usize) -> Vec<u8> {
    let violation = Violation {
        field: "connection".to_owned(),
        message: "exceeds the limit on open connections".to_owned(),
        limit: Some(LimitName { name: "connections", max: max as u64 }),
    };
    whole_answer(Failure {
        violations: vec![violation],
        retry_after: Some(Duration::from_secs(1)),
        ..Failure::new(
            Reason::Unavailable,
            format!("the server has {max} open connections, which is the limit"),
        )
    })
}

/// A complete HTTP/1 answer as bytes to write. It is the last of its connection.
pub(crate) fn whole_answer(failure: Failure) -> Vec<u8> {
    let answer = response(failure.clone());
    let body = document(failure);
    let mut text = format!("HTTP/1.1 {}\r\n", answer.status());
    for (name, value) in answer.headers() {
        if let (true, Ok(value)) = (name != header::CONTENT_LENGTH, value.to_str()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    let mut answer = text.into_bytes();
    answer.extend(body);
    answer
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        response(self)
    }
}

pub(crate) async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Failure::new(Reason::NotFound, format!("no such path: {path}; see /docs"))
}

pub(crate) async fn method_not_allowed() -> Failure {
    Failure::new(Reason::MethodNotAllowed, "this path does not support this method; see /docs")
}

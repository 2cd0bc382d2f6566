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
    /// Names the class of problem: `urn:rota:problem:` and the reason.
    #[serde(rename = "type")]
    #[schema(example = "urn:rota:problem:invalid")]
    kind: String,
    /// The class in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This case in words.
    detail: String,
    /// A stable word for the class.
    #[schema(example = "invalid")]
    reason: &'static str,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
}

/// Something wrong with one field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FieldProblem {
    /// Path of the field in the request.
    #[schema(example = "retry.max_attempts")]
    field: String,
    /// What is wrong.
    message: String,
    /// The limit that it exceeds, where that is what is wrong.
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
    serde_json::to_vec(&problem).expect("a problem is always JSON")
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

/// A whole answer for a connection that is one too many, to be written as it is.
pub(crate) fn too_many_connections(max: usize) -> Vec<u8> {
    let violation = Violation {
        field: "connection".to_owned(),
        message: "is one too many".to_owned(),
        limit: Some(LimitName { name: "connections", max: max as u64 }),
    };
    whole_answer(Failure {
        violations: vec![violation],
        retry_after: Some(Duration::from_secs(1)),
        ..Failure::new(Reason::Unavailable, format!("there are {max} connections, the limit"))
    })
}

/// A whole answer of HTTP/1, to be written as it is. It is the connection's last.
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
    Failure::new(Reason::NotFound, format!("there is nothing at {path}; see /docs"))
}

pub(crate) async fn method_not_allowed() -> Failure {
    Failure::new(Reason::MethodNotAllowed, "this method is not for this path; see /docs")
}

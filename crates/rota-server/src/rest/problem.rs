//! Errors as RFC 9457 problem documents.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::failure::{Failure, Reason};

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
    /// Its path.
    #[schema(example = "retry.max_attempts")]
    field: String,
    /// What is wrong, naming the limit where there is one.
    message: String,
}

/// The problem document of a failure.
fn problem_response(failure: Failure) -> Response {
    let (reason, status, title, _) = failure.reason.dress();
    let errors = failure.violations.into_iter();
    let problem = Problem {
        kind: format!("urn:rota:problem:{reason}"),
        title,
        status,
        detail: failure.detail,
        reason,
        errors: errors
            .map(|violation| FieldProblem { field: violation.field, message: violation.message })
            .collect(),
    };
    let body = serde_json::to_vec(&problem).expect("a problem is always JSON");
    let status = StatusCode::from_u16(status).expect("a status from the table");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, kind);
    if let Some(after) = failure.retry_after {
        let seconds = after.as_millis().div_ceil(1000).max(1);
        if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
            headers.insert(header::RETRY_AFTER, seconds);
        }
    }
    if failure.reason == Reason::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem_response(self)
    }
}

/// What a panic in a handler comes to. Its message stays in the log.
pub(crate) fn internal_error() -> Response {
    problem_response(Failure::new(Reason::Internal, "something went wrong here; it is in the log"))
}

pub(crate) async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Failure::new(Reason::NotFound, format!("there is nothing at {path}; see /docs"))
}

pub(crate) async fn method_not_allowed() -> Failure {
    Failure::new(Reason::MethodNotAllowed, "this method is not for this path; see /docs")
}

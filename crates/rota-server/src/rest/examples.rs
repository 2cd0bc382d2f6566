//! Examples of requests and answers in the contract, by operation. A test checks them against their schemas.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::{RefOr, path::Operation};

/// The examples of an operation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// The body of the request.
    request: Option<Value>,
    /// The same in another format than JSON.
    request_text: Option<Value>,
    /// The body of the answer.
    answer: Option<Value>,
    /// The same in another format than JSON.
    answer_text: Option<Value>,
}

/// Adds the examples of an operation to its description.
pub(super) fn apply(operation: &mut Operation) {
    static ALL: LazyLock<BTreeMap<String, Example>> = LazyLock::new(|| {
        serde_json::from_str(include_str!("examples.json")).expect("examples are JSON")
    });
    let Some(example) = operation.operation_id.as_ref().and_then(|id| ALL.get(id)) else { return };
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        for (kind, content) in &mut body.content {
            let is_json = kind.ends_with("json");
            let body = if is_json { &example.request } else { &example.request_text };
            if let RefOr::T(content) = content {
                content.example.clone_from(body);
            }
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if !status.starts_with('2') {
            continue;
        }
        for (kind, content) in &mut response.content {
            let body = if kind.ends_with("json") { &example.answer } else { &example.answer_text };
            if let RefOr::T(content) = content {
                content.example.clone_from(body);
            }
        }
    }
}

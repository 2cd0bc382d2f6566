//! The OpenAPI document, generated from the code.

use std::sync::LazyLock;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
};
use rota_proto::{json::complete_schemas, operations::Operation};
use serde_json::{Value, json};
use utoipa::{
    OpenApi,
    openapi::{
        self, ContentBuilder, HeaderBuilder, Ref, RefOr, ResponseBuilder,
        path::ParameterIn,
        schema::Schema,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{bounds, examples, problem};
use crate::{limits::Limits, services::Services};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rota",
        description = "Create, watch and manage tasks, and run them as a worker. Errors are problem documents \
                    (RFC 9457) with a stable `reason`. A 2xx answer means that the change is durable.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(
        problem::Problem,
        rota_proto::v1::Event,
        // Only a parameter refers to it.
        rota_proto::v1::FailureState
    ))
)]
struct Contract;

/// The contract as generated from the handlers and their types.
fn generated() -> openapi::OpenApi {
    let mut contract = Contract::openapi();
    for handlers in super::HANDLERS {
        contract.merge((handlers.contract)());
    }
    contract
}

/// Answers that every path under `/v1` and `/node` can have.
const COMMON: [(&str, &str); 11] = [
    ("400", "The request is not valid; `errors` lists the fields at fault"),
    ("401", "Authentication is required"),
    ("403", "Forbidden"),
    ("408", "The request took too long (limits body_timeout_ms and header_timeout_ms)"),
    ("413", "The request is too large (limit request_bytes)"),
    ("414", "The URL is too long; over HTTP/2 the stream is refused instead"),
    ("415", "The body must be JSON"),
    ("429", "Too many requests; see Retry-After"),
    ("431", "The request headers are too large; over HTTP/2 the answer has no body"),
    ("503", "Temporarily unavailable; see Retry-After"),
    ("507", "The store is full"),
];

/// The groups of operations in the order in which readers need them.
const TAGS: [(&str, &str); 9] = [
    ("tasks", "Create, watch and manage tasks."),
    ("events", "Follow changes as they become durable."),
    ("schedules", "Create tasks at recurring times."),
    ("calendars", "Sets of days that schedules share, such as holidays."),
    ("queues", "List, pause and resume queues."),
    ("workers", "List and drain workers."),
    ("Worker API", "Run tasks without a stream, call by call."),
    ("server", "The node, the cluster, health and metrics."),
    ("node", "Settings of one node."),
];
/// Name of the security scheme.
const TOKEN: &str = "token";

/// The document with these limits.
pub(crate) fn contract(limits: &Limits) -> String {
    let mut contract = generated();
    let unplaced = bounds::apply(&mut contract, limits);
    debug_assert!(unplaced.is_empty(), "rules without a place: {unplaced:?}");
    order_and_protect(&mut contract);
    for (path, item) in &mut contract.paths.paths {
        let operations =
            [&mut item.get, &mut item.post, &mut item.delete, &mut item.put, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            examples::apply(operation);
            if !is_api(path) {
                // A probe, or metrics, which have tokens of their own.
                operation.security = Some(Vec::new());
                continue;
            }
            for (status, description) in COMMON {
                let schema = Ref::from_schema_name("Problem");
                let content = ContentBuilder::new().schema(Some(RefOr::Ref(schema))).build();
                let mut response = ResponseBuilder::new()
                    .description(description)
                    .content("application/problem+json", content);
                if matches!(status, "429" | "503" | "507") {
                    response = response.header("retry-after", HeaderBuilder::new().build());
                }
                let responses = &mut operation.responses.responses;
                responses.entry(status.to_owned()).or_insert_with(|| response.build().into());
            }
        }
    }
    if let Some(components) = &mut contract.components {
        complete_schemas(components);
    }
    say_what_excludes_what(&mut contract);
    contract.to_pretty_json().expect("the contract is always JSON")
}

/// Adds the order of the groups, and how to send a token. A server without tokens needs none.
fn order_and_protect(contract: &mut openapi::OpenApi) {
    let tag =
        |(name, says): (&str, &str)| TagBuilder::new().name(name).description(Some(says)).build();
    contract.tags = Some(TAGS.map(tag).into());
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("One of the server's api_tokens, if it has some."))
        .build();
    if let Some(components) = &mut contract.components {
        components.add_security_scheme(TOKEN, SecurityScheme::Http(scheme));
    }
    let none: [&str; 0] = [];
    contract.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new(TOKEN, none)]);
}

/// Whether a path follows the common rules of the API for errors and parameters.
pub(crate) fn is_api(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/node/")
}

/// Whether the contract describes query parameters of an operation.
pub(crate) fn has_query(operation: Operation) -> bool {
    static WITH_QUERY: LazyLock<Vec<Operation>> = LazyLock::new(|| {
        let mut contract = generated();
        let mut described = |operation: &Operation| {
            let parameters = bounds::described(&mut contract, *operation)?.parameters.as_ref()?;
            Some(parameters.iter().any(|parameter| {
                matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
            }))
        };
        Operation::ALL.iter().copied().filter(|op| described(op) == Some(true)).collect()
    });
    WITH_QUERY.contains(&operation)
}

/// Adds rules for members that exclude or require each other, which generated schemas cannot express.
///
/// # Panics
/// When there is no such schema, which is a bug.
fn say_what_excludes_what(contract: &mut openapi::OpenApi) {
    let both = |one: &str, other: &str| {
        let given = json!({ "not": { "type": "null" } });
        json!({ "required": [one, other], "properties": { one: given, other: given } })
    };
    let times = both("run_at", "delay");
    let given = json!({ "not": { "type": "null" } });
    let one_time = json!([
        { "required": ["run_at"], "properties": { "run_at": given } },
        { "required": ["delay"], "properties": { "delay": given } },
    ]);
    let with =
        |name: &str, schema: &Value| json!({ "required": [name], "properties": { name: schema } });
    let scalars = [
        "queue",
        "kind",
        "created_from",
        "created_to",
        "run_at_from",
        "run_at_to",
        "schedule",
        "error_fingerprint",
        "search",
        "worker",
    ];
    let mut selects: Vec<Value> = scalars.into_iter().map(|name| with(name, &given)).collect();
    selects.push(with("status", &json!({ "minItems": 1 })));
    selects.push(with("priority", &json!({ "minItems": 1 })));
    selects.push(with("labels", &json!({ "minProperties": 1 })));
    let selects = json!({ "anyOf": selects });
    let all = with("all", &json!({ "const": true }));
    let some = json!({ "properties": { "filter": selects }, "not": all });
    let every = json!({ "allOf": [with("filter", &json!({ "not": selects })), all] });
    let payloads = both("payload", "payload_base64");
    let (some_schedules, every_schedule) = schedules_of_bulk();
    for (name, word, says) in [
        ("NewTask", "not", json!({ "anyOf": [times, payloads] })),
        ("TaskTemplate", "not", payloads.clone()),
        ("BulkPauseRequest", "anyOf", json!([some_schedules, every_schedule])),
        ("BulkResumeRequest", "anyOf", json!([some_schedules, every_schedule])),
        ("RescheduleRequest", "oneOf", one_time),
        ("BulkRequest", "anyOf", json!([some, every])),
    ] {
        let schemas = contract.components.as_mut().map(|components| &mut components.schemas);
        match schemas.and_then(|schemas| schemas.get_mut(name)) {
            Some(RefOr::T(Schema::Object(schema))) => {
                schema.extensions = Some([(word, says)].into_iter().collect());
            }
            _ => panic!("{name} is an object of the contract"),
        }
    }
}

/// A filter of schedules that selects some and no `all`, and the other way round.
fn schedules_of_bulk() -> (Value, Value) {
    let given = json!({ "not": { "type": "null" } });
    let with =
        |name: &str, schema: &Value| json!({ "required": [name], "properties": { name: schema } });
    let labels = with("labels", &json!({ "minProperties": 1 }));
    let selects = json!({ "anyOf": [with("prefix", &given), with("state", &given), labels] });
    let all = with("all", &json!({ "const": true }));
    let some = json!({ "required": ["filter"], "properties": { "filter": selects }, "not": all });
    // An absent filter selects everything.
    let none = json!({ "properties": { "filter": { "not": selects } } });
    (some, json!({ "allOf": [none, all] }))
}

/// The OpenAPI document with default limits, as text. A server returns the document with its own limits.
#[must_use]
pub fn openapi_json() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| contract(&Limits::DEFAULT));
    DOCUMENT.as_str()
}

pub(crate) async fn document(State(services): State<Services>) -> Response {
    let text = services.contract.get_or_init(|| contract(&services.limits).into());
    ([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response()
}

/// Sends browsers to the dashboard, and programs to the contract. The first is relative, so that a proxy can add a
/// prefix.
pub(crate) async fn index(headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|kinds| kinds.to_str().ok());
    let is_browser = accepted.flat_map(|kinds| kinds.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
    });
    let to = if is_browser { "ui/" } else { "/docs" };
    ([(header::VARY, "accept")], Redirect::temporary(to)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operations_that_read_have_a_query() {
        use Operation::{
            CountTasks, GetTask, ListCalendars, ListFailures, ListQueues, ListSchedules, ListTasks,
            ListTicks, ListWorkers, PreviewSchedule, WatchEvents, WatchOutput,
        };
        let with_query: Vec<_> =
            Operation::ALL.iter().copied().filter(|operation| has_query(*operation)).collect();
        let expected = [
            GetTask,
            ListTasks,
            CountTasks,
            ListFailures,
            WatchOutput,
            ListQueues,
            ListSchedules,
            ListTicks,
            PreviewSchedule,
            ListCalendars,
            ListWorkers,
            WatchEvents,
        ];
        assert_eq!(with_query, expected);
    }
}

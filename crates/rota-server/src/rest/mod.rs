//! REST: the API under `/v1`, operations on one node under `/node`, probes, and the contract at
//! `/openapi.json` and `/docs`.
//!
//! A handler builds a message of the contract from the path, query and body, calls the operation, and returns
//! its answer as JSON. It adds statuses and headers. The operation makes all checks.

mod bounds;
mod calendars;
mod cluster;
mod docs;
mod events;
mod examples;
mod extract;
mod failures;
mod fields;
mod handlers;
mod health;
mod merge_patch;
mod metrics;
mod node;
mod openapi;
mod output;
mod problem;
mod pull;
mod query;
mod queues;
mod schedule_runs;
mod schedules;
mod sse;
mod tasks;
mod versions;
mod workers;

use axum::{
    Router,
    extract::{FromRequestParts, Request},
    middleware::{self, Next},
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};
use rota_proto::operations::{Http, Method, Operation, Route};

use self::handlers::Handlers;
use crate::{failure::Failure, services::Services};

pub use openapi::openapi_json;
pub(crate) use problem::{too_many_connections, whole_answer};

/// All routes of the table of operations.
pub(crate) fn routes(services: Services) -> Router {
    let (mut api, mut around) = (Router::new(), Router::new());
    for operation in Operation::ALL {
        let Some(Http { method, path }) = operation.http() else { continue };
        let Some(handler) = handler(*operation, filter(method)) else { continue };
        let described = openapi::is_api(path);
        let router = if described { &mut api } else { &mut around };
        *router = std::mem::take(router).route(path, handler);
    }
    api.route_layer(middleware::from_fn(strict))
        .merge(around)
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(services)
}

/// Refuses query parameters if the contract describes none. Otherwise the handler reads them.
async fn strict(request: Request, next: Next) -> Result<Response, Failure> {
    let route = Route::of(request.uri().path());
    let operation = route.and_then(|route| route.operation(request.method().as_str()));
    if operation.is_some_and(openapi::has_query) || request.uri().query().is_none() {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    query::Pairs::from_request_parts(&mut parts, &()).await?.none()?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

/// The files of handlers.
const HANDLERS: [Handlers; 14] = [
    tasks::HANDLERS,
    failures::HANDLERS,
    output::HANDLERS,
    queues::HANDLERS,
    schedules::HANDLERS,
    schedule_runs::HANDLERS,
    calendars::HANDLERS,
    workers::HANDLERS,
    pull::HANDLERS,
    events::HANDLERS,
    cluster::HANDLERS,
    node::HANDLERS,
    health::HANDLERS,
    metrics::HANDLERS,
];

/// The REST handler of an operation, if it has a route.
fn handler(operation: Operation, at: MethodFilter) -> Option<MethodRouter<Services>> {
    match operation {
        // The contract does not describe itself.
        Operation::Index => Some(on(at, openapi::index)),
        Operation::Docs => Some(on(at, docs::page)),
        Operation::DocsFile => Some(on(at, docs::file)),
        Operation::OpenApi => Some(on(at, openapi::document)),
        _ => HANDLERS.iter().find_map(|handlers| (handlers.find)(operation, at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_answers_the_operations_that_have_a_path() {
        for operation in Operation::ALL {
            let answered = handler(*operation, MethodFilter::GET).is_some();
            let expected = operation.http().is_some() && !operation.is_of_dashboard();
            assert_eq!(answered, expected, "{operation:?}");
            let find = |handlers: &Handlers| (handlers.find)(*operation, MethodFilter::GET);
            let files = HANDLERS.iter().filter_map(find).count();
            assert!(files <= 1, "{files} files have a handler for {operation:?}");
        }
    }
}

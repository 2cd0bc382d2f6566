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

/// The REST handler of an operation, if it has a route.
fn handler(operation: Operation, at: MethodFilter) -> Option<MethodRouter<Services>> {
    use Operation as O;
    Some(match operation {
        O::CreateTask => on(at, tasks::create),
        O::CreateTasks => on(at, tasks::create_batch),
        O::GetTask => on(at, tasks::get),
        O::ListTasks => on(at, tasks::list),
        O::CountTasks => on(at, failures::count),
        O::ListFailures => on(at, failures::list),
        O::CancelTask => on(at, tasks::cancel),
        O::RetryTask => on(at, tasks::retry),
        O::RescheduleTask => on(at, tasks::reschedule),
        O::SetTaskPriority => on(at, tasks::set_priority),
        O::UpdateTask => on(at, tasks::update),
        O::DeleteTask => on(at, tasks::delete),
        O::BulkTasks => on(at, tasks::bulk),
        O::ListAttempts => on(at, tasks::attempts),
        O::GetResult => on(at, tasks::result),
        O::WatchOutput => on(at, output::watch),
        O::ListQueues => on(at, queues::list),
        O::GetQueue => on(at, queues::get),
        O::PauseQueue => on(at, queues::pause),
        O::ResumeQueue => on(at, queues::resume),
        O::PutSchedule => on(at, schedules::put),
        O::GetSchedule => on(at, schedules::get),
        O::ListSchedules => on(at, schedules::list),
        O::DeleteSchedule => on(at, schedules::delete),
        O::PauseSchedule => on(at, schedules::pause),
        O::ResumeSchedule => on(at, schedules::resume),
        O::PauseSchedules => on(at, schedules::pause_many),
        O::ResumeSchedules => on(at, schedules::resume_many),
        O::TriggerSchedule => on(at, schedules::trigger),
        O::SkipTick => on(at, schedule_runs::skip),
        O::BackfillSchedule => on(at, schedule_runs::backfill),
        O::CancelBackfill => on(at, schedule_runs::cancel_backfill),
        O::ListTicks => on(at, schedule_runs::ticks),
        O::PreviewDefinition => on(at, schedule_runs::preview_definition),
        O::PreviewSchedule => on(at, schedule_runs::preview),
        O::ListCalendars => on(at, calendars::list),
        O::GetCalendar => on(at, calendars::get),
        O::PutCalendar => on(at, calendars::put),
        O::DeleteCalendar => on(at, calendars::delete),
        O::ListWorkers => on(at, workers::list),
        O::DrainWorker => on(at, workers::drain),
        O::LeaseTasks => on(at, pull::lease),
        O::Heartbeat => on(at, pull::heartbeat),
        O::CloseSession => on(at, pull::close),
        O::CompleteTask => on(at, pull::complete),
        O::FailTask => on(at, pull::fail),
        O::ReportCancelled => on(at, pull::cancelled),
        O::SnoozeTask => on(at, pull::snooze),
        O::ReleaseTask => on(at, pull::release),
        O::ReportProgress => on(at, pull::progress),
        O::WatchEvents => on(at, events::watch),
        O::GetServerInfo => on(at, workers::info),
        O::GetCluster => on(at, cluster::get),
        O::GetNode => on(at, cluster::node),
        O::TransferLeadership => on(at, cluster::transfer),
        O::GetLogFilter => on(at, node::log_filter),
        O::SetLogFilter => on(at, node::set_log_filter),
        O::IsAlive => on(at, health::alive),
        O::IsReady => on(at, health::ready),
        O::Metrics => on(at, metrics::show),
        O::Index => on(at, openapi::index),
        O::Docs => on(at, docs::page),
        O::DocsFile => on(at, docs::file),
        O::OpenApi => on(at, openapi::document),
        O::Work | O::CheckHealth | O::WatchHealth | O::Reflect | O::ReflectAlpha => return None,
        O::DashboardBase
        | O::DashboardHome
        | O::DashboardPage
        | O::DashboardAction
        | O::DashboardLive
        | O::DashboardAsset => return None,
    })
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
        }
    }
}

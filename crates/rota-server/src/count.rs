//! Requests, counted by route and code. Whatever clients send, the values of labels are few: routes
//! are those of the contract, and everything else is `other`.

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use axum::body::Body;
use http::{HeaderMap, Response};
use prost::Message;
use prost_types::FileDescriptorSet;
use rota_metrics::{ApiCall, NodeMetrics, OTHER};
use tonic::Code;

use crate::{protocol::is_stream, rest::route_templates};

/// Route templates of REST, by path.
static REST: LazyLock<matchit::Router<&'static str>> = LazyLock::new(|| {
    let mut router = matchit::Router::new();
    for template in route_templates() {
        // Those that collide would collide in the API's own router, too.
        let _ = router.insert(template, template);
    }
    router
});

/// Paths of gRPC methods.
static GRPC: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let sets = [rota_proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = sets.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok());
    let mut methods = HashSet::new();
    for file in files.flat_map(|set| set.file) {
        for service in &file.service {
            let service_name = service.name();
            let path = |method: &str| format!("/{}.{service_name}/{method}", file.package());
            methods.extend(service.method.iter().map(|method| path(method.name())));
        }
    }
    methods
});

/// Which route a request took. Kept beside the request, which may be consumed meanwhile.
#[derive(Debug)]
pub(crate) struct Route {
    grpc: bool,
    stream: bool,
    template: &'static str,
}

impl Route {
    pub(crate) fn of(path: &str, grpc: bool) -> Self {
        let template = if grpc {
            GRPC.get(path).map_or(OTHER, String::as_str)
        } else {
            REST.at(path).map_or(OTHER, |found| *found.value)
        };
        Self { grpc, stream: grpc && is_stream(path), template }
    }

    /// Counts the answer.
    pub(crate) fn answered(
        &self,
        metrics: &NodeMetrics,
        response: &Response<Body>,
        took: Duration,
    ) {
        let status = response.status();
        let code = if self.grpc { grpc_code(response.headers()) } else { String::new() };
        metrics.answered(ApiCall {
            protocol: if self.grpc { "grpc" } else { "rest" },
            route: self.template,
            code: if self.grpc { &code } else { status.as_str() },
            took: (!self.stream).then_some(took),
        });
    }
}

/// An error comes in the head of the answer; what comes without began well.
fn grpc_code(headers: &HeaderMap) -> String {
    let code =
        headers.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    format!("{code:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_its_template_and_nothing_that_a_client_made_up() {
        for (path, grpc, template) in [
            ("/v1/tasks", false, "/v1/tasks"),
            ("/v1/tasks/abc", false, "/v1/tasks/{id}"),
            ("/v1/tasks/abc/cancel", false, "/v1/tasks/{id}/cancel"),
            ("/metrics", false, "/metrics"),
            ("/healthz", false, "/healthz"),
            ("/v1/tasks/abc/nothing", false, "other"),
            ("/rota.v1.TaskService/CreateTask", false, "other"),
            ("/rota.v1.TaskService/CreateTask", true, "/rota.v1.TaskService/CreateTask"),
            ("/rota.v1.WorkerService/Work", true, "/rota.v1.WorkerService/Work"),
            ("/grpc.health.v1.Health/Check", true, "/grpc.health.v1.Health/Check"),
            ("/rota.v1.TaskService/MadeUp", true, "other"),
        ] {
            assert_eq!(Route::of(path, grpc).template, template, "{path}");
        }
    }

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

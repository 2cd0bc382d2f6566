//! Determines the protocol and the operation of a request from its headers and path.

use http::{HeaderMap, HeaderValue, Method, header};
use rota_metrics::OTHER;
use rota_proto::operations::{Form, Operation, Role, Route};

/// Whether the request is gRPC. Otherwise it is REST.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The protocol and the operation of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) is_grpc: bool,
    /// The operation. `None` if this version does not know it.
    pub(crate) operation: Option<Operation>,
    /// The template of the path, for metrics. The number of templates is bounded.
    pub(crate) template: &'static str,
    /// Whether the path belongs to version 1 of the API, known here or not.
    is_versioned: bool,
    is_safe: bool,
}

impl Asked {
    pub(crate) fn of(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let is_grpc = is_grpc(headers);
        let (operation, template) = if is_grpc {
            let operation = Operation::of_grpc(path);
            (operation, operation.and_then(Operation::grpc))
        } else {
            let route = Route::of(path);
            let operation = route.and_then(|route| route.operation(method.as_str()));
            (operation, route.map(Route::template))
        };
        Self {
            is_grpc,
            operation,
            template: template.unwrap_or(OTHER),
            is_versioned: path.starts_with("/v1/") || path.starts_with("/rota.v1."),
            is_safe: !is_grpc && matches!(*method, Method::GET | Method::HEAD),
        }
    }

    /// Whether the leader must answer. A leader of a newer version may know operations that this one does
    /// not.
    pub(crate) fn is_for_leader(&self) -> bool {
        self.operation.map_or(self.is_versioned, Operation::needs_leader)
    }

    /// Whether it only reads, so that a retry is safe.
    pub(crate) fn reads(&self) -> bool {
        self.operation.map_or(self.is_safe, Operation::reads)
    }

    /// Whether the answer counts against the memory for answers. Probes do not, because they must work when
    /// memory is short.
    pub(crate) fn needs_room(&self) -> bool {
        self.is_versioned && self.reads()
    }

    /// Whether it is a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.operation.is_some_and(|operation| operation.form() == Form::Stream)
    }

    /// The role that can call it. `None` if there is no such operation.
    pub(crate) fn role(&self) -> Option<Role> {
        self.operation.map(Operation::role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, path: &str) -> Asked {
        let kind = if path.starts_with("/v") { "application/json" } else { "application/grpc" };
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
        Asked::of(&method.parse().unwrap(), path, &headers)
    }

    #[test]
    fn only_reading_may_be_done_twice() {
        for (method, path, reads) in [
            ("GET", "/v1/tasks", true),
            ("HEAD", "/v1/tasks", true),
            ("POST", "/v1/tasks", false),
            ("DELETE", "/v1/tasks/x", false),
            ("POST", "/rota.v1.TaskService/ListTasks", true),
            ("POST", "/rota.v1.TaskService/CreateTask", false),
            // Of a newer version, perhaps.
            ("GET", "/v1/schedules", true),
            ("POST", "/v1/schedules", false),
            ("POST", "/rota.v1.TaskService/GetMore", false),
        ] {
            assert_eq!(asked(method, path).reads(), reads, "{method} {path}");
        }
    }

    #[test]
    fn what_a_node_knows_of_itself_is_not_for_the_leader() {
        for (method, path, is) in [
            ("GET", "/v1/tasks", true),
            ("POST", "/v1/cluster/transfer", true),
            ("POST", "/rota.v1.TaskService/CreateTask", true),
            ("POST", "/rota.v1.WorkerService/Work", true),
            ("POST", "/rota.v1.ServerService/TransferLeadership", true),
            ("POST", "/rota.v1.ServerService/GetServerInfo", false),
            ("POST", "/rota.node.v1.NodeService/SetLogFilter", false),
            ("GET", "/v1/cluster", false),
            ("GET", "/v1/node", false),
            ("HEAD", "/v1/info", false),
            ("POST", "/grpc.health.v1.Health/Watch", false),
            // A leader of a newer version may know them.
            ("PATCH", "/v1/tasks/x", true),
            ("GET", "/v1/schedules", true),
            ("POST", "/rota.v1.ScheduleService/ListSchedules", true),
            ("POST", "/rota.v2.TaskService/CreateTask", false),
        ] {
            assert_eq!(asked(method, path).is_for_leader(), is, "{method} {path}");
        }
        let headers = HeaderMap::new();
        for path in ["/healthz", "/metrics", "/", "/node/log-filter", "/v2/tasks"] {
            assert!(!Asked::of(&Method::GET, path, &headers).is_for_leader(), "{path}");
        }
    }

    #[test]
    fn streams_are_known_by_their_path() {
        for (path, is) in [
            ("/rota.v1.WorkerService/Work", true),
            ("/grpc.health.v1.Health/Watch", true),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/rota.v1.WorkerService/Lease", false),
        ] {
            assert_eq!(asked("POST", path).is_stream(), is, "{path}");
        }
    }

    #[test]
    fn a_template_is_nothing_that_a_client_made_up() {
        for (path, template) in [
            ("/v1/tasks", "/v1/tasks"),
            ("/v1/tasks/abc", "/v1/tasks/{id}"),
            ("/v1/tasks/abc/cancel", "/v1/tasks/{id}/cancel"),
            ("/v1/tasks/abc/nothing", OTHER),
            ("/rota.v1.TaskService/CreateTask", "/rota.v1.TaskService/CreateTask"),
            ("/rota.v1.WorkerService/Work", "/rota.v1.WorkerService/Work"),
            ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Check"),
            ("/rota.v1.TaskService/MadeUp", OTHER),
        ] {
            assert_eq!(asked("PUT", path).template, template, "{path}");
        }
        let rest = |path| Asked::of(&Method::GET, path, &HeaderMap::new()).template;
        assert_eq!(rest("/metrics"), "/metrics");
        assert_eq!(rest("/healthz"), "/healthz");
        assert_eq!(rest("/rota.v1.TaskService/CreateTask"), OTHER);
    }

    #[test]
    fn grpc_is_known_by_its_type() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(is_grpc(&headers), is, "{kind}");
        }
    }
}

//! Which protocol a request speaks, told by its head alone.

use http::{HeaderMap, HeaderValue, Method, header};

/// Whether it is gRPC; else it is REST.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Whether calls of that path are streams, which last.
pub(crate) fn is_stream(path: &str) -> bool {
    matches!(path, "/rota.v1.WorkerService/Work" | "/grpc.health.v1.Health/Watch")
        || path.starts_with("/grpc.reflection.")
}

/// Whether it changes nothing, so that it may be asked twice.
pub(crate) fn is_read(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    if is_grpc(headers) {
        let name = path.rsplit('/').next().unwrap_or_default();
        name.starts_with("Get") || name.starts_with("List")
    } else {
        matches!(*method, Method::GET | Method::HEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_may_be_done_twice() {
        let reads = |method, path, kind: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            is_read(&method, path, &headers)
        };
        assert!(reads(Method::GET, "/v1/tasks", ""));
        assert!(!reads(Method::POST, "/v1/tasks", "application/json"));
        assert!(!reads(Method::DELETE, "/v1/tasks/x", ""));
        assert!(reads(Method::POST, "/rota.v1.TaskService/ListTasks", "application/grpc"));
        assert!(!reads(Method::POST, "/rota.v1.TaskService/CreateTask", "application/grpc"));
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

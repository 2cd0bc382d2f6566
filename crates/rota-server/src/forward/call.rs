//! What a request says of itself that tells how it is carried: how long it waits, and until when its
//! client wants an answer.

use std::time::Duration;

use axum::extract::Query;
use bytes::Bytes;
use http::{HeaderMap, request};
use prost::Message;
use rota_proto::{Span, v1};
use serde::Deserialize;

use crate::protocol::is_grpc;

/// How long the answer may be held back because the client asked for that. The node that answers
/// checks what was asked: what cannot be read here waits for nothing.
pub(super) fn wait(head: &request::Parts, body: &Bytes) -> Duration {
    let path = head.uri.path();
    let of_wire = |wait: Option<Span>| wait.map(Span::duration);
    let wait = if is_grpc(&head.headers) {
        // Before the message there are a flag and its length. A compressed one cannot be read.
        let message = body.get(5..).filter(|_| body[0] == 0).unwrap_or_default();
        match path {
            "/rota.v1.TaskService/GetTask" => {
                v1::GetTaskRequest::decode(message).ok().and_then(|it| of_wire(it.wait))
            }
            "/rota.v1.WorkerService/Lease" => {
                v1::LeaseRequest::decode(message).ok().and_then(|it| of_wire(it.wait))
            }
            _ => None,
        }
    } else if path == "/v1/leases" {
        #[derive(Deserialize)]
        struct Asked {
            #[serde(default)]
            wait: Option<Span>,
        }
        serde_json::from_slice::<Asked>(body).ok().and_then(|it| it.wait).map(Span::duration)
    } else if path.starts_with("/v1/tasks/") {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&head.uri);
        let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
        let wait = pairs.iter().find(|(name, _)| name == "wait");
        wait.and_then(|(_, text)| text.parse::<Span>().ok()).map(Span::duration)
    } else {
        None
    };
    wait.unwrap_or_default()
}

/// How long the client of a gRPC call waits, where it says so.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    asked.and_then(grpc_timeout)
}

/// A deadline as gRPC writes it: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(method: &str, path: &str, kind: &'static str) -> request::Parts {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", kind);
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        for (text, millis) in [("1S", Some(1000)), ("250m", Some(250)), ("2M", Some(120_000))] {
            assert_eq!(grpc_timeout(text).map(|found| found.as_millis()), millis, "{text}");
        }
        for wrong in ["", "S", "1", "1x", "-1S", "123456789S", "1é"] {
            assert_eq!(grpc_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn waits_are_found_where_requests_have_them() {
        let secs = |head, body: &[u8]| wait(&head, &Bytes::copy_from_slice(body)).as_secs();
        assert_eq!(secs(head("GET", "/v1/tasks/a?wait=60s", ""), b""), 60);
        assert_eq!(secs(head("GET", "/v1/tasks/a?wait=1%6ds", ""), b""), 0);
        assert_eq!(secs(head("GET", "/v1/tasks/a", ""), b""), 0);
        assert_eq!(secs(head("GET", "/v1/tasks?wait=x", ""), b""), 0);
        let json = "application/json";
        let lease = br#"{"worker":"w","wait":"1m","kinds":["k"]}"#;
        assert_eq!(secs(head("POST", "/v1/leases", json), lease), 60);
        assert_eq!(secs(head("POST", "/v1/leases", json), b"{"), 0);

        let framed = |message: Vec<u8>| [vec![0; 5], message].concat();
        let grpc = "application/grpc";
        let wait = Some(Span { seconds: 60, nanos: 0 });
        let get = v1::GetTaskRequest { wait, ..Default::default() };
        let path = "/rota.v1.TaskService/GetTask";
        assert_eq!(secs(head("POST", path, grpc), &framed(get.encode_to_vec())), 60);
        assert_eq!(secs(head("POST", path, grpc), b""), 0);
        let lease = v1::LeaseRequest { wait, ..Default::default() };
        let path = "/rota.v1.WorkerService/Lease";
        assert_eq!(secs(head("POST", path, grpc), &framed(lease.encode_to_vec())), 60);
    }
}

//! Reads from a request how to forward it: its wait, and the deadline of its client.

use std::time::Duration;

use axum::extract::Query;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use prost::Message;
use rota_proto::{TimeSpan, operations::Operation, v1};
use serde::Deserialize;

use crate::protocol::Asked;

/// The wait that the client requested. The leader validates it, so a wait that cannot be parsed counts as
/// zero here.
pub(super) fn wait(asked: Asked, uri: &Uri, body: &Bytes) -> Duration {
    let Some(operation @ (Operation::GetTask | Operation::LeaseTasks)) = asked.operation else {
        return Duration::ZERO;
    };
    let takes_task = operation == Operation::GetTask;
    let wait = if asked.is_grpc {
        // A flag and the length precede the message. A compressed message cannot be parsed here.
        let message = body.get(5..).filter(|_| body[0] == 0).unwrap_or_default();
        if takes_task {
            v1::GetTaskRequest::decode(message).ok().and_then(|request| request.wait)
        } else {
            v1::LeaseRequest::decode(message).ok().and_then(|request| request.wait)
        }
    } else if takes_task {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = pairs.map(|Query(pairs)| pairs).unwrap_or_default();
        let wait = pairs.iter().find(|(name, _)| name == "wait");
        wait.and_then(|(_, text)| text.parse().ok())
    } else {
        #[derive(Deserialize)]
        struct Lease {
            #[serde(default)]
            wait: Option<TimeSpan>,
        }
        serde_json::from_slice::<Lease>(body).ok().and_then(|lease| lease.wait)
    };
    wait.map(TimeSpan::duration).unwrap_or_default()
}

/// The deadline of a gRPC call, if the client set one.
pub(super) fn patience(headers: &HeaderMap) -> Option<Duration> {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    asked.and_then(grpc_timeout)
}

/// Parses a gRPC timeout: up to eight digits and a unit.
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
    use http::{Request, request};

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
        let secs = |head: request::Parts, body: &[u8]| {
            let asked = Asked::of(&head.method, head.uri.path(), &head.headers);
            wait(asked, &head.uri, &Bytes::copy_from_slice(body)).as_secs()
        };
        assert_eq!(secs(head("GET", "/v1/tasks/a?wait=60s", ""), b""), 60);
        assert_eq!(secs(head("GET", "/v1/tasks/a?wait=1%6ds", ""), b""), 0);
        assert_eq!(secs(head("GET", "/v1/tasks/a", ""), b""), 0);
        assert_eq!(secs(head("GET", "/v1/tasks?wait=x", ""), b""), 0);
        let json = "application/json";
        let lease = br#"{"worker":"w","wait":"1m","kinds":["k"]}"#;
        assert_eq!(secs(head("POST", "/v1/leases", json), lease), 60);
        assert_eq!(secs(head("POST", "/v1/leases", json), b"{"), 0);
        assert_eq!(secs(head("POST", "/v1/tasks/a/cancel?wait=60s", json), b""), 0);

        let framed = |message: Vec<u8>| [vec![0; 5], message].concat();
        let grpc = "application/grpc";
        let wait = Some(TimeSpan { seconds: 60, nanos: 0 });
        let get = v1::GetTaskRequest { wait, ..Default::default() };
        let path = "/rota.v1.TaskService/GetTask";
        assert_eq!(secs(head("POST", path, grpc), &framed(get.encode_to_vec())), 60);
        assert_eq!(secs(head("POST", path, grpc), b""), 0);
        let lease = v1::LeaseRequest { wait, ..Default::default() };
        let path = "/rota.v1.WorkerService/Lease";
        assert_eq!(secs(head("POST", path, grpc), &framed(lease.encode_to_vec())), 60);
    }
}

//! What a worker shows of itself.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use rota_client::task;
use rota_metrics::catalogue::{ALL, ShownBy};
use rota_worker::{HandlerError, WorkerError};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    desk::{Desk, KIND},
    in_time,
    node::Node,
};

/// Asks, as a scraper or a probe does. `None`: nobody listens.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let request = Request::get(path).header("host", "worker").body(Empty::<bytes::Bytes>::new());
    let asked = async {
        let answer = sender.send_request(request.unwrap()).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::select! {
        answer = asked => answer,
        _ = connection => None,
    }
}

/// Asks until the answer is as wanted.
async fn once(address: SocketAddr, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let mut period = tokio::time::interval(std::time::Duration::from_millis(10));
    in_time(async {
        loop {
            if let Some((status, body)) = get(address, path).await
                && wanted(status, &body)
            {
                return body;
            }
            period.tick().await;
        }
    })
    .await
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

/// Another may take it before it is used; then the test fails and says so.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_shows_its_slots_attempts_and_whether_it_is_connected() {
    let node = Node::start().await;
    let address = free().await;
    let url = node.client().addresses().to_owned();
    let mut desk = Desk::open_with("w", &url, |builder| builder.metrics_listen(address));
    once(address, "/readyz", |status, _| status == 200).await;
    assert_eq!(get(address, "/healthz").await, Some((200, "ok\n".to_owned())));
    assert_eq!(get(address, "/v1/tasks").await.unwrap().0, 404);
    let (good, bad) = (node.create(task(KIND)).await, node.create(task(KIND)).await);
    let (first, second) = (desk.next().await, desk.next().await);
    let used = |count: u32| {
        move |_: u16, text: &str| has(text, &format!("rota_worker_slots_used {count}"))
    };
    let text = once(address, "/metrics", used(2)).await;
    for line in ["rota_worker_connected 1", "rota_worker_slots 2", "rota_worker_connects_total 1"] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
    first.complete();
    second.end(Err(HandlerError::permanent("as asked")));
    let text = once(address, "/metrics", used(0)).await;
    for line in [
        "rota_worker_attempts_total{kind=\"desk\",outcome=\"completed\"} 1",
        "rota_worker_attempts_total{kind=\"desk\",outcome=\"failed\"} 1",
        "rota_worker_attempt_duration_seconds_count{kind=\"desk\"} 2",
    ] {
        assert!(has(&text, line), "{line} is not in\n{text}");
    }
    for metric in ALL.iter().filter(|metric| {
        matches!(metric.shown_by, ShownBy::Worker | ShownBy::Process)
            // Without a limit there is nothing to show.
            && metric.name != "process_max_fds"
    }) {
        assert!(text.contains(metric.name), "{} is not in\n{text}", metric.name);
    }
    node.ended(&good).await;
    node.ended(&bad).await;
    let stopped = node.stop().await;
    once(address, "/readyz", |status, _| status == 503).await;
    assert_eq!(get(address, "/healthz").await.unwrap().0, 200, "it lives, and tries again");
    let node = stopped.start().await;
    once(address, "/readyz", |status, _| status == 200).await;
    once(address, "/metrics", |_, text| has(text, "rota_worker_connects_total 2")).await;
    desk.kill().await;
    assert_eq!(get(address, "/healthz").await, None, "it ends with its worker");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_show_its_metrics_says_where() {
    let node = Node::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let url = node.client().addresses().to_owned();
    let desk = Desk::open_with("w", &url, |builder| builder.metrics_listen(address));
    let refused = desk.closed().await.unwrap_err();
    assert!(matches!(refused, WorkerError::Listen { address: at, .. } if at == address));
    assert!(refused.to_string().contains(&address.to_string()), "{refused}");
    node.stop().await;
}

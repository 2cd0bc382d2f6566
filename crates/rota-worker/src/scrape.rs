//! The HTTP port of a worker: `/metrics` for Prometheus, `/healthz` and `/readyz` for probes. The module
//! `session` counts.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rota_metrics::{Format, WorkerMetrics};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tracing::{debug, warn};

/// Maximum number of connections, for a few probes and scrapers. Others wait.
const CONNECTIONS: usize = 32;
/// Time for the headers of a request to arrive. Then the connection is closed.
const HEAD: Duration = Duration::from_secs(10);
/// Maximum lifetime of a connection, so that idle ones do not use up the limit.
const CONNECTION: Duration = Duration::from_secs(600);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening port.
#[derive(Debug)]
pub(crate) struct Scrape {
    listener: TcpListener,
    metrics: WorkerMetrics,
}

impl Scrape {
    pub(crate) async fn bind(address: SocketAddr, metrics: WorkerMetrics) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, metrics })
    }

    /// The address it listens on, with the actual port.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves. Never returns. Dropping it ends all connections.
    pub(crate) async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let place = places.clone().acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = self.metrics.clone();
                    connections.spawn(async move {
                        let served = tokio::time::timeout(CONNECTION, connection(stream, metrics));
                        if let Ok(Err(error)) = served.await {
                            debug!(%error, "scrape connection failed");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept a scrape connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn connection(stream: TcpStream, metrics: WorkerMetrics) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), request.headers(), &metrics);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

fn answer(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    metrics: &WorkerMetrics,
) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, body) = match path {
        "/metrics" | "/healthz" | "/readyz" if !method.is_safe() => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, Bytes::from_static(b"use GET\n"))
        }
        "/metrics" => {
            let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let shown = metrics.show(Format::accepted(accept));
            (StatusCode::OK, shown.content_type, shown.body.into())
        }
        "/healthz" => (StatusCode::OK, TEXT, Bytes::from_static(b"ok\n")),
        "/readyz" if metrics.is_connected() => {
            (StatusCode::OK, TEXT, Bytes::from_static(b"connected\n"))
        }
        "/readyz" => {
            let body = Bytes::from_static(b"not connected to a node\n");
            (StatusCode::SERVICE_UNAVAILABLE, TEXT, body)
        }
        _ => (StatusCode::NOT_FOUND, TEXT, Bytes::from_static(b"no such path\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

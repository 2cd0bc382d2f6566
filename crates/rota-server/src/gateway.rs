//! The gateway of all requests of both protocols: authentication, choice of the protocol, logging, and
//! handling of panics.

use std::{any::Any, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use http::{HeaderValue, Response, Version, header, uri::Authority};
use rota_dashboard::{self as dashboard, Dashboard, Inner};
use rota_metrics::NodeMetrics;
use rota_proto::operations::Operation;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic_reflection::server::Error as ReflectionError;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{Level, debug, enabled, error};

use crate::{
    auth::{self, Access},
    failure::{Failure, Reason},
    forward::{Forwarder, Here},
    grpc,
    limits::ANSWER,
    protocol::Asked,
    request_metrics, rest,
    room::{Answers, Bodies, Streams},
    services::Services,
};

/// What every request passes before its handler: access, limits, forwarding, logs and metrics.
struct Gateway<G, R> {
    grpc: G,
    rest: R,
    access: Access,
    metrics: NodeMetrics,
    local: SocketAddr,
    bodies: Arc<Bodies>,
    answers: Answers,
    /// Forwards requests to the leader, in a cluster.
    forwarder: Option<Arc<Forwarder>>,
    /// Maximum duration of a gRPC call that is not a stream.
    call: Duration,
}

/// The API as one service, and the dashboard, which is a client of it.
pub(crate) async fn app(
    services: Services,
    access: Access,
    local: SocketAddr,
    pages: dashboard::Options,
) -> Result<(Router, Dashboard), ReflectionError> {
    let call = services.limits.body_timeout + services.limits.wait + ANSWER;
    let grpc = grpc::routes(services.clone()).await?.prepare().into_axum_router();
    let forwarder = services.peers.clone();
    let metrics = services.engine.metrics().clone();
    let bodies = Arc::new(Bodies::new(&services.limits, &metrics));
    let answers = Answers::new(&services.limits, &metrics);
    let stop = services.stop.clone();
    let rest = rest::routes(services);
    let gateway = Gateway { grpc, rest, access, metrics, local, bodies, answers, forwarder, call };
    Ok(guarded(gateway, pages, stop))
}

fn guarded<G, R>(
    gateway: Gateway<G, R>,
    options: dashboard::Options,
    stop: CancellationToken,
) -> (Router, Dashboard)
where
    G: Service<Request, Response = Response<Body>, Error = Infallible>,
    G: Clone + Send + Sync + 'static,
    G::Future: Send,
    R: Service<Request, Response = Response<Body>, Error = Infallible>,
    R: Clone + Send + Sync + 'static,
    R::Future: Send,
{
    let Gateway { grpc, rest, access, metrics, local, bodies, answers, forwarder, call } = gateway;
    let grpc = ServiceBuilder::new().layer(CatchPanicLayer::custom(grpc_panicked)).service(grpc);
    let rest = ServiceBuilder::new().layer(CatchPanicLayer::custom(rest_panicked)).service(rest);
    let gateway = Gateway { grpc, rest, access, metrics, local, bodies, answers, forwarder, call };
    // Shared, so that a request clones only a pointer.
    let gateway = Arc::new(gateway);
    let inner = gateway.clone();
    let api = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let gateway = inner.clone();
        async move { Ok::<_, Infallible>(gateway.called(request.map(Body::new)).await) }
    });
    let dashboard = Dashboard::new(Inner::new(api), options, stop);
    let pages = dashboard.clone();
    let service = tower::service_fn(move |request: Request| {
        let (gateway, pages) = (gateway.clone(), pages.clone());
        async move { Ok::<_, Infallible>(gateway.logged(request, &pages).await) }
    });
    (Router::new().fallback_service(service), dashboard)
}

impl<G, R> Gateway<G, R>
where
    G: Service<Request, Error = Infallible> + Clone + Send + Sync,
    G::Response: IntoResponse,
    G::Future: Send,
    R: Service<Request, Error = Infallible> + Clone + Send + Sync,
    R::Response: IntoResponse,
    R::Future: Send,
{
    async fn logged(&self, request: Request, dashboard: &Dashboard) -> Response<Body> {
        let began = Instant::now();
        let asked = Asked::of(request.method(), request.uri().path(), request.headers());
        if !enabled!(Level::DEBUG) {
            let response = self.admitted(request, asked, dashboard).await;
            request_metrics::record(&self.metrics, &asked, &response, began.elapsed());
            return response;
        }
        let method = request.method().clone();
        let path: String = request.uri().path().chars().take(200).collect();
        let response = self.admitted(request, asked, dashboard).await;
        let status = response.status().as_u16();
        let took = began.elapsed();
        request_metrics::record(&self.metrics, &asked, &response, took);
        debug!(%method, path, status, ?took, "request answered");
        response
    }

    async fn admitted(
        &self,
        request: Request,
        asked: Asked,
        dashboard: &Dashboard,
    ) -> Response<Body> {
        match check_host(&request) {
            Ok(()) => self.checked(request, asked, Some(dashboard)).await,
            Err(failure) => refused(failure, asked),
        }
    }

    /// Answers a call of the dashboard in this process. It has no host, because it came through no connection. For
    /// everything else it is like any call.
    async fn called(&self, request: Request) -> Response<Body> {
        let began = Instant::now();
        let asked = Asked::of(request.method(), request.uri().path(), request.headers());
        let response = self.checked(request, asked, None).await;
        request_metrics::record(&self.metrics, &asked, &response, began.elapsed());
        response
    }

    async fn checked(
        &self,
        request: Request,
        asked: Asked,
        dashboard: Option<&Dashboard>,
    ) -> Response<Body> {
        if let Err(failure) = auth::check(&self.access, asked.role(), &request, self.local) {
            return refused(failure, asked);
        }
        let streams = match asked.operation {
            Some(Operation::Work) => Streams::Worker,
            _ if asked.is_stream() => Streams::Other,
            _ => Streams::No,
        };
        let (request, _held) = self.bodies.count(request, asked.is_grpc, streams);
        if let Some(dashboard) = dashboard
            && asked.operation.is_some_and(Operation::is_of_dashboard)
        {
            return dashboard.answer(request).await;
        }
        match &self.forwarder {
            Some(forwarder) if asked.is_for_leader() => {
                forwarder.answer(request, asked, self).await
            }
            _ => Here::answer(self, request, asked).await,
        }
    }

    /// Sets a deadline on calls that are not streams, so that a client cannot hold resources forever with an
    /// unfinished message. Pings watch streams.
    async fn grpc_call(&self, request: Request, is_stream: bool) -> Response<Body> {
        let limit = if is_stream { Duration::MAX } else { self.call };
        match tokio::time::timeout(limit, self.grpc.clone().oneshot(request)).await {
            Ok(Ok(response)) => response.into_response(),
            Err(_) => {
                let detail = format!("the call took longer than {limit:?}");
                tonic::Status::from(Failure::new(Reason::RequestTimeout, detail)).into_http()
            }
        }
    }
}

impl<G, R> Here for Gateway<G, R>
where
    G: Service<Request, Error = Infallible> + Clone + Send + Sync,
    G::Response: IntoResponse,
    G::Future: Send,
    R: Service<Request, Error = Infallible> + Clone + Send + Sync,
    R::Response: IntoResponse,
    R::Future: Send,
{
    fn answers(&self) -> &Answers {
        &self.answers
    }

    async fn answer(&self, request: Request, asked: Asked) -> Response<Body> {
        let (is_grpc, stream) = (asked.is_grpc, asked.is_stream());
        let answer = if is_grpc {
            grpc::answered(self.grpc_call(request, stream).await)
        } else {
            let Ok(response) = self.rest.clone().oneshot(request).await;
            response.into_response()
        };
        let answer = if stream {
            answer
        } else {
            self.answers.count(answer, asked.needs_room(), is_grpc).await
        };
        if is_grpc { answer } else { with_rest_headers(answer) }
    }
}

fn refused(failure: Failure, asked: Asked) -> Response<Body> {
    if asked.is_grpc {
        tonic::Status::from(failure).into_http()
    } else {
        with_rest_headers(failure.into_response())
    }
}

/// Requires exactly one host: a proxy could interpret a request without one, or with two, in another way (RFC
/// 9112, section 3.2). HTTP/2 has the host in the URL or in the header.
fn check_host(request: &Request) -> Result<(), Failure> {
    let address = request.uri().authority();
    let is_http_2 = request.version() == Version::HTTP_2;
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let message = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => "occurs more than once",
        (None, _) if request.version() == Version::HTTP_11 => "is missing",
        (None, _) if is_http_2 && address.is_none() => "is missing",
        (Some(host), _) if !is_host(host) => "must be a host, or a host and a port",
        _ if address.is_some_and(|address| address.as_str().contains('@')) => {
            "must be a host, or a host and a port"
        }
        _ => return Ok(()),
    };
    Err(Failure::field("host", message))
}

/// Whether the text is empty, or a host with or without a port.
fn is_host(value: &HeaderValue) -> bool {
    let host = value.as_bytes();
    let authority = Authority::try_from(host);
    host.is_empty() || (authority.is_ok() && !host.contains(&b'@'))
}

/// Tells browsers to use the declared content type of each answer.
fn with_rest_headers(mut response: Response<Body>) -> Response<Body> {
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn note_panic(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    error!(panic = words.unwrap_or("no message"), "request handler panicked");
    Failure::new(Reason::Internal, "internal error; see the log of the server")
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn rest_panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    note_panic(panic.as_ref()).into_response()
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn grpc_panicked(panic: Box<dyn Any + Send>) -> Response<Body> {
    tonic::Status::from(note_panic(panic.as_ref())).into_http()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    /// A gateway in front of a service that panics, and of one that never answers.
    fn gateway() -> Router {
        let panics = tower::service_fn(|request: Request| async move {
            assert!(request.uri().path() == "/never", "the words of a panic");
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        let local = SocketAddr::from(([127, 0, 0, 1], 7420));
        let (access, call) = (Access::default(), Duration::from_secs(5));
        let metrics = NodeMetrics::default();
        let limits = crate::limits::Limits::default();
        let bodies = Arc::new(Bodies::new(&limits, &metrics));
        let answers = Answers::new(&limits, &metrics);
        let (grpc, rest, forwarder) = (panics, panics, None);
        let gateway =
            Gateway { grpc, rest, access, metrics, local, bodies, answers, forwarder, call };
        guarded(gateway, dashboard::Options::default(), CancellationToken::new()).0
    }

    fn request(path: &str, kind: &str) -> Request {
        let request = http::Request::post(path).header("host", "localhost");
        request.header("content-type", kind).body(Body::empty()).unwrap()
    }

    #[test]
    fn a_request_names_one_host() {
        let passes = |version: Version, hosts: &[&str]| {
            let mut request = http::Request::get("/").version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            check_host(&request.body(Body::empty()).unwrap()).is_ok()
        };
        for host in ["localhost", "127.0.0.1:7420", "[::1]:7420", ""] {
            assert!(passes(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(passes(Version::HTTP_10, &[]));
        assert!(passes(Version::HTTP_2, &["localhost"]) && !passes(Version::HTTP_2, &[]));
        for hosts in [&[][..], &["a", "a"], &["a b"], &["a@b"], &["a/b"]] {
            assert!(!passes(Version::HTTP_11, hosts), "{hosts:?}");
        }
    }

    #[test]
    fn an_address_with_a_host_names_it_for_http_2() {
        let passes = |version: Version, uri: &str| {
            let request = http::Request::get(uri).version(version);
            check_host(&request.body(Body::empty()).unwrap()).is_ok()
        };
        assert!(passes(Version::HTTP_2, "http://localhost:7420/"));
        assert!(!passes(Version::HTTP_2, "http://localhost@evil.example/"));
        assert!(
            !passes(Version::HTTP_11, "http://localhost:7420/"),
            "RFC 9112 asks for the header"
        );
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_that_tells_nothing() {
        let answer = gateway().oneshot(request("/", "application/json")).await.unwrap();
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("the words"));

        let answer = gateway().oneshot(request("/", "application/grpc")).await.unwrap();
        assert_eq!(
            (answer.status(), &answer.headers()["grpc-status"]),
            (200.try_into().unwrap(), &"13".parse().unwrap())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_no_stream_has_a_deadline() {
        let answer = gateway().oneshot(request("/never", "application/grpc")).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4");
    }
}

//! The API of the node, called in process.

use std::{
    convert::Infallible,
    fmt,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use rota_proto::v1::{
    calendar_service_client::CalendarServiceClient, event_service_client::EventServiceClient,
    queue_service_client::QueueServiceClient, schedule_service_client::ScheduleServiceClient,
    server_service_client::ServerServiceClient, task_service_client::TaskServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tower::{Service, util::BoxCloneSyncService};

/// Maximum size of an answer.
const ANSWER_BYTES: usize = 64 << 20;
/// Time that a page waits for a leader, as a gRPC timeout. Then it shows what it knows, and what it lacks.
const PATIENCE: HeaderValue = HeaderValue::from_static("4S");

/// The gateway of the node.
pub type Inner = BoxCloneSyncService<Request<tonic::body::Body>, Response<Body>, Infallible>;

/// The API of the node, as somebody with this token sees it.
#[derive(Clone)]
pub struct Api {
    inner: Inner,
    bearer: Option<HeaderValue>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("has_token", &self.bearer.is_some()).finish_non_exhaustive()
    }
}

impl Api {
    pub(crate) const fn new(inner: Inner) -> Self {
        Self { inner, bearer: None }
    }

    /// A question with who asks it: another token may see other things.
    pub(crate) fn question(&self, text: &str) -> String {
        format!("{:?} {text}", self.bearer.as_ref().map(HeaderValue::as_bytes))
    }

    /// The same API with this token. A token that cannot be in a header is none, and the API refuses that.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Self {
        let bearer = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let bearer = bearer.map(|mut bearer| {
            bearer.set_sensitive(true);
            bearer
        });
        Self { inner: self.inner.clone(), bearer }
    }
}

macro_rules! clients {
    ($($name:ident $client:ident;)*) => {
        impl Api {
            $(
                #[doc = concat!("A [`", stringify!($client), "`].")]
                pub(crate) fn $name(&self) -> $client<Self> {
                    $client::new(self.clone()).max_decoding_message_size(ANSWER_BYTES)
                }
            )*
        }
    };
}

clients! {
    tasks TaskServiceClient;
    queues QueueServiceClient;
    workers WorkerServiceClient;
    schedules ScheduleServiceClient;
    calendars CalendarServiceClient;
    server ServerServiceClient;
    events EventServiceClient;
}

impl Service<Request<tonic::body::Body>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Inner as Service<Request<tonic::body::Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let headers = request.headers_mut();
        if let Some(bearer) = &self.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        headers.entry("grpc-timeout").or_insert(PATIENCE);
        self.inner.call(request)
    }
}

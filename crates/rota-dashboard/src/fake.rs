//! An API for tests of pages: it answers calls with messages that the test gives, and keeps the requests.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, Request, Response};
use prost::Message;
use tonic::{Code, Status};

use crate::{
    api::{Api, Inner},
    kept::AskAgain,
    visit::{Pairs, Theme, Visit},
};

/// Bytes of the head of a message in gRPC: a flag and the length.
const HEAD: usize = 5;

/// The messages of an answer.
type Answer = Arc<dyn Fn(Bytes) -> Result<Vec<Bytes>, Status> + Send + Sync>;

#[derive(Default)]
struct Known {
    answers: Vec<(String, Answer)>,
    calls: Vec<(String, Bytes)>,
}

/// The API. Calls without an answer are refused as unavailable. Clones are the same API.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Known>>);

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fake").field(&self.methods()).finish()
    }
}

impl Fake {
    /// Answers every call of this method with this message. The last answer for a method counts.
    pub(crate) fn with(self, method: &str, message: &impl Message) -> Self {
        let message = Bytes::from(message.encode_to_vec());
        self.add(method, move |_| Ok(message.clone()))
    }

    /// Answers calls of this method by their requests.
    pub(crate) fn answering<Q: Message + Default, A: Message>(
        self,
        method: &str,
        answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
    ) -> Self {
        self.add(method, move |bytes| {
            let request = Q::decode(bytes).expect("a request of this method");
            answer(request).map(|answer| answer.encode_to_vec().into())
        })
    }

    /// Refuses every call of this method.
    pub(crate) fn refusing(self, method: &str, status: Status) -> Self {
        self.add(method, move |_| Err(status.clone()))
    }

    /// Answers every call of this method with a stream of so many times this message.
    pub(crate) fn streaming(self, method: &str, count: usize, message: &impl Message) -> Self {
        let message = Bytes::from(message.encode_to_vec());
        self.add_stream(method, move |_| Ok(vec![message.clone(); count]))
    }

    fn add(
        self,
        method: &str,
        answer: impl Fn(Bytes) -> Result<Bytes, Status> + Send + Sync + 'static,
    ) -> Self {
        self.add_stream(method, move |request| Ok(vec![answer(request)?]))
    }

    fn add_stream(
        self,
        method: &str,
        answer: impl Fn(Bytes) -> Result<Vec<Bytes>, Status> + Send + Sync + 'static,
    ) -> Self {
        self.0.lock().expect("whole").answers.push((method.to_owned(), Arc::new(answer)));
        self
    }

    /// The requests of this method so far.
    pub(crate) fn calls<T: Message + Default>(&self, method: &str) -> Vec<T> {
        let known = self.0.lock().expect("whole");
        let of = known.calls.iter().filter(|(called, _)| called == method);
        of.map(|(_, bytes)| T::decode(bytes.clone()).expect("a message")).collect()
    }

    /// The methods that were called, in order.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.0.lock().expect("whole").calls.iter().map(|(method, _)| method.clone()).collect()
    }

    /// A request for a page at this API.
    pub(crate) fn visit(&self, page: &str, query: &str) -> Visit {
        let fake = self.clone();
        let inner = tower::service_fn(move |request| {
            let fake = fake.clone();
            async move { Ok(fake.answer(request).await) }
        });
        Visit {
            page: page.to_owned(),
            pairs: Pairs::of(query),
            api: Api::new(Inner::new(inner)),
            theme: Theme::System,
            signed_in: false,
            memory: Arc::default(),
            again: AskAgain::new(Duration::ZERO),
        }
    }

    /// A form that was sent to a page.
    pub(crate) fn form(&self, page: &str, pairs: &[(&str, &str)]) -> Visit {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Visit { pairs: Pairs(pairs.collect()), ..self.visit(page, "") }
    }

    async fn answer(&self, request: Request<tonic::body::Body>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let body = to_bytes(Body::new(request.into_body()), usize::MAX).await.expect("a body");
        let request = body.slice(HEAD..);
        let found = {
            let mut known = self.0.lock().expect("whole");
            known.calls.push((method.clone(), request.clone()));
            let found = known.answers.iter().rfind(|(name, _)| *name == method);
            found.map(|(_, answer)| answer.clone())
        };
        let answer =
            found.map_or_else(|| Err(Status::unavailable("no leader")), |one| one(request));
        match answer {
            Ok(messages) => {
                let mut framed = BytesMut::new();
                for message in messages {
                    framed.put_u8(0);
                    framed.put_u32(u32::try_from(message.len()).expect("a short message"));
                    framed.put(message);
                }
                let mut response = Response::new(Body::from(framed.freeze()));
                let ok = (Code::Ok as i32).into();
                response.headers_mut().insert(HeaderName::from_static("grpc-status"), ok);
                response
            }
            Err(status) => {
                let mut response = Response::new(Body::empty());
                status.add_header(response.headers_mut()).expect("headers");
                response
            }
        }
    }
}

/// The server runs pages on any of its threads.
#[expect(dead_code, reason = "it is there to compile")]
fn pages_can_be_sent(dashboard: &crate::Dashboard, request: Request<Body>) -> impl Send {
    dashboard.answer(request)
}

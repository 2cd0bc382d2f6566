//! An API for tests: it answers calls with prepared messages, and notes what was asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use tonic::Status;

use crate::{
    api::{Api, Inner},
    visit::{Pairs, Theme, Visit},
};

type Answer = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, Status> + Send + Sync>;

/// The answers by the name of the method. All others are `NotFound`.
#[derive(Default)]
pub(crate) struct Fake {
    answers: HashMap<&'static str, Answer>,
    asked: Mutex<Vec<(String, Bytes)>>,
}

impl Fake {
    /// Answers calls of a method, which depends on the request.
    pub(crate) fn with<Q: Message + Default, A: Message>(
        mut self,
        method: &'static str,
        answer: impl Fn(Q) -> Result<A, Status> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |bytes: &[u8]| {
            let request = Q::decode(bytes).expect("a request of this method");
            answer(request).map(|answer| answer.encode_to_vec())
        };
        self.answers.insert(method, Box::new(answer));
        self
    }

    /// The requests of a method so far.
    pub(crate) fn asked<Q: Message + Default>(&self, method: &str) -> Vec<Q> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let of = asked.iter().filter(|(name, _)| name == method);
        of.map(|(_, bytes)| Q::decode(bytes.clone()).expect("a request of this method")).collect()
    }

    async fn answer(&self, request: Request<tonic::body::Body>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let body = to_bytes(Body::new(request.into_body()), usize::MAX).await.expect("a body");
        // A flag and the length come before the message.
        let message = body.slice(5..);
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((method.clone(), message.clone()));
        let answer = self.answers.get(method.as_str());
        let answered = answer.map_or_else(
            || Err(Status::not_found(format!("no answer to {method}"))),
            |answer| answer(&message),
        );
        match answered {
            Err(status) => status.into_http(),
            Ok(message) => {
                let length = u32::try_from(message.len()).expect("a small message");
                let frame = [&[0], &length.to_be_bytes()[..], &message].concat();
                let end = HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                Response::builder()
                    .header("content-type", "application/grpc")
                    .body(Body::new(
                        Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(end)) }),
                    ))
                    .expect("a response")
            }
        }
    }
}

/// A visit of a page with these parameters, over this API.
pub(crate) fn visit(fake: &Arc<Fake>, page: &str, query: &str) -> Visit {
    let fake = fake.clone();
    let inner = Inner::new(tower::service_fn(move |request| {
        let fake = fake.clone();
        async move { Ok(fake.answer(request).await) }
    }));
    Visit {
        page: page.to_owned(),
        pairs: Pairs::of(query),
        api: Api::new(inner),
        theme: Theme::System,
        signed_in: false,
    }
}

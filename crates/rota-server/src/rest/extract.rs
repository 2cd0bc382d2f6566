//! From requests to values: bodies and queries, with errors that name the field.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::{
    failure::{Failure, Reason},
    grpc::Services,
};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Services> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        check_content_type(request.headers())?;
        let limits = &services.limits;
        let read = Bytes::from_request(request, services);
        let bytes = match tokio::time::timeout(limits.body_timeout, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(rejection)) => return Err(unreadable(&rejection, limits.request_bytes)),
            Err(_) => {
                let detail = format!("the body did not arrive within {:?}", limits.body_timeout);
                return Err(Failure::new(Reason::RequestTimeout, detail));
            }
        };
        parse(&bytes).map(Self)
    }
}

fn unreadable(rejection: &BytesRejection, limit: usize) -> Failure {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let detail = format!("the body is larger than {limit} bytes (limit request_bytes)");
        Failure::new(Reason::TooLarge, detail)
    } else {
        Failure::new(Reason::Invalid, "the body could not be read to its end")
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Failure::new(
            Reason::UnsupportedMediaType,
            "send the header content-type: application/json",
        )),
    }
}

/// Reads JSON; the error names the field's path.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "body".to_owned() } else { path };
        Failure::field(&field, readable(&error.into_inner().to_string()))
    })?;
    json.end().map_err(|error| Failure::field("body", readable(&error.to_string())))?;
    Ok(value)
}

/// A parser's message, cut to a length that a person reads.
fn readable(message: &str) -> String {
    message.chars().take(300).collect()
}

/// The query as pairs, percent-decoded, in order.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state);
        let pairs = pairs.await.map_err(|_| Failure::field("query", "is not readable"))?;
        Ok(Self(pairs.0))
    }
}

/// One part of the path, percent-decoded.
pub(crate) struct Part(pub(crate) String);

impl<S: Sync + Send> FromRequestParts<S> for Part {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let part = Path::<String>::from_request_parts(parts, state).await;
        part.map(|Path(part)| Self(part)).map_err(|_| Failure::field("path", "is not readable"))
    }
}

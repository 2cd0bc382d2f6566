//! Extracts callers, bodies and path parameters from requests. Errors name the field.

use std::convert::Infallible;

use axum::{
    extract::{
        FromRequest, FromRequestParts, Path, Request, path::ErrorKind, rejection::PathRejection,
    },
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use hyper::body::Body as _;
use rota_proto::json::Object;
use serde::de::DeserializeOwned;

use crate::{
    failure::{Failure, Reason},
    operations::{Caller, Results},
    room::{Bounds, read_body},
    services::Services,
};

impl<S: Sync + Send> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of_headers(&parts.headers, Results::Json))
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Services> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        parse(&read_json(request, services, &["application/json"]).await?).map(Self)
    }
}

/// The bytes of a body of one of these types.
pub(super) async fn read_json(
    request: Request,
    services: &Services,
    types: &[&str],
) -> Result<Bytes, Failure> {
    check_content_type(request.headers(), types)?;
    let limits = &services.limits;
    let bounds =
        Bounds { request_bytes: limits.request_bytes, extra: 0, within: limits.body_timeout };
    read_body(request.into_body(), bounds).await
}

/// A JSON body, or none, which means the default.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Services> for OptionalBody<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        // A body of unknown length is not empty for certain.
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let Body(value) = Body::from_request(request, services).await?;
        Ok(Self(value))
    }
}

/// Whether the body has one of these types.
pub(super) fn has_type(headers: &HeaderMap, types: &[&str]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    kind.is_some_and(|kind| types.iter().any(|known| kind.eq_ignore_ascii_case(known)))
}

fn check_content_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Failure> {
    if has_type(headers, types) {
        return Ok(());
    }
    let detail = "set the header content-type to application/json";
    Err(Failure::new(Reason::UnsupportedMediaType, detail))
}

/// Parses a JSON object. An error names the path of the field.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        Failure::field(&readable(&place(&path, &message)), readable(&message))
    })?;
    json.end().map_err(|error| Failure::field("body", readable(&error.to_string())))?;
    Ok(value)
}

/// The field at fault. Serde reports a missing or duplicate field at the object around it.
fn place(path: &str, message: &str) -> String {
    // If the error occurred before a name was read, the object around it is the field.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let named = message.strip_prefix("missing field `");
    let named = named.or_else(|| message.strip_prefix("duplicate field `"));
    match (path, named.and_then(|rest| rest.split_once('`'))) {
        ("", None) => "body".to_owned(),
        ("", Some((field, _))) => field.to_owned(),
        (path, Some((field, _))) => format!("{path}.{field}"),
        (path, None) => path.to_owned(),
    }
}

/// A message that can include text from a client, cut to a readable length.
fn readable(text: &str) -> String {
    text.chars().take(300).collect()
}

/// A path parameter, percent-decoded.
pub(crate) struct Part(pub(crate) String);

impl<S: Sync + Send> FromRequestParts<S> for Part {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let part = Path::<String>::from_request_parts(parts, state).await;
        part.map(|Path(part)| Self(part)).map_err(|rejection| {
            let field = match &rejection {
                PathRejection::FailedToDeserializePathParams(failed) => match failed.kind() {
                    ErrorKind::InvalidUtf8InPathParam { key } => key.as_str(),
                    _ => "path",
                },
                _ => "path",
            };
            Failure::field(field, "must be percent-encoded UTF-8")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_of_an_error_is_its_path() {
        for (path, message, field) in [
            (".", "expected value", "body"),
            ("?", "EOF while parsing", "body"),
            ("retry.?", "EOF while parsing", "retry"),
            (".", "missing field `kind` at line 1", "kind"),
            ("tasks[2]", "missing field `kind` at line 1", "tasks[2].kind"),
            ("retry.initial", "invalid type", "retry.initial"),
        ] {
            assert_eq!(place(path, message), field);
        }
    }

    #[test]
    fn what_a_client_wrote_is_cut_before_it_is_repeated() {
        let body = format!(r#"{{"{}":1}}"#, "x".repeat(1 << 20));
        let failure = parse::<rota_proto::v1::NewTask>(body.as_bytes()).unwrap_err();
        assert_eq!(failure.violations[0].field.len(), 300);
        assert!(failure.detail.len() < 1000);
    }
}

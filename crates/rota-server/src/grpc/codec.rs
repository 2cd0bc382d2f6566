//! Errors of messages that cannot be decoded: replaces the statuses of tonic.
//!
//! tonic ends such a call with `INTERNAL` or `OUT_OF_RANGE`, which looks like a fault of the server. Here it
//! becomes `INVALID_ARGUMENT`, with the field if it is known.

use axum::body::Body;
use http::Response;
use tonic::{Code, Status};

use crate::failure::{Failure, Reason};

/// The prefix of prost's decoding errors.
const UNREADABLE: &str = "failed to decode Protobuf message: ";

/// Replaces an answer of tonic.
pub(crate) fn answered(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()).as_ref().and_then(unreadable) {
        Some(failure) => Status::from(failure).into_http(),
        None => response,
    }
}

/// The failure, if the status is a decoding error of tonic. Statuses of this crate have details.
pub(super) fn unreadable(status: &Status) -> Option<Failure> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::Internal => {
            let (field, message) = place(status.message());
            Some(Failure::field(&field, message))
        }
        Code::OutOfRange => {
            // The message ends with the limit: `found 7 bytes, the limit is: 5 bytes`.
            let limit = status.message().rsplit(": ").next();
            let limit = limit.and_then(|limit| limit.strip_suffix(" bytes")?.parse().ok());
            Some(limit.map_or_else(
                || Failure::new(Reason::TooLarge, status.message()),
                Failure::too_large,
            ))
        }
        _ => None,
    }
}

/// The path of the field, and the error. Prost lists the innermost field first, each with its message:
/// `NewTask.kind: CreateTaskRequest.task: invalid string value`.
fn place(message: &str) -> (String, String) {
    let Some(mut rest) = message.strip_prefix(UNREADABLE) else {
        return ("message".to_owned(), message.to_owned());
    };
    let mut path = Vec::new();
    while let Some((first, further)) = rest.split_once(": ") {
        match first.split_once('.') {
            Some((of, field)) if !of.contains(' ') && !field.contains(' ') => path.push(field),
            _ => break,
        }
        rest = further;
    }
    path.reverse();
    let field = if path.is_empty() { "message".to_owned() } else { path.join(".") };
    (field, format!("cannot be decoded: {rest}"))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use rota_proto::v1;

    use super::*;

    fn said_of(bytes: &[u8]) -> Failure {
        let error = v1::CreateTaskRequest::decode(bytes).unwrap_err();
        unreadable(&Status::internal(error.to_string())).unwrap()
    }

    #[test]
    fn the_field_is_named() {
        // Field 1 (task) of 4 bytes: field 3 (kind) of 2 bytes that are no UTF-8.
        let failure = said_of(&[0x0a, 4, 0x1a, 2, 0xff, 0xff]);
        assert_eq!(failure.violations[0].field, "task.kind");
        assert_eq!(failure.reason, Reason::Invalid);
        // Field 1 says that it has 100 bytes.
        assert_eq!(said_of(&[0x0a, 100, 0x1a]).violations[0].field, "task");
        // No field has number 0.
        assert_eq!(said_of(&[0x00, 0x00]).violations[0].field, "message");
    }

    #[test]
    fn a_message_that_is_too_large_names_the_limit() {
        let words = "Error, decoded message length too large: found 7 bytes, the limit is: 5 bytes";
        let limit = unreadable(&Status::out_of_range(words)).and_then(|failure| failure.limit());
        assert_eq!(limit.map(|limit| (limit.name, limit.max)), Some(("request_bytes", 5)));
        let other = unreadable(&Status::out_of_range("otherwise said")).unwrap();
        assert_eq!((other.reason, other.limit()), (Reason::TooLarge, None));
    }

    #[test]
    fn our_own_statuses_stay_as_they_are() {
        let own = Status::from(Failure::new(Reason::Internal, "something went wrong"));
        assert_eq!(unreadable(&own), None);
        assert_eq!(unreadable(&Status::unimplemented("")), None);
    }
}

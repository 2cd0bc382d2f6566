//! Reads complete request bodies, within their limits.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use tokio::time::timeout;

use super::{
    bodies::{SMALL, patience},
    refused,
};
use crate::failure::{Failure, Reason};

/// Maximum bytes of a refused body to read.
const DISCARD: usize = 64 << 20;

/// The limits of a body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Maximum bytes of a request.
    pub(crate) request_bytes: usize,
    /// Bytes that the protocol can add.
    pub(crate) extra: usize,
    pub(crate) within: Duration,
}

/// Reads a complete body, within its limits.
pub(crate) async fn read_body(mut body: Body, bounds: Bounds) -> Result<Bytes, Failure> {
    let Bounds { request_bytes, extra, within } = bounds;
    let read = collect(&mut body, request_bytes.saturating_add(extra));
    let failure = match timeout(within, read).await {
        Ok(Ok(Some(bytes))) => return Ok(bytes),
        Ok(Ok(None)) => Failure::too_large(request_bytes),
        Ok(Err(error)) => match refused(&error) {
            Some(failure) if failure.reason == Reason::Overloaded => failure,
            Some(failure) => return Err(failure),
            None => {
                return Err(Failure::new(Reason::Invalid, "the body is incomplete"));
            }
        },
        Err(_) => return Err(Failure::body_timeout(within)),
    };
    // A client that still writes when the connection closes cannot read the answer.
    let _ = timeout(patience(within), discard(&mut body)).await;
    Err(failure)
}

/// Reads the body, up to this many bytes. Joins its parts as they arrive, so that it is never in memory
/// twice.
async fn collect(body: &mut Body, most: usize) -> Result<Option<Bytes>, axum::Error> {
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if least > most {
        return Ok(None);
    }
    // Not more, because a client can announce much and send nothing.
    let mut all = BytesMut::with_capacity(least.min(SMALL));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if all.len() + data.len() > most {
            return Ok(None);
        }
        if all.capacity() < all.len() + data.len() {
            all.reserve(data.len().max(least.saturating_sub(all.len())));
        }
        all.extend_from_slice(&data);
    }
    Ok(Some(all.freeze()))
}

/// Reads and discards the rest of a body, up to a limit.
async fn discard(body: &mut Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > DISCARD {
            return;
        }
    }
}

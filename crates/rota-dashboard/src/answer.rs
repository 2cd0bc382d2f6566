//! The answers of the dashboard, with the headers that every page has.

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use maud::Markup;

use crate::assets;

/// Scripts and styles come from this server alone, and none is in the page. Icons in styles are `data:` URLs.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                                 connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Below this size, compression costs more than it saves.
const SMALL: usize = 1024;

/// Adds the headers that protect every page.
fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn with(
    status: StatusCode,
    headers: &[(HeaderName, &str)],
    body: impl Into<Body>,
) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    protect(response.headers_mut());
    for (name, value) in headers {
        // Links and cookies are ASCII. Anything else would be a bug here, and is left out.
        if let Ok(value) = HeaderValue::try_from(*value) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Whether the browser reads gzip.
fn reads_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.split(',').any(|one| one.trim().starts_with("gzip")))
}

/// A page. It shows a moment, so nobody keeps it.
pub(crate) fn page(status: StatusCode, request: &HeaderMap, page: Markup) -> Response<Body> {
    let mut headers = vec![
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-encoding, cookie"),
    ];
    let text = page.into_string();
    if text.len() > SMALL && reads_gzip(request) {
        headers.push((header::CONTENT_ENCODING, "gzip"));
        return with(status, &headers, assets::gzip(text.as_bytes(), Compression::fast()));
    }
    with(status, &headers, text)
}

/// Sends the browser to a page of the dashboard.
pub(crate) fn see(link: &str) -> Response<Body> {
    with(
        StatusCode::SEE_OTHER,
        &[(header::LOCATION, link), (header::CACHE_CONTROL, "no-store")],
        Body::empty(),
    )
}

/// The same, and sets a cookie.
pub(crate) fn see_with_cookie(link: &str, cookie: &str) -> Response<Body> {
    with(
        StatusCode::SEE_OTHER,
        &[
            (header::LOCATION, link),
            (header::CACHE_CONTROL, "no-store"),
            (header::SET_COOKIE, cookie),
        ],
        Body::empty(),
    )
}

/// A file. A path that names its content can be kept for ever; one that does not comes from a page of another version.
pub(crate) fn asset(
    request: &HeaderMap,
    file: &'static assets::Asset,
    current: bool,
) -> Response<Body> {
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-store" };
    let mut headers = vec![
        (header::CONTENT_TYPE, file.kind),
        (header::CACHE_CONTROL, keep),
        (header::VARY, "accept-encoding"),
    ];
    if reads_gzip(request) {
        headers.push((header::CONTENT_ENCODING, "gzip"));
        return with(StatusCode::OK, &headers, file.gzip.clone());
    }
    with(StatusCode::OK, &headers, file.plain)
}

/// Bytes of users. No browser shows them as a page.
pub(crate) fn download(name: &str, content: Bytes) -> Response<Body> {
    with(
        StatusCode::OK,
        &[
            (header::CONTENT_TYPE, "application/octet-stream"),
            (header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{name}\"")),
            (header::CACHE_CONTROL, "no-store"),
        ],
        content,
    )
}

/// A stream of server-sent events.
pub(crate) fn stream(body: Body) -> Response<Body> {
    with(
        StatusCode::OK,
        &[
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            // Some proxies would hold events back to send more at once.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ],
        body,
    )
}

/// A short text, where nobody expects a page.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    with(
        status,
        &[(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")],
        text,
    )
}

//! Follows redirects. The headers and body for one origin must not reach another origin, which only the first
//! one has chosen.

use reqwest::{
    Method, Request, Response, StatusCode, Url,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, USER_AGENT},
};

use crate::handler::HandlerError;

/// The target of a redirect, if the answer is one.
pub(super) fn target(answer: &Response) -> Option<Url> {
    let is_redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(LOCATION).filter(|_| is_redirect)?;
    answer.url().join(location.to_str().ok()?).ok()
}

/// The request after a redirect.
///
/// # Errors
/// When it would send a body, or a method other than a read, to another origin.
pub(super) fn next(
    mut request: Request,
    status: StatusCode,
    to: Url,
) -> Result<Request, HandlerError> {
    // Like browsers, as HTTP allows: only 307 and 308 repeat a request that is not a read.
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let becomes_get = match status.as_u16() {
        301 | 302 => *request.method() == Method::POST,
        303 => !reads,
        _ => false,
    };
    if becomes_get {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        for name in [CONTENT_TYPE, CONTENT_ENCODING] {
            request.headers_mut().remove(name);
        }
    }
    if to.origin() != request.url().origin() {
        leave(&mut request, &to)?;
    }
    *request.url_mut() = to;
    Ok(request)
}

/// Removes everything that must not reach another origin.
fn leave(request: &mut Request, to: &Url) -> Result<(), HandlerError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || request.body().is_some() {
        return Err(HandlerError::permanent(format!(
            "{} redirects this {} to another origin, {}, which must not get its body and headers; \
             use that address in the task if it is correct",
            request.url().origin().ascii_serialization(),
            request.method(),
            to.origin().ascii_serialization(),
        )));
    }
    let mut kept = reqwest::header::HeaderMap::new();
    for name in [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT] {
        if let Some(value) = request.headers().get(&name) {
            kept.insert(name, value.clone());
        }
    }
    *request.headers_mut() = kept;
    Ok(())
}

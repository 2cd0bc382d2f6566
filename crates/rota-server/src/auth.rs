//! Who may ask: bearer tokens where the operator set them, and, without, a guard against pages in
//! a browser that reach for a server on the same machine.

use std::{fmt, net::SocketAddr};

use http::{HeaderMap, Method, header};
use subtle::ConstantTimeEq;

use crate::failure::{Failure, Reason};

/// Shortest token that is accepted from the operator.
const TOKEN_BYTES_MIN: usize = 16;

/// Tokens that open the API. Never shown.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Box<str>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} hidden)", self.0.len())
    }
}

/// A token is too short to protect anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API token must have at least {TOKEN_BYTES_MIN} characters")]
pub struct WeakToken;

impl Tokens {
    /// These tokens, each of which opens the API.
    ///
    /// # Errors
    /// When one is shorter than 16 characters.
    pub fn new(tokens: impl IntoIterator<Item = String>) -> Result<Self, WeakToken> {
        let tokens: Vec<Box<str>> = tokens.into_iter().map(String::into_boxed_str).collect();
        if tokens.iter().any(|token| token.len() < TOKEN_BYTES_MIN) {
            return Err(WeakToken);
        }
        Ok(Self(tokens))
    }

    /// Whether there are none: everybody may ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn open(&self, given: &str) -> bool {
        // All are compared, whichever fits, so that time tells nothing.
        let fits = |token: &str| token.as_bytes().ct_eq(given.as_bytes());
        let any = self.0.iter().fold(subtle::Choice::from(0), |any, token| any | fits(token));
        any.into()
    }
}

/// Whether the request may pass. Health and the contract are open to all.
pub(crate) fn check(
    tokens: &Tokens,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    local: SocketAddr,
) -> Result<(), Failure> {
    if matches!(path, "/healthz" | "/readyz") {
        return Ok(());
    }
    if tokens.is_empty() {
        return check_browser(method, headers, local);
    }
    if matches!(path, "/" | "/docs" | "/docs/docs.js" | "/openapi.json") {
        return Ok(());
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    match given {
        Some(given) if tokens.open(given.trim()) => Ok(()),
        Some(_) => Err(Failure::new(Reason::Unauthenticated, "the bearer token is not known")),
        None => {
            Err(Failure::new(Reason::Unauthenticated, "send the header authorization: Bearer …"))
        }
    }
}

/// A page of some other site must not be able to submit commands to a server that trusts its own
/// machine: refuse what a browser says comes from elsewhere, and names that are not this machine's.
fn check_browser(method: &Method, headers: &HeaderMap, local: SocketAddr) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST);
    if let (Some(origin), true) = (text(header::ORIGIN), method != Method::GET) {
        let same = origin.split_once("://").map(|(_, rest)| rest) == host;
        if !same {
            let detail = "requests from pages of other sites are refused (header origin)";
            return Err(Failure::new(Reason::Forbidden, detail));
        }
    }
    if local.ip().is_loopback()
        && let Some(host) = host
        && !names_this_machine(host)
    {
        let detail = "without authentication, the header host must name this machine";
        return Err(Failure::new(Reason::Forbidden, detail));
    }
    Ok(())
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (header::HeaderName::from_static(name), value.parse().expect("a header"))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn tokens_open_and_nothing_else_does() {
        let tokens = Tokens::new(["0123456789abcdef".to_owned()]).expect("long enough");
        let local = "127.0.0.1:7420".parse().expect("an address");
        let pass = |given: &[(&'static str, &str)]| {
            check(&tokens, &Method::POST, "/v1/tasks", &headers(given), local).is_ok()
        };
        assert!(pass(&[("authorization", "Bearer 0123456789abcdef")]));
        assert!(!pass(&[("authorization", "Bearer 0123456789abcdeF")]));
        assert!(!pass(&[("authorization", "Basic 0123456789abcdef")]));
        assert!(!pass(&[]));
        assert!(Tokens::new(["short".to_owned()]).is_err());
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let local = "127.0.0.1:7420".parse().expect("an address");
        let pass = |method: Method, given: &[(&'static str, &str)]| {
            check(&Tokens::default(), &method, "/v1/tasks", &headers(given), local).is_ok()
        };
        assert!(pass(Method::POST, &[("host", "127.0.0.1:7420")]));
        assert!(pass(Method::POST, &[("host", "[::1]:7420")]));
        assert!(pass(Method::GET, &[("host", "localhost:7420")]));
        assert!(!pass(Method::GET, &[("host", "evil.example:7420")]));
        assert!(!pass(
            Method::POST,
            &[("host", "localhost:7420"), ("origin", "https://evil.example")]
        ));
        assert!(pass(
            Method::POST,
            &[("host", "localhost:7420"), ("origin", "http://localhost:7420")]
        ));
    }
}

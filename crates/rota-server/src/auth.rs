//! Authentication: bearer tokens if the operator has set some; otherwise a guard against web pages that try
//! to reach a server on the same machine as the browser.

use std::{fmt, net::SocketAddr};

use http::{Request, header, uri::Authority};
use rota_proto::operations::Role;
use subtle::ConstantTimeEq;

use crate::failure::{Failure, Reason};

/// Minimum length of a token.
const TOKEN_BYTES_MIN: usize = 16;

/// API tokens. They are never shown.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Box<str>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({} hidden)", self.0.len())
    }
}

/// A token is too short to be secure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API token must have at least {TOKEN_BYTES_MIN} characters")]
pub struct WeakToken;

impl Tokens {
    /// Makes tokens, each of which gives access to the API.
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

    /// Whether there are none, so that everyone has access.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tokens, for the dashboard, which exchanges one for a session.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| &**token)
    }

    pub(crate) fn open(&self, given: &str) -> bool {
        // Compares with all tokens, so that the time does not depend on which one matches.
        let fits = |token: &str| token.as_bytes().ct_eq(given.as_bytes());
        let any = self.0.iter().fold(subtle::Choice::from(0), |any, token| any | fits(token));
        any.into()
    }
}

/// The access rules of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Tokens for everything. Without any, everyone who reaches the server can use it.
    pub(crate) tokens: Tokens,
    /// Tokens for `/metrics` only.
    pub(crate) metrics: Tokens,
    /// Whether `/metrics` needs no token.
    pub(crate) metrics_open: bool,
    /// The origin by which browsers reach the server through a proxy.
    pub(crate) public_origin: Option<String>,
}

/// Checks a request for an operation of this role. A request for no known operation needs a token, too.
pub(crate) fn check<B>(
    access: &Access,
    role: Option<Role>,
    request: &Request<B>,
    local: SocketAddr,
) -> Result<(), Failure> {
    if role == Some(Role::Probe) {
        return Ok(());
    }
    let tokens = &access.tokens;
    let for_metrics = role == Some(Role::Metrics);
    if for_metrics && access.metrics_open {
        return Ok(());
    }
    let all_open = tokens.is_empty() && (!for_metrics || access.metrics.is_empty());
    if all_open {
        return check_browser(request, local, access.public_origin.as_deref());
    }
    if role.is_some_and(|role| !role.needs_token()) {
        return Ok(());
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match given.map(|(_, token)| token) {
        Some(given) if tokens.open(given.trim()) => Ok(()),
        Some(given) if for_metrics && access.metrics.open(given.trim()) => Ok(()),
        Some(_) => Err(Failure::new(Reason::Unauthenticated, "the bearer token is not valid")),
        None => Err(Failure::new(
            Reason::Unauthenticated,
            "no API token; set the header authorization: Bearer TOKEN",
        )),
    }
}

/// Protects a server without tokens from web pages of other sites, which could submit commands: refuses a
/// foreign origin, and host names that do not belong to this machine.
fn check_browser<B>(
    request: &Request<B>,
    local: SocketAddr,
    public: Option<&str>,
) -> Result<(), Failure> {
    let public_host = public.and_then(|origin| Some(origin.split_once("://")?.1));
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    // A host in the URL overrides the header (RFC 9112, section 3.2.2; RFC 9113, section 8.3.1).
    let host = request.uri().authority().map(Authority::as_str).or_else(|| text(header::HOST));
    if let (Some(origin), false) = (text(header::ORIGIN), request.method().is_safe()) {
        let same = origin.split_once("://").map(|(_, rest)| rest) == host;
        if !same && public != Some(origin) {
            let detail = "requests from web pages of other sites are not allowed (header origin)";
            return Err(Failure::new(Reason::Forbidden, detail));
        }
    }
    if local.ip().is_loopback()
        && let Some(host) = host
        && !names_this_machine(host)
        && public_host != Some(host)
    {
        let detail = "without authentication, the header host must name this machine, such as \
                      localhost or 127.0.0.1; to serve other names, set api_tokens (ROTA_API_TOKENS)";
        return Err(Failure::new(Reason::Forbidden, detail));
    }
    Ok(())
}

fn names_this_machine(host: &str) -> bool {
    // User information before the @ is not part of the host.
    if host.contains('@') {
        return false;
    }
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
    use crate::protocol::Asked;

    impl From<&Tokens> for Access {
        fn from(tokens: &Tokens) -> Self {
            Self { tokens: tokens.clone(), ..Self::default() }
        }
    }

    fn pass(access: impl Into<Access>, method: &str, uri: &str, given: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in given {
            request = request.header(*name, *value);
        }
        let local = "127.0.0.1:7420".parse().unwrap();
        let request = request.body(()).unwrap();
        let asked = Asked::of(request.method(), request.uri().path(), request.headers());
        check(&access.into(), asked.role(), &request, local).is_ok()
    }

    #[test]
    fn tokens_open_and_nothing_else_does() {
        let words = ["0123456789abcdef", "fedcba9876543210"].map(str::to_owned);
        let tokens = Tokens::new(words).unwrap();
        let pass = |given: &[(&str, &str)]| pass(&tokens, "POST", "/v1/tasks", given);
        assert!(pass(&[("authorization", "Bearer 0123456789abcdef")]));
        assert!(pass(&[("authorization", "bearer fedcba9876543210")]));
        for wrong in
            ["Bearer 0123456789abcdeF", "Basic 0123456789abcdef", "Bearer ", "0123456789abcdef", ""]
        {
            assert!(!pass(&[("authorization", wrong)]), "{wrong}");
        }
        assert!(!pass(&[]));
        assert_eq!(Tokens::new(["short".to_owned()]).err(), Some(WeakToken));
        assert!(!format!("{tokens:?}").contains("0123"));
    }

    #[test]
    fn health_and_the_contract_are_open_to_all() {
        let tokens = Tokens::new(["0123456789abcdef".to_owned()]).unwrap();
        for path in
            ["/healthz", "/readyz", "/", "/docs", "/docs/docs.js", "/docs/x.css", "/openapi.json"]
        {
            assert!(pass(&tokens, "GET", path, &[]), "{path}");
        }
        for path in ["/v1/info", "/docs/", "/v1/../healthz", "/rota.v1.TaskService/GetTask"] {
            assert!(!pass(&tokens, "GET", path, &[]), "{path}");
        }
        let grpc = [("content-type", "application/grpc")];
        for path in ["/healthz", "/grpc.health.v1.Health/Check", "/rota.v1.TaskService/GetTask"] {
            assert!(!pass(&tokens, "POST", path, &grpc), "{path}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let none = Tokens::default();
        let pass = |method: &str, given: &[(&str, &str)]| pass(&none, method, "/v1/tasks", given);
        for host in ["127.0.0.1:7420", "127.9.9.9", "[::1]:7420", "LocalHost:7420", "a.localhost"] {
            assert!(pass("POST", &[("host", host)]), "{host}");
        }
        for host in
            ["evil.example:7420", "localhost.evil.example", "10.0.0.1", "[::2]", "", "[", ":"]
        {
            assert!(!pass("GET", &[("host", host)]), "{host}");
        }
        let from = |origin| [("host", "localhost:7420"), ("origin", origin)];
        assert!(pass("POST", &from("http://localhost:7420")));
        for origin in ["https://evil.example", "http://localhost:7421", "null", ""] {
            assert!(!pass("POST", &from(origin)), "{origin}");
            assert!(!pass("DELETE", &from(origin)), "{origin}");
            assert!(pass("GET", &from(origin)), "{origin}");
        }
    }

    #[test]
    fn the_host_of_http_2_counts_as_well() {
        let none = Tokens::default();
        assert!(pass(&none, "POST", "http://127.0.0.1:7420/v1/tasks", &[]));
        assert!(!pass(&none, "POST", "http://evil.example/v1/tasks", &[]));
        assert!(!pass(&none, "POST", "http://localhost:x@evil.example/v1/tasks", &[]));
    }

    #[test]
    fn the_host_of_an_absolute_address_counts_and_the_header_does_not() {
        let none = Tokens::default();
        let pass = |host: &str, given: &[(&str, &str)]| {
            pass(&none, "POST", &format!("http://{host}/v1/tasks"), given)
        };
        assert!(!pass("evil.example", &[("host", "localhost")]));
        assert!(pass("localhost", &[("host", "evil.example")]));
        let from = |host, origin| [("host", host), ("origin", origin)];
        assert!(pass("localhost:1", &from("localhost:2", "http://localhost:1")));
        assert!(!pass("localhost:1", &from("localhost:2", "http://localhost:2")));
    }

    #[test]
    fn metrics_can_have_a_token_of_their_own_or_be_open() {
        let token = |text: &str| Tokens::new([text.to_owned()]).unwrap();
        let given = |word: &str| format!("Bearer {word}");
        let [api, scrape] = ["0123456789abcdef", "fedcba9876543210"];
        let access = Access { tokens: token(api), metrics: token(scrape), ..Access::default() };
        let pass = |path: &str, word: &str| {
            pass(access.clone(), "GET", path, &[("authorization", &given(word))])
        };
        assert!(pass("/metrics", api) && pass("/metrics", scrape) && pass("/v1/tasks", api));
        assert!(!pass("/v1/tasks", scrape) && !pass("/metrics", "something else 1"));
        let pass = |access: &Access| tests::pass(access.clone(), "GET", "/metrics", &[]);
        assert!(!pass(&access));
        assert!(pass(&Access { metrics_open: true, ..access.clone() }));
        assert!(!pass(&Access { tokens: Tokens::default(), ..access }));
        assert!(pass(&Access::default()));
    }
}

//! Whether a change was asked for by a page of this dashboard, and not by a page of another site.

use http::{HeaderMap, Uri, header};

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign;

/// Checks a request that changes something. Its origin must be the host that it asks, or the public URL of the server
/// behind a proxy. Browsers send the origin with every form that is posted.
pub(crate) fn check(headers: &HeaderMap, uri: &Uri, public: Option<&str>) -> Result<(), Foreign> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Browsers send it over TLS and to this machine.
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(Foreign);
    }
    let origin = text(header::ORIGIN.as_str()).ok_or(Foreign)?;
    let named = origin.split_once("://").map(|(_, named)| named);
    // A host in the URL overrides the header (RFC 9112, section 3.2.2; RFC 9113, section 8.3.1).
    let host =
        uri.authority().map(http::uri::Authority::as_str).or_else(|| text(header::HOST.as_str()));
    let is_host =
        named.is_some_and(|named| host.is_some_and(|host| host.eq_ignore_ascii_case(named)));
    let is_public = public.is_some_and(|public| public.eq_ignore_ascii_case(origin));
    if is_host || is_public { Ok(()) } else { Err(Foreign) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(uri: &str, public: Option<&str>, given: &[(&'static str, &str)]) -> bool {
        let headers = given.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), value.parse().expect("a value"))
        });
        let headers: HeaderMap = headers.collect();
        check(&headers, &uri.parse().expect("an address"), public).is_ok()
    }

    #[test]
    fn the_origin_must_be_the_host() {
        let host = ("host", "rota.example:7420");
        let pass =
            |given: &[(&'static str, &str)]| passes("/ui/queue", None, &[&[host], given].concat());
        assert!(pass(&[("origin", "https://rota.example:7420")]));
        assert!(pass(&[("origin", "http://Rota.example:7420"), ("sec-fetch-site", "same-origin")]));
        for origin in
            ["https://evil.example", "http://rota.example", "http://rota.example:1", "null", ""]
        {
            assert!(!pass(&[("origin", origin)]), "{origin}");
        }
        assert!(!pass(&[]), "every browser sends it");
        for site in ["cross-site", "same-site", ""] {
            let given = [("origin", "https://rota.example:7420"), ("sec-fetch-site", site)];
            assert!(!pass(&given), "{site}");
        }
    }

    #[test]
    fn a_proxy_may_have_another_name() {
        let given = [("host", "10.0.0.1:7420"), ("origin", "https://rota.example")];
        assert!(!passes("/ui/queue", None, &given));
        assert!(passes("/ui/queue", Some("https://rota.example"), &given));
        assert!(!passes("/ui/queue", Some("http://rota.example"), &given));
    }

    #[test]
    fn the_host_of_http_2_is_in_the_address() {
        let given = [("origin", "https://rota.example")];
        assert!(passes("https://rota.example/ui/queue", None, &given));
        assert!(!passes("https://evil.example/ui/queue", None, &given));
    }
}

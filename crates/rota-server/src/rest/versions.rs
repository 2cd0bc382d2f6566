//! Versions in headers: `If-Match` and `If-None-Match` of requests, `ETag` of answers.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::failure::Failure;

/// What a request expects of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Nothing.
    Any,
    /// There is one.
    Some,
    /// There is none.
    None,
    /// It is this one.
    Version(u64),
}

impl Expected {
    /// Reads `If-Match` and `If-None-Match`.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Result<Self, Failure> {
        let matches = one(headers, &header::IF_MATCH)?;
        match (matches, one(headers, &header::IF_NONE_MATCH)?) {
            (None, None) => Ok(Self::Any),
            (None, Some("*")) => Ok(Self::None),
            (None, Some(_)) => {
                let wrong = "must be *; use if-match to name a version";
                Err(Failure::field("if-none-match", wrong))
            }
            (Some(_), Some(_)) => {
                Err(Failure::field("if-none-match", "cannot be combined with if-match"))
            }
            (Some("*"), None) => Ok(Self::Some),
            (Some(text), None) => Ok(Self::Version(version(text)?)),
        }
    }

    /// Reads `If-Match` of a request that changes only what exists.
    pub(crate) fn of_existing(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
        match one(headers, &header::IF_MATCH)? {
            None | Some("*") => Ok(None),
            Some(text) => version(text).map(Some),
        }
    }
}

/// The header, which can occur once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut given = headers.get_all(name).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(Failure::field(name.as_str(), "occurs more than once"));
    }
    Ok(Some(value.to_str().unwrap_or_default().trim()))
}

/// A version, with or without quotes.
fn version(text: &str) -> Result<u64, Failure> {
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let version = quoted.unwrap_or(text).parse();
    version.map_err(|_| Failure::field("if-match", "must be a version: a whole number"))
}

/// The header `ETag` of a version.
pub(crate) fn etag(version: u64) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::try_from(format!("\"{version}\""));
    [(header::ETAG, value.expect("digits in quotes"))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn versions_are_read_with_and_without_quotes() {
        for (pairs, expected) in [
            (&[][..], Expected::Any),
            (&[("if-match", "\"7\"")], Expected::Version(7)),
            (&[("if-match", " 7 ")], Expected::Version(7)),
            (&[("if-match", "*")], Expected::Some),
            (&[("if-none-match", "*")], Expected::None),
        ] {
            assert_eq!(Expected::of_headers(&headers(pairs)), Ok(expected), "{pairs:?}");
        }
        assert_eq!(Expected::of_existing(&headers(&[("if-match", "*")])), Ok(None));
        assert_eq!(Expected::of_existing(&headers(&[("if-match", "\"3\"")])), Ok(Some(3)));
    }

    #[test]
    fn other_headers_are_refused() {
        for (pairs, field) in [
            (&[("if-match", "W/\"7\"")][..], "if-match"),
            (&[("if-match", "\"7\", \"8\"")], "if-match"),
            (&[("if-match", "\"7")], "if-match"),
            (&[("if-match", "")], "if-match"),
            (&[("if-none-match", "\"7\"")], "if-none-match"),
            (&[("if-match", "\"7\""), ("if-none-match", "*")], "if-none-match"),
        ] {
            let refused = Expected::of_headers(&headers(pairs)).expect_err("it is refused");
            assert_eq!(refused.violations[0].field, field, "{pairs:?}");
        }
        let mut twice = headers(&[("if-match", "1")]);
        twice.append("if-match", HeaderValue::from_static("2"));
        assert!(Expected::of_headers(&twice).is_err());
    }
}

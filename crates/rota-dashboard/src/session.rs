//! Sign-in: a cookie that stands for one of the server's tokens.
//!
//! The cookie has no state on a node, so every node with the same tokens knows it: `v1.EXPIRY.NONCE.TAG`, where the tag
//! is the HMAC-SHA256 of the rest under the token. It cannot be turned back into the token, and it ends when the token
//! is removed from the server. It is a way in below `/ui/` alone: the API never reads it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use subtle::{Choice, ConstantTimeEq};

/// Name of the cookie.
pub(crate) const COOKIE: &str = "rota_session";
/// Time after which to sign in again.
pub(crate) const LIFE: Duration = Duration::from_secs(12 * 3600);
const VERSION: &str = "v1";
/// What the tag is for, so that no other use of a token as a key makes a valid cookie.
const PURPOSE: &str = "rota dashboard session";
const NONCE_BYTES: usize = 16;

/// The tokens of the server, and the keys that are made of them.
#[derive(Default)]
pub(crate) struct Sessions(Vec<(Box<str>, hmac::Key)>);

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({} hidden)", self.0.len())
    }
}

impl Sessions {
    pub(crate) fn new(tokens: impl IntoIterator<Item = Box<str>>) -> Self {
        let key = |token: &str| hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        Self(tokens.into_iter().map(|token| (token.clone(), key(&token))).collect())
    }

    /// Whether everybody who reaches the page may use it.
    pub(crate) fn are_open(&self) -> bool {
        self.0.is_empty()
    }

    /// A token of the server, for what all pages share.
    pub(crate) fn first(&self) -> Option<&str> {
        self.0.first().map(|(token, _)| &**token)
    }

    /// A cookie for this token. `None` if it is not one of the server's.
    pub(crate) fn begin(&self, given: &str, now: SystemTime) -> Option<String> {
        // Compares with all tokens, so that the time does not depend on which one matches.
        let fits = |token: &str| -> Choice { token.as_bytes().ct_eq(given.as_bytes()) };
        let mut found = None;
        for (token, key) in &self.0 {
            if fits(token).into() {
                found = Some(key);
            }
        }
        let key = found?;
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let expiry = seconds(now + LIFE);
        let said = format!("{VERSION}.{expiry}.{}", URL_SAFE_NO_PAD.encode(nonce));
        let tag = hmac::sign(key, message(&said).as_bytes());
        Some(format!("{said}.{}", URL_SAFE_NO_PAD.encode(tag)))
    }

    /// The token that this cookie stands for. `None` if it is expired, or made with no token of the server.
    pub(crate) fn token(&self, cookie: &str, now: SystemTime) -> Option<&str> {
        let (said, tag) = cookie.rsplit_once('.')?;
        let mut parts = said.split('.');
        let (version, expiry) = (parts.next()?, parts.next()?.parse::<u64>().ok()?);
        if version != VERSION || parts.count() != 1 || expiry <= seconds(now) {
            return None;
        }
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let message = message(said);
        let mut found = None;
        for (token, key) in &self.0 {
            if hmac::verify(key, message.as_bytes(), &tag).is_ok() {
                found = Some(&**token);
            }
        }
        found
    }
}

fn message(said: &str) -> String {
    format!("{PURPOSE} {said}")
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The header that sets the cookie. It has no path: then it belongs to the directory of the page, whatever prefix a
/// proxy adds. `Lax`, because `Strict` would break links that colleagues send.
pub(crate) fn set(value: &str, life: Duration, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Max-Age={}; HttpOnly; SameSite=Lax{secure}", life.as_secs())
}

/// The value of a cookie in a request.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn sessions(tokens: &[&str]) -> Sessions {
        Sessions::new(tokens.iter().map(|token| (*token).into()))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_cookie_is_known_by_every_node_with_the_token() {
        let cookie = sessions(&[ONE, OTHER]).begin(OTHER, at(100)).expect("a token of the server");
        assert_eq!(sessions(&[OTHER]).token(&cookie, at(101)), Some(OTHER));
        assert_eq!(sessions(&[ONE, OTHER]).token(&cookie, at(101)), Some(OTHER));
        assert_eq!(sessions(&[ONE]).token(&cookie, at(101)), None, "the token was removed");
        assert!(!cookie.contains(OTHER));
        let again = sessions(&[OTHER]).begin(OTHER, at(100)).expect("a cookie");
        assert_ne!(cookie, again, "each sign-in has its own");
    }

    #[test]
    fn a_cookie_ends() {
        let sessions = sessions(&[ONE]);
        let cookie = sessions.begin(ONE, at(100)).expect("a cookie");
        let end = 100 + LIFE.as_secs();
        assert_eq!(sessions.token(&cookie, at(end - 1)), Some(ONE));
        assert_eq!(sessions.token(&cookie, at(end)), None);
        let later = cookie.replacen(&end.to_string(), &(end + 1).to_string(), 1);
        assert_ne!(later, cookie);
        assert_eq!(sessions.token(&later, at(101)), None, "the expiry is part of the tag");
    }

    #[test]
    fn nothing_else_is_a_cookie() {
        let sessions = sessions(&[ONE]);
        assert_eq!(sessions.begin("0123456789abcdeF", at(1)), None);
        assert_eq!(sessions.begin("", at(1)), None);
        let cookie = sessions.begin(ONE, at(1)).expect("a cookie");
        for wrong in ["", "v1", "v1.9.x", "v1.999999999999.x.x", ONE, &cookie[..cookie.len() - 1]] {
            assert_eq!(sessions.token(wrong, at(2)), None, "{wrong}");
        }
        assert_eq!(sessions.token(&cookie.replacen("v1", "v2", 1), at(2)), None);
        assert_eq!(sessions.token(&cookie.replacen('.', ".0.", 1), at(2)), None);
    }

    #[test]
    fn cookies_are_found_among_others() {
        let headers = HeaderMap::from_iter([
            (header::COOKIE, "a=b; rota_session=x.y=; c".parse().expect("a header")),
            (header::COOKIE, "rota_theme=dark".parse().expect("a header")),
        ]);
        assert_eq!(cookie(&headers, COOKIE), Some("x.y="));
        assert_eq!(cookie(&headers, "rota_theme"), Some("dark"));
        assert_eq!(cookie(&headers, "session"), None);
        assert!(set("v", LIFE, true).ends_with("; HttpOnly; SameSite=Lax; Secure"));
        assert!(!set("v", LIFE, false).contains("Secure"));
    }
}

//! Bytes in a JSON result: as text if they are UTF-8, otherwise in base64, so that nothing is replaced by
//! U+FFFD.

use base64::{Engine, engine::general_purpose::STANDARD};

/// The text, and its encoding unless it is plain.
pub(super) fn keep(mut bytes: Vec<u8>, truncated: bool) -> (String, Option<&'static str>) {
    if truncated
        && let Err(error) = std::str::from_utf8(&bytes)
        // The last character is incomplete because of the cut.
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => (STANDARD.encode(error.as_bytes()), Some("base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_bytes_are_kept() {
        let kept = |bytes: &[u8], truncated| keep(bytes.to_vec(), truncated);
        assert_eq!(kept("grüße".as_bytes(), false), ("grüße".to_owned(), None));
        assert_eq!(kept(b"gr\xc3", true), ("gr".to_owned(), None));
        assert_eq!(kept(b"gr\xc3", false), ("Z3LD".to_owned(), Some("base64")));
        assert_eq!(kept(b"\x1f\x8b\xff", true), ("H4v/".to_owned(), Some("base64")));
        assert_eq!(kept(b"", true), (String::new(), None));
    }
}

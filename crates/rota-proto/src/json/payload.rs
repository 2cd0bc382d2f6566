//! Bytes of a task's maker: JSON by convention, anything by right.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::surrogate::has_lone_surrogate;

/// As JSON where they are JSON that every reader takes, else in base 64.
pub(super) fn json_or_base64(bytes: &Bytes) -> (Option<Box<RawValue>>, Option<String>) {
    if bytes.is_empty() {
        return (None, None);
    }
    match serde_json::from_slice::<Box<RawValue>>(bytes) {
        Ok(json) if !has_lone_surrogate(bytes) => (Some(json), None),
        _ => (None, Some(BASE64.encode(bytes))),
    }
}

/// In base 64, unless they are text.
pub(super) fn base64_unless_text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| BASE64.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_encoded() {
        assert_eq!(base64_unless_text("grüße".as_bytes()), None);
        assert_eq!(base64_unless_text(b"\xff\x00").as_deref(), Some("/wA="));
    }

    #[test]
    fn json_stays_as_it_was_written_and_other_bytes_are_encoded() {
        for json in [r#"{"b": 1,  "a":1.50}"#, "null", "\"\\u00e9\"", "12345678901234567890123"] {
            let (shown, base64) = json_or_base64(&Bytes::from(json));
            assert_eq!((shown.unwrap().get(), base64), (json, None));
        }
        for (bytes, encoded) in [
            (&b"{"[..], "ew=="),
            (br#""\udead""#, "Ilx1ZGVhZCI="),
            (b"\xff\x00", "/wA="),
            (b"a b", "YSBi"),
        ] {
            let (shown, base64) = json_or_base64(&Bytes::copy_from_slice(bytes));
            assert_eq!((shown.is_none(), base64.as_deref()), (true, Some(encoded)));
        }
        let (shown, base64) = json_or_base64(&Bytes::new());
        assert_eq!((shown.is_none(), base64), (true, None));
    }

    #[test]
    fn depth_does_not_cost_the_stack() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        let (shown, _) = json_or_base64(&Bytes::from(deep.clone()));
        assert_eq!(shown.unwrap().get(), deep);
    }
}

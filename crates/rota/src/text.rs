//! Makes text from others safe to show on a terminal and in a log.
//!
//! Names, labels, errors and output of tasks come from everyone who can use the server. A control character
//! in them could move the cursor, set the title or type into the terminal. A mark that changes the direction
//! of text could make it read as something else. Both are shown as escapes such as `\u{1b}`. JSON keeps its
//! value: see [`json`].

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether a character could move the cursor, or hide or reorder text.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        // Separators of lines and paragraphs.
        || matches!(c, '\u{2028}' | '\u{2029}')
        // Marks, embeddings, overrides and isolates of direction.
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}')
        // Zero width. Joiners are allowed, because scripts and emoji need them.
        || matches!(c, '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Text of one line; line breaks and tabs are escaped as well.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if is_harmful(c) { write!(f, "{}", c.escape_default()) } else { f.write_char(c) }
        })
    }
}

/// Text on one line, as [`Escaped`] shows it.
pub(crate) fn line(text: &str) -> String {
    Escaped(text).to_string()
}

/// Text of several lines. Line breaks and tabs stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let stays = |c: char| matches!(c, '\n' | '\t') || !is_harmful(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) { safe.push(c) } else { safe.extend(c.escape_default()) }
    }
    Cow::Owned(safe)
}

/// Bytes as text. Bytes that are not UTF-8 are shown as `\xff`.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A JSON document of the same value, with harmful characters in JSON escapes.
pub(crate) fn json(document: String) -> String {
    // Outside strings, JSON has only these control characters.
    let stays = |c: char| matches!(c, '\n' | '\r' | '\t') || !is_harmful(c);
    if document.chars().all(stays) {
        return document;
    }
    let mut safe = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if stays(c) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text that must never reach a terminal unescaped.
    const HARM: [&str; 12] = [
        "\u{1b}]0;x\u{7}",
        "\u{9b}2J",
        "\u{7f}",
        "\r",
        "\u{8}",
        "\u{202e}gpj.exe",
        "\u{2066}",
        "\u{200f}",
        "\u{61c}",
        "\u{2028}",
        "\u{200b}",
        "\u{e0041}",
    ];

    #[test]
    fn harmful_characters_are_shown_as_escapes() {
        assert_eq!(line("\u{1b}]0;x\u{7}"), r"\u{1b}]0;x\u{7}");
        assert_eq!(line("a\u{202e}b\nc\td"), r"a\u{202e}b\nc\td");
        assert_eq!(lines("a\u{202e}b\nc\td\r"), "a\\u{202e}b\nc\td\\r");
        for harm in HARM {
            assert!(!line(harm).chars().any(is_harmful), "{harm:?}");
            assert!(!lines(harm).chars().any(is_harmful), "{harm:?}");
        }
        for plain in ["grüße", "日本語", "👩\u{200d}🚀", "می\u{200c}خواهم", r"\u{1b}"]
        {
            assert_eq!((line(plain).as_str(), &*lines(plain)), (plain, plain));
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_shown_one_by_one() {
        assert_eq!(of_bytes(b"a\xff\xe2\x82b\xe2\x82\xac"), r"a\xff\xe2\x82b€");
        assert_eq!(of_bytes(b""), "");
    }

    #[test]
    fn json_keeps_its_value() {
        for harm in HARM {
            let value = serde_json::json!({ "text": harm });
            let document = serde_json::to_string_pretty(&value).unwrap();
            let safe = json(document);
            assert!(!safe.chars().any(|c| c != '\n' && is_harmful(c)), "{harm:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
        }
        assert_eq!(json("{\r\n\t\"a\": 1}".to_owned()), "{\r\n\t\"a\": 1}");
    }
}

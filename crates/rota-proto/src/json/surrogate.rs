//! Finds lone surrogates. JSON writes a character beyond U+FFFF as two escapes, a surrogate pair. One of them
//! alone is not a character, and strict parsers refuse the whole document.

/// Whether valid JSON has the escape of a lone surrogate in a string or name.
#[must_use]
pub fn has_lone_surrogate(json: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', json.get(at..).unwrap_or_default()) {
        at += found;
        match unit(json, at) {
            None => at += 2,
            Some(0xd800..=0xdbff) => {
                if !matches!(unit(json, at + 6), Some(0xdc00..=0xdfff)) {
                    return true;
                }
                at += 12;
            }
            Some(0xdc00..=0xdfff) => return true,
            Some(_) => at += 6,
        }
    }
    false
}

/// The code unit of an escape `\uXXXX`, if there is one.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_characters_are_found_wherever_they_stand() {
        for json in [
            r#""\ud83d""#,
            r#""\uDE00""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ud83dx\ude00""#,
            r#""\ud83d\n""#,
            r#"{"a":[1,{"\udead":2}]}"#,
            r#""\\\ud83d""#,
        ] {
            assert!(has_lone_surrogate(json.as_bytes()), "{json}");
        }
        for json in [
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\u00e9\ud7ff\ue000""#,
            r#""plain""#,
            "1",
            "",
        ] {
            assert!(!has_lone_surrogate(json.as_bytes()), "{json}");
        }
    }
}

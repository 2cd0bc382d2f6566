//! Canonical forms of JSON numbers and strings: one form for each value. Nothing is rounded, so numbers that
//! differ in any digit stay different. The form that most programs write is canonical, so its hash is the
//! same as in earlier versions.

use std::borrow::Cow;

/// Maximum number of digits up to which a number is written without an exponent.
const DIGITS_MAX: i64 = 40;

/// The canonical form of a number. Other text stays unchanged.
pub(super) fn number(token: &[u8]) -> Cow<'_, [u8]> {
    decimal(token).map_or(Cow::Borrowed(token), |text| Cow::Owned(text.into_bytes()))
}

fn decimal(token: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(token).ok()?;
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, whole(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let is_number = are_digits(whole)
        && fraction.is_none_or(are_digits)
        && (whole.len() == 1 || !whole.starts_with('0'));
    if !is_number {
        return None;
    }
    let fraction = fraction.unwrap_or_default();
    let digits = format!("{whole}{fraction}");
    let shorter = digits.trim_end_matches('0');
    let dropped = i64::try_from(digits.len() - shorter.len()).ok()?;
    let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let exponent = exponent.checked_add(dropped)?;
    let digits = shorter.trim_start_matches('0');
    // Zero keeps its sign, which some parsers distinguish.
    Some(if digits.is_empty() {
        format!("{sign}0")
    } else {
        format!("{sign}{}", shown(digits, exponent)?)
    })
}

/// Parses an exponent. `None` if it is invalid or absurdly large. Then the number stays unchanged.
fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    is_whole.then(|| text.parse().ok()).flatten()
}

/// Digits without zeros at either end, times a power of ten.
fn shown(digits: &str, exponent: i64) -> Option<String> {
    let count = i64::try_from(digits.len()).ok()?;
    // The position of the point after the first digit.
    let point = count.checked_add(exponent)?;
    if exponent == 0 {
        return Some(digits.to_owned());
    }
    if exponent > 0 && point <= DIGITS_MAX {
        let zeros = "0".repeat(usize::try_from(exponent).ok()?);
        return Some(format!("{digits}{zeros}"));
    }
    if exponent < 0 && point > 0 {
        let (before, behind) = digits.split_at(usize::try_from(point).ok()?);
        return Some(format!("{before}.{behind}"));
    }
    if exponent < 0 && -point <= DIGITS_MAX {
        let zeros = "0".repeat(usize::try_from(-point).ok()?);
        return Some(format!("0.{zeros}{digits}"));
    }
    Some(format!("{digits}e{exponent}"))
}

/// The canonical form of a string with its quotes: only necessary escapes. `None` if an escape is invalid.
pub(super) fn string(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !quoted.contains(&b'\\') {
        return Some(Cow::Borrowed(quoted));
    }
    let mut out = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&kind, after) = rest.split_first()?;
        rest = after;
        let unit = match kind {
            b'"' | b'\\' | b'/' => u16::from(kind),
            b'b' => 8,
            b'f' => 12,
            b'n' => 10,
            b'r' => 13,
            b't' => 9,
            b'u' => {
                let (unit, after) = hex(rest)?;
                rest = after;
                unit
            }
            _ => return None,
        };
        let second = rest.strip_prefix(b"\\u").and_then(hex);
        let pair = second.and_then(|(low, after)| {
            let pair = char::decode_utf16([unit, low]).next()?.ok()?;
            (pair.len_utf16() == 2).then_some((pair, after))
        });
        if let Some((pair, after)) = pair {
            rest = after;
            out.extend_from_slice(pair.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            write(unit, &mut out);
        }
    }
    Some(Cow::Owned(out))
}

fn hex(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = text.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.bytes().all(|c| c.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten().map(|unit| (unit, after))
}

fn write(unit: u16, out: &mut Vec<u8>) {
    let short = match unit {
        0x22 => Some(b'"'),
        0x5c => Some(b'\\'),
        8 => Some(b'b'),
        12 => Some(b'f'),
        10 => Some(b'n'),
        13 => Some(b'r'),
        9 => Some(b't'),
        _ => None,
    };
    match (short, char::from_u32(unit.into())) {
        (Some(short), _) => out.extend_from_slice(&[b'\\', short]),
        (None, Some(c)) if c >= ' ' => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        // A control character, or a lone surrogate.
        _ => out.extend_from_slice(format!("\\u{unit:04x}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: &str) -> String {
        String::from_utf8(number(token.as_bytes()).into_owned()).expect("text")
    }

    fn written(text: &str) -> Option<String> {
        string(text.as_bytes()).map(|text| String::from_utf8(text.into_owned()).expect("text"))
    }

    #[test]
    fn a_number_has_one_form_and_is_not_rounded() {
        let forms: [(&str, &[&str]); 8] = [
            ("2.5", &["2.50", "25e-1", "0.25E+1", "250e-2"]),
            ("100", &["1e2", "100.0", "1.00E2", "1000e-1"]),
            ("0", &["0.0", "0e5", "0.000e-7"]),
            ("-0", &["-0.0", "-0e1"]),
            ("-0.001", &["-1e-3", "-0.0010"]),
            ("1e400", &["10e399", "0.1e401", "1.0e+400", "1E0400"]),
            ("15e-90", &["1.5e-89", "150e-91"]),
            ("9007199254740993", &["9007199254740993.0", "9007199254740993e0"]),
        ];
        for (form, others) in forms {
            assert_eq!(shown(form), form);
            for other in others {
                assert_eq!(shown(other), form, "{other}");
            }
        }
        let apart = [
            ("9007199254740993", "9007199254740992"),
            ("1e400", "1e401"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("18446744073709551616", "18446744073709551615"),
            ("1e-400", "0"),
        ];
        for (one, other) in apart {
            assert_ne!(shown(one), shown(other), "{one} {other}");
        }
        let huge = format!("1e{}", "9".repeat(30));
        for other in ["true", "null", "01", "1.", ".5", "1e", "+1", "--1", "1e+-2", &huge] {
            assert_eq!(shown(other), other);
        }
    }

    #[test]
    fn a_string_has_one_form() {
        for (text, form) in [
            (r#""\u0061""#, r#""a""#),
            (r#""\/\u002F""#, r#""//""#),
            (r#""\u00e9\u20AC""#, r#""é€""#),
            (r#""\ud83d\ude00""#, r#""😀""#),
            (r#""\u000a\n\u0022\u005c""#, r#""\n\n\"\\""#),
            (r#""\u001F\u0000""#, r#""\u001f\u0000""#),
            (r#""\uD83D!\ude00""#, r#""\ud83d!\ude00""#),
            (r#""a\u0061\u0062""#, r#""aab""#),
            (r#""\b\f\r\t\u0008\u000c""#, r#""\b\f\r\t\b\f""#),
        ] {
            assert_eq!(written(text).as_deref(), Some(form), "{text}");
            assert_eq!(written(form).as_deref(), Some(form));
        }
        for wrong in [r#""\x""#, r#""\u12""#, r#""\u12g4""#, r#""\u+123""#] {
            assert_eq!(written(wrong), None, "{wrong}");
        }
    }
}

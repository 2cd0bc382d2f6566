//! The shapes of variable values at the start of a text. Each function returns the length of the value in bytes.
//!
//! A value ends where no letter or digit follows. No function looks further than its value can reach, so that folding
//! takes linear time.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Maximum bytes of an IP address.
const ADDRESS_BYTES: usize = 45;
/// Maximum bytes of each part of an email address.
const EMAIL_PART_BYTES: usize = 64;
const UUID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];
/// Units of time.
const UNITS: [&str; 12] =
    ["ns", "us", "µs", "μs", "ms", "min", "mins", "sec", "secs", "s", "m", "h"];

/// The number of bytes at the start that satisfy a condition, up to `most`.
fn run(text: &str, most: usize, is_part: impl Fn(u8) -> bool) -> usize {
    text.bytes().take(most).take_while(|byte| is_part(*byte)).count()
}

fn digits(text: &str) -> usize {
    run(text, usize::MAX, |c| c.is_ascii_digit())
}

/// Whether a value that ends here is a word of its own.
fn ends(rest: &str) -> bool {
    !rest.chars().next().is_some_and(char::is_alphanumeric)
}

/// The bytes of a pattern: `d` is a digit, other bytes are themselves.
fn pattern(text: &str, pattern: &str) -> Option<usize> {
    let matches = |(byte, wanted): (u8, u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    };
    let is_long_enough = text.len() >= pattern.len();
    let same = text.bytes().zip(pattern.bytes()).all(matches);
    (is_long_enough && same).then_some(pattern.len())
}

/// A date, a time of day, or both.
pub(super) fn time(text: &str) -> Option<usize> {
    let date = pattern(text, "dddd-dd-dd").or_else(|| pattern(text, "dddd/dd/dd"));
    let mut end = match date {
        Some(end) => {
            let of_day = text[end..].strip_prefix(['T', 't', ' ']).and_then(time_of_day);
            end + of_day.map_or(0, |length| length + 1)
        }
        None => time_of_day(text)?,
    };
    end += zone(&text[end..]);
    ends(&text[end..]).then_some(end)
}

fn time_of_day(text: &str) -> Option<usize> {
    let end = pattern(text, "dd:dd:dd")?;
    let fraction = text[end..].strip_prefix(['.', ',']).map_or(0, digits);
    Some(if fraction > 0 { end + 1 + fraction } else { end })
}

fn zone(text: &str) -> usize {
    let zones = ["+dd:dd", "-dd:dd", "+dddd", "-dddd", "Z", "z"];
    zones.iter().find_map(|zone| pattern(text, zone)).unwrap_or(0)
}

/// A UUID.
pub(super) fn uuid(text: &str) -> Option<usize> {
    let mut end = 0;
    for (at, length) in UUID_PARTS.into_iter().enumerate() {
        if at > 0 {
            end += pattern(&text[end..], "-")?;
        }
        let found = run(&text[end..], length, |c| c.is_ascii_hexdigit());
        end += (found == length).then_some(length)?;
    }
    ends(&text[end..]).then_some(end)
}

/// An IP address, with its zone.
pub(super) fn address(text: &str) -> Option<usize> {
    let is_part = |c: u8| c.is_ascii_hexdigit() || c == b'.' || c == b':';
    let four = &text[..run(text, ADDRESS_BYTES, |c| c.is_ascii_digit() || c == b'.')];
    let four = four.trim_end_matches('.');
    if four.parse::<Ipv4Addr>().is_ok() && ends(&text[four.len()..]) {
        return Some(four.len());
    }
    let all = &text[..run(text, ADDRESS_BYTES, is_part)];
    let shorter = all.trim_end_matches(['.', ':']);
    let is_address = |found: &&str| {
        // `dead::beef` can also be a path of a program.
        found.bytes().any(|c| c.is_ascii_digit()) && found.parse::<Ipv6Addr>().is_ok()
    };
    let end = [all, shorter].into_iter().find(is_address)?.len();
    let zone = text[end..].strip_prefix('%').map_or(0, |zone| {
        let length = run(zone, EMAIL_PART_BYTES, |c| c.is_ascii_alphanumeric());
        if length > 0 { length + 1 } else { 0 }
    });
    ends(&text[end + zone..]).then_some(end + zone)
}

/// An email address.
pub(super) fn email(text: &str) -> Option<usize> {
    let is_local = |c: u8| c.is_ascii_alphanumeric() || b"._%+-".contains(&c);
    let local = run(text, EMAIL_PART_BYTES, is_local);
    let rest = text.get(local..)?.strip_prefix('@')?;
    let domain =
        run(rest, 2 * EMAIL_PART_BYTES, |c| c.is_ascii_alphanumeric() || b".-".contains(&c));
    let domain = rest[..domain].trim_end_matches(['.', '-']);
    (local > 0 && domain.contains('.')).then_some(local + 1 + domain.len())
}

/// A duration, such as `1m30.5s`.
pub(super) fn duration(text: &str) -> Option<usize> {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let whole = digits(rest);
        if whole == 0 {
            return (end > 0 && ends(rest)).then_some(end);
        }
        let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
        let number = if fraction > 0 { whole + 1 + fraction } else { whole };
        let rest = &rest[number..];
        let follows = |unit: &&&str| {
            rest.strip_prefix(**unit)
                .is_some_and(|rest| ends(rest) || rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        end += number + UNITS.iter().find(follows)?.len();
    }
}

/// A number, with separators, a fraction and an exponent. A unit of up to three letters can follow it, which is not
/// part of it.
pub(super) fn number(text: &str) -> Option<usize> {
    let mut end = digits(text);
    if end == 0 {
        return None;
    }
    loop {
        let more = text[end..].strip_prefix(['.', ',', '_']).map_or(0, digits);
        if more == 0 {
            break;
        }
        end += 1 + more;
    }
    let exponent = text[end..].strip_prefix(['e', 'E']).map(|rest| {
        let sign = usize::from(rest.starts_with(['+', '-']));
        (sign, digits(&rest[sign..]))
    });
    if let Some((sign, power)) = exponent.filter(|(_, power)| *power > 0) {
        end += 1 + sign + power;
    }
    let unit = run(&text[end..], 4, |c| c.is_ascii_alphabetic());
    let rest = &text[end + unit..];
    (unit < 4 && ends(rest) && !rest.starts_with('_')).then_some(end)
}

/// A hash or an address in memory: hexadecimal digits, at least eight of them, or any number after `0x`.
pub(super) fn is_hex(word: &str) -> bool {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit());
    if let Some(rest) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return is_hex(rest);
    }
    let has = |is_such: fn(&u8) -> bool| word.as_bytes().iter().any(is_such);
    word.len() >= 8 && is_hex(word) && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

/// The id of a task or session of Rota.
pub(super) fn is_rota_id(word: &str) -> bool {
    let rest = word.strip_prefix("t_").or_else(|| word.strip_prefix("s_"));
    let is_digit = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase();
    rest.is_some_and(|rest| rest.len() == 13 && rest.bytes().all(is_digit))
}

/// A part of a word that looks like a random id: letters and digits take turns.
pub(super) fn is_id(part: &str, has_prefix: bool) -> bool {
    if !part.is_ascii() {
        return false;
    }
    let bytes = part.as_bytes();
    let turns = bytes.windows(2).filter(|two| two[0].is_ascii_digit() != two[1].is_ascii_digit());
    let turns = turns.count();
    let has = |is_such: fn(&u8) -> bool| bytes.iter().any(is_such);
    let is_mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    turns >= 3 || has_prefix && part.len() >= 8 && turns > 0 && (turns >= 2 || is_mixed)
}

//! Payloads and results: JSON as a tree that can be folded, everything else as its first bytes.
//!
//! Numbers and strings are shown as they are written. They are cut out of the text and never parsed, so no number is
//! rounded and no escape is lost.

use std::{fmt::Write as _, iter};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use maud::{Markup, html};
use rota_proto::json::Content;

use super::{copy, plural};

/// Values of a tree that are shown.
const ENTRIES: usize = 1000;
/// Characters of a tree that are shown.
const CHARACTERS: usize = 48 << 10;
/// Characters of one string that are shown.
const LONGEST: usize = 4 << 10;
/// Levels of a tree that are shown.
const DEPTH: usize = 24;
/// Bytes that a button copies.
const COPIED: usize = 64 << 10;
/// Bytes of a binary content that are shown.
const HEAD: usize = 256;
/// Characters of a text that are shown.
const TEXT: usize = 16 << 10;

/// A content as it is shown.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) shown: Markup,
    /// The button that copies all of it, if it is not too large.
    pub(crate) copy: Option<Markup>,
    /// Whether a part of it is left out.
    pub(crate) is_cut: bool,
}

/// Shows a content. `None` if there is none.
pub(crate) fn tree(bytes: &[u8]) -> Option<Tree> {
    match Content::of(bytes)? {
        Content::Json(json) => Some(of_json(json.get())),
        Content::Bytes(bytes) => Some(of_bytes(bytes)),
    }
}

/// A number of bytes, in words.
pub(crate) fn size(bytes: usize) -> String {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    let tenth = |unit: usize, name: &str| {
        let tenths = bytes.saturating_mul(10) / unit;
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..KIB => plural(bytes as u64, "byte", "bytes"),
        KIB..MIB => tenth(KIB, "KiB"),
        _ => tenth(MIB, "MiB"),
    }
}

fn of_json(json: &str) -> Tree {
    let mut budget = Budget { entries: ENTRIES, characters: CHARACTERS, is_cut: false };
    let shown = html! { div.tree { (value(None, json, 0, &mut budget)) } };
    Tree {
        shown,
        copy: (json.len() <= COPIED).then(|| copy(json, "Copy the JSON")),
        is_cut: budget.is_cut,
    }
}

fn of_bytes(bytes: &[u8]) -> Tree {
    let text = std::str::from_utf8(bytes).ok();
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let copied = bytes.len() <= COPIED;
    match text.filter(|text| !text.contains(is_control)) {
        Some(text) => {
            let head = head(text, TEXT);
            let shown = html! {
                p.note { "Text, which is not JSON:" }
                pre tabindex="0" { bdi { (head) } }
            };
            let copy = copied.then(|| copy(text, "Copy the text"));
            Tree { shown, copy, is_cut: head.len() < text.len() }
        }
        None => {
            let shown = html! {
                p.note { "Neither JSON nor text. The first bytes:" }
                pre tabindex="0" { (dump(&bytes[..bytes.len().min(HEAD)])) }
            };
            let copy = copied.then(|| copy(&BASE64.encode(bytes), "Copy as base64"));
            Tree { shown, copy, is_cut: bytes.len() > HEAD }
        }
    }
}

/// Bytes in lines of sixteen, as numbers and as letters.
fn dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (at, line) in bytes.chunks(16).enumerate() {
        // Writing to a string does not fail.
        let _ = write!(dump, "{:06x} ", at * 16);
        for byte in line {
            let _ = write!(dump, " {byte:02x}");
        }
        let letters = line.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        });
        let _ = writeln!(
            dump,
            "{:width$}  {}",
            "",
            letters.collect::<String>(),
            width = 3 * (16 - line.len())
        );
    }
    dump
}

/// What can still be shown.
struct Budget {
    entries: usize,
    characters: usize,
    is_cut: bool,
}

impl Budget {
    const fn is_spent(&self) -> bool {
        self.entries == 0 || self.characters == 0
    }

    /// The part of a text that can be shown.
    fn take<'a>(&mut self, text: &'a str) -> &'a str {
        let head = head(text, self.characters.min(LONGEST));
        self.characters -= head.len().min(self.characters);
        self.is_cut |= head.len() < text.len();
        head
    }
}

/// The beginning of a text, up to this number of bytes.
fn head(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

fn value(key: Option<&str>, json: &str, depth: usize, budget: &mut Budget) -> Markup {
    let key = html! { @if let Some(key) = key { span.key { (text(key, budget)) } ": " } };
    let Some(brackets) = Brackets::of(json) else {
        return html! { (key) (scalar(json, budget)) };
    };
    let count = Members::of(json).count();
    if count == 0 {
        return html! { (key) span.mark { (brackets.open) (brackets.close) } };
    }
    let (one, many) = brackets.words;
    let told = plural(count as u64, one, many);
    if depth == DEPTH {
        budget.is_cut = true;
        return html! { (key) span.mark { (brackets.open) "…" (brackets.close) } " " span.count { (told) } };
    }
    let mut entries = Vec::new();
    for (key, inner) in Members::of(json) {
        if budget.is_spent() {
            budget.is_cut = true;
            break;
        }
        budget.entries -= 1;
        entries.push(html! { li { (value(key, inner, depth + 1, budget)) } });
    }
    let left = count - entries.len();
    let is_open = depth == 0 || depth < 3 && count <= 30;
    html! {
        details open[is_open] data-open[is_open] {
            summary { (key) span.mark { (brackets.open) } " " span.count { (told) } }
            ul {
                @for entry in entries { (entry) }
                @if left > 0 { li.count { "… and " (plural(left as u64, "more", "more")) } }
            }
            span.mark { (brackets.close) }
        }
    }
}

fn scalar(json: &str, budget: &mut Budget) -> Markup {
    let kind = match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b't' | b'f' | b'n') => "word",
        _ => "digits",
    };
    html! { span class=(kind) { (text(json, budget)) } }
}

/// A string, a number or a word as it is written. Its quotes are outside of what is isolated, so that they stay in
/// their places whatever the direction of the text.
fn text(json: &str, budget: &mut Budget) -> Markup {
    let inner = json.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
    let quote = if inner.is_some() { "\"" } else { "" };
    let inner = inner.unwrap_or(json);
    let shown = budget.take(inner);
    let left = inner[shown.len()..].chars().count();
    html! {
        (quote) bdi { (shown) } (quote)
        @if left > 0 { " " span.count { "… and " (plural(left as u64, "more character", "more characters")) } }
    }
}

struct Brackets {
    open: &'static str,
    close: &'static str,
    words: (&'static str, &'static str),
}

impl Brackets {
    fn of(json: &str) -> Option<Self> {
        match json.as_bytes().first()? {
            b'{' => Some(Self { open: "{", close: "}", words: ("member", "members") }),
            b'[' => Some(Self { open: "[", close: "]", words: ("item", "items") }),
            _ => None,
        }
    }
}

/// The members of an object with their names, or the items of an array, as they are written. The text is valid JSON.
struct Members<'a> {
    rest: &'a str,
    has_names: bool,
}

impl<'a> Members<'a> {
    fn of(json: &'a str) -> Self {
        Self { rest: json.get(1..).unwrap_or_default(), has_names: json.starts_with('{') }
    }

    /// Takes the value at the beginning, with what separates it from the one before.
    fn take(&mut self) -> &'a str {
        let rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r', ',', ':']);
        let (value, rest) = rest.split_at(length(rest));
        self.rest = rest;
        value
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Option<&'a str>, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.has_names.then(|| self.take());
        if name == Some("") {
            return None;
        }
        let value = self.take();
        (!value.is_empty()).then_some((name, value))
    }
}

/// Length of the value that a text begins with. 0 if it begins with none, but with the end of what is around it.
fn length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at += string(&bytes[at..]),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => at += 1,
        }
        // A string or a container ends by itself.
        if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
            return at;
        }
    }
    at
}

/// Length of the string that bytes begin with, with its quotes.
fn string(bytes: &[u8]) -> usize {
    let mut is_escaped = false;
    let end = bytes.iter().enumerate().skip(1).find(|(_, byte)| {
        let ends = **byte == b'"' && !is_escaped;
        is_escaped = **byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(bytes.len(), |(at, _)| at + 1)
}

/// The lines that say that a content is shown in part, and where all of it is.
pub(crate) fn rest(tree: &Tree, whole: usize, download: &str) -> Markup {
    html! {
        p.note {
            @if tree.is_cut { "Only a part of " (size(whole)) " is shown. " } @else { (size(whole)) ". " }
            a href=(download) download { "Download" }
            @for copy in iter::once(&tree.copy).flatten() { " " (copy) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apart::assert_apart;

    fn shown(json: &str) -> String {
        tree(json.as_bytes()).expect("a content").shown.into_string()
    }

    #[test]
    fn numbers_are_shown_as_they_are_written() {
        let numbers = [
            "9007199254740993",
            "18446744073709551616",
            "-0",
            "1.10",
            "1e400",
            "0.30000000000000004440892098500626",
            "123456789012345678901234567890",
        ];
        for number in numbers {
            assert!(
                shown(number)
                    .contains(&format!("<span class=\"digits\"><bdi>{number}</bdi></span>"))
            );
            let within = shown(&format!("{{ \"a\" : [ {number} ,{number}],\"b\":{number}}}"));
            assert_eq!(within.matches(&format!(">{number}</bdi>")).count(), 3, "{within}");
        }
    }

    #[test]
    fn members_are_found_whatever_their_text() {
        let json = r#"{"a\"}":"]\\","":{"x":[1,[2,{"y":null}]]} , "c" : [ ] ,"a\"}":true}"#;
        let found: Vec<_> = Members::of(json).collect();
        assert_eq!(
            found,
            [
                (Some(r#""a\"}""#), r#""]\\""#),
                (Some("\"\""), r#"{"x":[1,[2,{"y":null}]]}"#),
                (Some("\"c\""), "[ ]"),
                (Some(r#""a\"}""#), "true"),
            ]
        );
        assert_eq!(Members::of("[ ]").count(), 0);
        assert_eq!(Members::of("[[],{},\"\",0]").count(), 4);
        let html = shown(json);
        assert!(
            html.contains("4 members") && html.contains("<span class=\"mark\">[]</span>"),
            "{html}"
        );
    }

    #[test]
    fn a_hostile_content_stays_text() {
        let html = shown(
            "{\"</bdi><script>alert(1)</script>\u{202e}\":\"javascript:alert(2) \u{202e}<img src=x>\"}",
        );
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(!html.contains("href"), "{html}");
        assert_apart(&html);
        assert_apart(&shown("no JSON \u{202e}"));
    }

    #[test]
    fn a_large_content_is_shown_in_part() {
        let many = format!("[{}]", vec!["{\"a\":1}"; 150_000].join(","));
        let long = format!("\"{}\"", "ä".repeat(600_000));
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = "x\n".repeat(500_000);
        let binary = [0, 159, 255].repeat(300_000);
        let contents =
            [many.as_bytes(), long.as_bytes(), deep.as_bytes(), text.as_bytes(), &binary];
        for content in contents {
            let tree = tree(content).expect("a content");
            let html = tree.shown.into_string();
            assert!(tree.is_cut, "{}", &html[..200]);
            assert!(html.len() < 300_000, "{} bytes", html.len());
        }
        assert!(shown(&many).contains("150,000 items"));
        assert!(shown(&long).contains("more characters"));
    }

    #[test]
    fn bytes_are_shown_by_their_beginning() {
        let binary = tree(&[0, 255, b'<', b'a']).expect("a content");
        let html = binary.shown.into_string();
        assert!(html.contains("Neither JSON nor text"), "{html}");
        assert!(html.contains("000000  00 ff 3c 61") && html.contains("..&lt;a"), "{html}");
        assert!(binary.copy.expect("small").into_string().contains("AP88YQ=="));
        assert!(
            tree(b"<b>not JSON").expect("a text").shown.into_string().contains("&lt;b&gt;not JSON")
        );
        assert!(tree(b"").is_none());
        assert_eq!(
            [size(1), size(1023), size(1536), size(1 << 20)],
            ["1 byte", "1,023 bytes", "1.5 KiB", "1.0 MiB"]
        );
    }
}

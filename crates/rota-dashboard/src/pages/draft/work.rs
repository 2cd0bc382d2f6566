//! What a new task does: a kind with its payload, a command, or an HTTP request.

use std::collections::BTreeMap;

use bytes::Bytes;
use rota_proto::json::Content;

use super::{Faults, json, lines};
use crate::visit::Pairs;

/// Name of the choice.
pub(in crate::pages) const KIND: &str = "what";

/// The choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pages) enum What {
    /// A handler of any kind.
    Handler,
    /// A program.
    Command,
    /// A request.
    Http,
}

impl What {
    pub(in crate::pages) const ALL: [(Self, &str, &str); 3] = [
        (Self::Handler, "handler", "Handler"),
        (Self::Command, "command", "Command"),
        (Self::Http, "http", "HTTP request"),
    ];

    pub(in crate::pages) fn of(typed: &Pairs) -> Self {
        let word = typed.get(KIND).unwrap_or_default();
        let found = Self::ALL.iter().find(|(_, known, _)| *known == word);
        found.map_or(Self::Handler, |(what, _, _)| *what)
    }
}

/// The kind and the payload.
pub(super) fn read(typed: &Pairs, faults: &mut Faults) -> (String, Bytes) {
    match What::of(typed) {
        What::Handler => {
            let payload = json(typed.get("payload").unwrap_or_default());
            let kind = typed.get("kind").unwrap_or_default().trim().to_owned();
            (kind, faults.keep("payload", payload).unwrap_or_default())
        }
        What::Command => ("command".to_owned(), command(typed, faults).into()),
        What::Http => ("http".to_owned(), http(typed, faults).into()),
    }
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One argument on each line, exactly as it is written.
fn command(typed: &Pairs, faults: &mut Faults) -> String {
    let text = lines(typed.get("argv").unwrap_or_default());
    let argv: Vec<_> = text.trim_end_matches('\n').split('\n').map(quoted).collect();
    if argv.first().is_none_or(|program| program == "\"\"") {
        faults.add("argv", "is missing; write the program on the first line");
    }
    format!("{{\"argv\":[{}]}}", argv.join(","))
}

fn http(typed: &Pairs, faults: &mut Faults) -> String {
    let url = typed.get("url").unwrap_or_default().trim();
    let has_scheme = ["http://", "https://"].iter().any(|scheme| {
        url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    });
    if !has_scheme {
        faults.add("url", "must begin with http:// or https://");
    } else if url.contains(char::is_whitespace) {
        faults.add("url", "must not contain spaces; write a space as %20");
    }
    let mut members = vec![format!("\"url\":{}", quoted(url))];
    let method = typed.get("method");
    let body = lines(typed.get("body").unwrap_or_default());
    if let Some(method) = method {
        if !body.trim().is_empty() && matches!(method, "GET" | "HEAD") {
            faults.add("method", format!("a {method} request has no body"));
        }
        members.push(format!("\"method\":{}", quoted(method)));
    }
    let headers = faults.keep("headers", headers(typed.get("headers").unwrap_or_default()));
    if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
        let pairs: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)))
            .collect();
        members.push(format!("\"headers\":{{{}}}", pairs.join(",")));
    }
    if !body.trim().is_empty() {
        members.push(format!("\"body\":{}", body_of(&body)));
    }
    format!("{{{}}}", members.join(","))
}

/// JSON stays a value. A string of JSON stays a text, because the executor would send it without its quotes.
fn body_of(body: &str) -> String {
    match Content::of(body.trim().as_bytes()) {
        Some(Content::Json(json)) if !json.get().starts_with('"') => json.get().to_owned(),
        _ => quoted(body),
    }
}

fn headers(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut headers = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || format!("line {} must be name: value", at + 1);
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = http::HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        if headers.insert(name.to_string(), value.trim().to_owned()).is_some() {
            return Err(format!("line {} repeats {name}; join the values with a comma", at + 1));
        }
    }
    Ok(headers)
}

//! The form of a task: what was typed, what it means, and what is wrong with it. New tasks and changes of tasks share it.
//!
//! Fields have the names that the API has, so that its errors find their fields.

mod fields;
mod work;

use std::collections::BTreeMap;

use bytes::Bytes;
use rota_proto::{
    Date, TimeSpan,
    json::{Content, Words},
    v1::{Jitter, NewTask, RetryPolicy, Task},
};

use crate::visit::Pairs;

pub(super) use fields::{Form, fields};
pub(super) use work::{KIND, What};

/// Bytes of a payload that can be edited in the form.
pub(super) const EDITED: usize = 64 << 10;

/// Fields with what is wrong with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Faults(Vec<(String, String)>);

impl Faults {
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push((field.to_owned(), message.into()));
    }

    pub(super) fn extend(&mut self, fields: Vec<(String, String)>) {
        self.0.extend(fields);
    }

    pub(super) fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    /// What is wrong with a field or with a part of it, such as `labels.x` of `labels`.
    pub(super) fn of<'a>(&'a self, field: &'a str) -> impl Iterator<Item = &'a str> {
        let is_of = move |place: &str| {
            let rest = place.strip_prefix(field);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().filter(move |(place, _)| is_of(place)).map(|(_, message)| message.as_str())
    }

    /// The value, or a note of what is wrong with it.
    fn keep<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|message| self.add(field, message)).ok()
    }
}

/// A date: as the API has it, or without a zone for UTC.
pub(super) fn date(text: &str) -> Result<Date, String> {
    let text = text.trim();
    let strict: Result<Date, _> = text.parse();
    strict.or_else(|error| {
        format!("{}Z", text.replacen(' ', "T", 1)).parse().map_err(|_| error.to_string())
    })
}

pub(super) fn span(text: &str) -> Result<TimeSpan, String> {
    text.trim().parse().map_err(|error: rota_proto::ScalarError| error.to_string())
}

/// A text area has its lines ended as forms have them.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// JSON, unchanged. Empty if there is none.
pub(super) fn json(text: &str) -> Result<Bytes, String> {
    let text = lines(text);
    let json = text.trim();
    match Content::of(json.as_bytes()) {
        None | Some(Content::Json(_)) => Ok(Bytes::copy_from_slice(json.as_bytes())),
        Some(Content::Bytes(_)) => {
            let error = serde_json::from_str::<&serde_json::value::RawValue>(json).err();
            let why = error.map_or_else(
                || "a string has half of a surrogate pair".to_owned(),
                |error| error.to_string(),
            );
            Err(format!("is not JSON: {why}. Put a text into double quotes."))
        }
    }
}

/// Labels, one on each line.
pub(super) fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) =
            line.split_once('=').ok_or_else(|| format!("line {} must be name=value", at + 1))?;
        if labels.insert(name.trim().to_owned(), value.to_owned()).is_some() {
            return Err(format!("line {} repeats the name {}", at + 1, name.trim()));
        }
    }
    Ok(labels)
}

/// What the form says, and what is wrong with it.
pub(super) fn read(typed: &Pairs) -> (NewTask, Faults) {
    let mut faults = Faults::default();
    let text = |name: &str| typed.get(name).map(str::trim).filter(|text| !text.is_empty());
    let number = |text: &str| {
        let wrong = |_| "must be a whole number, 0 or more".to_owned();
        text.parse::<u32>().map_err(wrong)
    };
    let mut spanned = |name| text(name).and_then(|text| faults.keep(name, span(text)));
    let (delay, timeout, retention) = (spanned("delay"), spanned("timeout"), spanned("retention"));
    let (initial, max) = (spanned("retry.initial"), spanned("retry.max"));
    let mut counted = |name| text(name).and_then(|text| faults.keep(name, number(text)));
    let priority = counted("priority");
    let (max_attempts, max_lost) = (counted("retry.max_attempts"), counted("retry.max_lost"));
    let max_snoozes = counted("retry.max_snoozes");
    let mut dated = |name| text(name).and_then(|text| faults.keep(name, date(text)));
    let (run_at, expires_at) = (dated("run_at"), dated("expires_at"));
    let multiplier = text("retry.multiplier").and_then(|text| {
        faults.keep("retry.multiplier", text.parse().map_err(|_| "must be a number".to_owned()))
    });
    let jitter = text("retry.jitter").and_then(|word| {
        let jitter: Result<Jitter, serde_json::Error> = Jitter::of_word(word);
        faults.keep("retry.jitter", jitter.map_err(|error| error.to_string()))
    });
    let labels = faults.keep("labels", labels(typed.get("labels").unwrap_or_default()));
    let retry = RetryPolicy {
        max_attempts,
        initial,
        multiplier,
        max,
        jitter: jitter.map(Into::into),
        max_lost,
        max_snoozes,
    };
    let (kind, payload) = work::read(typed, &mut faults);
    let task = NewTask {
        id: text("id").map(str::to_owned),
        queue: text("queue").map(str::to_owned),
        kind,
        payload,
        labels: labels.unwrap_or_default(),
        priority,
        run_at,
        delay,
        expires_at,
        timeout,
        retry: (retry != RetryPolicy::default()).then_some(retry),
        idempotency_key: text("idempotency_key").map(str::to_owned),
        retention,
        description: typed.get("description").map(lines),
    };
    (task, faults)
}

/// What the form says of a task, but its id and its times.
pub(super) fn of_task(task: &Task) -> Pairs {
    let retry = task.retry.unwrap_or_default();
    let span = |span: Option<TimeSpan>| span.map(|span| span.to_string());
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let labels: Vec<_> =
        task.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let payload = is_editable(&task.payload).then(|| String::from_utf8_lossy(&task.payload));
    let pairs = [
        ("queue", Some(task.queue.clone())),
        ("kind", Some(task.kind.clone())),
        ("payload", payload.map(|text| visible(&lines(&text)))),
        ("labels", Some(labels.join("\n"))),
        ("priority", Some(task.priority.to_string())),
        ("timeout", span(task.timeout)),
        ("retention", span(task.retention)),
        ("description", task.description.as_deref().map(lines)),
        ("retry.max_attempts", number(retry.max_attempts)),
        ("retry.initial", span(retry.initial)),
        ("retry.multiplier", retry.multiplier.map(|factor| factor.to_string())),
        ("retry.max", span(retry.max)),
        ("retry.jitter", retry.jitter.map(|_| retry.jitter().word().to_owned())),
        ("retry.max_lost", number(retry.max_lost)),
        ("retry.max_snoozes", number(retry.max_snoozes)),
    ];
    let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Pairs(pairs.collect())
}

/// JSON with escapes for characters that change the direction of text, because a field of a form cannot isolate a
/// string. The value is the same.
fn visible(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

/// The times that a change can set.
pub(super) fn times_of(task: &Task) -> Vec<(String, String)> {
    let times = [("run_at", task.run_at), ("expires_at", task.expires_at)];
    let times = times.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?.to_string())));
    times.collect()
}

/// Whether a payload is one that people can change in the form.
pub(super) fn is_editable(payload: &[u8]) -> bool {
    payload.len() <= EDITED && !matches!(Content::of(payload), Some(Content::Bytes(_)))
}

/// The fields about attempts, which the form folds.
const ATTEMPTS: [&str; 9] = [
    "timeout",
    "retention",
    "retry.max_attempts",
    "retry.initial",
    "retry.multiplier",
    "retry.max",
    "retry.jitter",
    "retry.max_lost",
    "retry.max_snoozes",
];

/// The fields that were changed, of those that the form has.
pub(super) fn changed(before: &Pairs, typed: &Pairs) -> Vec<&'static str> {
    const PARTS: [&str; 7] =
        ["description", "payload", "labels", "priority", "run_at", "delay", "expires_at"];
    let text = |pairs: &Pairs, name: &str| pairs.get(name).map(lines).unwrap_or_default();
    let is_changed = |name: &&str| {
        typed.all(name).next().is_some() && text(before, name).trim() != text(typed, name).trim()
    };
    PARTS.into_iter().chain(ATTEMPTS).filter(is_changed).collect()
}

#[cfg(test)]
mod tests;

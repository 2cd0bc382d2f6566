//! Formats a line of the log. Text from users stays within its line and its quotes: control characters, line
//! breaks and marks that change the direction of text are escaped.

use std::{
    fmt::{self, Write},
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    registry::LookupSpan,
};

use super::Writer;
use crate::text::{self, Escaped, is_harmful};

/// The format of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text { colours: bool },
    Json,
}

/// Writes events.
pub(super) struct LogFormatter {
    shape: Shape,
    writer: Arc<OnceLock<Writer>>,
}

impl LogFormatter {
    pub(super) fn new(shape: Shape, writer: Arc<OnceLock<Writer>>) -> Self {
        Self { shape, writer }
    }
}

impl<S, N> FormatEvent<S, N> for LogFormatter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = LogRecord {
            at: Timestamp::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            writer: self.writer.get(),
            fields,
        };
        match self.shape {
            Shape::Text { colours } => line.write_text(&mut out, colours)?,
            Shape::Json => out.write_str(&line.json())?,
        }
        out.write_char('\n')
    }
}

/// The content of one event.
struct LogRecord<'a> {
    at: Timestamp,
    level: Level,
    target: &'a str,
    writer: Option<&'a Writer>,
    fields: Fields,
}

impl LogRecord<'_> {
    fn write_text(&self, out: &mut dyn Write, colours: bool) -> fmt::Result {
        let paint = |code: &'static str| if colours { code } else { "" };
        let (dim, end) = (paint("\x1b[2m"), paint("\x1b[0m"));
        let level = match self.level {
            Level::ERROR => paint("\x1b[31m"),
            Level::WARN => paint("\x1b[33m"),
            Level::INFO => paint("\x1b[32m"),
            _ => paint("\x1b[34m"),
        };
        write!(out, "{dim}{:.3}{end} {level}{:>5}{end} ", self.at, self.level)?;
        write!(out, "{dim}{}:{end} {}", self.target, Escaped(&self.fields.message))?;
        if let Some(writer) = self.writer {
            write!(out, " {dim}{}={end}{}", writer.role, Quoted(&writer.name))?;
        }
        for (name, value) in &self.fields.others {
            write!(out, " {dim}{name}={end}")?;
            match value {
                Value::String(text) => write!(out, "{}", Quoted(text))?,
                value => write!(out, "{value}")?,
            }
        }
        Ok(())
    }

    fn json(&self) -> String {
        let mut bytes = Vec::with_capacity(256);
        let mut json = serde_json::Serializer::new(&mut bytes);
        let write = |map: &mut serde_json::ser::Compound<'_, _, _>| {
            map.serialize_entry("timestamp", &format_args!("{:.6}", self.at))?;
            map.serialize_entry("level", &format_args!("{}", self.level))?;
            map.serialize_entry("message", &self.fields.message)?;
            if let Some(writer) = self.writer
                && !self.fields.others.iter().any(|(name, _)| *name == writer.role)
            {
                map.serialize_entry(writer.role, &writer.name)?;
            }
            for (name, value) in &self.fields.others {
                map.serialize_entry(name, value)?;
            }
            map.serialize_entry("target", self.target)
        };
        let written = json.serialize_map(None).and_then(|mut map| {
            write(&mut map)?;
            map.end()
        });
        written.expect("texts and numbers always have a JSON form");
        text::json(String::from_utf8(bytes).expect("JSON is UTF-8"))
    }
}

/// The fields of an event, in order.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// Escaped text, in quotes if it is empty or has spaces, quotes or other special characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return write!(f, "{}", Escaped(self.0));
        }
        f.write_char('"')?;
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            c if is_harmful(c) => write!(f, "{}", c.escape_default()),
            c => f.write_char(c),
        })?;
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: &[(&'static str, Value)], writer: Option<&Writer>) -> (String, Value) {
        let at = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let fields = Fields { message: "was\nsaid".to_owned(), others: fields.to_vec() };
        let said =
            LogRecord { at, level: Level::INFO, target: "rota_engine::task", writer, fields };
        let mut text = String::new();
        said.write_text(&mut text, false).unwrap();
        let json = said.json();
        assert_eq!((text.lines().count(), json.lines().count()), (1, 1));
        assert!(!text.contains(is_harmful) && !json.contains(is_harmful), "{text:?} {json:?}");
        (text, serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn a_line_says_who_when_what_and_about_what() {
        let node = Writer { role: "node", name: "n1".to_owned() };
        let fields = [("task", "t_1".into()), ("attempt", 2.into()), ("epoch", 7.into())];
        let (text, json) = said(&fields, Some(&node));
        assert_eq!(
            text,
            "2026-01-02T03:04:05.678Z  INFO rota_engine::task: was\\nsaid node=n1 task=t_1 \
             attempt=2 epoch=7"
        );
        let whole = serde_json::json!({
            "timestamp": "2026-01-02T03:04:05.678901Z", "level": "INFO", "message": "was\nsaid",
            "node": "n1", "task": "t_1", "attempt": 2, "epoch": 7, "target": "rota_engine::task",
        });
        assert_eq!(json, whole);
    }

    #[test]
    fn what_users_wrote_stays_within_its_quotes() {
        for (wrote, shown) in [
            ("plain", "plain"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a\nlevel=ERROR", r#""a\nlevel=ERROR""#),
            ("\x1b[2J", r"\u{1b}[2J"),
            ("\u{9b}2J", r"\u{9b}2J"),
            ("say \"hi\" \\", r#""say \"hi\" \\""#),
            ("\u{202e}gpj.exe", r"\u{202e}gpj.exe"),
            ("grüße", "grüße"),
        ] {
            let (text, json) = said(&[("reason", wrote.into())], None);
            let value = text.split_once(" reason=").unwrap().1;
            assert_eq!(value, shown);
            assert_eq!(json["reason"], wrote);
        }
    }

    #[test]
    fn an_event_that_names_another_node_keeps_its_own_word() {
        let node = Writer { role: "node", name: "n1".to_owned() };
        let (_, json) = said(&[("node", "n2".into())], Some(&node));
        assert_eq!(json["node"], "n2");
    }
}

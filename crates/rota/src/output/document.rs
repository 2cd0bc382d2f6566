//! Documents in the formats for programs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    format::Format,
    screen::screen,
    stream::{result, stream, verbatim},
    template,
};
use crate::{exit::Failure, text, yaml};

/// Writes one document.
pub(crate) fn data<T: Serialize + ?Sized>(value: &T, format: Format) -> Result<(), Failure> {
    let template = screen().template.as_deref();
    print(&document(value, format, template)?, format)
}

/// Writes a list: the object that holds it, or for formats without an outer object each item of the member `name`.
pub(crate) fn list<T: Serialize + ?Sized>(
    value: &T,
    name: &str,
    format: Format,
) -> Result<(), Failure> {
    let template = screen().template.as_deref();
    print(&documents(value, name, format, template)?, format)
}

/// Writes the next document of a stream: one line of JSON, or a YAML document. Returns whether somebody still reads.
pub(crate) fn next<T: Serialize + ?Sized>(value: &T, format: Format) -> Result<bool, Failure> {
    let template = screen().template.as_deref();
    let text = match format {
        Format::Yaml => format!("---\n{}", document(value, format, None)?),
        Format::Template => document(value, format, template)?,
        _ => document(value, Format::Jsonl, None)?,
    };
    stream(text::lines(&text).as_bytes())
}

fn print(text: &str, format: Format) -> Result<(), Failure> {
    match format {
        // A terminal would act on the control characters of a field.
        Format::Template | Format::Yaml => result(text.as_bytes()),
        // JSON has escapes for them.
        _ => verbatim(text.as_bytes()),
    }
}

fn document<T: Serialize + ?Sized>(
    value: &T,
    format: Format,
    template: Option<&str>,
) -> Result<String, Failure> {
    let pretty = || serde_json::to_string_pretty(value).map_err(Failure::failed);
    Ok(match format {
        Format::Jsonl | Format::Template => {
            let text = serde_json::to_string(value).map_err(Failure::failed)?;
            item(&text, format, template)?
        }
        Format::Yaml => yaml::of_json(&pretty()?).map_err(Failure::failed)?,
        Format::Json | Format::Table | Format::Wide => format!("{}\n", text::json(pretty()?)),
    })
}

fn documents<T: Serialize + ?Sized>(
    value: &T,
    name: &str,
    format: Format,
    template: Option<&str>,
) -> Result<String, Failure> {
    if !matches!(format, Format::Jsonl | Format::Template) {
        return document(value, format, template);
    }
    // Raw, because a payload can have numbers that no type of this program can hold.
    let whole = serde_json::to_string(value).map_err(Failure::failed)?;
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(&whole).map_err(Failure::failed)?;
    let Some(items) = members.get(name) else { return Ok(String::new()) };
    let items: Vec<&RawValue> = serde_json::from_str(items.get()).map_err(Failure::failed)?;
    items.into_iter().map(|one| item(one.get(), format, template)).collect()
}

/// A document on one line, or the template with its fields.
fn item(json: &str, format: Format, template: Option<&str>) -> Result<String, Failure> {
    if format == Format::Template {
        let value: Value = serde_json::from_str(json).map_err(Failure::failed)?;
        return Ok(format!("{}\n", template::render(template.unwrap_or_default(), &value)?));
    }
    Ok(format!("{}\n", text::json(on_one_line(json))))
}

/// JSON without line breaks between its parts, which a payload has as its author wrote it.
fn on_one_line(json: &str) -> String {
    let (mut is_string, mut is_escaped) = (false, false);
    let stays = |c: &char| {
        if is_string {
            is_string = *c != '"' || is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            return true;
        }
        is_string = *c == '"';
        !c.is_ascii_whitespace()
    };
    json.chars().filter(stays).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_format_has_its_form_of_a_list() {
        let page = json!({ "tasks": [{ "id": "a", "n": 1 }, { "id": "b" }], "next_cursor": "c" });
        let told = |format, template| {
            documents(&page, "tasks", format, template).expect("it can be written")
        };
        assert_eq!(told(Format::Jsonl, None), "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\"}\n");
        assert_eq!(told(Format::Template, Some("{{ id }} {{ n }} {{ x.y }}")), "a 1 \nb  \n");
        let yaml = told(Format::Yaml, None);
        assert!(yaml.contains("next_cursor: c\n") && yaml.contains("  - id: a\n"), "{yaml}");
        assert!(told(Format::Json, None).contains("\"next_cursor\": \"c\""));
    }

    #[test]
    fn a_payload_keeps_its_value_on_one_line() {
        let payload = "{\n  \"a \\\"b\": [12345678901234567890123, 1.10],\n  \"c\": \"x  \\\\\"\n}";
        let payload: &RawValue = serde_json::from_str(payload).expect("JSON");
        let page = BTreeMap::from([("tasks", vec![BTreeMap::from([("payload", payload)])])]);
        let line = documents(&page, "tasks", Format::Jsonl, None).expect("it can be written");
        let expected =
            "{\"payload\":{\"a \\\"b\":[12345678901234567890123,1.10],\"c\":\"x  \\\\\"}}\n";
        assert_eq!(line, expected);
    }
}

//! Documents in the formats for programs.

use serde::Serialize;

use super::{
    format::Format,
    screen::screen,
    stream::{result, verbatim},
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
        Format::Jsonl => {
            let line = serde_json::to_string(value).map_err(Failure::failed)?;
            format!("{}\n", text::json(line))
        }
        Format::Yaml => yaml::of_json(&pretty()?).map_err(Failure::failed)?,
        Format::Template => {
            format!("{}\n", template::render(template.unwrap_or_default(), value)?)
        }
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
    let whole = serde_json::to_value(value).map_err(Failure::failed)?;
    let items = whole.get(name).unwrap_or(&whole).as_array();
    let items = items.map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| document(item, format, template)).collect()
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
}

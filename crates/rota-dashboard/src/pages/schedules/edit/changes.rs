//! What differs between two definitions.

use std::collections::BTreeMap;

use maud::{Markup, html};
use rota_proto::v1::ScheduleDefinition;
use serde_json::Value;

use super::json;

/// Longest text of a value to show.
const SHOWN: usize = 120;

/// A value before and after, by its path.
type Changes = Vec<(String, Option<String>, Option<String>)>;

fn changes(before: &ScheduleDefinition, after: &ScheduleDefinition) -> Changes {
    let (mut before, after) = (flat(before), flat(after));
    let mut changes: Changes = after
        .into_iter()
        .map(|(path, value)| {
            let was = before.remove(&path);
            (path, was, Some(value))
        })
        .collect();
    changes.extend(before.into_iter().map(|(path, was)| (path, Some(was), None)));
    changes.retain(|(_, was, is)| was != is);
    changes.sort();
    changes
}

/// The values of a definition by their paths.
fn flat(definition: &ScheduleDefinition) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // What was made as JSON is JSON.
    let value = serde_json::from_str(&json(definition)).unwrap_or(Value::Null);
    walk("", &value, &mut found);
    found
}

fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(&path, value, found);
            }
        }
        Value::String(text) => drop(found.insert(path.to_owned(), text.clone())),
        other => drop(found.insert(path.to_owned(), other.to_string())),
    }
}

/// The changes, or that there are none.
pub(super) fn list(before: &ScheduleDefinition, after: &ScheduleDefinition) -> Markup {
    let changes = changes(before, after);
    let shown = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or("default");
        let cut: String = text.chars().take(SHOWN).collect();
        let rest = if cut.len() < text.len() { "…" } else { "" };
        html! { bdi { (cut) (rest) } }
    };
    html! {
        @if changes.is_empty() {
            p.note { "The definition is the same as the saved one." }
        } @else {
            dl.changes {
                @for (path, was, is) in &changes {
                    dt { bdi { (path) } }
                    dd { del { (shown(was)) } " → " ins { (shown(is)) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{CatchUp, TaskTemplate};

    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let template = |payload: &str| {
            Some(TaskTemplate {
                kind: "k".to_owned(),
                payload: payload.to_owned().into(),
                ..TaskTemplate::default()
            })
        };
        let before = ScheduleDefinition {
            expressions: vec!["0 2 * * *".to_owned()],
            catch_up: Some(CatchUp::All.into()),
            template: template(r#"{"id":9007199254740993,"a":1}"#),
            ..ScheduleDefinition::default()
        };
        let after = ScheduleDefinition {
            expressions: vec!["0 3 * * *".to_owned()],
            catch_up: None,
            template: template(r#"{"id":9007199254740992,"a":1}"#),
            ..before.clone()
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changes(&before, &after),
            [
                ("catch_up".to_owned(), some("all"), None),
                ("expressions".to_owned(), some("[\"0 2 * * *\"]"), some("[\"0 3 * * *\"]")),
                (
                    "template.payload.id".to_owned(),
                    some("9007199254740993"),
                    some("9007199254740992")
                ),
            ]
        );
        assert!(list(&before, &before).into_string().contains("the same"));
    }

    #[test]
    fn hostile_values_stay_text() {
        let after = ScheduleDefinition {
            description: Some("<script>alert(1)</script>\u{202e}".to_owned()),
            labels: [("name\u{202e}".to_owned(), "value\u{202e}".to_owned())].into(),
            ..ScheduleDefinition::default()
        };
        let html = list(&ScheduleDefinition::default(), &after).into_string();
        assert!(!html.contains("<script"), "{html}");
        crate::apart::assert_apart(&html);
    }
}

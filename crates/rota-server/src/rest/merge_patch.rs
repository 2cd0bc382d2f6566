//! JSON merge patches (RFC 7396): the members that a body names, and their new values.

use std::{collections::HashSet, fmt};

use axum::extract::{FromRequest, Request};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::extract::{parse, read_json};
use crate::{failure::Failure, services::Services};

/// Members that are merged member by member.
const MERGED: [&str; 2] = ["labels", "retry"];
/// Content types of a merge patch.
const TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];

/// A merge patch of a `T`.
#[derive(Debug)]
pub(crate) struct MergePatch<T> {
    /// The new values, without members that are `null` in the patch.
    pub(crate) value: T,
    /// The members that the patch names. Members of merged objects are `labels.NAME`.
    pub(crate) parts: Vec<String>,
}

impl<T: DeserializeOwned> FromRequest<Services> for MergePatch<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, services: &Services) -> Result<Self, Failure> {
        read(&read_json(request, services, &TYPES).await?)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<MergePatch<T>, Failure> {
    let Members(members) = parse(bytes)?;
    let mut parts = Vec::new();
    let mut set = Vec::new();
    for (name, value) in members {
        let text = value.get();
        if MERGED.contains(&name.as_str()) && text.starts_with('{') {
            let Members(inner) =
                parse(text.as_bytes()).map_err(|failure| within(&name, failure))?;
            parts.extend(inner.iter().map(|(part, _)| format!("{name}.{part}")));
            set.push((name, object(&inner)));
            continue;
        }
        if text != "null" {
            set.push((name.clone(), text.to_owned()));
        }
        // The payload has two member names.
        parts.push(if name == "payload_base64" { "payload".to_owned() } else { name });
    }
    let value = parse(object(&set).as_bytes())?;
    Ok(MergePatch { value, parts })
}

/// An error in a merged object, with the path from the top of the body.
fn within(name: &str, mut failure: Failure) -> Failure {
    for violation in &mut failure.violations {
        violation.field = format!("{name}.{}", violation.field);
    }
    failure
}

/// An object with the members that are not `null`.
fn object<V: AsText>(members: &[(String, V)]) -> String {
    let mut text = String::from("{");
    for (name, value) in members.iter().filter(|(_, value)| value.as_text() != "null") {
        let comma = if text.len() > 1 { "," } else { "" };
        let name = serde_json::Value::from(name.as_str());
        text.push_str(&format!("{comma}{name}:{}", value.as_text()));
    }
    text.push('}');
    text
}

trait AsText {
    fn as_text(&self) -> &str;
}

impl AsText for String {
    fn as_text(&self) -> &str {
        self
    }
}

impl AsText for Box<RawValue> {
    fn as_text(&self) -> &str {
        self.get()
    }
}

/// The members of an object, unchanged. Each name can occur once.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut known = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if !known.insert(name.clone()) {
                        return Err(A::Error::custom(format!("duplicate field `{name}`")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        de.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TaskChange;

    fn read(text: &str) -> Result<(TaskChange, Vec<String>), String> {
        super::read::<TaskChange>(text.as_bytes())
            .map(|patch| (patch.value, patch.parts))
            .map_err(|failure| failure.violations[0].field.clone())
    }

    #[test]
    fn members_are_named_whether_they_are_set_or_reset() {
        let text = r#"{"payload": {"a": [1, 2.50]}, "labels": {"a": "x", "b": null},
            "retry": {"max_attempts": 3, "max": null}, "priority": null, "description": "d"}"#;
        let (change, parts) = read(text).unwrap();
        let named = [
            "payload",
            "labels.a",
            "labels.b",
            "retry.max_attempts",
            "retry.max",
            "priority",
            "description",
        ];
        assert_eq!(parts, named);
        assert_eq!(change.payload, r#"{"a": [1, 2.50]}"#);
        assert_eq!(change.labels.len(), 1);
        assert_eq!(change.retry.unwrap().max_attempts, Some(3));
        assert_eq!((change.priority, change.description.as_deref()), (None, Some("d")));
        assert_eq!(read(r#"{"payload_base64": "AAE="}"#).unwrap().1, ["payload"]);
        assert_eq!(read(r#"{"labels": null}"#).unwrap().1, ["labels"]);
    }

    #[test]
    fn what_cannot_be_changed_or_read_is_named() {
        for (text, field) in [
            (r#"{"priority": 1, "priority": 2}"#, "priority"),
            (r#"{"priority": "high"}"#, "priority"),
            (r#"{"queue": "other"}"#, "queue"),
            (r#"{"labels": {"a": 1}}"#, "labels.a"),
            (r#"{"labels": {"a": "1", "a": "2"}}"#, "labels.a"),
            (r#"{"labels": ["a"]}"#, "labels"),
            ("[]", "body"),
            ("{", "body"),
        ] {
            assert_eq!(read(text).unwrap_err(), field, "{text}");
        }
    }
}

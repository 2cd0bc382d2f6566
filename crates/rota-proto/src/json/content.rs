//! Payloads, results and outputs of users: usually JSON, but any bytes are allowed.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;
#[cfg(feature = "server")]
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr,
        schema::{Components, Schema, SchemaType, Type},
    },
};

use super::surrogate::has_lone_surrogate;
use crate::v1;

/// The form in which bytes are shown.
#[derive(Debug)]
pub enum Content<'a> {
    /// JSON, unchanged, and valid for every parser.
    Json(&'a RawValue),
    /// Bytes that are not JSON, shown in base64.
    Bytes(&'a [u8]),
}

impl<'a> Content<'a> {
    /// The content, if there is any.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(json) if !has_lone_surrogate(bytes) => Some(Self::Json(json)),
            _ => Some(Self::Bytes(bytes)),
        }
    }
}

/// The members that show parameters of a task.
#[cfg(feature = "server")]
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Payload {
    /// Parameters of the task. Absent in lists.
    payload: Option<serde_json::Value>,
    /// Parameters that are not JSON, in base64. Instead of `payload`.
    payload_base64: Option<String>,
}

#[cfg(feature = "server")]
pub(crate) fn payload_schema() -> RefOr<Schema> {
    Payload::schema()
}

pub(crate) fn show_json<S: Serializer>(bytes: &Bytes, ser: S) -> Result<S::Ok, S::Error> {
    let mut members = ser.serialize_map(None)?;
    match Content::of(bytes) {
        Some(Content::Json(json)) => members.serialize_entry("payload", json)?,
        Some(Content::Bytes(bytes)) => {
            members.serialize_entry("payload_base64", &BASE64.encode(bytes))?;
        }
        None => {}
    }
    members.end()
}

/// Shows the template of a schedule with its payload.
pub(crate) fn show_template<S: Serializer>(
    template: &Option<v1::TaskTemplate>,
    ser: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        template: &'a v1::TaskTemplate,
        #[serde(flatten, serialize_with = "show_json")]
        payload: &'a Bytes,
    }
    let shown = template.as_ref().map(|template| Shown { template, payload: &template.payload });
    shown.serialize(ser)
}

/// The members that show the output of an attempt.
#[cfg(feature = "server")]
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Output {
    /// End of the attempt's output as text. Bytes that are not UTF-8 are replaced.
    output_tail: Option<String>,
    /// End of the attempt's output in base64. Only when it is not UTF-8.
    output_tail_base64: Option<String>,
}

#[cfg(feature = "server")]
pub(crate) fn output_schema() -> RefOr<Schema> {
    Output::schema()
}

pub(crate) fn show_text<S: Serializer>(bytes: &Bytes, ser: S) -> Result<S::Ok, S::Error> {
    text_as(["output_tail", "output_tail_base64"], bytes, ser)
}

/// The members that show a piece of an output.
#[cfg(feature = "server")]
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Piece {
    /// A piece of the output as text. Bytes that are not UTF-8 are replaced.
    output: Option<String>,
    /// The same in base64. Only when it is not UTF-8.
    output_base64: Option<String>,
}

#[cfg(feature = "server")]
pub(crate) fn piece_schema() -> RefOr<Schema> {
    Piece::schema()
}

pub(crate) fn show_output<S: Serializer>(bytes: &Bytes, ser: S) -> Result<S::Ok, S::Error> {
    text_as(["output", "output_base64"], bytes, ser)
}

/// Shows bytes as text in the first of two members. If they are not UTF-8, the second has them unchanged.
fn text_as<S: Serializer>(
    [as_text, as_base64]: [&str; 2],
    bytes: &Bytes,
    ser: S,
) -> Result<S::Ok, S::Error> {
    let mut members = ser.serialize_map(None)?;
    if !bytes.is_empty() {
        let text = String::from_utf8_lossy(bytes);
        members.serialize_entry(as_text, &text)?;
        // The text is owned only if bytes were replaced.
        if let Cow::Owned(_) = text {
            members.serialize_entry(as_base64, &BASE64.encode(bytes))?;
        }
    }
    members.end()
}

/// Reads any JSON unchanged. `null` counts as absent.
pub(crate) fn read_json<'de, D: Deserializer<'de>>(de: D) -> Result<Bytes, D::Error> {
    json(de).map(|json| json.map(Bytes::from).unwrap_or_default())
}

pub(super) fn json<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Vec<u8>>, D::Error> {
    let json = Option::<Box<RawValue>>::deserialize(de)?;
    Ok(json.map(|json| Box::<str>::from(json).into_string().into_bytes()))
}

pub(super) fn base64<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<Cow<'_, str>>::deserialize(de)?;
    let bytes = text.map(|text| BASE64.decode(&*text)).transpose();
    bytes.map_err(|error| D::Error::custom(format_args!("is not base64: {error}")))
}

/// Reads a string. `null` counts as absent.
pub(crate) fn read_text<'de, D: Deserializer<'de>>(de: D) -> Result<Bytes, D::Error> {
    Option::<String>::deserialize(de).map(|text| text.map(Bytes::from).unwrap_or_default())
}

/// Reads bytes that [`super::Object`] has taken from JSON or from base64.
pub(crate) fn read<'de, D: Deserializer<'de>>(de: D) -> Result<Bytes, D::Error> {
    struct Read;

    impl Visitor<'_> for Read {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }
    }

    de.deserialize_byte_buf(Read)
}

/// Completes schemas with members for content: adds the member `payload_base64` to new tasks and templates, and flattens
/// the members of content into the schemas that show it. The generator leaves `payload` out of templates, because it is
/// written in another way than it is read.
#[cfg(feature = "server")]
pub fn complete_schemas(components: &mut Components) {
    let payload = match components.schemas.get("NewTask") {
        Some(RefOr::T(Schema::Object(task))) => task.properties.get("payload").cloned(),
        _ => None,
    };
    let pattern = "^([A-Za-z0-9+/]{4})*\
                   ([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
    for (name, schema) in &mut components.schemas {
        match schema {
            RefOr::T(Schema::AllOf(parts)) => {
                let description = parts.description.take();
                let mut whole = ObjectBuilder::new().description(description).build();
                for part in std::mem::take(&mut parts.items) {
                    if let RefOr::T(Schema::Object(part)) = part {
                        whole.properties.extend(part.properties);
                        whole.required.extend(part.required);
                    }
                }
                *schema = RefOr::T(Schema::Object(whole));
            }
            RefOr::T(Schema::Object(task))
                if ["NewTask", "TaskTemplate"].contains(&name.as_str()) =>
            {
                let base64 = ObjectBuilder::new()
                    .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
                    .description(Some(
                        "Parameters that are not JSON, in base64. Instead of `payload`.",
                    ))
                    .pattern(Some(pattern));
                if let Some(payload) = &payload {
                    task.properties.entry("payload".to_owned()).or_insert_with(|| payload.clone());
                }
                task.properties.insert("payload_base64".to_owned(), base64.into());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_as_it_was_written_and_other_bytes_are_encoded() {
        let shown = |payload: &[u8]| {
            let payload = Bytes::copy_from_slice(payload);
            let task = v1::Dispatch { payload, ..v1::Dispatch::default() };
            serde_json::to_string(&task).expect("JSON")
        };
        for json in [r#"{"b": 1,  "a":1.50}"#, "null", "\"\\u00e9\"", "12345678901234567890123"] {
            let text = shown(json.as_bytes());
            assert!(text.contains(&format!(r#""payload":{json},"attempt""#)), "{text}");
        }
        for (bytes, encoded) in [
            (&b"{"[..], "ew=="),
            (br#""\udead""#, "Ilx1ZGVhZCI="),
            (b"\xff\x00", "/wA="),
            (b"a b", "YSBi"),
        ] {
            let text = shown(bytes);
            assert!(text.contains(&format!(r#""payload_base64":"{encoded}","attempt""#)), "{text}");
        }
        assert!(!shown(b"").contains("payload"));
    }

    #[test]
    fn a_definition_is_shown_as_it_can_be_written() {
        let written = r#"{"name":"nightly","expressions":["30 2 * * *"],"intervals":[{"every":"1h30m"}],
            "exclude":{"calendars":[{"name":"holidays","on_holiday":"before"}]},"gap":"skip","jitter":"30s",
            "max_runs":3,"template":{"kind":"report","labels":{"a":"b"},"payload":{"x": 1}}}"#;
        let read: super::super::Object<v1::ScheduleDefinition> =
            serde_json::from_str(written).expect("a definition");
        assert_eq!(read.0.gap, Some(v1::Gap::Skip.into()));
        let shown = serde_json::to_string(&read.0).expect("JSON");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&shown), value(written));
        assert!(shown.contains(r#""payload":{"x": 1}"#), "{shown}");

        let refused = |text: &str| {
            let read = serde_json::from_str::<super::super::Object<v1::ScheduleDefinition>>(text);
            read.expect_err(text).to_string()
        };
        let error = refused(r#"{"template":{"kind":"k","run_at":"2026-01-01T00:00:00Z"}}"#);
        assert!(error.contains("unknown field `run_at`"), "{error}");
        let error = refused(r#"{"gap":"end","gap":"end"}"#);
        assert!(error.contains("duplicate field `gap`"), "{error}");
        assert!(refused(r#"{"overlap":"queue"}"#).contains("`queue_one`"));
    }

    #[test]
    fn output_is_text_and_also_encoded_where_it_is_none() {
        let shown = |output: &[u8]| {
            let output_tail = Bytes::copy_from_slice(output);
            let attempt = v1::Attempt { output_tail, ..v1::Attempt::default() };
            serde_json::to_string(&attempt).expect("JSON")
        };
        let text = shown("grüße".as_bytes());
        assert!(text.contains(r#""output_tail":"grüße","lease_token""#), "{text}");
        let text = shown(b"a\xff\x00");
        let both = "\"output_tail\":\"a\u{fffd}\\u0000\",\"output_tail_base64\":\"Yf8A\"";
        assert!(text.contains(both), "{text}");
        assert!(!shown(b"").contains("output"));
    }

    #[test]
    fn depth_does_not_cost_the_stack() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        assert!(
            matches!(Content::of(deep.as_bytes()), Some(Content::Json(json)) if json.get() == deep)
        );
    }
}

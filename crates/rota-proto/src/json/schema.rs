//! Schemas that several shapes share.

use utoipa::openapi::{
    ArrayBuilder, ObjectBuilder,
    schema::{AdditionalProperties, Schema, SchemaType, Type},
};

/// A name's alphabet.
const NAME: &str = "^[A-Za-z0-9._:/-]+$";
/// The same, with a character besides dots: paths cannot name `.` and `..`.
const NAME_IN_PATH: &str = "^[A-Za-z0-9._:/-]*[A-Za-z0-9_:/-][A-Za-z0-9._:/-]*$";

fn text(pattern: &str, absent: bool) -> ObjectBuilder {
    let kind = if absent {
        SchemaType::from_iter([Type::String, Type::Null])
    } else {
        SchemaType::new(Type::String)
    };
    ObjectBuilder::new()
        .schema_type(kind)
        .min_length(Some(1))
        .max_length(Some(128))
        .pattern(Some(pattern))
}

/// Which handler runs a task.
pub(super) fn kind() -> Schema {
    let words = "Which handler runs it.";
    text(NAME_IN_PATH, false).description(Some(words)).examples(["resize"]).into()
}

/// A task's id, as its client may choose it.
pub(super) fn task_id() -> Schema {
    let words = "A name of your own for the task, unique over all tasks; generated when absent. \
                 Not `batch` or `bulk`, and not of the form of generated ids (`t_…`).";
    let taken = serde_json::json!({
        "anyOf": [
            { "enum": ["batch", "bulk"] },
            { "type": "string", "pattern": "^t_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$" },
        ],
    });
    let id = text(NAME_IN_PATH, true).description(Some(words)).examples(["invoice:2026-0042"]);
    id.extensions(Some([("not", taken)].into_iter().collect())).into()
}

/// Where a task waits.
pub(super) fn queue() -> Schema {
    let words = "Where it waits. Default: `default`.";
    text(NAME_IN_PATH, true).description(Some(words)).examples(["images"]).into()
}

/// Bytes as text.
pub(super) fn base64() -> Schema {
    let pattern = "^([A-Za-z0-9+/]{4})*\
                   ([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("Parameters that are not JSON, in base 64. Instead of `payload`."))
        .pattern(Some(pattern))
        .into()
}

/// What a repeat is known by.
pub(super) fn idempotency_key() -> Schema {
    let words = "A repeat with the same key and body returns the same task. Up to 256 bytes.";
    text(r"^[^\u0000-\u001f\u007f-\u009f]+$", true)
        .max_length(Some(256))
        .description(Some(words))
        .into()
}

/// A session.
pub(super) fn session() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("Its session, from the last answer; absent on the first call."))
        .pattern(Some("^s_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$"))
        .into()
}

/// Where a list goes on.
pub(super) fn cursor() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some("Where to go on, from the last answer."))
        .pattern(Some("^(t_[0-9a-f][0-9a-hjkmnp-tv-z]{12})?$"))
        .into()
}

/// A lease's number.
pub(super) fn lease_token() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .description(Some("From the lease: a whole number of 64 bits."))
        .minimum(Some(0_u32))
        .maximum(Some(u64::MAX))
        .into()
}

/// A name that may be absent.
pub(super) fn some_name() -> Schema {
    text(NAME, true).description(Some("Only of this one.")).into()
}

/// A worker's name.
pub(super) fn worker() -> Schema {
    text(NAME_IN_PATH, false).description(Some("A name for people.")).examples(["my-script"]).into()
}

/// Names that a worker serves.
pub(super) fn served() -> Schema {
    let name = text(NAME, false);
    let array = ArrayBuilder::new().items(name).max_items(Some(1000));
    array.description(Some("Those served; empty means all.")).into()
}

/// Labels.
pub(super) fn labels() -> Schema {
    let value =
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).max_length(Some(1024));
    let value = value.pattern(Some(r"^[^\u0000]*$"));
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .description(Some("For people and filters: up to 32 texts by name."))
        .property_names(Some(Schema::from(text(NAME, false))))
        .additional_properties(Some(AdditionalProperties::from(Schema::from(value))))
        .max_properties(Some(32))
        .examples([serde_json::json!({ "customer": "acme" })])
        .into()
}

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
    text(NAME, false).description(Some(words)).examples(["resize"]).into()
}

/// A task's id, as its client may choose it.
pub(super) fn task_id() -> Schema {
    let words = "A name of your own for the task, unique over all tasks; generated when absent. \
                 Not `batch` or `bulk`, and not of the form of generated ids (`t_…`).";
    text(NAME_IN_PATH, true).description(Some(words)).examples(["invoice:2026-0042"]).into()
}

/// Where a task waits.
pub(super) fn queue() -> Schema {
    let words = "Where it waits. Default: `default`.";
    text(NAME_IN_PATH, true).description(Some(words)).examples(["images"]).into()
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
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .description(Some("For people and filters: up to 32 texts by name."))
        .property_names(Some(Schema::from(text(NAME, false))))
        .additional_properties(Some(AdditionalProperties::from(Schema::from(value))))
        .max_properties(Some(32))
        .examples([serde_json::json!({ "customer": "acme" })])
        .into()
}

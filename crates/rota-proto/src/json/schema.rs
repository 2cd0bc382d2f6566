//! Schemas that attributes of fields cannot express. They repeat the description of their fields.

use utoipa::openapi::{
    ArrayBuilder, ObjectBuilder,
    schema::{AdditionalProperties, Schema, SchemaType, Type},
};

/// The characters of a name.
const NAME: &str = "^[A-Za-z0-9._:/-]+$";
/// The same, with at least one character that is not a dot, because paths cannot contain `.` and `..`.
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

/// A task id that a client chooses.
pub(crate) fn task_id() -> Schema {
    let words = "Your own id for the task, unique among all tasks. Generated when absent. Not `batch` or \
                 `bulk`, and not of the form of generated ids (`t_…`).";
    let taken = serde_json::json!({
        "anyOf": [
            { "enum": ["batch", "bulk"] },
            { "type": "string", "pattern": "^t_[0-9a-f][0-9a-hjkmnp-tv-z]{12}$" },
        ],
    });
    let id = text(NAME_IN_PATH, true).description(Some(words)).examples(["invoice:2026-0042"]);
    id.extensions(Some([("not", taken)].into_iter().collect())).into()
}

/// A lease token.
pub(crate) fn lease_token() -> Schema {
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Integer))
        .description(Some("Fencing token from the lease, a 64-bit integer."))
        .minimum(Some(0_u32))
        .maximum(Some(u64::MAX))
        .into()
}

/// A name that may be absent.
pub(super) fn some_name() -> Schema {
    text(NAME, true).description(Some("Only tasks with this name.")).into()
}

/// Priorities of tasks to select.
pub(super) fn priorities() -> Schema {
    let level = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer));
    let level = level.minimum(Some(0_u32)).maximum(Some(9_u32));
    let array = ArrayBuilder::new().items(level).min_items(Some(1));
    array.description(Some("Only tasks with one of these priorities.")).into()
}

/// The queues or kinds that a worker serves.
pub(crate) fn served() -> Schema {
    let name = text(NAME, false);
    let array = ArrayBuilder::new().items(name).max_items(Some(1000));
    array.description(Some("Names to serve. Empty means all.")).into()
}

/// Labels.
pub(crate) fn labels() -> Schema {
    let value =
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).max_length(Some(1024));
    let value = value.pattern(Some(r"^[^\u0000]*$"));
    ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::Object))
        .description(Some("Labels for people and filters: up to 32 strings by name."))
        .property_names(Some(Schema::from(text(NAME, false))))
        .additional_properties(Some(AdditionalProperties::from(Schema::from(value))))
        .max_properties(Some(32))
        .examples([serde_json::json!({ "customer": "acme" })])
        .into()
}

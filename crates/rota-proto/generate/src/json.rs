//! The JSON form of messages: attributes for serde and utoipa that follow from the types of fields, and the
//! words of enumerations.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic_prost_build::Builder;

use crate::table::{ALWAYS_SHOWN, READ, READ_BACK, RENAMED, SCHEMA, SERDE, SHOWN, SKIPPED, WORDS};

/// All entries of the table for one key.
fn said<'a>(table: &'a [(&str, &str)], key: &str) -> Option<&'a str> {
    table.iter().find(|(known, _)| *known == key).map(|(_, said)| *said)
}

/// Whether a message is read from JSON, shown as JSON, or both.
#[derive(Clone, Copy)]
struct Use {
    shown: bool,
    read: bool,
    read_back: bool,
}

/// Adds derives to each message with a JSON form.
///
/// # Panics
/// When the table names a message or a field that does not exist.
pub(crate) fn derive(mut config: Builder, files: &FileDescriptorSet) -> Builder {
    let messages = messages(files);
    for (path, name) in
        SHOWN.iter().chain(READ.iter().filter(|(path, _)| said(SHOWN, path).is_none()))
    {
        let message = messages.iter().find(|(known, _)| known == path);
        let (_, message) = message.unwrap_or_else(|| panic!("no message {path}"));
        let its = Use {
            shown: said(SHOWN, path).is_some(),
            read: said(READ, path).is_some(),
            read_back: READ_BACK.contains(path),
        };
        config = config.message_attribute(path, of_message(name, its));
        for field in &message.field {
            let serde = serde(message.name(), field, its);
            let schema = schema(message.name(), field, its);
            let at = format!("{path}.{}", field.name());
            if !serde.is_empty() {
                config = config.field_attribute(&at, format!("#[serde({serde})]"));
            }
            if !schema.is_empty() {
                config = config.field_attribute(&at, for_servers(&format!("schema({schema})")));
            }
        }
    }
    check(&messages);
    config
}

/// An attribute that only servers need, which show the schemas of their messages.
fn for_servers(attribute: &str) -> String {
    format!("#[cfg_attr(feature = \"server\", {attribute})]")
}

fn of_message(name: &str, its: Use) -> String {
    let mut text = for_servers("derive(utoipa::ToSchema)");
    if its.shown {
        text.push_str("#[derive(serde::Serialize)]");
    }
    if its.read {
        text.push_str("#[derive(serde::Deserialize)]#[serde(deny_unknown_fields)]");
    }
    if its.read_back {
        text.push_str("#[derive(serde::Deserialize)]");
    }
    if !name.is_empty() {
        text.push_str(&for_servers(&format!("schema(as = {name})")));
    }
    text
}

/// Whether a field can be absent.
fn is_option(field: &FieldDescriptorProto) -> bool {
    let message = field.r#type() == Type::Message && field.label() != Label::Repeated;
    message || field.proto3_optional()
}

fn is_time(field: &FieldDescriptorProto) -> bool {
    field.type_name().starts_with(".google.protobuf.")
}

/// A map is a list of entries in a descriptor. The type of the entries is inside of a message.
fn is_map(field: &FieldDescriptorProto) -> bool {
    let Some((outside, name)) = field.type_name().rsplit_once('.') else { return false };
    let outside = outside.rsplit('.').next().unwrap_or_default();
    name.ends_with("Entry") && outside.starts_with(char::is_uppercase)
}

/// The generated type of an enumeration field.
fn words_of(field: &FieldDescriptorProto) -> Option<String> {
    let (.., name) = field.type_name().rsplit_once('.')?;
    let words = WORDS.iter().find(|(path, ..)| *path == field.type_name());
    let (_, rust, _) = words.unwrap_or_else(|| panic!("no words for {name}"));
    Some(format!("crate::{rust}"))
}

fn serde(message: &str, field: &FieldDescriptorProto, its: Use) -> String {
    let key = format!("{message}.{}", field.name());
    if SKIPPED.contains(&key.as_str()) {
        return "skip".to_owned();
    }
    let mut all = Vec::new();
    if let Some(name) = said(RENAMED, &key) {
        all.push(format!("rename = {name:?}"));
    }
    if let Some(special) = said(SERDE, &key) {
        all.push(special.to_owned());
        return all.join(", ");
    }
    let option = is_option(field);
    if its.shown && option {
        all.push(r#"skip_serializing_if = "Option::is_none""#.to_owned());
    }
    // What people write is short when it is shown, too.
    if its.shown && its.read && field.label() == Label::Repeated {
        let kind = if is_map(field) { "std::collections::BTreeMap" } else { "Vec" };
        all.push(format!("skip_serializing_if = \"{kind}::is_empty\""));
    }
    let kind = if option { "optional" } else { "plain" };
    let words = (field.r#type() == Type::Enum).then(|| words_of(field)).flatten();
    if let Some(words) = &words {
        if its.shown {
            all.push(format!("serialize_with = \"crate::json::words::show_{kind}::<{words}, _>\""));
        }
        if its.read || its.read_back {
            let how = if its.read { "read" } else { "read_back" };
            all.push(format!(
                "deserialize_with = \"crate::json::words::{how}_{kind}::<{words}, _>\""
            ));
        }
    }
    if its.read_back {
        all.push("default".to_owned());
    }
    if its.read {
        let with = match field.r#type() {
            Type::Uint32 | Type::Uint64 if option => Some("whole::optional"),
            Type::Uint32 | Type::Uint64 => Some("whole::number"),
            Type::Message if is_map(field) => Some("strict::labels"),
            Type::Message if is_time(field) => None,
            Type::Message if option => Some("strict::optional_object"),
            Type::Message => Some("strict::objects"),
            _ => None,
        };
        if let Some(with) = with {
            all.push(format!("deserialize_with = \"crate::json::{with}\""));
        }
        // A list of objects is required, because it is the content of its message. Other empty fields can be
        // omitted.
        let list =
            field.label() == Label::Repeated && (field.r#type() != Type::Message || is_map(field));
        if option || list || field.r#type() == Type::Bool {
            all.push("default".to_owned());
        }
    }
    all.join(", ")
}

fn schema(message: &str, field: &FieldDescriptorProto, its: Use) -> String {
    let key = format!("{message}.{}", field.name());
    if SKIPPED.contains(&key.as_str()) {
        return String::new();
    }
    let attributes = SCHEMA.iter().filter(|(known, _)| *known == key);
    let mut all: Vec<String> = attributes.map(|(_, said)| (*said).to_owned()).collect();
    let always = ALWAYS_SHOWN.contains(&key.as_str());
    if field.r#type() == Type::Enum
        && let Some(words) = words_of(field)
    {
        let words = if is_option(field) { format!("Option<{words}>") } else { words };
        all.push(format!("value_type = {words}"));
    }
    if always {
        let of = match field.type_name() {
            ".google.protobuf.Timestamp" => "crate::Date",
            ".google.protobuf.Duration" => "crate::TimeSpan",
            name => name.rsplit('.').next().unwrap_or_default(),
        };
        all.push(format!("value_type = {of}"));
    }
    let plain = !is_option(field) && field.r#type() != Type::Bytes;
    let is_list_to_write = its.read && field.label() == Label::Repeated;
    let is_left_out = said(SERDE, &key).unwrap_or_default().contains("::is_empty");
    if its.shown && (always || plain) && !is_list_to_write && !is_left_out {
        all.push("required".to_owned());
    }
    all.join(", ")
}

/// All messages by path.
fn messages(files: &FileDescriptorSet) -> Vec<(String, &DescriptorProto)> {
    let mut all = Vec::new();
    for file in &files.file {
        for message in &file.message_type {
            let path = format!(".{}.{}", file.package(), message.name());
            let nested = message.nested_type.iter();
            all.extend(nested.map(|nested| (format!("{path}.{}", nested.name()), nested)));
            all.push((path, message));
        }
    }
    all
}

/// Checks that each field that the table names exists.
fn check(messages: &[(String, &DescriptorProto)]) {
    let tables = RENAMED.iter().chain(SERDE).chain(SCHEMA).map(|(key, _)| key);
    for key in tables.chain(SKIPPED).chain(ALWAYS_SHOWN) {
        let found = messages.iter().any(|(path, message)| {
            message.field.iter().any(|field| {
                let all = format!("{path}.{}", field.name());
                all.ends_with(&format!(".{key}"))
            })
        });
        assert!(found, "the table names {key}, which does not exist");
    }
}

/// The words of enumerations, as code.
///
/// # Panics
/// When the table names an enumeration that does not exist.
pub(crate) fn words(files: &FileDescriptorSet) -> String {
    let mut code = String::new();
    for (path, rust, name) in WORDS {
        let (found, about) =
            enumeration(files, path).unwrap_or_else(|| panic!("no enumeration {path}"));
        let prefix = format!("{}_", screaming(found.name()));
        let mut values = String::new();
        for value in found.value.iter().filter(|value| value.number() != 0) {
            let word = value.name().strip_prefix(&prefix).unwrap_or(value.name());
            values.push_str(&format!("({}, {:?}), ", value.number(), word.to_lowercase()));
        }
        code.push_str(&format!("words!(crate::{rust}, {name:?}, {about:?}, [{values}]);\n"));
    }
    code
}

/// An enumeration and its comment.
fn enumeration<'a>(
    files: &'a FileDescriptorSet,
    path: &str,
) -> Option<(&'a EnumDescriptorProto, String)> {
    for file in &files.file {
        let package = format!(".{}", file.package());
        let about = |place: &[i32]| {
            let info = file.source_code_info.as_ref();
            let all = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let found = all.iter().find(|location| location.path == place);
            found
                .map(|found| found.leading_comments().trim().replace("\n ", "\n"))
                .unwrap_or_default()
        };
        for (at, one) in (0..).zip(&file.enum_type) {
            if format!("{package}.{}", one.name()) == path {
                return Some((one, about(&[5, at])));
            }
        }
        for (outer, message) in (0..).zip(&file.message_type) {
            for (at, one) in (0..).zip(&message.enum_type) {
                if format!("{package}.{}.{}", message.name(), one.name()) == path {
                    return Some((one, about(&[4, outer, 4, at])));
                }
            }
        }
    }
    None
}

/// `TaskStatus` as `TASK_STATUS`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

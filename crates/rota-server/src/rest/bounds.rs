//! Writes the limits in force into the OpenAPI document of a server.
//!
//! The schemas are generated with the defaults. Each rule says which limit bounds which location of the document.

use std::time::Duration;

use rota_proto::operations::{Http, Method, Operation};
use utoipa::{
    Number,
    openapi::{
        OpenApi, RefOr,
        path::Operation as Described,
        schema::{AdditionalProperties, Schema},
    },
};

use crate::limits::Limits;

/// A location in the document.
#[derive(Debug, Clone, Copy)]
enum Location {
    /// A member of a schema.
    Member(&'static str, &'static str),
    /// A parameter of an operation.
    Parameter(Operation, &'static str),
    /// The summary of an operation.
    Summary(Operation),
}

/// What a limit bounds at a place.
#[derive(Debug, Clone, Copy)]
enum Bound {
    /// Characters of a string.
    Length,
    /// Items of a list.
    Items,
    /// Members of an object.
    Members,
    /// Characters of member names.
    NameLength,
    /// Characters of member values.
    ValueLength,
    /// A number.
    Maximum,
    /// Nothing that a schema can express; only the description changes.
    WordsOnly,
}

/// One limit at one location: the location, the limit by its name, what it bounds, and the description that tells it.
type Rule = (Location, &'static str, Bound, Option<fn(u64) -> String>);

fn rules() -> Vec<Rule> {
    use Bound::{Items, Length, Maximum, Members, NameLength, ValueLength, WordsOnly};
    use Location::{Member, Parameter, Summary};
    let key = |max| {
        format!("A repeat with the same key and content returns the same task. Up to {max} bytes.")
    };
    let labels = |max| format!("Labels for people and filters: up to {max} strings by name.");
    let filtered = |max| format!("Labels of the tasks. All must match. Up to {max}.");
    let selected =
        |max: u64| format!("Maximum number of tasks to change. Default: {}.", max.min(1000));
    let tasks =
        |max: u64| format!("Maximum number of tasks, 1 to {max}. Default: {}.", max.min(50));
    let groups =
        |max: u64| format!("Maximum number of groups, 1 to {max}. Default: {}.", max.min(50));
    let others =
        |max: u64| format!("Maximum number of entries, 1 to {max}. Default: {}.", max.min(1000));
    let schedules =
        |max: u64| format!("Maximum number of schedules, 1 to {max}. Default: {}.", max.min(50));
    let ticks =
        |max: u64| format!("Maximum number of entries, 1 to {max}. Default: {}.", max.min(50));
    let filtered_schedules = |max| format!("Labels of the schedules. All must match. Up to {max}.");
    let selected_schedules =
        |max: u64| format!("Maximum number of schedules to change. Default: {}.", max.min(1000));
    let wait = |ms| {
        format!(
            "Maximum time to wait for the end of the task, up to {:?}.",
            Duration::from_millis(ms)
        )
    };
    let lease_wait = |ms| {
        let most = Duration::from_millis(ms);
        format!("Maximum time to wait for the first task, up to {most:?}. Default: 0s.")
    };
    let batch = |max| {
        format!(
            "Creates up to {max} tasks independently. The answer has a result for each, in order."
        )
    };
    vec![
        (Member("NewTask", "id"), "name_characters", Length, None),
        (Member("NewTask", "queue"), "name_characters", Length, None),
        (Member("NewTask", "kind"), "name_characters", Length, None),
        (Member("NewTask", "idempotency_key"), "idempotency_key_bytes", Length, Some(key)),
        (
            Parameter(Operation::CreateTask, "idempotency-key"),
            "idempotency_key_bytes",
            Length,
            None,
        ),
        (Member("NewTask", "labels"), "labels", Members, Some(labels)),
        (Member("NewTask", "labels"), "name_characters", NameLength, None),
        (Member("NewTask", "labels"), "label_value_bytes", ValueLength, None),
        (Member("TaskChange", "labels"), "labels", Members, Some(labels)),
        (Member("TaskChange", "labels"), "name_characters", NameLength, None),
        (Member("TaskChange", "labels"), "label_value_bytes", ValueLength, None),
        (Member("TaskFilter", "labels"), "labels", Members, Some(filtered)),
        (Member("TaskFilter", "labels"), "label_value_bytes", ValueLength, None),
        (
            Member("NewTaskBatch", "tasks"),
            "batch",
            Items,
            Some(|max| format!("New tasks, up to {max}.")),
        ),
        (Summary(Operation::CreateTasks), "batch", WordsOnly, Some(batch)),
        (Member("TaskTemplate", "queue"), "name_characters", Length, None),
        (Member("TaskTemplate", "kind"), "name_characters", Length, None),
        (Member("TaskTemplate", "labels"), "labels", Members, Some(labels)),
        (Member("TaskTemplate", "labels"), "name_characters", NameLength, None),
        (Member("TaskTemplate", "labels"), "label_value_bytes", ValueLength, None),
        (Member("ScheduleDefinition", "labels"), "labels", Members, Some(labels)),
        (Member("ScheduleDefinition", "labels"), "name_characters", NameLength, None),
        (Member("ScheduleDefinition", "labels"), "label_value_bytes", ValueLength, None),
        (Member("ScheduleFilter", "labels"), "labels", Members, Some(filtered_schedules)),
        (Member("ScheduleFilter", "labels"), "label_value_bytes", ValueLength, None),
        (Member("BulkPauseRequest", "limit"), "page_size", Maximum, Some(selected_schedules)),
        (Member("BulkResumeRequest", "limit"), "page_size", Maximum, Some(selected_schedules)),
        (Member("BulkRequest", "limit"), "page_size", Maximum, Some(selected)),
        (Parameter(Operation::ListTasks, "limit"), "page_size", Maximum, Some(tasks)),
        (Parameter(Operation::ListFailures, "limit"), "page_size", Maximum, Some(groups)),
        (Parameter(Operation::ListQueues, "limit"), "page_size", Maximum, Some(others)),
        (Parameter(Operation::ListWorkers, "limit"), "page_size", Maximum, Some(others)),
        (Parameter(Operation::ListSchedules, "limit"), "page_size", Maximum, Some(schedules)),
        (Parameter(Operation::ListTicks, "limit"), "page_size", Maximum, Some(ticks)),
        (Parameter(Operation::ListCalendars, "limit"), "page_size", Maximum, Some(others)),
        (Parameter(Operation::GetTask, "wait"), "wait_ms", WordsOnly, Some(wait)),
        (Member("LeaseRequest", "worker"), "name_characters", Length, None),
        (Member("LeaseRequest", "max"), "page_size", Maximum, None),
        (Member("LeaseRequest", "wait"), "wait_ms", WordsOnly, Some(lease_wait)),
    ]
}

/// Writes the limits into the document. Returns the rules whose place does not exist, which is a bug.
pub(super) fn apply(contract: &mut OpenApi, limits: &Limits) -> Vec<String> {
    let named = limits.named();
    let mut unplaced = Vec::new();
    for (location, name, bound, words) in rules() {
        let limit = named.iter().find(|(other, _)| *other == name).map(|(_, limit)| *limit);
        let placed = limit.and_then(|limit| {
            let words = words.map(|words| words(limit));
            at(contract, location, bound, usize::try_from(limit).unwrap_or(usize::MAX), words)
        });
        if placed.is_none() {
            unplaced.push(format!("{location:?} {name} {bound:?}"));
        }
    }
    unplaced
}

fn at(
    contract: &mut OpenApi,
    location: Location,
    bound: Bound,
    limit: usize,
    words: Option<String>,
) -> Option<()> {
    match location {
        Location::Member(schema, member) => {
            let schemas = &mut contract.components.as_mut()?.schemas;
            let RefOr::T(Schema::Object(object)) = schemas.get_mut(schema)? else { return None };
            let member = object.properties.get_mut(member)?;
            if let Some(words) = words {
                describe(member, words)?;
            }
            set(member, bound, limit)
        }
        Location::Parameter(operation, name) => {
            let parameters = described(contract, operation)?.parameters.as_mut()?;
            let parameter = parameters.iter_mut().find_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.name == name => Some(parameter),
                RefOr::T(_) | RefOr::Ref(_) => None,
            })?;
            if let Some(words) = words {
                parameter.description = Some(words);
            }
            set(parameter.schema.as_mut()?, bound, limit)
        }
        Location::Summary(operation) => {
            described(contract, operation)?.summary = words;
            Some(())
        }
    }
}

/// The entry of an operation in the document.
pub(super) fn described(contract: &mut OpenApi, operation: Operation) -> Option<&mut Described> {
    let Http { method, path } = operation.http()?;
    let item = contract.paths.paths.get_mut(path)?;
    match method {
        Method::Get => item.get.as_mut(),
        Method::Post => item.post.as_mut(),
        Method::Put => item.put.as_mut(),
        Method::Patch => item.patch.as_mut(),
        Method::Delete => item.delete.as_mut(),
    }
}

fn describe(schema: &mut RefOr<Schema>, words: String) -> Option<()> {
    match schema {
        RefOr::Ref(reference) => reference.description = words,
        RefOr::T(Schema::Object(object)) => object.description = Some(words),
        RefOr::T(Schema::Array(array)) => array.description = Some(words),
        RefOr::T(Schema::OneOf(one)) => {
            let told = one.items.iter_mut().find_map(|item| match item {
                RefOr::Ref(reference) if !reference.description.is_empty() => Some(reference),
                RefOr::Ref(_) | RefOr::T(_) => None,
            });
            match told {
                Some(reference) => reference.description = words,
                None => one.description = Some(words),
            }
        }
        RefOr::T(_) => return None,
    }
    Some(())
}

fn set(schema: &mut RefOr<Schema>, bound: Bound, limit: usize) -> Option<()> {
    match (bound, schema) {
        (Bound::WordsOnly, _) => {}
        (Bound::Items, RefOr::T(Schema::Array(array))) => array.max_items = Some(limit),
        (bound, RefOr::T(Schema::Object(object))) => match bound {
            Bound::Length => object.max_length = Some(limit),
            Bound::Members => object.max_properties = Some(limit),
            Bound::Maximum => object.maximum = Some(Number::UInt(limit)),
            Bound::NameLength => match object.property_names.as_deref_mut()? {
                Schema::Object(name) => name.max_length = Some(limit),
                _ => return None,
            },
            Bound::ValueLength => match object.additional_properties.as_deref_mut()? {
                AdditionalProperties::RefOr(RefOr::T(Schema::Object(value))) => {
                    value.max_length = Some(limit);
                }
                _ => return None,
            },
            Bound::Items | Bound::WordsOnly => return None,
        },
        _ => return None,
    }
    Some(())
}

//! Checks of what listeners to events and to output ask for.

use rota_core::Name;
use rota_engine::{EventFilter, EventId, OutputPlace, OutputRequest, TaskRef, TypePattern};
use rota_proto::v1;

use super::{Check, FieldPrefix, filter};
use crate::{
    failure::Failure,
    limits::{EVENT_TASKS, EVENT_TYPES, Limits, OUTPUT_KEPT_BYTES},
};

/// Bytes by which a worker can shorten the kept end of an output, so that it begins with a whole character.
const CHARACTER: usize = 3;

/// Checks a request for the output of a task.
pub(crate) fn output(
    request: v1::WatchOutputRequest,
    limits: &Limits,
) -> Result<OutputRequest, Failure> {
    let v1::WatchOutputRequest { id, follow, last_event_id } = request;
    let mut check = Check::new();
    let task = check.ok("id", id.parse::<TaskRef>());
    let after = last_event_id.map(|text| text.parse::<OutputPlace>());
    let after = after.and_then(|place| check.ok("last_event_id", place));
    let task = check.finish(task)?;
    let tail_bytes = limits.output_tail_bytes.min(OUTPUT_KEPT_BYTES).saturating_sub(CHARACTER);
    Ok(OutputRequest { task, after, follow: follow.unwrap_or(true), tail_bytes })
}

/// Checks the filter of a listener, and the id after which it goes on.
pub(crate) fn watch(
    request: v1::WatchEventsRequest,
    limits: &Limits,
) -> Result<(EventFilter, Option<EventId>), Failure> {
    let v1::WatchEventsRequest {
        filter: properties,
        tasks,
        task_prefix,
        worker,
        types,
        last_event_id,
        brief,
    } = request;
    let mut check = Check::new();
    let properties = filter(properties.unwrap_or_default(), FieldPrefix::Filter, limits);
    let properties = check.also(properties);
    if properties.as_ref().is_some_and(|properties| properties.error.is_some()) {
        check.wrong("filter.error_fingerprint", "cannot select events");
    }
    if properties.as_ref().is_some_and(|properties| properties.search.is_some()) {
        check.wrong(
            "filter.search",
            "cannot select events, which have no payloads; search the list of tasks instead",
        );
    }
    let mut found = EventFilter { brief, ..EventFilter::default() };
    if check.at_most("tasks", "ids", tasks.len(), ("event_tasks", EVENT_TASKS)) {
        for (at, id) in tasks.iter().enumerate() {
            let place = format!("tasks[{at}]");
            found.tasks.extend(check.ok(&place, id.parse::<TaskRef>()));
        }
    }
    let prefix = check.given("task_prefix", task_prefix);
    let prefix = prefix.filter(|prefix| match Name::check(prefix) {
        Ok(()) => true,
        Err(error) => {
            check.wrong("task_prefix", error);
            false
        }
    });
    found.task_prefix = prefix.map(String::into_boxed_str);
    let worker = check.given("worker", worker);
    found.worker = worker.and_then(|text| check.name("worker", &text));
    if check.at_most("types", "types", types.len(), ("event_types", EVENT_TYPES)) {
        for (at, text) in types.iter().enumerate() {
            match text.parse::<TypePattern>() {
                Ok(pattern) => found.types.push(pattern),
                Err(_) => check.wrong(
                    format_args!("types[{at}]"),
                    "must be a type of events, such as task.completed, or a group: task, queue, worker or schedule",
                ),
            }
        }
    }
    let after = last_event_id.map(|text| text.parse::<EventId>());
    let after = after.and_then(|id| check.ok("last_event_id", id));
    let properties = check.finish(properties)?;
    Ok((EventFilter { properties, ..found }, after))
}

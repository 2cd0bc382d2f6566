//! Checks of filters.

use rota_core::Status;
use rota_engine::{TaskFilter, TimeRange};
use rota_proto::v1;

use super::{Check, FieldPrefix};
use crate::{failure::Failure, limits::Limits};

/// Checks a filter. `place` is its place in the request.
pub(crate) fn filter(
    filter: v1::TaskFilter,
    prefix: FieldPrefix,
    limits: &Limits,
) -> Result<TaskFilter, Failure> {
    let mut check = Check::at(prefix);
    let queue = check.given("queue", filter.queue).and_then(|text| check.name("queue", &text));
    let kind = check.given("kind", filter.kind).and_then(|text| check.name("kind", &text));
    let labels = check.labels(filter.labels, limits);
    let schedule = check.given("schedule", filter.schedule);
    let schedule = schedule.and_then(|text| check.name("schedule", &text));
    let error = check.given("error_fingerprint", filter.error_fingerprint);
    let error = error.and_then(|text| check.ok("error_fingerprint", text.parse()));
    let mut statuses = Vec::new();
    for number in filter.statuses {
        match v1::TaskStatus::try_from(number).ok().and_then(status) {
            Some(status) if statuses.contains(&status) => {}
            Some(status) => statuses.push(status),
            None => {
                check.wrong(
                    "statuses",
                    format_args!("has {number}; it must be a value of the enum TaskStatus"),
                );
            }
        }
    }
    let mut range = |from: &str, to: &str, range: Option<v1::TimeRange>| {
        let range = range.unwrap_or_default();
        TimeRange { from: check.date(from, range.from), to: check.date(to, range.to) }
    };
    let created = range("created_from", "created_to", filter.created);
    let run_at = range("run_at_from", "run_at_to", filter.run_at);
    let filter = TaskFilter { queue, statuses, kind, labels, created, run_at, schedule, error };
    check.finish(Some(filter))
}

/// Checks that `all` is set if the filter selects all tasks, and only then.
pub(crate) fn selection(filter: &TaskFilter, all: bool) -> Result<(), Failure> {
    match (*filter == TaskFilter::default(), all) {
        (true, false) => Err(Failure::field(
            "all",
            "must be true to select every task; or use a filter that selects fewer tasks",
        )),
        (false, true) => Err(Failure::field("all", "cannot be combined with a filter")),
        _ => Ok(()),
    }
}

fn status(status: v1::TaskStatus) -> Option<Status> {
    Some(match status {
        v1::TaskStatus::Unspecified => return None,
        v1::TaskStatus::Scheduled => Status::Scheduled,
        v1::TaskStatus::Pending => Status::Pending,
        v1::TaskStatus::Assigned => Status::Assigned,
        v1::TaskStatus::Running => Status::Running,
        v1::TaskStatus::Completed => Status::Completed,
        v1::TaskStatus::Failed => Status::Failed,
        v1::TaskStatus::Cancelled => Status::Cancelled,
        v1::TaskStatus::Expired => Status::Expired,
    })
}

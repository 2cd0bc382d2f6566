//! Short messages after a change. The address names one of these texts and a number, so that nobody can put words of
//! their own into a link.

/// Name of the parameter.
pub(crate) const PARAMETER: &str = "flash";

/// The texts. `#` stands for the number.
const TEXTS: &[(&str, &str)] = &[
    ("signed-out", "You are signed out."),
    ("cancelled", "The task is cancelled, or its worker has been asked to stop it."),
    ("retried", "The task runs again."),
    ("rescheduled", "The task has a new start time."),
    ("changed", "The task is changed."),
    ("deleted", "The task is deleted."),
    ("created", "The task is created."),
    ("existed", "This task existed already, with the same content."),
    ("unchanged", "Nothing was changed."),
    ("tasks-cancelled", "# tasks were cancelled."),
    ("tasks-retried", "# tasks run again."),
    ("tasks-deleted", "# tasks were deleted."),
    ("queue-paused", "The queue is paused. Running tasks continue."),
    ("queue-resumed", "The queue is resumed."),
    ("worker-drained", "The worker drains: it finishes its tasks and takes no more."),
    ("schedule-paused", "The schedule is paused."),
    ("schedule-resumed", "The schedule is resumed."),
    ("schedules-paused", "# schedules were paused."),
    ("schedules-resumed", "# schedules were resumed."),
    ("schedule-triggered", "The schedule has created a task."),
    ("schedule-saved", "The schedule is saved."),
    ("schedule-deleted", "The schedule is deleted. Its tasks stay."),
    ("calendar-saved", "The calendar is saved."),
    ("calendar-deleted", "The calendar is deleted."),
    ("tick-skipped", "The run will be skipped."),
    ("tick-kept", "The run takes place."),
    ("backfill-started", "The backfill creates # tasks."),
    ("backfill-cancelled", "The backfill is cancelled. Its tasks stay."),
    ("leader-transferred", "The leadership is being transferred."),
];

/// The parameter for a text.
pub(crate) fn pair(name: &'static str) -> (&'static str, String) {
    debug_assert!(text(name).is_some(), "{name} is no text");
    (PARAMETER, name.to_owned())
}

/// The parameter for a text with a number.
pub(crate) fn counted(name: &'static str, count: u64) -> (&'static str, String) {
    debug_assert!(text(name).is_some(), "{name} is no text");
    (PARAMETER, format!("{name}.{count}"))
}

/// The text that a parameter names.
pub(crate) fn text(value: &str) -> Option<String> {
    let (name, count) = value.split_once('.').unwrap_or((value, "0"));
    let count: u64 = count.parse().ok()?;
    let (_, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
    Some(text.replace('#', &count.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_texts_are_shown() {
        assert_eq!(text("tasks-retried.12").as_deref(), Some("12 tasks run again."));
        assert_eq!(text("queue-resumed").as_deref(), Some("The queue is resumed."));
        for made_up in ["", "call 555", "tasks-retried.<b>", "tasks-retried.-1", "queue"] {
            assert_eq!(text(made_up), None, "{made_up}");
        }
        assert_eq!(counted("tasks-deleted", 3).1, "tasks-deleted.3");
    }
}

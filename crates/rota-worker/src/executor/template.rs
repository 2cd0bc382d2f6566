//! Templates in the payload of a scheduled task: `{{nominal_time}}` and the other names of a tick.

use bytes::Bytes;

use crate::context::TaskContext;

/// Replaces the templates in a payload. The payload of a task that no schedule created stays as it is, and so does every
/// other text in double braces, which other programs use.
///
/// The replacement can work on the JSON text: braces in pairs occur only in its strings, and no value needs an escape.
pub(super) fn fill(context: &TaskContext, payload: Bytes) -> Bytes {
    let Some(tick) = context.tick() else { return payload };
    let Ok(text) = std::str::from_utf8(&payload) else { return payload };
    if !text.contains("{{") {
        return payload;
    }
    let mut filled = text.to_owned();
    for (part, value) in tick.parts() {
        filled = filled.replace(part.template, value.as_deref().unwrap_or_default());
    }
    filled.into()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::testing::TestTask;

    #[test]
    fn only_the_names_of_a_tick_are_replaced() {
        let nominal = UNIX_EPOCH + Duration::from_secs(1_772_953_200);
        let test = TestTask::new("command").tick("backups/daily", nominal).begin();
        let payload = r#"{"argv":["b","{{nominal_time}}","{{schedule}}:{{previous_time}}","{{.Names}}","{{ nominal_time }}"]}"#;
        let filled = fill(&test.context(), payload.into());
        let expected = r#"{"argv":["b","2026-03-08T07:00:00Z","backups/daily:","{{.Names}}","{{ nominal_time }}"]}"#;
        assert_eq!(filled, expected);
    }

    #[test]
    fn the_payload_of_a_task_without_a_schedule_stays_as_it_is() {
        let test = TestTask::new("command").begin();
        let payload = r#"{"argv":["b","{{nominal_time}}"]}"#;
        assert_eq!(fill(&test.context(), payload.into()), payload);
    }
}

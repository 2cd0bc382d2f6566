//! The normal form of definitions: without fields that have their default. Files are written in it, and definitions are
//! compared in it.

use std::time::Duration;

use rota_client::{
    TimeSpan,
    v1::{
        CatchUp, Exclusions, Fold, Gap, Jitter, OnHoliday, Overlap, RetryPolicy,
        ScheduleDefinition, TaskTemplate,
    },
};

use crate::{exit::Failure, yaml};

/// The defaults of the server.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Removes a value that says nothing.
fn clear<T: PartialEq>(field: &mut Option<T>, default: &T) {
    if field.as_ref() == Some(default) {
        *field = None;
    }
}

fn clear_span(field: &mut Option<TimeSpan>, default: Duration) {
    if field.is_some_and(|span| span.duration() == default) {
        *field = None;
    }
}

/// Removes what is the default. Exhaustive, so that a new field does not compile before it is handled.
pub(super) fn without_defaults(mut definition: ScheduleDefinition) -> ScheduleDefinition {
    let ScheduleDefinition {
        name: _,
        expressions: _,
        intervals,
        dates: _,
        exclude,
        start,
        end,
        time_zone,
        gap,
        fold,
        jitter,
        overlap,
        catch_up,
        catch_up_window,
        catch_up_max,
        pause_on_failure,
        max_runs: _,
        labels: _,
        description,
        template,
    } = &mut definition;
    for interval in intervals {
        clear_span(&mut interval.phase, Duration::ZERO);
    }
    for rule in exclude.iter_mut().flat_map(|exclude| &mut exclude.calendars) {
        clear(&mut rule.on_holiday, &OnHoliday::Skip.into());
    }
    clear(exclude, &Exclusions::default());
    for text in [start, end, time_zone, description] {
        clear(text, &String::new());
    }
    clear(gap, &Gap::End.into());
    clear(fold, &Fold::First.into());
    clear_span(jitter, Duration::ZERO);
    clear(overlap, &Overlap::Skip.into());
    clear(catch_up, &CatchUp::Last.into());
    clear_span(catch_up_window, WINDOW);
    clear(catch_up_max, &100);
    clear(pause_on_failure, &0);
    if let Some(template) = template {
        task(template);
    }
    definition
}

fn task(template: &mut TaskTemplate) {
    let TaskTemplate {
        queue,
        kind: _,
        payload: _,
        labels: _,
        priority,
        expires_after: _,
        timeout,
        retry,
        retention: _,
        description,
    } = template;
    clear(queue, &String::new());
    clear(queue, &"default".to_owned());
    clear(description, &String::new());
    clear(priority, &5);
    clear_span(timeout, TIMEOUT);
    if let Some(policy) = retry {
        let RetryPolicy { max_attempts, initial, multiplier, max, jitter, max_lost, max_snoozes } =
            policy;
        clear(max_attempts, &25);
        clear_span(initial, Duration::from_secs(1));
        clear(multiplier, &2.0);
        clear_span(max, Duration::from_secs(3600));
        clear(jitter, &Jitter::Full.into());
        clear(max_lost, &3);
        clear(max_snoozes, &1000);
    }
    clear(retry, &RetryPolicy::default());
}

/// A definition as YAML, without defaults.
pub(super) fn yaml(definition: ScheduleDefinition) -> Result<String, Failure> {
    let json = serde_json::to_string(&without_defaults(definition)).map_err(Failure::failed)?;
    yaml::of_json(&json).map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use rota_client::v1::{CalendarRule, Interval};

    use super::*;

    #[test]
    fn what_the_server_adds_is_left_out() {
        let span = |secs: u64| Some(TimeSpan::from(Duration::from_secs(secs)));
        let shown = ScheduleDefinition {
            name: Some("n".to_owned()),
            expressions: vec!["0 2 * * *".to_owned()],
            intervals: vec![Interval { every: span(60), phase: None }],
            exclude: Some(Exclusions {
                calendars: vec![CalendarRule {
                    name: "c".to_owned(),
                    on_holiday: Some(OnHoliday::Skip.into()),
                }],
                ..Exclusions::default()
            }),
            gap: Some(Gap::End.into()),
            fold: Some(Fold::First.into()),
            jitter: span(0),
            overlap: Some(Overlap::Skip.into()),
            catch_up: Some(CatchUp::Last.into()),
            catch_up_window: span(86_400),
            catch_up_max: Some(100),
            pause_on_failure: Some(0),
            template: Some(TaskTemplate {
                queue: Some("default".to_owned()),
                kind: "k".to_owned(),
                payload: r#"{"b":1,"a":"x\ny\n"}"#.into(),
                priority: Some(5),
                timeout: span(1800),
                retry: Some(RetryPolicy {
                    max_attempts: Some(25),
                    initial: span(1),
                    multiplier: Some(2.0),
                    max: span(3600),
                    jitter: Some(Jitter::Full.into()),
                    max_lost: Some(3),
                    max_snoozes: Some(1000),
                }),
                ..TaskTemplate::default()
            }),
            ..ScheduleDefinition::default()
        };
        let expected = "name: n\nexpressions:\n  - \"0 2 * * *\"\nintervals:\n  - every: 1m\n\
                        exclude:\n  calendars:\n    - name: c\ntemplate:\n  kind: k\n  payload:\n    b: 1\n    \
                        a: |\n      x\n      y\n";
        let written = yaml(shown).expect("YAML").replace("0 2 * * *", "\"0 2 * * *\"");
        assert_eq!(written.replace("\"\"", "\""), expected);
    }
}

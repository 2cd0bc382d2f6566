//! The definition of a schedule, option by option.

use std::time::Duration;

use bytes::Bytes;
use rota_proto::v1::{self, Exclusions, TaskTemplate};
use serde::Serialize;

use crate::{client::Client, error::ClientError, job::Job, new_task::some, retry::Retry};

/// A schedule to create or replace. The defaults of the server apply to options that are not set.
#[derive(Debug)]
#[must_use = "a schedule is stored by `put`"]
pub struct ScheduleDraft {
    client: Client,
    definition: Result<v1::ScheduleDefinition, ClientError>,
    expected_version: Option<u64>,
}

/// A schedule that was put.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PutSchedule {
    /// Schedule after the request, with warnings for people.
    pub schedule: v1::Schedule,
    /// True when the schedule is new.
    pub created: bool,
    /// True when the definition has changed, or is new.
    pub changed: bool,
}

impl ScheduleDraft {
    pub(crate) fn new(client: Client, name: String, definition: v1::ScheduleDefinition) -> Self {
        let definition = v1::ScheduleDefinition { name: Some(name), ..definition };
        Self { client, definition: Ok(definition), expected_version: None }
    }

    fn edit(mut self, change: impl FnOnce(&mut v1::ScheduleDefinition)) -> Self {
        if let Ok(definition) = &mut self.definition {
            change(definition);
        }
        self
    }

    fn exclude(self, change: impl FnOnce(&mut Exclusions)) -> Self {
        self.edit(|its| change(its.exclude.get_or_insert_default()))
    }

    fn template(self, change: impl FnOnce(&mut TaskTemplate)) -> Self {
        self.edit(|its| change(its.template.get_or_insert_default()))
    }

    /// Creates the schedule, or replaces its definition. The same definition changes nothing. It is durable once this
    /// returns.
    ///
    /// # Errors
    /// If the job has no JSON form, no node can be reached, or the server refuses the definition.
    pub async fn put(self) -> Result<PutSchedule, ClientError> {
        let Self { client, definition, expected_version } = self;
        let request = v1::PutScheduleRequest { definition: Some(definition?), expected_version };
        let v1::PutScheduleResponse { schedule, created, changed } =
            client.put_schedule(request).await?;
        Ok(PutSchedule { schedule: schedule.unwrap_or_default(), created, changed })
    }

    /// Lists the next runs, up to `count` (1 to 100), without creating the schedule.
    ///
    /// # Errors
    /// If no node can be reached, or the server refuses the definition.
    pub async fn preview(self, count: u32) -> Result<v1::SchedulePreview, ClientError> {
        let definition = Some(self.definition?);
        let request = v1::PreviewDefinitionRequest { definition, count: Some(count), from: None };
        self.client.preview_definition(request).await
    }

    /// Version that the schedule must have; otherwise [`put`](Self::put) fails. 0 means that it must not exist.
    pub fn expected_version(mut self, version: u64) -> Self {
        self.expected_version = Some(version);
        self
    }
}

/// When the schedule runs.
impl ScheduleDraft {
    /// Adds a cron expression, such as `30 2 * * *`.
    pub fn cron(self, expression: impl Into<String>) -> Self {
        self.edit(|its| its.expressions.push(expression.into()))
    }

    /// Adds an interval, counted from 1970-01-01T00:00:00Z.
    pub fn every(self, interval: Duration) -> Self {
        let interval = v1::Interval { every: Some(interval.into()), phase: None };
        self.edit(|its| its.intervals.push(interval))
    }

    /// Adds an interval that begins at `phase` after 1970-01-01T00:00:00Z. `phase` is less than the interval.
    pub fn every_from(self, interval: Duration, phase: Duration) -> Self {
        let interval = v1::Interval { every: Some(interval.into()), phase: Some(phase.into()) };
        self.edit(|its| its.intervals.push(interval))
    }

    /// Adds a single date with a time, such as `2026-12-24T18:00` in the time zone or `2026-12-24T17:00:00Z`.
    pub fn date(self, date: impl Into<String>) -> Self {
        self.edit(|its| its.dates.push(date.into()))
    }

    /// IANA name of the time zone. Default: that of an expression (`CRON_TZ=`), otherwise UTC.
    pub fn time_zone(self, name: impl Into<String>) -> Self {
        self.edit(|its| its.time_zone = some(name))
    }

    /// First moment at which the schedule can run, written like a single date.
    pub fn start(self, date: impl Into<String>) -> Self {
        self.edit(|its| its.start = some(date))
    }

    /// Last moment at which the schedule can run, written like a single date.
    pub fn end(self, date: impl Into<String>) -> Self {
        self.edit(|its| its.end = some(date))
    }

    /// Excludes what a cron expression matches.
    pub fn exclude_cron(self, expression: impl Into<String>) -> Self {
        self.exclude(|its| its.expressions.push(expression.into()))
    }

    /// Excludes a day such as `2026-12-25`, a range with its last day such as `2026-12-24..2026-12-26`, or a moment
    /// such as `2026-12-24T18:00`.
    pub fn exclude_date(self, date: impl Into<String>) -> Self {
        self.exclude(|its| its.dates.push(date.into()))
    }

    /// Uses a calendar, with a rule for runs on its days.
    pub fn calendar(self, name: impl Into<String>, on_holiday: v1::OnHoliday) -> Self {
        let rule = v1::CalendarRule { name: name.into(), on_holiday: Some(on_holiday.into()) };
        self.exclude(|its| its.calendars.push(rule))
    }

    /// Rule for fixed times that a clock set forward jumps over. Default: `End`.
    pub fn gap(self, gap: v1::Gap) -> Self {
        self.edit(|its| its.gap = Some(gap.into()))
    }

    /// Rule for fixed times that a clock set back shows twice. Default: `First`.
    pub fn fold(self, fold: v1::Fold) -> Self {
        self.edit(|its| its.fold = Some(fold.into()))
    }

    /// Maximum delay of a tick, to spread load, up to 1 d. The delay of a tick is always the same. Default: none.
    pub fn jitter(self, jitter: Duration) -> Self {
        self.edit(|its| its.jitter = Some(jitter.into()))
    }
}

/// What happens with its ticks.
impl ScheduleDraft {
    /// Rule for a tick while the task of an earlier tick has not ended. Default: `Skip`.
    pub fn overlap(self, overlap: v1::Overlap) -> Self {
        self.edit(|its| its.overlap = Some(overlap.into()))
    }

    /// Rule for ticks that could not be decided in time. Default: `Last`.
    pub fn catch_up(self, catch_up: v1::CatchUp) -> Self {
        self.edit(|its| its.catch_up = Some(catch_up.into()))
    }

    /// Age at which a tick is missed, 10 s to 366 d. Default: 1 d.
    pub fn catch_up_window(self, window: Duration) -> Self {
        self.edit(|its| its.catch_up_window = Some(window.into()))
    }

    /// Maximum number of late ticks that create tasks under the rule `All`, 1 to 1000. Default: 100.
    pub fn catch_up_max(self, ticks: u32) -> Self {
        self.edit(|its| its.catch_up_max = Some(ticks))
    }

    /// Number of failed tasks in a row after which the schedule is paused, up to 1000. 0 means never. Default: 0.
    pub fn pause_on_failure(self, failures: u32) -> Self {
        self.edit(|its| its.pause_on_failure = Some(failures))
    }

    /// Number of ticks that create a task, after which the schedule is completed. Default: no limit.
    pub fn max_runs(self, runs: u64) -> Self {
        self.edit(|its| its.max_runs = Some(runs))
    }

    /// Adds a label of the schedule, for people and filters.
    pub fn label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(|its| {
            its.labels.insert(name.into(), value.into());
        })
    }

    /// Description of the schedule for people, up to 256 characters.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.edit(|its| its.description = some(text))
    }
}

/// The task of each tick.
impl ScheduleDraft {
    /// Job that each tick submits.
    pub fn job<J: Job>(mut self, job: &J) -> Self {
        match serde_json::to_vec(job) {
            Ok(payload) => self.kind(J::KIND).payload(payload),
            Err(error) => {
                let reason = error.to_string();
                // The first error counts.
                self.definition =
                    self.definition.and(Err(ClientError::Payload { kind: J::KIND, reason }));
                self
            }
        }
    }

    /// Kind of the tasks, for kinds that are not Rust types.
    pub fn kind(self, kind: impl Into<String>) -> Self {
        self.template(|its| its.kind = kind.into())
    }

    /// Parameters of the tasks as JSON. A value without a JSON form, such as a map whose keys are not strings, is a bug
    /// of the program.
    ///
    /// # Panics
    /// When the value has no JSON form.
    pub fn payload_json<T: Serialize + ?Sized>(self, payload: &T) -> Self {
        let json = serde_json::to_vec(payload).expect("the payload has a JSON form");
        self.payload(json)
    }

    /// Parameters of the tasks as bytes.
    pub fn payload(self, payload: impl Into<Bytes>) -> Self {
        self.template(|its| its.payload = payload.into())
    }

    /// Queue of the tasks. Default: `default`.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        self.template(|its| its.queue = some(queue))
    }

    /// Priority of the tasks from 0 to 9. Tasks with a higher priority run first. Default: 5.
    pub fn priority(self, priority: u32) -> Self {
        self.template(|its| its.priority = Some(priority))
    }

    /// Deadline for the start of a task, as time after the nominal time. Default: no deadline.
    pub fn expires_after(self, after: Duration) -> Self {
        self.template(|its| its.expires_after = Some(after.into()))
    }

    /// Maximum duration of one attempt. Default: 30 min.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.template(|its| its.timeout = Some(timeout.into()))
    }

    /// Retry policy of the tasks.
    pub fn retry(self, retry: Retry) -> Self {
        self.template(|its| its.retry = Some(retry.into()))
    }

    /// Time to keep a task after it has ended. Default: 1 d when completed, 7 d otherwise.
    pub fn retention(self, retention: Duration) -> Self {
        self.template(|its| its.retention = Some(retention.into()))
    }

    /// Adds a label of the tasks.
    pub fn task_label(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.template(|its| {
            its.labels.insert(name.into(), value.into());
        })
    }

    /// Description of the tasks for people, up to 256 characters.
    pub fn task_description(self, text: impl Into<String>) -> Self {
        self.template(|its| its.description = some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Report {
        team: String,
    }

    impl Job for Report {
        const KIND: &'static str = "report";
        type Output = ();
    }

    /// Each option but those of the task.
    fn times(draft: ScheduleDraft) -> ScheduleDraft {
        let second = Duration::from_secs(1);
        draft
            .every(second * 60)
            .every_from(second * 60, second)
            .date("2026-12-24T18:00")
            .time_zone("Europe/Berlin")
            .start("2026-01-01T00:00")
            .end("2027-01-01T00:00")
            .exclude_cron("* * * * SAT")
            .exclude_date("2026-12-25")
            .calendar("holidays", v1::OnHoliday::After)
            .gap(v1::Gap::Shift)
            .fold(v1::Fold::Both)
            .jitter(second)
            .overlap(v1::Overlap::Allow)
            .catch_up(v1::CatchUp::All)
            .catch_up_window(second * 60)
            .catch_up_max(7)
            .pause_on_failure(3)
            .max_runs(9)
            .label("l", "v")
            .description("about it")
    }

    #[tokio::test]
    async fn every_field_of_a_schedule_can_be_set() {
        let client = Client::connect(["http://127.0.0.1:1"]).expect("an address");
        let second = Duration::from_secs(1);
        let draft = times(client.schedule("nightly").cron("0 2 * * *"))
            .job(&Report { team: "sales".to_owned() })
            .queue("reports")
            .priority(7)
            .expires_after(second * 60)
            .timeout(second)
            .retry(Retry::never())
            .retention(second)
            .task_label("tl", "tv")
            .task_description("about the task");
        // All fields by name: a new one of the contract does not compile before it has a setter.
        let template = TaskTemplate {
            queue: Some("reports".to_owned()),
            kind: "report".to_owned(),
            payload: r#"{"team":"sales"}"#.into(),
            labels: [("tl".to_owned(), "tv".to_owned())].into(),
            priority: Some(7),
            expires_after: Some((second * 60).into()),
            timeout: Some(second.into()),
            retry: Some(Retry::never().into()),
            retention: Some(second.into()),
            description: Some("about the task".to_owned()),
        };
        let interval = |phase: Option<Duration>| v1::Interval {
            every: Some((second * 60).into()),
            phase: phase.map(Into::into),
        };
        let rule = v1::CalendarRule {
            name: "holidays".to_owned(),
            on_holiday: Some(v1::OnHoliday::After.into()),
        };
        let expected = v1::ScheduleDefinition {
            name: Some("nightly".to_owned()),
            expressions: vec!["0 2 * * *".to_owned()],
            intervals: vec![interval(None), interval(Some(second))],
            dates: vec!["2026-12-24T18:00".to_owned()],
            exclude: Some(Exclusions {
                expressions: vec!["* * * * SAT".to_owned()],
                dates: vec!["2026-12-25".to_owned()],
                calendars: vec![rule],
            }),
            start: Some("2026-01-01T00:00".to_owned()),
            end: Some("2027-01-01T00:00".to_owned()),
            time_zone: Some("Europe/Berlin".to_owned()),
            gap: Some(v1::Gap::Shift.into()),
            fold: Some(v1::Fold::Both.into()),
            jitter: Some(second.into()),
            overlap: Some(v1::Overlap::Allow.into()),
            catch_up: Some(v1::CatchUp::All.into()),
            catch_up_window: Some((second * 60).into()),
            catch_up_max: Some(7),
            pause_on_failure: Some(3),
            max_runs: Some(9),
            labels: [("l".to_owned(), "v".to_owned())].into(),
            description: Some("about it".to_owned()),
            template: Some(template),
        };
        assert_eq!(draft.definition.expect("the job has a JSON form"), expected);
    }
}

//! A schedule by its name: what can be done with it. `schedule_draft` defines schedules.

use std::time::{Duration, SystemTime};

use rota_proto::v1;

use crate::{
    client::Client, error::ClientError, handle::TaskHandle, job::Job, new_task::some,
    schedule_draft::ScheduleDraft,
};

/// A schedule by its name. It may or may not exist. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ScheduleHandle {
    pub(crate) client: Client,
    pub(crate) name: String,
}

impl Client {
    /// A schedule by its name. Add times and a job to define it, or call one of the methods of the handle.
    ///
    /// ```no_run
    /// # use rota_client::{Client, Job, Overlap, Retry};
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Report { team: String }
    /// # impl Job for Report { const KIND: &'static str = "report"; type Output = String; }
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let put = client
    ///     .schedule("nightly-report")
    ///     .cron("0 2 * * *")
    ///     .time_zone("Europe/Berlin")
    ///     .overlap(Overlap::QueueOne)
    ///     .job(&Report { team: "sales".to_owned() })
    ///     .retry(Retry::new().max_attempts(5))
    ///     .put()
    ///     .await?;
    /// println!("{}", put.schedule.sentence);
    ///
    /// let task = client.schedule("nightly-report").trigger::<Report>().await?;
    /// println!("{}", task.result().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn schedule(&self, name: impl Into<String>) -> ScheduleHandle {
        ScheduleHandle { client: self.clone(), name: name.into() }
    }
}

/// The begin of a definition.
impl ScheduleHandle {
    fn draft(&self) -> ScheduleDraft {
        self.definition(v1::ScheduleDefinition::default())
    }

    /// Defines the schedule with a cron expression, such as `30 2 * * *`.
    pub fn cron(&self, expression: impl Into<String>) -> ScheduleDraft {
        self.draft().cron(expression)
    }

    /// Defines the schedule with an interval, counted from 1970-01-01T00:00:00Z.
    pub fn every(&self, interval: Duration) -> ScheduleDraft {
        self.draft().every(interval)
    }

    /// Defines the schedule with a single date, such as `2026-12-24T18:00` in its time zone.
    pub fn date(&self, date: impl Into<String>) -> ScheduleDraft {
        self.draft().date(date)
    }

    /// Defines the schedule by a message, with all fields but the name.
    pub fn definition(&self, definition: v1::ScheduleDefinition) -> ScheduleDraft {
        ScheduleDraft::new(self.client.clone(), self.name.clone(), definition)
    }
}

/// Calls for the schedule.
impl ScheduleHandle {
    /// Name of the schedule.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn request(&self) -> v1::ScheduleRequest {
        v1::ScheduleRequest { name: self.name.clone() }
    }

    /// Gets the schedule.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn get(&self) -> Result<v1::Schedule, ClientError> {
        self.client.get_schedule(self.request()).await
    }

    /// Deletes the schedule. Its tasks stay.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn delete(&self) -> Result<(), ClientError> {
        let request = v1::DeleteScheduleRequest { name: self.name.clone(), expected_version: None };
        self.client.delete_schedule(request).await.map(|_| ())
    }

    /// Pauses the schedule: its ticks are skipped. Running tasks continue. `note` is the reason for people, up to 256
    /// characters.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn pause(&self, note: impl Into<String>) -> Result<v1::Schedule, ClientError> {
        let request =
            v1::PauseScheduleRequest { name: self.name.clone(), note: some(note), by: None };
        self.client.pause_schedule(request).await
    }

    /// Resumes the schedule. Ticks of the past stay skipped.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn resume(&self) -> Result<v1::Schedule, ClientError> {
        self.client.resume_schedule(self.request()).await
    }

    /// Creates a task of the schedule now. Its ticks stay as they are. `J` must be the job of the schedule.
    ///
    /// # Errors
    /// If no node can be reached, there is no such schedule, or it cannot create a task now. After
    /// [`ClientError::OutcomeUnknown`], the task may or may not exist.
    pub async fn trigger<J: Job>(&self) -> Result<TaskHandle<J>, ClientError> {
        let task = self.client.trigger_schedule(self.request()).await?;
        Ok(TaskHandle::new(self.client.clone(), task.id, true))
    }

    /// Skips a coming tick.
    ///
    /// # Errors
    /// If no node can be reached, there is no such schedule, or it has no coming tick at this time.
    pub async fn skip(&self, nominal_time: SystemTime) -> Result<v1::Schedule, ClientError> {
        self.skip_tick(nominal_time, false).await
    }

    /// Lets a skipped tick run after all.
    ///
    /// # Errors
    /// If no node can be reached, there is no such schedule, or the tick is not skipped.
    pub async fn unskip(&self, nominal_time: SystemTime) -> Result<v1::Schedule, ClientError> {
        self.skip_tick(nominal_time, true).await
    }

    async fn skip_tick(
        &self,
        nominal_time: SystemTime,
        undo: bool,
    ) -> Result<v1::Schedule, ClientError> {
        let nominal_time = Some(nominal_time.into());
        let request = v1::SkipTickRequest { name: self.name.clone(), nominal_time, undo };
        self.client.skip_tick(request).await
    }

    /// A backfill of the ticks between two nominal times, both inclusive. It begins with [`Backfill::start`].
    pub fn backfill(&self, from: SystemTime, to: SystemTime) -> Backfill {
        let request = v1::BackfillScheduleRequest {
            name: self.name.clone(),
            from: Some(from.into()),
            to: Some(to.into()),
            ..v1::BackfillScheduleRequest::default()
        };
        Backfill { client: self.client.clone(), request }
    }

    /// Cancels the backfill that is under way. Its tasks stay.
    ///
    /// # Errors
    /// If no node can be reached, there is no such schedule, or no backfill is under way.
    pub async fn cancel_backfill(&self) -> Result<v1::Schedule, ClientError> {
        self.client.cancel_backfill(self.request()).await
    }

    /// Lists the last decided ticks, newest first, up to `count` (1 to 1000).
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn ticks(&self, count: u32) -> Result<Vec<v1::Tick>, ClientError> {
        let request = v1::ListTicksRequest {
            name: self.name.clone(),
            page_size: count,
            ..v1::ListTicksRequest::default()
        };
        Ok(self.client.list_ticks(request).await?.ticks)
    }

    /// Lists the next runs, up to `count` (1 to 100).
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn preview(&self, count: u32) -> Result<v1::SchedulePreview, ClientError> {
        let request =
            v1::PreviewScheduleRequest { name: self.name.clone(), count: Some(count), from: None };
        self.client.preview_schedule(request).await
    }
}

/// A backfill to begin or to count.
#[derive(Debug, Clone)]
#[must_use = "a backfill begins with `start`"]
pub struct Backfill {
    client: Client,
    request: v1::BackfillScheduleRequest,
}

impl Backfill {
    /// Runs the tasks beside each other. Default: each task is created when the one before it has ended.
    pub fn parallel(mut self) -> Self {
        self.request.order = Some(v1::BackfillOrder::Parallel.into());
        self
    }

    /// Also creates tasks for ticks that have one. Default: only for those without a task.
    pub fn all(mut self) -> Self {
        self.request.scope = Some(v1::BackfillScope::All.into());
        self
    }

    /// Priority of the tasks, from 0 to 9. Default: that of the schedule.
    pub fn priority(mut self, priority: u32) -> Self {
        self.request.priority = Some(priority);
        self
    }

    /// Minimum time between two tasks, up to 1 d. Default: none.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.request.interval = Some(interval.into());
        self
    }

    /// Begins the backfill.
    ///
    /// # Errors
    /// If no node can be reached, there is no such schedule, or a backfill is under way.
    pub async fn start(self) -> Result<v1::BackfillScheduleResponse, ClientError> {
        self.client.backfill_schedule(self.request).await
    }

    /// Counts the ticks without creating tasks.
    ///
    /// # Errors
    /// If no node can be reached, or there is no such schedule.
    pub async fn count(mut self) -> Result<v1::BackfillScheduleResponse, ClientError> {
        self.request.dry_run = true;
        self.client.backfill_schedule(self.request).await
    }
}

//! Operations on schedules.

use rota_core::{Change, Name, Refusal};
use rota_engine::{ScheduleFilter, ScheduleRead, ScheduleStatus};
use rota_proto::v1;

use super::Caller;
use crate::{definition, failure::Failure, services::Services, validate, wire};

/// Default number of schedules, or of ticks, on a page.
const PAGE: u32 = 50;

impl Services {
    /// Creates a schedule, or replaces its definition.
    pub(crate) async fn put_schedule(
        &self,
        _: Caller,
        request: v1::PutScheduleRequest,
    ) -> Result<v1::PutScheduleResponse, Failure> {
        let given = request.definition.unwrap_or_default();
        let (name, definition) = definition::schedule(given, &self.limits)?;
        let expected = validate::version(request.expected_version);
        let (read, change) = self.engine.put_schedule(name, definition, expected).await?;
        // The change is made, so an error here must not suggest otherwise.
        let warnings = self.warnings(&read).await.unwrap_or_default();
        Ok(v1::PutScheduleResponse {
            schedule: Some(v1::Schedule { warnings, ..definition::shown_schedule(&read) }),
            created: change == Change::Created,
            changed: change != Change::None,
        })
    }

    /// Gets a schedule.
    pub(crate) async fn get_schedule(
        &self,
        _: Caller,
        request: v1::ScheduleRequest,
    ) -> Result<v1::Schedule, Failure> {
        let name = validate::schedule_name(&request.name)?;
        Ok(definition::shown_schedule(&self.known_schedule(&name).await?))
    }

    /// The schedule, or a failure if there is none.
    pub(super) async fn known_schedule(&self, name: &Name) -> Result<ScheduleRead, Failure> {
        let read = self.engine.schedule(name).await?;
        read.ok_or_else(|| Refusal::UnknownSchedule.into())
    }

    /// Lists a page of the schedules that match a filter, by name.
    pub(crate) async fn list_schedules(
        &self,
        _: Caller,
        request: v1::ListSchedulesRequest,
    ) -> Result<v1::ListSchedulesResponse, Failure> {
        let filter = request.filter.unwrap_or_default();
        let filter = validate::schedule_filter(filter, &self.limits)?;
        let size = validate::page_size(request.page_size, PAGE, &self.limits)?;
        let after = validate::name_place(&request.page_token)?;
        let page = self.engine.schedules(&filter, after.as_ref(), size).await?;
        let without_payload = |read: &ScheduleRead| {
            let mut schedule = definition::shown_schedule(read);
            let definition = schedule.definition.as_mut();
            if let Some(template) = definition.and_then(|its| its.template.as_mut()) {
                template.payload.clear();
            }
            schedule
        };
        Ok(v1::ListSchedulesResponse {
            schedules: page.schedules.iter().map(without_payload).collect(),
            next_page_token: page.next.map(|next| next.to_string()),
        })
    }

    /// Deletes a schedule.
    pub(crate) async fn delete_schedule(
        &self,
        _: Caller,
        request: v1::DeleteScheduleRequest,
    ) -> Result<v1::DeleteScheduleResponse, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let expected = validate::version(request.expected_version);
        self.engine.delete_schedule(&name, expected).await?;
        Ok(v1::DeleteScheduleResponse {})
    }

    /// Pauses a schedule.
    pub(crate) async fn pause_schedule(
        &self,
        _: Caller,
        request: v1::PauseScheduleRequest,
    ) -> Result<v1::Schedule, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let pause = validate::pause(request.note, request.by, self.engine.info().now)?;
        Ok(definition::shown_schedule(&self.engine.pause_schedule(&name, Some(pause)).await?))
    }

    /// Resumes a schedule.
    pub(crate) async fn resume_schedule(
        &self,
        _: Caller,
        request: v1::ScheduleRequest,
    ) -> Result<v1::Schedule, Failure> {
        let name = validate::schedule_name(&request.name)?;
        Ok(definition::shown_schedule(&self.engine.pause_schedule(&name, None).await?))
    }

    /// Pauses the schedules that match a filter.
    pub(crate) async fn pause_schedules(
        &self,
        _: Caller,
        request: v1::PauseSchedulesRequest,
    ) -> Result<v1::BulkSchedulesResponse, Failure> {
        let filter = request.filter.unwrap_or_default();
        let filter = validate::schedule_filter(filter, &self.limits)?;
        validate::schedule_selection(&filter, request.all)?;
        let limit = validate::bulk_limit(request.limit, &self.limits)?;
        let pause = validate::pause(request.note, request.by, self.engine.info().now)?;
        let Some(filter) = narrowed(filter, ScheduleStatus::Active) else {
            return Ok(v1::BulkSchedulesResponse { changed: 0 });
        };
        let changed = self.engine.pause_schedules(&filter, Some(pause), limit).await?;
        Ok(v1::BulkSchedulesResponse { changed })
    }

    /// Resumes the schedules that match a filter.
    pub(crate) async fn resume_schedules(
        &self,
        _: Caller,
        request: v1::ResumeSchedulesRequest,
    ) -> Result<v1::BulkSchedulesResponse, Failure> {
        let filter = request.filter.unwrap_or_default();
        let filter = validate::schedule_filter(filter, &self.limits)?;
        validate::schedule_selection(&filter, request.all)?;
        let limit = validate::bulk_limit(request.limit, &self.limits)?;
        let Some(filter) = narrowed(filter, ScheduleStatus::Paused) else {
            return Ok(v1::BulkSchedulesResponse { changed: 0 });
        };
        let changed = self.engine.pause_schedules(&filter, None, limit).await?;
        Ok(v1::BulkSchedulesResponse { changed })
    }

    /// Creates a task of a schedule now.
    pub(crate) async fn trigger_schedule(
        &self,
        _: Caller,
        request: v1::ScheduleRequest,
    ) -> Result<v1::Task, Failure> {
        let name = validate::schedule_name(&request.name)?;
        Ok(definition::task(&self.engine.trigger_schedule(&name).await?))
    }

    /// Skips a coming tick, or takes that back.
    pub(crate) async fn skip_tick(
        &self,
        _: Caller,
        request: v1::SkipTickRequest,
    ) -> Result<v1::Schedule, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let nominal = validate::nominal_time(request.nominal_time)?;
        let read = self.engine.skip_tick(&name, nominal, !request.undo).await?;
        Ok(definition::shown_schedule(&read))
    }

    /// Begins a backfill, or counts its ticks.
    pub(crate) async fn backfill_schedule(
        &self,
        _: Caller,
        request: v1::BackfillScheduleRequest,
    ) -> Result<v1::BackfillScheduleResponse, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let backfill = validate::backfill(&request, self.engine.info().now)?;
        let counted = self.engine.backfill_count(&name, &backfill).await?;
        let missing = counted.occurrences.saturating_sub(counted.present);
        let to_create = match backfill.scope {
            rota_core::BackfillScope::Missing => missing,
            rota_core::BackfillScope::All => counted.occurrences,
        };
        let schedule = if request.dry_run {
            None
        } else {
            let read = self.engine.backfill_schedule(&name, Some(Box::new(backfill))).await?;
            Some(definition::shown_schedule(&read))
        };
        Ok(v1::BackfillScheduleResponse {
            occurrences: counted.occurrences,
            present: counted.present,
            missing,
            to_create,
            more: counted.more,
            schedule,
        })
    }

    /// Cancels the backfill of a schedule.
    pub(crate) async fn cancel_backfill(
        &self,
        _: Caller,
        request: v1::ScheduleRequest,
    ) -> Result<v1::Schedule, Failure> {
        let name = validate::schedule_name(&request.name)?;
        Ok(definition::shown_schedule(&self.engine.backfill_schedule(&name, None).await?))
    }

    /// Lists a page of the decided ticks of a schedule, newest first.
    pub(crate) async fn list_ticks(
        &self,
        _: Caller,
        request: v1::ListTicksRequest,
    ) -> Result<v1::ListTicksResponse, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let range = validate::tick_range(request.range)?;
        let size = validate::page_size(request.page_size, PAGE, &self.limits)?;
        let before = validate::tick_place(&request.page_token)?;
        let page = self.engine.ticks(&name, range, before, size).await?;
        // The records of a deleted schedule stay for a while.
        if page.ticks.is_empty() && before.is_none() {
            self.known_schedule(&name).await?;
        }
        Ok(v1::ListTicksResponse {
            ticks: page.ticks.iter().map(wire::tick_record).collect(),
            next_page_token: page.next.map(validate::tick_token),
        })
    }
}

/// The filter for schedules in this state, so that a repeat of the request goes on with the others. `None` if it
/// selects none of them.
fn narrowed(filter: ScheduleFilter, state: ScheduleStatus) -> Option<ScheduleFilter> {
    match filter.state {
        Some(other) if other != state => None,
        _ => Some(ScheduleFilter { state: Some(state), ..filter }),
    }
}

//! The calls of the API for schedules and calendars. `schedule_handle` and `schedule_draft` have the short forms.

use rota_proto::operations::Operation;
use rota_proto::v1::{
    self, calendar_service_client::CalendarServiceClient,
    schedule_service_client::ScheduleServiceClient,
};

use crate::{
    client::{Client, calls, some_other},
    error::ClientError,
};

calls! {
    /// Creates a schedule, or replaces its definition. [`Client::schedule`] has a short form.
    put_schedule(ScheduleServiceClient, v1::PutScheduleRequest) -> v1::PutScheduleResponse, PutSchedule;
    /// Gets a schedule.
    get_schedule(ScheduleServiceClient, v1::ScheduleRequest) -> v1::Schedule, GetSchedule;
    /// Lists a page of schedules, by name. [`Client::all_schedules`] reads all pages.
    list_schedules(ScheduleServiceClient, v1::ListSchedulesRequest) -> v1::ListSchedulesResponse, ListSchedules;
    /// Deletes a schedule. Its tasks stay.
    delete_schedule(ScheduleServiceClient, v1::DeleteScheduleRequest) -> v1::DeleteScheduleResponse, DeleteSchedule;
    /// Pauses a schedule.
    pause_schedule(ScheduleServiceClient, v1::PauseScheduleRequest) -> v1::Schedule, PauseSchedule;
    /// Resumes a paused schedule.
    resume_schedule(ScheduleServiceClient, v1::ScheduleRequest) -> v1::Schedule, ResumeSchedule;
    /// Pauses the schedules that match a filter, up to a limit.
    pause_schedules(ScheduleServiceClient, v1::PauseSchedulesRequest) -> v1::BulkSchedulesResponse, PauseSchedules;
    /// Resumes the schedules that match a filter, up to a limit.
    resume_schedules(ScheduleServiceClient, v1::ResumeSchedulesRequest) -> v1::BulkSchedulesResponse, ResumeSchedules;
    /// Creates a task of a schedule now.
    trigger_schedule(ScheduleServiceClient, v1::ScheduleRequest) -> v1::Task, TriggerSchedule;
    /// Skips a coming tick, or takes that back.
    skip_tick(ScheduleServiceClient, v1::SkipTickRequest) -> v1::Schedule, SkipTick;
    /// Begins a backfill, or counts its ticks.
    backfill_schedule(ScheduleServiceClient, v1::BackfillScheduleRequest) -> v1::BackfillScheduleResponse, BackfillSchedule;
    /// Cancels the backfill that is under way.
    cancel_backfill(ScheduleServiceClient, v1::ScheduleRequest) -> v1::Schedule, CancelBackfill;
    /// Lists a page of the decided ticks of a schedule, newest first.
    list_ticks(ScheduleServiceClient, v1::ListTicksRequest) -> v1::ListTicksResponse, ListTicks;
    /// Lists the next runs of a definition, without creating a schedule.
    preview_definition(ScheduleServiceClient, v1::PreviewDefinitionRequest) -> v1::SchedulePreview, PreviewDefinition;
    /// Lists the next runs of a schedule.
    preview_schedule(ScheduleServiceClient, v1::PreviewScheduleRequest) -> v1::SchedulePreview, PreviewSchedule;
    /// Lists a page of calendars, by name, without their entries. [`Client::all_calendars`] reads all pages.
    list_calendars(CalendarServiceClient, v1::ListCalendarsRequest) -> v1::ListCalendarsResponse, ListCalendars;
    /// Gets a calendar.
    get_calendar(CalendarServiceClient, v1::CalendarRequest) -> v1::Calendar, GetCalendar;
    /// Creates a calendar, or replaces it.
    put_calendar(CalendarServiceClient, v1::PutCalendarRequest) -> v1::PutCalendarResponse, PutCalendar;
    /// Deletes a calendar that no schedule uses.
    delete_calendar(CalendarServiceClient, v1::DeleteCalendarRequest) -> v1::DeleteCalendarResponse, DeleteCalendar;
}

impl Client {
    /// Lists all schedules that match a filter, page by page, without the payloads of their templates.
    ///
    /// # Errors
    /// If no node can be reached, or the node refuses the call.
    pub async fn all_schedules(
        &self,
        filter: v1::ScheduleFilter,
    ) -> Result<Vec<v1::Schedule>, ClientError> {
        let mut all = Vec::new();
        let mut next = Some(String::new());
        while let Some(page_token) = next {
            let ask = v1::ListSchedulesRequest {
                filter: Some(filter.clone()),
                page_size: 0,
                page_token: page_token.clone(),
            };
            let page = self.list_schedules(ask).await?;
            all.extend(page.schedules);
            // A cursor that does not move would make this loop endless.
            next = some_other(page.next_page_token, &page_token);
        }
        Ok(all)
    }

    /// Lists all calendars, page by page, without their entries.
    ///
    /// # Errors
    /// If no node can be reached, or the node refuses the call.
    pub async fn all_calendars(&self) -> Result<Vec<v1::Calendar>, ClientError> {
        let mut all = Vec::new();
        let mut next = Some(String::new());
        while let Some(page_token) = next {
            let ask = v1::ListCalendarsRequest { page_size: 0, page_token: page_token.clone() };
            let page = self.list_calendars(ask).await?;
            all.extend(page.calendars);
            next = some_other(page.next_page_token, &page_token);
        }
        Ok(all)
    }
}

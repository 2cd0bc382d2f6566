//! Operations on calendars.

use rota_core::{Change, Refusal};
use rota_proto::v1;

use super::Caller;
use crate::{
    failure::Failure,
    services::Services,
    validate::{self, ListPage},
    wire,
};

impl Services {
    /// Lists a page of calendars, by name, without their entries.
    pub(crate) async fn list_calendars(
        &self,
        _: Caller,
        request: v1::ListCalendarsRequest,
    ) -> Result<v1::ListCalendarsResponse, Failure> {
        let after = validate::name_place(&request.page_token)?;
        let page = ListPage::new(request.page_size, after, &self.limits)?;
        let calendars = self.engine.calendars().await?;
        let follows = |name| page.after.as_ref().is_none_or(|after| name > after);
        let mut rest = calendars.iter().filter(|calendar| follows(&calendar.name)).peekable();
        let shown: Vec<_> = rest.by_ref().take(page.size).collect();
        let last = shown.last().filter(|_| rest.peek().is_some());
        Ok(v1::ListCalendarsResponse {
            next_page_token: last.map(|last| last.name.to_string()),
            calendars: shown.into_iter().map(|record| wire::calendar_in_list(record)).collect(),
        })
    }

    /// Gets a calendar.
    pub(crate) async fn get_calendar(
        &self,
        _: Caller,
        request: v1::CalendarRequest,
    ) -> Result<v1::Calendar, Failure> {
        let name = validate::name("name", &request.name)?;
        let record = self.engine.calendar(&name).await?;
        Ok(wire::calendar(record.ok_or(Refusal::NoSuchCalendar)?.as_ref()))
    }

    /// Creates a calendar, or replaces it.
    pub(crate) async fn put_calendar(
        &self,
        _: Caller,
        request: v1::PutCalendarRequest,
    ) -> Result<v1::PutCalendarResponse, Failure> {
        let expected = validate::version(request.expected_version);
        let (name, calendar, description) = validate::calendar(request, &self.limits)?;
        let (record, change) =
            self.engine.put_calendar(name, calendar, description, expected).await?;
        Ok(v1::PutCalendarResponse {
            calendar: Some(wire::calendar(&record)),
            created: change == Change::Created,
            changed: change != Change::None,
        })
    }

    /// Deletes a calendar that no schedule uses.
    pub(crate) async fn delete_calendar(
        &self,
        _: Caller,
        request: v1::DeleteCalendarRequest,
    ) -> Result<v1::DeleteCalendarResponse, Failure> {
        let name = validate::name("name", &request.name)?;
        let expected = validate::version(request.expected_version);
        self.engine.delete_calendar(&name, expected).await?;
        Ok(v1::DeleteCalendarResponse {})
    }
}

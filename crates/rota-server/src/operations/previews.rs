//! Previews: the next runs of a schedule or of a definition, and warnings about them.

use std::sync::Arc;

use rota_core::{Millis, Name};
use rota_cron::Recurrence;
use rota_engine::ScheduleRead;
use rota_proto::v1;
use tokio::task::spawn_blocking;

use super::Caller;
use crate::{
    definition::{self, Planned},
    failure::{Failure, Reason},
    services::Services,
    upcoming::{Calendars, Plan},
    validate,
};

impl Services {
    /// Lists the next runs of a definition.
    pub(crate) async fn preview_definition(
        &self,
        _: Caller,
        request: v1::PreviewDefinitionRequest,
    ) -> Result<v1::SchedulePreview, Failure> {
        let now = self.engine.info().now;
        let (count, from) = validate::preview(request.count, request.from, now)?;
        let given = request.definition.unwrap_or_default();
        let Planned { name, is_named, times, recurrence, jitter } =
            definition::planned(given, &self.limits)?;
        let calendars = self.calendars_of(&recurrence).await?;
        let to_skip = Vec::new();
        let plan = Plan { name, is_named, times, recurrence, calendars, jitter, to_skip };
        planned(move || plan.preview(from, count)).await
    }

    /// Lists the next runs of a schedule.
    pub(crate) async fn preview_schedule(
        &self,
        _: Caller,
        request: v1::PreviewScheduleRequest,
    ) -> Result<v1::SchedulePreview, Failure> {
        let name = validate::schedule_name(&request.name)?;
        let now = self.engine.info().now;
        let (count, from) = validate::preview(request.count, request.from, now)?;
        let read = self.known_schedule(&name).await?;
        let plan = self.plan_of(&read).await?;
        planned(move || plan.preview(from, count)).await
    }

    /// What a user should know about the coming year of a schedule.
    pub(super) async fn warnings(&self, read: &ScheduleRead) -> Result<Vec<String>, Failure> {
        let plan = self.plan_of(read).await?;
        let now = self.engine.info().now;
        planned(move || plan.warnings(now)).await
    }

    async fn plan_of(&self, read: &ScheduleRead) -> Result<Plan, Failure> {
        let definition = &read.record.definition;
        Ok(Plan {
            name: read.record.name.to_string(),
            is_named: true,
            times: definition.times.clone(),
            recurrence: definition.recurrence.clone(),
            calendars: self.calendars_of(&definition.recurrence).await?,
            jitter: Millis(definition.rules.jitter.0),
            to_skip: read.view.state.to_skip.clone(),
        })
    }

    /// The calendars that a recurrence names, as far as they exist.
    async fn calendars_of(&self, recurrence: &Arc<Recurrence>) -> Result<Calendars, Failure> {
        let mut calendars = Calendars::default();
        for name in recurrence.calendars() {
            let Ok(known) = Name::new(name) else { continue };
            if let Some(record) = self.engine.calendar(&known).await? {
                calendars.0.insert(name.to_owned(), record);
            }
        }
        Ok(calendars)
    }
}

/// Computes off the threads that serve requests: some expressions need a long search.
async fn planned<T: Send + 'static>(
    compute: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let made = spawn_blocking(compute).await;
    made.map_err(|_| Failure::new(Reason::Internal, "the preview could not be computed"))
}

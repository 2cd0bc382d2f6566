//! Counts of tasks, and groups of failed tasks.

use rota_proto::v1;

use super::Caller;
use crate::{
    failure::Failure,
    services::Services,
    validate::{self, FieldPrefix},
    wire,
};

impl Services {
    /// Counts the tasks that match a filter.
    pub(crate) async fn count_tasks(
        &self,
        _: Caller,
        request: v1::CountTasksRequest,
    ) -> Result<v1::CountTasksResponse, Failure> {
        let filter = request.filter.unwrap_or_default();
        let filter = validate::filter(filter, FieldPrefix::Filter, &self.limits)?;
        let time = validate::time_limit(request.time_limit)?;
        let counted = self.engine.count(&filter, time).await?;
        Ok(v1::CountTasksResponse {
            count: counted.count,
            at_least: counted.at_least,
            examined: counted.examined,
        })
    }

    /// Lists groups of failed tasks.
    pub(crate) async fn list_failures(
        &self,
        _: Caller,
        request: v1::ListFailuresRequest,
    ) -> Result<v1::ListFailuresResponse, Failure> {
        let (filter, limit, time) = validate::failures(request, &self.limits)?;
        let found = self.engine.failures(&filter, limit, time).await?;
        Ok(v1::ListFailuresResponse {
            groups: found.groups.into_iter().map(wire::failure_group).collect(),
            other: found.other,
            examined: found.examined,
            complete: found.complete,
        })
    }
}

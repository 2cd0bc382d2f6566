//! `TaskService`.

use rota_core::{Refusal, Status as TaskStatus};
use rota_engine::{BulkAction, EngineError, Submitted};
use rota_proto::{
    Date, Span,
    v1::{self, task_service_server::TaskService},
};
use rota_trace::TraceContext;
use tonic::{Request, Response, Status};

use crate::services::Services;
use crate::{
    definition,
    failure::{Failure, Reason},
    trace,
    validate::{self, Place},
    wire,
};

/// The task, or that there is none.
pub(crate) fn known<T>(task: Option<T>) -> Result<T, Failure> {
    task.ok_or_else(|| Refusal::UnknownTask.into())
}

impl Services {
    /// Creates tasks that may each be refused for itself.
    pub(crate) async fn create_many(
        &self,
        tasks: Vec<v1::NewTask>,
        trace: Option<TraceContext>,
    ) -> Result<Vec<Result<Submitted, Failure>>, Failure> {
        validate::batch_size(tasks.len(), &self.limits)?;
        let mut results = Vec::with_capacity(tasks.len());
        let mut accepted = Vec::with_capacity(tasks.len());
        let now = || self.engine.info().now;
        for (at, task) in tasks.into_iter().enumerate() {
            let place = Place::Task(at);
            match definition::new_task(task, place, &self.limits, now) {
                Ok(task) => {
                    accepted.push(task);
                    results.push(None);
                }
                Err(failure) => results.push(Some(Err(failure))),
            }
        }
        let mut submitted = if accepted.is_empty() {
            Vec::new().into_iter()
        } else {
            self.submit(accepted, trace).await?.into_iter()
        };
        let fill =
            |result: Option<_>| result.or_else(|| Some(submitted.next()?.map_err(Failure::from)));
        Ok(results.into_iter().filter_map(fill).collect())
    }

    /// Creates one task.
    pub(crate) async fn create_one(
        &self,
        task: v1::NewTask,
        trace: Option<TraceContext>,
    ) -> Result<(v1::Task, bool), Failure> {
        let now = || self.engine.info().now;
        let task = definition::new_task(task, Place::Top, &self.limits, now)?;
        let results = self.submit(vec![task], trace).await?;
        let submitted = results.into_iter().next();
        let submitted =
            submitted.ok_or_else(|| Failure::new(Reason::Internal, "no answer for the task"))??;
        if let Some(view) = submitted.view {
            return Ok((definition::task(&view), submitted.created));
        }
        let view = self.engine.view_of_changed(submitted.task).await;
        let view = known(view.map_err(Failure::from)?)?;
        Ok((definition::task(&view), submitted.created))
    }

    /// Changes the tasks that a filter selects. `cursor`: what the protocol calls it.
    pub(crate) async fn bulk(
        &self,
        request: v1::BulkTasksRequest,
        cursor: &str,
    ) -> Result<v1::BulkTasksResponse, Failure> {
        let action = match request.action() {
            v1::BulkAction::Unspecified => {
                return Err(Failure::field("action", "must be cancel, retry or delete"));
            }
            v1::BulkAction::Cancel => BulkAction::Cancel,
            v1::BulkAction::Retry => BulkAction::Retry,
            v1::BulkAction::Delete => BulkAction::Delete,
        };
        let after = validate::cursor(cursor, request.page_token())?;
        let filter = request.filter.unwrap_or_default();
        let filter = validate::filter(filter, Place::Filter, &self.limits)?;
        validate::selection(&filter, request.all)?;
        let limit = validate::page_size("limit", request.limit, 1000, &self.limits)?;
        Ok(wire::bulk_outcome(self.engine.bulk(action, &filter, limit, after).await?))
    }

    /// Sets when a waiting task is due, which must be before it expires.
    pub(crate) async fn reschedule(
        &self,
        id: &str,
        at: Option<Date>,
        delay: Option<Span>,
    ) -> Result<v1::Task, Failure> {
        let task = validate::task_ref("id", id)?;
        let run_at = validate::reschedule(at, delay)?;
        let view = known(self.engine.task(&task).await?)?;
        // Of others the engine says why they cannot be rescheduled.
        if matches!(view.status, TaskStatus::Scheduled | TaskStatus::Pending) {
            let now = self.engine.info().now;
            validate::before_expiry(run_at, view.spec.definition.expires_at, now)?;
        }
        Ok(definition::task(&self.engine.reschedule(&task, run_at).await?))
    }

    /// One task, perhaps once it has ended.
    pub(crate) async fn get(&self, id: &str, wait: Option<Span>) -> Result<v1::Task, Failure> {
        let task = validate::task_ref("id", id)?;
        let wait = validate::wait("wait", wait, &self.limits)?;
        let view = match wait {
            Some(wait) => tokio::select! {
                biased;
                view = self.engine.wait(&task, wait) => view,
                // The server stops: say how it stands rather than hold the client.
                () = self.stop.cancelled() => self.engine.task(&task).await,
            },
            None => self.engine.task(&task).await,
        };
        Ok(definition::task(&known(view.map_err(Failure::from)?)?))
    }
}

fn item_error(failure: Failure) -> v1::ItemError {
    let reason = failure.reason;
    let limit = failure.limit();
    let field = failure.violations.into_iter().next().map(|violation| violation.field);
    v1::ItemError {
        code: reason.code(),
        message: failure.detail,
        field: field.unwrap_or_default(),
        reason: reason.to_string(),
        limit: limit.map(|limit| limit.name.to_owned()).unwrap_or_default(),
        limit_max: limit.map(|limit| limit.max).unwrap_or_default(),
        retry_after: failure.retry_after.map(Into::into),
    }
}

fn engine(error: EngineError) -> Status {
    Failure::from(error).into()
}

#[tonic::async_trait]
impl TaskService for Services {
    async fn create_task(
        &self,
        request: Request<v1::CreateTaskRequest>,
    ) -> Result<Response<v1::CreateTaskResponse>, Status> {
        let trace = trace::of_headers(request.metadata().as_ref());
        let task = request.into_inner().task;
        let task = task.ok_or_else(|| Failure::field("task", "is missing"))?;
        let (task, created) = self.create_one(task, trace).await?;
        Ok(Response::new(v1::CreateTaskResponse { task: Some(task), created }))
    }

    async fn create_tasks(
        &self,
        request: Request<v1::CreateTasksRequest>,
    ) -> Result<Response<v1::CreateTasksResponse>, Status> {
        use v1::create_tasks_response::{Created, Result as Item, result::Result as Wire};
        let trace = trace::of_headers(request.metadata().as_ref());
        let results = self.create_many(request.into_inner().tasks, trace).await?;
        let item = |result: Result<Submitted, Failure>| Item {
            result: Some(match result {
                Ok(done) => Wire::Task(Created { id: done.shown_id, created: done.created }),
                Err(failure) => Wire::Error(item_error(failure)),
            }),
        };
        let results = results.into_iter().map(item).collect();
        Ok(Response::new(v1::CreateTasksResponse { results }))
    }

    async fn get_task(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.get(&request.id, request.wait).await?))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let filter =
            validate::filter(request.filter.unwrap_or_default(), Place::Filter, &self.limits)?;
        let size = (request.page_size > 0).then_some(request.page_size);
        let size = validate::page_size("page_size", size, 50, &self.limits)?;
        let after = validate::cursor("page_token", &request.page_token)?;
        let page = self.engine.list(&filter, size, after).await.map_err(engine)?;
        Ok(Response::new(definition::page(&page)))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::TaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let task = validate::task_ref("id", &request.into_inner().id)?;
        let view = self.engine.cancel(&task).await.map_err(engine)?;
        Ok(Response::new(definition::task(&view)))
    }

    async fn retry_task(
        &self,
        request: Request<v1::TaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let task = validate::task_ref("id", &request.into_inner().id)?;
        let view = self.engine.retry(&task).await.map_err(engine)?;
        Ok(Response::new(definition::task(&view)))
    }

    async fn reschedule_task(
        &self,
        request: Request<v1::RescheduleTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let request = request.into_inner();
        let task = self.reschedule(&request.id, request.run_at, request.delay).await?;
        Ok(Response::new(task))
    }

    async fn set_task_priority(
        &self,
        request: Request<v1::SetTaskPriorityRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let request = request.into_inner();
        let task = validate::task_ref("id", &request.id)?;
        let priority = validate::priority(request.priority)?;
        let view = self.engine.set_priority(&task, priority).await.map_err(engine)?;
        Ok(Response::new(definition::task(&view)))
    }

    async fn delete_task(
        &self,
        request: Request<v1::TaskRequest>,
    ) -> Result<Response<v1::DeleteTaskResponse>, Status> {
        let task = validate::task_ref("id", &request.into_inner().id)?;
        self.engine.delete(&task).await.map_err(engine)?;
        Ok(Response::new(v1::DeleteTaskResponse {}))
    }

    async fn bulk_tasks(
        &self,
        request: Request<v1::BulkTasksRequest>,
    ) -> Result<Response<v1::BulkTasksResponse>, Status> {
        Ok(Response::new(self.bulk(request.into_inner(), "page_token").await?))
    }

    async fn list_attempts(
        &self,
        request: Request<v1::TaskRequest>,
    ) -> Result<Response<v1::ListAttemptsResponse>, Status> {
        let task = validate::task_ref("id", &request.into_inner().id)?;
        let attempts = known(self.engine.attempts(&task).await.map_err(engine)?)?;
        let attempts = attempts.into_iter().map(wire::attempt).collect();
        Ok(Response::new(v1::ListAttemptsResponse { attempts }))
    }

    async fn get_result(
        &self,
        request: Request<v1::TaskRequest>,
    ) -> Result<Response<v1::GetResultResponse>, Status> {
        let task = validate::task_ref("id", &request.into_inner().id)?;
        let result = known(self.engine.result(&task).await.map_err(engine)?)?;
        Ok(Response::new(v1::GetResultResponse { result }))
    }
}

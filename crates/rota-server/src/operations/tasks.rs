//! Operations on tasks.

use std::time::SystemTime;

use rota_core::{Action, IllegalTransition, Refusal, Status as TaskStatus};
use rota_engine::{BulkAction, EngineError, LeftOut, NewTask, Submitted, TaskView};
use rota_proto::v1;
use rota_trace::{Role, Span, TraceContext};

use super::{Caller, known};
use crate::{
    definition,
    failure::{Failure, Reason},
    services::Services,
    trace,
    validate::{self, FieldPrefix},
    wire,
};

/// Default number of tasks on a page.
const PAGE: u32 = 50;

/// Maximum number of tries of a change without an expected version, when other changes come first.
const EDIT_TRIES: u32 = 5;

impl Services {
    /// Creates a task. Returns when it is durable.
    pub(crate) async fn create_task(
        &self,
        caller: Caller,
        request: v1::CreateTaskRequest,
    ) -> Result<v1::CreateTaskResponse, Failure> {
        let task = request.task.ok_or_else(|| Failure::field("task", "is missing"))?;
        let now = || self.engine.info().now;
        let task = definition::new_task(task, FieldPrefix::Top, &self.limits, now)?;
        let results = self.submit(vec![task], caller.trace).await?;
        let submitted = results.into_iter().next();
        let submitted =
            submitted.ok_or_else(|| Failure::new(Reason::Internal, "no answer for the task"))??;
        let created = submitted.created;
        let answer = |view: &TaskView| v1::CreateTaskResponse {
            task: Some(definition::task(view)),
            created,
        };
        if let Some(view) = submitted.view {
            return Ok(answer(&view));
        }
        let view = self.engine.view_of_changed(submitted.task).await?;
        Ok(answer(&known(view)?))
    }

    /// Creates tasks. Each is accepted or refused independently.
    pub(crate) async fn create_tasks(
        &self,
        caller: Caller,
        request: v1::CreateTasksRequest,
    ) -> Result<v1::CreateTasksResponse, Failure> {
        let tasks = request.tasks;
        validate::batch_size(tasks.len(), &self.limits)?;
        let mut results = Vec::with_capacity(tasks.len());
        let mut accepted = Vec::with_capacity(tasks.len());
        let now = || self.engine.info().now;
        for (at, task) in tasks.into_iter().enumerate() {
            match definition::new_task(task, FieldPrefix::Task(at), &self.limits, now) {
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
            self.submit(accepted, caller.trace).await?.into_iter()
        };
        let fill =
            |result: Option<_>| result.or_else(|| Some(submitted.next()?.map_err(Failure::from)));
        let results = results.into_iter().filter_map(fill).map(batch_result).collect();
        Ok(v1::CreateTasksResponse { results })
    }

    /// Submits the tasks of one request. Their trace parent is the span of the request if there is one,
    /// otherwise the context that the client sent.
    async fn submit(
        &self,
        mut tasks: Vec<(NewTask, LeftOut)>,
        above: Option<TraceContext>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, Failure> {
        let begin = || self.tracer.start("submit", Role::Submit, above.as_ref(), SystemTime::now());
        // Only spans need this clock.
        let mut span = if self.tracer.is_on() { begin() } else { None };
        if let Some(span) = &mut span {
            trace::describe(span, &tasks);
        }
        if let Some(context) = span.as_ref().map(Span::context).or(above) {
            tasks
                .iter_mut()
                .for_each(|(task, _)| task.definition.trace = Some(trace::kept(&context)));
        }
        let submitted = self.engine.submit_said(tasks).await.map_err(Failure::from);
        if let Some(mut span) = span {
            match &submitted {
                Err(failure) => span.fail(failure.reason.as_str(), &failure.detail),
                Ok(results) => {
                    if let [Ok(one)] = results.as_slice() {
                        span.note("rota.task.id", &one.shown_id);
                        span.note("messaging.message.id", &one.shown_id);
                    }
                    if let Some(refusal) = results.iter().find_map(|result| result.as_ref().err()) {
                        span.fail("refused", &refusal.to_string());
                    }
                }
            }
            span.end();
        }
        submitted
    }

    /// Gets a task. With a wait, returns when it has ended or the wait is over.
    pub(crate) async fn get_task(
        &self,
        _: Caller,
        request: v1::GetTaskRequest,
    ) -> Result<v1::Task, Failure> {
        let task = validate::task_ref(&request.id)?;
        let view = match validate::wait(request.wait, &self.limits)? {
            Some(wait) => tokio::select! {
                biased;
                view = self.engine.wait(&task, wait) => view,
                // The server is stopping: return the current state instead of waiting.
                () = self.stop.cancelled() => self.engine.task(&task).await,
            },
            None => self.engine.task(&task).await,
        };
        Ok(definition::task(&known(view?)?))
    }

    /// Lists a page of the tasks that match a filter.
    pub(crate) async fn list_tasks(
        &self,
        _: Caller,
        request: v1::ListTasksRequest,
    ) -> Result<v1::ListTasksResponse, Failure> {
        let filter = request.filter.unwrap_or_default();
        let filter = validate::filter(filter, FieldPrefix::Filter, &self.limits)?;
        let size = validate::page_size(request.page_size, PAGE, &self.limits)?;
        let after = validate::cursor(&request.page_token)?;
        let time_limit = validate::time_limit(request.time_limit)?;
        let page = self.engine.list_within(time_limit, &filter, size, after).await?;
        Ok(v1::ListTasksResponse {
            tasks: page.tasks.iter().map(definition::task).collect(),
            next_page_token: page.next.map(|next| next.before.to_string()),
            examined: u32::try_from(page.examined).unwrap_or(u32::MAX),
            examined_back_to: page.next.and_then(|next| next.reached()).map(wire::date),
        })
    }

    /// Cancels a task.
    pub(crate) async fn cancel_task(
        &self,
        _: Caller,
        request: v1::TaskRequest,
    ) -> Result<v1::Task, Failure> {
        let view = self.engine.cancel(&validate::task_ref(&request.id)?).await?;
        Ok(definition::task(&view))
    }

    /// Runs a task again that ended without success.
    pub(crate) async fn retry_task(
        &self,
        _: Caller,
        request: v1::TaskRequest,
    ) -> Result<v1::Task, Failure> {
        let view = self.engine.retry(&validate::task_ref(&request.id)?).await?;
        Ok(definition::task(&view))
    }

    /// Changes when a waiting task is due, which must be before it expires.
    pub(crate) async fn reschedule_task(
        &self,
        _: Caller,
        request: v1::RescheduleTaskRequest,
    ) -> Result<v1::Task, Failure> {
        let task = validate::task_ref(&request.id)?;
        let run_at = validate::reschedule(request.run_at, request.delay)?;
        let view = known(self.engine.task(&task).await?)?;
        // For tasks in other statuses, the engine gives the reason.
        if matches!(view.status, TaskStatus::Scheduled | TaskStatus::Pending) {
            let now = self.engine.info().now;
            validate::before_expiry(run_at, view.spec.definition.expires_at, now)?;
        }
        Ok(definition::task(&self.engine.reschedule(&task, run_at).await?))
    }

    /// Changes the priority of a waiting task.
    pub(crate) async fn set_task_priority(
        &self,
        _: Caller,
        request: v1::SetTaskPriorityRequest,
    ) -> Result<v1::Task, Failure> {
        let task = validate::task_ref(&request.id)?;
        let priority = validate::priority(request.priority)?;
        Ok(definition::task(&self.engine.set_priority(&task, priority).await?))
    }

    /// Changes the definition of a waiting task.
    pub(crate) async fn update_task(
        &self,
        _: Caller,
        request: v1::UpdateTaskRequest,
    ) -> Result<v1::Task, Failure> {
        let task = validate::task_ref(&request.id)?;
        let change = request.change.unwrap_or_default();
        let mask = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let mut tries = EDIT_TRIES;
        loop {
            let view = known(self.engine.task(&task).await?)?;
            let version = u64::from(view.edits) + 1;
            if request.expected_version.is_some_and(|expected| expected != version) {
                return Err(Refusal::VersionConflict { version: view.edits + 1 }.into());
            }
            if !matches!(view.status, TaskStatus::Scheduled | TaskStatus::Pending) {
                let illegal = IllegalTransition { from: view.status, action: Action::Edit };
                return Err(Refusal::from(illegal).into());
            }
            let now = || self.engine.info().now;
            let edit = definition::edit(&view, &change, &mask, &self.limits, now)?;
            tries -= 1;
            match self.engine.edit(edit).await {
                // Another change came first, and this one accepts any version.
                Err(EngineError::Refused(Refusal::VersionConflict { .. }))
                    if request.expected_version.is_none() && tries > 0 => {}
                result => return Ok(definition::task(&result?)),
            }
        }
    }

    /// Deletes an ended task.
    pub(crate) async fn delete_task(
        &self,
        _: Caller,
        request: v1::TaskRequest,
    ) -> Result<v1::DeleteTaskResponse, Failure> {
        self.engine.delete(&validate::task_ref(&request.id)?).await?;
        Ok(v1::DeleteTaskResponse {})
    }

    /// Cancels, retries or deletes the tasks that match a filter.
    pub(crate) async fn bulk_tasks(
        &self,
        _: Caller,
        request: v1::BulkTasksRequest,
    ) -> Result<v1::BulkTasksResponse, Failure> {
        let action = match request.action() {
            v1::BulkAction::Unspecified => {
                return Err(Failure::field("action", "must be cancel, retry or delete"));
            }
            v1::BulkAction::Cancel => BulkAction::Cancel,
            v1::BulkAction::Retry => BulkAction::Retry,
            v1::BulkAction::Delete => BulkAction::Delete,
        };
        let after = validate::cursor(request.page_token())?;
        let filter = request.filter.unwrap_or_default();
        let filter = validate::filter(filter, FieldPrefix::Filter, &self.limits)?;
        validate::selection(&filter, request.all)?;
        let limit = validate::bulk_limit(request.limit, &self.limits)?;
        let outcome = if request.dry_run {
            self.engine.bulk_dry_run(action, &filter, limit, after).await?
        } else {
            self.engine.bulk(action, &filter, limit, after).await?
        };
        Ok(wire::bulk_outcome(outcome))
    }

    /// Lists the attempts of a task, oldest first.
    pub(crate) async fn list_attempts(
        &self,
        _: Caller,
        request: v1::TaskRequest,
    ) -> Result<v1::ListAttemptsResponse, Failure> {
        let attempts = known(self.engine.attempts(&validate::task_ref(&request.id)?).await?)?;
        let attempts = attempts.into_iter().map(wire::attempt).collect();
        Ok(v1::ListAttemptsResponse { attempts })
    }

    /// Gets the result of a task. Empty if it has none.
    pub(crate) async fn get_result(
        &self,
        _: Caller,
        request: v1::TaskRequest,
    ) -> Result<v1::GetResultResponse, Failure> {
        let result = known(self.engine.result(&validate::task_ref(&request.id)?).await?)?;
        Ok(v1::GetResultResponse { result })
    }
}

fn batch_result(result: Result<Submitted, Failure>) -> v1::create_tasks_response::Result {
    use v1::create_tasks_response::{Created, Result as Item, result::Result as Wire};
    Item {
        result: Some(match result {
            Ok(done) => Wire::Task(Created { id: done.shown_id, created: done.created }),
            Err(failure) => Wire::Error(item_error(failure)),
        }),
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

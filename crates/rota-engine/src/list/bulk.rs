//! Actions on many tasks, and their dry runs.

use rota_core::{Action, Refusal, Reply, Status, TaskCommand, lifecycle::transition};

use crate::{
    api::{BulkAction, BulkOutcome, Cursor, EngineError, TaskFilter, TaskPage, TaskView},
    engine::{Engine, unavailable},
    planted::Planted,
    purge::RECORDS_MAX,
    records::{Kind, Spec},
    request::Request,
};

impl Engine {
    /// Applies an action to up to `limit` tasks that match a filter. A refusal for one task, for example
    /// because a queue is full, is counted and does not affect the others. Deletes fewer where tasks had very many
    /// attempts, and names where to continue.
    ///
    /// # Errors
    /// As [`Engine::list`], and then nothing was changed; or when the outcome is unknown.
    pub async fn bulk(
        &self,
        action: BulkAction,
        filter: &TaskFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<BulkOutcome, EngineError> {
        self.inner.shared.admit_change()?;
        let mut page = self.list(filter, limit, after).await?;
        if action == BulkAction::Delete {
            leave_for_next(&mut page);
        }
        let command = |view: TaskView| {
            let task = view.spec.id;
            match action {
                BulkAction::Cancel => TaskCommand::Cancel.on(task),
                // The definition is already read. The coordinator would read it again with its payload. If it
                // cannot be read, the retry is refused for that reason.
                BulkAction::Retry => {
                    let spec = view.is_readable.then_some(view.spec);
                    TaskCommand::Retry { spec }.on(task)
                }
                BulkAction::Delete => TaskCommand::Delete.on(task),
            }
        };
        let TaskPage { tasks, examined, next } = page;
        let mut outcome = BulkOutcome { examined, next, ..BulkOutcome::default() };
        let commands: Vec<_> = tasks.into_iter().map(command).collect();
        if commands.is_empty() {
            return Ok(outcome);
        }
        let results = self.ask(|answer| Request::Commands { commands, answer }).await?;
        if Planted::LiesAboutBulk.is_made_once_in(2) {
            return Err(unavailable("the engine did not return the outcome"));
        }
        results.into_iter().for_each(|result| outcome.add(result));
        Ok(outcome)
    }

    /// The outcome that [`Engine::bulk`] would have, as far as the states of the tasks tell. Changes nothing. Refusals
    /// for want of room are not foreseen.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn bulk_dry_run(
        &self,
        action: BulkAction,
        filter: &TaskFilter,
        limit: usize,
        after: Option<Cursor>,
    ) -> Result<BulkOutcome, EngineError> {
        let page = self.list(filter, limit, after).await?;
        let TaskPage { tasks, examined, next } = page;
        let mut outcome = BulkOutcome { examined, next, ..BulkOutcome::default() };
        tasks.iter().for_each(|view| outcome.add(foreseen(action, view)));
        Ok(outcome)
    }
}

impl BulkOutcome {
    fn add(&mut self, result: Result<Reply, Refusal>) {
        match result {
            Ok(Reply::Unchanged { .. }) | Err(Refusal::UnknownTask | Refusal::Illegal(_)) => {
                self.skipped += 1;
            }
            Ok(_) => self.changed += 1,
            Err(refusal) => {
                self.refused += 1;
                self.refusal.get_or_insert(refusal);
            }
        }
    }
}

/// Leaves tasks for the next call that have more records together than one step should delete. The next call examines them
/// again.
fn leave_for_next(page: &mut TaskPage) {
    let mut records = 0;
    let taken = page.tasks.iter().take_while(|view| {
        let before = records;
        records += 1 + view.attempt as usize;
        before == 0 || records <= RECORDS_MAX
    });
    let taken = taken.count();
    if taken < page.tasks.len() {
        page.tasks.truncate(taken);
        page.next = page.tasks.last().map(|view| Cursor { before: view.spec.id });
    }
}

/// What the machine would answer to the action.
fn foreseen(action: BulkAction, view: &TaskView) -> Result<Reply, Refusal> {
    let (task, status) = (view.spec.id, view.status);
    match action {
        BulkAction::Cancel if view.cancel_requested || status == Status::Cancelled => {
            return Ok(Reply::Unchanged { task, status });
        }
        // The machine asks the worker of a leased task to stop, and only then the task is cancelled.
        BulkAction::Cancel => transition(status, Action::Cancel)?,
        BulkAction::Retry => transition(status, Action::Retry)?,
        BulkAction::Delete => transition(status, Action::Delete)?,
    };
    if action == BulkAction::Retry && !view.is_readable {
        return Err(Refusal::Unreadable { record: Spec::record_name(&task) });
    }
    Ok(Reply::Done)
}

//! Calls of clients on single tasks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    AttemptRecord, Command, DoneRecord, Edit, LiveRecord, LiveView, Machine, Priority, Refusal,
    Reply, RunAt, TaskCommand, TaskId,
};
use rota_store::{Direction, KeyRange, StoreError};
use tracing::{debug, error};

use crate::{
    api::{EngineError, LeftOut, NewTask, Submitted, TaskEdit, TaskRef, TaskView},
    engine::{Engine, Inner, unavailable},
    fingerprint,
    layout::{self, ClientKey},
    planted::Planted,
    prefetch,
    records::{self, Attempt, Done, Found, Kind, Live, Owner, Scan, Spec},
    request::{Request, Submission},
    view::{done_view, live_view},
};

/// Maximum number of attempts in a history, and their bytes. The newest are shown. An attempt can have much
/// output.
const ATTEMPTS_SHOWN: usize = 1000;
const ATTEMPTS_BYTES_MAX: usize = 4 << 20;
/// Number of attempts to read at a time.
const ATTEMPTS_PAGE: usize = 16;

/// Number of tries to find a task that has a definition but is neither live nor ended.
const LOOKS_MAX: usize = 3;

impl Engine {
    /// Submits tasks independently of each other. Returns when the accepted ones are durable.
    ///
    /// # Errors
    /// When nothing was accepted, or the outcome is unknown (`OutcomeUnknown`).
    pub async fn submit(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, EngineError> {
        let said = |task| (task, LeftOut::default());
        self.submit_said(tasks.into_iter().map(said).collect()).await
    }

    /// As [`Engine::submit`], with the fields that the client omitted from each task.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub async fn submit_said(
        &self,
        tasks: Vec<(NewTask, LeftOut)>,
    ) -> Result<Vec<Result<Submitted, Refusal>>, EngineError> {
        self.admit_tasks(&tasks).await?;
        let bytes = tasks.iter().map(|(task, _)| task.definition.payload.len()).sum();
        let room = self.room(self.inner.shared.room.for_submissions(bytes)).await?;
        let tasks = tasks
            .into_iter()
            .map(|(task, left_out)| Submission {
                fingerprint: fingerprint::of_task(&task, left_out),
                task,
            })
            .collect();
        let results = self.ask_with(room, |answer| Request::Submit { tasks, answer }).await?;
        for submitted in results.iter().flatten() {
            let Submitted { task, shown_id, created, .. } = submitted;
            debug!(%task, shown_id, created, "task submitted");
        }
        Ok(results)
    }

    /// Refuses new tasks while the store should get none, but not the repeat of tasks that it has: that adds nothing, and
    /// a client whose first answer was lost learns of its task.
    async fn admit_tasks(&self, tasks: &[(NewTask, LeftOut)]) -> Result<(), EngineError> {
        let Inner { store, shared, .. } = self.inner.as_ref();
        let Err(refused) = shared.admit() else { return Ok(()) };
        shared.admit_change()?;
        let chosen: Vec<_> = tasks.iter().map(|(task, _)| &task.client_keys).collect();
        match prefetch::are_known(store.as_ref(), &chosen).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(refused),
        }
    }

    /// Gets a task with its payload. `None` if there is no such task.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn task(&self, task: &TaskRef) -> Result<Option<TaskView>, EngineError> {
        match self.resolve(task).await? {
            Some(id) => self.view(id).await,
            None => Ok(None),
        }
    }

    /// Gets a task, once it has ended or `wait` is over.
    ///
    /// # Errors
    /// As [`Engine::task`].
    pub async fn wait(
        &self,
        task: &TaskRef,
        wait: Duration,
    ) -> Result<Option<TaskView>, EngineError> {
        let Some(id) = self.resolve(task).await? else { return Ok(None) };
        let mut waiter = self.inner.shared.wait_for(id);
        let view = self.view(id).await?;
        if view.as_ref().is_none_or(|view| view.status.is_terminal()) {
            return Ok(view);
        }
        // The current state is the answer, whether the task has ended or the wait is over.
        let _ = tokio::time::timeout(wait, waiter.ended()).await;
        drop(waiter);
        self.view(id).await
    }

    /// Cancels a task.
    ///
    /// # Errors
    /// When there is no such task, or it has ended with another status.
    pub async fn cancel(&self, task: &TaskRef) -> Result<TaskView, EngineError> {
        self.manage(task, TaskCommand::Cancel).await
    }

    /// Runs an ended task again.
    ///
    /// # Errors
    /// When there is no such task, or it is live or completed.
    pub async fn retry(&self, task: &TaskRef) -> Result<TaskView, EngineError> {
        let id = self.resolve(task).await?.ok_or(Refusal::UnknownTask)?;
        // Otherwise the coordinator would read it with its payload, for many requests at once.
        let Inner { store, shared, .. } = self.inner.as_ref();
        let found = shared.specs.without_payloads(store.as_ref(), &[id]).await?;
        let spec = found.into_iter().next().and_then(Found::record);
        self.manage(&TaskRef::Id(id), TaskCommand::Retry { spec }).await
    }

    /// Changes when a waiting task is due.
    ///
    /// # Errors
    /// When there is no such task, or it is not waiting.
    pub async fn reschedule(&self, task: &TaskRef, run_at: RunAt) -> Result<TaskView, EngineError> {
        let now = self.inner.shared.host.now().wall;
        let run_at = run_at.resolve(now);
        self.manage(task, TaskCommand::Reschedule { run_at }).await
    }

    /// Changes the priority of a waiting task.
    ///
    /// # Errors
    /// When there is no such task, or it is not waiting.
    pub async fn set_priority(
        &self,
        task: &TaskRef,
        priority: Priority,
    ) -> Result<TaskView, EngineError> {
        self.manage(task, TaskCommand::SetPriority(priority)).await
    }

    /// Changes the definition of a waiting task.
    ///
    /// # Errors
    /// When there is no such task, it is not waiting, or it has been changed since it was read.
    pub async fn edit(&self, edit: TaskEdit) -> Result<TaskView, EngineError> {
        let TaskEdit { spec, edits, priority, run_at } = edit;
        let id = spec.id;
        let now = self.inner.shared.host.now().wall;
        let run_at = run_at.map(|run_at| run_at.resolve(now));
        let edit = Box::new(Edit { spec: Arc::new(spec), edits, priority, run_at });
        self.manage(&TaskRef::Id(id), TaskCommand::Edit(edit)).await
    }

    /// Deletes an ended task.
    ///
    /// # Errors
    /// When there is no such task, or it is live.
    pub async fn delete(&self, task: &TaskRef) -> Result<(), EngineError> {
        let id = self.resolve(task).await?.ok_or(Refusal::UnknownTask)?;
        self.change(TaskCommand::Delete.on(id)).await
    }

    /// Gets the attempts of a task, oldest first, or the newest of very many. `None` if there is no such
    /// task.
    ///
    /// # Errors
    /// As [`Engine::task`].
    pub async fn attempts(
        &self,
        task: &TaskRef,
    ) -> Result<Option<Vec<AttemptRecord>>, EngineError> {
        let Some(id) = self.resolve(task).await? else { return Ok(None) };
        let Some((live, done)) = self.state_of(id).await? else { return Ok(None) };
        let mut attempts = self.stored_attempts(id).await?;
        let last = match (live, done) {
            (Some(live), _) => current_attempt(&live),
            (None, Some(done)) => done.last.clone(),
            (None, None) => None,
        };
        if let Some(last) = last
            && attempts.last().is_none_or(|stored| stored.attempt != last.attempt)
        {
            attempts.push(last);
        }
        Ok(Some(attempts))
    }

    /// Gets the result of a task. Empty if it has none. `None` if there is no such task.
    ///
    /// # Errors
    /// As [`Engine::task`].
    pub async fn result(&self, task: &TaskRef) -> Result<Option<Bytes>, EngineError> {
        let Some(view) = self.task(task).await? else { return Ok(None) };
        let key = (layout::RESULT, layout::task(view.spec.id));
        let found = self.inner.store.get(&[key]).await?;
        Ok(Some(found.into_iter().next().flatten().unwrap_or_default()))
    }

    /// Resolves a reference to the id that Rota gave the task. Does not check whether a task with such an id
    /// exists. `None` if no task has this client id.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, task: &TaskRef) -> Result<Option<TaskId>, EngineError> {
        self.resolve(task).await
    }

    /// Carries out a command without a result.
    pub(crate) async fn command(&self, command: Command) -> Result<(), EngineError> {
        self.one_command(command).await.map(drop)
    }

    /// Carries out a command.
    pub(crate) async fn one_command(&self, command: Command) -> Result<Reply, EngineError> {
        let commands = vec![command];
        let results = self.ask(|answer| Request::Commands { commands, answer }).await?;
        Ok(results.into_iter().next().unwrap_or(Ok(Reply::Done))?)
    }

    /// Carries out a client's command, or refuses it at once while commits fail.
    pub(crate) async fn change(&self, command: Command) -> Result<(), EngineError> {
        self.inner.shared.admit_change()?;
        self.command(command).await
    }

    async fn manage(&self, task: &TaskRef, command: TaskCommand) -> Result<TaskView, EngineError> {
        let id = self.resolve(task).await?.ok_or(Refusal::UnknownTask)?;
        self.change(command.on(id)).await?;
        if Planted::LiesAboutChanges.is_made_once_in(10) {
            return Err(unavailable("the engine did not return the outcome"));
        }
        // The change is made, so an error of this read must not suggest otherwise.
        let view = self.view_of_changed(id).await;
        let view =
            view.map_err(|_| EngineError::OutcomeUnknown("cannot read the state of the task"))?;
        let removed = "the task was changed, and then deleted before it could be read";
        view.ok_or(EngineError::OutcomeUnknown(removed))
    }

    /// The view of a task that was just changed here. The change is durable, so the store can answer, too,
    /// even if another node is the leader by now. Only the reason for waiting is missing then.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn view_of_changed(&self, id: TaskId) -> Result<Option<TaskView>, EngineError> {
        match self.view(id).await {
            Err(EngineError::LeadershipLost) => self.view_of(id, self.stored_live(id).await?).await,
            result => result,
        }
    }

    async fn stored_live(&self, id: TaskId) -> Result<Option<LiveView>, EngineError> {
        let record = self.record::<Live>(&id).await?;
        Ok(record.and_then(|record| self.recorded([&record]).pop()))
    }

    /// Views of live tasks from their records, which are in the order of ids, without the reasons for
    /// waiting.
    pub(crate) fn recorded<'a>(
        &self,
        records: impl IntoIterator<Item = &'a LiveRecord>,
    ) -> Vec<LiveView> {
        let options = &self.inner.options;
        let now = self.inner.shared.host.now();
        let mut machine = Machine::new(options.machine, options.retention, now);
        let mut views = Vec::new();
        for record in records {
            machine.restore_task(record);
            let view = machine.task(record.id);
            views.extend(view.map(|view| LiveView { waiting: None, ..view }));
        }
        views
    }

    /// Resolves a reference to a task id. Does not check whether a task with such an id exists.
    pub(crate) async fn resolve(&self, task: &TaskRef) -> Result<Option<TaskId>, EngineError> {
        match task {
            TaskRef::Id(id) => Ok(Some(*id)),
            TaskRef::Named(name) => {
                let key = ClientKey::Id(name.clone());
                let found = records::get_one::<Owner>(self.inner.store.as_ref(), &key).await?;
                if let Some(error) = found.unreadable() {
                    error!(%name, error, "cannot read the record of a name");
                }
                Ok(found.or_refuse::<Owner>(&key)?.map(|owner| owner.task))
            }
        }
    }

    async fn view(&self, id: TaskId) -> Result<Option<TaskView>, EngineError> {
        for _ in 1..LOOKS_MAX {
            let view = self.view_of(id, self.live(id).await?).await?;
            // A task that is retried between the two reads is found in neither place, but has a definition.
            if view.is_some() || !self.is_defined(id).await? {
                return Ok(view);
            }
        }
        self.view_of(id, self.live(id).await?).await
    }

    /// Whether the store has a definition of the task.
    async fn is_defined(&self, id: TaskId) -> Result<bool, EngineError> {
        Ok(records::exists::<Spec>(self.inner.store.as_ref(), &id).await?)
    }

    /// The view of a task. `live` is its live state, if it has not ended.
    async fn view_of(
        &self,
        id: TaskId,
        live: Option<LiveView>,
    ) -> Result<Option<TaskView>, EngineError> {
        let Inner { store, shared, .. } = self.inner.as_ref();
        let found = shared.specs.one(store.as_ref(), id).await?;
        let Some(spec) = found.or_refuse::<Spec>(&id)? else { return Ok(None) };
        match live {
            Some(live) => {
                let last = self.last_failure(&live).await?;
                Ok(Some(live_view(spec, live, last)))
            }
            None => Ok(self.done(id).await?.map(|done| done_view(spec, &done))),
        }
    }

    /// The state of a task: of a live one, or the record of an ended one. `None` if there is no such task.
    pub(crate) async fn state_of(
        &self,
        id: TaskId,
    ) -> Result<Option<(Option<LiveView>, Option<DoneRecord>)>, EngineError> {
        for _ in 0..LOOKS_MAX {
            let live = self.live(id).await?;
            let done = if live.is_none() { self.done(id).await? } else { None };
            if live.is_some() || done.is_some() {
                return Ok(Some((live, done)));
            }
            // As in `view`.
            if !self.is_defined(id).await? {
                break;
            }
        }
        Ok(None)
    }

    async fn live(&self, id: TaskId) -> Result<Option<LiveView>, EngineError> {
        // Then the answer of the machine waits for a commit. The store has everything that is durable.
        if self.inner.shared.is_full() {
            return self.stored_live(id).await;
        }
        let found = self.try_query(move |machine| match machine.task(id) {
            None if machine.is_set_aside(id) => Err(Refusal::unreadable_live(id)),
            found => Ok(found),
        });
        match found.await? {
            Some(view) => Ok(view?),
            None => self.stored_live(id).await,
        }
    }

    /// A record that an answer cannot do without. One that cannot be read refuses the request.
    async fn record<K: Kind>(&self, key: &K::Key) -> Result<Option<K::Record>, EngineError> {
        let Inner { store, shared, .. } = self.inner.as_ref();
        Ok(shared.records.one::<K>(store.as_ref(), key).await?.or_refuse::<K>(key)?)
    }

    /// The record of an ended task.
    pub(crate) async fn done(&self, id: TaskId) -> Result<Option<DoneRecord>, EngineError> {
        self.record::<Done>(&id).await
    }

    /// The record of the previous attempt, for its error.
    pub(crate) async fn last_failure(
        &self,
        live: &LiveView,
    ) -> Result<Option<AttemptRecord>, StoreError> {
        if live.attempt == 0 || live.lease.is_some() {
            return Ok(None);
        }
        let Inner { store, shared, .. } = self.inner.as_ref();
        let key = (live.id, live.attempt);
        // The task can be shown without this attempt.
        Ok(shared.records.one::<Attempt>(store.as_ref(), &key).await?.record())
    }

    async fn stored_attempts(&self, id: TaskId) -> Result<Vec<AttemptRecord>, EngineError> {
        let snapshot = self.inner.store.snapshot().await?;
        let range = KeyRange::prefix(layout::ATTEMPT, layout::attempts(id));
        let mut scan = Scan::<Attempt>::new(range, Direction::Descending, ATTEMPTS_PAGE);
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some(page) = scan.next(snapshot.as_ref()).await? {
            for entry in &page {
                bytes += entry.value.len();
                // The newest attempt is always shown.
                if records.len() == ATTEMPTS_SHOWN
                    || bytes > ATTEMPTS_BYTES_MAX && !records.is_empty()
                {
                    records.reverse();
                    return Ok(records);
                }
                let key = entry.typed_key().unwrap_or((id, 0));
                let found = self.inner.shared.records.read(entry, &key);
                records.extend(found.or_refuse::<Attempt>(&key)?);
            }
        }
        records.reverse();
        Ok(records)
    }
}

fn current_attempt(live: &LiveView) -> Option<AttemptRecord> {
    let lease = live.lease.as_ref()?;
    Some(AttemptRecord {
        attempt: live.attempt,
        token: lease.token,
        worker: lease.worker.clone(),
        assigned_at: lease.assigned_at,
        started_at: lease.started_at,
        ended_at: None,
        failure: None,
        snoozed_until: None,
        output_tail: Bytes::new(),
        unknown: Bytes::new(),
    })
}

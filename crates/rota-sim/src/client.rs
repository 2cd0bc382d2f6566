//! Simulated clients: each keeps a ledger of what it asked for and what it was told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    Binds, Jitter, Millis, Name, Policy, Priority, Refusal, RetryPolicy, Status, TaskId,
};
use rota_engine::{
    BulkAction, EngineError, NewTask, RunAt, Submitted, TaskFilter, TaskRef, TaskView,
};
use tokio::time::sleep;

use crate::{
    audit::Class,
    call::{CallError, Caller, Served},
    seed::per_mille,
};

/// A call of a client gets so long.
const CALL_WAIT: Duration = Duration::from_secs(20);
/// Tasks that a client remembers.
const REMEMBERED: usize = 64;

/// A client.
pub(crate) struct Client {
    pub(crate) caller: Caller,
    pub(crate) rng: fastrand::Rng,
    pub(crate) queues: Arc<[Name]>,
    /// Tells its submissions from those of others.
    pub(crate) number: u64,
    pub(crate) submitted: u64,
    /// Its newest tasks that were accepted.
    pub(crate) tasks: Vec<TaskId>,
    /// Named submissions whose outcome is not known.
    pub(crate) open: Vec<NewTask>,
    pub(crate) pause_ms: u64,
}

impl Client {
    pub(crate) async fn run(mut self) {
        loop {
            sleep(Duration::from_millis(self.rng.u64(0..=self.pause_ms))).await;
            let quiet = {
                let mut inner = self.caller.world.lock();
                inner.count(1);
                inner.quiet
            };
            if quiet {
                self.go_quiet().await;
                return;
            }
            self.act().await;
        }
    }

    /// Lets go of everything that it holds up.
    async fn go_quiet(&mut self) {
        for at in 0..self.queues.len() {
            let queue = self.queues[at].clone();
            while self.pause(queue.clone(), false).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        while let Some(task) = self.open.pop() {
            self.submit(vec![task]).await;
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn act(&mut self) {
        match self.rng.u32(..1000) {
            0..550 => {
                let task = self.new_task();
                self.submit(vec![task]).await;
            }
            550..600 => {
                let count = self.rng.usize(2..60);
                let tasks = (0..count).map(|_| self.new_task()).collect();
                self.submit(tasks).await;
            }
            600..650 => {
                if let Some(task) = self.open.pop() {
                    self.submit(vec![task]).await;
                }
            }
            650..820 => self.look(Duration::ZERO).await,
            820..850 => {
                let wait = Duration::from_millis(self.rng.u64(0..4000));
                self.look(wait).await;
            }
            850..985 => self.manage().await,
            985..992 => self.list().await,
            992..995 => {
                let queue = self.queue();
                let paused = self.rng.bool();
                let _ = self.pause(queue, paused).await;
            }
            _ => self.bulk().await,
        }
    }

    fn queue(&mut self) -> Name {
        self.queues[self.rng.usize(..self.queues.len())].clone()
    }

    fn new_task(&mut self) -> NewTask {
        self.submitted += 1;
        let tag = self.number << 40 | self.submitted;
        let mut payload = format!("{tag:016x}").into_bytes();
        if per_mille(&mut self.rng, 20) {
            payload.resize(self.rng.usize(16..60_000), b'x');
        }
        let mut binds = Binds::default();
        match self.rng.u32(..10) {
            0..3 => binds.id = Name::new(&format!("c{tag:x}")).ok(),
            3 => binds.key = Some(format!("key {tag:x}").into()),
            _ => {}
        }
        let run_at = match self.rng.u32(..10) {
            0..8 => RunAt::Now,
            8 => RunAt::After(Millis(self.rng.u64(1..500))),
            _ => RunAt::After(Millis(self.rng.u64(500..15_000))),
        };
        let retry = RetryPolicy {
            max_attempts: self.rng.u32(1..6),
            initial: Millis(self.rng.u64(0..500)),
            multiplier: 2.0,
            max: Millis(3000),
            jitter: if self.rng.bool() { Jitter::Full } else { Jitter::None },
            max_lost: 3,
        };
        let retention = per_mille(&mut self.rng, 100).then(|| Millis(self.rng.u64(0..20_000)));
        // A lease that nobody holds must not be freed by a timeout before it shows.
        let timeout = if self.rng.u32(..10) == 0 { Millis(20_000) } else { Millis(3_600_000) };
        NewTask {
            binds,
            queue: self.queue(),
            kind: Name::new(["a", "b"][self.rng.usize(..2)]).expect("a name"),
            payload: Bytes::from(payload),
            labels: Vec::new(),
            priority: Priority::new(self.rng.u32(0..10)).unwrap_or_default(),
            run_at,
            expires_at: None,
            policy: Policy { retry, timeout, retention },
            trace: None,
        }
    }

    async fn submit(&mut self, tasks: Vec<NewTask>) {
        let asked = tasks.clone();
        let answer = self.caller.ask("submit", CALL_WAIT, move |served: Served| async move {
            let facts: Vec<_> = tasks.iter().map(|task| (tag(task), name(task))).collect();
            let result = served.engine.submit(tasks).await;
            served.with(|inner, now_us| match &result {
                Ok(results) => {
                    // The call itself is counted as one.
                    inner.count(results.len() - 1);
                    for ((tag, name), result) in facts.iter().zip(results) {
                        match result {
                            Ok(Submitted { task, .. }) => {
                                let id = task.as_u64();
                                inner.audit.accepted(now_us, *tag, id, name.as_deref());
                            }
                            Err(refusal) => {
                                let why = refusal.to_string();
                                inner.audit.unchanged(now_us, *tag, &why);
                            }
                        }
                    }
                }
                Err(error) if CallError::Engine(error.clone()).nothing_changed() => {
                    for (tag, name) in &facts {
                        // A named one may have been accepted before.
                        if name.is_none() {
                            inner.audit.unchanged(now_us, *tag, &error.to_string());
                        }
                    }
                }
                Err(_) => {}
            });
            result
        });
        match answer.await {
            Ok(results) => {
                let ids = results.into_iter().flatten().map(|submitted| submitted.task);
                self.tasks.extend(ids);
                let surplus = self.tasks.len().saturating_sub(REMEMBERED);
                self.tasks.drain(..surplus);
            }
            Err(error) => {
                self.note("submit", &error);
                // Only what has a name can be asked for again without being done twice.
                let named = asked.into_iter().filter(|task| !task.binds.is_empty());
                self.open.extend(named);
                self.rest(&error).await;
            }
        }
    }

    async fn rest(&mut self, error: &CallError) {
        let most =
            if matches!(error, CallError::Engine(EngineError::NotLeader)) { 30 } else { 300 };
        sleep(Duration::from_millis(self.rng.u64(1..most))).await;
    }

    fn note(&self, what: &'static str, error: &CallError) {
        let me = self.caller.me.0;
        self.caller.world.lock().note(format_args!("{me} {what}: {}", error.label()));
    }

    fn some_task(&mut self) -> Option<TaskId> {
        if self.tasks.is_empty() {
            return None;
        }
        Some(self.tasks[self.rng.usize(..self.tasks.len())])
    }

    /// Reads a task, at once or when it has ended.
    async fn look(&mut self, wait: Duration) {
        let Some(id) = self.some_task() else { return };
        let patience = if wait.is_zero() { CALL_WAIT } else { wait + Duration::from_secs(1) };
        let answer = self.caller.ask("read", patience, move |served: Served| async move {
            let from_us = served.with(|_, now_us| now_us);
            let task = TaskRef::Id(id);
            let result = if wait.is_zero() {
                served.engine.task(&task).await
            } else {
                served.engine.wait(&task, wait).await
            };
            if let Ok(view) = &result {
                let class = view.as_ref().map_or(Class::Absent, class);
                served.with(|inner, now_us| inner.audit.read(id.as_u64(), class, from_us, now_us));
            }
            result.map(|_| ())
        });
        if let Err(error) = answer.await {
            self.note("read", &error);
            self.rest(&error).await;
        }
    }

    async fn manage(&mut self) {
        let Some(id) = self.some_task() else { return };
        let what = self.rng.u32(..100);
        let level = self.rng.u32(0..10);
        let delay = Millis(self.rng.u64(0..8000));
        let answer = self.caller.ask("manage", CALL_WAIT, move |served: Served| async move {
            let task = TaskRef::Id(id);
            let engine = &served.engine;
            match what {
                0..30 => engine.cancel(&task).await.map(|_| ()),
                30..50 => {
                    served.with(|inner, _| inner.audit.may_return(id.as_u64()));
                    engine.retry(&task).await.map(|_| ())
                }
                50..70 => engine.reschedule(&task, RunAt::After(delay)).await.map(|_| ()),
                70..90 => {
                    let priority = Priority::new(level).unwrap_or_default();
                    engine.set_priority(&task, priority).await.map(|_| ())
                }
                _ => {
                    served.with(|inner, _| inner.audit.may_go(id.as_u64()));
                    engine.delete(&task).await
                }
            }
        });
        match answer.await {
            Ok(()) | Err(CallError::Engine(EngineError::Refused(_))) => {}
            Err(error) => {
                self.note("manage", &error);
                self.rest(&error).await;
            }
        }
    }

    async fn list(&mut self) {
        let filter = TaskFilter { queue: Some(self.queue()), ..TaskFilter::default() };
        let answer = self.caller.ask("list", CALL_WAIT, move |served: Served| async move {
            served.engine.list(&filter, 20, None).await.map(|_| ())
        });
        if let Err(error) = answer.await {
            self.note("list", &error);
            self.rest(&error).await;
        }
    }

    async fn bulk(&mut self) {
        let filter = TaskFilter {
            queue: Some(self.queue()),
            statuses: vec![Status::Failed],
            ..TaskFilter::default()
        };
        let answer = self.caller.ask("bulk", CALL_WAIT, move |served: Served| async move {
            // Whatever it selects may come back; a list says what that can be.
            let page = served.engine.list(&filter, 20, None).await?;
            served.with(|inner, _| {
                for view in &page.tasks {
                    inner.audit.may_return(view.spec.id.as_u64());
                }
            });
            for view in page.tasks {
                let task = TaskRef::Id(view.spec.id);
                match served.engine.retry(&task).await {
                    Ok(_) | Err(EngineError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let cancel = TaskFilter { statuses: vec![Status::Scheduled], ..filter };
            served.engine.bulk(BulkAction::Cancel, &cancel, 5, None).await.map(|_| ())
        });
        if let Err(error) = answer.await {
            self.note("bulk", &error);
            self.rest(&error).await;
        }
    }

    async fn pause(&mut self, queue: Name, paused: bool) -> Result<(), CallError> {
        let answer = self.caller.ask("pause", CALL_WAIT, move |served: Served| async move {
            served.engine.set_paused(&queue, paused).await.map(|_| ())
        });
        match answer.await {
            Ok(()) | Err(CallError::Engine(EngineError::Refused(Refusal::TooManyNames { .. }))) => {
                Ok(())
            }
            Err(error) => {
                self.note("pause", &error);
                Err(error)
            }
        }
    }
}

fn tag(task: &NewTask) -> u64 {
    crate::audit::tag_of(&task.payload).unwrap_or_default()
}

fn name(task: &NewTask) -> Option<String> {
    let id = task.binds.id.as_ref().map(|id| format!("id {id}"));
    id.or_else(|| task.binds.key.as_ref().map(|key| format!("key {key}")))
}

/// How a view says that a task stands, in the auditor's terms.
fn class(view: &TaskView) -> Class {
    match view.status {
        Status::Scheduled | Status::Pending => Class::Waits,
        Status::Assigned | Status::Running => Class::Leased,
        Status::Completed => Class::Ended(4),
        Status::Failed => Class::Ended(5),
        Status::Cancelled => Class::Ended(6),
        Status::Expired => Class::Ended(7),
    }
}

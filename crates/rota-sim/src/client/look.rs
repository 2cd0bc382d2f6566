//! What clients look at: one task, the end of one, lists.

use std::time::Duration;

use rota_core::{Name, TaskId};
use rota_engine::{EngineError, TaskFilter, TaskRef};

use super::{CALL_WAIT, Client, edit::version, of, told_by};
use crate::{
    audit::{Class, Op, Told},
    call::{CallError, Served},
    seed::per_mille,
};

impl Client {
    /// Reads a task.
    pub(super) async fn look(&mut self) {
        let Some(id) = self.some_task() else { return };
        self.read(id, Duration::ZERO, CALL_WAIT).await;
    }

    /// Waits for a task's end. Gives up now and then.
    pub(super) async fn wait(&mut self) {
        let Some(id) = self.some_task() else { return };
        let wait = Duration::from_millis(self.rng.u64(0..8000));
        let mut patience = wait + Duration::from_secs(1);
        if self.behaviours.gives_up && per_mille(&mut self.rng, 300) {
            patience = wait.mul_f64(self.rng.f64());
        }
        self.read(id, wait, patience).await;
    }

    async fn read(&mut self, id: TaskId, wait: Duration, patience: Duration) {
        let call_us = self.caller.world.lock().now_us;
        let begun = self.caller.world.lock().audit.histories.begin(id.as_u64(), Op::Get, call_us);
        let answer =
            self.caller.ask("read", patience, move |served: Served| read(served, id, wait)).await;
        let told = match &answer {
            Ok(seen) => Told::Seen(*seen),
            Err(error) => told_by(error),
        };
        {
            let mut inner = self.caller.world.lock();
            let ret_us = inner.now_us;
            if let Some(begun) = begun {
                inner.audit.histories.end(begun, told, ret_us);
            }
        }
        if let Err(error) = answer {
            self.note("read", &error);
            self.rest(&error).await;
        }
    }

    /// Looks how a queue stands, and lists its newest tasks.
    pub(super) async fn list(&mut self) {
        let queue = self.queue();
        let size = self.rng.usize(1..40);
        let filter = TaskFilter { queue: Some(queue.clone()), ..TaskFilter::default() };
        let answer = self.caller.ask("list", CALL_WAIT, move |served: Served| async move {
            count(&served, &queue).await?;
            let from_us = served.with(|_, now_us| now_us);
            let page = served.engine.list(&filter, size, None).await?;
            let told: Vec<_> =
                page.tasks.iter().map(|view| (view.spec.id.as_u64(), of(view))).collect();
            let down_to = page.next.map(|cursor| cursor.before.as_u64());
            served.with(|inner, to_us| {
                inner.audit.listed(&queue, &told, down_to, (from_us, to_us));
            });
            Ok(())
        });
        let answer: Result<(), CallError> = answer.await;
        if let Err(error) = answer {
            self.note("list", &error);
            self.rest(&error).await;
        }
    }
}

/// On the node: reads a task, or waits for its end, and has the auditor check the answer.
async fn read(served: Served, id: TaskId, wait: Duration) -> Result<Class, EngineError> {
    let from_us = served.with(|_, now_us| now_us);
    let task = TaskRef::Id(id);
    let view = if wait.is_zero() {
        served.engine.task(&task).await?
    } else {
        served.engine.wait(&task, wait).await?
    };
    let class = view.as_ref().map_or(Class::Absent, of);
    served.with(|inner, now_us| {
        inner.audit.read(id.as_u64(), class, from_us, now_us);
        if let Some(view) = &view {
            inner.audit.read_version(id.as_u64(), version(view), (from_us, now_us));
        }
        if !wait.is_zero() && matches!(class, Class::Ended(_)) {
            inner.audit.waited(id.as_u64(), from_us, now_us);
        }
    });
    Ok(class)
}

/// On the node: asks how a queue stands, and has the auditor check the answer.
async fn count(served: &Served, queue: &Name) -> Result<(), EngineError> {
    let from_us = served.with(|_, now_us| now_us);
    let list = served.engine.queue_list().await?;
    // One of the last commit may be older than the question, and says so.
    if list.as_of.is_none() {
        let counts = list.queues.iter().find(|counts| counts.name == *queue);
        let told = counts.map_or((0, false), |counts| {
            let live = counts.scheduled + counts.pending + counts.leased + counts.unreadable;
            (live, counts.paused)
        });
        served.with(|inner, to_us| inner.audit.counted(queue, told, (from_us, to_us)));
    }
    Ok(())
}

//! Edits of waiting tasks, made of what was read before: the newest version, or one that is out of date.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{Definition, IllegalTransition, Millis, Name, Priority, Refusal, TaskId, TaskSpec};
use rota_engine::{EngineError, RunAt, TaskEdit, TaskRef, TaskView};
use tokio::time::sleep;

use super::{CALL_WAIT, Client, of, told, told_by, wall};
use crate::{
    audit::{Answer, Class, Edit, Op, Subject, Told, stamp_of},
    call::{CallError, Served},
    seed::per_mille,
};

/// Delayed tasks that a client remembers, to change them while they wait.
const DELAYED: usize = 16;
/// An answer that takes so long is not thought over for longer.
const THOUGHT_MS: u64 = 300;

/// A task as a client knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    spec: Arc<TaskSpec>,
    edits: u32,
}

impl Client {
    /// Remembers a task that waits for some time.
    pub(super) fn delayed(&mut self, id: TaskId) {
        if self.delayed.len() == DELAYED {
            self.delayed.remove(0);
        }
        self.delayed.push(id);
    }

    /// Reads a task and changes it, now and then as one who does not know what happened since.
    pub(super) async fn edit(&mut self) {
        if !self.behaviours.edits {
            return;
        }
        let stale = self.known.take().filter(|_| per_mille(&mut self.rng, 300));
        let known = match stale {
            Some(known) => known,
            None => match self.known_task().await {
                Some(known) => known,
                None => return,
            },
        };
        if per_mille(&mut self.rng, 250) {
            sleep(Duration::from_millis(self.rng.u64(0..THOUGHT_MS))).await;
        }
        self.change(&known).await;
        self.known = Some(known);
    }

    /// Reads a task that may wait.
    async fn known_task(&mut self) -> Option<Known> {
        let id = match self.delayed.len() {
            count if count > 0 && per_mille(&mut self.rng, 700) => {
                self.delayed[self.rng.usize(..count)]
            }
            _ => self.some_task()?,
        };
        let answer = self.caller.ask("read", CALL_WAIT, move |served| read(served, id)).await;
        match answer {
            Ok(view) => {
                let view = view.filter(|view| of(view) == Class::Waits);
                if view.is_none() {
                    self.delayed.retain(|other| *other != id);
                }
                view.map(|view| Known { spec: view.spec, edits: view.edits })
            }
            Err(error) => {
                self.note("read", &error);
                self.rest(&error).await;
                None
            }
        }
    }

    async fn change(&mut self, known: &Known) {
        let (stamp, edit, asked) = self.made_up(known);
        let id = asked.task;
        let call_us = self.caller.world.lock().now_us;
        let begun = self.caller.world.lock().audit.histories.begin(id, Op::Edit, call_us);
        let answer =
            self.caller.ask("edit", CALL_WAIT, move |served| make(served, stamp, edit, asked));
        let answer = answer.await;
        let said = answer.as_ref().map_or_else(told_by, |()| Told::Done);
        {
            let mut inner = self.caller.world.lock();
            let ret_us = inner.now_us;
            if let Some(begun) = begun {
                inner.audit.histories.end(begun, said, ret_us);
            }
        }
        match answer {
            Ok(()) | Err(CallError::Engine(EngineError::Refused(_))) => {}
            Err(error) => {
                self.note("edit", &error);
                self.rest(&error).await;
            }
        }
    }

    /// An edit of what is known: as it is asked for, and as the auditor holds the engine to it.
    fn made_up(&mut self, known: &Known) -> (u64, TaskEdit, Edit) {
        self.edited += 1;
        let stamp = self.number << 40 | self.edited;
        let shown = format!("{stamp:016x}");
        let mut spec = TaskSpec::clone(&known.spec);
        let Definition { payload, labels, description, expires_at, policy, .. } =
            &mut spec.definition;
        let mut bytes = payload[..payload.len().min(16)].to_vec();
        bytes.extend_from_slice(shown.as_bytes());
        if per_mille(&mut self.rng, 20) {
            bytes.resize(self.rng.usize(32..60_000), b'y');
        }
        *payload = Bytes::from(bytes);
        *labels = vec![(Name::new("edit").expect("a name"), shown.clone().into_boxed_str())];
        *description = Some(shown.into_boxed_str());
        let now_ms = wall(self.caller.world.lock().now_us);
        match self.rng.u32(..10) {
            0 if self.behaviours.expiry => {
                *expires_at = Some(rota_core::WallTime(now_ms + self.rng.i64(20..20_000)));
            }
            1 => *expires_at = None,
            2 | 3 => policy.retry.max_attempts = self.rng.u32(1..6),
            4 | 5 => policy.retry.max_snoozes = self.rng.u32(0..4),
            6 => policy.retry.initial = Millis(self.rng.u64(0..500)),
            _ => {}
        }
        let priority = per_mille(&mut self.rng, 300)
            .then(|| Priority::new(self.rng.u32(0..10)).unwrap_or_default());
        let run_at = match self.rng.u32(..10) {
            0..3 => Some(RunAt::After(Millis(self.rng.u64(0..8000)))),
            3 => Some(RunAt::Now),
            _ => None,
        };
        let asked = Edit {
            task: spec.id.as_u64(),
            base: known.edits,
            payload: spec.definition.payload.clone(),
            intent: super::submit::intent(
                &spec.definition,
                priority.unwrap_or_default(),
                run_at.unwrap_or_default(),
                now_ms,
            ),
            priority: priority.map(|priority| priority.level().into()),
            run_at_ms: None,
        };
        (stamp, TaskEdit { spec, edits: known.edits, priority, run_at }, asked)
    }
}

/// On the node: reads a task, and has the auditor check the answer.
async fn read(served: Served, id: TaskId) -> Result<Option<TaskView>, EngineError> {
    let from_us = served.with(|_, now_us| now_us);
    let view = served.engine.task(&TaskRef::Id(id)).await?;
    let class = view.as_ref().map_or(Class::Absent, of);
    served.with(|inner, now_us| {
        inner.audit.read(id.as_u64(), class, from_us, now_us);
        if let Some(view) = &view {
            inner.audit.read_version(id.as_u64(), version(view), (from_us, now_us));
        }
    });
    Ok(view)
}

/// After how many edits a task was read, and with the definition of which one.
pub(super) fn version(view: &TaskView) -> (u32, u64) {
    (view.edits, stamp_of(view.spec.definition.description.as_deref().unwrap_or_default()))
}

/// On the node: makes the edit, and tells the auditor what was asked and answered.
async fn make(
    served: Served,
    stamp: u64,
    edit: TaskEdit,
    mut asked: Edit,
) -> Result<(), EngineError> {
    let id = asked.task;
    let run_at = edit.run_at;
    let call = served.with(|inner, now_us| {
        asked.run_at_ms = run_at.map(|run_at| run_at.resolve(rota_core::WallTime(wall(now_us))).0);
        inner.audit.asks_edit(now_us, stamp, asked);
        inner.audit.asks(now_us, Subject::Task(id, Op::Edit))
    });
    let result = served.engine.edit(edit).await.map(|_| ());
    let answer = match &result {
        Ok(()) => Answer::Done,
        Err(EngineError::Refused(Refusal::VersionConflict { version })) => {
            Answer::Conflict(version.saturating_sub(1))
        }
        Err(error) if CallError::Engine(error.clone()).nothing_changed() => Answer::Nothing,
        Err(_) => Answer::Unknown,
    };
    served.with(|inner, now_us| {
        inner.audit.told_edit(now_us, stamp, answer);
        inner.audit.told(now_us, &call, told(&result));
    });
    // A task with another version waits, or it would have been refused for that.
    result.map_err(|error| match error {
        EngineError::Refused(Refusal::VersionConflict { .. }) => {
            let (from, action) = (rota_core::Status::Pending, rota_core::Action::Edit);
            EngineError::Refused(IllegalTransition { from, action }.into())
        }
        error => error,
    })
}

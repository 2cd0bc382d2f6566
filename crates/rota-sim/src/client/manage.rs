//! What clients do to tasks, queues, workers and nodes that are there.

use rota_core::{Millis, Name, Pause, Priority, Refusal, Status, TaskId};
use rota_engine::{BulkAction, EngineError, RunAt, TaskFilter, TaskRef, WorkerRef};

use super::{CALL_WAIT, Client, told, told_by};
use crate::{
    audit::{Op, Subject, Told},
    call::{CallError, Served},
};

/// Tasks in one bulk call, at most.
const BULK_MAX: usize = 40;

/// What is to be done to a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) op: Op,
    pub(super) priority: u32,
    pub(super) delay: Millis,
}

impl Client {
    /// Does something to one task.
    pub(super) async fn manage(&mut self) {
        let Some(id) = self.some_task() else { return };
        let op = match self.rng.u32(..100) {
            0..30 => Op::Cancel,
            30..50 => Op::Retry,
            50..70 => Op::Postpone,
            70..90 => Op::Priority,
            _ => Op::Delete,
        };
        let delay = Millis(self.rng.u64(0..8000));
        let order = Order { op, priority: self.rng.u32(0..10), delay };
        self.give_order(id, order).await;
    }

    /// Does this to a task, and tells the auditor what was answered.
    pub(super) async fn give_order(&mut self, id: TaskId, order: Order) {
        let op = order.op;
        let call_us = self.caller.world.lock().now_us;
        let begun = self.caller.world.lock().audit.histories.begin(id.as_u64(), op, call_us);
        let answer =
            self.caller.ask("manage", CALL_WAIT, move |served| carry_out(served, id, order));
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
                self.note("manage", &error);
                self.rest(&error).await;
            }
        }
    }

    /// Does something to all tasks that a filter selects, up to a number.
    pub(super) async fn bulk(&mut self) {
        let queue = self.queue();
        let (action, op, statuses) = match self.rng.u32(..10) {
            0..4 => (BulkAction::Retry, Op::Retry, vec![Status::Failed]),
            4..7 => (BulkAction::Cancel, Op::Cancel, vec![Status::Scheduled]),
            7 => (BulkAction::Cancel, Op::Cancel, Vec::new()),
            _ if self.behaviours.bulk_delete => {
                let ended = vec![Status::Completed, Status::Cancelled, Status::Expired];
                (BulkAction::Delete, Op::Delete, ended)
            }
            _ => return,
        };
        let limit = self.rng.usize(1..BULK_MAX);
        let filter = TaskFilter { queue: Some(queue.clone()), statuses, ..TaskFilter::default() };
        let call_us = self.caller.world.lock().now_us;
        self.caller.world.lock().audit.histories.bulk(&queue, op, call_us);
        let answer = self.caller.ask("bulk", CALL_WAIT, move |served: Served| async move {
            let subject = Subject::Tasks(queue.to_string(), op);
            let call = served.with(|inner, now_us| {
                if op == Op::Delete {
                    inner.audit.may_all_go(&queue);
                }
                inner.audit.asks_many(now_us, subject, limit)
            });
            let result = served.engine.bulk(action, &filter, limit, None).await;
            served.with(|inner, now_us| inner.audit.told(now_us, &call, told(&result)));
            result.map(|_| ())
        });
        if let Err(error) = answer.await {
            self.note("bulk", &error);
            self.rest(&error).await;
        }
    }

    pub(super) async fn pause(&mut self, queue: Name, paused: bool) -> Result<(), CallError> {
        let answer = self.caller.ask("pause", CALL_WAIT, move |served: Served| async move {
            let subject = Subject::Queue(queue.to_string(), paused);
            let call = served.with(|inner, now_us| inner.audit.asks(now_us, subject));
            let result = served.engine.pause_queue(&queue, paused.then(Pause::default)).await;
            served.with(|inner, now_us| inner.audit.told(now_us, &call, told(&result)));
            result.map(|_| ())
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

    /// Has a worker take no more.
    pub(super) async fn drain(&mut self) {
        if !self.behaviours.drains {
            return;
        }
        let chosen = self.rng.usize(..);
        let answer = self.caller.ask("drain", CALL_WAIT, move |served: Served| async move {
            let workers = served.engine.workers().await?;
            let Some(worker) = workers.get(chosen % workers.len().max(1)) else { return Ok(()) };
            let epoch = served.with(|inner, _| inner.audit.epoch());
            for drained in served.engine.drain(&WorkerRef::Session(worker.id)).await? {
                served.with(|inner, _| inner.audit.drained(drained.id.0, epoch));
            }
            Ok(())
        });
        let answer: Result<(), CallError> = answer.await;
        if let Err(error) = answer {
            self.note("drain", &error);
            self.rest(&error).await;
        }
    }

    /// Has the leader hand over.
    pub(super) async fn transfer(&mut self) {
        if !self.behaviours.transfers {
            return;
        }
        let answer = self.caller.ask("transfer", CALL_WAIT, move |served: Served| async move {
            served.engine.transfer(None).await.map(|_| ())
        });
        if let Err(error) = answer.await {
            self.note("transfer", &error);
            self.rest(&error).await;
        }
    }
}

/// On the node: does it, and tells the auditor what was asked and answered.
async fn carry_out(served: Served, id: TaskId, order: Order) -> Result<(), EngineError> {
    let task = TaskRef::Id(id);
    let subject = Subject::Task(id.as_u64(), order.op);
    let call = served.with(|inner, now_us| {
        if order.op == Op::Delete {
            inner.audit.may_go(id.as_u64());
        }
        inner.audit.asks(now_us, subject)
    });
    let engine = &served.engine;
    let result = match order.op {
        Op::Cancel => engine.cancel(&task).await.map(|_| ()),
        Op::Retry => engine.retry(&task).await.map(|_| ()),
        Op::Postpone => engine.reschedule(&task, RunAt::After(order.delay)).await.map(|_| ()),
        Op::Priority => {
            let priority = Priority::new(order.priority).unwrap_or_default();
            engine.set_priority(&task, priority).await.map(|_| ())
        }
        _ => engine.delete(&task).await,
    };
    served.with(|inner, now_us| inner.audit.told(now_us, &call, told(&result)));
    result
}

//! Simulated clients: each keeps a ledger of what it asked for and what it was told.

mod edit;
mod look;
mod manage;
mod schedule;
mod submit;

use std::{sync::Arc, time::Duration};

use rota_core::{Name, Refusal, Status, TaskId};
use rota_engine::{EngineError, NewTask, TaskView};
use tokio::time::sleep;

use self::edit::Known;
use crate::{
    audit::{Class, Told},
    call::{CallError, Caller},
    machine::WALL_AT_START,
    scenario::{Behaviours, Scenario},
    seed::per_mille,
};

/// A call of a client gets so long.
const CALL_WAIT: Duration = Duration::from_secs(20);
/// Of a thousand things that a client does, so many concern schedules.
const SCHEDULING: u32 = 40;
/// Tasks that a client remembers.
const REMEMBERED: usize = 64;

/// A client.
pub(crate) struct Client {
    caller: Caller,
    rng: fastrand::Rng,
    queues: Arc<[Name]>,
    /// Tells its submissions from those of others.
    number: u64,
    submitted: u64,
    /// Its newest tasks that were accepted.
    tasks: Vec<TaskId>,
    /// Named submissions whose outcome is not known.
    open: Vec<NewTask>,
    /// Those of them that were delayed.
    delayed: Vec<TaskId>,
    /// How many edits it made up, and what it knows of the task that it edited last.
    edited: u64,
    known: Option<Known>,
    pause_ms: u64,
    behaviours: Behaviours,
    /// What it does to schedules is drawn apart.
    schedule_rng: fastrand::Rng,
    schedules: usize,
    /// How many changes of schedules it made up.
    rescheduled: u64,
}

impl Client {
    pub(crate) fn new(
        caller: Caller,
        rng: fastrand::Rng,
        queues: Arc<[Name]>,
        number: u64,
        scenario: &Scenario,
    ) -> Self {
        let mut rng = rng;
        Self {
            schedule_rng: rng.fork(),
            schedules: scenario.schedules,
            rescheduled: 0,
            caller,
            rng,
            queues,
            number,
            submitted: 0,
            tasks: Vec::new(),
            open: Vec::new(),
            delayed: Vec::new(),
            edited: 0,
            known: None,
            pause_ms: scenario.client_pause_ms,
            behaviours: scenario.behaviours,
        }
    }

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
            if self.schedules > 0 && per_mille(&mut self.schedule_rng, SCHEDULING) {
                self.schedule().await;
            } else {
                self.act().await;
            }
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
        self.rest_schedules().await;
    }

    async fn act(&mut self) {
        match self.rng.u32(..1000) {
            0..550 => {
                let mut task = self.new_task();
                self.flood(&mut task);
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
            650..815 => self.look().await,
            815..850 => self.wait().await,
            850..905 => self.manage().await,
            905..982 => self.edit().await,
            982..990 => self.list().await,
            990..993 => {
                let queue = self.queue();
                let paused = self.rng.bool();
                let _ = self.pause(queue, paused).await;
            }
            993..995 => self.drain().await,
            995 => self.transfer().await,
            _ => self.bulk().await,
        }
    }

    fn queue(&mut self) -> Name {
        self.queues[self.rng.usize(..self.queues.len())].clone()
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
        if per_mille(&mut self.rng, 200) {
            // Where others are at work as well.
            let rng = &mut self.rng;
            let some = self.caller.world.lock().audit.histories.some(|count| rng.usize(..count));
            return TaskId::from_u64(some?);
        }
        if self.tasks.is_empty() {
            return None;
        }
        Some(self.tasks[self.rng.usize(..self.tasks.len())])
    }
}

/// What an answer of the engine says was done.
fn told<T>(result: &Result<T, EngineError>) -> Told {
    match result {
        Ok(_) => Told::Done,
        Err(error) => told_by(&CallError::Engine(error.clone())),
    }
}

fn told_by(error: &CallError) -> Told {
    match error {
        CallError::Engine(EngineError::Refused(Refusal::UnknownTask)) => Told::Missing,
        CallError::Engine(EngineError::Refused(Refusal::Illegal(illegal))) => {
            Told::Illegal(class(illegal.from))
        }
        error if error.nothing_changed() => Told::Nothing,
        _ => Told::Unknown,
    }
}

/// The wall clock of a machine whose clock is right.
fn wall(now_us: u64) -> i64 {
    WALL_AT_START + (now_us / 1000).cast_signed()
}

fn of(view: &TaskView) -> Class {
    class(view.status)
}

/// A state in the auditor's terms.
fn class(status: Status) -> Class {
    match status {
        Status::Scheduled | Status::Pending => Class::Waits,
        Status::Assigned | Status::Running => Class::Leased,
        Status::Completed => Class::Ended(4),
        Status::Failed => Class::Ended(5),
        Status::Cancelled => Class::Ended(6),
        Status::Expired => Class::Ended(7),
    }
}

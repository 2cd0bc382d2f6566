//! The state machine: `begin` a step at a given time, `apply` commands, `seal` the step.
//!
//! This file has the parts of the machine, and the only place where a task changes its status
//! (`Machine::advance`). The other files implement the commands: of clients in `submit` and `manage`, of
//! workers in `session` and `report`. `clock` has the effects of time, `restore` loads records, `assign`
//! leases tasks, and `queries` has the reads.

mod assign;
mod clock;
mod command;
mod count;
mod events;
mod finish;
mod ids;
mod index;
mod lane;
mod live;
mod manage;
mod page;
mod policies;
mod queries;
mod reclaim;
mod reply;
mod report;
mod restore;
mod roster;
mod schedules;
mod session;
mod settling;
mod stats;
mod submit;
mod subscription;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use command::{
    AttemptOutcome, Command, Credit, KeyOwner, KeyOwners, OpenSession, PutSchedule, Report, Submit,
};
pub use count::{CountPart, LiveCounts};
pub use events::{Event, Happened, LaneName, PauseEvent, TickEvent};
pub use manage::{Edit, TaskCommand};
pub use page::{LiveFilter, LivePage};
pub use reply::{
    Assignment, Change, Effect, EndReason, LeaseId, Mutation, Refusal, Reply, SessionEnd,
    StopReason, Stored,
};
pub use schedules::{ScheduleStats, ScheduleView, TickOwners};
pub use stats::{MachineStats, QueueCounts, QueueStats, SessionState, SessionStats};
pub use view::{LeaseView, LiveView, Orders, SessionView, Waiting};

use self::{
    clock::Wakes,
    index::{SessionIndex, TaskIndex},
    lane::LaneEntry,
    live::{Admission, Flags, LiveTable, LiveTask},
    policies::PolicyTable,
    roster::Roster,
    schedules::Schedules,
    session::Sessions,
    settling::Settling,
};
use crate::{
    ClientKeys, LeaseEnd, LeaseToken, Millis, MonoTime, Now, Retention, Status, TaskId,
    UnknownFields, WallTime,
    lifecycle::{Action, IllegalTransition, transition},
    sharded::Sharded,
    wheel::Wheel,
};

/// Bounds on what the machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineLimits {
    /// Live tasks in one queue.
    pub queue_length_max: u64,
    /// Different queues.
    pub queues_max: u32,
    /// Different kinds.
    pub kinds_max: u32,
    /// Open sessions.
    pub sessions_max: u32,
    /// Schedules.
    pub schedules_max: u32,
    /// Calendars.
    pub calendars_max: u32,
}

impl Default for MachineLimits {
    fn default() -> Self {
        Self {
            queue_length_max: 20_000_000,
            queues_max: 100_000,
            kinds_max: 100_000,
            sessions_max: 10_000,
            schedules_max: 2_000_000,
            calendars_max: 1_000,
        }
    }
}

/// What one step came to: make the mutations durable as one batch, then perform the effects, in
/// order. Both may be empty.
#[derive(Debug, Default)]
pub struct Step {
    /// Changes to the store, in order.
    pub mutations: Vec<Mutation>,
    /// What to do once they are durable.
    pub effects: Vec<Effect>,
    /// What happened, to be counted once it is durable.
    pub events: Vec<Event>,
    /// Ticks that were decided, to be counted once that is durable.
    pub ticks: Vec<TickEvent>,
    /// Schedules that were paused or resumed.
    pub pauses: Vec<PauseEvent>,
}

/// A worker gets so long after the timeout to end an attempt and report it, before the machine does
/// it without the worker.
pub(crate) const TIMEOUT_GRACE: Millis = Millis::from_secs(10);
/// A worker gets so long to stop a cancelled attempt and say so.
pub(crate) const CANCEL_GRACE: Millis = Millis::from_secs(30);

/// A task's lease.
#[derive(Debug, Clone)]
struct Lease {
    session: SessionIndex,
    token: LeaseToken,
    assigned_at: WallTime,
    /// The session's TTL when it was given.
    session_ttl: Millis,
    started_at: Option<WallTime>,
    /// When the machine ends the attempt by itself.
    deadline: MonoTime,
    progress: Option<Arc<str>>,
}

/// The state of all live tasks, queues and sessions of one coordinator.
///
/// Its caller begins a [step](Machine::begin), applies commands, [seals](Machine::seal) it, makes
/// the mutations durable and then performs the effects. Replies, too, wait until then.
#[derive(Debug)]
pub struct Machine {
    limits: MachineLimits,
    retention: Retention,
    now: Now,
    token: LeaseToken,
    live: LiveTable,
    roster: Roster,
    policies: PolicyTable,
    sessions: Sessions,
    leases: FxHashMap<TaskIndex, Lease>,
    /// Ends of attempts that take too long. A lease whose deadline has moved is woken early and set
    /// again.
    deadlines: Wheel<TaskIndex>,
    /// Ends of backoffs: durations, so by the clock that does not jump.
    backoffs: Sharded<TaskIndex, MonoTime>,
    expiries: Sharded<TaskIndex, WallTime>,
    /// Why the last attempt failed, of tasks that may expire before the next one.
    last_failures: Sharded<TaskIndex, Arc<str>>,
    client_keys: Sharded<TaskIndex, ClientKeys>,
    last_ends: Sharded<TaskIndex, LeaseEnd>,
    /// Live tasks whose records cannot be read: they keep their ids and names, and nothing is done to them.
    unreadable: FxHashSet<TaskId>,
    /// How often clients changed a task; few ever do.
    edits: Sharded<TaskIndex, u32>,
    /// What newer versions wrote into records: few tasks have any.
    unknown: Sharded<TaskIndex, Box<UnknownFields>>,
    /// `run_at` and `expires_at`.
    dates: Wheel<Wakes>,
    /// Ends of backoffs.
    delays: Wheel<TaskIndex>,
    schedules: Schedules,
    /// The nominal times of tasks that ticks created.
    nominals: Sharded<TaskIndex, WallTime>,
    settling: Settling,
    dirty: Vec<TaskIndex>,
    step: Step,
    /// Work was left over for the next step, so as to bound this one.
    unfinished: bool,
}

impl Machine {
    /// A machine without tasks.
    #[must_use]
    pub fn new(limits: MachineLimits, retention: Retention, now: Now) -> Self {
        Self {
            limits,
            retention,
            now,
            token: LeaseToken(0),
            live: LiveTable::default(),
            roster: Roster::default(),
            policies: PolicyTable::default(),
            sessions: Sessions::default(),
            leases: FxHashMap::default(),
            deadlines: Wheel::new(now.mono.0),
            backoffs: Sharded::default(),
            expiries: Sharded::default(),
            last_failures: Sharded::default(),
            client_keys: Sharded::default(),
            last_ends: Sharded::default(),
            unreadable: FxHashSet::default(),
            edits: Sharded::default(),
            unknown: Sharded::default(),
            dates: Wheel::new(clock::date(now.wall)),
            delays: Wheel::new(now.mono.0),
            schedules: Schedules::default(),
            nominals: Sharded::default(),
            settling: Settling::default(),
            dirty: Vec::new(),
            step: Step::default(),
            unfinished: false,
        }
    }

    /// The time that it was last told.
    #[must_use]
    pub fn now(&self) -> Now {
        self.now
    }

    /// Begins a step. `batch` is the number of the batch that will carry its mutations, one more
    /// than that of the last step that had any; leases given in this step carry it as their token.
    ///
    /// A caller that commits batch *n - 1* while it prepares step *n* must have read what it hands
    /// over as [`Stored`] and [`KeyOwners`] after batch *n - 2* was durable.
    pub fn begin(&mut self, now: Now, batch: u64) {
        if self.token != LeaseToken(batch) {
            self.settling.turn();
            self.token = LeaseToken(batch);
        }
        self.set_clock(now);
    }

    /// Carries out one command.
    ///
    /// # Errors
    /// A refused command has changed nothing.
    pub fn apply(&mut self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::Submit(submit) => self.submit(&submit),
            Command::Task { task, command, stored } => self.on_task(task, command, stored),
            Command::PauseQueue { queue, pause } => self.pause_queue(&queue, pause),
            Command::PurgeTick { schedule, first, retain_until } => {
                Ok(self.purge_tick(schedule, first, retain_until))
            }
            Command::PutSchedule(put) => self.put_schedule(*put),
            Command::DeleteSchedule { schedule, if_version } => {
                self.delete_schedule(&schedule, if_version)
            }
            Command::PauseSchedule { schedule, pause } => self.pause_schedule(&schedule, pause),
            Command::SkipTick { schedule, nominal, skip } => {
                self.skip_tick(&schedule, nominal, skip)
            }
            Command::Backfill { schedule, backfill } => self.backfill(&schedule, backfill),
            Command::PutCalendar { record, if_version } => self.put_calendar(*record, if_version),
            Command::DeleteCalendar { calendar, if_version } => {
                self.delete_calendar(&calendar, if_version)
            }
            Command::OpenSession(open) => self.open_session(*open),
            Command::Heartbeat { session, connection, at } => {
                self.heartbeat(session, connection, at)
            }
            Command::SetCredit { session, connection, credit } => {
                self.set_credit(session, connection, credit)
            }
            Command::Detach { session, connection } => self.detach(session, connection),
            Command::Drain { session } => self.drain(session),
            Command::CloseSession { session, connection } => {
                self.close_session(session, connection)
            }
            Command::Report { task, token, report, fingerprint, random, stored } => {
                let end = report.end(token, fingerprint);
                self.report(task, token, report, end, random, stored)
            }
        }
    }

    /// Ends the step: gives what can be given to sessions with room, and hands over what the step
    /// came to.
    pub fn seal(&mut self) -> Step {
        self.drop_void_dispatches();
        self.assign();
        for index in std::mem::take(&mut self.dirty) {
            let changed = self.live.get(index).is_some_and(|task| task.flags.has(Flags::DIRTY));
            if changed {
                self.live.at_mut(index).flags.clear(Flags::DIRTY);
                let record = Box::new(self.record_of(index));
                self.step.mutations.push(Mutation::PutLive(record));
            }
        }
        self.seal_schedules();
        let step = std::mem::take(&mut self.step);
        // The next step is about as large; growing bit by bit would copy all that is there.
        self.step.events.reserve(step.events.len());
        self.step.mutations.reserve(step.mutations.len());
        step
    }

    /// A task that was to be sent again may have ended, or been taken away, later in the step.
    fn drop_void_dispatches(&mut self) {
        let Self { live, leases, step, .. } = self;
        step.effects.retain(|effect| match effect {
            Effect::Dispatch(leased) => live
                .find(leased.task)
                .and_then(|index| leases.get(&index))
                .is_some_and(|lease| lease.token == leased.token),
            _ => true,
        });
    }

    /// Whether there may be waiting tasks for sessions with room: sealing the step gives them.
    #[must_use]
    pub fn has_assignments(&self) -> bool {
        self.roster.is_active()
    }

    /// Tasks that have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        self.live.len()
    }

    /// Makes a task live, as one that waits for its time: the only way into the table. The caller
    /// goes on from there by [`Machine::advance`].
    fn admit(&mut self, admission: Admission<'_>) -> TaskIndex {
        let Admission { id, queue, kind, policy, priority, run_at, .. } = admission;
        let Admission {
            attempt, lost, failures, snoozes, client_keys, expires_at, last_end, ..
        } = admission;
        let narrow = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
        let queue = self.roster.queue(queue);
        let kind = self.roster.kind(kind);
        let lane = self.roster.lane(queue, kind);
        self.roster.add_task(lane);
        self.roster.queues[queue].scheduled += 1;
        let index = self.live.insert(LiveTask {
            id,
            run_at,
            order: 0,
            lane,
            policy: self.policies.take(policy),
            attempt,
            lost: narrow(lost),
            failures: narrow(failures),
            snoozes: narrow(snoozes),
            status: Status::Scheduled,
            priority,
            flags: Flags::default(),
        });
        if !client_keys.is_empty() {
            self.live.at_mut(index).flags.set(Flags::NAMED);
            self.client_keys.insert(index, client_keys.clone());
        }
        if let Some(end) = last_end {
            self.last_ends.insert(index, end);
        }
        if let Some(nominal) = admission.nominal {
            self.nominals.insert(index, nominal);
        }
        if admission.edits > 0 {
            self.edits.insert(index, admission.edits);
        }
        if let Some(unknown) = admission.unknown {
            self.unknown.insert(index, unknown);
        }
        if let Some(expires_at) = expires_at {
            self.set_expiry(index, expires_at);
        }
        index
    }

    /// Moves a task to the state that the table says, and keeps the counts and lanes true to it.
    /// The only place where a live task's state is written.
    fn advance(&mut self, index: TaskIndex, action: Action) -> Result<Status, IllegalTransition> {
        let Self { live, roster, .. } = self;
        let task = live.at_mut(index);
        let from = task.status;
        let to = transition(from, action)?.expect("a live task is not deleted");
        task.status = to;
        let lane = task.lane;
        let queue = &mut roster.queues[roster.lanes[lane].queue];
        for (status, change) in [(from, -1), (to, 1)] {
            let count = match status {
                Status::Scheduled => &mut queue.scheduled,
                Status::Pending => &mut queue.pending,
                Status::Assigned | Status::Running => &mut queue.leased,
                Status::Completed => &mut queue.completed_total,
                Status::Failed => &mut queue.failed_total,
                Status::Cancelled | Status::Expired => continue,
            };
            *count = count.checked_add_signed(change).expect("counts follow the states");
        }
        if to == Status::Pending {
            task.order = roster.enqueue(lane, task.priority, index);
        }
        if from == Status::Pending {
            roster.withdraw(lane, |entry| is_waiting(live, entry));
        }
        Ok(to)
    }

    /// Has the task's record written at the end of the step.
    fn touch(&mut self, index: TaskIndex) {
        let task = self.live.at_mut(index);
        if !task.flags.has(Flags::DIRTY) {
            task.flags.set(Flags::DIRTY);
            self.dirty.push(index);
        }
    }
}

/// Whether the entry is still that of a task which waits in it.
fn is_waiting(live: &LiveTable, entry: LaneEntry) -> bool {
    live.get(entry.task)
        .is_some_and(|task| task.status == Status::Pending && task.order == entry.order)
}

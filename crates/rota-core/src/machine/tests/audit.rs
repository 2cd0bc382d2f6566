//! The auditor: what must hold after every command, every tick and every seal, worked out anew from
//! the tasks themselves and independently of how the machine keeps its books.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Lease, SessionView, Step},
    store::ModelStore,
    world::{World, leases_in},
};
use crate::{
    Action, AttemptOutcome, Command, Effect, EndReason, LeaseToken, Machine, Millis, MonoTime,
    Mutation, Name, Priority, Report, SessionId, Status, TaskCommand, TaskId,
    lifecycle::transition,
};

// ---- who may do what

/// Which tasks an operation may change, and how.
pub(super) struct Scope {
    who: Who,
    moves: &'static [(&'static [Status], &'static [Status])],
    creates: bool,
    removes: bool,
    /// The task goes to the end of its lane although it stays pending.
    requeues: Option<TaskId>,
    sealing: bool,
}

enum Who {
    Nobody,
    Any,
    Only(BTreeSet<TaskId>),
}

const WAITING: &[Status] = &[Status::Scheduled, Status::Pending];
pub(super) const LEASED: &[Status] = &[Status::Assigned, Status::Running];

impl Scope {
    /// A refused command changes nothing.
    pub(super) const NOTHING: Self = Self {
        who: Who::Nobody,
        moves: &[],
        creates: false,
        removes: false,
        requeues: None,
        sealing: false,
    };

    fn new(who: Who, moves: &'static [(&'static [Status], &'static [Status])]) -> Self {
        Self { who, moves, creates: false, removes: false, requeues: None, sealing: false }
    }

    fn only(task: TaskId, moves: &'static [(&'static [Status], &'static [Status])]) -> Self {
        Self::new(Who::Only([task].into()), moves)
    }

    fn of_task(task: TaskId, command: &TaskCommand, world: &World) -> Self {
        use Status as S;
        let requeues =
            |task| Self { requeues: Some(task), ..Self::only(task, &[(WAITING, WAITING)]) };
        match command {
            TaskCommand::Cancel => Self::only(task, &[(WAITING, &[S::Cancelled])]),
            TaskCommand::Retry { .. } => {
                Self::only(task, &[(&[S::Failed, S::Cancelled, S::Expired], &[S::Pending])])
            }
            TaskCommand::Reschedule { .. } => requeues(task),
            TaskCommand::Edit(edit) if edit.run_at.is_some() => requeues(task),
            TaskCommand::SetPriority(_) | TaskCommand::Edit(_) => Self::only(task, &[]),
            TaskCommand::Delete => Self { removes: true, ..Self::only(task, &[]) },
            TaskCommand::Purge => {
                let done = world.newest.done.get(&task);
                let over = done.is_some_and(|done| done.retain_until <= world.now.wall);
                Self { removes: over, ..Self::only(task, &[]) }
            }
        }
    }

    pub(super) fn of(command: &Command, world: &World) -> Self {
        use Status as S;
        match command {
            Command::Submit(submit) => Self { creates: true, ..Self::only(submit.spec.id, &[]) },
            Command::Task { task, command, .. } => Self::of_task(*task, command, world),
            Command::Report { task, report, .. } => Self::only(
                *task,
                match report {
                    Report::Started { .. } => &[(&[S::Assigned], &[S::Running])],
                    Report::Progress { .. } => &[],
                    Report::Released | Report::SetAside => {
                        &[(LEASED, &[S::Pending, S::Expired, S::Cancelled])]
                    }
                    Report::Ended { outcome: AttemptOutcome::Completed { .. }, .. } => {
                        &[(LEASED, &[S::Completed])]
                    }
                    Report::Ended { .. } => &[(
                        LEASED,
                        &[S::Scheduled, S::Pending, S::Failed, S::Cancelled, S::Expired],
                    )],
                },
            ),
            Command::CloseSession { session, .. } => {
                let held = world.snapshot.tasks.iter();
                let held = held.filter(|(_, task)| task.lease.is_some_and(|(s, _)| s == *session));
                Self::new(
                    Who::Only(held.map(|(id, _)| *id).collect()),
                    &[
                        (&[S::Assigned], &[S::Pending, S::Expired, S::Cancelled]),
                        (&[S::Running], &[S::Pending, S::Expired, S::Cancelled, S::Failed]),
                    ],
                )
            }
            Command::PauseQueue { .. }
            | Command::OpenSession(_)
            | Command::Heartbeat { .. }
            | Command::SetCredit { .. }
            | Command::Detach { .. }
            | Command::Drain { .. }
            | Command::PutSchedule(_)
            | Command::DeleteSchedule { .. }
            | Command::PauseSchedule { .. }
            | Command::SkipTick { .. }
            | Command::Backfill { .. }
            | Command::PurgeTick { .. }
            | Command::PutCalendar { .. }
            | Command::DeleteCalendar { .. } => Self::new(Who::Nobody, &[]),
        }
    }

    pub(super) fn tick() -> Self {
        use Status as S;
        Self::new(
            Who::Any,
            &[
                (&[S::Scheduled], &[S::Pending, S::Expired]),
                (&[S::Pending], &[S::Expired]),
                (LEASED, &[S::Scheduled, S::Pending, S::Failed, S::Cancelled, S::Expired]),
            ],
        )
    }

    pub(super) fn seal() -> Self {
        use Status as S;
        let moves = &[(&[S::Pending] as &[_], &[S::Assigned, S::Expired] as &[_])];
        Self { sealing: true, ..Self::new(Who::Any, moves) }
    }

    fn allows(&self, id: TaskId, from: Option<Status>, to: Option<Status>) -> bool {
        let concerned = match &self.who {
            Who::Nobody => false,
            Who::Any => true,
            Who::Only(tasks) => tasks.contains(&id),
        };
        concerned
            && match (from, to) {
                (None, Some(to)) => self.creates && WAITING.contains(&to),
                (Some(from), None) => self.removes && from.is_terminal(),
                (Some(from), Some(to)) => {
                    self.moves.iter().any(|(froms, tos)| froms.contains(&from) && tos.contains(&to))
                }
                (None, None) => false,
            }
    }
}

// ---- what a task looks like from outside

/// All tasks at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    tasks: BTreeMap<TaskId, Seen>,
    moment: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Seen {
    status: Status,
    priority: Priority,
    queue: Name,
    kind: Name,
    lease: Option<(SessionId, LeaseToken)>,
    /// The moment at which it became pending. Those of one moment have no order.
    queued: u64,
}

impl Snapshot {
    fn see(machine: &Machine, store: &ModelStore) -> BTreeMap<TaskId, Seen> {
        let ended = store.done.values().map(|done| {
            let (queue, kind) = (done.queue.clone(), done.kind.clone());
            let (status, priority) = (done.status, done.priority);
            (done.id, Seen { status, priority, queue, kind, lease: None, queued: 0 })
        });
        let live = machine.live.iter().map(|(index, task)| {
            let lane = &machine.roster.lanes[task.lane];
            let lease = machine.leases.get(&index).map(|lease| {
                let session = machine.sessions.at(lease.session);
                (session.id, lease.token)
            });
            let seen = Seen {
                status: task.status,
                priority: task.priority,
                queue: machine.roster.queues[lane.queue].name.clone(),
                kind: machine.roster.kinds[lane.kind].clone(),
                lease,
                queued: 0,
            };
            (task.id, seen)
        });
        let mut tasks: BTreeMap<_, _> = ended.collect();
        for (id, seen) in live {
            assert!(tasks.insert(id, seen).is_none(), "{id} is live and done");
        }
        let known: BTreeSet<_> = tasks.keys().collect();
        assert_eq!(known, store.specs.keys().collect(), "tasks are lost or invented");
        tasks
    }

    pub(super) fn take(
        machine: &Machine,
        store: &ModelStore,
        before: &Self,
        scope: &Scope,
    ) -> Self {
        let moment = before.moment + 1;
        let mut tasks = Self::see(machine, store);
        for (id, seen) in &mut tasks {
            let old = before.tasks.get(id);
            let stays = old.filter(|old| {
                old.status == Status::Pending
                    && old.priority == seen.priority
                    && scope.requeues != Some(*id)
            });
            seen.queued = stays.map_or(moment, |old| old.queued);
        }
        Self { tasks, moment }
    }

    /// A new leader queues what is pending in the order of ids.
    pub(super) fn restored(machine: &Machine, store: &ModelStore) -> Self {
        let mut tasks = Self::see(machine, store);
        for (moment, seen) in (1..).zip(tasks.values_mut()) {
            seen.queued = moment;
        }
        Self { moment: tasks.len() as u64 + 1, tasks }
    }

    pub(super) fn assigned_to(&self, session: SessionId) -> Vec<(TaskId, LeaseToken)> {
        let assigned = self.tasks.iter().filter(|(_, seen)| seen.status == Status::Assigned);
        let leases = assigned.filter_map(|(id, seen)| Some((*id, seen.lease?)));
        leases.filter(|(_, lease)| lease.0 == session).map(|(id, lease)| (id, lease.1)).collect()
    }

    pub(super) fn live_in(&self, queue: &Name) -> u64 {
        let tasks = self.tasks.values();
        tasks.filter(|seen| seen.queue == *queue && !seen.status.is_terminal()).count() as u64
    }
}

/// Checks every change between two moments; returns which tasks were assigned.
pub(super) fn compare(before: &Snapshot, after: &Snapshot, scope: &Scope) -> Vec<TaskId> {
    let ids: BTreeSet<_> = before.tasks.keys().chain(after.tasks.keys()).copied().collect();
    let mut assigned = Vec::new();
    for id in ids {
        let (old, new) = (before.tasks.get(&id), after.tasks.get(&id));
        let (from, to) = (old.map(|seen| seen.status), new.map(|seen| seen.status));
        if from != to {
            assert!(scope.allows(id, from, to), "{id} went from {from:?} to {to:?}");
            assert!(from.is_none_or(|from| reaches(from, to)), "{id}: {from:?} to {to:?}");
        }
        if let (Some(old), Some(new)) = (old, new) {
            assert_eq!((&old.queue, &old.kind), (&new.queue, &new.kind));
            assert_eq!(new.lease.is_some(), new.status.is_leased(), "{id}: {new:?}");
            if old.lease != new.lease && new.lease.is_some() {
                assert_eq!((old.lease, from), (None, Some(Status::Pending)), "{id}: {new:?}");
                assert!(scope.sealing, "{id} was assigned outside a seal");
                assigned.push(id);
            }
        }
    }
    if scope.sealing {
        fifo(after, before, &assigned);
    }
    assigned
}

/// Whether the table leads there in at most three transitions: back off, due, expire.
fn reaches(from: Status, to: Option<Status>) -> bool {
    const ACTIONS: [Action; 14] = [
        Action::Due,
        Action::Assign,
        Action::Start,
        Action::Complete,
        Action::BackOff,
        Action::Fail,
        Action::Requeue,
        Action::Release,
        Action::Cancel,
        Action::Expire,
        Action::Retry,
        Action::Postpone,
        Action::Reprioritize,
        Action::Delete,
    ];
    let mut reached = vec![Some(from)];
    for _ in 0..3 {
        let next: Vec<_> = reached
            .iter()
            .flatten()
            .flat_map(|from| ACTIONS.iter().filter_map(|action| transition(*from, *action).ok()))
            .collect();
        if next.contains(&to) {
            return true;
        }
        reached = next;
    }
    false
}

/// Of one queue and kind, the highest priority goes first, and within it who came first.
fn fifo(after: &Snapshot, before: &Snapshot, assigned: &[TaskId]) {
    for id in assigned {
        let taken = &before.tasks[id];
        for (other, left) in &after.tasks {
            if left.status == Status::Pending
                && (&left.queue, &left.kind) == (&taken.queue, &taken.kind)
            {
                let later = left.priority < taken.priority
                    || (left.priority == taken.priority && left.queued >= taken.queued);
                assert!(later, "{other} was passed over for {id}: {left:?}, {taken:?}");
            }
        }
    }
}

// ---- after each half of a step

/// What is due has been done, and nothing is slept through.
pub(super) fn after_tick(machine: &Machine, sessions: &[SessionView]) {
    let now = machine.now;
    // A wall clock that was set back a little is waited for.
    let behind = machine.dates.now().saturating_sub(u64::try_from(now.wall.0).unwrap());
    let wakeup = machine.next_wakeup();
    if wakeup == Some(Millis(0)) {
        return;
    }
    let mut soonest = u64::MAX;
    for (index, task) in machine.live.iter() {
        let left = match task.status {
            Status::Scheduled => match machine.backoffs.get(index) {
                Some(due) => due.since(now.mono).0,
                None => task.run_at.since(now.wall).0 + behind,
            },
            Status::Pending => u64::MAX,
            _ => overtime(&machine.leases[&index], now.mono),
        };
        assert!(left > 0, "overdue: {task:?} at {now:?}");
        soonest = soonest.min(left);
        if let (false, Some(date)) = (task.status.is_leased(), machine.expiries.get(index)) {
            let left = date.since(now.wall).0 + behind;
            assert!(left > 0, "should have expired: {task:?} at {now:?}");
            soonest = soonest.min(left);
        }
    }
    for (_, session) in machine.sessions.iter() {
        let left = (session.heard_at + session.ttl).since(now.mono).0;
        assert!(left > 0, "session {} is silent for too long", session.id);
        soonest = soonest.min(left);
    }
    if soonest < u64::MAX {
        assert!(wakeup.is_some_and(|wakeup| wakeup.0 <= soonest), "{wakeup:?}, due in {soonest}");
    }
    for old in sessions {
        let ended = machine.session(old.id).is_none();
        let silent = machine.step.effects.iter().any(|effect| match effect {
            Effect::SessionEnded(end) => (end.session, end.reason) == (old.id, EndReason::Expired),
            _ => false,
        });
        assert_eq!(ended, silent, "{old:?}");
    }
}

/// Overdue leases are looked for once a second.
fn overtime(lease: &Lease, now: MonoTime) -> u64 {
    (lease.deadline + Millis(1001)).since(now).0
}

/// Effects say what the records say, tokens grow, and nobody idles while there is something to do.
pub(super) fn after_seal(world: &World, step: &Step, assigned: &[TaskId]) {
    let machine = &world.machine;
    let leases = leases_in(&step.mutations);
    let token = LeaseToken(world.batch);
    let new: BTreeSet<_> = assigned.iter().copied().collect();
    let written: BTreeSet<_> =
        leases.iter().filter(|(_, (_, t))| *t == token).map(|(id, _)| *id).collect();
    assert_eq!(written, new, "what is assigned is written, with this batch's token");
    let mut dispatched = BTreeSet::new();
    let mut finished = BTreeMap::new();
    for effect in &step.effects {
        match effect {
            Effect::Dispatch(leased) => {
                if leased.token == token {
                    assert!(dispatched.insert(leased.task), "dispatched twice");
                    assert_eq!(leases[&leased.task], (leased.session, leased.token));
                    let earlier = world.leases.iter().filter(|old| old.task == leased.task);
                    assert!(earlier.clone().all(|old| old.token < token), "tokens grow");
                }
                let view = machine.task(leased.task).expect("what is dispatched is live");
                let lease = view.lease.expect("and leased");
                assert_eq!((lease.session, lease.token), (leased.session, leased.token));
                assert_eq!(view.attempt, leased.attempt);
            }
            Effect::Finished { task, status } => {
                finished.insert(*task, *status);
            }
            _ => {}
        }
    }
    assert_eq!(dispatched, new, "what is assigned is dispatched");
    let ended: BTreeMap<_, _> = step
        .mutations
        .iter()
        .filter_map(|mutation| match mutation {
            Mutation::PutDone(done) => Some((done.id, done.status)),
            _ => None,
        })
        .collect();
    assert_eq!(finished, ended, "who waits for an end is told of it");
    if machine.next_wakeup() != Some(Millis(0)) {
        nobody_idles(machine);
    }
}

fn nobody_idles(machine: &Machine) {
    for session in machine.sessions() {
        let most = match session.credit {
            crate::Credit::Hold(most) => most.min(session.slots),
            crate::Credit::Take(0) => 0,
            crate::Credit::Take(_) => {
                let index = machine.sessions.find(session.id).expect("it is open");
                machine.sessions.at(index).slots
            }
        };
        if session.draining || session.awaited || session.held >= most {
            continue;
        }
        for (_, task) in machine.live.iter() {
            let lane = &machine.roster.lanes[task.lane];
            let queue = &machine.roster.queues[lane.queue];
            let kind = &machine.roster.kinds[lane.kind];
            let serves = |set: &[Name], name: &Name| set.is_empty() || set.contains(name);
            let could = task.status == Status::Pending
                && !queue.paused
                && serves(&session.queues, &queue.name)
                && serves(&session.kinds, kind);
            assert!(!could, "{session:?} idles while {task:?} waits");
        }
    }
}

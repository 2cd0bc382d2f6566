//! Effects of time: tasks become due, expire or time out, and sessions end.

use super::{
    Effect, EndReason, Flags, Happened, Machine, StopReason, TaskIndex,
    index::{ScheduleIndex, SessionIndex},
    live::AttemptEnd,
    session::Session,
};
use crate::{
    Failure, FailureReason, Millis, MonoTime, Now, Status, WallTime, lifecycle::Action,
    wheel::Wheel,
};

/// Maximum number of timers that fire, and of tasks that lose their lease, in one step, so that batches stay
/// small. The tasks of one session can exceed it.
const FIRED_MAX: usize = 4096;
/// How far the wall clock can be set back before all timers are set again.
const SET_BACK_TOLERATED: u64 = 1000;
/// Number of idle timers that are tolerated, in addition to four for each task.
const IDLE_TIMERS: usize = 100_000;

/// The target of a wall-clock timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wakes {
    /// A task that is due, or that expires.
    Task(TaskIndex),
    /// A schedule with a tick that is due.
    Schedule(ScheduleIndex),
}

/// A date in the units of the wheel.
pub(super) fn date(time: WallTime) -> u64 {
    u64::try_from(time.0).unwrap_or(0)
}

/// Whether there are so many timers that rebuilding those of this many tasks is worth it.
fn are_mostly_idle(timers: usize, tasks: usize) -> bool {
    timers > 4 * tasks + IDLE_TIMERS
}

impl Machine {
    /// How long the caller can wait for commands before it begins the next step. `None` means forever.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Millis> {
        if self.unfinished {
            return Some(Millis(0));
        }
        let until = |due: u64, now: u64| Millis(due.saturating_sub(now));
        let moment = |due: MonoTime| (due.0 < u64::MAX).then(|| due.since(self.now.mono));
        [
            self.dates.next_deadline().map(|due| until(due, date(self.now.wall))),
            self.delays.next_deadline().map(|due| until(due, self.now.mono.0)),
            self.deadlines.next_deadline().map(|due| until(due, self.now.mono.0)),
            moment(self.sessions.due),
            self.schedules.wait(self.now.mono),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Processes timers that are due. Call it once in a step, before or after the commands.
    ///
    /// All messages that workers sent before `heard` have been applied. Timeouts of sessions and attempts are
    /// judged by that moment, so a message that was sent in time counts even if the caller processed it late.
    pub fn tick(&mut self, heard: MonoTime) {
        self.unfinished = false;
        let heard = heard.min(self.now.mono);
        self.end_silent_sessions(heard);
        self.end_overdue_leases(heard);
        let mut reached = Vec::new();
        self.dates.advance(date(self.now.wall), FIRED_MAX, &mut reached);
        for wakes in reached {
            match wakes {
                Wakes::Task(index) => self.date_reached(index),
                Wakes::Schedule(index) => {
                    self.schedules.timer_fired(index, date(self.now.wall));
                }
            }
        }
        let mut over = Vec::new();
        self.delays.advance(self.now.mono.0, FIRED_MAX, &mut over);
        for index in over {
            let due = self.backoffs.get(index).copied();
            if let Some(due) = due.filter(|due| *due <= self.now.mono) {
                self.note(index, Happened::Due { late: self.now.mono.since(due) });
                self.make_due(index);
            }
        }
        self.drop_idle_timers();
    }

    pub(super) fn set_clock(&mut self, now: Now) {
        self.now = Now { wall: now.wall, mono: self.now.mono.max(now.mono) };
        if date(now.wall) + SET_BACK_TOLERATED < self.dates.now() {
            self.set_timers_anew();
        }
    }

    /// Rebuilds the timers: only those that are needed. After the wall clock was set back, other timers are
    /// due than before.
    fn set_timers_anew(&mut self) {
        self.dates = Wheel::new(date(self.now.wall));
        for (index, task) in self.live.iter() {
            if task.status == Status::Scheduled && !self.backoffs.contains(index) {
                self.dates.insert(date(task.run_at), Wakes::Task(index));
            }
        }
        for (index, expires_at) in self.expiries.iter() {
            self.dates.insert(date(*expires_at), Wakes::Task(index));
        }
        self.arm_schedules();
    }

    /// Processes a wall-clock timer. The index may be vacant or belong to another task by now, so this checks
    /// what the task at the index needs now.
    fn date_reached(&mut self, index: TaskIndex) {
        if self.live.get(index).is_none() {
            return;
        }
        if self.expire_if_over(index) {
            return;
        }
        let task = self.live.at(index);
        if task.status == Status::Scheduled
            && task.run_at <= self.now.wall
            && !self.backoffs.contains(index)
        {
            let late = self.now.wall.since(task.run_at);
            self.note(index, Happened::Due { late });
            self.make_due(index);
        }
    }

    /// Makes a scheduled task due. Nothing is written, because its record has the due time.
    pub(super) fn make_due(&mut self, index: TaskIndex) {
        self.backoffs.remove(index);
        let flags = &mut self.live.at_mut(index).flags;
        flags.clear(Flags::BACKING_OFF);
        flags.clear(Flags::SNOOZED);
        flags.clear(Flags::CAME_BACK);
        self.advance(index, Action::Due).expect("the caller found it scheduled");
    }

    fn end_silent_sessions(&mut self, heard: MonoTime) {
        if heard < self.sessions.due {
            return;
        }
        let ends =
            |(index, session): (SessionIndex, &Session)| (session.heard_at + session.ttl, index);
        let mut by_end: Vec<_> = self.sessions.iter().map(ends).collect();
        by_end.sort_unstable();
        let silent = by_end.partition_point(|(end, _)| *end <= heard);
        self.sessions.due = by_end.get(silent).map_or(MonoTime(u64::MAX), |(end, _)| *end);
        let mut tasks = 0;
        for (end, index) in &by_end[..silent] {
            if tasks >= FIRED_MAX {
                self.sessions.due = *end;
                return;
            }
            tasks += self.sessions.at(*index).tasks.len();
            self.end_session(*index, EndReason::Expired);
        }
    }

    /// Processes the timer of a lease. The lease may have ended, or got more time.
    fn end_overdue_leases(&mut self, heard: MonoTime) {
        let mut fired = Vec::new();
        self.deadlines.advance(heard.0, FIRED_MAX, &mut fired);
        for index in fired {
            match self.leases.get(&index).map(|lease| lease.deadline) {
                Some(deadline) if deadline <= heard => self.end_overdue_lease(index),
                Some(deadline) => self.deadlines.insert(deadline.0, index),
                None => {}
            }
        }
    }

    fn end_overdue_lease(&mut self, index: TaskIndex) {
        let lease = &self.leases[&index];
        let task = self.live.at(index);
        self.step.effects.push(Effect::Stop {
            session: self.sessions.at(lease.session).id,
            task: task.id,
            token: lease.token,
            reason: StopReason::Timeout,
        });
        if task.flags.has(Flags::CANCEL_REQUESTED) {
            let message = "cancelled; the worker did not confirm that it stopped";
            let failure = Failure::new(FailureReason::Cancelled, message);
            self.finish(index, Action::Cancel, Some(failure), Some(AttemptEnd::default()));
            return;
        }
        let timeout = self.policies.at(task.policy).timeout;
        let message = format!(
            "the worker did not report an end within the timeout of {timeout} and a grace period"
        );
        let failure = Failure::new(FailureReason::Timeout, &message);
        // A simple value spreads the delays well enough, because few tasks time out at once here.
        let random = task.id.as_u64().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.fail_attempt(index, failure, None, AttemptEnd::default(), random);
    }

    fn drop_idle_timers(&mut self) {
        if are_mostly_idle(self.dates.len(), self.live.len() + self.schedules.len()) {
            self.set_timers_anew();
        }
        if are_mostly_idle(self.deadlines.len(), self.leases.len()) {
            // The time of the wheel, not now: later messages of workers may not have been applied yet.
            self.deadlines = Wheel::new(self.deadlines.now());
            let mut deadlines: Vec<_> =
                self.leases.iter().map(|(index, lease)| (lease.deadline, *index)).collect();
            deadlines.sort_unstable();
            for (deadline, index) in deadlines {
                self.deadlines.insert(deadline.0, index);
            }
        }
        if are_mostly_idle(self.delays.len(), self.backoffs.len()) {
            self.delays = Wheel::new(self.now.mono.0);
            for (index, due) in self.backoffs.iter() {
                self.delays.insert(due.0, index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_idle_timers_are_tolerated_and_more_beside_many_tasks() {
        for (timers, tasks, mostly_idle) in [
            (0, 0, false),
            (100_000, 0, false),
            (100_001, 0, true),
            (100_012, 3, false),
            (100_013, 3, true),
            (4_100_000, 1_000_000, false),
            (4_100_001, 1_000_000, true),
        ] {
            assert_eq!(are_mostly_idle(timers, tasks), mostly_idle, "{timers} for {tasks}");
        }
    }
}

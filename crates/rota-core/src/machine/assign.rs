//! Assigns waiting tasks to sessions at the end of each step.

use super::{
    Assignment, Credit, Effect, Happened, Lease, Machine, TIMEOUT_GRACE, TaskIndex,
    index::{SessionIndex, SubscriptionIndex},
};
use crate::lifecycle::Action;

/// Maximum number of assignments in one step, so that batches stay small.
const ASSIGNMENTS_MAX: usize = 4096;

impl Machine {
    /// Leases waiting tasks to sessions with free slots. Subscriptions, queues and sessions each take turns.
    pub(super) fn assign(&mut self) {
        for _ in 0..ASSIGNMENTS_MAX {
            let Some(subscription) = self.roster.next_active() else { return };
            self.assign_one(subscription);
        }
        self.unfinished |= self.roster.is_active();
    }

    /// Leases one task to one session of the subscription, if it has both. Then the queue, the session and
    /// the subscription go to the end of their rings. A session that got nothing keeps its place.
    fn assign_one(&mut self, subscription: SubscriptionIndex) {
        let Some(session) = self.next_idle(subscription) else { return };
        while let Some(queue) = self.roster.next_ready(subscription) {
            if self.roster.queues[queue].paused {
                continue;
            }
            let Some(task) = self.roster.first(subscription, queue) else { continue };
            self.roster.note_ready(subscription, queue);
            if !self.may_start(task) {
                break;
            }
            self.roster.note_served(self.live.at(task).lane, subscription);
            self.lease(task, session);
            self.note_idle(session);
            return;
        }
        self.roster.keep_turn(subscription, session);
    }

    /// The last check between a task's turn and its lease. A task that does not pass has left its lane.
    fn may_start(&mut self, task: TaskIndex) -> bool {
        !self.expire_if_over(task)
    }

    /// The session whose turn it is, if one has a free slot.
    fn next_idle(&mut self, subscription: SubscriptionIndex) -> Option<SessionIndex> {
        while let Some(index) = self.roster.next_idle(subscription) {
            let session = self.sessions.get_mut(index);
            if session.is_some_and(|held| held.subscription == subscription && held.has_room()) {
                return Some(index);
            }
        }
        None
    }

    fn lease(&mut self, index: TaskIndex, session: SessionIndex) {
        self.advance(index, Action::Assign).expect("what a lane holds is pending");
        let waited = self.waited(index);
        self.note(index, Happened::Started { waited });
        let task = self.live.at_mut(index);
        task.attempt += 1;
        let held = self.sessions.at_mut(session);
        held.tasks.insert(index);
        if let Credit::Take(left) = &mut held.credit {
            *left -= 1;
        }
        let deadline = self.now.mono + self.policies.at(task.policy).timeout + TIMEOUT_GRACE;
        self.deadlines.insert(deadline.0, index);
        let assignment = Assignment {
            session: held.id,
            task: task.id,
            token: self.token,
            attempt: task.attempt,
            run_at: task.run_at,
        };
        let lease = Lease {
            session,
            token: self.token,
            assigned_at: self.now.wall,
            session_ttl: held.ttl,
            started_at: None,
            deadline,
            progress: None,
        };
        self.leases.insert(index, lease);
        self.touch(index);
        self.step.effects.push(Effect::Dispatch(assignment));
    }
}

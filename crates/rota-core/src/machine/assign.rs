//! Who gets what: the roster's turn of the handle at the end of each step.

use super::{
    Credit, Effect, Lease, Leased, Machine, TIMEOUT_GRACE, TaskIndex, is_waiting,
    roster::{SessionIndex, SubscriptionIndex},
};
use crate::lifecycle::Action;

/// Assignments in one step at most, so that a batch stays small and others get their turn.
const ASSIGNMENTS_MAX: usize = 4096;

impl Machine {
    /// Gives waiting tasks to sessions with room: subscriptions, queues and sessions each in turn.
    pub(super) fn assign(&mut self) {
        let mut left = ASSIGNMENTS_MAX;
        let subscriptions = self.roster.subscriptions.len();
        loop {
            let mut given = false;
            for subscription in 0..subscriptions {
                let subscription =
                    SubscriptionIndex::try_from(subscription).expect("indices are 32 bits wide");
                if left == 0 {
                    self.unfinished = true;
                    return;
                }
                if self.assign_one(subscription) {
                    given = true;
                    left -= 1;
                }
            }
            if !given {
                return;
            }
        }
    }

    /// Gives one task to one session of the subscription, if there are both.
    fn assign_one(&mut self, subscription: SubscriptionIndex) -> bool {
        let Some(session) = self.next_idle(subscription) else { return false };
        loop {
            let serves = &mut self.roster.subscriptions[subscription as usize];
            let Some(queue) = serves.next_ready() else { return false };
            if self.roster.queues[queue as usize].paused {
                continue;
            }
            let Self { roster, live, .. } = self;
            let task = roster.dequeue(subscription, queue, |place| is_waiting(live, place));
            if let Some(task) = task {
                self.roster.subscriptions[subscription as usize].note_ready(queue);
                self.lease(task, session);
                self.rotate_idle(subscription);
                return true;
            }
        }
    }

    /// The session whose turn it is, if one has room. It keeps its turn.
    fn next_idle(&mut self, subscription: SubscriptionIndex) -> Option<SessionIndex> {
        let idle = &mut self.roster.subscriptions[subscription as usize].idle;
        while let Some(session) = idle.front() {
            match self.sessions.get_mut(*session) {
                Some(held) if held.subscription == subscription && held.has_room() => {
                    return Some(*session);
                }
                Some(held) if held.subscription == subscription => held.in_idle = false,
                _ => {}
            }
            idle.pop_front();
        }
        None
    }

    fn rotate_idle(&mut self, subscription: SubscriptionIndex) {
        self.roster.subscriptions[subscription as usize].idle.rotate_left(1);
    }

    fn lease(&mut self, index: TaskIndex, session: SessionIndex) {
        self.advance(index, Action::Assign).expect("what a lane holds is pending");
        let task = self.live.at_mut(index);
        task.attempt += 1;
        let held = self.sessions.at_mut(session);
        held.tasks.insert(index);
        if let Credit::Take(left) = &mut held.credit {
            *left -= 1;
        }
        let deadline = self.now.mono + self.policies.at(task.policy).timeout + TIMEOUT_GRACE;
        self.leases_due = self.leases_due.min(deadline);
        let leased = Leased {
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
            started_at: None,
            deadline,
            progress: None,
        };
        self.leases.insert(index, lease);
        self.touch(index);
        self.step.effects.push(Effect::Dispatch(leased));
    }
}

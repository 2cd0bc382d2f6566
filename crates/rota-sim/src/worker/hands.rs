//! What a worker has in hand: tasks that run and reports that wait to be acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use rota_core::{AttemptOutcome, LeaseId, Report, StopReason, WallTime};
use rota_engine::Dispatched;
use rustc_hash::FxHashSet;
use tokio::time::Instant;

use super::{ended, outcome};
use crate::seed::per_mille;

/// Reports in one call.
const REPORTS_MAX: usize = 200;
/// Leases that ended and are remembered.
const ENDED_MAX: usize = 4096;

/// A task that runs.
struct Running {
    ends_at: Instant,
    lease: LeaseId,
    tag: u64,
    due: WallTime,
}

/// What a worker has in hand.
pub(super) struct Hands {
    rng: fastrand::Rng,
    /// Of a thousand attempts, so many are snoozed.
    pub(super) snoozes: u32,
    running: BTreeMap<u64, Running>,
    outbox: Vec<(LeaseId, Report)>,
    /// Leases whose end was acknowledged, oldest first.
    ended: VecDeque<LeaseId>,
    known: FxHashSet<LeaseId>,
}

impl Hands {
    pub(super) fn new(rng: fastrand::Rng) -> Self {
        Self {
            rng,
            snoozes: 0,
            running: BTreeMap::new(),
            outbox: Vec::new(),
            ended: VecDeque::new(),
            known: FxHashSet::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.outbox.is_empty()
    }

    /// How many tasks it has not told the end of.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.held().len()).unwrap_or(u32::MAX)
    }

    /// The leases that it has.
    pub(super) fn held(&self) -> Vec<LeaseId> {
        let mut held: Vec<_> = self.running.values().map(|task| task.lease).collect();
        held.extend(self.outbox.iter().map(|(lease, _)| *lease));
        held.sort_unstable_by_key(|lease| (lease.task, lease.token));
        held.dedup();
        held
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.running.values().map(|task| task.ends_at).min()
    }

    /// Begins a task. False: it had that lease before.
    pub(super) fn begin(&mut self, task: &Dispatched) -> bool {
        let lease = LeaseId { task: task.spec.id, token: task.token };
        let id = lease.task.as_u64();
        let runs = self.running.get(&id).is_some_and(|task| task.lease == lease);
        if runs || self.known.contains(&lease) || self.outbox.iter().any(|(one, _)| *one == lease) {
            return false;
        }
        let takes = if per_mille(&mut self.rng, 15) {
            Duration::from_millis(self.rng.u64(1000..8000))
        } else {
            Duration::from_millis(self.rng.u64(0..60))
        };
        let tag = crate::audit::tag_of(&task.spec.definition.payload).unwrap_or_default();
        let ends_at = Instant::now() + takes;
        self.running.insert(id, Running { ends_at, lease, tag, due: task.run_at });
        if takes > Duration::from_millis(40) {
            self.outbox.push((lease, Report::Started { at: task.run_at }));
        }
        true
    }

    /// Lets go of a lease. Says whether it ran.
    pub(super) fn drop_task(&mut self, lease: LeaseId) -> bool {
        let id = lease.task.as_u64();
        let had = self.running.get(&id).is_some_and(|task| task.lease == lease);
        if had {
            self.running.remove(&id);
        }
        self.outbox.retain(|(other, _)| *other != lease);
        had
    }

    /// It is told to stop a task.
    pub(super) fn stop(&mut self, lease: LeaseId, reason: StopReason) {
        let runs = self.running.get(&lease.task.as_u64()).is_some_and(|task| task.lease == lease);
        if reason != StopReason::Cancelled {
            self.drop_task(lease);
        } else if runs {
            self.drop_task(lease);
            self.outbox.push((lease, ended(AttemptOutcome::Cancelled)));
        }
    }

    /// Ends the tasks whose time is over. Says how many.
    pub(super) fn end_due(&mut self) -> usize {
        let now = Instant::now();
        let due = |(id, task): (&u64, &Running)| (task.ends_at <= now).then_some(*id);
        let due: Vec<_> = self.running.iter().filter_map(due).collect();
        let count = due.len();
        for id in due {
            let Some(task) = self.running.remove(&id) else { continue };
            let report = outcome(&mut self.rng, task.tag, self.snoozes, task.due);
            self.outbox.push((task.lease, report));
        }
        count
    }

    /// The reports that are to be sent now. What is not answered is sent again.
    pub(super) fn reports(&self) -> Vec<(LeaseId, Report)> {
        self.outbox.iter().take(REPORTS_MAX).cloned().collect()
    }

    /// The first so many reports were acknowledged.
    pub(super) fn reported(&mut self, count: usize) {
        for (lease, report) in self.outbox.drain(..count) {
            if matches!(report, Report::Ended { .. } | Report::Released) {
                if self.ended.len() == ENDED_MAX {
                    let oldest = self.ended.pop_front();
                    oldest.map(|oldest| self.known.remove(&oldest));
                }
                self.ended.push_back(lease);
                self.known.insert(lease);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.outbox.clear();
    }
}

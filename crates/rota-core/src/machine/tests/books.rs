//! The machine's own books, counted anew from the tasks and compared with the store.

use std::collections::BTreeSet;

use super::{
    super::{Flags, TaskIndex, is_waiting, live::LiveTask},
    audit::LEASED,
    store::ModelStore,
    world::World,
};
use crate::{LiveRecord, Machine, Status};

/// Counts everything anew.
pub(super) fn recount(machine: &Machine) {
    let live: Vec<_> = machine.live.iter().collect();
    assert_eq!(live.len(), machine.live.len());
    for (index, task) in &live {
        assert_eq!(machine.live.find(task.id), Some(*index));
        recount_task(machine, *index, task);
    }
    let sides = [
        machine.leases.keys().copied().collect::<Vec<_>>(),
        machine.backoffs.iter().map(|(index, _)| index).collect(),
        machine.expiries.iter().map(|(index, _)| index).collect(),
        machine.client_keys.iter().map(|(index, _)| index).collect(),
        machine.last_ends.iter().map(|(index, _)| index).collect(),
    ];
    for (which, side) in sides.iter().enumerate() {
        for index in side {
            assert!(machine.live.get(*index).is_some(), "side map {which} kept an ended task");
        }
    }
    recount_queues(machine, &live);
    recount_sessions(machine);
}

fn recount_task(machine: &Machine, index: TaskIndex, task: &LiveTask) {
    let has = |flag| task.flags.has(flag);
    assert_eq!(machine.expiries.contains(index), has(Flags::EXPIRES));
    assert_eq!(machine.client_keys.contains(index), has(Flags::NAMED));
    assert_eq!(machine.leases.contains_key(&index), task.status.is_leased());
    if has(Flags::BACKING_OFF) || machine.backoffs.contains(index) {
        assert!(has(Flags::BACKING_OFF) && task.status == Status::Scheduled, "{task:?}");
    }
    assert!(!has(Flags::CANCEL_REQUESTED) || task.status.is_leased(), "{task:?}");
}

fn recount_queues(machine: &Machine, live: &[(TaskIndex, &LiveTask)]) {
    let roster = &machine.roster;
    for (at, queue) in roster.queues.iter() {
        let of = |statuses: &[Status]| {
            let here = live.iter().filter(|(_, task)| {
                roster.lanes[task.lane].queue == at && statuses.contains(&task.status)
            });
            here.count() as u64
        };
        assert_eq!(queue.scheduled, of(&[Status::Scheduled]), "{}", queue.name);
        assert_eq!(queue.pending, of(&[Status::Pending]), "{}", queue.name);
        assert_eq!(queue.leased, of(LEASED), "{}", queue.name);
    }
    for (at, lane) in roster.lanes.iter() {
        let here = |task: &LiveTask| task.lane == at;
        let waiting: Vec<_> = live
            .iter()
            .filter(|(_, task)| here(task) && task.status == Status::Pending)
            .map(|(index, _)| *index)
            .collect();
        assert_eq!(lane.waiting, waiting.len() as u64);
        let mut placed = Vec::new();
        for (priority, entries) in &lane.levels {
            let mut last = 0;
            for entry in entries.iter() {
                assert!(entry.order > last, "entries are in order");
                last = entry.order;
                if is_waiting(&machine.live, *entry) {
                    assert_eq!(machine.live.at(entry.task).priority, *priority);
                    placed.push(entry.task);
                }
            }
        }
        placed.sort_unstable();
        assert_eq!(placed, waiting, "each pending task has one entry");
        let tasks = live.iter().filter(|(_, task)| here(task)).count();
        assert_eq!(lane.tasks, tasks as u64);
        assert!(lane.levels.iter().all(|(_, entries)| {
            entries.front().is_none_or(|entry| is_waiting(&machine.live, *entry))
        }));
        assert_eq!(lane.head, lane.first().map(|(turn, _)| turn));
        let entry = lane.head.and_then(|head| roster.queues[lane.queue].heads.get(&head));
        assert_eq!(entry.is_some(), !waiting.is_empty());
        assert!(entry.is_none_or(|entry| *entry == at));
        let indexed = roster.lane_index.get(&(lane.queue, lane.kind)) == Some(&at);
        assert!(indexed || tasks == 0, "a lane with tasks was dropped");
        if indexed {
            let serve = roster.subscriptions.iter();
            let serve =
                serve.filter(|(_, subscription)| subscription.serves(lane.queue, lane.kind));
            let serve: BTreeSet<_> = serve.map(|(index, _)| index).collect();
            assert_eq!(serve, lane.subscriptions.iter().copied().collect());
            assert_eq!(serve.len(), lane.subscriptions.len(), "each once");
        }
    }
    for queue in roster.queue_index.values() {
        let queue = &roster.queues[*queue];
        assert!(roster.find_queue(&queue.name).is_some());
        assert!(queue.heads.len() <= queue.lanes.len());
    }
    let idle = roster.lane_index.values().filter(|lane| roster.lanes[**lane].tasks == 0);
    assert_eq!(roster.idle_lanes, idle.count());
}

fn recount_sessions(machine: &Machine) {
    for (index, session) in machine.sessions.iter() {
        let leased: BTreeSet<_> = machine
            .leases
            .iter()
            .filter(|(_, lease)| lease.session == index)
            .map(|(task, _)| *task)
            .collect();
        assert_eq!(leased, session.tasks.iter().copied().collect(), "{}", session.id);
    }
    for lease in machine.leases.values() {
        machine.sessions.at(lease.session);
    }
    for (at, subscription) in machine.roster.subscriptions.iter() {
        let serving = machine.sessions.iter().filter(|(_, session)| {
            session.subscription == at && !session.draining && !session.awaited
        });
        assert_eq!(subscription.serving as usize, serving.count());
        let resting = machine
            .sessions
            .iter()
            .filter(|(_, session)| session.subscription == at && session.rests());
        assert_eq!(subscription.resting as usize, resting.count());
        let open = machine.sessions.iter().filter(|(_, open)| open.subscription == at);
        assert_eq!(subscription.sessions as usize, open.count());
    }
}

/// What the store would have says what the machine holds, and a machine made from it is the same.
pub(super) fn store_is_true(world: &World, landed: &ModelStore) {
    let machine = &world.machine;
    assert_eq!(machine.live.len(), landed.live.len());
    let twin = world.restored_from_newest();
    recount(&twin);
    for (index, task) in machine.live.iter() {
        let held = machine.record_of(index);
        let kept = &landed.live[&task.id];
        same(&held, kept);
        let twin_index = twin.live.find(task.id).expect("restored");
        same(&twin.record_of(twin_index), kept);
    }
    for session in twin.sessions() {
        let original = machine.session(session.id).expect("who has a lease is open");
        assert_eq!(session.held, original.held);
        assert!(session.awaited);
    }
}

/// Equal but for what is concluded from dates: whether it is due, whether it still backs off or snoozes.
fn same(held: &LiveRecord, kept: &LiveRecord) {
    let timeless = |record: &LiveRecord| LiveRecord {
        status: if record.status == Status::Pending { Status::Scheduled } else { record.status },
        backing_off: false,
        snoozed: false,
        ..record.clone()
    };
    assert_eq!(timeless(held), timeless(kept));
    assert!(kept.snoozed || !held.snoozed, "{held:?} is not what is kept: {kept:?}");
    assert!(kept.backing_off || !held.backing_off, "{held:?} is not what is kept: {kept:?}");
}

impl Machine {
    /// Nothing is kept of tasks that ended.
    pub(super) fn assert_no_leftovers(&self) {
        assert_eq!(self.live.len(), 0);
        assert!(self.leases.is_empty() && self.dirty.is_empty());
        let sides = [
            self.backoffs.len(),
            self.expiries.len(),
            self.client_keys.len(),
            self.last_ends.len(),
            self.last_failures.len(),
            self.unknown.len(),
        ];
        assert_eq!(sides, [0; 6]);
        assert!(self.policies.is_empty(), "a policy is still counted");
        for lane in self.roster.lanes.values() {
            let entries: usize = lane.levels.iter().map(|(_, entries)| entries.len()).sum();
            assert!(entries <= 64, "{entries} void entries");
        }
    }
}

//! Carries out the plan: begins faults, and ends them.

use crate::{
    audit::SetWhile,
    machine::Running,
    plan::{Fault, Planned, Ways},
    run::{Run, store_place},
    store::depose,
    world::{Endpoint, Inner, Latency},
};

/// How slow a slow network is.
const SLOW: Latency = Latency { min_us: 20_000, max_us: 150_000 };
/// What is wrong with machines and the network may cost leases for so long after its end.
const AFTERMATH_US: u64 = 30_000_000;
const DAY_MS: i64 = 24 * 3_600_000;
/// Bytes of payloads in a flood: more than a step may take, and not too much for the machine that simulates.
const FLOOD_BYTES: usize = 48 << 20;
/// Answers lost of a thousand.
const LOSES_ANSWERS: u32 = 200;
const LOSES_REQUESTS: u32 = 100;

impl Run {
    /// Begins and ends what is due.
    pub(crate) fn work_plan(&mut self) {
        let now_us = self.now_us;
        let mut at = 0;
        while at < self.ongoing.len() {
            if self.ongoing[at].0 <= now_us {
                let (_, planned) = self.ongoing.remove(at);
                self.end(planned.fault);
            } else {
                at += 1;
            }
        }
        while let Some(planned) = self.next_fault
            && planned.at_us <= now_us
        {
            self.next_fault = self.plan.next();
            self.begin(planned);
        }
    }

    /// Ends all faults, and begins no more.
    pub(crate) fn heal_all(&mut self) {
        self.next_fault = None;
        for (_, planned) in std::mem::take(&mut self.ongoing) {
            self.end(planned.fault);
        }
        let mut inner = self.world.lock();
        inner.net.cut.clear();
        inner.note(format_args!("healed"));
    }

    fn begin(&mut self, planned: Planned) {
        let leader = self.world.lock().store.leader_place().map_or(0, |endpoint| endpoint.0 - 1);
        let planned = Planned { fault: planned.fault.aimed(self.nodes(), leader), ..planned };
        let Planned { fault, for_us, .. } = planned;
        self.world.lock().note(format_args!("fault {fault:?} for {for_us}"));
        self.begun.push(planned);
        let until_us = self.now_us + for_us;
        self.world.lock().audit.weather.begin();
        if !fault.is_of_the_store() && !self.has_single_faults() {
            let audit = &mut self.world.lock().audit;
            audit.troubled_until_us = audit.troubled_until_us.max(until_us + AFTERMATH_US);
        }
        match fault {
            Fault::StoreStalls => self.world.lock().store.mood.stalled_until_us = until_us,
            Fault::StoreIsAway => self.world.lock().store.mood.away = true,
            Fault::StoreIsFull => self.world.lock().store.mood.full = true,
            Fault::StoreIsSlow(by_us) => self.world.lock().store.mood.slow_us = by_us,
            Fault::StoreLosesAnswers => {
                let mood = &mut self.world.lock().store.mood;
                mood.loses_answers = LOSES_ANSWERS;
                mood.loses_requests = LOSES_REQUESTS;
            }
            Fault::Depose => depose(&mut self.world.lock()),
            Fault::Compact => self.world.lock().store.compact(3),
            Fault::StoreHoldsNews => self.world.lock().store.mood.holds_news = true,
            Fault::StoreDamages => damage(&mut self.world.lock()),
            Fault::NodeCrashes(at) => self.crash(self.node(at)),
            Fault::NodeStops(at) => self.stop(self.node(at)),
            Fault::NodePauses(at) => self.halt(self.node(at), Running::Paused),
            Fault::NodeSuspends(at) => self.halt(self.node(at), Running::Suspended),
            Fault::NodeClockJumps(at, by_ms) => {
                self.jump(self.node(at), by_ms);
            }
            Fault::NodeClockLeaps(at, days) => {
                self.jump(self.node(at), i64::from(days) * DAY_MS);
            }
            Fault::NodeLosesStore(at, ways) => self.cut(self.node(at), store_place(), ways),
            Fault::WorkerLosesNode(worker, node, ways) => {
                self.cut(self.worker(worker), self.node(node), ways);
            }
            Fault::WorkerCrashes(at) => self.crash(self.worker(at)),
            Fault::WorkerPauses(at) => self.halt(self.worker(at), Running::Paused),
            Fault::ClientsFlood => self.world.lock().flood_bytes = FLOOD_BYTES,
            Fault::NetIsSlow => self.world.lock().net.slow = Some(SLOW),
            Fault::NetIsThin(per_ms) => self.world.lock().net.bytes_per_ms = Some(per_ms),
        }
        self.ongoing.push((until_us, planned));
    }

    fn end(&mut self, fault: Fault) {
        {
            let mut inner = self.world.lock();
            inner.note(format_args!("end {fault:?}"));
            let now_us = inner.now_us;
            inner.audit.weather.end(now_us);
        }
        match fault {
            Fault::StoreStalls | Fault::Depose | Fault::Compact | Fault::StoreDamages => {}
            Fault::StoreHoldsNews => self.world.lock().store.mood.holds_news = false,
            Fault::StoreIsAway => self.world.lock().store.mood.away = false,
            Fault::StoreIsFull => self.world.lock().store.mood.full = false,
            Fault::StoreIsSlow(_) => self.world.lock().store.mood.slow_us = 0,
            Fault::StoreLosesAnswers => {
                let mood = &mut self.world.lock().store.mood;
                mood.loses_answers = 0;
                mood.loses_requests = 0;
            }
            Fault::NodeCrashes(at) => self.boot(self.node(at)),
            Fault::NodeStops(at) => {
                self.crash(self.node(at));
                self.boot(self.node(at));
            }
            Fault::NodePauses(at) | Fault::NodeSuspends(at) => self.resume(self.node(at)),
            Fault::NodeClockJumps(at, _) | Fault::NodeClockLeaps(at, _) => {
                let endpoint = self.node(at);
                self.machines[endpoint.0].set_right();
                self.tell_clock(endpoint, false);
            }
            Fault::NodeLosesStore(at, ways) => self.heal(self.node(at), store_place(), ways),
            Fault::WorkerLosesNode(worker, node, ways) => {
                self.heal(self.worker(worker), self.node(node), ways);
            }
            Fault::WorkerCrashes(at) => self.boot(self.worker(at)),
            Fault::WorkerPauses(at) => self.resume(self.worker(at)),
            Fault::ClientsFlood => self.world.lock().flood_bytes = 0,
            Fault::NetIsSlow => self.world.lock().net.slow = None,
            Fault::NetIsThin(_) => self.world.lock().net.bytes_per_ms = None,
        }
    }

    fn jump(&mut self, endpoint: Endpoint, by_ms: i64) {
        self.machines[endpoint.0].jump(by_ms);
        self.tell_clock(endpoint, false);
        let skew_ms = self.machines[endpoint.0].skew_ms();
        let audit = &mut self.world.lock().audit;
        let believed_ms = audit.clocks.believed_ms(endpoint, self.now_us);
        audit.ahead_ms = audit.ahead_ms.max(skew_ms);
        audit.behind_ms = audit.behind_ms.max(-skew_ms.min(believed_ms));
    }

    /// Tells the auditor how far a clock is off, and whether a process begins with it.
    pub(crate) fn tell_clock(&mut self, endpoint: Endpoint, starts: bool) {
        let skew_ms = self.machines[endpoint.0].skew_ms();
        let during = if starts { SetWhile::Starting } else { self.activity(endpoint) };
        self.world.lock().audit.clocks.set(self.now_us, endpoint, skew_ms, during);
    }

    /// What the process of a machine does now.
    fn activity(&self, endpoint: Endpoint) -> SetWhile {
        let machine = &self.machines[endpoint.0];
        if machine.is_suspended() {
            SetWhile::Suspended
        } else if machine.is_up() && !machine.runs() {
            SetWhile::Paused
        } else {
            SetWhile::Running
        }
    }

    fn halt(&mut self, endpoint: Endpoint, how: Running) {
        let runs = self.machines[endpoint.0].runs();
        self.machines[endpoint.0].stop(how);
        if runs {
            let how = self.activity(endpoint);
            self.world.lock().audit.clocks.stop(self.now_us, endpoint, how);
        }
    }

    fn resume(&mut self, endpoint: Endpoint) {
        let after = self.activity(endpoint);
        self.machines[endpoint.0].resume();
        if after != SetWhile::Running {
            self.world.lock().audit.clocks.go_on(self.now_us, endpoint, after);
        }
    }

    fn cut(&mut self, from: Endpoint, to: Endpoint, ways: Ways) {
        let cut = &mut self.world.lock().net.cut;
        cut.extend(directions(from, to, ways));
    }

    fn heal(&mut self, from: Endpoint, to: Endpoint, ways: Ways) {
        let cut = &mut self.world.lock().net.cut;
        for way in directions(from, to, ways) {
            cut.remove(&way);
        }
    }
}

/// Makes a definition in the store unreadable: that of some task which waits.
fn damage(inner: &mut Inner) {
    let waiting = inner.audit.some_waiting();
    if let Some(key) = waiting {
        inner.note(format_args!("damaged {}", String::from_utf8_lossy(&key)));
        inner.store.damaged.insert(key);
    }
}

fn directions(from: Endpoint, to: Endpoint, ways: Ways) -> Vec<(Endpoint, Endpoint)> {
    match ways {
        Ways::Both => vec![(from, to), (to, from)],
        Ways::There => vec![(from, to)],
        Ways::Back => vec![(to, from)],
    }
}

//! A run: builds the world from the seed, lets it pass tick by tick, and judges it at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rota_core::Name;
use rota_engine::{Engine, EngineOptions, Host, Parallel, SPACES};
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Auditor, Counts, Rule, Violation},
    call::Caller,
    client::Client,
    log::Log,
    machine::{Machine, SimClock, WALL_AT_START, align_task_numbers},
    plan::{Plan, Planned},
    scenario::Scenario,
    seed::{Seed, SimRandom},
    store::{Central, SimStore, tell_observers, tell_watchers},
    wire::{self, User, WorkerPlan},
    worker::{StreamWorker, queue_names},
    world::{Endpoint, Inner, Net, STORE, Site, World},
};

/// How much time passes at once.
const TICK: Duration = Duration::from_millis(1);
const TICK_US: u64 = 1000;
/// So often what could not be told is told again.
const RETELL_US: u64 = 50_000;
/// A wall clock that is ahead by no more than this may be believed.
const BELIEVED_MS: i64 = 300_000;
/// Schedules create tasks until clients have paused them, which takes no longer than this.
const SCHEDULES_REST_US: u64 = 300_000_000;
/// All work is done within this time after the last fault, plus what a clock that was behind adds to a backoff.
const WORKED_OFF_US: u64 = 1_200_000_000;
/// So often it is checked that the ticks of schedules are decided in time.
const TICKS_CHECKED_US: u64 = 1_000_000;
/// So often nodes are asked for their memory.
const MEMORY_CHECKED_US: u64 = 1_000_000;
/// History that the store keeps, in batches.
const HISTORY: usize = 2_000;

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What everything follows from.
    pub seed: u64,
    /// It goes on for so many events, then until all work is done.
    pub events: u64,
    /// Rules that are not held against the engine.
    pub excused: Vec<Rule>,
    /// Keep the whole log.
    pub log: bool,
    /// Run the shipped server, worker and client over byte streams, instead of calling the engine.
    pub wire: bool,
    /// By wire, faults come one at a time in every run with several nodes, and none may cost a lease. Otherwise in
    /// a third of these runs.
    pub single_faults: bool,
    /// A mistake that is planted.
    #[cfg(feature = "planted-faults")]
    pub planted: Option<crate::planted::Mistake>,
    /// The only faults in the plan, which come again and again in this order; none for all kinds.
    #[cfg(feature = "planted-faults")]
    pub kinds: &'static [crate::plan::Fault],
    /// Milliseconds without a message after which a session ends, and without a renewal after which a leadership does;
    /// `None` draws them.
    #[cfg(feature = "planted-faults")]
    pub ttls_ms: Option<(u64, u64)>,
    /// Bytes of definitions that a leader keeps; `None` draws them.
    #[cfg(feature = "planted-faults")]
    pub cache_bytes: Option<usize>,
    /// Only these faults of the plan, by number.
    pub only: Option<BTreeSet<usize>>,
}

impl Options {
    /// A run of that seed, so long, with all rules and all faults.
    #[must_use]
    pub fn new(seed: u64, events: u64) -> Self {
        Self {
            seed,
            events,
            excused: Vec::new(),
            log: false,
            wire: false,
            single_faults: false,
            #[cfg(feature = "planted-faults")]
            planted: None,
            #[cfg(feature = "planted-faults")]
            kinds: &[],
            #[cfg(feature = "planted-faults")]
            ttls_ms: None,
            #[cfg(feature = "planted-faults")]
            cache_bytes: None,
            only: None,
        }
    }

    /// The command that repeats the run, with these faults of its plan alone.
    #[must_use]
    pub fn command(&self, only: Option<&BTreeSet<usize>>) -> String {
        let mut command = format!(
            "cargo run --profile sim -p rota-sim -- --seed {} --events {}",
            self.seed, self.events
        );
        if self.wire {
            command += " --wire";
        }
        if self.single_faults {
            command += " --single-faults";
        }
        for rule in &self.excused {
            command += &format!(" --ignore {rule:?}");
        }
        if let Some(only) = only {
            let numbers: Vec<_> = only.iter().map(ToString::to_string).collect();
            // An empty list stands for no faults at all.
            command += &format!(" --only {}", if only.is_empty() { "," } else { "" });
            command += &numbers.join(",");
        }
        command
    }
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// Events that happened.
    pub events: u64,
    /// Simulated time that passed.
    pub simulated: Duration,
    /// The hash of the log.
    pub hash: u64,
    /// Lines of the log.
    pub lines: u64,
    /// Broken rules.
    pub violations: Vec<Violation>,
    /// The last lines of the log, where a rule was broken.
    pub recent: Vec<String>,
    /// The log, if it was asked for.
    pub log: Option<String>,
    /// The faults that began.
    pub faults: Vec<Planned>,
    /// What was done.
    pub counts: Counts,
}

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Node(usize),
    Worker(usize),
    Client(usize),
}

/// A run under way.
pub(crate) struct Run {
    pub(crate) world: World,
    /// By endpoint; the first stands for the store and never boots.
    pub(crate) machines: Vec<Machine>,
    purposes: Vec<Option<Purpose>>,
    nodes: Arc<[Endpoint]>,
    seed: Seed,
    scenario: Scenario,
    queues: Arc<[Name]>,
    by_wire: bool,
    stops: BTreeMap<usize, CancellationToken>,
    /// The engines of the nodes that are up, to look at from outside.
    engines: BTreeMap<usize, Engine>,
    pub(crate) now_us: u64,
    /// The furthest that a wall clock ever was ahead.
    skew_max_ms: i64,
    pub(crate) plan: Plan,
    pub(crate) next_fault: Option<Planned>,
    /// Faults that are on, by when they end.
    pub(crate) ongoing: Vec<(u64, Planned)>,
    pub(crate) begun: Vec<Planned>,
}

/// Runs it.
///
/// # Panics
/// When a runtime cannot be made.
#[must_use]
pub fn run(options: &Options) -> RunOutcome {
    // tokio numbers the tasks of a whole process: a run beside this one would change the order in which
    // a runtime drops them.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // What draws without a generator of its own draws from this thread's.
    fastrand::seed(options.seed);
    align_task_numbers().expect("a runtime can be made");
    let mut run = Run::new(options);
    #[cfg(feature = "planted-faults")]
    crate::planted::plant(options.planted, &run.world);
    for at in 1..run.machines.len() {
        run.boot(Endpoint(at));
    }
    while run.world.lock().happened < options.events && run.is_content() {
        run.work_plan();
        run.tick();
    }
    run.heal_all();
    run.world.lock().quiet = true;
    run.work_off();
    run.finish()
}

impl Run {
    fn new(options: &Options) -> Self {
        let seed = Seed(options.seed);
        #[cfg_attr(
            not(feature = "planted-faults"),
            expect(unused_mut, reason = "changed for planted faults")
        )]
        let mut scenario = Scenario::draw(seed, options.wire, options.single_faults);
        #[cfg(feature = "planted-faults")]
        if let Some((session_ms, leader_ms)) = options.ttls_ms {
            scenario.session_ttl = Duration::from_millis(session_ms);
            scenario.store.leader_ttl_us = leader_ms * 1000;
        }
        #[cfg(feature = "planted-faults")]
        if let Some(bytes) = options.cache_bytes {
            scenario.cache_bytes = bytes;
        }
        let mut purposes = vec![None];
        purposes.extend((0..scenario.nodes).map(|at| Some(Purpose::Node(at))));
        purposes.extend((0..scenario.workers).map(|at| Some(Purpose::Worker(at))));
        purposes.extend((0..scenario.clients).map(|at| Some(Purpose::Client(at))));
        let places = purposes.len();
        let sites = (0..places).map(|_| Site::default()).collect();
        let net = Net::new(seed.rng("net", 0), places, scenario.latency);
        let central = Central::new(SPACES, scenario.store, seed.rng("store", 0));
        let mut audit = Auditor::new(options.excused.clone());
        audit.by_wire = options.wire;
        audit.begin(&scenario);
        let log = Log::new(options.log, true);
        let mut plan = Plan::new(seed, scenario.nodes, scenario.workers, options.only.clone());
        if scenario.single_faults {
            plan.keep_apart(scenario.apart_us());
        }
        #[cfg(feature = "planted-faults")]
        plan.keep_to(options.kinds);
        let next_fault = plan.next();
        let world = World::new(Inner::new(net, sites, central, audit, log));
        Self {
            machines: (0..places).map(|_| Machine::new(world.rest().clone())).collect(),
            world,
            purposes,
            nodes: (1..=scenario.nodes).map(Endpoint).collect(),
            seed,
            queues: queue_names(scenario.queues),
            scenario,
            by_wire: options.wire,
            stops: BTreeMap::new(),
            engines: BTreeMap::new(),
            now_us: 0,
            skew_max_ms: 0,
            plan,
            next_fault,
            ongoing: Vec::new(),
            begun: Vec::new(),
        }
    }

    pub(crate) fn node(&self, at: usize) -> Endpoint {
        self.nodes[at]
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Whether faults come one at a time.
    pub(crate) fn has_single_faults(&self) -> bool {
        self.scenario.single_faults
    }

    pub(crate) fn worker(&self, at: usize) -> Endpoint {
        Endpoint(1 + self.scenario.nodes + at)
    }

    /// Lets all work be done. Ends where nothing more is done though work is left.
    fn work_off(&mut self) {
        let (mut done, mut since_us, began_us) = (0, self.now_us, self.now_us);
        while self.is_content() && !self.is_done() {
            let counts = self.world.lock().audit.counts;
            if counts.leases + counts.ended != done {
                (done, since_us) = (counts.leases + counts.ended, self.now_us);
            }
            // A backoff that was loaded by a clock that was behind takes so much longer.
            let behind_us = self.world.lock().audit.behind_ms.unsigned_abs() * 1000;
            if self.now_us - since_us > self.scenario.patience_us + behind_us {
                return;
            }
            if self.now_us - began_us > WORKED_OFF_US + behind_us {
                let what = "work is left long after the last fault".to_owned();
                return self.world.lock().audit.broken(Rule::Progress, self.now_us, what);
            }
            if self.now_us - began_us > SCHEDULES_REST_US && !self.do_schedules_rest() {
                let what = "schedules cannot be paused".to_owned();
                return self.world.lock().audit.broken(Rule::Progress, self.now_us, what);
            }
            for _ in 0..200 {
                self.tick();
            }
        }
    }

    fn is_content(&self) -> bool {
        self.world.lock().audit.is_content()
    }

    fn is_done(&self) -> bool {
        self.do_schedules_rest() && self.world.lock().audit.all_ended()
    }

    /// Whether no schedule creates tasks any more.
    fn do_schedules_rest(&self) -> bool {
        self.scenario.schedules == 0 || self.world.lock().schedules_rest
    }

    fn tick(&mut self) {
        self.now_us += TICK_US;
        {
            let mut inner = self.world.lock();
            inner.now_us = self.now_us;
            // One that is further ahead must not be believed when history is removed.
            let skews = self.machines.iter().map(Machine::skew_ms);
            let skew_ms = skews.filter(|ms| *ms <= BELIEVED_MS).max().unwrap_or(0);
            self.skew_max_ms = self.skew_max_ms.max(skew_ms);
            let true_ms = WALL_AT_START + (self.now_us / 1000).cast_signed();
            inner.audit.wall_max_ms = true_ms + self.skew_max_ms;
            inner.run_due();
            if self.now_us.is_multiple_of(RETELL_US) {
                tell_observers(&mut inner);
                tell_watchers(&mut inner);
            }
            if self.now_us.is_multiple_of(TICKS_CHECKED_US) {
                inner.audit.check_ticks(self.now_us);
            }
            inner.store.compact_at_times(HISTORY);
            for (site, machine) in inner.sites.iter_mut().zip(&self.machines) {
                if machine.runs() {
                    site.listened_us += TICK_US;
                }
            }
        }
        if self.now_us.is_multiple_of(MEMORY_CHECKED_US) {
            self.nodes.iter().for_each(|node| self.look_at_memory(*node));
        }
        for at in 1..self.machines.len() {
            if !self.machines[at].tick(TICK) {
                let what = format!("{:?} did not come to rest", self.purposes[at]);
                return self.world.lock().audit.broken(Rule::Rest, self.now_us, what);
            }
        }
    }

    /// Starts the process of a machine.
    pub(crate) fn boot(&mut self, endpoint: Endpoint) {
        let Some(purpose) = self.purposes[endpoint.0] else { return };
        if self.machines[endpoint.0].is_up() {
            return;
        }
        let incarnation = {
            let mut inner = self.world.lock();
            inner.note(format_args!("boot {}", endpoint.0));
            let site = &mut inner.sites[endpoint.0];
            site.incarnation += 1;
            site.up = true;
            site.incarnation
        };
        // A machine that starts asks for the time. One that does not would take the days for an outage.
        if self.machines[endpoint.0].skew_ms() > BELIEVED_MS {
            self.machines[endpoint.0].set_right();
        }
        self.tell_clock(endpoint, true);
        let clock = self.machines[endpoint.0].clock.clone();
        let runtime = self.machines[endpoint.0]
            .boot(self.now_us, self.seed.rng("tokio", endpoint.0 as u64).u64(..))
            .expect("a runtime can be made");
        let handle = runtime.handle().clone();
        let inside = handle.enter();
        let number = (endpoint.0 as u64) << 32 | u64::from(incarnation);
        let engine = self.populate(endpoint, purpose, number, clock);
        drop(inside);
        let mut inner = self.world.lock();
        inner.sites[endpoint.0].handle = Some(handle);
        inner.sites[endpoint.0].engine = engine;
    }

    /// Starts what runs on a machine, within its runtime. Gives the engine that others may call.
    fn populate(
        &mut self,
        endpoint: Endpoint,
        purpose: Purpose,
        number: u64,
        clock: Arc<SimClock>,
    ) -> Option<Engine> {
        let mut engine = None;
        let handle = Handle::current();
        match purpose {
            Purpose::Node(at) => {
                let random = Arc::new(SimRandom::new(self.seed.rng("host", number)));
                let host = Host::new(clock, random, Parallel::Inline);
                let stop = CancellationToken::new();
                let store = SimStore::connect(&self.world, endpoint);
                let options = EngineOptions {
                    node: format!("n{at}"),
                    address: Some(wire::url(endpoint)),
                    session_ttl: self.scenario.session_ttl,
                    payload_cache_bytes: self.scenario.cache_bytes,
                    request_bytes_max: self.scenario.request_bytes,
                    call_timeout: self.scenario.call_timeout,
                    ..EngineOptions::default()
                };
                let started = Engine::start(host, store, options, stop.clone());
                self.engines.insert(endpoint.0, started.clone());
                if self.by_wire {
                    let (world, engine) = (self.world.clone(), started.clone());
                    handle.spawn(wire::serve(world, endpoint, engine, stop.clone()));
                } else {
                    engine = Some(started);
                }
                self.stops.insert(endpoint.0, stop);
            }
            Purpose::Worker(at) => {
                for session in 0..self.scenario.sessions {
                    let mut rng = self.seed.rng("worker", number << 8 | session as u64);
                    if self.by_wire {
                        handle.spawn(wire::work(self.wire_worker(endpoint, at, session, rng)));
                    } else {
                        let pulls = rng.u32(..100) < self.scenario.behaviours.pulls;
                        let worker = self.stream_worker(endpoint, at, session, rng);
                        if pulls {
                            handle.spawn(worker.into_pull().run());
                        } else {
                            handle.spawn(worker.run());
                        }
                    }
                }
            }
            Purpose::Client(_) => {
                for client in 0..self.scenario.clients_each {
                    let number = number << 8 | client as u64;
                    let rng = self.seed.rng("client", number);
                    if self.by_wire {
                        handle.spawn(self.user(endpoint, client, rng).run());
                    } else {
                        handle.spawn(self.client(endpoint, client, rng).run());
                    }
                }
            }
        }
        engine
    }

    fn caller(&self, endpoint: Endpoint, at: usize) -> Caller {
        Caller {
            world: self.world.clone(),
            me: endpoint,
            nodes: self.nodes.clone(),
            at,
            unanswered: 0,
        }
    }

    fn stream_worker(
        &self,
        endpoint: Endpoint,
        at: usize,
        session: usize,
        rng: fastrand::Rng,
    ) -> StreamWorker {
        // Some serve everything, some a part.
        let queues = match session % 3 {
            0 => Vec::new(),
            rest => self.queues.iter().skip(rest - 1).cloned().collect(),
        };
        let caller = self.caller(endpoint, at + session);
        let name = Name::new(&format!("w{at}-{session}")).expect("a name");
        let Scenario { slots, session_ttl, behaviours, .. } = self.scenario;
        let mut worker = StreamWorker::new(caller, rng, name, queues, slots, session_ttl);
        worker.leaves = behaviours.drains;
        worker.snoozes(behaviours.snoozes);
        worker
    }

    fn wire_worker(
        &self,
        endpoint: Endpoint,
        at: usize,
        session: usize,
        rng: fastrand::Rng,
    ) -> WorkerPlan {
        let worker = self.stream_worker(endpoint, at, session, rng);
        WorkerPlan {
            world: self.world.clone(),
            at: endpoint,
            nodes: self.nodes.clone(),
            name: worker.name.to_string(),
            queues: worker.queues.iter().map(ToString::to_string).collect(),
            slots: worker.slots,
            rng: worker.into_rng(),
            long_attempts: self.scenario.long_attempts,
        }
    }

    fn user(&self, endpoint: Endpoint, at: usize, rng: fastrand::Rng) -> User {
        let number = (endpoint.0 as u64) << 8 | at as u64;
        let (queues, pause_ms) = (self.scenario.queues, self.scenario.client_pause_ms);
        User::new((&self.world, endpoint, &self.nodes), rng, queues, number, pause_ms)
    }

    fn client(&self, endpoint: Endpoint, at: usize, rng: fastrand::Rng) -> Client {
        let number = (endpoint.0 as u64) << 8 | at as u64;
        let caller = self.caller(endpoint, at);
        Client::new(caller, rng, self.queues.clone(), number, &self.scenario)
    }

    /// Has it checked how many bytes the parts of a node's memory have held.
    fn look_at_memory(&self, endpoint: Endpoint) {
        if let Some(engine) = self.engines.get(&endpoint.0) {
            let held = engine.memory_peaks();
            self.world.lock().audit.look_at_memory(self.now_us, endpoint, held);
        }
    }

    /// Ends the process of a machine at once.
    pub(crate) fn crash(&mut self, endpoint: Endpoint) {
        self.look_at_memory(endpoint);
        let watched = self.engines.remove(&endpoint.0);
        // What its tasks do as they are dropped must reach nobody.
        let engine = {
            let mut inner = self.world.lock();
            inner.note(format_args!("crash {}", endpoint.0));
            inner.audit.crashed(endpoint);
            wire::break_all(&mut inner, endpoint);
            let site = &mut inner.sites[endpoint.0];
            site.up = false;
            site.handle = None;
            site.engine.take()
        };
        drop((engine, watched));
        let runtime: Option<Runtime> = self.machines[endpoint.0].crash();
        drop(runtime);
    }

    /// Tells a node to stop.
    pub(crate) fn stop(&mut self, endpoint: Endpoint) {
        if let Some(stop) = self.stops.get(&endpoint.0) {
            stop.cancel();
            self.world.lock().audit.stopping(endpoint);
        }
    }

    fn finish(mut self) -> RunOutcome {
        let now_us = self.now_us;
        self.nodes.iter().for_each(|node| self.look_at_memory(*node));
        let outcome = {
            let mut inner = self.world.lock();
            if inner.audit.is_content() {
                inner.audit.finish(now_us);
                let keys = inner.store.keys("tick");
                inner.audit.check_tick_keys(now_us, &keys);
            }
            let violations = inner.audit.violations().to_vec();
            let recent = if violations.is_empty() { Vec::new() } else { inner.log.recent() };
            RunOutcome {
                events: inner.happened,
                simulated: Duration::from_micros(now_us),
                hash: inner.log.hash(),
                lines: inner.log.lines(),
                violations,
                recent,
                log: inner.log.take_whole(),
                faults: std::mem::take(&mut self.begun),
                counts: inner.audit.counts,
            }
        };
        for at in 1..self.machines.len() {
            self.crash(Endpoint(at));
        }
        // Much of it holds the world, which would hold itself for ever.
        let left = self.world.lock().empty();
        drop(left);
        outcome
    }
}

/// Where the store is, for faults.
pub(crate) const fn store_place() -> Endpoint {
    STORE
}

//! What all simulated machines share: the time, the events to come, the network between them, the
//! store, the auditor and the log.
//!
//! Everything here happens on one thread and in one order. Machines reach it through [`World`] from
//! within their tasks; the driver takes the events that are due out of it between two ticks.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rota_engine::Engine;
use rustc_hash::FxHashSet;
use tokio::runtime::Handle;

use crate::{
    audit::{Auditor, Rule},
    log::Log,
    rest::Rest,
    store::Central,
    wire::Connections,
};

/// An end of the simulated network: the store, a node, a worker or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Endpoint(pub(crate) usize);

/// Where the store is.
pub(crate) const STORE: Endpoint = Endpoint(0);

/// A message to an endpoint that cannot be reached is silent for so long, then its sender is told.
const SILENCE_US: u64 = 20_000_000;

/// Events that may happen within a tick. A sound run has some thousands.
const EVENTS_AT_ONCE_MAX: u64 = 5_000_000;

/// What happens when an event is due.
pub(crate) type Action = Box<dyn FnOnce(&mut Inner) + Send>;

struct Event {
    at_us: u64,
    number: u64,
    /// The process that must run for it to happen.
    to: Option<Receiver>,
    action: Action,
}

/// Who is to get a message: the process that ran there when it was sent, or a later one.
#[derive(Debug, Clone, Copy)]
struct Receiver {
    endpoint: Endpoint,
    incarnation: u32,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest, as a heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// A machine as the others see it.
#[derive(Default)]
pub(crate) struct Site {
    /// Grows with each start of its process.
    pub(crate) incarnation: u32,
    pub(crate) up: bool,
    /// Its runtime, while it is up.
    pub(crate) handle: Option<Handle>,
    /// What it serves, if it is a node.
    pub(crate) engine: Option<Engine>,
    /// For how long it was up and not stopped: the time in which it could listen.
    pub(crate) listened_us: u64,
}

/// How messages travel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) min_us: u64,
    pub(crate) max_us: u64,
}

/// The network: delays, and which ways are cut.
pub(crate) struct Net {
    rng: fastrand::Rng,
    latency: Latency,
    /// While messages take longer than they should.
    pub(crate) slow: Option<Latency>,
    /// While links are thin: what each carries in a millisecond.
    pub(crate) bytes_per_ms: Option<u64>,
    /// Ways that carry nothing; each direction for itself.
    pub(crate) cut: FxHashSet<(Endpoint, Endpoint)>,
    /// When the last message on each way arrives: none overtakes another.
    last: Vec<u64>,
    places: usize,
}

impl Net {
    pub(crate) fn new(rng: fastrand::Rng, places: usize, latency: Latency) -> Self {
        Self {
            rng,
            latency,
            slow: None,
            bytes_per_ms: None,
            cut: FxHashSet::default(),
            last: vec![0; places * places],
            places,
        }
    }

    pub(crate) fn carries(&self, from: Endpoint, to: Endpoint) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// When a message of so many bytes that is sent now arrives.
    fn arrival(&mut self, now_us: u64, from: Endpoint, to: Endpoint, bytes: usize) -> u64 {
        let Latency { min_us, max_us } = self.slow.unwrap_or(self.latency);
        let delay = self.rng.u64(min_us..=max_us);
        let last = &mut self.last[from.0 * self.places + to.0];
        *last = (now_us + delay).max(*last);
        if let Some(per_ms) = self.bytes_per_ms {
            *last += bytes as u64 * 1000 / per_ms;
        }
        *last
    }
}

/// All that is shared.
pub(crate) struct Inner {
    pub(crate) now_us: u64,
    events: BinaryHeap<Event>,
    scheduled: u64,
    /// Events that happened.
    pub(crate) happened: u64,
    pub(crate) sites: Vec<Site>,
    pub(crate) net: Net,
    pub(crate) store: Central,
    pub(crate) audit: Auditor,
    pub(crate) log: Log,
    pub(crate) wires: Connections,
    /// Bytes of large payloads that clients are to submit at once.
    pub(crate) flood_bytes: usize,
    /// Whether clients are to ask for nothing new.
    pub(crate) quiet: bool,
    /// Whether all schedules are paused after that.
    pub(crate) schedules_rest: bool,
}

impl Inner {
    pub(crate) fn new(
        net: Net,
        sites: Vec<Site>,
        store: Central,
        audit: Auditor,
        log: Log,
    ) -> Self {
        Self {
            now_us: 0,
            events: BinaryHeap::new(),
            scheduled: 0,
            happened: 0,
            sites,
            net,
            store,
            audit,
            log,
            wires: Connections::default(),
            flood_bytes: 0,
            quiet: false,
            schedules_rest: false,
        }
    }

    /// Has something happen then.
    pub(crate) fn at(&mut self, at_us: u64, action: Action) {
        self.schedule(at_us, None, action);
    }

    fn schedule(&mut self, at_us: u64, to: Option<Receiver>, action: Action) {
        self.scheduled += 1;
        self.events.push(Event { at_us, number: self.scheduled, to, action });
    }

    /// Sends a message. What it is to do is done when it arrives, if the receiver is up by then; a
    /// message that does not arrive is dropped, sooner or later.
    pub(crate) fn send(&mut self, from: Endpoint, to: Endpoint, action: Action) {
        self.send_bytes(from, to, 0, action);
    }

    /// The same, of a message whose size counts.
    pub(crate) fn send_bytes(
        &mut self,
        from: Endpoint,
        to: Endpoint,
        bytes: usize,
        action: Action,
    ) {
        let sender_down = from != STORE && !self.sites[from.0].up;
        if sender_down {
            return;
        }
        if !self.net.carries(from, to) {
            self.at(self.now_us + SILENCE_US, Box::new(move |_| drop(action)));
            return;
        }
        let arrives = self.net.arrival(self.now_us, from, to, bytes);
        let incarnation = self.sites[to.0].incarnation;
        let receiver = (to != STORE).then_some(Receiver { endpoint: to, incarnation });
        self.schedule(arrives, receiver, action);
    }

    /// Counts events that are not in the heap: timers that fired, and commands that an engine took.
    pub(crate) fn count(&mut self, events: usize) {
        self.happened += events as u64;
    }

    /// Does what is due.
    pub(crate) fn run_due(&mut self) {
        let before = self.happened;
        while self.events.peek().is_some_and(|event| event.at_us <= self.now_us) {
            if self.happened - before > EVENTS_AT_ONCE_MAX {
                let what = "the same things happen again and again at one moment".to_owned();
                return self.audit.broken(Rule::Rest, self.now_us, what);
            }
            let Some(event) = self.events.pop() else { return };
            let reaches = event.to.is_none_or(|Receiver { endpoint, incarnation }| {
                let site = &self.sites[endpoint.0];
                site.up && site.incarnation >= incarnation
            });
            if !reaches {
                continue;
            }
            self.happened += 1;
            self.log.happens(event.at_us, event.number);
            (event.action)(self);
        }
    }

    /// Notes something that went from an endpoint to an endpoint: cheaper than a text.
    pub(crate) fn note_way(&mut self, what: &'static str, from: Endpoint, to: Endpoint) {
        self.log.went(self.now_us, what, from.0, to.0);
    }

    /// Gives everything that is still to come, to be dropped by someone who has not locked the world.
    #[must_use]
    pub(crate) fn empty(&mut self) -> impl Sized + use<> {
        let events = std::mem::take(&mut self.events);
        (events, std::mem::take(&mut self.wires), std::mem::take(&mut self.store.waiting))
    }

    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        self.log.write(self.now_us, what);
    }
}

/// The shared world. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    rest: Arc<Rest>,
}

impl World {
    pub(crate) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(Mutex::new(inner)), rest: Arc::default() }
    }

    /// What counts the questions of the machine that runs.
    pub(crate) fn rest(&self) -> &Arc<Rest> {
        &self.rest
    }

    /// Never hold this while anything is dropped or called that could come here itself.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.rest.asked();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

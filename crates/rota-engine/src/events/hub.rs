//! The ring of recent events, and the places of listeners in it.
//!
//! Its locks are held for a few instructions, or to copy one portion, and never across an await.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rota_core::{Millis, MonoTime, TaskId};
use rota_metrics::NodeMetrics;
use rota_store::watch;
use rustc_hash::FxHashMap;

use super::event::{Draft, Event, EventId, SpecFacts, Subject};

/// Maximum number of events that a listener takes at once.
const PORTION: usize = 256;
/// Bytes of events after which a listener takes no more at once. It keeps them in memory if it is slow.
const PORTION_BYTES: usize = 64 << 10;
/// Maximum bytes of parts of definitions that are kept for filters.
const KNOWN_BYTES: usize = 8 << 20;

/// Limits on events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLimits {
    /// Bytes of recent events that are kept for listeners. A listener that is further behind gets a reset.
    pub ring_bytes: usize,
    /// Maximum number of listeners.
    pub listeners: usize,
    /// Time for which events are kept after the last listener left, so that it can come back.
    pub keep: Duration,
}

impl EventLimits {
    /// The default limits, also of the settings of the `rota` binary.
    pub const DEFAULT: Self =
        Self { ring_bytes: 32 << 20, listeners: 500, keep: Duration::from_secs(60) };
}

impl Default for EventLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a listener misses events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The id is from another leadership.
    LeaderChanged,
    /// The events after the id are no longer kept.
    HistoryGone,
    /// The listener reads more slowly than events come.
    TooSlow,
    /// There was no event with this id in this leadership.
    UnknownId,
}

impl ResetReason {
    /// All reasons.
    pub const ALL: [Self; 4] =
        [Self::LeaderChanged, Self::HistoryGone, Self::TooSlow, Self::UnknownId];

    /// The word for the reason, as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaderChanged => "leader_changed",
            Self::HistoryGone => "history_gone",
            Self::TooSlow => "too_slow",
            Self::UnknownId => "unknown_id",
        }
    }
}

/// Why there is no place for a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// This node does not lead.
    NotLeading,
    /// There are as many listeners as this limit allows.
    Full(usize),
}

/// The place of a listener.
#[derive(Debug)]
pub(super) struct Place {
    epoch: u64,
    /// The number of the next event to read, counted from the first of the leadership.
    next: u64,
}

/// A new place.
pub(super) struct Opened {
    pub(super) place: Place,
    /// The last event before the place.
    pub(super) at: EventId,
    pub(super) reset: Option<ResetReason>,
    /// Whether events of steps that are in flight may not be recorded. The listener must wait until they have
    /// landed before it is told that it listens.
    pub(super) is_unsettled: bool,
    pub(super) progress: watch::Receiver<()>,
}

/// What a listener reads.
pub(super) enum Read {
    Events(VecDeque<Arc<Event>>),
    Nothing,
    /// Events were lost. The place is now after the event with this id.
    Lost(EventId),
    /// The leadership has ended.
    Over,
}

#[derive(Default)]
struct Ring {
    /// The leadership, while this node leads.
    epoch: Option<u64>,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// The number of the first event in the ring.
    first: u64,
    /// The id before that of the first event in the ring. Events up to it may be missing.
    floor: EventId,
    /// The id of the last event.
    last: EventId,
    listeners: usize,
    /// Until when events are kept for listeners that left and may come back.
    kept_until: MonoTime,
    /// Whether all steps that were not recorded have landed.
    is_settled: bool,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.bytes();
            self.floor = event.id;
            self.first += 1;
        }
    }

    /// Forgets all events, and begins after them. An id of before is then known as one whose history is gone.
    fn begin_anew(&mut self) {
        self.first = self.end();
        self.events = VecDeque::new();
        self.bytes = 0;
        self.last = self.last.after(self.last.revision);
        self.floor = self.last;
        self.is_settled = false;
    }
}

/// Parts of definitions, by task. Cleared when it is full.
#[derive(Default)]
struct Known {
    specs: FxHashMap<TaskId, Arc<SpecFacts>>,
    bytes: usize,
}

impl Known {
    fn insert(&mut self, task: TaskId, spec: Arc<SpecFacts>) {
        let bytes = spec.bytes();
        if self.bytes + bytes > KNOWN_BYTES {
            *self = Self::default();
        }
        self.bytes += bytes;
        if let Some(former) = self.specs.insert(task, spec) {
            self.bytes -= former.bytes();
        }
    }
}

/// The events of a node while it leads.
pub(crate) struct EventHub {
    /// Whether events are recorded. Only this is looked at while nobody listens.
    is_active: AtomicBool,
    limits: EventLimits,
    ring: Mutex<Ring>,
    known: Mutex<Known>,
    progress: watch::Sender<()>,
    metrics: NodeMetrics,
}

impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHub").finish_non_exhaustive()
    }
}

impl EventHub {
    pub(crate) fn new(limits: EventLimits, metrics: NodeMetrics) -> Self {
        Self {
            is_active: AtomicBool::new(false),
            limits,
            ring: Mutex::default(),
            known: Mutex::default(),
            progress: watch::Sender::default(),
            metrics,
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // No code under this lock can panic halfway through a change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events must be recorded.
    pub(crate) fn is_active(&self) -> bool {
        self.is_active.load(Ordering::Relaxed)
    }

    /// Begins a leadership.
    pub(crate) fn lead(&self, epoch: u64) {
        let mut ring = self.ring();
        let last = EventId { epoch, revision: 0, number: 0 };
        let listeners = ring.listeners;
        *ring = Ring { epoch: Some(epoch), floor: last, last, listeners, ..Ring::default() };
    }

    /// Ends a leadership, and the reads of its listeners.
    pub(crate) fn end(&self) {
        let mut ring = self.ring();
        *ring = Ring { listeners: ring.listeners, ..Ring::default() };
        self.is_active.store(false, Ordering::Relaxed);
        drop(ring);
        *self.known() = Known::default();
        self.progress.send_replace(());
    }

    /// Records the events of a durable step.
    pub(crate) fn publish(&self, revision: u64, drafts: Vec<Draft>) {
        for draft in &drafts {
            if let Subject::Task(task) = &draft.subject
                && let Some(spec) = &task.spec
            {
                self.known().insert(task.id, spec.clone());
            }
        }
        let mut ring = self.ring();
        if ring.epoch.is_none() || !self.is_active() {
            return;
        }
        for Draft { kind, at, subject } in drafts {
            let event = Event { id: ring.last.after(revision), kind, at, subject };
            ring.last = event.id;
            ring.bytes += event.bytes();
            ring.events.push_back(Arc::new(event));
            while ring.bytes > self.limits.ring_bytes {
                ring.drop_first();
            }
        }
        drop(ring);
        self.progress.send_replace(());
    }

    /// Stops recording when nobody listens, and nobody may come back.
    pub(crate) fn tidy(&self, now: MonoTime) {
        let mut ring = self.ring();
        if ring.listeners == 0 && now >= ring.kept_until {
            ring.begin_anew();
            self.is_active.store(false, Ordering::Relaxed);
            drop(ring);
            *self.known() = Known::default();
        }
    }

    /// A place after the event with this id, or after the last one.
    pub(super) fn open(&self, after: Option<EventId>) -> Result<Opened, NoPlace> {
        let mut ring = self.ring();
        let epoch = ring.epoch.ok_or(NoPlace::NotLeading)?;
        if ring.listeners >= self.limits.listeners {
            return Err(NoPlace::Full(self.limits.listeners));
        }
        if !self.is_active() {
            ring.begin_anew();
            self.is_active.store(true, Ordering::Relaxed);
        }
        let reset = after.and_then(|after| {
            if after.epoch != epoch {
                Some(ResetReason::LeaderChanged)
            } else if after > ring.last {
                Some(ResetReason::UnknownId)
            } else {
                (after < ring.floor).then_some(ResetReason::HistoryGone)
            }
        });
        let (next, at) = match after.filter(|_| reset.is_none()) {
            Some(after) => {
                let passed = ring.events.partition_point(|event| event.id <= after);
                (ring.first + passed as u64, after)
            }
            None => (ring.end(), ring.last),
        };
        ring.listeners += 1;
        self.metrics.event_listeners(1);
        let is_unsettled = !ring.is_settled;
        let progress = self.progress.subscribe();
        Ok(Opened { place: Place { epoch, next }, at, reset, is_unsettled, progress })
    }

    /// Notes that steps which were in flight when recording began have landed.
    pub(super) fn settled(&self, place: &Place) {
        let mut ring = self.ring();
        ring.is_settled |= ring.epoch == Some(place.epoch);
    }

    /// Takes a listener off the list. Events are kept for it, unless it is brief.
    pub(super) fn left(&self, now: MonoTime, is_brief: bool) {
        let mut ring = self.ring();
        ring.listeners = ring.listeners.saturating_sub(1);
        if !is_brief {
            ring.kept_until = now + Millis::from_duration(self.limits.keep);
        }
        self.metrics.event_listeners(-1);
    }

    /// Number of listeners.
    pub(super) fn listeners(&self) -> usize {
        self.ring().listeners
    }

    /// The next events at a place. Moves the place.
    pub(super) fn read(&self, place: &mut Place) -> Read {
        let ring = self.ring();
        if ring.epoch != Some(place.epoch) {
            return Read::Over;
        }
        if place.next < ring.first {
            place.next = ring.end();
            return Read::Lost(ring.last);
        }
        let begin = usize::try_from(place.next - ring.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |event: &&Arc<Event>| {
            let fits = bytes < PORTION_BYTES;
            bytes += event.bytes();
            fits
        };
        let portion = ring.events.iter().skip(begin).take(PORTION).take_while(fits);
        let events: VecDeque<_> = portion.cloned().collect();
        place.next += events.len() as u64;
        if events.is_empty() { Read::Nothing } else { Read::Events(events) }
    }

    /// Parts of the definition of a task, if they are known.
    pub(super) fn spec(&self, task: TaskId) -> Option<Arc<SpecFacts>> {
        self.known().specs.get(&task).cloned()
    }

    /// Keeps parts of the definition of a task for other filters.
    pub(super) fn learn(&self, task: TaskId, spec: &Arc<SpecFacts>) {
        self.known().insert(task, spec.clone());
    }
}

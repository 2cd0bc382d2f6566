//! A listener reads events at its own pace.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rota_core::TaskId;
use rota_store::watch;
use rustc_hash::FxHashMap;
use tokio::time::{Instant, sleep_until};

use super::{
    collect::spec_facts,
    event::{Event, EventId, SpecFacts, Subject},
    filter::{EventFilter, Verdict},
    hub::{EventHub, Opened, Place, Read, ResetReason},
};
use crate::engine::Inner;

/// Time between two reads of a listener, for each listener. All of them together then wake at most ten thousand
/// times a second, however many steps there are.
const PACE: Duration = Duration::from_micros(100);
/// Shorter times than a timer can measure are not waited for.
const PACE_MIN: Duration = Duration::from_millis(1);

/// What a listener is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// It listens from here on: after the event with this id.
    Ready(EventId),
    Event(Arc<Event>),
    /// It has missed events. It goes on after the event with this id.
    Reset {
        at: EventId,
        reason: ResetReason,
    },
    /// There will be no more events here.
    Ended(EndedReason),
}

/// Why there will be no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedReason {
    /// This node is no longer the leader.
    LeaderChanged,
    /// The store did not answer, so a filter could not be applied.
    StoreUnavailable,
}

impl EndedReason {
    /// The word for the reason, as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaderChanged => "leader_changed",
            Self::StoreUnavailable => "store_unavailable",
        }
    }
}

/// A listener. Dropping it ends it.
pub struct EventListener {
    inner: Arc<Inner>,
    filter: EventFilter,
    place: Place,
    progress: watch::Receiver<()>,
    first: Option<Told>,
    /// The last event that was told, or that the filter excluded.
    position: EventId,
    /// Events that were read and not compared with the filter yet, and the id of the last one.
    undecided: VecDeque<Arc<Event>>,
    read_to: EventId,
    matching: VecDeque<Arc<Event>>,
    read_at: Instant,
    is_over: bool,
}

impl std::fmt::Debug for EventListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventListener").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let shared = &self.inner.shared;
        shared.events.left(shared.host.now().mono, self.filter.brief);
    }
}

impl EventListener {
    pub(super) fn new(inner: Arc<Inner>, filter: EventFilter, opened: Opened) -> Self {
        let Opened { place, at, reset, progress, is_unsettled: _ } = opened;
        let first = match reset {
            None => Told::Ready(at),
            Some(reason) => {
                inner.shared.metrics.event_reset(reason.as_str());
                Told::Reset { at, reason }
            }
        };
        Self {
            inner,
            filter,
            place,
            progress,
            first: Some(first),
            position: at,
            undecided: VecDeque::new(),
            read_to: at,
            matching: VecDeque::new(),
            read_at: Instant::now(),
            is_over: false,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn hub(&self) -> &EventHub {
        &self.inner.shared.events
    }

    /// The id to go on after: everything up to it was told, or does not match.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.position
    }

    /// What comes next. After [`Told::Ended`] it never resolves. Cancel safe.
    pub async fn next(&mut self) -> Told {
        if let Some(first) = self.first.take() {
            return first;
        }
        if self.is_over {
            std::future::pending::<()>().await;
        }
        loop {
            if let Some(event) = self.matching.pop_front() {
                self.position = if self.matching.is_empty() { self.read_to } else { event.id };
                self.inner.shared.metrics.event_sent();
                return Told::Event(event);
            }
            if !self.undecided.is_empty() {
                if self.decide().await.is_err() {
                    return self.over(EndedReason::StoreUnavailable);
                }
                // However many events do not match, others get their turn.
                tokio::task::yield_now().await;
                continue;
            }
            self.position = self.read_to;
            match self.inner.shared.events.read(&mut self.place) {
                Read::Events(events) => {
                    self.read_at = Instant::now();
                    self.read_to = events.back().map_or(self.read_to, |event| event.id);
                    self.undecided = events;
                }
                Read::Lost(at) => {
                    (self.position, self.read_to) = (at, at);
                    let reason = ResetReason::TooSlow;
                    self.inner.shared.metrics.event_reset(reason.as_str());
                    return Told::Reset { at, reason };
                }
                Read::Over => return self.over(EndedReason::LeaderChanged),
                Read::Nothing => self.progress().await,
            }
        }
    }

    fn over(&mut self, reason: EndedReason) -> Told {
        self.is_over = true;
        Told::Ended(reason)
    }

    /// Waits for more events. Many listeners read less often and more at a time.
    async fn progress(&mut self) {
        // Fails only with the engine, and then the leadership has ended.
        let _ = self.progress.changed().await;
        let pace = PACE * u32::try_from(self.hub().listeners()).unwrap_or(u32::MAX);
        if pace >= PACE_MIN {
            sleep_until(self.read_at + pace).await;
        }
    }

    /// Compares the events in hand with the filter. Reads the definitions that it depends on.
    async fn decide(&mut self) -> Result<(), rota_store::StoreError> {
        let verdicts: Vec<_> =
            self.undecided.iter().map(|event| self.filter.judge(event)).collect();
        let depends = verdicts.iter().zip(&self.undecided).filter_map(|(verdict, event)| {
            let Subject::Task(task) = &event.subject else { return None };
            (*verdict == Verdict::DependsOnSpec).then_some(task.id)
        });
        let specs = self.specs(depends.collect()).await?;
        let selected = |verdict: Verdict, event: &Event| match (verdict, &event.subject) {
            (Verdict::Matches, _) => true,
            (Verdict::DependsOnSpec, Subject::Task(task)) => {
                specs.get(&task.id).is_some_and(|spec| self.filter.selects_spec(spec))
            }
            _ => false,
        };
        let matching = verdicts.into_iter().zip(&self.undecided);
        let matching = matching.filter(|(verdict, event)| selected(*verdict, event));
        self.matching = matching.map(|(_, event)| event.clone()).collect();
        self.undecided.clear();
        Ok(())
    }

    /// Parts of the definitions of these tasks. Omits tasks whose definition is gone or cannot be read.
    async fn specs(
        &self,
        tasks: Vec<TaskId>,
    ) -> Result<FxHashMap<TaskId, Arc<SpecFacts>>, rota_store::StoreError> {
        let mut specs = FxHashMap::default();
        let mut unknown = Vec::new();
        for task in tasks {
            match self.hub().spec(task) {
                Some(spec) => {
                    specs.insert(task, spec);
                }
                None => unknown.push(task),
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            let (store, shared) = (self.inner.store.as_ref(), &self.inner.shared);
            let found = shared.specs.without_payloads(store, &unknown).await?;
            for (task, found) in unknown.into_iter().zip(found) {
                if let Some(spec) = found.record() {
                    let facts = Arc::new(spec_facts(&spec));
                    self.hub().learn(task, &facts);
                    specs.insert(task, facts);
                }
            }
        }
        Ok(specs)
    }
}

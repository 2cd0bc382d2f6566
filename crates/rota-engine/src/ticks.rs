//! The coordinator's part in schedules: it reads what the core must know before it decides ticks.

use std::{sync::atomic::Ordering, time::Duration};

use rota_core::{Command, Name, Now, Refusal, Reply, TickOwners, WallTime};
use rota_store::{Leadership, StoreError};
use tokio::time::{Instant, timeout};

use crate::{
    api::EngineError,
    coordinator::Coordinator,
    layout,
    level::SCHEDULES,
    prefetch::{self, PREFETCH_WAIT, Prefetched},
    records::Tick,
    request::CommandResult,
};

/// Pause after the owners of ids could not be read.
const PAUSE: Duration = Duration::from_millis(250);

impl Coordinator<'_> {
    /// Decides the ticks that are due. Call it once in a step, after the timers. Ticks whose ids cannot be
    /// looked up now are decided in a later step.
    pub(crate) async fn decide_ticks(&mut self, now: Now, leadership: &dyn Leadership) {
        if self.ticks_pause().is_some() {
            return;
        }
        let now = self.shared.timekeeper.believed(now);
        let mut ids = self.machine.due_tick_ids(now);
        let mut owners = TickOwners::default();
        ids.retain(|id| {
            let is_free = self.coming_ticks.take(id);
            if is_free {
                owners.insert(id.clone(), None);
            }
            !is_free
        });
        if !ids.is_empty() {
            let read = timeout(PREFETCH_WAIT, prefetch::owners(self.store.as_ref(), &ids));
            let read = tokio::select! {
                biased;
                read = read => read,
                () = leadership.lost() => return,
            };
            let Ok(Ok(found)) = read else {
                // Otherwise the loop would try again at once.
                self.ticks_paused_until = Some(Instant::now() + PAUSE);
                return;
            };
            for (id, owner) in ids.into_iter().zip(found) {
                owners.insert(id, owner);
            }
        }
        let is_full = matches!(self.shared.admit(), Err(EngineError::StoreFull(_)));
        self.machine.note_store_full(is_full);
        self.machine.decide_ticks(now, &mut self.ids, &owners);
    }

    /// Begins to read the owners of the ids of coming ticks, if it is time for that. Call it at the end of a step.
    pub(crate) fn look_ahead(&mut self, now: Now) {
        if let Some((from, until)) = self.coming_ticks.wanted(now.wall) {
            let ids = self.machine.coming_tick_ids(from, until);
            self.coming_ticks.ask(&self.store, ids, until);
        }
    }

    /// How long ticks are not decided, because the store could not be read.
    pub(crate) fn ticks_pause(&self) -> Option<Duration> {
        let until = self.ticks_paused_until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Creates a task of a schedule now. `None` if owners of ids must be read first, because an earlier request
    /// changed which ids the task can get.
    pub(crate) fn trigger(
        &mut self,
        schedule: &Name,
        prefetched: &Result<Prefetched, StoreError>,
    ) -> Option<Result<CommandResult, EngineError>> {
        let prefetched = match prefetched {
            Ok(prefetched) => prefetched,
            Err(error) => return Some(Err(EngineError::Store(error.clone()))),
        };
        let owner_of = |id: &Name| prefetched.owner_of(id);
        let result = self.machine.trigger(schedule, &mut self.ids, owner_of).transpose()?;
        self.step.commands += 1;
        Some(Ok(result))
    }

    /// Removes the record of a tick whose retention is over. Returns whether its entry of the log, of this
    /// span, is dealt with.
    pub(crate) fn purge_tick(
        &mut self,
        tick: &(Name, WallTime),
        span: Option<i64>,
        prefetched: &Prefetched,
    ) -> bool {
        let record = match prefetched.tick(tick) {
            Ok(Some(record)) => record,
            Ok(None) => return true,
            Err(refusal) => {
                self.shared.records.tell::<Tick>(tick, &refusal.to_string());
                return false;
            }
        };
        let (schedule, first) = tick.clone();
        let command = Command::PurgeTick { schedule, first, retain_until: record.retain_until };
        match self.machine.apply(command) {
            // A run that went on has another entry.
            Ok(Reply::Kept { until }) => Some(layout::retain_span(until)) != span,
            _ => true,
        }
    }

    /// Refuses to create what a node of an older version would lose.
    pub(crate) fn check_level(&self, command: &Command) -> Result<(), Refusal> {
        // A new level is in the same batch as the first change that needs it.
        let durable = self.shared.cluster_level.load(Ordering::Relaxed);
        let level = self.level.unwrap_or(0).max(self.raised_to).max(durable);
        match command {
            Command::PutSchedule(_) | Command::PutCalendar { .. } if level < SCHEDULES => {
                Err(Refusal::FeatureLevel { needed: SCHEDULES, level })
            }
            _ => Ok(()),
        }
    }
}

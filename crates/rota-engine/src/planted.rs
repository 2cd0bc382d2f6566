//! Planted faults: mistakes that can be enabled in the engine, to check that the simulator finds them.
//!
//! Only builds with the feature `planted-faults` have them, and a fault is active only after a call of
//! `Planted::plant` on the same thread. In other builds `Planted::is_made` is false, and the faulty code is
//! not compiled in.

use std::sync::Arc;

use rota_core::{Mutation, WallTime, tick_id};

macro_rules! mistakes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A planted fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Planted {
            /// All faults.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

mistakes! {
    /// Answers and dispatches are sent before their batch is durable.
    ReleasesEarly,
    /// Reads are answered before the state that they show is durable.
    AnswersQuestionsEarly,
    /// A pause is acknowledged before it is durable.
    AnswersPausesEarly,
    /// A cancellation is acknowledged before it is durable.
    AnswersCancelsEarly,
    /// Sometimes the end of an attempt is acknowledged but not recorded.
    LosesReports,
    /// Sometimes a result is omitted from the batch.
    DropsResults,
    /// The names of a deleted task stay taken.
    KeepsNames,
    /// Client ids and idempotency keys are ignored.
    ForgetsNames,
    /// An id that was free is taken for free after a client's task got it.
    KeepsFreeIds,
    /// Ended tasks are removed before their retention is over.
    PurgesBlindly,
    /// A wall clock that jumps forward is trusted.
    BelievesJumps,

    /// A task gets one attempt more than its maximum.
    RetriesOnceMore,
    /// The lowest priority goes first.
    InvertsPriorities,
    /// Tasks never expire.
    RunsExpired,
    /// A failed attempt is retried without backoff.
    IgnoresBackoff,
    /// Tasks are due three seconds early.
    RunsEarly,
    /// No timer fires.
    DropsTimers,

    /// A snooze spends an attempt of the budget.
    SnoozesSpend,
    /// A snoozed task is due at once.
    SnoozesEndEarly,
    /// The record of a snoozed attempt is not kept.
    SnoozesLeaveNoRecord,
    /// An edit is made whichever version of the task it was made up for.
    EditsIgnoreVersions,
    /// An edit is acknowledged before it is durable.
    AnswersEditsEarly,
    /// A worker gets the definition that a task had before it was edited.
    KeepsOldDefinitions,

    /// Heartbeats are answered but not recorded.
    IgnoresHeartbeats,
    /// A heartbeat is answered only when the current commit is durable.
    HeartbeatsWait,
    /// Time in which the process was paused counts against sessions.
    CountsPauses,
    /// Time in which the backlog is loaded counts against sessions.
    ClockRunsWhileLoading,
    /// A broken connection ends the session even if its worker has reconnected.
    DetachEndsSessions,
    /// A draining worker loses its tasks.
    DrainEndsSessions,
    /// A draining worker gets tasks.
    IgnoresDrain,
    /// A reconnected worker is answered on its former channel.
    KeepsFormerChannel,
    /// A reconnected worker is sent tasks that it already has.
    ForgetsHeld,
    /// A worker without a stream gets tasks that it already has.
    LeasesTwice,

    /// Sometimes a task is assigned but never sent.
    DropsDispatches,
    /// Payloads whose joint read failed are read together again.
    RepeatsUnreadable,
    /// A failed read does not release its share of the read limit.
    LeaksReads,
    /// Sometimes clients that wait for the end of a task are not woken.
    LosesWakeUps,
    /// Sometimes a list omits a live task.
    ListsLeaveOut,
    /// A step takes all waiting requests.
    StepsWithoutBound,
    /// The cache of definitions has no bound.
    CachesWithoutBound,
    /// Requests take no memory from the budget for those that wait.
    TakesWithoutRoom,
    /// The channel to a worker takes payloads without bound.
    FillsChannels,

    /// A call that times out reports that nothing was changed.
    LiesAboutTimeouts,
    /// Sometimes a change of one task is made, but reported as not made.
    LiesAboutChanges,
    /// Sometimes a change of many tasks is made, but reported as not made.
    LiesAboutBulk,

    /// The copy of the backlog keeps ended tasks.
    KeepsEndedInCopy,
    /// Sometimes the copy of the backlog misses a change.
    MissesChanges,
    /// The copy of the backlog ignores pauses of queues.
    ForgetsPauses,
    /// The copy of the backlog is used even if it does not include the last batch.
    TrustsOldCopy,
    /// A new leader forgets some of the tasks that it loads.
    ForgetsTasks,
    /// The copy of the backlog ignores the states of schedules.
    ForgetsCursors,
    /// The state of a schedule is written in the step after the one that decides its ticks.
    WritesCursorsLate,
    /// The id and the nominal time of a tick's task are those of the present second.
    NamesTicksByClock,
    /// Ticks that are missed, or stood for by later ones, leave no outcome.
    LosesMissedTicks,
    /// Ticks are decided by a wall clock that jumped forward as soon as it jumped.
    DecidesByJumps,
    /// A commit with an unknown outcome counts as durable.
    TakesUnknownForLanded,
    /// A commit with an unknown outcome counts as failed.
    TakesUnknownForLost,
    /// A commit that the fence refused counts as durable.
    IgnoresFences,
}

impl Planted {
    /// Whether engines on this thread have this fault.
    #[cfg(not(feature = "planted-faults"))]
    pub(crate) const fn is_made(self) -> bool {
        let _ = self;
        false
    }

    /// Whether engines on this thread have this fault.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Whether the fault occurs this time: once in the given number of times.
    pub(crate) fn is_made_once_in(self, times: u32) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.is_made() {
            COUNT.set(COUNT.get() + 1);
            return COUNT.get().is_multiple_of(times);
        }
        let _ = (self, times);
        false
    }

    /// Enables this fault, or none, for engines on this thread.
    #[cfg(feature = "planted-faults")]
    pub fn plant(planted: Option<Self>) {
        MADE.set(planted);
        COUNT.set(0);
    }
}

/// Planted faults: changes what a step writes of schedules. `late` is kept from one step to the next.
pub(crate) fn spoil_ticks(mutations: &mut Vec<Mutation>, late: &mut Vec<Mutation>) {
    if Planted::WritesCursorsLate.is_made() {
        let is_cursor =
            |mutation: &mut Mutation| matches!(mutation, Mutation::PutScheduleState { .. });
        let former = std::mem::take(late);
        *late = mutations.extract_if(.., is_cursor).collect();
        mutations.extend(former);
    }
    if Planted::NamesTicksByClock.is_made() {
        for mutation in mutations {
            let Mutation::PutSpec(spec) = mutation else { continue };
            let spec = Arc::make_mut(spec);
            let Some(tick) = spec.tick.as_mut().filter(|tick| tick.nominal.is_some()) else {
                continue;
            };
            let second = WallTime(spec.created_at.0.div_euclid(1000) * 1000);
            spec.client_keys.id = Some(tick_id(&tick.schedule, second));
            tick.nominal = Some(second);
        }
    }
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static MADE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

//! Mistakes that can be planted in the engine, so that it is seen whether the simulator finds them.
//!
//! Only builds with the feature `planted-faults` have them, and there one is made only after
//! `Planted::plant` was called on the same thread. In any other build `Planted::is_made` is false,
//! and what hangs on it is not compiled in.

macro_rules! mistakes {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Planted {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

mistakes! {
    /// Answers and dispatches leave before their batch is durable.
    ReleasesEarly,
    /// Questions are answered before what they tell of is durable.
    AnswersQuestionsEarly,
    /// A pause is acknowledged before it is durable.
    AnswersPausesEarly,
    /// A cancellation is acknowledged before it is durable.
    AnswersCancelsEarly,
    /// Now and then the end of an attempt is acknowledged and not noted.
    LosesReports,
    /// Now and then a result is left out of the batch.
    DropsResults,
    /// The names of a task that is removed stay taken.
    KeepsNames,
    /// Nobody is known by the names that tasks give themselves.
    ForgetsNames,
    /// History is removed whether or not its time is over.
    PurgesBlindly,
    /// A wall clock that jumps forward is believed.
    BelievesJumps,

    /// A task is tried once more than its client asked.
    RetriesOnceMore,
    /// The lowest priority goes first.
    InvertsPriorities,
    /// It is forgotten that a task expires.
    RunsExpired,
    /// A failed attempt is followed by another at once.
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

    /// Heartbeats are answered and not noted.
    IgnoresHeartbeats,
    /// A heartbeat is answered when the commit at hand has landed.
    HeartbeatsWait,
    /// Time in which the process stood still counts for sessions.
    CountsPauses,
    /// Time in which the backlog is loaded counts for sessions.
    ClockRunsWhileLoading,
    /// A connection that breaks ends the session, though its worker came back on another.
    DetachEndsSessions,
    /// A worker that is to drain loses its tasks.
    DrainEndsSessions,
    /// A worker that is to drain gets tasks.
    IgnoresDrain,
    /// A worker that comes back is answered on its former channel.
    KeepsFormerChannel,
    /// A worker that comes back is sent what it has.
    ForgetsHeld,
    /// A worker without a stream is handed what it has.
    LeasesTwice,

    /// Now and then a task is assigned and never sent.
    DropsDispatches,
    /// Payloads that cannot be read together are read together again.
    RepeatsUnreadable,
    /// Room for reads is not given back when a read fails.
    LeaksReads,
    /// Now and then nobody who waits for a task's end is woken.
    LosesWakeUps,
    /// Now and then a list leaves out a live task.
    ListsLeaveOut,
    /// A step takes all that waits.
    StepsWithoutBound,

    /// A call without an answer in time says that it changed nothing.
    LiesAboutTimeouts,
    /// Now and then a change of one task was made, and it is said that nothing was changed.
    LiesAboutChanges,
    /// Now and then many tasks were changed, and it is said that nothing was.
    LiesAboutBulk,

    /// The copy of the backlog keeps what ended.
    KeepsEndedInCopy,
    /// Now and then the copy of the backlog misses a change.
    MissesChanges,
    /// The copy of the backlog knows of no pause.
    ForgetsPauses,
    /// The copy of the backlog is used though it does not hold the last batch.
    TrustsOldCopy,
    /// A new leader forgets some of the tasks that it reads.
    ForgetsTasks,
    /// A commit whose outcome is not known counts as landed.
    TakesUnknownForLanded,
    /// A commit whose outcome is not known counts as not landed.
    TakesUnknownForLost,
    /// A commit that the fence refused counts as landed.
    IgnoresFences,
}

impl Planted {
    /// Whether engines on this thread make this mistake.
    #[cfg(not(feature = "planted-faults"))]
    pub(crate) const fn is_made(self) -> bool {
        let _ = self;
        false
    }

    /// Whether engines on this thread make this mistake.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// Whether they make it this time: once in so many times.
    pub(crate) fn is_made_once_in(self, times: u32) -> bool {
        #[cfg(feature = "planted-faults")]
        if self.is_made() {
            COUNT.set(COUNT.get() + 1);
            return COUNT.get().is_multiple_of(times);
        }
        let _ = (self, times);
        false
    }

    /// Engines on this thread make this mistake from now on, or none.
    #[cfg(feature = "planted-faults")]
    pub fn plant(planted: Option<Self>) {
        MADE.set(planted);
        COUNT.set(0);
    }
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static MADE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
    static COUNT: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

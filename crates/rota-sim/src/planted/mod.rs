//! Mistakes that the simulator must find, each with the number of events within which it does.
//!
//! Those of the engine are in its own list; the simulated store has some besides. The list is by kind:
//! what is promised to clients (`promises`), sessions of workers (`workers`), and what a change of
//! leader and the store must not harm (`takeovers`).

mod promises;
mod takeovers;
mod workers;

use rota_engine::Planted;

use crate::{
    audit::Rule,
    plan::Fault,
    run::{Options, run},
    world::World,
};

/// A mistake that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// In the engine.
    Engine(Planted),
    /// In the simulated store.
    Store(StoreMistake),
}

/// A mistake of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMistake {
    /// It does not compare fences.
    IgnoresFences,
    /// Now and then a change in a batch is not made.
    DropsWrites,
    /// Reads show the store as it was some batches ago.
    ReadsOld,
}

/// A mistake, and how it is found.
#[derive(Debug, Clone, Copy)]
pub struct Find {
    /// The mistake.
    pub mistake: Mistake,
    /// It is found within so many events.
    pub within: u64,
    /// Events of one run in which it is looked for.
    pub run: u64,
    /// The rules that it breaks first.
    pub breaks: &'static [Rule],
    /// Whether faults are needed to find it.
    pub needs_faults: bool,
    /// Where it takes rare faults, or some at a time: the only ones that there are, in their order.
    pub kinds: &'static [Fault],
    /// Where it takes rare times: the TTLs of sessions and of leadership, in milliseconds.
    pub ttls_ms: Option<(u64, u64)>,
    /// Where it takes definitions that are read from the store: the bytes of those that a leader keeps.
    pub cache_bytes: Option<usize>,
}

/// Events of one run in which a mistake is looked for.
const SHORT_RUN: u64 = 20_000;
/// Those of one that takes a rare fault at the right moment, and a world that has been at work for some time.
const LONG_RUN: u64 = 100_000;
/// A mistake that takes more events than this is not looked for in every run of the tests.
pub const QUICK: u64 = 200_000;

/// Events within which one that was not seen to be found is looked for.
const UNFOUND_EVENTS: u64 = 5_000_000;

/// What the engine does wrong in any run.
const fn plain(planted: Planted, within: u64, breaks: &'static [Rule]) -> Find {
    let needs_faults = false;
    Find { needs_faults, ..faulty(planted, within, breaks) }
}

/// What the engine does wrong when something else goes wrong.
const fn faulty(planted: Planted, within: u64, breaks: &'static [Rule]) -> Find {
    soon(Mistake::Engine(planted), within, breaks)
}

/// What shows soon when something else goes wrong.
const fn soon(mistake: Mistake, within: u64, breaks: &'static [Rule]) -> Find {
    Find {
        mistake,
        within,
        run: SHORT_RUN,
        breaks,
        needs_faults: true,
        kinds: &[],
        ttls_ms: None,
        cache_bytes: None,
    }
}

/// What the engine does wrong when something rare goes wrong.
const fn rare(planted: Planted, within: u64, breaks: &'static [Rule]) -> Find {
    Find { run: LONG_RUN, ..faulty(planted, within, breaks) }
}

/// What the engine does wrong when things of these kinds go wrong.
const fn when(
    planted: Planted,
    kinds: &'static [Fault],
    within: u64,
    breaks: &'static [Rule],
) -> Find {
    Find { run: LONG_RUN, kinds, ..faulty(planted, within, breaks) }
}

/// What the store does wrong.
const fn store(mistake: StoreMistake, within: u64, breaks: &'static [Rule]) -> Find {
    soon(Mistake::Store(mistake), within, breaks)
}

impl Find {
    /// What it is called on the command line. One of the store has that before its name.
    #[must_use]
    pub fn name(&self) -> String {
        match self.mistake {
            Mistake::Engine(planted) => format!("{planted:?}"),
            Mistake::Store(mistake) => format!("Store{mistake:?}"),
        }
    }
}

/// All that are found.
pub fn list() -> impl Iterator<Item = &'static Find> {
    promises::LIST.iter().chain(workers::LIST).chain(takeovers::LIST)
}

/// Mistakes that the simulator was not seen to find, each with the likely reason.
pub const NOT_FOUND: &[(Planted, &str)] = &[
    (
        Planted::ClockRunsWhileLoading,
        "what workers sent while the backlog was loaded is read before anybody is judged, so it takes \
         a load longer than a TTL with silent workers, who are no longer healthy then",
    ),
    (
        Planted::FillsChannels,
        "the simulated network takes what is in a channel at once; a trial plan in which two machines of workers \
         read nothing while clients flooded did not show it either. A test of the engine has such a worker",
    ),
];

/// Those of [`NOT_FOUND`], to be looked for all the same.
pub fn unfound() -> impl Iterator<Item = Find> {
    NOT_FOUND.iter().map(|(planted, _)| rare(*planted, UNFOUND_EVENTS, &[]))
}

/// Looks for a mistake over seeds, from this one on. Gives the seed, the events that it took and the rule
/// that was broken.
#[must_use]
pub fn find(find: &Find, first: u64) -> Option<(u64, u64, Rule)> {
    let mut events = 0;
    for seed in first.. {
        let mut options = Options::new(seed, find.run);
        options.planted = Some(find.mistake);
        options.kinds = find.kinds;
        options.ttls_ms = find.ttls_ms;
        options.cache_bytes = find.cache_bytes;
        if !find.needs_faults {
            options.only = Some([].into());
        }
        let outcome = run(&options);
        events += outcome.events;
        if let Some(violation) = outcome.violations.first() {
            return Some((seed, events, violation.rule));
        }
        if events > find.within {
            return None;
        }
    }
    None
}

/// Plants it for what runs on this thread.
pub(crate) fn plant(mistake: Option<Mistake>, world: &World) {
    let (engine, store) = match mistake {
        Some(Mistake::Engine(planted)) => (Some(planted), None),
        Some(Mistake::Store(mistake)) => (None, Some(mistake)),
        None => (None, None),
    };
    Planted::plant(engine);
    world.lock().store.mistake = store;
}

//! Mistakes that the simulator must find, each with the number of events within which it does.
//!
//! Those of the engine are in its own list; the simulated store has some besides.

use rota_engine::Planted;

use crate::{audit::Rule, world::World};

/// A mistake that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// In the engine.
    Engine(Planted),
    /// The store does not compare fences.
    StoreIgnoresFences,
}

/// A mistake, and how it is found.
#[derive(Debug, Clone, Copy)]
pub struct Find {
    /// Which.
    pub mistake: Mistake,
    /// It is found within so many events, whatever the seed.
    pub within: u64,
    /// The rules that it can break.
    pub breaks: &'static [Rule],
    /// Whether faults are needed to find it.
    pub needs_faults: bool,
}

const fn engine(
    planted: Planted,
    within: u64,
    breaks: &'static [Rule],
    needs_faults: bool,
) -> Find {
    Find { mistake: Mistake::Engine(planted), within, breaks, needs_faults }
}

/// All of them.
pub const LIST: &[Find] = &[
    engine(Planted::ReleasesEarly, 50_000, &[Rule::Lost, Rule::Dispatch, Rule::Reports], false),
    engine(Planted::IgnoresHeartbeats, 200_000, &[Rule::Healthy], false),
    engine(Planted::DropsDispatches, 200_000, &[Rule::Progress], false),
    engine(Planted::ForgetsNames, 500_000, &[Rule::Names, Rule::Lost], true),
    engine(Planted::KeepsEndedInCopy, 1_000_000, &[Rule::Ends, Rule::Lost], true),
    engine(Planted::TakesUnknownForLanded, 1_000_000, &[Rule::Lost, Rule::Dispatch], true),
    engine(Planted::TakesUnknownForLost, 5_000_000, &[Rule::Progress], true),
    engine(Planted::IgnoresFences, 1_000_000, &[Rule::Lost, Rule::Dispatch], true),
    engine(Planted::KeepsFormerChannel, 1_000_000, &[Rule::Progress], true),
    Find {
        mistake: Mistake::StoreIgnoresFences,
        within: 1_000_000,
        breaks: &[Rule::Fences],
        needs_faults: true,
    },
];

/// Mistakes that the simulator does not find yet, each with the reason.
pub const NOT_FOUND: &[(Planted, &str)] = &[
    (Planted::TrustsOldCopy, "the copy is seldom behind when its node is elected"),
    (
        Planted::ForgetsTasks,
        "it strikes where the backlog is read anew, and most leaders have a copy",
    ),
    (Planted::LiesAboutTimeouts, "no fault lasts as long as a call may wait"),
];

/// Plants it for what runs on this thread.
pub(crate) fn plant(mistake: Option<Mistake>, world: &World) {
    let engine = match mistake {
        Some(Mistake::Engine(planted)) => Some(planted),
        Some(Mistake::StoreIgnoresFences) | None => None,
    };
    Planted::plant(engine);
    world.lock().store.ignores_fences = mistake == Some(Mistake::StoreIgnoresFences);
}

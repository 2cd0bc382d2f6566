//! The simulator finds mistakes that are planted in the engine and in the store.

use rota_sim::{
    Options, Rule,
    planted::{Find, LIST, Mistake},
    run,
};

/// Events of one run.
const EVENTS: u64 = 20_000;

/// Looks for it over seeds; gives the events that it took and the rule that was broken.
fn find(find: &Find) -> Option<(u64, Rule)> {
    let mut events = 0;
    for seed in 100.. {
        let mut options = Options::new(seed, EVENTS);
        options.planted = Some(find.mistake);
        if find.needs_faults {
            // Rules that the engine breaks without a planted mistake as well.
            options.excused = vec![Rule::Healthy];
        } else {
            options.only = Some([].into());
        }
        let outcome = run(&options);
        events += outcome.events;
        if let Some(violation) = outcome.violations.first() {
            return Some((events, violation.rule));
        }
        if events > find.within {
            return None;
        }
    }
    None
}

fn is_found(mistake: Mistake) {
    let wanted = LIST.iter().find(|find| find.mistake == mistake).expect("it is in the list");
    let (events, rule) = find(wanted).unwrap_or_else(|| panic!("{mistake:?} is not found"));
    assert!(events <= wanted.within, "{mistake:?}: {events} events");
    assert!(wanted.breaks.contains(&rule), "{mistake:?} breaks {rule:?}");
}

macro_rules! found {
    ($($name:ident: $mistake:expr;)+) => {
        $(
            #[test]
            fn $name() {
                is_found($mistake);
            }
        )+
    };
}

use rota_engine::Planted;

found! {
    early_releases: Mistake::Engine(Planted::ReleasesEarly);
    ignored_heartbeats: Mistake::Engine(Planted::IgnoresHeartbeats);
    dropped_dispatches: Mistake::Engine(Planted::DropsDispatches);
    unknown_taken_for_landed: Mistake::Engine(Planted::TakesUnknownForLanded);
    unknown_taken_for_lost: Mistake::Engine(Planted::TakesUnknownForLost);
    ignored_fences: Mistake::Engine(Planted::IgnoresFences);
    a_store_that_ignores_fences: Mistake::StoreIgnoresFences;
}

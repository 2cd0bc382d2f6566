//! The simulator finds mistakes that are planted in the engine and in the store.
//!
//! Those that take few events are looked for in every run of the tests, the others by `make planted`.

use rota_engine::Planted;
use rota_sim::planted::{Find, Mistake, NOT_FOUND, QUICK, find, list};

/// The first seed that is looked at.
const FIRST: u64 = 100;

fn is_found(wanted: &Find) {
    let mistake = wanted.mistake;
    let found = find(wanted, FIRST);
    let (seed, events, rule) = found.unwrap_or_else(|| panic!("{mistake:?} is not found"));
    assert!(events <= wanted.within, "{mistake:?}: {events} events up to seed {seed}");
    assert!(wanted.breaks.contains(&rule), "{mistake:?} breaks {rule:?} with seed {seed}");
}

/// Looks for every so many-th of those that take few events.
fn quick(part: usize, parts: usize) {
    let quick = list().filter(|find| find.within <= QUICK);
    quick.skip(part).step_by(parts).for_each(is_found);
}

#[test]
fn mistakes_that_show_soon_are_found_first_part() {
    quick(0, 4);
}

#[test]
fn mistakes_that_show_soon_are_found_second_part() {
    quick(1, 4);
}

#[test]
fn mistakes_that_show_soon_are_found_third_part() {
    quick(2, 4);
}

#[test]
fn mistakes_that_show_soon_are_found_fourth_part() {
    quick(3, 4);
}

#[test]
#[ignore = "takes minutes; make planted runs it"]
fn mistakes_that_show_late_are_found() {
    list().filter(|find| find.within > QUICK).for_each(is_found);
}

#[test]
fn every_mistake_of_the_engine_is_listed() {
    for planted in Planted::ALL {
        let found = list().any(|find| find.mistake == Mistake::Engine(*planted));
        let not_found = NOT_FOUND.iter().any(|(other, _)| other == planted);
        assert!(found != not_found, "{planted:?}");
    }
}

//! Runs of a few seeds, and what a run promises of itself.

use rota_engine::Planted;
use rota_sim::{Options, Rule, RunOutcome, minimise, planted::Mistake, run};

/// Events are small pieces of memory that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rules that the engine is known to break, each to be named with the reason. None at present.
const EXCUSED: &[Rule] = &[];

/// Events over new seeds each time the tests run.
const NEW_EVENTS: u64 = 10_000_000;
/// They are shared out over so many tests, which can run beside each other.
const PARTS: u64 = 4;
/// Events of one run.
const RUN: u64 = 100_000;
/// Events over new seeds by wire, with faults that come one at a time.
const SINGLE_FAULT_EVENTS: u64 = 300_000;
const MINIMISING_RUNS: usize = 30;

fn options(seed: u64, events: u64) -> Options {
    Options { excused: EXCUSED.to_vec(), ..Options::new(seed, events) }
}

/// Fails with what was broken, and with the command that repeats it with as few faults as it takes.
fn content(options: &Options, outcome: &RunOutcome) {
    if outcome.violations.is_empty() {
        return;
    }
    let shown: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
    let needed = minimise(options, outcome, MINIMISING_RUNS);
    let repeat = options.command(Some(&needed));
    panic!("{}\n{}\nrepeat: {repeat}", outcome.recent.join("\n"), shown.join("\n"));
}

/// The seeds that nobody has run before begin here. `ROTA_SIM_SEED` or `ROTA_TEST_SEED` repeats them.
#[expect(clippy::print_stdout, reason = "the output of a test says how to repeat it")]
fn first_seed() -> u64 {
    let clock = std::time::UNIX_EPOCH.elapsed().expect("a date after 1970");
    let drawn = clock.as_secs() ^ u64::from(clock.subsec_nanos());
    let set = |name: &str| std::env::var(name).ok().filter(|given| !given.is_empty());
    let given = set("ROTA_SIM_SEED").or_else(|| set("ROTA_TEST_SEED"));
    let given = given.map(|given| given.parse().expect("a seed is a number"));
    let base: u64 = given.unwrap_or(drawn);
    println!("repeat all with ROTA_SIM_SEED={base}");
    base
}

/// Runs seeds from this one on, until they come to so many events.
#[expect(clippy::print_stdout, reason = "the output of a test says which seeds it ran")]
fn are_clean(first: u64, total: u64, options: impl Fn(u64) -> Options) {
    let (began, mut seed, mut events) = (std::time::Instant::now(), first, 0);
    while events < total {
        let options = options(seed);
        let outcome = run(&options);
        content(&options, &outcome);
        events += outcome.events;
        seed += 1;
    }
    let took = began.elapsed();
    println!("seeds {first} to {}: {events} events in {took:.1?}", seed - 1);
}

/// A part of the runs over new seeds.
fn new_seeds(part: u64) {
    are_clean(first_seed() + (part << 32), NEW_EVENTS / PARTS, |seed| options(seed, RUN));
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte() {
    // By wire few: a run of seconds depends on the machine's clock, by which streams that were reset are
    // forgotten in the HTTP/2 library.
    for (seed, events, wire) in
        [(1, 30_000, false), (6, 60_000, false), (1, 8_000, true), (4, 8_000, true)]
    {
        let options = Options { log: true, wire, ..options(seed, events) };
        let (first, second) = (run(&options), run(&options));
        let (first_log, second_log) = (first.log.unwrap(), second.log.unwrap());
        let differ = first_log.lines().zip(second_log.lines()).find(|(one, two)| one != two);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!((first.hash, first.events), (second.hash, second.events), "seed {seed}");
    }
}

#[test]
fn other_seeds_are_other_runs() {
    assert_ne!(run(&options(1, 5_000)).hash, run(&options(2, 5_000)).hash);
}

#[test]
fn shipped_servers_workers_and_clients_run_in_it() {
    for seed in 1..=2 {
        println!("seed {seed}");
        let options = Options { wire: true, ..options(seed, 15_000) };
        content(&options, &run(&options));
    }
}

/// None of these faults may cost a healthy worker a lease: it has to find a node that answers.
#[test]
fn shipped_workers_keep_their_leases_when_faults_come_one_at_a_time() {
    are_clean(first_seed(), SINGLE_FAULT_EVENTS, |seed| Options {
        wire: true,
        single_faults: true,
        ..options(seed, RUN)
    });
}

#[test]
fn a_failing_run_is_made_smaller() {
    let mut options = options(100, 20_000);
    options.planted = Some(Mistake::Engine(Planted::TakesUnknownForLanded));
    let failed = (100..120).find_map(|seed| {
        options.seed = seed;
        Some(run(&options)).filter(|outcome| !outcome.violations.is_empty())
    });
    let failed = failed.expect("a run that fails");
    let needed = minimise(&options, &failed, 12);
    assert!(needed.len() <= failed.faults.len());
    let again = run(&Options { only: Some(needed), ..options });
    let rule = failed.violations[0].rule;
    assert!(again.violations.iter().any(|violation| violation.rule == rule));
}

#[test]
fn listed_seeds_are_clean() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let options = options(seed, 30_000);
        content(&options, &run(&options));
    }
}

#[test]
fn new_seeds_are_clean_first_part() {
    new_seeds(0);
}

#[test]
fn new_seeds_are_clean_second_part() {
    new_seeds(1);
}

#[test]
fn new_seeds_are_clean_third_part() {
    new_seeds(2);
}

#[test]
fn new_seeds_are_clean_fourth_part() {
    new_seeds(3);
}

//! Runs of a few seeds, and what a run promises of itself.

use rota_engine::Planted;
use rota_sim::{Options, Outcome, Rule, minimise, planted::Mistake, run};

/// Rules that the engine is known to break, each to be named with the reason. None at present.
const EXCUSED: &[Rule] = &[];

fn options(seed: u64, events: u64) -> Options {
    Options { excused: EXCUSED.to_vec(), ..Options::new(seed, events) }
}

fn content(outcome: &Outcome, seed: u64) {
    let shown: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
    let repeat = format!("cargo run -p rota-sim -- --seed {seed}");
    assert!(shown.is_empty(), "{repeat}\n{}\n{}", shown.join("\n"), outcome.recent.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte() {
    for seed in [1, 7] {
        let options = Options { log: true, ..options(seed, 30_000) };
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
        content(&run(&Options { wire: true, ..options(seed, 15_000) }), seed);
    }
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
        content(&run(&options(seed, 30_000)), seed);
    }
}

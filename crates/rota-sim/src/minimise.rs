//! Makes a failing run smaller: leaves out faults of its plan for as long as it still fails.

use std::collections::BTreeSet;

use crate::run::{Options, RunOutcome, run};

/// The faults that it takes, of those that began in a failing run: fewer, where fewer still break the
/// same rule. Makes at most so many runs.
#[must_use]
pub fn minimise(options: &Options, failed: &RunOutcome, runs_max: usize) -> BTreeSet<usize> {
    let mut needed: Vec<usize> = failed.faults.iter().map(|planned| planned.number).collect();
    let Some(rule) = failed.violations.first().map(|violation| violation.rule) else {
        return needed.into_iter().collect();
    };
    let mut runs = 0;
    let mut fails = |faults: &[usize]| {
        runs += 1;
        let only = Some(faults.iter().copied().collect());
        let again = run(&Options { only, log: false, ..options.clone() });
        (again.violations.iter().any(|violation| violation.rule == rule), runs >= runs_max)
    };
    let mut size = needed.len().max(1);
    loop {
        let mut at = 0;
        while at < needed.len() {
            let end = (at + size).min(needed.len());
            let rest: Vec<usize> = needed[..at].iter().chain(&needed[end..]).copied().collect();
            let (still, over) = fails(&rest);
            if still {
                needed = rest;
            } else {
                at = end;
            }
            if over {
                return needed.into_iter().collect();
            }
        }
        if size == 1 {
            return needed.into_iter().collect();
        }
        size = size.div_ceil(2);
    }
}

//! What metrics cost.
//!
//! - `bench-metrics scrape target/release/rota [tasks] [queues] [scrapes]` ([`scrape`]): how long `/metrics`
//!   takes on a node with so many pending tasks.
//! - `bench-metrics compare BEFORE AFTER [rounds] [tasks]` ([`compare`]): what `rota bench throughput` says
//!   of two builds, in turn; so a commit can be held against the one before it. `bench/metrics/cost.sh` does
//!   it with one build that has a switch, and so tells what metrics cost.
//!
//! From a directory on the disk in question.

mod compare;
mod scrape;

use std::{env, error::Error};

type BenchResult<T> = Result<T, Box<dyn Error>>;

const USAGE: &str =
    "bench-metrics scrape ROTA [TASKS] [QUEUES] [SCRAPES] | compare BEFORE AFTER [ROUNDS] [TASKS]";

fn main() -> BenchResult<()> {
    let mut arguments = env::args().skip(1);
    let verb = arguments.next();
    let mut program = || arguments.next().ok_or(USAGE);
    match verb.as_deref() {
        Some("scrape") => {
            let rota = program()?;
            let tasks = number(arguments.next(), 1_000_000)?;
            let queues = number(arguments.next(), 100)?;
            let scrapes = number(arguments.next(), 200)?;
            scrape::run(&rota, tasks, queues, scrapes)
        }
        Some("compare") => {
            let (before, after) = (program()?, program()?);
            let rounds = number(arguments.next(), 10)?;
            let tasks = number(arguments.next(), 300_000)?;
            compare::run(&before, &after, rounds, tasks)
        }
        _ => Err(USAGE.into()),
    }
}

fn number(argument: Option<String>, otherwise: u32) -> BenchResult<u32> {
    Ok(argument.map_or(Ok(otherwise), |text| text.parse())?)
}

/// The value that so many of 100 do not exceed. The values are sorted.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "a command that reports")]
fn say(line: &str) {
    println!("{line}");
}

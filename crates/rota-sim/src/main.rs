//! Runs the simulator: `rota-sim --seed N --events M`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that tells what it found"
)]

mod record;

use std::{
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use rota_sim::{Options, Rule, RunOutcome, minimise, run};

use crate::record::{Record, Totals};

/// Events are small pieces of memory that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
Usage: rota-sim [OPTIONS]

Runs Rota's engine in a simulated world. Prints the seed first, so that a run can be repeated.

  --seed N       Seed [default: from the clock]
  --events M     Events of a run after which faults and new work end [default: 100000]
  --runs R       Number of runs, with the seeds N, N+1, ... [default: 1]
  --for TIME     Go on with the next seeds for this long, such as 90s, 10m or 2h
  --total E      Go on with the next seeds until all runs have come to E events
  --ignore RULE  Rule that is not checked; can be repeated
  --only LIST    Numbers of the only faults of the plan to use, such as 3,8,21
  --wire         Run the shipped server, worker and client over byte streams
  --single-faults
                 By wire, let faults come one at a time in every run with several nodes, not in a third of them
  --log FILE     Write the whole log to this file
  --planted NAME Look for this planted mistake, or with `all` for each that is known to be found, from the
                 seed on and within its stated number of events, or within E with `--total E`;
                 needs a build with the feature planted-faults
  --record FILE  Append a line for each run to this file, and print the totals of the file at the end
  --label TEXT   Version to write into the record, such as a commit
";

/// Runs that are made to find out which faults a failure takes.
const MINIMISING_RUNS: usize = 60;
/// So often progress is told in a series of runs.
const PROGRESS: Duration = Duration::from_secs(10);

struct Arguments {
    options: Options,
    runs: u64,
    time: Option<Duration>,
    total: Option<u64>,
    log: Option<String>,
    record: Option<String>,
    label: String,
    /// Events of a run, where they are given.
    events: Option<u64>,
    #[cfg(feature = "planted-faults")]
    planted: Option<String>,
}

impl Arguments {
    /// Whether it is a series, of which each run gets little room on the screen.
    fn is_series(&self) -> bool {
        self.time.is_some() || self.total.is_some() || self.runs > 1
    }

    fn goes_on(&self, runs: u64, totals: &Totals, since: Instant) -> bool {
        match (self.time, self.total) {
            (Some(time), _) => since.elapsed() < time,
            (None, Some(total)) => totals.events < total,
            (None, None) => runs < self.runs,
        }
    }
}

fn parse() -> Result<Arguments, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = clock.map_or(1, |now| u64::from(now.subsec_nanos()) ^ now.as_secs());
    let mut parsed = Arguments {
        options: Options::new(seed, 100_000),
        runs: 1,
        time: None,
        total: None,
        log: None,
        record: None,
        label: "-".to_owned(),
        events: None,
        #[cfg(feature = "planted-faults")]
        planted: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if flag == "--help" {
            return Err(USAGE.to_owned());
        }
        match flag.as_str() {
            "--wire" => parsed.options.wire = true,
            "--single-faults" => parsed.options.single_faults = true,
            _ => {
                let value =
                    given.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"))?;
                set(&mut parsed, &flag, value)?;
            }
        }
    }
    Ok(parsed)
}

fn set(parsed: &mut Arguments, flag: &str, value: String) -> Result<(), String> {
    let number = || value.parse::<u64>().map_err(|error| format!("{flag} {value}: {error}"));
    match flag {
        "--seed" => parsed.options.seed = number()?,
        "--events" => {
            parsed.options.events = number()?;
            parsed.events = Some(parsed.options.events);
        }
        "--runs" => parsed.runs = number()?,
        "--for" => parsed.time = Some(duration(&value)?),
        "--total" => parsed.total = Some(number()?),
        "--log" => {
            parsed.options.log = true;
            parsed.log = Some(value);
        }
        "--record" => parsed.record = Some(value),
        "--label" => parsed.label = value,
        "--ignore" => {
            let rule = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == value);
            let rule = rule.ok_or_else(|| format!("no rule {value}: {:?}", Rule::ALL))?;
            parsed.options.excused.push(rule);
        }
        #[cfg(feature = "planted-faults")]
        "--planted" => parsed.planted = Some(value),
        "--only" => {
            let numbers = value.split(',').filter(|number| !number.is_empty());
            let only = numbers.map(str::parse).collect::<Result<_, _>>();
            parsed.options.only = Some(only.map_err(|error| format!("--only {value}: {error}"))?);
        }
        _ => return Err(format!("unknown option {flag}\n\n{USAGE}")),
    }
    Ok(())
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 90s, 10m or 2h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(number * seconds))
}

/// Looks for planted mistakes by name, for as many events as are stated or given.
#[cfg(feature = "planted-faults")]
fn look_for(name: &str, parsed: &Arguments) -> ExitCode {
    use rota_sim::planted::{self, Find};
    let named = |find: &Find| name == "all" || find.name() == name;
    let mut wanted: Vec<Find> = planted::list().copied().filter(named).collect();
    if wanted.is_empty() {
        wanted.extend(planted::unfound().filter(named));
    }
    if wanted.is_empty() {
        eprintln!("no planted mistake {name}");
        return ExitCode::from(2);
    }
    let mut missed = false;
    for mut find in wanted {
        find.within = parsed.total.unwrap_or(find.within);
        find.run = parsed.events.unwrap_or(find.run);
        let began = Instant::now();
        let found = planted::find(&find, parsed.options.seed);
        let (mistake, took) = (find.name(), began.elapsed());
        match found {
            Some((seed, events, rule)) => {
                println!("{mistake}: {rule:?} by seed {seed} after {events} events, {took:.1?}");
            }
            None => println!("{mistake}: not found within {} events, {took:.1?}", find.within),
        }
        missed |= found.is_none();
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn main() -> ExitCode {
    let parsed = match parse() {
        Ok(parsed) => parsed,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    #[cfg(feature = "planted-faults")]
    if let Some(name) = &parsed.planted {
        return look_for(name, &parsed);
    }
    let mut record = match parsed.record.as_deref().map(Record::open).transpose() {
        Ok(record) => record,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let (start, mut told, mut totals) = (Instant::now(), Instant::now(), Totals::default());
    let mut offset = 0;
    while parsed.goes_on(offset, &totals, start) {
        let mut options = parsed.options.clone();
        options.seed = options.seed.wrapping_add(offset);
        offset += 1;
        if !parsed.is_series() || offset == 1 {
            println!("seed {} events {}", options.seed, options.events);
        }
        let began = Instant::now();
        let outcome = run(&options);
        if !parsed.is_series() {
            show(&outcome, began.elapsed());
        }
        totals.add(&outcome);
        if let Some(record) = &mut record
            && let Err(error) = record.add(&parsed.label, &options, &outcome)
        {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
        if let (Some(path), Some(log)) = (&parsed.log, &outcome.log)
            && let Err(error) = std::fs::write(path, log)
        {
            eprintln!("{path}: {error}");
        }
        explain(&options, &outcome);
        if parsed.is_series() && told.elapsed() >= PROGRESS {
            told = Instant::now();
            println!("seed {}: {}", options.seed, totals.told(start.elapsed()));
        }
        // Others follow it through a pipe.
        let _ = std::io::stdout().flush();
    }
    println!("{}", totals.told(start.elapsed()));
    if let Some(record) = record {
        match record.totals(&parsed.label) {
            Ok(told) => println!("{told}"),
            Err(error) => eprintln!("{error}"),
        }
    }
    if totals.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(outcome: &RunOutcome, took: Duration) {
    println!(
        "{:.1?} simulated in {took:.1?}, {} faults, hash {:016x}\n{:?}",
        outcome.simulated,
        outcome.faults.len(),
        outcome.hash,
        outcome.counts,
    );
}

/// Says what was broken and how to repeat it with as few faults as it takes.
fn explain(options: &Options, outcome: &RunOutcome) {
    if outcome.violations.is_empty() {
        return;
    }
    println!("seed {} events {}", options.seed, options.events);
    for violation in &outcome.violations {
        println!("BROKEN {violation}");
    }
    let needed = minimise(options, outcome, MINIMISING_RUNS);
    println!("repeat: {}", options.command(Some(&needed)));
    for line in &outcome.recent {
        println!("  {line}");
    }
    for planned in outcome.faults.iter().filter(|planned| needed.contains(&planned.number)) {
        println!("  {planned:?}");
    }
}

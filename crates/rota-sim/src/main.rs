//! Runs the simulator: `rota-sim --seed N --events M`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that tells what it found"
)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use rota_sim::{Options, Rule, minimise, run};

const USAGE: &str = "\
Usage: rota-sim [OPTIONS]

Runs Rota's engine in a simulated world. Prints the seed first, so that a run can be repeated.

  --seed N       Seed [default: from the clock]
  --events M     Events after which faults and new work end [default: 1000000]
  --for TIME     Go on with the next seeds for this long, such as 90s, 10m or 2h
  --runs R       Number of runs, with the seeds N, N+1, ... [default: 1]
  --excuse RULE  Rule that is not checked; can be repeated
  --only LIST    Numbers of the only faults of the plan to use, such as 3,8,21
  --wire         Run the shipped server, worker and client over byte streams
  --log FILE     Write the whole log to this file
  --planted NAME Look for this planted mistake, or with `all` for each of them, from the seed on;
                 needs a build with the feature planted-faults
";

/// Runs that are made to find out which faults a failure takes.
const MINIMISING_RUNS: usize = 60;

struct Arguments {
    options: Options,
    runs: u64,
    time: Option<Duration>,
    log: Option<String>,
    #[cfg(feature = "planted-faults")]
    planted: Option<String>,
}

fn parse() -> Result<Arguments, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = clock.map_or(1, |now| u64::from(now.subsec_nanos()) ^ now.as_secs());
    let mut parsed = Arguments {
        options: Options::new(seed, 1_000_000),
        runs: 1,
        time: None,
        log: None,
        #[cfg(feature = "planted-faults")]
        planted: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        if flag == "--help" {
            return Err(USAGE.to_owned());
        }
        if flag == "--wire" {
            parsed.options.wire = true;
            continue;
        }
        let value = given.next().ok_or_else(|| format!("{flag} needs a value\n\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{flag} {value}: {error}"));
        match flag.as_str() {
            "--seed" => parsed.options.seed = number()?,
            "--events" => parsed.options.events = number()?,
            "--runs" => parsed.runs = number()?,
            "--for" => parsed.time = Some(duration(&value)?),
            "--log" => {
                parsed.options.log = true;
                parsed.log = Some(value);
            }
            "--excuse" => {
                let rule = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == value);
                let rule = rule.ok_or_else(|| format!("no rule {value}: {:?}", Rule::ALL))?;
                parsed.options.excused.push(rule);
            }
            #[cfg(feature = "planted-faults")]
            "--planted" => {
                parsed.planted = Some(value);
            }
            "--only" => {
                let numbers = value.split(',').filter(|part| !part.is_empty());
                let numbers: Result<_, _> = numbers.map(str::parse).collect();
                parsed.options.only = Some(numbers.map_err(|error| format!("{value}: {error}"))?);
            }
            _ => return Err(format!("unknown option {flag}\n\n{USAGE}")),
        }
    }
    Ok(parsed)
}

/// `90s`, `10m`, `2h`.
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

/// Looks for planted mistakes by name.
#[cfg(feature = "planted-faults")]
fn look_for(name: &str, seed: u64) -> ExitCode {
    use rota_sim::planted;
    let named =
        |find: &&planted::Find| name == "all" || format!("{:?}", find.mistake).contains(name);
    let mut missed = planted::list().find(named).is_none();
    for find in planted::list().filter(named) {
        let began = Instant::now();
        let found = planted::find(find, seed);
        let (mistake, took) = (find.mistake, began.elapsed());
        match found {
            Some((seed, events, rule)) => {
                println!("{mistake:?}: {rule:?} by seed {seed} after {events} events, {took:.1?}");
            }
            None => println!("{mistake:?}: not found within {} events, {took:.1?}", find.within),
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
        return look_for(name, parsed.options.seed);
    }
    let mut failed = false;
    let start = Instant::now();
    for offset in 0.. {
        let goes_on = match parsed.time {
            Some(time) => start.elapsed() < time,
            None => offset < parsed.runs,
        };
        if !goes_on {
            break;
        }
        let mut options = parsed.options.clone();
        options.seed = options.seed.wrapping_add(offset);
        println!("seed {} events {}", options.seed, options.events);
        let began = Instant::now();
        let outcome = run(&options);
        let took = began.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = outcome.events as f64 / took.as_secs_f64();
        println!(
            "{} events in {took:.1?} ({rate:.0}/s), {:.1?} simulated, {} faults, hash {:016x}\n{:?}",
            outcome.events,
            outcome.simulated,
            outcome.faults.len(),
            outcome.hash,
            outcome.counts,
        );
        if let (Some(path), Some(log)) = (&parsed.log, &outcome.log)
            && let Err(error) = std::fs::write(path, log)
        {
            eprintln!("{path}: {error}");
        }
        for violation in &outcome.violations {
            failed = true;
            println!("BROKEN {violation}");
        }
        if !outcome.violations.is_empty() {
            let needed = minimise(&options, &outcome, MINIMISING_RUNS);
            let numbers: Vec<_> = needed.iter().map(ToString::to_string).collect();
            println!("takes these faults: --only {}", numbers.join(","));
            for line in &outcome.recent {
                println!("  {line}");
            }
            for planned in &outcome.faults {
                println!("  {planned:?}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

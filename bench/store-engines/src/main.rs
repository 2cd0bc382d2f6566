//! The embedded store beside redb, on what Rota asks of a store: group commits with fsync, a paged
//! scan, a start after `kill -9`, and the space of tasks that are gone.
//!
//! The embedded store is measured as the coordinator uses it, through the `Store` trait with its
//! writer thread, fences and head. redb is measured bare, which favours it. Both run in turns, so that
//! whatever else the machine does hits both.
//!
//! `bench-store-engines [--rounds N] [--seconds N] [--records N] [--tasks N] [--dir DIR] [--json FILE]`

mod contestant;
mod embedded;
mod figures;
mod redb;
mod report;
mod workload;

use std::{env, io, path::PathBuf};

use contestant::{Contestant, Which};
use report::Report;

/// As in the `rota` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is to be measured.
struct Settings {
    /// How often each figure is taken.
    rounds: u64,
    /// How long commits of one size go on.
    seconds: u64,
    /// Records that are scanned, and that lie there at a start.
    records: u64,
    /// Tasks that are written and removed.
    tasks: u64,
    /// Where the stores are made; what is in there goes.
    dir: PathBuf,
    /// Where each figure goes as a line of JSON.
    json: Option<PathBuf>,
}

impl Settings {
    fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut settings = Self {
            rounds: 3,
            seconds: 5,
            records: 1_000_000,
            tasks: 10_000_000,
            dir: PathBuf::from("bench-store-engines.data"),
            json: None,
        };
        while let Some(flag) = arguments.next() {
            let wrong = || io::Error::other(format!("{flag} is not known or lacks its value"));
            let value = arguments.next().ok_or_else(wrong)?;
            let number = || value.parse().map_err(|_| wrong());
            match flag.as_str() {
                "--rounds" => settings.rounds = number()?,
                "--seconds" => settings.seconds = number()?,
                "--records" => settings.records = number()?,
                "--tasks" => settings.tasks = number()?,
                "--dir" => settings.dir = value.into(),
                "--json" => settings.json = Some(value.into()),
                _ => return Err(wrong()),
            }
        }
        Ok(settings)
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [verb, which, dir, records] = &arguments[..]
        && verb == figures::VICTIM
    {
        let which = Which::parse(which).ok_or_else(|| io::Error::other("no such engine"))?;
        let records = records.parse().map_err(io::Error::other)?;
        return figures::be_killed(which, dir.as_ref(), records);
    }
    let settings = Settings::parse(arguments.into_iter())?;
    let mut report = Report::new(settings.json.as_deref())?;
    for round in 0..settings.rounds {
        for which in in_turn(round) {
            for backlog in [0, settings.records] {
                let dir = fresh(&settings, which)?;
                figures::commits(which, &dir, backlog, settings.seconds, &mut report)?;
            }
            let dir = fresh(&settings, which)?;
            figures::restart_and_scan(which, &dir, settings.records, &mut report)?;
        }
    }
    for which in [Which::Embedded, Which::Redb] {
        let dir = fresh(&settings, which)?;
        figures::passing(which, &dir, settings.tasks, &mut report)?;
        let dir = fresh(&settings, which)?;
        figures::space(which, &dir, settings.tasks, &mut report)?;
    }
    std::fs::remove_dir_all(&settings.dir)?;
    report.table();
    Ok(())
}

/// All of them, each first in turn.
fn in_turn(round: u64) -> impl Iterator<Item = Which> {
    let count = Which::ALL.len();
    let first = usize::try_from(round).unwrap_or(0) % count;
    Which::ALL.into_iter().cycle().skip(first).take(count)
}

fn fresh(settings: &Settings, which: Which) -> io::Result<PathBuf> {
    let dir = settings.dir.join(which.name());
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Opens one of them.
fn open(which: Which, dir: &std::path::Path) -> io::Result<Box<dyn Contestant>> {
    Ok(match which {
        Which::Embedded => Box::new(embedded::Embedded::open(dir)?),
        Which::Redb => Box::new(redb::Redb::open(dir, redb::Repair::Full)?),
        Which::RedbQuickRepair => Box::new(redb::Redb::open(dir, redb::Repair::Quick)?),
    })
}

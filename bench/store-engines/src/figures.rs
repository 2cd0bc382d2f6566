//! The figures, each taken on one engine in a directory of its own.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    contestant::{Contestant, Which},
    open,
    report::Report,
    workload::{LIVE, Workload},
};

/// The verb under which this program runs as the one that is killed.
pub(crate) const VICTIM: &str = "be-killed";
/// Mutations in a group commit.
const BATCHES: [usize; 3] = [1, 100, 1_000];
/// Records in a page of a scan.
const PAGE: usize = 1_000;
/// Mutations in a batch where batches are not what is measured.
const LOADING: usize = 10_000;
const UNDER_LOAD: usize = 1_000;
/// Tasks kept after their end where commits are measured, so that some are removed meanwhile.
const KEPT: u64 = 5_000;
/// The same where the room is measured that they take.
const KEPT_LONG: u64 = 100_000;
/// How long the process that is killed goes on committing, once its records are there.
const ALIVE: Duration = Duration::from_secs(3);
/// How long background work may go on after the last tasks were removed.
const SETTLING: Duration = Duration::from_secs(30);

fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Group commits of each size, one after the other: on a store with nothing else in it, or while a
/// backlog is worked off.
pub(crate) fn commits(
    which: Which,
    dir: &Path,
    backlog: u64,
    seconds: u64,
    report: &mut Report,
) -> io::Result<()> {
    let mut engine = open(which, dir)?;
    let mut work = Workload::new(Some(KEPT));
    load(&mut *engine, &mut work, backlog)?;
    // Tasks are on all their stages before the clock runs.
    while work.submitted() < 2 * KEPT {
        engine.commit(work.batch(UNDER_LOAD))?;
    }
    for batch in BATCHES {
        let mut took = Vec::new();
        let mut spent = Duration::ZERO;
        while spent < Duration::from_secs(seconds) {
            let next = work.batch(batch);
            let start = Instant::now();
            engine.commit(next)?;
            let time = start.elapsed();
            spent += time;
            took.push(time);
        }
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1e3;
        report.add(&json!({
            "figure": format!("commits of {batch}, {backlog} wait"),
            "engine": which.name(),
            "mutations_per_second": per_second((took.len() * batch) as u64, spent),
            "p50_ms": at(50),
            "p99_ms": at(99),
            "max_ms": at(100),
        }))?;
    }
    engine.close()
}

/// Writes tasks for a store to begin with.
fn load(engine: &mut dyn Contestant, work: &mut Workload, records: u64) -> io::Result<()> {
    for first in (0..records).step_by(LOADING) {
        engine.commit(work.preload(first..records.min(first + LOADING as u64)))?;
    }
    Ok(())
}

/// A process is killed while it commits; how long until the next one can read, and what a scan of all
/// records takes then and once more.
pub(crate) fn restart_and_scan(
    which: Which,
    dir: &Path,
    records: u64,
    report: &mut Report,
) -> io::Result<()> {
    let acknowledged = run_and_kill(which, dir, records)?;
    let start = Instant::now();
    let mut engine = open(which, dir)?;
    let head = engine.head()?;
    let restart = start.elapsed();
    if head < acknowledged || head > acknowledged + 1 {
        return Err(io::Error::other(format!(
            "{}: batch {acknowledged} was acknowledged, but the head is {head}",
            which.name()
        )));
    }
    report.add(&json!({
        "figure": "restart after kill -9",
        "engine": which.name(),
        "seconds": restart.as_secs_f64(),
    }))?;
    for pass in ["first", "second"] {
        let start = Instant::now();
        let found = engine.scan(LIVE, PAGE)?;
        let time = start.elapsed();
        if found < records {
            return Err(io::Error::other(format!("{found} of {records} records are there")));
        }
        report.add(&json!({
            "figure": format!("scan, {pass} pass"),
            "engine": which.name(),
            "records_per_second": per_second(found, time),
        }))?;
    }
    engine.close()
}

/// Runs the victim until it has committed for a while; the last batch that it was told is durable.
fn run_and_kill(which: Which, dir: &Path, records: u64) -> io::Result<u64> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([VICTIM, which.name()])
        .arg(dir)
        .arg(records.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
    let mut since: Option<Instant> = None;
    let mut acknowledged = 0;
    for line in BufReader::new(output).lines() {
        acknowledged = line?.parse().map_err(io::Error::other)?;
        if since.get_or_insert_with(Instant::now).elapsed() > ALIVE {
            child.kill()?;
        }
    }
    child.wait()?;
    Ok(acknowledged)
}

/// Writes the records, then commits and tells of each batch, for ever.
pub(crate) fn be_killed(which: Which, dir: &Path, records: u64) -> io::Result<()> {
    let mut engine = open(which, dir)?;
    let mut work = Workload::new(Some(KEPT));
    load(&mut *engine, &mut work, records)?;
    let mut output = io::stdout().lock();
    loop {
        engine.commit(work.batch(UNDER_LOAD))?;
        writeln!(output, "{}", work.last())?;
        output.flush()?;
    }
}

/// Tasks are written, with all their steps, and then all of them are removed: the room that they took
/// and the room that is not given back.
pub(crate) fn space(which: Which, dir: &Path, tasks: u64, report: &mut Report) -> io::Result<()> {
    let mut engine = open(which, dir)?;
    let mut work = Workload::new(None);
    let start = Instant::now();
    while work.submitted() < tasks {
        engine.commit(work.batch(UNDER_LOAD))?;
    }
    let writing = start.elapsed();
    let written = bytes_under(dir)?;
    let all = work.submitted();
    let start = Instant::now();
    for first in (0..all).step_by(UNDER_LOAD) {
        engine.commit(work.remove(first..all.min(first + UNDER_LOAD as u64)))?;
    }
    let removing = start.elapsed();
    let removed = bytes_under(dir)?;
    std::thread::sleep(SETTLING);
    let settled = bytes_under(dir)?;
    let compacted = engine.compact()?;
    engine.close()?;
    let closed = bytes_under(dir)?;
    open(which, dir)?.close()?;
    report.add(&json!({
        "figure": format!("{tasks} tasks written and removed"),
        "engine": which.name(),
        "writing_seconds": writing.as_secs_f64(),
        "removing_seconds": removing.as_secs_f64(),
        "written_mb": megabytes(written),
        "removed_mb": megabytes(removed),
        "settled_mb": megabytes(settled),
        "closed_mb": megabytes(closed),
        "opened_again_mb": megabytes(bytes_under(dir)?),
        "compacted_by_hand": compacted,
    }))
}

/// Tasks pass, some are kept for a while, all earlier ones are removed: the room that a store takes
/// that has run for long.
pub(crate) fn passing(which: Which, dir: &Path, tasks: u64, report: &mut Report) -> io::Result<()> {
    let mut engine = open(which, dir)?;
    let mut work = Workload::new(Some(KEPT_LONG));
    let (mut most, mut last) = (0, 0);
    let step = (tasks / 50).max(1);
    while work.submitted() < tasks {
        let until = work.submitted() + step;
        while work.submitted() < until {
            engine.commit(work.batch(UNDER_LOAD))?;
        }
        last = bytes_under(dir)?;
        most = most.max(last);
    }
    engine.close()?;
    report.add(&json!({
        "figure": format!("{tasks} tasks pass, {KEPT_LONG} kept"),
        "engine": which.name(),
        "most_mb": megabytes(most),
        "last_mb": megabytes(last),
    }))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Bytes that the files of a directory take on the disk.
fn bytes_under(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // Background work may remove a file meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes +=
            if metadata.is_dir() { bytes_under(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

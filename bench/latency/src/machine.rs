//! The machine alone: a chain of threads that do nothing but pass a message on, with one durable write
//! on the way. As many are passed as a task passes between its client and its handler: client, the
//! server's connection, coordinator, commit, dispatch, the worker's connection, handler.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::Quantiles;

const HOPS: usize = 6;
/// The one that writes.
const COMMIT: usize = 3;
/// About what a task's commit takes on the disk when it comes alone.
const COMMIT_BYTES: usize = 900;

/// Sends `rate` messages a second through the chain, at times that do not wait for the ones before.
///
/// # Errors
/// The directory cannot be written to.
pub(crate) fn measure(rate: u32, duration: Duration) -> io::Result<Quantiles> {
    let log = tempfile::tempfile_in(".")?;
    let (first, mut end) = mpsc::channel::<Instant>();
    let mut log = Some(log);
    for hop in 1..=HOPS {
        let (sender, receiver) = mpsc::channel();
        let from = std::mem::replace(&mut end, receiver);
        let log = if hop == COMMIT { log.take() } else { None };
        thread::spawn(move || pass(&from, &sender, log));
    }
    let arrivals = thread::spawn(move || end.iter().map(|due| due.elapsed()).collect::<Vec<_>>());
    let began = Instant::now();
    let period = Duration::from_secs(1) / rate;
    for number in 0.. {
        let due = began + period * number;
        if due - began >= duration {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // It fails when the disk did; the count below tells.
        let _ = first.send(due);
    }
    drop(first);
    let mut took =
        arrivals.join().map_err(|_| io::Error::other("the last of the chain panicked"))?;
    if took.is_empty() {
        return Err(io::Error::other("nothing came through the chain"));
    }
    took.sort_unstable();
    let at = |share: usize| took[(took.len() - 1) * share / 100].as_secs_f64() * 1e3;
    Ok(Quantiles { p50: at(50), p99: at(99) })
}

fn pass(from: &mpsc::Receiver<Instant>, to: &mpsc::Sender<Instant>, mut log: Option<File>) {
    for due in from {
        if let Some(log) = &mut log {
            let written = log.write_all(&[0; COMMIT_BYTES]).and_then(|()| log.sync_data());
            if written.is_err() {
                return;
            }
        }
        if to.send(due).is_err() {
            return;
        }
    }
}

//! What handlers see of the ticks that a measurement of schedules expects.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::Histogram;

use super::{histogram, micros};
use crate::exit::Failure;

/// The ticks whose tasks have run.
pub(super) struct TicksSeen {
    name_of: fn(u64) -> String,
    jitter: Duration,
    first: u64,
    seconds: u64,
    /// When the server was ready again after an outage. Ticks that were due before are late for that reason.
    ready: Option<SystemTime>,
    ticks: HashSet<(u64, u64)>,
    /// Number of ticks that ran again.
    twice: u64,
    runs: Vec<Run>,
    /// When the last tick ran.
    pub(super) last: Instant,
}

impl TicksSeen {
    /// Expects the ticks of `seconds` from `first` on.
    pub(super) fn new(
        name_of: fn(u64) -> String,
        jitter: Duration,
        first: u64,
        seconds: u64,
    ) -> Self {
        Self {
            name_of,
            jitter,
            first,
            seconds,
            ready: None,
            ticks: HashSet::new(),
            twice: 0,
            runs: Vec::new(),
            last: Instant::now(),
        }
    }

    /// Number of different ticks.
    pub(super) fn len(&self) -> u64 {
        self.ticks.len() as u64
    }

    /// The server is ready again after an outage.
    pub(super) fn ready_again(&mut self) {
        self.ready = Some(SystemTime::now());
    }

    /// The handler of a tick started.
    pub(super) fn note(&mut self, schedule: u64, nominal: SystemTime) {
        let second = nominal.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !(self.first..self.first + self.seconds).contains(&second) {
            return;
        }
        if !self.ticks.insert((schedule, second)) {
            self.twice += 1;
            return;
        }
        let instant = rota_cron::Timestamp(i64::try_from(second * 1000).unwrap_or(i64::MAX));
        let due = nominal + rota_cron::jitter(&(self.name_of)(schedule), instant, self.jitter);
        self.runs.push(Run { due, began: SystemTime::now() });
        self.last = Instant::now();
    }

    /// # Errors
    /// When a tick is missing, or ran twice.
    pub(super) fn verify(&self, expected: u64) -> Result<(), Failure> {
        let (missing, twice) = (expected.saturating_sub(self.len()), self.twice);
        if missing > 0 || twice > 0 {
            return Err(Failure::failed(format!("{missing} ticks have no task, {twice} have two")));
        }
        Ok(())
    }

    /// How late the ticks were, except those that were due before the server was ready again.
    pub(super) fn lateness(&self) -> Histogram<u64> {
        self.lateness_of(|_| true)
    }

    /// What an outage meant. `None` without one.
    pub(super) fn catch_up(&self) -> Option<CatchUp> {
        let ready = self.ready?;
        let late = self.runs.iter().filter(|run| run.due < ready);
        let end = late.clone().map(|run| run.began).max().unwrap_or(ready);
        Some(CatchUp {
            late: late.count(),
            took: end.duration_since(ready).unwrap_or_default(),
            lateness_of_others: self.lateness_of(|run| run.due <= end),
        })
    }

    fn lateness_of(&self, counts: impl Fn(&Run) -> bool) -> Histogram<u64> {
        let mut lateness = histogram();
        let in_time = |run: &&Run| self.ready.is_none_or(|ready| run.due >= ready);
        for run in self.runs.iter().filter(in_time).filter(|run| counts(run)) {
            let late = run.began.duration_since(run.due).unwrap_or_default();
            // A value above the maximum of the histogram counts as the maximum.
            lateness.saturating_record(micros(late));
        }
        lateness
    }
}

/// The start of the handler of a tick.
struct Run {
    due: SystemTime,
    began: SystemTime,
}

/// How the ticks ran that were due during an outage.
pub(super) struct CatchUp {
    /// Number of ticks that were due before the server was ready again.
    pub(super) late: usize,
    /// The time until they had run.
    pub(super) took: Duration,
    /// How late the others were meanwhile.
    pub(super) lateness_of_others: Histogram<u64>,
}

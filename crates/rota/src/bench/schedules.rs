//! Measures the lateness of ticks, and how many become tasks in a second, with many schedules.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use rota_client::{
    Client,
    v1::{Overlap, ScheduleDefinition},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Subject, histogram,
    ledger::Workers,
    micros, quantiles,
    throughput::{index_of, payload},
};
use crate::exit::Failure;

const KIND: &str = "bench-schedules";
/// Number of calls under way at a time.
const CALLS: u64 = 64;
/// Time for the tasks of the last ticks to run.
const LAST_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// The load.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScheduleLoad {
    /// Number of schedules.
    #[arg(long, default_value_t = 1_000_000)]
    schedules: u64,
    /// Number of ticks in a second.
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Time for which ticks are measured.
    #[arg(long, default_value = "30s", value_parser = super::span)]
    duration: Duration,
    /// Time from now to the first tick, in which the schedules are created [default: 10s, and 1s for each 4,000
    /// schedules].
    #[arg(long, value_parser = super::span)]
    lead: Option<Duration>,
    /// Jitter of each schedule, which spreads the ticks of a second. Lateness does not count it. With 0s, all ticks
    /// of a second are due at its beginning.
    #[arg(long, default_value = "1s", value_parser = super::span)]
    jitter: Duration,
}

impl ScheduleLoad {
    /// The seconds between two ticks of a schedule.
    fn period(&self) -> u64 {
        (self.schedules / self.rate.max(1)).max(1)
    }

    /// The jitter that a schedule gets. It never reaches the next tick.
    fn jitter(&self) -> Duration {
        self.jitter.min(Duration::from_secs(self.period()) - Duration::from_millis(1))
    }
}

fn name_of(index: u64) -> String {
    format!("bench/{index:07}")
}

/// What was seen of the ticks in the measured seconds.
struct Seen {
    jitter: Duration,
    first: u64,
    seconds: u64,
    lateness: Histogram<u64>,
    ticks: HashSet<(u64, u64)>,
    twice: u64,
    last: Instant,
}

impl Seen {
    fn note(&mut self, schedule: u64, nominal: SystemTime) {
        let second = nominal.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let instant = rota_cron::Timestamp(i64::try_from(second * 1000).unwrap_or(i64::MAX));
        let due = nominal + rota_cron::jitter(&name_of(schedule), instant, self.jitter);
        let late = SystemTime::now().duration_since(due).unwrap_or_default();
        if !(self.first..self.first + self.seconds).contains(&second) {
            return;
        }
        if !self.ticks.insert((schedule, second)) {
            self.twice += 1;
            return;
        }
        // A value above the maximum of the histogram counts as the maximum.
        self.lateness.saturating_record(micros(late));
        self.last = Instant::now();
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ticks of all schedules from one second on. Schedule `i` fires when the second is `i` modulo the period.
fn expected(schedules: u64, period: u64, first: u64, seconds: u64) -> u64 {
    let of_second = |second: u64| {
        let phase = second % period;
        if phase < schedules { (schedules - phase).div_ceil(period) } else { 0 }
    };
    (first..first + seconds).map(of_second).sum()
}

async fn create(client: &Client, load: &ScheduleLoad, start: &str) -> Result<(), Failure> {
    let (period, jitter) = (load.period(), load.jitter());
    let mut calls = JoinSet::new();
    for call in 0..CALLS {
        let (client, start, schedules) = (client.clone(), start.to_owned(), load.schedules);
        calls.spawn(async move {
            let mut index = call;
            while index < schedules {
                let schedule = client.schedule(name_of(index));
                let phase = Duration::from_secs(index % period);
                let draft = schedule.definition(ScheduleDefinition::default());
                let draft = draft.every_from(Duration::from_secs(period), phase);
                let draft = draft.start(start.clone()).overlap(Overlap::Allow).kind(KIND);
                let draft = draft.jitter(jitter);
                draft.queue(KIND).payload(payload(index, 8)).put().await?;
                index += CALLS;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(created) = calls.join_next().await {
        created.map_err(Failure::failed)??;
    }
    Ok(())
}

pub(super) async fn run(subject: &Subject, load: &ScheduleLoad) -> Result<Value, Failure> {
    let period = load.period();
    let lead = load.lead.unwrap_or(Duration::from_secs(10 + load.schedules / 4000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = (now + lead).as_secs();
    let start = Timestamp::from_second(i64::try_from(first).unwrap_or(i64::MAX));
    let start = start.map_err(Failure::failed)?.to_string();
    let before = subject.child.as_ref().and_then(super::Child::usage);
    let began = Instant::now();
    create(&subject.client, load, &start).await?;
    let creating = began.elapsed();
    if creating >= lead {
        let took = creating.as_secs();
        return Err(Failure::failed(format!(
            "creating the schedules took {took} s, longer than --lead; use a longer one"
        )));
    }
    let after = subject.child.as_ref().and_then(super::Child::usage);
    let seconds = load.duration.as_secs().max(1);
    let seen = Arc::new(Mutex::new(Seen {
        jitter: load.jitter(),
        first,
        seconds,
        lateness: histogram(),
        ticks: HashSet::new(),
        twice: 0,
        last: Instant::now(),
    }));
    let noted = seen.clone();
    let workers = Workers::start(&subject.nodes, KIND, 2, 4000, move |context, payload| {
        if let Some(nominal) = context.tick().and_then(|tick| tick.nominal_time) {
            locked(&noted).note(index_of(payload), nominal);
        }
    })?;
    tokio::time::sleep(lead.saturating_sub(began.elapsed())).await;
    let firing = Instant::now();
    let expected = expected(load.schedules, period, first, seconds);
    let deadline = firing + load.duration + LAST_WAIT;
    while (locked(&seen).ticks.len() as u64) < expected && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
    workers.end().await?;
    let seen = locked(&seen);
    let missing = expected.saturating_sub(seen.ticks.len() as u64);
    if missing > 0 || seen.twice > 0 {
        let twice = seen.twice;
        return Err(Failure::failed(format!("{missing} ticks have no task, {twice} have two")));
    }
    let took = seen.last.saturating_duration_since(firing);
    Ok(json!({
        "schedules": load.schedules,
        "create_seconds": creating.as_secs_f64(),
        "bytes_a_schedule": super::backlog::per_task(before, after, load.schedules),
        "ticks": expected,
        "ticks_per_second": per_second(expected, took),
        "lateness_of_start": quantiles(&seen.lateness),
        "server": subject.usage(),
    }))
}

#[expect(clippy::cast_precision_loss, reason = "counts of ticks fit 52 bits")]
fn per_second(ticks: u64, took: Duration) -> f64 {
    ticks as f64 / took.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_schedule_fires_once_in_each_period() {
        assert_eq!(expected(10, 3, 300, 3), 10);
        assert_eq!(expected(10, 3, 301, 1), 3);
        assert_eq!(expected(10, 3, 300, 1), 4);
        assert_eq!(expected(2, 5, 0, 5), 2);
    }
}

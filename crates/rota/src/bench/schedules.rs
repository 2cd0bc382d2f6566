//! Measures the lateness of ticks, and how many become tasks in a second, with many schedules.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use jiff::Timestamp;
use rota_client::{
    Client,
    v1::{CatchUp, Overlap, ScheduleDefinition},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Subject,
    child::Usage,
    ledger::Workers,
    quantiles,
    throughput::{index_of, payload},
    ticks_seen::TicksSeen,
};
use crate::exit::Failure;

const KIND: &str = "bench-schedules";
/// Number of calls under way at a time.
const CALLS: u64 = 64;
/// Time for the tasks of the last ticks to run.
const LAST_WAIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// Maximum number of ticks of a schedule that come during an outage.
const CAUGHT_UP_MAX: u32 = 1000;

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
    /// Kill the server when the first tick is due, and start it again after this time. Ticks that come meanwhile
    /// are caught up on, and the measured time begins when the server is started again. Shows the time until the
    /// server is ready, and how late the other ticks are while it catches up.
    #[arg(long, value_parser = super::span)]
    kill_for: Option<Duration>,
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

fn locked(seen: &Mutex<TicksSeen>) -> MutexGuard<'_, TicksSeen> {
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
                // After an outage, no tick is left out.
                let draft = draft.catch_up(CatchUp::All).catch_up_max(CAUGHT_UP_MAX);
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

pub(super) async fn run(subject: &mut Subject, load: &ScheduleLoad) -> Result<Value, Failure> {
    let period = load.period();
    let lead = load.lead.unwrap_or(Duration::from_secs(10 + load.schedules / 4000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let first = (now + lead).as_secs();
    let start = Timestamp::from_second(i64::try_from(first).unwrap_or(i64::MAX));
    let start = start.map_err(Failure::failed)?.to_string();
    let before = subject.resources();
    let began = Instant::now();
    create(&subject.client, load, &start).await?;
    let creating = began.elapsed();
    if creating >= lead {
        let took = creating.as_secs();
        return Err(Failure::failed(format!(
            "creating the schedules took {took} s, longer than --lead; use a longer one"
        )));
    }
    let bytes = super::backlog::per_task(before, subject.resources(), load.schedules);
    let measured = load.duration + load.kill_for.unwrap_or_default();
    let seconds = measured.as_secs().max(1);
    let seen = TicksSeen::new(name_of, load.jitter(), first, seconds);
    let seen = Arc::new(Mutex::new(seen));
    let noted = seen.clone();
    let workers = Workers::start(&subject.nodes, KIND, 2, 4000, move |context, payload| {
        if let Some(nominal) = context.tick().and_then(|tick| tick.nominal_time) {
            locked(&noted).note(index_of(payload), nominal);
        }
    })?;
    tokio::time::sleep(lead.saturating_sub(began.elapsed())).await;
    let (firing, idle) = (Instant::now(), subject.resources());
    let mut ready = None;
    if let Some(down) = load.kill_for {
        ready = Some(fail(subject, down).await?);
        locked(&seen).ready_again();
    }
    let expected = expected(load.schedules, period, first, seconds);
    until_seen(&seen, expected, firing + measured + LAST_WAIT).await;
    workers.end().await?;
    let seen = locked(&seen);
    seen.verify(expected)?;
    // The processor time of the server that was killed is gone.
    let idle = idle.filter(|_| ready.is_none());
    Ok(json!({
        "schedules": load.schedules,
        "create_seconds": creating.as_secs_f64(),
        "bytes_a_schedule": bytes,
        "ticks": expected,
        "ticks_per_second": per_second(expected, seen.last.saturating_duration_since(firing)),
        "server_micros_a_tick": processor_time(idle, subject.resources(), expected),
        "lateness_of_start": quantiles(&seen.lateness()),
        "outage": ready.map(|ready| outage(&seen, ready)),
        "server": subject.usage(),
    }))
}

/// Waits until the tasks of all ticks have run, or until the deadline.
async fn until_seen(seen: &Mutex<TicksSeen>, ticks: u64, deadline: Instant) {
    while locked(seen).len() < ticks && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

/// What an outage meant for ticks. The server was ready this time after its start.
fn outage(seen: &TicksSeen, ready: Duration) -> Value {
    let catch_up = seen.catch_up();
    json!({
        "ready_seconds": ready.as_secs_f64(),
        "late_ticks": catch_up.as_ref().map(|its| its.late),
        "catch_up_seconds": catch_up.as_ref().map(|its| its.took.as_secs_f64()),
        "lateness_of_others": catch_up.as_ref().map(|its| quantiles(&its.lateness_of_others)),
    })
}

/// Kills the server and starts it again after this time. Returns the time until it was ready.
async fn fail(subject: &mut Subject, down: Duration) -> Result<Duration, Failure> {
    let Some(child) = &mut subject.child else {
        return Err(Failure::usage("cannot kill a running server; omit --url to start one"));
    };
    child.kill().await?;
    tokio::time::sleep(down).await;
    child.start_again().await
}

/// Processor time of the server for each tick and its task, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "counts of ticks fit 52 bits")]
fn processor_time(before: Option<Usage>, after: Option<Usage>, ticks: u64) -> Option<f64> {
    let seconds = after?.cpu_seconds - before?.cpu_seconds;
    Some(seconds * 1e6 / ticks.max(1) as f64)
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

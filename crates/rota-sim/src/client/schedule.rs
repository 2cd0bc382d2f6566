//! Schedules: clients create them of all sorts, change, pause, resume and delete them, skip ticks and trigger tasks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rota_core::{
    CatchUp, ClientKeys, Definition, Jitter, Millis, Name, Overlap, Pause, Policy, Priority,
    Refusal, RetryPolicy, ScheduleDefinition, Template, TickRules, WallTime, tick_id,
};
use rota_cron::{ExclusionSpec, IntervalSpec, Recurrence, RecurrenceSpec, Timestamp};
use rota_engine::{EngineError, RunAt};
use tokio::time::sleep;

use super::{CALL_WAIT, Client, manage::Order, submit::intent, told_by, wall};
use crate::{
    audit::{Op, Timetable, Told},
    call::{CallError, Served},
    seed::per_mille,
};

/// Schedules go on for so long when all is well again, so that the auditor sees whether they do.
const GOING_ON: Duration = Duration::from_secs(14);
/// Of a thousand things that concern schedules, in so many a task of a client takes the id of a coming tick.
const TAKING: u32 = 100;
/// The longest time before the tick at which it does, and the longest time that it waits for that.
const TAKEN_BEFORE_MS: u64 = 250;
const WAITED_FOR_TICK: Duration = Duration::from_secs(3);
/// Stamps of schedules, apart from those of edits.
const STAMPS: u64 = 1 << 63;

/// What a client does to a schedule.
enum Change {
    Put(Box<ScheduleDefinition>, Option<u32>),
    Pause,
    Resume,
    Delete,
    Trigger,
    Skip(bool),
}

impl Client {
    /// Does something to one of the schedules, which all clients share.
    pub(super) async fn schedule(&mut self) {
        let number = self.schedule_rng.usize(..self.schedules);
        let name = schedule_name(number);
        if per_mille(&mut self.schedule_rng, TAKING) {
            return self.take_id_of_tick(name).await;
        }
        let stamp = self.stamp();
        let change = match self.schedule_rng.u32(..100) {
            0..45 => {
                let version = [None, None, None, Some(0), Some(1), Some(2)];
                let version = version[self.schedule_rng.usize(..version.len())];
                Change::Put(Box::new(self.definition(&name, stamp)), version)
            }
            45..55 => Change::Pause,
            55..70 => Change::Resume,
            70..76 => Change::Delete,
            76..86 => Change::Trigger,
            other => Change::Skip(other < 98),
        };
        let by_client = self.change_schedule(name, stamp, change).await;
        if let Err(error) = by_client
            && !matches!(error, CallError::Engine(EngineError::Refused(_)))
        {
            self.note("schedule", &error);
            self.rest(&error).await;
        }
    }

    /// Submits a task with the id of the next tick, shortly before it is due, and cancels it at once.
    async fn take_id_of_tick(&mut self, name: Name) {
        let asked = name.clone();
        let read = self.caller.ask("schedule", CALL_WAIT, move |served: Served| async move {
            Ok(served.engine.schedule(&asked).await?.and_then(|read| read.view.next))
        });
        let Ok(Some(next)) = read.await else { return };
        let ahead = Duration::from_millis(self.schedule_rng.u64(1..TAKEN_BEFORE_MS));
        let now = wall(self.caller.world.lock().now_us);
        let left = Duration::from_millis((next.0 - now).max(0).cast_unsigned());
        if left > WAITED_FOR_TICK {
            return;
        }
        sleep(left.saturating_sub(ahead)).await;
        let mut task = self.new_task();
        task.client_keys = ClientKeys { id: Some(tick_id(&name, next)), key: None };
        task.run_at = RunAt::After(Millis(10_000));
        let newest = self.tasks.last().copied();
        self.submit(vec![task]).await;
        let taken = self.tasks.last().copied().filter(|taken| Some(*taken) != newest);
        if let Some(taken) = taken {
            let order = Order { op: Op::Cancel, priority: 0, delay: Millis(0) };
            self.give_order(taken, order).await;
        }
    }

    /// Pauses all schedules, some time after all is well.
    pub(super) async fn rest_schedules(&mut self) {
        if self.number & 0xFF != 0 || self.schedules == 0 {
            return;
        }
        sleep(GOING_ON).await;
        for number in 0..self.schedules {
            loop {
                let stamp = self.stamp();
                let paused = self.change_schedule(schedule_name(number), stamp, Change::Pause);
                match paused.await {
                    Ok(()) | Err(CallError::Engine(EngineError::Refused(_))) => break,
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        }
        self.caller.world.lock().schedules_rest = true;
    }

    fn stamp(&mut self) -> u64 {
        self.rescheduled += 1;
        STAMPS | self.number << 40 | self.rescheduled
    }

    async fn change_schedule(
        &mut self,
        name: Name,
        stamp: u64,
        change: Change,
    ) -> Result<(), CallError> {
        self.caller
            .ask("schedule", CALL_WAIT, move |served| carry_out(served, name, stamp, change))
            .await
    }

    fn definition(&mut self, name: &Name, stamp: u64) -> ScheduleDefinition {
        let queue = self.queues[self.schedule_rng.usize(..self.queues.len())].clone();
        let now = wall(self.caller.world.lock().now_us);
        let rng = &mut self.schedule_rng;
        let times = times(rng, now);
        let overlaps = [
            Overlap::Skip,
            Overlap::QueueOne,
            Overlap::QueueAll,
            Overlap::CancelRunning,
            Overlap::Allow,
        ];
        let rules = TickRules {
            overlap: overlaps[rng.usize(..overlaps.len())],
            catch_up: [CatchUp::Last, CatchUp::All, CatchUp::None][rng.usize(..3)],
            catch_up_window: Millis([5_000, 60_000, 24 * 3_600_000][rng.usize(..3)]),
            catch_up_max: [1, 3, 100][rng.usize(..3)],
            jitter: Millis([0, 0, 500, 3_000][rng.usize(..4)]),
            pause_on_failure: [0, 0, 0, 2][rng.usize(..4)],
        };
        let retry = RetryPolicy {
            max_attempts: rng.u32(1..4),
            initial: Millis(rng.u64(0..500)),
            multiplier: 2.0,
            max: Millis(3000),
            jitter: if rng.bool() { Jitter::Full } else { Jitter::None },
            max_lost: 3,
            max_snoozes: rng.u32(0..4),
        };
        let retention = [None, None, None, Some(Millis(500))][rng.usize(..4)];
        let definition = Definition {
            payload: Bytes::from_static(b"tick"),
            policy: Policy { retry, timeout: Millis(3_600_000), retention },
            ..Definition::new(queue, Name::new(["a", "b"][rng.usize(..2)]).expect("a name"))
        };
        let template = Template {
            definition,
            priority: Priority::new(rng.u32(0..10)).unwrap_or_default(),
            expires_after: [None, None, None, Some(Millis(rng.u64(500..20_000)))][rng.usize(..4)],
        };
        ScheduleDefinition {
            recurrence: Arc::new(Recurrence::new(&times, name).expect("a recurrence")),
            times: Arc::new(times),
            rules,
            template: Arc::new(template),
            labels: Vec::new(),
            description: Some(format!("{stamp:016x}").into()),
            max_runs: [None, None, None, Some(rng.u64(1..20))][rng.usize(..4)],
        }
    }
}

fn schedule_name(number: usize) -> Name {
    Name::new(&format!("s{number}")).expect("a name")
}

/// When a schedule runs: most of them often, because a run takes a minute or less.
fn times(rng: &mut fastrand::Rng, now: i64) -> RecurrenceSpec {
    let text = |text: &str| vec![text.to_owned()];
    let mut times = RecurrenceSpec::default();
    match rng.u32(..10) {
        0..4 => times.expressions = text("* * * * * *"),
        4 => times.expressions = text("*/2 * * * * *"),
        5 => times.expressions = vec!["*/3 * * * * *".to_owned(), "*/5 * * * * *".to_owned()],
        6 => times.expressions = text("* * * * *"),
        7 => times.expressions = text("@every 2s/1s"),
        _ => {
            let every = rng.u64(1..6);
            let phase = Duration::from_secs(rng.u64(0..every));
            times.intervals = vec![IntervalSpec { every: Duration::from_secs(every), phase }];
        }
    }
    if rng.u32(..4) == 0 {
        let expressions = text("*/7 * * * * *");
        times.exclude = ExclusionSpec { expressions, ..ExclusionSpec::default() };
    }
    let date = |after_ms: i64| Timestamp((now + after_ms).div_euclid(1000) * 1000).to_string();
    if rng.u32(..8) == 0 {
        times.start = Some(date(rng.i64(-3_000..5_000)));
    }
    if rng.u32(..8) == 0 {
        times.end = Some(date(rng.i64(6_000..20_000)));
    }
    if rng.u32(..4) == 0 {
        times.time_zone = Some("Asia/Kathmandu".to_owned());
    }
    times
}

/// On the node: asks, and tells the auditor what was asked and answered.
async fn carry_out(
    served: Served,
    name: Name,
    stamp: u64,
    change: Change,
) -> Result<(), EngineError> {
    let engine = &served.engine;
    let since_us = served.with(|_, now_us| now_us);
    let result = match change {
        Change::Put(definition, if_version) => {
            let timetable = timetable(&definition);
            served.with(|inner, _| inner.audit.asks_schedule(stamp, Some(timetable)));
            let result = engine.put_schedule(name.clone(), *definition, if_version).await;
            result.map(|_| ())
        }
        Change::Pause => {
            served.with(|inner, _| inner.audit.asks_pause(&name, stamp));
            let note = format!("{stamp:016x}").into();
            let pause = Pause { at: WallTime(0), by: "sim".into(), note, on_failure: false };
            engine.pause_schedule(&name, Some(pause)).await.map(|_| ())
        }
        Change::Resume => return engine.pause_schedule(&name, None).await.map(|_| ()),
        Change::Delete => {
            let result = engine.delete_schedule(&name, None).await;
            if result.is_ok() {
                served.with(|inner, now_us| inner.audit.told_deleted(now_us, &name, since_us));
            }
            return result;
        }
        Change::Trigger => {
            let task = engine.trigger_schedule(&name).await?;
            let id = task.spec.id.as_u64();
            served.with(|inner, now_us| inner.audit.triggered(now_us, &name, id));
            return Ok(());
        }
        Change::Skip(skip) => {
            let read = engine.schedule(&name).await?.ok_or(Refusal::UnknownSchedule)?;
            let Some(next) = read.view.next else { return Ok(()) };
            served.with(|inner, _| inner.audit.asks_skip(&name, next.0));
            return engine.skip_tick(&name, next, skip).await.map(|_| ());
        }
    };
    let told = result
        .as_ref()
        .map_or_else(|error| told_by(&CallError::Engine(error.clone())), |()| Told::Done);
    if matches!(told, Told::Done | Told::Nothing) {
        let done = told == Told::Done;
        served.with(|inner, now_us| {
            inner.audit.told_schedule(now_us, (&name, stamp), since_us, done);
        });
    }
    result
}

/// What the auditor holds the engine to.
fn timetable(definition: &ScheduleDefinition) -> Timetable {
    let millis = |millis: Millis| i64::try_from(millis.0).unwrap_or(i64::MAX);
    let Template { definition: task, priority, expires_after } = definition.template.as_ref();
    Timetable {
        times: definition.times.clone(),
        recurrence: definition.recurrence.clone(),
        overlap: definition.rules.overlap,
        jitter_ms: millis(definition.rules.jitter),
        max_runs: definition.max_runs,
        task: intent(task, *priority, RunAt::Now, 0),
        expires_after_ms: expires_after.map(millis),
    }
}

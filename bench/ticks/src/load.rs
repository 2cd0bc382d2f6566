//! An engine with a worker, and schedules or clients that give it tasks.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rota_core::{
    AttemptOutcome, CatchUp, ClientKeys, Definition, LeaseId, Millis, Name, Overlap, Priority,
    Report, ScheduleDefinition, Template, TickRules, WallTime,
};
use rota_cron::{IntervalSpec, Recurrence, RecurrenceSpec};
use rota_engine::{
    Engine, EngineOptions, Host, NewTask, RunAt, SPACES, SessionEvent, SessionRequest,
    SessionStream,
};
use rota_store::{EmbeddedOptions, EmbeddedStore, Store};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Number of calls under way at a time.
const CALLS: u64 = 128;
/// Number of tasks in a call.
const PORTION: u64 = 500;
const SLOTS: u32 = 8000;
const LOOK: Duration = Duration::from_millis(5);

pub(crate) struct Load {
    engine: Engine,
    store: Arc<dyn Store>,
    stop: CancellationToken,
    ended: Arc<AtomicU64>,
    _directory: TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(0) + Millis::from_duration(since)
}

fn definition() -> Definition {
    let mut definition = Definition::new(name("bench"), name("bench"));
    definition.payload = Bytes::from_static(b"12345678");
    definition
}

impl Load {
    pub(crate) fn start() -> io::Result<Self> {
        let directory = TempDir::new()?;
        let options = EmbeddedOptions::default();
        let store = EmbeddedStore::open(&directory.path().join("data"), SPACES, options);
        let store: Arc<dyn Store> = Arc::new(store.map_err(io::Error::other)?);
        let stop = CancellationToken::new();
        let engine =
            Engine::start(Host::system(), store.clone(), EngineOptions::default(), stop.clone());
        let ended = Arc::new(AtomicU64::new(0));
        tokio::spawn(work(engine.clone(), ended.clone()));
        Ok(Self { engine, store, stop, ended, _directory: directory })
    }

    /// Creates schedules with so many ticks a second. Returns when the first tick is due.
    pub(crate) async fn create_schedules(&self, schedules: u64, rate: u64) -> WallTime {
        let now = now();
        let lead = 5 + schedules / 5000;
        let first = WallTime(now.0 - now.0 % 1000) + Millis::from_secs(lead);
        let period = (schedules / rate).max(1);
        let mut calls = JoinSet::new();
        for call in 0..CALLS {
            let engine = self.engine.clone();
            calls.spawn(async move {
                let mut index = call;
                while index < schedules {
                    let schedule = name(&format!("bench/{index:07}"));
                    let definition = scheduled(&schedule, index % period, period, first);
                    engine.put_schedule(schedule, definition, None).await.expect("it is accepted");
                    index += CALLS;
                }
            });
        }
        calls.join_all().await;
        assert!(self::now() < first, "creating the schedules took too long");
        first
    }

    /// Submits tasks, with ids or without.
    pub(crate) async fn submit(&self, tasks: u64, named: bool) {
        let mut calls = JoinSet::new();
        for call in 0..8 {
            let engine = self.engine.clone();
            calls.spawn(async move {
                let mut begin = call * PORTION;
                while begin < tasks {
                    let new = (begin..tasks.min(begin + PORTION)).map(|index| NewTask {
                        client_keys: ClientKeys {
                            id: named
                                .then(|| name(&format!("bench/{index:07}/2026-01-01T00:00:00Z"))),
                            key: None,
                        },
                        definition: definition(),
                        priority: Priority::default(),
                        run_at: RunAt::Now,
                    });
                    engine.submit(new.collect()).await.expect("they are accepted");
                    begin += 8 * PORTION;
                }
            });
        }
        calls.join_all().await;
    }

    /// Number of tasks that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    pub(crate) async fn until(&self, at: WallTime) {
        tokio::time::sleep(at.since(now()).as_duration()).await;
    }

    pub(crate) async fn until_ended(&self, tasks: u64) {
        while self.ended() < tasks {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.engine.stopped().await;
        self.store.close().await;
    }
}

/// A schedule with a tick in each period.
fn scheduled(schedule: &Name, phase: u64, period: u64, start: WallTime) -> ScheduleDefinition {
    let interval =
        IntervalSpec { every: Duration::from_secs(period), phase: Duration::from_secs(phase) };
    let times = RecurrenceSpec {
        intervals: vec![interval],
        start: Some(rota_core::nominal_text(start)),
        ..RecurrenceSpec::default()
    };
    ScheduleDefinition {
        recurrence: Arc::new(Recurrence::new(&times, schedule).expect("a recurrence")),
        times: Arc::new(times),
        rules: TickRules {
            overlap: Overlap::Allow,
            catch_up: CatchUp::All,
            jitter: Millis(999),
            ..TickRules::default()
        },
        template: Arc::new(Template {
            definition: definition(),
            priority: Priority::default(),
            expires_after: None,
        }),
        labels: Vec::new(),
        description: None,
        max_runs: None,
    }
}

/// Completes all tasks until the engine stops.
async fn work(engine: Engine, ended: Arc<AtomicU64>) {
    let request = SessionRequest {
        session: None,
        worker: name("bench"),
        queues: Vec::new(),
        kinds: Vec::new(),
        slots: SLOTS,
        held: Vec::new(),
        streams_output: false,
    };
    let Ok(SessionStream { session, mut events, .. }) = engine.open_session(request).await else {
        return;
    };
    let beating = engine.clone();
    tokio::spawn(async move {
        let mut period = tokio::time::interval(Duration::from_secs(1));
        while beating.heartbeat(session, None).await.is_ok() {
            period.tick().await;
        }
    });
    while let Some(event) = events.recv().await {
        let SessionEvent::Dispatches(tasks) = event else { continue };
        let (engine, ended) = (engine.clone(), ended.clone());
        tokio::spawn(async move {
            let report = |task: rota_engine::Dispatched| {
                let lease = LeaseId { task: task.spec.id, token: task.token };
                let outcome = AttemptOutcome::Completed { result: Bytes::new() };
                (lease, Report::Ended { started_at: None, output_tail: Bytes::new(), outcome })
            };
            let reports: Vec<_> = tasks.into_iter().map(report).collect();
            let answers = engine.report(reports).await.unwrap_or_default();
            ended.fetch_add(
                answers.iter().filter(|answer| answer.is_ok()).count() as u64,
                Ordering::Relaxed,
            );
        });
    }
}

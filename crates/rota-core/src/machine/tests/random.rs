//! Random lives of whole worlds: whatever clients, workers, clocks and crashes do, and in whatever
//! order, the auditor finds nothing, and in the end every task ends and nothing is left behind.

use std::sync::Arc;

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};

use super::{
    say::{Task, completed, name, reported},
    world::World,
};
use crate::{
    Assignment, AttemptOutcome, Command, Credit, Edit, Failure, FailureReason, Jitter, LeaseId,
    LeaseToken, MachineLimits, Millis, OpenSession, Policy, Priority, Report, RetryPolicy, RunAt,
    SessionId, TaskCommand, TaskId, TaskSpec, WallTime,
};

const QUEUES: [&str; 3] = ["mail", "images", "reports"];
const KINDS: [&str; 3] = ["send", "resize", "sum"];

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    Submit {
        task: AnyTask,
    },
    Cancel(Index),
    Retry(Index),
    Reschedule(Index, i64),
    SetPriority(Index, u32),
    Edit(Index, bool, u64),
    Delete(Index),
    Purge(Index),
    /// About a task that does not exist.
    Unknown,
    Pause(usize, bool),
    Open(AnyOpening),
    Heartbeat(Index),
    SetCredit(Index, Credit),
    Detach(Index),
    Drain(Index),
    Close(Index),
    /// By a worker, on something that it was sent.
    Report(Index, Saying),
    /// On any lease there ever was.
    Stale(Index, Saying),
    /// With a token that was never given.
    Forged(Index, u64, Saying),
    Pass(u64),
    SetWall(i64),
    Step,
    ReadAhead(bool),
    /// The next leader makes its machine.
    Prepare,
    Crash {
        landed: bool,
        down: u64,
    },
}

#[derive(Debug, Clone)]
struct AnyTask {
    queue: usize,
    kind: usize,
    priority: u32,
    delay: i64,
    expires_in: Option<i64>,
    id: Option<u8>,
    key: Option<u8>,
    body: u64,
    policy: AnyPolicy,
}

#[derive(Debug, Clone)]
struct AnyPolicy {
    max_attempts: u32,
    max_lost: u32,
    max_snoozes: u32,
    initial: u64,
    jitter: bool,
    timeout: u64,
    retention: Option<u64>,
}

#[derive(Debug, Clone)]
struct AnyOpening {
    /// A session that was open before, perhaps of another worker.
    again: Option<(Index, bool)>,
    queues: usize,
    kinds: usize,
    slots: u32,
    credit: Credit,
    ttl: u64,
    says: Says,
}

#[derive(Debug, Clone)]
enum Says {
    Nothing,
    Truth,
    Little,
    Nonsense,
}

#[derive(Debug, Clone)]
enum Saying {
    Started,
    Progress,
    Completed(bool),
    Failed { reason: FailureReason, retry_in: Option<i64>, output: bool, random: u64 },
    Snoozed(i64),
    Cancelled,
    Released,
}

fn any_policy() -> impl Strategy<Value = AnyPolicy> {
    let retention = prop::option::of(0u64..20_000);
    let initial = prop_oneof![Just(0), 1u64..5000];
    ((1u32..4, 0u32..3, 0u32..3), initial, any::<bool>(), 1u64..60_000, retention).prop_map(
        |((max_attempts, max_lost, max_snoozes), initial, jitter, timeout, retention)| AnyPolicy {
            max_attempts,
            max_lost,
            max_snoozes,
            initial,
            jitter,
            timeout,
            retention,
        },
    )
}

fn any_task() -> impl Strategy<Value = AnyTask> {
    let delay = prop_oneof![4 => Just(0), 1 => -5000i64..0, 3 => 0i64..20_000, 1 => 0i64..1 << 33];
    let expires_in = prop::option::weighted(0.3, -100i64..30_000);
    let name = || prop::option::weighted(0.3, 0u8..4);
    ((0..3usize, 0..3usize, 0u32..4, delay, expires_in), (name(), name(), 0u64..2), any_policy())
        .prop_map(|((queue, kind, priority, delay, expires_in), (id, key, body), policy)| AnyTask {
            queue,
            kind,
            priority,
            delay,
            expires_in,
            id,
            key,
            body,
            policy,
        })
}

fn any_credit() -> impl Strategy<Value = Credit> {
    prop_oneof![
        3 => Just(Credit::Hold(u32::MAX)),
        2 => (0u32..4).prop_map(Credit::Hold),
        2 => (0u32..4).prop_map(Credit::Take),
    ]
}

fn any_opening() -> impl Strategy<Value = AnyOpening> {
    let says = prop_oneof![
        2 => Just(Says::Nothing),
        4 => Just(Says::Truth),
        1 => Just(Says::Little),
        1 => Just(Says::Nonsense),
    ];
    let again = prop::option::of((any::<Index>(), prop::bool::weighted(0.1)));
    (again, 0..8usize, 0..8usize, 0u32..5, any_credit(), 500u64..15_000, says).prop_map(
        |(again, queues, kinds, slots, credit, ttl, says)| AnyOpening {
            again,
            queues,
            kinds,
            slots,
            credit,
            ttl,
            says,
        },
    )
}

fn any_saying() -> impl Strategy<Value = Saying> {
    let failure = (
        prop::sample::select(&FailureReason::ALL[..]),
        prop::option::weighted(0.3, -1000i64..10_000),
        any::<bool>(),
        any::<u64>(),
    );
    prop_oneof![
        2 => Just(Saying::Started),
        1 => Just(Saying::Progress),
        2 => (-1000i64..10_000).prop_map(Saying::Snoozed),
        5 => any::<bool>().prop_map(Saying::Completed),
        5 => failure.prop_map(|(reason, retry_in, output, random)| Saying::Failed {
            reason, retry_in, output, random
        }),
        1 => Just(Saying::Cancelled),
        2 => Just(Saying::Released),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let task = || any::<Index>();
    prop_oneof![
        30 => any_task().prop_map(|task| Event::Submit { task }),
        5 => task().prop_map(Event::Cancel),
        5 => task().prop_map(Event::Retry),
        4 => (task(), -1000i64..20_000).prop_map(|(task, delay)| Event::Reschedule(task, delay)),
        4 => (task(), 0u32..4).prop_map(|(task, priority)| Event::SetPriority(task, priority)),
        4 => (task(), any::<bool>(), 1u64..60_000)
            .prop_map(|(task, stale, timeout)| Event::Edit(task, stale, timeout)),
        3 => task().prop_map(Event::Delete),
        3 => task().prop_map(Event::Purge),
        1 => Just(Event::Unknown),
        3 => (0..3usize, any::<bool>()).prop_map(|(queue, paused)| Event::Pause(queue, paused)),
        10 => any_opening().prop_map(Event::Open),
        4 => task().prop_map(Event::Heartbeat),
        6 => (task(), any_credit()).prop_map(|(session, credit)| Event::SetCredit(session, credit)),
        2 => task().prop_map(Event::Detach),
        1 => task().prop_map(Event::Drain),
        2 => task().prop_map(Event::Close),
        30 => (task(), any_saying()).prop_map(|(lease, saying)| Event::Report(lease, saying)),
        5 => (task(), any_saying()).prop_map(|(lease, saying)| Event::Stale(lease, saying)),
        1 => (task(), 0u64..50, any_saying())
            .prop_map(|(task, token, saying)| Event::Forged(task, token, saying)),
        12 => prop_oneof![4 => 0u64..3000, 1 => 0u64..100_000].prop_map(Event::Pass),
        2 => prop_oneof![
            -1000i64..1000,
            -100_000i64..100_000,
            -(1i64 << 33)..1i64 << 33,
        ].prop_map(Event::SetWall),
        35 => Just(Event::Step),
        2 => any::<bool>().prop_map(Event::ReadAhead),
        2 => Just(Event::Prepare),
        2 => (any::<bool>(), 0u64..20_000).prop_map(|(landed, down)| Event::Crash { landed, down }),
    ]
}

fn subset(names: [&'static str; 3], mask: usize) -> Vec<crate::Name> {
    let named = names.iter().enumerate().filter(|(at, _)| mask & (1 << at) != 0);
    named.map(|(_, text)| name(text)).collect()
}

impl AnyTask {
    fn build(self) -> Task {
        let policy = self.policy;
        let mut task = Task::new(QUEUES[self.queue], KINDS[self.kind])
            .priority(self.priority)
            .delay(self.delay)
            .body(self.body);
        task.policy = Policy {
            retry: RetryPolicy {
                max_attempts: policy.max_attempts,
                initial: Millis(policy.initial),
                multiplier: 3.0,
                max: Millis(10_000),
                jitter: if policy.jitter { Jitter::Full } else { Jitter::None },
                max_lost: policy.max_lost,
                max_snoozes: policy.max_snoozes,
            },
            timeout: Millis(policy.timeout),
            retention: policy.retention.map(Millis),
        };
        if let Some(span) = self.expires_in {
            task = task.expires_in(span);
        }
        if let Some(id) = self.id {
            task = task.id(&format!("id{id}"));
        }
        if let Some(key) = self.key {
            task = task.key(&format!("key{key}"));
        }
        task
    }
}

impl Saying {
    fn build(self, world: &World) -> (Report, u64) {
        let ended = |outcome, output: bool| Report::Ended {
            started_at: Some(world.now.wall),
            output_tail: Bytes::from_static(if output { b"output" } else { b"" }),
            outcome,
        };
        match self {
            Self::Started => (Report::Started { at: world.now.wall }, 0),
            Self::Progress => (Report::Progress { message: "half".into() }, 0),
            Self::Completed(result) => {
                let result = Bytes::from_static(if result { b"42" } else { b"" });
                (ended(AttemptOutcome::Completed { result }, false), 0)
            }
            Self::Failed { reason, retry_in, output, random } => {
                let failure = Failure::new(reason, "broken");
                let retry_at = retry_in.map(|span| WallTime(world.now.wall.0.max(2000) + span));
                (ended(AttemptOutcome::Failed { failure, retry_at }, output), random)
            }
            Self::Snoozed(span) => {
                let until = WallTime(world.now.wall.0.max(2000) + span);
                (ended(AttemptOutcome::Snoozed { until: RunAt::At(until) }, false), 0)
            }
            Self::Cancelled => (ended(AttemptOutcome::Cancelled, false), 0),
            Self::Released => (Report::Released, 0),
        }
    }
}

/// Any task that there was ever, those lost in a crash included.
fn pick(world: &World, index: Index) -> Option<TaskId> {
    let tasks: Vec<_> = world.newest.specs.keys().copied().collect();
    (!tasks.is_empty()).then(|| tasks[index.index(tasks.len())])
}

fn pick_session(world: &World, index: Index) -> Option<SessionId> {
    let sessions: Vec<_> = world.workers.keys().copied().collect();
    (!sessions.is_empty()).then(|| sessions[index.index(sessions.len())])
}

fn report(world: &mut World, lease: Assignment, saying: Saying) {
    let (report, random) = saying.build(world);
    let _ = world.apply(reported(lease, report, random));
}

fn open(world: &mut World, any: &AnyOpening) {
    let mut opening = world.opening(any.slots, &[], &[]);
    opening.queues = subset(QUEUES, any.queues);
    opening.kinds = subset(KINDS, any.kinds);
    opening.credit = any.credit;
    opening.ttl = Millis(any.ttl);
    if let Some((index, foreign)) = any.again
        && let Some(session) = pick_session(world, index)
    {
        opening.session = session;
        if !foreign {
            opening.worker = world.workers[&session].name.clone();
        }
    }
    let has = world.workers.get(&opening.session).map(|worker| worker.has.clone());
    let has = has.unwrap_or_default().into_iter();
    let mut held: Vec<_> =
        has.map(|lease| LeaseId { task: lease.task, token: lease.token }).collect();
    opening.held = match any.says {
        Says::Nothing => None,
        Says::Truth => Some(held),
        Says::Little => {
            held.truncate(1);
            Some(held)
        }
        Says::Nonsense => {
            for lease in world.leases.iter().rev().take(3) {
                held.push(LeaseId { task: lease.task, token: LeaseToken(lease.token.0 + 1) });
                held.push(LeaseId { task: lease.task, token: lease.token });
            }
            Some(held)
        }
    };
    let _ = world.apply(Command::OpenSession(Box::new(opening)));
}

fn happen(world: &mut World, event: Event) {
    let about = |world: &mut World, index, make: &dyn Fn(TaskId) -> Command| {
        if let Some(task) = pick(world, index) {
            let _ = world.apply(make(task));
        }
    };
    match event {
        Event::Submit { task } => {
            let _ = world.try_submit(task.build());
        }
        Event::Cancel(task) => about(world, task, &|task| TaskCommand::Cancel.on(task)),
        Event::Retry(task) => {
            about(world, task, &|task| TaskCommand::Retry { spec: None }.on(task));
        }
        Event::Reschedule(task, delay) => {
            let run_at = WallTime((world.now.wall.0 + delay).max(1));
            about(world, task, &|task| TaskCommand::Reschedule { run_at }.on(task));
        }
        Event::SetPriority(task, level) => {
            let priority = Priority::new(level).unwrap();
            about(world, task, &|task| TaskCommand::SetPriority(priority).on(task));
        }
        Event::Edit(task, stale, timeout) => {
            let Some(task) = pick(world, task) else { return };
            let mut spec = TaskSpec::clone(&world.newest.specs[&task]);
            spec.definition.policy.timeout = Millis(timeout);
            spec.definition.expires_at = None;
            let edits = world.newest.live.get(&task).map_or(0, |live| live.edits);
            let edits = edits + u32::from(stale);
            let edit = Edit { spec: Arc::new(spec), edits, priority: None, run_at: None };
            let _ = world.apply(TaskCommand::Edit(Box::new(edit)).on(task));
        }
        Event::Delete(task) => about(world, task, &|task| TaskCommand::Delete.on(task)),
        Event::Purge(task) => about(world, task, &|task| TaskCommand::Purge.on(task)),
        Event::Unknown => {
            let task = TaskId::from_u64(7).unwrap();
            let _ = world.apply(TaskCommand::Cancel.on(task));
        }
        Event::Pause(queue, paused) => world.pause(QUEUES[queue], paused),
        Event::Open(any) => open(world, &any),
        Event::Heartbeat(session) => {
            if let Some(session) = pick_session(world, session) {
                let _ = world.apply(Command::Heartbeat {
                    session,
                    connection: None,
                    at: world.now.mono,
                });
            }
        }
        Event::SetCredit(session, credit) => {
            if let Some(session) = pick_session(world, session) {
                let _ = world.apply(Command::SetCredit { session, connection: None, credit });
            }
        }
        Event::Detach(session) => {
            if let Some(session) = pick_session(world, session) {
                let _ = world.apply(Command::Detach { session, connection: 0 });
            }
        }
        Event::Drain(session) => {
            if let Some(session) = pick_session(world, session) {
                let _ = world.apply(Command::Drain { session });
            }
        }
        Event::Close(session) => {
            if let Some(session) = pick_session(world, session) {
                let _ = world.apply(Command::CloseSession { session, connection: None });
            }
        }
        Event::Report(lease, saying) => {
            let has: Vec<_> = world.workers.values().flat_map(|worker| &worker.has).collect();
            if !has.is_empty() {
                let lease = *has[lease.index(has.len())];
                report(world, lease, saying);
            }
        }
        Event::Stale(lease, saying) => {
            if !world.leases.is_empty() {
                let lease = world.leases[lease.index(world.leases.len())];
                report(world, lease, saying);
            }
        }
        Event::Forged(task, token, saying) => {
            if let Some(task) = pick(world, task) {
                let (session, run_at) = (SessionId(1), WallTime(0));
                let token = LeaseToken(token);
                report(world, Assignment { session, task, token, attempt: 1, run_at }, saying);
            }
        }
        Event::Pass(span) => world.pass(Millis(span)),
        Event::SetWall(change) => world.set_wall_by(change),
        Event::Step => world.step(),
        Event::ReadAhead(ahead) => world.reads_ahead = ahead,
        Event::Prepare => world.prepare(),
        Event::Crash { landed, down } => world.crash(landed, Millis(down)),
    }
}

/// One worker that serves everything, and all the time it takes.
fn finish_everything(world: &mut World) {
    for queue in QUEUES {
        world.pause(queue, false);
    }
    let opening = world.opening(1000, &[], &[]);
    let session = opening.session;
    let opening = OpenSession { ttl: Millis(1 << 50), ..opening };
    world.apply(Command::OpenSession(Box::new(opening))).unwrap();
    for _ in 0..200 {
        world.settle();
        for lease in world.has(session) {
            world.end(lease, completed());
        }
        world.settle();
        if world.machine.live_tasks() == 0 {
            return;
        }
        // Far steps, so that what is scheduled in a hundred days is reached.
        let far = world.machine.next_wakeup().unwrap_or_default().0;
        world.pass(Millis(far.max(1000)));
    }
    panic!("{} tasks never ended", world.machine.live_tasks());
}

fn nothing_is_left(world: &mut World) {
    world.pass(Millis(1 << 38));
    world.settle();
    let ended: Vec<_> = world.newest.done.keys().copied().collect();
    for task in ended {
        world.apply(TaskCommand::Purge.on(task)).unwrap();
    }
    world.settle();
    assert!(world.durable.specs.is_empty() && world.durable.attempts.is_empty());
    assert!(world.durable.ids.is_empty() && world.durable.keys.is_empty());
    assert!(world.acked.is_empty());
    world.machine.assert_no_leftovers();
}

fn limits() -> MachineLimits {
    MachineLimits { queue_length_max: 15, ..MachineLimits::default() }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_of_events_breaks_a_promise(
        events in prop::collection::vec(any_event(), 1..240),
    ) {
        let mut world = World::with_limits(limits());
        for event in events {
            happen(&mut world, event);
        }
        finish_everything(&mut world);
        nothing_is_left(&mut world);
    }
}

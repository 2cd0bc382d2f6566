//! A machine with a number of tasks that wait, and tasks that go their whole way beside them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rota_core::{
    Assignment, AttemptOutcome, Command, Credit, Definition, Effect, KeyOwners, Machine,
    MachineLimits, Millis, MonoTime, Name, Now, OpenSession, Priority, Report, Retention,
    SessionId, Submit, TaskIdSequence, TaskSpec, WallTime,
};

/// Commands in one step, as under load.
const STEP: u64 = 200;
const DAY: u64 = 24 * 3600 * 1000;

/// Why the others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For dates within the next day.
    Scheduled,
    /// In a queue that nobody serves.
    Unserved,
    /// Before those that are measured, in the same queue and of the same kind.
    Ahead,
    /// As `Ahead`, of a thousand kinds.
    ManyKinds,
}

impl Waiting {
    pub(crate) const ALL: [Self; 4] =
        [Self::Scheduled, Self::Unserved, Self::Ahead, Self::ManyKinds];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unserved => "unserved",
            Self::Ahead => "ahead",
            Self::ManyKinds => "ahead-of-many-kinds",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waiting| waiting.name() == name)
    }
}

/// The machine and those who use it.
pub(crate) struct Load {
    machine: Machine,
    ids: TaskIdSequence,
    now: Now,
    batch: u64,
    kinds: Vec<Name>,
    queue: Name,
    held: Vec<Assignment>,
    submitted: u64,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("of the alphabet")
}

impl Load {
    /// A machine with so many tasks that wait.
    pub(crate) fn new(waiting: Waiting, tasks: u64) -> Self {
        let now = Now { wall: WallTime(1_800_000_000_000), mono: MonoTime(1) };
        let limits = MachineLimits::default();
        let kinds = if waiting == Waiting::ManyKinds { 1000 } else { 1 };
        let mut load = Self {
            machine: Machine::new(limits, Retention::default(), now),
            ids: TaskIdSequence::after(None),
            now,
            batch: 1,
            kinds: (0..kinds).map(|kind| name(&format!("kind-{kind}"))).collect(),
            queue: name(if waiting == Waiting::Unserved { "unserved" } else { "served" }),
            held: Vec::new(),
            submitted: 0,
        };
        let mut left = tasks;
        while left > 0 {
            let count = left.min(STEP);
            load.submit(count, waiting == Waiting::Scheduled);
            load.step();
            left -= count;
        }
        load.queue = name("served");
        load
    }

    fn submit(&mut self, count: u64, scheduled: bool) {
        self.machine.begin(self.now, self.batch);
        for _ in 0..count {
            self.submitted += 1;
            // Spread over the day by a step that has no common factor with it.
            let delay = (self.submitted.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % DAY;
            let run_at = if scheduled { self.now.wall + Millis(delay) } else { self.now.wall };
            let kind = usize::try_from(self.submitted).expect("64 bits") % self.kinds.len();
            let definition = Definition::new(self.queue.clone(), self.kinds[kind].clone());
            let spec = TaskSpec::new(self.ids.next(self.now.wall), definition, self.now.wall);
            let submit = Submit {
                spec: Arc::new(spec),
                priority: Priority::default(),
                run_at,
                key_owners: KeyOwners::default(),
            };
            let reply = self.machine.apply(Command::Submit(Box::new(submit)));
            assert!(reply.is_ok(), "{reply:?}");
        }
    }

    fn open(&mut self) {
        let open = OpenSession {
            session: SessionId(1),
            worker: name("worker"),
            queues: vec![name("served")],
            kinds: Vec::new(),
            slots: u32::try_from(STEP).expect("a small number"),
            credit: Credit::Hold(u32::MAX),
            ttl: Millis(u64::MAX),
            connection: 0,
            held: None,
        };
        self.machine.begin(self.now, self.batch);
        let reply = self.machine.apply(Command::OpenSession(Box::new(open)));
        assert!(reply.is_ok(), "{reply:?}");
    }

    /// Ends the step as the engine does; what it came to is dropped, as if it were durable.
    fn step(&mut self) {
        self.machine.begin(self.now, self.batch);
        self.machine.tick(self.now.mono);
        let step = self.machine.seal();
        self.batch += 1;
        for effect in step.effects {
            if let Effect::Dispatch(assignment) = effect {
                self.held.push(assignment);
            }
        }
    }

    fn complete(&mut self) {
        self.machine.begin(self.now, self.batch);
        for Assignment { task, token, .. } in std::mem::take(&mut self.held) {
            let report = Report::Ended {
                started_at: None,
                output_tail: Bytes::new(),
                outcome: AttemptOutcome::Completed { result: Bytes::new() },
            };
            let command =
                Command::Report { task, token, report, fingerprint: 0, random: 0, stored: None };
            let reply = self.machine.apply(command);
            assert!(reply.is_ok(), "{reply:?}");
        }
    }

    /// Submits, assigns and completes so many tasks; as many wait afterwards as before.
    pub(crate) fn cycle(&mut self, tasks: u64) {
        if self.machine.sessions().is_empty() {
            self.open();
        }
        let live = self.machine.live_tasks();
        for _ in 0..tasks / STEP {
            self.submit(STEP, false);
            self.step();
            assert_eq!(self.held.len() as u64, STEP);
            self.complete();
            self.now.mono = self.now.mono + Millis(1);
        }
        assert_eq!(self.machine.live_tasks(), live);
    }

    /// Lets a day pass, and takes the time of each step.
    pub(crate) fn worst_step_of_a_day(&mut self) -> Duration {
        let mut worst = Duration::ZERO;
        let end = self.now.mono + Millis(DAY);
        loop {
            let start = Instant::now();
            self.step();
            worst = worst.max(start.elapsed());
            match self.machine.next_wakeup() {
                Some(wakeup) if self.now.mono < end => {
                    // Rarely enough that a day does not take one.
                    let wakeup = if wakeup == Millis(0) { wakeup } else { wakeup.max(Millis(500)) };
                    self.now.wall = self.now.wall + wakeup;
                    self.now.mono = self.now.mono + wakeup;
                }
                _ => break,
            }
        }
        worst
    }
}

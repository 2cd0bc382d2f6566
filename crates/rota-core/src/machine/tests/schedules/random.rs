//! Random lives of a schedule: whatever clients, tasks, clocks and crashes do, its ticks are those of the walker,
//! each has one outcome, and at most one task.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};

use super::{
    clockwork::{Clockwork, End, Plan},
    walker::{Nominal, any_nominal},
};
use crate::{
    Backfill, BackfillOrder, BackfillScope, CatchUp, Change, Command, Millis, Outcome, Overlap,
    Reply, SkipReason, TaskCommand, TaskId, TickRules, WallTime, machine::tests::say::name,
    tick_id,
};

const SCHEDULE: &str = "reports/daily";

#[derive(Debug, Clone)]
enum Event {
    Put {
        nominal: Option<Nominal>,
        rules: TickRules,
        max_runs: Option<u64>,
        expires: bool,
    },
    Pause(bool),
    SkipNext,
    Trigger,
    Backfill {
        back: i64,
        order: BackfillOrder,
        scope: BackfillScope,
        interval: u64,
    },
    CancelBackfill,
    /// The task of a tick ends.
    End(Index, End),
    Retry(Index),
    Pass(u64),
    SetWall(i64),
    /// The wall clock jumps, and nobody believes it.
    Doubt(u64),
    /// The wall clock is believed, or set right.
    EndDoubt {
        believe: bool,
    },
    Step,
    Settle,
    Crash {
        landed: bool,
        down: u64,
    },
}

fn any_span() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 1u64..3000,
        4 => 1000u64..120_000,
        2 => 60_000u64..7_200_000,
        1 => 3_600_000u64..100_000_000,
    ]
}

fn any_rules() -> impl Strategy<Value = TickRules> {
    let overlap = prop_oneof![
        Just(Overlap::Skip),
        Just(Overlap::QueueOne),
        Just(Overlap::QueueAll),
        Just(Overlap::CancelRunning),
        Just(Overlap::Allow),
    ];
    let catch_up = prop_oneof![Just(CatchUp::Last), Just(CatchUp::All), Just(CatchUp::None)];
    let window = prop_oneof![Just(86_400_000u64), any_span()];
    let jitter = prop_oneof![2 => Just(0u64), 1 => 1u64..100_000];
    (overlap, catch_up, window, 0u32..20, jitter, 0u32..4).prop_map(
        |(overlap, catch_up, window, catch_up_max, jitter, pause_on_failure)| TickRules {
            overlap,
            catch_up,
            catch_up_window: Millis(window),
            catch_up_max,
            jitter: Millis(jitter),
            pause_on_failure,
        },
    )
}

fn any_event() -> impl Strategy<Value = Event> {
    let end =
        prop_oneof![3 => Just(End::Completed), 1 => Just(End::Failed), 1 => Just(End::Cancelled)];
    let put = (
        prop::option::weighted(0.6, any_nominal()),
        any_rules(),
        prop::option::weighted(0.2, 1u64..20),
        prop::bool::weighted(0.1),
    );
    let order = prop_oneof![Just(BackfillOrder::OneByOne), Just(BackfillOrder::Parallel)];
    let scope = prop_oneof![Just(BackfillScope::Missing), Just(BackfillScope::All)];
    let interval = prop_oneof![Just(0u64), 1u64..5000];
    prop_oneof![
        2 => put.prop_map(|(nominal, rules, max_runs, expires)| Event::Put {
            nominal, rules, max_runs, expires
        }),
        1 => any::<bool>().prop_map(Event::Pause),
        1 => Just(Event::SkipNext),
        1 => Just(Event::Trigger),
        1 => (0i64..2000, order, scope, interval).prop_map(|(back, order, scope, interval)| {
            Event::Backfill { back, order, scope, interval }
        }),
        1 => Just(Event::CancelBackfill),
        8 => (any::<Index>(), end).prop_map(|(task, end)| Event::End(task, end)),
        1 => any::<Index>().prop_map(Event::Retry),
        8 => any_span().prop_map(Event::Pass),
        1 => (-400_000i64..400_000).prop_map(Event::SetWall),
        1 => (300_000u64..100_000_000).prop_map(Event::Doubt),
        1 => any::<bool>().prop_map(|believe| Event::EndDoubt { believe }),
        4 => Just(Event::Step),
        4 => Just(Event::Settle),
        2 => (any::<bool>(), any_span()).prop_map(|(landed, down)| Event::Crash { landed, down }),
    ]
}

/// The ticks of one version of the definition.
#[derive(Debug, Clone)]
struct Segment {
    nominal: Nominal,
    jitter: Millis,
    /// The cursor when the version began.
    from: WallTime,
    /// Where the version before ended, if it had not reached `from`.
    former_end: WallTime,
}

struct Life {
    clockwork: Clockwork,
    /// By version. One that a crash undid is overwritten by that which follows.
    segments: BTreeMap<u32, Segment>,
    may_overlap: bool,
}

impl Life {
    fn new(nominal: &Nominal, rules: TickRules, max_runs: Option<u64>) -> Self {
        let mut life =
            Self { clockwork: Clockwork::new(), segments: BTreeMap::new(), may_overlap: false };
        life.put(nominal, rules, max_runs, false);
        life.clockwork.step();
        life.clockwork.land();
        life
    }

    fn put(&mut self, nominal: &Nominal, rules: TickRules, max_runs: Option<u64>, expires: bool) {
        let clockwork = &mut self.clockwork;
        let before = clockwork.machine.schedule(&name(SCHEDULE));
        let expires_after = expires.then_some(Millis(30_000));
        let plan = Plan { rules, max_runs, expires_after, ..Plan::of(nominal.spec()) };
        let reply = clockwork.put(SCHEDULE, &plan).expect("a schedule");
        if matches!(reply, Reply::Schedule { change: Change::None, .. }) {
            return;
        }
        let view = clockwork.view(SCHEDULE);
        let former_end = match before {
            Some(before) if before.state.completed => before.state.cursor,
            _ => view.state.cursor,
        };
        let segment = Segment {
            nominal: nominal.clone(),
            jitter: rules.jitter,
            from: view.state.cursor,
            former_end,
        };
        self.segments.insert(view.version, segment);
        self.may_overlap |= rules.overlap == Overlap::Allow;
    }

    fn task(&self, index: &Index) -> Option<TaskId> {
        let tasks: Vec<_> = self.clockwork.tasks().map(|spec| spec.id).collect();
        // The newest ones matter most.
        let recent = &tasks[tasks.len().saturating_sub(8)..];
        (!recent.is_empty()).then(|| *index.get(recent))
    }

    fn happens(&mut self, event: &Event) {
        let clockwork = &mut self.clockwork;
        match event {
            Event::Put { nominal, rules, max_runs, expires } => {
                let current = clockwork.view(SCHEDULE).version;
                let nominal =
                    nominal.clone().unwrap_or_else(|| self.segments[&current].nominal.clone());
                // All that is due is decided before, except for the last seconds.
                self.clockwork.catch_up();
                self.clockwork.pass(1500);
                self.put(&nominal, *rules, *max_runs, *expires);
            }
            Event::Pause(paused) => {
                clockwork.pause(SCHEDULE, *paused).expect("a schedule");
            }
            Event::SkipNext => {
                if let Some(next) = clockwork.view(SCHEDULE).next {
                    clockwork.skip(SCHEDULE, next).expect("a coming tick");
                }
            }
            Event::Trigger => {
                clockwork.trigger(SCHEDULE).expect("a task");
            }
            Event::Backfill { back, order, scope, interval } => {
                let to = clockwork.believed();
                let backfill = Some(Box::new(Backfill {
                    from: WallTime(to.0 - back * 1000),
                    to,
                    cursor: WallTime(0),
                    priority: None,
                    order: *order,
                    interval: Millis(*interval),
                    next_at: WallTime(0),
                    scope: *scope,
                    last_task: None,
                    created: 0,
                    present: 0,
                    refused: 0,
                }));
                let _ = clockwork.apply(Command::Backfill { schedule: name(SCHEDULE), backfill });
            }
            Event::CancelBackfill => {
                let schedule = name(SCHEDULE);
                let _ = clockwork.apply(Command::Backfill { schedule, backfill: None });
            }
            Event::End(index, end) => {
                if let Some(task) = self.task(index) {
                    self.clockwork.end(task, *end);
                }
            }
            Event::Retry(index) => {
                if let Some(task) = self.task(index) {
                    let command = TaskCommand::Retry { spec: None }.on(task);
                    self.may_overlap |= self.clockwork.apply(command).is_ok();
                }
            }
            Event::Pass(span) => clockwork.pass(*span),
            Event::SetWall(change) => clockwork.set_wall_by(*change),
            Event::Doubt(ahead) => {
                clockwork.ahead += ahead;
                clockwork.set_wall_by(ahead.cast_signed());
            }
            Event::EndDoubt { believe } => {
                let ahead = std::mem::take(&mut clockwork.ahead);
                if !believe {
                    clockwork.set_wall_by(-ahead.cast_signed());
                }
            }
            Event::Step => clockwork.step(),
            Event::Settle => clockwork.settle(),
            Event::Crash { landed, down } => {
                // The next leader finds another clock.
                let ahead = std::mem::take(&mut clockwork.ahead);
                clockwork.set_wall_by(-ahead.cast_signed());
                clockwork.crash(*landed, *down);
            }
        }
        self.judge_overlap();
    }

    /// Only one task of ticks runs at a time, unless tasks may overlap.
    fn judge_overlap(&self) {
        let live = self.clockwork.live();
        let of_ticks = live.iter().filter(|task| {
            let spec = &self.clockwork.durable.specs[*task];
            let nominal = spec.tick.as_ref().and_then(|tick| tick.nominal);
            nominal.is_some_and(|at| {
                spec.client_keys.id.as_ref() == Some(&tick_id(&name(SCHEDULE), at))
            })
        });
        assert!(self.may_overlap || of_ticks.count() <= 1, "tasks overlap: {live:?}");
    }

    /// What the walker says up to the cursor is what was decided.
    fn judge(&mut self) {
        let clockwork = &mut self.clockwork;
        let ahead = std::mem::take(&mut clockwork.ahead);
        clockwork.set_wall_by(-ahead.cast_signed());
        clockwork.catch_up();
        clockwork.pass(61_000);
        clockwork.catch_up();
        let schedule = name(SCHEDULE);
        let record = &clockwork.durable.schedules[&schedule];
        let state = &clockwork.durable.states[&schedule];
        self.segments.split_off(&(record.version + 1));
        let mut expected: BTreeMap<i64, bool> = BTreeMap::new();
        let ends = self.segments.values().skip(1).map(|next| next.former_end);
        let ends = ends.chain([state.cursor]);
        for (segment, to) in self.segments.values().zip(ends) {
            let nominal = &segment.nominal;
            for second in nominal.between(segment.from.0.div_euclid(1000), to.0.div_euclid(1000)) {
                let is_new = expected.insert(second, nominal.is_excluded(second)).is_none();
                assert!(is_new, "{second} is expected of two versions: {:?}", self.segments);
            }
        }
        let mut fired = BTreeSet::new();
        let mut queued = Vec::new();
        let mut seen = 0;
        let mut last = i64::MIN;
        for ((_, first), tick) in &clockwork.durable.ticks {
            let run = tick.run;
            assert_eq!(*first, run.first);
            let (first, end) = (run.first.0 / 1000, run.last.0 / 1000);
            assert!(first > last, "{run:?} begins before the run before ends");
            last = end;
            let covered: Vec<_> = expected.range(first..=end).collect();
            assert_eq!(covered.len() as u64, run.count, "{run:?} but {covered:?}");
            assert_eq!((first, end), (*covered[0].0, *covered[covered.len() - 1].0));
            seen += covered.len();
            let excluded = run.outcome == Outcome::Skipped(SkipReason::Excluded);
            assert!(covered.iter().all(|(_, is)| **is == excluded), "{run:?}: {covered:?}");
            match run.outcome {
                Outcome::Fired(task) => assert!(fired.insert((task, run.first))),
                Outcome::Queued => queued.push(run.first),
                _ => {}
            }
        }
        assert_eq!(seen, expected.len(), "ticks without an outcome");
        assert_eq!(queued, state.queued);
        let mut tasks = BTreeSet::new();
        for spec in clockwork.tasks() {
            let Some(nominal) = spec.tick.as_ref().and_then(|tick| tick.nominal) else { continue };
            if spec.client_keys.id.as_ref() == Some(&tick_id(&schedule, nominal)) {
                tasks.insert((spec.id, nominal));
            }
        }
        assert_eq!(tasks, fired, "tasks of ticks and ticks with tasks");
        // Nothing that is due is left.
        if !state.completed {
            let last = self.segments.values().next_back().expect("a version");
            let until = (clockwork.now.wall.0 - last.jitter.0.cast_signed()) / 1000;
            let until = if state.pause.is_some() { until - 60 } else { until };
            let left: Vec<_> =
                last.nominal.between(state.cursor.0.div_euclid(1000), until).collect();
            assert!(left.is_empty(), "{left:?} are due and undecided");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_tick_has_one_outcome_and_at_most_one_task(
        nominal in any_nominal(),
        rules in any_rules(),
        max_runs in prop::option::weighted(0.2, 1u64..20),
        events in prop::collection::vec(any_event(), 1..60),
    ) {
        let mut life = Life::new(&nominal, rules, max_runs);
        for event in &events {
            life.happens(event);
        }
        life.judge();
    }
}

//! The cost of a tick in the machine, with a million schedules: each fires every 30 s, which is 33,333 ticks a second.
//!
//! ```text
//! cargo run --release -p rota-core --example ticks [schedules] [seconds]
//! ```

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rota_core::{
    Definition, Effect, Machine, MachineLimits, Millis, MonoTime, Mutation, Name, Now, Overlap,
    Priority, Retention, ScheduleDefinition, ScheduleFingerprints, ScheduleRecord, ScheduleState,
    TaskCommand, TaskId, TaskIdSequence, Template, TickOwners, TickRules, WallTime,
};
use rota_cron::{IntervalSpec, Recurrence, RecurrenceSpec};

/// Time between two steps.
const STEP: Millis = Millis(10);
const EVERY: u64 = 30;
const BEGIN: WallTime = WallTime(1_795_770_000_000);

fn record(number: u64, template: &Arc<Template>) -> ScheduleRecord {
    let name = Name::new(&format!("tenant-{number:07}/report")).expect("a name");
    let interval = IntervalSpec {
        every: Duration::from_secs(EVERY),
        phase: Duration::from_secs(number % EVERY),
    };
    let spec = RecurrenceSpec { intervals: vec![interval], ..RecurrenceSpec::default() };
    let recurrence = Recurrence::new(&spec, &name).expect("a recurrence");
    ScheduleRecord {
        name,
        definition: ScheduleDefinition {
            times: Arc::new(spec),
            recurrence: Arc::new(recurrence),
            // Spreads the ticks over the second.
            rules: TickRules {
                overlap: Overlap::Skip,
                jitter: Millis(999),
                ..TickRules::default()
            },
            template: template.clone(),
            labels: Vec::new(),
            description: None,
            max_runs: None,
        },
        created_at: BEGIN,
        updated_at: BEGIN,
        version: 1,
        fingerprints: ScheduleFingerprints { whole: 1, times: 2 },
    }
}

/// The time that this thread has had on a processor, which other processes do not change.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("Linux counts the time of threads"))
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let schedules: u64 = arguments.next().unwrap_or(1_000_000);
    let seconds: u64 = arguments.next().unwrap_or(60);
    let name = |text| Name::new(text).expect("a name");
    let template = Arc::new(Template {
        definition: Definition::new(name("reports"), name("report")),
        priority: Priority::default(),
        expires_after: None,
    });
    let mut now = Now { wall: BEGIN, mono: MonoTime(0) };
    let records: Vec<_> = (0..schedules).map(|number| record(number, &template)).collect();
    let began = processor_time();
    let mut machine = Machine::new(MachineLimits::default(), Retention::default(), now);
    for record in &records {
        machine.restore_schedule(record, ScheduleState::new(BEGIN, None));
    }
    println!("{schedules} schedules are loaded in {:?}", processor_time().saturating_sub(began));
    drop(records);

    let mut ids = TaskIdSequence::after(None);
    let mut running: VecDeque<TaskId> = VecDeque::new();
    let (mut ticks, mut busy, mut latest) = (0u64, Duration::ZERO, Millis(0));
    for step in 0..seconds * 1000 / STEP.0 {
        // If work is left over, the next step follows at once.
        if machine.next_wakeup() != Some(Millis(0)) {
            now = Now { wall: now.wall + STEP, mono: now.mono + STEP };
        }
        machine.begin(now, step + 1);
        // The tasks of the step before have ended.
        for task in running.drain(..) {
            machine.apply(TaskCommand::Cancel.on(task)).expect("a live task");
        }
        let began = processor_time();
        machine.tick(now.mono);
        let mut owners = TickOwners::default();
        for id in machine.due_tick_ids(now.wall) {
            owners.insert(id, None);
        }
        machine.decide_ticks(now.wall, &mut ids, &owners);
        let sealed = machine.seal();
        busy += processor_time().saturating_sub(began);
        ticks += sealed.ticks.len() as u64;
        latest = sealed.ticks.iter().map(|tick| tick.late).max().unwrap_or_default().max(latest);
        let created = sealed.mutations.iter().filter_map(|mutation| match mutation {
            Mutation::PutSpec(spec) => Some(spec.id),
            _ => None,
        });
        running.extend(created);
        assert!(!sealed.effects.iter().any(|effect| matches!(effect, Effect::Dispatch(_))));
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = ticks as f64 / busy.as_secs_f64();
    println!(
        "{ticks} ticks in {busy:?}: {:?} a tick, {rate:.0} ticks/s; latest tick {latest}",
        busy / u32::try_from(ticks.max(1)).unwrap_or(u32::MAX)
    );
}

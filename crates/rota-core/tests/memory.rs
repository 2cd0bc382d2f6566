//! The memory of a schedule. In a binary of its own, as it counts all that is allocated.

use std::sync::Arc;

use peak_alloc::PeakAlloc;
use rota_core::{
    Definition, Machine, MachineLimits, Millis, MonoTime, Name, Now, Overlap, Priority, Retention,
    Run, ScheduleDefinition, ScheduleFingerprints, ScheduleRecord, ScheduleState, Template,
    TickRules, WallTime,
};
use rota_cron::{Recurrence, RecurrenceSpec};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const SCHEDULES: usize = 100_000;
const NOW: WallTime = WallTime(1_795_770_000_000);

fn record(number: usize, template: &Arc<Template>) -> ScheduleRecord {
    let name = Name::new(&format!("tenant-{number:06}/nightly-report")).expect("a name");
    let expressions = vec!["H H * * *".into()];
    let spec = RecurrenceSpec { expressions, ..RecurrenceSpec::default() };
    let recurrence = Recurrence::new(&spec, &name).expect("a recurrence");
    ScheduleRecord {
        name,
        definition: ScheduleDefinition {
            times: Arc::new(spec),
            recurrence: Arc::new(recurrence),
            rules: TickRules { overlap: Overlap::QueueOne, ..TickRules::default() },
            template: template.clone(),
            labels: Vec::new(),
            description: None,
            max_runs: None,
        },
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        fingerprints: ScheduleFingerprints { whole: 1, times: 2 },
    }
}

/// Bytes for each schedule beside its template.
fn bytes(state: impl Fn(usize) -> ScheduleState) -> usize {
    let now = Now { wall: NOW, mono: MonoTime(0) };
    let name = |text| Name::new(text).expect("a name");
    let template = Arc::new(Template {
        definition: Definition::new(name("reports"), name("nightly")),
        priority: Priority::default(),
        expires_after: Some(Millis::from_secs(3600)),
    });
    let mut machine = Machine::new(MachineLimits::default(), Retention::default(), now);
    let before = ALLOCATED.current_usage();
    for number in 0..SCHEDULES {
        machine.restore_schedule(&record(number, &template), state(number));
    }
    let used = ALLOCATED.current_usage() - before;
    assert_eq!(machine.schedules(), SCHEDULES);
    used / SCHEDULES
}

#[test]
fn a_schedule_takes_less_than_300_bytes_beside_its_template() {
    let usual = |_| ScheduleState {
        last_fired: Some(NOW),
        last_success: Some(NOW),
        ..ScheduleState::new(NOW, None)
    };
    let usual = bytes(usual);
    assert!(usual <= 300, "{usual} bytes");
    // Those that have just skipped a tick need more.
    let skipped = |_| ScheduleState {
        open_run: Some(Run {
            outcome: rota_core::Outcome::Coalesced,
            first: NOW,
            last: NOW,
            count: 1,
        }),
        ..ScheduleState::new(NOW, None)
    };
    let skipped = bytes(skipped);
    assert!(skipped <= 600, "{skipped} bytes");
    println!("{usual} bytes, {skipped} with a skipped tick");
}

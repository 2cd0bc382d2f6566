//! Recurring schedules: what a client says about one, the state that its ticks change, and the records of its
//! ticks.
//!
//! A *tick* is one nominal time of a schedule. The crate `rota-cron` computes nominal times. The machine decides
//! each tick exactly once, and keeps what it decided as the tick's *outcome*.

use std::{fmt, fmt::Write as _, sync::Arc};

use bytes::Bytes;
use rota_cron::{Calendar, Recurrence, RecurrenceSpec};

use crate::{Definition, Millis, Name, Priority, TaskId, WallTime};

/// What a client says about a schedule, except its name.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleDefinition {
    /// The nominal times, as the client wrote them.
    pub times: Arc<RecurrenceSpec>,
    /// The same, as the machine uses them.
    pub recurrence: Arc<Recurrence>,
    /// What each tick does.
    pub rules: TickRules,
    /// The task that each tick creates.
    pub template: Arc<Template>,
    /// Labels of the schedule itself, for people and filters, sorted by name.
    pub labels: Vec<(Name, Box<str>)>,
    /// Description for people.
    pub description: Option<Box<str>>,
    /// Number of ticks that create a task, after which the schedule is completed. `None` means no limit.
    pub max_runs: Option<u64>,
}

/// The task that a tick creates.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// The definition, without a start deadline.
    pub definition: Definition,
    pub priority: Priority,
    /// The start deadline, counted from the nominal time.
    pub expires_after: Option<Millis>,
}

/// How ticks are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TickRules {
    /// What happens to a tick while the task of the tick before has not ended.
    pub overlap: Overlap,
    /// What happens to ticks that were not decided in time, because no node could.
    pub catch_up: CatchUp,
    /// Ticks that are older than this are missed.
    pub catch_up_window: Millis,
    /// Maximum number of late ticks that create tasks under [`CatchUp::All`]. Older ones are missed.
    pub catch_up_max: u32,
    /// Maximum delay of a tick, to spread load. The delay of a tick is always the same.
    pub jitter: Millis,
    /// Number of failed tasks in a row after which the schedule is paused. 0 means never.
    pub pause_on_failure: u32,
}

impl Default for TickRules {
    fn default() -> Self {
        Self {
            overlap: Overlap::Skip,
            catch_up: CatchUp::Last,
            catch_up_window: Millis::from_secs(24 * 3600),
            catch_up_max: 100,
            jitter: Millis(0),
            pause_on_failure: 0,
        }
    }
}

/// What happens to a tick while the task of the tick before has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overlap {
    /// The tick is skipped.
    #[default]
    Skip,
    /// One tick waits. Further ones are skipped.
    QueueOne,
    /// Ticks wait, up to [`ScheduleState::QUEUED_MAX`]. Further ones are skipped.
    QueueAll,
    /// The running task is cancelled, and the tick waits until it has ended.
    CancelRunning,
    /// Tasks run beside each other.
    Allow,
}

/// What happens to ticks that were not decided in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CatchUp {
    /// Only the last one creates a task.
    #[default]
    Last,
    /// Each creates a task.
    All,
    /// None creates a task.
    None,
}

/// The stored definition of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRecord {
    pub name: Name,
    pub definition: ScheduleDefinition,
    pub created_at: WallTime,
    /// Time of the last change of the definition.
    pub updated_at: WallTime,
    /// Number of the definition, from 1.
    pub version: u32,
    /// Hashes of the definition.
    pub fingerprints: ScheduleFingerprints,
}

/// Hashes of a definition, to tell whether a client says something else than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleFingerprints {
    /// Of all of it.
    pub whole: u64,
    /// Of the nominal times only. When they change, the schedule begins anew at that time.
    pub times: u64,
}

/// The state of a schedule. It is small, because each tick rewrites it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleState {
    /// The last nominal time that was decided. It only grows, until the definition has other nominal times.
    pub cursor: WallTime,
    /// Why no more ticks will come, if so.
    pub completed: bool,
    pub pause: Option<Box<Pause>>,
    /// Ticks up to this time are skipped, because the schedule was paused then.
    pub paused_until: WallTime,
    /// Number of ticks that may still create tasks.
    pub runs_left: Option<u64>,
    /// The task of the last tick that created one.
    pub last_task: Option<TaskId>,
    /// The nominal time of that tick.
    pub last_fired: Option<WallTime>,
    /// The nominal time of the last tick whose task completed.
    pub last_success: Option<WallTime>,
    /// The last tick that created no task, because of a fault or a limit.
    pub last_missed: Option<MissedTick>,
    /// Number of tasks that failed since one completed.
    pub failures: u32,
    /// Number of tasks that clients triggered.
    pub manual: u32,
    /// Ticks that wait for their turn, oldest first.
    pub queued: Vec<WallTime>,
    /// Coming ticks that a client asked to skip, in order.
    pub to_skip: Vec<WallTime>,
    /// The last outcome, as long as ticks with the same outcome extend its record.
    pub open_run: Option<Run>,
    /// The backfill that is under way.
    pub backfill: Option<Box<Backfill>>,
    /// Unknown fields that a newer version wrote.
    pub unknown: Bytes,
}

impl ScheduleState {
    /// Maximum number of ticks that wait.
    pub const QUEUED_MAX: usize = 100;
    /// Maximum number of coming ticks to skip.
    pub const TO_SKIP_MAX: usize = 100;

    /// The state of a schedule that begins now.
    #[must_use]
    pub fn new(now: WallTime, max_runs: Option<u64>) -> Self {
        Self {
            cursor: now,
            completed: false,
            pause: None,
            paused_until: WallTime(i64::MIN),
            runs_left: max_runs,
            last_task: None,
            last_fired: None,
            last_success: None,
            last_missed: None,
            failures: 0,
            manual: 0,
            queued: Vec::new(),
            to_skip: Vec::new(),
            open_run: None,
            backfill: None,
            unknown: Bytes::new(),
        }
    }
}

/// Creates the tasks of past ticks. The cursor of the schedule and its overlap policy play no part in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The first nominal time.
    pub from: WallTime,
    /// The last nominal time.
    pub to: WallTime,
    /// The last nominal time that was decided.
    pub cursor: WallTime,
    /// Priority of the tasks. `None`: that of the template.
    pub priority: Option<Priority>,
    /// Whether tasks may run beside each other.
    pub order: BackfillOrder,
    /// Least time between two tasks.
    pub interval: Millis,
    /// Earliest time of the next task.
    pub next_at: WallTime,
    /// Which ticks get a task.
    pub scope: BackfillScope,
    /// The last task that it created.
    pub last_task: Option<TaskId>,
    /// Number of tasks that it created.
    pub created: u32,
    /// Number of ticks that it left out, because they have a task.
    pub present: u32,
    /// Number of ticks whose task could not be created.
    pub refused: u32,
}

/// Whether the tasks of a backfill run beside each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackfillOrder {
    /// Each task is created when the one before it has ended.
    #[default]
    OneByOne,
    /// Tasks run beside each other.
    Parallel,
}

/// Which ticks a backfill creates tasks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackfillScope {
    /// Those without a task. A task that retention has removed counts as missing.
    #[default]
    Missing,
    /// All.
    All,
}

/// A stored calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarRecord {
    pub name: Name,
    pub calendar: Arc<Calendar>,
    /// Description for people.
    pub description: Option<Box<str>>,
    pub created_at: WallTime,
    /// Time of the last change.
    pub updated_at: WallTime,
    /// Number of the content, from 1.
    pub version: u32,
}

/// Why a schedule or a queue is paused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pause {
    /// Time of the pause.
    pub at: WallTime,
    /// Who paused it, as the client says. Nobody verifies it.
    pub by: Box<str>,
    /// The reason for people.
    pub note: Box<str>,
    /// Whether a schedule was paused because its tasks failed. Never for a queue.
    pub on_failure: bool,
}

/// Ticks in a row with the same outcome, kept as one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub outcome: Outcome,
    /// The first nominal time. It is the key of the record.
    pub first: WallTime,
    /// The last nominal time.
    pub last: WallTime,
    /// Number of ticks.
    pub count: u64,
}

/// The record of a tick, or of a run of ticks with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickRecord {
    pub schedule: Name,
    pub run: Run,
    /// Time of the last decision.
    pub decided_at: WallTime,
    /// Time at which retention can remove it. `None` while the tick waits for its turn.
    pub retain_until: Option<WallTime>,
}

/// What became of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It created this task.
    Fired(TaskId),
    /// It waits for the task of an earlier tick to end.
    Queued,
    /// It created no task, by the rules of the schedule or because somebody asked.
    Skipped(SkipReason),
    /// It was late, and a later tick that was late as well stands for it.
    Coalesced,
    /// It was too late.
    Missed,
    /// It should have created a task, and could not.
    Refused(RefusedReason),
}

/// A tick that created no task, because of a fault or a limit: it is missed or refused. A skipped or coalesced tick is
/// none, because its schedule or a client asks for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissedTick {
    pub nominal: WallTime,
    /// Why it was refused. `None`: it was missed.
    pub refused: Option<RefusedReason>,
}

impl MissedTick {
    /// What became of the tick.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        self.refused.map_or(Outcome::Missed, Outcome::Refused)
    }
}

/// Why a tick was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// The task of an earlier tick had not ended.
    Overlap,
    /// The schedule was paused.
    Paused,
    /// An exclusion or a calendar names it.
    Excluded,
    /// Its local time did not exist, because clocks were set forward.
    Gap,
    /// A client asked.
    ByRequest,
}

/// Why a tick could not create a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusedReason {
    /// Another task has the id.
    Conflict,
    /// The queue is full.
    QueueFull,
    /// There are too many queues or kinds.
    TooManyNames,
    /// The task would have expired before it could start.
    Expired,
    /// The store has no room for new tasks.
    StoreFull,
}

impl Outcome {
    /// Whether further ticks with the same outcome extend the record.
    #[must_use]
    pub fn folds(self) -> bool {
        matches!(self, Self::Skipped(_) | Self::Coalesced | Self::Missed | Self::Refused(_))
    }

    /// The word for the outcome on the wire, in metrics and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fired(_) => "fired",
            Self::Queued => "queued",
            Self::Skipped(_) => "skipped",
            Self::Coalesced => "coalesced",
            Self::Missed => "missed",
            Self::Refused(_) => "refused",
        }
    }

    /// The word for the reason, if the outcome has one.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Refused(reason) => Some(reason.as_str()),
            Self::Fired(_) | Self::Queued | Self::Coalesced | Self::Missed => None,
        }
    }
}

impl SkipReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Overlap, Self::Paused, Self::Excluded, Self::Gap, Self::ByRequest];

    /// The word on the wire, in metrics and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Paused => "paused",
            Self::Excluded => "exclusion",
            Self::Gap => "gap",
            Self::ByRequest => "by_request",
        }
    }
}

impl RefusedReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Conflict, Self::QueueFull, Self::TooManyNames, Self::Expired, Self::StoreFull];

    /// The word on the wire, in metrics and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::QueueFull => "queue_full",
            Self::TooManyNames => "too_many_names",
            Self::Expired => "expired",
            Self::StoreFull => "store_full",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{} ({reason})", self.as_str()),
            None => f.write_str(self.as_str()),
        }
    }
}

/// The name of a schedule has at most this many characters, so that the ids of its tasks are names as well.
pub const SCHEDULE_NAME_LEN_MAX: usize = 90;

/// A nominal time as text, such as `2026-03-08T07:00:00Z`.
#[must_use]
pub fn nominal_text(nominal: WallTime) -> String {
    rota_cron::Timestamp(nominal.0).to_string()
}

/// The client id of the task of a tick.
#[must_use]
pub fn tick_id(schedule: &Name, nominal: WallTime) -> Name {
    let mut text = String::with_capacity(Name::LEN_MAX);
    write_tick_id(&mut text, schedule, nominal);
    Name::new(&text).expect("the name of a schedule leaves room for a date")
}

/// Writes [`tick_id`] in place of what the text holds.
pub(crate) fn write_tick_id(text: &mut String, schedule: &Name, nominal: WallTime) {
    text.clear();
    text.push_str(schedule);
    text.push('/');
    // Writing to a string cannot fail.
    let _ = write!(text, "{}", rota_cron::Timestamp(nominal.0));
}

/// The client id of the task of a backfilled tick.
#[must_use]
pub fn backfill_id(schedule: &Name, nominal: WallTime) -> Name {
    let text = format!("{schedule}/backfill-{}", rota_cron::Timestamp(nominal.0));
    Name::new(&text).expect("the name of a schedule leaves room for a date")
}

/// Whether this is the client id of the task of a backfilled tick.
#[must_use]
pub fn is_backfill_id(id: &Name) -> bool {
    id.rsplit_once('/').is_some_and(|(_, tick)| tick.starts_with("backfill-"))
}

/// The client id of a task that a client triggered.
#[must_use]
pub fn manual_id(schedule: &Name, number: u32) -> Name {
    let text = format!("{schedule}/manual-{number}");
    Name::new(&text).expect("the name of a schedule leaves room for a number")
}

/// The name of the schedule in the id of one of its tasks.
#[must_use]
pub fn schedule_of(id: &Name) -> Option<&str> {
    id.rsplit_once('/').map(|(schedule, _)| schedule)
}

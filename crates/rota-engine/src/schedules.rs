//! Calls of clients on schedules and calendars.

use std::{collections::BTreeMap, sync::Arc};

use rota_core::{
    Backfill, CalendarRecord, Change, Command, Machine, Name, Pause, PutSchedule, Refusal, Reply,
    ScheduleDefinition, ScheduleRecord, ScheduleView, TickRecord, WallTime, backfill_id, tick_id,
};
use rota_cron::{Calendar, CalendarLookup, Kind as OccurrenceKind, Timestamp};
use rota_store::{Direction, KeyRange};

use crate::{
    api::{EngineError, TaskView, TimeRange},
    codec,
    engine::Engine,
    layout, prefetch,
    records::{self, Scan, Schedule, Tick, behind, own},
    request::Request,
};

/// Number of records to read at a time, and the bytes at which a page ends.
const PAGE: usize = 64;
const PAGE_BYTES: usize = 4 << 20;
/// Maximum number of occurrences that a count of a backfill looks at.
pub const BACKFILL_COUNTED_MAX: u64 = 100_000;
/// Number of ids to look up at a time.
const LOOKED_UP: usize = 1_000;
/// Number of schedules to change in one request.
const CHANGED: usize = 200;

/// A schedule: its definition and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRead {
    pub record: ScheduleRecord,
    pub view: ScheduleView,
}

/// The status of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScheduleStatus {
    /// Its ticks create tasks.
    Active,
    /// Its ticks are skipped.
    Paused,
    /// No more ticks will come.
    Completed,
}

impl ScheduleRead {
    /// The status. A completed schedule that is paused is completed.
    #[must_use]
    pub fn status(&self) -> ScheduleStatus {
        let state = &self.view.state;
        match (state.completed, &state.pause) {
            (true, _) => ScheduleStatus::Completed,
            (false, Some(_)) => ScheduleStatus::Paused,
            (false, None) => ScheduleStatus::Active,
        }
    }
}

/// A filter of schedules. All set fields must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleFilter {
    /// The beginning of the name.
    pub prefix: Option<Box<str>>,
    /// Labels. All must match.
    pub labels: Vec<(Name, Box<str>)>,
    pub state: Option<ScheduleStatus>,
}

impl ScheduleFilter {
    fn has_definition(&self, record: &ScheduleRecord) -> bool {
        self.labels.iter().all(|label| record.definition.labels.contains(label))
    }
}

/// A page of schedules, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SchedulePage {
    /// Can be fewer than requested even if more follow.
    pub schedules: Vec<ScheduleRead>,
    /// The name after which to continue. `None` at the end.
    pub next: Option<Name>,
}

/// A page of ticks, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TickPage {
    pub ticks: Vec<TickRecord>,
    /// The first nominal time of the last one, before which to continue. `None` at the end.
    pub next: Option<WallTime>,
}

/// What a backfill would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackfillCount {
    /// Number of ticks in the range.
    pub occurrences: u64,
    /// Number of them that have a task.
    pub present: u64,
    /// Whether the range has more ticks than were counted, which are [`BACKFILL_COUNTED_MAX`].
    pub more: bool,
}

/// Calendars by their names.
struct Calendars(BTreeMap<Box<str>, Arc<CalendarRecord>>);

impl CalendarLookup for Calendars {
    fn calendar(&self, name: &str) -> Option<&Calendar> {
        self.0.get(name).map(|record| record.calendar.as_ref())
    }
}

impl Engine {
    /// Creates a schedule, or replaces its definition. The same definition changes nothing. `if_version` is the
    /// version that must be there, 0 for none.
    ///
    /// # Errors
    /// When it has another version, names a calendar that does not exist, or there are too many schedules.
    pub async fn put_schedule(
        &self,
        name: Name,
        mut definition: ScheduleDefinition,
        if_version: Option<u32>,
    ) -> Result<(ScheduleRead, Change), EngineError> {
        self.inner.shared.admit()?;
        // The machine keeps the template. A payload that came with a request may be a slice of a large buffer.
        let payload = &mut Arc::make_mut(&mut definition.template).definition.payload;
        *payload = own(payload);
        let now = self.inner.shared.host.now().wall;
        let record = ScheduleRecord {
            name: name.clone(),
            fingerprints: codec::fingerprints(&definition),
            definition,
            created_at: now,
            updated_at: now,
            version: 0,
        };
        let put = Command::PutSchedule(Box::new(PutSchedule { record, if_version }));
        let change = self.change_schedule(put).await?;
        Ok((self.changed_schedule(&name).await?, change))
    }

    /// Gets a schedule. `None` if there is no such schedule.
    ///
    /// # Errors
    /// When the engine or the store does not answer, or the record cannot be read.
    pub async fn schedule(&self, name: &Name) -> Result<Option<ScheduleRead>, EngineError> {
        let asked = name.clone();
        let view = self.query(move |machine| machine.schedule(&asked)).await?;
        let (store, shared) = (self.inner.store.as_ref(), &self.inner.shared);
        let found = shared.records.one::<Schedule>(store, name).await?;
        let record = found.or_refuse::<Schedule>(name)?;
        Ok(record.zip(view).map(|(record, view)| ScheduleRead { record, view }))
    }

    /// Lists schedules by name, after this one.
    ///
    /// # Errors
    /// When the engine or the store does not answer.
    pub async fn schedules(
        &self,
        filter: &ScheduleFilter,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<SchedulePage, EngineError> {
        let snapshot = self.inner.store.snapshot().await?;
        let mut range = match &filter.prefix {
            Some(prefix) => KeyRange::prefix(layout::SCHEDULE, prefix.to_string()),
            None => KeyRange::all(layout::SCHEDULE),
        };
        if let Some(after) = after {
            range.start = range.start.max(behind(&layout::named(after)));
        }
        let mut scan = Scan::<Schedule>::new(range, Direction::Ascending, PAGE);
        let (mut page, mut bytes) = (SchedulePage::default(), 0);
        while let Some(entries) = scan.next(snapshot.as_ref()).await? {
            let mut found = Vec::new();
            for entry in &entries {
                let Some(name) = entry.typed_key() else { continue };
                let record = self.inner.shared.records.read(entry, &name).record();
                bytes += entry.value.len();
                found.extend(record.filter(|record| filter.has_definition(record)));
            }
            let last = entries.last().and_then(records::Entry::typed_key);
            for schedule in self.with_views(found).await? {
                if filter.state.is_some_and(|state| state != schedule.status()) {
                    continue;
                }
                if page.schedules.len() == limit {
                    page.next = page.schedules.last().map(|last| last.record.name.clone());
                    return Ok(page);
                }
                page.schedules.push(schedule);
            }
            if bytes > PAGE_BYTES && scan.has_more() {
                page.next = last;
                return Ok(page);
            }
        }
        Ok(page)
    }

    async fn with_views(
        &self,
        records: Vec<ScheduleRecord>,
    ) -> Result<Vec<ScheduleRead>, EngineError> {
        let names: Vec<_> = records.iter().map(|record| record.name.clone()).collect();
        let views = self.query(move |machine| {
            names.iter().map(|name| machine.schedule(name)).collect::<Vec<_>>()
        });
        let views = views.await?.into_iter();
        let reads = records.into_iter().zip(views);
        Ok(reads.filter_map(|(record, view)| Some(ScheduleRead { record, view: view? })).collect())
    }

    /// Deletes a schedule. Its tasks and the records of its ticks stay.
    ///
    /// # Errors
    /// When there is no such schedule, or it has another version.
    pub async fn delete_schedule(
        &self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<(), EngineError> {
        self.change(Command::DeleteSchedule { schedule: name.clone(), if_version }).await
    }

    /// Pauses a schedule, or resumes it.
    ///
    /// # Errors
    /// When there is no such schedule.
    pub async fn pause_schedule(
        &self,
        name: &Name,
        pause: Option<Pause>,
    ) -> Result<ScheduleRead, EngineError> {
        self.change_schedule(Command::PauseSchedule { schedule: name.clone(), pause }).await?;
        self.changed_schedule(name).await
    }

    /// Pauses or resumes the schedules that match, up to `limit`. Returns the number of those that changed.
    ///
    /// # Errors
    /// When the engine or the store does not answer. Some can be changed already.
    pub async fn pause_schedules(
        &self,
        filter: &ScheduleFilter,
        pause: Option<Pause>,
        limit: usize,
    ) -> Result<u32, EngineError> {
        let (mut changed, mut after) = (0, None);
        let mut left = limit;
        // An error must not suggest that nothing was changed.
        let midway = |changed: usize, error| match changed {
            0 => error,
            _ => EngineError::OutcomeUnknown("some of the schedules were changed"),
        };
        while left > 0 {
            let page = self.schedules(filter, after.as_ref(), left.min(CHANGED)).await;
            let page = page.map_err(|error| midway(changed, error))?;
            left -= page.schedules.len();
            let command = |schedule: ScheduleRead| Command::PauseSchedule {
                schedule: schedule.record.name,
                pause: pause.clone(),
            };
            // One that is in this state already keeps who paused it, and why.
            let differs =
                |schedule: &ScheduleRead| schedule.view.state.pause.is_some() != pause.is_some();
            let commands: Vec<_> =
                page.schedules.into_iter().filter(differs).map(command).collect();
            if !commands.is_empty() {
                self.inner.shared.admit_change().map_err(|error| midway(changed, error))?;
                let results = self.ask(|answer| Request::Commands { commands, answer }).await;
                let results = results.map_err(|error| midway(changed, error))?;
                changed += results.iter().filter(|result| is_change(result)).count();
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(u32::try_from(changed).unwrap_or(u32::MAX))
    }

    /// Creates a task of a schedule now. Its ticks go on as before.
    ///
    /// # Errors
    /// When there is no such schedule, or its task cannot be created.
    pub async fn trigger_schedule(&self, name: &Name) -> Result<TaskView, EngineError> {
        self.inner.shared.admit()?;
        let schedule = name.clone();
        let reply = self.ask(|answer| Request::Trigger { schedule, answer }).await??;
        let Reply::Submitted { task, .. } = reply else {
            unreachable!("a triggered schedule was answered with {reply:?}")
        };
        let view = self.view_of_changed(task).await;
        let view =
            view.map_err(|_| EngineError::OutcomeUnknown("cannot read the state of the task"))?;
        view.ok_or(EngineError::OutcomeUnknown("the task was created, and then deleted"))
    }

    /// Skips a coming tick, or takes that back.
    ///
    /// # Errors
    /// When there is no such schedule, or it has no coming tick at this time.
    pub async fn skip_tick(
        &self,
        name: &Name,
        nominal: WallTime,
        skip: bool,
    ) -> Result<ScheduleRead, EngineError> {
        let schedule = name.clone();
        self.change_schedule(Command::SkipTick { schedule, nominal, skip }).await?;
        self.changed_schedule(name).await
    }

    /// Begins a backfill, or cancels the one that is under way (`None`).
    ///
    /// # Errors
    /// When there is no such schedule, or a backfill is under way, or none is to be cancelled.
    pub async fn backfill_schedule(
        &self,
        name: &Name,
        backfill: Option<Box<Backfill>>,
    ) -> Result<ScheduleRead, EngineError> {
        let backfill = backfill.map(|backfill| {
            let cursor = WallTime(backfill.from.0.saturating_sub(1));
            Box::new(Backfill { cursor, next_at: WallTime(0), ..*backfill })
        });
        self.change_schedule(Command::Backfill { schedule: name.clone(), backfill }).await?;
        self.changed_schedule(name).await
    }

    /// Counts the ticks that a backfill looks at, and those that have a task.
    ///
    /// # Errors
    /// When there is no such schedule, or the engine or the store does not answer.
    pub async fn backfill_count(
        &self,
        name: &Name,
        backfill: &Backfill,
    ) -> Result<BackfillCount, EngineError> {
        let read = self.schedule(name).await?.ok_or(Refusal::UnknownSchedule)?;
        let recurrence = read.record.definition.recurrence;
        let calendars = self.calendars_by_name().await?;
        let mut count = BackfillCount::default();
        let mut after = Timestamp(backfill.from.0.saturating_sub(1));
        loop {
            let mut times = Vec::new();
            let mut ended = true;
            while let Some(next) = recurrence.next_after(after, &calendars) {
                if next.at.0 > backfill.to.0 {
                    break;
                }
                if times.len() == LOOKED_UP || count.occurrences == BACKFILL_COUNTED_MAX {
                    ended = false;
                    break;
                }
                after = next.at;
                if next.kind == OccurrenceKind::Fires {
                    count.occurrences += 1;
                    times.push(WallTime(next.at.0));
                }
            }
            count.present += self.count_present(name, &times).await?;
            if ended {
                return Ok(count);
            }
            if count.occurrences == BACKFILL_COUNTED_MAX {
                return Ok(BackfillCount { more: true, ..count });
            }
            // Other work of the process goes on in between.
            tokio::task::yield_now().await;
        }
    }

    async fn count_present(&self, name: &Name, times: &[WallTime]) -> Result<u64, EngineError> {
        let ids = times.iter().flat_map(|at| [tick_id(name, *at), backfill_id(name, *at)]);
        let ids: Vec<_> = ids.collect();
        let keys = prefetch::owner_keys(&ids).collect();
        let prefetched = prefetch::read(self.inner.store.as_ref(), keys).await?;
        let owner_of = |id: &Name| prefetched.owner_of(id).flatten();
        let is_present = |ids: &&[Name]| ids.iter().any(|id| owner_of(id).is_some());
        Ok(ids.chunks(2).filter(is_present).count() as u64)
    }

    /// Lists the ticks of a schedule whose first nominal time is in the range, newest first, before this one.
    ///
    /// # Errors
    /// When the store does not answer, or a record cannot be read.
    pub async fn ticks(
        &self,
        name: &Name,
        range: TimeRange,
        before: Option<WallTime>,
        limit: usize,
    ) -> Result<TickPage, EngineError> {
        let snapshot = self.inner.store.snapshot().await?;
        let mut keys = KeyRange::prefix(layout::TICK, layout::ticks(name));
        if let Some(from) = range.from {
            keys.start = keys.start.max(layout::tick(name, from));
        }
        for end in range.to.into_iter().chain(before) {
            let end = layout::tick(name, end);
            keys.end = Some(keys.end.map_or(end.clone(), |known| known.min(end)));
        }
        let mut scan = Scan::<Tick>::new(keys, Direction::Descending, PAGE);
        let mut page = TickPage::default();
        while let Some(entries) = scan.next(snapshot.as_ref()).await? {
            for entry in &entries {
                let Some(key) = entry.typed_key() else { continue };
                if page.ticks.len() == limit {
                    page.next = page.ticks.last().map(|last| last.run.first);
                    return Ok(page);
                }
                let found = self.inner.shared.records.read(entry, &key);
                page.ticks.extend(found.or_refuse::<Tick>(&key)?);
            }
        }
        Ok(page)
    }

    /// Creates a calendar, or replaces it. As [`Engine::put_schedule`].
    ///
    /// # Errors
    /// When it has another version, or there are too many calendars.
    pub async fn put_calendar(
        &self,
        name: Name,
        calendar: Calendar,
        description: Option<Box<str>>,
        if_version: Option<u32>,
    ) -> Result<(Arc<CalendarRecord>, Change), EngineError> {
        self.inner.shared.admit()?;
        let now = self.inner.shared.host.now().wall;
        let record = Box::new(CalendarRecord {
            name: name.clone(),
            calendar: Arc::new(calendar),
            description,
            created_at: now,
            updated_at: now,
            version: 0,
        });
        let change = self.change_schedule(Command::PutCalendar { record, if_version }).await?;
        // The change is made, so an error of this read must not suggest otherwise.
        let calendar = self.calendar(&name).await;
        let calendar =
            calendar.map_err(|_| EngineError::OutcomeUnknown("cannot read the calendar"))?;
        let unknown = "the calendar was changed, and then deleted before it could be read";
        Ok((calendar.ok_or(EngineError::OutcomeUnknown(unknown))?, change))
    }

    /// Gets a calendar. `None` if there is no such calendar.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn calendar(&self, name: &Name) -> Result<Option<Arc<CalendarRecord>>, EngineError> {
        let name = name.clone();
        self.query(move |machine| machine.calendar(&name).cloned()).await
    }

    /// Lists all calendars, by name.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn calendars(&self) -> Result<Vec<Arc<CalendarRecord>>, EngineError> {
        let all = |machine: &Machine| machine.calendars().cloned().collect::<Vec<_>>();
        let mut calendars = self.query(all).await?;
        calendars.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(calendars)
    }

    async fn calendars_by_name(&self) -> Result<Calendars, EngineError> {
        let calendars = self.calendars().await?.into_iter();
        Ok(Calendars(calendars.map(|record| (record.name.as_str().into(), record)).collect()))
    }

    /// Deletes a calendar that no schedule uses.
    ///
    /// # Errors
    /// When there is no such calendar, it has another version, or a schedule uses it.
    pub async fn delete_calendar(
        &self,
        name: &Name,
        if_version: Option<u32>,
    ) -> Result<(), EngineError> {
        self.change(Command::DeleteCalendar { calendar: name.clone(), if_version }).await
    }

    async fn change_schedule(&self, command: Command) -> Result<Change, EngineError> {
        self.inner.shared.admit_change()?;
        match self.one_command(command).await? {
            Reply::Schedule { change, .. } => Ok(change),
            other => unreachable!("a change of a schedule was answered with {other:?}"),
        }
    }

    /// A schedule that was just changed.
    async fn changed_schedule(&self, name: &Name) -> Result<ScheduleRead, EngineError> {
        let read = self.schedule(name).await;
        let read =
            read.map_err(|_| EngineError::OutcomeUnknown("cannot read the state of the schedule"))?;
        let removed = "the schedule was changed, and then deleted before it could be read";
        read.ok_or(EngineError::OutcomeUnknown(removed))
    }
}

fn is_change(result: &Result<Reply, Refusal>) -> bool {
    matches!(result, Ok(Reply::Schedule { change: Change::Created | Change::Replaced, .. }))
}

//! Filters of events. An event matches if it has every property that the filter names. So a filter that names a
//! queue selects events of its tasks and of the queue itself, and none of workers or schedules.

use std::str::FromStr;

use rota_core::{Name, schedule_of};

use super::event::{Event, EventType, SpecFacts, Subject, TaskFacts};
use crate::api::{TaskFilter, TaskRef, TimeRange};

/// Selects events. Empty selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Tasks by id, one of them. Empty means any.
    pub tasks: Vec<TaskRef>,
    /// Tasks whose shown id begins so.
    pub task_prefix: Option<Box<str>>,
    /// Properties of tasks. The queue selects events of the queue as well, and the schedule those of the
    /// schedule.
    pub properties: TaskFilter,
    pub worker: Option<Name>,
    /// Types, one of them. Empty means any.
    pub types: Vec<TypePattern>,
    /// Whether the listener never resumes. Then no events are kept for it after it leaves.
    pub brief: bool,
}

/// A type of events, or all types of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypePattern {
    One(EventType),
    /// All types with this word before the dot.
    Group(&'static str),
}

impl TypePattern {
    fn matches(self, kind: EventType) -> bool {
        match self {
            Self::One(one) => one == kind,
            Self::Group(group) => kind.group() == group,
        }
    }
}

/// The text is neither a type nor a group of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownType;

impl FromStr for TypePattern {
    type Err = UnknownType;

    /// Reads `task.completed`, `task` or `task.*`.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let mut all = EventType::ALL.iter().copied();
        if let Some(kind) = all.find(|kind| kind.as_str() == text) {
            return Ok(Self::One(kind));
        }
        let group = text.strip_suffix(".*").unwrap_or(text);
        let mut all = EventType::ALL.iter();
        let found = all.find(|kind| kind.group() == group).ok_or(UnknownType)?;
        Ok(Self::Group(found.group()))
    }
}

/// What a filter says of an event without its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Matches,
    Differs,
    /// The definition of the task decides.
    DependsOnSpec,
}

impl EventFilter {
    /// Checks an event by what it says itself.
    pub(super) fn judge(&self, event: &Event) -> Verdict {
        let of_type = |pattern: &TypePattern| pattern.matches(event.kind);
        if !self.types.is_empty() && !self.types.iter().any(of_type) {
            return Verdict::Differs;
        }
        let matches = match &event.subject {
            Subject::Task(task) => return self.judge_task(task),
            Subject::Queue(facts) => {
                let Properties { queue, others } = self.properties_named();
                !others
                    && self.properties.schedule.is_none()
                    && self.worker.is_none()
                    && queue.is_none_or(|queue| *queue == facts.queue)
            }
            Subject::Worker(facts) => {
                let Properties { queue, others } = self.properties_named();
                !others
                    && queue.is_none()
                    && self.properties.schedule.is_none()
                    && self.worker.as_ref().is_none_or(|worker| *worker == facts.worker)
            }
            Subject::Schedule(facts) => {
                let Properties { queue, others } = self.properties_named();
                let schedule = self.properties.schedule.as_ref();
                !others
                    && queue.is_none()
                    && self.worker.is_none()
                    && schedule.is_none_or(|schedule| *schedule == facts.schedule)
            }
        };
        if matches { Verdict::Matches } else { Verdict::Differs }
    }

    fn judge_task(&self, task: &TaskFacts) -> Verdict {
        let TaskFilter {
            queue,
            statuses,
            kind,
            labels,
            created,
            run_at,
            schedule,
            worker,
            priorities,
            // Events have neither payloads nor whole errors, so the server refuses these before they get here.
            error: _,
            search: _,
        } = &self.properties;
        let by_worker = |worker: &Name| task.worker.as_ref() == Some(worker);
        let named = |by: &TaskRef| match by {
            TaskRef::Id(id) => *id == task.id,
            TaskRef::Named(name) => task.client_id.as_ref() == Some(name),
        };
        let begins = |prefix: &str| match &task.client_id {
            Some(name) => name.starts_with(prefix),
            None => task.id.to_string().starts_with(prefix),
        };
        let matches = (self.tasks.is_empty() || self.tasks.iter().any(named))
            && queue.as_ref().is_none_or(|queue| *queue == task.queue)
            && kind.as_ref().is_none_or(|kind| *kind == task.kind)
            && (statuses.is_empty() || statuses.contains(&task.status))
            && created.contains(task.id.created_at())
            && run_at.contains(task.run_at)
            && self.worker.as_ref().is_none_or(by_worker)
            && worker.as_ref().is_none_or(by_worker)
            && (priorities.is_empty()
                || priorities.iter().any(|priority| priority.level() == task.priority))
            && self.task_prefix.as_deref().is_none_or(begins);
        if !matches {
            return Verdict::Differs;
        }
        if let Some(schedule) = schedule {
            let can_be = task.client_id.as_ref().and_then(schedule_of) == Some(schedule.as_str());
            match (&task.spec, can_be) {
                (_, false) => return Verdict::Differs,
                (Some(spec), _) if spec.schedule.as_ref() != Some(schedule) => {
                    return Verdict::Differs;
                }
                // A client can choose the same form of an id.
                (None, true) if !task.by_tick => return Verdict::DependsOnSpec,
                _ => {}
            }
        }
        match &task.spec {
            _ if labels.is_empty() => Verdict::Matches,
            Some(spec) if self.selects_spec(spec) => Verdict::Matches,
            Some(_) => Verdict::Differs,
            None => Verdict::DependsOnSpec,
        }
    }

    /// Checks the properties that only the definition has.
    pub(super) fn selects_spec(&self, spec: &SpecFacts) -> bool {
        let TaskFilter { labels, schedule, .. } = &self.properties;
        labels.iter().all(|label| spec.labels.contains(label))
            && schedule.as_ref().is_none_or(|schedule| spec.schedule.as_ref() == Some(schedule))
    }

    fn properties_named(&self) -> Properties<'_> {
        let TaskFilter {
            queue,
            statuses,
            kind,
            labels,
            created,
            run_at,
            worker,
            priorities,
            schedule: _,
            error: _,
            search: _,
        } = &self.properties;
        let any = TimeRange::default();
        let others = !self.tasks.is_empty()
            || self.task_prefix.is_some()
            || !statuses.is_empty()
            || kind.is_some()
            || !labels.is_empty()
            || *created != any
            || *run_at != any
            || worker.is_some()
            || !priorities.is_empty();
        Properties { queue: queue.as_ref(), others }
    }
}

/// The properties that a filter names.
struct Properties<'a> {
    queue: Option<&'a Name>,
    /// Whether it names any that only tasks have.
    others: bool,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rota_core::{Priority, SessionId, Status, TaskId, WallTime};

    use super::{super::event::*, *};

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn event(kind: EventType, subject: Subject) -> Event {
        Event { id: EventId::default(), kind, at: WallTime(0), subject }
    }

    fn task(change: impl FnOnce(&mut TaskFacts)) -> Event {
        let mut facts = TaskFacts {
            id: TaskId::from_u64(1 << 20).unwrap(),
            client_id: Some(name("nightly/a")),
            queue: name("q"),
            kind: name("k"),
            status: Status::Completed,
            priority: 5,
            attempt: 1,
            run_at: WallTime(5),
            worker: Some(name("w")),
            finished_at: None,
            failure: None,
            has_result: false,
            by_tick: false,
            spec: None,
        };
        change(&mut facts);
        event(EventType::TaskCompleted, Subject::Task(facts.into()))
    }

    fn filter(change: impl FnOnce(&mut EventFilter)) -> EventFilter {
        let mut filter = EventFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn an_event_has_every_property_that_the_filter_names() {
        use Verdict::{DependsOnSpec, Differs, Matches};
        let label = || vec![(name("a"), Box::from("1"))];
        let other: Name = name("other");
        for (filter, expected) in [
            (filter(|_| {}), Matches),
            (filter(|f| f.properties.queue = Some(name("q"))), Matches),
            (filter(|f| f.properties.queue = Some(other.clone())), Differs),
            (filter(|f| f.properties.kind = Some(other.clone())), Differs),
            (filter(|f| f.properties.statuses = vec![Status::Failed]), Differs),
            (filter(|f| f.properties.run_at.from = Some(WallTime(6))), Differs),
            (filter(|f| f.worker = Some(name("w"))), Matches),
            (filter(|f| f.properties.worker = Some(name("w"))), Matches),
            (filter(|f| f.properties.worker = Some(other.clone())), Differs),
            (filter(|f| f.properties.priorities = vec![Priority::MAX]), Differs),
            (filter(|f| f.properties.priorities = vec![Priority::default()]), Matches),
            (filter(|f| f.worker = Some(other.clone())), Differs),
            (filter(|f| f.tasks = vec![TaskRef::Named(name("nightly/a"))]), Matches),
            (filter(|f| f.tasks = vec![TaskRef::Named(other.clone())]), Differs),
            (filter(|f| f.tasks = vec![TaskRef::Id(TaskId::from_u64(1 << 20).unwrap())]), Matches),
            (filter(|f| f.task_prefix = Some("nightly/".into())), Matches),
            (filter(|f| f.task_prefix = Some("t_".into())), Differs),
            (filter(|f| f.types = vec![TypePattern::Group("task")]), Matches),
            (filter(|f| f.types = vec![TypePattern::One(EventType::TaskFailed)]), Differs),
            (filter(|f| f.properties.labels = label()), DependsOnSpec),
            (filter(|f| f.properties.schedule = Some(name("nightly"))), DependsOnSpec),
            (filter(|f| f.properties.schedule = Some(other.clone())), Differs),
        ] {
            assert_eq!(filter.judge(&task(|_| {})), expected, "{filter:?}");
        }
        let by_schedule = filter(|f| f.properties.schedule = Some(name("nightly")));
        assert_eq!(by_schedule.judge(&task(|facts| facts.by_tick = true)), Matches);
        let spec = SpecFacts { labels: label(), schedule: None };
        let with_spec = |facts: &mut TaskFacts| facts.spec = Some(Arc::new(spec.clone()));
        assert_eq!(by_schedule.judge(&task(with_spec)), Differs);
        assert_eq!(filter(|f| f.properties.labels = label()).judge(&task(with_spec)), Matches);
    }

    #[test]
    fn queues_workers_and_schedules_have_their_own_properties() {
        let worker = WorkerFacts { worker: name("w"), session: SessionId(1), tasks: None };
        let worker = event(EventType::WorkerLost, Subject::Worker(worker));
        let queue = Subject::Queue(QueueFacts { queue: name("q") });
        let queue = event(EventType::QueuePaused, queue);
        let schedule = ScheduleFacts { schedule: name("nightly"), version: None, tick: None };
        let schedule = event(EventType::SchedulePaused, Subject::Schedule(schedule.into()));
        let matches = |filter: &EventFilter| {
            [&worker, &queue, &schedule].map(|event| filter.judge(event) == Verdict::Matches)
        };
        assert_eq!(matches(&filter(|_| {})), [true; 3]);
        assert_eq!(matches(&filter(|f| f.worker = Some(name("w")))), [true, false, false]);
        let of_queue = filter(|f| f.properties.queue = Some(name("q")));
        assert_eq!(matches(&of_queue), [false, true, false]);
        let of_schedule = filter(|f| f.properties.schedule = Some(name("nightly")));
        assert_eq!(matches(&of_schedule), [false, false, true]);
        assert_eq!(matches(&filter(|f| f.properties.kind = Some(name("k")))), [false; 3]);
        assert_eq!(matches(&filter(|f| f.properties.worker = Some(name("w")))), [false; 3]);
        let urgent = filter(|f| f.properties.priorities = vec![Priority::MAX]);
        assert_eq!(matches(&urgent), [false; 3]);
    }

    #[test]
    fn types_are_named_alone_or_by_group() {
        assert_eq!("task.due".parse(), Ok(TypePattern::One(EventType::TaskDue)));
        assert_eq!("task".parse(), Ok(TypePattern::Group("task")));
        assert_eq!("worker.*".parse(), Ok(TypePattern::Group("worker")));
        for wrong in ["", "*", "task.", "task.none", "Task", "task.*.*"] {
            assert_eq!(wrong.parse::<TypePattern>(), Err(UnknownType), "{wrong:?}");
        }
    }
}

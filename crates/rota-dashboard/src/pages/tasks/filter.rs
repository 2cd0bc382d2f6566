//! The filter of the list: statuses as links, and a form for everything else.

use maud::{Markup, html};
use rota_proto::{
    json::{TaskFilter, Words},
    v1::{Queue, TaskStatus},
};

use super::Asked;
use crate::{
    counts::{ByStatus, HowMany},
    link,
    parts::icon,
    visit::Visit,
};

/// Statuses in the order of a task's life.
const STATUSES: [TaskStatus; 8] = [
    TaskStatus::Scheduled,
    TaskStatus::Pending,
    TaskStatus::Assigned,
    TaskStatus::Running,
    TaskStatus::Completed,
    TaskStatus::Failed,
    TaskStatus::Cancelled,
    TaskStatus::Expired,
];

/// How many tasks there are of each status.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// They tell the numbers of waiting tasks exactly, and at no cost.
    pub(super) queues: Vec<Queue>,
    pub(super) counts: ByStatus,
}

impl Numbers {
    fn of(&self, filter: &TaskFilter, status: TaskStatus) -> Option<HowMany> {
        let exact = known(filter, &self.queues, status);
        let exact = exact.map(|number| HowMany { number, or_more: false });
        exact.or_else(|| self.counts.get(&status).copied())
    }
}

/// Counts the tasks of a filter by status. A search has no counts: each would search anew.
pub(super) async fn counts(visit: &Visit, filter: &TaskFilter) -> ByStatus {
    if filter.search.is_some() {
        return ByStatus::new();
    }
    let of_queues = is_of_queues(filter);
    let told = |status: &&TaskStatus| {
        of_queues && matches!(status, TaskStatus::Scheduled | TaskStatus::Pending)
    };
    let asked: Vec<_> = STATUSES.iter().filter(|status| !told(status)).copied().collect();
    visit.memory.counts.of(&visit.api, &visit.again, filter, &asked).await
}

/// Links that add and remove statuses.
pub(super) fn statuses(asked: &Asked, numbers: &Numbers) -> Markup {
    let chosen = &asked.filter.statuses;
    let to = |statuses: Vec<TaskStatus>| {
        let filter = TaskFilter { statuses, ..asked.filter.clone() };
        link::to("tasks", filter.pairs())
    };
    let toggled = |status: TaskStatus| {
        let mut statuses = chosen.clone();
        match statuses.iter().position(|one| *one == status) {
            Some(at) => drop(statuses.remove(at)),
            None => statuses.push(status),
        }
        to(statuses)
    };
    html! {
        nav #statuses.chips aria-label="Statuses" data-live="tasks queues" {
            a href=(to(Vec::new())) aria-current=[chosen.is_empty().then_some("true")] { "All" }
            @for status in STATUSES {
                a href=(toggled(status)) data-state=(status.word())
                    aria-current=[chosen.contains(&status).then_some("true")] {
                    span.mark {}
                    (status.word())
                    @if let Some(number) = numbers.of(&asked.filter, status) {
                        " " span.number title=[number.or_more.then_some("or more")] { (number.short()) }
                    }
                }
            }
        }
    }
}

/// The number of tasks of a status, where queues tell it: for filters of a queue alone.
fn known(filter: &TaskFilter, queues: &[Queue], status: TaskStatus) -> Option<u64> {
    let of: fn(&Queue) -> u64 = match status {
        TaskStatus::Scheduled => |queue| queue.scheduled,
        TaskStatus::Pending => |queue| queue.pending,
        _ => return None,
    };
    let counted = |queue: &&Queue| filter.queue.as_ref().is_none_or(|name| *name == queue.name);
    (is_of_queues(filter) && !queues.is_empty())
        .then(|| queues.iter().filter(counted).map(of).sum())
}

/// Whether the filter names nothing but a queue and statuses.
fn is_of_queues(filter: &TaskFilter) -> bool {
    filter.pairs().iter().all(|(name, _)| matches!(*name, "status" | "queue"))
}

/// The form, and what is chosen, each part with a link that removes it.
pub(super) fn bar(asked: &Asked) -> Markup {
    let filter = &asked.filter;
    let text =
        |date: Option<rota_proto::Date>| date.map(|date| date.to_string()).unwrap_or_default();
    let field = |label: &str, name: &str, value: &str, hint: &str| {
        html! {
            label { (label)
                input dir="auto" type="text" name=(name) value=(value) placeholder=(hint) maxlength="400" autocomplete="off"
                    spellcheck="false";
            }
        }
    };
    html! {
        form.filter action="tasks" method="get" data-clean="" {
            @for (name, value) in kept(asked) {
                input type="hidden" name=(name) value=(value);
            }
            (field("Queue", "queue", filter.queue.as_deref().unwrap_or_default(), "any"))
            (field("Kind", "kind", filter.kind.as_deref().unwrap_or_default(), "any"))
            (field("Schedule", "schedule", filter.schedule.as_deref().unwrap_or_default(), "any"))
            (field("Worker", "worker", filter.worker.as_deref().unwrap_or_default(), "any"))
            (field("Text", "search", filter.search.as_deref().unwrap_or_default(), "id, error or payload"))
            (field("Label", "label", "", "name=value"))
            details open[filter.created_from.is_some() || filter.created_to.is_some()] {
                summary { "Created" }
                div.range {
                    (field("from", "created_from", &text(filter.created_from), "2026-01-31T12:00:00Z"))
                    (field("to", "created_to", &text(filter.created_to), "2026-01-31T18:00:00Z"))
                }
            }
            button type="submit" { "Filter" }
        }
        (parts(asked))
    }
}

/// Parameters that the form keeps and has no field for.
fn kept(asked: &Asked) -> Vec<(&'static str, String)> {
    let fields = ["queue", "kind", "schedule", "worker", "search", "created_from", "created_to"];
    let mut pairs = asked.pairs();
    pairs.retain(|(name, _)| !fields.contains(name));
    pairs
}

/// The parts of the filter but its statuses.
fn parts(asked: &Asked) -> Markup {
    let all = asked.pairs();
    let without = |at: usize| {
        let rest = all.iter().enumerate().filter(|(other, _)| *other != at);
        link::to("tasks", rest.map(|(_, (name, value))| (name, value)))
    };
    let shown: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !matches!(*name, "status" | "limit"))
        .collect();
    html! {
        @if !shown.is_empty() {
            ul.chosen aria-label="Filter" {
                @for (at, (name, value)) in shown {
                    li {
                        span { (name.replace('_', " ")) " " bdi { (value) } }
                        a href=(without(at)) aria-label=(format!("Remove {name} {value}")) title="Remove" { (icon("close")) }
                    }
                }
                li.all { a href="tasks" { "Clear" } }
            }
        }
    }
}

/// All parts of a filter, to read.
pub(super) fn chosen(filter: &TaskFilter) -> Markup {
    html! {
        ul.chosen.fixed {
            @for (name, value) in filter.pairs() {
                li { span { (name.replace('_', " ")) " " bdi { (value) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_added_and_removed() {
        let filter = TaskFilter {
            statuses: vec![TaskStatus::Failed],
            queue: Some("a/b".to_owned()),
            ..TaskFilter::default()
        };
        let counts = ByStatus::from([(TaskStatus::Failed, HowMany { number: 12, or_more: true })]);
        let numbers = Numbers { queues: Vec::new(), counts };
        let html = statuses(&Asked { filter, ..Asked::default() }, &numbers).into_string();
        assert!(html.contains("href=\"tasks?queue=a%2Fb\" data-state=\"failed\""), "{html}");
        assert!(html.contains("title=\"or more\">12+<"), "{html}");
        assert!(html.contains("href=\"tasks?status=failed%2Cexpired&amp;queue=a%2Fb\""), "{html}");
    }

    #[test]
    fn counts_are_shown_only_where_they_are_true() {
        let queues = [("a", 2), ("b", 3)].map(|(name, pending)| Queue {
            name: name.to_owned(),
            pending,
            ..Queue::default()
        });
        let of = |filter: &TaskFilter| known(filter, &queues, TaskStatus::Pending);
        assert_eq!(of(&TaskFilter::default()), Some(5));
        assert_eq!(
            of(&TaskFilter { queue: Some("b".to_owned()), ..TaskFilter::default() }),
            Some(3)
        );
        assert_eq!(of(&TaskFilter { kind: Some("k".to_owned()), ..TaskFilter::default() }), None);
        assert_eq!(known(&TaskFilter::default(), &queues, TaskStatus::Failed), None);
    }
}

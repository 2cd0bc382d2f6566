//! One queue: its tasks by state, why they wait, and who serves it.

use std::collections::BTreeMap;

use maud::{Markup, html};
use rota_proto::v1::{
    ListQueuesRequest, ListTasksRequest, PauseQueueRequest, Queue, QueueRequest, Task, TaskFilter,
    TaskStatus, Waiting, Worker, waiting::Reason,
};
use tonic::Status;

use super::{
    change::{pause_sheet, paused_by},
    confirm,
    queues::{self, pause_question, switch},
    tasks::table::table as task_table,
    workers::{self, Running, serves},
};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{count, duration, empty, failed, name, plural, state, tile},
    trouble::Trouble,
    visit::Visit,
};

/// Pages of queues to read for one of them.
const PAGES: usize = 100;
/// Waiting tasks to ask for their reason.
const WAITING: u32 = 200;
/// Tasks in the list of what runs.
const RUNNING: usize = 20;

/// What the API says about a queue. A part can fail while others are there.
struct Seen {
    queue: Option<Queue>,
    workers: Result<Vec<Worker>, Status>,
    waiting: Result<Vec<Task>, Status>,
    running: Running,
}

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let queue = visit.pairs.need("name")?;
    let (found, workers, waiting, running) = tokio::join!(
        find(visit, queue),
        queues::workers(visit),
        waiting(visit, queue),
        workers::running(visit, Some(queue)),
    );
    let seen = Seen { queue: found?, workers, waiting, running };
    Ok(View::new(format!("Queue {queue}"), "queues", page(queue, &seen)))
}

/// The queue. The API has no call for one.
async fn find(visit: &Visit, name: &str) -> Result<Option<Queue>, Status> {
    let mut page_token = String::new();
    for _ in 0..PAGES {
        let request = ListQueuesRequest { page_token, ..ListQueuesRequest::default() };
        let list = visit.api.queues().list_queues(request).await?.into_inner();
        if let Some(queue) = list.queues.into_iter().find(|queue| queue.name == name) {
            return Ok(Some(queue));
        }
        match list.next_page_token {
            Some(next) => page_token = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}

async fn waiting(visit: &Visit, queue: &str) -> Result<Vec<Task>, Status> {
    let filter = TaskFilter {
        queue: Some(queue.to_owned()),
        statuses: vec![TaskStatus::Pending.into()],
        ..TaskFilter::default()
    };
    let request = ListTasksRequest {
        filter: Some(filter),
        page_size: WAITING,
        ..ListTasksRequest::default()
    };
    visit.api.tasks().list_tasks(request).await.map(|list| list.into_inner().tasks)
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let queue = visit.pairs.need("name")?;
    // The form of the list comes back to the list.
    let back = |text| {
        let named = (visit.page == "queue").then(|| ("name", queue.to_owned()));
        Ok(Shown::See(link::to(&visit.page, named.into_iter().chain([flash::pair(text)]))))
    };
    let request = || QueueRequest { queue: queue.to_owned() };
    match visit.pairs.need("do")? {
        "pause" if visit.is_confirmed() => {
            let text = |name: &str| visit.pairs.get(name).map(|text| text.trim().to_owned());
            let (note, by) = (text("note"), text("by"));
            let request = PauseQueueRequest { queue: queue.to_owned(), note, by };
            visit.api.queues().pause_queue(request).await?;
            back("queue-paused")
        }
        "pause" => {
            let found = find(visit, queue).await?;
            let found =
                found.unwrap_or_else(|| Queue { name: queue.to_owned(), ..Queue::default() });
            Ok(confirm::ask(visit, "queues", &pause_question(&found)).into())
        }
        "resume" => {
            visit.api.queues().resume_queue(request()).await?;
            back("queue-resumed")
        }
        _ => Err(Trouble::Form("It asks for a change that this version does not know.")),
    }
}

fn page(of: &str, seen: &Seen) -> Markup {
    let absent = Queue { name: of.to_owned(), ..Queue::default() };
    let queue = seen.queue.as_ref().unwrap_or(&absent);
    html! {
        div.head {
            h1 { (name(of)) }
            div.actions #switch data-live="queues" {
                @if queue.paused { (state("paused")) }
                a.button href=(link::to("tasks", [("queue", of)])) { "Tasks" }
                @if queue.paused { (switch(queue, "queue", "")) }
                @else { (pause_sheet("queue", of, &pause_question(queue), "Pause the queue")) }
            }
        }
        div #pause data-live="queues" {
            @if let Some(pause) = &queue.pause {
                div.notice data-state="paused" {
                    p { strong { "Paused" } (paused_by(&pause.by, pause.at, &pause.note)) }
                }
            }
        }
        @if seen.queue.is_none() {
            (empty(
                "No task names this queue.",
                "A queue exists as soon as a task or a pause names it.",
                Some("rota task create --queue NAME --command -- echo hello"),
            ))
        } @else {
            div #totals.tiles data-live="tasks queues" { (totals(queue)) }
        }
        section aria-labelledby="why-title" {
            h2 #why-title { "Why tasks wait" }
            div #why data-live="tasks queues workers" { (why(queue, &seen.waiting)) }
        }
        section aria-labelledby="workers-title" {
            h2 #workers-title { "Who serves it" }
            div #workers data-live="tasks workers" { (hands(queue, seen)) }
        }
        @if !seen.running.is_empty() {
            section aria-labelledby="running-title" {
                div.section-head {
                    h2 #running-title { "What runs" }
                    a href=(link::to("tasks", [("queue", of), ("status", "assigned,running")])) { "All of it" }
                }
                div #running data-live="tasks" { (task_table(&longest(&seen.running))) }
            }
        }
    }
}

fn totals(queue: &Queue) -> Markup {
    let to = |status: &str| link::to("tasks", [("queue", queue.name.as_str()), ("status", status)]);
    let since = "since the leader took over";
    let oldest = queue.oldest_pending_age.map(|age| format!("the oldest for {}", duration(age)));
    let due = oldest.unwrap_or_else(|| "wait for a worker".to_owned());
    html! {
        (tile("Scheduled", &count(queue.scheduled), "wait for their time", &to("scheduled"), "scheduled"))
        (tile("Pending", &count(queue.pending), &due, &to("pending"), "pending"))
        (tile("Running", &count(queue.running), "assigned or running", &to("assigned,running"), "running"))
        (tile("Completed", &count(queue.completed_total), since, &to("completed"), "completed"))
        (tile("Failed", &count(queue.failed_total), since, &to("failed"), "failed"))
    }
}

/// The tasks that have run longest.
fn longest(running: &Running) -> Vec<Task> {
    let mut tasks: Vec<_> = running.values().cloned().collect();
    tasks.sort_by(|one, other| {
        let key = |task: &Task| task.started_at.map(rota_proto::Date::timestamp);
        key(one)
            .is_none()
            .cmp(&key(other).is_none())
            .then(key(one).cmp(&key(other)))
            .then(one.id.cmp(&other.id))
    });
    tasks.truncate(RUNNING);
    tasks
}

/// Waiting tasks by reason, the commonest first.
fn why(queue: &Queue, waiting: &Result<Vec<Task>, Status>) -> Markup {
    let tasks = match waiting {
        Ok(tasks) => tasks,
        Err(status) => return failed(status.clone()),
    };
    let mut reasons: BTreeMap<i32, (u64, &Waiting)> = BTreeMap::new();
    for waiting in tasks.iter().filter_map(|task| task.waiting.as_ref()) {
        reasons.entry(waiting.reason).or_insert((0, waiting)).0 += 1;
    }
    let mut reasons: Vec<_> = reasons.into_values().collect();
    reasons.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let all = queue.pending <= tasks.len() as u64;
    html! {
        @if reasons.is_empty() {
            p.note { "No due task waits." }
        } @else {
            ul.attention {
                @for (number, waiting) in &reasons {
                    li data-weight=(weight(waiting.reason())) {
                        div.what {
                            strong { (plural(*number, "task", "tasks")) }
                            span.why.whole { bdi { (waiting.message) } }
                        }
                        (remedy(queue, waiting.reason()))
                    }
                }
            }
            @if !all { p.note.gap { "Of the " (count(tasks.len() as u64)) " newest due tasks." } }
        }
    }
}

const fn weight(reason: Reason) -> &'static str {
    match reason {
        Reason::NoWorker => "bad",
        Reason::QueuePaused | Reason::NotAsked => "warning",
        _ => "calm",
    }
}

/// What to do about a reason.
fn remedy(queue: &Queue, reason: Reason) -> Markup {
    html! {
        @match reason {
            Reason::QueuePaused if queue.paused => (switch(queue, "queue", "small")),
            Reason::NoWorker | Reason::SlotsBusy | Reason::NotAsked => a href="workers" { "Workers" },
            _ => {}
        }
    }
}

fn hands(queue: &Queue, seen: &Seen) -> Markup {
    let workers = match &seen.workers {
        Ok(workers) => workers,
        Err(status) => return failed(status.clone()),
    };
    let serving: Vec<_> =
        workers.iter().filter(|worker| serves(worker, &queue.name)).cloned().collect();
    html! {
        @if serving.is_empty() {
            (empty("No worker serves this queue.", "Start one where its tasks should run:", Some("rota worker --allow-command")))
        } @else {
            (workers::table(&serving, &seen.running))
        }
    }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{ListQueuesResponse, ListTasksResponse, ListWorkersResponse, QueuePause};

    use super::*;
    use crate::{apart::assert_apart, fake::Fake, pages::act};

    const HOSTILE: &str = "a/b\"><script>alert(1)</script>\u{202e}";

    fn task(id: &str, reason: Reason) -> Task {
        let waiting =
            Waiting { reason: reason.into(), message: HOSTILE.to_owned(), ..Waiting::default() };
        Task { id: id.to_owned(), waiting: Some(waiting), ..Task::default() }
    }

    fn fake() -> Fake {
        let pause =
            QueuePause { by: HOSTILE.to_owned(), note: HOSTILE.to_owned(), ..Default::default() };
        let pause = Some(pause);
        let queue = Queue { name: HOSTILE.to_owned(), pending: 3, pause, ..Queue::default() };
        let tasks =
            [("t_1", Reason::NoWorker), ("t_2", Reason::SlotsBusy), ("t_3", Reason::NoWorker)];
        let tasks = tasks.map(|(id, reason)| task(id, reason)).to_vec();
        Fake::default()
            .with("ListQueues", &ListQueuesResponse { queues: vec![queue], ..Default::default() })
            .with("ListTasks", &ListTasksResponse { tasks, ..Default::default() })
            .with("ListWorkers", &ListWorkersResponse::default())
    }

    fn name_of(link: &str) -> String {
        link::to("queue", [("name", link)])
    }

    #[tokio::test]
    async fn reasons_are_counted_and_stay_text() {
        let visit = fake().visit("queue", name_of(HOSTILE).split_once('?').expect("a query").1);
        let html = show(&visit).await.expect("a page").body.into_string();
        assert!(!html.contains("<script"), "{html}");
        assert_apart(&html);
        let (two, one) = (html.find("2 tasks").expect("two"), html.find("1 task<").expect("one"));
        assert!(two < one, "the commonest reason is first");
        assert!(html.contains("No worker serves this queue."), "{html}");
        assert!(html.contains("<strong>Paused</strong> by <bdi>a/b&quot;"), "{html}");
    }

    #[tokio::test]
    async fn a_pause_is_asked_for_and_says_how_many_wait() {
        let fake =
            fake().with("PauseQueue", &Queue::default()).with("ResumeQueue", &Queue::default());
        let asked = act(&fake.form("queue", &[("name", HOSTILE), ("do", "pause")])).await;
        let Ok(Shown::Page(view)) = asked else { panic!("not asked") };
        let html = view.body.into_string();
        assert!(html.contains("3 due tasks wait now") && !html.contains("<script"), "{html}");
        assert_eq!(fake.calls::<PauseQueueRequest>("PauseQueue"), []);
        for word in ["pause", "resume"] {
            let pairs = [("name", HOSTILE), ("do", word), ("confirmed", "yes"), ("by", " ann ")];
            let done = act(&fake.form("queue", &pairs)).await.expect("a change");
            let Shown::See(link) = done else { panic!("not done") };
            assert!(link.starts_with(&name_of(HOSTILE)), "{link}");
        }
        let (queue, by) = (HOSTILE.to_owned(), Some("ann".to_owned()));
        let pause = PauseQueueRequest { queue: queue.clone(), note: None, by };
        assert_eq!(fake.calls::<PauseQueueRequest>("PauseQueue"), [pause]);
        assert_eq!(fake.calls::<QueueRequest>("ResumeQueue"), [QueueRequest { queue }]);
        assert!(act(&fake.form("queue", &[("name", "q"), ("do", "drop")])).await.is_err());
    }

    #[tokio::test]
    async fn a_queue_that_nobody_names_has_a_page() {
        let html = show(&fake().visit("queue", "name=other")).await.expect("a page");
        assert!(html.body.into_string().contains("No task names this queue."));
    }
}

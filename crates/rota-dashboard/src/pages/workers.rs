//! The workers: what each serves and runs, and how long ago it was heard.

use std::{collections::HashMap, time::Duration};

use maud::{Markup, html};
use rota_proto::v1::{
    DrainWorkerRequest, ListTasksRequest, ListWorkersRequest, ListWorkersResponse, Task,
    TaskFilter, TaskStatus, Worker,
};
use tonic::{Response, Status};

use super::{change::Change, confirm};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{Pager, count, empty, icon, id, name, pager, plural, share, span, state, time, when},
    trouble::Trouble,
    visit::Visit,
};

/// Silence from which a worker is shown as silent.
const SILENT: Duration = Duration::from_secs(20);
/// Tasks of a worker that its row shows. More are folded.
const SHOWN: usize = 3;
/// Tasks of a worker that a page lists. The list of tasks has all.
const FOLDED: usize = 100;
/// Running tasks to read for their kinds and times.
const TASKS: u32 = 500;

/// The parameter that names a worker.
const NAME: &str = "name";
/// Pages of 1,000 workers to look through for a name.
const LOOKS: usize = 5;

/// Whether a worker takes tasks of the queue, of whatever kind.
pub(super) fn serves(worker: &Worker, queue: &str) -> bool {
    worker.queues.is_empty() || worker.queues.iter().any(|served| served == queue)
}

/// What the API says about running tasks, by id. A page without it still has the ids.
pub(super) type Running = HashMap<String, Task>;

/// Reads the running tasks, of a queue or of all.
pub(super) async fn running(visit: &Visit, queue: Option<&str>) -> Running {
    let statuses = [TaskStatus::Assigned, TaskStatus::Running].map(Into::into).to_vec();
    let filter = TaskFilter { queue: queue.map(str::to_owned), statuses, ..TaskFilter::default() };
    let request =
        ListTasksRequest { filter: Some(filter), page_size: TASKS, ..ListTasksRequest::default() };
    let tasks = visit.api.tasks().list_tasks(request).await;
    let tasks = tasks.map(|list| list.into_inner().tasks).unwrap_or_default();
    tasks.into_iter().map(|task| (task.id.clone(), task)).collect()
}

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let (list, running) = tokio::join!(list(visit), running(visit, None));
    Ok(View::new("Workers", "workers", page(visit, &list?, &running)))
}

/// A page of the workers, or all sessions of the worker that the address names.
async fn list(visit: &Visit) -> Result<ListWorkersResponse, Status> {
    let mut api = visit.api.workers();
    let mut request = ListWorkersRequest {
        page_token: visit.pairs.get("cursor").unwrap_or_default().to_owned(),
        ..ListWorkersRequest::default()
    };
    let Some(name) = visit.pairs.get(NAME) else {
        return api.list_workers(request).await.map(Response::into_inner);
    };
    let mut found = ListWorkersResponse::default();
    for _ in 0..LOOKS {
        let list = api.list_workers(request.clone()).await?.into_inner();
        found.as_of = list.as_of;
        found.workers.extend(list.workers.into_iter().filter(|worker| worker.name == name));
        match list.next_page_token {
            Some(next) => request.page_token = next,
            None => return Ok(found),
        }
    }
    // There are more: the pager leads on.
    found.next_page_token = Some(request.page_token);
    Ok(found)
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let worker = visit.pairs.need("worker")?;
    if !visit.is_confirmed() {
        let shown = visit.pairs.get("name").unwrap_or(worker);
        let question = format!("Drain {shown}? It finishes its tasks and takes no more.");
        return Ok(confirm::ask(visit, "workers", &question).into());
    }
    let request = DrainWorkerRequest { worker: worker.to_owned() };
    visit.api.workers().drain_worker(request).await.map(Response::into_inner)?;
    Ok(Shown::See(link::to("workers", [flash::pair("worker-drained")])))
}

fn page(visit: &Visit, list: &ListWorkersResponse, running: &Running) -> Markup {
    let named = visit.pairs.get(NAME);
    html! {
        div.head { h1 { "Workers" } }
        @if let Some(named) = named { (chosen(named)) }
        div #workers data-live="workers tasks" {
            @if let Some(at) = list.as_of {
                p.note { "The store accepts no changes. The list is from " (time(at)) "." }
            }
            @if list.workers.is_empty() && let Some(named) = named {
                div.empty {
                    p.what { "No worker with this name is connected." }
                    p {
                        "It has ended or lost its connection. Its tasks show what became of them: "
                        a href=(link::to("tasks", [("worker", named)])) { "tasks of this worker" }
                    }
                }
            } @else if list.workers.is_empty() {
                (empty(
                    "No worker is connected.",
                    "Tasks wait until one is. Start one where tasks should run:",
                    Some("rota worker --allow-command"),
                ))
            } @else {
                (sum(&list.workers))
                (table(&list.workers, running))
            }
            (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "First" }))
        }
    }
}

/// The name that the address asks for, with a link that removes it.
fn chosen(named: &str) -> Markup {
    html! {
        ul.chosen aria-label="Filter" {
            li {
                span { "name " bdi { (named) } }
                a href="workers" aria-label=(format!("Remove name {named}")) title="Remove" { (icon("close")) }
            }
            li.all { a href="workers" { "All workers" } }
        }
    }
}

/// All slots of the page together.
fn sum(workers: &[Worker]) -> Markup {
    let used: u64 = workers.iter().map(|worker| u64::from(worker.slots_used)).sum();
    let slots: u64 = workers.iter().map(|worker| u64::from(worker.slots)).sum();
    html! {
        p.note.gap {
            (plural(workers.len() as u64, "worker", "workers")) " with " (plural(slots, "slot", "slots")) ", "
            (count(used)) " in use"
        }
    }
}

/// A table of workers. The page of a queue shows those that serve it.
pub(super) fn table(workers: &[Worker], running: &Running) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Worker" }
                        th scope="col" { "State" }
                        th scope="col" { "Slots" }
                        th.wide scope="col" { "Runs" }
                        th.wide scope="col" { "Serves" }
                        th.wide scope="col" { "Last heard" }
                        th.wide scope="col" { "Connected" }
                        th scope="col" { span.sr { "Actions" } }
                    }
                }
                tbody { @for worker in workers { (row(worker, running)) } }
            }
        }
    }
}

fn row(worker: &Worker, running: &Running) -> Markup {
    let tasks = || worker.tasks.iter().map(|id| (id, running.get(id)));
    html! {
        tr {
            td {
                span.kind { (name(&worker.name)) }
                span.note.wide title="Session" { code { (worker.session) } }
            }
            td { (state(word(worker))) }
            td {
                (count(worker.slots_used)) span.of { "/" (count(worker.slots)) }
                (share(worker.slots_used.into(), worker.slots.into(), "Slots in use"))
            }
            td.wide {
                @for (id, known) in tasks().take(SHOWN) { (run(id, known)) }
                @if worker.tasks.is_empty() { span.none { "nothing" } }
                @if worker.tasks.len() > SHOWN {
                    details {
                        summary.note { (plural((worker.tasks.len() - SHOWN) as u64, "more task", "more tasks")) }
                        @for (id, known) in tasks().skip(SHOWN).take(FOLDED) { (run(id, known)) }
                        @if worker.tasks.len() > SHOWN + FOLDED {
                            a href=(link::to("tasks", [("status", "assigned,running")])) { "All running tasks" }
                        }
                    }
                }
            }
            td.wide { (served("queue", &worker.queues)) (served("kind", &worker.kinds)) }
            td.wide { (span(worker.heartbeat_age)) @if worker.heartbeat_age.is_some() { " ago" } }
            td.wide { (when(worker.connected_at)) }
            td.number { (drain(worker)) }
        }
    }
}

fn word(worker: &Worker) -> &'static str {
    let silence = worker.heartbeat_age.unwrap_or_default().duration();
    match worker.draining {
        true => "draining",
        false if silence >= SILENT => "silent",
        false => "active",
    }
}

/// A task that the worker holds, and since when.
fn run(task: &str, known: Option<&Task>) -> Markup {
    html! {
        div.run {
            (id(task))
            @if let Some(known) = known {
                span.note {
                    (name(&known.kind))
                    @match known.started_at {
                        Some(at) => { ", since " (time(at)) }
                        None => ", not started",
                    }
                }
            }
        }
    }
}

fn served(what: &str, names: &[String]) -> Markup {
    let all = names.join(", ");
    html! {
        span.why title=(all) {
            @if names.is_empty() { "all " (what) "s" } @else {
                (what) @if names.len() > 1 { "s" } " "
                @for (at, one) in names.iter().enumerate() {
                    @if at > 0 { ", " }
                    @if what == "queue" {
                        a.plain href=(link::to("queue", [("name", one)])) { bdi { (one) } }
                    } @else {
                        bdi { (one) }
                    }
                }
            }
        }
    }
}

fn drain(worker: &Worker) -> Markup {
    if worker.draining {
        return html! {};
    }
    let tasks = plural(worker.slots_used.into(), "task", "tasks");
    let question = format!(
        "Drain the session {} of {}? It finishes the {tasks} that it runs, takes no more, and ends.",
        worker.session, worker.name
    );
    let fields = [("worker", worker.session.as_str()), ("name", worker.name.as_str())];
    let change = Change {
        page: "workers",
        fields: &fields,
        label: "Drain",
        question: Some(question),
        class: "small",
        title: Some(format!("Drain {}", worker.name)),
    };
    change.form()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apart::assert_apart, fake::Fake, pages::act};

    const HOSTILE: &str = "w\"><script>alert(1)</script>\u{202e}";

    fn worker() -> Worker {
        Worker {
            session: "s_1".to_owned(),
            name: HOSTILE.to_owned(),
            slots: 8,
            slots_used: 5,
            queues: vec!["a/b".to_owned(), HOSTILE.to_owned()],
            kinds: vec![HOSTILE.to_owned()],
            heartbeat_age: Some("1m".parse().expect("a duration")),
            tasks: (0..5).map(|at| format!("t/{at}")).collect(),
            ..Worker::default()
        }
    }

    #[test]
    fn hostile_workers_stay_text_and_tasks_are_links() {
        let list = ListWorkersResponse { workers: vec![worker()], ..Default::default() };
        let started = Task {
            id: "t/1".to_owned(),
            kind: "<i>\u{202e}".to_owned(),
            started_at: Some("2026-01-31T12:00:00Z".parse().expect("a date")),
            ..Task::default()
        };
        let running = Running::from([("t/1".to_owned(), started)]);
        let html = page(&Fake::default().visit("workers", ""), &list, &running).into_string();
        assert!(!html.contains("<script") && !html.contains("<i>"), "{html}");
        assert_apart(&html);
        assert!(html.contains("task?id=t%2F4") && html.contains("2 more tasks"), "{html}");
        assert!(html.contains("queue?name=a%2Fb") && html.contains("since <time"), "{html}");
        assert!(html.contains("data-state=\"silent\""), "{html}");
    }

    #[test]
    fn nobody_connected_says_what_to_do() {
        let visit = Fake::default().visit("workers", "");
        let html = page(&visit, &ListWorkersResponse::default(), &Running::new()).into_string();
        assert!(html.contains("rota worker --allow-command"), "{html}");
    }

    #[tokio::test]
    async fn a_name_in_the_address_shows_that_worker_alone() {
        let other = Worker { name: "other".to_owned(), ..worker() };
        let list = ListWorkersResponse { workers: vec![other, worker()], ..Default::default() };
        let fake = Fake::default().with("ListWorkers", &list);
        let named = fake.form("workers", &[("name", HOSTILE)]);
        let html = show(&named).await.expect("a page").body.into_string();
        assert!(html.contains("1 worker with") && !html.contains("<script"), "{html}");
        assert_apart(&html);
        let gone = fake.form("workers", &[("name", "gone/1")]);
        let html = show(&gone).await.expect("a page").body.into_string();
        assert!(
            html.contains("No worker with this name") && html.contains("tasks?worker=gone%2F1")
        );
    }

    #[tokio::test]
    async fn a_drain_is_asked_for_and_then_made() {
        let fake = Fake::default().with("DrainWorker", &worker());
        let pairs = [("worker", "s_1"), ("name", HOSTILE)];
        let asked = act(&fake.form("workers", &pairs)).await.expect("a question");
        let Shown::Page(view) = asked else { panic!("not asked") };
        let html = view.body.into_string();
        assert!(!html.contains("<script"), "{html}");
        assert_apart(&html);
        assert_eq!(fake.methods(), [""; 0]);
        let pairs = [("worker", "s_1"), ("confirmed", "yes")];
        let done = act(&fake.form("workers", &pairs)).await.expect("a change");
        assert!(matches!(done, Shown::See(link) if link == "workers?flash=worker-drained"));
        let calls: Vec<DrainWorkerRequest> = fake.calls("DrainWorker");
        assert_eq!(calls, [DrainWorkerRequest { worker: "s_1".to_owned() }]);
    }

    #[test]
    fn an_empty_list_of_queues_means_all() {
        assert!(serves(&Worker::default(), "q") && serves(&worker(), "a/b"));
        assert!(!serves(&worker(), "a"));
    }
}

//! Kills: servers and workers are real processes and get SIGKILL again and again under load.
//!
//! Outside of them are kept a ledger of what was acknowledged (by the client, here) and a log of
//! effects (by the handlers, one file a worker, appended to before the report). At the end every
//! acknowledged task is completed, no lease ran twice, and no task ran more often than it had
//! attempts.

mod check;
mod processes;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use check::{Ended, verify};
use processes::{Lab, worker_main};
use rota_client::{Client, task, v1};

/// Tasks; the server is killed so often while they are submitted and run.
const TASKS: usize = 50_000;
const SERVER_KILLS: u32 = 20;
const SUBMITTERS: usize = 4;
const PORTION: usize = 100;
const WORKERS: usize = 3;

/// Not a test of its own: the body of the worker processes that the test starts.
#[test]
fn worker_process() {
    if let Some(address) = std::env::var_os("ROTA_TEST_WORKER") {
        worker_main(&address.to_string_lossy());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_task_completes_once_although_servers_and_workers_are_killed() {
    let mut lab = Lab::start(WORKERS);
    let acknowledged = Arc::new(Mutex::new(Vec::with_capacity(TASKS)));
    let progress = Arc::new(AtomicU32::new(0));
    let mut submitters = Vec::new();
    for number in 0..SUBMITTERS {
        let (url, acknowledged, progress) =
            (lab.url().to_owned(), acknowledged.clone(), progress.clone());
        submitters.push(tokio::spawn(async move {
            submit(&url, number, &acknowledged, &progress).await;
        }));
    }

    for kill in 1..=SERVER_KILLS {
        // The kills are spread over the load, whatever the machine's speed.
        let portions = u32::try_from(TASKS / PORTION).expect("a small number");
        let due = kill * portions / (SERVER_KILLS + 1);
        wait_until(|| progress.load(Ordering::Relaxed) >= due).await;
        lab.kill_server();
        if kill % 3 == 0 {
            lab.kill_worker(kill as usize / 3 % WORKERS);
        }
    }
    for submitter in submitters {
        submitter.await.expect("the submitter did not panic");
    }

    let acknowledged = acknowledged.lock().expect("nobody panicked").clone();
    assert_eq!(acknowledged.len(), TASKS, "the clients tried until all were acknowledged");

    let client = lab.client();
    wait_until_idle(&client).await;
    let ended = list_all(&client).await;
    let effects = lab.effects();
    verify(&acknowledged, &ended, &effects).expect("nothing lost, nothing twice");
    assert!(lab.server_kills >= SERVER_KILLS, "the faults struck");
    assert!(effects.len() >= TASKS);
}

/// Submits this submitter's share by idempotency key, until each portion is acknowledged.
async fn submit(url: &str, number: usize, acknowledged: &Mutex<Vec<String>>, progress: &AtomicU32) {
    let client = Client::builder([url]).patience(Duration::from_secs(60)).build().expect("a URL");
    let mine: Vec<usize> = (0..TASKS).filter(|index| index % SUBMITTERS == number).collect();
    for portion in mine.chunks(PORTION) {
        let ids: Vec<String> = portion.iter().map(|index| format!("task-{index}")).collect();
        loop {
            let new = ids.iter().map(|id| task("effect").id(id).payload_json(id)).collect();
            // An error leaves open what exists; the same ids are sent again.
            let Ok(results) = client.create_tasks(new).await else { continue };
            let all = results.iter().all(|one| {
                matches!(one.result, Some(v1::create_tasks_response::result::Result::Task(_)))
            });
            assert!(all, "a valid task was refused: {results:?}");
            break;
        }
        acknowledged.lock().expect("nobody panicked").extend(ids);
        progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls until it holds; for conditions of other processes.
async fn wait_until(mut holds: impl FnMut() -> bool) {
    let mut period = tokio::time::interval(Duration::from_millis(5));
    let wait = async {
        while !holds() {
            period.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(300), wait).await.expect("it comes to hold");
}

async fn wait_until_idle(client: &Client) {
    let mut period = tokio::time::interval(Duration::from_millis(100));
    let wait = async {
        loop {
            period.tick().await;
            let Ok(info) = client.get_server_info(v1::GetServerInfoRequest {}).await else {
                continue;
            };
            if info.ready && info.live_tasks == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.expect("all tasks end");
}

async fn list_all(client: &Client) -> Vec<Ended> {
    let mut ended = Vec::with_capacity(TASKS);
    let mut page_token = String::new();
    loop {
        let request = v1::ListTasksRequest { filter: None, page_size: 1000, page_token };
        let page = client.list_tasks(request).await.expect("the server answers");
        ended.extend(page.tasks.iter().map(|task| Ended {
            id: task.id.clone(),
            completed: task.status() == v1::TaskStatus::Completed,
            attempts: task.attempt,
            token: task.lease_token,
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ended;
        }
    }
}

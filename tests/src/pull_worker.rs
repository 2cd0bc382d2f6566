//! A worker without a stream, as a script would be: it asks for tasks call by call, says what it did, and
//! repeats itself until it is answered. It asks whichever node answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rota_client::{
    Client, Connection,
    v1::{
        CompleteRequest, Dispatch, HeldLeases, LeaseRequest, LeaseResponse,
        worker_service_client::WorkerServiceClient,
    },
};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use tonic::{Code, Status};

use crate::{audit::Effect, process::LOOK};

/// The kind that it serves.
pub const KIND: &str = "pulled";
const NAME: &str = "puller";
/// The most tasks that it asks for at once.
const TASKS: u32 = 32;
/// How long a call for tasks waits for one, and how long it waits for the answer.
const WAIT_S: i64 = 2;
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The worker at work, until it is told to stop.
#[derive(Debug)]
pub struct PullWorker {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Vec<Effect>>,
}

impl PullWorker {
    /// Starts one. Returns when it has its session: if the answer that names the session were lost, nobody could say that the
    /// tasks in it are not run, and they would be lost when it expires.
    pub async fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let nodes = Nodes { client, left_at: Mutex::new(Instant::now()) };
        let first = lease(&nodes, None, 0).await;
        let worker = tokio::spawn(async move {
            let (mut answer, mut effects) = (first, Vec::new());
            loop {
                effects.extend(answer.tasks.iter().map(effect));
                // All at once: one after the other, each waits for a commit, and on a slow disk the backlog would grow.
                join_all(answer.tasks.iter().map(|dispatch| complete(&nodes, dispatch))).await;
                if told.load(Ordering::Relaxed) {
                    break;
                }
                answer = lease(&nodes, Some(answer.session), WAIT_S).await;
            }
            effects
        });
        Self { stop, worker }
    }

    /// Ends it, and gives what it did.
    ///
    /// # Panics
    /// When the worker did.
    pub async fn end(self) -> Vec<Effect> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.await.expect("the worker")
    }
}

/// Whichever node answers.
struct Nodes {
    client: Client,
    left_at: Mutex<Instant>,
}

impl Nodes {
    /// Goes to the next node. Calls that fail together go on by one node only: by as many as there are, they would come
    /// back to the same.
    fn leave(&self) {
        let mut left_at = self.left_at.lock().unwrap_or_else(PoisonError::into_inner);
        if left_at.elapsed() >= LOOK {
            *left_at = Instant::now();
            self.client.next_node();
        }
    }
}

fn effect(dispatch: &Dispatch) -> Effect {
    Effect {
        worker: NAME.to_owned(),
        key: serde_json::from_slice(&dispatch.payload).expect("a key"),
        id: dispatch.task_id.clone(),
        attempt: dispatch.attempt,
        token: dispatch.lease_token,
    }
}

/// Asks for tasks. It has none at that moment, and says so: what a lost answer had told of is told again.
async fn lease(nodes: &Nodes, session: Option<String>, wait_s: i64) -> LeaseResponse {
    let request = LeaseRequest {
        worker: NAME.to_owned(),
        session,
        kinds: vec![KIND.to_owned()],
        max: Some(TASKS),
        wait: Some(rota_client::TimeSpan { seconds: wait_s, nanos: 0 }),
        held: Some(HeldLeases::default()),
        ..LeaseRequest::default()
    };
    let ask = |mut service: WorkerServiceClient<Connection>| {
        let request = request.clone();
        async move { service.lease(request).await }
    };
    until_answered(nodes, ask).await.expect("a call for tasks is never refused")
}

/// Says that a task is done. A refusal means that its lease was lost.
async fn complete(nodes: &Nodes, dispatch: &Dispatch) {
    let ask = |mut service: WorkerServiceClient<Connection>| {
        let (id, lease_token) = (dispatch.task_id.clone(), dispatch.lease_token);
        let request = CompleteRequest { id, lease_token, ..CompleteRequest::default() };
        async move { service.complete(request).await }
    };
    // The judge of the run finds what was lost without an expected_losses.
    let _ = until_answered(nodes, ask).await;
}

/// Repeats a call until it is carried out or refused for what it says.
async fn until_answered<T, F>(
    nodes: &Nodes,
    ask: impl Fn(WorkerServiceClient<Connection>) -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut look = interval(LOOK);
    loop {
        look.tick().await;
        match timeout(ANSWERS_WITHIN, ask(WorkerServiceClient::new(nodes.client.connection())))
            .await
        {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if is_final(&status) => return Err(status),
            Ok(Err(_)) | Err(_) => nodes.leave(),
        }
    }
}

fn is_final(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition)
}

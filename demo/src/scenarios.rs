//! What is done beside the documents, each with what must come of it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rota_client::{
    Client, ClientError, NewTask, task,
    v1::{FailureReason, Task, TaskStatus, Waiting, waiting},
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    processes::{Place, Process, is_running},
    show::Row,
    target::{self, Visits},
};

/// How often a task is looked at that is waited for to begin.
const LOOK: Duration = Duration::from_millis(50);
/// A task that should begin at once has begun by then.
const BEGIN: Duration = Duration::from_secs(30);

/// Why a scenario came to no result.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn new(words: String) -> Self {
        Self(words)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Outcome = Result<Vec<Row>, Trouble>;

/// The stage on which all of them play.
pub(crate) struct Stage {
    /// The workers that run commands; one that is killed is taken out.
    pub(crate) workers: Mutex<Vec<Process>>,
    url: String,
    programs: PathBuf,
    /// Where the demo's own HTTP server is, and what it was asked.
    target: String,
    visits: Visits,
    client: Client,
    place: Place,
}

impl Stage {
    /// Starts what the scenarios need beside the server: two workers, and something for HTTP
    /// requests to reach.
    pub(crate) async fn build(place: Place, client: Client, url: &str) -> io::Result<Self> {
        let (target, visits) = target::start().await?;
        let stage = Self {
            workers: Mutex::new(Vec::new()),
            url: url.to_owned(),
            programs: Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"),
            target: format!("http://{target}"),
            visits,
            client,
            place,
        };
        for name in ["anna", "bruno"] {
            let worker = stage.start_worker(name)?;
            stage.workers.lock().await.push(worker);
        }
        Ok(stage)
    }

    /// A worker that runs the demo's own programs and no others, and reaches the demo's HTTP server.
    fn start_worker(&self, name: &str) -> io::Result<Process> {
        let program = |name: &str| self.programs.join(name).display().to_string();
        let allowed = ["examine", "linger", "stumble"].map(program).join(",");
        let commands = ["--allow-command", "--allowed-programs", &allowed];
        let http = ["--http-allowed-hosts", "127.0.0.1"];
        let arguments = [&["worker", "--url", &self.url, "--name", name], &commands[..], &http];
        self.place.start(name, &arguments.concat())
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A task that runs one of the demo's programs.
    pub(crate) fn command(&self, program: &str, arguments: &[&str]) -> NewTask {
        task("command").payload_json(&json!({ "argv": self.argv(program, arguments) }))
    }

    /// One of the demo's programs with its arguments.
    pub(crate) fn argv(&self, program: &str, arguments: &[&str]) -> Vec<String> {
        let program = self.programs.join(program);
        let mut argv = vec![program.to_string_lossy().into_owned()];
        argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        argv
    }

    /// A file of the demo.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place.home.join(name)
    }

    /// A command that lingers, and the file that will hold its process number.
    fn lingering(&self, name: &str, seconds: &str) -> (NewTask, PathBuf) {
        let file = self.file(&format!("{name}.pid"));
        (self.command("linger", &[seconds, &file.to_string_lossy()]).id(name), file)
    }

    /// The task, once a worker runs it and its program has begun.
    async fn begun(&self, id: &str, file: &PathBuf) -> Result<(Task, i32), Trouble> {
        let look = async {
            loop {
                let task = self.client.get_task(id).await?;
                let number = fs::read_to_string(file).unwrap_or_default();
                if let (false, Ok(number)) = (task.worker.is_none(), number.trim().parse()) {
                    return Ok((task, number));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| Trouble(format!("{id} did not begin within {BEGIN:?}"));
        tokio::time::timeout(BEGIN, look).await.map_err(late)?
    }
}

fn status(task: &Task) -> String {
    let word = task.status().as_str_name().trim_start_matches("TASK_STATUS_").to_lowercase();
    match &task.error {
        Some(error) if task.status() == TaskStatus::Failed => {
            let reason = error.reason().as_str_name().trim_start_matches("FAILURE_REASON_");
            format!("{word} ({})", reason.to_lowercase())
        }
        _ => word,
    }
}

fn at_attempt(task: &Task) -> String {
    format!("{} at attempt {}", status(task), task.attempt)
}

fn time(at: Option<rota_client::Date>) -> SystemTime {
    at.map_or(SystemTime::UNIX_EPOCH, Into::into)
}

/// An HTTP request arrives once, with its body and the fencing token.
pub(crate) async fn hook(stage: &Stage) -> Outcome {
    let body = json!({ "order": 4711, "paid": true });
    let payload = json!({ "url": format!("{}/hook", stage.target), "body": body });
    let body = body.to_string();
    let task = stage.client.create_task(task("http").id("hook").payload_json(&payload)).await?;
    let ended = stage.client.wait_task(&task.id).await?;
    let result = stage.client.get_result(&task.id).await?;
    let answer: serde_json::Value = serde_json::from_slice(&result).unwrap_or_default();
    let observed = match stage.visits.of(&task.id).as_slice() {
        [one] if one.body == body && Some(one.lease_token) == ended.lease_token => {
            format!("{}, answer {}, seen once", status(&ended), answer["status"])
        }
        visits => format!("{}, seen {} times: {visits:?}", status(&ended), visits.len()),
    };
    Ok(vec![Row::same("an HTTP request", "completed, answer 201, seen once", observed)])
}

/// A program, a server and a handler in Rust, each of which fails twice.
pub(crate) async fn stumbling(stage: &Stage) -> Outcome {
    let quick = |task: NewTask| {
        task.backoff(Duration::from_millis(200), 2.0, Duration::from_secs(1)).max_attempts(5)
    };
    let unsteady = json!({ "url": format!("{}/unsteady", stage.target) });
    let tasks = [
        ("a program that fails twice", stage.command("stumble", &[]).id("stumble-command")),
        ("a server that fails twice", task("http").id("stumble-http").payload_json(&unsteady)),
        ("a Rust handler that fails twice", task("stumble").id("stumble-rust")),
    ];
    let mut rows = Vec::new();
    for (what, task) in tasks {
        let task = stage.client.create_task(quick(task)).await?;
        let ended = stage.client.wait_task(&task.id).await?;
        let attempts = stage.client.list_attempts(&task.id).await?;
        let failed = attempts.iter().filter(|attempt| attempt.error.is_some()).count();
        let observed = format!("{}, {failed} failures kept", at_attempt(&ended));
        rows.push(Row::same(what, "completed at attempt 3, 2 failures kept", observed));
    }
    Ok(rows)
}

/// A task that is due later starts then: not before, and not much after.
pub(crate) async fn delayed(stage: &Stage) -> Outcome {
    let delay = Duration::from_secs(3);
    let task = stage.client.create_task(task("greet").id("delayed").delay(delay)).await?;
    let ended = stage.client.wait_task(&task.id).await?;
    let waited = time(ended.started_at).duration_since(time(ended.created_at)).unwrap_or_default();
    let holds = ended.status() == TaskStatus::Completed
        && waited >= delay
        && waited < delay + Duration::from_secs(1);
    let observed = format!("{} after {:.3} s", status(&ended), waited.as_secs_f64());
    Ok(vec![Row::new("a task due in 3 s", "completed after 3 s", observed, holds)])
}

/// An attempt that takes too long is ended, and its program with it.
pub(crate) async fn too_slow(stage: &Stage) -> Outcome {
    let (new, file) = stage.lingering("too-slow", "600");
    let new = new.timeout(Duration::from_secs(1)).max_attempts(1);
    let task = stage.client.create_task(new).await?;
    let (_, number) = stage.begun(&task.id, &file).await?;
    let ended = stage.client.wait_task(&task.id).await?;
    let observed = format!("{}, {}", status(&ended), program(number));
    let expected = "failed (timeout), program ended";
    Ok(vec![Row::same("a task that takes longer than its timeout", expected, observed)])
}

/// A running task that is cancelled ends, and its program with it.
pub(crate) async fn cancelled(stage: &Stage) -> Outcome {
    let (new, file) = stage.lingering("cancelled", "600");
    let task = stage.client.create_task(new).await?;
    let (_, number) = stage.begun(&task.id, &file).await?;
    stage.client.cancel_task(&task.id).await?;
    let ended = stage.client.wait_task(&task.id).await?;
    let observed = format!("{}, {}", status(&ended), program(number));
    let expected = "cancelled, program ended";
    Ok(vec![Row::same("a task cancelled while it runs", expected, observed)])
}

fn program(number: i32) -> &'static str {
    if is_running(number) { "program still there" } else { "program ended" }
}

/// The worker that runs a task is killed, and a new one comes: the task completes on another.
pub(crate) async fn orphaned(stage: &Stage) -> Outcome {
    let (new, file) = stage.lingering("orphaned", "2");
    let task = stage.client.create_task(new).await?;
    let (begun, _) = stage.begun(&task.id, &file).await?;
    let mut workers = stage.workers.lock().await;
    let at = workers.iter().position(|worker| worker.name == begun.worker());
    let at = at.ok_or_else(|| Trouble(format!("{} is no worker of ours", begun.worker())))?;
    workers.remove(at).kill().await?;
    workers.push(stage.start_worker("clara")?);
    drop(workers);
    let ended = stage.client.wait_task(&task.id).await?;
    let attempts = stage.client.list_attempts(&task.id).await?;
    let lost = attempts.first().and_then(|attempt| attempt.error.as_ref());
    let was_lost = lost.is_some_and(|error| error.reason() == FailureReason::WorkerLost);
    let elsewhere = if ended.worker == begun.worker { "on the same worker" } else { "elsewhere" };
    let first = if was_lost { "attempt 1 lost" } else { "attempt 1 not lost" };
    let observed = format!("{first}, {} {elsewhere}", at_attempt(&ended));
    let expected = "attempt 1 lost, completed at attempt 2 elsewhere";
    Ok(vec![Row::same(
        format!("a task whose worker ({}) is killed", begun.worker()),
        expected,
        observed,
    )])
}

/// A program that the workers do not allow is not run, and not tried again.
pub(crate) async fn forbidden(stage: &Stage) -> Outcome {
    let mark = stage.place.home.join("forbidden");
    let payload = json!({ "argv": ["touch", mark.to_string_lossy()] });
    let new = task("command").id("forbidden").payload_json(&payload);
    let task = stage.client.create_task(new).await?;
    let ended = stage.client.wait_task(&task.id).await?;
    let ran = if mark.exists() { "it ran" } else { "it did not run" };
    let observed = format!("{}, {ran}", at_attempt(&ended));
    let expected = "failed (permanent) at attempt 1, it did not run";
    Ok(vec![Row::same("a program that no worker allows", expected, observed)])
}

/// A task that nobody can run says so, and spends no attempt.
pub(crate) async fn unserved(stage: &Stage) -> Outcome {
    let task = stage.client.create_task(task("unheard-of").id("unserved")).await?;
    let waiting = stage.client.get_task(&task.id).await?;
    let reason = waiting.waiting.as_ref().map(Waiting::reason);
    let why = match reason {
        Some(waiting::Reason::NoWorker) => "no worker serves it",
        _ => "another reason",
    };
    let observed = format!("{}: {why}, {} attempts", status(&waiting), waiting.attempt);
    stage.client.cancel_task(&task.id).await?;
    let expected = "pending: no worker serves it, 0 attempts";
    Ok(vec![Row::same("a task of a kind that nobody serves", expected, observed)])
}

/// The same task, sent twice under one key, is one task.
pub(crate) async fn repeated(stage: &Stage) -> Outcome {
    let new = || task("greet").idempotency_key("only-once").payload_json("hello");
    let first = stage.client.create_task(new()).await?;
    let second = stage.client.create_task(new()).await?;
    let ended = stage.client.wait_task(&first.id).await?;
    let tasks = if first.id == second.id { "one task" } else { "two tasks" };
    let observed = format!("{tasks}, {}", at_attempt(&ended));
    let expected = "one task, completed at attempt 1";
    Ok(vec![Row::same("a task sent twice under one idempotency key", expected, observed)])
}

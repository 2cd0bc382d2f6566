//! The processes: a server and workers that can be killed and come back.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use rota_client::Client;
use rota_worker::{Done, TaskContext, Worker};
use tempfile::TempDir;

use crate::check::Effect;

/// A server and workers over one data directory.
pub(crate) struct Lab {
    directory: TempDir,
    listen: String,
    url: String,
    server: Child,
    workers: Vec<Child>,
    started: usize,
    pub(crate) server_kills: u32,
}

impl Lab {
    pub(crate) fn start(workers: usize) -> Self {
        let directory = TempDir::new().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let listen = format!("127.0.0.1:{}", port.expect("a free port").port());
        let url = format!("http://{listen}");
        let server = start_server(directory.path(), &listen);
        let mut lab = Self {
            directory,
            listen,
            url,
            server,
            workers: Vec::new(),
            started: 0,
            server_kills: 0,
        };
        for _ in 0..workers {
            let worker = lab.start_worker();
            lab.workers.push(worker);
        }
        lab
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn client(&self) -> Client {
        let builder = Client::builder([self.url.clone()]);
        builder.patience(Duration::from_secs(30)).build().expect("a URL")
    }

    /// Kills the server and starts another on what it left.
    pub(crate) fn kill_server(&mut self) {
        kill(&mut self.server);
        self.server_kills += 1;
        self.server = start_server(self.directory.path(), &self.listen);
    }

    /// Kills a worker and starts another.
    pub(crate) fn kill_worker(&mut self, number: usize) {
        kill(&mut self.workers[number]);
        self.workers[number] = self.start_worker();
    }

    fn start_worker(&mut self) -> Child {
        let log = self.directory.path().join(format!("effects-{}", self.started));
        self.started += 1;
        Command::new(std::env::current_exe().expect("this test's program"))
            .args(["worker_process", "--exact", "--nocapture"])
            .env("ROTA_TEST_WORKER", &self.url)
            .env("ROTA_TEST_EFFECTS", log)
            .stdout(Stdio::null())
            .spawn()
            .expect("a worker process")
    }

    /// Everything that handlers did, in all processes.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for number in 0..self.started {
            let log = self.directory.path().join(format!("effects-{number}"));
            let Ok(text) = fs::read_to_string(&log) else { continue };
            effects.extend(text.lines().filter_map(|line| {
                let (id, token) = line.split_once(' ')?;
                Some(Effect { id: id.to_owned(), token: token.parse().ok()? })
            }));
        }
        effects
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        kill(&mut self.server);
        self.workers.iter_mut().for_each(kill);
    }
}

fn kill(process: &mut Child) {
    // On Unix this is SIGKILL.
    process.kill().expect("a process of ours");
    process.wait().expect("a process of ours");
}

fn start_server(directory: &Path, listen: &str) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(directory.join("server.log"));
    Command::new(env!("CARGO_BIN_EXE_rota"))
        .args(["server", "--listen", listen, "--session-ttl", "2s", "--log", "warn"])
        .arg(format!("--store=file:{}", directory.join("data").display()))
        .stdout(Stdio::null())
        .stderr(log.expect("the directory is ours"))
        .spawn()
        .expect("a server process")
}

/// What a worker process does, until it is killed.
pub(crate) fn worker_main(url: &str) {
    let path = PathBuf::from(std::env::var_os("ROTA_TEST_EFFECTS").expect("set by the lab"));
    let log = OpenOptions::new().create(true).append(true).open(path).expect("a log");
    let log = std::sync::Arc::new(Mutex::new(log));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _within = runtime.enter();
    let client = Client::connect([url]).expect("a URL");
    let worker = Worker::builder(client)
        .slots(200)
        .raw_handler("effect", move |context: TaskContext, _| {
            let line = format!("{} {}\n", context.task_id(), context.lease_token());
            // One write: a line is there whole or not at all, also when the process is killed.
            log.lock().expect("no holder panics").write_all(line.as_bytes()).expect("room");
            std::future::ready(Ok(Done::default()))
        })
        .build()
        .expect("a worker");
    runtime.block_on(worker.run()).expect("the server accepts the worker");
}

//! `rota` as a process: started, asked to end, killed, started again on what it left.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rota_client::{Client, v1::GetServerInfoRequest};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};

/// Whatever should happen at once has happened by then, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often something outside this process is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// The build's directory: `target/debug`, say.
///
/// # Panics
/// When the program's own path is not known.
#[must_use]
pub fn build_directory() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    let directory = own.parent().expect("a file is in a directory");
    if directory.ends_with("deps") { directory.parent().expect("deps") } else { directory }.into()
}

/// The binary under test.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn rota() -> PathBuf {
    let rota = build_directory().join("rota");
    assert!(rota.is_file(), "{} is not built: run `make test`, or `make build`", rota.display());
    rota
}

/// A program that `tests/install.sh` put beside the build.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn tool(path: &str) -> PathBuf {
    let target = build_directory().parent().expect("a profile is in a directory").to_owned();
    let tool = target.join("tools").join(path);
    assert!(tool.exists(), "{} is missing: run tests/install.sh", tool.display());
    tool
}

/// The binary with these arguments, without any setting of the environment's.
#[must_use]
pub fn command(arguments: &[&str], home: &Path) -> Command {
    command_of(&rota(), arguments, home)
}

/// The same with the binary of any version.
fn command_of(program: &Path, arguments: &[&str], home: &Path) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"ROTA_") {
            command.env_remove(variable);
        }
    }
    command.args(arguments).current_dir(home).env("HOME", home).env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A server on a data directory of its own, which outlives each process.
#[derive(Debug)]
pub struct Server {
    home: tempfile::TempDir,
    program: PathBuf,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    address: String,
    child: Child,
    starts: u32,
}

impl Server {
    /// Starts a server with these further options, on a port of its own.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(options: &[&str]) -> Self {
        Self::start_with(options, |_| Vec::new()).await
    }

    /// The same, with variables in its environment, which may name files in its home.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(
        options: &[&str],
        variables: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        Self::start_all(&rota(), options, variables).await
    }

    /// The same with the binary of any version.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_as(program: &Path, options: &[&str]) -> Self {
        Self::start_all(program, options, |_| Vec::new()).await
    }

    async fn start_all(
        program: &Path,
        options: &[&str],
        variables: impl FnOnce(&Path) -> Vec<(String, String)>,
    ) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let variables = variables(home.path());
        let start = Start { program, options: &options, variables: &variables, number: 1 };
        let (child, address) = spawn(start, home.path(), "127.0.0.1:0").await;
        let program = program.to_owned();
        Self { home, program, options, variables, address, child, starts: 1 }
    }

    /// Where it is to be reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The number of its process.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Where its data and logs are.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// A client with much patience.
    ///
    /// # Panics
    /// Never: the address is one.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::builder([self.url()]).patience(PATIENCE).build().expect("an address")
    }

    /// Waits until it can serve.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn ready(&self) {
        let client = self.client();
        let mut look = tokio::time::interval(LOOK);
        let ready = async {
            loop {
                look.tick().await;
                let info = client.get_server_info(GetServerInfoRequest {}).await;
                if info.is_ok_and(|info| info.ready) {
                    return;
                }
            }
        };
        timeout(PATIENCE, ready).await.expect("the server becomes ready");
    }

    /// Kills the process with SIGKILL, wherever it is, and starts another on the same data and port.
    ///
    /// # Panics
    /// When it had ended by itself, or does not start.
    pub async fn kill_and_restart(&mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert_eq!(ended, None, "the server ended by itself; logs in {:?}", self.logs());
        self.child.kill().await.expect("killed");
        self.start_again().await;
    }

    /// Asks it to end, and starts the binary of another version on the same data and port.
    ///
    /// # Panics
    /// When it does not end or start.
    pub async fn restart_as(&mut self, program: &Path) {
        end(&mut self.child).await;
        program.clone_into(&mut self.program);
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        self.starts += 1;
        let Self { home, program, options, variables, address, starts, .. } = self;
        let start = Start { program, options, variables, number: *starts };
        let started = spawn(start, home.path(), address).await;
        (self.child, self.address) = started;
    }

    /// Asks it to end with SIGTERM, and says how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn stop(mut self) -> ExitStatus {
        end(&mut self.child).await
    }

    /// The same, and moves its data there.
    ///
    /// # Panics
    /// When it does not end, or the data cannot be moved.
    pub async fn stop_and_keep(mut self, data: &Path) -> ExitStatus {
        let status = end(&mut self.child).await;
        std::fs::rename(self.home.path().join("data"), data).expect("on the same disk");
        status
    }

    /// All that its processes logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |start| std::fs::read_to_string(log_path(self.home.path(), start));
        (1..=self.starts).filter_map(|start| log(start).ok()).collect()
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "what it said belongs to the report of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().rev().take(40).collect();
            let last: Vec<_> = lines.into_iter().rev().collect();
            eprintln!("the server's last words:\n{}", last.join("\n"));
        }
    }
}

fn log_path(home: &Path, start: u32) -> PathBuf {
    home.join(format!("server-{start}.log"))
}

/// How a server is started.
struct Start<'a> {
    program: &'a Path,
    options: &'a [String],
    variables: &'a [(String, String)],
    /// 1 for the first time.
    number: u32,
}

/// Starts a server and reads from its log where it listens.
async fn spawn(start: Start<'_>, home: &Path, listen: &str) -> (Child, String) {
    let Start { program, options, variables, number } = start;
    let mut arguments = vec!["server", "--listen", listen, "--store", "file:data"];
    arguments.extend(options.iter().map(String::as_str));
    let mut child = command_of(program, &arguments, home)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let stderr = child.stderr.take().expect("it was piped");
    let mut log = File::create(log_path(home, number)).expect("a file");
    let (found, address) = oneshot::channel();
    // Ends with the process.
    tokio::spawn(async move {
        let mut found = Some(found);
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = writeln!(log, "{line}");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            let url = entry["url"].as_str().and_then(|url| url.strip_prefix("http://"));
            if let (Some(url), true) = (url, found.is_some()) {
                let _ = found.take().expect("it is there").send(url.to_owned());
            }
        }
    });
    match timeout(PATIENCE, address).await {
        Ok(Ok(address)) => (child, address),
        _ => {
            let log = std::fs::read_to_string(log_path(home, number)).unwrap_or_default();
            panic!("the server did not start:\n{log}")
        }
    }
}

/// Asks a process to end, and waits until it has.
///
/// # Panics
/// When it does not end.
pub async fn end(child: &mut Child) -> ExitStatus {
    let id = child.id().expect("it was not waited for");
    let id = Pid::from_raw(i32::try_from(id).expect("a process number"));
    kill(id, Signal::SIGTERM).expect("it is there");
    timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it can be waited for")
}

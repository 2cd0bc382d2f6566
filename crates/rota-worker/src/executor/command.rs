//! Runs programs.
//!
//! The payload says what to run:
//!
//! ```json
//! {"argv": ["convert", "in.png", "out.jpg"], "env": {"LC_ALL": "C"}, "cwd": "/srv", "stdin": "…"}
//! ```
//!
//! - No shell is involved unless `"shell": "sh"` (or `bash`) asks for it by name; then `argv` is one
//!   script and its arguments.
//! - The environment is not this worker's: `PATH`, `HOME`, `LANG` and `TZ` of the worker, what the
//!   payload adds, and `ROTA_TASK_ID`, `ROTA_QUEUE`, `ROTA_KIND`, `ROTA_ATTEMPT` and
//!   `ROTA_LEASE_TOKEN` (the fencing token); `TRACEPARENT` and `TRACESTATE` for a task that belongs
//!   to a trace.
//! - Exit code 0 is done; 75 (`EX_TEMPFAIL`) and every other one is a failed attempt, tried again as
//!   the task's policy says. A program that cannot be found or started, or is not allowed, fails the
//!   task for good.
//! - The result is `{"exit_code": 0, "stdout": "…", "stdout_truncated": false}`; the end of both
//!   outputs is kept with the attempt.
//! - A program is named by what `PATH` finds under its name, or by an absolute path.
//! - When the program ends, so does whatever it left running in its process group.
//! - On cancel and timeout the whole process group gets SIGTERM and, 5 s later, SIGKILL. A worker that
//!   is killed itself cannot do that: run workers under a supervisor that kills the control group.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};

use crate::{
    context::TaskContext,
    handler::{Done, HandlerError},
};

/// The kind of task that this executor runs.
pub const KIND: &str = "command";
/// A process group gets so long between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// When a program has ended, what it printed may come for so long.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// Bytes of output kept with the attempt.
const TAIL_BYTES: usize = 64 << 10;
/// Bytes of standard output kept in the result: as JSON they may become six times as many, and the
/// whole is to stay below what servers take by default (1 MiB).
const STDOUT_BYTES: usize = 160 << 10;
/// Variables of the worker that programs see.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Which programs may be run.
#[derive(Debug, Clone, Default)]
pub struct CommandPolicy {
    /// Names or absolute paths; `None`: every program. A name allows what the worker's own `PATH`
    /// finds under it, and nothing else.
    pub allowed_programs: Option<Vec<String>>,
}

/// What is to be run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    stdin: Option<String>,
    shell: Option<String>,
}

#[derive(Debug, Serialize)]
struct CommandResult {
    exit_code: i32,
    stdout: String,
    stdout_truncated: bool,
}

/// Runs the program that a task asks for.
///
/// # Errors
/// When it is not allowed, cannot be started, or does not end with 0.
pub async fn run(
    policy: Arc<CommandPolicy>,
    context: TaskContext,
    payload: Bytes,
) -> Result<Done, HandlerError> {
    let payload: Payload = serde_json::from_slice(&payload).map_err(|error| {
        HandlerError::permanent(format!("the payload is not a command: {error}"))
    })?;
    let mut command = prepare(&policy, &context, &payload)?;
    let mut child = command
        .spawn()
        .map_err(|error| HandlerError::permanent(format!("{}: {error}", payload.argv[0])))?;
    let group = Group::of(&child);
    let feed = feed(child.stdin.take(), payload.stdin.as_deref());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tail = tokio::sync::Mutex::new(Tail::default());
    let mut head = Head::default();
    let outputs = async {
        tokio::join!(feed, copy(stdout, &tail, Some(&mut head)), copy(stderr, &tail, None));
    };
    let status = supervise(&mut child, &group, outputs, &context).await;
    group.forget();
    let output_tail: Bytes = tail.into_inner().bytes.into();
    let status = status.map_err(|error| HandlerError::new(format!("waiting failed: {error}")))?;
    match status.code() {
        Some(0) => {
            let result = CommandResult {
                exit_code: 0,
                stdout: String::from_utf8_lossy(&head.bytes).into_owned(),
                stdout_truncated: head.truncated,
            };
            let json = serde_json::to_vec(&result).map_err(HandlerError::from)?;
            Ok(Done { result: json.into(), output_tail })
        }
        Some(code @ (126 | 127)) if payload.shell.is_some() => {
            let message = format!("exit code {code}: the shell could not run the program");
            Err(HandlerError::permanent(message).with_output(output_tail))
        }
        Some(75) => Err(HandlerError::new("exit code 75: try again").with_output(output_tail)),
        Some(code) => Err(HandlerError::new(format!("exit code {code}")).with_output(output_tail)),
        None => {
            let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
            Err(HandlerError::new(format!("ended by signal {signal}")).with_output(output_tail))
        }
    }
}

/// Waits for the program to end, and ends it when the task is to stop. Then whatever it left running
/// in its group ends with it, and what was printed is read to its end.
async fn supervise(
    child: &mut Child,
    group: &Group,
    outputs: impl Future<Output = ()>,
    context: &TaskContext,
) -> std::io::Result<ExitStatus> {
    let mut outputs = pin!(outputs);
    let mut read = false;
    let status = {
        let mut ended = pin!(async {
            let ended = child.wait();
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    status = &mut ended => return status,
                    () = &mut outputs, if !read => read = true,
                }
            }
        });
        tokio::select! {
            status = &mut ended => status,
            _ = context.stopped() => {
                group.signal(Signal::SIGTERM);
                match tokio::time::timeout(KILL_GRACE, &mut ended).await {
                    Ok(status) => status,
                    Err(_) => {
                        group.signal(Signal::SIGKILL);
                        ended.await
                    }
                }
            }
        }
    };
    if !read {
        read = tokio::time::timeout(OUTPUT_GRACE, &mut outputs).await.is_ok();
    }
    group.signal(Signal::SIGKILL);
    if !read {
        // Whoever left the group may hold the output open still, and is not waited for.
        let _ = tokio::time::timeout(OUTPUT_GRACE, outputs).await;
    }
    status
}

async fn feed(stdin: Option<ChildStdin>, text: Option<&str>) {
    if let (Some(mut stdin), Some(text)) = (stdin, text) {
        // A program that does not read to the end of its input may be quite right.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
}

fn prepare(
    policy: &CommandPolicy,
    context: &TaskContext,
    payload: &Payload,
) -> Result<Command, HandlerError> {
    let Some(program) = payload.argv.first().filter(|program| !program.is_empty()) else {
        return Err(HandlerError::permanent("argv must name a program"));
    };
    let texts = payload.argv.iter().chain(payload.env.keys()).chain(payload.env.values());
    if texts.chain(&payload.shell).chain(&payload.cwd).any(|text| text.contains('\0')) {
        return Err(HandlerError::permanent("argv, env and cwd must not contain NUL"));
    }
    check_env(policy, &payload.env)?;
    if let Some(cwd) = payload.cwd.as_ref().filter(|cwd| !Path::new(cwd).is_dir()) {
        return Err(HandlerError::permanent(format!("cwd: {cwd} is not a directory")));
    }
    let mut command = match &payload.shell {
        None => {
            let mut command = Command::new(resolve(policy, program)?);
            command.args(&payload.argv[1..]);
            command
        }
        Some(shell) => {
            if !matches!(shell.as_str(), "sh" | "bash" | "dash" | "zsh") {
                return Err(HandlerError::permanent("shell must be sh, bash, dash or zsh"));
            }
            let mut command = Command::new(resolve(policy, shell)?);
            command.arg("-c").arg(program).arg(shell).args(&payload.argv[1..]);
            command
        }
    };
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(&payload.env);
    command
        .env("ROTA_TASK_ID", context.task_id())
        .env("ROTA_QUEUE", context.queue())
        .env("ROTA_KIND", context.kind())
        .env("ROTA_ATTEMPT", context.attempt().to_string())
        .env("ROTA_LEASE_TOKEN", context.lease_token().to_string());
    if let Some(trace) = context.trace() {
        command.env("TRACEPARENT", trace.traceparent()).env("TRACESTATE", trace.tracestate());
    }
    if let Some(cwd) = &payload.cwd {
        command.current_dir(cwd);
    }
    let stdin = if payload.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

fn check_env(policy: &CommandPolicy, env: &BTreeMap<String, String>) -> Result<(), HandlerError> {
    for name in env.keys() {
        if name.is_empty() || name.contains('=') {
            return Err(HandlerError::permanent(format!("env: {name:?} is not a name")));
        }
        // They put other code into a program than its own.
        let loads = name.starts_with("LD_") || matches!(name.as_str(), "BASH_ENV" | "ENV");
        if loads && policy.allowed_programs.is_some() {
            let message = format!("env: this worker does not allow {name}, as it names programs");
            return Err(HandlerError::permanent(message));
        }
    }
    Ok(())
}

/// The absolute path of a program: looked up on the worker's own `PATH`, whatever the task sets.
fn resolve(policy: &CommandPolicy, program: &str) -> Result<PathBuf, HandlerError> {
    let missing = || HandlerError::permanent(format!("{program}: no such program"));
    let path = if program.starts_with('/') {
        PathBuf::from(program)
    } else if program.contains('/') {
        // It would be another one in each directory.
        let message = format!("{program}: must be a name or an absolute path");
        return Err(HandlerError::permanent(message));
    } else {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&paths).map(|dir| dir.join(program));
        found.into_iter().find(|path| is_executable(path)).ok_or_else(missing)?
    };
    let Some(allowed) = &policy.allowed_programs else { return Ok(path) };
    let fits = |allowed: &String| {
        if allowed.contains('/') {
            path.canonicalize().ok() == PathBuf::from(allowed).canonicalize().ok()
        } else {
            !program.contains('/') && allowed == program
        }
    };
    if allowed.iter().any(fits) {
        Ok(path)
    } else {
        Err(HandlerError::permanent(format!("{program}: this worker does not allow it")))
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The process group of a child. Killed when this is dropped before the child ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may be gone already.
            let _ = killpg(group, signal);
        }
    }

    /// It has ended: its number may become another's.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// The end of what was printed.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    fn add(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }
}

/// The beginning of what was printed.
#[derive(Default)]
struct Head {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Head {
    fn add(&mut self, more: &[u8]) {
        let room = STDOUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.truncated |= more.len() > room;
    }
}

async fn copy(
    output: Option<impl AsyncRead + Unpin>,
    tail: &tokio::sync::Mutex<Tail>,
    mut head: Option<&mut Head>,
) {
    let Some(mut output) = output else { return };
    let mut buffer = vec![0; 16 << 10];
    // A broken pipe ends the output; how the program ended says the rest.
    while let Ok(count @ 1..) = output.read(&mut buffer).await {
        tail.lock().await.add(&buffer[..count]);
        if let Some(head) = head.as_deref_mut() {
            head.add(&buffer[..count]);
        }
    }
}

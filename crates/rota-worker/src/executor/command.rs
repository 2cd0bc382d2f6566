//! Runs programs.
//!
//! The payload says what to run:
//!
//! ```json
//! {"argv": ["convert", "in.png", "out.jpg"], "env": {"LC_ALL": "C"}, "cwd": "/srv", "stdin": "…"}
//! ```
//!
//! `launch` makes the program from it, `output` keeps what it prints; this module runs it to its end.
//!
//! - No shell is involved unless `"shell": "sh"` (or `bash`) asks for it by name; then `argv` is one
//!   script and its arguments.
//! - The environment is not this worker's: `PATH`, `HOME`, `LANG` and `TZ` of the worker, what the
//!   payload adds, and `ROTA_TASK_ID`, `ROTA_QUEUE`, `ROTA_KIND`, `ROTA_ATTEMPT` and
//!   `ROTA_LEASE_TOKEN` (the fencing token); `TRACEPARENT` and `TRACESTATE` for a task that belongs
//!   to a trace.
//! - Exit code 0 is done; 75 (`EX_TEMPFAIL`) and every other one is a failed attempt, tried again as
//!   the task's policy says. A program that cannot be found, is not allowed or not executable fails the
//!   task for good; one that the machine cannot start now is tried again.
//! - `"snooze": {"exit_code": 99, "delay": "5m"}` puts the task off by that long when the program ends
//!   with that code. No attempt is spent.
//! - The result is `{"exit_code": 0, "stdout": "…", "stdout_truncated": false}`, with
//!   `"stdout_encoding": "base64"` if the output is not UTF-8; the end of both outputs is kept with
//!   the attempt.
//! - Standard output and standard error are two pipes, so their order is lost.
//!   `"merge_stderr": true` gives the program one pipe for both.
//! - A program that runs as the same user can read what the worker's process shows of itself, its
//!   environment among it: `rota worker` takes its secrets out of there, and so should other programs
//!   that use this executor.
//! - A program is named by what `PATH` finds under its name, or by an absolute path.
//! - When the program ends, so does whatever it left running in its process group.
//! - On cancel and timeout the whole process group gets SIGTERM and, 5 s later, SIGKILL. A worker that
//!   is killed itself cannot do that: run workers under a supervisor that kills the control group.

mod launch;
mod output;

use std::{pin::pin, process::ExitStatus, sync::Arc, time::Duration};

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde::Serialize;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin},
};

use self::{
    launch::{Launch, Payload},
    output::{OutputHead, OutputTail, copy},
};
use super::keep::keep;
use crate::{
    context::TaskContext,
    handler::{Done, HandlerError},
};

pub use launch::{CommandPolicy, CommandUser, CommandUserError};

/// The kind of task that this executor runs.
pub const KIND: &str = "command";
/// A process group gets so long between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// When a program has ended, what it printed may come for so long.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct CommandResult {
    exit_code: i32,
    stdout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_encoding: Option<&'static str>,
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
    let Launch { mut command, merged } = launch::prepare(&policy, &context, &payload)?;
    let mut child = command.spawn().map_err(|error| launch::not_started(&payload, &error))?;
    // It has the other end of the pipe, which would never come to its end.
    drop(command);
    let group = Group::of(&child);
    let feed = feed(child.stdin.take(), payload.stdin.as_deref());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tail = tokio::sync::Mutex::new(OutputTail::default());
    let mut head = OutputHead::default();
    let outputs = async {
        match merged {
            Some(both) => {
                tokio::join!(feed, copy(Some(both), &tail, Some(&mut head)));
            }
            None => {
                tokio::join!(feed, copy(stdout, &tail, Some(&mut head)), copy(stderr, &tail, None));
            }
        }
    };
    let status = supervise(&mut child, &group, outputs, &context).await;
    group.forget();
    let output_tail: Bytes = tail.into_inner().into_bytes().into();
    let status = status.map_err(|error| HandlerError::new(format!("waiting failed: {error}")))?;
    if let Some(snooze) = payload.snooze.filter(|snooze| status.code() == Some(snooze.exit_code)) {
        return Err(HandlerError::snooze(snooze.delay.duration()).with_output(output_tail));
    }
    match status.code() {
        Some(0) => {
            let (stdout, stdout_encoding) = keep(head.bytes, head.truncated);
            let stdout_truncated = head.truncated;
            let result = CommandResult { exit_code: 0, stdout, stdout_encoding, stdout_truncated };
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
                    biased;
                    status = &mut ended => return status,
                    () = &mut outputs, if !read => read = true,
                }
            }
        });
        tokio::select! {
            biased;
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

//! Runs programs.
//!
//! The payload describes the program:
//!
//! ```json
//! {"argv": ["convert", "in.png", "out.jpg"], "env": {"LC_ALL": "C"}, "cwd": "/srv", "stdin": "…"}
//! ```
//!
//! `launch` builds the command, `output` keeps its output, and this module runs it to its end.
//!
//! - A shell is used only with `"shell": "sh"` (or `bash`). Then `argv` is a script and its arguments.
//! - The program does not inherit the worker's environment. It gets `PATH`, `HOME`, `LANG` and `TZ` of the
//!   worker, the variables of the payload, and `ROTA_TASK_ID`, `ROTA_QUEUE`, `ROTA_KIND`, `ROTA_ATTEMPT` and
//!   `ROTA_LEASE_TOKEN` (the fencing token). For a task that belongs to a trace, it also gets `TRACEPARENT`
//!   and `TRACESTATE`. For a task of a schedule, it also gets `ROTA_SCHEDULE`, `ROTA_NOMINAL_TIME`,
//!   `ROTA_PREVIOUS_TIME`, `ROTA_LAST_SUCCESS_TIME` and `ROTA_ACTUAL_TIME` (the start of the attempt). A time that there
//!   is none of is not set.
//! - In the payload of a task of a schedule, `{{schedule}}`, `{{nominal_time}}`, `{{previous_time}}`,
//!   `{{last_success_time}}` and `{{actual_time}}` stand for the same values, or for nothing if there is none. Other text
//!   in braces stays as it is.
//! - Exit code 0 is success. Every other code, such as 75 (`EX_TEMPFAIL`), is a failed attempt, which the
//!   task's policy can retry. A program that is not found, not allowed or not executable fails the task for
//!   good. A program that the machine cannot start now is retried.
//! - `"snooze": {"exit_code": 99, "delay": "5m"}` puts the task off for this time when the program ends with
//!   this code. This spends no attempt.
//! - The result is `{"exit_code": 0, "stdout": "…", "stdout_truncated": false}`, with `"stdout_encoding":
//!   "base64"` if the output is not UTF-8. Both outputs can be followed while the program runs, and their end is kept
//!   with the attempt.
//! - Standard output and standard error are two pipes, so their order is lost.
//!   `"merge_stderr": true` gives the program one pipe for both.
//! - A program that runs as the same user can read the environment of the worker's process. `rota worker`
//!   removes its secrets from there, and other programs that use this executor should, too.
//! - A program is found by its name in `PATH`, or by an absolute path.
//! - When the program ends, the rest of its process group is killed.
//! - On cancellation and timeout, the whole process group gets SIGTERM, and SIGKILL 5 s later. A worker that
//!   is killed cannot do this, so run workers under a supervisor that kills the control group.

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
    output::{OutputHead, copy},
};
use super::{keep::keep, template::fill};
use crate::{
    context::TaskContext,
    handler::{Done, HandlerError},
};

pub use launch::{CommandPolicy, CommandUser, CommandUserError};

/// The kind of task that this executor runs.
pub const KIND: &str = "command";
/// Time between SIGTERM and SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// Time to read the remaining output after a program has ended.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct CommandResult {
    exit_code: i32,
    stdout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_encoding: Option<&'static str>,
    stdout_truncated: bool,
}

/// Runs the program of a task.
///
/// # Errors
/// When the program is not allowed, cannot be started, or does not exit with 0.
pub async fn run(
    policy: Arc<CommandPolicy>,
    context: TaskContext,
    payload: Bytes,
) -> Result<Done, HandlerError> {
    let payload = fill(&context, payload);
    let payload: Payload = serde_json::from_slice(&payload).map_err(|error| {
        HandlerError::permanent(format!("the payload is not a command: {error}"))
    })?;
    let Launch { mut command, merged } = launch::prepare(&policy, &context, &payload)?;
    let mut child = command.spawn().map_err(|error| launch::not_started(&payload, &error))?;
    // The command holds the other end of the pipe, so reading would never end.
    drop(command);
    let group = Group::of(&child);
    let feed = feed(child.stdin.take(), payload.stdin.as_deref());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut head = OutputHead::default();
    let outputs = async {
        match merged {
            Some(both) => {
                tokio::join!(feed, copy(Some(both), &context, Some(&mut head)));
            }
            None => {
                let errors = copy(stderr, &context, None);
                tokio::join!(feed, copy(stdout, &context, Some(&mut head)), errors);
            }
        }
    };
    let status = supervise(&mut child, &group, outputs, &context).await;
    group.forget();
    let output_tail = context.output().tail();
    let status = status
        .map_err(|error| HandlerError::new(format!("cannot wait for the program: {error}")))?;
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
        Some(75) => {
            Err(HandlerError::new("exit code 75 (temporary failure)").with_output(output_tail))
        }
        Some(code) => Err(HandlerError::new(format!("exit code {code}")).with_output(output_tail)),
        None => {
            let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
            Err(HandlerError::new(format!("killed by signal {signal}")).with_output(output_tail))
        }
    }
}

/// Waits for the program to end, and stops it if the task must stop. Then kills the rest of its process
/// group, and reads the remaining output.
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
        // A process that left the group may still hold the output open, so this has a timeout.
        let _ = tokio::time::timeout(OUTPUT_GRACE, outputs).await;
    }
    status
}

async fn feed(stdin: Option<ChildStdin>, text: Option<&str>) {
    if let (Some(mut stdin), Some(text)) = (stdin, text) {
        // A program need not read all of its input.
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
            // The group may already be gone.
            let _ = killpg(group, signal);
        }
    }

    /// The child has ended, so its process id may be reused.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

//! From a task's payload to a program that is started: what the policy allows, which file is run,
//! with which environment, and why it cannot be started.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    process::Stdio,
};

use nix::{errno::Errno, unistd::User};
use serde::Deserialize;
use tokio::{net::unix::pipe, process::Command};

use crate::{
    context::{TaskContext, cut},
    handler::HandlerError,
};

/// Variables of the worker that programs see.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Characters of the name of a variable.
const NAME_BYTES: usize = 256;
/// Bytes of a text of the task's that are repeated in an error.
const SHOWN_BYTES: usize = 200;
/// Bytes that Linux takes in one argument or variable, on most machines.
const ARGUMENT_BYTES: usize = (128 << 10) - 1;

/// What tasks may run, and as whom.
#[derive(Debug, Clone, Default)]
pub struct CommandPolicy {
    /// Names or absolute paths; `None`: every program. A name allows what the worker's own `PATH`
    /// finds under it, and nothing else. A path allows the program under that path; another link to
    /// the same file is another program, since some programs do what their name says.
    pub allowed_programs: Option<Vec<String>>,
    /// Variables that tasks may set. `None`: all if every program is allowed, and none if only some
    /// are, since variables such as `PATH`, `LD_PRELOAD` or `BASH_ENV` make one program run another.
    pub allowed_env: Option<Vec<String>>,
    /// The user that programs run as; `None`: the worker's.
    pub user: Option<CommandUser>,
}

impl CommandPolicy {
    fn allows_variable(&self, name: &str) -> bool {
        match (&self.allowed_env, &self.allowed_programs) {
            (Some(allowed), _) => allowed.iter().any(|allowed| allowed == name),
            (None, allowed_programs) => allowed_programs.is_none(),
        }
    }
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandUser {
    name: String,
    user: u32,
    group: u32,
    home: PathBuf,
}

/// Why programs cannot run as a user.
#[derive(Debug, thiserror::Error)]
pub enum CommandUserError {
    /// There is no such user.
    #[error("there is no user {0:?} on this machine")]
    Unknown(String),
    /// The machine's list of users cannot be read.
    #[error("looking up the user {name:?} failed: {source}")]
    Lookup {
        /// The user's name.
        name: String,
        /// The underlying error.
        source: io::Error,
    },
    /// Only root may run programs as somebody else.
    #[error("only a worker that runs as root can run programs as the user {0:?}")]
    NotRoot(String),
}

impl CommandUser {
    /// The user of that name, for a worker that runs as root.
    ///
    /// # Errors
    /// When there is no such user, or this process is not root.
    pub fn named(name: &str) -> Result<Self, CommandUserError> {
        let found = User::from_name(name).map_err(|error| CommandUserError::Lookup {
            name: name.to_owned(),
            source: error.into(),
        })?;
        let found = found.ok_or_else(|| CommandUserError::Unknown(name.to_owned()))?;
        // A capability alone would be inherited by the programs, which could take it back to the worker.
        if !nix::unistd::geteuid().is_root() {
            return Err(CommandUserError::NotRoot(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            user: found.uid.as_raw(),
            group: found.gid.as_raw(),
            home: found.dir,
        })
    }
}

/// What is to be run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    argv: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    pub(super) stdin: Option<String>,
    pub(super) shell: Option<String>,
    #[serde(default)]
    merge_stderr: bool,
    pub(super) snooze: Option<Snooze>,
}

/// By which exit code a program puts its task off, and for how long.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snooze {
    pub(super) exit_code: i32,
    pub(super) delay: rota_client::TimeSpan,
}

/// A command, ready to be started.
pub(super) struct Launch {
    pub(super) command: Command,
    /// The one pipe of both outputs, where the task wants their order.
    pub(super) merged: Option<pipe::Receiver>,
}

/// Makes the command that the payload asks for.
pub(super) fn prepare(
    policy: &CommandPolicy,
    context: &TaskContext,
    payload: &Payload,
) -> Result<Launch, HandlerError> {
    let Some(program) = payload.argv.first().filter(|program| !program.is_empty()) else {
        return Err(HandlerError::permanent("argv must name a program"));
    };
    let texts = payload.argv.iter().chain(payload.env.keys()).chain(payload.env.values());
    if texts.chain(&payload.shell).chain(&payload.cwd).any(|text| text.contains('\0')) {
        return Err(HandlerError::permanent("argv, env and cwd must not contain NUL"));
    }
    check_env(policy, &payload.env)?;
    if let Some(cwd) = payload.cwd.as_ref().filter(|cwd| !Path::new(cwd).is_dir()) {
        return Err(HandlerError::permanent(format!("cwd: {} is not a directory", shown(cwd))));
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
    set_env(&mut command, policy, context, payload);
    if let Some(cwd) = &payload.cwd {
        command.current_dir(cwd);
    }
    if let Some(user) = &policy.user {
        command.uid(user.user).gid(user.group);
    }
    let stdin = if payload.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).process_group(0).kill_on_drop(true);
    let merged = if payload.merge_stderr {
        Some(merge(&mut command).map_err(|error| HandlerError::new(format!("pipe: {error}")))?)
    } else {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        None
    };
    Ok(Launch { command, merged })
}

/// Gives the program one pipe for both outputs.
fn merge(command: &mut Command) -> io::Result<pipe::Receiver> {
    let (reader, writer) = io::pipe()?;
    command.stdout(OwnedFd::from(writer.try_clone()?)).stderr(OwnedFd::from(writer));
    pipe::Receiver::from_owned_fd(reader.into())
}

/// The environment: nothing of the worker's but what is listed above.
fn set_env(
    command: &mut Command,
    policy: &CommandPolicy,
    context: &TaskContext,
    payload: &Payload,
) {
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(user) = &policy.user {
        command.env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
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
}

fn check_env(policy: &CommandPolicy, env: &BTreeMap<String, String>) -> Result<(), HandlerError> {
    for name in env.keys() {
        let is_name = (1..=NAME_BYTES).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=');
        if !is_name {
            let message = format!(
                "env: {} is not a name of a variable: 1 to {NAME_BYTES} visible characters of \
                 ASCII, without =",
                shown(&format!("{name:?}"))
            );
            return Err(HandlerError::permanent(message));
        }
        if !policy.allows_variable(name) {
            let message = format!(
                "env: this worker does not allow {name}; its operator can with allowed_env"
            );
            return Err(HandlerError::permanent(message));
        }
    }
    Ok(())
}

/// The absolute path of a program: looked up on the worker's own `PATH`, whatever the task sets.
fn resolve(policy: &CommandPolicy, program: &str) -> Result<PathBuf, HandlerError> {
    let path = if program.starts_with('/') {
        PathBuf::from(program)
    } else if program.contains('/') {
        // It would be another one in each directory.
        let message = format!("{}: must be a name or an absolute path", shown(program));
        return Err(HandlerError::permanent(message));
    } else {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        look_up(program, &paths).ok_or_else(|| {
            HandlerError::permanent(format!("{}: no such program", shown(program)))
        })?
    };
    let Some(allowed) = &policy.allowed_programs else { return Ok(path) };
    let place = place_of(&path);
    let fits = |allowed: &String| {
        if allowed.contains('/') {
            place.is_some() && place == place_of(Path::new(allowed))
        } else {
            !program.contains('/') && allowed == program
        }
    };
    match place.clone().filter(|_| allowed.iter().any(fits)) {
        // What was compared is what is run, whatever becomes of the links on the way to it.
        Some(place) => Ok(place),
        None => {
            let message = format!("{}: this worker does not allow it", shown(program));
            Err(HandlerError::permanent(message))
        }
    }
}

/// Finds a program as a shell does, but not in directories that depend on where it is run.
fn look_up(program: &str, paths: &OsString) -> Option<PathBuf> {
    let dirs = std::env::split_paths(paths).filter(|dir| dir.is_absolute());
    dirs.map(|dir| dir.join(program)).find(|path| is_executable(path))
}

/// Where a program is: links to directories are followed, since `/bin` may be one to `/usr/bin`. A
/// link to the program itself is not: under another name, the same file may be another program.
fn place_of(path: &Path) -> Option<PathBuf> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => Some(path.parent()?.canonicalize().ok()?.join(name)),
        _ => None,
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Why a program was not started, and what to do; what may pass is tried again.
pub(super) fn not_started(payload: &Payload, error: &io::Error) -> HandlerError {
    let program = payload.shell.as_deref().or(payload.argv.first().map(String::as_str));
    let program = shown(program.unwrap_or_default());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::E2BIG) => HandlerError::permanent(format!("{program}: {}", too_long(payload))),
        // The machine is short of something now.
        Some(
            Errno::EAGAIN
            | Errno::ENOMEM
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ETXTBSY
            | Errno::EIO
            | Errno::EINTR,
        ) => HandlerError::new(format!("{program} could not be started: {error}")),
        _ => HandlerError::permanent(format!("{program}: {error}")),
    }
}

fn too_long(payload: &Payload) -> String {
    let arguments = payload.argv.iter().enumerate().map(|(at, text)| match (&payload.shell, at) {
        (Some(_), 0) => ("the script".to_owned(), text.len()),
        _ => (format!("argv[{at}]"), text.len()),
    });
    let variables = payload.env.iter().map(|(name, value)| {
        let bytes = name.len() + 1 + value.len();
        (format!("the variable {}", shown(name)), bytes)
    });
    let longest = arguments.chain(variables).max_by_key(|(_, bytes)| *bytes);
    let Some((what, bytes)) = longest.filter(|(_, bytes)| *bytes > ARGUMENT_BYTES) else {
        return "argv and env together are longer than the system takes; hand the data over on \
                standard input (stdin) or in a file"
            .to_owned();
    };
    let instead = match &payload.shell {
        Some(shell) if what == "the script" => format!(
            "run it from standard input: {{\"argv\": [\"{shell}\", \"-s\", \"ARGUMENT\"], \
             \"stdin\": \"SCRIPT\"}}, or from a file"
        ),
        _ => "hand it over on standard input (stdin) or in a file".to_owned(),
    };
    format!(
        "{what} has {bytes} bytes, and the system takes {ARGUMENT_BYTES} in one argument; {instead}"
    )
}

/// As much of a text as belongs into an error.
fn shown(text: &str) -> String {
    let mut short = text.to_owned();
    cut(&mut short, SHOWN_BYTES);
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_not_looked_up_where_the_task_is_run() {
        let found = look_up("sh", &OsString::from(":.:relative:/usr/bin:/bin"));
        assert!(found.is_some_and(|path| path.is_absolute()));
        assert_eq!(look_up("Cargo.toml", &OsString::from(":.")), None);
    }

    #[test]
    fn a_place_follows_directories_and_not_the_program() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().canonicalize().expect("a directory");
        std::fs::create_dir(dir.join("usr")).expect("a directory");
        std::os::unix::fs::symlink(dir.join("usr"), dir.join("bin")).expect("a link");
        std::os::unix::fs::symlink("/bin/sh", dir.join("usr/tool")).expect("a link");
        let place = |path: &str| place_of(&dir.join(path));
        assert_eq!(place("bin/tool"), place("usr/tool"));
        assert_eq!(place("bin/tool"), Some(dir.join("usr/tool")));
        assert_eq!(place("none/tool"), None);
        assert_eq!(place_of(Path::new("/")), None);
        assert_eq!(place("usr/.."), None);
    }
}

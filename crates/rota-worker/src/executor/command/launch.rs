//! Starts the program of a task: checks the policy, finds the file, sets the environment, and explains
//! failures to start.

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
    executor::names::distinct,
    handler::HandlerError,
    tick::Tick,
};

/// Variables of the worker that programs get.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Maximum characters of a variable's name.
const NAME_BYTES: usize = 256;
/// Maximum bytes of a task's text in an error.
const SHOWN_BYTES: usize = 200;
/// Maximum bytes of one argument or variable on Linux, on most machines.
const ARGUMENT_BYTES: usize = (128 << 10) - 1;

/// The programs that tasks can run, and the user that runs them.
#[derive(Debug, Clone, Default)]
pub struct CommandPolicy {
    /// Names or absolute paths. `None` allows every program. A name allows only the program that the worker's
    /// `PATH` has under it. A path allows only the program at that path; another link to the same file is
    /// another program, because some programs act by their name.
    pub allowed_programs: Option<Vec<String>>,
    /// Variables that tasks can set. `None` allows all if every program is allowed, and none otherwise,
    /// because variables such as `PATH`, `LD_PRELOAD` or `BASH_ENV` can make one program run another.
    pub allowed_env: Option<Vec<String>>,
    /// The user that programs run as. `None` means the worker's user.
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

/// Why programs cannot run as this user.
#[derive(Debug, thiserror::Error)]
pub enum CommandUserError {
    /// There is no such user.
    #[error("no such user on this machine: {0:?}")]
    Unknown(String),
    /// The machine's list of users cannot be read.
    #[error("cannot look up the user {name:?}: {source}")]
    Lookup {
        /// Name of the user.
        name: String,
        /// The underlying error.
        source: io::Error,
    },
    /// Only root can run programs as another user.
    #[error("cannot run programs as the user {0:?}: the worker must run as root")]
    NotRoot(String),
}

impl CommandUser {
    /// The user with this name, for a worker that runs as root.
    ///
    /// # Errors
    /// When there is no such user, or this process is not root.
    pub fn named(name: &str) -> Result<Self, CommandUserError> {
        let found = User::from_name(name).map_err(|error| CommandUserError::Lookup {
            name: name.to_owned(),
            source: error.into(),
        })?;
        let found = found.ok_or_else(|| CommandUserError::Unknown(name.to_owned()))?;
        // Programs would inherit a capability, and could use it to attack the worker.
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

/// The payload.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    argv: Vec<String>,
    #[serde(default, deserialize_with = "distinct")]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    pub(super) stdin: Option<String>,
    pub(super) shell: Option<String>,
    #[serde(default)]
    merge_stderr: bool,
    pub(super) snooze: Option<Snooze>,
}

/// The exit code by which a program snoozes its task, and the delay.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snooze {
    pub(super) exit_code: i32,
    pub(super) delay: rota_client::TimeSpan,
}

/// A command, ready to be started.
pub(super) struct Launch {
    pub(super) command: Command,
    /// The common pipe of both outputs, if the task needs their order.
    pub(super) merged: Option<pipe::Receiver>,
}

/// Builds the command of the payload.
pub(super) fn prepare(
    policy: &CommandPolicy,
    context: &TaskContext,
    payload: &Payload,
) -> Result<Launch, HandlerError> {
    let Some(program) = payload.argv.first().filter(|program| !program.is_empty()) else {
        return Err(HandlerError::permanent("argv must have at least a program"));
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

/// Sets the environment: only the listed variables of the worker.
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
    for (part, value) in context.tick().into_iter().flat_map(Tick::parts) {
        if let Some(value) = value {
            command.env(part.variable, value);
        }
    }
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
                "env: {} is not a valid variable name; use 1 to {NAME_BYTES} visible characters of \
                 ASCII, without =",
                shown(&format!("{name:?}"))
            );
            return Err(HandlerError::permanent(message));
        }
        if !policy.allows_variable(name) {
            let message = format!(
                "env: this worker does not allow {name}; the operator can allow it with allowed_env"
            );
            return Err(HandlerError::permanent(message));
        }
    }
    Ok(())
}

/// The absolute path of a program, looked up in the worker's `PATH`, whatever the task sets.
fn resolve(policy: &CommandPolicy, program: &str) -> Result<PathBuf, HandlerError> {
    let path = if program.starts_with('/') {
        PathBuf::from(program)
    } else if program.contains('/') {
        // A relative path would depend on the working directory.
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
        // Runs the path that was compared, even if links change afterwards.
        Some(place) => Ok(place),
        None => {
            let message = format!("{}: this worker does not allow this program", shown(program));
            Err(HandlerError::permanent(message))
        }
    }
}

/// Finds a program like a shell, but not in relative directories.
fn look_up(program: &str, paths: &OsString) -> Option<PathBuf> {
    let dirs = std::env::split_paths(paths).filter(|dir| dir.is_absolute());
    dirs.map(|dir| dir.join(program)).find(|path| is_executable(path))
}

/// Resolves the path of a program. Follows links to directories, because `/bin` may link to `/usr/bin`, but
/// not a link to the program, because the same file may act differently under another name.
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

/// Explains why a program could not be started. A temporary problem is retried.
pub(super) fn not_started(payload: &Payload, error: &io::Error) -> HandlerError {
    let program = payload.shell.as_deref().or(payload.argv.first().map(String::as_str));
    let program = shown(program.unwrap_or_default());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::E2BIG) => HandlerError::permanent(format!("{program}: {}", too_long(payload))),
        // The machine is short of a resource now.
        Some(
            Errno::EAGAIN
            | Errno::ENOMEM
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ETXTBSY
            | Errno::EIO
            | Errno::EINTR,
        ) => HandlerError::new(format!("cannot start {program}: {error}")),
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
        return "argv and env together are longer than the system allows; pass the data on \
                standard input (stdin) or in a file"
            .to_owned();
    };
    let instead = match &payload.shell {
        Some(shell) if what == "the script" => format!(
            "run it from standard input: {{\"argv\": [\"{shell}\", \"-s\", \"ARGUMENT\"], \
             \"stdin\": \"SCRIPT\"}}, or from a file"
        ),
        _ => "pass it on standard input (stdin) or in a file".to_owned(),
    };
    format!(
        "{what} has {bytes} bytes, but the system allows {ARGUMENT_BYTES} for one argument; {instead}"
    )
}

/// A text, cut to a length for errors.
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

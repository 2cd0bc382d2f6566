//! Keeps the secrets of a worker from the programs that it runs.
//!
//! A program that runs as the worker's user or as root can look into the worker:
//!
//! - `/proc/PID/environ` shows the variables that a process was started with, even if it has removed them. So
//!   a worker re-executes itself without its secret variables, and passes them in an in-memory file.
//! - Other processes of the same user can read its memory, open files and remaining environment, unless it is
//!   not dumpable. Root always can: run programs as another user, or the worker without `CAP_SYS_PTRACE`.
//! - Programs would inherit the open files that the worker has inherited. So it closes them.
//!
//! The executor sets the environment of the programs.

use std::{collections::BTreeMap, path::Path};

use crate::exit::Failure;

/// The variable with the descriptor number of the file that holds the secrets.
pub(crate) const HANDED_OVER: &str = "ROTA_SECRETS_FD";

/// Secret variables that were removed from the environment, and their values.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// The value of a variable, from here or else from the environment.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().or_else(|| std::env::var(name).ok())
    }
}

/// Removes these secret variables from the environment by re-executing the program. The re-executed program returns the
/// secrets. The first one returns only if there is no secret variable, or if it cannot re-execute itself;
/// then it prints a warning.
///
/// # Errors
/// When the passed secrets cannot be read.
pub(crate) fn take_secrets(variables: impl Iterator<Item = String>) -> Result<Secrets, Failure> {
    if let Some(secrets) = platform::handed_over()? {
        return Ok(secrets);
    }
    let secret = |name: String| std::env::var(&name).ok().map(|value| (name, value));
    let found: BTreeMap<_, _> = variables.filter_map(secret).collect();
    if !found.is_empty() {
        let error = platform::start_anew(&found);
        crate::output::note(&format!(
            "warning: the secret variables stay in the environment of this process, where programs of root \
                         can read them: {error}"
        ));
    }
    Ok(Secrets(found))
}

/// The open files that this process inherited, except the three standard ones. Call it before opening any
/// file.
pub(crate) fn inherited_files() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    // One of them was the directory handle of the listing.
    numbers.retain(|number| Path::new(&format!("/proc/self/fd/{number}")).is_symlink());
    numbers
}

/// Closes these files, and keeps other processes of the same user from reading this one's memory.
///
/// # Errors
/// When the system refuses.
pub(crate) fn close_up(inherited: &[i32]) -> Result<(), Failure> {
    for number in inherited {
        // A file may already be closed.
        let _ = nix::unistd::close(*number);
    }
    platform::forbid_looking_in()
}

#[cfg(target_os = "linux")]
mod platform {
    use std::{
        collections::BTreeMap,
        fs,
        io::Write,
        os::{fd::AsRawFd, unix::process::CommandExt},
        path::PathBuf,
        process::Command,
    };

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{HANDED_OVER, Secrets};
    use crate::exit::Failure;

    const NAME: &str = "rota-secrets";

    pub(super) fn handed_over() -> Result<Option<Secrets>, Failure> {
        let Ok(number) = std::env::var(HANDED_OVER) else { return Ok(None) };
        let Ok(number) = number.parse::<i32>() else { return Ok(None) };
        let path = PathBuf::from(format!("/proc/self/fd/{number}"));
        let is_ours = fs::read_link(&path)
            .is_ok_and(|file| file.to_string_lossy().starts_with(&format!("/memfd:{NAME}")));
        if !is_ours {
            return Ok(None);
        }
        let bytes = fs::read(&path)?;
        nix::unistd::close(number).map_err(Failure::failed)?;
        let secrets = serde_json::from_slice(&bytes).map_err(Failure::failed)?;
        Ok(Some(Secrets(secrets)))
    }

    /// Re-executes this program in the same process. Returns only on failure, with the reason.
    pub(super) fn start_anew(secrets: &BTreeMap<String, String>) -> std::io::Error {
        let started = || -> std::io::Result<std::io::Error> {
            // The re-executed program inherits the descriptor.
            let file = memfd_create(NAME, MFdFlags::empty())?;
            let number = file.as_raw_fd();
            let mut file = fs::File::from(file);
            file.write_all(serde_json::to_string(secrets)?.as_bytes())?;
            let mut args = std::env::args_os();
            let program = std::env::current_exe().ok().filter(|program| program.exists());
            // The file of the program may have been replaced since it started.
            let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
            let mut command = Command::new(program);
            if let Some(name) = args.next() {
                command.arg0(name);
            }
            command.args(args).env(HANDED_OVER, number.to_string());
            for name in secrets.keys() {
                command.env_remove(name);
            }
            Ok(command.exec())
        };
        started().unwrap_or_else(|error| error)
    }

    pub(super) fn forbid_looking_in() -> Result<(), Failure> {
        nix::sys::prctl::set_dumpable(false).map_err(Failure::failed)
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::collections::BTreeMap;

    use super::Secrets;
    use crate::exit::Failure;

    pub(super) fn handed_over() -> Result<Option<Secrets>, Failure> {
        Ok(None)
    }

    pub(super) fn start_anew(_: &BTreeMap<String, String>) -> std::io::Error {
        std::io::ErrorKind::Unsupported.into()
    }

    pub(super) fn forbid_looking_in() -> Result<(), Failure> {
        Ok(())
    }
}

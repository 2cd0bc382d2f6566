//! Keeps a worker's secrets from the programs that it runs.
//!
//! A program that runs as the worker's user, and every program of root, can look into the worker:
//!
//! - `/proc/PID/environ` shows the variables that a process was started with, whatever became of them
//!   since. So a worker starts itself anew without its secret variables, and hands them over in a file
//!   that exists in memory alone.
//! - Its memory, its open files and what is left of its environment can be read by the same user
//!   unless it is not dumpable. Root can still read them: run programs as another user, or the worker
//!   without `CAP_SYS_PTRACE`.
//! - Open files that the worker inherited itself would be inherited by programs as well. So it closes
//!   them.
//!
//! The programs' own environment is the executor's matter.

use std::{collections::BTreeMap, path::Path};

use crate::{
    config::{KEYS, Key},
    exit::Failure,
};

/// The variable that names the file with the secrets: the number of a descriptor.
pub(crate) const HANDED_OVER: &str = "ROTA_SECRETS_FD";

/// Secret variables and their values, which are not in the environment any more.
#[derive(Debug, Default)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// A variable's value: one of these, or the environment's.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned().or_else(|| std::env::var(name).ok())
    }
}

/// Takes the secrets out of the environment. That starts this program anew, so it returns in the second
/// one; in the first only if there is no secret variable, or it cannot be done, which is said.
///
/// # Errors
/// When what was handed over cannot be read.
pub(crate) fn take_secrets() -> Result<Secrets, Failure> {
    if let Some(secrets) = platform::handed_over()? {
        return Ok(secrets);
    }
    let secret = |key: &Key| {
        let name = key.variable();
        std::env::var(&name).ok().map(|value| (name, value))
    };
    let found: BTreeMap<_, _> = KEYS.iter().filter(|key| key.secret).filter_map(secret).collect();
    if !found.is_empty() {
        let error = platform::start_anew(&found);
        crate::output::note(&format!(
            "warning: the secret variables stay in this process's environment, where programs of root \
             can read them: {error}"
        ));
    }
    Ok(Secrets(found))
}

/// Open files that this process was started with, beside the three standard ones. To be asked before
/// it opens any itself.
pub(crate) fn inherited_files() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.filter(|number| *number > 2).collect();
    // One of them was the list itself.
    numbers.retain(|number| Path::new(&format!("/proc/self/fd/{number}")).is_symlink());
    numbers
}

/// Closes these files, and keeps other processes of the same user out of this one's memory.
///
/// # Errors
/// When the system refuses.
pub(crate) fn close_up(inherited: &[i32]) -> Result<(), Failure> {
    for number in inherited {
        // One that was closed meanwhile is closed.
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

    /// Starts this program anew, as the same process. Returns why it could not.
    pub(super) fn start_anew(secrets: &BTreeMap<String, String>) -> std::io::Error {
        let started = || -> std::io::Result<std::io::Error> {
            // Inherited by the program that takes this one's place.
            let file = memfd_create(NAME, MFdFlags::empty())?;
            let number = file.as_raw_fd();
            let mut file = fs::File::from(file);
            file.write_all(serde_json::to_string(secrets)?.as_bytes())?;
            let mut args = std::env::args_os();
            let program = std::env::current_exe().ok().filter(|program| program.exists());
            // The file may have been replaced since.
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

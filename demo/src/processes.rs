//! The server and the workers, each a process of its own, with its log in a file.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

/// A process that was asked to end gets so long to do so.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the demo keeps what it makes, and the programs it starts.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The `rota` binary.
    pub(crate) rota: PathBuf,
    /// Data, logs and results; made anew with each run.
    pub(crate) home: PathBuf,
}

impl Place {
    /// Beside this program, in the build's directory: `rota`, and a fresh directory `demo`.
    pub(crate) fn find() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let build = own.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
        let rota = own.with_file_name("rota");
        if !rota.is_file() {
            let message = format!("{} is not there: run `make demo`", rota.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let home = build.join("demo");
        match std::fs::remove_dir_all(&home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&home)?;
        Ok(Self { rota, home: home.canonicalize()? })
    }

    /// Starts `rota` with these arguments. Nothing of this process's settings for Rota reaches it.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> io::Result<Process> {
        let log = self.home.join(format!("{name}.log"));
        let mut command = Command::new(&self.rota);
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"ROTA_") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(arguments)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            // Ctrl-C is for the demo, which then ends its processes itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Process { name: name.to_owned(), child, log })
    }
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Ends it at once, as a power cut would.
    pub(crate) async fn kill(mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Asks it to end, and waits until it has. An error says that it did not end well.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            kill(Pid::from_raw(id), Signal::SIGTERM)?;
        }
        let Ok(status) = tokio::time::timeout(PATIENCE, self.child.wait()).await else {
            self.child.kill().await?;
            return Err(io::Error::other(format!("{} had to be killed", self.name)));
        };
        if status?.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{} ended badly", self.name)))
        }
    }

    /// What it said last, if it has ended although nobody asked it to.
    pub(crate) fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        let words: Vec<_> = lines.into_iter().rev().collect();
        Some(format!("{} ended with {status}:\n{}", self.name, words.join("\n")))
    }
}

/// Whether a process of that number runs.
pub(crate) fn is_running(id: i32) -> bool {
    kill(Pid::from_raw(id), None).is_ok()
}

//! A process on a host, which can be killed and started again.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Child, time::timeout};

use crate::{net::Host, process::PATIENCE};

/// See the module.
#[derive(Debug)]
pub struct Process {
    /// Where it runs.
    pub host: Host,
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A process that does not run yet, whose log will be in `home`.
    pub(crate) fn new(
        host: Host,
        name: &str,
        program: &Path,
        arguments: Vec<String>,
        home: &Path,
    ) -> Self {
        let log = home.join(format!("{name}.log"));
        let (name, program) = (name.to_owned(), program.to_owned());
        Self { host, name, program, arguments, log, child: None }
    }

    /// Starts it; what it says goes behind what it said before.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it with these variables in its environment.
    ///
    /// # Panics
    /// When it runs already, or cannot be started.
    pub fn start_with(&mut self, variables: &[(&str, &str)]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().append(true).create(true).open(&self.log).expect("a log");
        let mut command = self.host.command(&self.program);
        command.args(&self.arguments).envs(variables.iter().copied());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("it can be started"));
    }

    /// Asks it to end, and starts another program with the same arguments.
    ///
    /// # Panics
    /// When it does not end, or the other cannot be started.
    pub async fn restart_as(&mut self, program: &Path) {
        self.end().await;
        program.clone_into(&mut self.program);
        self.start();
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        kill(Pid::from_raw(i32::try_from(id).expect("a process number")), signal).expect("sent");
    }

    /// Kills it and waits until it is gone.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = child.try_wait().expect("a child");
        assert_eq!(ended, None, "{} ended by itself:\n{}", self.name, self.last_words());
        child.kill().await.expect("killed");
    }

    /// Waits until it has ended by this signal, which it is expected to send itself.
    ///
    /// # Panics
    /// When it does not end, or ends otherwise.
    pub async fn dies_of(&mut self, signal: Signal) {
        let mut child = self.child.take().expect("it runs");
        let ended = timeout(PATIENCE, child.wait()).await;
        let goes_on = |_| panic!("{} goes on (was it built with its fail points?)", self.name);
        let ended = ended.unwrap_or_else(goes_on).expect("a child");
        let last = self.last_words();
        assert_eq!(ended.signal(), Some(signal as i32), "{}: {ended}\n{last}", self.name);
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("it runs");
        timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it can be waited for");
    }

    /// Waits until it has ended well by itself.
    ///
    /// # Panics
    /// When it does not end, or ends otherwise.
    pub async fn ends(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let ended = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a child");
        assert!(ended.success(), "{}: {ended}\n{}", self.name, self.last_words());
    }

    /// How often it said this, with all its starts.
    #[must_use]
    pub fn said(&self, words: &str) -> usize {
        self.log_text().matches(words).count()
    }

    fn log_text(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log_text();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
